//! The meaning of a tool call's arguments: a command, an edit, a patch, a file.
//!
//! The shape of the arguments decides, not the name of the tool: agents and protocols use many names, but few shapes.

use serde_json::{Map, Value};

/// The meaning of a call's arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolInput<'a> {
    /// A shell command.
    Command(String),
    /// Replaced texts, each with its replacement, in the file `path`.
    Edits {
        /// The file.
        path: Option<&'a str>,
        /// Each replaced text with its replacement.
        edits: Vec<(&'a str, &'a str)>,
    },
    /// A patch, as a text.
    Patch(&'a str),
    /// The content of a file that is written.
    File {
        /// The file.
        path: &'a str,
        /// Its content.
        content: &'a str,
    },
    /// Anything else.
    Other,
}

/// A line of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiffLine<'a> {
    /// A line that does not change.
    Same(&'a str),
    /// A removed line.
    Removed(&'a str),
    /// An added line.
    Added(&'a str),
}

const COMMAND_FIELDS: [&str; 3] = ["command", "cmd", "script"];
const PATH_FIELDS: [&str; 6] = ["file_path", "filePath", "path", "filename", "file", "absolute_path"];
const OLD_FIELDS: [&str; 4] = ["old_string", "oldString", "old_str", "oldText"];
const NEW_FIELDS: [&str; 4] = ["new_string", "newString", "new_str", "newText"];
const CONTENT_FIELDS: [&str; 3] = ["content", "file_text", "contents"];
const PATCH_FIELDS: [&str; 4] = ["patch", "diff", "input", "patchText"];

impl<'a> ToolInput<'a> {
    /// Reads the arguments of a call.
    #[must_use]
    pub fn of(input: &'a Value) -> Self {
        let fields = match input {
            Value::String(text) if is_patch(text) => return Self::Patch(text),
            Value::Object(fields) => fields,
            _ => return Self::Other,
        };
        if let Some(patch) = text_field(fields, &PATCH_FIELDS).filter(|text| is_patch(text)) {
            return Self::Patch(patch);
        }
        let path = text_field(fields, &PATH_FIELDS);
        if let Some(edit) = replacement(fields) {
            return Self::Edits { path, edits: vec![edit] };
        }
        if let Some(Value::Array(list)) = fields.get("edits") {
            // An edit with other fields is more than its texts.
            let edits =
                list.iter().filter_map(|edit| replacement(edit.as_object().filter(|edit| edit.len() == 2)?));
            let edits: Vec<(&str, &str)> = edits.collect();
            if !edits.is_empty() && edits.len() == list.len() {
                return Self::Edits { path, edits };
            }
        }
        if let (Some(path), Some(content)) = (path, text_field(fields, &CONTENT_FIELDS)) {
            return Self::File { path, content };
        }
        // With a path, `command` is the name of an editor's operation, such as `view`.
        match path {
            Some(_) => Self::Other,
            None => command(fields).map_or(Self::Other, Self::Command),
        }
    }

    /// The files that the call changes.
    #[must_use]
    pub fn changed_files(&self) -> Vec<&'a str> {
        match self {
            Self::Edits { path, .. } => path.iter().copied().collect(),
            Self::File { path, .. } => vec![path],
            Self::Patch(patch) => patched_files(patch).collect(),
            Self::Command(_) | Self::Other => Vec::new(),
        }
    }

    /// Returns the names of the arguments that the meaning consists of, so that the others can be shown beside it.
    #[must_use]
    pub fn fields(input: &Value) -> Vec<&'static str> {
        let Value::Object(fields) = input else { return Vec::new() };
        let names: &[&[&'static str]] = match ToolInput::of(input) {
            ToolInput::Command(_) => &[&["command", "cmd", "script", "action"]],
            ToolInput::Edits { .. } if replacement(fields).is_some() => {
                &[&PATH_FIELDS, &OLD_FIELDS, &NEW_FIELDS]
            }
            ToolInput::Edits { .. } => &[&PATH_FIELDS, &["edits"]],
            ToolInput::Patch(_) => &[&PATCH_FIELDS],
            ToolInput::File { .. } => &[&PATH_FIELDS, &CONTENT_FIELDS],
            ToolInput::Other => &[],
        };
        // Of alternative names, the first one is read.
        let read = |names: &&[&'static str]| names.iter().copied().find(|name| fields.contains_key(*name));
        names.iter().filter_map(read).collect()
    }
}

fn command(fields: &Map<String, Value>) -> Option<String> {
    let command = COMMAND_FIELDS.iter().find_map(|name| fields.get(*name));
    match command.or_else(|| fields.get("action")?.get("command"))? {
        Value::String(command) if !command.is_empty() => Some(command.clone()),
        // Such as ["bash", "-lc", "ls"], where the last element is the command.
        Value::Array(words) => {
            let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
            match *words {
                [] => None,
                [_, "-c" | "-lc" | "-ic", command] => Some(command.to_owned()),
                _ => Some(words.join(" ")),
            }
        }
        _ => None,
    }
}

fn text_field<'a>(fields: &'a Map<String, Value>, names: &[&str]) -> Option<&'a str> {
    names.iter().find_map(|name| fields.get(*name)?.as_str())
}

