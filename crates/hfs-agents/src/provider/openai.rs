//! OpenAI's chat completions, which most servers implement in some variation.

use serde_json::{Map, Value, json};

use super::refusal::{Restrictions, Sent};
use super::reply::ReplyBuilder;
use crate::model::{ChatPart, ChatRole, ChatTurn, ModelRequest};

/// The body of a request.
pub(super) fn body(model: &str, request: &ModelRequest, restrictions: &Restrictions, sent: &Sent) -> Value {
    let system = request.system.as_deref().map(|text| json!({"role": "system", "content": text}));
    let turns = request.turns.iter().map(message);
    let messages: Vec<Value> = system.into_iter().chain(turns).collect();
    let mut body = json!({"model": model, "messages": messages, "stream": true});
    if let Some(fields) = body.as_object_mut() {
        if !restrictions.omit_stream_options {
            fields.insert("stream_options".to_owned(), json!({"include_usage": true}));
        }
        if let Some(max_tokens) = sent.max_tokens {
            fields.insert(sent.token_parameter.as_str().to_owned(), max_tokens.into());
        }
        if let Some(temperature) = request.temperature {
            fields.insert("temperature".to_owned(), temperature.into());
        }
    }
    body
}

fn message(turn: &ChatTurn) -> Value {
    let role = match turn.role {
        ChatRole::User => "user",
        ChatRole::Assistant => "assistant",
    };
    let has_images = turn.parts.iter().any(|part| matches!(part, ChatPart::Image { .. }));
    // Many servers accept only a string.
    let content = if has_images {
        turn.parts.iter().filter_map(content_part).collect::<Vec<_>>().into()
    } else {
        Value::String(turn.text())
    };
    json!({"role": role, "content": content})
}

fn content_part(part: &ChatPart) -> Option<Value> {
    match part {
        ChatPart::Text(text) => Some(json!({"type": "text", "text": text})),
        ChatPart::Image { media_type, base64 } => {
            let url = format!("data:{media_type};base64,{base64}");
            Some(json!({"type": "image_url", "image_url": {"url": url}}))
        }
        ChatPart::Thinking { .. } => None,
    }
}

/// Reads a chunk of a stream, or a whole completion.
pub(super) fn read(payload: &Value, reply: &mut ReplyBuilder) {
    let choices = payload.get("choices").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let index = |choice: &Value| choice.get("index").and_then(Value::as_u64).unwrap_or(0);
    for choice in choices.iter().filter(|choice| index(choice) == 0) {
        let parts = |name: &str| choice.get(name).and_then(Value::as_object);
        match (parts("delta"), parts("message")) {
            (Some(delta), _) if !delta.is_empty() => read_message(delta, reply),
            // Some servers repeat the whole message in the last chunk.
            (_, Some(message)) if !reply.has_content() => read_message(message, reply),
            _ => {
                if let Some(text) = choice.get("text").and_then(Value::as_str) {
                    reply.text(text);
                }
            }
        }
        reply.stop_reason(choice.get("finish_reason"));
        read_usage(choice.get("usage"), reply);
    }
    read_usage(payload.pointer("/x_groq/usage"), reply);
    read_usage(payload.get("usage"), reply);
}

fn read_usage(usage: Option<&Value>, reply: &mut ReplyBuilder) {
    if let Some(usage) = usage {
        reply.usage(usage.get("prompt_tokens"), usage.get("completion_tokens"), usage.get("total_tokens"));
        // Some servers use the names of OpenAI's other API.
        reply.usage(usage.get("input_tokens"), usage.get("output_tokens"), None);
    }
}

fn read_message(fields: &Map<String, Value>, reply: &mut ReplyBuilder) {
    // Servers use different names for thinking, and some send it under two of them.
    let names = ["reasoning_content", "reasoning", "thinking", "reasoning_text"];
    let plain = names.iter().find_map(|name| fields.get(*name)?.as_str().filter(|text| !text.is_empty()));
    match plain {
        Some(thinking) => reply.thinking(thinking),
        None => {
            let details = fields.get("reasoning_details").and_then(Value::as_array);
            for detail in details.map(Vec::as_slice).unwrap_or_default() {
                let text = detail.get("text").or_else(|| detail.get("summary")).and_then(Value::as_str);
                reply.thinking(text.unwrap_or_default());
            }
        }
    }
    if let Some(content) = fields.get("content") {
        read_content(content, reply);
    }
    if let Some(refusal) = fields.get("refusal").and_then(Value::as_str) {
        reply.refusal(refusal);
    }
    for call in fields.get("tool_calls").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default() {
        if let Some(name) = call.pointer("/function/name").and_then(Value::as_str) {
            reply.called_tools.push(name.to_owned());
        }
    }
}

/// Reads content, which is a string or, at Mistral, a list of parts.
fn read_content(content: &Value, reply: &mut ReplyBuilder) {
    match content {
        Value::String(text) => reply.text(text),
        Value::Array(parts) => {
            for part in parts {
                match part.get("type").and_then(Value::as_str) {
                    Some("thinking" | "reasoning") => reply.thinking(&text_of(part.get("thinking"))),
                    Some("refusal") => reply.refusal(&text_of(part.get("refusal"))),
                    _ => reply.text(&text_of(Some(part.get("text").unwrap_or(part)))),
                }
            }
        }
        _ => {}
    }
}

fn text_of(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => parts.iter().map(|part| text_of(part.get("text"))).collect(),
        _ => String::new(),
    }
}
