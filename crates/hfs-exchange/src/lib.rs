//! Import and export of sessions.
//!
//! **Import.** [`read`] reads the transcripts of other tools (Claude Code, Codex, opencode, Gemini CLI,
//! goose, ChatGPT, llm, aider, ShareGPT, LangGraph, OpenAI messages) and the documents that hfs exported in
//! any version. A reader pushes sessions into a [`SessionSink`], the receiver, one message at a time. The
//! receiver is usually the store; [`Collector`] keeps sessions in memory. Formats that can be streamed are
//! imported in bounded memory, whatever the size of the file. [`detect()`] finds the format by looking into
//! the file, and [`discover()`] finds the transcripts in a folder.
//!
//! **Export.** A session is read through [`DocumentSource`] and written as a JSON document ([`write_json`]),
//! as a page for people ([`write_markdown`], [`write_html`]) or as a transcript from which another tool
//! continues ([`write_transcript`]). [`RedactedSource`] finds and masks secrets in any of them.
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
//! let mut receiver = Collector::default();
//! read(&Source::stream(transcript.as_bytes())?, None, &mut receiver)?;
//!
//! let document = receiver.sessions.remove(0).into_document(Timestamp::UNIX_EPOCH);
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
//! What hfs has a type for becomes sessions, branches, messages and parts. Everything else is stored verbatim
//! beside the message that it came with, in the message's `extra` field:
//!
//! - `flags`: flags with the same meaning in every format: `sidechain`, `meta`, `compact-summary`, `hidden`,
//!   `injected`, `error`
//! - `records`: the records that the message was made from, with references in place of what became parts
//! - `before` and `after`: records that are not messages and came before the message, or after the last one

mod collect;
mod database;
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
mod source;
mod time;
mod transcript;

pub use collect::{CollectedBranch, CollectedSession, Collector};
pub use detect::detect;
pub use discover::discover;
pub use document::{DOCUMENT_VERSION, ExportMetadata, document_schema, write_json};
pub use export::{DocumentSource, ExportError};
pub use format::{Format, ParseFormatError};
pub use locations::{InstallPath, LocationOverrides, default_locations, install_path};
pub use page::html::write_html;
pub use page::markdown::write_markdown;
pub use page::{BranchSelection, PageOptions};
pub use redact::{RedactedSource, SecretReport, SecretScanner};
pub use source::Source;
pub use transcript::{TRANSCRIPT_FORMATS, write_transcript};

use hfs_core::{ImportError, SessionSink};

/// Reads every session of `source` into the receiver. Without a `format`, the format is detected.
///
/// # Errors
/// Returns an error if the source cannot be read, its format is unknown, or the receiver fails or asks to
/// stop. Sessions whose end the receiver has seen by then are complete.
pub fn read(source: &Source, format: Option<Format>, sink: &mut dyn SessionSink) -> Result<(), ImportError> {
    let format = match format {
        Some(format) => format,
        None => match detect(source)? {
            Some(format) => format,
            // An empty file is valid and contains no sessions.
            None if source.path().is_none_or(std::path::Path::is_file) && source.bytes() == 0 => {
                return Ok(());
            }
            None => return Err(detect::unknown_format(source)?),
        },
    };
    format.reader().read(source, sink)
}
