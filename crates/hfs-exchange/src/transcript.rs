//! Sessions written as other tools' transcripts, so that those tools can go on with them.

mod claude_code;
mod codex;
mod landing;
mod opencode;
mod restore;

use std::io::Write;

use hfs_core::{Branch, ContentHash, Message, Seq, Session};
use serde_json::Value;

use crate::Format;
use crate::export::{DocumentSource, ExportError, PAGE};

pub use landing::{Landing, landing};

/// The formats that [`write_transcript`] writes.
pub const TRANSCRIPTS: [Format; 3] = [Format::ClaudeCode, Format::Codex, Format::OpenCode];

/// Writes the session as a transcript of another tool: Claude Code's with every branch, Codex's and opencode's
/// with the history of the current one. Records that were imported from Claude Code go back to it as they came.
///
/// # Errors
/// When the session cannot be read, the output cannot be written, or the format is none of [`TRANSCRIPTS`].
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

/// Writes one record on a line of its own.
fn line(out: &mut dyn Write, record: &Value) -> std::io::Result<()> {
    serde_json::to_writer(&mut *out, record)?;
    out.write_all(b"\n")
}

/// Attached bytes as an address that holds them.
fn data_address(
    source: &dyn DocumentSource,
    media_type: &str,
    hash: ContentHash,
) -> Result<String, ExportError> {
    use base64::Engine;
    let data = base64::engine::general_purpose::STANDARD.encode(source.attachment(hash)?);
    Ok(format!("data:{media_type};base64,{data}"))
}

/// Visits the history of the session's current branch.
fn each_of_current(
    source: &dyn DocumentSource,
    session: &Session,
    visit: &mut dyn FnMut(Message) -> Result<(), ExportError>,
) -> Result<(), ExportError> {
    let branches = source.branches()?;
    let find = |id| branches.iter().find(|branch| branch.id == id);
    let mut stretches: Vec<(&Branch, Seq)> = Vec::new();
    let mut next = find(session.current_branch);
    let mut until = next.map_or(0, |branch| branch.head);
    while let Some(branch) = next.filter(|_| stretches.len() < branches.len()) {
        stretches.push((branch, until));
        until = until.min(branch.forked_at);
        next = branch.parent.and_then(find);
    }
    for (branch, until) in stretches.into_iter().rev() {
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
