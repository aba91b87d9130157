//! Shows calls of tools to people: commands as commands, edits as diffs.

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

/// Shows a call. A call in a form that is not known is shown as JSON.
pub(crate) fn call(name: &str, input: &Value) -> ToolView {
    let none = Map::new();
    let fields = input.as_object().unwrap_or(&none);
    let path = first_text(fields, &["file_path", "filePath", "path", "notebook_path"]);
    let view = |detail: Option<&str>, blocks| {
        let detail = detail.map(|detail| format!(": {}", one_line(detail))).unwrap_or_default();
        ToolView { title: format!("{}{detail}", one_line(name)), blocks }
    };
    if let Some(patch) = patch(input, fields) {
        return view(path, vec![CodeBlock::new("diff", patch)]);
    }
    if let Some(command) = command(fields) {
        return view(first_text(fields, &["description"]), vec![CodeBlock::new("sh", command)]);
    }
    if let Some(diffs) = edits(fields) {
        return view(path, diffs.into_iter().map(|diff| CodeBlock::new("diff", diff)).collect());
    }
    if let (Some(path), Some(content), 2) = (path, first_text(fields, &["content"]), fields.len()) {
        return view(Some(path), vec![CodeBlock::new("", content)]);
    }
    match input {
        Value::Null => view(None, Vec::new()),
        Value::Object(fields) if fields.is_empty() => view(None, Vec::new()),
        Value::String(text) => view(None, vec![CodeBlock::new("", text.as_str())]),
        _ if path.is_some() && fields.len() == 1 => view(path, Vec::new()),
        other => {
            let json = serde_json::to_string_pretty(other).unwrap_or_default();
            view(None, vec![CodeBlock::new("json", json)])
        }
    }
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

fn first_text<'f>(fields: &'f Map<String, Value>, names: &[&str]) -> Option<&'f str> {
    names.iter().find_map(|name| fields.get(*name)?.as_str()).filter(|text| !text.is_empty())
}

/// A patch in the form of Codex.
fn patch<'i>(input: &'i Value, fields: &'i Map<String, Value>) -> Option<&'i str> {
    let text = input.as_str().or_else(|| first_text(fields, &["input", "patch", "patchText"]))?;
    text.trim_start().starts_with("*** Begin Patch").then_some(text)
}

/// The command of a shell, as text or as arguments.
fn command(fields: &Map<String, Value>) -> Option<String> {
    match fields.get("command").or_else(|| fields.get("cmd"))? {
        Value::String(command) if !command.is_empty() => Some(command.clone()),
        Value::Array(arguments) => {
            let arguments: Vec<&str> = arguments.iter().map(Value::as_str).collect::<Option<_>>()?;
            match arguments[..] {
                [] => None,
                // A shell that runs a script.
                [_, "-c" | "-lc", script] => Some(script.to_owned()),
                _ => Some(shlex::try_join(arguments.iter().copied()).unwrap_or_else(|_| arguments.join(" "))),
            }
        }
        _ => None,
    }
}

/// The replacements of text in a file.
fn edits(fields: &Map<String, Value>) -> Option<Vec<String>> {
    let one = |fields: &Map<String, Value>| {
        let text = |names: [&str; 2]| names.into_iter().find_map(|name| fields.get(name)?.as_str());
        Some(diff(text(["old_string", "oldString"])?, text(["new_string", "newString"])?))
    };
    if let Some(diff) = one(fields) {
        return Some(vec![diff]);
    }
    let edits = fields.get("edits")?.as_array().filter(|edits| !edits.is_empty())?;
    edits.iter().map(|edit| one(edit.as_object()?)).collect()
}

/// The difference of two texts: the lines that differ, between the lines that both begin and end with.
fn diff(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let before = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let rest = old.len().min(new.len()) - before;
    let after = old.iter().rev().zip(new.iter().rev()).take(rest).take_while(|(a, b)| a == b).count();
    let changed = |lines: &[&str]| lines.len() - after;
    let mut text = String::new();
    let mut push = |mark: char, lines: &mut dyn Iterator<Item = &&str>| {
        for line in lines {
            text.push(mark);
            text.push_str(line);
            text.push('\n');
        }
    };
    push(' ', &mut old.iter().take(before));
    push('-', &mut old.iter().take(changed(&old)).skip(before));
    push('+', &mut new.iter().take(changed(&new)).skip(before));
    push(' ', &mut old.iter().skip(changed(&old)));
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
            (json!({"cmd": "ls", "workdir": "/"}), "ls"),
            (json!({"command": ["bash", "-lc", "ls && pwd"]}), "ls && pwd"),
            (json!({"type": "exec", "command": ["echo", "a b"], "timeout_ms": 1000}), "echo 'a b'"),
        ] {
            assert_eq!(shown("Bash", &input).1, [("sh", command.to_owned())], "{input}");
        }
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
    fn other_calls_are_shown_as_they_are() {
        assert_eq!(shown("Read", &json!({"file_path": "/a"})), ("Read: /a".into(), Vec::new()));
        assert_eq!(shown("Write", &json!({"file_path": "/a", "content": "x"})).1, [("", "x".to_owned())]);
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
