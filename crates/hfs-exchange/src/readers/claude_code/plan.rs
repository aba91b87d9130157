//! Decides from the outlines where each record's messages go: which branch, which message, which event.
//!
//! Claude Code writes a graph of records, each naming its parent. Nodes with several children are mostly
//! artefacts (parallel tool calls, hooks), so a fork is only where several prompts of the user follow the same
//! message: a place where somebody went back and asked something else.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use hfs_core::{Seq, Timestamp};

use super::outline::{Class, Outline};

/// What becomes of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// It is kept beside the next message.
    Event,
    /// It has been read before, word for word.
    Repetition,
    /// It becomes messages of a user and of tools, on this branch.
    User { branch: u32 },
    /// It is, or continues, an assistant's message; `last` when nothing of the message follows.
    Assistant { branch: u32, group: u32, last: bool },
}

/// A fork.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fork {
    pub parent: u32,
    pub forked_at: Seq,
}

/// Where everything goes.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// One for each record, in order.
    pub actions: Vec<Action>,
    /// The branches beyond the first: branch 1 is at index 0.
    pub forks: Vec<Fork>,
    /// The branch that the file ends on.
    pub current: u32,
    /// How many messages there will be.
    pub messages: u64,
    pub title: Option<String>,
    pub title_by_hand: bool,
    pub session: Option<String>,
    pub cwd: Option<String>,
    pub first: Option<Timestamp>,
    pub last: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Event,
    Repetition,
    Silent,
    User { messages: u32, prompt: bool },
    Assistant { group: u32 },
}

impl Kind {
    const fn in_chain(self) -> bool {
        matches!(self, Self::Silent | Self::User { .. } | Self::Assistant { .. })
    }
}

struct Node {
    parent: Option<u128>,
    kind: Kind,
    sidechain: bool,
}

#[derive(Clone, Copy)]
struct Place {
    branch: u32,
    seq: Seq,
}

/// What is known of each identity. The keys are nothing to rely on: a file may be made to have many alike.
type ByKey<T> = HashMap<u128, T, foldhash::fast::RandomState>;

/// Takes outlines in and gives the plan out.
#[derive(Default)]
pub(crate) struct Planner {
    nodes: Vec<Node>,
    by_uuid: ByKey<(u32, u64)>,
    groups: ByKey<u32>,
    /// The index of each group's last record.
    group_ends: Vec<u32>,
    titles: [Option<String>; 3],
    /// The message that a resume goes on from, where the last thing that the file says is that.
    leaf: Option<u128>,
    plan: Plan,
}

impl Planner {
    /// Takes the next record in.
    pub(crate) fn add(&mut self, record: Outline) {
        let index = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        let kind = self.kind(&record, index);
        let plan = &mut self.plan;
        if kind.in_chain()
            && let Some(at) = record.time
        {
            plan.first = Some(plan.first.map_or(at, |first| first.min(at)));
            plan.last = Some(plan.last.map_or(at, |last| last.max(at)));
        }
        plan.session = plan.session.take().or(record.session);
        plan.cwd = plan.cwd.take().or(record.cwd);
        if let Some((which, title)) = record.title
            && let Some(slot) = self.titles.get_mut(which as usize)
        {
            *slot = Some(title);
        }
        if let Some(leaf) = record.leaf {
            self.leaf = leaf;
        } else if kind.in_chain() && !record.sidechain {
            self.leaf = None;
        }
        self.nodes.push(Node { parent: record.parent, kind, sidechain: record.sidechain });
    }

    fn kind(&mut self, record: &Outline, index: u32) -> Kind {
        if let Some(uuid) = record.uuid {
            match self.by_uuid.entry(uuid) {
                Entry::Occupied(seen) if seen.get().1 == record.print => return Kind::Repetition,
                Entry::Occupied(_) => return Kind::Event,
                Entry::Vacant(slot) => slot.insert((index, record.print)),
            };
        }
        match record.class {
            Class::Event => Kind::Event,
            Class::Silent => Kind::Silent,
            Class::User { messages, prompt } => Kind::User { messages, prompt },
            Class::Assistant { message } => Kind::Assistant { group: self.group(message, index) },
        }
    }

    /// The group that an assistant's record belongs to.
    fn group(&mut self, message: Option<u128>, index: u32) -> u32 {
        let fresh = u32::try_from(self.group_ends.len()).unwrap_or(u32::MAX);
        let group = message.map_or(fresh, |key| *self.groups.entry(key).or_insert(fresh));
        if group == fresh {
            self.group_ends.push(index);
        } else if let Some(end) = self.group_ends.get_mut(group as usize) {
            *end = index;
        }
        group
    }

