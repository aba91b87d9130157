//! `hfs chat`, with a model server on loopback.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use testkit::cli::Hfs;
use testkit::model_server::{ModelServer, Protocol, RawResponse, RawServer, Script, TlsServer};

use crate::{fields, hfs, hfs_with, scrubbed, shown, text};

#[test]
fn the_reply_streams_and_both_messages_are_saved() {
    let server = ModelServer::start();
    server.then(Script::chunks(["Hello ", "there\n", "and more"]).then_wait(Duration::from_millis(1)));
    let hfs = hfs_with(&server);
    let output = hfs.run(&["chat", "hi"]).ok();
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("Hello there\nand more\n", ""));
    let session = shown(&hfs, "@");
    assert_eq!(text(&session["messages"][0]), "hi");
    assert_eq!(text(&session["messages"][1]), "Hello there\nand more");
    assert_eq!(session["messages"][1]["status"], "complete");
    assert_eq!(session["messages"][1]["model"], "test-model");
    assert_eq!(server.requests()[0].headers["authorization"], "Bearer test-key-0123456789");
}

#[test]
fn chat_continues_a_named_session_or_the_newest_one_with_its_history() {
    let server = ModelServer::start();
    server.otherwise(|_| Script::text("so be it"));
    let hfs = hfs_with(&server);
    let _ = hfs.run(&["chat", "first words"]).ok();
    let _ = hfs.run(&["session", "rename", "@", "work"]).ok();
    let _ = hfs.run(&["chat", "-s", "work", "second words"]).ok();
    let _ = hfs.command(&["chat", "-c", "-"]).stdin("third words\n").run().ok();
    let _ = hfs.command(&["chat", "-c"]).stdin("fourth words\n").run().ok();
    assert_eq!(shown(&hfs, "work")["messages"].as_array().unwrap().len(), 8);
    let asked = server.requests().pop().unwrap().prompt();
    for words in ["first", "second", "third", "fourth"] {
        assert!(asked.contains(words), "{asked}");
    }
    let _ = hfs.run(&["chat", "-c", "-s", "work", "x"]).fails_with(2);
}

#[test]
fn the_document_has_the_fields_that_scripts_rely_on() {
    let server = ModelServer::start();
    server.then(Script::text("done"));
    let hfs = hfs_with(&server);
    let output = hfs.run(&["chat", "--json", "hi"]).ok();
    let document = output.json();
    assert_eq!(fields(&document), ["session", "branch", "message", "messages", "run"]);
    assert_eq!(document["messages"], serde_json::json!([document["message"]]));
    assert_eq!(document["branch"], "main");
    assert_eq!(text(&document["message"]), "done");
    assert_eq!(fields(&document["run"]), ["id", "snapshot", "events"]);
    assert_eq!(document["run"]["events"][0]["type"], "run.started");
    assert_eq!(document["run"]["snapshot"]["run_id"], document["run"]["id"]);
    assert_eq!(output.stderr, "");
}

#[test]
fn ctrl_c_stops_the_reply_and_keeps_the_partial_text() {
    let server = ModelServer::start();
    server.then(Script::chunks(["half of it\n"]).then_hang());
    let hfs = hfs_with(&server);
    let running = hfs.command(&["chat", "hi"]).spawn();
    let _ = running.wait_for_line("half of it");
    running.interrupt();
    let output = running.wait().fails_with(130);
    assert!(output.stderr.contains("the partial reply is kept"), "{}", output.describe());
    let session = shown(&hfs, "@");
    let reply = &session["messages"][1];
    assert_eq!((text(reply), reply["status"].as_str()), ("half of it\n", Some("interrupted")));
    let shown = hfs.run(&["session", "show", "@"]).ok().stdout;
    assert!(shown.contains("interrupted"), "{shown}");
}

#[test]
fn a_request_to_an_overloaded_provider_is_retried() {
    let server = ModelServer::start();
    server.then(Script::status(429, "slow down").header("retry-after", "0"));
    server.then(Script::status(500, "oops"));
    server.then(Script::text("third time lucky"));
    let hfs = hfs_with(&server);
    let output = hfs.run(&["chat", "hi"]).ok();
    assert_eq!(output.stdout, "third time lucky\n");
    assert_eq!(server.requests().len(), 3);
    let lines: Vec<&str> = output.stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{}", output.describe());
    assert!(lines[0].contains("429 too many requests: slow down; again "), "{}", output.describe());
    assert!(lines[1].contains("oops; again in "), "{}", output.describe());
    let run = hfs.run(&["run", "show", "@", "--json"]).ok().json();
    assert_eq!(run["run"]["errors"], 0, "a retry is not an error of the run");
}

