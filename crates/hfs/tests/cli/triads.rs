//! `hfs chat` with triads, on models on loopback and on saved sessions, and `hfs run`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hfs_core::{Event, RunSnapshot};
use serde_json::Value;
use testkit::agents::{sound_answer, sound_text};
use testkit::cli::{Hfs, Key};
use testkit::model_server::{ModelServer, Protocol, Recorded, Script};

use crate::{scrubbed, shown, text};

const PHASES: [&str; 6] = ["deliberation", "claims", "negotiation", "freeze", "execution", "integration"];

/// The binary with triads on this server.
pub fn triads_on(server: &ModelServer, protocol: Protocol) -> Hfs {
    let (provider, key) = match protocol {
        Protocol::Anthropic => ("anthropic", "ANTHROPIC_API_KEY"),
        _ => ("openai", "OPENAI_API_KEY"),
    };
    Hfs::new(env!("CARGO_BIN_EXE_hfs"))
        .env("HFS_AGENT", "triads")
        .env("HFS_BASE_URL", server.url(protocol))
        .env("HFS_PROVIDER", provider)
        .env("HFS_MODEL", "test-model")
        .env(key, "test-key-0123456789")
}

/// The binary with triads and without a model.
pub fn triads_offline() -> Hfs {
    Hfs::new(env!("CARGO_BIN_EXE_hfs")).env("HFS_AGENT", "triads")
}

fn phases(snapshot: &Value) -> Vec<&str> {
    let phases = snapshot["timeline"]["phases"].as_array().unwrap();
    phases.iter().map(|phase| phase["name"].as_str().unwrap()).collect()
}

fn sum(tally: &Value, field: &str) -> u64 {
    tally.as_object().unwrap().values().map(|count| count[field].as_u64().unwrap()).sum()
}

#[test]
fn a_run_on_either_protocol_streams_its_reply_and_its_usage_is_what_the_server_counted() {
    for protocol in [Protocol::OpenAi, Protocol::Anthropic] {
        for (name, triads) in [("small", 2), ("standard", 6)] {
            let server = ModelServer::start();
            server.otherwise(sound_answer);
            let hfs = triads_on(&server, protocol);
            let told = hfs.run(&["chat", "--triads", name, "Is it safe?"]).ok();
            assert_eq!((told.stdout.as_str(), told.stderr.as_str()), ("The whole reply.\n", ""));
            let run = hfs.run(&["run", "show", "@", "--events", "--json"]).ok().json()["run"].take();
            let snapshot = &run["snapshot"];
            assert_eq!(phases(snapshot), PHASES);
            assert_eq!(snapshot["ending"], "completed");
            assert_eq!(snapshot["agent_tree"]["triads"].as_array().unwrap().len(), triads);
            let (counted, calls) = server.usage();
            assert_eq!(snapshot["usage"]["total_tokens"], counted.total(), "{protocol:?} {name}");
            for tally in ["by_agent", "by_phase"] {
                let tally = &snapshot["usage"][tally];
                assert_eq!(sum(tally, "calls"), calls);
                assert_eq!(sum(tally, "prompt_tokens"), counted.prompt_tokens);
                assert_eq!(sum(tally, "completion_tokens"), counted.completion_tokens);
            }
            assert_eq!(shown(&hfs, "@")["messages"][1]["usage"]["prompt_tokens"], counted.prompt_tokens);
            let events: Vec<Event> = serde_json::from_value(run["events"].clone()).unwrap();
            assert_eq!(serde_json::to_value(RunSnapshot::fold(&events)).unwrap(), *snapshot);
            let kinds: BTreeSet<&str> = events.iter().map(|event| event.payload.kind()).collect();
            for kind in ["run.started", "run.ended", "phase.started", "phase.ended", "agent.started"] {
                assert!(kinds.contains(kind), "{kind}: {kinds:?}");
            }
            for kind in ["claimed", "contested", "decided", "resolved"] {
                assert!(kinds.contains(format!("negotiation.{kind}").as_str()), "{kind}: {kinds:?}");
            }
        }
    }
}

