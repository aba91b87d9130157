//! The tool `read`, and the text of messages for resources and prompts.

use hfs_core::{Branch, Message, MessageRange, Seq, Session, SessionSummary, plural};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::answer::{Answer, MAX_ANSWER_BYTES};
use crate::error::McpError;
use crate::library::Library;
use crate::place::{Place, Reference, branch_note, find_branch};
use crate::rendering;

/// Messages that are read without a number.
const DEFAULT_COUNT: u32 = 10;
const MAX_COUNT: u32 = 100;
/// Maximum size of one of several messages, in bytes. The rest is read with an offset.
const PREVIEW_BYTES: usize = 900;

/// Arguments of `read`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadArgs {
    /// A citation such as kxrmnqvwtzlp/main:12, or a session: its id, its name, or @ for the newest one of this project
    session: String,
    /// Number of the first message to read, if session is not a citation; without it, the newest messages
    seq: Option<Seq>,
    /// Id of the message to read, instead of its number
    message: Option<String>,
    /// The branch, if session is not a citation; by default the current one
    branch: Option<String>,
    /// Number of messages: 1 by default at a given message, else the 10 newest
    #[schemars(range(min = 1, max = 100))]
    count: Option<u32>,
    /// Number of bytes of the message to skip, to continue one that was cut
    offset: Option<usize>,
}

pub fn run(library: &Library<'_>, args: &ReadArgs) -> Result<String, McpError> {
    // A citation in the place of the message's id names the session, too.
    let cited = args.message.as_deref().map(Reference::parse).filter(|cited| cited.seq.is_some());
    let reference = cited.clone().unwrap_or_else(|| Reference::parse(&args.session));
    let summary = library.find_session(&reference)?;
    let branches = library.store().list_branches(summary.session.id)?;
    let (branch, seq) = match (&args.message, cited) {
        (Some(id), None) => {
            let (message, branch) = library.find_message(&branches, id)?;
            (branch, Some(message.seq))
        }
        (_, Some(cited)) => (choose_branch(&summary.session, &branches, cited.branch.as_deref())?, cited.seq),
        (None, None) => {
            let name = args.branch.as_deref().or(reference.branch.as_deref());
            (choose_branch(&summary.session, &branches, name)?, args.seq.or(reference.seq))
        }
    };
    match seq {
        Some(seq) => {
            let range = ReadRange { seq, count: args.count.unwrap_or(1), offset: args.offset.unwrap_or(0) };
            read_range(library, &summary, &branch, &range, MAX_ANSWER_BYTES)
        }
        None => {
            let count = args.count.unwrap_or(DEFAULT_COUNT);
            newest_messages(library, &summary, &branch, count, MAX_ANSWER_BYTES)
        }
    }
}

/// The session that a reference names, and its branch, by default the current one.
pub fn resolve(library: &Library<'_>, reference: &Reference) -> Result<(SessionSummary, Branch), McpError> {
    let summary = library.find_session(reference)?;
    let branches = library.store().list_branches(summary.session.id)?;
    let branch = choose_branch(&summary.session, &branches, reference.branch.as_deref())?;
    Ok((summary, branch))
}

/// The branch with this name or id, by default the current one.
fn choose_branch(session: &Session, branches: &[Branch], name: Option<&str>) -> Result<Branch, McpError> {
    let found = match name {
        Some(name) => find_branch(branches, name),
        None => branches.iter().find(|branch| branch.id == session.current_branch),
    };
    found.cloned().ok_or_else(|| {
        let names: Vec<&str> = branches.iter().map(|branch| branch.name.as_str()).take(10).collect();
        McpError::Argument(format!(
            "the session has no branch {:?}; its branches are: {}",
            name.unwrap_or_default(),
            names.join(", ")
        ))
    })
}

/// Messages to read.
#[derive(Debug, Clone, Copy)]
pub struct ReadRange {
    /// The first message.
    pub seq: Seq,
    pub count: u32,
    /// Bytes of the first message to skip.
    pub offset: usize,
}

