//! Ollama's `/api/chat`.

use hfs_core::estimate_tokens;
use serde_json::{Map, Value, json};

use super::refusal::Sent;
use super::reply::ReplyBuilder;
use crate::model::{ChatPart, ChatTurn, ModelRequest};

/// Ollama's smallest default context. A shorter prompt needs no `num_ctx`.
const DEFAULT_CONTEXT: u64 = 4_096;
/// Room for the reply if no maximum is configured, in tokens.
const REPLY_TOKENS: u64 = 2_048;
/// Estimated size of an image, in tokens.
const IMAGE_TOKENS: u64 = 1_024;

/// The body of a request.
pub(super) fn body(model: &str, request: &ModelRequest, sent: &Sent, num_ctx: Option<u32>) -> Value {
    let mut options = Map::new();
    if let Some(max_tokens) = sent.max_tokens {
        options.insert("num_predict".to_owned(), max_tokens.into());
    }
    if let Some(temperature) = request.temperature {
        options.insert("temperature".to_owned(), temperature.into());
    }
    if let Some(context) = num_ctx.map(Value::from).or_else(|| context_size(request, sent).map(Value::from)) {
        options.insert("num_ctx".to_owned(), context);
    }
    let system = request.system.as_deref().map(|text| json!({"role": "system", "content": text}));
    let messages: Vec<Value> = system.into_iter().chain(request.turns.iter().map(message)).collect();
    let mut body = json!({"model": model, "messages": messages, "stream": sent.stream});
    if let Some(fields) = body.as_object_mut().filter(|_| !options.is_empty()) {
        fields.insert("options".to_owned(), options.into());
    }
    body
}

/// A context in which the request and its reply fit. `None` if the default is large enough.
///
/// Ollama drops the beginning of a longer conversation without an error. It loads the model again whenever the size
/// changes, so sizes are powers of two. It limits a larger size to that of the model.
fn context_size(request: &ModelRequest, sent: &Sent) -> Option<u64> {
    let parts = request.turns.iter().flat_map(|turn| &turn.parts).map(|part| match part {
        ChatPart::Text(text) => estimate_tokens(text),
        ChatPart::Image { .. } => IMAGE_TOKENS,
        ChatPart::Thinking { .. } => 0,
    });
    let system = request.system.as_deref().map_or(0, estimate_tokens);
    let reply = sent.max_tokens.map_or(REPLY_TOKENS, u64::from);
    let needed = parts.sum::<u64>().saturating_add(system).saturating_add(reply);
    (needed > DEFAULT_CONTEXT).then(|| needed.checked_next_power_of_two().unwrap_or(needed))
}

fn message(turn: &ChatTurn) -> Value {
    let images: Vec<&str> = turn
        .parts
        .iter()
        .filter_map(|part| match part {
            ChatPart::Image { base64, .. } => Some(base64.as_str()),
            ChatPart::Text(_) | ChatPart::Thinking { .. } => None,
        })
        .collect();
    let mut message = json!({"role": turn.role.as_str(), "content": turn.text()});
    if let Some(fields) = message.as_object_mut().filter(|_| !images.is_empty()) {
        fields.insert("images".to_owned(), images.into());
    }
    message
}

/// Reads a line of a stream, or a whole response.
pub(super) fn read(payload: &Value, reply: &mut ReplyBuilder) {
    if let Some(message) = payload.get("message") {
        let text = |name: &str| message.get(name).and_then(Value::as_str).unwrap_or_default();
        reply.thinking(text("thinking"));
        reply.text(text("content"));
        reply.tool_calls(message.get("tool_calls"));
    }
    // `/api/generate`, which some gateways use.
    reply.text(payload.get("response").and_then(Value::as_str).unwrap_or_default());
    reply.stop_reason(payload.get("done_reason"));
    reply.usage(payload.get("prompt_eval_count"), payload.get("eval_count"), None);
    if payload.get("done").and_then(Value::as_bool) == Some(true) {
        reply.is_done = true;
    }
}
