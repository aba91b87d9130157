//! The tools that save: `checkpoint` and `note`.

use std::time::{Duration, Instant};

use hfs_core::{
    Branch, Clock as _, MessageDraft, Part, Position, Role, SessionSummary, StoreError, SystemClock,
};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::runtime::Handle;

use super::read::resolve;
use crate::answer::{Answer, MAX_ANSWER_BYTES, one_line};
use crate::error::McpError;
use crate::library::Library;
use crate::place::{Place, Reference};

/// Maximum size of a note, in bytes.
const MAX_NOTE_BYTES: usize = 64 * 1024;
/// How long a note is tried again while other processes append to the same branch, and the longest pause between two
/// attempts. The pauses are random, so that clients that began together do not meet again.
const APPEND_TIME: Duration = Duration::from_secs(5);
const MAX_PAUSE: Duration = Duration::from_millis(20);
/// Author of a note, if the client does not say its name.
const UNNAMED_CLIENT: &str = "mcp";

/// Arguments of `checkpoint`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckpointArgs {
    /// The session: its id, its name, or @ for the newest one of this project
    session: String,
    /// A name for the checkpoint
    label: Option<String>,
}

/// Arguments of `note`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoteArgs {
    /// The session: its id, its name, or @ for the newest one of this project
    session: String,
    /// The note
    text: String,
}

pub fn checkpoint(library: &Library<'_>, args: &CheckpointArgs) -> Result<String, McpError> {
    let (summary, _) = find(library, &args.session)?;
    let label = args.label.as_deref().map(one_line).filter(|label| !label.is_empty());
    let engine = &library.engine;
    // Tools run on blocking threads, where waiting for the engine is allowed.
    let checkpoint = Handle::current().block_on(async {
        let conversation = engine.resume(summary.session.id, None).await?;
        engine.checkpoint(&conversation, label.as_deref()).await
    })?;
    let mut answer = Answer::new(MAX_ANSWER_BYTES);
    answer.push_footer(&format!(
        "Created checkpoint {} of {} at message {}. The user returns to it with: hfs rewind {} {}",
        checkpoint.number,
        library.label(&summary.session),
        checkpoint.seq,
        summary.session.id.short().shown(),
        checkpoint.number,
    ));
    Ok(answer.finish())
}

pub fn note(library: &Library<'_>, args: &NoteArgs, client: Option<&str>) -> Result<String, McpError> {
    let text = args.text.trim();
    if text.is_empty() {
        return Err(McpError::Argument("the note is empty".to_owned()));
    }
    if text.len() > MAX_NOTE_BYTES {
        return Err(McpError::Argument(format!(
            "the note has {} bytes; at most {MAX_NOTE_BYTES} are allowed",
            text.len()
        )));
    }
    // Written by the client, and not by the user, in whose name nothing is saved.
    let mut message = MessageDraft::new(Role::Assistant, vec![Part::text(text)], SystemClock.now());
    message.agent = Some(
        client.map(one_line).filter(|name| !name.is_empty()).unwrap_or_else(|| UNNAMED_CLIENT.to_owned()),
    );
    let deadline = Instant::now() + APPEND_TIME;
    let (summary, branch, seq) = loop {
        let (summary, branch) = find(library, &args.session)?;
        let position = Position { branch: branch.id, head: branch.head };
        match library.store().append(position, std::slice::from_ref(&message)) {
            Err(StoreError::HeadMismatch { .. }) if Instant::now() < deadline => {
                std::thread::sleep(MAX_PAUSE.mul_f32(fastrand::f32()));
            }
            appended => break (summary, branch, appended?.first),
        }
    };
    let place = Place { session: summary.session.id, branch: branch.id, branch_name: &branch.name, seq };
    let mut answer = Answer::new(MAX_ANSWER_BYTES);
    answer.push_footer(&format!(
        "Saved the note as [{}] in {}.",
        place.cite(),
        library.label(&summary.session)
    ));
    Ok(answer.finish())
}

/// The session, and its current branch, whichever branch a citation names.
fn find(library: &Library<'_>, text: &str) -> Result<(SessionSummary, Branch), McpError> {
    resolve(library, &Reference { branch: None, ..Reference::parse(text) })
}