fn replacement(fields: &Map<String, Value>) -> Option<(&str, &str)> {
    Some((text_field(fields, &OLD_FIELDS)?, text_field(fields, &NEW_FIELDS)?))
}

fn is_patch(text: &str) -> bool {
    text.starts_with("*** Begin Patch") || text.starts_with("--- ") || text.starts_with("diff --git ")
}

/// Returns the files that a patch changes.
pub fn patched_files(patch: &str) -> impl Iterator<Item = &str> {
    patch.lines().filter_map(|line| {
        ["*** Update File: ", "*** Add File: ", "*** Delete File: ", "+++ b/", "+++ "]
            .iter()
            .find_map(|prefix| line.strip_prefix(prefix))
    })
}

/// Returns the lines of an edit: those that were removed, then those that were added. Equal lines at both ends are context.
#[must_use]
pub fn diff_lines<'a>(old: &'a str, new: &'a str) -> Vec<DiffLine<'a>> {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let before = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let rest = old.len().min(new.len()) - before;
    let after = old.iter().rev().zip(new.iter().rev()).take(rest).take_while(|(old, new)| old == new).count();
    let mut lines: Vec<DiffLine<'a>> = Vec::with_capacity(old.len() + new.len());
    lines.extend(old.iter().take(before).map(|line| DiffLine::Same(line)));
    lines.extend(old.iter().take(old.len() - after).skip(before).map(|line| DiffLine::Removed(line)));
    lines.extend(new.iter().take(new.len() - after).skip(before).map(|line| DiffLine::Added(line)));
    lines.extend(old.iter().skip(old.len() - after).map(|line| DiffLine::Same(line)));
    lines
}

