//! The index of a transcript, which the first pass builds, and the layout of the session, which is computed from it: the branch
//! and message that each record belongs to.
//!
//! The index has one small entry per record. The decoding threads create the entries; the thread that collects them only looks up
//! ids.
//!
//! Each record of Claude Code contains the id of its parent. A record often has several children because of
//! parallel tool calls and hooks. Such a record is a fork only if several prompts of the user follow the same
//! message, which means that the user went back and asked something else, or if hfs wrote the second child: hfs writes
//! each of its branches as a chain.
//!
//! The index is kept for the next import. If the transcript has grown by then, the layouts of the old and of the new index show which
//! messages have changed.

use std::borrow::Cow;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::num::NonZeroU128;

use hfs_core::{Seq, Timestamp, split_context};
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

use crate::json::{LenientFlag, LenientObject, LenientText, default_for, parse};
use crate::records::{Decode, RecordPosition};
use crate::resume::LineStart;

/// The kind of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RecordKind {
    /// Not part of the conversation.
    Other,
    /// The same record as an earlier one. The index decides it: a record alone is never of this kind.
    Duplicate,
    /// A user's record without content.
    Empty,
    /// A user's record that becomes `messages` messages; `prompt` is set if the user wrote one of them.
    User { messages: u32, prompt: bool },
    /// A record of an assistant's message; `message` is the key of the message, if the record has its id, and `ended` is set if
    /// the record says why the message ended.
    Assistant { message: Option<Key>, ended: bool },
}

impl RecordKind {
    const fn in_conversation(self) -> bool {
        matches!(self, Self::Empty | Self::User { .. } | Self::Assistant { .. })
    }
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
    pub kind: RecordKind,
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
    /// Hash of the record's text, to find duplicates among records with the same id.
    pub hash: u64,
}

impl Decode for IndexEntry {
    fn decode(text: &str) -> Option<Self> {
        let hash = XxHash3_64::oneshot(text.trim().as_bytes());
        if text.trim_start().starts_with('{')
            && let Ok(scan) = serde_json::from_str(text)
        {
            return Some(Self::of(scan, hash));
        }
        // A field is repeated, or a text has to be repaired.
        let value = parse(text).map(|parsed| parsed.value).filter(serde_json::Value::is_object)?;
        HeaderScan::deserialize(&value).ok().map(|scan| Self::of(scan, hash))
    }
}

impl IndexEntry {
    fn of(record: HeaderScan<'_>, hash: u64) -> Self {
        let kind = kind_of(&record);
        let written_kind = record.kind.0.as_deref();
        let title = match written_kind {
            Some("custom-title") => record.custom_title.0.map(|title| (TitleSource::User, title)),
            Some("ai-title") => record.ai_title.0.map(|title| (TitleSource::Model, title)),
            Some("summary") => record.summary.0.map(|title| (TitleSource::Summary, title)),
            _ => None,
        };
        let key_of = |id: Option<Cow<'_, str>>| id.map(|id| id_key(&id));
        Self {
            kind,
            uuid: key_of(record.uuid.0),
            parent: key_of(record.parent.0.or(record.logical_parent.0)),
            sidechain: record.sidechain.0,
            written: record.written.is_some(),
            time: record
                .timestamp
                .0
                .filter(|_| kind != RecordKind::Other)
                .and_then(|at| crate::time::parse(&at)),
            session: record.session.0.map(Cow::into_owned),
            cwd: record.cwd.0.map(Cow::into_owned),
            title: title.map(|(title, text)| (title, text.into_owned())),
            leaf: (written_kind == Some("last-prompt")).then(|| key_of(record.leaf.0)),
            hash,
        }
    }
}

