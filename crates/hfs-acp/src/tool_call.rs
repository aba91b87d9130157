//! The state of a tool call, which arrives in updates.

use std::time::Instant;

use agent_client_protocol_schema::v1::{
    ContentBlock, ToolCallContent, ToolCallStatus, ToolCallUpdate, ToolKind,
};
use hfs_core::{DiffLine, changed_lines};
use serde::Deserialize as _;
use serde_json::{Map, Value};

use crate::permission::{ActionKind, FileChange, shown_content};

/// Fields of a call whose content a message has as a part.
const INPUT: &str = "rawInput";
const OUTPUT: &str = "rawOutput";
const CONTENT: &str = "content";

/// Where tools put the text of their output, if it is an object: the best form first.
const OUTPUT_FIELDS: [&str; 6] =
    ["formatted_output", "aggregated_output", "output", "stdout", "text", "error"];

/// Equal lines that are kept around the change of a file.
const CONTEXT_LINES: usize = 3;

/// A tool call as far as it is known.
#[derive(Debug)]
pub(crate) struct ToolCallState {
    pub id: String,
    /// All fields, each as it was sent last.
    fields: Map<String, Value>,
    /// Output that arrived in pieces beside the content.
    streamed_output: String,
    pub started_at: Instant,
    /// Number of the message that holds the call.
    pub message: Option<usize>,
    /// The call's arguments as the message has them.
    pub written_input: Option<Value>,
    /// What of the output was written while the call was running.
    pub partial: Option<PartialOutput>,
    pub is_ended: bool,
}

/// Output that was written while its call was running.
#[derive(Debug)]
pub(crate) struct PartialOutput {
    /// Number of the message that holds it.
    pub message: usize,
    pub text: String,
    pub written_at: Instant,
}

impl ToolCallState {
    pub fn new(id: String) -> Self {
        Self {
            id,
            fields: Map::new(),
            streamed_output: String::new(),
            started_at: Instant::now(),
            message: None,
            written_input: None,
            partial: None,
            is_ended: false,
        }
    }

    /// Applies an update. A field that is missing or null stays as it is.
    pub fn merge(&mut self, update: Map<String, Value>) {
        for (name, value) in update {
            match name.as_str() {
                "sessionUpdate" => {}
                "_meta" => self.merge_meta(value),
                _ if value.is_null() => {}
                _ => {
                    self.fields.insert(name, value);
                }
            }
        }
    }

    /// Some agents stream the output of a command beside the content.
    fn merge_meta(&mut self, meta: Value) {
        let Value::Object(meta) = meta else { return };
        for (name, value) in meta {
            let data = value.get("data").and_then(Value::as_str);
            match (name.as_str(), data) {
                ("terminal_output" | "terminal_output_delta" | "mcp_output_delta", Some(data)) => {
                    self.streamed_output.push_str(data);
                }
                _ => {
                    let known = self.fields.entry("_meta").or_insert_with(|| Value::Object(Map::new()));
                    if let Value::Object(known) = known {
                        known.insert(name, value);
                    }
                }
            }
        }
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.fields.get(name)?.as_str().filter(|text| !text.is_empty())
    }

    /// The call as the protocol's type; `None` if its fields are not those of a call.
    pub fn typed(&self) -> Option<ToolCallUpdate> {
        serde_json::from_value(Value::Object(self.fields.clone())).ok()
    }

    pub fn title(&self) -> String {
        self.text("title").unwrap_or_else(|| self.kind().as_str()).to_owned()
    }

    pub fn kind(&self) -> ActionKind {
        let kind = self.fields.get("kind");
        kind.and_then(|kind| ToolKind::deserialize(kind).ok()).unwrap_or_default().into()
    }

    /// Name of the tool. An agent that does not name it at least says what kind it is.
    pub fn name(&self) -> String {
        let in_meta = || self.fields.get("_meta")?.get("claudeCode")?.get("toolName")?.as_str();
        let name = self.text("name").or_else(in_meta);
        name.unwrap_or_else(|| self.kind().as_str()).to_owned()
    }

    pub fn status(&self) -> ToolCallStatus {
        let status = self.fields.get("status");
        status.and_then(|status| ToolCallStatus::deserialize(status).ok()).unwrap_or_default()
    }

    /// The arguments, if they are known.
    pub fn input(&self) -> Option<&Value> {
        self.fields.get(INPUT).filter(|input| !is_empty(input))
    }

    /// The arguments for the message: if the agent sends none, its description of the call, and the changes of files in its
    /// content.
    pub fn shown_input(&self) -> Value {
        let described = || {
            let title = ("title".to_owned(), self.title().into());
            Value::Object(std::iter::once(title).chain(self.changes()).collect())
        };
        self.input().cloned().unwrap_or_else(described)
    }

