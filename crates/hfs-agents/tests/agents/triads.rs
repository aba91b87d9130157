//! Runs with triads on a model server that answers for all agents, cancelled runs, and runs on saved sessions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use hfs_agents::{MemoryEntry, ModelConfig, TriadModel, TriadModels, Triads, TriadsConfig};
use hfs_core::{
    Agent, AgentDescription, AgentError, AgentMemory, AgentStatus, ClaimDecision, CompletedMessage, Event,
    EventPayload, MessageDraft, NotPersisted, Part, ReplyDelta, Role, RunId, RunOutcome, RunRequest, RunSink,
    RunSnapshot, SectionStatus, Store, Timestamp, ToolEvent, Usage,
};
use testkit::model_server::{ModelServer, Protocol, RecordedRequest, Script};
use testkit::model_server::{well_formed_answer, well_formed_text};
use tokio_util::sync::CancellationToken;

use crate::recall::{empty_store, store_with_two_sessions};
use crate::{
    CANCEL_DEADLINE, RecordingSink, config, question, request, run, run_and_cancel, wait_for_requests,
};

pub const PHASES: [&str; 6] = ["deliberation", "claims", "negotiation", "freeze", "execution", "integration"];

/// Triads on a model of the server.
pub fn triads(server: &ModelServer, protocol: Protocol, yaml: &str) -> Triads {
    triads_on(config(server, protocol), yaml)
}

pub fn triads_on(model: ModelConfig, yaml: &str) -> Triads {
    let config = TriadsConfig::from_yaml(yaml).unwrap();
    Triads::new(config, TriadModels::Online { default: model.into(), named: BTreeMap::new() }).unwrap()
}

/// The snapshot that results from the events.
pub fn snapshot_of(sink: &RecordingSink) -> RunSnapshot {
    let run = RunId::generate();
    let payloads = sink.events.lock().unwrap().clone();
    let events: Vec<Event> = (1..)
        .zip(payloads)
        .map(|(number, payload)| Event { run, number, at: Timestamp::UNIX_EPOCH, payload })
        .collect();
    RunSnapshot::fold(&events)
}

/// Asserts that every phase has ended and no agent is working.
pub fn assert_closed(sink: &RecordingSink) {
    let snapshot = snapshot_of(sink);
    for phase in &snapshot.timeline.phases {
        assert!(phase.duration_ms.is_some(), "{} is open", phase.name);
    }
    let tree = &snapshot.agent_tree;
    let agents = tree.triads.iter().flat_map(|triad| &triad.agents).chain(&tree.agents);
    for agent in agents {
        assert_ne!(agent.status, AgentStatus::Working, "{} is still working", agent.agent_id);
    }
}

fn phases(snapshot: &RunSnapshot) -> Vec<&str> {
    snapshot.timeline.phases.iter().map(|phase| phase.name.as_str()).collect()
}

#[tokio::test]
async fn a_run_ends_with_a_reply_and_its_usage_is_what_the_server_counted() {
    for protocol in [Protocol::OpenAi, Protocol::Anthropic] {
        for yaml in [TriadsConfig::SMALL, TriadsConfig::STANDARD] {
            let server = ModelServer::start();
            server.otherwise(well_formed_answer);
            let (sink, outcome) =
                run(&triads(&server, protocol, yaml), question("Why is the sky blue?")).await;
            let outcome = outcome.unwrap_or_else(|error| panic!("{protocol:?}: {error}"));
            assert_eq!(outcome.message.parts, [Part::text("The whole reply.")]);
            assert_eq!(sink.text(), "The whole reply.");
            assert_eq!(sink.errors(), [] as [&str; 0]);

            let snapshot = snapshot_of(&sink);
            assert_eq!(phases(&snapshot), PHASES);
            assert_closed(&sink);
            let (counted, calls) = server.usage();
            assert_eq!(snapshot.usage.total_tokens, counted.total(), "{protocol:?}");
            assert_eq!(outcome.message.usage, Some(counted));
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
            assert_eq!(
                outcome.message.extra.get("sections").unwrap().as_object().unwrap().len(),
                config.sections.len()
            );
        }
    }
}

