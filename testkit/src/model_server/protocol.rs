//! The wire formats: how each protocol streams a reply, and what a request contains.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::Response;
use hfs_core::Usage;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{OpenStream, RecordedRequest, Script, Shared, Step};

/// The streaming protocol of a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// OpenAI chat completions as server-sent events.
    OpenAi,
    /// Anthropic messages as server-sent events.
    Anthropic,
    /// Gemini `streamGenerateContent` as server-sent events.
    Gemini,
    /// Ollama `/api/chat` as JSON lines.
    Ollama,
}

impl Protocol {
    /// All protocols.
    pub const ALL: [Self; 4] = [Self::OpenAi, Self::Anthropic, Self::Gemini, Self::Ollama];

    pub(super) fn of_path(path: &str) -> Option<Self> {
        if path.ends_with("/chat/completions") {
            Some(Self::OpenAi)
        } else if path.ends_with("/messages") {
            Some(Self::Anthropic)
        } else if path.ends_with(":streamGenerateContent") {
            Some(Self::Gemini)
        } else if path == "/api/chat" {
            Some(Self::Ollama)
        } else {
            None
        }
    }
}

/// All prompt texts in a request body, in order.
pub(super) fn texts(body: &Value) -> Vec<&str> {
    fn collect<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::String(text) => found.push(text),
            Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
            Value::Object(fields) => {
                for key in ["system", "systemInstruction", "messages", "contents", "parts", "content", "text"]
                {
                    if let Some(inner) = fields.get(key) {
                        collect(inner, found);
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    let mut found = Vec::new();
    collect(body, &mut found);
    found
}

pub(super) fn model(protocol: Protocol, path: &str, body: &Value) -> String {
    match protocol {
        Protocol::Gemini => path
            .rsplit_once("/models/")
            .and_then(|(_, rest)| rest.rsplit_once(':'))
            .map(|(model, _)| model.to_owned())
            .unwrap_or_default(),
        Protocol::OpenAi | Protocol::Anthropic | Protocol::Ollama => {
            body.get("model").and_then(Value::as_str).unwrap_or_default().to_owned()
        }
    }
}

/// A plain text response.
pub(super) fn plain_text(status: u16, text: &str) -> Response {
    respond_with(status, "text/plain", Body::from(text.to_owned()))
}

/// A list of models, as Ollama writes it. Other clients find it by the same names.
pub(super) fn model_list(models: &[String]) -> Response {
    let models: Vec<Value> = models.iter().map(|name| json!({"name": name, "model": name})).collect();
    respond_with(200, "application/json", Body::from(json!({"models": models}).to_string()))
}

#[allow(clippy::expect_used, reason = "an invalid status is a mistake in the test")]
fn respond_with(status: u16, content_type: &str, body: Body) -> Response {
    Response::builder()
        .status(status)
        .header("content-type", content_type)
        .body(body)
        .expect("a valid status and content type")
}

pub(super) async fn respond(shared: Arc<Shared>, request: RecordedRequest, script: Script) -> Response {
    let open = OpenStream::new(Arc::clone(&shared));
    if script.delay == Duration::MAX {
        std::future::pending::<Infallible>().await;
    }
    tokio::time::sleep(script.delay).await;
    if let Some(error) = script.error {
        let mut response = respond_with(error.status, "application/json", Body::from(error.body));
        for (name, value) in error.headers {
            if let (Ok(name), Ok(value)) =
                (axum::http::HeaderName::try_from(name), axum::http::HeaderValue::try_from(value))
            {
                response.headers_mut().insert(name, value);
            }
        }
        return response;
    }
    let content_type = match request.protocol {
        Protocol::Ollama => "application/x-ndjson",
        Protocol::OpenAi | Protocol::Anthropic | Protocol::Gemini => "text/event-stream",
    };
    let (send, receive) = mpsc::channel::<Result<Bytes, std::io::Error>>(1);
    tokio::spawn(async move {
        let _open = open;
        let disconnected = send.clone();
        tokio::select! {
            () = stream_reply(&shared, &request, script, &send) => {}
            () = disconnected.closed() => {}
        }
    });
    respond_with(200, content_type, Body::from_stream(ChunkStream(receive)))
}

struct ChunkStream(mpsc::Receiver<Result<Bytes, std::io::Error>>);

impl futures::Stream for ChunkStream {
    type Item = Result<Bytes, std::io::Error>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}

async fn stream_reply(
    shared: &Shared,
    request: &RecordedRequest,
    script: Script,
    send: &mpsc::Sender<Result<Bytes, std::io::Error>>,
) {
    let usage = script.usage.unwrap_or_else(|| word_usage(request, &script.steps));
    let mut encoder = FrameEncoder { request, usage, block: None };
    let opening = encoder.opening();
    if !opening.is_empty() && send.send(Ok(opening.into())).await.is_err() {
        return;
    }
    for step in script.steps {
        let frame = match step {
            Step::Wait(wait) => {
                tokio::time::sleep(wait).await;
                continue;
            }
            Step::Text(text) => encoder.delta(false, &text),
            Step::Thinking(text) => encoder.delta(true, &text),
            Step::Raw(raw) => encoder.raw(&raw),
            Step::Break => {
                let _ = send.send(Err(std::io::ErrorKind::ConnectionReset.into())).await;
                return;
            }
            Step::Stop => return,
            Step::Hang => std::future::pending().await,
        };
        if send.send(Ok(frame.into())).await.is_err() {
            return;
        }
    }
    let closing = encoder.closing(script.stop_reason.as_deref());
    shared.record_usage(usage);
    let _ = send.send(Ok(closing.into())).await;
}

/// A usage that counts words as tokens.
fn word_usage(request: &RecordedRequest, steps: &[Step]) -> Usage {
    let words = |text: &str| u64::try_from(text.split_whitespace().count()).unwrap_or(u64::MAX);
    let completion = steps.iter().map(|step| match step {
        Step::Text(text) | Step::Thinking(text) => words(text).max(1),
        _ => 0,
    });
    Usage::new(words(&request.prompt()), completion.sum())
}

struct FrameEncoder<'a> {
    request: &'a RecordedRequest,
    usage: Usage,
    /// Index of the open content block, and whether it is thinking (Anthropic only).
    block: Option<(u32, bool)>,
}

fn event(name: &str, data: &Value) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}

fn data(data: &Value) -> String {
    format!("data: {data}\n\n")
}

impl FrameEncoder<'_> {
    fn opening(&self) -> String {
        let model = self.request.model();
        match self.request.protocol {
            Protocol::OpenAi => data(&json!({
                "id": "chatcmpl-1", "object": "chat.completion.chunk", "model": model,
                "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": null}]
            })),
            Protocol::Anthropic => event(
                "message_start",
                &json!({"type": "message_start", "message": {
                    "id": "msg_1", "type": "message", "role": "assistant", "model": model, "content": [],
                    "usage": {"input_tokens": self.usage.prompt_tokens, "output_tokens": 1}
                }}),
            ),
            Protocol::Gemini | Protocol::Ollama => String::new(),
        }
    }

    fn delta(&mut self, thinking: bool, text: &str) -> String {
        match self.request.protocol {
            Protocol::OpenAi => {
                let key = if thinking { "reasoning_content" } else { "content" };
                data(&json!({
                    "object": "chat.completion.chunk",
                    "choices": [{"index": 0, "delta": {key: text}, "finish_reason": null}]
                }))
            }
            Protocol::Anthropic => self.anthropic_delta(thinking, text),
            Protocol::Gemini => data(&json!({
                "candidates": [{"index": 0, "content": {
                    "role": "model", "parts": [{"text": text, "thought": thinking}]
                }}],
                "usageMetadata": {"promptTokenCount": self.usage.prompt_tokens}
            })),
            Protocol::Ollama => {
                let key = if thinking { "thinking" } else { "content" };
                format!("{}\n", json!({"message": {"role": "assistant", key: text}, "done": false}))
            }
        }
    }

    fn anthropic_delta(&mut self, thinking: bool, text: &str) -> String {
        let mut frames = String::new();
        let index = match self.block {
            Some((index, open)) if open == thinking => index,
            before => {
                frames.push_str(&self.anthropic_block_end());
                let index = before.map_or(0, |(index, _)| index + 1);
                let block = if thinking {
                    json!({"type": "thinking", "thinking": "", "signature": ""})
                } else {
                    json!({"type": "text", "text": ""})
                };
                frames.push_str(&event(
                    "content_block_start",
                    &json!({"type": "content_block_start", "index": index, "content_block": block}),
                ));
                self.block = Some((index, thinking));
                index
            }
        };
        let delta = if thinking {
            json!({"type": "thinking_delta", "thinking": text})
        } else {
            json!({"type": "text_delta", "text": text})
        };
        frames.push_str(&event(
            "content_block_delta",
            &json!({"type": "content_block_delta", "index": index, "delta": delta}),
        ));
        frames
    }

    fn anthropic_block_end(&self) -> String {
        let Some((index, thinking)) = self.block else {
            return String::new();
        };
        let mut frames = String::new();
        if thinking {
            frames.push_str(&event(
                "content_block_delta",
                &json!({"type": "content_block_delta", "index": index,
                        "delta": {"type": "signature_delta", "signature": "c2lnbmVk"}}),
            ));
        }
        frames.push_str(&event("content_block_stop", &json!({"type": "content_block_stop", "index": index})));
        frames
    }

    fn raw(&self, raw: &str) -> String {
        match self.request.protocol {
            Protocol::OpenAi | Protocol::Gemini => format!("data: {raw}\n\n"),
            Protocol::Anthropic => format!("event: content_block_delta\ndata: {raw}\n\n"),
            Protocol::Ollama => format!("{raw}\n"),
        }
    }

    fn closing(&self, stop_reason: Option<&str>) -> String {
        let Usage { prompt_tokens, completion_tokens, .. } = self.usage;
        match self.request.protocol {
            Protocol::OpenAi => {
                let mut frames = data(&json!({
                    "object": "chat.completion.chunk",
                    "choices": [{"index": 0, "delta": {}, "finish_reason": stop_reason.unwrap_or("stop")}]
                }));
                let wanted = self.request.body.pointer("/stream_options/include_usage");
                if wanted.and_then(Value::as_bool) == Some(true) {
                    frames.push_str(&data(
                        &json!({"object": "chat.completion.chunk", "choices": [], "usage": {
                            "prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens,
                            "total_tokens": prompt_tokens + completion_tokens
                        }}),
                    ));
                }
                frames.push_str("data: [DONE]\n\n");
                frames
            }
            Protocol::Anthropic => {
                let mut frames = self.anthropic_block_end();
                frames.push_str(&event(
                    "message_delta",
                    &json!({"type": "message_delta", "usage": {"output_tokens": completion_tokens},
                            "delta": {"stop_reason": stop_reason.unwrap_or("end_turn"), "stop_sequence": null}}),
                ));
                frames.push_str(&event("message_stop", &json!({"type": "message_stop"})));
                frames
            }
            Protocol::Gemini => data(&json!({
                "candidates": [{"index": 0, "content": {"role": "model", "parts": [{"text": ""}]},
                                "finishReason": stop_reason.unwrap_or("STOP")}],
                "usageMetadata": {"promptTokenCount": prompt_tokens, "candidatesTokenCount": completion_tokens,
                                  "totalTokenCount": prompt_tokens + completion_tokens}
            })),
            Protocol::Ollama => format!(
                "{}\n",
                json!({"message": {"role": "assistant", "content": ""}, "done": true,
                       "done_reason": stop_reason.unwrap_or("stop"),
                       "prompt_eval_count": prompt_tokens, "eval_count": completion_tokens})
            ),
        }
    }
}
