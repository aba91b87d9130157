//! Content in the form of Google's Gen AI API: a list of parts, each with the field of its kind. Gemini CLI and Qwen Code store it.

use hfs_core::{Attachment, Part};
use serde_json::Value;

use super::content::{ToolOutput, file_of};
use super::conversation::text;

/// The parts of a message, without results of function calls.
#[derive(Debug, Default)]
pub(crate) struct Content {
    pub parts: Vec<Part>,
    pub attachments: Vec<Attachment>,
    /// For each result of a function call: the result, followed by its files.
    pub results: Vec<Vec<Part>>,
}

impl Content {
    /// Converts a list of parts, one part, or a text.
    pub(crate) fn from_value(value: Value, format: &str) -> Self {
        let mut content = Self::default();
        items(value).into_iter().for_each(|item| content.push(item, format));
        content
    }

    /// Adds a part.
    pub(crate) fn push(&mut self, item: Value, format: &str) {
        match FunctionResult::of(&item) {
            Some(FunctionResult { id, output, is_error }) => {
                let mut parts = vec![Part::ToolResult { id, output: output.text, is_error }];
                parts.extend(output.files);
                self.results.push(parts);
                self.attachments.extend(output.attachments);
            }
            None => self.parts.extend(part(item, format, &mut self.attachments)),
        }
    }
}

/// The items of a content, which is a list of parts, one part, or a text.
pub(crate) fn items(content: Value) -> Vec<Value> {
    match content {
        Value::Array(items) => items,
        Value::Null => Vec::new(),
        other => vec![other],
    }
}

/// Converts a part that is not the result of a function call; `None` if it is an empty text.
pub(crate) fn part(item: Value, format: &str, attachments: &mut Vec<Attachment>) -> Option<Part> {
    let signature = item.get("thoughtSignature").and_then(Value::as_str).map(str::to_owned);
    if let Some(text) = item.as_str().or_else(|| item.get("text")?.as_str()).map(str::to_owned) {
        return if item.get("thought") == Some(&Value::Bool(true)) {
            Some(Part::Thinking { text, signature })
        } else {
            (!text.is_empty()).then_some(Part::Text { text })
        };
    }
    if let Some(call) = item.get("functionCall").and_then(Value::as_object) {
        let name = text(call, "name").unwrap_or_default().to_owned();
        let id = text(call, "id").unwrap_or(&name).to_owned();
        return Some(Part::ToolCall { id, name, input: call.get("args").cloned().unwrap_or_default() });
    }
    let executed = ["executableCode", "codeExecutionResult"].into_iter().find_map(|key| item.get(key));
    if let Some(code) = executed.and_then(|code| code.get("code").or_else(|| code.get("output"))?.as_str()) {
        return Some(Part::text(code));
    }
    Some(match item.as_object().and_then(file_of) {
        Some(file) => {
            attachments.extend(file.attachment);
            file.part
        }
        None => Part::Opaque { source: format.to_owned(), raw: item },
    })
}

/// The result of a function call.
#[derive(Debug)]
pub(crate) struct FunctionResult {
    pub id: String,
    pub output: ToolOutput,
    pub is_error: bool,
}

impl FunctionResult {
    /// `None` if the item is another part.
    pub(crate) fn of(item: &Value) -> Option<Self> {
        let response = item.get("functionResponse")?.as_object()?;
        let id = text(response, "id").or_else(|| text(response, "name")).unwrap_or_default().to_owned();
        let content = response.get("response").unwrap_or(&Value::Null);
        let (content, is_error) = match (content.get("output"), content.get("error")) {
            (Some(output), _) => (output, false),
            (None, Some(error)) => (error, true),
            (None, None) => (content, false),
        };
        let mut output = ToolOutput::new(content);
        for part in response.get("parts").and_then(Value::as_array).into_iter().flatten() {
            output.add(part);
        }
        Some(Self { id, output, is_error })
    }
}
