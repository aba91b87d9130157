//! The client of the model providers: sends a request, reads the reply as it streams, and repeats what failed.
//!
//! The protocols differ in the body of a request and in the payloads of a reply, each in a module of its own. All else
//! is shared: addresses, reading the stream, recognizing errors, retries, and what a model was found not to take.

mod anthropic;
mod body;
mod context;
mod endpoint;
mod error_mapper;
mod gemini;
mod json;
mod models;
mod ollama;
mod openai;
mod payloads;
mod refusal;
mod reply;
mod retry;
mod server_error;
mod tls;

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use hfs_core::{
    AgentError, Backoff, ContextLimit, ErrorExt as _, IncompleteReply, Suggestion, WaitStage,
    lock_unpoisoned, plain_reason,
};
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION,
};
use reqwest::{Method, Response, StatusCode, Url};
use serde_json::Value;

use crate::model::{ChatPart, Model, ModelReply, ModelRequest, StreamEvent, StreamHandler};
use crate::model_config::split_provider;
use crate::{CertificatePaths, ModelConfig, Provider, RetryPolicy};

use body::{ACCEPTED_ENCODING, Body};
use error_mapper::{AttemptError, ProviderErrorMapper};
use payloads::{Framing, Payload, PayloadReader};
use refusal::{Change, Restrictions, Sent, TokenParameter};
use reply::{Ending, ReplyBuilder};
use server_error::ServerError;

pub use error_mapper::server_label;
pub use models::{ServerModels, list_models};
pub(crate) use reply::without_tagged_thinking;

/// A request that waits for its first token is announced after this time, a pause in a reply after a longer one.
const FIRST_TOKEN_NOTICE: Duration = Duration::from_secs(2);
const NEXT_TOKEN_NOTICE: Duration = Duration::from_secs(10);
/// How long to wait for more after a stop reason: the usage may follow, or more text. Some servers never close the
/// connection.
const AFTER_STOP_REASON: Duration = Duration::from_secs(3);
/// The same for a server that has sent text after a stop reason.
const AFTER_RESUMED_REPLY: Duration = Duration::from_secs(30);
/// Limits for the body of an error.
const MAX_ERROR_BYTES: usize = 256 * 1024;
const ERROR_BODY_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_REDIRECTS: usize = 5;

/// Whether a text is a base URL that can be requested.
#[must_use]
pub fn is_base_url(text: &str) -> bool {
    endpoint::parse_base(text).is_some()
}

/// Whether a base URL is that of a server on another machine, without TLS: everyone in between can read what is sent.
pub(crate) fn is_unencrypted(base_url: &str) -> bool {
    endpoint::parse_base(base_url).is_some_and(|url| url.scheme() == "http" && !endpoint::is_loopback(&url))
}

/// Whether a text is the name of a header.
#[must_use]
pub fn is_header_name(text: &str) -> bool {
    HeaderName::from_bytes(text.as_bytes()).is_ok()
}

pub(crate) struct ProviderModel {
    config: ModelConfig,
    /// `None` if the configured base URL is not valid.
    base_url: Option<Url>,
    errors: ProviderErrorMapper,
    // Created at the first request: loading the system's certificates is slow, and commands that send no
    // request must not pay for it. An error is the reason why it cannot be created.
    client: OnceLock<Result<reqwest::Client, String>>,
    restrictions: Mutex<Restrictions>,
    /// Index of the address that answered, among those of [`endpoint::chat_urls`].
    url_index: AtomicUsize,
    /// The context in the server's list of models; `None` within if the server does not say. Empty if it was not asked.
    listed_context: tokio::sync::OnceCell<Option<u64>>,
    /// The context that a refusal named.
    refused_context: Mutex<Option<u64>>,
}

/// An HTTP client for `url` without timeouts.
///
/// It follows no redirects, since it would send a provider-specific key header to the new host as well.
///
/// # Errors
/// If no trusted certificate can be loaded.
fn client_builder(
    url: &Url,
    certificates: &CertificatePaths,
) -> Result<reqwest::ClientBuilder, tls::TlsError> {
    let builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("hfs/", env!("CARGO_PKG_VERSION")));
    let is_loopback = endpoint::is_loopback(url);
    // A proxy cannot reach servers on this machine.
    let builder = if is_loopback { builder.no_proxy() } else { builder };
    let uses_tls = !is_loopback || url.scheme() == "https";
    let tls = if uses_tls { tls::client_config(certificates)? } else { tls::without_certificates()? };
    Ok(builder.tls_backend_preconfigured(tls))
}