#[test]
fn slow_failing_and_malformed_agents_cost_no_more_than_themselves() {
    for protocol in [Protocol::OpenAi, Protocol::Anthropic] {
        let server = ModelServer::start();
        let count = AtomicUsize::new(0);
        server.otherwise(move |asked| {
            let prompt = asked.prompt();
            if prompt.contains("You are critic of the triad") {
                return Script::status(400, "this agent is ill");
            }
            if prompt.contains("You are worker-2 of the triad") {
                return sound_answer(asked).after(Duration::from_millis(80));
            }
            if asked.last_turn().contains(r#"{"decisions""#) {
                return Script::text("I would rather not say {");
            }
            match count.fetch_add(1, Ordering::SeqCst) {
                0 => Script::status(503, "busy").header("retry-after", "0"),
                _ => sound_answer(asked),
            }
        });
        let hfs = triads_on(&server, protocol);
        let told = hfs.run(&["chat", "Is it safe?"]).ok();
        assert_eq!(told.stdout, "The whole reply.\n");
        assert_eq!(told.stderr, "warning: the triad testers goes on without testers/critic\n");
        let run = hfs.run(&["run", "show", "@", "--json"]).ok().json()["run"].take();
        let snapshot = &run["snapshot"];
        assert_eq!(phases(snapshot), PHASES);
        assert_eq!(snapshot["usage"]["total_tokens"], server.usage().0.total(), "{protocol:?}");
        let errors = snapshot["errors"].as_array().unwrap();
        for expected in ["this agent is ill", "busy", "answered twice in a form that cannot be read"] {
            assert!(errors.iter().any(|error| error.as_str().unwrap().contains(expected)), "{errors:?}");
        }
        for section in snapshot["negotiation"]["sections"].as_array().unwrap() {
            assert_eq!(section["status"], "resolved");
        }
    }
}

#[test]
fn the_document_holds_the_whole_run() {
    let server = ModelServer::start();
    server.otherwise(sound_answer);
    let hfs = triads_on(&server, Protocol::OpenAi);
    let told = hfs.run(&["chat", "--json", "Is it safe?"]).ok();
    let document = told.json();
    assert_eq!(told.stderr, "");
    assert_eq!(document["message"]["agent"], "triads");
    assert_eq!(text(&document["message"]), "The whole reply.");
    let snapshot = &document["run"]["snapshot"];
    assert_eq!(phases(snapshot), PHASES);
    assert_eq!(snapshot["negotiation"]["sections"][0]["name"], "answer");
    let stored = hfs
        .run(&["run", "show", "@", document["run"]["id"].as_str().unwrap(), "--events", "--json"])
        .ok()
        .json();
    assert_eq!(stored["run"]["snapshot"], *snapshot);
    assert_eq!(stored["run"]["events"], document["run"]["events"]);
}

#[test]
fn a_later_run_starts_from_what_the_agents_remember() {
    let server = ModelServer::start();
    server.otherwise(|asked| {
        let said = asked.last_turn();
        let only_the_critic = said.contains("Say what is wrong with this draft");
        Script::text(if only_the_critic { "XYZZY is missing.".to_owned() } else { sound_text(&said) })
    });
    let hfs = triads_on(&server, Protocol::OpenAi);
    let _ = hfs.run(&["chat", "The first question?"]).ok();
    let before = server.requests().len();
    let _ = hfs.run(&["chat", "-c", "The second question?"]).ok();
    let asked: Vec<Recorded> = server.requests().split_off(before);
    let of = |who: &str| -> Vec<&Recorded> {
        let who = format!("You are {who} of the triad");
        asked.iter().filter(|asked| asked.prompt().contains(&who)).collect()
    };
    let critic = of("critic").first().unwrap().prompt();
    let earlier = critic.find("XYZZY is missing.").unwrap();
    assert!(critic.find("The first question?").unwrap() < earlier, "{critic}");
    assert!(earlier < critic.find("The second question?").unwrap(), "{critic}");
    // What the others were told of it in the first run, they remember; the workers heard nothing of it.
    for worker in ["worker-1", "worker-2", "orchestrator"] {
        for asked in of(worker) {
            assert!(!asked.prompt().contains("XYZZY"), "{worker}");
        }
    }
    // Another session knows nothing of this one.
    let before = server.requests().len();
    let _ = hfs.run(&["chat", "A question elsewhere?"]).ok();
    let elsewhere = server.requests().split_off(before);
    assert!(!elsewhere.first().unwrap().prompt().contains("first question"));
}

