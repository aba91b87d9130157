//! What is sent to a server, and how a request changes when the server refuses a part of it.

use std::sync::Arc;
use std::time::Duration;

use hfs_agents::{ApiKey, Assistant, ModelConfig, Provider, TriadsConfig, first_listed_model, list_models};
use hfs_core::{
    Agent as _, AgentError, ContentHash, ErrorExt as _, LimitSource, MessageDraft, ModelContext, Part,
    RequestEvent, Role, Suggestion, Timestamp, WaitStage,
};
use serde_json::{Value, json};
use testkit::model_server::{
    ModelServer, Protocol, RawResponse, RawServer, RecordedRequest, Script, well_formed_answer,
};

use crate::triads::triads_on;
use crate::{KEY, RecordingSink, config, question, request, run};

/// The maximum length that a request asks for.
fn max_tokens(request: &RecordedRequest) -> Option<u64> {
    let paths = [
        "/max_tokens",
        "/max_completion_tokens",
        "/generationConfig/maxOutputTokens",
        "/options/num_predict",
    ];
    paths.iter().find_map(|path| request.body.pointer(path)?.as_u64())
}

/// A server that refuses a maximum above `limit`, in the words of the protocol's provider.
fn server_with_limit(limit: u64) -> ModelServer {
    let server = ModelServer::start();
    server.otherwise(move |request| {
        let Some(asked) = max_tokens(request).filter(|asked| *asked > limit) else {
            return well_formed_answer(request);
        };
        let words = match request.protocol {
            Protocol::OpenAi => format!(
                "max_tokens is too large: {asked}. This model supports at most {limit} completion tokens, whereas you provided {asked}."
            ),
            Protocol::Anthropic => format!(
                "max_tokens: {asked} > {limit}, which is the maximum allowed number of output tokens for claude-3-5-sonnet-20241022"
            ),
            Protocol::Gemini => format!(
                "Unable to submit request because it has a maxOutputTokens value of {asked} but the supported range is from 1 (inclusive) to {} (exclusive).",
                limit + 1
            ),
            Protocol::Ollama => format!("num_predict must be at most {limit}"),
        };
        Script::status(400, &words)
    });
    server
}

/// Runs triads on servers with different limits, with this maximum in the settings.
async fn assert_triads_run_whole(protocol: Protocol, yaml: &str, configured: Option<u32>) {
    for limit in [4_096, 8_192, 16_384, 64_000, 128_000] {
        let server = server_with_limit(limit);
        let mut model = config(&server, protocol);
        model.max_tokens = configured;
        let (sink, outcome) = run(&triads_on(model, yaml), question("Why?")).await;
        let outcome = outcome.unwrap_or_else(|error| panic!("{limit} {protocol:?}: {error}"));
        assert_eq!(sink.text(), "The whole reply.", "{limit} {protocol:?}");
        assert_eq!(sink.errors(), [] as [&str; 0], "{limit} {protocol:?}");
        assert_eq!(outcome.incomplete, None);
        // Agents that start at the same time are refused once each; later requests know the limit.
        let refused = server.requests().iter().filter(|request| max_tokens(request) > Some(limit)).count();
        assert!(refused <= 18, "{limit} {protocol:?}: {refused}");
    }
}

#[tokio::test]
async fn small_triads_run_whole_on_models_with_any_maximum_length() {
    for protocol in Protocol::ALL {
        assert_triads_run_whole(protocol, TriadsConfig::SMALL, Some(400_000)).await;
    }
    assert_triads_run_whole(Protocol::Anthropic, TriadsConfig::SMALL, None).await;
}

#[tokio::test]
async fn standard_triads_run_whole_on_models_with_any_maximum_length() {
    assert_triads_run_whole(Protocol::OpenAi, TriadsConfig::STANDARD, Some(400_000)).await;
    assert_triads_run_whole(Protocol::Anthropic, TriadsConfig::STANDARD, None).await;
}

