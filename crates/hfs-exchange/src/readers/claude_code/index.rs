//! The index of a transcript, which the first pass builds. It has one small entry per record, with the fields
//! from which the layout is computed.
//!
//! The decoding threads create the entries. The thread that builds the layout only looks up ids.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU128;

use hfs_core::{Timestamp, split_context};
use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::json::value::parse_part;
use crate::json::{LenientFlag, LenientText, default_for, for_each_element, for_each_field};
use crate::records::Decode;
use crate::transcript::WRITTEN;

/// The kind of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecordClass {
    /// Not part of the conversation.
    Other,
    /// A user's record without content.
    Empty,
    /// A user's record that becomes `messages` messages; `prompt` is set if the user wrote one of them.
    User { messages: u32, prompt: bool },
    /// A record of an assistant's message; `message` is the key of the message, if the record has its id, and `ended` is set if
    /// the record says why the message ended.
    Assistant { message: Option<Key>, ended: bool },
}

/// The origin of a title, in order of precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TitleSource {
    User,
    Model,
    Summary,
}

/// The fields of a record from which the layout is computed. Ids are shortened by [`id_key`].
#[derive(Debug)]
pub(crate) struct IndexEntry {
    pub class: RecordClass,
    pub uuid: Option<Key>,
    pub parent: Option<Key>,
    pub sidechain: bool,
    /// Whether hfs wrote the record.
    pub written: bool,
    /// Time of the record, if it is part of the conversation.
    pub time: Option<Timestamp>,
    pub session: Option<String>,
    pub cwd: Option<String>,
    pub title: Option<(TitleSource, String)>,
    /// Id of the record after which a resume continues. The outer `Option` is `None` if the record does not
    /// set it.
    pub leaf: Option<Option<Key>>,
    /// Hash of the record's text, to find duplicates.
    pub fingerprint: u64,
}

impl Decode for IndexEntry {
    fn decode(text: &str) -> Option<Self> {
        parse_part(text, |json| serde_json::from_str(json).map(|record| Self::of(record, fingerprint(text))))
    }
}

impl IndexEntry {
    fn of(record: HeaderScan<'_>, fingerprint: u64) -> Self {
        let class = class(&record);
        let kind = record.kind.0.as_deref();
        let title = match kind {
            Some("custom-title") => record.custom_title.0.map(|title| (TitleSource::User, title)),
            Some("ai-title") => record.ai_title.0.map(|title| (TitleSource::Model, title)),
            Some("summary") => record.summary.0.map(|title| (TitleSource::Summary, title)),
            _ => None,
        };
        let key_of = |id: Option<Cow<'_, str>>| id.map(|id| id_key(&id));
        Self {
            class,
            uuid: key_of(record.uuid.0),
            parent: key_of(record.parent.0.or(record.logical_parent.0)),
            sidechain: record.sidechain.0,
            written: record.written,
            time: record
                .timestamp
                .0
                .filter(|_| class != RecordClass::Other)
                .and_then(|at| crate::time::parse(&at)),
            session: record.session.0.map(Cow::into_owned),
            cwd: record.cwd.0.map(Cow::into_owned),
            title: title.map(|(title, text)| (title, text.into_owned())),
            leaf: (kind == Some("last-prompt")).then(|| key_of(record.leaf.0)),
            fingerprint,
        }
    }
}

fn class(record: &HeaderScan<'_>) -> RecordClass {
    let content = record.message.content;
    match record.kind.0.as_deref() {
        Some("user") if record.message.present => {
            let messages = content.results + u32::from(content.other);
            if messages == 0 {
                return RecordClass::Empty;
            }
            let is_generated = record.sidechain.0
                || record.meta.0
                || record.compact_summary.0
                || record.transcript_only.0
                || content.injected;
            RecordClass::User { messages, prompt: content.other && !is_generated }
        }
        Some("assistant") if record.message.present => {
            let agent = record.agent.0.as_deref().unwrap_or_default();
            // The same message id in a sidechain, or of another agent, denotes another message.
            let message_key = |id: &str| id_key(&format!("{id}\n{}\n{agent}", record.sidechain.0));
            let ended = record.message.stop_reason.0.is_some();
            RecordClass::Assistant { message: record.message.id.0.as_deref().map(message_key), ended }
        }
        // A prompt that the user entered while the agent was working. It continues the history in any case.
        Some("attachment") if record.attachment.is_prompt => RecordClass::User { messages: 1, prompt: false },
        _ => RecordClass::Other,
    }
}

