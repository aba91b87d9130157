//! What happens during a run, in the past tense.
//!
//! Events are a growing set: each is written with its `type` and its fields, and one that this version does
//! not know is carried as it came.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{AgentStatus, MessageId, RunId, Timestamp, Usage};

/// Something that happened in a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The run it happened in.
    pub run: RunId,
    /// Its place among the run's events, from 1.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub payload: EventPayload,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunEnding {
    /// With a reply.
    Completed,
    /// The user stopped it.
    Cancelled,
    /// It could not go on.
    Failed,
}

/// What the arbiter of a contested section decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SectionDecision {
    /// One claimant gets it.
    Assign,
    /// It is divided among several.
    Split,
    /// It is joined with another section.
    Merge,
}

/// What a claimant of a contested section decided in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClaimDecision {
    /// It gives the section up.
    Concede,
    /// It wants a part of the section only.
    Revise,
    /// It wants the whole section.
    Hold,
}

/// What happened. The serialized `type` of each variant is its name in patterns and checkpoints' triggers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields say what they are; their meaning is that of the snapshot's")]
pub enum EventPayload {
    /// A run began, to answer `answers`.
    #[serde(rename = "run.started")]
    RunStarted { agent: String, answers: Option<MessageId> },
    /// A run ended.
    #[serde(rename = "run.ended")]
    RunEnded { duration_ms: u64, ending: RunEnding },
    /// A phase began.
    #[serde(rename = "phase.started")]
    PhaseStarted { phase: String },
    /// A phase ended.
    #[serde(rename = "phase.ended")]
    PhaseEnded { phase: String, duration_ms: u64 },
    /// An agent set to work. `triad` is absent for a lone agent.
    #[serde(rename = "agent.started")]
    AgentStarted {
        agent: String,
        role: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        triad: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        preset: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<String>,
    },
    /// An agent stopped working; `status` says whether it is done, idle or blocked.
    #[serde(rename = "agent.ended")]
    AgentEnded { agent: String, status: AgentStatus, duration_ms: u64 },
    /// A triad claimed a section.
    #[serde(rename = "negotiation.claimed")]
    NegotiationClaimed { section: String, claimant: String },
    /// Several triads claim the same section; `temperature` is that of the round.
    #[serde(rename = "negotiation.contested")]
    NegotiationContested { section: String, claimants: Vec<String>, round: u32, temperature: f64 },
    /// A claimant decided what to do about a contested section.
    #[serde(rename = "negotiation.decided")]
    NegotiationDecided { section: String, claimant: String, decision: ClaimDecision, round: u32 },
    /// A section found its owners: one, or several where it was split.
    #[serde(rename = "negotiation.resolved")]
    NegotiationResolved { section: String, owners: Vec<String>, round: u32 },
    /// The arbiter decided about a section.
    #[serde(rename = "arbiter.decided")]
    ArbiterDecided { section: String, decision: SectionDecision, owners: Vec<String>, reason: String },
    /// A triad lost agents and goes on with those that are left. `lost` names all that it has lost so far.
    #[serde(rename = "triad.degraded")]
    TriadDegraded { triad: String, lost: Vec<String> },
    /// Tokens were spent.
    #[serde(rename = "usage.recorded")]
    UsageRecorded {
        agent: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        phase: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<String>,
        #[serde(flatten)]
        usage: Usage,
    },
    /// Something failed. The run may go on.
    #[serde(rename = "error.occurred")]
    ErrorOccurred {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        agent: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        phase: Option<String>,
        message: String,
    },
    /// A type that this version does not know.
    #[serde(untagged)]
    Unknown(UnknownPayload),
}

/// An event of a type that this version does not know, kept whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnknownPayload {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// All its other fields.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

impl EventPayload {
    /// The types that this version knows.
    pub const KINDS: [&str; 14] = [
        "run.started",
        "run.ended",
        "phase.started",
        "phase.ended",
        "agent.started",
        "agent.ended",
        "negotiation.claimed",
        "negotiation.contested",
        "negotiation.decided",
        "negotiation.resolved",
        "arbiter.decided",
        "triad.degraded",
        "usage.recorded",
        "error.occurred",
    ];

