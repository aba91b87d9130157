//! Checkpoints: immutable marks in a session's history that a rewind can return to.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::{BranchId, CheckpointId, ContentHash, RunSnapshot, Seq, SessionId, Timestamp};

/// Memory of one agent between runs: a JSON value that only that agent interprets.
///
/// The value is kept as text without white space, so saving and restoring a checkpoint neither parses nor formats it,
/// and cloning is cheap enough to capture the state at every event. Two memories are equal if their texts are equal.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AgentMemory(Arc<RawValue>);

impl AgentMemory {
    /// Stores a value of the agent's own type.
    ///
    /// # Errors
    /// Returns the error of the value's `Serialize` implementation.
    pub fn new(value: &(impl Serialize + ?Sized)) -> Result<Self, serde_json::Error> {
        serde_json::value::to_raw_value(value).map(|raw| Self(raw.into()))
    }

    /// Reads the value back into the agent's own type.
    ///
    /// # Errors
    /// Returns an error if the value was stored by another agent or by an incompatible version.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.0.get())
    }

    /// The JSON text.
    #[must_use]
    pub fn as_json(&self) -> &str {
        self.0.get()
    }
}

impl PartialEq for AgentMemory {
    fn eq(&self, other: &Self) -> bool {
        self.as_json() == other.as_json()
    }
}

impl Eq for AgentMemory {}

/// State of each plugin for one session, by plugin name. The plugins own the values.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PluginStates(BTreeMap<String, Value>);

impl PluginStates {
    /// No states.
    #[must_use]
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// State of one plugin.
    #[must_use]
    pub fn get(&self, plugin: &str) -> Option<&Value> {
        self.0.get(plugin)
    }

    /// Replaces the state of one plugin and returns the earlier one.
    pub fn insert(&mut self, plugin: String, state: Value) -> Option<Value> {
        self.0.insert(plugin, state)
    }

    /// Removes the state of one plugin and returns it.
    pub fn remove(&mut self, plugin: &str) -> Option<Value> {
        self.0.remove(plugin)
    }

    /// Whether no plugin has a state.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Plugins with their states, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(plugin, state)| (plugin.as_str(), state))
    }

    /// Sorts the keys of all objects inside the states, so that equal states serialize to equal bytes.
    fn sort_keys(&mut self) {
        self.0.values_mut().for_each(Value::sort_all_objects);
    }
}

impl<const N: usize> From<[(String, Value); N]> for PluginStates {
    fn from(states: [(String, Value); N]) -> Self {
        Self(states.into())
    }
}

impl FromIterator<(String, Value)> for PluginStates {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(states: I) -> Self {
        Self(states.into_iter().collect())
    }
}

impl IntoIterator for PluginStates {
    type Item = (String, Value);
    type IntoIter = std::collections::btree_map::IntoIter<String, Value>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// State that a checkpoint stores and a rewind restores.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct CheckpointState {
    /// State of the run.
    pub run_snapshot: Arc<RunSnapshot>,
    /// Memory of each agent, by agent id.
    pub agents: BTreeMap<String, AgentMemory>,
    /// State of each plugin for the session.
    pub plugins: PluginStates,
}

impl CheckpointState {
    /// Serializes the state to the bytes that every store keeps: JSON without white space, fields in declaration
    /// order, plugin states with sorted keys. Equal states have equal bytes, and
    /// [`Checkpoint::state_hash`] is the hash of these bytes.
    ///
    /// # Errors
    /// Returns the error of `serde_json` for a value that JSON cannot express. No state contains such a value.
    pub fn canonical_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut bytes = Vec::new();
        self.write_canonical_json(&mut bytes)?;
        Ok(bytes)
    }

    /// Writes the same bytes as [`canonical_json`](Self::canonical_json) to `to`, for callers that process the
    /// beginning while the rest is still being serialized.
    ///
    /// # Errors
    /// Returns the errors of `to` and those of [`canonical_json`](Self::canonical_json).
    pub fn write_canonical_json(&self, to: impl io::Write) -> Result<(), serde_json::Error> {
        let mut sorted = self.clone();
        sorted.plugins.sort_keys();
        serde_json::to_writer(to, &sorted)
    }
}

