//! Responses as real servers send them, in all protocols: what becomes of the reply, its status, its usage, the server's
//! words, and how often the server is asked.

use std::io::Write;
use std::time::Duration;

use hfs_agents::{
    ApiKey, Assistant, ModelConfig, Provider, RetryPolicy, Timeouts, list_models, probe_ollama,
};
use hfs_core::{
    AgentError, DeltaKind, ErrorExt, ErrorKind, IncompleteReason, Part, RequestEvent, Suggestion, Usage,
};
use serde_json::{Value, json};
use testkit::model_server::{RawResponse, RawServer};

use crate::{RecordingSink, question, run, texts_of};

/// What a run ended with.
#[derive(Debug, Clone, PartialEq)]
enum Status {
    Complete,
    Incomplete(IncompleteReason),
    Error(ErrorKind),
}

struct Case {
    name: &'static str,
    provider: Provider,
    responses: Vec<RawResponse>,
    text: &'static str,
    thinking: &'static str,
    status: Status,
    usage: Option<(u64, u64)>,
    /// Words that the error contains.
    words: &'static [&'static str],
    requests: usize,
    suggestion: Option<fn(&Suggestion) -> bool>,
}

fn case(name: &'static str, provider: Provider, response: RawResponse) -> Case {
    Case {
        name,
        provider,
        responses: vec![response],
        text: "",
        thinking: "",
        status: Status::Complete,
        usage: None,
        words: &[],
        requests: 1,
        suggestion: None,
    }
}

impl Case {
    const fn text(mut self, text: &'static str) -> Self {
        self.text = text;
        self
    }

    const fn thinking(mut self, thinking: &'static str) -> Self {
        self.thinking = thinking;
        self
    }

    const fn usage(mut self, prompt: u64, completion: u64) -> Self {
        self.usage = Some((prompt, completion));
        self
    }

    fn incomplete(mut self, reason: IncompleteReason, words: &'static [&'static str]) -> Self {
        self.status = Status::Incomplete(reason);
        self.words = words;
        self
    }

    fn error(mut self, kind: ErrorKind, words: &'static [&'static str]) -> Self {
        self.status = Status::Error(kind);
        self.words = words;
        self
    }

    const fn requests(mut self, requests: usize) -> Self {
        self.requests = requests;
        self
    }

    fn then(mut self, response: RawResponse) -> Self {
        self.responses.push(response);
        self
    }

    fn suggests(mut self, suggestion: fn(&Suggestion) -> bool) -> Self {
        self.suggestion = Some(suggestion);
        self
    }
}

fn config(server: &RawServer, provider: Provider) -> ModelConfig {
    let path = match provider {
        Provider::OpenAi | Provider::Anthropic => "/v1",
        Provider::Gemini => "/v1beta",
        Provider::Ollama => "",
    };
    ModelConfig {
        base_url: Some(format!("{}{path}", server.base_url())),
        timeouts: Timeouts {
            connect: Duration::from_secs(5),
            first_token: Duration::from_secs(20),
            between_tokens: Duration::from_secs(20),
        },
        retries: RetryPolicy {
            max_attempts: 3,
            initial_delay: Duration::from_millis(2),
            max_delay: Duration::from_secs(5),
        },
        ..ModelConfig::new(provider, "m", ApiKey::new("sk-test-0123456789"))
    }
}

fn streamed(sink: &RecordingSink, kind: DeltaKind) -> String {
    let deltas = sink.deltas.lock().unwrap();
    texts_of(&deltas, kind)
}

async fn check(case: Case) {
    let name = format!("{} ({})", case.name, case.provider);
    let server = RawServer::with_responses(case.responses);
    let assistant = Assistant::new(config(&server, case.provider));
    let (sink, outcome) = run(&assistant, question("hello?")).await;
    assert_eq!(streamed(&sink, DeltaKind::Text), case.text, "{name}: {outcome:?}");
    assert_eq!(streamed(&sink, DeltaKind::Thinking), case.thinking, "{name}: {outcome:?}");
    let (status, error) = match &outcome {
        Ok(outcome) => match &outcome.incomplete {
            None => (Status::Complete, None),
            Some(incomplete) => {
                let error = AgentError::Incomplete(incomplete.clone());
                (Status::Incomplete(incomplete.reason), Some((error.to_string(), error.suggestion())))
            }
        },
        Err(error) => (Status::Error(error.kind()), Some((error.to_string(), error.suggestion()))),
    };
    assert_eq!(status, case.status, "{name}: {error:?}");
    let (message, suggestion) = error.unwrap_or_default();
    for words in case.words {
        assert!(message.contains(words), "{name} lacks {words:?}: {message}");
    }
    if let Some(is_expected) = case.suggestion {
        assert!(suggestion.as_ref().is_some_and(is_expected), "{name}: {suggestion:?}");
    }
    if let Ok(outcome) = &outcome {
        let usage = outcome.message.usage.map(|usage| (usage.prompt_tokens, usage.completion_tokens));
        assert_eq!(usage, case.usage, "{name}");
    }
    assert_eq!(server.requests().len(), case.requests, "{name}: {outcome:?}");
}

async fn check_all(cases: Vec<Case>) {
    for case in cases {
        check(case).await;
    }
}

// OpenAI's chunks.

