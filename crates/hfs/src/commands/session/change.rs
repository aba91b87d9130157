//! `hfs session rename | delete | restore`

use hfs_core::{ErrorKind, SessionId, StoreError, Timestamp};

use crate::context::Context;
use crate::failure::Failure;
use crate::plain;
use crate::wire::SessionRow;

pub fn rename(reference: &str, name: &str, context: &Context) -> Result<(), Failure> {
    let name = plain::line(name).split_whitespace().collect::<Vec<_>>().join(" ");
    if name.is_empty() {
        return Err(Failure::Refused {
            kind: ErrorKind::Invalid,
            message: "a session's name cannot be empty".into(),
            hint: None,
        });
    }
    let id = context.session(reference)?;
    context.store()?.rename_session(id, &name, false, context.now())?;
    report(id, &format!("{} is called {name:?} now", id.short().shown()), context)
}

pub fn delete(reference: &str, purge: bool, context: &Context) -> Result<(), Failure> {
    let store = context.store()?;
    if purge {
        // What is purged may be in the trash already.
        let id = match context.session(reference) {
            Err(Failure::Store(StoreError::NotFound { .. })) => context.trashed_session(reference)?,
            other => other?,
        };
        let name = plain::line(&store.get_session(id)?.session.name);
        context.console.before_what_cannot_be_undone(&format!("everything of {name:?} goes for good"))?;
        store.purge_session(id)?;
        if context.console.manner.json {
            return context.console.json(&serde_json::json!({ "purged": id.to_string() }));
        }
        context.console.note(&format!("{name:?} is gone for good"));
        return Ok(());
    }
    let id = context.session(reference)?;
    store.trash_session(id, context.now())?;
    empty_old_trash(context)?;
    let name = plain::line(&store.get_session(id)?.session.name);
    let short = id.short();
    let text = format!("{name:?} is in the trash; bring it back with: hfs session restore {}", short.shown());
    report(id, &text, context)
}

pub fn restore(reference: &str, context: &Context) -> Result<(), Failure> {
    let id = context.trashed_session(reference)?;
    let store = context.store()?;
    store.restore_session(id, context.now())?;
    let name = plain::line(&store.get_session(id)?.session.name);
    report(id, &format!("{name:?} is back"), context)
}

/// Removes for good what has been in the trash for longer than the user's settings keep it.
pub fn empty_old_trash(context: &Context) -> Result<u64, Failure> {
    let Some(days) = context.settings.trash_retention_days else { return Ok(0) };
    let age = i64::from(days).saturating_mul(86_400_000_000);
    let before = Timestamp::from_micros(context.now().as_micros().saturating_sub(age));
    let before = before.unwrap_or(Timestamp::UNIX_EPOCH);
    Ok(context.store()?.purge_trash(before)?)
}

fn report(id: SessionId, text: &str, context: &Context) -> Result<(), Failure> {
    if context.console.manner.json {
        let summary = context.store()?.get_session(id)?;
        return context.console.json(&serde_json::json!({ "session": SessionRow::from(&summary) }));
    }
    context.console.note(text);
    Ok(())
}