/// The models of the Ollama server at `base_url`. `None` if the URL is not valid or the server does not answer with
/// success.
pub(crate) async fn ollama_models(base_url: &str) -> Option<Vec<String>> {
    let url = endpoint::models_urls(Provider::Ollama, &endpoint::parse_base(base_url)?).into_iter().next()?;
    let client = client_builder(&url, &CertificatePaths::default()).ok()?.build().ok()?;
    let response = client.get(url).send().await.ok()?.error_for_status().ok()?;
    models::read_names(response).await
}

impl ProviderModel {
    pub fn new(config: ModelConfig) -> Self {
        let base_url = config.base_url.as_deref().unwrap_or(config.provider.default_base_url());
        let base_url = endpoint::parse_base(base_url);
        let errors = ProviderErrorMapper::new(&config);
        let token_parameter = if config.provider == Provider::OpenAi && config.base_url.is_none() {
            TokenParameter::MaxCompletionTokens
        } else {
            TokenParameter::MaxTokens
        };
        Self {
            config,
            base_url,
            errors,
            client: OnceLock::new(),
            restrictions: Mutex::new(Restrictions { token_parameter, ..Restrictions::default() }),
            url_index: AtomicUsize::new(0),
            listed_context: tokio::sync::OnceCell::new(),
            refused_context: Mutex::default(),
        }
    }

    /// Display name of the provider or of the configured server.
    pub fn label(&self) -> &str {
        self.errors.label()
    }

    fn base_url(&self) -> Result<&Url, AttemptError> {
        self.base_url.as_ref().ok_or_else(|| {
            let expected = "its base URL is not valid; expected a URL such as http://127.0.0.1:8080/v1";
            self.errors.invalid_configuration(expected)
        })
    }

    fn client(&self) -> Result<&reqwest::Client, AttemptError> {
        let url = self.base_url()?;
        let client = self.client.get_or_init(|| {
            let builder =
                client_builder(url, &self.config.certificates).map_err(|error| error.to_string())?;
            let builder = builder.connect_timeout(self.config.timeouts.connect).tcp_nodelay(true);
            builder
                .build()
                .map_err(|error| format!("its HTTP client cannot be created: {}", plain_reason(&error)))
        });
        client.as_ref().map_err(|error| self.errors.invalid_configuration(error))
    }

    /// The headers that identify the user.
    fn headers(&self) -> Result<HeaderMap, AttemptError> {
        let invalid = |name: &str| {
            self.errors.invalid_configuration(&format!("{name} contains characters that cannot be sent"))
        };
        let secret = |name: &str, text: &str| {
            let mut value = HeaderValue::from_str(text).map_err(|_| invalid(name))?;
            value.set_sensitive(true);
            Ok(value)
        };
        let mut headers = HeaderMap::new();
        if let Some(key) = &self.config.key {
            let key = key.expose();
            match self.config.provider {
                Provider::Anthropic if !self.config.is_bearer_token => {
                    headers.insert("x-api-key", secret("the API key", key)?);
                }
                Provider::Gemini => {
                    headers.insert("x-goog-api-key", secret("the API key", key)?);
                }
                Provider::OpenAi | Provider::Anthropic | Provider::Ollama => {
                    headers.insert(AUTHORIZATION, secret("the API key", &format!("Bearer {key}"))?);
                }
            }
            let host = self.base_url()?.host_str().unwrap_or_default();
            if self.config.provider == Provider::OpenAi && host.ends_with(".azure.com") {
                headers.insert("api-key", secret("the API key", key)?);
            }
        } else if self.config.base_url.is_none()
            && self.config.headers.is_empty()
            && self.config.provider != Provider::Ollama
        {
            return Err(AttemptError::permanent(self.errors.missing_key()));
        }
        if self.config.provider == Provider::Anthropic {
            headers.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
        }
        for (name, value) in &self.config.headers {
            let header =
                HeaderName::try_from(name.as_str()).map_err(|_| invalid(&format!("the header {name:?}")))?;
            headers.insert(header, secret(&format!("the value of the header {name}"), value)?);
        }
        Ok(headers)
    }

