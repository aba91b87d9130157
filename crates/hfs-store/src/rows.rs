//! What rows look like: the codes and JSON in them, converted to and from the domain here and in `body`
//! alone.

use std::borrow::Cow;

use hfs_core::{
    ContentHash, DeltaKind, MessageDraft, MessageStatus, Part, PassthroughFields, Role, SessionAttributes,
    Timestamp,
};
use rusqlite::types::ValueRef;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::body;
use crate::fault::{Fault, Sql, invalid};
use crate::seal::Sum;

/// How deep a value inside a message may be nested: what every reader's stack bears.
const MAX_DEPTH: usize = 512;

/// A message's number: its branch's number and its seq.
pub(crate) fn message_no(branch: i64, seq: u64) -> Sql<i64> {
    let seq = u32::try_from(seq).map_err(|_| invalid("a branch holds at most 4294967295 messages"))?;
    let branch = i32::try_from(branch).map_err(|_| invalid("a store holds at most 2147483647 branches"))?;
    Ok(i64::from(branch) << 32 | i64::from(seq))
}

/// The seq in a message's number.
pub(crate) const fn seq_of(no: i64) -> u64 {
    (no & 0xffff_ffff).cast_unsigned()
}

/// The branch's number in a message's number.
pub(crate) const fn branch_of(no: i64) -> i64 {
    no >> 32
}

pub(crate) const fn role_code(role: Role) -> i64 {
    match role {
        Role::User => 0,
        Role::Assistant => 1,
        Role::System => 2,
        Role::Tool => 3,
    }
}

pub(crate) fn role(code: i64) -> Sql<Role> {
    match code {
        0 => Ok(Role::User),
        1 => Ok(Role::Assistant),
        2 => Ok(Role::System),
        3 => Ok(Role::Tool),
        _ => Err(Fault::Damaged(format!("{code} is not the code of a role"))),
    }
}

pub(crate) const STREAMING: i64 = 1;

pub(crate) const fn status_code(status: MessageStatus) -> i64 {
    match status {
        MessageStatus::Complete => 0,
        MessageStatus::Streaming => STREAMING,
        MessageStatus::Interrupted => 2,
    }
}

pub(crate) fn status(code: i64) -> Sql<MessageStatus> {
    match code {
        0 => Ok(MessageStatus::Complete),
        STREAMING => Ok(MessageStatus::Streaming),
        2 => Ok(MessageStatus::Interrupted),
        _ => Err(Fault::Damaged(format!("{code} is not the code of a message's status"))),
    }
}

pub(crate) const fn piece_code(kind: DeltaKind) -> i64 {
    match kind {
        DeltaKind::Text => 0,
        DeltaKind::Thinking => 1,
    }
}

pub(crate) fn piece(code: i64) -> Sql<DeltaKind> {
    match code {
        0 => Ok(DeltaKind::Text),
        1 => Ok(DeltaKind::Thinking),
        _ => Err(Fault::Damaged(format!("{code} is not the code of a kind of piece"))),
    }
}

pub(crate) fn time(micros: i64) -> Sql<Timestamp> {
    Timestamp::from_micros(micros).ok_or_else(|| Fault::Damaged(format!("{micros} is not a time")))
}

pub(crate) fn uuid(bytes: [u8; 16]) -> Uuid {
    Uuid::from_bytes(bytes)
}

/// A message as its row takes it, made before the writer's turn comes.
#[derive(Debug)]
pub(crate) struct MessageRow {
    pub(crate) id: [u8; 16],
    pub(crate) role: i64,
    pub(crate) status: i64,
    pub(crate) created_at: i64,
    pub(crate) agent: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) prompt_tokens: Option<i64>,
    pub(crate) completion_tokens: Option<i64>,
    pub(crate) source_format: Option<String>,
    pub(crate) source_id: Option<String>,
    pub(crate) body: String,
    pub(crate) extra: Option<String>,
    /// The attachments that it refers to.
    pub(crate) attachments: Vec<ContentHash>,
}

impl MessageRow {
    /// The row for a message that has come to rest: one that claims to be streaming is interrupted.
    pub(crate) fn settled(draft: &MessageDraft) -> Sql<Self> {
        let status = match draft.status {
            MessageStatus::Streaming => MessageStatus::Interrupted,
            settled => settled,
        };
        Self::new(draft, status, &draft.parts)
    }

    /// The row for a reply that begins.
    pub(crate) fn beginning(draft: &MessageDraft) -> Sql<Self> {
        Self::new(draft, MessageStatus::Streaming, &[])
    }

