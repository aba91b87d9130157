//! Effects that read.

use hfs_core::{BranchId, MessageRange, PageRequest, Role, Seq, SessionFilter, SessionId, StoreResult};
use hfs_engine::{Engine, EngineError};

use super::answer;
use crate::effect::Effect;
use crate::message::{Answer, Msg, Opened, Purpose};
use crate::parts::{Failure, Transfer};
use crate::screens::export::Choice;
use crate::transcript::PAGE;

/// Messages shown of a session that is only looked into.
const PREVIEW: u32 = 12;
/// Messages looked through for what the user said before, here and in each of the other sessions.
const HISTORY_HERE: u32 = 400;
const HISTORY_SESSIONS: u32 = 10;
const HISTORY_EACH: u32 = 30;

/// Does what an effect says that only reads.
pub fn read(engine: &Engine, effect: Effect) -> Msg {
    let store = engine.store();
    match effect {
        Effect::Open { session, branch, at } => {
            Msg::Opened(answer(open(engine, session, branch, at)).map(Box::new))
        }
        Effect::Read { branch, range, purpose } => {
            Msg::Messages { purpose, branch, result: answer(store.read_messages(branch, range)) }
        }
        Effect::Preview { session, generation } => {
            let found = store.get_session(session).map(|summary| summary.session.current_branch);
            match found {
                Ok(branch) => {
                    let result = answer(store.read_messages(branch, MessageRange::Newest(PREVIEW)));
                    Msg::Messages { purpose: Purpose::Preview(generation), branch, result }
                }
                Err(error) => Msg::Failed(Failure::of(&error)),
            }
        }
        Effect::ListSessions { filter, page, generation } => {
            Msg::Sessions { generation, result: answer(store.list_sessions(&filter, &page)) }
        }
        Effect::Search { query, generation } => {
            Msg::Found { generation, result: answer(store.search(&query)) }
        }
        Effect::ListCheckpoints(session) => {
            Msg::Checkpoints { session, result: answer(store.list_checkpoints(session)) }
        }
        Effect::PlanRewind(checkpoint) => Msg::Planned(answer(engine.plan_rewind(checkpoint)).map(Box::new)),
        Effect::ListBranches(session) => {
            Msg::Branches { session, result: answer(store.list_branches(session)) }
        }
        Effect::ListRuns(session) => Msg::Runs { session, result: answer(store.list_runs(session)) },
        Effect::LoadRun(run) => Msg::Run(answer(store.get_run(run)).map(Box::new)),
        Effect::LoadHistory { branch, project } => {
            Msg::History(history(engine, branch, project).unwrap_or_default())
        }
        other => Msg::Failed(Failure::new(
            hfs_core::ErrorKind::Internal,
            format!("an effect reached the wrong door: {other:?}"),
        )),
    }
}

fn open(
    engine: &Engine,
    session: SessionId,
    branch: Option<BranchId>,
    at: Option<Seq>,
) -> Result<Opened, EngineError> {
    let store = engine.store();
    let summary = store.get_session(session)?;
    let current = summary.session.current_branch;
    // A message that the current branch shares is shown there, so that one goes on where one was.
    let branch = match (branch, at) {
        (Some(branch), Some(at)) if branch != current => {
            let shared = store.read_messages(current, MessageRange::From(at, 1))?;
            if shared.iter().any(|message| message.branch == branch) { None } else { Some(branch) }
        }
        (branch, _) => branch,
    };
    let conversation = engine.resume(session, branch)?;
    let branch = store.get_branch(branch.unwrap_or(current))?;
    let range = match at {
        Some(at) => MessageRange::From(at.saturating_sub(u64::from(PAGE) / 2).max(1), PAGE),
        None => MessageRange::Newest(PAGE),
    };
    let messages = store.read_messages(branch.id, range)?;
    Ok(Opened { conversation, summary, branch, messages, at })
}

/// Whether nobody has begun anything yet.
pub fn is_empty(engine: &Engine) -> bool {
    let page = PageRequest::first(1);
    let none = |trashed| {
        let filter = SessionFilter { trashed, ..SessionFilter::default() };
        engine.store().list_sessions(&filter, &page).is_ok_and(|page| page.items.is_empty())
    };
    none(false) && none(true)
}

/// Where a session would be exported to, in each format.
pub fn export_choices(engine: &Engine, transfer: &dyn Transfer, session: SessionId) -> Answer<Vec<Choice>> {
    let summary = answer(engine.store().get_session(session))?;
    let formats = transfer.export_formats().into_iter();
    Ok(formats
        .map(|format| {
            let path = transfer.default_export_path(&summary.session, &format.name);
            (format, path)
        })
        .collect())
}

/// What the user said on this branch and in the newest sessions of the project, newest first.
fn history(engine: &Engine, branch: Option<BranchId>, project: Option<String>) -> StoreResult<Vec<String>> {
    let store = engine.store();
    let mut said = Vec::new();
    let mut collect = |branch, count| -> StoreResult<()> {
        let messages = store.read_messages(branch, MessageRange::Newest(count))?;
        for message in messages.iter().rev().filter(|message| message.content.role == Role::User) {
            let text = message.content.text();
            if !text.is_empty() && !said.contains(&text) {
                said.push(text);
            }
        }
        Ok(())
    };
    if let Some(branch) = branch {
        collect(branch, HISTORY_HERE)?;
    }
    let filter = SessionFilter { project, ..SessionFilter::default() };
    for summary in store.list_sessions(&filter, &PageRequest::first(HISTORY_SESSIONS))?.items {
        if Some(summary.session.current_branch) != branch {
            collect(summary.session.current_branch, HISTORY_EACH)?;
        }
    }
    Ok(said)
}