    /// Sends a request and follows redirects on the same server.
    async fn send(
        &self,
        method: &Method,
        mut url: Url,
        body: Option<&[u8]>,
    ) -> Result<Response, AttemptError> {
        let client = self.client()?;
        let headers = self.headers()?;
        for _ in 0..MAX_REDIRECTS {
            let mut request = client
                .request(method.clone(), url.clone())
                .header(ACCEPT_ENCODING, ACCEPTED_ENCODING)
                .headers(headers.clone());
            if let Some(body) = body {
                let accept = match self.framing() {
                    Framing::Events => "text/event-stream, application/json",
                    Framing::Lines => "application/x-ndjson, application/json",
                };
                request = request
                    .header(CONTENT_TYPE, "application/json")
                    .header(ACCEPT, accept)
                    .body(body.to_owned());
            }
            let response =
                request.send().await.map_err(|error| self.errors.connection_error(&error, &url))?;
            let status = response.status();
            if !status.is_redirection() {
                return Ok(response);
            }
            let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
            let target = location.and_then(|location| url.join(location).ok());
            // After `See Other`, a client must not send the body again.
            match target {
                Some(target)
                    if endpoint::is_same_origin(&url, &target) && status != StatusCode::SEE_OTHER =>
                {
                    url = target;
                }
                target => return Err(self.errors.redirect(status, target.as_ref())),
            }
        }
        Err(self.errors.redirects_too_often())
    }

    /// Sends a chat request to the address of the API. If that does not exist, tries the other likely one.
    async fn post_chat(&self, model: &str, body: &[u8]) -> Result<Response, AttemptError> {
        let urls = endpoint::chat_urls(self.config.provider, self.base_url()?, model);
        let known = self.url_index.load(Ordering::Relaxed).min(urls.len().saturating_sub(1));
        let mut first_error = None;
        for (index, url) in urls.iter().enumerate().skip(known) {
            let response = self.send(&Method::POST, url.clone(), Some(body)).await?;
            let status = response.status();
            if status.is_success() {
                self.url_index.store(index, Ordering::Relaxed);
                return Ok(response);
            }
            let is_missing = matches!(status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED);
            let error = self.status_error(response).await;
            // A server that knows the path says something about the request.
            let names_model =
                error.server.as_ref().is_some_and(|server| server.1.searchable().contains("model"));
            if !is_missing || names_model {
                self.url_index.store(index, Ordering::Relaxed);
                return Err(error);
            }
            first_error.get_or_insert(error);
        }
        Err(first_error.unwrap_or_else(|| self.errors.invalid_configuration("it has no address")))
    }

    async fn status_error(&self, response: Response) -> AttemptError {
        let (url, status, headers) = (response.url().clone(), response.status(), response.headers().clone());
        let mut response = Body::new(response);
        let mut body = Vec::new();
        let reading = async {
            while let Ok(Some(chunk)) = response.chunk().await {
                body.extend_from_slice(&chunk);
                if body.len() > MAX_ERROR_BYTES {
                    break;
                }
            }
        };
        // A body that does not arrive in full is used as far as it arrived.
        let _ = tokio::time::timeout(ERROR_BODY_TIMEOUT, reading).await;
        self.errors.status_error(&url, status, &String::from_utf8_lossy(&body), &headers)
    }

    const fn framing(&self) -> Framing {
        match self.config.provider {
            Provider::OpenAi | Provider::Anthropic | Provider::Gemini => Framing::Events,
            Provider::Ollama => Framing::Lines,
        }
    }

