//! Computes the layout of a session from its index: the branch and message that each record belongs to.
//!
//! Each record of Claude Code contains the id of its parent. A record often has several children because of
//! parallel tool calls and hooks. Such a record is a fork only if several prompts of the user follow the same
//! message, which means that the user went back and asked something else, or if hfs wrote the second child: hfs writes
//! each of its branches as a chain.
//!
//! The index is kept for the next import. If the transcript has grown by then, the layouts of the old and of the new index show which
//! messages have changed.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use hfs_core::{Seq, Timestamp};
use serde::{Deserialize, Serialize};

use super::index::{IndexEntry, Key, RecordClass};
use crate::records::RecordPosition;
use crate::resume::LineStart;

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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum NodeKind {
    Other,
    Duplicate,
    Empty,
    User { messages: u32, prompt: bool },
    Assistant { message: Option<Key>, ended: bool },
}

impl NodeKind {
    const fn in_conversation(self) -> bool {
        matches!(self, Self::Empty | Self::User { .. } | Self::Assistant { .. })
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct RecordNode {
    uuid: Option<Key>,
    parent: Option<Key>,
    kind: NodeKind,
    sidechain: bool,
    /// Whether hfs wrote the record.
    written: bool,
    /// Whether the record has a time.
    timed: bool,
    fingerprint: u64,
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
    /// The newest title of each [`TitleSource`](super::index::TitleSource), in order of precedence.
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
            fingerprint: record.fingerprint,
            start: LineStart { line: at.line, offset: at.bytes },
        });
    }

    fn kind(&mut self, record: &IndexEntry, index: u32) -> NodeKind {
        if let Some(uuid) = record.uuid {
            match self.by_uuid.entry(uuid) {
                Entry::Occupied(seen) => {
                    let first = self.nodes.get(*seen.get() as usize);
                    return match first {
                        Some(first) if first.fingerprint == record.fingerprint => NodeKind::Duplicate,
                        // The id belongs to an earlier record with another text. Store this record, but do not make
                        // it a message, because children refer to the earlier one.
                        _ => NodeKind::Other,
                    };
                }
                Entry::Vacant(slot) => slot.insert(index),
            };
        }
        match record.class {
            RecordClass::Other => NodeKind::Other,
            RecordClass::Empty => NodeKind::Empty,
            RecordClass::User { messages, prompt } => NodeKind::User { messages, prompt },
            RecordClass::Assistant { message, ended } => NodeKind::Assistant { message, ended },
        }
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
            let NodeKind::Assistant { message, ended } = node.kind else {
                groups.of.push(None);
                continue;
            };
            let known = message.and_then(|message| open.get(&message).copied()).filter(|group| {
                let follows = ancestor.and_then(|ancestor| self.nodes.get(ancestor as usize));
                *ancestor == group.ancestor
                    || match follows.map(|node| node.kind) {
                        Some(NodeKind::User { prompt: true, .. }) => false,
                        Some(NodeKind::User { .. }) => !group.ended,
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
                NodeKind::Other => (RecordAction::Other, None),
                NodeKind::Duplicate => (RecordAction::Duplicate, None),
                // Records that follow an empty record continue after the ancestor of the empty record.
                NodeKind::Empty => (RecordAction::Other, ancestor.or_else(|| advance(branch, 0))),
                NodeKind::User { messages, .. } => {
                    layout.messages += u64::from(messages);
                    (RecordAction::User { branch }, advance(branch, u64::from(messages)))
                }
                NodeKind::Assistant { .. } => {
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
                (RecordAction::User { branch }, NodeKind::User { messages, .. }) => (branch, messages),
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
        let is_prompt = |node: &RecordNode| matches!(node.kind, NodeKind::User { prompt: true, .. });
        let mut answered = vec![false; self.nodes.len()];
        for (node, ancestor) in self.nodes.iter().zip(ancestors) {
            if matches!(node.kind, NodeKind::Assistant { .. })
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
