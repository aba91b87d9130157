//! The one door to model providers. Behind it is the `genai` library; nobody else here knows its types.
//!
//! What the door adds to the library:
//! - a failed status of a streamed call is buried in a boxed error there; here it decides about trying again
//! - a Gemini or Ollama stream that was cut ends there like a whole one; here the missing stop reason tells
//! - a model name such as `qwen-max` loses its last word there, taken for a reasoning effort
//! - redirects are not followed, so that a key in a header of the provider's own is never sent elsewhere

mod failure;
mod retry;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use futures::StreamExt;
use genai::adapter::AdapterKind;
use genai::chat::{
    Binary, ChatMessage, ChatOptions, ChatRequest, ChatStreamEvent, ContentPart, MessageContent,
    ReasoningEffort, StreamEnd,
};
use genai::resolver::{AuthData, Endpoint};
use genai::{Headers, ModelIden, ServiceTarget};
use hfs_core::{AgentError, DeltaKind, Usage};

use crate::model::{Ear, Heard, Model, ModelReply, ModelRequest, PartsBuilder, Piece, Speaker, Turn};
use crate::{ModelConfig, Provider};

use failure::{Attempt, Failure, Voice};

/// A model at a provider.
pub(crate) struct ProviderModel {
    config: ModelConfig,
    base_url: String,
    voice: Voice,
    /// Made at the first request: reading the system's certificates takes time that nothing else should pay.
    client: OnceLock<Option<genai::Client>>,
    /// The model has once refused a temperature; it is not sent again.
    no_temperature: AtomicBool,
}

/// An HTTP client for `url` without a policy of its own on time; `None` when the address makes no sense.
pub(crate) fn bare_client(url: &str) -> Option<reqwest::ClientBuilder> {
    // An error means that one is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let url = reqwest::Url::parse(url).ok()?;
    let builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    let on_this_machine = match url.host_str()? {
        "localhost" | "[::1]" => true,
        host => host.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback()),
    };
    // A proxy cannot reach what is on this machine.
    Some(if on_this_machine { builder.no_proxy() } else { builder })
}

impl ProviderModel {
    pub fn new(config: ModelConfig) -> Self {
        let base_url = config.base_url.as_deref().unwrap_or(config.provider.default_base_url());
        let base_url = with_final_slash(base_url);
        let voice = Voice::new(&config, &base_url);
        Self { config, base_url, voice, client: OnceLock::new(), no_temperature: AtomicBool::new(false) }
    }

    fn client(&self) -> Result<&genai::Client, AgentError> {
        let made = self.client.get_or_init(|| {
            let client = bare_client(&self.base_url)?
                .connect_timeout(self.config.timeouts.connect)
                .tcp_nodelay(true)
                .build()
                .ok()?;
            genai::Client::builder().with_reqwest(client).build().ok()
        });
        made.as_ref().ok_or_else(|| AgentError::Rejected {
            provider: self.voice.label().to_owned(),
            message: "its base address is not a URL such as http://127.0.0.1:8080/v1".into(),
        })
    }

    /// Where and as whom to ask.
    fn target(&self) -> Result<ServiceTarget, AgentError> {
        let auth = match (&self.config.key, self.config.provider) {
            (Some(key), _) => AuthData::from_single(key.expose()),
            (None, Provider::Ollama) => AuthData::None,
            (None, _) if self.config.base_url.is_none() => return Err(self.voice.no_key()),
            (None, Provider::OpenAi) => AuthData::RequestOverride {
                url: format!("{}chat/completions", self.base_url),
                headers: Headers::default(),
            },
            (None, Provider::Anthropic | Provider::Gemini) => AuthData::from_single("none"),
        };
        let adapter = match self.config.provider {
            Provider::OpenAi => AdapterKind::OpenAI,
            Provider::Anthropic => AdapterKind::Anthropic,
            Provider::Gemini => AdapterKind::Gemini,
            Provider::Ollama => AdapterKind::Ollama,
        };
        Ok(ServiceTarget {
            endpoint: Endpoint::from_owned(self.base_url.as_str()),
            auth,
            model: ModelIden::new(adapter, self.config.model.as_str()),
        })
    }

    fn options(&self, request: &ModelRequest) -> ChatOptions {
        let mut options = ChatOptions::default()
            .with_capture_usage(true)
            .with_capture_reasoning_content(true)
            .with_stream_header_timeout(self.config.timeouts.first_byte)
            .with_stream_read_timeout(self.config.timeouts.idle);
        if self.config.provider == Provider::OpenAi {
            // The library reads an effort out of the end of a model's name (`qwen-max`) unless one is given;
            // this one it does not send to this kind of provider.
            options = options.with_reasoning_effort(ReasoningEffort::Budget(0));
        }
        if let Some(most) = request.max_tokens.or(self.config.max_tokens) {
            options = options.with_max_tokens(most);
        }
        if let Some(temperature) = request.temperature.or(self.config.temperature)
            && !self.no_temperature.load(Ordering::Relaxed)
        {
            options = options.with_temperature(temperature);
        }
        options
    }