/// Reads messages from one on, as far as they fit.
pub fn read_range(
    library: &Library<'_>,
    summary: &SessionSummary,
    branch: &Branch,
    range: &ReadRange,
    limit: usize,
) -> Result<String, McpError> {
    let &ReadRange { seq, count, offset } = range;
    let count = count.clamp(1, MAX_COUNT);
    if seq == 0 || seq > branch.head {
        return Err(McpError::Argument(format!(
            "there is no message {seq}: the messages of branch {} are 1 to {}",
            branch.name, branch.head
        )));
    }
    let messages = library.store().read_messages(branch.id, MessageRange::From(seq, count))?;
    let mut answer = Answer::new(limit);
    answer.push(&heading(library, summary, branch));
    let mut next = seq;
    let mut rest = None;
    for (index, message) in messages.iter().enumerate() {
        let skip = if index == 0 { offset } else { 0 };
        let max = if count == 1 { usize::MAX } else { PREVIEW_BYTES };
        let part = MessagePart::new(library, message, skip, max.min(answer.room().saturating_sub(200)));
        if part.is_empty_because_of_the_limit() || !answer.push(&part.block) {
            break;
        }
        next = message.seq + 1;
        rest = part.rest.filter(|_| count == 1).map(|offset| (message.seq, offset));
    }
    if let Some((seq, offset)) = rest {
        let place = place_of(summary, branch, seq);
        answer.push_footer(&format!("To continue: read session={:?} offset={offset}", place.cite()));
    } else if next <= branch.head {
        let place = place_of(summary, branch, next);
        answer.push_footer(&format!("Next: read session={:?}", place.cite()));
    }
    Ok(answer.finish())
}

/// Reads the newest messages of a branch, as many as fit.
pub fn newest_messages(
    library: &Library<'_>,
    summary: &SessionSummary,
    branch: &Branch,
    count: u32,
    limit: usize,
) -> Result<String, McpError> {
    let count = count.clamp(1, MAX_COUNT);
    let messages = library.store().read_messages(branch.id, MessageRange::Newest(count))?;
    let mut answer = Answer::new(limit);
    answer.push(&heading(library, summary, branch));
    let mut room = answer.room();
    let mut blocks = Vec::new();
    for message in messages.iter().rev() {
        let part = MessagePart::new(library, message, 0, PREVIEW_BYTES);
        let Some(left) = room.checked_sub(part.block.len() + 1) else { break };
        room = left;
        blocks.push(part.block);
    }
    let first = messages.len().checked_sub(blocks.len()).and_then(|index| messages.get(index));
    for block in blocks.iter().rev() {
        answer.push(block);
    }
    match first {
        Some(first) if first.seq > 1 => {
            let before = first.seq.saturating_sub(u64::from(DEFAULT_COUNT)).max(1);
            let place = place_of(summary, branch, before);
            answer.push_footer(&format!(
                "Earlier: read session={:?} count={}",
                place.cite(),
                first.seq - before
            ));
        }
        None if branch.head > 0 => {
            let place = place_of(summary, branch, branch.head);
            answer.push_footer(&format!("The newest message: read session={:?}", place.cite()));
        }
        Some(_) | None => {}
    }
    Ok(answer.finish())
}

/// The line above the messages.
fn heading(library: &Library<'_>, summary: &SessionSummary, branch: &Branch) -> String {
    let session = &summary.session;
    format!(
        "{} {}{}{}, {}",
        session.id.short(),
        library.label(session),
        library.project_note(session),
        library.masker.text(&branch_note(&branch.name)),
        plural(branch.head, "message")
    )
}

fn place_of<'b>(summary: &SessionSummary, branch: &'b Branch, seq: Seq) -> Place<'b> {
    Place { session: summary.session.id, branch: branch.id, branch_name: &branch.name, seq }
}

/// A message, or a part of it.
struct MessagePart {
    block: String,
    /// The offset of the rest.
    rest: Option<usize>,
    shown: usize,
}

impl MessagePart {
    fn new(library: &Library<'_>, message: &Message, skip: usize, max: usize) -> Self {
        let heading = rendering::heading(message, library.zone());
        // The whole message is masked before it is cut, since a part of a secret does not look like one.
        let rendered = rendering::render(message);
        let text = library.masker.text(&rendered);
        let start = text.floor_char_boundary(skip.min(text.len()));
        let end = text.floor_char_boundary(start.saturating_add(max).min(text.len()));
        let shown = text.get(start..end).unwrap_or_default();
        let from = if start > 0 { format!(", from byte {start}") } else { String::new() };
        let heading = library.masker.text(&heading).into_owned();
        let rest = (end < text.len()).then_some(end);
        let cut = rest.map(|rest| format!("\n… {} more bytes, from offset={rest}", text.len() - rest));
        let block = format!("{heading}{from}\n{}{}", shown.trim_end(), cut.unwrap_or_default());
        Self { block, rest, shown: shown.len() }
    }

    const fn is_empty_because_of_the_limit(&self) -> bool {
        self.shown == 0 && self.rest.is_some()
    }
}
