//! Records as the second pass takes them: what they say of their messages, and the rest as it was written.
//!
//! Most of a record is only kept, so it stays text: a hole is left in it for what becomes of the content. Only a record
//! that says something twice, or that no value can hold faithfully, is read whole first.

use std::borrow::Cow;
use std::fmt;

use hfs_core::{Timestamp, Usage};
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::json::lenient::{Count, Key, fields};
use crate::json::parse::{is_faithful, is_safe};
use crate::readers::RAW;
use crate::records::{Decode, Whole};

const MESSAGE: &str = "message";
const CONTENT: &str = "content";

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
    pub content: Option<Value>,
    shell: Shell,
}

/// What is known of a record beside its content.
#[derive(Debug, Default)]
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

/// A record's JSON, up to where its content stood, and from there on.
#[derive(Debug, Default)]
struct Shell {
    before: String,
    after: Option<String>,
}

impl Record {
    /// The record as JSON, with this for its content.
    pub(crate) fn with_content(&self, content: &Value) -> String {
        match &self.shell.after {
            Some(after) => [self.shell.before.as_str(), &content.to_string(), after].concat(),
            None => self.shell.before.clone(),
        }
    }

    /// The record as it was.
    pub(crate) fn whole(&self) -> String {
        self.with_content(self.content.as_ref().unwrap_or(&Value::Null))
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
            record.shell = Shell { before: json!({ RAW: raw }).to_string(), after: None };
        }
        record
    }

    fn message(&mut self, fields: Map<String, Value>) {
        self.shell.open();
        for (key, value) in fields {
            if key == CONTENT {
                self.shell.key(&key);
                self.shell.hole();
                self.content = Some(value);
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

fn text(json: &str) -> Option<String> {
    // Most have nothing to be unescaped.
    json.starts_with('"').then(|| serde_json::from_str(json).ok()).flatten()
}

fn time(json: &str) -> Option<Timestamp> {
    serde_json::from_str(json).ok().as_ref().and_then(crate::time::read)
}

impl Shell {
    fn text(&mut self) -> &mut String {
        self.after.as_mut().unwrap_or(&mut self.before)
    }

    fn open(&mut self) {
        self.text().push('{');
    }

    fn close(&mut self) {
        self.text().push('}');
    }

    /// What begins here is left out.
    fn hole(&mut self) {
        self.after = Some(String::new());
    }

    fn key(&mut self, key: &str) {
        let text = self.text();
        // Right behind the hole stands the end of a value, too.
        if !text.ends_with('{') {
            text.push(',');
        }
        if key.bytes().any(|byte| matches!(byte, b'"' | b'\\' | ..=0x1f)) {
            text.push_str(&Value::from(key).to_string());
        } else {
            text.extend(["\"", key, "\""]);
        }
        text.push(':');
    }

    fn field(&mut self, key: &str, json: &str) {
        self.key(key);
        self.text().push_str(json);
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
                let mut record = Record::default();
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
                let content: Value = map.next_value()?;
                if !is_safe(&content) {
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

/// Reads the fields of an object, none of which may come twice.
fn each_once<'de, A: MapAccess<'de>>(
    map: &mut A,
    mut field: impl FnMut(&str, &mut A) -> Result<(), A::Error>,
) -> Result<(), A::Error> {
    let mut seen: Vec<Cow<'de, str>> = Vec::with_capacity(24);
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