#[test]
fn an_error_is_shown_once() {
    let server = ModelServer::start();
    server.otherwise(|_| Script::status(400, "no such parameter"));
    let hfs = hfs_with(&server);
    for arguments in [&["chat", "hi"][..], &["-v", "chat", "hi"]] {
        let output = hfs.run(arguments).fails_with(6);
        assert_eq!(output.stderr.matches("no such parameter").count(), 1, "{}", output.describe());
    }
    let shown = hfs.run(&["run", "show", "@"]).ok().stdout;
    assert_eq!(shown.matches("no such parameter").count(), 1, "{shown}");
}

#[test]
fn tokens_that_the_server_does_not_report_are_unknown_everywhere() {
    let server = ModelServer::start();
    server.otherwise(|_| Script::text("done").usage(0, 0));
    let hfs = hfs_with(&server);
    let output = hfs.run(&["-v", "chat", "hi"]).ok();
    assert!(output.stderr.contains("tokens: unknown"), "{}", output.describe());
    assert_eq!(shown(&hfs, "@")["messages"][1]["usage"], serde_json::Value::Null);
    let run = hfs.run(&["run", "show", "@", "--json"]).ok().json();
    assert_eq!((&run["run"]["total_tokens"], &run["run"]["calls"]), (&serde_json::Value::Null, &1.into()));
    let plain = hfs.run(&["run", "show", "@"]).ok().stdout;
    assert!(plain.contains("unknown: the server did not report the tokens of 1 call"), "{plain}");
    let list = hfs.run(&["run", "list", "@"]).ok().stdout;
    assert!(list.contains("unknown"), "{list}");
    let full = hfs.run(&["-v", "session", "show", "@"]).ok().stdout;
    assert!(full.contains("tokens unknown"), "{full}");
}

#[test]
fn a_long_conversation_is_summarized_and_used_as_a_whole_again_after_a_rewind() {
    let server = ModelServer::start();
    server.otherwise(|request| {
        if request.last_turn().contains("Summarize this conversation") {
            Script::text("they counted words")
        } else {
            Script::text("ok").usage(0, 0)
        }
    });
    let hfs = hfs_with(&server).env("HFS_CONTEXT_TOKENS", "4000");
    let long = |name: &str| format!("{name} {}", "word ".repeat(700));
    let _ = hfs.run(&["chat", &long("first")]).ok();
    let _ = hfs.run(&["chat", "-c", &long("second")]).ok();
    let third = hfs.run(&["chat", "-c", &long("third")]).ok();
    assert!(third.stderr.contains("summarizing 4 messages"), "{}", third.describe());
    let sent = server.requests().pop().unwrap().prompt();
    assert!(sent.contains("they counted words") && !sent.contains("first"), "{sent}");
    let session = shown(&hfs, "@");
    assert_eq!(session["messages"].as_array().unwrap().len(), 7);
    assert!(text(&session["messages"][0]).starts_with("first"));
    assert_eq!(session["messages"][4]["context"], true);

    let _ = hfs.run(&["rewind", "@", "1"]).ok();
    let _ = hfs.run(&["chat", "-c", "again"]).ok();
    let sent = server.requests().pop().unwrap().prompt();
    assert!(sent.contains("first") && !sent.contains("they counted words"), "{sent}");

    let compacted = hfs.run(&["compact", "@", "--json"]).ok().json();
    assert_eq!(compacted["replaced"]["messages"], 4);
    assert!(text(&compacted["message"]).contains("they counted words"));
    let _ = hfs.run(&["compact", "@"]).fails_with(4);
}

#[test]
fn what_does_not_fit_into_the_context_is_reported() {
    let server = ModelServer::start();
    let hfs = hfs_with(&server).env("HFS_CONTEXT_TOKENS", "4000").env("HFS_COMPACTION", "manual");
    let long = |name: &str| format!("{name} {}", "word ".repeat(800));
    let _ = hfs.run(&["chat", &long("first")]).ok();
    let _ = hfs.run(&["chat", "-c", &long("second")]).ok();
    let third = hfs.run(&["chat", "-c", &long("third")]).ok();
    assert!(
        third.stderr.contains("the first 1 message was left out")
            && third.stderr.contains("4,000 tokens")
            && third.stderr.contains("hfs compact"),
        "{}",
        third.describe()
    );
    assert!(!server.requests().pop().unwrap().prompt().contains("first"));
}

