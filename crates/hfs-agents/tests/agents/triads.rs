//! Runs with triads against a model server that plays all agents.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use hfs_agents::{ModelConfig, TriadModels, Triads, TriadsConfig};
use hfs_core::{
    AgentError, AgentStatus, ClaimDecision, Event, EventPayload, MessageDraft, Part, Role, RunId,
    RunSnapshot, SectionStatus, Timestamp,
};
use testkit::model_server::{ModelServer, Protocol, Recorded, Script};

use crate::support::{Heard, arrived, config, question, request, run, run_and_cancel};
use testkit::agents::{sound_answer, sound_text};

pub const PHASES: [&str; 6] = ["deliberation", "claims", "negotiation", "freeze", "execution", "integration"];

/// Triads on the server's model, with the small configuration unless another is given.
pub fn triads(server: &ModelServer, protocol: Protocol, yaml: &str) -> Triads {
    on(config(server, protocol), yaml)
}

pub fn on(model: ModelConfig, yaml: &str) -> Triads {
    let config = TriadsConfig::from_yaml(yaml).unwrap();
    Triads::new(config, TriadModels::Online { default: model, named: BTreeMap::new() }).unwrap()
}

/// The snapshot that the events fold into.
pub fn folded(heard: &Heard) -> RunSnapshot {
    let run = RunId::generate();
    let payloads = heard.events.lock().unwrap().clone();
    let events: Vec<Event> = (1..)
        .zip(payloads)
        .map(|(number, payload)| Event { run, number, at: Timestamp::UNIX_EPOCH, payload })
        .collect();
    RunSnapshot::fold(&events)
}

/// Nothing is left open: every phase ended, and nobody works.
pub fn assert_closed(heard: &Heard) {
    let snapshot = folded(heard);
    for phase in &snapshot.timeline.phases {
        assert!(phase.duration_ms.is_some(), "{} is open", phase.name);
    }
    let tree = &snapshot.agent_tree;
    let agents = tree.triads.iter().flat_map(|triad| &triad.agents).chain(&tree.agents);
    for agent in agents {
        assert_ne!(agent.status, AgentStatus::Working, "{} still works", agent.agent_id);
    }
}

fn phases(snapshot: &RunSnapshot) -> Vec<&str> {
    snapshot.timeline.phases.iter().map(|phase| phase.name.as_str()).collect()
}

#[tokio::test]
async fn a_run_ends_with_a_reply_all_events_and_usage_that_adds_up_to_what_the_server_counted() {
    for protocol in [Protocol::OpenAi, Protocol::Anthropic] {
        for yaml in [TriadsConfig::SMALL, TriadsConfig::STANDARD] {
            let server = ModelServer::start();
            server.otherwise(sound_answer);
            let (heard, outcome) =
                run(&triads(&server, protocol, yaml), question("Why is the sky blue?")).await;
            let outcome = outcome.unwrap_or_else(|error| panic!("{protocol:?}: {error}"));
            assert_eq!(outcome.parts, [Part::text("The whole reply.")]);
            assert_eq!(heard.text(), "The whole reply.");
            assert_eq!(heard.errors(), [] as [&str; 0]);

            let snapshot = folded(&heard);
            assert_eq!(phases(&snapshot), PHASES);
            assert_closed(&heard);
            let (counted, calls) = server.usage();
            assert_eq!(snapshot.usage.total_tokens, counted.total(), "{protocol:?}");
            assert_eq!(outcome.usage, Some(counted));
            assert_eq!(snapshot.usage.by_agent.values().map(|count| count.calls).sum::<u64>(), calls);
            assert!(
                ["deliberation", "execution", "integration"].iter().all(|phase| snapshot.usage.by_phase
                    [*phase]
                    .usage
                    .total()
                    > 0)
            );

            let config = TriadsConfig::from_yaml(yaml).unwrap();
            assert_eq!(snapshot.agent_tree.triads.len(), config.triads.len());
            assert!(snapshot.agent_tree.triads.iter().all(|triad| triad.agents.len() == 3));
            let owned: BTreeSet<&str> =
                snapshot.negotiation.sections.iter().map(|section| section.name.as_str()).collect();
            assert_eq!(owned.len(), config.sections.len());
            for section in &snapshot.negotiation.sections {
                assert_eq!((section.status, section.owners.len()), (SectionStatus::Resolved, 1));
            }
            assert_eq!(outcome.extra["sections"].as_object().unwrap().len(), config.sections.len());
        }
    }
}

