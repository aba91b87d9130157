//! Runs with triads in which something goes wrong: answers, models, budgets.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hfs_agents::TriadsConfig;
use hfs_core::{AgentStatus, ClaimDecision, ErrorExt, ErrorKind, SectionStatus};
use testkit::model_server::{ModelServer, Protocol, Recorded, Script};

use crate::support::{config, question, run};
use crate::triads::{assert_closed, folded, on, triads};
use testkit::agents::{sound_answer, sound_text};

fn is_for(asked: &Recorded, who: &str) -> bool {
    asked.prompt().contains(&format!("You are {who} of the triad"))
}

#[tokio::test]
async fn a_malformed_answer_is_asked_for_once_more_and_then_taken_as_hold() {
    for protocol in [Protocol::OpenAi, Protocol::Anthropic] {
        let server = ModelServer::start();
        server.otherwise(|asked| {
            let malformed = asked.last_turn().contains(r#"{"decisions""#);
            Script::text(if malformed {
                "I'd rather not say {".into()
            } else {
                sound_text(&asked.last_turn())
            })
        });
        let (heard, outcome) = run(&triads(&server, protocol, TriadsConfig::SMALL), question("Why?")).await;
        assert!(outcome.is_ok(), "{outcome:?}");
        let snapshot = folded(&heard);
        for section in &snapshot.negotiation.sections {
            assert_eq!(section.status, SectionStatus::Resolved);
            assert!(section.contests.iter().all(|contest| {
                contest.decisions.values().all(|decision| *decision == ClaimDecision::Hold)
            }));
        }
        let complaints = heard.errors();
        // Two triads, two rounds.
        assert_eq!(complaints.len(), 4, "{complaints:?}");
        assert!(
            complaints.iter().all(|error| error.contains("answered twice in a form that cannot be read"))
        );
        let asked =
            server.requests().iter().filter(|asked| asked.last_turn().contains(r#"{"decisions""#)).count();
        assert_eq!(asked, 8);
        assert_eq!(snapshot.usage.total_tokens, server.usage().0.total());
    }
}

#[tokio::test]
async fn an_answer_that_is_right_the_second_time_counts() {
    let server = ModelServer::start();
    let spoilt = AtomicUsize::new(0);
    server.otherwise(move |asked| {
        let prompt = asked.last_turn();
        if prompt.contains(r#"{"tasks""#) && spoilt.fetch_add(1, Ordering::SeqCst) == 0 {
            return Script::text("Certainly! Here are your tasks.");
        }
        sound_answer(asked)
    });
    let (heard, outcome) =
        run(&triads(&server, Protocol::OpenAi, TriadsConfig::SMALL), question("Why?")).await;
    assert!(outcome.is_ok());
    assert_eq!(heard.errors(), [] as [&str; 0]);
    assert!(server.requests().iter().any(|asked| asked.last_turn().contains("find the catch")));
}

#[tokio::test]
async fn agents_that_answer_nonsense_throughout_cannot_wedge_or_crash_a_run() {
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
        let (heard, _) = run(&agent, question("Why?")).await;
        assert_closed(&heard);
        let snapshot = folded(&heard);
        assert!(
            snapshot.negotiation.sections.iter().all(|section| section.status == SectionStatus::Resolved)
        );
    }
}

#[tokio::test]
async fn a_triad_that_loses_an_agent_goes_on_with_two_and_says_so() {
    for (lost, id) in [
        ("critic", "testers/critic"),
        ("proposer", "testers/proposer"),
        ("synthesizer", "testers/synthesizer"),
        ("orchestrator", "makers/orchestrator"),
        ("worker-2", "makers/worker-2"),
    ] {
        let server = ModelServer::start();
        server.otherwise(move |asked| {
            if is_for(asked, lost) { Script::status(400, "this agent is ill") } else { sound_answer(asked) }
        });
        let agent = triads(&server, Protocol::Anthropic, TriadsConfig::SMALL);
        let (heard, outcome) = run(&agent, question("Why?")).await;
        assert!(outcome.is_ok(), "{lost}: {outcome:?}");
        assert_eq!(heard.text(), "The whole reply.");
        let snapshot = folded(&heard);
        let (triad, _) = id.split_once('/').unwrap();
        let triad = snapshot.agent_tree.triads.iter().find(|node| node.triad_id == triad).unwrap();
        assert_eq!(triad.lost, [id], "{lost}");
        let node = triad.agents.iter().find(|agent| agent.agent_id == id).unwrap();
        assert_eq!(node.status, AgentStatus::Blocked, "{lost}");
        let errors = heard.errors();
        assert_eq!(errors.len(), 1, "{lost}: {errors:?}");
        assert!(errors[0].contains("this agent is ill"));
        assert!(heard.kinds().contains(&"triad.degraded".to_owned()));
        assert!(
            snapshot.negotiation.sections.iter().all(|section| section.status == SectionStatus::Resolved)
        );
    }
}

#[tokio::test]
async fn a_consensus_goes_on_with_two_peers() {
    let server = ModelServer::start();
    server.otherwise(
        |asked| {
            if is_for(asked, "peer-1") { Script::status(400, "ill") } else { sound_answer(asked) }
        },
    );
    let agent = triads(&server, Protocol::OpenAi, TriadsConfig::STANDARD);
    let (heard, outcome) = run(&agent, question("Why?")).await;
    assert!(outcome.is_ok());
    let snapshot = folded(&heard);
    let lost: Vec<_> = snapshot.agent_tree.triads.iter().flat_map(|triad| &triad.lost).collect();
    assert_eq!(lost, ["framing/peer-1", "voice/peer-1"]);
}

#[tokio::test]
async fn a_triad_that_is_lost_leaves_its_sections_to_the_others() {
    let server = ModelServer::start();
    server.otherwise(|asked| {
        let lost = asked.prompt().contains("of the triad \"testers\"");
        if lost { Script::status(400, "ill") } else { sound_answer(asked) }
    });
    let agent = triads(&server, Protocol::OpenAi, TriadsConfig::SMALL);
    let (heard, outcome) = run(&agent, question("Why?")).await;
    let outcome = outcome.unwrap();
    assert_eq!(outcome.extra["sections"]["reservations"], serde_json::json!(["makers"]));
    assert_eq!(heard.text(), "The whole reply.");
}

#[tokio::test]
async fn what_a_triad_cannot_write_any_more_another_one_writes() {
    let server = ModelServer::start();
    server.otherwise(|asked| {
        let ill = asked.prompt().contains("of the triad \"testers\"")
            && asked.last_turn().contains("Write the section");
        if ill { Script::status(400, "writer's cramp") } else { sound_answer(asked) }
    });
    let agent = triads(&server, Protocol::OpenAi, TriadsConfig::SMALL);
    let (heard, outcome) = run(&agent, question("Why?")).await;
    assert!(outcome.is_ok());
    let taken =
        heard.errors().into_iter().filter(|error| error.contains("could not write")).collect::<Vec<_>>();
    // The arbiter gives each section to its last claimant.
    assert_eq!(taken, ["testers could not write \"answer\"; makers does"]);
    let integration = server.requests().pop().unwrap().last_turn();
    assert!(integration.contains("## answer\n\nSome words about it."), "{integration}");
    assert_eq!(folded(&heard).agent_tree.triads[1].lost.len(), 3);
}

#[tokio::test]
async fn without_an_arbiter_the_first_claimant_has_the_section_and_without_an_integrator_the_sections_stand()
{
    let server = ModelServer::start();
    server.otherwise(|asked| {
        let prompt = asked.prompt();
        let ill = prompt.contains("You are the arbiter") || prompt.contains("You make one coherent reply");
        if ill { Script::status(400, "ill") } else { sound_answer(asked) }
    });
    let agent = triads(&server, Protocol::OpenAi, TriadsConfig::SMALL);
    let (heard, outcome) = run(&agent, question("Why?")).await;
    let outcome = outcome.unwrap();
    assert_eq!(outcome.extra["sections"]["answer"], serde_json::json!(["makers"]));
    assert_eq!(outcome.extra["sections"]["reservations"], serde_json::json!(["testers"]));
    let text = heard.text();
    assert!(text.starts_with("## answer\n\nSome words about it.\n\n## reservations"), "{text}");
    assert_eq!(outcome.parts, [hfs_core::Part::text(text)]);
}

#[tokio::test]
async fn when_nobody_is_left_the_run_fails_with_the_providers_words() {
    let server = ModelServer::start();
    server.otherwise(|_| Script::status(401, "no such key"));
    let (heard, outcome) =
        run(&triads(&server, Protocol::OpenAi, TriadsConfig::SMALL), question("Why?")).await;
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.to_string().contains("no such key"), "{error}");
    assert_closed(&heard);
}

#[tokio::test]
async fn a_reply_that_breaks_off_is_kept_as_far_as_it_came() {
    let server = ModelServer::start();
    server.otherwise(|asked| {
        let last = asked.prompt().contains("You make one coherent reply");
        if last { Script::text("So far, so ").then_break() } else { sound_answer(asked) }
    });
    let (heard, outcome) =
        run(&triads(&server, Protocol::Anthropic, TriadsConfig::SMALL), question("Why?")).await;
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(heard.text(), "So far, so ");
    assert_closed(&heard);
}

#[tokio::test]
async fn slow_and_overloaded_agents_are_waited_for() {
    let server = ModelServer::start();
    let count = AtomicUsize::new(0);
    server.otherwise(move |asked| match count.fetch_add(1, Ordering::SeqCst) % 4 {
        0 => Script::status(503, "busy"),
        1 => Script::pieces(Vec::<String>::new()).then_break(),
        2 => sound_answer(asked).after(Duration::from_millis(5)),
        _ => sound_answer(asked),
    });
    let mut model = config(&server, Protocol::OpenAi);
    model.retries.attempts = 10;
    let (heard, outcome) = run(&on(model, TriadsConfig::SMALL), question("Why?")).await;
    assert!(outcome.is_ok(), "{outcome:?}");
    let snapshot = folded(&heard);
    assert_eq!(snapshot.usage.total_tokens, server.usage().0.total());
    assert!(heard.errors().iter().all(|error| error.contains("trying again")));
}

#[tokio::test]
async fn a_spent_budget_of_tokens_stops_a_triad_but_not_the_run() {
    let yaml = TriadsConfig::SMALL.replacen("tokens: 60000", "tokens: 50", 1);
    let server = ModelServer::start();
    server.otherwise(|asked| sound_answer(asked).usage(30, 10));
    let (heard, outcome) = run(&triads(&server, Protocol::OpenAi, &yaml), question("Why?")).await;
    assert!(outcome.is_ok(), "{outcome:?}");
    let errors = heard.errors();
    assert!(
        errors.iter().any(|error| error.contains("makers") && error.contains("budget of tokens is used up"))
    );
    assert!(errors.iter().all(|error| !error.contains("testers")), "{errors:?}");
    let spent: u64 = folded(&heard)
        .usage
        .by_agent
        .iter()
        .filter(|(agent, _)| agent.starts_with("makers/"))
        .map(|(_, count)| count.usage.total())
        .sum();
    // What was under way when the budget ran out is still paid for: at most one call of each agent.
    assert!(spent <= 50 + 3 * 40, "{spent}");
    let limits: Vec<u64> =
        server.requests().iter().filter_map(|asked| asked.body["max_tokens"].as_u64()).collect();
    assert!(limits.contains(&50), "{limits:?}");
}

#[tokio::test]
async fn a_spent_global_budget_ends_with_what_there_is() {
    let yaml = TriadsConfig::SMALL.replace("tokens: 150000", "tokens: 200");
    let server = ModelServer::start();
    server.otherwise(|asked| sound_answer(asked).usage(30, 10));
    let (heard, outcome) = run(&triads(&server, Protocol::OpenAi, &yaml), question("Why?")).await;
    assert!(outcome.is_ok(), "{outcome:?}");
    assert!(heard.text().starts_with("## "), "{}", heard.text());
    assert!(heard.errors().iter().any(|error| error.contains("budget of tokens is used up")));
    assert!(server.usage().0.total() <= 200 + 6 * 40);
    assert_closed(&heard);
}

#[tokio::test]
async fn an_agent_that_hangs_is_interrupted_when_its_triads_time_is_up() {
    let yaml = TriadsConfig::SMALL.replacen("time_ms: 180000", "time_ms: 150", 1);
    let server = ModelServer::start();
    server.otherwise(|asked| if is_for(asked, "worker-1") { Script::silence() } else { sound_answer(asked) });
    let (heard, outcome) = run(&triads(&server, Protocol::OpenAi, &yaml), question("Why?")).await;
    assert!(outcome.is_ok(), "{outcome:?}");
    let errors = heard.errors();
    assert!(
        errors.iter().any(|error| error == "makers/worker-1 was interrupted: its time is up"),
        "{errors:?}"
    );
    assert_closed(&heard);
}