fn chunk(delta: &Value, finish_reason: Option<&str>) -> Value {
    json!({"id": "c", "object": "chat.completion.chunk", "model": "m",
           "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]})
}

fn content(text: &str) -> Value {
    chunk(&json!({"content": text}), None)
}

fn stop(reason: &str) -> Value {
    chunk(&json!({}), Some(reason))
}

fn events<'a>(payloads: impl IntoIterator<Item = &'a Value>) -> String {
    payloads.into_iter().map(|payload| format!("data: {payload}\n\n")).collect()
}

const DONE: &str = "data: [DONE]\n\n";

fn usage() -> Value {
    json!({"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12})
}

fn hello() -> String {
    events(&[chunk(&json!({"role": "assistant"}), None), content("Hello "), content("world"), stop("stop")])
}

fn openai(name: &'static str, body: impl Into<Vec<u8>>) -> Case {
    case(name, Provider::OpenAi, RawResponse::events(body))
}

/// The payloads as a stream that ends with the marker.
fn openai_stream(name: &'static str, payloads: &[Value]) -> Case {
    openai(name, events(payloads) + DONE)
}

/// A whole gzip stream.
fn gzip_member(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// A response that is compressed with gzip, with these pieces in packets of their own.
fn compressed(pieces: &[Vec<u8>]) -> RawResponse {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n";
    pieces.iter().fold(RawResponse::new().bytes(head), |response, piece| {
        response.wait(Duration::from_millis(2)).bytes(piece.clone())
    })
}

/// The reply `Hello world` in each protocol, as a stream and, where the protocol has one, as a whole.
fn hello_in_all_protocols() -> Vec<(Provider, String)> {
    let ollama = [
        json!({"message": {"role": "assistant", "content": "Hello "}, "done": false}),
        json!({"message": {"role": "assistant", "content": "world"}, "done": false}),
        json!({"message": {"role": "assistant", "content": ""}, "done": true, "done_reason": "stop",
               "prompt_eval_count": 5, "eval_count": 7}),
    ];
    vec![
        (
            Provider::OpenAi,
            events(&[content("Hello "), content("world"), stop("stop"), json!({"choices": [], "usage": usage()})]) + DONE,
        ),
        (
            Provider::OpenAi,
            json!({"object": "chat.completion", "usage": usage(), "choices": [
                {"index": 0, "message": {"role": "assistant", "content": "Hello world"}, "finish_reason": "stop"}]})
            .to_string(),
        ),
        (
            Provider::Anthropic,
            anthropic_start() + &text_delta("Hello ") + &text_delta("world") + &anthropic_end("end_turn"),
        ),
        (
            Provider::Anthropic,
            json!({"type": "message", "role": "assistant", "content": [{"type": "text", "text": "Hello world"}],
                   "stop_reason": "end_turn", "usage": {"input_tokens": 5, "output_tokens": 7}})
            .to_string(),
        ),
        (Provider::Gemini, events(&[candidate("Hello ", None), candidate("world", Some("STOP"))])),
        (Provider::Gemini, json!([candidate("Hello ", None), candidate("world", Some("STOP"))]).to_string()),
        (Provider::Ollama, ollama.iter().map(|line| format!("{line}\n")).collect()),
        (
            Provider::Ollama,
            json!({"message": {"role": "assistant", "content": "Hello world"}, "done": true, "done_reason": "stop",
                   "prompt_eval_count": 5, "eval_count": 7})
            .to_string(),
        ),
    ]
}

#[tokio::test]
async fn a_body_that_is_compressed_in_several_members_is_read_whole() {
    for (provider, body) in hello_in_all_protocols() {
        let members: Vec<Vec<u8>> = body.split_inclusive('\n').map(gzip_member).collect();
        let whole = members.concat();
        let padded = [whole.clone(), vec![0; 512]].concat();
        let (head, tail) = whole.split_at(whole.len() / 2);
        for (name, response) in [
            ("a packet each", compressed(&members)),
            ("one packet", compressed(std::slice::from_ref(&whole))),
            ("split within a member", compressed(&[head.to_owned(), tail.to_owned()])),
            ("byte by byte", compressed(&[]).byte_by_byte(&whole)),
            ("padding", compressed(&[padded])),
            ("no member's end", compressed(&[whole[..whole.len() - 4].to_owned()])),
        ] {
            check(case(name, provider, response).text("Hello world").usage(5, 7)).await;
        }
    }
}

#[tokio::test]
async fn what_was_decompressed_before_damage_is_kept() {
    let first = gzip_member(&events(&[content("Partial")]));
    let mut second = gzip_member(&events(&[content(" reply"), stop("stop")]));
    let cut = second[..second.len() / 2].to_owned();
    let middle = second.len() / 2;
    second[middle] ^= 0xff;
    let not_gzip = b"data: words\n\n".to_vec();
    let brotli = RawResponse::new()
        .bytes("HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nConnection: close\r\n\r\n\x0b\x02");
    check_all(vec![
        case("cut", Provider::OpenAi, compressed(std::slice::from_ref(&first)))
            .text("Partial")
            .error(ErrorKind::Unavailable, &["ended"]),
        case("not gzip", Provider::OpenAi, compressed(&[first.clone(), not_gzip]))
            .text("Partial")
            .error(ErrorKind::Unavailable, &["damaged"]),
        case("an encoding that was not asked for", Provider::OpenAi, brotli)
            .error(ErrorKind::Unavailable, &["compressed with br", "only gzip"]),
    ])
    .await;
    for (name, piece) in [("cut within a member", cut), ("a changed byte", second)] {
        let server = RawServer::with_responses(vec![compressed(&[first.clone(), piece])]);
        let (sink, outcome) = run(&Assistant::new(config(&server, Provider::OpenAi)), question("?")).await;
        assert!(sink.text().starts_with("Partial"), "{name}: {:?}", sink.text());
        assert!(outcome.is_err(), "{name}");
        assert_eq!(server.requests().len(), 1, "{name}");
    }
    let words = gzip_member("{\"error\": {\"message\": ");
    let refusal = RawResponse::new()
        .bytes("HTTP/1.1 400 Bad\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n")
        .bytes([words, gzip_member("\"the server's words\"}}")].concat());
    check(case("an error", Provider::OpenAi, refusal).error(ErrorKind::Invalid, &["the server's words"]))
        .await;
}

#[tokio::test]
async fn a_number_that_json_does_not_allow_costs_only_that_number() {
    for number in ["1e999", "-1e999", "NaN", "-Infinity", "Infinity", "nan", "None", "+1", ".5"] {
        for (provider, body) in hello_in_all_protocols() {
            // Into every object that has one of these fields.
            let body =
                ["\"content\":", "\"text\":", "\"type\":", "\"usage\":", "\"done\":", "\"usageMetadata\":"]
                    .iter()
                    .fold(body, |body, field| {
                        body.replace(field, &format!("\"score\":{number},\"scores\":[{number}, 1],{field}"))
                    });
            let response = RawResponse::events(body.clone());
            check(case("in every object", provider, response).text("Hello world").usage(5, 7)).await;
            let body = body.replace(":7", &format!(":{number}"));
            let server = RawServer::with_responses(vec![RawResponse::events(body.as_str())]);
            let (sink, outcome) = run(&Assistant::new(config(&server, provider)), question("?")).await;
            assert!(outcome.is_ok(), "{number} {provider}: {outcome:?}\n{body}");
            assert_eq!(sink.text(), "Hello world", "{number} {provider}\n{body}");
        }
        let error = format!("{{\"error\": {{\"message\": \"the server's words\", \"score\": {number}}}}}");
        let status = RawResponse::status(400, "application/json", "", &error);
        check(
            case("an error", Provider::OpenAi, status)
                .error(ErrorKind::Invalid, &["400", "the server's words"]),
        )
        .await;
        let list = format!(
            "{{\"data\":[{{\"id\":\"a\",\"price\":{number}}},{{\"id\":\"m\",\"max_model_len\":8192}}]}}"
        );
        let server = RawServer::with_responses(vec![RawResponse::status(200, "application/json", "", &list)]);
        let models = list_models(config(&server, Provider::OpenAi)).await.unwrap();
        assert_eq!(
            (models.names, models.context_tokens),
            (vec!["a".to_owned(), "m".to_owned()], Some(8_192))
        );
        let tags = format!("{{\"models\":[{{\"name\":\"a\",\"size\":{number}}}]}}");
        let server = RawServer::with_responses(vec![RawResponse::status(200, "application/json", "", &tags)]);
        let probed = probe_ollama(&server.base_url(), Duration::from_secs(5)).await;
        assert_eq!(probed, Some(vec!["a".to_owned()]), "{number}");
    }
}

#[tokio::test]
async fn an_openai_stream_is_read_however_the_server_writes_it() {
    let body = hello() + DONE;
    let unicode = events(&[content("Grüße 漢字 🎉 ok"), stop("stop")]) + DONE;
    let split_line_ends = body.replace('\n', "\r\n");
    let (first, rest) = split_line_ends.split_at(split_line_ends.find('\n').unwrap());
    let hello_cases = vec![
        openai("whole", body.clone()),
        openai("CRLF", body.replace('\n', "\r\n")),
        openai("CR", body.replace('\n', "\r")),
        case(
            "CR and LF apart",
            Provider::OpenAi,
            RawResponse::events(first).wait(Duration::from_millis(20)).bytes(rest),
        ),
        openai("no blank after data:", body.replace("data: ", "data:")),
        openai("no blank lines", body.replace("\n\n", "\n")),
        openai("byte order mark", format!("\u{feff}{body}")),
        openai("comments", format!(": PROCESSING\n\n:\n\n{}: x-latency=3\n{DONE}", hello())),
        openai("comments as data", format!("data: : PROCESSING\n\ndata: ping\n\n{body}")),
        openai("empty data", format!("data:\n\ndata: \n\n{body}")),
        openai("event names and ids", body.replace("data: ", "event: message\nid: 1\nretry: 10\ndata: ")),
        openai("no marker", hello()),
        openai("no end of the last line", hello().trim_end().to_owned()),
        case(
            "no marker, chunked",
            Provider::OpenAi,
            RawResponse::chunked().chunk(hello()).bytes("0\r\n\r\n"),
        ),
        case(
            "trailers",
            Provider::OpenAi,
            RawResponse::chunked().chunk(&body).bytes("0\r\nX-C: abc\r\n\r\n"),
        ),
        case(
            "no end of the encoding after the stop reason",
            Provider::OpenAi,
            RawResponse::chunked().chunk(hello()),
        ),
        case("open after the marker", Provider::OpenAi, RawResponse::events(body.clone()).hang()),
        case("open after the stop reason", Provider::OpenAi, RawResponse::events(hello()).hang()),
        case("gzip", Provider::OpenAi, compressed(&[gzip_member(&body)])),
        openai("error: null", body.replace("\"choices\"", "\"error\":null,\"choices\"")),
        openai("empty stop reasons", body.replace("null", "\"\"")),
        openai("stop reasons that are the word null", body.replace("null", "\"null\"")),
        openai("marker twice", format!("{body}{DONE}")),
        openai_stream(
            "stop reason twice, then an empty delta",
            &[content("Hello world"), stop("stop"), stop("stop"), chunk(&json!({}), None)],
        ),
        openai_stream(
            "chunks without choices or delta",
            &[
                json!({"id": "x", "choices": null, "prompt_filter_results": []}),
                json!({"choices": [], "prompt_filter_results": []}),
                json!({"choices": [{"index": 0, "finish_reason": null, "content_filter_offsets": {}}]}),
                json!({"id": "x"}),
                content("Hello world"),
                json!({"choices": [{"index": 0, "delta": null, "finish_reason": null}]}),
                stop("stop"),
            ],
        ),
        openai_stream(
            "text after an early stop reason",
            &[content("Hello "), stop("stop"), content("world")],
        ),
        openai_stream(
            "a second choice",
            &[
                json!({"choices": [{"index": 0, "delta": {"content": "Hello world"}},
                               {"index": 1, "delta": {"content": "B"}}]}),
                stop("stop"),
            ],
        ),
        openai_stream(
            "choices that are counted from 1",
            &[
                json!({"choices": [{"index": 1, "delta": {"content": "Hello "}}]}),
                json!({"choices": [{"index": 1, "delta": {"content": "world"}, "finish_reason": "stop"}]}),
            ],
        ),
        openai_stream(
            "content as parts",
            &[
                chunk(&json!({"content": [{"type": "text", "text": "Hello "}]}), None),
                content("world"),
                stop("stop"),
            ],
        ),
        openai_stream(
            "the whole message again at the end",
            &[
                content("Hello "),
                content("world"),
                json!({"choices": [{"index": 0, "delta": {}, "message": {"content": "Hello world"}, "finish_reason": "stop"}]}),
            ],
        ),
        openai(
            "the end as an event",
            events(&[content("Hello "), content("world")]) + "event: done\ndata: {}\n\n",
        ),
        openai("the end as an event without data", events(&[content("Hello world")]) + "event: end\n\n"),
        openai("the marker in quotes", events(&[content("Hello world")]) + "data: \"[DONE]\"\n\n"),
        openai(
            "the usage of the last chunk and no stop reason",
            events(&[content("Hello world"), json!({"choices": [], "usage": {"total_tokens": 1}})]),
        ),
        openai_stream(
            "a stop reason in an object",
            &[
                content("Hello world"),
                json!({"choices": [{"index": 0, "delta": {}, "finish_reason": {"type": "eos_token"}}]}),
            ],
        ),
        openai(
            "a stop reason under another name",
            events(&[
                content("Hello world"),
                json!({"choices": [{"index": 0, "delta": {}, "finishReason": "stop"}]}),
            ]),
        ),
        openai(
            "chunks in an envelope",
            events(&[json!({"code": 0, "msg": "success", "data": content("Hello world")}), stop("stop")]),
        ),
        openai_stream(
            "content as an object",
            &[chunk(&json!({"content": {"type": "text", "text": "Hello world"}}), None), stop("stop")],
        ),
        openai(
            "a whole completion without a stop reason",
            json!({"object": "chat.completion", "choices": [{"message": {"content": "Hello world"}}]})
                .to_string(),
        ),
        openai_stream(
            "chunks that are called whole completions",
            &[
                json!({"object": "chat.completion", "choices": [{"delta": {"content": "Hello "}}]}),
                json!({"object": "chat.completion", "choices": [{"delta": {"content": "world"}}]}),
                stop("stop"),
            ],
        ),
        openai_stream("no choices", &[json!({"response": "Hello "}), json!({"response": "world", "p": "x"})]),
        openai("no stop reason but the marker", events(&[content("Hello world")]) + DONE),
        openai("an unknown stop reason", events(&[content("Hello world"), stop("eos_found")])),
    ];
    check_all(hello_cases.into_iter().map(|case| case.text("Hello world")).collect()).await;
    check_all(vec![
        case("byte by byte", Provider::OpenAi, RawResponse::ok("text/event-stream").byte_by_byte(unicode.as_bytes()))
            .text("Grüße 漢字 🎉 ok"),
        openai("half surrogates", format!(
            "data: {{\"choices\":[{{\"delta\":{{\"content\":\"\\ud83c\"}}}}]}}\n\ndata: {{\"choices\":[{{\"delta\":{{\"content\":\"\\udf89 hi\"}}}}]}}\n\n{}",
            events(&[stop("stop")])
        ))
        .text("🎉 hi"),
        openai("a bad byte", [
            b"data: {\"choices\":[{\"delta\":{\"content\":\"a\xffb\"}}]}\n\n".as_slice(), events(&[stop("stop")]).as_bytes(),
        ].concat())
        .text("a\u{fffd}b"),
        openai("a tab in a string", "data: {\"choices\":[{\"delta\":{\"content\":\"a\tb\"},\"finish_reason\":\"stop\"}]}\n\n")
            .text("a\tb"),
    ])
    .await;
}

#[tokio::test]
async fn a_long_line_is_read_whole() {
    let text = "x".repeat(3_000_000);
    let server =
        RawServer::with_responses(vec![RawResponse::events(events(&[content(&text), stop("stop")]))]);
    let (sink, outcome) = run(&Assistant::new(config(&server, Provider::OpenAi)), question("?")).await;
    assert!(outcome.is_ok());
    assert_eq!(sink.text().len(), text.len());
}

#[tokio::test]
async fn usage_is_found_wherever_a_server_puts_it() {
    let with_usage = |usage: Value| {
        let mut last = stop("stop");
        last["usage"] = usage;
        [content("Hello"), last]
    };
    let mut in_choice = stop("stop");
    in_choice["choices"][0]["usage"] = usage();
    let mut groq = stop("stop");
    groq["x_groq"] = json!({"id": "x", "usage": usage()});
    let cases = vec![
        openai_stream(
            "in a last chunk",
            &[content("Hello"), stop("stop"), json!({"choices": [], "usage": usage()})],
        ),
        openai_stream("with the stop reason", &with_usage(usage())),
        openai_stream("in the choice", &[content("Hello"), in_choice]),
        openai_stream("at Groq", &[content("Hello"), groq]),
        openai_stream(
            "as floats",
            &with_usage(json!({"prompt_tokens": 5.0, "completion_tokens": 7.0, "cost": 0.001})),
        ),
        openai_stream(
            "with nulls",
            &with_usage(json!({"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": null,
            "prompt_tokens_details": null})),
        ),
        openai_stream(
            "then null",
            &[content("Hello"), with_usage(usage())[1].clone(), json!({"choices": [], "usage": null})],
        ),
        openai_stream(
            "without a choice's delta",
            &[content("Hello"), stop("stop"), json!({"usage": usage()})],
        ),
        openai_stream("under other names", &with_usage(json!({"input_tokens": 5, "output_tokens": 7}))),
        openai_stream("under camel case", &with_usage(json!({"promptTokens": 5, "completionTokens": 7}))),
        openai_stream(
            "as a part and the total",
            &with_usage(json!({"prompt_tokens": 5, "total_tokens": 12})),
        ),
        openai_stream(
            "in llama.cpp's timings",
            &[
                content("Hello"),
                json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
                       "timings": {"prompt_n": 3, "cache_n": 2, "predicted_n": 7}}),
            ],
        ),
    ];
    check_all(cases.into_iter().map(|case| case.text("Hello").usage(5, 7)).collect()).await;
    let unknown = vec![
        openai_stream("none", &[content("Hello"), stop("stop")]),
        openai_stream(
            "zeros",
            &with_usage(json!({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0})),
        ),
        openai_stream("only a part", &with_usage(json!({"prompt_tokens": 5}))),
        openai_stream("nulls", &with_usage(json!({"prompt_tokens": null, "completion_tokens": null}))),
    ];
    check_all(unknown.into_iter().map(|case| case.text("Hello")).collect()).await;
}

#[tokio::test]
async fn a_reply_in_another_protocol_than_that_of_the_address_is_read() {
    let openai_body = hello() + DONE;
    let anthropic_body = anthropic_start() + &text_delta("Hello world") + &anthropic_end("end_turn");
    let gemini_body = events(&[candidate("Hello world", Some("STOP"))]);
    let ollama_body = format!(
        "{}\n{}\n",
        json!({"message": {"content": "Hello world"}, "done": false}),
        json!({"message": {"content": ""}, "done": true, "done_reason": "stop", "prompt_eval_count": 5, "eval_count": 7})
    );
    for provider in Provider::ALL {
        for body in [&openai_body, &anthropic_body, &gemini_body, &ollama_body] {
            let server = RawServer::with_responses(vec![RawResponse::events(body.as_str())]);
            let (sink, outcome) = run(&Assistant::new(config(&server, provider)), question("?")).await;
            assert!(outcome.is_ok(), "{provider}: {outcome:?}\n{body}");
            assert_eq!(sink.text(), "Hello world", "{provider}\n{body}");
        }
    }
}

#[tokio::test]
async fn thinking_is_separated_from_the_reply() {
    let delta = |delta: Value| chunk(&delta, None);
    let cases = vec![
        openai_stream(
            "in tags",
            &[
                content("<think>"),
                content("h"),
                content("m</thi"),
                content("nk>"),
                content("\n\nAnswer"),
                stop("stop"),
            ],
        ),
        openai_stream(
            "in a channel",
            &[
                content("<|channel|>analysis<|mess"),
                content("age|>hm<|end|>"),
                content("<|start|>assistant<|channel|>fi"),
                content("nal<|message|>Answer"),
                stop("stop"),
            ],
        ),
        openai_stream("in other tags", &[content("[THINK]hm[/THINK]\n"), content("Answer"), stop("stop")]),
        openai_stream(
            "reasoning_content",
            &[
                delta(json!({"content": null, "reasoning_content": "hm"})),
                delta(json!({"content": "Answer", "reasoning_content": null})),
                stop("stop"),
            ],
        ),
        openai_stream(
            "reasoning and its details",
            &[
                delta(
                    json!({"content": "", "reasoning": "hm", "reasoning_details": [{"type": "reasoning.text", "text": "hm"}]}),
                ),
                content("Answer"),
                stop("stop"),
            ],
        ),
        openai_stream(
            "only details",
            &[
                delta(
                    json!({"content": "", "reasoning_details": [{"type": "reasoning.text", "text": "hm"}]}),
                ),
                content("Answer"),
                stop("stop"),
            ],
        ),
        openai_stream(
            "both names",
            &[delta(json!({"reasoning": "hm", "reasoning_content": "hm"})), content("Answer"), stop("stop")],
        ),
        openai_stream(
            "as a part of the content",
            &[
                delta(
                    json!({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]}),
                ),
                content("Answer"),
                stop("stop"),
            ],
        ),
    ];
    check_all(cases.into_iter().map(|case| case.text("Answer").thinking("hm")).collect()).await;
    let server = RawServer::with_responses(vec![RawResponse::events(events(&[
        content("hm"),
        content("</think>"),
        content("\n\nAnswer"),
        stop("stop"),
    ]))]);
    let (sink, outcome) = run(&Assistant::new(config(&server, Provider::OpenAi)), question("?")).await;
    let thinking = Part::Thinking { text: "hm".into(), signature: None };
    assert_eq!(outcome.unwrap().message.parts, [thinking, Part::text("Answer")], "only a closing tag");
    let notice = sink
        .events
        .lock()
        .unwrap()
        .iter()
        .filter_map(RequestEvent::read)
        .map(|event| event.describe())
        .next();
    assert!(notice.as_ref().is_some_and(|notice| notice.contains("saved as thinking")), "{notice:?}");
    check_all(vec![
        openai_stream("empty tags", &[content("<think>\n"), content("\n</think>\n\nAnswer"), stop("stop")]),
        openai_stream(
            "the whole reply again at the end",
            &[
                content("An"),
                content("swer"),
                json!({"choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "Answer"}}]}),
            ],
        ),
    ]
    .into_iter()
    .map(|case| case.text("Answer"))
    .collect())
    .await;
    check_all(vec![
        openai_stream("nothing else", &[delta(json!({"reasoning_content": "hm"})), stop("stop")])
            .thinking("hm")
            .incomplete(IncompleteReason::OnlyThinking, &["only thinking", "stop"]),
        openai_stream("until the maximum", &[delta(json!({"reasoning_content": "hm"})), stop("length")])
            .thinking("hm")
            .incomplete(IncompleteReason::Length, &["length"]),
        openai_stream("tags that are never closed", &[content("<think>hm"), stop("stop")])
            .thinking("hm")
            .incomplete(IncompleteReason::OnlyThinking, &[]),
    ])
    .await;
}

#[tokio::test]
async fn a_reply_that_was_cut_is_never_complete_and_says_what_to_do() {
    fn is_length(suggestion: &Suggestion) -> bool {
        *suggestion == Suggestion::RaiseMaxTokens
    }
    fn is_rephrase(suggestion: &Suggestion) -> bool {
        *suggestion == Suggestion::RephraseMessage
    }
    let cut = |reason: &str| [content("Cut in the mid"), stop(reason)];
    check_all(vec![
        openai_stream("length", &cut("length"))
            .text("Cut in the mid")
            .incomplete(IncompleteReason::Length, &["maximum length", "(length)"])
            .suggests(is_length),
        openai_stream("max_tokens after an early stop", &[content("Cut "), stop("stop"), content("in the mid"), stop("max_tokens")])
            .text("Cut in the mid")
            .incomplete(IncompleteReason::Length, &[]),
        openai_stream("content_filter", &cut("content_filter"))
            .text("Cut in the mid")
            .incomplete(IncompleteReason::ContentFilter, &["content filter", "content_filter"])
            .suggests(is_rephrase),
        openai_stream("error", &cut("error")).text("Cut in the mid").incomplete(IncompleteReason::Failure, &["error"]),
        openai_stream("abort", &cut("abort")).text("Cut in the mid").incomplete(IncompleteReason::Failure, &["abort"]),
        openai_stream("refusal", &[chunk(&json!({"refusal": "I can't help with that."}), None), stop("stop")])
            .text("I can't help with that.")
            .incomplete(IncompleteReason::Refusal, &["refused"])
            .suggests(is_rephrase),
        openai_stream("a stop reason with a message", &[
            content("Cut in the mid"),
            json!({"choices": [{"index": 0, "delta": {}, "finish_reason": {"type": "abort", "message": "the queue is full"}}]}),
        ])
        .text("Cut in the mid")
        .incomplete(IncompleteReason::Failure, &["(abort: the queue is full)"]),
        openai_stream("content_filter without text", &[stop("content_filter")])
            .incomplete(IncompleteReason::ContentFilter, &["content_filter"]),
        openai_stream("only a tool call", &[
            chunk(&json!({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "ls", "arguments": "{}"}}]}), None),
            stop("tool_calls"),
        ])
        .error(ErrorKind::Unavailable, &["no text", "tool_calls", "called ls"]),
        openai_stream("nothing", &[stop("stop")]).error(ErrorKind::Unavailable, &["no text", "stop"]),
    ])
    .await;
}