#[tokio::test]
async fn what_both_triads_hold_goes_to_the_arbiter_after_two_rounds() {
    let server = ModelServer::start();
    server.otherwise(sound_answer);
    let (heard, outcome) =
        run(&triads(&server, Protocol::OpenAi, TriadsConfig::SMALL), question("Why?")).await;
    assert!(outcome.is_ok());
    let snapshot = folded(&heard);
    for section in &snapshot.negotiation.sections {
        let temperatures: Vec<f64> = section.contests.iter().map(|contest| contest.temperature).collect();
        assert_eq!(temperatures, [1.0, 0.85], "{}", section.name);
        assert!(section.contests.iter().all(|contest| {
            contest.decisions.len() == 2
                && contest.decisions.values().all(|decision| *decision == ClaimDecision::Hold)
        }));
        assert_eq!(section.owners, [section.claimants[1].clone()]);
        assert_eq!(section.arbiter.as_ref().unwrap().reason, "it is last");
    }
    let asked = server.requests();
    let arbiter = asked.iter().find(|asked| asked.prompt().contains("You are the arbiter")).unwrap();
    assert_eq!((&arbiter.body["max_tokens"], &arbiter.body["temperature"]), (&1024.into(), &0.3.into()));
    let round = asked.iter().find(|asked| asked.last_turn().contains("in round 2")).unwrap();
    assert_eq!(round.body["temperature"], 0.85);
}

#[tokio::test]
async fn a_section_that_is_split_or_merged_is_written_whole() {
    let server = ModelServer::start();
    server.otherwise(|asked| {
        let prompt = asked.last_turn();
        Script::text(if prompt.contains(r#"{"decision":"#) && prompt.contains("\"answer\" (") {
            r#"{"decision": "split", "reason": "both know some",
                "shares": [{"triad": "testers", "part": "all"}, {"triad": "makers", "part": "the how"}]}"#
                .to_owned()
        } else if prompt.contains(r#"{"decision":"#) {
            r#"{"decision": "merge", "into": "answer", "reason": "it belongs there"}"#.to_owned()
        } else if prompt.contains("Write this part") {
            "PART-HOW".to_owned()
        } else if prompt.contains("Write the section \"answer\"") {
            assert!(prompt.contains("Leave out, since another triad writes it: the how"), "{prompt}");
            assert!(prompt.contains("Treat \"reservations\" in it, too"), "{prompt}");
            "LEAD".to_owned()
        } else {
            sound_text(&prompt)
        })
    });
    let (heard, outcome) =
        run(&triads(&server, Protocol::Anthropic, TriadsConfig::SMALL), question("Why?")).await;
    let outcome = outcome.unwrap();
    assert_eq!(outcome.extra["sections"]["answer"], serde_json::json!(["testers", "makers"]));
    assert_eq!(outcome.extra["sections"]["reservations"], serde_json::json!(["testers"]));
    let integration = server.requests().pop().unwrap().last_turn();
    assert!(integration.contains("## answer\n\nLEAD\n\nPART-HOW"), "{integration}");
    assert!(!integration.contains("## reservations"), "{integration}");
    assert_eq!(heard.errors(), [] as [&str; 0]);
}

#[tokio::test]
async fn every_agent_remembers_its_own_part_and_a_later_run_starts_from_it() {
    let server = ModelServer::start();
    server.otherwise(sound_answer);
    let agent = triads(&server, Protocol::OpenAi, TriadsConfig::SMALL);
    let (heard, _) = run(&agent, question("First question?")).await;
    let memories = heard.memories.into_inner().unwrap();
    let everyone: Vec<&str> = memories.keys().map(String::as_str).collect();
    assert_eq!(
        everyone,
        [
            "arbiter",
            "integrator",
            "makers/orchestrator",
            "makers/worker-1",
            "makers/worker-2",
            "testers/critic",
            "testers/proposer",
            "testers/synthesizer"
        ]
    );
    assert!(
        memories["testers/critic"]
            .read::<Vec<MemoryEntry>>()
            .unwrap()
            .iter()
            .any(|entry| entry.text.contains("First question?"))
    );

    let mut next = question("Second question?");
    next.memories = memories;
    let secret = MemoryEntry { role: Role::Assistant, text: "only the critic knows XYZZY".into() };
    let memory = next.memories.get_mut("testers/critic").unwrap();
    let mut entries: Vec<MemoryEntry> = memory.read().unwrap();
    entries.push(secret);
    *memory = hfs_core::AgentMemory::new(&entries).unwrap();
    let before = server.requests().len();
    let (_, outcome) = run(&agent, next).await;
    assert!(outcome.is_ok());
    let told: Vec<String> = server.requests()[before..]
        .iter()
        .map(Recorded::prompt)
        .filter(|prompt| prompt.contains("XYZZY"))
        .collect();
    assert!(!told.is_empty());
    assert!(told.iter().all(|prompt| prompt.contains("You are critic of the triad \"testers\"")), "{told:?}");
}