#[tokio::test]
async fn triads_run_whole_on_models_that_refuse_a_parameter() {
    type Refuses = fn(&Value) -> bool;
    let refusals: [(&str, Protocol, Refuses, &str); 6] = [
        (
            "max_tokens",
            Protocol::OpenAi,
            |body| body.get("max_tokens").is_some(),
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
        ),
        (
            "stream_options",
            Protocol::OpenAi,
            |body| body.get("stream_options").is_some(),
            "Unrecognized request argument supplied: stream_options",
        ),
        (
            "temperature",
            Protocol::OpenAi,
            |body| body.get("temperature").is_some(),
            "Unsupported value: 'temperature' does not support 0.3 with this model. Only the default (1) value is supported.",
        ),
        (
            "temperature",
            Protocol::Anthropic,
            |body| body.get("temperature").is_some(),
            "`temperature` is deprecated for this model.",
        ),
        (
            "system",
            Protocol::OpenAi,
            |body| body["messages"][0]["role"] == "system",
            "System role not supported",
        ),
        (
            "system",
            Protocol::Gemini,
            |body| body.get("systemInstruction").is_some(),
            "Developer instruction is not enabled for models/gemma-3-27b-it",
        ),
    ];
    for (parameter, protocol, refuses, words) in refusals {
        for (name, yaml) in TriadsConfig::BUILT_IN {
            let server = ModelServer::start();
            server.otherwise(move |request| {
                if refuses(&request.body) { Script::status(400, words) } else { well_formed_answer(request) }
            });
            let mut model = config(&server, protocol);
            model.max_tokens = Some(1_000);
            let (sink, outcome) = run(&triads_on(model, yaml), question("Why?")).await;
            assert!(outcome.is_ok(), "{parameter} {protocol:?} {name}: {outcome:?}");
            assert_eq!(sink.text(), "The whole reply.", "{parameter} {protocol:?} {name}");
            assert_eq!(sink.errors(), [] as [&str; 0], "{parameter} {protocol:?} {name}");
        }
    }
}

#[tokio::test]
async fn several_refusals_of_one_request_are_learned_once() {
    let server = ModelServer::start();
    server.otherwise(|request| {
        let body = &request.body;
        let refusal = if body.get("stream_options").is_some() {
            "stream_options: Extra inputs are not permitted".to_owned()
        } else if body.get("temperature").is_some() {
            "Unsupported parameter: 'temperature' is not supported with this model.".to_owned()
        } else if body.get("max_tokens").is_some() {
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
                .to_owned()
        } else if body["max_completion_tokens"].as_u64() > Some(100) {
            "max_completion_tokens must be less than or equal to 100".to_owned()
        } else {
            return Script::text("here");
        };
        Script::status(400, &refusal)
    });
    let mut model = config(&server, Protocol::OpenAi);
    model.max_tokens = Some(5_000);
    model.temperature = Some(0.5);
    let assistant = Assistant::new(model);
    for requests in [5, 6] {
        let (sink, outcome) = run(&assistant, question("hello?")).await;
        assert!(outcome.is_ok(), "{outcome:?}");
        assert_eq!((sink.text().as_str(), server.requests().len()), ("here", requests));
        assert_eq!(sink.errors(), [] as [&str; 0]);
    }
    assert_eq!(server.requests()[5].body["max_completion_tokens"], 100);
}

#[tokio::test]
async fn a_refusal_that_changes_nothing_ends_the_run() {
    for words in
        ["max_tokens is too large", "temperature is not supported", "stream_options is not supported"]
    {
        let server = ModelServer::start();
        server.otherwise(move |_| Script::status(400, words));
        let mut model = config(&server, Protocol::OpenAi);
        model.max_tokens = Some(5_000);
        model.temperature = Some(0.5);
        let (_, outcome) = run(&Assistant::new(model), question("hello?")).await;
        assert!(outcome.unwrap_err().to_string().contains(words));
        assert_eq!(server.requests().len(), 2, "{words}");
    }
}

