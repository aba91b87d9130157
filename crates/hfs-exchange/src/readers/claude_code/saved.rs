//! What tools answered at length: Claude Code keeps it in a file beside the transcript and tells the beginning.

use std::path::{Path, PathBuf};

use hfs_core::Part;

use super::attachment_of;
use super::messages::Drafted;

/// The folder, in the one that is named after the session.
const FOLDER: &str = "tool-results";
/// Larger files are named, and stay where they are.
const MAX_FILE: u64 = 64 << 20;

/// The files beside one transcript.
pub(crate) struct Saved(Option<PathBuf>);

impl Saved {
    /// Those beside this transcript, if there are any.
    pub(crate) fn beside(transcript: Option<&Path>) -> Self {
        let folder = transcript.map(|path| path.with_extension("").join(FOLDER));
        Self(folder.filter(|folder| folder.is_dir()))
    }

    /// Adds the files that a message's tool results refer to, as attachments behind its other parts.
    pub(crate) fn attach(&self, drafted: &mut Drafted) {
        let Some(folder) = &self.0 else { return };
        let results = drafted.draft.parts.iter().filter_map(|part| match part {
            Part::ToolResult { id, output, .. } => Some((id, output)),
            _ => None,
        });
        let names: Vec<String> =
            results.filter_map(|(id, output)| named_in(output).or_else(|| of_call(folder, id))).collect();
        for name in names {
            let path = folder.join(&name);
            let Ok(length) = std::fs::metadata(&path).map(|metadata| metadata.len()) else { continue };
            let attachment =
                (length <= MAX_FILE).then(|| std::fs::read(&path).ok()).flatten().map(attachment_of);
            drafted.draft.parts.push(Part::Attachment {
                media_type: "text/plain".into(),
                name: Some(format!("{FOLDER}/{name}")),
                hash: attachment.as_ref().map(|attachment| attachment.hash),
                bytes: length,
            });
            drafted.attachments.extend(attachment);
        }
    }
}

/// The file that an answer says it was saved to.
fn named_in(output: &str) -> Option<String> {
    let (_, rest) = output.split_once("tool-results/").or_else(|| output.split_once("tool-results\\"))?;
    let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>' | ')'));
    let name = rest.get(..end.unwrap_or(rest.len()))?.trim_end_matches(['.', ',']);
    is_plain(name).then(|| name.to_owned())
}

/// The file that is named after a call.
fn of_call(folder: &Path, call: &str) -> Option<String> {
    let name = format!("{call}.txt");
    (is_plain(call) && folder.join(&name).is_file()).then_some(name)
}

/// Whether a name leads nowhere else.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0'])
}
