//! OpenAI's chat completions, which most servers implement in some variation.

use serde_json::{Map, Value, json};

use super::refusal::Sent;
use super::reply::{ReplyBuilder, token_count};
use crate::model::{ChatPart, ChatTurn, ModelRequest};

/// The body of a request.
pub(super) fn body(model: &str, request: &ModelRequest, sent: &Sent) -> Value {
    let system = request.system.as_deref().map(|text| json!({"role": "system", "content": text}));
    let turns = request.turns.iter().map(message);
    let messages: Vec<Value> = system.into_iter().chain(turns).collect();
    let mut body = json!({"model": model, "messages": messages, "stream": sent.stream});
    if let Some(fields) = body.as_object_mut() {
        if sent.stream_options {
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
    let has_images = turn.parts.iter().any(|part| matches!(part, ChatPart::Image { .. }));
    // Many servers accept only a string.
    let content = if has_images {
        turn.parts.iter().filter_map(content_part).collect::<Vec<_>>().into()
    } else {
        Value::String(turn.text())
    };
    json!({"role": turn.role.as_str(), "content": content})
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
    // Some gateways enclose the chunk.
    let inner = ["data", "output", "result"].iter().find_map(|name| payload.get(*name));
    let payload = inner.filter(|inner| inner.get("choices").is_some()).unwrap_or(payload);
    let choices = payload.get("choices").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let index = |choice: &Value| choice.get("index").and_then(Value::as_u64).unwrap_or(0);
    // Only one choice is requested, and some servers count from 1.
    if let Some(lowest) = choices.iter().map(index).min() {
        reply.choice_index.get_or_insert(lowest);
    }
    let wanted = reply.choice_index.unwrap_or(0);
    for choice in choices.iter().filter(|choice| index(choice) == wanted) {
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
        let reasons = ["finish_reason", "finishReason", "stop_reason"];
        reply.stop_reason(
            reasons.iter().find_map(|name| choice.get(*name).filter(|reason| !reason.is_null())),
        );
        read_usage(choice.get("usage"), reply);
    }
    // A whole completion is complete, whether it has a stop reason or not. Some gateways give the same type to chunks.
    let is_whole =
        choices.iter().any(|choice| choice.get("message").is_some() && choice.get("delta").is_none());
    reply.is_done |= is_whole && payload.get("object").and_then(Value::as_str) == Some("chat.completion");
    // Workers AI has no choices.
    if choices.is_empty()
        && let Some(text) = payload.get("response").and_then(Value::as_str)
    {
        reply.text(text);
    }
    read_usage(payload.pointer("/x_groq/usage"), reply);
    read_usage(payload.get("usage"), reply);
    let is_last = choices.is_empty() && payload.get("choices").is_some_and(Value::is_array);
    if is_last && payload.get("usage").is_some_and(Value::is_object) {
        reply.has_last_usage = true;
    }
    // llama.cpp counts here if it was not asked for the usage.
    if let Some(timings) = payload.get("timings") {
        let cached = timings.get("cache_n").and_then(token_count).unwrap_or(0);
        let prompt = timings.get("prompt_n").and_then(token_count).map(|tokens| Value::from(tokens + cached));
        reply.usage_if_unknown(prompt.as_ref(), timings.get("predicted_n"));
    }
}

fn read_usage(usage: Option<&Value>, reply: &mut ReplyBuilder) {
    /// Names of the prompt's and the reply's tokens, also those of other APIs.
    const NAMES: [(&str, &str); 4] = [
        ("prompt_tokens", "completion_tokens"),
        ("input_tokens", "output_tokens"),
        ("promptTokens", "completionTokens"),
        ("inputTokens", "outputTokens"),
    ];
    if let Some(usage) = usage {
        let total = usage.get("total_tokens").or_else(|| usage.get("totalTokens"));
        for (prompt, completion) in NAMES {
            reply.usage(usage.get(prompt), usage.get(completion), total);
        }
        // OpenAI, its newer API, DeepSeek, and Moonshot.
        let cached = [
            "/prompt_tokens_details/cached_tokens",
            "/input_tokens_details/cached_tokens",
            "/prompt_cache_hit_tokens",
            "/cached_tokens",
        ];
        reply.cached(cached.iter().find_map(|path| usage.pointer(path)), None);
    }
}

fn read_message(fields: &Map<String, Value>, reply: &mut ReplyBuilder) {
    // Servers use different names for thinking, and some send it under two of them.
    let names = ["reasoning_content", "reasoning", "thinking", "reasoning_text"];
    let plain = names.iter().find_map(|name| {
        let value = fields.get(*name)?;
        let inner = ["text", "content", "summary"].iter().find_map(|name| value.get(*name));
        value.as_str().or_else(|| inner?.as_str()).filter(|text| !text.is_empty())
    });
    match plain {
        Some(thinking) => reply.thinking(thinking),
        None => {
            let details = ["reasoning_details", "thinking_blocks"].iter().find_map(|name| fields.get(*name));
            for detail in details.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default() {
                let names = ["text", "summary", "thinking"];
                let text = names.iter().find_map(|name| detail.get(*name)?.as_str());
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
    reply.tool_calls(fields.get("tool_calls"));
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
        Value::Object(part) => reply.text(&text_of(part.get("text").or_else(|| part.get("content")))),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn text_of(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => parts.iter().map(|part| text_of(part.get("text"))).collect(),
        _ => String::new(),
    }
}