/// An id, shortened by [`id_key`].
pub(crate) type Key = NonZeroU128;

/// Shortens an id to 128 bits: a UUID is used as it is, any other id is hashed.
pub(crate) fn id_key(id: &str) -> Key {
    let key = uuid::Uuid::try_parse(id).map_or_else(
        |_| {
            let hash = blake3::hash(id.as_bytes());
            hash.as_bytes().first_chunk().map_or(0, |bytes| u128::from_le_bytes(*bytes))
        },
        |uuid| uuid.as_u128(),
    );
    Key::new(key).unwrap_or(Key::MIN)
}

/// A fast hash that is not cryptographic. It only has to find exact duplicates among records with the same
/// id, and takes much less time than parsing the text.
fn fingerprint(text: &str) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    const fn mix(sum: u64, word: u64) -> u64 {
        (sum.rotate_left(29) ^ word).wrapping_mul(FACTOR)
    }
    // Four independent sums, which the CPU computes in parallel.
    let mut sums = [1, 2, 3, text.len() as u64];
    let (blocks, rest) = text.trim().as_bytes().as_chunks::<32>();
    let mut last = [0; 32];
    last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    for block in blocks.iter().chain([&last]) {
        let (words, _) = block.as_chunks::<8>();
        sums.iter_mut().zip(words).for_each(|(sum, word)| *sum = mix(*sum, u64::from_le_bytes(*word)));
    }
    sums.into_iter().fold(0, mix)
}

/// The type of the attachment that records a prompt which waited in the queue.
pub(crate) const QUEUED: &str = "queued_command";

/// The raw fields of a record from which its [`IndexEntry`] is created.
#[derive(Debug, Default)]
pub(crate) struct HeaderScan<'a> {
    pub kind: LenientText<'a>,
    pub uuid: LenientText<'a>,
    pub parent: LenientText<'a>,
    pub logical_parent: LenientText<'a>,
    pub session: LenientText<'a>,
    pub agent: LenientText<'a>,
    pub cwd: LenientText<'a>,
    pub timestamp: LenientText<'a>,
    pub custom_title: LenientText<'a>,
    pub ai_title: LenientText<'a>,
    pub summary: LenientText<'a>,
    pub leaf: LenientText<'a>,
    pub sidechain: LenientFlag,
    /// Whether the record has the field [`WRITTEN`].
    pub written: bool,
    pub meta: LenientFlag,
    pub compact_summary: LenientFlag,
    pub transcript_only: LenientFlag,
    pub message: MessageScan<'a>,
    pub attachment: AttachmentScan,
}

/// A summary of a record's `attachment`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AttachmentScan {
    /// Whether it is a prompt with content that waited in the queue.
    pub is_prompt: bool,
}

/// The fields of a record's `message`.
#[derive(Debug, Default)]
pub(crate) struct MessageScan<'a> {
    /// Whether it is an object.
    pub present: bool,
    pub id: LenientText<'a>,
    pub stop_reason: LenientText<'a>,
    pub content: ContentScan,
}

/// A summary of a message's `content`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ContentScan {
    /// Number of tool results.
    pub results: u32,
    /// Whether there is any other block.
    pub other: bool,
    /// Whether the first text is context that Claude Code inserted in the user's name.
    pub injected: bool,
}

fn is_injected(text: &str) -> bool {
    let (context, typed) = split_context(text);
    !context.is_empty() && typed.is_empty()
}

