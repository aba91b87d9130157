//! Events about the requests to a model, for front ends that show what a run waits for.

use serde::{Deserialize, Serialize};

use crate::{EventPayload, WaitStage};

/// An event about a request to a model. The run snapshot ignores it; see [`EventPayload::Custom`].
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
    /// What the front end reports: one sentence without a period.
    #[must_use]
    pub fn describe(&self) -> String {
        let (beginning, end) = self.describe_in_parts();
        format!("{beginning}{end}")
    }

    /// The sentence in two parts. A front end with little room shortens only the first; the second says when a failed
    /// request is sent again.
    #[must_use]
    pub fn describe_in_parts(&self) -> (String, String) {
        match self {
            Self::Waiting { server, stage, limit_ms, .. } => {
                let what = match stage {
                    WaitStage::Connection => "a connection to",
                    WaitStage::FirstToken => "the first words of",
                    WaitStage::NextToken => "the next words of",
                };
                let limit = limit_ms / 1_000;
                (format!("waiting for {what} {server}, at most {limit} s"), String::new())
            }
            Self::Retrying { message, delay_ms, .. } => {
                (message.trim_end_matches('.').to_owned(), format!("; again {}", after(*delay_ms)))
            }
            Self::LeftOut { message, .. } => (message.clone(), String::new()),
        }
    }

    /// The agent that waits, or whose request was changed.
    #[must_use]
    pub fn agent(&self) -> &str {
        match self {
            Self::Waiting { agent, .. } | Self::Retrying { agent, .. } | Self::LeftOut { agent, .. } => agent,
        }
    }

    /// The event to emit.
    #[must_use]
    pub fn payload(&self) -> Option<EventPayload> {
        EventPayload::from_tagged(self)
    }

    /// Reads an event that [`payload`](Self::payload) created. `None` for any other event.
    #[must_use]
    pub fn read(payload: &EventPayload) -> Option<Self> {
        payload.to_tagged(&["request."])
    }
}

/// A delay in seconds, with a fraction only where it matters.
fn after(millis: u64) -> String {
    match millis {
        0..100 => "at once".to_owned(),
        100..2_000 => format!("in {}.{} s", millis / 1_000, millis % 1_000 / 100),
        _ => format!("in {} s", millis.div_ceil(1_000)),
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

    #[test]
    fn a_retry_is_described_by_the_error_and_the_delay() {
        let retry = |delay_ms| {
            let (agent, message) = ("a".to_owned(), "429 slow down".to_owned());
            RequestEvent::Retrying { agent, message, delay_ms }.describe()
        };
        assert_eq!(retry(0), "429 slow down; again at once");
        assert_eq!(retry(400), "429 slow down; again in 0.4 s");
        assert_eq!(retry(3_500), "429 slow down; again in 4 s");
        // Most servers end their message with a period.
        let (agent, message) = ("a".to_owned(), "Rate limit reached.".to_owned());
        let retry = RequestEvent::Retrying { agent, message, delay_ms: 2_000 };
        assert_eq!(retry.describe(), "Rate limit reached; again in 2 s");
        assert_eq!(
            retry.describe_in_parts().1,
            "; again in 2 s",
            "what is shown whole where there is little room"
        );
    }
}