/// A stream that is closed after a chunk with a stop reason that is none.
fn openai_stream_cut(name: &'static str, reason: &str) -> Case {
    openai(name, events(&[chunk(&json!({"content": "Partial"}), Some(reason))]))
}

#[tokio::test]
async fn a_pause_after_a_stop_reason_that_is_none_loses_no_text() {
    let first = events(&[chunk(&json!({"content": "Hello "}), Some("null"))]);
    let response = RawResponse::events(first)
        .wait(Duration::from_millis(3_300))
        .bytes(events(&[content("world"), stop("stop")]));
    check(case("a long pause", Provider::OpenAi, response).text("Hello world")).await;
}

#[tokio::test]
async fn a_pause_loses_no_text_of_a_server_that_sends_a_stop_reason_with_every_chunk() {
    let part = |text: &str| events(&[chunk(&json!({"content": text}), Some("stop"))]);
    let response = RawResponse::events(part("Hel") + &part("lo "))
        .wait(Duration::from_millis(3_300))
        .bytes(part("world") + DONE);
    check(case("a long pause", Provider::OpenAi, response).text("Hello world")).await;
}

#[tokio::test]
async fn a_connection_that_breaks_is_an_error_and_keeps_the_text_that_arrived() {
    let part = events(&[content("Partial")]);
    let error = |case: Case| case.text("Partial").error(ErrorKind::Unavailable, &[]);
    check_all(vec![
        error(openai("closed without a stop reason", part.clone())),
        error(case("closed within a chunk", Provider::OpenAi, RawResponse::chunked().chunk(&part))),
        error(case("reset", Provider::OpenAi, RawResponse::events(part.clone()).reset())),
        error(openai_stream_cut("stop reasons that are the word null", "null")),
        error(openai_stream_cut("stop reasons that are the word None", "None")),
        error(openai("half a line", format!("{part}data: {{\"choices\": [{{\"delta\": {{\"content\": \"x"))),
        case("reset before the response", Provider::OpenAi, RawResponse::new().reset())
            .error(ErrorKind::Unavailable, &["connection"])
            .requests(3),
        case("another protocol", Provider::OpenAi, RawResponse::new().bytes("SSH-2.0-OpenSSH_9.2\r\n\r\n"))
            .error(ErrorKind::Invalid, &["is not HTTP"])
            .suggests(|suggestion| *suggestion == Suggestion::CheckBaseUrl),
        case("closed before the response", Provider::OpenAi, RawResponse::new())
            .then(RawResponse::events(hello()))
            .text("Hello world")
            .requests(2),
        openai("words instead of an end", format!("{part}data: upstream went away\n\n"))
            .text("Partial")
            .error(ErrorKind::Unavailable, &["upstream went away"]),
    ])
    .await;
}

