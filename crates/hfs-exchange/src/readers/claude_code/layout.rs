//! Computes the layout of a session from its index: the branch and message that each record belongs to.
//!
//! Each record of Claude Code contains the id of its parent. A record often has several children because of
//! parallel tool calls and hooks. Such a record is a fork only if several prompts of the user follow the same
//! message, which means that the user went back and asked something else.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use hfs_core::{Seq, Timestamp};

use super::index::{IndexEntry, RecordClass};

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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NodeKind {
    Other,
    Duplicate,
    Empty,
    User { messages: u32, prompt: bool },
    Assistant { message: Option<u128>, ended: bool },
}

impl NodeKind {
    const fn in_conversation(self) -> bool {
        matches!(self, Self::Empty | Self::User { .. } | Self::Assistant { .. })
    }
}

struct RecordNode {
    parent: Option<u128>,
    kind: NodeKind,
    sidechain: bool,
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
type ByKey<T> = HashMap<u128, T, foldhash::fast::RandomState>;

/// Builds a [`Layout`] from index entries.
#[derive(Default)]
pub(crate) struct LayoutBuilder {
    nodes: Vec<RecordNode>,
    /// Index and fingerprint of the first record with each id.
    by_uuid: ByKey<(u32, u64)>,
    /// The newest title of each [`TitleSource`](super::index::TitleSource), in order of precedence.
    titles: [Option<String>; 3],
    /// The record after which a resume continues; `None` if it continues after the newest message.
    leaf: Option<u128>,
    layout: Layout,
}

impl LayoutBuilder {
    /// Adds the next record.
    pub(crate) fn add(&mut self, record: IndexEntry) {
        let index = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        let kind = self.kind(&record, index);
        let layout = &mut self.layout;
        if kind.in_conversation()
            && let Some(at) = record.time
        {
            layout.first = Some(layout.first.map_or(at, |first| first.min(at)));
            layout.last = Some(layout.last.map_or(at, |last| last.max(at)));
        }
        layout.session = layout.session.take().or(record.session);
        layout.cwd = layout.cwd.take().or(record.cwd);
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
        self.nodes.push(RecordNode { parent: record.parent, kind, sidechain: record.sidechain });
    }

    fn kind(&mut self, record: &IndexEntry, index: u32) -> NodeKind {
        if let Some(uuid) = record.uuid {
            match self.by_uuid.entry(uuid) {
                Entry::Occupied(seen) if seen.get().1 == record.fingerprint => return NodeKind::Duplicate,
                // The id belongs to an earlier record with another text. Store this record, but do not make it a
                // message, because children refer to the earlier one.
                Entry::Occupied(_) => return NodeKind::Other,
                Entry::Vacant(slot) => slot.insert((index, record.fingerprint)),
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
    pub(crate) fn finish(mut self) -> Layout {
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
                self.layout.forks.push(Fork { parent: ancestor.branch, forked_at: ancestor.seq });
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
                    self.layout.messages += u64::from(messages);
                    (RecordAction::User { branch }, advance(branch, u64::from(messages)))
                }
                NodeKind::Assistant { .. } => {
                    let group = groups.of.get(index).copied().flatten().unwrap_or(u32::MAX);
                    let slot = group_positions.get_mut(group as usize);
                    let position = match slot {
                        Some(Some(position)) => Some(*position),
                        Some(slot) => {
                            self.layout.messages += 1;
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
            self.layout.actions.push(action);
        }
        let leaf = self.leaf.and_then(|leaf| self.by_uuid.get(&leaf));
        let leaf = leaf.and_then(|(index, _)| positions.get(*index as usize).copied().flatten());
        self.layout.current = leaf.map_or(current, |position| position.branch);
        self.layout.title_by_user = self.titles.first().is_some_and(Option::is_some);
        self.layout.title = self.titles.into_iter().flatten().next();
        self.layout
    }

    /// For each record, its nearest ancestor that is part of the conversation. Other records in between are
    /// skipped. The result is `None` in a cycle, and if the ancestor follows the record in the file.
    fn ancestors(&self) -> Vec<Option<u32>> {
        let parents: Vec<Option<u32>> = self
            .nodes
            .iter()
            .map(|node| node.parent.and_then(|parent| self.by_uuid.get(&parent)).map(|(index, _)| *index))
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
        let mut continued = vec![false; self.nodes.len()];
        let mut starts_branch = vec![false; self.nodes.len()];
        for ((node, ancestor), fork) in self.nodes.iter().zip(ancestors).zip(&mut starts_branch) {
            let Some(ancestor) = ancestor.filter(|_| is_prompt(node)) else { continue };
            let ancestor = ancestor as usize;
            let Some(slot) = continued.get_mut(ancestor) else { continue };
            // If the ancestor is a prompt with an answer, the answer continues its branch and each further
            // prompt forks. After any other message, the first prompt continues the branch.
            let answer_continues = self.nodes.get(ancestor).is_some_and(is_prompt)
                && answered.get(ancestor).copied().unwrap_or(false);
            *fork = *slot || answer_continues;
            *slot = true;
        }
        starts_branch
    }
}