    /// The request with the settings of the configuration and without what the model does not take.
    fn prepare(&self, request: &ModelRequest, restrictions: &Restrictions) -> (ModelRequest, Sent) {
        let mut request = request.clone();
        let temperature = request.temperature.or(self.config.temperature);
        request.temperature = temperature.filter(|_| !restrictions.omit_temperature);
        let requested = request.max_tokens.into_iter().chain(self.config.max_tokens).min();
        let is_required = self.config.provider == Provider::Anthropic;
        let requested = requested.or(is_required.then_some(anthropic::DEFAULT_MAX_TOKENS));
        let limited =
            requested.map(|tokens| restrictions.max_tokens.map_or(tokens, |limit| tokens.min(limit)));
        request.max_tokens = limited.filter(|_| is_required || !restrictions.omit_max_tokens);
        if restrictions.omit_images {
            for part in request.turns.iter_mut().flat_map(|turn| &mut turn.parts) {
                if matches!(part, ChatPart::Image { .. }) {
                    *part = ChatPart::Text(
                        "[an image that was left out: the model does not accept images]".into(),
                    );
                }
            }
        }
        if restrictions.omit_system
            && let Some(system) = request.system.take()
            && let Some(first) = request.turns.first_mut()
        {
            first.parts.insert(0, ChatPart::Text(system));
        }
        let has =
            |matches: fn(&ChatPart) -> bool| request.turns.iter().flat_map(|turn| &turn.parts).any(matches);
        let sent = Sent {
            max_tokens: request.max_tokens,
            token_parameter: restrictions.token_parameter,
            temperature: request.temperature.is_some(),
            stream: !restrictions.omit_stream,
            stream_options: self.config.provider == Provider::OpenAi
                && !restrictions.omit_stream
                && !restrictions.omit_stream_options,
            cache_control: is_required && !restrictions.omit_cache_control && anthropic::uses_cache(&request),
            images: has(|part| matches!(part, ChatPart::Image { .. })),
            thinking: !restrictions.omit_thinking && has(|part| matches!(part, ChatPart::Thinking { .. })),
            system: request.system.is_some(),
            provider_name: !restrictions.omit_provider_name && self.name_without_provider().is_some(),
        };
        (request, sent)
    }

    /// The rest of the model's name if it begins with that of its provider. Some servers have models with such names;
    /// other servers know only the rest.
    fn name_without_provider(&self) -> Option<&str> {
        let (provider, rest) = split_provider(&self.config.model)?;
        (provider == self.config.provider).then_some(rest)
    }

    /// The model's name as it is sent.
    fn model_name(&self, sent: &Sent) -> &str {
        let name = self.config.model.as_str();
        if sent.provider_name { name } else { self.name_without_provider().unwrap_or(name) }
    }

    fn body(&self, request: &ModelRequest, restrictions: &Restrictions, sent: &Sent) -> Value {
        let model = self.model_name(sent);
        match self.config.provider {
            Provider::OpenAi => openai::body(model, request, sent),
            Provider::Anthropic => anthropic::body(model, request, restrictions, sent),
            Provider::Gemini => gemini::body(request, sent),
            Provider::Ollama => ollama::body(model, request, sent, self.config.num_ctx),
        }
    }

    async fn attempt(
        &self,
        request: &ModelRequest,
        sent: &Sent,
        restrictions: &Restrictions,
        handler: StreamHandler<'_>,
    ) -> Result<ModelReply, AttemptError> {
        let started = Instant::now();
        let body = self.body(request, restrictions, sent).to_string();
        let wait =
            Wait { stage: WaitStage::FirstToken, since: started, limit: self.config.timeouts.first_token };
        let response =
            self.wait(wait, self.post_chat(self.model_name(sent), body.as_bytes()), handler).await??;
        let mut reply = ReplyBuilder::default();
        let read = self.read_stream(response, started, &mut reply, handler).await;
        for delta in reply.finish() {
            handler(StreamEvent::Delta(delta));
        }
        if reply.streamed_thinking_as_text {
            let message = "the reply began with thinking that its server did not mark, so it was shown as text; it is saved \
                           as thinking";
            handler(StreamEvent::LeftOut(message));
        }
        match read {
            Ok(()) => self.finish(reply),
            Err(error) if reply.has_content() => Err(error.without_retry()),
            Err(error) => Err(error),
        }
    }

    /// Waits for a future for a limited time. Announces a long wait.
    async fn wait<T>(
        &self,
        wait: Wait,
        future: impl Future<Output = T>,
        handler: StreamHandler<'_>,
    ) -> Result<T, AttemptError> {
        let Wait { stage, since, limit } = wait;
        let mut future = std::pin::pin!(future);
        let notice = match stage {
            WaitStage::NextToken => NEXT_TOKEN_NOTICE,
            WaitStage::Connection | WaitStage::FirstToken => FIRST_TOKEN_NOTICE,
        };
        let left = |until: Duration| until.saturating_sub(since.elapsed());
        if since.elapsed() < notice && notice < limit {
            if let Ok(output) = tokio::time::timeout(left(notice), &mut future).await {
                return Ok(output);
            }
            handler(StreamEvent::Waiting { server: self.errors.label(), stage, limit });
        }
        tokio::time::timeout(left(limit), future).await.map_err(|_| self.errors.timed_out(stage, limit))
    }