#[test]
fn the_model_option_selects_the_model_of_one_exchange() {
    let server = ModelServer::start();
    let hfs = hfs_with(&server);
    let _ = hfs.run(&["chat", "--model", "other-model", "hi"]).ok();
    assert_eq!(server.requests()[0].model(), "other-model");
}

#[test]
fn a_rejected_key_is_denied_and_not_printed() {
    let server = ModelServer::start();
    server.otherwise(|_| Script::status(401, "bad key test-key-0123456789"));
    let hfs = hfs_with(&server);
    let output = hfs.run(&["chat", "hi", "--json"]).fails_with(5);
    assert_eq!(output.json_error()["kind"], "denied");
    assert!(!output.stderr.contains("0123456789"), "{}", output.describe());
    assert_eq!(
        output.json()["message"]["status"],
        "interrupted",
        "the message is saved and can be sent again"
    );
}

#[test]
fn an_incomplete_reply_is_kept_and_marked() {
    for (script, kind, code) in [
        (Script::chunks(["a beginning"]).then_break(), "unavailable", 8),
        (Script::chunks(["a beginning"]).then_garbage(), "unavailable", 8),
        (Script::chunks(["a beginning"]).then_stop(), "unavailable", 8),
    ] {
        let server = ModelServer::start();
        server.then(script);
        let hfs = hfs_with(&server);
        let output = hfs.run(&["chat", "hi", "--json"]).fails_with(code);
        assert_eq!(output.json_error()["kind"], kind, "{}", output.describe());
        let reply = shown(&hfs, "@")["messages"][1].clone();
        assert_eq!((text(&reply), reply["status"].as_str()), ("a beginning", Some("interrupted")));
        let plain = hfs.run(&["session", "show", "@"]).ok().stdout;
        assert!(plain.contains("ended early"), "{plain}");
    }
}

#[test]
fn a_reply_that_the_provider_cut_is_not_complete_and_says_what_to_do() {
    for (reason, code, error, hint) in [
        ("length", 8, "maximum length", "max_tokens"),
        ("content_filter", 5, "content filter", "ask in other words"),
        ("error", 8, "error", "send it again"),
    ] {
        let server = ModelServer::start();
        server.then(Script::text("Cut in the mid").stop_reason(reason).usage(11, 7));
        let hfs = hfs_with(&server);
        let output = hfs.run(&["chat", "hi"]).fails_with(code);
        assert_eq!(output.stdout, "Cut in the mid\n");
        assert!(output.stderr.contains(error) && output.stderr.contains(hint), "{}", output.describe());
        // A setting is named only if it may be the cause.
        assert_eq!(output.stderr.contains("unset HFS_MODEL"), reason == "error", "{}", output.describe());
        let reply = shown(&hfs, "@")["messages"][1].clone();
        assert_eq!((text(&reply), reply["status"].as_str()), ("Cut in the mid", Some("interrupted")));
        assert_eq!(reply["usage"]["completion_tokens"], 7);
        let plain = hfs.run(&["session", "show", "@"]).ok().stdout;
        assert!(plain.contains("interrupted") && plain.contains(error), "{plain}");
        assert_eq!(server.requests().len(), 1);
    }
}

#[test]
fn headers_and_waits_of_the_configuration_apply() {
    let server = ModelServer::start();
    server.then(Script::text("hi")).then(Script::silence());
    let hfs = hfs_with(&server).env("TEAM_TOKEN", "blue-0123456789");
    std::fs::create_dir_all(hfs.hfs_home()).unwrap();
    let config = "headers:\n  X-Team: $TEAM_TOKEN\nwait:\n  first_token_seconds: 1\n";
    std::fs::write(hfs.hfs_home().join("config.yaml"), config).unwrap();
    let _ = hfs.run(&["chat", "hi"]).ok();
    assert_eq!(server.requests()[0].headers["x-team"], "blue-0123456789");
    let output = hfs.run(&["chat", "hi"]).fails_with(8);
    assert!(output.stderr.contains("wait.first_token_seconds"), "{}", output.describe());
    assert_eq!(server.requests().len(), 2);
    std::fs::write(hfs.hfs_home().join("config.yaml"), "headers:\n  Authorization: Bearer abc\n").unwrap();
    let refused = hfs.run(&["chat", "hi"]).fails_with(5);
    assert!(refused.stderr.contains("headers.Authorization"), "{}", refused.describe());
}

