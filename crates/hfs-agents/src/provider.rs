//! The client of the model providers, built on the `genai` library. No other module uses genai's types.
//!
//! It works around four properties of genai:
//! - genai boxes the status of a failed streaming call in an opaque error; here the status decides whether to
//!   retry.
//! - In genai a truncated stream of Gemini or Ollama ends like a complete one; here a missing stop reason is an
//!   error.
//! - genai takes the last word of a model name such as `qwen-max` for a reasoning effort and removes it; here
//!   the name is sent unchanged.
//! - Redirects are not followed, because a provider-specific key header would be sent to the new host as well.

mod error_mapper;
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
use hfs_core::{AgentError, Backoff, DeltaKind, Part, ReplyDelta, Usage, append_delta};

use crate::model::{
    ChatPart, ChatRole, ChatTurn, Model, ModelReply, ModelRequest, StreamEvent, StreamHandler,
};
use crate::{ModelConfig, Provider, RetryPolicy};

use error_mapper::{AttemptError, ProviderErrorMapper};
use retry::RetryAdvice;

pub(crate) struct ProviderModel {
    config: ModelConfig,
    base_url: String,
    errors: ProviderErrorMapper,
    // Created at the first request: loading the system's certificates is slow, and commands that send no
    // request must not pay for it. `None` if the base URL is not valid.
    client: OnceLock<Option<genai::Client>>,
    /// Set once the model has rejected the temperature, which is then left out of all requests.
    temperature_rejected: AtomicBool,
}

/// An HTTP client for `url` without timeouts and redirects. `None` if the URL is not valid.
pub(crate) fn client_builder(url: &str) -> Option<reqwest::ClientBuilder> {
    // Fails only if a crypto provider is already installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let url = reqwest::Url::parse(url).ok()?;
    let builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    let is_loopback = match url.host_str()? {
        "localhost" | "[::1]" => true,
        host => host.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback()),
    };
    // A proxy cannot reach servers on this machine.
    Some(if is_loopback { builder.no_proxy() } else { builder })
}

impl ProviderModel {
    pub fn new(config: ModelConfig) -> Self {
        let base_url = config.base_url.as_deref().unwrap_or(config.provider.default_base_url());
        let base_url = with_trailing_slash(base_url);
        let errors = ProviderErrorMapper::new(&config, &base_url);
        Self {
            config,
            base_url,
            errors,
            client: OnceLock::new(),
            temperature_rejected: AtomicBool::new(false),
        }
    }

    fn client(&self) -> Result<&genai::Client, AgentError> {
        let client = self.client.get_or_init(|| {
            let client = client_builder(&self.base_url)?
                .connect_timeout(self.config.timeouts.connect)
                .tcp_nodelay(true)
                .build()
                .ok()?;
            genai::Client::builder().with_reqwest(client).build().ok()
        });
        client.as_ref().ok_or_else(|| AgentError::Rejected {
            provider: self.errors.label().to_owned(),
            message: "its base URL is not valid; expected a URL such as http://127.0.0.1:8080/v1".into(),
        })
    }

    fn target(&self) -> Result<ServiceTarget, AgentError> {
        let auth = match (&self.config.key, self.config.provider) {
            (Some(key), _) => AuthData::from_single(key.expose()),
            (None, Provider::Ollama) => AuthData::None,
            (None, _) if self.config.base_url.is_none() => return Err(self.errors.missing_key()),
            // An override is the only way to send no authorization header with this adapter.
            (None, Provider::OpenAi) => AuthData::RequestOverride {
                url: format!("{}chat/completions", self.base_url),
                headers: Headers::default(),
            },
            // These adapters always send a key. A server that needs no key ignores it.
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
            // Without an explicit effort, genai parses the end of a model name (`qwen-max`) as one and removes it.
            // genai does not send a budget to this provider, so setting one has no other effect.
            options = options.with_reasoning_effort(ReasoningEffort::Budget(0));
        }
        if let Some(max_tokens) = request.max_tokens.into_iter().chain(self.config.max_tokens).min() {
            options = options.with_max_tokens(max_tokens);
        }
        if let Some(temperature) = request.temperature.or(self.config.temperature)
            && !self.temperature_rejected.load(Ordering::Relaxed)
        {
            options = options.with_temperature(temperature);
        }
        options
    }

    async fn attempt(
        &self,
        request: &ModelRequest,
        handler: StreamHandler<'_>,
    ) -> Result<ModelReply, AttemptError> {
        let fatal = |error| AttemptError { error, retry: RetryAdvice::Never };
        let client = self.client().map_err(fatal)?;
        let target = self.target().map_err(fatal)?;
        let options = self.options(request);
        let response = client.exec_chat_stream(target, chat_request(request), Some(&options)).await;
        let mut stream = response.map_err(|error| self.errors.map(&error))?.stream;
        let mut parts = Vec::new();
        let mut received_any = false;
        while let Some(event) = stream.next().await {
            let event = event.map_err(|error| {
                let error = self.errors.map(&error);
                if received_any { error.without_retry() } else { error }
            })?;
            let delta = match event {
                ChatStreamEvent::Chunk(chunk) => ReplyDelta { kind: DeltaKind::Text, text: chunk.content },
                ChatStreamEvent::ReasoningChunk(chunk) => {
                    ReplyDelta { kind: DeltaKind::Thinking, text: chunk.content }
                }
                ChatStreamEvent::ThoughtSignatureChunk(chunk) => {
                    append_signature(&mut parts, &chunk.content);
                    continue;
                }
                ChatStreamEvent::End(end) => return self.finish(end, parts),
                ChatStreamEvent::Start | ChatStreamEvent::ToolCallChunk(_) | ChatStreamEvent::Heartbeat => {
                    continue;
                }
            };
            if !delta.text.is_empty() {
                received_any = true;
                append_delta(&mut parts, &delta);
                handler(StreamEvent::Delta(delta));
            }
        }
        Err(self.errors.truncated_stream(received_any))
    }

