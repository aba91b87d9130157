//! Events: what happens during a run.
//!
//! An event is serialized with its `type` and its fields. The set of types is open: agents emit types of their own, and
//! an event of an unknown type is kept with all its fields (see [`CustomEvent`]).

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{AgentStatus, ContextUpdate, MessageId, RequestEvent, RunId, Timestamp, ToolEvent, Usage};

/// An event of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Run of the event.
    pub run: RunId,
    /// Position among the run's events, counted from 1.
    pub number: u64,
    /// Time of the event.
    pub at: Timestamp,
    /// Type and fields.
    #[serde(flatten)]
    pub payload: EventPayload,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunEnding {
    /// With a complete reply.
    Completed,
    /// Cancelled by the user.
    Cancelled,
    /// With an error.
    Failed,
}

/// Decision of the arbiter about a contested section.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SectionDecision {
    /// One claimant gets the section.
    Assign,
    /// The section is split between several claimants.
    Split,
    /// The section is merged into another one.
    Merge,
}

/// Decision of a claimant about a contested section in one round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClaimDecision {
    /// It withdraws its claim.
    Concede,
    /// It claims only a part of the section.
    Revise,
    /// It claims the whole section.
    Hold,
}

/// Type and fields of an event. The serialized `type` of a variant is its name in patterns and in checkpoint triggers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields have the meaning of the snapshot's fields of the same name")]
pub enum EventPayload {
    /// A run started. `answers` is the message that it answers.
    #[serde(rename = "run.started")]
    RunStarted { agent: String, answers: Option<MessageId> },
    /// A run ended.
    #[serde(rename = "run.ended")]
    RunEnded { duration_ms: u64, ending: RunEnding },
    /// A phase started.
    #[serde(rename = "phase.started")]
    PhaseStarted { phase: String },
    /// A phase ended.
    #[serde(rename = "phase.ended")]
    PhaseEnded { phase: String, duration_ms: u64 },
    /// An agent started to work. `triad` is absent for an agent that belongs to no triad.
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
    /// An agent stopped working; `status` is `complete`, `idle` or `blocked`.
    #[serde(rename = "agent.ended")]
    AgentEnded { agent: String, status: AgentStatus, duration_ms: u64 },
    /// An agent answered a prompt of its run. `subject` names the answer in a word or two, such as `draft`; `sections` are
    /// the sections that it is about. The reply itself is not an answer.
    #[serde(rename = "agent.answered")]
    AgentAnswered {
        agent: String,
        subject: String,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        sections: Vec<String>,
        text: String,
    },
    /// A triad claimed a section.
    #[serde(rename = "negotiation.claimed")]
    NegotiationClaimed { section: String, claimant: String },
    /// Several triads claim the same section; `temperature` is that of the round.
    #[serde(rename = "negotiation.contested")]
    NegotiationContested { section: String, claimants: Vec<String>, round: u32, temperature: f64 },
    /// A claimant decided about a contested section.
    #[serde(rename = "negotiation.decided")]
    NegotiationDecided { section: String, claimant: String, decision: ClaimDecision, round: u32 },
    /// The owners of a section are decided: one triad, or several if it was split.
    #[serde(rename = "negotiation.resolved")]
    NegotiationResolved { section: String, owners: Vec<String>, round: u32 },
    /// The arbiter decided about a section.
    #[serde(rename = "arbiter.decided")]
    ArbiterDecided { section: String, decision: SectionDecision, owners: Vec<String>, reason: String },
    /// A triad lost agents and continues with the others. `lost` lists all agents lost so far.
    #[serde(rename = "triad.degraded")]
    TriadDegraded { triad: String, lost: Vec<String> },
    /// Tokens were used.
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
    /// A call of a model ended, and its server did not report the tokens.
    #[serde(rename = "usage.unknown")]
    UsageUnknown {
        agent: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        phase: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<String>,
    },
    /// An error occurred. The run may continue.
    #[serde(rename = "error.occurred")]
    ErrorOccurred {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        agent: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        phase: Option<String>,
        message: String,
    },
    /// An event of any other type.
    #[serde(untagged)]
    Custom(CustomEvent),
}

/// An event that hfs-core does not interpret: its type is defined by an agent (such as `tool.started`) or by another
/// version, or its type is known but its fields are not those of that type. It is stored, announced and exported like
/// any other event, and may be named in `checkpoint_on`; the run snapshot ignores it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CustomEvent {
    /// Type of the event.
    #[serde(rename = "type")]
    pub kind: String,
    /// All other fields.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

impl CustomEvent {
    /// Describes the event in one line, without its type. An event that hfs does not know is described by the JSON of its
    /// fields.
    #[must_use]
    pub fn describe(&self) -> String {
        let payload = EventPayload::Custom(self.clone());
        let words = ToolEvent::read(&payload)
            .map(|event| event.describe())
            .or_else(|| RequestEvent::read(&payload).map(|event| event.describe()))
            .or_else(|| ContextUpdate::read(&payload).map(|update| update.describe()));
        words.unwrap_or_else(|| serde_json::to_string(&self.fields).unwrap_or_default())
    }
}

impl EventPayload {
    /// The event of a value whose serialized field `type` is the event's type.
    pub(crate) fn from_tagged(event: &impl Serialize) -> Option<Self> {
        let Ok(Value::Object(mut fields)) = serde_json::to_value(event) else { return None };
        let kind = fields.shift_remove("type")?.as_str()?.to_owned();
        Some(Self::custom(kind, fields))
    }