    /// Reads the response into `reply` until the server's end marker, the end of the body, or an error.
    async fn read_stream(
        &self,
        response: Response,
        started: Instant,
        reply: &mut ReplyBuilder,
        handler: StreamHandler<'_>,
    ) -> Result<(), AttemptError> {
        let timeouts = self.config.timeouts;
        let url = response.url().clone();
        let mut body = Body::new(response);
        let mut reader = PayloadReader::new(self.framing());
        // The time of the last token, and of the last sign of life.
        let (mut last_token, mut last_data) = (None, started);
        while !reply.is_done {
            let wait = match last_token {
                None => Wait { stage: WaitStage::FirstToken, since: started, limit: timeouts.first_token },
                // Pings prolong the wait for a token, but not for ever.
                Some(token) => {
                    let pinged = last_data.duration_since(token);
                    let limit = timeouts
                        .between_tokens
                        .max((pinged + timeouts.between_tokens).min(timeouts.first_token));
                    Wait { stage: WaitStage::NextToken, since: token, limit }
                }
            };
            let is_ended = reply.is_ended();
            let patience = if reply.resumed_after_stop { AFTER_RESUMED_REPLY } else { AFTER_STOP_REASON };
            let next = async {
                if is_ended {
                    tokio::time::timeout(patience, body.chunk()).await.unwrap_or(Ok(None))
                } else {
                    body.chunk().await
                }
            };
            let chunk = self.wait(wait, next, handler).await?;
            last_data = Instant::now();
            let (payloads, end) = match chunk {
                Ok(Some(bytes)) => (reader.push(&bytes), None),
                Ok(None) => (reader.finish(), Some(Ok(()))),
                // After a stop reason, all text has arrived. Many servers do not end their body properly.
                Err(_) if is_ended => (reader.finish(), Some(Ok(()))),
                Err(error) => (reader.finish(), Some(Err(self.errors.body_error(&error, &url)))),
            };
            for payload in payloads {
                self.read_payload(payload, reply)?;
                for delta in reply.take_deltas() {
                    last_token = Some(Instant::now());
                    handler(StreamEvent::Delta(delta));
                }
                if reply.is_done {
                    return Ok(());
                }
            }
            match end {
                // The last payload had the stop reason.
                Some(_) if reply.is_ended() => return Ok(()),
                Some(end) => return end,
                None => {}
            }
        }
        Ok(())
    }

    fn read_payload(&self, payload: Payload, reply: &mut ReplyBuilder) -> Result<(), AttemptError> {
        match payload {
            Payload::Json { event, value, cut } => {
                reply.cut = cut;
                match protocol_of(&value).unwrap_or(self.config.provider) {
                    Provider::OpenAi => openai::read(&value, reply),
                    Provider::Anthropic => anthropic::read(&event, &value, reply),
                    Provider::Gemini => gemini::read(&value, reply),
                    Provider::Ollama => ollama::read(&value, reply),
                }
                reply.is_done |= payloads::is_end_event(&event);
                let error = ServerError::in_payload(&value)
                    .or_else(|| (event == "error").then(|| ServerError::from_body(&value.to_string())));
                error.map_or(Ok(()), |error| Err(self.errors.error_in_stream(error)))
            }
            Payload::Error(text) => Err(self.errors.error_in_stream(ServerError::from_body(&text))),
            Payload::Done => {
                reply.is_done = true;
                Ok(())
            }
            Payload::Text(text) => {
                reply.stray_text = Some(text);
                Ok(())
            }
            Payload::Malformed(reason) => Err(self.errors.malformed_payload(&reason)),
            Payload::TooLong => Err(self.errors.malformed_payload("it is too long")),
        }
    }

    fn finish(&self, reply: ReplyBuilder) -> Result<ModelReply, AttemptError> {
        if !reply.is_done && !reply.is_ended() {
            return Err(match &reply.stray_text {
                Some(text) if !reply.has_content() => self.errors.not_a_reply(text),
                stray_text => {
                    let error = self.errors.truncated_stream(stray_text.as_deref());
                    if reply.has_content() { error.without_retry() } else { error }
                }
            });
        }
        let ending = reply.ending();
        let called_tools = reply.called_tools.clone();
        let (parts, usage, stop_reason) = reply.into_parts();
        let incomplete = match ending {
            Ending::Complete => None,
            Ending::Incomplete(reason) => Some(IncompleteReply {
                provider: self.errors.label().to_owned(),
                reason,
                stop_reason: stop_reason.as_deref().map(|reason| self.errors.sanitize(reason)),
            }),
        };
        Ok(ModelReply { parts, usage, stop_reason, incomplete, called_tools })
    }

