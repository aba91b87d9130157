//! Records as the second pass takes them: what they say of their messages, and the rest as it was written.
//!
//! Most of a record is only kept, so it stays text: a hole is left in it for what becomes of the content. Only a record
//! that says something twice, or that no value can hold faithfully, is read whole first.

mod shell;

use std::borrow::Cow;
use std::fmt;

use hfs_core::{Timestamp, Usage};
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::content::{CONTENT, Content};
use crate::json::lenient::{Count, Key, fields};
use crate::json::parse::is_faithful;
use crate::readers::RAW;
use crate::records::{Decode, Whole};
use shell::Shell;

const MESSAGE: &str = "message";

/// Fields of a record that are worth knowing wherever it came from, and what they are called then.
const FLAGS: [(&str, &str); 5] = [
    ("isSidechain", "sidechain"),
    ("isMeta", "meta"),
    ("isCompactSummary", "compact-summary"),
    ("isVisibleInTranscriptOnly", "hidden"),
    ("isApiErrorMessage", "error"),
];

/// A record.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub facts: Facts,
    /// The content of its message.
    pub content: Option<Content>,
    shell: Shell,
}

/// What is known of a record beside its content.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Facts {
    pub uuid: Option<String>,
    pub time: Option<Timestamp>,
    pub agent: Option<String>,
    pub model: Option<String>,
    pub usage: Option<Usage>,
    pub is_aborted: bool,
    /// Whether each of [`FLAGS`] is set.
    set: [bool; FLAGS.len()],
}

impl Record {
    /// The record as JSON, with this JSON for its content.
    pub(crate) fn with_content(&self, content: &str) -> String {
        self.shell.filled(content)
    }

    /// The record as it was.
    pub(crate) fn whole(&self) -> String {
        let mut content = String::new();
        match &self.content {
            Some(there) => there.push_json(&mut content),
            None => content.push_str("null"),
        }
        self.with_content(&content)
    }

    fn of(Whole { fields, raw }: Whole) -> Self {
        let mut record = Self::default();
        record.shell.open();
        for (key, value) in fields {
            match value {
                Value::Object(message) if key == MESSAGE => {
                    record.shell.key(&key);
                    record.message(message);
                }
                value => {
                    let json = value.to_string();
                    record.facts.note(&key, &json);
                    record.shell.field(&key, &json);
                }
            }
        }
        record.shell.close();
        if let Some(raw) = raw {
            record.shell = Shell::without_hole(&json!({ RAW: raw }));
        }
        record
    }

    fn message(&mut self, fields: Map<String, Value>) {
        self.shell.open();
        for (key, value) in fields {
            if key == CONTENT {
                self.shell.key(&key);
                self.shell.hole();
                self.content = Some(value.into());
            } else {
                let json = value.to_string();
                self.facts.note_of_message(&key, &json);
                self.shell.field(&key, &json);
            }
        }
        self.shell.close();
    }
}

impl Decode for Record {
    fn decode(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().or_else(|| Whole::decode(text).map(Self::of))
    }
}

impl Facts {
    /// What is worth knowing of the record, by the names that it has everywhere.
    pub(crate) fn flags(&self) -> impl Iterator<Item = &'static str> {
        FLAGS.iter().zip(self.set).filter(|(_, set)| *set).map(|((_, flag), _)| *flag)
    }

    /// Takes in one of the record's fields.
    fn note(&mut self, key: &str, json: &str) {
        match key {
            "uuid" => self.uuid = text(json),
            "agentId" => self.agent = text(json),
            "timestamp" => self.time = time(json),
            "isAbortedMidStream" => self.is_aborted = json == "true",
            _ => {
                for ((flag, _), set) in FLAGS.iter().zip(&mut self.set) {
                    *set |= *flag == key && json == "true";
                }
            }
        }
    }

    /// Takes in one of the message's fields.
    fn note_of_message(&mut self, key: &str, json: &str) {
        match key {
            "model" => self.model = text(json).filter(|model| model != "<synthetic>"),
            "usage" => self.usage = serde_json::from_str(json).ok().map(|Tokens(usage)| usage),
            _ => {}
        }
    }
}

/// The text that the JSON is, where nothing in it is escaped.
fn plain(json: &str) -> Option<&str> {
    json.strip_prefix('"')?.strip_suffix('"').filter(|text| !text.contains('\\'))
}

fn text(json: &str) -> Option<String> {
    plain(json).map(str::to_owned).or_else(|| serde_json::from_str(json).ok())
}

fn time(json: &str) -> Option<Timestamp> {
    match plain(json) {
        Some(text) => crate::time::parse(text),
        None => serde_json::from_str(json).ok().as_ref().and_then(crate::time::read),
    }
}

/// Reads a record straight away, and fails where that would not be faithful.
impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Outer;
        impl<'de> Visitor<'de> for Outer {
            type Value = Record;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a record")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Record, A::Error> {
                let mut record = Record { shell: Shell::new(), ..Record::default() };
                record.shell.open();
                each_once(&mut map, |key, map| {
                    if key == MESSAGE {
                        record.shell.key(key);
                        return map.next_value_seed(Message(&mut record));
                    }
                    let json = faithful(map)?;
                    record.facts.note(key, json);
                    record.shell.field(key, json);
                    Ok(())
                })?;
                record.shell.close();
                Ok(record)
            }
        }
        deserializer.deserialize_map(Outer)
    }
}