    /// The value that [`from_tagged`](Self::from_tagged) made this event of. Only events whose type begins with one of the prefixes
    /// are read.
    pub(crate) fn to_tagged<T: DeserializeOwned>(&self, prefixes: &[&str]) -> Option<T> {
        match self {
            Self::Custom(event) if prefixes.iter().any(|prefix| event.kind.starts_with(prefix)) => {
                serde_json::from_value(serde_json::to_value(event).ok()?).ok()
            }
            _ => None,
        }
    }

    /// Types that hfs-core interprets.
    pub const KINDS: [&str; 16] = [
        "run.started",
        "run.ended",
        "phase.started",
        "phase.ended",
        "agent.started",
        "agent.ended",
        "agent.answered",
        "negotiation.claimed",
        "negotiation.contested",
        "negotiation.decided",
        "negotiation.resolved",
        "arbiter.decided",
        "triad.degraded",
        "usage.recorded",
        "usage.unknown",
        "error.occurred",
    ];

    /// Creates an event of a type that an agent defines. A known type with the right fields becomes its variant.
    #[must_use]
    pub fn custom(kind: impl Into<String>, fields: Map<String, Value>) -> Self {
        let event = CustomEvent { kind: kind.into(), fields };
        let is_known = Self::KINDS.contains(&event.kind.as_str());
        let known = is_known.then(|| serde_json::to_value(&event).and_then(serde_json::from_value));
        known.and_then(Result::ok).unwrap_or(Self::Custom(event))
    }

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
            Self::AgentAnswered { .. } => "agent.answered",
            Self::NegotiationClaimed { .. } => "negotiation.claimed",
            Self::NegotiationContested { .. } => "negotiation.contested",
            Self::NegotiationDecided { .. } => "negotiation.decided",
            Self::NegotiationResolved { .. } => "negotiation.resolved",
            Self::ArbiterDecided { .. } => "arbiter.decided",
            Self::TriadDegraded { .. } => "triad.degraded",
            Self::UsageRecorded { .. } => "usage.recorded",
            Self::UsageUnknown { .. } => "usage.unknown",
            Self::ErrorOccurred { .. } => "error.occurred",
            Self::Custom(event) => &event.kind,
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
    fn every_known_type_has_a_variant() {
        let known: Vec<EventPayload> = [
            json!({"agent": "a", "answers": null}),
            json!({"duration_ms": 1, "ending": "completed"}),
            json!({"phase": "p"}),
            json!({"phase": "p", "duration_ms": 1}),
            json!({"agent": "a", "role": "r"}),
            json!({"agent": "a", "status": "complete", "duration_ms": 1}),
            json!({"agent": "a", "subject": "s", "text": "t"}),
            json!({"section": "s", "claimant": "c"}),
            json!({"section": "s", "claimants": ["c"], "round": 1, "temperature": 0.5}),
            json!({"section": "s", "claimant": "c", "decision": "hold", "round": 1}),
            json!({"section": "s", "owners": ["c"], "round": 1}),
            json!({"section": "s", "decision": "split", "owners": ["c"], "reason": "r"}),
            json!({"triad": "t", "lost": ["a"]}),
            json!({"agent": "a", "prompt_tokens": 1, "completion_tokens": 1}),
            json!({"agent": "a"}),
            json!({"message": "m"}),
        ]
        .into_iter()
        .zip(EventPayload::KINDS)
        .map(|(mut fields, kind)| {
            fields["type"] = kind.into();
            serde_json::from_value(fields).unwrap()
        })
        .collect();
        assert!(!known.iter().any(|payload| matches!(payload, EventPayload::Custom(_))), "{known:?}");
        assert_eq!(known.iter().map(EventPayload::kind).collect::<Vec<_>>(), EventPayload::KINDS);
    }

    #[test]
    fn a_known_event_serializes_to_the_json_it_was_read_from() {
        let payload = round_trip(&serde_json::json!({
            "type": "usage.recorded", "agent": "a", "prompt_tokens": 3, "completion_tokens": 4
        }));
        assert_eq!(payload.kind(), "usage.recorded");
    }

    #[test]
    fn an_event_of_an_unknown_type_keeps_all_its_fields() {
        let json = serde_json::json!({"type": "tool.used", "tool": "grep", "nested": {"a": [1, null]}});
        let payload = round_trip(&json);
        assert_eq!(payload.kind(), "tool.used");
        assert!(matches!(payload, EventPayload::Custom(_)));
    }

    #[test]
    fn a_known_type_with_other_fields_becomes_a_custom_event() {
        let payload = round_trip(&serde_json::json!({"type": "phase.ended", "name": "from another version"}));
        assert_eq!(payload.kind(), "phase.ended");
        assert!(matches!(payload, EventPayload::Custom(_)));
    }

    #[test]
    fn custom_keeps_a_new_type_and_converts_a_known_type_to_its_variant() {
        let fields = |json: Value| json.as_object().cloned().unwrap();
        let own = EventPayload::custom("tool.started", fields(json!({"tool": "grep"})));
        assert_eq!(own.kind(), "tool.started");
        assert_eq!(round_trip(&json!({"type": "tool.started", "tool": "grep"})), own);
        let known = EventPayload::custom("phase.started", fields(json!({"phase": "draft"})));
        assert_eq!(known, EventPayload::PhaseStarted { phase: "draft".into() });
    }

    #[test]
    fn an_event_round_trips_through_json() {
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