    /// The changes of files in the content, as the arguments of a tool that edits files: what changes, with the lines around it.
    /// `rest` keeps the whole texts.
    fn changes(&self) -> Vec<(String, Value)> {
        let (changes, _) = shown_content(&self.content());
        let named = |name: &str, value: String| (name.to_owned(), Value::String(value));
        match changes.as_slice() {
            [] => Vec::new(),
            [FileChange { path, old: None, new }] => {
                vec![named("path", path.display().to_string()), named("content", new.clone())]
            }
            [FileChange { path, old: Some(old), new }] => {
                let lines = changed_lines(old, new, CONTEXT_LINES);
                let text = |is_shown: fn(&DiffLine<'_>) -> bool| {
                    let lines = lines.iter().filter(|line| is_shown(line)).map(line_text);
                    lines.collect::<Vec<_>>().join("\n")
                };
                vec![
                    named("path", path.display().to_string()),
                    named("oldText", text(|line| !matches!(line, DiffLine::Added(_)))),
                    named("newText", text(|line| !matches!(line, DiffLine::Removed(_)))),
                ]
            }
            several => {
                let files: String = several.iter().map(patch_of_file).collect();
                vec![named("patch", format!("*** Begin Patch\n{files}*** End Patch"))]
            }
        }
    }

    /// The output as text.
    pub fn output(&self) -> String {
        let raw = self.fields.get(OUTPUT).filter(|output| !is_empty(output));
        raw.and_then(raw_output_text)
            .or_else(|| Some(self.streamed_output.clone()).filter(|text| !text.is_empty()))
            .or_else(|| Some(self.content_text()).filter(|text| !text.is_empty()))
            .or_else(|| raw.map(Value::to_string))
            .unwrap_or_default()
    }

    fn content(&self) -> Vec<ToolCallContent> {
        let items = self.fields.get(CONTENT).and_then(Value::as_array).into_iter().flatten();
        items.filter_map(|item| ToolCallContent::deserialize(item).ok()).collect()
    }

    fn content_text(&self) -> String {
        let content = self.content();
        let texts = content.iter().filter_map(|item| match item {
            ToolCallContent::Content(content) => match &content.content {
                ContentBlock::Text(text) => Some(text.text.as_str()),
                _ => None,
            },
            _ => None,
        });
        texts.collect::<Vec<_>>().join("\n")
    }

    /// Pictures in the content.
    pub fn images(&self) -> Vec<agent_client_protocol_schema::v1::ImageContent> {
        let images = self.content().into_iter().filter_map(|item| match item {
            ToolCallContent::Content(content) => match content.content {
                ContentBlock::Image(image) => Some(image),
                _ => None,
            },
            _ => None,
        });
        images.collect()
    }

    /// What the parts of the messages do not hold, to be kept with the result. `output` is the text of the result.
    pub fn rest(&self, output: &str, max_bytes: usize) -> Value {
        let mut rest = self.fields.clone();
        if rest.get(INPUT) == self.written_input.as_ref() {
            rest.shift_remove(INPUT);
        }
        if rest.get(OUTPUT).and_then(Value::as_str) == Some(output) {
            rest.shift_remove(OUTPUT);
        }
        if let Some(content) = rest.get_mut(CONTENT) {
            without_text(content, output);
            if is_empty(content) {
                rest.shift_remove(CONTENT);
            }
        }
        for field in [OUTPUT, CONTENT] {
            let bytes = rest.get(field).map_or(0, |value| value.to_string().len());
            if bytes > max_bytes {
                rest.shift_remove(field);
                rest.insert(format!("{field}OmittedBytes"), bytes.into());
            }
        }
        Value::Object(rest)
    }
}

fn line_text<'a>(line: &DiffLine<'a>) -> &'a str {
    match line {
        DiffLine::Same(text) | DiffLine::Removed(text) | DiffLine::Added(text) => text,
    }
}

