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

/// Who decided about a question of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecidedBy {
    /// The options of this run.
    Options,
    /// An earlier decision that holds for all such questions.
    Remembered,
    /// The user.
    User,
    /// There is no terminal to ask the user on.
    NoTerminal,
    /// The turn was cancelled.
    Cancelled,
}

impl DecidedBy {
    /// Words that follow `allowed` or `refused`.
    pub(crate) const fn describe(self) -> &'static str {
        match self {
            Self::User => " by you",
            Self::Remembered => ", as you decided before",
            Self::Options => " by an option of the command",
            Self::NoTerminal => ", because there was no terminal to ask on",
            Self::Cancelled => ", because the run was cancelled",
        }
    }
}

/// How far a step of a plan is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlanStepStatus {
    /// It was not begun.
    Pending,
    /// The agent works on it.
    InProgress,
    /// It is done.
    Completed,
    /// A status of another version.
    #[serde(other)]
    Unknown,
}

/// A step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanStep {
    /// What is to be done.
    pub content: String,
    /// How far it is.
    pub status: PlanStepStatus,
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
        /// Who decided.
        by: DecidedBy,
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
        EventPayload::from_tagged(self)
    }

    /// Reads an event that [`payload`](Self::payload) created. `None` for any other event.
    #[must_use]
    pub fn read(payload: &EventPayload) -> Option<Self> {
        payload.to_tagged(&["session.", "tool.", "permission.", "plan.", "notice.", "agent.updated"])
    }

    /// Says how an agent that begins a session of its own gets the conversation so far. `None` for any other event.
    #[must_use]
    pub fn describe_handover(&self) -> Option<String> {
        let Self::SessionOpened { agent, how, sent_as_text, left_out, .. } = self else { return None };
        match how {
            SessionOpening::Transcript => {
                Some(format!("{agent} has read the conversation so far from a transcript"))
            }
            SessionOpening::New if *sent_as_text > 0 => {
                let missing = match left_out {
                    0 => String::new(),
                    left_out => format!(", without the {left_out} oldest messages"),
                };
                Some(format!(
                    "{agent} begins a session of its own; it gets the conversation so far as text{missing}"
                ))
            }
            SessionOpening::New | SessionOpening::Continued | SessionOpening::Resumed => None,
        }
    }

    /// Describes the event in one line, without its agent.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::SessionOpened { session, how, .. } => match how {
                SessionOpening::Continued => format!("continued its session {session}"),
                SessionOpening::Resumed => format!("resumed its session {session}"),
                SessionOpening::Transcript => format!("read its session {session} from a transcript"),
                SessionOpening::New => format!("began its session {session}"),
            },
            Self::ToolStarted { call, name, title, .. } => describe_call(call, name, title),
            Self::ToolEnded { call, name, title, ending, duration_ms, .. } => {
                let ending = match ending {
                    ToolEnding::Completed => "completed",
                    ToolEnding::Failed => "failed",
                    ToolEnding::Unfinished => "unfinished",
                };
                format!("{} {ending} after {duration_ms} ms", describe_call(call, name, title))
            }
            Self::PermissionRequested { call, title, kind, .. } => {
                format!("may it {}?", describe_action(call, title, kind))
            }
            Self::PermissionDecided { call, title, kind, allowed, by, .. } => {
                let decision = if *allowed { "allowed" } else { "refused" };
                format!("{decision}{}: {}", by.describe(), describe_action(call, title, kind))
            }
            Self::PlanUpdated { steps, .. } => {
                let with_status = |status| steps.iter().filter(move |step| step.status == status);
                let done = with_status(PlanStepStatus::Completed).count();
                let current = with_status(PlanStepStatus::InProgress).next();
                let current = current.map(|step| format!("; now: {}", step.content)).unwrap_or_default();
                format!("{done} of {} steps are done{current}", steps.len())
            }
            Self::NoticeReceived { title, description: Some(more), .. } => format!("{title}: {more}"),
            Self::NoticeReceived { title, description: None, .. } => title.clone(),
            Self::AgentUpdated { update, .. } => update.to_string(),
        }
    }
}

