//! Import and export of sessions.
//!
//! **Import.** [`read`] reads the transcripts of other tools (Claude Code, Codex, opencode, Gemini CLI,
//! Qwen Code, pi, Copilot CLI, Cline, goose, ChatGPT, claude.ai, llm, aider, ShareGPT, LangGraph, the OpenAI
//! Agents SDK, OpenAI messages) and hfs documents of every version. A
//! reader sends sessions to an [`ImportReceiver`], one message at a time. The receiver usually writes to the
//! store; [`Collector`] collects sessions in memory. Formats that can be streamed are imported in bounded memory,
//! whatever the size of the file. [`detect()`] detects the format from the contents of a file, and
//! [`discover()`] finds the transcripts in a folder.
//!
//! **Export.** A session is read through [`DocumentSource`] and written as a JSON document ([`write_json`]),
//! as a readable page ([`write_markdown`], [`write_html`]) or as a transcript with which another tool
//! continues the session ([`write_transcript`]). [`RedactedSource`] finds and masks secrets in any of them.
//!
//! # Example
//!
//! ```
//! use hfs_core::Timestamp;
//! use hfs_exchange::{
//!     BranchSelection, Collector, ExportMetadata, PageOptions, Source, read, write_markdown,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let transcript = r#"[{"role": "user", "content": "Why does the test fail?"},
//!                      {"role": "assistant", "content": "The fixture is missing."}]"#;
//! let mut collector = Collector::default();
//! read(&Source::stream(transcript.as_bytes())?, None, &mut collector)?;
//!
//! let document = collector.sessions.remove(0).into_document(Timestamp::UNIX_EPOCH);
//! let metadata = ExportMetadata { exported_at: Timestamp::UNIX_EPOCH, hfs_version: "0.1.0" };
//! let mut page = Vec::new();
//! write_markdown(&document, PageOptions { metadata, branches: BranchSelection::Current }, &mut page)?;
//! assert!(String::from_utf8(page)?.contains("The fixture is missing."));
//! # Ok(())
//! # }
//! ```
//!
//! # Where imported data goes
//!
//! Data for which hfs has a type becomes sessions, branches, messages and parts. All other data is stored
//! verbatim in the `extra` field of the message that it belongs to:
//!
//! - `flags`: flags with the same meaning in every format: `sidechain`, `meta`, `compact-summary`, `hidden`,
//!   `injected`, `error`
//! - `records`: the original records of the message, with references in place of the content of its parts
//! - `before`: records that are not messages and precede this message
//! - `after`: on the last message, records that are not messages and follow it

mod bounded;
mod collect;
mod database;
mod decompress;
mod detect;
mod discover;
mod document;
mod export;
mod format;
mod json;
mod locations;
mod page;
mod readers;
mod records;
mod redact;
mod resume;
mod source;
mod time;
mod transcript;
mod unread;
mod utf16;

pub use collect::{CollectedBranch, CollectedSession, Collector};
pub use detect::detect;
pub use discover::{Discovery, SkippedFile, UnreadReason, discover, discover_unless_known};
pub use document::{DOCUMENT_VERSION, ExportMetadata, document_schema, write_json};
pub use export::{DocumentSource, ExportError, branches_with_ancestors};
pub use format::{Format, ParseFormatError};
pub use locations::{InstallPath, LocationOverrides, default_locations, install_path};
pub use page::html::write_html;
pub use page::markdown::write_markdown;
pub use page::{BranchSelection, PageOptions};
pub use redact::{RedactedSource, Redaction, SecretReport, Unexamined};
pub use source::{Source, Subfolders, metadata_hash, readers_version};
pub use transcript::{OpenCalls, TRANSCRIPT_FORMATS, TranscriptOptions, TranscriptReport, write_transcript};

use hfs_core::{ImportError, ImportReceiver};

use readers::{Output, OutputState};

/// What was found in a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReadSummary {
    /// Number of sessions that the receiver got.
    pub sessions: u64,
    /// Number of sessions that were left out because they have no messages.
    pub empty_sessions: u64,
    /// Number of sessions that were left out because they have not changed since an earlier import.
    pub unchanged_sessions: u64,
}

/// Sends every session of `source` to the receiver. Without a `format`, the format is detected. A session without messages is
/// left out, unless it is an hfs document.
///
/// # Errors
/// Returns an error if the source cannot be read, its format is unknown, it contains records of a conversation but no
/// message that could be read, or the receiver fails or stops the import.
/// The sessions whose [`ImportEvent::End`](hfs_core::ImportEvent::End) has been sent are complete nevertheless.
pub fn read(
    source: &Source,
    format: Option<Format>,
    receiver: &mut dyn ImportReceiver,
) -> Result<ReadSummary, ImportError> {
    read_grown(source, format, None, receiver)
}

/// Like [`read`], but sends only what has changed since the [resume point](hfs_core::ImportEvent::ResumePoint), if the source
/// has only grown since; [`ForeignSession::resumed_after`](hfs_core::ForeignSession::resumed_after) says whether that is so.
///
/// # Errors
/// Returns the errors of [`read`].
pub fn read_grown(
    source: &Source,
    format: Option<Format>,
    resume_point: Option<&[u8]>,
    receiver: &mut dyn ImportReceiver,
) -> Result<ReadSummary, ImportError> {
    // The format of a source that has only grown is known.
    let known = || resume::reader_of(source, resume_point?)?.parse().ok();
    let format = match format.or_else(known) {
        Some(format) => format,
        None => match detect(source)? {
            Some(format) => format,
            // An empty file is valid and contains no sessions.
            None if source.path().is_none_or(std::path::Path::is_file) && source.bytes() == 0 => {
                return Ok(ReadSummary::default());
            }
            None => return Err(detect::unknown_format(source)?),
        },
    };
    let mut state = OutputState::default();
    let result = format.reader().read(source, &mut Output::new(source, receiver, &mut state, resume_point));
    match result {
        // A damaged database ends the reading at the first row that cannot be read. The rest is read from a copy without it.
        Err(error @ ImportError::Damaged { .. }) if detect::FormatProbe::new(source)?.is_database() => {
            if !source.salvage_database().unwrap_or(false) {
                return Err(error);
            }
            state.begin_again();
            format.reader().read(source, &mut Output::new(source, receiver, &mut state, None))?;
        }
        result => result?,
    }
    let OutputState { sessions, empty_sessions, unchanged_sessions, .. } = state;
    if sessions == 0 && unchanged_sessions == 0 {
        let probe = detect::FormatProbe::new(source)?;
        if probe.has_conversation() {
            let (path, format) = (source.name(), format.as_str());
            return Err(ImportError::Misread { path, format, reason: probe.describe() });
        }
    }
    Ok(ReadSummary { sessions, empty_sessions, unchanged_sessions })
}
