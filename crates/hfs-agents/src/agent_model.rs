//! An agent as the model of a triad's role: a program of its own, which may read files before it answers.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use hfs_core::{
    Agent, AgentError, AgentMemory, BranchId, CompletedMessage, EventPayload, Message, MessageDraft,
    NotPersisted, Part, ReplyDelta, Role, RunId, RunRequest, RunSink, SessionId, TextDelta, Timestamp, Usage,
    append_delta, lock_unpoisoned,
};

use crate::model::{ChatRole, ChatTurn, Model, ModelReply, ModelRequest, StreamEvent, StreamHandler};

/// Asks an agent as a model is asked. Each request is a session of its own, because a request has all that the agent needs.
pub(crate) struct AgentModel {
    agent: Arc<dyn Agent>,
    name: String,
}

impl AgentModel {
    pub fn new(agent: Arc<dyn Agent>) -> Self {
        let name = agent.describe().name;
        Self { agent, name }
    }
}

#[async_trait]
impl Model for AgentModel {
    fn name(&self) -> &str {
        &self.name
    }

    /// The reply is the last thing that the agent says. What it says before, between its tool calls, is about its work.
    async fn reply(
        &self,
        request: &ModelRequest,
        handler: StreamHandler<'_>,
    ) -> Result<ModelReply, AgentError> {
        let branch = BranchId::generate();
        let content = MessageDraft::user(prompt(request), Timestamp::UNIX_EPOCH);
        let message = Message { branch, seq: 1, content };
        let run = RunRequest::new(RunId::generate(), SessionId::generate(), branch, vec![message])
            .with_cancel(request.cancel.clone());
        let sink = ReplySink::new(handler);
        let outcome = self.agent.run(run, &sink).await?;
        let ReplySink { state, handler } = sink;
        let SinkState { open, last, usage } = state.into_inner().unwrap_or_else(PoisonError::into_inner);
        let parts = if outcome.message.parts.is_empty() { open } else { outcome.message.parts };
        let text = text_of(&parts).or(last).unwrap_or_default();
        if !text.is_empty() {
            let handler = handler.into_inner().unwrap_or_else(PoisonError::into_inner);
            handler(StreamEvent::Delta(TextDelta::text(text.clone())));
        }
        Ok(ModelReply {
            parts: if text.is_empty() { Vec::new() } else { vec![Part::text(text)] },
            usage: outcome.message.usage.or(usage),
            incomplete: outcome.incomplete,
            ..ModelReply::default()
        })
    }
}

/// The request as one message. Agents have instructions of their own, so those of the triad are a part of it.
fn prompt(request: &ModelRequest) -> String {
    let mut texts: Vec<String> = request.system.iter().cloned().collect();
    let (last, earlier) = match request.turns.split_last() {
        Some((last, earlier)) => (Some(last), earlier),
        None => (None, &[][..]),
    };
    for turn in earlier {
        let author = match turn.role {
            ChatRole::User => "You were asked before",
            ChatRole::Assistant => "You answered",
        };
        texts.push(format!("{author}:\n{}", turn.text()));
    }
    texts.extend(last.map(ChatTurn::text));
    texts.push("You may read files to answer. Change nothing. Answer in your last message alone.".to_owned());
    texts.join("\n\n")
}

fn text_of(parts: &[Part]) -> Option<String> {
    let texts = parts.iter().filter_map(|part| match part {
        Part::Text { text } => Some(text.as_str()),
        _ => None,
    });
    let text = texts.collect::<Vec<_>>().join("\n\n");
    (!text.trim().is_empty()).then_some(text)
}

/// Receives the turn of the agent.
struct ReplySink<'a> {
    state: Mutex<SinkState>,
    handler: Mutex<StreamHandler<'a>>,
}

#[derive(Default)]
struct SinkState {
    /// The message that is being written.
    open: Vec<Part>,
    /// The last text before it.
    last: Option<String>,
    usage: Option<Usage>,
}

impl<'a> ReplySink<'a> {
    fn new(handler: StreamHandler<'a>) -> Self {
        Self { state: Mutex::default(), handler: Mutex::new(handler) }
    }
}

#[async_trait]
impl RunSink for ReplySink<'_> {
    fn event(&self, payload: EventPayload) {
        match payload {
            EventPayload::UsageRecorded { usage, .. } => lock_unpoisoned(&self.state).usage = Some(usage),
            // The role reports it.
            EventPayload::UsageUnknown { .. } => {}
            payload => lock_unpoisoned(&self.handler)(StreamEvent::Reported(&payload)),
        }
    }

    fn reply(&self, delta: ReplyDelta) {
        append_delta(&mut lock_unpoisoned(&self.state).open, &delta);
    }

    fn next_message(&self, completed: CompletedMessage, _: Role) {
        let mut state = lock_unpoisoned(&self.state);
        let streamed = std::mem::take(&mut state.open);
        let parts = if completed.parts.is_empty() { streamed } else { completed.parts };
        if let Some(text) = text_of(&parts) {
            state.last = Some(text);
        }
    }

    async fn persist(&self) -> Result<(), NotPersisted> {
        // What the agents of triads do is recorded as events of the run.
        Ok(())
    }

    fn remember(&self, _: &str, _: AgentMemory) {}
}