/// What caused a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Trigger {
    /// The user asked for it. Written as `manual`.
    Manual,
    /// An event of this type, such as `run.ended`.
    Event(String),
}

impl Trigger {
    const MANUAL: &str = "manual";
    const RUN_ENDED: &str = "run.ended";

    /// Name that stores, documents and scripts use.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Manual => Self::MANUAL,
            Self::Event(kind) => kind,
        }
    }

    /// Whether the checkpoint is at the end of a run, not in the middle of one.
    #[must_use]
    pub fn ends_run(&self) -> bool {
        self.as_str() == Self::RUN_ENDED
    }
}

impl From<&str> for Trigger {
    fn from(name: &str) -> Self {
        if name == Self::MANUAL { Self::Manual } else { Self::Event(name.to_owned()) }
    }
}

impl std::fmt::Display for Trigger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A checkpoint without its state.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// Checkpoint id.
    pub id: CheckpointId,
    /// Session of the checkpoint.
    pub session: SessionId,
    /// Number in the session, from 1, in the order in which the checkpoints were stored. A number is given once: those
    /// of removed checkpoints stay unused.
    pub number: u64,
    /// Branch of the checkpoint.
    pub branch: BranchId,
    /// Seq of the newest message at that time; 0 before the first.
    pub seq: Seq,
    /// Cause of the checkpoint.
    pub trigger: Trigger,
    /// Label given by the user.
    pub label: Option<String>,
    /// Whether it is exempt from retention.
    pub pinned: bool,
    /// Time of the event that caused it.
    pub created_at: Timestamp,
    /// Hash of the state's canonical bytes.
    pub state_hash: ContentHash,
    /// Size of the state.
    pub cost: StateCost,
}

/// Size of a checkpoint's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StateCost {
    /// Bytes of the state as canonical JSON.
    pub state_bytes: u64,
    /// Bytes in the store. A state that several checkpoints share is counted for each of them.
    pub stored_bytes: u64,
}

/// A checkpoint to be stored.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckpointDraft {
    /// Checkpoint id.
    pub id: CheckpointId,
    /// Branch of the checkpoint.
    pub branch: BranchId,
    /// Seq of the newest message at that time; 0 before the first.
    pub seq: Seq,
    /// Cause of the checkpoint.
    pub trigger: Trigger,
    /// Label given by the user.
    pub label: Option<String>,
    /// Whether it is exempt from retention.
    pub pinned: bool,
    /// Time of the event that causes it.
    pub created_at: Timestamp,
    /// State that a rewind to it restores.
    pub state: CheckpointState,
}

impl CheckpointDraft {
    /// The stored checkpoint of this draft.
    #[must_use]
    pub fn stored(
        &self,
        session: SessionId,
        number: u64,
        state_hash: ContentHash,
        cost: StateCost,
    ) -> Checkpoint {
        Checkpoint {
            id: self.id,
            session,
            number,
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
    fn equal_states_have_equal_bytes_and_survive_a_round_trip() {
        let state = |plugin: Value| CheckpointState {
            agents: [("a".to_owned(), AgentMemory::new(&json!([1])).unwrap())].into(),
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

    #[test]
    fn the_json_text_of_a_memory_is_kept_verbatim() {
        let text = r#"{"agents":{"a":[{"role":"user","text":"é"},1.50]},"plugins":{},"run_snapshot":{}}"#;
        let agents = serde_json::from_str::<Value>(text).unwrap();
        let read = |json: &str| serde_json::from_str::<AgentMemory>(json).unwrap();
        let memory = read(r#"[{"role":"user","text":"é"},1.50]"#);
        assert_eq!(memory.as_json(), r#"[{"role":"user","text":"é"},1.50]"#);
        assert_eq!(serde_json::to_string(&memory).unwrap(), memory.as_json());
        assert_eq!(memory.read::<Value>().unwrap()[0], agents["agents"]["a"][0]);
        let through_value: AgentMemory = serde_json::from_value(json!({"k": [1, null]})).unwrap();
        assert_eq!(through_value.as_json(), r#"{"k":[1,null]}"#);
        assert!(memory.read::<Vec<u8>>().is_err());
    }
}
