//! Differences between two branches, or two checkpoints, of a session.

use std::collections::BTreeSet;

use hfs_core::{
    AgentMemory, Branch, BranchId, Checkpoint, CheckpointId, CheckpointState, Message, MessageRange,
    SectionStatus, Seq, StoreError,
};
use serde_json::Value;

use crate::session_graph::Lineage;
use crate::{Engine, EngineError};

/// Number of messages read at once.
const PAGE: u32 = 200;

/// Difference between two histories of a session: the messages of each after the last message that they share.
#[derive(Debug, Clone, PartialEq)]
pub struct MessageDiff {
    /// Seq of the last shared message; 0 if there is none.
    pub shared: Seq,
    /// Messages that only the first history has.
    pub only_a: Vec<Message>,
    /// Messages that only the second history has.
    pub only_b: Vec<Message>,
}

/// Difference between an agent's memories at two checkpoints, compared entry by entry (see [`memory_entries`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryDiff {
    /// Agent id.
    pub agent: String,
    /// Number of entries at the first checkpoint.
    pub entries_a: usize,
    /// Number of entries at the second checkpoint.
    pub entries_b: usize,
    /// Number of entries before the first difference; the first entry is the oldest.
    pub same: usize,
}

/// Status and owners of a section at two checkpoints; `None` where the section does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SectionDiff {
    /// Name of the section.
    pub section: String,
    /// Status and owners at the first checkpoint.
    pub a: Option<(SectionStatus, Vec<String>)>,
    /// Status and owners at the second checkpoint.
    pub b: Option<(SectionStatus, Vec<String>)>,
}

/// Differences between two checkpoints.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckpointDiff {
    /// The first checkpoint.
    pub a: Checkpoint,
    /// The second checkpoint.
    pub b: Checkpoint,
    /// Differences in messages.
    pub messages: MessageDiff,
    /// Agents whose memories differ.
    pub agents: Vec<MemoryDiff>,
    /// Sections that differ.
    pub negotiation: Vec<SectionDiff>,
    /// Total tokens of the run at each checkpoint.
    pub total_tokens: (u64, u64),
    /// Plugins whose states differ.
    pub plugins: Vec<String>,
}

impl Engine {
    /// Compares two branches of a session.
    ///
    /// # Errors
    /// `NotFound` for a branch; `Invalid` for branches of different sessions.
    pub async fn diff_branches(&self, a: BranchId, b: BranchId) -> Result<MessageDiff, EngineError> {
        self.run_blocking(move |engine| {
            let (a, b) = (engine.store().get_branch(a)?, engine.store().get_branch(b)?);
            engine.diff_messages((&a, a.head), (&b, b.head))
        })
        .await
    }

    /// Compares two checkpoints of a session.
    ///
    /// # Errors
    /// `NotFound` for a checkpoint; `Corrupt` if a state is damaged; `Invalid` for checkpoints of different sessions.
    pub async fn diff_checkpoints(
        &self,
        a: CheckpointId,
        b: CheckpointId,
    ) -> Result<CheckpointDiff, EngineError> {
        self.run_blocking(move |engine| {
            let store = engine.store();
            let (a, b) = (store.get_checkpoint(a)?, store.get_checkpoint(b)?);
            let (branch_a, branch_b) = (store.get_branch(a.branch)?, store.get_branch(b.branch)?);
            let messages = engine.diff_messages((&branch_a, a.seq), (&branch_b, b.seq))?;
            let (state_a, state_b) = (store.load_state(a.id)?, store.load_state(b.id)?);
            let total_tokens = |state: &CheckpointState| state.run_snapshot.usage.total_tokens;
            Ok(CheckpointDiff {
                messages,
                agents: diff_memories(&state_a, &state_b),
                negotiation: diff_sections(&state_a, &state_b),
                total_tokens: (total_tokens(&state_a), total_tokens(&state_b)),
                plugins: diff_plugins(&state_a, &state_b),
                a,
                b,
            })
        })
        .await
    }

    /// Compares the messages up to a seq of one branch with those up to a seq of another.
    fn diff_messages(
        &self,
        (a, end_a): (&Branch, Seq),
        (b, end_b): (&Branch, Seq),
    ) -> Result<MessageDiff, EngineError> {
        if a.session != b.session {
            let message = "branches and checkpoints of different sessions cannot be compared".to_owned();
            return Err(StoreError::Invalid { message }.into());
        }
        let branches = self.store().list_branches(a.session)?;
        let shared = Lineage::new(&branches).shared(a, b).min(end_a).min(end_b);
        Ok(MessageDiff {
            shared,
            only_a: self.messages_between(a.id, shared, end_a)?,
            only_b: self.messages_between(b.id, shared, end_b)?,
        })
    }

    /// The messages of a branch after `after`, up to and including `end`.
    fn messages_between(&self, branch: BranchId, after: Seq, end: Seq) -> Result<Vec<Message>, EngineError> {
        let mut messages: Vec<Message> = Vec::new();
        let mut from = after + 1;
        while from <= end {
            let page = self.store().read_messages(branch, MessageRange::From(from, PAGE))?;
            let Some(last) = page.last() else { break };
            from = last.seq + 1;
            messages.extend(page.into_iter().filter(|message| message.seq <= end));
        }
        Ok(messages)
    }
}

fn diff_memories(a: &CheckpointState, b: &CheckpointState) -> Vec<MemoryDiff> {
    let agents: BTreeSet<&String> = a.agents.keys().chain(b.agents.keys()).collect();
    agents
        .into_iter()
        .filter_map(|agent| {
            let (entries_a, entries_b) =
                (memory_entries(a.agents.get(agent)), memory_entries(b.agents.get(agent)));
            (entries_a != entries_b).then(|| MemoryDiff {
                agent: agent.clone(),
                entries_a: entries_a.len(),
                entries_b: entries_b.len(),
                same: entries_a.iter().zip(&entries_b).take_while(|(a, b)| a == b).count(),
            })
        })
        .collect()
}

/// The entries of an agent's memory: the elements of its JSON array. A memory that is not an array is one entry. A
/// missing or unreadable memory has no entries.
#[must_use]
pub fn memory_entries(memory: Option<&AgentMemory>) -> Vec<Value> {
    match memory.map(AgentMemory::read::<Value>) {
        Some(Ok(Value::Array(entries))) => entries,
        Some(Ok(other)) => vec![other],
        Some(Err(_)) | None => Vec::new(),
    }
}

fn diff_sections(a: &CheckpointState, b: &CheckpointState) -> Vec<SectionDiff> {
    let find = |state: &CheckpointState, name: &str| {
        let sections = &state.run_snapshot.negotiation.sections;
        let section = sections.iter().find(|section| section.name == name)?;
        Some((section.status, section.owners.clone()))
    };
    let sections = [a, b].into_iter().flat_map(|state| &state.run_snapshot.negotiation.sections);
    let names: BTreeSet<&str> = sections.map(|section| section.name.as_str()).collect();
    names
        .into_iter()
        .map(|name| SectionDiff { section: name.to_owned(), a: find(a, name), b: find(b, name) })
        .filter(|diff| diff.a != diff.b)
        .collect()
}

fn diff_plugins(a: &CheckpointState, b: &CheckpointState) -> Vec<String> {
    let plugins: BTreeSet<&str> =
        a.plugins.iter().chain(b.plugins.iter()).map(|(plugin, _)| plugin).collect();
    let differing = plugins.into_iter().filter(|plugin| a.plugins.get(plugin) != b.plugins.get(plugin));
    differing.map(str::to_owned).collect()
}
