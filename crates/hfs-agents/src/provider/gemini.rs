//! Gemini's `streamGenerateContent`.

use serde_json::{Map, Value, json};

use super::refusal::Sent;
use super::reply::{ReplyBuilder, token_count};
use crate::model::{ChatPart, ChatRole, ChatTurn, ModelRequest};

/// The body of a request.
pub(super) fn body(request: &ModelRequest, sent: &Sent) -> Value {
    let mut generation = Map::new();
    if let Some(max_tokens) = sent.max_tokens {
        generation.insert("maxOutputTokens".to_owned(), max_tokens.into());
    }
    if let Some(temperature) = request.temperature {
        generation.insert("temperature".to_owned(), temperature.into());
    }
    let contents: Vec<Value> = request.turns.iter().map(content).collect();
    let mut body = json!({"contents": contents});
    if let Some(fields) = body.as_object_mut() {
        if let Some(system) = &request.system {
            fields.insert("systemInstruction".to_owned(), json!({"parts": [{"text": system}]}));
        }
        if !generation.is_empty() {
            fields.insert("generationConfig".to_owned(), generation.into());
        }
    }
    body
}

fn content(turn: &ChatTurn) -> Value {
    let role = match turn.role {
        ChatRole::User => "user",
        ChatRole::Assistant => "model",
    };
    let parts = turn.parts.iter().filter_map(|part| match part {
        ChatPart::Text(text) => Some(json!({"text": text})),
        ChatPart::Image { media_type, base64 } => {
            Some(json!({"inlineData": {"mimeType": media_type, "data": base64}}))
        }
        ChatPart::Thinking { .. } => None,
    });
    json!({"role": role, "parts": parts.collect::<Vec<_>>()})
}

/// Reads a chunk of a stream, or a whole response.
pub(super) fn read(payload: &Value, reply: &mut ReplyBuilder) {
    // Some gateways enclose the response.
    let payload = payload.get("response").filter(|inner| inner.is_object()).unwrap_or(payload);
    if let Some(reason) = payload.pointer("/promptFeedback/blockReason") {
        reply.block(reason, payload.pointer("/promptFeedback/blockReasonMessage"));
    }
    if let Some(candidate) = payload.pointer("/candidates/0") {
        let parts = match candidate.pointer("/content/parts") {
            Some(Value::Array(parts)) => parts.as_slice(),
            Some(part) => std::slice::from_ref(part),
            None => &[],
        };
        for part in parts {
            let text = part.get("text").and_then(Value::as_str).unwrap_or_default();
            if part.get("thought").and_then(Value::as_bool) == Some(true) {
                reply.thinking(text);
                reply.signature(part.get("thoughtSignature").and_then(Value::as_str).unwrap_or_default());
            } else {
                // A signature of text stands for no thinking that could be shown, and is not sent back.
                reply.text(text);
            }
            if let Some(name) = part.pointer("/functionCall/name").and_then(Value::as_str) {
                reply.called_tools.push(name.to_owned());
            }
        }
        let reason = candidate.get("finishReason").or_else(|| candidate.get("finish_reason"));
        reply.stop_reason(reason);
        reply.explain_stop(candidate.get("finishMessage").or_else(|| candidate.get("finish_message")));
        if let Some(name) = reason.and_then(Value::as_u64).and_then(reason_of_number) {
            reply.stop_reason(Some(&name.into()));
        }
    }
    if let Some(usage) = payload.get("usageMetadata").or_else(|| payload.get("usage_metadata")) {
        // Some gateways use the names of the protocol buffers.
        let field = |camel: &str, snake: &str| usage.get(camel).or_else(|| usage.get(snake));
        let count = |camel: &str, snake: &str| field(camel, snake).and_then(token_count);
        let candidates = count("candidatesTokenCount", "candidates_token_count");
        let completion = match (candidates, count("thoughtsTokenCount", "thoughts_token_count")) {
            (None, None) => None,
            (reply, thoughts) => Some(Value::from(reply.unwrap_or(0) + thoughts.unwrap_or(0))),
        };
        let prompt = field("promptTokenCount", "prompt_token_count");
        reply.usage(prompt, completion.as_ref(), field("totalTokenCount", "total_token_count"));
        reply.cached(field("cachedContentTokenCount", "cached_content_token_count"), None);
    }
}

/// The name of a stop reason that a gateway sends as the number of the protocol buffers.
const fn reason_of_number(number: u64) -> Option<&'static str> {
    match number {
        1 => Some("STOP"),
        2 => Some("MAX_TOKENS"),
        3 => Some("SAFETY"),
        4 => Some("RECITATION"),
        5 => Some("OTHER"),
        _ => None,
    }
}
