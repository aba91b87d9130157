//! Restores records that were imported, from their stored form and the parts of their message.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hfs_core::{Part, StoreError};
use serde_json::{Map, Value};

use crate::export::{DocumentSource, ExportError};
use crate::readers::claude_code::{PART, TEXT};

/// Replaces each reference `{"$part": [message, part]}` in a record by the string or value that it stands for.
///
/// The readers of formats whose content is strings store such references; Claude Code's blocks have a form of their own.
pub(super) fn resolve_references(
    source: &dyn DocumentSource,
    record: &mut Value,
    parts: &[Part],
) -> Result<(), ExportError> {
    // Iterative, because imported values may be nested deeper than the stack allows.
    let mut pending = vec![record];
    while let Some(value) = pending.pop() {
        let replacement = match value {
            Value::Object(fields) => referred_part(fields, parts)
                .map(|part| replacement(source, part, fields.get(TEXT)))
                .transpose()?,
            _ => None,
        };
        match (replacement, value) {
            (Some(replacement), value) => *value = replacement,
            (None, Value::Object(fields)) => pending.extend(fields.values_mut()),
            (None, Value::Array(items)) => pending.extend(items.iter_mut()),
            (None, _) => {}
        }
    }
    Ok(())
}

fn referred_part<'p>(fields: &Map<String, Value>, parts: &'p [Part]) -> Option<&'p Part> {
    let position = fields.get(PART)?.as_array()?;
    parts.get(usize::try_from(position.get(1)?.as_u64()?).ok()?)
}

fn replacement(
    source: &dyn DocumentSource,
    part: &Part,
    range: Option<&Value>,
) -> Result<Value, ExportError> {
    Ok(match part {
        Part::Text { text } | Part::Thinking { text, .. } => range_of(text, range).into(),
        Part::ToolResult { output, .. } => range_of(output, range).into(),
        Part::ToolCall { input, .. } => input.clone(),
        Part::Attachment { media_type, hash: Some(hash), .. } => match source.attachment(*hash) {
            Ok(bytes) => format!("data:{media_type};base64,{}", STANDARD.encode(bytes)).into(),
            Err(StoreError::NotFound { .. }) => Value::String(String::new()),
            Err(error) => return Err(error.into()),
        },
        Part::Attachment { name, .. } => name.clone().into(),
        Part::Opaque { raw, .. } => raw.clone(),
    })
}

fn range_of<'t>(text: &'t str, range: Option<&Value>) -> &'t str {
    range.map_or(text, |range| slice(text, range))
}

/// The range `[start, length]` of a text; the whole text if the range is invalid because the text was changed.
pub(super) fn slice<'t>(text: &'t str, range: &Value) -> &'t str {
    let at = |index: usize| range.get(index).and_then(Value::as_u64).and_then(|at| usize::try_from(at).ok());
    let found = at(0).zip(at(1)).and_then(|(start, length)| text.get(start..start.checked_add(length)?));
    found.unwrap_or(text)
}
