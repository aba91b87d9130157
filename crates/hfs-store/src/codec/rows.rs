//! Conversions between columns and the types of `hfs-core`, and the row of a message.
//!
//! Only this module and [`body`] convert stored values.

use std::borrow::Cow;

use hfs_core::{
    ContentHash, MAX_JSON_DEPTH, MessageDraft, MessageStatus, Part, PassthroughFields, Role,
    SessionAttributes, Timestamp, json_depth,
};
use rusqlite::types::ValueRef;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::codec::body;
use crate::codec::checksum::RowChecksum;
use crate::codec::{CodecError, Result};

/// The row number of a message: its branch's number in the upper 32 bits, its seq in the lower.
pub(crate) fn message_no(branch: i64, seq: u64) -> Result<i64> {
    let seq = u32::try_from(seq)
        .map_err(|_| CodecError::Invalid("a branch holds at most 4294967295 messages".into()))?;
    let branch = i32::try_from(branch)
        .map_err(|_| CodecError::Invalid("a store holds at most 2147483647 branches".into()))?;
    Ok(i64::from(branch) << 32 | i64::from(seq))
}

pub(crate) const fn seq_of(no: i64) -> u64 {
    (no & 0xffff_ffff).cast_unsigned()
}

pub(crate) const fn branch_of(no: i64) -> i64 {
    no >> 32
}

/// The code of a role.
pub const fn role_code(role: Role) -> i64 {
    match role {
        Role::User => 0,
        Role::Assistant => 1,
        Role::System => 2,
        Role::Tool => 3,
    }
}

/// The role with this code.
///
/// # Errors
/// `Corrupt` for an unknown code.
pub fn role(code: i64) -> Result<Role> {
    match code {
        0 => Ok(Role::User),
        1 => Ok(Role::Assistant),
        2 => Ok(Role::System),
        3 => Ok(Role::Tool),
        _ => Err(CodecError::Corrupt(format!("{code} is not the code of a role"))),
    }
}

/// The code of the status `streaming`.
pub const STREAMING: i64 = 1;

/// The code of a status.
pub const fn status_code(status: MessageStatus) -> i64 {
    match status {
        MessageStatus::Complete => 0,
        MessageStatus::Streaming => STREAMING,
        MessageStatus::Interrupted => 2,
    }
}

/// The status with this code.
///
/// # Errors
/// `Corrupt` for an unknown code.
pub fn status(code: i64) -> Result<MessageStatus> {
    match code {
        0 => Ok(MessageStatus::Complete),
        STREAMING => Ok(MessageStatus::Streaming),
        2 => Ok(MessageStatus::Interrupted),
        _ => Err(CodecError::Corrupt(format!("{code} is not the code of a message's status"))),
    }
}

/// The time that is this many microseconds after 1970.
///
/// # Errors
/// `Corrupt` for a number that is out of range.
pub fn time(micros: i64) -> Result<Timestamp> {
    Timestamp::from_micros(micros).ok_or_else(|| CodecError::Corrupt(format!("{micros} is not a time")))
}

/// The UUID with these bytes.
pub fn uuid(bytes: [u8; 16]) -> Uuid {
    Uuid::from_bytes(bytes)
}

/// A message's row except for its number. It is built on the caller's thread, before the write transaction.
#[derive(Debug)]
#[allow(missing_docs, reason = "the fields are the columns of the table `message`")]
pub struct MessageRow {
    pub id: [u8; 16],
    pub role: i64,
    pub status: i64,
    pub created_at: i64,
    pub agent: Option<String>,
    pub model: Option<String>,
    pub prompt_tokens: Option<i64>,
    pub completion_tokens: Option<i64>,
    pub cache_read_tokens: Option<i64>,
    pub cache_write_tokens: Option<i64>,
    pub source_format: Option<String>,
    pub source_id: Option<String>,
    pub body: String,
    pub extra: Option<String>,
    /// Attachments that the message refers to.
    pub attachments: Vec<ContentHash>,
}

impl MessageRow {
    /// The final row of a message. The status `streaming` becomes `interrupted`.
    ///
    /// # Errors
    /// `Invalid` for a value that is nested too deeply.
    pub fn finalized(draft: &MessageDraft) -> Result<Self> {
        let status = match draft.status {
            MessageStatus::Streaming => MessageStatus::Interrupted,
            status => status,
        };
        Self::new(draft, status, &draft.parts)
    }