#[tokio::test]
async fn a_section_that_two_triads_hold_goes_to_the_arbiter_after_two_rounds() {
    let server = ModelServer::start();
    server.otherwise(well_formed_answer);
    let (sink, outcome) =
        run(&triads(&server, Protocol::OpenAi, TriadsConfig::SMALL), question("Why?")).await;
    assert!(outcome.is_ok());
    let snapshot = snapshot_of(&sink);
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
    let requests = server.requests();
    let arbiter = requests.iter().find(|request| request.prompt().contains("You are the arbiter")).unwrap();
    assert_eq!((&arbiter.body["max_tokens"], &arbiter.body["temperature"]), (&1024.into(), &0.3.into()));
    let round = requests.iter().find(|request| request.last_turn().contains("in round 2")).unwrap();
    assert_eq!(round.body["temperature"], 0.85);
}

#[tokio::test]
async fn all_parts_of_split_and_merged_sections_are_written() {
    let server = ModelServer::start();
    server.otherwise(|request| {
        let prompt = request.last_turn();
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
            assert!(prompt.contains("Also cover \"reservations\" in this section"), "{prompt}");
            "LEAD".to_owned()
        } else {
            well_formed_text(&prompt)
        })
    });
    let (sink, outcome) =
        run(&triads(&server, Protocol::Anthropic, TriadsConfig::SMALL), question("Why?")).await;
    let outcome = outcome.unwrap();
    assert_eq!(
        outcome.message.extra.get("sections").unwrap()["answer"],
        serde_json::json!(["testers", "makers"])
    );
    assert_eq!(
        outcome.message.extra.get("sections").unwrap()["reservations"],
        serde_json::json!(["testers"])
    );
    let integration = server.requests().pop().unwrap().last_turn();
    assert!(integration.contains("## answer\n\nLEAD\n\nPART-HOW"), "{integration}");
    assert!(!integration.contains("## reservations"), "{integration}");
    assert_eq!(sink.errors(), [] as [&str; 0]);
}

