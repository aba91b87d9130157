//! What an assistant says when all goes well.

use std::sync::Arc;

use hfs_agents::{Assistant, Choice, Provider, Seen, detect, probe_ollama};
use hfs_core::{Agent, ContentHash, DeltaKind, EventPayload, MessageDraft, Part, Role, Timestamp, Usage};
use serde_json::json;
use testkit::model_server::{ModelServer, Protocol, Script};

use crate::support::{KEY, config, question, request, run};

#[tokio::test]
async fn text_and_reasoning_stream_in_pieces_from_every_provider() {
    for protocol in Protocol::ALL {
        let server = ModelServer::start();
        server.then(
            Script::pieces(Vec::<String>::new())
                .then_thinking("let me ")
                .then_thinking("see")
                .then_text("Grüße, ")
                .then_text("世界")
                .usage(11, 7),
        );
        let (heard, outcome) = run(&Assistant::new(config(&server, protocol)), question("hello?")).await;
        let outcome = outcome.unwrap_or_else(|error| panic!("{protocol:?}: {error}"));
        let pieces = heard.pieces.into_inner().unwrap();
        let expected = [
            (DeltaKind::Thinking, "let me "),
            (DeltaKind::Thinking, "see"),
            (DeltaKind::Text, "Grüße, "),
            (DeltaKind::Text, "世界"),
        ];
        assert_eq!(pieces, expected.map(|(kind, text)| (kind, text.to_owned())), "{protocol:?}");
        let usage = Usage { prompt_tokens: 11, completion_tokens: 7 };
        assert_eq!(outcome.usage, Some(usage), "{protocol:?}");
        assert_eq!(server.usage(), (usage, 1), "{protocol:?}");
        assert_eq!(outcome.model.as_deref(), Some("test-model"));
        assert!(outcome.extra.contains_key("stop_reason"), "{protocol:?}");
        let texts: Vec<&Part> =
            outcome.parts.iter().filter(|part| !matches!(part, Part::Thinking { .. })).collect();
        assert_eq!(texts, [&Part::text("Grüße, 世界")], "{protocol:?}");
    }
}

#[tokio::test]
async fn events_tell_of_one_agent_and_its_usage() {
    let server = ModelServer::start();
    server.then(Script::text("hi").usage(5, 1));
    let (heard, outcome) =
        run(&Assistant::new(config(&server, Protocol::Anthropic)), question("hello?")).await;
    assert!(outcome.is_ok());
    assert_eq!(heard.kinds(), ["agent.started", "usage.recorded", "agent.ended"]);
    assert!(heard.events.lock().unwrap().iter().any(|event| matches!(
        event,
        EventPayload::UsageRecorded { agent, usage, .. } if agent == "assistant" && usage.total() == 6
    )));
}

#[tokio::test]
async fn the_key_goes_where_each_provider_wants_it_and_nowhere_else() {
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
async fn a_server_of_the_users_own_needs_no_key_and_is_sent_none() {
    let server = ModelServer::start();
    let mut config = config(&server, Protocol::OpenAi);
    config.key = None;
    config.model = "qwen-max".into();
    config.base_url = Some(format!("{}/", server.url(Protocol::OpenAi)));
    let (heard, outcome) = run(&Assistant::new(config), question("hello?")).await;
    assert!(outcome.is_ok(), "{outcome:?}");
    assert_eq!(heard.text(), "ok");
    let sent = &server.requests()[0];
    assert_eq!(sent.headers.get("authorization"), None);
    assert_eq!(sent.model(), "qwen-max");
    assert_eq!(sent.body.get("reasoning_effort"), None);
}

#[tokio::test]
async fn settings_reach_the_model() {
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
async fn a_temperature_that_a_model_refuses_is_left_out() {
    let server = ModelServer::start();
    server.then(Script::status(400, "Unsupported value: 'temperature' does not support 0.25"));
    let mut config = config(&server, Protocol::OpenAi);
    config.temperature = Some(0.25);
    let assistant = Assistant::new(config);
    for _ in 0..2 {
        let (heard, outcome) = run(&assistant, question("hello?")).await;
        assert!(outcome.is_ok(), "{outcome:?}");
        assert_eq!(heard.errors(), [] as [&str; 0]);
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
async fn an_ollama_that_answers_is_found_with_its_models_and_chosen() {
    let server = ModelServer::start();
    server.models(["nomic-embed-text:latest", "qwen3:4b"]);
    let models = probe_ollama(&server.base_url(), std::time::Duration::from_secs(5)).await;
    let choice = detect(&Seen { keys: vec![], ollama: models }).unwrap();
    assert_eq!((choice.provider, choice.model.as_str()), (Provider::Ollama, "qwen3:4b"));
    let Choice { why, .. } = choice;
    assert!(why.contains("Ollama") && why.contains("qwen3:4b"), "{why}");
    let nobody = format!("http://127.0.0.1:{}", free_port());
    assert_eq!(probe_ollama(&nobody, std::time::Duration::from_millis(150)).await, None);
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn a_description_names_the_model_and_why() {
    let server = ModelServer::start();
    let assistant = Assistant::new(config(&server, Protocol::OpenAi)).chosen_because("OPENAI_API_KEY is set");
    let description = assistant.describe();
    assert_eq!(description.name, "assistant");
    assert_eq!(description.model.as_deref(), Some("test-model"));
    assert_eq!(description.summary, "OPENAI_API_KEY is set");
}
