//! Events about the requests to a model, for front ends that show what a run waits for.

use hfs_core::{EventPayload, WaitStage};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::StreamEvent;

/// An event about a request to a model. It has a type that hfs-core does not interpret; see [`EventPayload::Custom`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
#[non_exhaustive]
pub enum RequestEvent {
    /// A request has waited for some seconds. Not emitted for short waits.
    #[serde(rename = "request.waiting")]
    Waiting {
        /// Agent that waits.
        agent: String,
        /// Display name of the server.
        server: String,
        /// What is waited for.
        stage: WaitStage,
        /// Limit for the whole wait.
        limit_ms: u64,
    },
    /// A request failed and is sent again after a delay.
    #[serde(rename = "request.retrying")]
    Retrying {
        /// Agent that waits.
        agent: String,
        /// The error.
        message: String,
        /// Time until the next attempt.
        delay_ms: u64,
    },
    /// A part of the conversation was not sent, because the model does not accept it.
    #[serde(rename = "request.left_out")]
    LeftOut {
        /// Agent whose request was changed.
        agent: String,
        /// What was left out, and why.
        message: String,
    },
}

impl RequestEvent {
    /// The event for a step of a request of `agent`. `None` for a piece of the reply.
    pub(crate) fn of_stream(agent: &str, event: &StreamEvent<'_>) -> Option<Self> {
        let agent = agent.to_owned();
        let millis = |duration: &std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        match event {
            StreamEvent::Delta(_) => None,
            StreamEvent::Waiting { server, stage, limit } => Some(Self::Waiting {
                agent,
                server: (*server).to_owned(),
                stage: *stage,
                limit_ms: millis(limit),
            }),
            StreamEvent::Retrying(error, delay) => {
                Some(Self::Retrying { agent, message: error.to_string(), delay_ms: millis(delay) })
            }
            StreamEvent::LeftOut(message) => Some(Self::LeftOut { agent, message: (*message).to_owned() }),
        }
    }

    /// The event to emit.
    #[must_use]
    pub fn payload(&self) -> Option<EventPayload> {
        let Ok(Value::Object(mut fields)) = serde_json::to_value(self) else { return None };
        let kind = fields.shift_remove("type")?.as_str()?.to_owned();
        Some(EventPayload::custom(kind, fields))
    }

    /// Reads an event that [`payload`](Self::payload) created. `None` for any other event.
    #[must_use]
    pub fn read(payload: &EventPayload) -> Option<Self> {
        match payload {
            EventPayload::Custom(event) if event.kind.starts_with("request.") => {
                serde_json::from_value(serde_json::to_value(event).ok()?).ok()
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read_as_it_was_emitted() {
        let events = [
            RequestEvent::Waiting {
                agent: "assistant".into(),
                server: "Ollama".into(),
                stage: WaitStage::FirstToken,
                limit_ms: 300_000,
            },
            RequestEvent::Retrying { agent: "a".into(), message: "busy".into(), delay_ms: 10 },
            RequestEvent::LeftOut { agent: "a".into(), message: "no images".into() },
        ];
        for event in events {
            let payload = event.payload().unwrap();
            assert!(payload.kind().starts_with("request."), "{payload:?}");
            assert_eq!(RequestEvent::read(&payload), Some(event));
        }
        assert_eq!(RequestEvent::read(&EventPayload::PhaseStarted { phase: "x".into() }), None);
    }
}
