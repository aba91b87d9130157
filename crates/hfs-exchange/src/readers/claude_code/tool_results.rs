//! The files of long tool results. Claude Code stores the whole output in a file of the session's folder, and only its
//! beginning in the record.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use hfs_core::{Attachment, Part};

use super::content::attachment_of;
use crate::decompress::uncompressed_path;
use crate::source::open_below;

/// Name of the folder. It is in the folder named after the session.
const FOLDER: &str = "tool-results";
/// Larger files are referenced, but not read.
const MAX_FILE: u64 = 64 << 20;
/// Maximum length of the text that becomes the output. The attachment has the rest.
const MAX_TEXT: usize = 1 << 20;

/// The folder with the files of a transcript.
#[derive(Debug)]
pub(crate) struct ToolResultFiles {
    /// The folder of the transcript, and the path from there to the files; `None` if there are none.
    folder: Option<(PathBuf, PathBuf)>,
}

/// A file with the whole output of a tool.
pub(crate) struct ResultFile {
    pub part: Part,
    pub attachment: Option<Attachment>,
    /// The content, if it is text.
    pub text: Option<String>,
}

impl ToolResultFiles {
    /// The files of this transcript.
    pub(crate) fn of_transcript(transcript: Option<&Path>) -> Self {
        let folder = transcript.and_then(|path| {
            let files = PathBuf::from(uncompressed_path(path).file_stem()?).join(FOLDER);
            let parent = path.parent()?;
            parent.join(&files).is_dir().then(|| (parent.to_owned(), files))
        });
        Self { folder }
    }

    /// The file to which the result of a call refers.
    pub(crate) fn of_result(&self, call: &str, output: &str) -> Option<ResultFile> {
        let (parent, folder) = self.folder.as_ref()?;
        let named = file_named_in_output(output);
        let name = named.or_else(|| is_file_name(call).then(|| format!("{call}.txt")))?;
        let file = open_below(parent, &folder.join(&name)).ok()?;
        let length = file.metadata().ok()?.len();
        let mut bytes = Vec::new();
        let is_read = length <= MAX_FILE && file.take(MAX_FILE).read_to_end(&mut bytes).is_ok();
        let text = str::from_utf8(&bytes).ok().filter(|_| is_read).map(|text| shortened(text, &name));
        let attachment = is_read.then(|| attachment_of(bytes));
        let part = Part::Attachment {
            media_type: "text/plain".into(),
            name: Some(format!("{FOLDER}/{name}")),
            hash: attachment.as_ref().map(|attachment| attachment.hash),
            bytes: length,
        };
        Some(ResultFile { part, attachment, text })
    }
}

fn shortened(text: &str, name: &str) -> String {
    if text.len() <= MAX_TEXT {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(MAX_TEXT);
    let rest = text.len() - end;
    format!("{}\n[{rest} more bytes are in the attachment {FOLDER}/{name}]", text.get(..end).unwrap_or(text))
}

/// The name of the file that contains the whole output, from the path that the shortened output mentions.
fn file_named_in_output(output: &str) -> Option<String> {
    let (_, rest) = output.split_once("tool-results/").or_else(|| output.split_once("tool-results\\"))?;
    let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>' | ')'));
    let name = rest.get(..end.unwrap_or(rest.len()))?.trim_end_matches(['.', ',']);
    is_file_name(name).then(|| name.to_owned())
}

/// Whether this is a plain file name, which cannot lead to another folder.
fn is_file_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0'])
}
