//! Imported records, put together again from their shells and the parts that their content became.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hfs_core::{Message, Part, StoreError};
use serde_json::{Map, Value, json};

use crate::export::{DocumentSource, ExportError};
use crate::readers::claude_code::{PART, TEXT, WITHOUT};

/// The messages of one record, the first of which keeps its shell.
pub(super) struct Pieces<'a> {
    pub source: &'a dyn DocumentSource,
    pub messages: &'a [Message],
}

impl Pieces<'_> {
    /// The record whose shell this is.
    pub(super) fn record(&self, shell: &Value) -> Result<Value, ExportError> {
        let mut record = shell.clone();
        if let Some(content) = record.get_mut("message").and_then(|message| message.get_mut("content")) {
            *content = self.content(content)?;
        }
        Ok(record)
    }

    fn content(&self, content: &Value) -> Result<Value, ExportError> {
        match content {
            Value::Array(items) => {
                items.iter().map(|item| self.block(item)).collect::<Result<Vec<_>, _>>().map(Value::Array)
            }
            Value::Object(fields) if fields.contains_key(PART) => match self.part(fields) {
                Some(Part::Text { text }) => Ok(text.clone().into()),
                Some(Part::Opaque { raw, .. }) => Ok(raw.clone()),
                _ => Ok(Value::Null),
            },
            other => Ok(other.clone()),
        }
    }

    fn part(&self, reference: &Map<String, Value>) -> Option<&Part> {
        let place = reference.get(PART)?.as_array()?;
        let at = |index: usize| place.get(index)?.as_u64().and_then(|at| usize::try_from(at).ok());
        self.messages.get(at(0)?)?.content.parts.get(at(1)?)
    }

    fn block(&self, item: &Value) -> Result<Value, ExportError> {
        let Value::Object(reference) = item else { return Ok(item.clone()) };
        if !reference.contains_key(PART) {
            return Ok(item.clone());
        }
        let Some(part) = self.part(reference) else { return Ok(Value::Null) };
        let mut rest = reference.clone();
        rest.shift_remove(PART);
        let without = rest.shift_remove(WITHOUT);
        let mut block = match part {
            Part::Text { text } => json!({"type": "text", "text": text}),
            Part::Thinking { signature, .. }
                if rest.get("type").and_then(Value::as_str) == Some("redacted_thinking") =>
            {
                json!({ "data": signature })
            }
            Part::Thinking { text, signature: Some(signature) } => {
                json!({"type": "thinking", "thinking": text, "signature": signature})
            }
            Part::Thinking { text, signature: None } => json!({"type": "thinking", "thinking": text}),
            Part::ToolCall { id, name, input } => {
                json!({"type": "tool_use", "id": id, "name": name, "input": input})
            }
            Part::ToolResult { id, output, is_error } => {
                let content = match rest.shift_remove("content") {
                    Some(Value::Array(items)) => self.result(items, output)?,
                    Some(other) => other,
                    None => output.clone().into(),
                };
                let mut block = json!({"type": "tool_result", "tool_use_id": id, "content": content});
                if *is_error && let Value::Object(fields) = &mut block {
                    fields.insert("is_error".into(), true.into());
                }
                block
            }
            Part::Attachment { hash, .. } => {
                if let Some(hash) = hash
                    && let Some(Value::Object(source)) = rest.get_mut("source")
                {
                    match self.source.attachment(*hash) {
                        Ok(bytes) => source.insert("data".into(), STANDARD.encode(bytes).into()),
                        Err(StoreError::NotFound { .. }) => None,
                        Err(error) => return Err(error.into()),
                    };
                }
                json!({})
            }
            Part::Opaque { raw, .. } => return Ok(raw.clone()),
        };
        if let Value::Object(fields) = &mut block {
            fields.extend(rest);
            for name in without.iter().filter_map(Value::as_array).flatten().filter_map(Value::as_str) {
                fields.shift_remove(name);
            }
        }
        Ok(block)
    }

    /// The elements of a tool result's content.
    fn result(&self, items: Vec<Value>, output: &str) -> Result<Value, ExportError> {
        let mut restored = Vec::with_capacity(items.len());
        for mut item in items {
            if let Value::Object(fields) = &mut item
                && let Some(stretch) = fields.shift_remove(TEXT)
            {
                fields.insert("text".into(), cut(output, &stretch).into());
                restored.push(item);
            } else {
                restored.push(self.block(&item)?);
            }
        }
        Ok(Value::Array(restored))
    }
}

/// A stretch of a text; all of it, when it has changed so that the stretch is no longer one.
fn cut<'t>(text: &'t str, stretch: &Value) -> &'t str {
    let at =
        |index: usize| stretch.get(index).and_then(Value::as_u64).and_then(|at| usize::try_from(at).ok());
    let found = at(0).zip(at(1)).and_then(|(start, length)| text.get(start..start.checked_add(length)?));
    found.unwrap_or(text)
}