    /// One attempt, from the request to the end of its stream.
    async fn attempt(&self, request: &ModelRequest, ear: Ear<'_>) -> Result<ModelReply, Failure> {
        let fatal = |error| Failure { error, again: Attempt::Last };
        let client = self.client().map_err(fatal)?;
        let target = self.target().map_err(fatal)?;
        let options = self.options(request);
        let response = client.exec_chat_stream(target, chat_request(request), Some(&options)).await;
        let mut stream = response.map_err(|error| self.voice.failure(&error))?.stream;
        let mut parts = PartsBuilder::default();
        let mut heard_any = false;
        while let Some(event) = stream.next().await {
            let event = event.map_err(|error| {
                let failure = self.voice.failure(&error);
                if heard_any { failure.final_now() } else { failure }
            })?;
            let piece = match event {
                ChatStreamEvent::Chunk(chunk) => (DeltaKind::Text, chunk.content),
                ChatStreamEvent::ReasoningChunk(chunk) => (DeltaKind::Thinking, chunk.content),
                ChatStreamEvent::ThoughtSignatureChunk(chunk) => {
                    parts.sign(&chunk.content);
                    continue;
                }
                ChatStreamEvent::End(end) => return self.ended(end, parts),
                ChatStreamEvent::Start | ChatStreamEvent::ToolCallChunk(_) | ChatStreamEvent::Heartbeat => {
                    continue;
                }
            };
            if !piece.1.is_empty() {
                heard_any = true;
                parts.push(piece.0, &piece.1);
                ear(Heard::Piece(piece.0, &piece.1));
            }
        }
        Err(self.voice.cut(heard_any))
    }

    fn ended(&self, end: StreamEnd, parts: PartsBuilder) -> Result<ModelReply, Failure> {
        let parts = parts.finish();
        let stop_reason = end.captured_stop_reason.map(|reason| reason.raw().to_owned());
        let ends_by_reason = matches!(self.config.provider, Provider::Gemini | Provider::Ollama);
        if ends_by_reason && stop_reason.is_none() {
            return Err(self.voice.cut(!parts.is_empty()));
        }
        let tokens = |count: Option<i32>| u64::try_from(count.unwrap_or(0)).unwrap_or(0);
        let usage = end.captured_usage.map(|usage| Usage {
            prompt_tokens: tokens(usage.prompt_tokens),
            completion_tokens: tokens(usage.completion_tokens),
        });
        Ok(ModelReply { parts, usage, stop_reason })
    }

    /// A refusal of the temperature costs one more request, once.
    fn learns_from(&self, failure: &Failure) -> bool {
        let refused = matches!(
            &failure.error,
            AgentError::Rejected { message, .. } if message.to_ascii_lowercase().contains("temperature")
        );
        refused && !self.no_temperature.swap(true, Ordering::Relaxed)
    }

    async fn attempts(&self, request: &ModelRequest, ear: Ear<'_>) -> Result<ModelReply, AgentError> {
        let mut number = 1;
        loop {
            let failure = match self.attempt(request, ear).await {
                Ok(reply) => return Ok(reply),
                Err(failure) if self.learns_from(&failure) => continue,
                Err(failure) => failure,
            };
            let Some(pause) = retry::pause(&self.config.retries, number, &failure.again) else {
                return Err(failure.error);
            };
            ear(Heard::Retrying(&failure.error, pause));
            tokio::time::sleep(pause).await;
            number += 1;
        }
    }
}

#[async_trait]
impl Model for ProviderModel {
    fn name(&self) -> &str {
        &self.config.model
    }

    async fn reply(&self, request: &ModelRequest, ear: Ear<'_>) -> Result<ModelReply, AgentError> {
        tokio::select! {
            biased;
            () = request.cancel.cancelled() => Err(AgentError::Cancelled),
            reply = self.attempts(request, ear) => reply,
        }
    }
}

/// The library joins paths to the address as it stands.
fn with_final_slash(base_url: &str) -> String {
    let Ok(mut url) = reqwest::Url::parse(base_url) else {
        return base_url.to_owned();
    };
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    url.into()
}

fn chat_request(request: &ModelRequest) -> ChatRequest {
    let chat = ChatRequest::new(request.turns.iter().map(chat_message).collect());
    match &request.system {
        Some(system) => chat.with_system(system.as_str()),
        None => chat,
    }
}

fn chat_message(turn: &Turn) -> ChatMessage {
    let parts: Vec<ContentPart> = turn
        .pieces
        .iter()
        .map(|piece| match piece {
            Piece::Text(text) => ContentPart::from_text(text.as_str()),
            Piece::Image { media_type, base64 } => {
                ContentPart::Binary(Binary::from_base64(media_type.as_str(), base64.as_str(), None))
            }
        })
        .collect();
    let content = MessageContent::from_parts(parts);
    match turn.speaker {
        Speaker::User => ChatMessage::user(content),
        Speaker::Assistant => ChatMessage::assistant(content),
    }
}
