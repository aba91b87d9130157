//! Decodes the records for the second pass.
//!
//! Most fields of a record are only copied from the file into the store. They are not parsed into values and
//! serialized again, but stay JSON text in a [`RecordTemplate`], which has a placeholder for the content. A
//! record with repeated fields, or with a value that [`Value`] does not represent without loss, takes a slow
//! path through [`JsonRecord`].

use std::borrow::Cow;
use std::fmt;

use hfs_core::{MessageId, Timestamp, Usage};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::content::{CONTENT, MessageContent};
use crate::json::value::is_lossless_json;
use crate::json::{FieldName, LenientCount, LenientObject, push_text};
use crate::readers::{RAW, written_from};
use crate::records::{Decode, JsonRecord};
use crate::transcript::WRITTEN;

const MESSAGE: &str = "message";

/// Names of boolean fields of a record. Each is paired with the flag that the imported message lists under
/// [`FLAGS`](crate::readers::FLAGS).
const FLAG_FIELDS: [(&str, &str); 5] = [
    ("isSidechain", "sidechain"),
    ("isMeta", "meta"),
    ("isCompactSummary", "compact-summary"),
    ("isVisibleInTranscriptOnly", "hidden"),
    ("isApiErrorMessage", "error"),
];

/// A decoded record.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub info: RecordInfo,
    /// Content of the record's message.
    pub content: Option<MessageContent>,
    template: RecordTemplate,
}

/// The fields of a record that describe its message.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct RecordInfo {
    pub uuid: Option<String>,
    pub time: Option<Timestamp>,
    pub agent: Option<String>,
    pub model: Option<String>,
    pub usage: Option<Usage>,
    pub is_aborted: bool,
    /// The message of hfs from which an export wrote the record.
    pub written_from: Option<MessageId>,
    /// The structured content of a result of an MCP tool, as JSON.
    pub structured: Option<String>,
    /// Which of [`FLAG_FIELDS`] are set.
    set: [bool; FLAG_FIELDS.len()],
}

impl Record {
    /// The record's JSON, with `content` as the content of its message.
    pub(crate) fn with_content(&self, content: &str) -> String {
        self.template.fill(content)
    }

    /// The record's JSON with its original content.
    pub(crate) fn original_json(&self) -> String {
        let mut content = String::new();
        match &self.content {
            Some(original) => original.push_json(&mut content),
            None => content.push_str("null"),
        }
        self.with_content(&content)
    }

    fn from_json_record(JsonRecord { fields, raw }: JsonRecord) -> Self {
        let mut record = Self::default();
        record.template.open();
        for (key, value) in fields {
            match value {
                Value::Object(message) if key == MESSAGE => {
                    record.template.key(&key);
                    record.message(message);
                }
                value => {
                    let json = value.to_string();
                    record.info.set_record_field(&key, &json);
                    record.template.field(&key, &json);
                }
            }
        }
        record.template.close();
        if let Some(raw) = raw {
            record.template = RecordTemplate::without_placeholder(&json!({ RAW: raw }));
        }
        record
    }

    fn message(&mut self, fields: Map<String, Value>) {
        self.template.open();
        for (key, value) in fields {
            if key == CONTENT {
                self.template.key(&key);
                self.template.placeholder();
                self.content = Some(value.into());
            } else {
                let json = value.to_string();
                self.info.set_message_field(&key, &json);
                self.template.field(&key, &json);
            }
        }
        self.template.close();
    }
}

impl Decode for Record {
    fn decode(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().or_else(|| JsonRecord::decode(text).map(Self::from_json_record))
    }
}

impl RecordInfo {
    /// The names of the flags that are set.
    pub(crate) fn flags(&self) -> impl Iterator<Item = &'static str> {
        FLAG_FIELDS.iter().zip(self.set).filter(|(_, set)| *set).map(|((_, flag), _)| *flag)
    }

    /// Sets the value of a field of the record.
    fn set_record_field(&mut self, key: &str, json: &str) {
        match key {
            "uuid" => self.uuid = text(json),
            "agentId" => self.agent = text(json),
            "timestamp" => self.time = time(json),
            "isAbortedMidStream" => self.is_aborted = json == "true",
            WRITTEN => {
                self.written_from = serde_json::from_str(json).ok().as_ref().and_then(written_from);
            }
            "mcpMeta" => {
                let meta = serde_json::from_str::<Value>(json).unwrap_or_default();
                self.structured =
                    meta.get("structuredContent").filter(|it| !it.is_null()).map(Value::to_string);
            }
            _ => {
                for ((flag, _), set) in FLAG_FIELDS.iter().zip(&mut self.set) {
                    *set |= *flag == key && json == "true";
                }
            }
        }
    }

    /// Sets the value of a field of the record's message.
    fn set_message_field(&mut self, key: &str, json: &str) {
        match key {
            "model" => self.model = text(json).filter(|model| model != "<synthetic>"),
            "usage" => {
                let counts = serde_json::from_str(json).ok();
                self.usage =
                    counts.and_then(|LenientObject(counts)| counts).map(|counts: TokenCounts| counts.into());
            }
            _ => {}
        }
    }
}

