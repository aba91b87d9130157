//! The tool `timeline`.

use hfs_core::{Cursor, MessageRange, PageRequest, Role, SessionFilter, SessionSummary, plural};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::answer::{Answer, MAX_ANSWER_BYTES, shorten};
use crate::error::McpError;
use crate::library::Library;
use crate::place::Place;

const DEFAULT_LIMIT: u32 = 8;
const MAX_LIMIT: u32 = 40;
/// Maximum length of how a session ended, in characters.
const WORDS: usize = 140;
/// Messages that are read to find how a session ended: a turn whose last messages are tool calls.
const LAST_MESSAGES: u32 = 8;

/// Arguments of `timeline`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TimelineArgs {
    /// Projects whose directory or repository contains this text; * for all; by default the current project
    project: Option<String>,
    /// Only conversations that continued at or after this time: 2026-02-01, 2d, "3 weeks ago"
    since: Option<String>,
    /// Maximum number of conversations; 8 by default
    #[schemars(range(min = 1, max = 40))]
    limit: Option<u32>,
    /// Where to continue, as an earlier answer says
    cursor: Option<String>,
}

pub fn run(library: &Library<'_>, args: &TimelineArgs) -> Result<String, McpError> {
    let since = library.parse_time(args.since.as_deref())?;
    let limit = args.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT);
    let mut answer = Answer::new(MAX_ANSWER_BYTES);
    let filter = match args.project.as_deref() {
        Some("*") => SessionFilter::default(),
        Some(text) => library.project_filter(Some(text)),
        None if library.is_empty(&library.own_project())? => {
            answer.push("This project has no saved conversation; these are of all projects:");
            SessionFilter::default()
        }
        None => library.own_project(),
    };
    let mut after = args.cursor.clone().map(Cursor);
    let mut shown = 0;
    let mut has_more = false;
    // One at a time, so that the answer can end after any session with the cursor to continue.
    while shown < limit {
        let page = library.store().list_sessions(&filter, &PageRequest { limit: 1, after: after.clone() })?;
        let Some(summary) = page.items.first() else {
            let Some(next) = page.next else { break };
            after = Some(next);
            continue;
        };
        if since.is_some_and(|since| summary.session.updated_at < since) {
            break;
        }
        if !answer.push(&describe(library, summary)?) {
            has_more = true;
            break;
        }
        shown += 1;
        has_more = page.next.is_some();
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    if shown == 0 {
        answer.push_footer("No saved conversation fits.");
    } else if let Some(Cursor(cursor)) = after.filter(|_| has_more) {
        answer.push_footer(&format!("For older ones: timeline cursor={cursor:?}"));
    }
    Ok(answer.finish())
}

fn describe(library: &Library<'_>, summary: &SessionSummary) -> Result<String, McpError> {
    let session = &summary.session;
    let store = library.store();
    let branch = store.get_branch(session.current_branch)?;
    let mut block = format!(
        "{} {}, {}, {}",
        session.id.short(),
        library.label(session),
        library.time(session.updated_at),
        plural(summary.messages, "message")
    );
    let asked = library.asked(branch.id, branch.head)?;
    if !asked.is_empty() {
        block.push_str(&format!("\n  asked: {asked}"));
    }
    let newest = store.read_messages(branch.id, MessageRange::Newest(LAST_MESSAGES))?;
    let ending = newest
        .iter()
        .rev()
        .find(|message| message.content.role == Role::Assistant && !message.content.text().trim().is_empty());
    if let Some(message) = ending {
        let place =
            Place { session: session.id, branch: branch.id, branch_name: &branch.name, seq: message.seq };
        let words = shorten(&library.masker.text(&message.content.text()), WORDS);
        block.push_str(&format!("\n  [{}] {words}", place.cite()));
    }
    Ok(block)
}
