//! Content in the form of Google's Gen AI API: a list of parts, each with the field of its kind.

use hfs_core::{Attachment, Part};
use serde_json::{Map, Value};

use super::conversation::{as_text, inline_image, text};

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
        match value {
            Value::Array(items) => items.into_iter().for_each(|item| content.push(item, format)),
            Value::Null => {}
            other => content.push(other, format),
        }
        content
    }

    /// Adds a part.
    pub(crate) fn push(&mut self, item: Value, format: &str) {
        if let Some(response) = item.get("functionResponse").and_then(Value::as_object) {
            let result = self.result(response);
            self.results.push(result);
            return;
        }
        let part = self.part(item, format);
        self.parts.extend(part);
    }

    fn part(&mut self, item: Value, format: &str) -> Option<Part> {
        let signature = item.get("thoughtSignature").and_then(Value::as_str).map(str::to_owned);
        let text_of = |item: &Value| item.as_str().or_else(|| item.get("text")?.as_str()).map(str::to_owned);
        if let Some(text) = text_of(&item) {
            return if item.get("thought") == Some(&Value::Bool(true)) {
                Some(Part::Thinking { text, signature })
            } else if text.is_empty() {
                None
            } else {
                Some(Part::Text { text })
            };
        }
        if let Some(call) = item.get("functionCall").and_then(Value::as_object) {
            let name = text(call, "name").unwrap_or_default().to_owned();
            let id = text(call, "id").unwrap_or(&name).to_owned();
            return Some(Part::ToolCall { id, name, input: call.get("args").cloned().unwrap_or_default() });
        }
        if let Some(code) = item.get("executableCode").and_then(|code| code.get("code")?.as_str()) {
            return Some(Part::text(code));
        }
        if let Some(output) =
            item.get("codeExecutionResult").and_then(|result| result.get("output")?.as_str())
        {
            return Some(Part::text(output));
        }
        Some(self.file(&item).unwrap_or_else(|| Part::Opaque { source: format.to_owned(), raw: item }))
    }

    /// A file, given inline or by its address.
    fn file(&mut self, item: &Value) -> Option<Part> {
        let field = |fields: &Map<String, Value>, key: &str| text(fields, key).map(str::to_owned);
        if let Some(data) = item.get("inlineData").and_then(Value::as_object) {
            let media_type = text(data, "mimeType").unwrap_or("application/octet-stream");
            let name = field(data, "displayName");
            let (part, attachment) = inline_image(media_type, text(data, "data").unwrap_or_default(), name);
            self.attachments.extend(attachment);
            return Some(part);
        }
        let data = item.get("fileData").and_then(Value::as_object)?;
        Some(Part::Attachment {
            media_type: field(data, "mimeType").unwrap_or_else(|| "application/octet-stream".into()),
            name: field(data, "displayName").or_else(|| field(data, "fileUri")),
            hash: None,
            bytes: 0,
        })
    }

    /// The result of a function call, followed by the files in it.
    fn result(&mut self, response: &Map<String, Value>) -> Vec<Part> {
        let id = text(response, "id").or_else(|| text(response, "name")).unwrap_or_default().to_owned();
        let content = response.get("response").unwrap_or(&Value::Null);
        let (output, is_error) = match (content.get("output"), content.get("error")) {
            (Some(output), _) => (as_text(output), false),
            (None, Some(error)) => (as_text(error), true),
            (None, None) => (as_text(content), false),
        };
        let mut parts = vec![Part::ToolResult { id, output, is_error }];
        if let Some(Value::Array(items)) = response.get("parts") {
            parts.extend(items.iter().filter_map(|item| self.file(item)));
        }
        parts
    }
}