#[test]
fn the_doctor_asks_the_server_for_its_models() {
    let server = ModelServer::start();
    server.models(["nomic-embed-text", "llama3:8b", "qwen3:4b"]);
    let hfs = |model: &str| {
        Hfs::new(env!("CARGO_BIN_EXE_hfs"))
            .env("OLLAMA_HOST", server.base_url())
            .env("HFS_PROVIDER", "ollama")
            .env("HFS_MODEL", model)
    };
    let known = hfs("qwen3:4b").run(&["doctor"]).ok();
    assert!(
        known.stdout.contains("has 3 models: nomic-embed-text, llama3:8b, qwen3:4b"),
        "{}",
        known.describe()
    );
    let unknown = hfs("other").run(&["doctor"]).ok();
    assert!(
        unknown.stdout.contains("other is not among them; choose one: hfs config set model llama3:8b"),
        "{}",
        unknown.describe()
    );
    server.models(Vec::<String>::new());
    let none = hfs("other").run(&["doctor"]).ok();
    assert!(none.stdout.contains("lists no models"), "{}", none.describe());
}

#[test]
fn a_message_that_no_server_received_is_sent_once_when_it_is_sent_again() {
    let server = ModelServer::start();
    server.otherwise(|_| Script::text("yes"));
    let hfs =
        Hfs::new(env!("CARGO_BIN_EXE_hfs")).env("OPENAI_API_KEY", "sk-0123456789").env("HFS_MODEL", "m");
    let down = hfs.env("OPENAI_BASE_URL", "http://127.0.0.1:9/v1");
    let _ = down.run(&["chat", "remember 42"]).fails_with(8);
    let up = down.env("OPENAI_BASE_URL", server.url(Protocol::OpenAi));
    let output = up.run(&["chat", "-c", "remember 42"]).ok();
    assert!(output.stderr.contains("asking again"), "{}", output.describe());
    assert_eq!(shown(&up, "@")["messages"].as_array().unwrap().len(), 2);
    let sent = server.requests();
    assert!(sent[0].body.to_string().matches("remember 42").count() == 1, "{}", sent[0].body);
}

#[test]
fn the_doctor_warns_of_a_key_that_is_sent_unencrypted() {
    let hfs =
        Hfs::new(env!("CARGO_BIN_EXE_hfs")).env("OPENAI_API_KEY", "sk-0123456789").env("HFS_MODEL", "m");
    let remote = hfs.env("OPENAI_BASE_URL", "http://models.invalid/v1");
    let output = remote.run(&["doctor"]).ok();
    assert!(output.stdout.contains("unencrypted"), "{}", output.describe());
    let local = remote.env("OPENAI_BASE_URL", "http://127.0.0.1:9/v1");
    let output = local.run(&["doctor"]).ok();
    assert!(!output.stdout.contains("unencrypted"), "{}", output.describe());
}

#[test]
fn a_server_without_a_configured_model_is_asked_for_one_of_its_own() {
    let server = ModelServer::start();
    server.otherwise(|request| Script::text(format!("from {}", request.model())));
    server.models(["nomic-embed-text", "qwen3:4b", "llama3:8b"]);
    let hfs = Hfs::new(env!("CARGO_BIN_EXE_hfs"));
    let _ = hfs.run(&["config", "set", "base_url", &server.url(Protocol::OpenAi)]).ok();
    let output = hfs.run(&["chat", "hi"]).ok();
    assert!(output.stdout.contains("from qwen3:4b"), "{}", output.describe());
    let doctor = hfs.run(&["doctor"]).ok();
    assert!(
        doctor.stdout.contains("using qwen3:4b of the OpenAI-compatible server at"),
        "{}",
        doctor.describe()
    );
    let _ = hfs.run(&["config", "set", "model", "llama3:8b"]).ok();
    let output = hfs.run(&["chat", "hi"]).ok();
    assert!(output.stdout.contains("from llama3:8b"), "{}", output.describe());
}

#[test]
fn a_model_that_no_server_is_known_for_is_an_error() {
    let hfs = Hfs::new(env!("CARGO_BIN_EXE_hfs"));
    let output = hfs.run(&["chat", "--model", "llama3", "hi"]).fails_with(8);
    assert!(output.stderr.contains("no server is known for the model llama3"), "{}", output.describe());
    assert!(output.stderr.contains("hfs config set base_url URL"), "{}", output.describe());
}