#[tokio::test]
async fn a_memory_is_there_before_the_event_that_shows_it() {
    #[derive(Default)]
    struct Watch(Heard);
    impl hfs_core::RunSink for Watch {
        fn event(&self, payload: EventPayload) {
            if let EventPayload::UsageRecorded { agent, .. } = &payload {
                assert!(self.0.memories.lock().unwrap().contains_key(agent), "{agent}");
            }
            self.0.event(payload);
        }
        fn reply(&self, delta: hfs_core::ReplyDelta) {
            self.0.reply(delta);
        }
        fn remember(&self, agent: &str, memory: hfs_core::AgentMemory) {
            self.0.remember(agent, memory);
        }
    }
    let server = ModelServer::start();
    server.otherwise(sound_answer);
    let watch = Watch::default();
    let agent = triads(&server, Protocol::OpenAi, TriadsConfig::SMALL);
    let outcome = hfs_core::Agent::run(&agent, question("Why?"), &watch).await;
    assert!(outcome.is_ok());
    assert!(watch.0.kinds().contains(&"usage.recorded".to_owned()));
}

#[tokio::test]
async fn each_role_uses_its_own_model() {
    let server = ModelServer::start();
    server.otherwise(sound_answer);
    let yaml = format!("{}\nmodels:\n  critic: sharp\n  integrator: eloquent\n", TriadsConfig::SMALL);
    let config_of = |name: &str| ModelConfig { model: name.into(), ..config(&server, Protocol::OpenAi) };
    let parsed = TriadsConfig::from_yaml(&yaml).unwrap();
    let names: BTreeMap<String, ModelConfig> =
        parsed.model_names().into_iter().map(|name| (name.to_owned(), config_of(name))).collect();
    assert_eq!(names.keys().collect::<Vec<_>>(), ["eloquent", "sharp"]);
    let missing = TriadModels::Online { default: config_of("plain"), named: BTreeMap::new() };
    assert!(Triads::new(parsed.clone(), missing).is_err());
    let models = TriadModels::Online { default: config_of("plain"), named: names };
    let (_, outcome) = run(&Triads::new(parsed, models).unwrap(), question("Why?")).await;
    assert_eq!(outcome.unwrap().model.as_deref(), Some("eloquent"));
    for asked in server.requests() {
        let prompt = asked.prompt();
        let expected = if prompt.contains("You are critic") {
            "sharp"
        } else if prompt.contains("You make one coherent reply") {
            "eloquent"
        } else {
            "plain"
        };
        assert_eq!(asked.model(), expected);
    }
}

#[tokio::test]
async fn the_system_prompt_is_told_to_every_agent() {
    let server = ModelServer::start();
    server.otherwise(sound_answer);
    let model = ModelConfig {
        system_prompt: Some("Answer in rhymes.".into()),
        ..config(&server, Protocol::Anthropic)
    };
    let agent = on(model, TriadsConfig::SMALL).chosen_because("as a test has it");
    assert!(hfs_core::Agent::describe(&agent).summary.ends_with("on test-model, as a test has it"));
    let (_, outcome) = run(&agent, question("Why?")).await;
    assert!(outcome.is_ok());
    assert!(server.requests().iter().all(|asked| asked.prompt().contains("Answer in rhymes.")));
}

#[tokio::test]
async fn what_was_said_before_the_question_is_part_of_it() {
    let server = ModelServer::start();
    server.otherwise(sound_answer);
    let at = Timestamp::UNIX_EPOCH;
    let history = vec![
        MessageDraft::user("My name is Ishmael.", at),
        MessageDraft::new(Role::Assistant, vec![Part::text("Hello.")], at),
        MessageDraft::user("What is my name?", at),
    ];
    let (_, outcome) = run(&triads(&server, Protocol::OpenAi, TriadsConfig::SMALL), request(history)).await;
    assert!(outcome.is_ok());
    assert!(server.requests().iter().filter(|asked| asked.prompt().contains("Ishmael")).count() > 5);
}

#[tokio::test]
async fn agents_of_all_triads_work_at_the_same_time() {
    let server = ModelServer::start();
    server.otherwise(|_| Script::silence());
    let agent = triads(&server, Protocol::OpenAi, TriadsConfig::STANDARD);
    // Nobody is answered, so only what does not wait for each other is asked: two times three peers, two
    // orchestrators and two proposers.
    let asked = async |_: &Heard| {
        tokio::time::timeout(Duration::from_secs(60), arrived(&server, 10)).await.unwrap();
    };
    let (_, outcome, _) = run_and_cancel(&agent, question("Why?"), asked).await;
    assert!(matches!(outcome, Err(AgentError::Cancelled)));
    assert_eq!(server.requests().len(), 10);
}
