//! What lies between two branches, or two checkpoints, of a session.

use std::collections::BTreeSet;

use hfs_core::{
    AgentMemory, Branch, BranchId, Checkpoint, CheckpointId, CheckpointState, Message, MessageRange,
    PluginStates, SectionStatus, Seq, StoreError,
};
use serde_json::Value;

use crate::lineage::Lineage;
use crate::{Engine, EngineError};

/// How many messages are read at once.
const PAGE: u32 = 200;

/// The messages on either side of the last one that two places share.
#[derive(Debug, Clone, PartialEq)]
pub struct MessageDiff {
    /// The last seq that both share; 0 when they share none.
    pub shared: Seq,
    /// What only the first has.
    pub only_a: Vec<Message>,
    /// What only the second has.
    pub only_b: Vec<Message>,
}

/// What an agent remembers at two checkpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryDiff {
    /// The agent.
    pub agent: String,
    /// How many entries it has at the first.
    pub entries_a: usize,
    /// How many at the second.
    pub entries_b: usize,
    /// How many of them, from the oldest on, are the same.
    pub same: usize,
}

/// Where a section stands at two checkpoints; `None` where it does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SectionDiff {
    /// The section.
    pub section: String,
    /// Its status and owners at the first.
    pub a: Option<(SectionStatus, Vec<String>)>,
    /// Its status and owners at the second.
    pub b: Option<(SectionStatus, Vec<String>)>,
}

/// What changed between two checkpoints.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckpointDiff {
    /// The first.
    pub a: Checkpoint,
    /// The second.
    pub b: Checkpoint,
    /// In the conversation.
    pub messages: MessageDiff,
    /// In what agents remember; only those that differ.
    pub agents: Vec<MemoryDiff>,
    /// In the negotiation; only sections that differ.
    pub negotiation: Vec<SectionDiff>,
    /// Total tokens of the run at each.
    pub total_tokens: (u64, u64),
    /// Plugins whose state differs.
    pub plugins: Vec<String>,
}

/// All of these block on the store.
impl Engine {
    /// What two branches of a session have in common, and what each has of its own.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for branches of different sessions.
    pub fn diff_branches(&self, a: BranchId, b: BranchId) -> Result<MessageDiff, EngineError> {
        let (a, b) = (self.store().get_branch(a)?, self.store().get_branch(b)?);
        let (head_a, head_b) = (a.head, b.head);
        self.diff_places(&a, head_a, &b, head_b)
    }

    fn diff_places(&self, a: &Branch, at_a: Seq, b: &Branch, at_b: Seq) -> Result<MessageDiff, EngineError> {
        if a.session != b.session {
            return Err(StoreError::Invalid { message: "these belong to different sessions".into() }.into());
        }
        let branches = self.store().list_branches(a.session)?;
        let shared = Lineage::new(&branches).shared(a, b).min(at_a).min(at_b);
        Ok(MessageDiff {
            shared,
            only_a: self.messages_between(a.id, shared, at_a)?,
            only_b: self.messages_between(b.id, shared, at_b)?,
        })
    }

    fn messages_between(
        &self,
        branch: BranchId,
        after: Seq,
        until: Seq,
    ) -> Result<Vec<Message>, EngineError> {
        let mut found: Vec<Message> = Vec::new();
        let mut from = after + 1;
        while from <= until {
            let page = self.store().read_messages(branch, MessageRange::From(from, PAGE))?;
            let Some(last) = page.last() else { break };
            from = last.seq + 1;
            found.extend(page.into_iter().filter(|message| message.seq <= until));
        }
        Ok(found)
    }

    /// What changed from one checkpoint to another.
    ///
    /// # Errors
    /// `NotFound`; `Corrupt` when a state is damaged; `Invalid` for checkpoints of different sessions.
    pub fn diff_checkpoints(&self, a: CheckpointId, b: CheckpointId) -> Result<CheckpointDiff, EngineError> {
        let store = self.store();
        let (a, b) = (store.get_checkpoint(a)?, store.get_checkpoint(b)?);
        let (branch_a, branch_b) = (store.get_branch(a.branch)?, store.get_branch(b.branch)?);
        let messages = self.diff_places(&branch_a, a.seq, &branch_b, b.seq)?;
        let (state_a, state_b) = (store.load_state(a.id)?, store.load_state(b.id)?);
        Ok(CheckpointDiff {
            messages,
            agents: memories(&state_a, &state_b),
            negotiation: sections(&state_a, &state_b),
            total_tokens: (state_a.run_snapshot.usage.total_tokens, state_b.run_snapshot.usage.total_tokens),
            plugins: plugins(&state_a.plugins, &state_b.plugins),
            a,
            b,
        })
    }
}

fn keys<'a, V>(
    a: &'a std::collections::BTreeMap<String, V>,
    b: &'a std::collections::BTreeMap<String, V>,
) -> impl Iterator<Item = &'a String> {
    a.keys().chain(b.keys()).collect::<BTreeSet<_>>().into_iter()
}

fn memories(a: &CheckpointState, b: &CheckpointState) -> Vec<MemoryDiff> {
    keys(&a.agents, &b.agents)
        .filter_map(|agent| {
            let first = memory_entries(a.agents.get(agent));
            let second = memory_entries(b.agents.get(agent));
            let same = first.iter().zip(second.iter()).take_while(|(x, y)| x == y).count();
            (first != second).then(|| MemoryDiff {
                agent: agent.clone(),
                entries_a: first.len(),
                entries_b: second.len(),
                same,
            })
        })
        .collect()
}

/// The entries of an agent's memory. An agent owns the shape of its memory; a list counts by its elements, any other
/// value as one entry.
#[must_use]
pub fn memory_entries(memory: Option<&AgentMemory>) -> Vec<Value> {
    match memory.map(AgentMemory::read::<Value>) {
        Some(Ok(Value::Array(entries))) => entries,
        Some(Ok(other)) => vec![other],
        Some(Err(_)) | None => Vec::new(),
    }
}

/// The plugins whose states differ.
fn plugins(a: &PluginStates, b: &PluginStates) -> Vec<String> {
    let names: BTreeSet<&str> = a.iter().chain(b.iter()).map(|(plugin, _)| plugin).collect();
    names.into_iter().filter(|name| a.get(name) != b.get(name)).map(str::to_owned).collect()
}

fn sections(a: &CheckpointState, b: &CheckpointState) -> Vec<SectionDiff> {
    let find = |state: &CheckpointState, name: &str| {
        let sections = &state.run_snapshot.negotiation.sections;
        let section = sections.iter().find(|section| section.name == name)?;
        Some((section.status, section.owners.clone()))
    };
    let all = [a, b].into_iter().flat_map(|state| &state.run_snapshot.negotiation.sections);
    let names: BTreeSet<&str> = all.map(|section| section.name.as_str()).collect();
    names
        .into_iter()
        .map(|name| SectionDiff { section: name.to_owned(), a: find(a, name), b: find(b, name) })
        .filter(|diff| diff.a != diff.b)
        .collect()
}