/// The contents of a JSON string, if it contains no escapes.
fn unescaped(json: &str) -> Option<&str> {
    json.strip_prefix('"')?.strip_suffix('"').filter(|text| !text.contains('\\'))
}

fn text(json: &str) -> Option<String> {
    unescaped(json).map(str::to_owned).or_else(|| serde_json::from_str(json).ok())
}

fn time(json: &str) -> Option<Timestamp> {
    match unescaped(json) {
        Some(text) => crate::time::parse(text),
        None => serde_json::from_str(json).ok().as_ref().and_then(crate::time::from_json),
    }
}

/// The fast path. It returns an error for a record that it does not represent without loss.
impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Outer;
        impl<'de> Visitor<'de> for Outer {
            type Value = Record;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a record")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Record, A::Error> {
                let mut record = Record { template: RecordTemplate::new(), ..Record::default() };
                record.template.open();
                for_each_unique_field(&mut map, |key, map| {
                    if key == MESSAGE {
                        record.template.key(key);
                        return map.next_value_seed(MessageSeed(&mut record));
                    }
                    let json = lossless_json(map)?;
                    record.info.set_record_field(key, json);
                    record.template.field(key, json);
                    Ok(())
                })?;
                record.template.close();
                Ok(record)
            }
        }
        deserializer.deserialize_map(Outer)
    }
}

/// Deserializes the message of a record.
struct MessageSeed<'r>(&'r mut Record);

impl<'de> DeserializeSeed<'de> for MessageSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for MessageSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a message")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self(record) = self;
        record.template.open();
        for_each_unique_field(&mut map, |key, map| {
            if key == CONTENT {
                record.template.key(key);
                record.template.placeholder();
                let content: MessageContent = map.next_value()?;
                if !content.is_lossless() {
                    return Err(A::Error::custom("lossy content"));
                }
                record.content = Some(content);
                return Ok(());
            }
            let json = lossless_json(map)?;
            record.info.set_message_field(key, json);
            record.template.field(key, json);
            Ok(())
        })?;
        record.template.close();
        Ok(())
    }
}

/// Objects with more fields take the slow path: the search for repeated fields is quadratic.
const MAX_FIELDS: usize = 64;
/// Enough for most objects.
const FIELD_CAPACITY: usize = 24;

/// Calls `field` for each field of an object; fails if a field is repeated.
fn for_each_unique_field<'de, A: MapAccess<'de>>(
    map: &mut A,
    mut field: impl FnMut(&str, &mut A) -> Result<(), A::Error>,
) -> Result<(), A::Error> {
    let mut seen: Vec<Cow<'de, str>> = Vec::with_capacity(FIELD_CAPACITY);
    while let Some(FieldName(key)) = map.next_key()? {
        if seen.len() >= MAX_FIELDS || seen.contains(&key) {
            return Err(A::Error::custom("repeated field"));
        }
        field(&key, map)?;
        seen.push(key);
    }
    Ok(())
}

/// The JSON text of the next value; fails if [`Value`] does not represent it without loss.
fn lossless_json<'de, A: MapAccess<'de>>(map: &mut A) -> Result<&'de str, A::Error> {
    let json = map.next_value::<&RawValue>()?.get();
    if is_lossless_json(json) { Ok(json) } else { Err(A::Error::custom("lossy value")) }
}

/// The number of tokens that a message used.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TokenCounts {
    input_tokens: Option<LenientCount>,
    cache_creation_input_tokens: Option<LenientCount>,
    cache_read_input_tokens: Option<LenientCount>,
    output_tokens: Option<LenientCount>,
}

impl From<TokenCounts> for Usage {
    fn from(counts: TokenCounts) -> Self {
        let count = |count: Option<LenientCount>| count.map(|LenientCount(count)| count);
        let (created, read) =
            (count(counts.cache_creation_input_tokens), count(counts.cache_read_input_tokens));
        let prompt = [count(counts.input_tokens), created, read].into_iter().flatten();
        let completion = count(counts.output_tokens).unwrap_or(0);
        Self::new(prompt.fold(0, u64::saturating_add), completion).with_cache(read, created)
    }
}

/// Initial capacities for the text before and after the content, in bytes.
const CAPACITY_BEFORE: usize = 512;
const CAPACITY_AFTER: usize = 256;

/// A record's JSON, with a placeholder for the content of its message.
#[derive(Debug, Default)]
struct RecordTemplate {
    before: String,
    after: Option<String>,
}

impl RecordTemplate {
    /// A template without a placeholder.
    fn without_placeholder(value: &Value) -> Self {
        Self { before: value.to_string(), after: None }
    }

