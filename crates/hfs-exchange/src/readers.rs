//! One reader for each format, behind one trait.

pub(crate) mod aider;
pub(crate) mod chat;
pub(crate) mod chatgpt;
pub(crate) mod claude_code;
pub(crate) mod codex;
pub(crate) mod conversation;
pub(crate) mod gemini;
pub(crate) mod goose;
pub(crate) mod hfs;
pub(crate) mod langgraph;
pub(crate) mod linear;
pub(crate) mod llm;
pub(crate) mod openai;
pub(crate) mod opencode;
pub(crate) mod python;
pub(crate) mod sharegpt;
pub(crate) mod whole;

use hfs_core::{ImportError, SessionSink};

use crate::detect::Head;
use crate::{Format, Source};

/// In a message's `extra`: what is worth knowing about it in every format.
pub(crate) const FLAGS: &str = "flags";
/// In a message's (or, for want of messages, a session's) `extra`: the records it was made of.
pub(crate) const RECORDS: &str = "records";
/// In a message's `extra`: records that are no messages and stood before it.
pub(crate) const BEFORE: &str = "before";
/// In the last message's `extra`: records that are no messages and stood after it.
pub(crate) const AFTER: &str = "after";
/// The text of a record that no value can hold faithfully.
pub(crate) const RAW: &str = "$raw";

/// Reads one format.
pub(crate) trait Reader: Sync {
    /// Which.
    fn format(&self) -> Format;

    /// Whether something that begins like this is of this format.
    fn recognizes(&self, head: &Head) -> bool;

    /// Reads every session into the sink.
    fn read(&self, source: &Source, sink: &mut dyn SessionSink) -> Result<(), ImportError>;
}

/// Tells the sink how far the reader is; an error when it asks to stop.
pub(crate) fn go_on(source: &Source, sink: &mut dyn SessionSink, bytes: u64) -> Result<(), ImportError> {
    if sink.progress(bytes) { Ok(()) } else { Err(ImportError::Interrupted { path: source.name() }) }
}