impl<'de> Deserialize<'de> for HeaderScan<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = HeaderScan<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<HeaderScan<'de>, A::Error> {
                let mut record = HeaderScan::default();
                for_each_field(map, |key, map| {
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
                            // The content of an assistant's message does not affect the layout.
                            let with_content = record.kind.0.as_deref() != Some("assistant");
                            record.message = map.next_value_seed(MessageSeed { with_content })?;
                        }
                        "attachment" => record.attachment = map.next_value()?,
                        WRITTEN => {
                            map.next_value::<IgnoredAny>()?;
                            record.written = true;
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

/// Deserializes a `message`, with or without its content.
struct MessageSeed {
    with_content: bool,
}

impl<'de> DeserializeSeed<'de> for MessageSeed {
    type Value = MessageScan<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for MessageSeed {
    type Value = MessageScan<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        let mut message = MessageScan { present: true, ..MessageScan::default() };
        for_each_field(map, |key, map| {
            match key {
                "id" => message.id = map.next_value()?,
                "stop_reason" => message.stop_reason = map.next_value()?,
                "content" if self.with_content => message.content = map.next_value()?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(message)
    }

    default_for!(MessageScan::default(); bool number str null seq);
}

impl<'de> Deserialize<'de> for AttachmentScan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = AttachmentScan;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<AttachmentScan, A::Error> {
                let (mut kind, mut prompt) = (LenientText::default(), ContentScan::default());
                for_each_field(map, |key, map| {
                    match key {
                        "type" => kind = map.next_value()?,
                        "prompt" => prompt = map.next_value()?,
                        _ => return Ok(false),
                    }
                    Ok(true)
                })?;
                let is_prompt = kind.0.as_deref() == Some(QUEUED) && (prompt.other || prompt.results > 0);
                Ok(AttachmentScan { is_prompt })
            }
            default_for!(AttachmentScan::default(); bool number str null seq);
        }
        deserializer.deserialize_any(Any)
    }
}

impl<'de> Deserialize<'de> for ContentScan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = ContentScan;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }
            fn visit_str<E>(self, text: &str) -> Result<ContentScan, E> {
                Ok(ContentScan { results: 0, other: !text.is_empty(), injected: is_injected(text) })
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<ContentScan, A::Error> {
                let mut scan = ContentScan::default();
                let mut text_seen = false;
                for_each_element(seq, |block: BlockScan| {
                    scan.results += u32::from(block.result);
                    scan.other |= !block.result;
                    if block.text && !text_seen {
                        text_seen = true;
                        scan.injected = block.injected;
                    }
                })?;
                Ok(scan)
            }
            default_for!(ContentScan::default(); bool number null map);
        }
        deserializer.deserialize_any(Any)
    }
}

/// A summary of one block.
#[derive(Debug, Default)]
struct BlockScan {
    result: bool,
    text: bool,
    injected: bool,
}

impl<'de> Deserialize<'de> for BlockScan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = BlockScan;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<BlockScan, A::Error> {
                let mut block = BlockScan::default();
                for_each_field(map, |key, map| {
                    match key {
                        "type" => {
                            let kind: LenientText<'_> = map.next_value()?;
                            block.result = kind.0.as_deref() == Some("tool_result");
                        }
                        "text" => {
                            let TextScan { text, injected } = map.next_value()?;
                            block.text = text;
                            block.injected = injected;
                        }
                        _ => return Ok(false),
                    }
                    Ok(true)
                })?;
                Ok(block)
            }
            default_for!(BlockScan::default(); bool number str null seq);
        }
        deserializer.deserialize_any(Any)
    }
}

/// Whether a value is a string that is not empty, and whether it is context that Claude Code inserted.
struct TextScan {
    text: bool,
    injected: bool,
}

impl<'de> Deserialize<'de> for TextScan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = TextScan;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }
            fn visit_str<E>(self, text: &str) -> Result<TextScan, E> {
                Ok(TextScan { text: !text.is_empty(), injected: is_injected(text) })
            }
            default_for!(TextScan { text: false, injected: false }; bool number null seq map);
        }
        deserializer.deserialize_any(Any)
    }
}
