//! Shows calls of tools to people: commands as commands, edits as diffs.

use hfs_core::{DiffLine, diff_lines};
use serde_json::{Map, Value};

/// A call, or a result, as a page shows it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ToolView {
    /// The tool, and the file or the purpose, on one line.
    pub title: String,
    pub blocks: Vec<CodeBlock>,
}

/// A block of code.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CodeBlock {
    /// The language, for highlighting; empty for plain text.
    pub language: &'static str,
    pub text: String,
}

impl CodeBlock {
    fn new(language: &'static str, text: impl Into<String>) -> Self {
        Self { language, text: text.into() }
    }
}

/// Shows a call: its file, command, edits and content in a readable form, and its other fields as JSON.
pub(crate) fn call(name: &str, input: &Value) -> ToolView {
    let none = Map::new();
    let mut fields = Fields { all: input.as_object().unwrap_or(&none), shown: Vec::new() };
    let mut details: Vec<&str> = Vec::new();
    let mut blocks: Vec<CodeBlock> = Vec::new();
    let path = fields.text(&["file_path", "filePath", "path", "notebook_path"], |_| true);
    match (input.as_str(), path) {
        (Some(text), _) if is_patch(text) => blocks.push(CodeBlock::new("diff", text)),
        (Some(text), _) => blocks.push(CodeBlock::new("", text)),
        (None, Some(_)) => details.extend(fields.text(&["command"], is_editor_command)),
        (None, None) => {}
    }
    details.extend(path);
    if let Some(command) = fields.command() {
        blocks.push(CodeBlock::new("sh", command));
        details.extend(fields.text(&["description"], |_| true));
    }
    blocks.extend(
        fields.text(&["input", "patch", "patchText"], is_patch).map(|patch| CodeBlock::new("diff", patch)),
    );
    blocks.extend(fields.edits().into_iter().map(|edit| CodeBlock::new("diff", edit)));
    if path.is_some() {
        blocks.extend(fields.text(&["diff"], |_| true).map(|diff| CodeBlock::new("diff", diff)));
        let content = fields.text(&["content", "contents", "file_text"], |_| true);
        blocks.extend(content.map(|content| CodeBlock::new("", content)));
    }
    let rest = match input {
        Value::Object(_) => Some(fields.rest()).filter(|rest| !rest.is_empty()).map(Value::Object),
        Value::Null | Value::String(_) => None,
        Value::Bool(_) | Value::Number(_) | Value::Array(_) => Some(input.clone()),
    };
    blocks.extend(
        rest.map(|rest| CodeBlock::new("json", serde_json::to_string_pretty(&rest).unwrap_or_default())),
    );
    let details = details.into_iter().map(one_line).collect::<Vec<_>>().join(", ");
    let separator = if details.is_empty() { "" } else { ": " };
    ToolView { title: format!("{}{separator}{details}", one_line(name)), blocks }
}

/// Shows a result. Codex wraps the output of some tools in JSON.
pub(crate) fn output(text: &str) -> String {
    let parsed = text.starts_with('{').then(|| serde_json::from_str::<Value>(text).ok()).flatten();
    let Some(Value::Object(fields)) = parsed else { return text.to_owned() };
    let (Some(output), Some(metadata)) =
        (fields.get("output").and_then(Value::as_str), fields.get("metadata").and_then(Value::as_object))
    else {
        return text.to_owned();
    };
    match metadata.get("exit_code").and_then(Value::as_i64) {
        None | Some(0) => output.to_owned(),
        Some(code) => format!("{}\n[exit code {code}]", output.trim_end()),
    }
}

/// A patch in the form of Codex.
fn is_patch(text: &str) -> bool {
    text.trim_start().starts_with("*** Begin Patch")
}

/// Whether this is the command of an editor for files, not of a shell.
fn is_editor_command(command: &str) -> bool {
    const COMMANDS: [&str; 10] = [
        "view",
        "create",
        "write",
        "str_replace",
        "insert",
        "undo_edit",
        "append",
        "delete",
        "rename",
        "edit_file",
    ];
    COMMANDS.contains(&command)
}