fn kind_of(record: &HeaderScan<'_>) -> RecordKind {
    match (record.kind.0.as_deref(), &record.message.0) {
        (Some("user"), Some(message)) => {
            let content = message.content;
            let messages = content.results + u32::from(content.other);
            if messages == 0 {
                return RecordKind::Empty;
            }
            let is_generated = record.sidechain.0
                || record.meta.0
                || record.compact_summary.0
                || record.transcript_only.0
                || content.injected;
            RecordKind::User { messages, prompt: content.other && !is_generated }
        }
        (Some("assistant"), Some(message)) => {
            let agent = record.agent.0.as_deref().unwrap_or_default();
            // The same message id in a sidechain, or of another agent, denotes another message.
            let message_key = |id: &str| id_key(&format!("{id}\n{}\n{agent}", record.sidechain.0));
            let ended = message.stop_reason.0.is_some();
            RecordKind::Assistant { message: message.id.0.as_deref().map(message_key), ended }
        }
        // A prompt that the user entered while the agent was working. It continues the history in any case.
        (Some("attachment"), _) if record.attachment.0.as_ref().is_some_and(AttachmentScan::is_prompt) => {
            RecordKind::User { messages: 1, prompt: false }
        }
        _ => RecordKind::Other,
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

/// The type of the attachment that records a prompt which waited in the queue.
pub(crate) const QUEUED: &str = "queued_command";

/// The fields of a record from which its [`IndexEntry`] is created. All other fields are skipped.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct HeaderScan<'a> {
    #[serde(borrow, rename = "type")]
    kind: LenientText<'a>,
    #[serde(borrow)]
    uuid: LenientText<'a>,
    #[serde(borrow, rename = "parentUuid")]
    parent: LenientText<'a>,
    #[serde(borrow, rename = "logicalParentUuid")]
    logical_parent: LenientText<'a>,
    #[serde(borrow, rename = "sessionId")]
    session: LenientText<'a>,
    #[serde(borrow, rename = "agentId")]
    agent: LenientText<'a>,
    #[serde(borrow)]
    cwd: LenientText<'a>,
    #[serde(borrow)]
    timestamp: LenientText<'a>,
    #[serde(borrow)]
    custom_title: LenientText<'a>,
    #[serde(borrow)]
    ai_title: LenientText<'a>,
    #[serde(borrow)]
    summary: LenientText<'a>,
    #[serde(borrow, rename = "leafUuid")]
    leaf: LenientText<'a>,
    #[serde(rename = "isSidechain")]
    sidechain: LenientFlag,
    /// Set if hfs wrote the record: the field [`WRITTEN`](crate::transcript::WRITTEN).
    #[serde(rename = "hfs")]
    written: Option<IgnoredAny>,
    #[serde(rename = "isMeta")]
    meta: LenientFlag,
    #[serde(rename = "isCompactSummary")]
    compact_summary: LenientFlag,
    #[serde(rename = "isVisibleInTranscriptOnly")]
    transcript_only: LenientFlag,
    #[serde(borrow)]
    message: LenientObject<MessageScan<'a>>,
    #[serde(borrow)]
    attachment: LenientObject<AttachmentScan<'a>>,
}

/// The fields of a record's `message`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct MessageScan<'a> {
    #[serde(borrow)]
    id: LenientText<'a>,
    #[serde(borrow)]
    stop_reason: LenientText<'a>,
    content: ContentScan,
}

/// The fields of a record's `attachment`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct AttachmentScan<'a> {
    #[serde(borrow, rename = "type")]
    kind: LenientText<'a>,
    prompt: ContentScan,
}

impl AttachmentScan<'_> {
    /// Whether it is a prompt with content that waited in the queue.
    fn is_prompt(&self) -> bool {
        self.kind.0.as_deref() == Some(QUEUED) && (self.prompt.other || self.prompt.results > 0)
    }
}

/// A summary of a message's content, which is a text or a list of blocks.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct ContentScan {
    /// Number of tool results.
    results: u32,
    /// Whether there is any other block.
    other: bool,
    /// Whether the first text is context that Claude Code inserted in the user's name.
    injected: bool,
}