#[test]
fn a_missing_model_is_answered_by_how_to_choose_another_and_nothing_else() {
    let server = ModelServer::start();
    server.otherwise(|_| Script::status(404, "The model `m` does not exist"));
    let hfs = Hfs::new(env!("CARGO_BIN_EXE_hfs"));
    let _ = hfs.run(&["config", "set", "base_url", &server.url(Protocol::OpenAi)]).ok();
    let output = hfs.run(&["chat", "--model", "m", "hi"]).fails_with(6);
    assert!(output.stderr.contains("hfs config set model NAME"), "{}", output.describe());
    assert!(!output.stderr.contains("unset base_url"), "{}", output.describe());
}

#[test]
fn a_file_that_cannot_be_attached_is_refused_with_the_reason_in_words() {
    let hfs = Hfs::new(env!("CARGO_BIN_EXE_hfs"));
    let output = hfs.run(&["chat", "--file", "missing.png", "hi"]).fails_with(6);
    assert!(
        output.stderr.contains("cannot attach missing.png: no such file or directory\n"),
        "{}",
        output.describe()
    );
}

#[test]
fn the_offline_agent_is_announced_with_the_reason() {
    let hfs = Hfs::new(env!("CARGO_BIN_EXE_hfs"));
    let output = hfs.run(&["chat", "hi"]).ok();
    assert!(output.stderr.starts_with("recall: ") && output.stderr.contains("key"), "{}", output.describe());
    assert_eq!(hfs.run(&["-q", "chat", "-c", "hi"]).ok().stderr, "");
}

#[test]
fn a_reply_is_saved_completely_even_if_standard_output_is_closed() {
    let server = ModelServer::start();
    let pieces: Vec<String> = (0..200).map(|n| format!("line {n}\n")).collect();
    server.then(Script::chunks(pieces.clone()));
    let hfs = hfs_with(&server);
    let mut child = hfs
        .command(&["chat", "hi"])
        .to_command()
        .stdout(std::process::Stdio::piped())
        .stdin(std::process::Stdio::null())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(text(&shown(&hfs, "@")["messages"][1]), pieces.concat());
}

#[test]
fn missing_sessions_and_keys_are_reported_before_anything_is_saved() {
    let hfs = hfs();
    let _ = hfs.run(&["chat", "-s", "nowhere", "hi"]).fails_with(3);
    let _ = hfs.run(&["chat", "-c", "hi"]).fails_with(3);
    let _ = hfs.command(&["chat", "hi"]).env("HFS_AGENT", "assistant").run().fails_with(8);
    let output = hfs
        .command(&["chat", "hi"])
        .env("HFS_AGENT", "assistant")
        .env("HFS_PROVIDER", "anthropic")
        .run()
        .fails_with(5);
    insta::assert_snapshot!(scrubbed(&hfs, &output), @r"
    --- stderr
    error: Anthropic is configured, but its key is not in the environment
    hint: set ANTHROPIC_API_KEY or ANTHROPIC_AUTH_TOKEN; agent is assistant, set by the variable HFS_AGENT: unset HFS_AGENT; provider is anthropic, set by the variable HFS_PROVIDER: unset HFS_PROVIDER
    ");
    assert_eq!(hfs.run(&["store", "info", "--json"]).ok().json()["sessions"], 0);
}

/// Accepts connections like a SOCKS 5 proxy that needs no password, and answers each request with `response` itself.
fn socks_proxy(response: String) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut greeting = [0; 3];
            stream.read_exact(&mut greeting).unwrap();
            stream.write_all(&[5, 0]).unwrap();
            let mut request = [0; 256];
            assert!(stream.read(&mut request).unwrap() > 4);
            stream.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 80]).unwrap();
            let mut http = [0; 65_536];
            assert!(stream.read(&mut http).unwrap() > 0);
            stream.write_all(response.as_bytes()).unwrap();
        }
    });
    port
}