    /// The JSON with `content` in place of the placeholder, if there is one.
    fn fill(&self, content: &str) -> String {
        match &self.after {
            Some(after) => [&self.before, content, after].concat(),
            None => self.before.clone(),
        }
    }

    /// An empty template.
    fn new() -> Self {
        Self { before: String::with_capacity(CAPACITY_BEFORE), after: None }
    }

    fn text(&mut self) -> &mut String {
        self.after.as_mut().unwrap_or(&mut self.before)
    }

    fn open(&mut self) {
        self.text().push('{');
    }

    fn close(&mut self) {
        self.text().push('}');
    }

    /// Starts the text after the placeholder.
    fn placeholder(&mut self) {
        self.after = Some(String::with_capacity(CAPACITY_AFTER));
    }

    fn key(&mut self, key: &str) {
        let text = self.text();
        // Not `is_empty`: directly after the placeholder the text is empty too, and the key still needs a comma.
        if !text.ends_with('{') {
            text.push(',');
        }
        push_text(text, key);
        text.push(':');
    }

    fn field(&mut self, key: &str, json: &str) {
        self.key(key);
        self.text().push_str(json);
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::json::value::tests::any_value;

    fn value(json: &str) -> Value {
        serde_json::from_str(json).unwrap()
    }

    fn slow_path(json: &str) -> Record {
        Record::from_json_record(JsonRecord::decode(json).unwrap())
    }

    /// Objects with known and unknown fields.
    fn any_object(names: &'static [&'static str]) -> impl Strategy<Value = Value> {
        let name = prop_oneof![3 => select(names).prop_map(str::to_owned), 1 => ".*"];
        let text = "[a-z\\\\\"{}]{0,6}|2026-01-02T03:04:05Z|<synthetic>";
        let usage = any::<(u32, u32)>()
            .prop_map(|(sent, got)| json!({"input_tokens": sent, "output_tokens": got, "other": {"a": -1}}));
        let value = prop_oneof![any_value(), text.prop_map(Value::from), Just(Value::Bool(true)), usage];
        vec((name, value), 0..8).prop_map(|fields| Value::Object(fields.into_iter().collect()))
    }

    fn any_record() -> impl Strategy<Value = Value> {
        let message = any_object(&["role", "content", "model", "usage", "id"]);
        let names =
            &["uuid", "agentId", "timestamp", "isMeta", "isSidechain", "isAbortedMidStream", "message"];
        (any_object(names), prop::option::weighted(0.8, message)).prop_map(|(mut record, message)| {
            if let Some(message) = message {
                record["message"] = message;
            }
            record
        })
    }

    proptest! {
        #[test]
        fn a_record_round_trips(record in any_record()) {
            let read = Record::decode(&record.to_string()).unwrap();
            prop_assert_eq!(value(&read.original_json()), record.clone());
            let content = record.get(MESSAGE).and_then(|message| message.get(CONTENT)).cloned();
            prop_assert_eq!(read.content, content.map(MessageContent::from));
        }

        #[test]
        fn the_fast_path_agrees_with_the_slow_path(record in any_record()) {
            let json = record.to_string();
            if let Ok(fast) = serde_json::from_str::<Record>(&json) {
                let slow = slow_path(&json);
                prop_assert_eq!(&fast.info, &slow.info);
                prop_assert_eq!(&fast.content, &slow.content);
                let another = r#"[{"$part":[0,1]}]"#;
                prop_assert_eq!(fast.with_content(another), slow.with_content(another));
            }
        }

        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _ = Record::decode(&text);
        }
    }

    #[test]
    fn usual_records_take_the_fast_path() {
        let json = r#"{"uuid":"a","timestamp":"2026-01-02T03:04:05Z","isMeta":true, "n": [1.5, -3],
            "message":{"role":"user","content":[{"type":"text","text":"\u00e9"}],"usage":null},"z":null}"#;
        let record: Record = serde_json::from_str(json).unwrap();
        assert_eq!(value(&record.original_json()), value(json));
        assert_eq!(record.info, slow_path(json).info);
        assert_eq!(record.info.flags().collect::<Vec<_>>(), ["meta"]);
    }

    #[test]
    fn lossy_records_take_the_slow_path() {
        for json in [
            r#"{"a":1,"a":2}"#,
            r#"{"message":{"content":1,"content":2}}"#,
            r#"{"a":123456789012345678901}"#,
            r#"{"a":{"b":["\ud800"]}}"#,
            r#"{"message":{"content":[1e300]}}"#,
            r#"{"message":"no object"}"#,
        ] {
            assert!(serde_json::from_str::<Record>(json).is_err(), "{json}");
            assert!(Record::decode(json).is_some(), "{json}");
        }
        let raw = Record::decode(r#"{"message":{"content":"\ud800"}}"#).unwrap();
        assert_eq!(value(&raw.original_json()), json!({RAW: r#"{"message":{"content":"\ud800"}}"#}));
        assert_eq!(raw.content, Some(MessageContent::Text("\u{fffd}".into())));
    }
}