    /// The plan.
    pub(crate) fn finish(mut self) -> Plan {
        let ancestors = self.ancestors();
        let forking = self.forking(&ancestors);
        let mut places: Vec<Option<Place>> = vec![None; self.nodes.len()];
        let mut group_places: Vec<Option<Place>> = vec![None; self.group_ends.len()];
        let mut heads: Vec<Seq> = vec![0];
        let mut current = 0_u32;
        for (index, node) in self.nodes.iter().enumerate() {
            let above = ancestors.get(index).copied().flatten();
            let above = above.and_then(|above| places.get(above as usize).copied().flatten());
            let mut branch = above.map_or(current, |place| place.branch);
            if forking.get(index).copied().unwrap_or(false)
                && let Some(above) = above
            {
                self.plan.forks.push(Fork { parent: above.branch, forked_at: above.seq });
                heads.push(above.seq);
                branch = u32::try_from(heads.len() - 1).unwrap_or(u32::MAX);
            }
            let mut advance = |branch: u32, by: u64| {
                let head = heads.get_mut(branch as usize)?;
                *head += by;
                Some(Place { branch, seq: *head })
            };
            let (action, place) = match node.kind {
                Kind::Event => (Action::Event, None),
                Kind::Repetition => (Action::Repetition, None),
                Kind::Silent => (Action::Event, above.or_else(|| advance(branch, 0))),
                Kind::User { messages, .. } => {
                    self.plan.messages += u64::from(messages);
                    (Action::User { branch }, advance(branch, u64::from(messages)))
                }
                Kind::Assistant { group } => {
                    let slot = group_places.get_mut(group as usize);
                    let place = match slot {
                        Some(Some(place)) => Some(*place),
                        Some(slot) => {
                            self.plan.messages += 1;
                            *slot = advance(branch, 1);
                            *slot
                        }
                        None => None,
                    };
                    branch = place.map_or(branch, |place| place.branch);
                    let last = self.group_ends.get(group as usize).is_none_or(|end| *end as usize == index);
                    (Action::Assistant { branch, group, last }, place)
                }
            };
            if place.is_some() && !node.sidechain {
                current = branch;
            }
            if let Some(slot) = places.get_mut(index) {
                *slot = place;
            }
            self.plan.actions.push(action);
        }
        let leaf = self.leaf.and_then(|leaf| self.by_uuid.get(&leaf));
        let leaf = leaf.and_then(|(index, _)| places.get(*index as usize).copied().flatten());
        self.plan.current = leaf.map_or(current, |place| place.branch);
        self.plan.title_by_hand = self.titles.first().is_some_and(Option::is_some);
        self.plan.title = self.titles.into_iter().flatten().next();
        self.plan
    }

    /// For each record, its nearest ancestor of the conversation, seen through events. Ancestors that come
    /// later in the file (which no tool writes) and cycles count as none.
    fn ancestors(&self) -> Vec<Option<u32>> {
        let parents: Vec<Option<u32>> = self
            .nodes
            .iter()
            .map(|node| node.parent.and_then(|parent| self.by_uuid.get(&parent)).map(|(index, _)| *index))
            .collect();
        let mut through: Vec<Option<Option<u32>>> = vec![None; self.nodes.len()];
        let mut path = Vec::new();
        let mut nearest = |start: usize| -> Option<u32> {
            path.clear();
            let mut at = parents.get(start).copied().flatten();
            let found = loop {
                let Some(index) = at else { break None };
                match self.nodes.get(index as usize) {
                    Some(node) if node.kind.in_chain() => break Some(index),
                    _ => {}
                }
                let slot = through.get_mut(index as usize)?;
                if let Some(known) = *slot {
                    break known;
                }
                // A provisional answer, which a cycle comes back to.
                *slot = Some(None);
                path.push(index);
                at = parents.get(index as usize).copied().flatten();
            };
            for index in &path {
                if let Some(slot) = through.get_mut(*index as usize) {
                    *slot = Some(found);
                }
            }
            found
        };
        (0..self.nodes.len()).map(|index| nearest(index).filter(|above| (*above as usize) < index)).collect()
    }

    /// For each record, whether it begins a branch.
    fn forking(&self, ancestors: &[Option<u32>]) -> Vec<bool> {
        let is_prompt = |node: &Node| matches!(node.kind, Kind::User { prompt: true, .. });
        let mut answered = vec![false; self.nodes.len()];
        for (node, above) in self.nodes.iter().zip(ancestors) {
            if matches!(node.kind, Kind::Assistant { .. })
                && let Some(slot) = above.and_then(|above| answered.get_mut(above as usize))
            {
                *slot = true;
            }
        }
        let mut continued = vec![false; self.nodes.len()];
        let mut forking = vec![false; self.nodes.len()];
        for ((node, above), fork) in self.nodes.iter().zip(ancestors).zip(&mut forking) {
            let Some(above) = above.filter(|_| is_prompt(node)) else { continue };
            let above = above as usize;
            let Some(slot) = continued.get_mut(above) else { continue };
            // A prompt that was answered goes on with its answer; other messages go on with the first prompt.
            let answer_goes_on =
                self.nodes.get(above).is_some_and(is_prompt) && answered.get(above).copied().unwrap_or(false);
            *fork = *slot || answer_goes_on;
            *slot = true;
        }
        forking
    }
}
