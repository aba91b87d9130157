//! Writes sessions as transcripts of other tools, so that those tools can continue them.

pub(crate) mod claude_code;
mod codex;
mod opencode;

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hfs_core::{Branch, ContentHash, Message, Seq, Session};
use serde_json::Value;

use crate::Format;
use crate::export::{DocumentSource, ExportError, PAGE};

/// The formats that [`write_transcript`] writes.
pub const TRANSCRIPT_FORMATS: [Format; 3] = [Format::ClaudeCode, Format::Codex, Format::OpenCode];

/// Writes the session as a transcript of another tool. A transcript of Claude Code contains every branch;
/// those of Codex and opencode contain the history of the current branch. Records that were imported from
/// Claude Code are written unchanged.
///
/// # Errors
/// Returns any error of reading the session or of writing the output, and [`ExportError::Unsupported`] for a
/// format that is not in [`TRANSCRIPT_FORMATS`].
pub fn write_transcript(
    source: &dyn DocumentSource,
    format: Format,
    mut out: impl Write,
) -> Result<(), ExportError> {
    match format {
        Format::ClaudeCode => claude_code::write(source, &mut out)?,
        Format::Codex => codex::write(source, &mut out)?,
        Format::OpenCode => opencode::write(source, &mut out)?,
        other => return Err(ExportError::Unsupported { what: "a session".into(), format: other.as_str() }),
    }
    out.flush()?;
    Ok(())
}

/// Writes a record on a line of its own.
fn write_record(out: &mut dyn Write, record: &Value) -> std::io::Result<()> {
    serde_json::to_writer(&mut *out, record)?;
    out.write_all(b"\n")
}

/// A data URL of an attachment.
fn data_url(source: &dyn DocumentSource, media_type: &str, hash: ContentHash) -> Result<String, ExportError> {
    let data = STANDARD.encode(source.attachment(hash)?);
    Ok(format!("data:{media_type};base64,{data}"))
}

/// Calls `visit` for each message in the history of the session's current branch. The formats require times, so a
/// message without one gets that of the message before it or of the session.
fn for_each_current_message(
    source: &dyn DocumentSource,
    session: &Session,
    visit: &mut dyn FnMut(Message) -> Result<(), ExportError>,
) -> Result<(), ExportError> {
    let branches = source.branches()?;
    let find = |id| branches.iter().find(|branch| branch.id == id);
    let mut ranges: Vec<(&Branch, Seq)> = Vec::new();
    let mut next = find(session.current_branch);
    let mut until = next.map_or(0, |branch| branch.head);
    // The limit on the number of ranges stops the loop if the parents form a cycle.
    while let Some(branch) = next.filter(|_| ranges.len() < branches.len()) {
        ranges.push((branch, until));
        until = until.min(branch.forked_at);
        next = branch.parent.and_then(find);
    }
    let mut at = session.created_at;
    for (branch, until) in ranges.into_iter().rev() {
        let mut after = branch.forked_at;
        while after < until {
            let page = source.messages(branch.id, after, PAGE)?;
            let Some(last) = page.last() else { break };
            after = last.seq;
            for mut message in page.into_iter().filter(|message| message.seq <= until) {
                at = message.content.created_at.known().unwrap_or(at);
                message.content.created_at = at;
                visit(message)?;
            }
        }
    }
    Ok(())
}