    fn finish(&self, end: StreamEnd, parts: Vec<Part>) -> Result<ModelReply, AttemptError> {
        let stop_reason = end.captured_stop_reason.map(|reason| reason.raw().to_owned());
        // Gemini and Ollama have no end marker besides the stop reason.
        let needs_reason = matches!(self.config.provider, Provider::Gemini | Provider::Ollama);
        if needs_reason && stop_reason.is_none() {
            return Err(self.errors.truncated_stream(!parts.is_empty()));
        }
        let tokens = |count: Option<i32>| u64::try_from(count.unwrap_or(0)).unwrap_or(0);
        let usage = end.captured_usage.map(|usage| Usage {
            prompt_tokens: tokens(usage.prompt_tokens),
            completion_tokens: tokens(usage.completion_tokens),
        });
        Ok(ModelReply { parts, usage, stop_reason })
    }

    /// If the error rejects the temperature, omits it from all later requests. Returns whether this changed
    /// anything, in which case the caller repeats the request.
    ///
    /// Some reasoning models accept no temperature, and no API reports which. A list of such models would
    /// always be out of date; this costs one extra request per process.
    fn record_rejected_temperature(&self, error: &AttemptError) -> bool {
        let rejected = matches!(
            &error.error,
            AgentError::Rejected { message, .. } if message.to_ascii_lowercase().contains("temperature")
        );
        rejected && !self.temperature_rejected.swap(true, Ordering::Relaxed)
    }

    async fn reply_with_retries(
        &self,
        request: &ModelRequest,
        handler: StreamHandler<'_>,
    ) -> Result<ModelReply, AgentError> {
        let RetryPolicy { initial_delay, max_delay, .. } = self.config.retries;
        let mut backoff = Backoff::new(initial_delay, max_delay);
        let mut attempt = 1;
        loop {
            let error = match self.attempt(request, handler).await {
                Ok(reply) => return Ok(reply),
                Err(error) if self.record_rejected_temperature(&error) => continue,
                Err(error) => error,
            };
            let Some(delay) = retry::next_delay(&self.config.retries, attempt, &error.retry, &mut backoff)
            else {
                return Err(error.error);
            };
            handler(StreamEvent::Retrying(&error.error, delay));
            tokio::time::sleep(delay).await;
            attempt += 1;
        }
    }
}

#[async_trait]
impl Model for ProviderModel {
    fn name(&self) -> &str {
        &self.config.model
    }

    async fn reply(
        &self,
        request: &ModelRequest,
        handler: StreamHandler<'_>,
    ) -> Result<ModelReply, AgentError> {
        tokio::select! {
            biased;
            () = request.cancel.cancelled() => Err(AgentError::Cancelled),
            reply = self.reply_with_retries(request, handler) => reply,
        }
    }
}

/// genai appends paths to the base URL without a separator.
fn with_trailing_slash(base_url: &str) -> String {
    let Ok(mut url) = reqwest::Url::parse(base_url) else {
        return base_url.to_owned();
    };
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    url.into()
}

/// Appends to the signature of the last thinking part. A model may also sign thinking whose text it omits.
fn append_signature(parts: &mut Vec<Part>, more: &str) {
    if !matches!(parts.last(), Some(Part::Thinking { .. })) {
        parts.push(Part::Thinking { text: String::new(), signature: None });
    }
    if let Some(Part::Thinking { signature, .. }) = parts.last_mut() {
        signature.get_or_insert_default().push_str(more);
    }
}

fn chat_request(request: &ModelRequest) -> ChatRequest {
    let chat = ChatRequest::new(request.turns.iter().map(chat_message).collect());
    match &request.system {
        Some(system) => chat.with_system(system.as_str()),
        None => chat,
    }
}

fn chat_message(turn: &ChatTurn) -> ChatMessage {
    let parts: Vec<ContentPart> = turn
        .parts
        .iter()
        .map(|part| match part {
            ChatPart::Text(text) => ContentPart::from_text(text.as_str()),
            ChatPart::Image { media_type, base64 } => {
                ContentPart::Binary(Binary::from_base64(media_type.as_str(), base64.as_str(), None))
            }
        })
        .collect();
    let content = MessageContent::from_parts(parts);
    match turn.role {
        ChatRole::User => ChatMessage::user(content),
        ChatRole::Assistant => ChatMessage::assistant(content),
    }
}
