//! Triads: runs, configuration, cancellation, and a rewind into the middle of a negotiation.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hfs_core::{Event, RunSnapshot};
use serde_json::Value;
use testkit::cli::{Hfs, Key};
use testkit::model_server::{ModelServer, Protocol, RecordedRequest, Script};
use testkit::model_server::{well_formed_answer, well_formed_text};

use crate::{scrubbed, shown, text};

const PHASES: [&str; 6] = ["deliberation", "claims", "negotiation", "freeze", "execution", "integration"];

/// The binary with triads on this model server.
fn triads_on(server: &ModelServer, protocol: Protocol) -> Hfs {
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

/// The binary with triads and no model.
fn triads_offline() -> Hfs {
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
fn on_either_protocol_the_reply_streams_and_usage_equals_the_servers_count() {
    for protocol in [Protocol::OpenAi, Protocol::Anthropic] {
        for (name, triads) in [("small", 2), ("standard", 6)] {
            let server = ModelServer::start();
            server.otherwise(well_formed_answer);
            let hfs = triads_on(&server, protocol);
            let output = hfs.run(&["chat", "--triads", name, "Is it safe?"]).ok();
            assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("The whole reply.\n", ""));
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
fn slow_failing_and_malformed_agents_do_not_stop_the_run() {
    for protocol in [Protocol::OpenAi, Protocol::Anthropic] {
        let server = ModelServer::start();
        let count = AtomicUsize::new(0);
        server.otherwise(move |asked| {
            let prompt = asked.prompt();
            if prompt.contains("You are critic of the triad") {
                return Script::status(400, "this agent is ill");
            }
            if prompt.contains("You are worker-2 of the triad") {
                return well_formed_answer(asked).after(Duration::from_millis(80));
            }
            if asked.last_turn().contains(r#"{"decisions""#) {
                return Script::text("I would rather not say {");
            }
            match count.fetch_add(1, Ordering::SeqCst) {
                0 => Script::status(503, "busy").header("retry-after", "0"),
                _ => well_formed_answer(asked),
            }
        });
        let hfs = triads_on(&server, protocol);
        let output = hfs.run(&["chat", "Is it safe?"]).ok();
        let note = output
            .stdout
            .strip_prefix("The whole reply.\n\n---\n\n*Written without testers/critic: ")
            .unwrap();
        assert!(note.contains("this agent is ill"), "{note}");
        let lines: Vec<&str> = output.stderr.lines().collect();
        assert!(lines[0].contains("503 service unavailable: busy; again "), "{}", output.describe());
        assert_eq!(lines[1..], ["warning: the triad testers continues without testers/critic"]);
        let run = hfs.run(&["run", "show", "@", "--json"]).ok().json()["run"].take();
        let snapshot = &run["snapshot"];
        assert_eq!(phases(snapshot), PHASES);
        assert_eq!(snapshot["usage"]["total_tokens"], server.usage().0.total(), "{protocol:?}");
        let errors = snapshot["errors"].as_array().unwrap();
        for expected in ["this agent is ill", "answered twice in a form that cannot be read"] {
            assert!(errors.iter().any(|error| error.as_str().unwrap().contains(expected)), "{errors:?}");
        }
        for section in snapshot["negotiation"]["sections"].as_array().unwrap() {
            assert_eq!(section["status"], "resolved");
        }
    }
}

#[test]
fn without_an_integrator_the_reply_the_warning_and_the_exit_code_say_so() {
    let server = ModelServer::start();
    server.otherwise(|asked| {
        let fails = asked.prompt().contains("You make one coherent reply");
        if fails { Script::status(400, "this agent is ill") } else { well_formed_answer(asked) }
    });
    let hfs = triads_on(&server, Protocol::OpenAi);
    let output = hfs.run(&["chat", "Is it safe?"]).fails_with(8);
    assert!(output.stdout.starts_with("## answer"), "{}", output.describe());
    assert!(output.stdout.contains("because the integrator failed"), "{}", output.describe());
    for words in ["the integrator could not finish the reply", "this agent is ill", "hfs run show"] {
        assert!(output.stderr.contains(words), "{}", output.describe());
    }
    assert_eq!(shown(&hfs, "@")["messages"][1]["status"], "interrupted");
}

#[test]
fn the_chat_document_contains_the_complete_run() {
    let server = ModelServer::start();
    server.otherwise(well_formed_answer);
    let hfs = triads_on(&server, Protocol::OpenAi);
    let output = hfs.run(&["chat", "--json", "Is it safe?"]).ok();
    let document = output.json();
    assert_eq!(output.stderr, "");
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
fn agents_remember_earlier_runs_of_the_session() {
    let server = ModelServer::start();
    server.otherwise(|asked| {
        let request = asked.last_turn();
        let is_for_critic = request.contains("Say what is wrong with this draft");
        Script::text(if is_for_critic { "XYZZY is missing.".to_owned() } else { well_formed_text(&request) })
    });
    let hfs = triads_on(&server, Protocol::OpenAi);
    let _ = hfs.run(&["chat", "The first question?"]).ok();
    let before = server.requests().len();
    let _ = hfs.run(&["chat", "-c", "The second question?"]).ok();
    let asked: Vec<RecordedRequest> = server.requests().split_off(before);
    let of = |who: &str| -> Vec<&RecordedRequest> {
        let who = format!("You are {who} of the triad");
        asked.iter().filter(|asked| asked.prompt().contains(&who)).collect()
    };
    let critic = of("critic").first().unwrap().prompt();
    let earlier = critic.find("XYZZY is missing.").unwrap();
    assert!(critic.find("The first question?").unwrap() < earlier, "{critic}");
    assert!(earlier < critic.find("The second question?").unwrap(), "{critic}");
    // The workers did not see the critique in the first run, so they do not remember it.
    for worker in ["worker-1", "worker-2", "orchestrator"] {
        for asked in of(worker) {
            assert!(!asked.prompt().contains("XYZZY"), "{worker}");
        }
    }
    // Agents of another session remember nothing of this one.
    let before = server.requests().len();
    let _ = hfs.run(&["chat", "A question elsewhere?"]).ok();
    let elsewhere = server.requests().split_off(before);
    assert!(!elsewhere.first().unwrap().prompt().contains("first question"));
}

/// The phases, and a text in the prompt of the request that hangs in each.
const HANGING_REQUESTS: [(&str, &str); 5] = [
    ("deliberation", "Take the question apart"),
    ("negotiation", "in round 1"),
    ("negotiation", "They could not agree"),
    ("execution", "Write the section"),
    ("integration", "Make one coherent reply"),
];

#[test]
fn ctrl_c_stops_a_run_in_any_phase_and_the_session_can_continue() {
    let mut quickest = Duration::MAX;
    for (phase, moment) in HANGING_REQUESTS {
        let server = ModelServer::start();
        let hangs = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&hangs);
        server.otherwise(move |asked| {
            if asked.last_turn().contains(moment) && !asked.last_turn().contains("And now?") {
                seen.fetch_add(1, Ordering::SeqCst);
                return Script::silence();
            }
            well_formed_answer(asked)
        });
        let hfs = triads_on(&server, Protocol::Anthropic);
        let running = hfs.command(&["chat", "Is it safe?"]).spawn();
        let deadline = Instant::now() + Duration::from_secs(50);
        while hangs.load(Ordering::SeqCst) == 0 {
            assert!(Instant::now() < deadline, "{moment}: no request arrived");
            std::thread::sleep(Duration::from_millis(5));
        }
        let asked = Instant::now();
        running.interrupt();
        let output = running.wait().fails_with(130);
        quickest = quickest.min(asked.elapsed());
        assert!(output.stderr.contains("cancelled"), "{}", output.describe());
        let run = hfs.run(&["run", "show", "@", "--json"]).ok().json()["run"].take();
        assert_eq!(run["ending"], "cancelled");
        assert_eq!(phases(&run["snapshot"]).last(), Some(&phase), "{moment}");
        assert_eq!(shown(&hfs, "@")["messages"][1]["status"], "interrupted");
        let output = hfs.run(&["chat", "-c", "And now?"]).ok();
        assert_eq!(output.stdout, "The whole reply.\n", "{moment}");
    }
    // The quickest of five, because a busy machine may delay any one of them.
    assert!(quickest < Duration::from_millis(200), "{quickest:?}");
}

#[test]
fn without_a_model_triads_reply_from_saved_sessions() {
    let hfs = triads_offline();
    let _ = hfs
        .command(&["chat", "The login fails because the clock of the server is wrong."])
        .env("HFS_AGENT", "recall")
        .run()
        .ok();
    for name in ["small", "standard"] {
        let output = hfs.run(&["chat", "--triads", name, "Why does the login fail?"]).ok();
        assert!(output.stdout.contains("the clock of the server is wrong"), "{}", output.describe());
        assert!(
            output.stderr.starts_with("triads: ") && output.stderr.contains("no provider's key"),
            "{}",
            output.describe()
        );
        let run = hfs.run(&["run", "show", "@", "--json"]).ok().json()["run"].take();
        assert_eq!(phases(&run["snapshot"]), PHASES);
        assert_eq!(run["total_tokens"], 0);
    }
    let asked = hfs.command(&["chat", "--triads", "small", "Why?"]).env("HFS_MODEL", "recall").run().ok();
    assert!(asked.stderr.contains("as configured"), "{}", asked.describe());
}

#[test]
fn a_run_is_listed_and_shown_with_agents_negotiation_tokens_and_time() {
    let hfs = triads_offline();
    let _ = hfs.run(&["-q", "chat", "Why does the login fail?"]).ok();
    let _ = hfs.command(&["-q", "chat", "-c", "And now?"]).env("HFS_AGENT", "recall").run().ok();
    // The width of a column depends on the durations, so each run of spaces is compared as one space.
    let listed = scrubbed(&hfs, &hfs.run(&["run", "list", "@"]).ok());
    let listed: Vec<String> =
        listed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    insta::assert_snapshot!(listed.join("\n"), @r#"
    # ID AGENT ENDING DURATION TOKENS STARTED ANSWERS
    1 [short-1] triads completed [duration] 0 [ago] Why does the login fail?
    2 [short-2] recall completed [duration] 0 [ago] And now?
    --- stderr
    "#);
    let output = hfs.run(&["run", "show", "@", "1"]).ok();
    // The lengths of the bars depend on the durations, so all bars are compared as dots.
    let bars = |text: String| text.replace(['█', '▏', '·'], "·");
    insta::assert_snapshot!(bars(scrubbed(&hfs, &output)), @r#"
    run         1 ([short-1]) of triads
    answers     message 1: Why does the login fail?
    started     [time] on main
    ended       completed after [duration]
    cost        0 tokens in 13 calls

    Agents
    AGENT           ROLE          STATUS    CALLS  IN  OUT  TOKENS  MODEL
    makers (hierarchical)
      orchestrator  orchestrator  complete      4   0    0       0  recall
      worker-1      worker        complete      1   0    0       0  recall
      worker-2      worker        complete      1   0    0       0  recall
    testers (dialectic)
      proposer      proposer      complete      2   0    0       0  recall
      critic        critic        complete      1   0    0       0  recall
      synthesizer   synthesizer   complete      3   0    0       0  recall
    integrator      integrator    complete      1   0    0       0  recall

    Answers  in full with -v
    AGENT                ANSWER                    TEXT
    makers/orchestrator  tasks                     - login - fail
    makers/worker-1      report                    No saved session is relevant to this.
    makers/worker-2      report                    No saved session is relevant to this.
    makers/orchestrator  position answer, reserv…  No saved session is relevant to the question.  Claims answer, reservations.
    testers/proposer     draft                     No saved session is relevant to this.
    testers/critic       critique                  No passage mentions login, fail.
    testers/proposer     draft                     No saved session is relevant to this.
    testers/synthesizer  position reservations, …  No saved session is relevant to the question.  Claims reservations, answer.
    makers/orchestrator  decision answer, reserv…  - answer: holds it: this triad is responsible for it - reservations: concedes it: another triad is …
    testers/synthesizer  decision answer, reserv…  - answer: concedes it: another triad is responsible for it - reservations: holds it: this triad is …
    makers/orchestrator  section answer            No saved session is relevant to this.
    testers/synthesizer  section reservations      No passage mentions login, fail.  No saved session is relevant to this.

    Negotiation  1 round at temperature 1.00
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
    assert!(newest.stderr.contains("1 older") && newest.stdout.lines().count() == 2, "{}", newest.describe());
    let _ = hfs.run(&["run", "show", "@", "3"]).fails_with(3);
    let events = hfs.run(&["run", "show", "@", "1", "--events"]).ok().stdout;
    assert!(events.contains("negotiation.resolved") && events.contains("run.ended"), "{events}");
}

#[test]
fn the_app_uses_the_triads_that_its_options_select() {
    let server = ModelServer::start();
    server.otherwise(well_formed_answer);
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

fn write(hfs: &Hfs, name: &str, text: &str) -> String {
    let path = hfs.project().join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    path.to_string_lossy().into_owned()
}

#[test]
fn a_triads_configuration_is_printed_edited_checked_and_used() {
    let hfs = triads_offline();
    let small = hfs.run(&["config", "triads", "small"]).ok().stdout;
    assert_eq!(hfs.run(&["config", "triads"]).ok().stdout, small, "small is the default");
    let mine = small
        .replace("makers", "doers")
        .replace("name: answer", "name: verdict")
        .replace("[answer]", "[verdict]");
    let path = write(&hfs, "mine.yaml", &mine);
    assert_eq!(hfs.run(&["config", "triads", "mine.yaml"]).ok().stdout, mine);
    let _ = hfs.run(&["config", "set", "triads", "mine.yaml"]).ok();
    let stored = hfs.run(&["config", "get", "triads"]).ok().stdout;
    assert!(stored.ends_with("mine.yaml\n") && stored.starts_with('/'), "{stored} {path}");
    let elsewhere = hfs.home();
    let run = hfs.command(&["chat", "--json", "Why?"]).in_folder(&elsewhere).run().ok().json();
    assert_eq!(run["run"]["snapshot"]["agent_tree"]["triads"][0]["triad_id"], "doers");
    assert_eq!(run["run"]["snapshot"]["negotiation"]["sections"][0]["name"], "verdict");
    let standard = hfs.run(&["config", "triads", "standard", "--json"]).ok().json();
    assert_eq!((&standard["agents"], &standard["path"]), (&18.into(), &Value::Null));
}

#[test]
fn an_invalid_triads_configuration_is_an_error_with_file_and_line() {
    let hfs = triads_offline();
    let small = hfs.run(&["config", "triads", "small"]).ok().stdout;
    write(&hfs, "bad.yaml", &small.replace("hierarchical", "anarchic"));
    let output = hfs.run(&["chat", "--triads", "bad.yaml", "Is it safe?"]).fails_with(6);
    insta::assert_snapshot!(scrubbed(&hfs, &output), @r#"
    --- stderr
    error: [project]/bad.yaml:14: triads[0].preset: "anarchic" is not a preset: expected hierarchical, dialectic or consensus
    hint: `hfs config triads standard` prints a valid configuration
    "#);
    write(&hfs, "worse.yaml", &small.replace("dialectic", "anarchic").replace("tokens: 60000", "tokens: 0"));
    let output = hfs.run(&["config", "set", "triads", "worse.yaml"]).fails_with(6);
    insta::assert_snapshot!(scrubbed(&hfs, &output), @r#"
    --- stderr
    error: [project]/worse.yaml has 3 mistakes
      because: [project]/worse.yaml:18: triads[0].budget.tokens: expected a number greater than 0
      because: [project]/worse.yaml:25: triads[1].preset: "anarchic" is not a preset: expected hierarchical, dialectic or consensus
      because: [project]/worse.yaml:29: triads[1].budget.tokens: expected a number greater than 0
    hint: `hfs config triads standard` prints a valid configuration
    "#);
    let json = hfs.run(&["chat", "--triads", "worse.yaml", "--json", "x"]).fails_with(6).json_error();
    assert_eq!((&json["kind"], json["causes"].as_array().unwrap().len()), (&"invalid".into(), 3));
    let output = hfs.run(&["chat", "--triads", "large", "Is it safe?"]).fails_with(6);
    insta::assert_snapshot!(scrubbed(&hfs, &output), @r#"
    --- stderr
    error: --triads: triads is "large", and there is no file [project]/large; expected small, standard, mixed or the path of a file
    "#);
    let _ = hfs.run(&["chat", "--agent", "unknown", "x"]).fails_with(2);
    write(&hfs, "secret.yaml", &format!("{small}\nmodel: sk-ant-0123456789abcdefgh\n"));
    let output = hfs.run(&["chat", "--triads", "secret.yaml", "x"]).fails_with(5);
    assert!(!output.stderr.contains("abcdefgh"), "{}", output.describe());
    assert_eq!(hfs.run(&["config", "get", "triads"]).ok().stdout, "small\n");
    assert_eq!(hfs.run(&["store", "info", "--json"]).ok().json()["sessions"], 0);
}

#[test]
fn each_role_uses_its_own_model_and_no_key_is_sent_to_another_provider() {
    let server = ModelServer::start();
    server.otherwise(well_formed_answer);
    let hfs = triads_on(&server, Protocol::OpenAi);
    let small = hfs.run(&["config", "triads", "small"]).ok().stdout;
    write(&hfs, "roles.yaml", &format!("{small}\nmodels:\n  critic: sharp\n  integrator: claude-like\n"));
    let _ = hfs.run(&["chat", "--triads", "roles.yaml", "Why?"]).ok();
    for asked in server.requests() {
        let prompt = asked.prompt();
        let expected = if prompt.contains("You are critic") {
            "sharp"
        } else if prompt.contains("You make one coherent reply") {
            // A server at a configured address may serve models with any name.
            "claude-like"
        } else {
            "test-model"
        };
        assert_eq!(asked.model(), expected);
    }
    write(&hfs, "other.yaml", &format!("{small}\nmodels:\n  critic: anthropic/claude-x\n"));
    let output = hfs.run(&["chat", "--triads", "other.yaml", "Why?"]).fails_with(5);
    assert!(
        output.stderr.contains("ANTHROPIC_API_KEY") && output.stderr.contains("other.yaml"),
        "{}",
        output.describe()
    );
}

#[test]
fn a_project_may_choose_triads_but_not_the_provider() {
    let server = ModelServer::start();
    server.otherwise(well_formed_answer);
    let hfs = triads_on(&server, Protocol::OpenAi).env("ANTHROPIC_API_KEY", "test-key-9876543210");
    let small = hfs.run(&["config", "triads", "small"]).ok().stdout;
    write(&hfs, ".hfs/team.yaml", &format!("{small}\nmodel: anthropic/claude-x\nmodels:\n  critic: sharp\n"));
    write(&hfs, ".hfs/config.yaml", "triads: team.yaml\n");
    let output = hfs.run(&["--trust", "chat", "Why?"]).ok();
    assert!(
        output.stderr.contains("a project may choose neither the provider nor an agent"),
        "{}",
        output.describe()
    );
    let models: BTreeSet<String> = server.requests().iter().map(RecordedRequest::model).collect();
    assert_eq!(models.into_iter().collect::<Vec<_>>(), ["sharp", "test-model"]);
}

const FIRST: &str = "The first question?";
const SECOND: &str = "The second question?";
const THIRD: &str = "The third question?";

/// Every triad concedes all sections except "risks" and its own section. So only "risks" is still contested in the
/// second round and goes to the arbiter, and the result does not depend on the order of the replies.
fn negotiating_reply(asked: &RecordedRequest) -> String {
    let request = asked.last_turn();
    let text = well_formed_text(&request);
    if !request.contains(r#"{"decisions""#) {
        return text;
    }
    let own_sections = [
        ("voice", "summary"),
        ("framing", "understanding"),
        ("research", "evidence"),
        ("design", "options"),
        ("practice", "next steps"),
    ];
    let prompt = asked.prompt();
    let own_section =
        own_sections.iter().find(|(triad, _)| prompt.contains(&format!("of the triad {triad:?}")));
    let mut decided: Value = serde_json::from_str(&text).unwrap();
    for decision in decided["decisions"].as_array_mut().unwrap() {
        let is_about = |section: &str| decision["section"] == section;
        if !is_about("risks") && !own_section.is_some_and(|(_, section)| is_about(section)) {
            decision["decision"] = "concede".into();
        }
    }
    decided.to_string()
}

/// Whether this request belongs to the second round of the second question's negotiation.
fn is_second_round(asked: &RecordedRequest) -> bool {
    let request = asked.last_turn();
    request.contains("in round 2") && request.contains(&format!("<question>\n{SECOND}"))
}

fn standard_triads_on(server: &ModelServer) -> Hfs {
    Hfs::new(env!("CARGO_BIN_EXE_hfs"))
        .env("HFS_AGENT", "triads")
        .env("HFS_TRIADS", "standard")
        .env("HFS_BASE_URL", server.url(Protocol::OpenAi))
        .env("HFS_PROVIDER", "openai")
        .env("HFS_MODEL", "test-model")
        .env("HFS_CHECKPOINT_RETENTION", "100")
}

/// The requests of each agent after the first `before` ones. An agent is identified by the start of its system prompt.
fn requests_by_agent(server: &ModelServer, before: usize) -> BTreeMap<String, Vec<Value>> {
    let mut by_agent: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for asked in server.requests().split_off(before) {
        let who: String = asked.prompt().lines().next().unwrap_or_default().chars().take(60).collect();
        by_agent.entry(who).or_default().push(asked.body);
    }
    by_agent
}

/// Sends the third question in a new process, and returns the requests of each agent.
fn ask_third(hfs: &Hfs, server: &ModelServer) -> BTreeMap<String, Vec<Value>> {
    let before = server.requests().len();
    let _ = hfs.run(&["chat", "-c", THIRD]).ok();
    requests_by_agent(server, before)
}

/// Number and state of the checkpoint that the second run created after its first round.
fn checkpoint_after_first_round(hfs: &Hfs) -> (String, Value) {
    let list = hfs.run(&["checkpoint", "list", "@", "--json"]).ok().json();
    // The second question is message 3.
    let made = list["checkpoints"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|checkpoint| checkpoint["trigger"] == "negotiation.resolved" && checkpoint["seq"] == 3);
    let states = made.map(|checkpoint| {
        let number = checkpoint["number"].to_string();
        let shown = hfs.run(&["checkpoint", "show", "@", &number, "--state", "--json"]).ok().json();
        (number, shown["state"].clone())
    });
    let in_round_1 = |(_, state): &(String, Value)| state["run_snapshot"]["negotiation"]["round"] == 1;
    states.into_iter().find(in_round_1).unwrap()
}

#[test]
fn after_a_rewind_into_a_negotiation_agents_remember_only_the_run_up_to_the_checkpoint() {
    // The expected requests: in this home the second run stops at the second round.
    let server = ModelServer::start();
    server.otherwise(|asked| {
        if is_second_round(asked) { Script::silence() } else { Script::text(negotiating_reply(asked)) }
    });
    let hfs = standard_triads_on(&server);
    let _ = hfs.run(&["chat", FIRST]).ok();
    let running = hfs.command(&["chat", "-c", SECOND]).spawn();
    let deadline = Instant::now() + Duration::from_secs(50);
    while !server.requests().iter().any(is_second_round) {
        assert!(Instant::now() < deadline, "the second round never started");
        std::thread::sleep(Duration::from_millis(5));
    }
    running.interrupt();
    let _ = running.wait().fails_with(130);
    let _ = hfs.run(&["checkpoint", "create", "@", "stopped"]).ok();
    let stopped = hfs.run(&["checkpoint", "show", "@", "stopped", "--state", "--json"]).ok().json();
    let expected = ask_third(&hfs, &server);

    // In this home the second run completes, and a rewind goes back into it.
    let server = ModelServer::start();
    server.otherwise(|asked| Script::text(negotiating_reply(asked)));
    let hfs = standard_triads_on(&server);
    let _ = hfs.run(&["chat", FIRST]).ok();
    let _ = hfs.run(&["chat", "-c", SECOND]).ok();
    let (number, state) = checkpoint_after_first_round(&hfs);
    let memories = |state: &Value| state["agents"].as_object().unwrap().clone();
    let (now, then) = (memories(&state), memories(&stopped["state"]));
    assert_eq!(now.keys().collect::<Vec<_>>(), then.keys().collect::<Vec<_>>());
    assert!(now.len() >= 18);
    for (agent, memory) in &then {
        assert_eq!(now[agent], *memory, "{agent}");
    }
    let _ = hfs.run(&["rewind", "@", &number]).ok();
    let rewound = ask_third(&hfs, &server);
    assert_eq!(rewound.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (who, asked) in &expected {
        assert_eq!(rewound[who], *asked, "{who}");
    }

    // Without the rewind the agents remember the whole run, so the comparison above can fail.
    let _ = hfs.run(&["branch", "switch", "@", "main"]).ok();
    let later = ask_third(&hfs, &server);
    assert_ne!(later, expected);
}
