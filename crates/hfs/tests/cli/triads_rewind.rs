//! Going back into the middle of a negotiation: every agent goes on as if nothing had happened since.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::cli::Hfs;
use testkit::model_server::well_formed_text;
use testkit::model_server::{ModelServer, Protocol, RecordedRequest, Script};

const FIRST: &str = "The first question?";
const SECOND: &str = "The second question?";
const THIRD: &str = "The third question?";

/// In the first round all triads but the one that is there for it leave a section; only the risks go on to the
/// second round, and to the arbiter. So nothing depends on whose answer comes first.
fn answer(asked: &RecordedRequest) -> String {
    let said = asked.last_turn();
    let text = well_formed_text(&said);
    if !said.contains(r#"{"decisions""#) {
        return text;
    }
    let homes = [
        ("voice", "summary"),
        ("framing", "understanding"),
        ("research", "evidence"),
        ("design", "options"),
        ("practice", "next steps"),
    ];
    let prompt = asked.prompt();
    let at_home = homes.iter().find(|(triad, _)| prompt.contains(&format!("of the triad {triad:?}")));
    let mut decided: Value = serde_json::from_str(&text).unwrap();
    for decision in decided["decisions"].as_array_mut().unwrap() {
        let holds = |section: &str| decision["section"] == section;
        if !holds("risks") && !at_home.is_some_and(|(_, section)| holds(section)) {
            decision["decision"] = "concede".into();
        }
    }
    decided.to_string()
}

/// Whether this is the second question's negotiation behind its first round.
fn is_behind_the_moment(asked: &RecordedRequest) -> bool {
    let said = asked.last_turn();
    said.contains("in round 2") && said.contains(&format!("<question>\n{SECOND}"))
}

fn binary(server: &ModelServer) -> Hfs {
    Hfs::new(env!("CARGO_BIN_EXE_hfs"))
        .env("HFS_AGENT", "triads")
        .env("HFS_TRIADS", "standard")
        .env("HFS_BASE_URL", server.url(Protocol::OpenAi))
        .env("HFS_PROVIDER", "openai")
        .env("HFS_MODEL", "test-model")
        .env("HFS_CHECKPOINT_RETENTION", "100")
}

/// What each agent was asked since `before`, in order; an agent is known by how its system prompt begins.
fn asked_since(server: &ModelServer, before: usize) -> BTreeMap<String, Vec<Value>> {
    let mut by_agent: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for asked in server.requests().split_off(before) {
        let who: String = asked.prompt().lines().next().unwrap_or_default().chars().take(60).collect();
        by_agent.entry(who).or_default().push(asked.body);
    }
    by_agent
}

/// Asks the third question in a new process, and gives what each agent was asked for it.
fn third(hfs: &Hfs, server: &ModelServer) -> BTreeMap<String, Vec<Value>> {
    let before = server.requests().len();
    let _ = hfs.run(&["chat", "-c", THIRD]).ok();
    asked_since(server, before)
}

/// The number and the state of the checkpoint that the first round's resolution of the second run made.
fn moment(hfs: &Hfs) -> (String, Value) {
    let list = hfs.run(&["checkpoint", "list", "@", "--json"]).ok().json();
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
fn after_a_rewind_into_a_negotiation_every_agent_is_asked_what_it_would_have_been_asked_then() {
    // What it would have been asked then: here the second run stops at that very moment.
    let server = ModelServer::start();
    server.otherwise(|asked| {
        if is_behind_the_moment(asked) { Script::silence() } else { Script::text(answer(asked)) }
    });
    let hfs = binary(&server);
    let _ = hfs.run(&["chat", FIRST]).ok();
    let running = hfs.command(&["chat", "-c", SECOND]).spawn();
    let deadline = Instant::now() + Duration::from_secs(50);
    while !server.requests().iter().any(is_behind_the_moment) {
        assert!(Instant::now() < deadline, "the second round was never held");
        std::thread::sleep(Duration::from_millis(5));
    }
    running.interrupt();
    let _ = running.wait().fails_with(130);
    let _ = hfs.run(&["checkpoint", "create", "@", "stopped"]).ok();
    let stopped = hfs.run(&["checkpoint", "show", "@", "stopped", "--state", "--json"]).ok().json();
    let expected = third(&hfs, &server);

    // Here it goes on to its end, and is gone back into afterwards.
    let server = ModelServer::start();
    server.otherwise(|asked| Script::text(answer(asked)));
    let hfs = binary(&server);
    let _ = hfs.run(&["chat", FIRST]).ok();
    let _ = hfs.run(&["chat", "-c", SECOND]).ok();
    let (number, state) = moment(&hfs);
    let memories = |state: &Value| state["agents"].as_object().unwrap().clone();
    let (now, then) = (memories(&state), memories(&stopped["state"]));
    assert_eq!(now.keys().collect::<Vec<_>>(), then.keys().collect::<Vec<_>>());
    assert!(now.len() >= 18);
    for (agent, memory) in &then {
        assert_eq!(now[agent], *memory, "{agent}");
    }
    let _ = hfs.run(&["rewind", "@", &number]).ok();
    let rewound = third(&hfs, &server);
    assert_eq!(rewound.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (who, asked) in &expected {
        assert_eq!(rewound[who], *asked, "{who}");
    }

    // Without the rewind they remember what came after: the comparison can fail.
    let _ = hfs.run(&["branch", "switch", "@", "main"]).ok();
    let later = third(&hfs, &server);
    assert_ne!(later, expected);
}