/// Returns the lines of an edit that change, with at most `context` equal lines before and after them.
#[must_use]
pub fn changed_lines<'a>(old: &'a str, new: &'a str, context: usize) -> Vec<DiffLine<'a>> {
    let mut lines = diff_lines(old, new);
    let is_change = |line: &DiffLine<'_>| !matches!(line, DiffLine::Same(_));
    let end = lines.iter().rposition(is_change).map_or(0, |last| last + 1 + context);
    lines.truncate(end);
    let start = lines.iter().position(is_change).unwrap_or(0).saturating_sub(context);
    lines.drain(..start.min(lines.len()));
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_command_is_found_in_every_form() {
        for shell in [
            json!({"command": "make test", "description": "Run the tests"}),
            json!({"command": ["bash", "-lc", "make test"]}),
            json!({"cmd": "make test"}),
            json!({"action": {"type": "exec", "command": ["make", "test"]}}),
        ] {
            assert_eq!(ToolInput::of(&shell), ToolInput::Command("make test".into()), "{shell}");
        }
    }

    #[test]
    fn an_operation_of_an_editor_is_not_a_command() {
        let edit = json!({"command": "str_replace", "path": "a.rs", "old_str": "x", "new_str": "y"});
        assert_eq!(ToolInput::of(&edit), ToolInput::Edits { path: Some("a.rs"), edits: vec![("x", "y")] });
        let file = json!({"command": "create", "path": "a.rs", "file_text": "x"});
        assert_eq!(ToolInput::of(&file), ToolInput::File { path: "a.rs", content: "x" });
        assert_eq!(ToolInput::of(&json!({"command": "view", "path": "a.rs"})), ToolInput::Other);
    }

    #[test]
    fn equal_lines_at_the_ends_of_an_edit_are_context() {
        let shown = |old, new| -> Vec<String> {
            let line = |line: &DiffLine<'_>| match line {
                DiffLine::Same(text) => format!(" {text}"),
                DiffLine::Removed(text) => format!("-{text}"),
                DiffLine::Added(text) => format!("+{text}"),
            };
            diff_lines(old, new).iter().map(line).collect()
        };
        assert_eq!(shown("a\nb\nc", "a\nx\ny\nc"), [" a", "-b", "+x", "+y", " c"]);
        assert_eq!(shown("a\na", "a\na\na"), [" a", " a", "+a"]);
        assert_eq!(shown("a\na\na", "a\na"), [" a", " a", "-a"]);
        assert_eq!(shown("", "x"), ["+x"]);
        assert_eq!(shown("same", "same"), [" same"]);
    }

    #[test]
    fn only_the_lines_around_a_change_are_its_context() {
        let old = "1\n2\n3\n4\n5\n6\n7";
        let shown = changed_lines(old, "1\n2\n3\nfour\n5\n6\n7", 2);
        use DiffLine::{Added, Removed, Same};
        assert_eq!(shown, [Same("2"), Same("3"), Removed("4"), Added("four"), Same("5"), Same("6")]);
        assert_eq!(changed_lines(old, "1\n2\n3\n4\n5\n6\n7\n8", 1), [Same("7"), Added("8")]);
        assert_eq!(changed_lines("", "x", 3), [Added("x")]);
        assert_eq!(changed_lines(old, old, 3), []);
    }

    #[test]
    fn the_arguments_beside_the_meaning_are_known() {
        for (input, fields) in [
            (json!({"command": "ls", "timeout": 1}), vec!["command"]),
            (json!({"action": {"command": ["ls"]}, "status": "x"}), vec!["action"]),
            (
                json!({"file_path": "a", "old_string": "x", "new_string": "y", "replace_all": true}),
                vec!["file_path", "old_string", "new_string"],
            ),
            (json!({"path": "a", "edits": [{"oldText": "x", "newText": "y"}]}), vec!["path", "edits"]),
            (json!({"path": "a", "content": "x", "mode": 1}), vec!["path", "content"]),
            (json!({"input": "*** Begin Patch\n"}), vec!["input"]),
            (json!({"pattern": "x"}), vec![]),
            (json!("*** Begin Patch\n"), vec![]),
        ] {
            assert_eq!(ToolInput::fields(&input), fields, "{input}");
        }
        let more = json!({"path": "a", "edits": [{"oldText": "x", "newText": "y", "all": true}]});
        assert_eq!(ToolInput::of(&more), ToolInput::Other);
    }

    #[test]
    fn unusual_arguments_have_no_meaning() {
        for odd in
            [json!(null), json!([]), json!({"command": []}), json!({"edits": [1]}), json!({"command": 3})]
        {
            assert_eq!(ToolInput::of(&odd), ToolInput::Other, "{odd}");
        }
    }
}
