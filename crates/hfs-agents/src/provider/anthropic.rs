//! Anthropic's messages.

use serde_json::{Value, json};

use super::refusal::{Restrictions, Sent};
use super::reply::ReplyBuilder;
use crate::model::{ChatPart, ChatTurn, ModelRequest};

/// Sent if no maximum is configured, since the protocol requires one. All current models accept it; what others accept
/// is learned from their refusal.
pub(super) const DEFAULT_MAX_TOKENS: u32 = 32_000;

/// Shorter prompts are not cached by any model.
const MIN_CACHED_CHARS: usize = 4_000;

/// Whether the beginning of the conversation is marked for the provider's cache.
pub(super) fn uses_cache(request: &ModelRequest) -> bool {
    let turns = request.turns.iter().flat_map(|turn| &turn.parts).map(|part| match part {
        ChatPart::Text(text) => text.len(),
        ChatPart::Image { base64, .. } => base64.len(),
        ChatPart::Thinking { .. } => 0,
    });
    turns.sum::<usize>() + request.system.as_ref().map_or(0, String::len) >= MIN_CACHED_CHARS
}

/// The body of a request.
pub(super) fn body(model: &str, request: &ModelRequest, restrictions: &Restrictions, sent: &Sent) -> Value {
    let mut messages: Vec<Value> =
        request.turns.iter().map(|turn| message(turn, restrictions.omit_thinking)).collect();
    let mut system = request.system.as_deref().map(Value::from);
    if sent.cache_control {
        let cache = json!({"type": "ephemeral"});
        let last_content = messages.last_mut().and_then(|message| message.get_mut("content"));
        let last_block = last_content.and_then(|content| {
            if let Some(text) = content.as_str() {
                *content = json!([{"type": "text", "text": text}]);
            }
            content.as_array_mut()?.last_mut()
        });
        if let Some(block) = last_block.and_then(Value::as_object_mut) {
            block.insert("cache_control".to_owned(), cache.clone());
        }
        system = request
            .system
            .as_deref()
            .map(|text| json!([{"type": "text", "text": text, "cache_control": cache}]));
    }
    let mut body = json!({
        "model": model,
        "max_tokens": sent.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS),
        "messages": messages,
        "stream": sent.stream,
    });
    if let Some(fields) = body.as_object_mut() {
        if let Some(system) = system {
            fields.insert("system".to_owned(), system);
        }
        if let Some(temperature) = request.temperature {
            fields.insert("temperature".to_owned(), temperature.into());
        }
    }
    body
}

fn message(turn: &ChatTurn, omit_thinking: bool) -> Value {
    let block = |part: &ChatPart| match part {
        ChatPart::Text(text) => Some(json!({"type": "text", "text": text})),
        ChatPart::Image { media_type, base64 } => Some(json!({
            "type": "image", "source": {"type": "base64", "media_type": media_type, "data": base64}
        })),
        ChatPart::Thinking { .. } if omit_thinking => None,
        ChatPart::Thinking { text, signature } => {
            Some(json!({"type": "thinking", "thinking": text, "signature": signature}))
        }
    };
    // Some servers accept only a string.
    let is_text = turn.parts.iter().all(|part| matches!(part, ChatPart::Text(_)));
    let content = if is_text {
        Value::String(turn.text())
    } else {
        turn.parts.iter().filter_map(block).collect::<Vec<_>>().into()
    };
    json!({"role": turn.role.as_str(), "content": content})
}

/// Reads an event of a stream, or a whole message.
pub(super) fn read(event: &str, payload: &Value, reply: &mut ReplyBuilder) {
    // Some servers send the type as the name of the event only.
    let kind = payload.get("type").and_then(Value::as_str).unwrap_or(event);
    match kind {
        "message_start" => {
            if let Some(message) = payload.get("message") {
                read_message(message, reply);
            }
        }
        "content_block_start" => {
            if let Some(block) = payload.get("content_block") {
                read_block(block, reply);
            }
        }
        "content_block_delta" | "message_delta" => {
            let delta = payload.get("delta").unwrap_or(&Value::Null);
            read_delta(delta, reply);
            // Some servers put the delta of a block into the delta of the message.
            delta.get("delta").into_iter().for_each(|inner| read_delta(inner, reply));
            read_stop(delta, reply);
            read_usage(payload.get("usage"), reply);
        }
        "message_stop" => {
            // Bedrock counts here.
            if let Some(metrics) = payload.get("amazon-bedrock-invocationMetrics") {
                reply.usage_if_unknown(metrics.get("inputTokenCount"), metrics.get("outputTokenCount"));
            }
            read_usage(payload.get("usage"), reply);
            reply.is_done = true;
        }
        // The API before messages.
        "completion" => {
            reply.text(payload.get("completion").and_then(Value::as_str).unwrap_or_default());
            reply.stop_reason(payload.get("stop_reason"));
        }
        "message" => {
            read_message(payload, reply);
            reply.is_done = true;
        }
        // Pings, ends of blocks, and events that are defined later.
        _ => {}
    }
}

/// Reads a delta by its fields and not by its type: thinking also arrives in text blocks.
fn read_delta(delta: &Value, reply: &mut ReplyBuilder) {
    let text = |name: &str| delta.get(name).and_then(Value::as_str).unwrap_or_default();
    reply.thinking(text("thinking"));
    reply.text(text("text"));
    reply.signature(text("signature"));
}

fn read_message(message: &Value, reply: &mut ReplyBuilder) {
    for block in message.get("content").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default() {
        read_block(block, reply);
    }
    read_stop(message, reply);
    read_usage(message.get("usage"), reply);
}

fn read_stop(fields: &Value, reply: &mut ReplyBuilder) {
    reply.stop_reason(fields.get("stop_reason"));
    let details = fields.get("stop_details");
    reply.explain_stop(
        details.and_then(|details| details.get("explanation").or_else(|| details.get("category"))),
    );
}

fn read_block(block: &Value, reply: &mut ReplyBuilder) {
    let text = |name: &str| block.get(name).and_then(Value::as_str).unwrap_or_default();
    match text("type") {
        "redacted_thinking" => reply.signature(text("data")),
        "tool_use" | "server_tool_use" => reply.called_tools.push(text("name").to_owned()),
        _ => read_delta(block, reply),
    }
}

fn read_usage(usage: Option<&Value>, reply: &mut ReplyBuilder) {
    let field = |name: &str| usage.and_then(|usage| usage.get(name));
    // The number of input tokens does not include the cached ones.
    reply.usage_with_cache(
        field("input_tokens"),
        field("cache_read_input_tokens"),
        field("cache_creation_input_tokens"),
        field("output_tokens"),
    );
}