    /// The dotted type, such as `run.ended`.
    #[must_use]
    pub fn kind(&self) -> &str {
        match self {
            Self::RunStarted { .. } => "run.started",
            Self::RunEnded { .. } => "run.ended",
            Self::PhaseStarted { .. } => "phase.started",
            Self::PhaseEnded { .. } => "phase.ended",
            Self::AgentStarted { .. } => "agent.started",
            Self::AgentEnded { .. } => "agent.ended",
            Self::NegotiationClaimed { .. } => "negotiation.claimed",
            Self::NegotiationContested { .. } => "negotiation.contested",
            Self::NegotiationDecided { .. } => "negotiation.decided",
            Self::NegotiationResolved { .. } => "negotiation.resolved",
            Self::ArbiterDecided { .. } => "arbiter.decided",
            Self::TriadDegraded { .. } => "triad.degraded",
            Self::UsageRecorded { .. } => "usage.recorded",
            Self::ErrorOccurred { .. } => "error.occurred",
            Self::Unknown(unknown) => &unknown.kind,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn round_trip(json: &Value) -> EventPayload {
        let payload: EventPayload = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(&serde_json::to_value(&payload).unwrap(), json);
        payload
    }

    #[test]
    fn the_known_types_are_those_of_the_payloads() {
        let known: Vec<EventPayload> = [
            json!({"agent": "a", "answers": null}),
            json!({"duration_ms": 1, "ending": "completed"}),
            json!({"phase": "p"}),
            json!({"phase": "p", "duration_ms": 1}),
            json!({"agent": "a", "role": "r"}),
            json!({"agent": "a", "status": "complete", "duration_ms": 1}),
            json!({"section": "s", "claimant": "c"}),
            json!({"section": "s", "claimants": ["c"], "round": 1, "temperature": 0.5}),
            json!({"section": "s", "claimant": "c", "decision": "hold", "round": 1}),
            json!({"section": "s", "owners": ["c"], "round": 1}),
            json!({"section": "s", "decision": "split", "owners": ["c"], "reason": "r"}),
            json!({"triad": "t", "lost": ["a"]}),
            json!({"agent": "a", "prompt_tokens": 1, "completion_tokens": 1}),
            json!({"message": "m"}),
        ]
        .into_iter()
        .zip(EventPayload::KINDS)
        .map(|(mut fields, kind)| {
            fields["type"] = kind.into();
            serde_json::from_value(fields).unwrap()
        })
        .collect();
        assert!(!known.iter().any(|payload| matches!(payload, EventPayload::Unknown(_))), "{known:?}");
        assert_eq!(known.iter().map(EventPayload::kind).collect::<Vec<_>>(), EventPayload::KINDS);
    }

    #[test]
    fn a_known_event_keeps_its_wire_form() {
        let payload = round_trip(&serde_json::json!({
            "type": "usage.recorded", "agent": "a", "prompt_tokens": 3, "completion_tokens": 4
        }));
        assert_eq!(payload.kind(), "usage.recorded");
    }

    #[test]
    fn an_unknown_event_is_carried_whole() {
        let json = serde_json::json!({"type": "tool.used", "tool": "grep", "nested": {"a": [1, null]}});
        let payload = round_trip(&json);
        assert_eq!(payload.kind(), "tool.used");
        assert!(matches!(payload, EventPayload::Unknown(_)));
    }

    #[test]
    fn a_known_type_with_other_fields_is_carried_rather_than_refused() {
        let payload = round_trip(&serde_json::json!({"type": "phase.ended", "name": "from another time"}));
        assert_eq!(payload.kind(), "phase.ended");
        assert!(matches!(payload, EventPayload::Unknown(_)));
    }

    #[test]
    fn a_whole_event_survives_json() {
        let event = Event {
            run: RunId::generate(),
            number: 7,
            at: Timestamp::UNIX_EPOCH,
            payload: EventPayload::RunEnded { duration_ms: 12, ending: RunEnding::Cancelled },
        };
        let json = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&json).unwrap(), event);
    }
}
