//! Checkpoints: immutable marks that a conversation can be taken back to.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{BranchId, CheckpointId, ContentHash, Role, RunSnapshot, Seq, SessionId, Timestamp};

/// One entry of an agent's private conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryEntry {
    /// Who spoke.
    pub role: Role,
    /// What was said.
    pub text: String,
}

/// What one agent remembers. Cloning is cheap, so that a state can be captured at every event.
pub type AgentMemory = Arc<Vec<MemoryEntry>>;

/// Everything that a rewind brings back.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct CheckpointState {
    /// The run's state.
    pub run_snapshot: Arc<RunSnapshot>,
    /// Each agent's memory, by agent id.
    pub agents: BTreeMap<String, AgentMemory>,
    /// Each plugin's per-session state, by plugin name.
    pub plugins: BTreeMap<String, Value>,
}

impl CheckpointState {
    /// The bytes that stand for this state in every store: JSON without white space, in which the fields that
    /// are ours have their fixed order and those of plugins are sorted. Equal states have equal bytes; a
    /// checkpoint's [`state_hash`](Checkpoint::state_hash) is the hash of these.
    ///
    /// # Errors
    /// Only for what JSON cannot express, which no state holds.
    pub fn canonical_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut bytes = Vec::new();
        self.write_canonical_json(&mut bytes)?;
        Ok(bytes)
    }

    /// The same, for whoever does something with the first of them while the others are still being written.
    ///
    /// # Errors
    /// Those of `to`, and as [`canonical_json`](Self::canonical_json) has it.
    pub fn write_canonical_json(&self, to: impl io::Write) -> Result<(), serde_json::Error> {
        let mut plugins = self.plugins.clone();
        plugins.values_mut().for_each(Value::sort_all_objects);
        let sorted =
            Self { run_snapshot: Arc::clone(&self.run_snapshot), agents: self.agents.clone(), plugins };
        serde_json::to_writer(to, &sorted)
    }
}

/// A checkpoint without its state.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// Its identity.
    pub id: CheckpointId,
    /// The session it belongs to.
    pub session: SessionId,
    /// The branch it marks a place on.
    pub branch: BranchId,
    /// The newest message at that moment; 0 before the first.
    pub seq: Seq,
    /// The type of the event that made it, or `manual`.
    pub trigger: String,
    /// What a person called it.
    pub label: Option<String>,
    /// Kept whatever the retention says.
    pub pinned: bool,
    /// When the event happened.
    pub created_at: Timestamp,
    /// The hash of its state's canonical bytes.
    pub state_hash: ContentHash,
    /// What its state costs.
    pub cost: StateCost,
}

impl Checkpoint {
    /// The trigger of those at the end of a run.
    pub const RUN_ENDED: &str = "run.ended";

    /// Whether it stands at the end of a run, and not in its middle.
    #[must_use]
    pub fn ends_run(&self) -> bool {
        self.trigger == Self::RUN_ENDED
    }

    /// How many of `retention` automatic checkpoints are kept for being the newest.
    #[must_use]
    pub const fn kept_as_newest(retention: u32) -> u32 {
        retention.div_ceil(2)
    }
}

/// What a checkpoint's state costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StateCost {
    /// The bytes of the state as JSON.
    pub state_bytes: u64,
    /// The bytes that it takes in the store; states that are equal are counted at each.
    pub stored_bytes: u64,
}

/// A checkpoint to be stored.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckpointDraft {
    /// Its identity.
    pub id: CheckpointId,
    /// The branch it marks a place on.
    pub branch: BranchId,
    /// The newest message at that moment; 0 before the first.
    pub seq: Seq,
    /// The type of the event that made it, or `manual`.
    pub trigger: String,
    /// What a person called it.
    pub label: Option<String>,
    /// Kept whatever the retention says.
    pub pinned: bool,
    /// When the event happened.
    pub created_at: Timestamp,
    /// What a rewind to it brings back.
    pub state: CheckpointState,
}

impl CheckpointDraft {
    /// The checkpoint that is made of it, once its state is stored.
    #[must_use]
    pub fn stored(&self, session: SessionId, state_hash: ContentHash, cost: StateCost) -> Checkpoint {
        Checkpoint {
            id: self.id,
            session,
            branch: self.branch,
            seq: self.seq,
            trigger: self.trigger.clone(),
            label: self.label.clone(),
            pinned: self.pinned,
            created_at: self.created_at,
            state_hash,
            cost,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn equal_states_have_equal_bytes_and_survive_them() {
        let state = |plugin: Value| CheckpointState {
            agents: [("a".to_owned(), AgentMemory::default())].into(),
            plugins: [("notes".to_owned(), plugin)].into(),
            ..CheckpointState::default()
        };
        let (one, other) = (
            state(json!({"x": 1, "y": [{"b": 2, "a": 3}]})),
            state(json!({"y": [{"a": 3, "b": 2}], "x": 1})),
        );
        assert_eq!(one, other);
        let bytes = one.canonical_json().unwrap();
        assert_eq!(bytes, other.canonical_json().unwrap());
        assert_eq!(serde_json::from_slice::<CheckpointState>(&bytes).unwrap(), one);
    }
}