/// The change of a file as a section of a patch.
fn patch_of_file(change: &FileChange) -> String {
    let FileChange { path, old, new } = change;
    let verb = if old.is_some() { "Update" } else { "Add" };
    let mut patch = format!("*** {verb} File: {}\n", path.display());
    for line in changed_lines(old.as_deref().unwrap_or_default(), new, CONTEXT_LINES) {
        let mark = match line {
            DiffLine::Same(_) => ' ',
            DiffLine::Removed(_) => '-',
            DiffLine::Added(_) => '+',
        };
        patch.push(mark);
        patch.push_str(line_text(&line));
        patch.push('\n');
    }
    patch
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Removes text that the result holds, and the bytes of pictures, which are stored as attachments. The blocks stay, without
/// them, so that a replay has them at their places.
fn without_text(content: &mut Value, output: &str) {
    for item in content.as_array_mut().into_iter().flatten() {
        let Some(Value::Object(block)) = item.get_mut("content") else { continue };
        match block.get("type").and_then(Value::as_str) {
            Some("text") if block.get("text").and_then(Value::as_str) == Some(output) => {
                block.shift_remove("text");
            }
            Some("image") => {
                block.shift_remove("data");
            }
            _ => {}
        }
    }
}

/// The text in a tool's own form of its output.
fn raw_output_text(raw: &Value) -> Option<String> {
    match raw {
        Value::String(text) => Some(text.clone()),
        Value::Object(fields) => OUTPUT_FIELDS
            .iter()
            .find_map(|name| fields.get(*name)?.as_str().filter(|text| !text.is_empty()))
            .map(str::to_owned)
            .or_else(|| fields.get(CONTENT).and_then(raw_output_text)),
        Value::Array(blocks) => {
            let texts: Option<Vec<&str>> =
                blocks.iter().map(|block| block.get("text").and_then(Value::as_str)).collect();
            texts.filter(|texts| !texts.is_empty()).map(|texts| texts.join("\n"))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use hfs_core::ToolInput;
    use serde_json::json;

    use super::*;

    fn call(updates: &[Value]) -> ToolCallState {
        let mut call = ToolCallState::new("1".into());
        for update in updates {
            call.merge(update.as_object().cloned().unwrap());
        }
        call
    }

    #[test]
    fn an_update_changes_only_the_fields_that_it_has() {
        let call = call(&[
            json!({"sessionUpdate": "tool_call", "toolCallId": "1", "title": "ls", "kind": "execute", "rawInput": {}}),
            json!({"toolCallId": "1", "rawInput": {"command": "ls"}, "title": null, "status": "completed"}),
        ]);
        assert_eq!((call.title().as_str(), call.kind()), ("ls", ActionKind::Execute));
        assert_eq!(call.input(), Some(&json!({"command": "ls"})));
        assert_eq!(call.status(), ToolCallStatus::Completed);
        assert!(call.typed().is_some());
    }

    #[test]
    fn the_output_is_found_wherever_agents_put_it() {
        let text = |text: &str| json!({"type": "content", "content": {"type": "text", "text": text}});
        for (update, output) in [
            (json!({"rawOutput": "plain"}), "plain"),
            (json!({"rawOutput": {"exit_code": 0, "formatted_output": "f", "stdout": "s"}}), "f"),
            (json!({"rawOutput": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}), "a\nb"),
            (json!({"rawOutput": {"content": [{"type": "text", "text": "a"}]}}), "a"),
            (json!({"content": [text("one"), text("two")]}), "one\ntwo"),
            (json!({"_meta": {"terminal_output": {"terminal_id": "t", "data": "streamed"}}}), "streamed"),
            (json!({"rawOutput": {"code": 3}}), "{\"code\":3}"),
            (json!({"content": [{"type": "diff", "path": "/a", "newText": "x"}]}), ""),
        ] {
            assert_eq!(call(&[update]).output(), output);
        }
    }

    #[test]
    fn a_change_that_is_only_in_the_content_is_an_argument_of_the_call() {
        let shown = |content: Value| {
            call(&[json!({"toolCallId": "1", "title": "Edit a.rs", "content": content})]).shown_input()
        };
        let old: String = (0..100).map(|line| format!("line {line}\n")).collect();
        let change = json!({"type": "diff", "path": "/p/a.rs", "oldText": old,
            "newText": old.replace("line 50\n", "line fifty\n")});
        let input = shown(json!([change.clone()]));
        let edit = (
            "line 47\nline 48\nline 49\nline 50\nline 51\nline 52\nline 53",
            "line 47\nline 48\nline 49\nline fifty\nline 51\nline 52\nline 53",
        );
        assert_eq!(ToolInput::of(&input), ToolInput::Edits { path: Some("/p/a.rs"), edits: vec![edit] });
        let created = json!({"type": "diff", "path": "/p/b.rs", "oldText": null, "newText": "x"});
        let input = shown(json!([created.clone()]));
        assert_eq!(ToolInput::of(&input), ToolInput::File { path: "/p/b.rs", content: "x" });
        let input = shown(json!([change.clone(), created]));
        assert_eq!(ToolInput::of(&input).changed_files(), ["/p/a.rs", "/p/b.rs"]);
        assert!(input["patch"].as_str().unwrap().contains("-line 50\n+line fifty\n"), "{input}");
        // Arguments that the agent sends are not changed.
        let update = json!({"toolCallId": "1", "rawInput": {"a": 1}, "content": [change]});
        assert_eq!(call(&[update]).shown_input(), json!({"a": 1}));
    }

    #[test]
    fn what_a_message_holds_is_not_kept_twice_and_everything_else_is() {
        let mut call = call(&[json!({
            "toolCallId": "1", "title": "Edit", "rawInput": {"a": 1}, "rawOutput": "done", "unknown": [1],
            "content": [
                {"type": "content", "content": {"type": "text", "text": "done"}},
                {"type": "diff", "path": "/a", "oldText": null, "newText": "x"},
                {"type": "content", "content": {"type": "image", "mimeType": "image/png", "data": "AAAA"}},
            ],
        })]);
        call.written_input = Some(json!({"a": 1}));
        let rest = call.rest("done", 1000);
        assert_eq!(
            rest,
            json!({
                "toolCallId": "1", "title": "Edit", "unknown": [1],
                "content": [
                    {"type": "content", "content": {"type": "text"}},
                    {"type": "diff", "path": "/a", "oldText": null, "newText": "x"},
                    {"type": "content", "content": {"type": "image", "mimeType": "image/png"}},
                ],
            })
        );
        let bounded = call.rest("done", 10);
        assert!(bounded["content"].is_null() && bounded["contentOmittedBytes"].as_u64() > Some(10));
    }
}
