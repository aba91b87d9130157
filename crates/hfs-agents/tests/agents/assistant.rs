//! The assistant against a model server: replies, requests, retries and failures.

use std::sync::Arc;
use std::time::Duration;

use hfs_agents::{
    Assistant, AvailableProviders, DetectedModel, ModelConfig, Provider, detect_model, probe_ollama,
};
use hfs_core::{
    Agent, AgentError, Clock, ContentHash, ErrorExt, ErrorKind, EventPayload, MessageDraft, Part, ReplyDelta,
    RequestEvent, Role, Suggestion, SystemClock, Timestamp, Usage,
};
use serde_json::json;
use testkit::model_server::{ModelServer, Protocol, Script};

use crate::{CANCEL_DEADLINE, KEY, config, question, request, run, run_and_cancel, wait_for_requests};

fn assistant(server: &ModelServer, protocol: Protocol) -> Assistant {
    Assistant::new(config(server, protocol))
}

#[tokio::test]
async fn text_and_thinking_are_streamed_from_every_provider() {
    for protocol in Protocol::ALL {
        let server = ModelServer::start();
        server.then(
            Script::chunks(Vec::<String>::new())
                .then_thinking("let me ")
                .then_thinking("see")
                .then_text("Grüße, ")
                .then_text("世界")
                .usage(11, 7),
        );
        let (sink, outcome) = run(&Assistant::new(config(&server, protocol)), question("hello?")).await;
        let outcome = outcome.unwrap_or_else(|error| panic!("{protocol:?}: {error}"));
        let deltas = sink.deltas.into_inner().unwrap();
        let expected = [
            ReplyDelta::thinking("let me "),
            ReplyDelta::thinking("see"),
            ReplyDelta::text("Grüße, "),
            ReplyDelta::text("世界"),
        ];
        assert_eq!(deltas, expected, "{protocol:?}");
        let usage = Usage::new(11, 7);
        assert_eq!(outcome.message.usage, Some(usage), "{protocol:?}");
        assert_eq!(server.usage(), (usage, 1), "{protocol:?}");
        assert_eq!(outcome.message.model.as_deref(), Some("test-model"));
        assert!(outcome.message.extra.contains_key("stop_reason"), "{protocol:?}");
        let texts: Vec<&Part> =
            outcome.message.parts.iter().filter(|part| !matches!(part, Part::Thinking { .. })).collect();
        assert_eq!(texts, [&Part::text("Grüße, 世界")], "{protocol:?}");
    }
}

#[tokio::test]
async fn the_events_are_those_of_one_agent_with_its_usage() {
    let server = ModelServer::start();
    server.then(Script::text("hi").usage(5, 1));
    let (sink, outcome) =
        run(&Assistant::new(config(&server, Protocol::Anthropic)), question("hello?")).await;
    assert!(outcome.is_ok());
    assert_eq!(sink.kinds(), ["agent.started", "usage.recorded", "agent.ended"]);
    assert!(sink.events.lock().unwrap().iter().any(|event| matches!(
        event,
        EventPayload::UsageRecorded { agent, usage, .. } if agent == "assistant" && usage.total() == 6
    )));
}

#[tokio::test]
async fn the_key_is_sent_in_the_header_of_each_provider_and_nowhere_else() {
    for (protocol, header, value) in [
        (Protocol::OpenAi, "authorization", format!("Bearer {KEY}")),
        (Protocol::Anthropic, "x-api-key", KEY.to_owned()),
        (Protocol::Gemini, "x-goog-api-key", KEY.to_owned()),
    ] {
        let server = ModelServer::start();
        let (_, outcome) = run(&Assistant::new(config(&server, protocol)), question("hello?")).await;
        assert!(outcome.is_ok());
        let sent = &server.requests()[0];
        assert_eq!(sent.headers.get(header), Some(&value), "{protocol:?}");
        assert!(!sent.path.contains(KEY), "{protocol:?}");
        assert_eq!(sent.headers.values().filter(|value| value.contains(KEY)).count(), 1, "{protocol:?}");
    }
}