    fn new(draft: &MessageDraft, status: MessageStatus, parts: &[Part]) -> Sql<Self> {
        Ok(Self {
            id: *draft.id.as_uuid().as_bytes(),
            role: role_code(draft.role),
            status: status_code(status),
            created_at: draft.created_at.as_micros(),
            agent: draft.agent.clone(),
            model: draft.model.clone(),
            prompt_tokens: draft.usage.map(|usage| usage.prompt_tokens.cast_signed()),
            completion_tokens: draft.usage.map(|usage| usage.completion_tokens.cast_signed()),
            source_format: draft.source.as_ref().map(|source| source.format.clone()),
            source_id: draft.source.as_ref().map(|source| source.id.clone()),
            body: body::write(parts)?,
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
    /// The sum over the row of this number, as [`seal`](crate::seal) has it.
    pub(crate) fn sum(&self, no: i64) -> i64 {
        fn text(text: Option<&str>) -> ValueRef<'_> {
            text.map_or(ValueRef::Null, |text| ValueRef::Text(text.as_bytes()))
        }
        let number = |number: Option<i64>| number.map_or(ValueRef::Null, ValueRef::Integer);
        let mut sum = Sum::default();
        sum.add(ValueRef::Integer(no));
        sum.add(ValueRef::Blob(&self.id));
        for value in [self.role, self.status, self.created_at] {
            sum.add(ValueRef::Integer(value));
        }
        sum.add(text(self.agent.as_deref()));
        sum.add(text(self.model.as_deref()));
        sum.add(number(self.prompt_tokens));
        sum.add(number(self.completion_tokens));
        sum.add(text(self.source_format.as_deref()));
        sum.add(text(self.source_id.as_deref()));
        sum.add(ValueRef::Text(self.body.as_bytes()));
        sum.add(text(self.extra.as_deref()));
        sum.value()
    }
}

/// The JSON for what came with something; nothing for nothing.
pub(crate) fn extra_to_json(extra: &PassthroughFields) -> Sql<Option<String>> {
    if extra.unparsed_json().is_none_or(|json| !is_shallow(json)) {
        if extra.is_empty() {
            return Ok(None);
        }
        extra.as_map().values().try_for_each(check_depth)?;
    }
    let json = extra.to_json().map(Cow::into_owned);
    json.map(Some).map_err(|error| Fault::Bug(format!("a row cannot be written: {error}")))
}

/// Whether [`check_depth`] would let well-formed JSON with something in it pass.
fn is_shallow(json: &str) -> bool {
    // In short pieces, whose brackets a byte can count, this takes no time; and it tells nearly always.
    let in_piece = |piece: &[u8]| piece.iter().map(|byte| u8::from(matches!(byte, b'{' | b'['))).sum::<u8>();
    let brackets: usize = json.as_bytes().chunks(128).map(|piece| usize::from(in_piece(piece))).sum();
    brackets > 1 && (brackets <= MAX_DEPTH || depth(json) <= MAX_DEPTH)
}

/// How deep well-formed JSON is nested.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut bytes = json.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => {
                while let Some(byte) = bytes.next().filter(|byte| *byte != b'"') {
                    if byte == b'\\' {
                        bytes.next();
                    }
                }
            }
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// What came with something, of which only that it is JSON is looked at now.
pub(crate) fn extra_from_json(json: Option<&str>) -> Sql<PassthroughFields> {
    let Some(json) = json else { return Ok(PassthroughFields::new()) };
    let object: &RawValue = from_json(json)?;
    if object.get().starts_with('{') {
        return Ok(PassthroughFields::from_json(json));
    }
    Err(Fault::Damaged("what came with a row is no object".into()))
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
pub(crate) const fn is_false(value: &bool) -> bool {
    !*value
}

#[derive(Serialize, Deserialize)]
struct ShapeRow {
    name: String,
    #[serde(default, skip_serializing_if = "is_false")]
    automatic_name: bool,
    current_branch: Uuid,
    #[serde(default, skip_serializing_if = "is_false")]
    trashed: bool,
}

/// The JSON for a session's shape.
pub(crate) fn shape_to_json(shape: &SessionAttributes) -> Sql<String> {
    to_json(&ShapeRow {
        name: shape.name.clone(),
        automatic_name: shape.automatic_name,
        current_branch: *shape.current_branch.as_uuid(),
        trashed: shape.trashed,
    })
}

pub(crate) fn shape_from_json(json: &str) -> Sql<SessionAttributes> {
    let row: ShapeRow = from_json(json)?;
    Ok(SessionAttributes {
        name: row.name,
        automatic_name: row.automatic_name,
        current_branch: hfs_core::BranchId::from_uuid(row.current_branch),
        trashed: row.trashed,
    })
}

pub(crate) fn to_json(value: &impl Serialize) -> Sql<String> {
    serde_json::to_string(value).map_err(|error| Fault::Bug(format!("a row cannot be written: {error}")))
}

/// Reads JSON of any depth that [`check_depth`] lets in.
pub(crate) fn from_json<'de, T: Deserialize<'de>>(json: &'de str) -> Sql<T> {
    let mut reader = serde_json::Deserializer::from_str(json);
    reader.disable_recursion_limit();
    T::deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value))
        .map_err(|error| Fault::Damaged(format!("the JSON in a row cannot be read: {error}")))
}

/// Refuses what could not be read back on a small stack.
pub(crate) fn check_depth(value: &Value) -> Sql<()> {
    let mut pending = vec![(value, 1)];
    while let Some((next, depth)) = pending.pop() {
        if depth > MAX_DEPTH {
            return Err(invalid(format!("a value in a message is nested deeper than {MAX_DEPTH}")));
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
    fn what_came_as_json_is_refused_for_its_depth_alone() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        let text = format!("{{\"a\":\"{}\\\"\",\"b\":[]}}", "[".repeat(5000));
        for json in [nested(MAX_DEPTH), text, "{\"a\":1}".to_owned()] {
            let stored = extra_to_json(&PassthroughFields::from_json(json.as_str())).unwrap();
            assert_eq!(stored, Some(json));
        }
        assert!(extra_to_json(&PassthroughFields::from_json(nested(MAX_DEPTH + 1))).is_err());
        assert_eq!(extra_to_json(&PassthroughFields::from_json(" {} ")).unwrap(), None);
    }

    #[test]
    fn what_came_with_a_row_is_an_object_or_damage() {
        assert_eq!(extra_from_json(Some("{\"a\":[1]}")).unwrap().get("a"), Some(&serde_json::json!([1])));
        for json in ["", "[1]", "{", "{\"a\":1}}", "1"] {
            assert!(matches!(extra_from_json(Some(json)), Err(Fault::Damaged(_))), "{json:?}");
        }
    }
}
