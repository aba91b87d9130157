//! Writes sessions as transcripts of other tools, so that those tools can continue them.

pub(crate) mod claude_code;
mod codex;
mod opencode;
mod pairing;
mod restore;

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hfs_core::{
    Branch, BranchId, ContentHash, Message, MessageDraft, MessageFlag, Part, Seq, Session, StoreError,
    Timestamp,
};
use serde_json::Value;

use crate::Format;
use crate::export::{DocumentSource, ExportError, PAGE};

pub(crate) use codex::thread_id;
pub(crate) use opencode::{MessageIds, session_id as opencode_session_id};
pub use pairing::OpenCalls;

/// The formats that [`write_transcript`] writes.
pub const TRANSCRIPT_FORMATS: [Format; 3] = [Format::ClaudeCode, Format::Codex, Format::OpenCode];

/// Key of the field that names the message of hfs from which a record was written.
pub(crate) const WRITTEN: &str = "hfs";
/// Key in the field [`WRITTEN`]: the id of the message.
pub(crate) const MESSAGE: &str = "message";

/// Options of a transcript.
#[derive(Debug, Clone, Copy, Default)]
pub struct TranscriptOptions<'a> {
    /// The model with which opencode continues a session that has none of opencode, as `PROVIDER/MODEL`. Without it, one
    /// that opencode offers without an account.
    pub opencode_model: Option<&'a str>,
    /// Whether the tool will resume the session. Claude Code does not resume an agent's own transcript, so its messages are
    /// then written in another form than they came.
    pub is_resumed: bool,
    /// What is written of calls without a result that were not imported from the same tool.
    pub open_calls: OpenCalls,
}

/// What a transcript does not contain, or contains in another form, because its tool or the API of its models has no
/// place for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct TranscriptReport {
    /// Reasoning that only its own provider accepts.
    pub thinking: u64,
    /// Instructions for the agent. The other tool has its own.
    pub instructions: u64,
    /// Parts of other formats.
    pub opaque: u64,
    /// Attachments of which only the name is written, because their type or size is not accepted.
    pub attachments_by_name: u64,
    /// Attachments whose bytes are not in the store; only their name is written.
    pub missing_attachments: u64,
    /// Calls without a result, which got one that says so or were left out.
    pub calls_without_result: u64,
    /// Results without a call, which are written as text.
    pub results_without_call: u64,
}

/// Writes the session as a transcript of another tool. A transcript of Claude Code contains every branch;
/// those of Codex and opencode contain the history of the current branch. Messages that were imported from the same
/// tool are written as they came.
///
/// # Errors
/// Returns any error of reading the session or of writing the output, and [`ExportError::Unsupported`] for a
/// format that is not in [`TRANSCRIPT_FORMATS`].
pub fn write_transcript(
    source: &dyn DocumentSource,
    format: Format,
    options: TranscriptOptions<'_>,
    mut out: impl Write,
) -> Result<TranscriptReport, ExportError> {
    let report = match format {
        Format::ClaudeCode => claude_code::write(source, options, &mut out)?,
        Format::Codex => codex::write(source, options, &mut out)?,
        Format::OpenCode => opencode::write(source, options, &mut out)?,
        other => return Err(ExportError::Unsupported { what: "a session".into(), format: other.as_str() }),
    };
    out.flush()?;
    Ok(report)
}

/// Writes a record on a line of its own.
fn write_record(out: &mut dyn Write, record: &Value) -> std::io::Result<()> {
    serde_json::to_writer(&mut *out, record)?;
    out.write_all(b"\n")
}

/// Image types that the models of every provider accept.
const IMAGE_TYPES: [&str; 4] = ["image/png", "image/jpeg", "image/gif", "image/webp"];
/// Anthropic's API accepts images of at most 5 MB in base64.
const MAX_IMAGE: u64 = 5 * 1024 * 1024 / 4 * 3;
const PDF: &str = "application/pdf";
/// Anthropic's API accepts requests of at most 32 MB, in which a PDF is base64 and the conversation needs room too.
const MAX_PDF: u64 = 20 * 1024 * 1024;

/// The files that a tool sends to its models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SentFiles {
    Images,
    ImagesAndPdfs,
}

impl SentFiles {
    /// Whether a file of this type and size is sent.
    fn contains(self, media_type: &str, bytes: u64) -> bool {
        (IMAGE_TYPES.contains(&media_type) && bytes <= MAX_IMAGE)
            || (self == Self::ImagesAndPdfs && media_type == PDF && bytes <= MAX_PDF)
    }
}

