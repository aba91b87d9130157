//! Mentions of files in the input: `@path`, or `@"a path with spaces"`. They are completed while the user types, and the
//! files are attached when the message is sent.

use crate::model::Model;
use crate::ports::FoundPaths;
use crate::protocol::{Effect, Request};

/// Pictures whose path becomes a mention when it is pasted, as terminals paste a file that is dropped on them.
const PICTURE_EXTENSIONS: [&str; 5] = ["png", "jpg", "jpeg", "gif", "webp"];

/// Paths that complete the mention before the cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathCompletion {
    /// What the user had typed after the at sign when they were requested.
    pub typed: String,
    /// The paths that were found.
    pub found: FoundPaths,
}

impl Model {
    /// Requests the paths that complete the mention before the cursor, unless they are known.
    pub(crate) fn complete_mention(&mut self) -> Vec<Effect> {
        let Some((_, typed)) = self.typed_mention() else {
            self.chat.paths = None;
            return Vec::new();
        };
        if self.chat.paths.as_ref().is_some_and(|completion| completion.typed == typed) {
            return Vec::new();
        }
        let typed = typed.to_owned();
        vec![Request::CompletePath(typed).into()]
    }

    /// Keeps paths that arrive, unless the user has changed the mention since they were requested.
    pub(crate) fn set_path_completion(&mut self, completion: PathCompletion) {
        if self.typed_mention().is_some_and(|(_, typed)| typed == completion.typed) {
            self.chat.paths = Some(completion);
        }
    }

    /// The paths that complete the mention before the cursor; empty while they are not known.
    pub(crate) fn mention_completions(&self) -> &[String] {
        let typed = self.typed_mention().map(|(_, typed)| typed);
        match &self.chat.paths {
            Some(completion) if Some(completion.typed.as_str()) == typed => &completion.found.paths,
            _ => &[],
        }
    }

    /// Number of paths that complete the mention before the cursor and are not listed.
    pub(crate) fn left_out_mentions(&self) -> usize {
        let is_shown = !self.mention_completions().is_empty();
        self.chat.paths.as_ref().filter(|_| is_shown).map_or(0, |completion| completion.found.left_out)
    }

    /// Replaces the mention before the cursor by one of this path. A space follows a file, since it is complete.
    pub(crate) fn insert_mention(&mut self, path: &str) -> Vec<Effect> {
        let Some((start, _)) = self.typed_mention() else { return Vec::new() };
        let is_folder = path.ends_with('/');
        let text = match (path.contains(char::is_whitespace), is_folder) {
            (false, _) => path.to_owned(),
            (true, true) => format!("\"{path}"),
            (true, false) => format!("\"{path}\""),
        };
        let space = if is_folder { "" } else { " " };
        self.chat.input.replace_from(start, &format!("{text}{space}"));
        self.chat.completion = Some(0);
        self.complete_mention()
    }

    /// The mention that ends at the cursor: the offset after its at sign, and the path as far as it is typed.
    fn typed_mention(&self) -> Option<(usize, &str)> {
        let before = self.chat.input.text().get(..self.chat.input.cursor())?;
        let start = before.rfind('@')? + 1;
        let is_word_start = before
            .get(..start - 1)?
            .chars()
            .next_back()
            .is_none_or(|character| character.is_whitespace() || character == '(');
        let typed = before.get(start..)?;
        let is_open = match typed.strip_prefix('"') {
            Some(quoted) => !quoted.contains(['"', '\n']),
            None => !typed.contains(char::is_whitespace),
        };
        (is_word_start && is_open).then(|| (start, typed.strip_prefix('"').unwrap_or(typed)))
    }
}

/// The mention for pasted text that is the path of a picture: absolute, in the home directory, or a `file://` address, and
/// perhaps quoted or escaped for a shell.
pub fn mention_of_picture(pasted: &str) -> Option<String> {
    let pasted = pasted.trim();
    let quoted = |quote| pasted.strip_prefix(quote)?.strip_suffix(quote);
    let path = match quoted('\'').or_else(|| quoted('"')) {
        Some(path) => path.to_owned(),
        None => pasted.replace("\\ ", " "),
    };
    let path = match path.strip_prefix("file://") {
        Some(encoded) => encoded.replace("%20", " "),
        None => path,
    };
    let is_path = path.starts_with('/') || path.starts_with("~/");
    let (_, extension) = path.rsplit_once('.')?;
    let is_picture = PICTURE_EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known));
    let is_one_path = !path.contains(['\n', '"']) && !path.contains(" /");
    (is_path && is_picture && is_one_path).then(|| format!("@\"{path}\" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pasted_path_of_a_picture_becomes_a_mention() {
        for (pasted, mention) in [
            ("/tmp/a.png", Some("@\"/tmp/a.png\" ")),
            ("'/tmp/My shot.PNG'\n", Some("@\"/tmp/My shot.PNG\" ")),
            ("~/My\\ shot.jpeg", Some("@\"~/My shot.jpeg\" ")),
            ("file:///tmp/My%20shot.webp", Some("@\"/tmp/My shot.webp\" ")),
            ("a.png", None),
            ("/tmp/a.rs", None),
            ("/tmp/a.png /tmp/b.png", None),
            ("see /tmp/a.png", None),
            ("/tmp/a.png\nand more.png", None),
        ] {
            assert_eq!(mention_of_picture(pasted).as_deref(), mention, "{pasted}");
        }
    }
}
