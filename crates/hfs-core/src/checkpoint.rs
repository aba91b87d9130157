//! Checkpoints: immutable marks that a conversation can be taken back to.

use std::collections::BTreeMap;
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