#[test]
fn a_socks_proxy_is_used_and_a_proxy_that_wants_a_password_is_named() {
    let hfs = |variable: &str, proxy: String| {
        Hfs::new(env!("CARGO_BIN_EXE_hfs"))
            .env("HFS_BASE_URL", "http://models.example/v1")
            .env("HFS_MODEL", "m")
            .env(variable, proxy)
            .run(&["chat", "hi"])
    };
    let body = "data: {\"choices\":[{\"delta\":{\"content\":\"hello\"},\"finish_reason\":\"stop\"}]}\n\n";
    let response = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let port = socks_proxy(response);
    assert_eq!(hfs("ALL_PROXY", format!("socks5h://127.0.0.1:{port}")).ok().stdout, "hello\n");

    let refusing = RawServer::with_responses(vec![RawResponse::status(407, "text/html", "", "")]);
    let output = hfs("HTTP_PROXY", refusing.base_url()).fails_with(8);
    let host = refusing.base_url().replace("http://", "");
    assert!(output.stderr.contains(&format!("the proxy {host} wants a name")), "{}", output.describe());
    assert_eq!(refusing.requests().len(), 1);
}

/// Answers each connection with these bytes. Also returns the number of connections.
fn refusing_proxy(answers: &'static [&'static [u8]]) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&connections);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            counter.fetch_add(1, Ordering::SeqCst);
            for answer in answers {
                let mut request = [0; 4_096];
                assert!(stream.read(&mut request).unwrap() > 0);
                stream.write_all(answer).unwrap();
            }
        }
    });
    (port, connections)
}

/// The variable and the scheme of a proxy, what it answers, and words of the error and of the advice.
type Refusal = (&'static str, &'static str, &'static [&'static [u8]], &'static str, &'static str);

#[test]
fn a_proxy_that_does_not_connect_is_asked_once_and_named_with_what_to_do() {
    let cases: [Refusal; 7] = [
        (
            "HTTPS_PROXY",
            "http",
            &[b"HTTP/1.1 403 Forbidden\r\n\r\n"],
            "does not connect to models.example",
            "NO_PROXY",
        ),
        (
            "ALL_PROXY",
            "http",
            &[b"HTTP/1.1 502 Bad Gateway\r\n\r\n"],
            "does not connect to models.example",
            "NO_PROXY",
        ),
        (
            "HTTPS_PROXY",
            "http",
            &[b"HTTP/1.0 407 Auth\r\n\r\n"],
            "wants a name and a valid password",
            "PASSWORD@HOST",
        ),
        (
            "HTTPS_PROXY",
            "http",
            &[b"SSH-2.0-OpenSSH_9.2\r\n\r\n"],
            "does not connect to models.example",
            "NO_PROXY",
        ),
        (
            "ALL_PROXY",
            "socks5h",
            &[&[5, 0], &[5, 2, 0, 1, 0, 0, 0, 0, 0, 0]],
            "does not connect to models.example",
            "NO_PROXY",
        ),
        ("ALL_PROXY", "socks5h", &[&[5, 0xff]], "wants a name and a valid password", "PASSWORD@HOST"),
        (
            "ALL_PROXY",
            "socks5h",
            &[&[5, 0], &[5, 7, 0, 1, 0, 0, 0, 0, 0, 0]],
            "does not connect to models.example",
            "NO_PROXY",
        ),
    ];
    for (variable, scheme, answers, words, advice) in cases {
        let (port, connections) = refusing_proxy(answers);
        let output = Hfs::new(env!("CARGO_BIN_EXE_hfs"))
            .env("HFS_BASE_URL", "https://models.example/v1")
            .env("HFS_MODEL", "m")
            .env(variable, format!("{scheme}://127.0.0.1:{port}"))
            .run(&["chat", "hi"])
            .fails_with(8);
        for expected in [format!("the proxy 127.0.0.1:{port} {words}").as_str(), advice] {
            assert!(output.stderr.contains(expected), "{answers:?}: {}", output.describe());
        }
        assert_eq!(connections.load(Ordering::SeqCst), 1, "{answers:?}: {}", output.describe());
    }
}