#[tokio::test]
async fn a_server_at_a_configured_base_url_gets_no_key_if_none_is_set() {
    let server = ModelServer::start();
    let mut config = config(&server, Protocol::OpenAi);
    config.key = None;
    config.model = "qwen-max".into();
    config.base_url = Some(format!("{}/", server.url(Protocol::OpenAi)));
    let (sink, outcome) = run(&Assistant::new(config), question("hello?")).await;
    assert!(outcome.is_ok(), "{outcome:?}");
    assert_eq!(sink.text(), "ok");
    let sent = &server.requests()[0];
    assert_eq!(sent.headers.get("authorization"), None);
    assert_eq!(sent.model(), "qwen-max");
    assert_eq!(sent.body.get("reasoning_effort"), None);
}

#[tokio::test]
async fn settings_are_sent_to_the_model() {
    let server = ModelServer::start();
    let mut config = config(&server, Protocol::Anthropic);
    config.max_tokens = Some(321);
    config.temperature = Some(0.25);
    config.system_prompt = Some("Answer in verse.".into());
    let (_, outcome) = run(&Assistant::new(config), question("hello?")).await;
    assert!(outcome.is_ok());
    let sent = server.requests().remove(0);
    assert_eq!(sent.body["max_tokens"], 321);
    assert_eq!(sent.body["temperature"], 0.25);
    assert!(sent.prompt().contains("Answer in verse."));
}

#[tokio::test]
async fn a_temperature_that_the_model_rejects_is_omitted_from_then_on() {
    let server = ModelServer::start();
    server.then(Script::status(400, "Unsupported value: 'temperature' does not support 0.25"));
    let mut config = config(&server, Protocol::OpenAi);
    config.temperature = Some(0.25);
    let assistant = Assistant::new(config);
    for _ in 0..2 {
        let (sink, outcome) = run(&assistant, question("hello?")).await;
        assert!(outcome.is_ok(), "{outcome:?}");
        assert_eq!(sink.errors(), [] as [&str; 0]);
    }
    let sent: Vec<bool> =
        server.requests().iter().map(|request| request.body.get("temperature").is_some()).collect();
    assert_eq!(sent, [true, false, false]);
}

#[tokio::test]
async fn an_imported_history_with_tools_and_images_is_accepted_by_every_protocol() {
    let at = Timestamp::UNIX_EPOCH;
    let hash = ContentHash::from_bytes([7; 32]);
    let image = Part::Attachment {
        media_type: "image/png".into(),
        name: Some("shot.png".into()),
        hash: Some(hash),
        bytes: 3,
    };
    let history = vec![
        MessageDraft::new(Role::System, vec![Part::text("You are careful.")], at),
        MessageDraft::user("look at the code", at),
        MessageDraft::new(
            Role::Assistant,
            vec![
                Part::Thinking { text: "private thought".into(), signature: Some("sig".into()) },
                Part::ToolCall { id: "1".into(), name: "grep".into(), input: json!({"pattern": "needle"}) },
            ],
            at,
        ),
        MessageDraft::new(
            Role::Tool,
            vec![Part::ToolResult { id: "1".into(), output: "haystack.rs:7".into(), is_error: false }],
            at,
        ),
        MessageDraft::new(Role::User, vec![image, Part::text("and this picture?")], at),
    ];
    for protocol in Protocol::ALL {
        let server = ModelServer::start();
        let assistant = Assistant::new(config(&server, protocol))
            .with_attachments(Arc::new(move |wanted| (wanted == hash).then(|| vec![1, 2, 3])));
        let (_, outcome) = run(&assistant, request(history.clone())).await;
        assert!(outcome.is_ok(), "{protocol:?}: {outcome:?}");
        let sent = server.requests().remove(0);
        let prompt = sent.prompt();
        for expected in ["You are careful.", "grep", "needle", "haystack.rs:7", "and this picture?"] {
            assert!(prompt.contains(expected), "{protocol:?} lacks {expected}: {prompt}");
        }
        assert!(!prompt.contains("private thought"), "{protocol:?}");
        assert!(sent.body.to_string().contains("AQID"), "{protocol:?} sends no image: {}", sent.body);
    }
}