/// The fields of a block.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct BlockScan<'a> {
    #[serde(borrow, rename = "type")]
    kind: LenientText<'a>,
    #[serde(borrow)]
    text: LenientText<'a>,
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
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<ContentScan, A::Error> {
                let mut scan = ContentScan::default();
                let mut text_seen = false;
                while let Some(LenientObject(block)) = seq.next_element::<LenientObject<BlockScan<'de>>>()? {
                    let BlockScan { kind, text } = block.unwrap_or_default();
                    let is_result = kind.0.as_deref() == Some("tool_result");
                    scan.results += u32::from(is_result);
                    scan.other |= !is_result;
                    if let Some(text) = text.0.filter(|text| !text.is_empty() && !text_seen) {
                        text_seen = true;
                        scan.injected = is_injected(&text);
                    }
                }
                Ok(scan)
            }
            default_for!(ContentScan::default(); bool number null map);
        }
        deserializer.deserialize_any(Any)
    }
}

fn is_injected(text: &str) -> bool {
    let (context, typed) = split_context(text);
    !context.is_empty() && typed.is_empty()
}

/// The action of the second pass for a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecordAction {
    /// Store it with the next message.
    Other,
    /// Drop it, because it is identical to an earlier record.
    Duplicate,
    /// Convert it into messages of the user and of tools.
    User { branch: u32 },
    /// Start or continue an assistant's message; `last` is set for the last record of that message.
    Assistant { branch: u32, group: u32, last: bool },
}

/// The parent and the fork point of a branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fork {
    pub parent: u32,
    pub forked_at: Seq,
}

/// The layout of a session.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    /// One action per record, in order.
    pub actions: Vec<RecordAction>,
    /// The branches after the first; branch 1 is at index 0.
    pub forks: Vec<Fork>,
    /// The branch that a resume opens.
    pub current: u32,
    /// Number of messages.
    pub messages: u64,
    pub title: Option<String>,
    pub title_by_user: bool,
    pub session: Option<String>,
    pub cwd: Option<String>,
    pub first: Option<Timestamp>,
    pub last: Option<Timestamp>,
}

/// A place in a transcript at which the second pass begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Restart {
    /// Index of the next record.
    pub record: usize,
    /// The line of that record.
    pub start: LineStart,
    /// Head of each branch that has messages before it.
    pub heads: Vec<Seq>,
}

#[derive(Debug, Serialize, Deserialize)]
struct RecordNode {
    uuid: Option<Key>,
    parent: Option<Key>,
    kind: RecordKind,
    sidechain: bool,
    /// Whether hfs wrote the record.
    written: bool,
    /// Whether the record has a time.
    timed: bool,
    hash: u64,
    /// The line of the record.
    start: LineStart,
}

/// The groups of records that form one assistant's message each.
struct Groups {
    /// Group of each record, if it is an assistant's.
    of: Vec<Option<u32>>,
    /// Index of the last record of each group.
    ends: Vec<u32>,
}

/// The newest group of a message id.
#[derive(Clone, Copy)]
struct OpenGroup {
    group: u32,
    /// Ancestor of the first record.
    ancestor: Option<u32>,
    /// Whether the message has ended.
    ended: bool,
}

#[derive(Clone, Copy)]
struct MessagePosition {
    branch: u32,
    seq: Seq,
}

/// Maps ids to values. The hash function is seeded, because a file may be crafted so that its ids collide.
type ByKey<T> = HashMap<Key, T, foldhash::fast::RandomState>;