/// The tool of a call, and what the agent calls it.
fn describe_call(call: &str, name: &str, title: &str) -> String {
    match (name, title) {
        ("", "") => call.to_owned(),
        ("", title) => title.to_owned(),
        (name, title) if title.is_empty() || title == name => name.to_owned(),
        (name, title) => format!("{name}: {title}"),
    }
}

/// What a permission is about.
fn describe_action(call: &str, title: &str, kind: &str) -> String {
    let title = if title.is_empty() { call } else { title };
    if kind.is_empty() { title.to_owned() } else { format!("{kind} ({title})") }
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
                by: DecidedBy::User,
                option: Some("allow".into()),
            },
            ToolEvent::PlanUpdated {
                agent: agent(),
                steps: vec![PlanStep {
                    content: "test".into(),
                    status: PlanStepStatus::Pending,
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

    fn described(event: &ToolEvent) -> String {
        let payload = event.payload().unwrap();
        assert_eq!(ToolEvent::read(&payload).as_ref(), Some(event));
        let EventPayload::Custom(custom) = payload else { panic!("{payload:?}") };
        custom.describe()
    }

    #[test]
    fn events_of_tools_are_described_in_words() {
        let (agent, call, kind) = (|| "claude".to_owned(), || "1".to_owned(), || "execute".to_owned());
        let (name, title) = (|| "Bash".to_owned(), || "ls -l".to_owned());
        let started = ToolEvent::ToolStarted {
            agent: agent(),
            call: call(),
            name: name(),
            title: title(),
            kind: kind(),
        };
        assert_eq!(described(&started), "Bash: ls -l");
        let ended = |name: String, title: String| {
            let ending = ToolEnding::Failed;
            ToolEvent::ToolEnded { agent: agent(), call: call(), name, title, ending, duration_ms: 1200 }
        };
        assert_eq!(described(&ended(name(), title())), "Bash: ls -l failed after 1200 ms");
        assert_eq!(described(&ended(String::new(), String::new())), "1 failed after 1200 ms");
        let requested =
            ToolEvent::PermissionRequested { agent: agent(), call: call(), title: title(), kind: kind() };
        assert_eq!(described(&requested), "may it execute (ls -l)?");
        let decided = |allowed, by| ToolEvent::PermissionDecided {
            agent: agent(),
            call: call(),
            title: title(),
            kind: kind(),
            allowed,
            by,
            option: None,
        };
        assert_eq!(described(&decided(true, DecidedBy::User)), "allowed by you: execute (ls -l)");
        assert_eq!(
            described(&decided(false, DecidedBy::NoTerminal)),
            "refused, because there was no terminal to ask on: execute (ls -l)"
        );
        let step =
            |content: &str, status| PlanStep { content: content.into(), status, priority: String::new() };
        let steps = vec![
            step("read", PlanStepStatus::Completed),
            step("write", PlanStepStatus::InProgress),
            step("test", PlanStepStatus::Pending),
        ];
        let plan = ToolEvent::PlanUpdated { agent: agent(), steps };
        assert_eq!(described(&plan), "1 of 3 steps are done; now: write");
    }

    #[test]
    fn other_events_are_described_by_their_fields() {
        for (kind, fields) in [
            ("tool.used", serde_json::json!({"tool": "grep"})),
            ("tool.started", serde_json::json!({"id": 3})),
            ("permission.decided", serde_json::json!({"title": "x"})),
            ("plan.updated", serde_json::json!({"steps": 1})),
            ("context.updated", serde_json::json!({})),
        ] {
            let custom =
                crate::CustomEvent { kind: kind.into(), fields: fields.as_object().cloned().unwrap() };
            assert_eq!(custom.describe(), fields.to_string(), "{kind}");
        }
    }
}