#[test]
fn a_certificate_file_that_cannot_be_used_is_named_with_its_variable() {
    let server = TlsServer::start(&["localhost"], "");
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("words"), "not a certificate").unwrap();
    std::fs::write(path("empty"), "").unwrap();
    std::fs::create_dir(path("folder")).unwrap();
    std::fs::write(path("good"), server.certificate_pem()).unwrap();
    let good = path("good");
    let run = |variables: &[(&str, &str)], arguments: &[&str]| {
        let hfs = Hfs::new(env!("CARGO_BIN_EXE_hfs"))
            .env("HFS_BASE_URL", format!("https://localhost:{}/v1", server.port()))
            .env("HFS_MODEL", "m");
        let command = hfs.command(arguments);
        variables.iter().fold(command, |command, (name, value)| command.env(name, value)).run()
    };
    for (file, problem) in [
        (path("absent"), "no such file"),
        (path("words"), "no certificate in PEM format"),
        (path("empty"), "no certificate in PEM format"),
        (path("folder"), "is a directory"),
        (String::new(), "not the name of a file"),
    ] {
        // Certificates from elsewhere do not hide the mistake.
        for directory in [None, Some(directory.path().to_str().unwrap())] {
            let mut variables = vec![("SSL_CERT_FILE", file.as_str())];
            variables.extend(directory.map(|directory| ("SSL_CERT_DIR", directory)));
            let output = run(&variables, &["chat", "hi"]).fails_with(6);
            for words in ["the variable SSL_CERT_FILE", file.as_str(), problem, "unset it"] {
                assert!(output.stderr.contains(words), "{file}: {}", output.describe());
            }
        }
    }
    let output = run(&[("SSL_CERT_DIR", &path("folder"))], &["chat", "hi"]).fails_with(6);
    for words in ["the variable SSL_CERT_DIR", &path("folder"), "no certificate"] {
        assert!(output.stderr.contains(words), "{}", output.describe());
    }
    let doctor = run(&[("SSL_CERT_FILE", &path("absent"))], &["doctor"]);
    assert!(doctor.stdout.contains("SSL_CERT_FILE"), "{}", doctor.describe());
    let trusted = run(&[("SSL_CERT_FILE", &good)], &["chat", "hi"]).fails_with(8);
    assert!(!trusted.stderr.contains("SSL_CERT_FILE"), "{}", trusted.describe());
}

#[test]
fn a_self_signed_certificate_is_accepted_only_if_the_user_trusts_it_and_it_names_the_server() {
    let body = "data: {\"choices\":[{\"delta\":{\"content\":\"hello\"},\"finish_reason\":\"stop\"}]}\n\n";
    let response = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n{body}data: [DONE]\n\n"
    );
    let server = TlsServer::start(&["localhost"], response);
    let hfs = |host: &str| {
        Hfs::new(env!("CARGO_BIN_EXE_hfs"))
            .env("HFS_BASE_URL", format!("https://{host}:{}/v1", server.port()))
            .env("HFS_MODEL", "m")
            .env("OPENAI_API_KEY", "test-key-0123456789")
    };
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("server.pem");
    std::fs::write(&file, server.certificate_pem()).unwrap();
    let chat = |host: &str, file: &str| hfs(host).command(&["chat", "hi"]).env("SSL_CERT_FILE", file).run();
    let trusted = file.to_str().unwrap();
    assert_eq!(chat("localhost", trusted).ok().stdout, "hello\n");
    let other_name = chat("127.0.0.1", trusted).fails_with(8);
    assert!(other_name.stderr.contains("not trusted"), "{}", other_name.describe());

    let other = TlsServer::start(&["localhost"], "");
    let other_file = directory.path().join("other.pem");
    std::fs::write(&other_file, other.certificate_pem()).unwrap();
    let untrusted = chat("localhost", other_file.to_str().unwrap()).fails_with(8);
    assert!(untrusted.stderr.contains("SSL_CERT_FILE"), "{}", untrusted.describe());
    let missing = chat("localhost", "/nonexistent.pem").fails_with(6);
    assert!(missing.stderr.contains("SSL_CERT_FILE"), "{}", missing.describe());
}

#[test]
fn the_doctor_asks_the_servers_of_all_models_that_triads_use() {
    let server = ModelServer::start();
    server.models(["llama3:8b", "qwen3:4b"]);
    let hfs = Hfs::new(env!("CARGO_BIN_EXE_hfs"))
        .env("OLLAMA_HOST", format!("{}/v1", server.base_url()))
        .env("HFS_AGENT", "triads")
        .env("HFS_TRIADS", "mine.yaml");
    let yaml = format!("{}\nmodels:\n  critic: ollama/absent\n", hfs_agents::TriadsConfig::SMALL);
    std::fs::write(hfs.project().join("mine.yaml"), yaml).unwrap();
    let output = hfs.run(&["doctor"]).ok();
    let servers = output.stdout.lines().filter(|line| line.contains("has 2 models")).count();
    assert_eq!(servers, 2, "{}", output.describe());
    assert!(output.stdout.contains("using llama3:8b"), "{}", output.describe());
    assert!(output.stdout.contains("absent is not among them"), "{}", output.describe());
}