/// The index of a transcript, from which its [`Layout`] is computed.
///
/// It is kept between imports, so that only the new records of a transcript that has grown are indexed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Index {
    nodes: Vec<RecordNode>,
    /// The first record with each id.
    #[serde(skip)]
    by_uuid: ByKey<u32>,
    /// The newest title of each [`TitleSource`], in order of precedence.
    titles: [Option<String>; 3],
    /// The record after which a resume continues; `None` if it continues after the newest message.
    leaf: Option<Key>,
    session: Option<String>,
    cwd: Option<String>,
    /// Times of the earliest and the latest record of the conversation, in microseconds.
    times: Option<(i64, i64)>,
    /// The place after the last line; `None` if the last line may be incomplete.
    end: Option<LineStart>,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            nodes: Vec::new(),
            by_uuid: ByKey::default(),
            titles: [None, None, None],
            leaf: None,
            session: None,
            cwd: None,
            times: None,
            end: Some(LineStart::BEGINNING),
        }
    }
}

impl Index {
    /// The place after the last line; `None` if the last line may be incomplete.
    pub(crate) const fn end(&self) -> Option<LineStart> {
        self.end
    }

    /// Restores what is not stored.
    pub(crate) fn restore(&mut self) {
        for (index, node) in (0..).zip(&self.nodes) {
            if let Some(uuid) = node.uuid {
                self.by_uuid.entry(uuid).or_insert(index);
            }
        }
    }

    /// Notes a line without a record.
    pub(crate) const fn skip(&mut self, at: RecordPosition) {
        self.end = at.next;
    }

    /// Adds the next record.
    pub(crate) fn add(&mut self, at: RecordPosition, record: IndexEntry) {
        self.end = at.next;
        let index = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        let kind = self.kind(&record, index);
        if kind.in_conversation()
            && let Some(at) = record.time.map(Timestamp::as_micros)
        {
            let (first, last) = self.times.unwrap_or((at, at));
            self.times = Some((first.min(at), last.max(at)));
        }
        self.session = self.session.take().or(record.session);
        self.cwd = self.cwd.take().or(record.cwd);
        if let Some((which, title)) = record.title
            && let Some(slot) = self.titles.get_mut(which as usize)
        {
            *slot = Some(title);
        }
        if let Some(leaf) = record.leaf {
            self.leaf = leaf;
        } else if kind.in_conversation() && !record.sidechain {
            self.leaf = None;
        }
        self.nodes.push(RecordNode {
            uuid: record.uuid,
            parent: record.parent,
            kind,
            sidechain: record.sidechain,
            written: record.written,
            timed: record.time.is_some(),
            hash: record.hash,
            start: LineStart { line: at.line, offset: at.bytes },
        });
    }

    fn kind(&mut self, record: &IndexEntry, index: u32) -> RecordKind {
        if let Some(uuid) = record.uuid {
            match self.by_uuid.entry(uuid) {
                Entry::Occupied(seen) => {
                    let first = self.nodes.get(*seen.get() as usize);
                    return match first {
                        Some(first) if first.hash == record.hash => RecordKind::Duplicate,
                        // The id belongs to an earlier record with another text. Store this record, but do not make
                        // it a message, because children refer to the earlier one.
                        _ => RecordKind::Other,
                    };
                }
                Entry::Vacant(slot) => slot.insert(index),
            };
        }
        record.kind
    }