/// The fields of an input, and the names of those that were shown.
struct Fields<'f> {
    all: &'f Map<String, Value>,
    shown: Vec<&'static str>,
}

impl<'f> Fields<'f> {
    /// The first text with one of these names that is not empty and that `accept` accepts.
    fn text(&mut self, names: &[&'static str], accept: impl Fn(&str) -> bool) -> Option<&'f str> {
        let found = names.iter().find_map(|name| {
            let text = self.all.get(*name)?.as_str().filter(|text| !text.is_empty() && accept(text))?;
            (!self.shown.contains(name)).then_some((*name, text))
        });
        let (name, text) = found?;
        self.shown.push(name);
        Some(text)
    }

    /// The command of a shell, as text or as arguments.
    fn command(&mut self) -> Option<String> {
        if let Some(command) = self.text(&["command", "cmd"], |_| true) {
            return Some(command.to_owned());
        }
        let arguments: Vec<&str> =
            self.all.get("command")?.as_array()?.iter().map(Value::as_str).collect::<Option<_>>()?;
        let command = match arguments[..] {
            [] => return None,
            // A shell that runs a script.
            [_, "-c" | "-lc", script] => script.to_owned(),
            _ => shlex::try_join(arguments.iter().copied()).unwrap_or_else(|_| arguments.join(" ")),
        };
        self.shown.push("command");
        Some(command)
    }

    /// The replacements of text in a file, as diffs.
    fn edits(&mut self) -> Vec<String> {
        const NAMES: [(&str, &str); 4] = [
            ("old_string", "new_string"),
            ("oldString", "newString"),
            ("old_str", "new_str"),
            ("oldText", "newText"),
        ];
        let one = |fields: &Map<String, Value>| {
            NAMES.into_iter().find_map(|(old, new)| {
                let text = |name: &str| fields.get(name).and_then(Value::as_str);
                Some((old, new, diff(text(old)?, text(new)?)))
            })
        };
        if let Some((old, new, diff)) = one(self.all) {
            self.shown.extend([old, new]);
            return vec![diff];
        }
        let edits = self.all.get("edits").and_then(Value::as_array).filter(|edits| !edits.is_empty());
        let diffs: Option<Vec<String>> = edits.and_then(|edits| {
            let edits = edits.iter().map(Value::as_object);
            // An edit with other fields is shown as it is.
            edits
                .map(|edit| edit.filter(|edit| edit.len() == 2).and_then(one).map(|(_, _, diff)| diff))
                .collect()
        });
        self.shown.extend(diffs.is_some().then_some("edits"));
        diffs.unwrap_or_default()
    }

    /// The fields that were not shown.
    fn rest(&self) -> Map<String, Value> {
        let rest = self.all.iter().filter(|(name, _)| !self.shown.contains(&name.as_str()));
        rest.map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

/// The difference of two texts: the lines that differ, between the lines that both begin and end with.
fn diff(old: &str, new: &str) -> String {
    let mut text = String::new();
    for line in diff_lines(old, new) {
        let (mark, line) = match line {
            DiffLine::Same(line) => (' ', line),
            DiffLine::Removed(line) => ('-', line),
            DiffLine::Added(line) => ('+', line),
        };
        text.push(mark);
        text.push_str(line);
        text.push('\n');
    }
    text
}

/// Replaces line breaks, because a title is one line.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(name: &str, input: &Value) -> (String, Vec<(&'static str, String)>) {
        let view = call(name, input);
        (view.title, view.blocks.into_iter().map(|block| (block.language, block.text)).collect())
    }

    #[test]
    fn commands_of_every_tool_are_shown_as_commands() {
        for (input, command) in [
            (json!({"command": "ls -l | wc", "description": "count\nfiles"}), "ls -l | wc"),
            (json!({"cmd": "ls"}), "ls"),
            (json!({"command": ["bash", "-lc", "ls && pwd"]}), "ls && pwd"),
            (json!({"command": ["echo", "a b"]}), "echo 'a b'"),
        ] {
            assert_eq!(shown("Bash", &input).1, [("sh", command.to_owned())], "{input}");
        }
        let input = json!({"cmd": "ls", "workdir": "/srv"});
        let rest = "{\n  \"workdir\": \"/srv\"\n}".to_owned();
        assert_eq!(shown("exec", &input).1, [("sh", "ls".to_owned()), ("json", rest)]);
        assert_eq!(
            call("Bash", &json!({"command": "ls", "description": "count\nfiles"})).title,
            "Bash: count files"
        );
    }

    #[test]
    fn edits_of_every_tool_are_shown_as_diffs() {
        let edit = json!({"file_path": "/a.rs", "old_string": "x\nold\ny", "new_string": "x\nnew\nmore\ny"});
        let diff = " x\n-old\n+new\n+more\n y\n";
        assert_eq!(shown("Edit", &edit), ("Edit: /a.rs".into(), vec![("diff", diff.into())]));
        let edit = json!({"filePath": "/a.rs", "oldString": "a", "newString": ""});
        assert_eq!(shown("edit", &edit).1, [("diff", "-a\n".to_owned())]);
        let edits = json!({"file_path": "/a", "edits": [
            {"old_string": "a", "new_string": "b"}, {"old_string": "a\na", "new_string": "a"},
        ]});
        assert_eq!(
            shown("MultiEdit", &edits).1,
            [("diff", "-a\n+b\n".to_owned()), ("diff", " a\n-a\n".to_owned())]
        );
        let patch = "*** Begin Patch\n*** End Patch";
        for input in [json!(patch), json!({ "input": patch })] {
            assert_eq!(shown("apply_patch", &input).1, [("diff", patch.to_owned())]);
        }
    }

    #[test]
    fn the_commands_of_an_editor_are_shown_as_edits() {
        let edit = json!({"command": "str_replace", "path": "/a", "old_str": "a", "new_str": "b"});
        let expected = ("editor: str_replace, /a".to_owned(), vec![("diff", "-a\n+b\n".to_owned())]);
        assert_eq!(shown("editor", &edit), expected);
        let create = json!({"command": "create", "path": "/a", "file_text": "x\ny"});
        assert_eq!(shown("editor", &create).1, [("", "x\ny".to_owned())]);
        let edit = json!({"path": "/a", "edits": [{"oldText": "a", "newText": "b"}]});
        assert_eq!(shown("edit", &edit), ("edit: /a".into(), vec![("diff", "-a\n+b\n".into())]));
        let diff = "<<<<<<< SEARCH\na\n=======\nb\n>>>>>>> REPLACE";
        assert_eq!(shown("replace", &json!({"path": "/a", "diff": diff})).1, [("diff", diff.to_owned())]);
    }

    #[test]
    fn other_calls_are_shown_as_they_are() {
        assert_eq!(shown("Read", &json!({"file_path": "/a"})), ("Read: /a".into(), Vec::new()));
        assert_eq!(shown("Write", &json!({"file_path": "/a", "content": "x"})).1, [("", "x".to_owned())]);
        let all = json!({"file_path": "/a", "replace_all": true, "old_string": "a", "new_string": "b"});
        let rest = "{\n  \"replace_all\": true\n}".to_owned();
        assert_eq!(shown("Edit", &all).1, [("diff", "-a\n+b\n".to_owned()), ("json", rest)]);
        assert_eq!(shown("t", &Value::Null), ("t".into(), Vec::new()));
        for odd in [json!({"command": 1}), json!({"edits": [1]}), json!([1]), json!({"old_string": "a"})] {
            let json = serde_json::to_string_pretty(&odd).unwrap();
            assert_eq!(shown("odd\nname", &odd), ("odd name".into(), vec![("json", json)]));
        }
    }

    #[test]
    fn the_output_in_a_wrapped_result_is_shown() {
        assert_eq!(output(r#"{"output":"ok\n","metadata":{"exit_code":0}}"#), "ok\n");
        assert_eq!(output(r#"{"output":"bad\n","metadata":{"exit_code":2}}"#), "bad\n[exit code 2]");
        for other in ["{", "plain", r#"{"output":1,"metadata":{}}"#, r#"{"output":"x"}"#] {
            assert_eq!(output(other), other);
        }
    }
}
