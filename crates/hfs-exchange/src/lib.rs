//! Sessions in and out: readers for our own documents and for what other tools write.
//!
//! A reader pushes what it finds into a [`hfs_core::SessionSink`], piece by piece, so that a transcript of any
//! size passes through in bounded memory. Which reader a file needs is found by looking into it.
//!
//! Where foreign records go: what has an equal here becomes sessions, branches, messages and parts; everything
//! else stays beside the message it came with, in its `extra`:
//!
//! - `flags`: what is worth knowing in every format: `sidechain`, `meta`, `compact-summary`, `hidden`,
//!   `injected`, `error`
//! - `records`: the records the message was made of, with references where their content became parts
//! - `before`, `after`: records that are no messages and stood before (after the last message: behind) it

mod collect;
mod database;
mod detect;
mod discover;
mod document;
mod export;
mod format;
mod json;
mod page;
mod places;
mod readers;
mod records;
mod redact;
mod source;
mod tally;
mod time;
mod transcript;

pub use collect::{Collected, CollectedBranch, Collector};
pub use detect::detect;
pub use discover::discover;
pub use document::{DOCUMENT_VERSION, Stamp, document_schema, write_json};
pub use export::{DocumentSource, ExportError};
pub use format::{Format, ParseFormatError};
pub use page::html::write_html;
pub use page::markdown::write_markdown;
pub use page::{PageOptions, Shown};
pub use places::{Places, usual_places};
pub use redact::{Guarded, SecretReport, Secrets};
pub use source::Source;
pub use transcript::{Landing, TRANSCRIPTS, landing, write_transcript};

use hfs_core::{ImportError, SessionSink};

/// Reads every session of `source` into `sink`. Without a `format` it is found by looking.
///
/// # Errors
/// When nothing can be read, the format is unknown, the sink fails or asks to stop. Sessions that the sink saw
/// the end of before that are whole.
pub fn read(source: &Source, format: Option<Format>, sink: &mut dyn SessionSink) -> Result<(), ImportError> {
    let format = match format {
        Some(format) => format,
        None => match detect(source)? {
            Some(format) => format,
            // An empty file holds no sessions, and that is no mistake.
            None if source.path().is_none_or(std::path::Path::is_file) && source.bytes() == 0 => {
                return Ok(());
            }
            None => return Err(detect::unknown(source)?),
        },
    };
    format.reader().read(source, sink)
}