    /// The group of each assistant's record: the records of one message form a group.
    ///
    /// Records have the id of their message, but some proxies give every message the same id. So a record starts a new group
    /// after a prompt of the user, and after a tool's result if the message has ended before. A message that has not ended may
    /// continue after a result, because tools run while it is written.
    fn groups(&self, ancestors: &[Option<u32>]) -> Groups {
        let mut groups = Groups { of: Vec::with_capacity(self.nodes.len()), ends: Vec::new() };
        let mut open: ByKey<OpenGroup> = ByKey::default();
        for (index, (node, ancestor)) in (0_u32..).zip(self.nodes.iter().zip(ancestors)) {
            let RecordKind::Assistant { message, ended } = node.kind else {
                groups.of.push(None);
                continue;
            };
            let known = message.and_then(|message| open.get(&message).copied()).filter(|group| {
                let follows = ancestor.and_then(|ancestor| self.nodes.get(ancestor as usize));
                *ancestor == group.ancestor
                    || match follows.map(|node| node.kind) {
                        Some(RecordKind::User { prompt: true, .. }) => false,
                        Some(RecordKind::User { .. }) => !group.ended,
                        _ => true,
                    }
            });
            let new = OpenGroup {
                group: u32::try_from(groups.ends.len()).unwrap_or(u32::MAX),
                ancestor: *ancestor,
                ended,
            };
            let next = OpenGroup { ended, ..known.unwrap_or(new) };
            let group = next.group;
            match groups.ends.get_mut(group as usize) {
                Some(end) => *end = index,
                None => groups.ends.push(index),
            }
            if let Some(message) = message {
                open.insert(message, next);
            }
            groups.of.push(Some(group));
        }
        groups
    }

    /// Computes the layout.
    pub(crate) fn layout(&self) -> Layout {
        let time = |micros: i64| Timestamp::from_micros(micros);
        let mut layout = Layout {
            session: self.session.clone(),
            cwd: self.cwd.clone(),
            first: self.times.and_then(|(first, _)| time(first)),
            last: self.times.and_then(|(_, last)| time(last)),
            title: self.titles.iter().flatten().next().cloned(),
            title_by_user: self.titles.first().is_some_and(Option::is_some),
            ..Layout::default()
        };
        let ancestors = self.ancestors();
        let starts_branch = self.branch_starts(&ancestors);
        let groups = self.groups(&ancestors);
        let mut positions: Vec<Option<MessagePosition>> = vec![None; self.nodes.len()];
        let mut group_positions: Vec<Option<MessagePosition>> = vec![None; groups.ends.len()];
        let mut heads: Vec<Seq> = vec![0];
        let mut current = 0_u32;
        for (index, node) in self.nodes.iter().enumerate() {
            let ancestor = ancestors.get(index).copied().flatten();
            let ancestor = ancestor.and_then(|ancestor| positions.get(ancestor as usize).copied().flatten());
            let mut branch = ancestor.map_or(current, |position| position.branch);
            if starts_branch.get(index).copied().unwrap_or(false)
                && let Some(ancestor) = ancestor
            {
                layout.forks.push(Fork { parent: ancestor.branch, forked_at: ancestor.seq });
                heads.push(ancestor.seq);
                branch = u32::try_from(heads.len() - 1).unwrap_or(u32::MAX);
            }
            let mut advance = |branch: u32, by: u64| {
                let head = heads.get_mut(branch as usize)?;
                *head += by;
                Some(MessagePosition { branch, seq: *head })
            };
            let (action, position) = match node.kind {
                RecordKind::Other => (RecordAction::Other, None),
                RecordKind::Duplicate => (RecordAction::Duplicate, None),
                // Records that follow an empty record continue after the ancestor of the empty record.
                RecordKind::Empty => (RecordAction::Other, ancestor.or_else(|| advance(branch, 0))),
                RecordKind::User { messages, .. } => {
                    layout.messages += u64::from(messages);
                    (RecordAction::User { branch }, advance(branch, u64::from(messages)))
                }
                RecordKind::Assistant { .. } => {
                    let group = groups.of.get(index).copied().flatten().unwrap_or(u32::MAX);
                    let slot = group_positions.get_mut(group as usize);
                    let position = match slot {
                        Some(Some(position)) => Some(*position),
                        Some(slot) => {
                            layout.messages += 1;
                            *slot = advance(branch, 1);
                            *slot
                        }
                        None => None,
                    };
                    branch = position.map_or(branch, |position| position.branch);
                    let last = groups.ends.get(group as usize).is_none_or(|end| *end as usize == index);
                    (RecordAction::Assistant { branch, group, last }, position)
                }
            };
            if position.is_some() && !node.sidechain {
                current = branch;
            }
            if let Some(slot) = positions.get_mut(index) {
                *slot = position;
            }
            layout.actions.push(action);
        }
        let leaf = self.leaf.and_then(|leaf| self.by_uuid.get(&leaf));
        let leaf = leaf.and_then(|index| positions.get(*index as usize).copied().flatten());
        layout.current = leaf.map_or(current, |position| position.branch);
        layout
    }

