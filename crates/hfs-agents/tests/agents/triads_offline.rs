//! Runs with triads on saved sessions, with no network at all.

use std::sync::Arc;

use hfs_agents::{TriadModels, Triads, TriadsConfig};
use hfs_core::{Agent, AgentError, EventPayload, SectionStatus, Store};

use crate::recall::{empty_store, furnished};
use crate::support::{Heard, question, run};
use crate::triads::{PHASES, assert_closed, folded};

fn offline(store: &Arc<dyn Store>, yaml: &str) -> Triads {
    let config = TriadsConfig::from_yaml(yaml).unwrap();
    Triads::new(config, TriadModels::Offline(Arc::clone(store))).unwrap()
}

const QUESTION: &str = "Why did the login fail when the token expired?";

#[tokio::test]
async fn the_whole_pipeline_runs_on_saved_sessions() {
    let (store, login) = furnished();
    for yaml in [TriadsConfig::SMALL, TriadsConfig::STANDARD] {
        let agent = offline(&store, yaml);
        let (heard, outcome) = run(&agent, question(QUESTION)).await;
        let outcome = outcome.unwrap();
        let text = heard.text();
        assert!(text.contains("refresh token was sent to the wrong endpoint"), "{text}");
        assert!(text.contains("in the place of a model") && text.contains("hfs config set model"), "{text}");
        assert_eq!(outcome.model.as_deref(), Some("recall"));
        assert!(outcome.extra["references"][0]["session"] == login.to_string());
        let snapshot = folded(&heard);
        let phases: Vec<&str> = snapshot.timeline.phases.iter().map(|phase| phase.name.as_str()).collect();
        assert_eq!(phases, PHASES);
        assert_closed(&heard);
        assert_eq!(heard.errors(), [] as [&str; 0]);
        assert_eq!(snapshot.usage.total_tokens, 0);
        assert!(snapshot.usage.by_agent.len() > 6);
        let config = TriadsConfig::from_yaml(yaml).unwrap();
        assert_eq!(snapshot.negotiation.sections.len(), config.sections.len());
        assert!(
            snapshot.negotiation.sections.iter().all(|section| section.status == SectionStatus::Resolved)
        );
    }
}

/// Durations differ from run to run; nothing else may.
fn without_durations(heard: &Heard) -> Vec<EventPayload> {
    let mut events = heard.events.lock().unwrap().clone();
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
async fn the_same_question_has_the_same_events_memories_and_reply() {
    let (store, _) = furnished();
    let agent = offline(&store, TriadsConfig::STANDARD);
    let (first, _) = run(&agent, question(QUESTION)).await;
    let (second, _) = run(&agent, question(QUESTION)).await;
    assert_eq!(without_durations(&first), without_durations(&second));
    assert_eq!(first.text(), second.text());
    assert_eq!(*first.memories.lock().unwrap(), *second.memories.lock().unwrap());
}

#[tokio::test]
async fn with_nothing_saved_it_says_so_and_ends() {
    let agent = offline(&empty_store(), TriadsConfig::SMALL);
    let (heard, outcome) = run(&agent, question(QUESTION)).await;
    assert!(outcome.is_ok());
    assert!(heard.text().contains("No saved session bears on this."), "{}", heard.text());
}

#[tokio::test]
async fn a_cancel_is_obeyed_offline_too() {
    let (store, _) = furnished();
    let agent = offline(&store, TriadsConfig::SMALL);
    let request = question(QUESTION);
    request.cancel.cancel();
    let (_, outcome) = run(&agent, request).await;
    assert!(matches!(outcome, Err(AgentError::Cancelled)));
    assert!(agent.describe().summary.contains("search your saved sessions"));
}