#[test]
fn piped_bytes_that_are_not_text_are_refused_and_replaced_ones_are_reported() {
    let hfs = hfs();
    let output = hfs.command(&["chat", "explain"]).stdin(b"\x89PNG\r\n\0\0").run().fails_with(6);
    assert!(output.stderr.contains("--file"), "{}", output.describe());
    let _ = hfs.run(&["session", "show", "@"]).fails_with(3);
    let output = hfs.command(&["chat", "explain"]).stdin(b"-caf\xe9\n+caf\xc3\xa9").run().ok();
    assert!(output.stderr.contains("not all UTF-8"), "{}", output.describe());
    assert_eq!(text(&shown(&hfs, "@")["messages"][0]), "explain\n\n-caf\u{fffd}\n+caf\u{e9}");
}

#[test]
fn what_is_piped_in_follows_the_prompt() {
    let server = ModelServer::start();
    server.otherwise(|_| Script::text("a diff"));
    let hfs = hfs_with(&server);
    let _ = hfs.command(&["chat", "explain"]).stdin("-old\n+new\n").run().ok();
    assert_eq!(text(&shown(&hfs, "@")["messages"][0]), "explain\n\n-old\n+new");
    let _ = hfs.command(&["chat", "only this"]).run().ok();
    assert_eq!(text(&shown(&hfs, "@")["messages"][0]), "only this");
    let _ = hfs.command(&["chat", "-"]).stdin("from a pipe").run().ok();
    assert_eq!(text(&shown(&hfs, "@")["messages"][0]), "from a pipe");
}

#[test]
fn files_go_with_a_message_and_a_file_that_cannot_is_refused_before_anything_is_saved() {
    let server = ModelServer::start();
    server.otherwise(|_| Script::text("seen"));
    let hfs = hfs_with(&server);
    std::fs::write(hfs.project().join("notes.md"), "# Notes\n").unwrap();
    std::fs::write(hfs.project().join("shot.png"), b"\x89PNG\r\n\x1a\nrest").unwrap();
    let files = ["--file", "notes.md", "--file", "shot.png"];
    let _ = hfs.run(&[&["chat", "look"], files.as_slice()].concat()).ok();
    let name = |hfs: &Hfs| shown(hfs, "@")["session"]["name"].as_str().unwrap().to_owned();
    assert!(name(&hfs).starts_with("look - "), "{}", name(&hfs));
    let message = &shown(&hfs, "@")["messages"][0];
    assert_eq!(text(message), "look\n\nnotes.md:\n\n```md\n# Notes\n```");
    assert_eq!(message["parts"][1]["type"], "attachment");
    assert_eq!(message["parts"][1]["name"], "shot.png");
    let sent = server.requests().pop().unwrap().body.to_string();
    assert!(sent.contains("data:image/png;base64,iVBOR") && sent.contains("# Notes"), "{sent}");
    // Without a model, the picture is kept, and the user is told.
    let offline = hfs.run(&["chat", "--agent", "recall", "--file", "shot.png"]).ok();
    assert!(name(&hfs).starts_with("picture shot.png - "), "{}", name(&hfs));
    assert!(offline.stderr.contains("does not look at pictures"), "{}", offline.stderr);
    let count = || hfs.run(&["session", "list", "--json"]).ok().json()["sessions"].as_array().unwrap().len();
    let before = count();
    let refused = hfs.run(&["chat", "x", "--file", "missing.txt"]).fails_with(6);
    assert!(refused.stderr.contains("cannot attach missing.txt"), "{}", refused.stderr);
    assert_eq!(count(), before);
}

#[test]
fn a_model_on_the_command_line_replies_once_even_where_the_configuration_uses_none() {
    let server = ModelServer::start();
    server.otherwise(|_| Script::text("seen"));
    let hfs = hfs_with(&server);
    let _ = hfs.run(&["chat", "--model", "other-model", "hi"]).ok();
    let _ = hfs.run(&["config", "set", "agent", "recall"]).ok();
    let _ = hfs.run(&["--model", "third-model", "chat", "hi"]).ok();
    let models: Vec<String> =
        server.requests().iter().map(testkit::model_server::RecordedRequest::model).collect();
    assert_eq!(models, ["other-model", "third-model"]);
    let _ = hfs.run(&["chat", "hi"]).ok();
    assert_eq!(server.requests().len(), 2);
}
