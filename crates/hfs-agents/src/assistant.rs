//! The assistant: one model, one reply.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use hfs_core::{
    Agent, AgentDescription, AgentError, AgentStatus, ContentHash, EventPayload, Message, Part,
    PassthroughFields, ReplyDelta, RunOutcome, RunRequest, RunSink,
};

use crate::model::{Heard, Model, ModelReply, ModelRequest};
use crate::provider::ProviderModel;
use crate::turns::{conversation, images_to_send};
use crate::{ModelConfig, Provider};

/// The id under which the assistant appears in events.
const ID: &str = "assistant";

/// Finds the bytes of an attachment; called off the runtime's threads.
pub type AttachmentSource = Arc<dyn Fn(ContentHash) -> Option<Vec<u8>> + Send + Sync>;

/// Answers with one model.
pub struct Assistant {
    model: ProviderModel,
    provider: Provider,
    system_prompt: Option<String>,
    attachments: Option<AttachmentSource>,
    chosen: Option<String>,
}

impl Assistant {
    /// An assistant on this model. Nothing is connected before the first message.
    #[must_use]
    pub fn new(config: ModelConfig) -> Self {
        Self {
            provider: config.provider,
            system_prompt: config.system_prompt.clone(),
            model: ProviderModel::new(config),
            attachments: None,
            chosen: None,
        }
    }

    /// Lets it show images to the model.
    #[must_use]
    pub fn with_attachments(mut self, source: AttachmentSource) -> Self {
        self.attachments = Some(source);
        self
    }

    /// Says why this model was chosen, for [`AgentDescription::summary`].
    #[must_use]
    pub fn chosen_because(mut self, why: impl Into<String>) -> Self {
        self.chosen = Some(why.into());
        self
    }

    async fn request(&self, request: &RunRequest) -> ModelRequest {
        let images = self.images(&request.history).await;
        let told = conversation(&request.history, &images);
        let system: Vec<&str> =
            self.system_prompt.as_deref().into_iter().chain(told.system.iter().map(String::as_str)).collect();
        ModelRequest {
            system: (!system.is_empty()).then(|| system.join("\n\n")),
            turns: told.turns,
            cancel: request.cancel.clone(),
            ..ModelRequest::default()
        }
    }

    async fn images(&self, history: &[Message]) -> HashMap<ContentHash, Vec<u8>> {
        let wanted = images_to_send(history);
        let Some(source) = self.attachments.clone().filter(|_| !wanted.is_empty()) else {
            return HashMap::new();
        };
        let reading = tokio::task::spawn_blocking(move || {
            wanted.into_iter().filter_map(|hash| source(hash).map(|bytes| (hash, bytes))).collect()
        });
        // Images that cannot be read are named like those that never had bytes.
        reading.await.unwrap_or_default()
    }

    async fn answer(&self, request: RunRequest, sink: &dyn RunSink) -> Result<ModelReply, AgentError> {
        let asked = tokio::select! {
            biased;
            () = request.cancel.cancelled() => return Err(AgentError::Cancelled),
            asked = self.request(&request) => asked,
        };
        let mut ear = |heard: Heard<'_>| match heard {
            Heard::Piece(kind, text) => sink.reply(ReplyDelta { kind, text: text.to_owned() }),
            Heard::Retrying(error, pause) => {
                let pause = pause.as_secs_f64();
                sink.event(failed(format!("{error}; trying again in {pause:.1} s")));
            }
        };
        let reply = self.model.reply(&asked, &mut ear).await?;
        let says_something = reply.parts.iter().any(|part| match part {
            Part::Text { text } => !text.is_empty(),
            _ => false,
        });
        if says_something {
            return Ok(reply);
        }
        let reason = reply.stop_reason.as_deref().unwrap_or("none given");
        Err(AgentError::Malformed {
            provider: self.provider.title().to_owned(),
            message: format!("it ended without a word (reason: {reason})"),
        })
    }
}

fn failed(message: String) -> EventPayload {
    EventPayload::ErrorOccurred { agent: Some(ID.to_owned()), phase: None, message }
}

#[async_trait]
impl Agent for Assistant {
    fn describe(&self) -> AgentDescription {
        let summary = self
            .chosen
            .clone()
            .unwrap_or_else(|| format!("{} of {}", self.model.name(), self.provider.title()));
        AgentDescription::new(ID, summary).with_model(Some(self.model.name().to_owned()))
    }

    async fn run(&self, request: RunRequest, sink: &dyn RunSink) -> Result<RunOutcome, AgentError> {
        let began = Instant::now();
        let model = self.model.name().to_owned();
        sink.event(EventPayload::AgentStarted {
            agent: ID.to_owned(),
            role: ID.to_owned(),
            triad: None,
            preset: None,
            model: Some(model.clone()),
        });
        let answer = self.answer(request, sink).await;
        let status = match &answer {
            Ok(reply) => {
                if let Some(usage) = reply.usage {
                    sink.event(EventPayload::UsageRecorded {
                        agent: ID.to_owned(),
                        phase: None,
                        model: Some(model.clone()),
                        usage,
                    });
                }
                AgentStatus::Complete
            }
            Err(AgentError::Cancelled) => AgentStatus::Idle,
            Err(error) => {
                sink.event(failed(error.to_string()));
                AgentStatus::Blocked
            }
        };
        let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        sink.event(EventPayload::AgentEnded { agent: ID.to_owned(), status, duration_ms });
        let reply = answer?;
        let mut extra = PassthroughFields::new();
        if let Some(reason) = reply.stop_reason {
            extra.insert("stop_reason".to_owned(), reason.into());
        }
        Ok(RunOutcome::new(reply.parts).with_model(Some(model)).with_usage(reply.usage).with_extra(extra))
    }
}