    /// The row of a new reply, which has no parts yet.
    ///
    /// # Errors
    /// `Invalid` for passthrough fields that are nested too deeply.
    pub fn streaming(draft: &MessageDraft) -> Result<Self> {
        Self::new(draft, MessageStatus::Streaming, &[])
    }

    fn new(draft: &MessageDraft, status: MessageStatus, parts: &[Part]) -> Result<Self> {
        Ok(Self {
            id: *draft.id.as_uuid().as_bytes(),
            role: role_code(draft.role),
            status: status_code(status),
            created_at: draft.created_at.as_micros(),
            agent: draft.agent.clone(),
            model: draft.model.clone(),
            prompt_tokens: draft.usage.map(|usage| usage.prompt_tokens.cast_signed()),
            completion_tokens: draft.usage.map(|usage| usage.completion_tokens.cast_signed()),
            cache_read_tokens: draft.usage.and_then(|usage| usage.cache_read_tokens).map(u64::cast_signed),
            cache_write_tokens: draft.usage.and_then(|usage| usage.cache_write_tokens).map(u64::cast_signed),
            source_format: draft.source.as_ref().map(|source| source.format.clone()),
            source_id: draft.source.as_ref().map(|source| source.id.clone()),
            body: body::encode(parts)?,
            extra: extra_to_json(&draft.extra)?,
            attachments: parts
                .iter()
                .filter_map(|part| match part {
                    Part::Attachment { hash, .. } => *hash,
                    _ => None,
                })
                .collect(),
        })
    }
}

impl MessageRow {
    /// The row's checksum under this number, equal to the one that
    /// `checksum::update_message` writes.
    pub(crate) fn checksum(&self, no: i64) -> i64 {
        fn text(text: Option<&str>) -> ValueRef<'_> {
            text.map_or(ValueRef::Null, |text| ValueRef::Text(text.as_bytes()))
        }
        let number = |number: Option<i64>| number.map_or(ValueRef::Null, ValueRef::Integer);
        let mut checksum = RowChecksum::default();
        checksum.add(ValueRef::Integer(no));
        checksum.add(ValueRef::Blob(&self.id));
        for value in [self.role, self.status, self.created_at] {
            checksum.add(ValueRef::Integer(value));
        }
        checksum.add(text(self.agent.as_deref()));
        checksum.add(text(self.model.as_deref()));
        checksum.add(number(self.prompt_tokens));
        checksum.add(number(self.completion_tokens));
        checksum.add(text(self.source_format.as_deref()));
        checksum.add(text(self.source_id.as_deref()));
        checksum.add(ValueRef::Text(self.body.as_bytes()));
        checksum.add(text(self.extra.as_deref()));
        checksum.add_later_columns([self.cache_read_tokens, self.cache_write_tokens].map(number));
        checksum.finish()
    }
}

/// The JSON of passthrough fields; `None` if there are none.
///
/// # Errors
/// `Invalid` for fields that are nested too deeply.
pub fn extra_to_json(extra: &PassthroughFields) -> Result<Option<String>> {
    // Fields that are still unparsed JSON are parsed here only if they may be empty: if the only opening bracket is that of
    // the object itself.
    let may_be_empty = match extra.unparsed_json() {
        Some(json) => {
            let brackets = count_opening_brackets(json);
            if brackets > MAX_JSON_DEPTH && json_depth(json) > MAX_JSON_DEPTH + 1 {
                return Err(nested_too_deeply());
            }
            brackets <= 1
        }
        None => {
            extra.as_map().values().try_for_each(check_depth)?;
            true
        }
    };
    if may_be_empty && extra.is_empty() {
        return Ok(None);
    }
    let json = extra.to_json().map(Cow::into_owned);
    json.map(Some).map_err(|error| CodecError::Internal(format!("a row cannot be written: {error}")))
}

/// The number of opening brackets, also those inside of strings, which is at least the depth of the nesting.
fn count_opening_brackets(json: &str) -> usize {
    // Fast: the compiler vectorizes the loop, because a chunk is short enough for a counter of type `u8`.
    let opening = |chunk: &[u8]| chunk.iter().map(|byte| u8::from(matches!(byte, b'{' | b'['))).sum::<u8>();
    json.as_bytes().chunks(128).map(|chunk| usize::from(opening(chunk))).sum()
}