    /// Changes the request if the error is a refusal of something in it. Returns whether to send it again.
    fn adapt(&self, error: &AttemptError, sent: &Sent, restrictions: &mut Restrictions) -> bool {
        let Some((status, server_error)) = error.server.as_deref() else { return false };
        let is_unknown_model = error.error.suggestion() == Some(Suggestion::CheckModel);
        let change = refusal::change_for(self.config.provider, *status, server_error, sent)
            .or((is_unknown_model && sent.provider_name).then_some(Change::OmitProviderName));
        let Some(change) = change else { return false };
        restrictions.apply(change);
        if change.is_lasting() {
            // Other requests may have learned something else in the meantime.
            let mut known = lock_unpoisoned(&self.restrictions);
            known.apply(change);
        }
        true
    }

    async fn reply_with_retries(
        &self,
        request: &ModelRequest,
        handler: StreamHandler<'_>,
    ) -> Result<ModelReply, AgentError> {
        let RetryPolicy { initial_delay, max_delay, .. } = self.config.retries;
        let mut backoff = Backoff::new(initial_delay, max_delay);
        let started = Instant::now();
        let mut restrictions = *lock_unpoisoned(&self.restrictions);
        let parts = request.turns.iter().flat_map(|turn| &turn.parts);
        let mut has_images = parts.into_iter().any(|part| matches!(part, ChatPart::Image { .. }));
        let (mut attempt, mut changes) = (1, 0);
        loop {
            if restrictions.omit_images && std::mem::take(&mut has_images) {
                let model = &self.config.model;
                let message =
                    format!("{model} of {} does not accept images; they were not sent", self.errors.label());
                handler(StreamEvent::LeftOut(&message));
            }
            let (prepared, sent) = self.prepare(request, &restrictions);
            let error = match self.attempt(&prepared, &sent, &restrictions, handler).await {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };
            if changes < refusal::MAX_CHANGES && self.adapt(&error, &sent, &mut restrictions) {
                changes += 1;
                continue;
            }
            if error.error.is_context_refusal()
                && let Some(tokens) =
                    error.server.as_ref().and_then(|server| context::limit_in_refusal(&server.1))
            {
                *lock_unpoisoned(&self.refused_context) = Some(tokens);
            }
            let policy = &self.config.retries;
            let Some(delay) =
                retry::next_delay(policy, attempt, started.elapsed(), &error.retry, &mut backoff)
            else {
                return Err(error.with_requested_wait(policy.max_delay));
            };
            handler(StreamEvent::Retrying(&error.error, delay));
            tokio::time::sleep(delay).await;
            attempt += 1;
        }
    }
}

/// The protocol that a payload clearly has. Gateways answer in another protocol than that of the address.
fn protocol_of(payload: &Value) -> Option<Provider> {
    let has = |name: &str| payload.get(name).is_some_and(|value| !value.is_null());
    let kind = payload.get("type").and_then(Value::as_str).unwrap_or_default();
    if has("choices") {
        Some(Provider::OpenAi)
    } else if has("candidates") {
        Some(Provider::Gemini)
    } else if has("done") {
        Some(Provider::Ollama)
    } else if kind == "message" || kind.starts_with("message_") || kind.starts_with("content_block_") {
        Some(Provider::Anthropic)
    } else {
        None
    }
}

/// A limited wait for a part of a response.
#[derive(Debug, Clone, Copy)]
struct Wait {
    stage: WaitStage,
    since: Instant,
    limit: Duration,
}

/// The thinking of an earlier reply that its model accepts back.
pub(crate) fn takes_thinking_back(provider: Provider) -> bool {
    provider == Provider::Anthropic
}

#[async_trait]
impl Model for ProviderModel {
    fn name(&self) -> &str {
        &self.config.model
    }

    async fn context_limit(&self) -> Option<ContextLimit> {
        if self.known_limit().is_none() {
            self.ask_for_limit().await;
        }
        self.known_limit()
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
