//! What decides where a record's messages go, made of its skeleton by whoever decodes it.

use std::borrow::Cow;

use hfs_core::Timestamp;

use super::skeleton::Skeleton;
use crate::json::parse::parse_part;
use crate::records::Decode;

/// What a record is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// None of the conversation.
    Event,
    /// A user's record without content.
    Silent,
    /// So many messages of a user and of tools; `prompt` when the user says something in it.
    User { messages: u32, prompt: bool },
    /// An assistant's message, or a part of the message with this key.
    Assistant { message: Option<u128> },
}

/// Where titles stand, the one that counts most first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Title {
    ByHand,
    ByModel,
    Summary,
}

/// A record, as far as it decides where anything goes. Identities are [`key`]s.
#[derive(Debug)]
pub(crate) struct Outline {
    pub class: Class,
    pub uuid: Option<u128>,
    pub parent: Option<u128>,
    pub sidechain: bool,
    /// When it was written, where it belongs to the conversation.
    pub time: Option<Timestamp>,
    pub session: Option<String>,
    pub cwd: Option<String>,
    pub title: Option<(Title, String)>,
    /// The message that a resume goes on from, where the record tells that.
    pub leaf: Option<Option<u128>>,
    /// What tells its text from others.
    pub print: u64,
}

impl Decode for Outline {
    fn decode(text: &str) -> Option<Self> {
        parse_part(text, |json| serde_json::from_str(json).map(|record| Self::of(record, fingerprint(text))))
    }
}

impl Outline {
    fn of(record: Skeleton<'_>, print: u64) -> Self {
        let class = class(&record);
        let kind = record.kind.0.as_deref();
        let title = match kind {
            Some("custom-title") => record.custom_title.0.map(|title| (Title::ByHand, title)),
            Some("ai-title") => record.ai_title.0.map(|title| (Title::ByModel, title)),
            Some("summary") => record.summary.0.map(|title| (Title::Summary, title)),
            _ => None,
        };
        let key_of = |id: Option<Cow<'_, str>>| id.map(|id| key(&id));
        Self {
            class,
            uuid: key_of(record.uuid.0),
            parent: key_of(record.parent.0.or(record.logical_parent.0)),
            sidechain: record.sidechain.0,
            time: record.timestamp.0.filter(|_| class != Class::Event).and_then(|at| crate::time::parse(&at)),
            session: record.session.0.map(Cow::into_owned),
            cwd: record.cwd.0.map(Cow::into_owned),
            title: title.map(|(title, text)| (title, text.into_owned())),
            leaf: (kind == Some("last-prompt")).then(|| key_of(record.leaf.0)),
            print,
        }
    }
}

fn class(record: &Skeleton<'_>) -> Class {
    let content = record.message.content;
    match record.kind.0.as_deref() {
        Some("user") if record.message.present => {
            let messages = content.results + u32::from(content.other);
            if messages == 0 {
                return Class::Silent;
            }
            let set_aside = record.sidechain.0
                || record.meta.0
                || record.compact_summary.0
                || record.transcript_only.0
                || content.tagged;
            Class::User { messages, prompt: content.other && !set_aside }
        }
        Some("assistant") if record.message.present => {
            let agent = record.agent.0.as_deref().unwrap_or_default();
            let name = |id: &str| key(&format!("{id}\n{}\n{agent}", record.sidechain.0));
            Class::Assistant { message: record.message.id.0.as_deref().map(name) }
        }
        _ => Class::Event,
    }
}

/// Identities as short keys. UUIDs are their own; anything else is hashed to as many bits.
fn key(id: &str) -> u128 {
    uuid::Uuid::try_parse(id).map_or_else(
        |_| {
            let hash = blake3::hash(id.as_bytes());
            hash.as_bytes().first_chunk().map_or(0, |bytes| u128::from_le_bytes(*bytes))
        },
        |uuid| uuid.as_u128(),
    )
}

/// A hash that takes a fraction of the time that reading the text does.
fn fingerprint(text: &str) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    const fn mix(sum: u64, word: u64) -> u64 {
        (sum.rotate_left(29) ^ word).wrapping_mul(FACTOR)
    }
    // Four sums, none of which waits for another.
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