/// Passthrough fields from their JSON. Checks only the syntax; the fields are parsed on first access.
///
/// # Errors
/// `Corrupt` for a text that is not a JSON object.
pub fn extra_from_json(json: Option<&str>) -> Result<PassthroughFields> {
    let Some(json) = json else { return Ok(PassthroughFields::new()) };
    let object: &RawValue = from_json(json)?;
    if object.get().starts_with('{') {
        return Ok(PassthroughFields::from_json(json));
    }
    Err(CodecError::Corrupt("the passthrough fields of a row are not a JSON object".into()))
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
pub(crate) const fn is_false(value: &bool) -> bool {
    !*value
}

#[derive(Serialize, Deserialize)]
struct AttributesJson {
    name: String,
    #[serde(default, skip_serializing_if = "is_false")]
    automatic_name: bool,
    current_branch: Uuid,
    #[serde(default, skip_serializing_if = "is_false")]
    trashed: bool,
}

/// The JSON of a session's attributes.
///
/// # Errors
/// `Internal` if they cannot be written.
pub fn attributes_to_json(attributes: &SessionAttributes) -> Result<String> {
    to_json(&AttributesJson {
        name: attributes.name.clone(),
        automatic_name: attributes.automatic_name,
        current_branch: *attributes.current_branch.as_uuid(),
        trashed: attributes.trashed,
    })
}

/// A session's attributes from their JSON.
///
/// # Errors
/// `Corrupt` for other JSON.
pub fn attributes_from_json(json: &str) -> Result<SessionAttributes> {
    let row: AttributesJson = from_json(json)?;
    Ok(SessionAttributes {
        name: row.name,
        automatic_name: row.automatic_name,
        current_branch: hfs_core::BranchId::from_uuid(row.current_branch),
        trashed: row.trashed,
    })
}

pub(crate) fn to_json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|error| CodecError::Internal(format!("a row cannot be written: {error}")))
}

/// Parses JSON without a depth limit. The depth is limited when values are written.
///
/// # Errors
/// `Corrupt` for other text.
pub fn from_json<'de, T: Deserialize<'de>>(json: &'de str) -> Result<T> {
    let mut reader = serde_json::Deserializer::from_str(json);
    reader.disable_recursion_limit();
    T::deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value))
        .map_err(|error| CodecError::Corrupt(format!("the JSON in a row cannot be read: {error}")))
}

fn nested_too_deeply() -> CodecError {
    CodecError::Invalid(format!("a value in a message is nested deeper than {MAX_JSON_DEPTH}"))
}

/// Returns an error if a value is nested too deeply to be parsed again on a small stack.
pub(crate) fn check_depth(value: &Value) -> Result<()> {
    let mut pending = vec![(value, 1)];
    while let Some((next, depth)) = pending.pop() {
        if depth > MAX_JSON_DEPTH {
            return Err(nested_too_deeply());
        }
        match next {
            Value::Array(items) => pending.extend(items.iter().map(|item| (item, depth + 1))),
            Value::Object(fields) => pending.extend(fields.values().map(|item| (item, depth + 1))),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passthrough_fields_are_rejected_only_for_their_depth() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        let text = format!("{{\"a\":\"{}\\\"\",\"b\":[]}}", "[".repeat(5000));
        for json in [nested(MAX_JSON_DEPTH), text, "{\"a\":1}".to_owned()] {
            let fields = PassthroughFields::from_json(json.as_str());
            assert!(fields.contains_key("a"), "{json}");
            let stored = extra_to_json(&fields).unwrap();
            assert_eq!(stored, Some(json));
        }
        assert!(extra_to_json(&PassthroughFields::from_json(nested(MAX_JSON_DEPTH + 1))).is_err());
        assert_eq!(extra_to_json(&PassthroughFields::from_json(" {} ")).unwrap(), None);
    }

    #[test]
    fn passthrough_fields_that_are_not_an_object_are_corruption() {
        assert_eq!(extra_from_json(Some("{\"a\":[1]}")).unwrap().get("a"), Some(&serde_json::json!([1])));
        for json in ["", "[1]", "{", "{\"a\":1}}", "1"] {
            assert!(matches!(extra_from_json(Some(json)), Err(CodecError::Corrupt(_))), "{json:?}");
        }
    }
}
