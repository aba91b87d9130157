//! The little of each record that decides where its messages go.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::json::lenient::{Flag, Text, elements, fields, otherwise};
use crate::json::parse::parse_part;
use crate::records::Decode;

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

/// A record's skeleton, and what tells its text from others.
pub(crate) struct Printed {
    pub record: Skeleton,
    pub print: u64,
}

impl Decode for Printed {
    fn decode(text: &str) -> Option<Self> {
        parse_part(text).map(|record| Self { record, print: fingerprint(text) })
    }
}

/// A hash that takes a fraction of the time that reading the text does.
fn fingerprint(text: &str) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let (words, rest) = text.trim().as_bytes().as_chunks::<8>();
    let mut last = [0; 8];
    last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    let words = words.iter().chain([&last]).map(|word| u64::from_le_bytes(*word));
    words.fold(text.len() as u64, |sum, word| (sum.rotate_left(29) ^ word).wrapping_mul(FACTOR))
}

/// The fields of a record that place it.
#[derive(Debug, Default)]
pub(crate) struct Skeleton {
    pub kind: Text,
    pub uuid: Text,
    pub parent: Text,
    pub logical_parent: Text,
    pub session: Text,
    pub agent: Text,
    pub cwd: Text,
    pub timestamp: Text,
    pub custom_title: Text,
    pub ai_title: Text,
    pub summary: Text,
    pub leaf: Text,
    pub sidechain: Flag,
    pub meta: Flag,
    pub compact_summary: Flag,
    pub transcript_only: Flag,
    pub message: MessageShape,
}

/// What is in a record's `message`.
#[derive(Debug, Default)]
pub(crate) struct MessageShape {
    /// Whether it is an object.
    pub present: bool,
    pub id: Text,
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

impl<'de> Deserialize<'de> for Skeleton {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Skeleton;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Skeleton, A::Error> {
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
                        "message" => record.message = map.next_value()?,
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

impl<'de> Deserialize<'de> for MessageShape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = MessageShape;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<MessageShape, A::Error> {
                let mut message = MessageShape { present: true, ..MessageShape::default() };
                fields(map, |key, map| {
                    match key {
                        "id" => message.id = map.next_value()?,
                        "content" => message.content = map.next_value()?,
                        _ => return Ok(false),
                    }
                    Ok(true)
                })?;
                Ok(message)
            }
            otherwise!(MessageShape::default(); bool number str null seq);
        }
        deserializer.deserialize_any(Any)
    }
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
                            let kind: Text = map.next_value()?;
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