/// What an agent is asked that hangs, and the phase in which it does.
const MOMENTS: [(&str, &str); 5] = [
    ("deliberation", "Take the question apart"),
    ("negotiation", "in round 1"),
    ("negotiation", "They could not agree"),
    ("execution", "Write the section"),
    ("integration", "Make one coherent reply"),
];

#[test]
fn ctrl_c_ends_a_run_at_once_in_any_phase_and_the_session_goes_on() {
    let mut quickest = Duration::MAX;
    for (phase, moment) in MOMENTS {
        let server = ModelServer::start();
        let hangs = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&hangs);
        server.otherwise(move |asked| {
            if asked.last_turn().contains(moment) && !asked.last_turn().contains("And now?") {
                seen.fetch_add(1, Ordering::SeqCst);
                return Script::silence();
            }
            sound_answer(asked)
        });
        let hfs = triads_on(&server, Protocol::Anthropic);
        let running = hfs.command(&["chat", "Is it safe?"]).spawn();
        let deadline = Instant::now() + Duration::from_secs(50);
        while hangs.load(Ordering::SeqCst) == 0 {
            assert!(Instant::now() < deadline, "{moment}: nobody asked");
            std::thread::sleep(Duration::from_millis(5));
        }
        let asked = Instant::now();
        running.interrupt();
        let told = running.wait().fails_with(130);
        quickest = quickest.min(asked.elapsed());
        assert!(told.stderr.contains("cancelled"), "{}", told.told());
        let run = hfs.run(&["run", "show", "@", "--json"]).ok().json()["run"].take();
        assert_eq!(run["ending"], "cancelled");
        assert_eq!(phases(&run["snapshot"]).last(), Some(&phase), "{moment}");
        assert_eq!(shown(&hfs, "@")["messages"][1]["status"], "interrupted");
        let told = hfs.run(&["chat", "-c", "And now?"]).ok();
        assert_eq!(told.stdout, "The whole reply.\n", "{moment}");
    }
    // A busy machine may be slow once; it is not slow every time.
    assert!(quickest < Duration::from_millis(200), "{quickest:?}");
}

#[test]
fn without_a_model_saved_sessions_answer_and_the_run_says_so() {
    let hfs = triads_offline();
    let _ = hfs
        .command(&["chat", "The login fails because the clock of the server is wrong."])
        .env("HFS_AGENT", "recall")
        .run()
        .ok();
    for name in ["small", "standard"] {
        let told = hfs.run(&["chat", "--triads", name, "Why does the login fail?"]).ok();
        assert!(told.stdout.contains("the clock of the server is wrong"), "{}", told.told());
        assert!(
            told.stderr.starts_with("triads: ") && told.stderr.contains("no provider's key"),
            "{}",
            told.told()
        );
        let run = hfs.run(&["run", "show", "@", "--json"]).ok().json()["run"].take();
        assert_eq!(phases(&run["snapshot"]), PHASES);
        assert_eq!(run["total_tokens"], 0);
    }
    let asked = hfs.command(&["chat", "--triads", "small", "Why?"]).env("HFS_MODEL", "recall").run().ok();
    assert!(asked.stderr.contains("as configured"), "{}", asked.told());
}