#[tokio::test]
async fn an_error_within_a_successful_response_is_recognized_in_every_shape() {
    let part = events(&[content("Partial")]);
    let after_text = [
        json!({"object": "error", "message": "the server's words", "type": "InternalServerError", "code": 500}),
        json!({"error": {"message": "the server's words", "code": 502}}),
        json!({"error": "the server's words"}),
        json!({"error": {"code": 502, "message": "Provider returned error",
                         "metadata": {"raw": "{\"error\":{\"message\":\"the server's words\"}}", "provider_name": "P"}}}),
        json!({"id": "g", "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error",
                                       "error": {"code": 502, "message": "the server's words"}}]}),
        json!({"detail": "the server's words"}),
        json!({"detail": {"error": {"message": "the server's words"}}}),
        json!({"errors": [{"message": "the server's words"}]}),
        json!({"code": 500, "message": "the server's words"}),
        json!({"success": false, "message": "the server's words"}),
        json!({"type": "error", "error": {"type": "api_error", "message": "the server's words"}}),
        json!({"choices": null, "error_type": "x", "error_message": "the server's words"}),
        json!({"fault": {"faultstring": "the server's words", "detail": {"errorcode": "x"}}}),
        json!({"Error": {"Code": "x", "Message": "the server's words"}}),
        json!({"__type": "x", "message": "the server's words"}),
        json!({"exception": "the server's words"}),
    ];
    for error in &after_text {
        let bodies = [
            format!("{part}data: {error}\n\n{DONE}"),
            format!("{part}data: {error}"),
            format!("{part}event: error\ndata: {error}\n\n"),
            format!("{part}{error}\n"),
        ];
        for body in bodies {
            check(
                openai("error after text", body)
                    .text("Partial")
                    .error(ErrorKind::Unavailable, &["the server's words"]),
            )
            .await;
        }
        // Before any text, the request is repeated.
        check(
            openai("error before text", format!("data: {error}\n\n"))
                .then(RawResponse::events(hello()))
                .text("Hello world")
                .requests(2),
        )
        .await;
    }
    check_all(vec![
        openai("words in an error event", format!("{part}event: error\ndata: the server's words\n\n"))
            .text("Partial")
            .error(ErrorKind::Unavailable, &["the server's words"]),
        openai("a field for errors", format!("{part}error: {{\"code\": 500, \"message\": \"the server's words\"}}\n\n"))
            .text("Partial")
            .error(ErrorKind::Unavailable, &["not available: the server's words"]),
        openai_stream("an error beside an empty completion", &[json!({"object": "chat.completion", "error": {"message": "the server's words", "code": 429},
            "choices": [{"index": 0, "message": {"role": "assistant", "content": null}, "finish_reason": "stop"}]})])
            .error(ErrorKind::Unavailable, &["the server's words"])
            .requests(3),
        openai_stream("key", &[json!({"base_resp": {"status_code": 1004, "status_msg": "login fail: no API key"}})])
            .error(ErrorKind::Denied, &["login fail"])
            .suggests(|suggestion| matches!(suggestion, Suggestion::SetApiKey { .. })),
        openai_stream("busy, as a permanent error", &[json!({"object": "error", "message": "Service tier capacity exceeded for this model.",
            "type": "invalid_request_error", "raw_status_code": 429})])
            .error(ErrorKind::Unavailable, &["capacity exceeded"])
            .requests(3),
        openai_stream("quota", &[json!({"error": {"message": "quota exceeded", "type": "insufficient_quota", "code": 429}})])
            .error(ErrorKind::Denied, &["quota exceeded"])
            .suggests(|suggestion| matches!(suggestion, Suggestion::CheckBilling { .. })),
        openai_stream("validation", &[json!({"error": {"message": "bad messages", "type": "invalid_request_error"}})])
            .error(ErrorKind::Invalid, &["bad messages"]),
        openai_stream("context", &[json!({"error": {"message": "This model's maximum context length is 8 tokens", "code": 400}})])
            .error(ErrorKind::Invalid, &["maximum context length"])
            .suggests(|suggestion| *suggestion == Suggestion::ReduceContext),
        case("JSON error with status 200", Provider::OpenAi, RawResponse::status(200, "application/json", "",
            "{\n  \"error\": {\n    \"message\": \"no such model\",\n    \"code\": \"model_not_found\"\n  }\n}"))
            .error(ErrorKind::Invalid, &["no such model"]),
        case("a web page", Provider::OpenAi, RawResponse::status(200, "text/html", "",
            "<!doctype html><html><body>Please log in to the captive portal</body></html>"))
            .error(ErrorKind::Invalid, &["web page", "Please log in to the captive portal"])
            .suggests(|suggestion| *suggestion == Suggestion::CheckBaseUrl),
        case("text", Provider::OpenAi, RawResponse::status(200, "text/plain", "", "It works!"))
            .error(ErrorKind::Unavailable, &["It works!"]),
        case("nothing", Provider::OpenAi, RawResponse::status(200, "text/plain", "", ""))
            .error(ErrorKind::Unavailable, &["ended"])
            .requests(3),
    ])
    .await;
}