    /// Where the second pass continues if records were added to a transcript that had the layout `old`: at the beginning of the last
    /// message, or earlier if an earlier message has changed.
    ///
    /// No message has records on both sides of that place. Records that are not messages are stored with the next one, so the place is
    /// before them. And the first message has a time of its own, because others have that of the message before.
    pub(crate) fn restart(&self, old: &Layout, new: &Layout) -> Restart {
        let changed = old.actions.iter().zip(&new.actions).position(|(old, new)| old != new);
        let known = changed.map_or(old.actions.len(), |changed| changed + 1);
        let known = if new.forks.starts_with(&old.forks) { known } else { 0 };
        let mut ends: HashMap<u32, usize> = HashMap::new();
        for (index, action) in new.actions.iter().enumerate() {
            if let RecordAction::Assistant { group, last: true, .. } = action {
                ends.insert(*group, index);
            }
        }
        let mut restart = Restart { record: 0, start: LineStart::BEGINNING, heads: vec![0] };
        let mut place = None;
        let mut heads: Vec<Seq> = vec![0];
        let mut begun = HashSet::new();
        // The end of all messages that have begun, and the line and action before the record.
        let (mut end, mut line, mut previous) = (None, 0, None);
        for (index, (action, node)) in new.actions.iter().zip(&self.nodes).enumerate().take(known) {
            let is_between = end.is_none_or(|end| end < index) && line < node.start.line;
            if is_between && !matches!(previous, Some(RecordAction::Other | RecordAction::Duplicate)) {
                place = Some(Restart { record: index, start: node.start, heads: heads.clone() });
            }
            let (branch, messages) = match (*action, node.kind) {
                (RecordAction::User { branch }, RecordKind::User { messages, .. }) => (branch, messages),
                (RecordAction::Assistant { branch, group, .. }, _) => {
                    end = end.max(ends.get(&group).copied());
                    (branch, u32::from(begun.insert(group)))
                }
                _ => (0, 0),
            };
            while heads.len() <= branch as usize
                && let Some(fork) = new.forks.get(heads.len() - 1)
            {
                heads.push(fork.forked_at);
            }
            if let Some(head) = heads.get_mut(branch as usize) {
                *head += u64::from(messages);
            }
            if messages > 0
                && node.timed
                && let Some(place) = place.take()
            {
                restart = place;
            }
            (line, previous) = (node.start.line, Some(*action));
        }
        restart
    }

    /// For each record, its nearest ancestor that is part of the conversation. Other records in between are
    /// skipped. The result is `None` in a cycle, and if the ancestor follows the record in the file.
    fn ancestors(&self) -> Vec<Option<u32>> {
        let parents: Vec<Option<u32>> = self
            .nodes
            .iter()
            .map(|node| node.parent.and_then(|parent| self.by_uuid.get(&parent)).copied())
            .collect();
        // The result for each record that was skipped, so that finding all ancestors takes linear time.
        let mut resolved: Vec<Option<Option<u32>>> = vec![None; self.nodes.len()];
        let mut path = Vec::new();
        let mut nearest = |start: usize| -> Option<u32> {
            path.clear();
            let mut at = parents.get(start).copied().flatten();
            let found = loop {
                let Some(index) = at else { break None };
                match self.nodes.get(index as usize) {
                    Some(node) if node.kind.in_conversation() => break Some(index),
                    _ => {}
                }
                let slot = resolved.get_mut(index as usize)?;
                if let Some(known) = *slot {
                    break known;
                }
                // Provisional: if the parents form a cycle, the search reaches this value again and ends.
                *slot = Some(None);
                path.push(index);
                at = parents.get(index as usize).copied().flatten();
            };
            for index in &path {
                if let Some(slot) = resolved.get_mut(*index as usize) {
                    *slot = Some(found);
                }
            }
            found
        };
        (0..self.nodes.len())
            .map(|index| nearest(index).filter(|ancestor| (*ancestor as usize) < index))
            .collect()
    }