#[test]
fn a_run_is_shown_with_agents_negotiation_tokens_and_time() {
    let hfs = triads_offline();
    let _ = hfs.run(&["-q", "chat", "Why does the login fail?"]).ok();
    let _ = hfs.command(&["-q", "chat", "-c", "And now?"]).env("HFS_AGENT", "recall").run().ok();
    // How wide a column is depends on how long it took.
    let listed = scrubbed(&hfs, &hfs.run(&["run", "list", "@"]).ok());
    let listed: Vec<String> =
        listed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    insta::assert_snapshot!(listed.join("\n"), @r#"
    # ID AGENT ENDING TOOK TOKENS BEGAN ANSWERS
    1 [short-1] triads completed [duration] 0 [ago] Why does the login fail?
    2 [short-2] recall completed [duration] 0 [ago] And now?
    --- stderr
    "#);
    let told = hfs.run(&["run", "show", "@", "1"]).ok();
    // Where the bars begin and end is a matter of time.
    let bars = |text: String| text.replace(['█', '▏', '·'], "·");
    insta::assert_snapshot!(bars(scrubbed(&hfs, &told)), @r#"
    run         1 ([short-1]) of triads
    answers     message 1: Why does the login fail?
    began       [time] on main
    ended       completed after [duration]
    cost        0 tokens in 13 calls

    Agents
    AGENT                  ROLE          STATUS    CALLS  IN  OUT  TOKENS  MODEL
    makers (hierarchical)
      orchestrator         orchestrator  complete      4   0    0       0  recall
      worker-1             worker        complete      1   0    0       0  recall
      worker-2             worker        complete      1   0    0       0  recall
    testers (dialectic)
      proposer             proposer      complete      2   0    0       0  recall
      critic               critic        complete      1   0    0       0  recall
      synthesizer          synthesizer   complete      3   0    0       0  recall
    integrator             integrator    complete      1   0    0       0  recall

    Negotiation  1 round at a temperature of 1.00
      answer        makers; claimed by makers, testers
        round 1 at 1.00: makers holds, testers concedes
      reservations  testers; claimed by testers, makers
        round 1 at 1.00: testers holds, makers concedes

    Tokens
    PHASE         CALLS  IN  OUT  TOKENS
    deliberation      8   0    0       0
    negotiation       2   0    0       0
    execution         2   0    0       0
    integration       1   0    0       0

    Time  [duration]
      deliberation  ········································  [duration]
      claims        ········································  [duration]
      negotiation   ········································  [duration]
      freeze        ········································  [duration]
      execution     ········································  [duration]
      integration   ········································  [duration]
    --- stderr
    "#);
    let list = hfs.run(&["run", "list", "@", "--json"]).ok().json();
    let first = &list["runs"][0];
    assert_eq!((&first["number"], &first["agent"], &list["total"]), (&1.into(), &"triads".into(), &2.into()));
    for reference in ["1", "@-1", first["short_id"].as_str().unwrap(), first["id"].as_str().unwrap()] {
        let found = hfs.run(&["run", "show", "@", reference, "--json"]).ok().json();
        assert_eq!(found["run"]["id"], first["id"], "{reference}");
    }
    let newest = hfs.run(&["run", "list", "@", "-n", "1"]).ok();
    assert!(newest.stderr.contains("1 older") && newest.stdout.lines().count() == 2, "{}", newest.told());
    let _ = hfs.run(&["run", "show", "@", "3"]).fails_with(3);
    let events = hfs.run(&["run", "show", "@", "1", "--events"]).ok().stdout;
    assert!(events.contains("negotiation.resolved") && events.contains("run.ended"), "{events}");
}

#[test]
fn the_app_answers_with_the_triads_that_its_options_name() {
    let server = ModelServer::start();
    server.otherwise(sound_answer);
    let hfs = triads_on(&server, Protocol::OpenAi).env("HFS_AGENT", "assistant");
    let terminal = hfs.command(&["--agent", "triads", "--triads", "standard"]).in_terminal(36, 110);
    terminal.wait_for("Type a message");
    terminal.type_text("Is it safe?");
    terminal.press(Key::Enter);
    terminal.wait_for("The whole reply.");
    terminal.wait_for("✓ saved");
    terminal.press(Key::Ctrl('c'));
    terminal.wait_for("press Ctrl+C again to quit");
    terminal.press(Key::Ctrl('c'));
    assert!(terminal.wait_for_exit().success());
    let run = hfs.run(&["run", "show", "@", "--json"]).ok().json()["run"].take();
    assert_eq!(run["snapshot"]["agent_tree"]["triads"].as_array().unwrap().len(), 6);
    assert_eq!(run["total_tokens"], server.usage().0.total());
}
