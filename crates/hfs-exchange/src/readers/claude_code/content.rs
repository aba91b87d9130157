//! The content of a message as it is read: its blocks' fields in their order, the texts among them whole.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};

use crate::json::lenient::Key;
use crate::json::parse::is_safe_within;
use crate::json::scan::MAX_DEPTH;
use crate::json::{push_array, push_text, push_value};

/// Names that blocks have for their fields.
const NAMES: [&str; 12] = [
    "type",
    "text",
    "thinking",
    "signature",
    "id",
    "name",
    "input",
    "tool_use_id",
    "content",
    "is_error",
    "source",
    "cache_control",
];

/// The field that a content stands in: a message's, and a tool result's.
pub(crate) const CONTENT: &str = "content";

/// As many as most blocks have.
const USUAL_FIELDS: usize = 4;

/// A message's content.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Content {
    Text(String),
    Blocks(Vec<Block>),
    /// What no message has for its content.
    Other(Value),
}

/// A block of a content.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Block {
    Fields(Fields),
    /// What is no object.
    Other(Value),
}

/// What a field of a block holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Field {
    Value(Value),
    /// The content of a tool's result.
    Blocks(Vec<Block>),
    /// What stands in its place in a shell, as JSON.
    Json(String),
}

/// The fields of a block. There are so few that looking through all of them is the fastest way to find one.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Fields(Vec<(Cow<'static, str>, Field)>);

impl Content {
    /// Whether nothing in it may have been rounded, or is too deep.
    pub(crate) fn is_safe(&self) -> bool {
        match self {
            Self::Text(_) => true,
            Self::Blocks(blocks) => blocks.iter().all(|block| block.is_safe(2)),
            Self::Other(value) => is_safe_within(value, 1),
        }
    }

    pub(crate) fn push_json(&self, json: &mut String) {
        match self {
            Self::Text(text) => push_text(json, text),
            Self::Blocks(blocks) => push_blocks(json, blocks),
            Self::Other(value) => push_value(json, value),
        }
    }
}

impl From<Value> for Content {
    fn from(value: Value) -> Self {
        match value {
            Value::String(text) => Self::Text(text),
            Value::Array(blocks) => Self::Blocks(blocks.into_iter().map(Block::from).collect()),
            other => Self::Other(other),
        }
    }
}

impl From<Content> for Field {
    fn from(content: Content) -> Self {
        match content {
            Content::Text(text) => Self::Value(text.into()),
            Content::Blocks(blocks) => Self::Blocks(blocks),
            Content::Other(value) => Self::Value(value),
        }
    }
}

impl Block {
    fn is_safe(&self, depth: usize) -> bool {
        let is_safe = |(_, field): &(_, Field)| match field {
            Field::Value(value) => is_safe_within(value, depth + 1),
            Field::Blocks(blocks) => blocks.iter().all(|block| block.is_safe(depth + 2)),
            Field::Json(_) => true,
        };
        match self {
            Self::Fields(Fields(fields)) => depth <= MAX_DEPTH && fields.iter().all(is_safe),
            Self::Other(value) => is_safe_within(value, depth),
        }
    }

    fn push_json(&self, json: &mut String) {
        match self {
            Self::Fields(fields) => fields.push_json(json),
            Self::Other(value) => push_value(json, value),
        }
    }
}

fn push_blocks(json: &mut String, blocks: &[Block]) {
    push_array(json, blocks, |json, block| block.push_json(json));
}

impl From<Value> for Block {
    fn from(value: Value) -> Self {
        let Value::Object(map) = value else { return Self::Other(value) };
        let field = |(key, value): (String, Value)| {
            let field = if key == CONTENT { Content::from(value).into() } else { Field::Value(value) };
            (name(&key), field)
        };
        Self::Fields(Fields(map.into_iter().map(field).collect()))
    }
}

impl From<Block> for Value {
    fn from(block: Block) -> Self {
        match block {
            Block::Fields(fields) => fields.into(),
            Block::Other(value) => value,
        }
    }
}

