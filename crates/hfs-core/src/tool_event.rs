//! Events of agents that use tools, for front ends that show what such an agent does.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::EventPayload;

/// How a tool call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolEnding {
    /// It succeeded.
    Completed,
    /// It failed, or was refused.
    Failed,
    /// The turn ended before the call did.
    Unfinished,
}

/// How an agent's own session was opened for a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionOpening {
    /// It was open already.
    Continued,
    /// The agent continues an earlier session of its own.
    Resumed,
    /// A new session, which the agent has read from a transcript with the branch's history.
    Transcript,
    /// A new session.
    New,
}

/// A step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanStep {
    /// What is to be done.
    pub content: String,
    /// `pending`, `in_progress` or `completed`.
    pub status: String,
    /// `high`, `medium` or `low`.
    #[serde(default)]
    pub priority: String,
}

/// An event of an agent that uses tools. The run snapshot ignores it; see [`EventPayload::Custom`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
#[non_exhaustive]
pub enum ToolEvent {
    /// The agent's own session was opened.
    #[serde(rename = "session.opened")]
    SessionOpened {
        /// Name of the agent.
        agent: String,
        /// The agent's id of its session.
        session: String,
        /// How it was opened.
        how: SessionOpening,
        /// Number of messages of the conversation that were sent as text, because the agent does not have them.
        sent_as_text: u64,
        /// Number of older messages that the agent is not given.
        left_out: u64,
    },
    /// A tool call started.
    #[serde(rename = "tool.started")]
    ToolStarted {
        /// Name of the agent.
        agent: String,
        /// Id of the call.
        call: String,
        /// Name of the tool.
        name: String,
        /// The agent's description of the call.
        title: String,
        /// What it does, such as `read` or `execute`.
        kind: String,
    },
    /// A tool call ended.
    #[serde(rename = "tool.ended")]
    ToolEnded {
        /// Name of the agent.
        agent: String,
        /// Id of the call.
        call: String,
        /// Name of the tool.
        name: String,
        /// The agent's description of the call.
        title: String,
        /// How it ended.
        ending: ToolEnding,
        /// From its start to its end.
        duration_ms: u64,
    },
    /// The agent asks whether it may do something.
    #[serde(rename = "permission.requested")]
    PermissionRequested {
        /// Name of the agent.
        agent: String,
        /// Id of the call.
        call: String,
        /// The agent's description of the call.
        title: String,
        /// What it does, such as `read` or `execute`.
        kind: String,
    },
    /// A question of the agent was answered.
    #[serde(rename = "permission.decided")]
    PermissionDecided {
        /// Name of the agent.
        agent: String,
        /// Id of the call.
        call: String,
        /// The agent's description of the call.
        title: String,
        /// What it does, such as `read` or `execute`.
        kind: String,
        /// Whether the agent may act.
        allowed: bool,
        /// Who decided: `options`, `remembered`, `user`, `no_terminal` or `cancelled`.
        by: String,
        /// The agent's id of the chosen option.
        option: Option<String>,
    },
    /// The agent's plan changed.
    #[serde(rename = "plan.updated")]
    PlanUpdated {
        /// Name of the agent.
        agent: String,
        /// The whole plan.
        steps: Vec<PlanStep>,
    },
    /// The agent tells the user something that is not part of the conversation.
    #[serde(rename = "notice.received")]
    NoticeReceived {
        /// Name of the agent.
        agent: String,
        /// `info`, `warning` or `error`.
        severity: String,
        /// The message.
        title: String,
        /// More about it.
        description: Option<String>,
    },
    /// Anything else that the agent reported, as it came.
    #[serde(rename = "agent.updated")]
    AgentUpdated {
        /// Name of the agent.
        agent: String,
        /// The report.
        update: Value,
    },
}

impl ToolEvent {
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
        const PREFIXES: [&str; 6] = ["session.", "tool.", "permission.", "plan.", "notice.", "agent.updated"];
        match payload {
            EventPayload::Custom(event) if PREFIXES.iter().any(|prefix| event.kind.starts_with(prefix)) => {
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
        let agent = || "claude".to_owned();
        let call = || "call".to_owned();
        let events = [
            ToolEvent::SessionOpened {
                agent: agent(),
                session: "s".into(),
                how: SessionOpening::New,
                sent_as_text: 3,
                left_out: 1,
            },
            ToolEvent::ToolStarted {
                agent: agent(),
                call: call(),
                name: "Bash".into(),
                title: "ls".into(),
                kind: "execute".into(),
            },
            ToolEvent::ToolEnded {
                agent: agent(),
                call: call(),
                name: "Bash".into(),
                title: "ls".into(),
                ending: ToolEnding::Unfinished,
                duration_ms: 5,
            },
            ToolEvent::PermissionRequested {
                agent: agent(),
                call: call(),
                title: "ls".into(),
                kind: "execute".into(),
            },
            ToolEvent::PermissionDecided {
                agent: agent(),
                call: call(),
                title: "ls".into(),
                kind: "execute".into(),
                allowed: true,
                by: "user".into(),
                option: Some("allow".into()),
            },
            ToolEvent::PlanUpdated {
                agent: agent(),
                steps: vec![PlanStep {
                    content: "test".into(),
                    status: "pending".into(),
                    priority: "high".into(),
                }],
            },
            ToolEvent::NoticeReceived {
                agent: agent(),
                severity: "info".into(),
                title: "t".into(),
                description: None,
            },
            ToolEvent::AgentUpdated { agent: agent(), update: serde_json::json!({"sessionUpdate": "x"}) },
        ];
        for event in events {
            assert_eq!(ToolEvent::read(&event.payload().unwrap()), Some(event));
        }
        assert_eq!(ToolEvent::read(&EventPayload::PhaseStarted { phase: "x".into() }), None);
    }
}