#[tokio::test]
async fn a_budget_that_the_model_does_not_take_does_not_lose_the_anthropic_default() {
    let server = ModelServer::start();
    let (_, outcome) = run(&Assistant::new(config(&server, Protocol::Anthropic)), question("hello?")).await;
    assert!(outcome.is_ok());
    assert_eq!(server.requests()[0].body["max_tokens"], 32_000);
    for protocol in [Protocol::OpenAi, Protocol::Gemini, Protocol::Ollama] {
        let server = ModelServer::start();
        let (_, outcome) = run(&Assistant::new(config(&server, protocol)), question("hello?")).await;
        assert!(outcome.is_ok());
        assert_eq!(max_tokens(&server.requests()[0]), None, "{protocol:?}");
    }
}

fn request_events(sink: &RecordingSink) -> Vec<RequestEvent> {
    sink.events.lock().unwrap().iter().filter_map(RequestEvent::read).collect()
}

#[tokio::test]
async fn images_that_a_model_refuses_are_left_out_with_a_note() {
    let hash = ContentHash::from_bytes([7; 32]);
    let image = Part::Attachment { media_type: "image/png".into(), name: None, hash: Some(hash), bytes: 3 };
    let history =
        vec![MessageDraft::new(Role::User, vec![image, Part::text("what is this?")], Timestamp::UNIX_EPOCH)];
    for protocol in Protocol::ALL {
        let server = ModelServer::start();
        server.otherwise(|request| {
            if request.body.to_string().contains("AQID") {
                Script::status(400, "this model does not support image input (ref: 1)")
            } else {
                Script::text("I see nothing.")
            }
        });
        let assistant = Assistant::new(config(&server, protocol))
            .with_attachments(Arc::new(move |wanted| (wanted == hash).then(|| vec![1, 2, 3])));
        for requests in [2, 3] {
            let (sink, outcome) = run(&assistant, request(history.clone())).await;
            assert!(outcome.is_ok(), "{protocol:?}: {outcome:?}");
            assert_eq!(server.requests().len(), requests, "{protocol:?}");
            let last = server.requests().pop().unwrap();
            assert!(last.prompt().contains("an image that was left out"), "{protocol:?}: {}", last.prompt());
            assert!(last.prompt().contains("what is this?"));
            let left_out = request_events(&sink);
            assert!(
                matches!(left_out.as_slice(), [RequestEvent::LeftOut { message, .. }] if message.contains("images")),
                "{protocol:?}: {left_out:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_long_conversation_is_marked_for_anthropics_cache_until_that_is_refused() {
    let long = "word ".repeat(2_000);
    let server = ModelServer::start();
    let assistant = Assistant::new(config(&server, Protocol::Anthropic));
    let (_, outcome) = run(&assistant, question(&long)).await;
    assert!(outcome.is_ok());
    assert_eq!(server.requests()[0].body["messages"][0]["content"][0]["cache_control"]["type"], "ephemeral");
    server.then(Script::status(400, "messages.0.content.0.cache_control: Extra inputs are not permitted"));
    for _ in 0..2 {
        let (_, outcome) = run(&assistant, question(&long)).await;
        assert!(outcome.is_ok(), "{outcome:?}");
    }
    let marked: Vec<bool> =
        server.requests().iter().map(|request| request.body.to_string().contains("cache_control")).collect();
    assert_eq!(marked, [true, true, false, false]);
    let (_, outcome) = run(&Assistant::new(config(&server, Protocol::Anthropic)), question("short")).await;
    assert!(outcome.is_ok());
    assert!(!server.requests().pop().unwrap().body.to_string().contains("cache_control"));
}

#[tokio::test]
async fn signed_thinking_goes_back_to_the_model_that_signed_it() {
    let at = Timestamp::UNIX_EPOCH;
    let thinking = Part::Thinking { text: "private thought".into(), signature: Some("sig".into()) };
    let mut reply = MessageDraft::new(Role::Assistant, vec![thinking, Part::text("Because.")], at);
    reply.model = Some("test-model".into());
    let history = vec![MessageDraft::user("why?", at), reply, MessageDraft::user("really?", at)];
    for protocol in Protocol::ALL {
        let server = ModelServer::start();
        let assistant = Assistant::new(config(&server, protocol));
        let (_, outcome) = run(&assistant, request(history.clone())).await;
        assert!(outcome.is_ok());
        let body = server.requests()[0].body.to_string();
        assert_eq!(body.contains("private thought"), protocol == Protocol::Anthropic, "{protocol:?}: {body}");
        if protocol == Protocol::Anthropic {
            server.then(Script::status(400, "messages.1.content.0: Invalid `signature` in `thinking` block"));
            let (_, outcome) = run(&assistant, request(history.clone())).await;
            assert!(outcome.is_ok(), "{outcome:?}");
            assert!(!server.requests().pop().unwrap().body.to_string().contains("private thought"));
        }
    }
}

#[tokio::test]
async fn ollama_gets_a_context_that_fits_a_long_conversation() {
    let server = ModelServer::start();
    for (chars, expected) in [(10, Value::Null), (30_000, json!(16_384)), (100_000, json!(65_536))] {
        let assistant = Assistant::new(config(&server, Protocol::Ollama));
        let (_, outcome) = run(&assistant, question(&"x".repeat(chars))).await;
        assert!(outcome.is_ok());
        assert_eq!(server.requests().pop().unwrap().body["options"]["num_ctx"], expected, "{chars}");
    }
    let configured = ModelConfig { num_ctx: Some(1_234), ..config(&server, Protocol::Ollama) };
    let (_, outcome) = run(&Assistant::new(configured), question("x")).await;
    assert!(outcome.is_ok());
    assert_eq!(server.requests().pop().unwrap().body["options"]["num_ctx"], 1_234);
}

#[tokio::test]
async fn configured_headers_a_user_agent_and_a_bearer_token_are_sent() {
    for protocol in Protocol::ALL {
        let server = ModelServer::start();
        let model = ModelConfig {
            headers: vec![("X-Team".into(), "blue".into())],
            is_bearer_token: true,
            ..config(&server, protocol)
        };
        let (_, outcome) = run(&Assistant::new(model), question("hello?")).await;
        assert!(outcome.is_ok());
        let headers = &server.requests()[0].headers;
        assert_eq!(headers["x-team"], "blue");
        assert!(headers["user-agent"].starts_with("hfs/"), "{headers:?}");
        if protocol != Protocol::Gemini {
            assert_eq!(headers["authorization"], format!("Bearer {KEY}"), "{protocol:?}");
        }
        assert_eq!(headers.get("x-api-key"), None);
    }
}

#[tokio::test]
async fn the_name_of_a_model_is_sent_as_written() {
    for name in ["openai/gpt-oss-20b", "qwen3-max", "a::b", "m:latest", "gpt-5-high"] {
        for protocol in Protocol::ALL {
            // A slash in Gemini's path separates the collection from the model.
            if protocol == Protocol::Gemini && name.contains('/') {
                continue;
            }
            let server = ModelServer::start();
            let model = ModelConfig { model: name.into(), ..config(&server, protocol) };
            let (_, outcome) = run(&Assistant::new(model), question("hello?")).await;
            assert!(outcome.is_ok(), "{name} {protocol:?}: {outcome:?}");
            assert_eq!(server.requests()[0].model(), name, "{protocol:?}");
        }
    }
}

#[tokio::test]
async fn the_name_of_the_provider_is_left_out_if_the_server_does_not_know_the_model_with_it() {
    for (protocol, name) in [
        (Protocol::OpenAi, "openai/gpt-9"),
        (Protocol::Anthropic, "anthropic/claude-9"),
        (Protocol::Ollama, "ollama/llama3"),
    ] {
        let server = ModelServer::start();
        server.otherwise(|request| {
            if request.model().contains('/') {
                Script::status(404, "The model does not exist")
            } else {
                well_formed_answer(request)
            }
        });
        let model = ModelConfig { model: name.into(), ..config(&server, protocol) };
        let assistant = Assistant::new(model);
        for _ in 0..2 {
            let (_, outcome) = run(&assistant, question("hello?")).await;
            assert!(outcome.is_ok(), "{name}: {outcome:?}");
        }
        let names: Vec<String> = server.requests().iter().map(RecordedRequest::model).collect();
        let bare = name.split_once('/').unwrap().1;
        assert_eq!(names, [name, bare, bare]);
        server.otherwise(|_| Script::status(404, "The model does not exist"));
        let unknown = ModelConfig { model: "meta/llama".into(), ..config(&server, protocol) };
        let (_, outcome) = run(&Assistant::new(unknown), question("hello?")).await;
        assert_eq!(outcome.unwrap_err().suggestion(), Some(Suggestion::CheckModel));
        assert_eq!(server.requests().len(), 4, "no other prefix is left out");
    }
}

#[tokio::test]
async fn a_model_that_does_not_stream_is_asked_for_whole_replies_from_then_on() {
    let refusal = json!({"error": {"message": "Your organization must be verified to stream this model.",
        "type": "invalid_request_error", "param": "stream", "code": "unsupported_value"}});
    for (provider, base, reply) in [
        (
            Provider::OpenAi,
            "/v1",
            json!({"object": "chat.completion", "usage": {"prompt_tokens": 5, "completion_tokens": 7},
                "choices": [{"index": 0, "message": {"role": "assistant", "content": "whole"}, "finish_reason": "stop"}]}),
        ),
        (
            Provider::Anthropic,
            "/v1",
            json!({"type": "message", "role": "assistant", "content": [{"type": "text", "text": "whole"}],
                "stop_reason": "end_turn", "usage": {"input_tokens": 5, "output_tokens": 7}}),
        ),
        (
            Provider::Ollama,
            "",
            json!({"message": {"role": "assistant", "content": "whole"}, "done": true, "done_reason": "stop",
                "prompt_eval_count": 5, "eval_count": 7}),
        ),
    ] {
        let refusal = refusal.clone();
        let server = RawServer::start(move |_, request| {
            if request.body["stream"] == true {
                RawResponse::error(400, &refusal)
            } else {
                RawResponse::status(200, "application/json", "", &reply.to_string())
            }
        });
        let base_url = Some(format!("{}{base}", server.base_url()));
        let model = ModelConfig { base_url, ..ModelConfig::new(provider, "m", ApiKey::new(KEY)) };
        let assistant = Assistant::new(model);
        for _ in 0..2 {
            let (sink, outcome) = run(&assistant, question("hello?")).await;
            let usage = outcome.unwrap().message.usage.unwrap();
            assert_eq!(
                (sink.text().as_str(), usage.prompt_tokens, usage.completion_tokens),
                ("whole", 5, 7),
                "{provider}"
            );
        }
        let requests = server.requests();
        assert_eq!(requests.len(), 3, "{provider}: the refusal teaches");
        assert!(requests[1].body.get("stream_options").is_none(), "{provider}");
    }
}

#[tokio::test]
async fn an_address_without_a_version_is_found_with_one_request_more() {
    let reply = RawResponse::status(
        200,
        "application/json",
        "",
        r#"{"choices":[{"message":{"content":"here"},"finish_reason":"stop"}]}"#,
    );
    let missing = RawResponse::status(404, "text/html", "", "<html><title>404</title></html>");
    for (base, answering) in [
        ("", "/v1/chat/completions"),
        ("/api", "/api/chat/completions"),
        ("/api", "/api/v1/chat/completions"),
        ("/chat/completions", "/chat/completions"),
        ("/v1/chat/completions?key=x", "/v1/chat/completions?key=x"),
    ] {
        let (reply, missing) = (reply.clone(), missing.clone());
        let server =
            RawServer::start(
                move |_, request| {
                    if request.path == answering { reply.clone() } else { missing.clone() }
                },
            );
        let model = ModelConfig {
            base_url: Some(format!("{}{base}", server.base_url())),
            ..ModelConfig::new(Provider::OpenAi, "m", None)
        };
        let assistant = Assistant::new(model);
        for _ in 0..2 {
            let (sink, outcome) = run(&assistant, question("hello?")).await;
            assert!(outcome.is_ok(), "{base}: {outcome:?}");
            assert_eq!(sink.text(), "here");
        }
        let misses = server.requests().iter().filter(|request| request.path != answering).count();
        assert!(misses <= 1, "{base}: {misses}");
    }
}

#[tokio::test]
async fn the_models_of_a_server_are_listed() {
    for (provider, base, path, body) in [
        (Provider::OpenAi, "/v1", "/v1/models", r#"{"data":[{"id":"a"},{"id":"b"}]}"#),
        (Provider::OpenAi, "", "/v1/models", r#"{"data":[{"id":"a"},{"id":"b"}]}"#),
        (Provider::Anthropic, "", "/v1/models", r#"{"data":[{"id":"a"},{"id":"b"}]}"#),
        (
            Provider::Gemini,
            "/v1beta",
            "/v1beta/models",
            r#"{"models":[{"name":"models/a"},{"name":"models/b"}]}"#,
        ),
        (Provider::Ollama, "/v1", "/api/tags", r#"{"models":[{"name":"a"},{"name":"b"}]}"#),
    ] {
        let server = RawServer::start(move |_, request| {
            if request.path == path && request.method == "GET" {
                RawResponse::status(200, "application/json", "", body)
            } else {
                RawResponse::status(404, "text/plain", "", "")
            }
        });
        let base_url = Some(format!("{}{base}", server.base_url()));
        let model = ModelConfig { base_url, ..ModelConfig::new(provider, "m", None) };
        assert_eq!(list_models(model).await.unwrap().names, ["a", "b"], "{provider}");
    }
    let server =
        RawServer::with_responses(vec![RawResponse::error(401, &json!({"error": {"message": "who?"}}))]);
    let base_url = Some(server.base_url());
    let model = ModelConfig { base_url, ..ModelConfig::new(Provider::OpenAi, "m", None) };
    assert!(list_models(model).await.unwrap_err().to_string().contains("who?"));
    let body = r#"{"error":{"message":"not today"}}"#;
    let server = RawServer::with_responses(vec![RawResponse::status(200, "application/json", "", body)]);
    let model =
        ModelConfig { base_url: Some(server.base_url()), ..ModelConfig::new(Provider::OpenAi, "m", None) };
    assert!(list_models(model).await.unwrap_err().to_string().contains("not today"));
}

#[tokio::test]
async fn the_limit_of_the_context_is_asked_once_and_a_configured_one_is_not_asked() {
    for (provider, base, path, body, tokens) in [
        (
            Provider::OpenAi,
            "/v1",
            "/v1/models",
            r#"{"data":[{"id":"other","max_model_len":1},{"id":"m","max_model_len":8192}]}"#,
            Some(8_192),
        ),
        (Provider::OpenAi, "/v1", "/v1/models", r#"{"data":[{"id":"a","max_model_len":8192}]}"#, Some(8_192)),
        (Provider::OpenAi, "/v1", "/v1/models", r#"{"data":[{"id":"m"}]}"#, None),
        (
            Provider::Anthropic,
            "",
            "/v1/models",
            r#"{"data":[{"id":"m","max_input_tokens":8192}]}"#,
            Some(8_192),
        ),
        (
            Provider::Gemini,
            "",
            "/v1beta/models",
            r#"{"models":[{"name":"models/m","inputTokenLimit":8192}]}"#,
            Some(8_192),
        ),
        (
            Provider::Ollama,
            "/v1",
            "/api/show",
            r#"{"model_info":{"llama.context_length":8192}}"#,
            Some(8_192),
        ),
    ] {
        let server = RawServer::start(move |_, request| {
            if request.path == path {
                RawResponse::status(200, "application/json", "", body)
            } else {
                RawResponse::status(404, "text/plain", "", "")
            }
        });
        let base_url = Some(format!("{}{base}", server.base_url()));
        let model = ModelConfig { base_url, ..ModelConfig::new(provider, "m", None) };
        let assistant = Assistant::new(model.clone());
        assert_eq!(assistant.describe().context, ModelContext::Unknown);
        for _ in 0..2 {
            let limit = assistant.context_limit().await;
            assert_eq!(limit.map(|limit| limit.tokens), tokens, "{provider}");
        }
        assert_eq!(server.requests().len(), 1, "{provider}");
        let configured = Assistant::new(ModelConfig { context_tokens: Some(5_000), ..model });
        assert_eq!(configured.context_limit().await.map(|limit| limit.tokens), Some(5_000));
        assert_eq!(server.requests().len(), 1, "{provider}");
    }
    let known = Assistant::new(ModelConfig::new(Provider::Anthropic, "claude-sonnet-4-6", ApiKey::new(KEY)));
    let limit = known.describe().context.limit().unwrap();
    assert_eq!((limit.tokens, limit.source), (200_000, LimitSource::Table));
}

#[tokio::test]
async fn the_context_of_a_model_is_found_without_the_name_of_its_provider() {
    for (provider, path, name) in [(Provider::OpenAi, "/v1", "openai/m"), (Provider::Ollama, "", "ollama/m")]
    {
        let server = RawServer::start(|_, request| {
            let body = if request.path == "/v1/models" {
                r#"{"data":[{"id":"other","max_model_len":1},{"id":"m","max_model_len":8192}]}"#
            } else if request.body["model"] == "m" {
                r#"{"model_info":{"llama.context_length":8192}}"#
            } else {
                return RawResponse::error(404, &json!({"error": "model 'ollama/m' not found"}));
            };
            RawResponse::status(200, "application/json", "", body)
        });
        let base_url = Some(format!("{}{path}", server.base_url()));
        let model = ModelConfig { base_url, ..ModelConfig::new(provider, name, None) };
        let limit = Assistant::new(model).context_limit().await;
        assert_eq!(limit.map(|limit| limit.tokens), Some(8_192), "{provider}");
    }
}

#[test]
fn the_context_that_ollama_loads_limits_its_models_alone() {
    let tokens = |provider, model: &str, context_tokens| {
        let config =
            ModelConfig { num_ctx: Some(8_192), context_tokens, ..ModelConfig::new(provider, model, None) };
        Assistant::new(config).describe().context.limit().unwrap().tokens
    };
    assert_eq!(tokens(Provider::Anthropic, "claude-sonnet-4-6", None), 200_000);
    assert_eq!(tokens(Provider::Ollama, "m", None), 8_192);
    assert_eq!(tokens(Provider::Ollama, "m", Some(100_000)), 8_192);
    assert_eq!(tokens(Provider::Ollama, "m", Some(4_096)), 4_096);
}

#[tokio::test]
async fn a_refusal_that_names_the_context_teaches_its_limit() {
    let server = ModelServer::start();
    let refusal =
        "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.";
    server.otherwise(move |_| Script::status(400, refusal));
    let assistant = Assistant::new(config(&server, Protocol::OpenAi));
    let (_, outcome) = run(&assistant, question("hello?")).await;
    assert_eq!(outcome.unwrap_err().suggestion(), Some(Suggestion::ReduceContext));
    assert_eq!(assistant.describe().context.limit().map(|limit| limit.tokens), Some(8_192));
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_summary_is_asked_for_with_the_whole_conversation_and_its_instructions() {
    for protocol in Protocol::ALL {
        let server = ModelServer::start();
        server.then(Script::text("They want a red door.").usage(20, 5));
        let assistant = Assistant::new(config(&server, protocol));
        let history = vec![
            MessageDraft::user("paint the door red", Timestamp::UNIX_EPOCH),
            MessageDraft::new(Role::Assistant, vec![Part::text("which red?")], Timestamp::UNIX_EPOCH),
        ];
        let outcome = assistant.summarize(request(history)).await.unwrap();
        let [Part::Text { text }] = outcome.message.parts.as_slice() else {
            panic!("{:?}", outcome.message.parts)
        };
        assert!(
            text.starts_with("Summary of the conversation so far:") && text.ends_with("red door."),
            "{text}"
        );
        assert_eq!(outcome.message.usage.unwrap().prompt_tokens, 20);
        let prompt = server.requests()[0].prompt();
        assert!(
            prompt.contains("paint the door red") && prompt.contains("Summarize this conversation"),
            "{prompt}"
        );
        server.then(Script::text("Cut").stop_reason("length"));
        let cut = assistant.summarize(question("x")).await;
        assert!(matches!(cut, Err(AgentError::Incomplete(_))), "{protocol:?}: {cut:?}");
    }
}

#[tokio::test]
async fn a_long_wait_for_the_first_token_is_announced_and_a_short_one_is_not() {
    let server = ModelServer::start();
    server.then(Script::text("quick")).then(Script::text("slow").after(Duration::from_millis(2_300)));
    let assistant = Assistant::new(config(&server, Protocol::OpenAi));
    let (sink, _) = run(&assistant, question("hello?")).await;
    assert_eq!(request_events(&sink), []);
    let (sink, _) = run(&assistant, question("hello?")).await;
    let events = request_events(&sink);
    let [RequestEvent::Waiting { agent, server: label, stage, limit_ms }] = events.as_slice() else {
        panic!("{events:?}");
    };
    assert_eq!((agent.as_str(), *stage, *limit_ms), ("assistant", WaitStage::FirstToken, 20_000));
    assert!(label.contains("127.0.0.1"), "{label}");
}

#[tokio::test]
async fn pings_do_not_prolong_the_wait_for_a_token_for_ever() {
    let ping = "event: ping\ndata: {\"type\": \"ping\"}\n\n";
    let pings = (0..100)
        .fold(RawResponse::events(""), |response, _| response.bytes(ping).wait(Duration::from_millis(20)));
    let server = RawServer::with_responses(vec![pings]);
    let mut model =
        ModelConfig { base_url: Some(server.base_url()), ..ModelConfig::new(Provider::Anthropic, "m", None) };
    model.timeouts.first_token = Duration::from_millis(300);
    let (_, outcome) = run(&Assistant::new(model), question("hello?")).await;
    let error = outcome.unwrap_err();
    assert!(error.to_string().contains("no answer within 300ms"), "{error}");
    assert_eq!(server.requests().len(), 1, "a request that may have been paid for is not repeated");
}

#[tokio::test]
async fn the_first_model_of_a_server_that_can_chat_replaces_one_that_it_does_not_have() {
    let server = ModelServer::start();
    server.models(["nomic-embed-text", "qwen3:4b", "llama3:8b"]);
    let chosen = async |name: &str| {
        let model = ModelConfig { model: name.to_owned(), ..config(&server, Protocol::OpenAi) };
        first_listed_model(model, Duration::from_secs(5)).await
    };
    assert_eq!(chosen("gpt-9").await.as_deref(), Some("qwen3:4b"));
    assert_eq!(chosen("llama3:8b").await.as_deref(), Some("llama3:8b"));
    server.models(["nomic-embed-text"]);
    assert_eq!(chosen("gpt-9").await, None);
}

#[tokio::test]
async fn the_parts_that_triads_summarize_fit_the_context_of_their_model() {
    let server = ModelServer::start();
    let model = ModelConfig { context_tokens: Some(5_000), ..config(&server, Protocol::OpenAi) };
    let triads = triads_on(model, TriadsConfig::SMALL);
    assert_eq!(triads.context_limit().await.map(|limit| limit.tokens), Some(5_000));
    assert_eq!(triads.describe().context, ModelContext::Unused, "their agents are sent excerpts");
}
