//! Content in the form of Anthropic's API: a list of blocks, each with its type.
//!
//! Results of tools are messages of their own here, wherever they stand among the other blocks.

use hfs_core::{Part, Role, Timestamp};
use serde_json::{Map, Value};

use super::conversation::{ImportedMessage, as_text, inline_image, text};

/// Converts the content of a message into messages: one for the blocks up to the next result of a tool, one
/// for each result.
pub(crate) struct BlockReader<'a> {
    format: &'static str,
    /// Id of the message in the other tool.
    id: &'a str,
    role: Role,
    at: Timestamp,
    messages: Vec<ImportedMessage>,
    /// The message to which further blocks belong.
    open: Option<ImportedMessage>,
    /// Calls without an id of their own and without a result, with the ids that they were given.
    unanswered: Vec<(String, String)>,
    calls: usize,
}

impl<'a> BlockReader<'a> {
    pub(crate) fn new(format: &'static str, id: &'a str, role: Role, at: Timestamp) -> Self {
        Self { format, id, role, at, messages: Vec::new(), open: None, unanswered: Vec::new(), calls: 0 }
    }

    /// Adds a part to the message of the blocks.
    pub(crate) fn push_part(&mut self, part: Part) {
        self.open().draft.parts.push(part);
    }

    fn open(&mut self) -> &mut ImportedMessage {
        let (format, id, role, at) = (self.format, self.id, self.role, self.at);
        self.open.get_or_insert_with(|| ImportedMessage::new(format, id, role, Vec::new(), at))
    }

    /// Adds a block.
    pub(crate) fn push(&mut self, block: Value) {
        let Value::Object(fields) = &block else {
            let part = match block {
                Value::String(text) => Part::Text { text },
                raw => Part::Opaque { source: self.format.into(), raw },
            };
            return self.push_part(part);
        };
        let field = |key: &str| text(fields, key).map(str::to_owned);
        match text(fields, "type").unwrap_or_default() {
            "text" if field("text").is_some() => {
                let text = field("text").unwrap_or_default();
                if !text.is_empty() {
                    self.push_part(Part::Text { text });
                }
            }
            "thinking" => {
                let signature = field("signature").filter(|signature| !signature.is_empty());
                self.push_part(Part::Thinking { text: field("thinking").unwrap_or_default(), signature });
            }
            "redacted_thinking" => {
                self.push_part(Part::Thinking { text: String::new(), signature: field("data") });
            }
            "tool_use" | "server_tool_use" => self.push_call(fields),
            "tool_result" => self.push_result(fields),
            "image" | "document" => self.push_file(&block),
            "file" if field("content").is_some() => {
                let name = field("path");
                let content = field("content").unwrap_or_default();
                let bytes = content.len() as u64;
                self.push_part(Part::Attachment { media_type: "text/plain".into(), name, hash: None, bytes });
                self.push_part(Part::Text { text: content });
            }
            _ => self.push_part(Part::Opaque { source: self.format.into(), raw: block }),
        }
    }

    fn push_call(&mut self, fields: &Map<String, Value>) {
        self.calls += 1;
        let name = text(fields, "name").unwrap_or_default().to_owned();
        let id = text(fields, "id").filter(|id| !id.is_empty()).map(str::to_owned);
        let id = id.unwrap_or_else(|| {
            let id = format!("{}/call-{}", self.id, self.calls);
            self.unanswered.push((name.clone(), id.clone()));
            id
        });
        self.push_part(Part::ToolCall { id, name, input: fields.get("input").cloned().unwrap_or_default() });
    }

    fn push_result(&mut self, fields: &Map<String, Value>) {
        let id = text(fields, "tool_use_id").filter(|id| !id.is_empty()).map(str::to_owned);
        let id = id.unwrap_or_else(|| {
            let name = text(fields, "name").unwrap_or_default();
            let position = self.unanswered.iter().position(|(called, _)| called == name);
            position.map(|position| self.unanswered.remove(position).1).unwrap_or_default()
        });
        let (texts, files) = match fields.get("content") {
            Some(Value::Array(blocks)) => {
                let is_file = |block: &&Value| {
                    matches!(block.get("type").and_then(Value::as_str), Some("image" | "document"))
                };
                let (files, texts): (Vec<&Value>, Vec<&Value>) = blocks.iter().partition(is_file);
                (texts.into_iter().map(text_of_result).collect::<Vec<_>>().join("\n"), files)
            }
            Some(other) => (as_text(other), Vec::new()),
            None => (String::new(), Vec::new()),
        };
        let failed = fields.get("content").and_then(Value::as_array).is_some_and(|blocks| {
            !blocks.is_empty() && blocks.iter().all(|block| block.get("success") == Some(&Value::Bool(false)))
        });
        let is_error = failed || fields.get("is_error") == Some(&Value::Bool(true));
        self.close();
        let number = self.messages.len();
        let result = Part::ToolResult { id, output: texts, is_error };
        let id = format!("{}/tool-{number}", self.id);
        let mut message = ImportedMessage::new(self.format, id, Role::Tool, vec![result], self.at);
        for file in files {
            let (part, attachment) = file_part(file, self.format);
            message.draft.parts.push(part);
            message.attachments.extend(attachment);
        }
        self.messages.push(message);
    }

    fn push_file(&mut self, block: &Value) {
        let (part, attachment) = file_part(block, self.format);
        let open = self.open();
        open.draft.parts.push(part);
        open.attachments.extend(attachment);
    }

    /// Ends the message of the blocks. A second one gets an id derived from the first.
    fn close(&mut self) {
        if let Some(mut message) = self.open.take() {
            let number = self.messages.len();
            let is_first = !self.messages.iter().any(|message| message.draft.role == self.role);
            if !is_first && let Some(source) = &mut message.draft.source {
                source.id = format!("{}/{number}", self.id);
            }
            self.messages.push(message);
        }
    }

    pub(crate) fn finish(mut self) -> Vec<ImportedMessage> {
        self.close();
        self.messages
    }
}

/// The text of a block in a result. Some tools return objects with a result or an error.
fn text_of_result(block: &Value) -> String {
    let texts = ["text", "result", "error"].into_iter().find_map(|key| block.get(key)?.as_str());
    texts.map_or_else(|| as_text(block), str::to_owned)
}

/// A picture or document: inline, or by its address.
fn file_part(block: &Value, format: &str) -> (Part, Option<hfs_core::Attachment>) {
    let source = block.get("source").and_then(Value::as_object).or_else(|| block.as_object());
    let name =
        block.get("title").or_else(|| block.get("file_name")).and_then(Value::as_str).map(str::to_owned);
    let field = |key: &str| source.and_then(|source| text(source, key));
    let media_type = field("media_type").or_else(|| field("mediaType")).or_else(|| field("mimeType"));
    let media_type = media_type.unwrap_or("application/octet-stream").to_owned();
    if let Some(data) = field("data") {
        return inline_image(&media_type, data, name);
    }
    match field("url").or_else(|| field("file_uuid")) {
        Some(url) => {
            let name = name.or_else(|| Some(url.to_owned()));
            (Part::Attachment { media_type, name, hash: None, bytes: 0 }, None)
        }
        None => (Part::Opaque { source: format.to_owned(), raw: block.clone() }, None),
    }
}