/// An attachment as a transcript shows it.
enum AttachedFile {
    /// A file that a model can see.
    Content { media_type: String, base64: String },
    /// Its name, because the model cannot read it.
    Name(String),
}

impl AttachedFile {
    fn data_url(media_type: &str, base64: &str) -> String {
        format!("data:{media_type};base64,{base64}")
    }
}

/// Reads an attachment. A missing one costs the attachment, not the transcript.
fn attached_file(
    source: &dyn DocumentSource,
    sent: SentFiles,
    (media_type, name, hash, bytes): (&str, Option<&str>, Option<ContentHash>, u64),
    report: &mut TranscriptReport,
) -> Result<AttachedFile, ExportError> {
    // A common misspelling.
    let media_type = if media_type == "image/jpg" { "image/jpeg" } else { media_type };
    let label = format!("[attachment: {}]", name.filter(|name| !name.is_empty()).unwrap_or(media_type));
    let Some(hash) = hash.filter(|_| sent.contains(media_type, bytes)) else {
        report.attachments_by_name += 1;
        return Ok(AttachedFile::Name(label));
    };
    match source.attachment(hash) {
        Ok(bytes) => {
            let base64 = STANDARD.encode(bytes);
            Ok(AttachedFile::Content { media_type: media_type.to_owned(), base64 })
        }
        Err(StoreError::NotFound { .. }) => {
            report.missing_attachments += 1;
            Ok(AttachedFile::Name(label))
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether the user did not write this message: a tool added it for the model.
fn is_context(message: &MessageDraft) -> bool {
    message.is_context() || message.has_flag(MessageFlag::Hidden)
}

/// Whether a part is text that the APIs accept: they reject blank text.
fn is_blank(part: &Part) -> bool {
    matches!(part, Part::Text { text } if text.trim().is_empty())
}

/// The time of a session. If no time of it is known, that at which it came into the store, because the formats require one.
pub(crate) fn session_time(session: &Session) -> Timestamp {
    let stored = || {
        let (seconds, nanos) = session.id.as_uuid().get_timestamp()?.to_unix();
        let millis = seconds.saturating_mul(1000).saturating_add(u64::from(nanos / 1_000_000));
        Timestamp::from_millis(i64::try_from(millis).ok()?)
    };
    session.created_at.known().or_else(stored).unwrap_or(session.created_at)
}

/// The times of a transcript, which has one for each record.
struct TranscriptTime {
    last: Timestamp,
}

impl TranscriptTime {
    fn new(session: &Session) -> Self {
        Self { last: session_time(session) }
    }

    /// The time of a message; if it is unknown, that of the message before it.
    fn of(&mut self, message: &Message) -> Timestamp {
        self.last = message.content.created_at.known().unwrap_or(self.last);
        self.last
    }

    /// The same, but never earlier than that of a message before it.
    fn ascending(&mut self, message: &Message) -> Timestamp {
        self.last = self.last.max(message.content.created_at);
        self.last
    }
}

/// Calls `visit` for each message in the history of the session's current branch.
fn for_each_current_message(
    source: &dyn DocumentSource,
    session: &Session,
    visit: &mut dyn FnMut(Message) -> Result<(), ExportError>,
) -> Result<(), ExportError> {
    for (branch, until) in history(session.current_branch, &source.branches()?) {
        let mut after = branch.forked_at;
        while after < until {
            let page = source.messages(branch.id, after, PAGE)?;
            let Some(last) = page.last() else { break };
            after = last.seq;
            for message in page.into_iter().filter(|message| message.seq <= until) {
                visit(message)?;
            }
        }
    }
    Ok(())
}

/// The branches that a branch's history consists of, oldest first, each with the last seq that belongs to it.
pub(crate) fn history(id: BranchId, branches: &[Branch]) -> Vec<(&Branch, Seq)> {
    let find = |id| branches.iter().find(|branch| branch.id == id);
    let mut ranges: Vec<(&Branch, Seq)> = Vec::new();
    let mut next = find(id).or_else(|| branches.first());
    let mut until = next.map_or(0, |branch| branch.head);
    // Stop at a branch that was visited, in case that damaged parents form a cycle.
    while let Some(branch) = next.filter(|next| ranges.iter().all(|(seen, _)| seen.id != next.id)) {
        ranges.push((branch, until));
        until = until.min(branch.forked_at);
        next = branch.parent.and_then(find);
    }
    ranges.reverse();
    ranges
}
