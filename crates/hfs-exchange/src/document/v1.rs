//! Version 1.0.0, which the Python implementation wrote.

use hfs_core::{
    BranchId, CheckpointId, MAIN_BRANCH, MessageId, RunId, RunSnapshot, Seq, SessionId, Timestamp, Trigger,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::v2;

pub(crate) const VERSION: &str = "1.0.0";

#[derive(Debug, Default)]
pub(crate) struct Document {
    pub metadata: Option<Metadata>,
    pub messages: Vec<Message>,
    pub checkpoints: Vec<Checkpoint>,
    pub run_snapshot: Option<Value>,
    /// All other fields of the document.
    pub rest: Map<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct Metadata {
    #[serde(default)]
    pub exported_at: Option<Value>,
    #[serde(default)]
    pub hfs_version: Option<Value>,
    #[serde(default)]
    pub session_name: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Message {
    pub role: String,
    #[serde(default)]
    pub content: Value,
    #[serde(default)]
    pub created_at: Option<Value>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// A checkpoint. Version 1 does not contain the state.
#[derive(Debug, Deserialize)]
pub(crate) struct Checkpoint {
    #[serde(default)]
    pub trigger: Option<String>,
    #[serde(default)]
    pub created_at: Option<Value>,
    #[serde(default)]
    pub message_index: Option<u64>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// An id that is the same for every migration of the same document.
fn derived_uuid(seed: &str, kind: &str, number: usize) -> uuid::Uuid {
    let hash = blake3::hash(format!("{seed}\n{kind}\n{number}").as_bytes());
    let bytes = hash.as_bytes().first_chunk::<16>().copied().unwrap_or_default();
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

fn role(name: &str) -> v2::Role {
    match name {
        "assistant" => v2::Role::Assistant,
        "system" => v2::Role::System,
        "tool" => v2::Role::Tool,
        _ => v2::Role::User,
    }
}

impl Document {
    /// Migrates the document to version 2.0.0. All ids are derived from `seed`, which identifies the
    /// document.
    pub(crate) fn migrate(self, seed: &str) -> v2::Document {
        let branch = BranchId::from_uuid(derived_uuid(seed, "branch", 0));
        let metadata = self.metadata.unwrap_or_default();
        let exported_at = metadata.exported_at.as_ref().and_then(crate::time::from_json);
        let mut last = None;
        let mut messages = Vec::new();
        for (index, message) in self.messages.into_iter().enumerate() {
            let at = message.created_at.as_ref().and_then(crate::time::from_json).or(last).or(exported_at);
            last = at.or(last);
            messages.push(migrate_message(message, seed, index, at.unwrap_or(Timestamp::UNIX_EPOCH)));
        }
        let head = messages.len() as Seq;
        let created_at = messages
            .first()
            .map_or(exported_at.unwrap_or(Timestamp::UNIX_EPOCH), |message| message.created_at);
        let updated_at = messages.last().map_or(created_at, |message| message.created_at);
        let checkpoints = self.checkpoints.into_iter().enumerate();
        let checkpoints = checkpoints
            .map(|(index, checkpoint)| {
                let id = CheckpointId::from_uuid(derived_uuid(seed, "checkpoint", index));
                migrate_checkpoint(checkpoint, id, branch, &messages)
            })
            .collect();
        let mut extra = self.rest;
        let runs = match self.run_snapshot {
            Some(Value::Null) | None => Vec::new(),
            Some(snapshot) => match run(&snapshot, seed, branch, updated_at) {
                Some(run) => vec![run],
                None => {
                    extra.insert("run_snapshot".into(), snapshot);
                    Vec::new()
                }
            },
        };
        if let Some(version) = metadata.hfs_version {
            extra.insert("hfs_version".into(), version);
        }
        let name = metadata.session_name.filter(|name| !name.is_empty());
        v2::Document {
            session: v2::Session {
                id: SessionId::from_uuid(derived_uuid(seed, "session", 0)),
                automatic_name: name.is_none(),
                name: name.unwrap_or_default(),
                project: None,
                created_at,
                updated_at,
                current_branch: branch,
                origin: None,
                extra,
            },
            branches: vec![v2::BranchWithMessages {
                branch: v2::Branch {
                    id: branch,
                    name: MAIN_BRANCH.into(),
                    parent: None,
                    forked_at: 0,
                    head,
                    undone: false,
                },
                messages,
            }],
            runs,
            checkpoints,
        }
    }
}

fn migrate_message(message: Message, seed: &str, index: usize, created_at: Timestamp) -> v2::Message {
    let mut extra = Map::new();
    let mut rest = message.rest;
    let known = ["user", "assistant", "system", "tool"].contains(&message.role.as_str());
    let role = role(&message.role);
    if !known {
        rest.insert("role".into(), message.role.into());
    }
    let parts = match message.content {
        Value::String(text) => vec![v2::Part::Text { text }],
        Value::Null => Vec::new(),
        other => vec![v2::Part::Opaque { source: "hfs".into(), raw: other }],
    };
    if !rest.is_empty() {
        extra.insert("records".into(), json!([rest]));
    }
    v2::Message {
        id: MessageId::from_uuid(derived_uuid(seed, "message", index)),
        seq: index as Seq + 1,
        role,
        status: v2::Status::Complete,
        created_at,
        agent: None,
        model: None,
        usage: None,
        source: Some(v2::Source { format: "hfs".into(), id: (index + 1).to_string() }),
        parts,
        extra,
    }
}

fn migrate_checkpoint(
    checkpoint: Checkpoint,
    id: CheckpointId,
    branch: BranchId,
    messages: &[v2::Message],
) -> v2::Checkpoint {
    let created_at =
        checkpoint.created_at.as_ref().and_then(crate::time::from_json).unwrap_or(Timestamp::UNIX_EPOCH);
    let count = messages.len() as Seq;
    // The index is that of the newest message, counted from 0. Without an index, find that message by its
    // time.
    let seq = checkpoint.message_index.map_or_else(
        || {
            messages
                .iter()
                .rposition(|message| message.created_at <= created_at)
                .map_or(0, |at| at as Seq + 1)
        },
        |index| index.saturating_add(1).min(count),
    );
    let label = checkpoint.rest.get("label").and_then(Value::as_str).map(str::to_owned);
    v2::Checkpoint {
        id,
        branch,
        seq,
        trigger: checkpoint.trigger.unwrap_or_else(|| Trigger::Manual.to_string()),
        label,
        pinned: false,
        created_at,
        state: json!({ "run_snapshot": RunSnapshot::default(), "agents": {}, "plugins": {} }),
    }
}

/// The run of a snapshot; `None` if the snapshot is not valid in the current version.
fn run(snapshot: &Value, seed: &str, branch: BranchId, at: Timestamp) -> Option<v2::Run> {
    let fields = snapshot.as_object()?;
    let mut merged = serde_json::to_value(RunSnapshot::default()).ok()?;
    let target = merged.as_object_mut()?;
    for key in ["agent_tree", "negotiation", "usage", "timeline"] {
        // Fields that the old snapshot lacks have their default values.
        if let (Some(Value::Object(value)), Some(Value::Object(into))) =
            (fields.get(key), target.get_mut(key))
        {
            into.extend(value.clone());
        }
    }
    let snapshot: RunSnapshot = serde_json::from_value(merged.clone()).ok()?;
    Some(v2::Run {
        id: RunId::from_uuid(derived_uuid(seed, "run", 0)),
        branch,
        answers: None,
        started_at: snapshot.timeline.started_at.unwrap_or(at),
        ended_at: Some(snapshot.timeline.ended_at.unwrap_or(at)),
        snapshot: serde_json::to_value(&snapshot).ok()?,
        events: Vec::new(),
    })
}
