//! The little of each record that decides where its messages go.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::json::lenient::{Flag, Text, elements, fields, otherwise};

/// How texts begin that the tool itself put into the user's mouth.
const HARNESS_TAGS: [&str; 9] = [
    "<command-name>",
    "<command-message>",
    "<local-command-",
    "<bash-input>",
    "<bash-stdout>",
    "<bash-stderr>",
    "<system-reminder>",
    "<task-notification>",
    "Caveat:",
];

/// The fields of a record that place it.
#[derive(Debug, Default)]
pub(crate) struct Skeleton<'a> {
    pub kind: Text<'a>,
    pub uuid: Text<'a>,
    pub parent: Text<'a>,
    pub logical_parent: Text<'a>,
    pub session: Text<'a>,
    pub agent: Text<'a>,
    pub cwd: Text<'a>,
    pub timestamp: Text<'a>,
    pub custom_title: Text<'a>,
    pub ai_title: Text<'a>,
    pub summary: Text<'a>,
    pub leaf: Text<'a>,
    pub sidechain: Flag,
    pub meta: Flag,
    pub compact_summary: Flag,
    pub transcript_only: Flag,
    pub message: MessageShape<'a>,
}

/// What is in a record's `message`.
#[derive(Debug, Default)]
pub(crate) struct MessageShape<'a> {
    /// Whether it is an object.
    pub present: bool,
    pub id: Text<'a>,
    pub content: ContentShape,
}

/// What is in a message's `content`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ContentShape {
    /// How many tool results.
    pub results: u32,
    /// Whether there is anything else.
    pub other: bool,
    /// Whether its text begins with a tag of the tool's own.
    pub tagged: bool,
}

fn tagged(text: &str) -> bool {
    HARNESS_TAGS.iter().any(|tag| text.starts_with(tag))
}

impl<'de> Deserialize<'de> for Skeleton<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Skeleton<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Skeleton<'de>, A::Error> {
                let mut record = Skeleton::default();
                fields(map, |key, map| {
                    match key {
                        "type" => record.kind = map.next_value()?,
                        "uuid" => record.uuid = map.next_value()?,
                        "parentUuid" => record.parent = map.next_value()?,
                        "logicalParentUuid" => record.logical_parent = map.next_value()?,
                        "sessionId" => record.session = map.next_value()?,
                        "agentId" => record.agent = map.next_value()?,
                        "cwd" => record.cwd = map.next_value()?,
                        "timestamp" => record.timestamp = map.next_value()?,
                        "customTitle" => record.custom_title = map.next_value()?,
                        "aiTitle" => record.ai_title = map.next_value()?,
                        "summary" => record.summary = map.next_value()?,
                        "leafUuid" => record.leaf = map.next_value()?,
                        "isSidechain" => record.sidechain = map.next_value()?,
                        "isMeta" => record.meta = map.next_value()?,
                        "isCompactSummary" => record.compact_summary = map.next_value()?,
                        "isVisibleInTranscriptOnly" => record.transcript_only = map.next_value()?,
                        "message" => {
                            // Nothing in an assistant's content decides anything.
                            let with_content = record.kind.0.as_deref() != Some("assistant");
                            record.message = map.next_value_seed(Message { with_content })?;
                        }
                        _ => return Ok(false),
                    }
                    Ok(true)
                })?;
                Ok(record)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// Reads what is in a `message`; its content only where that is asked for.
struct Message {
    with_content: bool,
}

impl<'de> DeserializeSeed<'de> for Message {
    type Value = MessageShape<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Message {
    type Value = MessageShape<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        let mut message = MessageShape { present: true, ..MessageShape::default() };
        fields(map, |key, map| {
            match key {
                "id" => message.id = map.next_value()?,
                "content" if self.with_content => message.content = map.next_value()?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(message)
    }

    otherwise!(MessageShape::default(); bool number str null seq);
}

impl<'de> Deserialize<'de> for ContentShape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = ContentShape;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }
            fn visit_str<E>(self, text: &str) -> Result<ContentShape, E> {
                Ok(ContentShape { results: 0, other: !text.is_empty(), tagged: tagged(text) })
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<ContentShape, A::Error> {
                let mut shape = ContentShape::default();
                let mut text_seen = false;
                elements(seq, |block: BlockShape| {
                    shape.results += u32::from(block.result);
                    shape.other |= !block.result;
                    if block.text && !text_seen {
                        text_seen = true;
                        shape.tagged = block.tagged;
                    }
                })?;
                Ok(shape)
            }
            otherwise!(ContentShape::default(); bool number null map);
        }
        deserializer.deserialize_any(Any)
    }
}

/// What one block of a content is.
#[derive(Debug, Default)]
struct BlockShape {
    result: bool,
    text: bool,
    tagged: bool,
}

impl<'de> Deserialize<'de> for BlockShape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = BlockShape;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<BlockShape, A::Error> {
                let mut block = BlockShape::default();
                fields(map, |key, map| {
                    match key {
                        "type" => {
                            let kind: Text<'_> = map.next_value()?;
                            block.result = kind.0.as_deref() == Some("tool_result");
                        }
                        "text" => {
                            let Beginning { text, tagged } = map.next_value()?;
                            block.text = text;
                            block.tagged = tagged;
                        }
                        _ => return Ok(false),
                    }
                    Ok(true)
                })?;
                Ok(block)
            }
            otherwise!(BlockShape::default(); bool number str null seq);
        }
        deserializer.deserialize_any(Any)
    }
}

/// Whether a field is a text that says something, and begins with a tag.
struct Beginning {
    text: bool,
    tagged: bool,
}

impl<'de> Deserialize<'de> for Beginning {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Beginning;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }
            fn visit_str<E>(self, text: &str) -> Result<Beginning, E> {
                Ok(Beginning { text: !text.is_empty(), tagged: tagged(text) })
            }
            otherwise!(Beginning { text: false, tagged: false }; bool number null seq map);
        }
        deserializer.deserialize_any(Any)
    }
}