#[tokio::test]
async fn every_agent_has_its_own_memory_and_a_later_run_continues_with_it() {
    let server = ModelServer::start();
    server.otherwise(well_formed_answer);
    let agent = triads(&server, Protocol::OpenAi, TriadsConfig::SMALL);
    let (sink, _) = run(&agent, question("First question?")).await;
    let memories = sink.memories.into_inner().unwrap();
    let agents: Vec<&str> = memories.keys().map(String::as_str).collect();
    assert_eq!(
        agents,
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
    let mut critic: Vec<MemoryEntry> = memories["testers/critic"].read().unwrap();
    assert!(critic.iter().any(|entry| entry.text.contains("First question?")));

    let mut next = question("Second question?");
    next.memories = memories;
    critic.push(MemoryEntry { role: Role::Assistant, text: "only the critic knows XYZZY".into() });
    next.memories.insert("testers/critic".to_owned(), AgentMemory::new(&critic).unwrap());
    let before = server.requests().len();
    let (_, outcome) = run(&agent, next).await;
    assert!(outcome.is_ok());
    let prompts: Vec<String> = server.requests()[before..]
        .iter()
        .map(RecordedRequest::prompt)
        .filter(|prompt| prompt.contains("XYZZY"))
        .collect();
    assert!(!prompts.is_empty());
    assert!(
        prompts.iter().all(|prompt| prompt.contains("You are critic of the triad \"testers\"")),
        "{prompts:?}"
    );
}

#[tokio::test]
async fn a_memory_is_stored_before_the_usage_event_of_the_same_call() {
    #[derive(Default)]
    struct CheckingSink(RecordingSink);
    #[async_trait]
    impl RunSink for CheckingSink {
        fn event(&self, payload: EventPayload) {
            if let EventPayload::UsageRecorded { agent, .. } = &payload {
                assert!(self.0.memories.lock().unwrap().contains_key(agent), "{agent}");
            }
            self.0.event(payload);
        }
        fn reply(&self, delta: ReplyDelta) {
            self.0.reply(delta);
        }
        fn next_message(&self, completed: CompletedMessage, next: Role) {
            self.0.next_message(completed, next);
        }
        async fn persist(&self) -> Result<(), NotPersisted> {
            self.0.persist().await
        }
        fn remember(&self, agent: &str, memory: AgentMemory) {
            self.0.remember(agent, memory);
        }
    }
    let server = ModelServer::start();
    server.otherwise(well_formed_answer);
    let sink = CheckingSink::default();
    let agent = triads(&server, Protocol::OpenAi, TriadsConfig::SMALL);
    let outcome = Agent::run(&agent, question("Why?"), &sink).await;
    assert!(outcome.is_ok());
    assert!(sink.0.kinds().contains(&"usage.recorded".to_owned()));
}

#[tokio::test]
async fn each_role_uses_its_own_model() {
    let server = ModelServer::start();
    server.otherwise(well_formed_answer);
    let yaml = format!("{}\nmodels:\n  critic: sharp\n  integrator: eloquent\n", TriadsConfig::SMALL);
    let config_of = |name: &str| ModelConfig { model: name.into(), ..config(&server, Protocol::OpenAi) };
    let parsed = TriadsConfig::from_yaml(&yaml).unwrap();
    let named: BTreeMap<String, TriadModel> =
        parsed.model_names().into_iter().map(|name| (name.to_owned(), config_of(name).into())).collect();
    assert_eq!(named.keys().collect::<Vec<_>>(), ["eloquent", "sharp"]);
    let missing = TriadModels::Online { default: config_of("plain").into(), named: BTreeMap::new() };
    assert!(Triads::new(parsed.clone(), missing).is_err());
    let models = TriadModels::Online { default: config_of("plain").into(), named };
    let (_, outcome) = run(&Triads::new(parsed, models).unwrap(), question("Why?")).await;
    assert_eq!(outcome.unwrap().message.model.as_deref(), Some("eloquent"));
    for request in server.requests() {
        let prompt = request.prompt();
        let expected = if prompt.contains("You are critic") {
            "sharp"
        } else if prompt.contains("You make one coherent reply") {
            "eloquent"
        } else {
            "plain"
        };
        assert_eq!(request.model(), expected);
    }
}

#[tokio::test]
async fn the_system_prompt_is_sent_to_every_agent() {
    let server = ModelServer::start();
    server.otherwise(well_formed_answer);
    let model = ModelConfig {
        system_prompt: Some("Answer in rhymes.".into()),
        ..config(&server, Protocol::Anthropic)
    };
    let agent = triads_on(model, TriadsConfig::SMALL).with_selection_reason("as configured in a test");
    assert!(Agent::describe(&agent).summary.ends_with("on test-model, as configured in a test"));
    let (_, outcome) = run(&agent, question("Why?")).await;
    assert!(outcome.is_ok());
    assert!(server.requests().iter().all(|asked| asked.prompt().contains("Answer in rhymes.")));
}

#[tokio::test]
async fn the_conversation_before_the_question_is_sent_to_the_agents() {
    let server = ModelServer::start();
    server.otherwise(well_formed_answer);
    let at = Timestamp::UNIX_EPOCH;
    let history = vec![
        MessageDraft::user("My name is Ishmael.", at),
        MessageDraft::new(Role::Assistant, vec![Part::text("Hello.")], at),
        MessageDraft::user("What is my name?", at),
    ];
    let (_, outcome) = run(&triads(&server, Protocol::OpenAi, TriadsConfig::SMALL), request(history)).await;
    assert!(outcome.is_ok());
    assert!(server.requests().iter().filter(|request| request.prompt().contains("Ishmael")).count() > 5);
}

#[tokio::test]
async fn agents_of_all_triads_work_in_parallel() {
    let server = ModelServer::start();
    server.otherwise(|_| Script::silence());
    let agent = triads(&server, Protocol::OpenAi, TriadsConfig::STANDARD);
    // Without any answer, only the first step of each triad is requested: three peers of two triads, two
    // orchestrators and two proposers.
    let all_requested = async |_: &RecordingSink| {
        tokio::time::timeout(Duration::from_secs(60), wait_for_requests(&server, 10)).await.unwrap();
    };
    let (_, outcome, _) = run_and_cancel(&agent, question("Why?"), all_requested).await;
    assert!(matches!(outcome, Err(AgentError::Cancelled)));
    assert_eq!(server.requests().len(), 10);
}

/// Phases, each with a text that identifies one of its prompts. The server never answers this prompt.
const UNANSWERED_PROMPTS: [(&str, &str); 5] = [
    ("deliberation", "Take the question apart"),
    ("deliberation", "Draft what your triad should hold"),
    ("negotiation", "in round 1"),
    ("execution", "Write the section"),
    ("integration", "Make one coherent reply"),
];

#[tokio::test]
async fn a_run_can_be_cancelled_in_every_phase() {
    for protocol in [Protocol::OpenAi, Protocol::Anthropic] {
        for (phase, prompt) in UNANSWERED_PROMPTS {
            let server = ModelServer::start();
            let reached = Arc::new(AtomicUsize::new(0));
            let counter = Arc::clone(&reached);
            server.otherwise(move |request| {
                if request.last_turn().contains(prompt) {
                    counter.fetch_add(1, Ordering::SeqCst);
                    return Script::silence();
                }
                well_formed_answer(request)
            });
            let agent = triads(&server, protocol, TriadsConfig::SMALL);
            let (sink, outcome, took) = run_and_cancel(&agent, question("Why?"), async |_| {
                while reached.load(Ordering::SeqCst) == 0 {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            })
            .await;
            assert!(matches!(outcome, Err(AgentError::Cancelled)), "{prompt}: {outcome:?}");
            assert!(took < CANCEL_DEADLINE, "{prompt}: {took:?}");
            let snapshot = snapshot_of(&sink);
            assert_eq!(snapshot.timeline.phases.last().map(|span| span.name.as_str()), Some(phase));
            assert_closed(&sink);
            assert_eq!(sink.errors(), [] as [&str; 0], "{prompt}");
        }
    }
}

#[tokio::test]
async fn a_run_can_be_cancelled_between_phases_and_before_the_first() {
    let server = ModelServer::start();
    server.otherwise(well_formed_answer);
    let agent = triads(&server, Protocol::OpenAi, TriadsConfig::SMALL);
    let request = question("Why?");
    request.cancel.cancel();
    let (sink, outcome) = run(&agent, request).await;
    assert!(matches!(outcome, Err(AgentError::Cancelled)));
    assert_eq!(sink.kinds(), [] as [&str; 0]);
    assert!(server.requests().is_empty());
    for phase in PHASES {
        let agent = triads(&server, Protocol::OpenAi, TriadsConfig::SMALL);
        let request = question("Why?");
        let sink = CancellingSink { inner: RecordingSink::default(), phase, cancel: request.cancel.clone() };
        let outcome = Agent::run(&agent, request, &sink).await;
        assert!(matches!(outcome, Err(AgentError::Cancelled)), "{phase}: {outcome:?}");
        assert_closed(&sink.inner);
    }
}

/// Cancels the run when a phase starts.
struct CancellingSink {
    inner: RecordingSink,
    phase: &'static str,
    cancel: CancellationToken,
}

#[async_trait]
impl RunSink for CancellingSink {
    fn event(&self, payload: EventPayload) {
        if matches!(&payload, EventPayload::PhaseStarted { phase } if phase == self.phase) {
            self.cancel.cancel();
        }
        self.inner.event(payload);
    }

    fn reply(&self, delta: ReplyDelta) {
        self.inner.reply(delta);
    }

    fn next_message(&self, completed: CompletedMessage, next: Role) {
        self.inner.next_message(completed, next);
    }

    async fn persist(&self) -> Result<(), NotPersisted> {
        self.inner.persist().await
    }

    fn remember(&self, agent: &str, memory: AgentMemory) {
        self.inner.remember(agent, memory);
    }
}

#[tokio::test]
async fn a_cancelled_run_closes_its_connections() {
    let server = ModelServer::start();
    server.otherwise(|_| Script::text("half").then_hang());
    let agent = triads(&server, Protocol::OpenAi, TriadsConfig::SMALL);
    let (_, outcome, _) =
        run_and_cancel(&agent, question("Why?"), async |_| wait_for_requests(&server, 2).await).await;
    assert!(matches!(outcome, Err(AgentError::Cancelled)));
    tokio::time::timeout(Duration::from_secs(10), async {
        while server.open_streams() > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await
    .unwrap();
}

fn offline(store: &Arc<dyn Store>, yaml: &str) -> Triads {
    let config = TriadsConfig::from_yaml(yaml).unwrap();
    Triads::new(config, TriadModels::Offline(Arc::clone(store))).unwrap()
}

const QUESTION: &str = "Why did the login fail when the token expired?";

#[tokio::test]
async fn a_run_on_saved_sessions_goes_through_all_phases_without_errors() {
    let (store, login) = store_with_two_sessions();
    for yaml in [TriadsConfig::SMALL, TriadsConfig::STANDARD] {
        let agent = offline(&store, yaml);
        let (sink, outcome) = run(&agent, question(QUESTION)).await;
        let outcome = outcome.unwrap();
        let text = sink.text();
        assert!(text.contains("refresh token was sent to the wrong endpoint"), "{text}");
        assert!(text.contains("not from a model") && text.contains("hfs config set model"), "{text}");
        assert_eq!(outcome.message.model.as_deref(), Some("recall"));
        assert!(outcome.message.extra.get("references").unwrap()[0]["session"] == login.to_string());
        let snapshot = snapshot_of(&sink);
        let phases: Vec<&str> = snapshot.timeline.phases.iter().map(|phase| phase.name.as_str()).collect();
        assert_eq!(phases, PHASES);
        assert_closed(&sink);
        assert_eq!(sink.errors(), [] as [&str; 0]);
        assert_eq!(snapshot.usage.total_tokens, 0);
        assert!(snapshot.usage.by_agent.len() > 6);
        let config = TriadsConfig::from_yaml(yaml).unwrap();
        assert_eq!(snapshot.negotiation.sections.len(), config.sections.len());
        assert!(
            snapshot.negotiation.sections.iter().all(|section| section.status == SectionStatus::Resolved)
        );
    }
}

/// The events with all durations set to 0, since these differ between runs.
fn without_durations(sink: &RecordingSink) -> Vec<EventPayload> {
    let mut events = sink.events.lock().unwrap().clone();
    for event in &mut events {
        match event {
            EventPayload::PhaseEnded { duration_ms, .. } | EventPayload::AgentEnded { duration_ms, .. } => {
                *duration_ms = 0;
            }
            _ => {}
        }
    }
    events
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_saved_sessions_the_same_question_has_the_same_events_memories_and_reply() {
    let (store, _) = store_with_two_sessions();
    let agent = offline(&store, TriadsConfig::STANDARD);
    let (first, _) = run(&agent, question(QUESTION)).await;
    let (second, _) = run(&agent, question(QUESTION)).await;
    assert_eq!(without_durations(&first), without_durations(&second));
    assert_eq!(first.text(), second.text());
    assert_eq!(*first.memories.lock().unwrap(), *second.memories.lock().unwrap());
}

#[tokio::test]
async fn without_saved_sessions_the_reply_says_so() {
    let agent = offline(&empty_store(), TriadsConfig::SMALL);
    let (sink, outcome) = run(&agent, question(QUESTION)).await;
    assert!(outcome.is_ok());
    assert!(sink.text().contains("No saved session is relevant to this."), "{}", sink.text());
}

#[tokio::test]
async fn a_run_on_saved_sessions_can_be_cancelled() {
    let (store, _) = store_with_two_sessions();
    let agent = offline(&store, TriadsConfig::SMALL);
    let request = question(QUESTION);
    request.cancel.cancel();
    let (_, outcome) = run(&agent, request).await;
    assert!(matches!(outcome, Err(AgentError::Cancelled)));
    assert!(agent.describe().summary.contains("search your saved sessions"));
}

#[tokio::test]
async fn stored_memories_are_read_and_unreadable_ones_are_ignored() {
    let server = ModelServer::start();
    server.otherwise(well_formed_answer);
    let agent = triads(&server, Protocol::OpenAi, TriadsConfig::SMALL);
    let mut request = question("Why?");
    // The format of checkpoints written by earlier versions.
    let stored = serde_json::json!([{"role": "user", "text": "FROM-A-CHECKPOINT"}]);
    request.memories.insert("testers/critic".to_owned(), AgentMemory::new(&stored).unwrap());
    let unreadable = serde_json::json!({"version": 99});
    request.memories.insert("testers/proposer".to_owned(), AgentMemory::new(&unreadable).unwrap());
    let (_, outcome) = run(&agent, request).await;
    assert!(outcome.is_ok(), "{outcome:?}");
    assert!(server.requests().iter().any(|request| request.prompt().contains("FROM-A-CHECKPOINT")));
}

/// An agent that uses tools, and answers what it was asked as a model of triads would.
struct Program {
    name: &'static str,
    asked: Mutex<Vec<String>>,
}

#[async_trait]
impl Agent for Program {
    fn describe(&self) -> AgentDescription {
        AgentDescription::new(self.name, "a program")
    }

    async fn run(&self, request: RunRequest, sink: &dyn RunSink) -> Result<RunOutcome, AgentError> {
        let [message] = request.history.as_slice() else { panic!("{:?}", request.history) };
        let prompt = message.content.text();
        sink.reply(ReplyDelta::text("I look at the files."));
        let (agent, call) = (self.name.to_owned(), "1".to_owned());
        let (name, title, kind) = ("Read".to_owned(), "a.rs".to_owned(), "read".to_owned());
        sink.event(ToolEvent::ToolStarted { agent, call, name, title, kind }.payload().unwrap());
        sink.next_message(CompletedMessage::streamed(), Role::Assistant);
        let usage = Usage::new(10, 5);
        sink.event(EventPayload::UsageRecorded { agent: self.name.into(), phase: None, model: None, usage });
        let answer = if prompt.contains("You are critic") {
            "It is not certain.".to_owned()
        } else {
            format!("{{\"position\": \"{0}\", \"claims\": [\"answer\"], \"answer\": \"{0}\"}}", self.name)
        };
        sink.reply(ReplyDelta::text(answer));
        self.asked.lock().unwrap().push(prompt);
        Ok(RunOutcome::default())
    }
}

#[tokio::test]
async fn agents_that_are_programs_answer_for_roles_and_their_tool_calls_are_events_of_the_run() {
    let program = |name| Arc::new(Program { name, asked: Mutex::default() });
    let (one, other) = (program("claude"), program("codex"));
    let yaml = format!("{}\nmodel: agent:claude\nmodels:\n  critic: agent:codex\n", TriadsConfig::MIXED);
    let parsed = TriadsConfig::from_yaml(&yaml).unwrap();
    let model = |program: &Arc<Program>| TriadModel::Agent(Arc::clone(program) as Arc<dyn Agent>);
    let named =
        BTreeMap::from([("agent:claude".to_owned(), model(&one)), ("agent:codex".to_owned(), model(&other))]);
    let agent = Triads::new(parsed, TriadModels::Online { default: model(&one), named }).unwrap();
    let (sink, outcome) = run(&agent, question("Why?")).await;
    let outcome = outcome.unwrap();
    assert!(outcome.message.model.as_deref() == Some("claude"), "{outcome:?}");
    let asked = other.asked.lock().unwrap();
    assert!(!asked.is_empty() && asked.iter().all(|prompt| prompt.contains("Change nothing")), "{asked:?}");
    assert!(one.asked.lock().unwrap().iter().any(|prompt| prompt.contains("You are proposer")));
    assert!(sink.kinds().contains(&"tool.started".to_owned()), "{:?}", sink.kinds());
    assert_eq!(outcome.message.usage.map(|usage| usage.prompt_tokens % 10), Some(0));
}

/// An agent that fails while it works.
struct FailingProgram;

#[async_trait]
impl Agent for FailingProgram {
    fn describe(&self) -> AgentDescription {
        AgentDescription::new("claude", "a program")
    }

    async fn run(&self, _: RunRequest, sink: &dyn RunSink) -> Result<RunOutcome, AgentError> {
        let (agent, call) = ("claude".to_owned(), "1".to_owned());
        let (name, title, kind) = ("Read".to_owned(), "a.rs".to_owned(), "read".to_owned());
        sink.event(ToolEvent::ToolStarted { agent, call, name, title, kind }.payload().unwrap());
        Err(AgentError::Internal { message: "it broke".into() })
    }
}

#[tokio::test]
async fn the_tokens_of_an_agent_that_fails_while_it_works_are_unknown() {
    let yaml = format!("{}\nmodel: agent:claude\n", TriadsConfig::MIXED);
    let model = TriadModel::Agent(Arc::new(FailingProgram));
    let named = BTreeMap::from([("agent:claude".to_owned(), model.clone())]);
    let models = TriadModels::Online { default: model, named };
    let agent = Triads::new(TriadsConfig::from_yaml(&yaml).unwrap(), models).unwrap();
    let (sink, _) = run(&agent, question("Why?")).await;
    assert!(sink.kinds().contains(&"usage.unknown".to_owned()), "{:?}", sink.kinds());
}
