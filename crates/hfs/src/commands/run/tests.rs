//! A run of every sight, as it is shown.

use hfs_core::{
    ClaimDecision, Event, EventPayload, RunEnding, RunSnapshot, SectionDecision, Timestamp, Usage,
};

use super::*;
use crate::console::Palette;
use crate::moments;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_770_000_000_000 + millis).unwrap()
}

fn placed(events: Vec<(i64, EventPayload)>) -> Placed {
    let id: RunId = "0192f0c1-7e1a-7cc0-9b1e-3f2a5c6d7e8f".parse().unwrap();
    let events: Vec<Event> = (1..)
        .zip(events)
        .map(|(number, (millis, payload))| Event { run: id, number, at: at(millis), payload })
        .collect();
    let run = Run {
        id,
        branch: "0192f0c1-7e1a-7cc0-9b1e-3f2a5c6d7e80".parse().unwrap(),
        answers: None,
        started_at: at(0),
        ended_at: None,
        snapshot: RunSnapshot::fold(&events),
        events,
    };
    Placed { number: 3, run, branch: "main".into(), question: Some((5, "Is it safe\nto deploy?".into())) }
}

/// The times of day depend on where this runs.
fn shown(placed: &Placed) -> String {
    let plain = Palette::default();
    let text = picture::whole(placed, &plain, None) + &events::list(&placed.run, &plain);
    text.replace(&moments::exact(at(0)), "[time]")
}

fn agent(triad: Option<&str>, name: &str, role: &str) -> EventPayload {
    EventPayload::AgentStarted {
        agent: triad.map_or_else(|| name.to_owned(), |triad| format!("{triad}/{name}")),
        role: role.into(),
        triad: triad.map(str::to_owned),
        preset: triad.map(|_| "dialectic".to_owned()),
        model: Some("m".into()),
    }
}

fn done(agent: &str, status: AgentStatus) -> EventPayload {
    EventPayload::AgentEnded { agent: agent.into(), status, duration_ms: 900 }
}

fn spent(agent: &str, phase: &str, prompt_tokens: u64, completion_tokens: u64) -> EventPayload {
    EventPayload::UsageRecorded {
        agent: agent.into(),
        phase: Some(phase.into()),
        model: None,
        usage: Usage { prompt_tokens, completion_tokens },
    }
}

fn phase(name: &str, ended_after: Option<u64>) -> EventPayload {
    match ended_after {
        None => EventPayload::PhaseStarted { phase: name.into() },
        Some(duration_ms) => EventPayload::PhaseEnded { phase: name.into(), duration_ms },
    }
}

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn a_run_shows_who_worked_who_got_what_and_why_what_it_cost_and_when() {
    let contested = |round, temperature| EventPayload::NegotiationContested {
        section: "risks".into(),
        claimants: names(&["makers", "testers"]),
        round,
        temperature,
    };
    let decided = |claimant: &str, round, decision| EventPayload::NegotiationDecided {
        section: "risks".into(),
        claimant: claimant.into(),
        decision,
        round,
    };
    let resolved = |section: &str, owners: &[&str]| EventPayload::NegotiationResolved {
        section: section.into(),
        owners: names(owners),
        round: 2,
    };
    let claimed = |section: &str, claimant: &str| EventPayload::NegotiationClaimed {
        section: section.into(),
        claimant: claimant.into(),
    };
    let run = placed(vec![
        (0, EventPayload::RunStarted { agent: "triads".into(), answers: None }),
        (0, phase("deliberation", None)),
        (1, agent(Some("makers"), "proposer", "proposer")),
        (1, agent(Some("makers"), "critic", "critic")),
        (2, agent(Some("testers"), "proposer", "proposer")),
        (900, spent("makers/proposer", "deliberation", 100, 20)),
        (900, done("makers/proposer", AgentStatus::Idle)),
        (
            901,
            EventPayload::ErrorOccurred {
                agent: Some("makers/critic".into()),
                phase: Some("deliberation".into()),
                message: "the \u{1b}[31mmodel is\nill".into(),
            },
        ),
        (901, done("makers/critic", AgentStatus::Blocked)),
        (901, EventPayload::TriadDegraded { triad: "makers".into(), lost: names(&["makers/critic"]) }),
        (1_000, spent("testers/proposer", "deliberation", 200, 40)),
        (1_000, phase("deliberation", Some(1_000))),
        (1_000, phase("claims", None)),
        (1_000, claimed("answer", "makers")),
        (1_000, claimed("risks", "makers")),
        (1_000, claimed("risks", "testers")),
        (1_000, resolved("answer", &["makers"])),
        (1_000, phase("claims", Some(0))),
        (1_000, phase("negotiation", None)),
        (1_000, contested(1, 1.0)),
        (1_400, decided("makers", 1, ClaimDecision::Hold)),
        (1_400, decided("testers", 1, ClaimDecision::Hold)),
        (1_400, contested(2, 0.85)),
        (1_800, decided("makers", 2, ClaimDecision::Hold)),
        (1_800, decided("testers", 2, ClaimDecision::Concede)),
        (1_900, agent(None, "arbiter", "arbiter")),
        (1_900, spent("arbiter", "negotiation", 30, 5)),
        (
            2_000,
            EventPayload::ArbiterDecided {
                section: "risks".into(),
                decision: SectionDecision::Split,
                owners: names(&["testers", "makers"]),
                reason: "both know some".into(),
            },
        ),
        (2_000, resolved("risks", &["testers", "makers"])),
        (2_000, phase("negotiation", Some(1_000))),
        (2_000, phase("integration", None)),
        (2_000, spent("arbiter", "", 1, 1)),
        (4_000, done("arbiter", AgentStatus::Complete)),
        (4_000, phase("integration", Some(2_000))),
        (4_010, EventPayload::RunEnded { duration_ms: 4_010, ending: RunEnding::Completed }),
    ]);
    insta::assert_snapshot!(shown(&run));
}

#[test]
fn a_run_that_did_not_end_and_a_lone_agent_are_shown_without_empty_headings() {
    let run = placed(vec![
        (0, EventPayload::RunStarted { agent: "assistant".into(), answers: None }),
        (5, agent(None, "assistant", "assistant")),
    ]);
    insta::assert_snapshot!(shown(&run), @r#"
    run         3 (wkxpuntmslrk) of assistant
    answers     message 5: Is it safe to deploy?
    began       [time] on main
    ended       not, or the process that ran it died
    cost        0 tokens in 0 calls

    Agents
    AGENT      ROLE       STATUS   CALLS  IN  OUT  TOKENS  MODEL
    assistant  assistant  working      0   0    0       0  m

    Events
         1     0.000 s  run.started            by assistant
         2     0.005 s  agent.started          assistant, assistant, on m
    "#);
}

#[test]
fn a_phase_that_is_going_on_has_a_bar_to_the_newest_moment_known() {
    let run = placed(vec![
        (0, EventPayload::RunStarted { agent: "triads".into(), answers: None }),
        (0, phase("deliberation", None)),
        (800, phase("deliberation", Some(800))),
        (1_000, phase("claims", None)),
    ]);
    let text = picture::whole(&run, &Palette::default(), None);
    let expected = format!("claims        {}▏  not ended", "·".repeat(39));
    assert!(text.contains(&expected), "{text}");
}

#[test]
fn times_are_said_in_the_unit_that_fits() {
    for (millis, expected) in
        [(0, "0 ms"), (999, "999 ms"), (1_000, "1.0 s"), (59_999, "59.9 s"), (61_500, "1 min 1 s")]
    {
        assert_eq!(took(millis), expected);
    }
}