    /// For each record, whether it starts a branch.
    fn branch_starts(&self, ancestors: &[Option<u32>]) -> Vec<bool> {
        let is_prompt = |node: &RecordNode| matches!(node.kind, RecordKind::User { prompt: true, .. });
        let mut answered = vec![false; self.nodes.len()];
        for (node, ancestor) in self.nodes.iter().zip(ancestors) {
            if matches!(node.kind, RecordKind::Assistant { .. })
                && let Some(slot) = ancestor.and_then(|ancestor| answered.get_mut(ancestor as usize))
            {
                *slot = true;
            }
        }
        // Whether a prompt, and whether any record, follows a record.
        let mut continued = vec![false; self.nodes.len()];
        let mut has_child = vec![false; self.nodes.len()];
        let mut starts_branch = vec![false; self.nodes.len()];
        for ((node, ancestor), fork) in self.nodes.iter().zip(ancestors).zip(&mut starts_branch) {
            if let Some(slot) = ancestor.and_then(|ancestor| has_child.get_mut(ancestor as usize))
                && node.kind.in_conversation()
                && !node.sidechain
            {
                *fork = node.written && *slot;
                *slot = true;
            }
            let Some(ancestor) = ancestor.filter(|_| is_prompt(node)) else { continue };
            let ancestor = ancestor as usize;
            let Some(slot) = continued.get_mut(ancestor) else { continue };
            // If the ancestor is a prompt with an answer, the answer continues its branch and each further
            // prompt forks. After any other message, the first prompt continues the branch.
            let answer_continues = self.nodes.get(ancestor).is_some_and(is_prompt)
                && answered.get(ancestor).copied().unwrap_or(false);
            *fork |= *slot || answer_continues;
            *slot = true;
        }
        starts_branch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transcript::WRITTEN;

    #[test]
    fn a_repeated_field_counts_as_its_last_value_and_other_json_is_no_record() {
        let entry = IndexEntry::decode(
            r#"{"type":"user","type":"user","uuid":"a","uuid":"b","message":{"content":"x"}}"#,
        );
        let entry = entry.unwrap();
        assert_eq!(entry.uuid, Some(id_key("b")));
        assert_eq!(entry.kind, RecordKind::User { messages: 1, prompt: true });
        for text in ["[]", "1", "null", "{} {}", "[{}]", "{"] {
            assert!(IndexEntry::decode(text).is_none(), "{text}");
        }
    }

    #[test]
    fn values_of_other_types_are_ignored() {
        let text = r#"{"type":"user","uuid":1,"cwd":[],"isMeta":{},"message":{"content":[1,{"type":[],"text":{}},{"type":"tool_result"}]},
            "attachment":"x"}"#;
        let entry = IndexEntry::decode(text).unwrap();
        assert_eq!((entry.uuid, entry.cwd), (None, None));
        assert_eq!(entry.kind, RecordKind::User { messages: 2, prompt: true });
        assert_eq!(IndexEntry::decode(r#"{"type":"user","message":[]}"#).unwrap().kind, RecordKind::Other);
    }

    #[test]
    fn records_that_hfs_wrote_are_known() {
        let record = format!(r#"{{"type":"user","{WRITTEN}":{{"message":"x"}}}}"#);
        assert!(IndexEntry::decode(&record).unwrap().written);
        assert!(!IndexEntry::decode("{}").unwrap().written);
    }
}