#[tokio::test]
async fn a_completion_that_is_not_streamed_is_a_reply() {
    let openai = json!({"id": "x", "object": "chat.completion", "usage": usage(), "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "Hello world", "reasoning_content": "hm"}, "finish_reason": "stop"}
    ]});
    let anthropic = json!({"id": "x", "type": "message", "role": "assistant", "stop_reason": "end_turn",
        "content": [{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "text", "text": "Hello world"}],
        "usage": {"input_tokens": 2, "cache_read_input_tokens": 3, "output_tokens": 7}});
    let gemini = json!([
        {"candidates": [{"content": {"parts": [{"text": "hm", "thought": true}, {"text": "Hello "}]}}]},
        {"candidates": [{"content": {"parts": [{"text": "world"}]}, "finishReason": "STOP"}],
         "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 4, "thoughtsTokenCount": 3}}
    ]);
    let ollama = json!({"model": "m", "message": {"role": "assistant", "content": "Hello world", "thinking": "hm"},
        "done": true, "done_reason": "stop", "prompt_eval_count": 5, "eval_count": 7});
    for (provider, body) in [
        (Provider::OpenAi, openai),
        (Provider::Anthropic, anthropic),
        (Provider::Gemini, gemini),
        (Provider::Ollama, ollama),
    ] {
        for text in [body.to_string(), serde_json::to_string_pretty(&body).unwrap()] {
            let response = RawResponse::status(200, "application/json", "", &text);
            check(case("completion", provider, response).text("Hello world").thinking("hm").usage(5, 7))
                .await;
        }
    }
}

#[tokio::test]
async fn the_tokens_of_a_servers_cache_are_counted_and_unknown_where_it_says_nothing() {
    let openai = |usage: Value| {
        json!({"object": "chat.completion", "usage": usage, "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
        ]})
    };
    let anthropic = |usage: Value| {
        json!({"type": "message", "role": "assistant", "stop_reason": "end_turn",
            "content": [{"type": "text", "text": "Hi"}], "usage": usage})
    };
    for (provider, body, cached) in [
        (
            Provider::OpenAi,
            openai(
                json!({"prompt_tokens": 9, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 4}}),
            ),
            (Some(4), None),
        ),
        (
            Provider::OpenAi,
            openai(json!({"prompt_tokens": 9, "completion_tokens": 7, "prompt_cache_hit_tokens": 0})),
            (Some(0), None),
        ),
        (Provider::OpenAi, openai(json!({"prompt_tokens": 9, "completion_tokens": 7})), (None, None)),
        (
            Provider::Anthropic,
            anthropic(
                json!({"input_tokens": 2, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 3, "output_tokens": 7}),
            ),
            (Some(4), Some(3)),
        ),
        (Provider::Anthropic, anthropic(json!({"input_tokens": 9, "output_tokens": 7})), (None, None)),
        (
            Provider::Gemini,
            json!({"candidates": [{"content": {"parts": [{"text": "Hi"}]}, "finishReason": "STOP"}],
                "usageMetadata": {"promptTokenCount": 9, "cachedContentTokenCount": 4, "candidatesTokenCount": 7}}),
            (Some(4), None),
        ),
    ] {
        let text = body.to_string();
        let server = RawServer::with_responses(vec![RawResponse::status(200, "application/json", "", &text)]);
        let assistant = Assistant::new(config(&server, provider));
        let (_, outcome) = run(&assistant, question("hello?")).await;
        let expected = Usage::new(9, 7).with_cache(cached.0, cached.1);
        assert_eq!(outcome.unwrap().message.usage, Some(expected), "{text}");
    }
}