/// Reads the message of a record.
struct Message<'r>(&'r mut Record);

impl<'de> DeserializeSeed<'de> for Message<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Message<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a message")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self(record) = self;
        record.shell.open();
        each_once(&mut map, |key, map| {
            if key == CONTENT {
                record.shell.key(key);
                record.shell.hole();
                let content: Content = map.next_value()?;
                if !content.is_safe() {
                    return Err(A::Error::custom("not faithful"));
                }
                record.content = Some(content);
                return Ok(());
            }
            let json = faithful(map)?;
            record.facts.note_of_message(key, json);
            record.shell.field(key, json);
            Ok(())
        })?;
        record.shell.close();
        Ok(())
    }
}

/// The most fields that are looked through for one that comes twice.
const MOST_FIELDS: usize = 64;
/// More than most objects have.
const USUAL_FIELDS: usize = 24;

/// Reads the fields of an object, none of which may come twice.
fn each_once<'de, A: MapAccess<'de>>(
    map: &mut A,
    mut field: impl FnMut(&str, &mut A) -> Result<(), A::Error>,
) -> Result<(), A::Error> {
    let mut seen: Vec<Cow<'de, str>> = Vec::with_capacity(USUAL_FIELDS);
    while let Some(Key(key)) = map.next_key()? {
        if seen.len() >= MOST_FIELDS || seen.contains(&key) {
            return Err(A::Error::custom("fields that repeat themselves"));
        }
        field(&key, map)?;
        seen.push(key);
    }
    Ok(())
}

/// The JSON of a value that can be held faithfully.
fn faithful<'de, A: MapAccess<'de>>(map: &mut A) -> Result<&'de str, A::Error> {
    let json = map.next_value::<&RawValue>()?.get();
    if is_faithful(json) { Ok(json) } else { Err(A::Error::custom("not faithful")) }
}

/// What a message cost.
#[derive(Debug, Default)]
struct Tokens(Usage);

impl<'de> Deserialize<'de> for Tokens {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Tokens;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Tokens, A::Error> {
                let (mut prompt, mut completion) = ([0_u64; 3], 0);
                let [fresh, created, read] = &mut prompt;
                fields(map, |key, map| {
                    let count = match key {
                        "input_tokens" => &mut *fresh,
                        "cache_creation_input_tokens" => &mut *created,
                        "cache_read_input_tokens" => &mut *read,
                        "output_tokens" => &mut completion,
                        _ => return Ok(false),
                    };
                    Count(*count) = map.next_value()?;
                    Ok(true)
                })?;
                let prompt_tokens = prompt.into_iter().fold(0, u64::saturating_add);
                Ok(Tokens(Usage { prompt_tokens, completion_tokens: completion }))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::json::parse::tests::any_value;

    fn value(json: &str) -> Value {
        serde_json::from_str(json).unwrap()
    }

    fn whole(json: &str) -> Record {
        Record::of(Whole::decode(json).unwrap())
    }

    /// Objects with fields that mean something and others.
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
        fn a_record_comes_back_as_it_was(record in any_record()) {
            let read = Record::decode(&record.to_string()).unwrap();
            prop_assert_eq!(value(&read.whole()), record.clone());
            let content = record.get(MESSAGE).and_then(|message| message.get(CONTENT)).cloned();
            prop_assert_eq!(read.content, content.map(Content::from));
        }

        #[test]
        fn what_is_read_straight_away_is_what_is_read_whole(record in any_record()) {
            let json = record.to_string();
            if let Ok(straight) = serde_json::from_str::<Record>(&json) {
                let whole = whole(&json);
                prop_assert_eq!(&straight.facts, &whole.facts);
                prop_assert_eq!(&straight.content, &whole.content);
                let another = r#"[{"$part":[0,1]}]"#;
                prop_assert_eq!(straight.with_content(another), whole.with_content(another));
            }
        }

        #[test]
        fn no_text_hurts(text in any::<String>()) {
            let _ = Record::decode(&text);
        }
    }

    #[test]
    fn most_records_are_read_straight_away() {
        let json = r#"{"uuid":"a","timestamp":"2026-01-02T03:04:05Z","isMeta":true, "n": [1.5, -3],
            "message":{"role":"user","content":[{"type":"text","text":"\u00e9"}],"usage":null},"z":null}"#;
        let record: Record = serde_json::from_str(json).unwrap();
        assert_eq!(value(&record.whole()), value(json));
        assert_eq!(record.facts, whole(json).facts);
        assert_eq!(record.facts.flags().collect::<Vec<_>>(), ["meta"]);
    }

    #[test]
    fn what_is_not_faithful_is_read_whole() {
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
        assert_eq!(value(&raw.whole()), json!({RAW: r#"{"message":{"content":"\ud800"}}"#}));
        assert_eq!(raw.content, Some(Content::Text("\u{fffd}".into())));
    }
}
