//! The agent that sends the conversation to one model.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use hfs_core::{
    Agent, AgentDescription, AgentError, AgentStatus, CompletedMessage, ContentHash, ContextLimit,
    EventPayload, Message, ModelContext, Part, PassthroughFields, RunOutcome, RunRequest, RunSink,
};

use crate::model::{ChatTurns, Model, ModelReply, ModelRequest, StreamEvent, images_to_send};
use crate::provider::{ProviderModel, takes_thinking_back};
use crate::summary::summarize;
use crate::{ModelConfig, Provider};

/// Agent id in events.
const ID: &str = "assistant";

/// Loads the bytes of an attachment. May block: it is called on tokio's blocking thread pool.
pub type AttachmentSource = Arc<dyn Fn(ContentHash) -> Option<Vec<u8>> + Send + Sync>;

/// An agent that answers with one model.
pub struct Assistant {
    model: ProviderModel,
    provider: Provider,
    system_prompt: Option<String>,
    attachments: Option<AttachmentSource>,
    selection_reason: Option<String>,
}

impl Assistant {
    /// Creates an assistant. It connects to the provider at its first request.
    #[must_use]
    pub fn new(config: ModelConfig) -> Self {
        Self {
            provider: config.provider,
            system_prompt: config.system_prompt.clone(),
            model: ProviderModel::new(config),
            attachments: None,
            selection_reason: None,
        }
    }

    /// Sets where images of the conversation are loaded from. Without it, only their names are sent.
    #[must_use]
    pub fn with_attachments(mut self, source: AttachmentSource) -> Self {
        self.attachments = Some(source);
        self
    }

    /// Sets why this model was chosen, which becomes the [`AgentDescription::summary`].
    #[must_use]
    pub fn with_selection_reason(mut self, reason: impl Into<String>) -> Self {
        self.selection_reason = Some(reason.into());
        self
    }

    async fn model_request(&self, request: &RunRequest) -> ModelRequest {
        let images = self.load_images(&request.history).await;
        let thinking_model = takes_thinking_back(self.provider).then(|| self.model.name());
        let chat = ChatTurns::from_history(&request.history, &images, thinking_model);
        let system: Vec<&str> =
            self.system_prompt.as_deref().into_iter().chain(chat.system.iter().map(String::as_str)).collect();
        ModelRequest {
            system: (!system.is_empty()).then(|| system.join("\n\n")),
            turns: chat.turns,
            cancel: request.cancel.clone(),
            ..ModelRequest::default()
        }
    }

    async fn load_images(&self, history: &[Message]) -> HashMap<ContentHash, Vec<u8>> {
        let wanted = images_to_send(history);
        let Some(source) = self.attachments.clone().filter(|_| !wanted.is_empty()) else {
            return HashMap::new();
        };
        let loading = tokio::task::spawn_blocking(move || {
            wanted.into_iter().filter_map(|hash| source(hash).map(|bytes| (hash, bytes))).collect()
        });
        // If loading panics, the request names the images instead of sending them.
        loading.await.unwrap_or_default()
    }

    /// Asks the model. Sets `has_output` when a part of the reply has arrived.
    async fn reply(
        &self,
        request: RunRequest,
        sink: &dyn RunSink,
        has_output: &mut bool,
    ) -> Result<ModelReply, AgentError> {
        let model_request = tokio::select! {
            biased;
            () = request.cancel.cancelled() => return Err(AgentError::Cancelled),
            model_request = self.model_request(&request) => model_request,
        };
        let mut handler = |event: StreamEvent<'_>| {
            if let Some(payload) = event.payload(ID) {
                sink.event(payload);
            }
            if let StreamEvent::Delta(delta) = event {
                *has_output = true;
                sink.reply(delta.into());
            }
        };
        let reply = self.model.reply(&model_request, &mut handler).await?;
        let has_text = reply.parts.iter().any(|part| match part {
            Part::Text { text } => !text.is_empty(),
            _ => false,
        });
        if has_text || reply.incomplete.is_some() {
            return Ok(reply);
        }
        let reason = reply.stop_reason.as_deref().unwrap_or("none given");
        let tools = match reply.called_tools.as_slice() {
            [] => String::new(),
            tools => format!("; the model called {}, and hfs offers no tools", tools.join(", ")),
        };
        Err(AgentError::Malformed {
            provider: self.model.label().to_owned(),
            message: format!("the reply contains no text (stop reason: {reason}){tools}"),
        })
    }
}

#[async_trait]
impl Agent for Assistant {
    fn describe(&self) -> AgentDescription {
        let summary = self
            .selection_reason
            .clone()
            .unwrap_or_else(|| format!("{} of {}", self.model.name(), self.provider.title()));
        AgentDescription::new(ID, summary)
            .with_model(Some(self.model.name().to_owned()))
            .with_images(self.attachments.is_some())
            .with_context(self.model.known_limit().map_or(ModelContext::Unknown, ModelContext::Limited))
    }

    async fn context_limit(&self) -> Option<ContextLimit> {
        self.model.context_limit().await
    }

    async fn summarize(&self, request: RunRequest) -> Result<RunOutcome, AgentError> {
        summarize(&self.model, &request, self.model.label()).await
    }

    async fn run(&self, request: RunRequest, sink: &dyn RunSink) -> Result<RunOutcome, AgentError> {
        let started = Instant::now();
        let model = self.model.name().to_owned();
        sink.event(EventPayload::AgentStarted {
            agent: ID.to_owned(),
            role: ID.to_owned(),
            triad: None,
            preset: None,
            model: Some(model.clone()),
        });
        let mut has_output = false;
        let result = self.reply(request, sink, &mut has_output).await;
        if result.is_err() && has_output {
            // The server has counted tokens, but reports them only at the end of a reply.
            let (agent, phase, model) = (ID.to_owned(), None, Some(model.clone()));
            sink.event(EventPayload::UsageUnknown { agent, phase, model });
        }
        let status = match &result {
            Ok(reply) => {
                let (agent, phase, model) = (ID.to_owned(), None, Some(model.clone()));
                sink.event(match reply.usage {
                    Some(usage) => EventPayload::UsageRecorded { agent, phase, model, usage },
                    None => EventPayload::UsageUnknown { agent, phase, model },
                });
                if reply.incomplete.is_none() { AgentStatus::Complete } else { AgentStatus::Blocked }
            }
            Err(AgentError::Cancelled) => AgentStatus::Idle,
            // The engine records the error of the run.
            Err(_) => AgentStatus::Blocked,
        };
        let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        sink.event(EventPayload::AgentEnded { agent: ID.to_owned(), status, duration_ms });
        let reply = result?;
        let mut extra = PassthroughFields::new();
        if let Some(reason) = reply.stop_reason {
            extra.insert("stop_reason".to_owned(), reason.into());
        }
        let message = CompletedMessage::new(reply.parts)
            .with_model(Some(model))
            .with_usage(reply.usage)
            .with_extra(extra);
        Ok(RunOutcome::new(message).with_incomplete(reply.incomplete))
    }
}
