//! Runs with triads in which answers cannot be read, models fail or budgets run out.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hfs_agents::TriadsConfig;
use hfs_core::{AgentStatus, ClaimDecision, ErrorExt, ErrorKind, IncompleteReason, Part, SectionStatus};
use testkit::model_server::{ModelServer, Protocol, RecordedRequest, Script};

use crate::triads::{assert_closed, snapshot_of, triads, triads_on};
use crate::{config, question, run};
use testkit::model_server::{well_formed_answer, well_formed_text};

fn is_from(request: &RecordedRequest, agent: &str) -> bool {
    request.prompt().contains(&format!("You are {agent} of the triad"))
}

#[tokio::test]
async fn a_malformed_answer_is_requested_once_more_and_then_counts_as_hold() {
    for protocol in [Protocol::OpenAi, Protocol::Anthropic] {
        let server = ModelServer::start();
        server.otherwise(|request| {
            let malformed = request.last_turn().contains(r#"{"decisions""#);
            Script::text(if malformed {
                "I'd rather not say {".into()
            } else {
                well_formed_text(&request.last_turn())
            })
        });
        let (sink, outcome) = run(&triads(&server, protocol, TriadsConfig::SMALL), question("Why?")).await;
        assert!(outcome.is_ok(), "{outcome:?}");
        let snapshot = snapshot_of(&sink);
        for section in &snapshot.negotiation.sections {
            assert_eq!(section.status, SectionStatus::Resolved);
            assert!(section.contests.iter().all(|contest| {
                contest.decisions.values().all(|decision| *decision == ClaimDecision::Hold)
            }));
        }
        let errors = sink.errors();
        // Two triads in each of two rounds. Each triad is asked twice, so the server gets eight requests.
        assert_eq!(errors.len(), 4, "{errors:?}");
        assert!(errors.iter().all(|error| error.contains("answered twice in a form that cannot be read")));
        let decision_requests = server
            .requests()
            .iter()
            .filter(|request| request.last_turn().contains(r#"{"decisions""#))
            .count();
        assert_eq!(decision_requests, 8);
        assert_eq!(snapshot.usage.total_tokens, server.usage().0.total());
    }
}

#[tokio::test]
async fn an_answer_that_is_well_formed_the_second_time_is_used() {
    let server = ModelServer::start();
    let malformed_count = AtomicUsize::new(0);
    server.otherwise(move |request| {
        let prompt = request.last_turn();
        if prompt.contains(r#"{"tasks""#) && malformed_count.fetch_add(1, Ordering::SeqCst) == 0 {
            return Script::text("Certainly! Here are your tasks.");
        }
        well_formed_answer(request)
    });
    let (sink, outcome) =
        run(&triads(&server, Protocol::OpenAi, TriadsConfig::SMALL), question("Why?")).await;
    assert!(outcome.is_ok());
    assert_eq!(sink.errors(), [] as [&str; 0]);
    assert!(server.requests().iter().any(|request| request.last_turn().contains("find the catch")));
}

#[tokio::test]
async fn a_run_ends_even_if_all_answers_are_nonsense() {
    let nonsense = [
        "",
        "null",
        "[]",
        "{}",
        "}{",
        "{\"decision\": 7}",
        "{\"claims\": {}}",
        "\u{0}\u{1}",
        "{\"vote\": 99999999999999}",
        "{\"position\": \"x\", \"claims\": [\"nowhere\", \"\"], \"proposals\": [\"\"]}",
        "{\"decisions\": [{\"section\": \"answer\", \"decision\": \"revise\"}]}",
        "{\"decision\": \"merge\", \"into\": \"answer\", \"reason\": \"\"}",
        "{\"decision\": \"split\", \"shares\": [], \"reason\": \"\"}",
    ];
    for start in 0..nonsense.len() {
        let server = ModelServer::start();
        let next = AtomicUsize::new(start);
        server.otherwise(move |_| {
            let at = next.fetch_add(1, Ordering::SeqCst);
            Script::text(nonsense[at % nonsense.len()])
        });
        let agent = triads(&server, Protocol::OpenAi, TriadsConfig::SMALL);
        let (sink, _) = run(&agent, question("Why?")).await;
        assert_closed(&sink);
        let snapshot = snapshot_of(&sink);
        assert!(
            snapshot.negotiation.sections.iter().all(|section| section.status == SectionStatus::Resolved)
        );
    }
}

#[tokio::test]
async fn a_triad_that_loses_an_agent_continues_with_two_and_reports_the_loss() {
    for (lost, id) in [
        ("critic", "testers/critic"),
        ("proposer", "testers/proposer"),
        ("synthesizer", "testers/synthesizer"),
        ("orchestrator", "makers/orchestrator"),
        ("worker-2", "makers/worker-2"),
    ] {
        let server = ModelServer::start();
        server.otherwise(move |request| {
            if is_from(request, lost) {
                Script::status(400, "simulated failure")
            } else {
                well_formed_answer(request)
            }
        });
        let agent = triads(&server, Protocol::Anthropic, TriadsConfig::SMALL);
        let (sink, outcome) = run(&agent, question("Why?")).await;
        assert!(outcome.is_ok(), "{lost}: {outcome:?}");
        let text = sink.text();
        let note = text.strip_prefix("The whole reply.\n\n---\n\n*Written without ").unwrap();
        assert!(note.starts_with(&format!("{id}: ")) && note.contains("simulated failure"), "{lost}: {note}");
        let snapshot = snapshot_of(&sink);
        let (triad, _) = id.split_once('/').unwrap();
        let triad = snapshot.agent_tree.triads.iter().find(|node| node.triad_id == triad).unwrap();
        assert_eq!(triad.lost, [id], "{lost}");
        let node = triad.agents.iter().find(|agent| agent.agent_id == id).unwrap();
        assert_eq!(node.status, AgentStatus::Blocked, "{lost}");
        let errors = sink.errors();
        assert_eq!(errors.len(), 1, "{lost}: {errors:?}");
        assert!(errors[0].contains("simulated failure"));
        assert!(sink.kinds().contains(&"triad.degraded".to_owned()));
        assert!(
            snapshot.negotiation.sections.iter().all(|section| section.status == SectionStatus::Resolved)
        );
    }
}

#[tokio::test]
async fn a_consensus_triad_continues_with_two_peers() {
    let server = ModelServer::start();
    server.otherwise(|request| {
        if is_from(request, "peer-1") {
            Script::status(400, "simulated failure")
        } else {
            well_formed_answer(request)
        }
    });
    let agent = triads(&server, Protocol::OpenAi, TriadsConfig::STANDARD);
    let (sink, outcome) = run(&agent, question("Why?")).await;
    assert!(outcome.is_ok());
    let snapshot = snapshot_of(&sink);
    let lost: Vec<_> = snapshot.agent_tree.triads.iter().flat_map(|triad| &triad.lost).collect();
    assert_eq!(lost, ["framing/peer-1", "voice/peer-1"]);
}

#[tokio::test]
async fn the_sections_of_a_lost_triad_go_to_the_others() {
    let server = ModelServer::start();
    server.otherwise(|request| {
        let lost = request.prompt().contains("of the triad \"testers\"");
        if lost { Script::status(400, "simulated failure") } else { well_formed_answer(request) }
    });
    let agent = triads(&server, Protocol::OpenAi, TriadsConfig::SMALL);
    let (sink, outcome) = run(&agent, question("Why?")).await;
    let outcome = outcome.unwrap();
    assert_eq!(outcome.message.extra.get("sections").unwrap()["reservations"], serde_json::json!(["makers"]));
    assert!(
        sink.text().starts_with("The whole reply.\n\n---\n\n*Written without testers/"),
        "{}",
        sink.text()
    );
}

#[tokio::test]
async fn a_section_that_a_triad_cannot_write_is_written_by_another_triad() {
    let server = ModelServer::start();
    server.otherwise(|request| {
        let fails = request.prompt().contains("of the triad \"testers\"")
            && request.last_turn().contains("Write the section");
        if fails { Script::status(400, "simulated failure") } else { well_formed_answer(request) }
    });
    let agent = triads(&server, Protocol::OpenAi, TriadsConfig::SMALL);
    let (sink, outcome) = run(&agent, question("Why?")).await;
    assert!(outcome.is_ok());
    let reassigned =
        sink.errors().into_iter().filter(|error| error.contains("could not write")).collect::<Vec<_>>();
    // The arbiter gives each section to its last claimant.
    assert_eq!(reassigned, ["testers could not write \"answer\"; makers writes it instead"]);
    let integration = server.requests().pop().unwrap().last_turn();
    assert!(integration.contains("## answer\n\nSome words about it."), "{integration}");
    assert_eq!(snapshot_of(&sink).agent_tree.triads[1].lost.len(), 3);
}

#[tokio::test]
async fn a_failed_arbiter_and_a_failed_integrator_have_fallbacks() {
    let server = ModelServer::start();
    server.otherwise(|request| {
        let prompt = request.prompt();
        let fails = prompt.contains("You are the arbiter") || prompt.contains("You make one coherent reply");
        if fails { Script::status(400, "simulated failure") } else { well_formed_answer(request) }
    });
    let agent = triads(&server, Protocol::OpenAi, TriadsConfig::SMALL);
    let (sink, outcome) = run(&agent, question("Why?")).await;
    let outcome = outcome.unwrap();
    assert_eq!(outcome.message.extra.get("sections").unwrap()["answer"], serde_json::json!(["makers"]));
    assert_eq!(
        outcome.message.extra.get("sections").unwrap()["reservations"],
        serde_json::json!(["testers"])
    );
    let text = sink.text();
    assert!(text.starts_with("## answer\n\nSome words about it.\n\n## reservations"), "{text}");
    assert!(text.contains("because the integrator failed") && text.contains("simulated failure"), "{text}");
    assert_eq!(outcome.message.parts, [Part::text(text)]);
    let incomplete = outcome.incomplete.unwrap();
    assert_eq!(incomplete.reason, IncompleteReason::AgentsLost);
    assert!(incomplete.to_string().contains("simulated failure"), "{incomplete}");
}

#[tokio::test]
async fn when_all_agents_are_lost_the_run_fails_with_the_providers_message() {
    let server = ModelServer::start();
    server.otherwise(|_| Script::status(401, "no such key"));
    let (sink, outcome) =
        run(&triads(&server, Protocol::OpenAi, TriadsConfig::SMALL), question("Why?")).await;
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.to_string().contains("no such key"), "{error}");
    assert_closed(&sink);
}

#[tokio::test]
async fn a_failure_during_integration_keeps_the_streamed_text() {
    let server = ModelServer::start();
    server.otherwise(|request| {
        let is_integration = request.prompt().contains("You make one coherent reply");
        if is_integration { Script::text("So far, so ").then_break() } else { well_formed_answer(request) }
    });
    let (sink, outcome) =
        run(&triads(&server, Protocol::Anthropic, TriadsConfig::SMALL), question("Why?")).await;
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(sink.text(), "So far, so ");
    assert_closed(&sink);
}

#[tokio::test]
async fn slow_and_overloaded_agents_do_not_fail_a_run() {
    let server = ModelServer::start();
    let count = AtomicUsize::new(0);
    server.otherwise(move |request| match count.fetch_add(1, Ordering::SeqCst) % 4 {
        0 => Script::status(503, "busy"),
        1 => Script::chunks(Vec::<String>::new()).then_break(),
        2 => well_formed_answer(request).after(Duration::from_millis(5)),
        _ => well_formed_answer(request),
    });
    let mut model = config(&server, Protocol::OpenAi);
    model.retries.max_attempts = 10;
    let (sink, outcome) = run(&triads_on(model, TriadsConfig::SMALL), question("Why?")).await;
    assert!(outcome.is_ok(), "{outcome:?}");
    let snapshot = snapshot_of(&sink);
    assert_eq!(snapshot.usage.total_tokens, server.usage().0.total());
    assert_eq!(sink.errors(), [] as [&str; 0]);
}

#[tokio::test]
async fn a_token_budget_is_not_sent_as_the_maximum_length_of_a_reply() {
    for (name, yaml) in TriadsConfig::BUILT_IN {
        let server = ModelServer::start();
        server.otherwise(|request| {
            let limit = request.body["max_tokens"].as_u64().unwrap_or_default();
            if limit > 4_096 {
                let refusal = format!("max_tokens is too large: {limit}. This model supports at most 4096");
                Script::status(400, &refusal)
            } else {
                well_formed_answer(request)
            }
        });
        let (sink, outcome) = run(&triads(&server, Protocol::OpenAi, yaml), question("Why?")).await;
        assert!(outcome.is_ok(), "{name}: {outcome:?}");
        assert_eq!(sink.text(), "The whole reply.", "{name}");
        assert_eq!(sink.errors(), [] as [&str; 0], "{name}");
    }
}

#[tokio::test]
async fn the_maximum_length_of_the_settings_also_applies_to_triads() {
    let server = ModelServer::start();
    server.otherwise(well_formed_answer);
    let mut model = config(&server, Protocol::OpenAi);
    model.max_tokens = Some(700);
    let (_, outcome) = run(&triads_on(model, TriadsConfig::SMALL), question("Why?")).await;
    assert!(outcome.is_ok(), "{outcome:?}");
    assert!(server.requests().iter().all(|request| request.body["max_tokens"] == 700));
}

#[tokio::test]
async fn a_spent_token_budget_stops_a_triad_but_not_the_run() {
    let yaml = TriadsConfig::SMALL.replacen("tokens: 60000", "tokens: 50", 1);
    let server = ModelServer::start();
    server.otherwise(|request| well_formed_answer(request).usage(30, 10));
    let (sink, outcome) = run(&triads(&server, Protocol::OpenAi, &yaml), question("Why?")).await;
    assert!(outcome.is_ok(), "{outcome:?}");
    let errors = sink.errors();
    assert!(errors.iter().any(|error| error.contains("makers") && error.contains("token budget is used up")));
    assert!(errors.iter().all(|error| !error.contains("testers")), "{errors:?}");
    let spent: u64 = snapshot_of(&sink)
        .usage
        .by_agent
        .iter()
        .filter(|(agent, _)| agent.starts_with("makers/"))
        .map(|(_, count)| count.usage.total())
        .sum();
    // Calls that are running when the budget runs out still count: at most one per agent.
    assert!(spent <= 50 + 3 * 40, "{spent}");
    let limits: Vec<u64> =
        server.requests().iter().filter_map(|request| request.body["max_tokens"].as_u64()).collect();
    assert!(limits.contains(&50), "{limits:?}");
}

#[tokio::test]
async fn a_spent_global_budget_ends_the_run_with_the_finished_sections() {
    let yaml = TriadsConfig::SMALL.replace("tokens: 150000", "tokens: 200");
    let server = ModelServer::start();
    server.otherwise(|request| well_formed_answer(request).usage(30, 10));
    let (sink, outcome) = run(&triads(&server, Protocol::OpenAi, &yaml), question("Why?")).await;
    assert!(outcome.is_ok(), "{outcome:?}");
    assert!(sink.text().starts_with("## "), "{}", sink.text());
    assert!(sink.errors().iter().any(|error| error.contains("token budget is used up")));
    // Each of the six agents may exceed the budget by one call.
    assert!(server.usage().0.total() <= 200 + 6 * 40);
    assert_closed(&sink);
}

#[tokio::test]
async fn a_hanging_agent_is_interrupted_when_the_time_budget_of_its_triad_is_used_up() {
    let yaml = TriadsConfig::SMALL.replacen("time_ms: 180000", "time_ms: 150", 1);
    let server = ModelServer::start();
    server.otherwise(|request| {
        if is_from(request, "worker-1") { Script::silence() } else { well_formed_answer(request) }
    });
    let (sink, outcome) = run(&triads(&server, Protocol::OpenAi, &yaml), question("Why?")).await;
    assert!(outcome.is_ok(), "{outcome:?}");
    let errors = sink.errors();
    assert!(
        errors.iter().any(|error| error == "makers/worker-1 was interrupted: its time budget is used up"),
        "{errors:?}"
    );
    assert_closed(&sink);
}
