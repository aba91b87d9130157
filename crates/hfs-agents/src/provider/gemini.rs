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
    reply.stop_reason(payload.pointer("/promptFeedback/blockReason"));
    if let Some(candidate) = payload.pointer("/candidates/0") {
        let parts = candidate.pointer("/content/parts").and_then(Value::as_array);
        for part in parts.map(Vec::as_slice).unwrap_or_default() {
            let text = part.get("text").and_then(Value::as_str).unwrap_or_default();
            if part.get("thought").and_then(Value::as_bool) == Some(true) {
                reply.thinking(text);
            } else {
                reply.text(text);
            }
            if let Some(signature) = part.get("thoughtSignature").and_then(Value::as_str) {
                reply.signature(signature);
            }
            if let Some(name) = part.pointer("/functionCall/name").and_then(Value::as_str) {
                reply.called_tools.push(name.to_owned());
            }
        }
        reply.stop_reason(candidate.get("finishReason"));
    }
    if let Some(usage) = payload.get("usageMetadata") {
        let count = |name: &str| usage.get(name).and_then(token_count);
        let completion = match (count("candidatesTokenCount"), count("thoughtsTokenCount")) {
            (None, None) => None,
            (reply, thoughts) => Some(Value::from(reply.unwrap_or(0) + thoughts.unwrap_or(0))),
        };
        reply.usage(usage.get("promptTokenCount"), completion.as_ref(), usage.get("totalTokenCount"));
    }
}