#[tokio::test]
async fn an_ollama_server_is_detected_with_its_models() {
    let server = ModelServer::start();
    server.models(["nomic-embed-text:latest", "qwen3:4b"]);
    let models = probe_ollama(&server.base_url(), Duration::from_secs(5)).await;
    let detected = detect_model(&AvailableProviders { keys: vec![], ollama: models }).unwrap();
    let DetectedModel { provider, model, reason } = detected;
    assert_eq!((provider, model.as_str()), (Provider::Ollama, "qwen3:4b"));
    assert!(reason.contains("Ollama") && reason.contains("qwen3:4b"), "{reason}");
    let unused = format!("http://127.0.0.1:{}", free_port());
    assert_eq!(probe_ollama(&unused, Duration::from_millis(150)).await, None);
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn the_description_names_the_model_and_why_it_was_chosen() {
    let server = ModelServer::start();
    let assistant =
        Assistant::new(config(&server, Protocol::OpenAi)).with_selection_reason("OPENAI_API_KEY is set");
    let description = assistant.describe();
    assert_eq!(description.name, "assistant");
    assert_eq!(description.model.as_deref(), Some("test-model"));
    assert_eq!(description.summary, "OPENAI_API_KEY is set");
}

#[tokio::test]
async fn a_request_to_an_overloaded_provider_is_repeated() {
    for protocol in Protocol::ALL {
        let server = ModelServer::start();
        server.then(Script::status(429, "slow down")).then(Script::status(503, "overloaded"));
        server.then(Script::text("here"));
        let (sink, outcome) = run(&assistant(&server, protocol), question("hello?")).await;
        assert!(outcome.is_ok(), "{protocol:?}: {outcome:?}");
        assert_eq!(sink.text(), "here");
        assert_eq!(server.requests().len(), 3);
        let retries: Vec<String> = sink
            .events
            .lock()
            .unwrap()
            .iter()
            .filter_map(|event| Some(RequestEvent::read(event)?.describe()))
            .collect();
        assert_eq!(retries.len(), 2, "{retries:?}");
        assert!(retries[0].contains("429 too many requests: slow down; again "), "{retries:?}");
        assert_eq!(sink.errors(), [] as [&str; 0], "a retry is not an error of the run");
    }
}

#[tokio::test]
async fn when_the_attempts_are_used_up_the_error_has_the_providers_message() {
    let server = ModelServer::start();
    server.otherwise(|_| Script::status(500, "out of capacity"));
    let (_, outcome) = run(&assistant(&server, Protocol::OpenAi), question("hello?")).await;
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("out of capacity"), "{error}");
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn a_requested_delay_in_seconds_is_respected() {
    let server = ModelServer::start();
    server.then(Script::status(429, "slow down").header("retry-after", "1"));
    let (_, outcome) = run(&assistant(&server, Protocol::Anthropic), question("hello?")).await;
    assert!(outcome.is_ok(), "{outcome:?}");
    let requests = server.requests();
    assert!(requests[1].at - requests[0].at >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_requested_delay_as_a_date_is_respected() {
    let server = ModelServer::start();
    let then = SystemClock.now().to_jiff() + jiff::SignedDuration::from_secs(2);
    let mut date = String::new();
    jiff::fmt::rfc2822::DateTimePrinter::new().print_timestamp_rfc9110(&then, &mut date).unwrap();
    server.then(Script::status(429, "slow down").header("retry-after", date.as_str()));
    let (_, outcome) = run(&assistant(&server, Protocol::Anthropic), question("hello?")).await;
    assert!(outcome.is_ok(), "{outcome:?}");
    assert_eq!(server.requests().len(), 2);
    assert!(SystemClock.now().to_jiff().as_second() >= then.as_second());
}

#[tokio::test]
async fn a_requested_delay_over_the_maximum_is_an_error_at_once() {
    let server = ModelServer::start();
    server.then(Script::status(429, "come back tomorrow").header("retry-after", "86400"));
    let (_, outcome) = run(&assistant(&server, Protocol::OpenAi), question("hello?")).await;
    let Err(AgentError::Unavailable { retry_after, .. }) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(retry_after, Some(Duration::from_secs(86_400)));
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_rejected_key_is_not_retried_and_not_shown() {
    for protocol in Protocol::ALL {
        let server = ModelServer::start();
        server.then(Script::status(401, &format!("invalid key {KEY}")));
        let (sink, outcome) = run(&assistant(&server, protocol), question("hello?")).await;
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{protocol:?}");
        let shown = format!("{error} {error:?} {:?} {:?}", error.suggestion(), sink.errors());
        assert!(shown.contains("invalid key [key]"), "{shown}");
        assert!(!shown.contains(KEY), "{shown}");
        assert!(error.suggestion().is_some());
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn without_a_key_nothing_is_sent_and_the_hint_names_the_variable() {
    let assistant = Assistant::new(ModelConfig::new(Provider::Gemini, "m", None));
    let (_, outcome) = run(&assistant, question("hello?")).await;
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    let Some(Suggestion::SetApiKey { variable, .. }) = error.suggestion() else {
        panic!("{error:?}");
    };
    assert_eq!(variable.as_deref(), Some("GEMINI_API_KEY"));
}

#[tokio::test]
async fn a_rejected_request_is_an_error_with_the_providers_message() {
    let server = ModelServer::start();
    server.then(Script::status(404, "model test-model does not exist"));
    let (_, outcome) = run(&assistant(&server, Protocol::OpenAi), question("hello?")).await;
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("model test-model does not exist"), "{error}");
}

#[tokio::test]
async fn a_truncated_stream_is_an_error_and_the_streamed_text_is_kept() {
    for protocol in Protocol::ALL {
        for script in
            [Script::chunks(["half ", "a "]).then_break(), Script::chunks(["half ", "a "]).then_stop()]
        {
            let server = ModelServer::start();
            server.then(script);
            let (sink, outcome) = run(&assistant(&server, protocol), question("hello?")).await;
            let error = outcome.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{protocol:?}: {error}");
            assert_eq!(sink.text(), "half a ", "{protocol:?}");
            assert_eq!(server.requests().len(), 1, "{protocol:?}: nothing may be streamed twice");
            assert_eq!(sink.kinds(), ["agent.started", "usage.unknown", "agent.ended"]);
        }
    }
}

#[tokio::test]
async fn a_stream_that_breaks_before_its_first_text_is_requested_again() {
    for protocol in Protocol::ALL {
        let server = ModelServer::start();
        server.then(Script::chunks(Vec::<String>::new()).then_break()).then(Script::text("whole"));
        let (sink, outcome) = run(&assistant(&server, protocol), question("hello?")).await;
        assert!(outcome.is_ok(), "{protocol:?}: {outcome:?}");
        assert_eq!(sink.text(), "whole");
    }
}

#[tokio::test]
async fn a_malformed_chunk_is_an_error_and_the_streamed_text_is_kept() {
    for protocol in Protocol::ALL {
        let server = ModelServer::start();
        server.then(Script::text("so far ").then_garbage().then_text("lost"));
        let (sink, outcome) = run(&assistant(&server, protocol), question("hello?")).await;
        assert!(matches!(outcome, Err(AgentError::Malformed { .. })), "{protocol:?}: {outcome:?}");
        assert_eq!(sink.text(), "so far ", "{protocol:?}");
    }
}

#[tokio::test]
async fn a_reply_without_text_is_an_error_with_the_stop_reason() {
    let server = ModelServer::start();
    server.then(Script::chunks(Vec::<String>::new()).stop_reason("stop"));
    let (_, outcome) = run(&assistant(&server, Protocol::OpenAi), question("hello?")).await;
    assert!(outcome.unwrap_err().to_string().contains("stop reason: stop"));
    server.then(Script::chunks(Vec::<String>::new()).stop_reason("content_filter"));
    let (_, outcome) = run(&assistant(&server, Protocol::OpenAi), question("hello?")).await;
    assert!(outcome.unwrap().incomplete.unwrap().to_string().contains("content_filter"));
}

#[tokio::test]
async fn a_refused_connection_is_an_error_that_names_the_address() {
    let server = ModelServer::start();
    let config = config(&server, Protocol::OpenAi);
    let address = server.base_url();
    drop(server);
    let (_, outcome) = run(&Assistant::new(config), question("hello?")).await;
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains(address.trim_start_matches("http://")), "{error}");
    assert!(error.to_string().contains("no connection"), "{error}");
}

#[tokio::test]
async fn a_request_without_a_response_fails_after_the_wait_for_the_first_token_and_is_not_repeated() {
    let server = ModelServer::start();
    server.otherwise(|_| Script::silence());
    let mut config = config(&server, Protocol::OpenAi);
    config.timeouts.first_token = Duration::from_millis(700);
    config.retries.max_attempts = 2;
    let (_, outcome) = run(&Assistant::new(config), question("hello?")).await;
    assert!(outcome.unwrap_err().to_string().contains("no answer within 700ms"));
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_stalled_stream_fails_after_the_wait_between_tokens_and_the_streamed_text_is_kept() {
    let server = ModelServer::start();
    server.then(Script::text("so far").then_hang());
    let mut config = config(&server, Protocol::Anthropic);
    config.timeouts.between_tokens = Duration::from_millis(100);
    let (sink, outcome) = run(&Assistant::new(config), question("hello?")).await;
    assert!(outcome.unwrap_err().to_string().contains("no more words"));
    assert_eq!(sink.text(), "so far");
}

#[tokio::test]
async fn an_invalid_base_url_is_an_error() {
    let mut config = ModelConfig::new(Provider::OpenAi, "m", None);
    config.base_url = Some("not an address".into());
    let (_, outcome) = run(&Assistant::new(config), question("hello?")).await;
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_the_key_is_not_sent_to_its_target() {
    let other = ModelServer::start();
    let server = ModelServer::start();
    server.then(Script::status(307, "moved").header("location", format!("{}/v1/messages", other.base_url())));
    let (_, outcome) = run(&assistant(&server, Protocol::Anthropic), question("hello?")).await;
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Invalid);
    assert!(other.requests().is_empty());
}

#[tokio::test]
async fn a_run_can_be_cancelled_before_during_and_between_attempts() {
    // Before the response.
    let server = ModelServer::start();
    server.then(Script::silence());
    let agent = assistant(&server, Protocol::OpenAi);
    let (sink, outcome, took) =
        run_and_cancel(&agent, question("hello?"), async |_| wait_for_requests(&server, 1).await).await;
    assert!(matches!(outcome, Err(AgentError::Cancelled)), "{outcome:?}");
    assert!(took < CANCEL_DEADLINE, "{took:?}");
    assert_eq!(sink.kinds(), ["agent.started", "agent.ended"]);

    // During the response, whose tokens remain unknown.
    server.then(Script::text("half").then_hang());
    let (sink, outcome, took) =
        run_and_cancel(&agent, question("hello?"), async |sink| sink.first_delta.notified().await).await;
    assert!(matches!(outcome, Err(AgentError::Cancelled)), "{outcome:?}");
    assert!(took < CANCEL_DEADLINE, "{took:?}");
    assert_eq!(sink.text(), "half");
    assert_eq!(sink.kinds(), ["agent.started", "usage.unknown", "agent.ended"]);

    // During the delay before the next attempt.
    server.then(Script::status(429, "later").header("retry-after", "2"));
    let (_, outcome, took) =
        run_and_cancel(&agent, question("hello?"), async |_| wait_for_requests(&server, 3).await).await;
    assert!(matches!(outcome, Err(AgentError::Cancelled)), "{outcome:?}");
    assert!(took < CANCEL_DEADLINE, "{took:?}");
}