#[tokio::test]
async fn error_statuses_have_the_servers_words_and_permanent_errors_are_not_repeated() {
    fn is_key(suggestion: &Suggestion) -> bool {
        matches!(suggestion, Suggestion::SetApiKey { .. })
    }
    let error = |status: u16, message: &str| {
        RawResponse::error(status, &json!({"error": {"message": message, "type": "x", "code": null}}))
    };
    let status = |name, response| case(name, Provider::OpenAi, response);
    check_all(vec![
        status("400", error(400, "Unsupported parameter: 'max_tokens' is not supported with this model."))
            .error(ErrorKind::Invalid, &["400", "Unsupported parameter"]),
        status("401", error(401, "Incorrect API key provided: sk-x")).error(ErrorKind::Denied, &["Incorrect API key"]).suggests(is_key),
        status("402", error(402, "Insufficient Balance")).error(ErrorKind::Denied, &["Insufficient Balance"]),
        status("403", error(403, "Country, region, or territory not supported")).error(ErrorKind::Denied, &["Country"]),
        status("404", error(404, "The model `m` does not exist or you do not have access to it."))
            .error(ErrorKind::Invalid, &["The model `m`"])
            .suggests(|suggestion| *suggestion == Suggestion::CheckModel),
        status("404 of a path", RawResponse::error(404, &json!({"detail": "Not Found"})))
            .error(ErrorKind::Invalid, &["404 not found"])
            .suggests(|suggestion| *suggestion == Suggestion::CheckBaseUrl),
        status("413", error(413, "Request too large")).error(ErrorKind::Invalid, &["Request too large"]),
        status("422", RawResponse::error(422, &json!({"detail": [{"type": "missing", "loc": ["body", "messages"], "msg": "Field required"}]})))
            .error(ErrorKind::Invalid, &["body.messages: Field required"]),
        status("a stream", RawResponse::status(401, "text/event-stream", "",
            "event: error\ndata: {\"error\": {\"message\": \"who?\", \"type\": \"authentication_error\"}}\n\n"))
            .error(ErrorKind::Denied, &["401 unauthorized: who?"])
            .suggests(is_key),
        status("limit of a day", error(429, "Rate limit exceeded: free-models-per-day. Add 10 credits to unlock more"))
            .error(ErrorKind::Denied, &["free-models-per-day"])
            .suggests(|suggestion| matches!(suggestion, Suggestion::CheckBilling { .. })),
        status("memory", RawResponse::error(500, &json!({"error": "model requires more system memory (5.0 GiB) than is available (3.9 GiB)"})))
            .error(ErrorKind::Invalid, &["more system memory"])
            .suggests(|suggestion| *suggestion == Suggestion::CheckModel),
        status("template", error(500, "Jinja Exception: Conversation roles must alternate user/assistant/user/assistant/..."))
            .error(ErrorKind::Invalid, &["roles must alternate"]),
        status("filter", RawResponse::error(400, &json!({"error": {"code": "content_filter", "message": "The response was filtered", "status": 400,
            "innererror": {"code": "ResponsibleAIPolicyViolation"}}})))
            .error(ErrorKind::Denied, &["The response was filtered"])
            .suggests(|suggestion| *suggestion == Suggestion::RephraseMessage),
        status("context behind a gateway", RawResponse::error(503, &json!({"error": {
            "message": "litellm.ServiceUnavailableError: OpenAIException - Requested token count exceeds the model's maximum context length of 131072 tokens."}})))
            .error(ErrorKind::Invalid, &["131072"])
            .suggests(|suggestion| *suggestion == Suggestion::ReduceContext),
        status("too many tokens at once", RawResponse::error(429, &json!({"__type": "ThrottlingException", "message": "Too many tokens, please wait before trying again."})))
            .error(ErrorKind::Unavailable, &["Too many tokens"])
            .requests(3),
        status("XML", RawResponse::status(403, "application/xml", "", "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code><Message>No access</Message></Error>"))
            .error(ErrorKind::Denied, &["No access"]),
        status("498", error(498, "capacity exceeded")).error(ErrorKind::Unavailable, &["capacity exceeded"]).requests(3),
        status("context", RawResponse::error(400, &json!({"error": {
            "message": "This model's maximum context length is 128000 tokens. However, your messages resulted in 130000 tokens.",
            "code": "context_length_exceeded"}})))
            .error(ErrorKind::Invalid, &["128000"])
            .suggests(|suggestion| *suggestion == Suggestion::ReduceContext),
        status("page", RawResponse::status(502, "text/html", "", "<html><head><title>502 Bad Gateway</title></head></html>"))
            .error(ErrorKind::Unavailable, &["502 bad gateway"])
            .requests(3),
        status("retry after 1 s", RawResponse::status(429, "application/json", "Retry-After: 1\r\n", "{}"))
            .then(RawResponse::events(hello()))
            .text("Hello world")
            .requests(2),
        status("retry-after-ms", RawResponse::status(429, "application/json", "retry-after-ms: 30\r\n", "{}"))
            .then(RawResponse::events(hello()))
            .text("Hello world")
            .requests(2),
        status("retry after too long", RawResponse::status(429, "application/json", "Retry-After: 90\r\n", "{\"error\":\"busy\"}"))
            .error(ErrorKind::Unavailable, &["busy; it asks to wait 1m 30s"]),
        status("try again in", error(429, "Rate limit reached. Please try again in 90.5s.")).error(ErrorKind::Unavailable, &["90.5s"]),
        status("x-should-retry", RawResponse::status(429, "application/json", "x-should-retry: false\r\n", "{}"))
            .error(ErrorKind::Unavailable, &["429"]),
        status("redirect to another server", RawResponse::status(308, "text/html", "Location: https://127.0.0.1/v1/x\r\n", ""))
            .error(ErrorKind::Invalid, &["https://127.0.0.1"]),
        status("redirect on the server", RawResponse::status(307, "text/html", "Location: /other\r\n", ""))
            .then(RawResponse::events(hello()))
            .text("Hello world")
            .requests(2),
    ])
    .await;
    let loading = RawResponse::error(
        503,
        &json!({"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}),
    );
    // More often than other requests are repeated.
    let responses = (0..5).map(|_| loading.clone()).chain([RawResponse::events(hello())]).collect();
    check(Case { responses, ..status("loading", loading) }.text("Hello world").requests(6)).await;
}

#[tokio::test]
async fn a_reply_that_may_have_been_made_is_not_asked_for_again() {
    fn is_send_again(suggestion: &Suggestion) -> bool {
        *suggestion == Suggestion::SendAgainAtACost
    }
    let body = json!({"error": {"message": "the server's words"}});
    for provider in Provider::ALL {
        for status in [408, 499, 504, 524, 598] {
            check(
                case("a timeout", provider, RawResponse::error(status, &body))
                    .error(
                        ErrorKind::Unavailable,
                        &["the server's words; it was not asked again, because it may"],
                    )
                    .suggests(is_send_again),
            )
            .await;
        }
        // These come before the model's work, or without a reply.
        for status in [409, 425, 429, 500, 502, 503, 520, 521, 522, 523, 529, 530] {
            check(
                case("a failure", provider, RawResponse::error(status, &body))
                    .error(ErrorKind::Unavailable, &["the server's words"])
                    .requests(3),
            )
            .await;
        }
    }
    let page = RawResponse::status(504, "text/html", "", "<html><title>504 Gateway Time-out</title></html>");
    let with_header = |header: &str| RawResponse::status(504, "application/json", header, &body.to_string());
    check_all(vec![
        case("a page", Provider::OpenAi, page)
            .error(ErrorKind::Unavailable, &["504 gateway timeout", "not asked again"])
            .suggests(is_send_again),
        case("the server asks to wait", Provider::OpenAi, with_header("retry-after-ms: 5\r\n"))
            .then(RawResponse::events(hello()))
            .text("Hello world")
            .requests(2),
        case("the server asks to repeat", Provider::Anthropic, with_header("x-should-retry: true\r\n"))
            .error(ErrorKind::Unavailable, &["the server's words"])
            .requests(3),
        case("the server asks not to repeat", Provider::OpenAi, with_header("x-should-retry: false\r\n"))
            .error(ErrorKind::Unavailable, &["the server's words"]),
        openai_stream("a code in the stream", &[json!({"error": {"message": "litellm.Timeout", "code": "408"}})])
            .error(ErrorKind::Unavailable, &["litellm.Timeout", "not asked again"]),
        anthropic(
            "a type in the stream",
            event("error", &json!({"type": "error", "error": {"type": "timeout_error", "message": "Request timed out."}})),
        )
        .error(ErrorKind::Unavailable, &["Request timed out.; it was not asked again"])
        .suggests(is_send_again),
        gemini("a status in the stream", &[json!({"error": {"code": 504, "message": "m", "status": "DEADLINE_EXCEEDED"}})])
            .error(ErrorKind::Unavailable, &["not asked again"]),
        case("words with the status 500", Provider::OpenAi, RawResponse::error(500, &json!({"error": {"message": "Request timed out."}})))
            .error(ErrorKind::Unavailable, &["not asked again"]),
        case("a timeout of a connection", Provider::OpenAi, RawResponse::status(503, "text/plain", "",
            "upstream connect error or disconnect/reset before headers. reset reason: connection timeout"))
            .error(ErrorKind::Unavailable, &["connection timeout"])
            .requests(3),
    ])
    .await;
}

// Anthropic's events.

fn event(name: &str, payload: &Value) -> String {
    format!("event: {name}\ndata: {payload}\n\n")
}

fn anthropic_start() -> String {
    event(
        "message_start",
        &json!({"type": "message_start", "message": {"id": "m", "type": "message", "role": "assistant",
        "content": [], "model": "c", "stop_reason": null, "usage": {"input_tokens": 5, "output_tokens": 1}}}),
    )
}

fn block_start(block: &Value) -> String {
    event("content_block_start", &json!({"type": "content_block_start", "index": 0, "content_block": block}))
}

fn block_delta(delta: &Value) -> String {
    event("content_block_delta", &json!({"type": "content_block_delta", "index": 0, "delta": delta}))
}

fn text_delta(text: &str) -> String {
    block_delta(&json!({"type": "text_delta", "text": text}))
}

fn anthropic_stop(reason: &str) -> String {
    event(
        "message_delta",
        &json!({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 7}}),
    )
}

fn anthropic_end(reason: &str) -> String {
    anthropic_stop(reason) + &event("message_stop", &json!({"type": "message_stop"}))
}

fn anthropic(name: &'static str, body: String) -> Case {
    case(name, Provider::Anthropic, RawResponse::events(body))
}

#[tokio::test]
async fn an_anthropic_stream_is_read_however_the_server_writes_it() {
    let block = block_start(&json!({"type": "text", "text": ""}));
    let block_stop = event("content_block_stop", &json!({"type": "content_block_stop", "index": 0}));
    let body = anthropic_start() + &block + &text_delta("Hello") + &block_stop + &anthropic_end("end_turn");
    let only_data: String =
        body.lines().filter(|line| line.starts_with("data:")).map(|line| format!("{line}\n\n")).collect();
    let ping = event("ping", &json!({"type": "ping"}));
    let cases = vec![
        anthropic("whole", body.clone()),
        anthropic("no event names", only_data),
        anthropic(
            "types in the event names only",
            body.replace("\"type\":\"message_stop\"", "").replace("\"type\":\"content_block_delta\",", ""),
        ),
        anthropic("CRLF", body.replace('\n', "\r\n")),
        anthropic(
            "pings",
            body.replace("event: content_block_delta", &format!("{ping}event: content_block_delta")),
        ),
        anthropic("no block start", anthropic_start() + &text_delta("Hello") + &anthropic_end("end_turn")),
        anthropic(
            "text in the block start",
            anthropic_start()
                + &block_start(&json!({"type": "text", "text": "Hello"}))
                + &anthropic_end("end_turn"),
        ),
        anthropic(
            "unknown deltas and events",
            anthropic_start()
                + &block
                + &block_delta(&json!({"type": "citations_delta", "citation": {"cited_text": "x"}}))
                + &block_delta(&json!({"type": "unheard_of", "words": "x"}))
                + &event("unheard_of", &json!({"type": "unheard_of"}))
                + &text_delta("Hello")
                + &anthropic_end("end_turn"),
        ),
        anthropic(
            "deltas of blocks in the delta of the message",
            anthropic_start()
                + &event(
                    "message_delta",
                    &json!({"type": "message_delta", "delta": {"type": "content_block_delta", "index": 0,
                        "delta": {"text": "Hello"}}, "usage": null}),
                )
                + &anthropic_end("end_turn"),
        ),
        anthropic(
            "cached tokens only in the first event",
            event(
                "message_start",
                &json!({"type": "message_start", "message": {"role": "assistant", "content": [],
                    "usage": {"input_tokens": 2, "cache_read_input_tokens": 3, "output_tokens": 1}}}),
            ) + &text_delta("Hello")
                + &event(
                    "message_delta",
                    &json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"},
                        "usage": {"input_tokens": 2, "cache_read_input_tokens": 0, "output_tokens": 7}}),
                ),
        ),
        anthropic(
            "counted by Bedrock at the end",
            block.clone()
                + &text_delta("Hello")
                + &event(
                    "message_delta",
                    &json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}}),
                )
                + &event(
                    "message_stop",
                    &json!({"type": "message_stop",
                        "amazon-bedrock-invocationMetrics": {"inputTokenCount": 5, "outputTokenCount": 7}}),
                ),
        ),
        anthropic("no message_stop", anthropic_start() + &text_delta("Hello") + &anthropic_stop("end_turn")),
        case("open after message_stop", Provider::Anthropic, RawResponse::events(body.clone()).hang()),
    ];
    check_all(cases.into_iter().map(|case| case.text("Hello").usage(5, 7)).collect()).await;
    check_all(vec![
        anthropic(
            "thinking in a text block",
            anthropic_start()
                + &block
                + &block_delta(&json!({"type": "thinking_delta", "thinking": "hm"}))
                + &text_delta("Hello")
                + &anthropic_end("end_turn"),
        )
        .thinking("hm")
        .text("Hello")
        .usage(5, 7),
        anthropic("cut", anthropic_start() + &text_delta("Hel") + &anthropic_end("max_tokens"))
            .text("Hel")
            .usage(5, 7)
            .incomplete(IncompleteReason::Length, &["max_tokens"]),
        anthropic("refusal", anthropic_start() + &anthropic_end("refusal"))
            .usage(5, 7)
            .incomplete(IncompleteReason::Refusal, &["refus"]),
        anthropic(
            "refusal with an explanation",
            anthropic_start()
                + &event(
                    "message_delta",
                    &json!({"type": "message_delta", "usage": {"output_tokens": 7}, "delta": {"stop_reason": "refusal",
                        "stop_details": {"type": "refusal", "category": "cyber", "explanation": "It asks for an attack."}}}),
                ),
        )
        .usage(5, 7)
        .incomplete(IncompleteReason::Refusal, &["(refusal: It asks for an attack.)"]),
        anthropic("closed", anthropic_start() + &text_delta("Hel"))
            .text("Hel")
            .error(ErrorKind::Unavailable, &["ended"]),
    ])
    .await;
}