impl From<Fields> for Value {
    fn from(Fields(fields): Fields) -> Self {
        let field = |(key, field): (Cow<'_, str>, Field)| (key.into_owned(), field.into());
        Self::Object(fields.into_iter().map(field).collect())
    }
}

impl From<Field> for Value {
    fn from(field: Field) -> Self {
        match field {
            Field::Value(value) => value,
            Field::Blocks(blocks) => blocks.into_iter().map(Self::from).collect(),
            Field::Json(json) => Self::String(json),
        }
    }
}

impl Fields {
    /// Reads the fields of an object, the last of a repeated one winning.
    fn of<'de, A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        let mut fields = Self(Vec::with_capacity(USUAL_FIELDS));
        while let Some(Key(key)) = map.next_key()? {
            let field = if key == CONTENT {
                map.next_value::<Content>()?.into()
            } else {
                Field::Value(map.next_value()?)
            };
            fields.set(name(&key), field);
        }
        Ok(fields)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Field> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, field)| field)
    }

    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut Field> {
        self.0.iter_mut().find(|(key, _)| key == name).map(|(_, field)| field)
    }

    /// A field that is a text.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            Field::Value(value) => value.as_str(),
            Field::Blocks(_) | Field::Json(_) => None,
        }
    }

    /// Takes a field out.
    pub(crate) fn take(&mut self, name: &str) -> Option<Field> {
        let index = self.0.iter().position(|(key, _)| key == name)?;
        Some(self.0.remove(index).1)
    }

    /// Takes a field out if it is a text.
    pub(crate) fn take_text(&mut self, name: &str) -> Option<String> {
        self.text(name)?;
        match self.take(name)? {
            Field::Value(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    /// Sets a field: where it is, or behind the others.
    pub(crate) fn set(&mut self, name: Cow<'static, str>, field: Field) {
        match self.get_mut(&name) {
            Some(there) => *there = field,
            None => self.0.push((name, field)),
        }
    }

    /// Whether one of the names could be taken for a mark of ours.
    pub(crate) fn has_marks(&self) -> bool {
        self.0.iter().any(|(key, _)| key.starts_with('$'))
    }

    pub(crate) fn push_json(&self, json: &mut String) {
        let mut before = '{';
        for (key, field) in &self.0 {
            json.push(std::mem::replace(&mut before, ','));
            push_text(json, key);
            json.push(':');
            match field {
                Field::Value(value) => push_value(json, value),
                Field::Blocks(blocks) => push_blocks(json, blocks),
                Field::Json(text) => json.push_str(text),
            }
        }
        json.push_str(if self.0.is_empty() { "{}" } else { "}" });
    }
}

/// A field's name, without memory of its own if it is a usual one.
fn name(key: &str) -> Cow<'static, str> {
    let known = NAMES.iter().find(|name| **name == key);
    known.map_or_else(|| Cow::Owned(key.to_owned()), |name| Cow::Borrowed(*name))
}

/// All elements of an array.
fn all<'de, T: Deserialize<'de>, A: SeqAccess<'de>>(mut seq: A) -> Result<Vec<T>, A::Error> {
    let mut items = Vec::new();
    while let Some(item) = seq.next_element()? {
        items.push(item);
    }
    Ok(items)
}

/// Visitor methods for what is neither text, array nor object.
macro_rules! plain_values {
    ($make:expr) => {
        fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
            Ok($make(Value::Bool(value)))
        }
        fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
            Ok($make(value.into()))
        }
        fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
            Ok($make(value.into()))
        }
        fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
            Ok($make(Number::from_f64(value).map_or(Value::Null, Value::Number)))
        }
        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok($make(Value::Null))
        }
    };
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Content;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a content")
            }
            plain_values!(Content::Other);
            fn visit_str<E>(self, text: &str) -> Result<Content, E> {
                Ok(Content::Text(text.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Content, A::Error> {
                all(seq).map(Content::Blocks)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Content, A::Error> {
                Fields::of(map).map(|fields| Content::Other(fields.into()))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

impl<'de> Deserialize<'de> for Block {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Block;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a block")
            }
            plain_values!(Block::Other);
            fn visit_str<E>(self, text: &str) -> Result<Block, E> {
                Ok(Block::Other(text.into()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Block, A::Error> {
                all(seq).map(|items| Block::Other(Value::Array(items)))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Block, A::Error> {
                Fields::of(map).map(Block::Fields)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::json::parse::is_safe;
    use crate::json::parse::tests::any_value;

    fn any_content() -> impl Strategy<Value = Value> {
        let name = prop_oneof![3 => prop::sample::select(&NAMES[..]).prop_map(str::to_owned), 1 => ".*"];
        let content =
            prop_oneof![any_value(), prop::collection::vec(any_value(), 0..3).prop_map(Value::from)];
        let block = prop::collection::vec((name, content), 0..5)
            .prop_map(|fields| Value::Object(fields.into_iter().collect()));
        prop_oneof![any_value(), prop::collection::vec(block, 0..4).prop_map(Value::from)]
    }

    fn json(content: &Content) -> String {
        let mut json = String::new();
        content.push_json(&mut json);
        json
    }

    proptest! {
        #[test]
        fn a_content_is_what_its_value_is(value in any_content()) {
            let read: Content = serde_json::from_str(&value.to_string()).unwrap();
            prop_assert_eq!(json(&read), value.to_string());
            prop_assert_eq!(read.is_safe(), is_safe(&value));
            prop_assert_eq!(read, Content::from(value));
        }
    }

    #[test]
    fn of_a_field_that_comes_twice_the_last_counts() {
        let read: Content = serde_json::from_str(r#"[{"a":1,"text":"b","a":2}]"#).unwrap();
        assert_eq!(json(&read), r#"[{"a":2,"text":"b"}]"#);
    }

    #[test]
    fn what_is_rounded_or_too_deep_is_not_safe() {
        let nested = |depth: usize| format!("{}1{}", "[{\"content\":".repeat(depth), "}]".repeat(depth));
        for (depth, safe) in [(20, true), (48, true), (49, false)] {
            let read: Content = serde_json::from_str(&nested(depth)).unwrap();
            assert_eq!(read.is_safe(), safe, "{depth}");
            assert_eq!(is_safe(&serde_json::from_str(&nested(depth)).unwrap()), safe, "{depth}");
        }
        assert!(!Content::from(json!([{"input": 1e300}])).is_safe());
    }
}