#[tokio::test]
async fn anthropics_errors_are_recognized_before_and_after_text() {
    let overloaded = json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}});
    check_all(vec![
        anthropic("after text", anthropic_start() + &text_delta("Partial") + &event("error", &overloaded))
            .text("Partial")
            .error(ErrorKind::Unavailable, &["Overloaded"]),
        anthropic("first", event("error", &overloaded))
            .error(ErrorKind::Unavailable, &["Overloaded"])
            .requests(3),
        case("529", Provider::Anthropic, RawResponse::error(529, &overloaded))
            .error(ErrorKind::Unavailable, &["Overloaded"])
            .requests(3),
        anthropic(
            "permanent",
            event(
                "error",
                &json!({"type": "error", "error": {"type": "invalid_request_error", "message": "bad"}}),
            ),
        )
        .error(ErrorKind::Invalid, &["bad"]),
        anthropic(
            "key",
            event(
                "error",
                &json!({"type": "error", "error": {"type": "authentication_error", "message": "bad"}}),
            ),
        )
        .error(ErrorKind::Denied, &["bad"]),
    ])
    .await;
}

// Gemini's chunks.

fn candidate(text: &str, finish_reason: Option<&str>) -> Value {
    json!({"candidates": [{"content": {"parts": [{"text": text}], "role": "model"}, "index": 0, "finishReason": finish_reason}],
           "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 7, "totalTokenCount": 12}})
}

fn gemini(name: &'static str, payloads: &[Value]) -> Case {
    case(name, Provider::Gemini, RawResponse::events(events(payloads).replace('\n', "\r\n")))
}

#[tokio::test]
async fn a_gemini_stream_is_read_however_the_server_writes_it() {
    let hello = [candidate("Hello ", None), candidate("world", Some("STOP"))];
    check_all(vec![
        gemini("whole", &hello).text("Hello world").usage(5, 7),
        gemini("the stop reason apart", &[candidate("Hello world", None), json!({"candidates": [{"finishReason": "STOP"}]}), json!({"usageMetadata": {"promptTokenCount": 5}})])
            .text("Hello world")
            .usage(5, 7),
        gemini("chunks without candidates", &[json!({"responseId": "x"}), json!({"candidates": []}), candidate("Hello", Some("STOP"))])
            .text("Hello")
            .usage(5, 7),
        case("open after the stop reason", Provider::Gemini, RawResponse::events(events(&hello)).hang()).text("Hello world").usage(5, 7),
        gemini("names of protocol buffers", &[json!({"candidates": [{"content": {"parts": {"text": "Hello"}}, "finish_reason": 1}],
            "usage_metadata": {"prompt_token_count": 5, "candidates_token_count": 7}})])
            .text("Hello")
            .usage(5, 7),
        gemini("the number of a stop reason", &[json!({"candidates": [{"content": {"parts": [{"text": "Cut"}]}, "finishReason": 2}]})])
            .text("Cut")
            .incomplete(IncompleteReason::Length, &["MAX_TOKENS"]),
        gemini("blocked", &[json!({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": 13}})])
            .usage(13, 0)
            .incomplete(IncompleteReason::ContentFilter, &["PROHIBITED_CONTENT"]),
        gemini("blocked for an unnamed reason", &[json!({"promptFeedback": {"blockReason": "OTHER", "blockReasonMessage": "not allowed here"},
            "usageMetadata": {"promptTokenCount": 13}})])
            .usage(13, 0)
            .incomplete(IncompleteReason::ContentFilter, &["(OTHER: not allowed here)"]),
        gemini("a message about the end", &[candidate("I ", None), json!({"candidates": [{"finishReason": "MALFORMED_FUNCTION_CALL",
            "finishMessage": "the call is empty"}]})])
            .text("I ")
            .usage(5, 7)
            .incomplete(IncompleteReason::Failure, &["(MALFORMED_FUNCTION_CALL: the call is empty)"]),
        gemini("safety", &[candidate("I ", None), json!({"candidates": [{"finishReason": "SAFETY", "index": 0}]})])
            .text("I ")
            .usage(5, 7)
            .incomplete(IncompleteReason::ContentFilter, &["SAFETY"]),
        gemini("maximum", &[candidate("Cut in the mid", Some("MAX_TOKENS"))])
            .text("Cut in the mid")
            .usage(5, 7)
            .incomplete(IncompleteReason::Length, &["MAX_TOKENS"]),
        gemini("maximum without text", &[json!({"candidates": [{"content": {"role": "model"}, "finishReason": "MAX_TOKENS"}],
            "usageMetadata": {"promptTokenCount": 5, "thoughtsTokenCount": 100}})])
            .usage(5, 100)
            .incomplete(IncompleteReason::Length, &["MAX_TOKENS"]),
        gemini("error after text", &[candidate("Partial", None), json!({"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}})])
            .text("Partial")
            .error(ErrorKind::Unavailable, &["The model is overloaded."]),
        gemini("permanent error", &[json!({"error": {"code": 400, "message": "bad", "status": "INVALID_ARGUMENT"}})])
            .error(ErrorKind::Invalid, &["bad"]),
        gemini("too many calls of tools", &[candidate("Partial", Some("TOO_MANY_TOOL_CALLS"))])
            .text("Partial")
            .usage(5, 7)
            .incomplete(IncompleteReason::Failure, &["TOO_MANY_TOOL_CALLS"]),
        gemini("closed", &[candidate("Partial", None)]).text("Partial").error(ErrorKind::Unavailable, &["ended"]),
    ])
    .await;
    let quota = |delay: &str| {
        RawResponse::error(
            429,
            &json!({"error": {"code": 429, "message": "You exceeded your current quota.",
        "status": "RESOURCE_EXHAUSTED", "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}]}}),
        )
    };
    check_all(vec![
        case("retry soon", Provider::Gemini, quota("0.05s"))
            .then(RawResponse::events(events(&hello)))
            .text("Hello world")
            .usage(5, 7)
            .requests(2),
        case("retry late", Provider::Gemini, quota("3600s"))
            .error(ErrorKind::Unavailable, &["You exceeded your current quota."]),
        case(
            "key",
            Provider::Gemini,
            RawResponse::error(
                400,
                &json!([{"error": {"code": 400, "message": "API key not valid.",
            "status": "INVALID_ARGUMENT", "details": [{"reason": "API_KEY_INVALID"}]}}]),
            ),
        )
        .error(ErrorKind::Denied, &["API key not valid."]),
    ])
    .await;
}

#[tokio::test]
async fn a_signature_on_text_makes_no_part_of_its_own() {
    let part = |part: Value, reason: Option<&str>| json!({"candidates": [{"content": {"parts": [part]}, "finishReason": reason}]});
    let payloads = [
        part(json!({"text": "hm", "thought": true, "thoughtSignature": "a"}), None),
        part(json!({"text": "Hello ", "thoughtSignature": "b"}), None),
        part(json!({"text": "world"}), None),
        part(json!({"text": "", "thoughtSignature": "c"}), Some("STOP")),
    ];
    let server = RawServer::with_responses(vec![RawResponse::events(events(&payloads))]);
    let (_, outcome) = run(&Assistant::new(config(&server, Provider::Gemini)), question("?")).await;
    let thinking = Part::Thinking { text: "hm".into(), signature: Some("a".into()) };
    assert_eq!(outcome.unwrap().message.parts, [thinking, Part::text("Hello world")]);
}

// Ollama's lines.

fn ollama(name: &'static str, body: impl Into<Vec<u8>>) -> Case {
    case(name, Provider::Ollama, RawResponse::ok("application/x-ndjson").bytes(body))
}

#[tokio::test]
async fn an_ollama_stream_is_read_however_the_server_writes_it() {
    let line =
        |text: &str| json!({"model": "m", "message": {"role": "assistant", "content": text}, "done": false});
    let end = |reason: &str| {
        json!({"model": "m", "message": {"role": "assistant", "content": ""}, "done": true,
        "done_reason": reason, "prompt_eval_count": 5, "eval_count": 7})
    };
    let old_end = json!({"model": "m", "done": true, "prompt_eval_count": 5, "eval_count": 7});
    check_all(vec![
        ollama("whole", format!("{}\n{}\n", line("Hello"), end("stop"))).text("Hello").usage(5, 7),
        ollama("CRLF", format!("{}\r\n{}\r\n", line("Hello"), end("stop"))).text("Hello").usage(5, 7),
        ollama("no last line end", format!("{}\n{}", line("Hello"), end("stop"))).text("Hello").usage(5, 7),
        ollama("no done_reason", format!("{}\n{old_end}\n", line("Hello"))).text("Hello").usage(5, 7),
        ollama("lines together", format!("{}{}", line("Hello"), end("stop"))).text("Hello").usage(5, 7),
        ollama("length", format!("{}\n{}\n", line("Cut"), end("length")))
            .text("Cut")
            .usage(5, 7)
            .incomplete(IncompleteReason::Length, &["length"]),
        ollama("load", format!("{}\n", end("load"))).error(ErrorKind::Unavailable, &["no text", "load"]),
        ollama(
            "error after text",
            format!(
                "{}\n{{\"error\":\"an error was encountered while running the model: unexpected EOF\"}}\n",
                line("Partial")
            ),
        )
        .text("Partial")
        .error(ErrorKind::Unavailable, &["unexpected EOF"]),
        ollama("error first", "{\"error\":\"llama runner process has terminated\"}\n")
            .error(ErrorKind::Unavailable, &["llama runner"])
            .requests(3),
        ollama("closed", format!("{}\n", line("Partial")))
            .text("Partial")
            .error(ErrorKind::Unavailable, &["ended"]),
        ollama("half a line", format!("{}\n{{\"model\": ", line("Partial")))
            .text("Partial")
            .error(ErrorKind::Unavailable, &["ended"]),
        case("404", Provider::Ollama, RawResponse::error(404, &json!({"error": "model 'm' not found"})))
            .error(ErrorKind::Invalid, &["model 'm' not found"])
            .suggests(|suggestion| *suggestion == Suggestion::CheckModel),
    ])
    .await;
}
