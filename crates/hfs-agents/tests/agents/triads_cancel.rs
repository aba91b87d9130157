//! Runs with triads that the user stops.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hfs_agents::TriadsConfig;
use hfs_core::AgentError;
use testkit::model_server::{ModelServer, Protocol, Script};

use crate::support::{AT_ONCE, Heard, arrived, question, run, run_and_cancel};
use crate::triads::{PHASES, assert_closed, folded, triads};
use testkit::agents::sound_answer;

/// A phase, and what the agent is asked that hangs in it.
const MOMENTS: [(&str, &str); 5] = [
    ("deliberation", "Take the question apart"),
    ("deliberation", "Draft what your triad should hold"),
    ("negotiation", "in round 1"),
    ("execution", "Write the section"),
    ("integration", "Make one coherent reply"),
];

#[tokio::test]
async fn a_cancel_is_obeyed_at_once_in_every_phase() {
    for protocol in [Protocol::OpenAi, Protocol::Anthropic] {
        for (phase, moment) in MOMENTS {
            let server = ModelServer::start();
            let reached = Arc::new(AtomicUsize::new(0));
            let seen = Arc::clone(&reached);
            server.otherwise(move |asked| {
                if asked.last_turn().contains(moment) {
                    seen.fetch_add(1, Ordering::SeqCst);
                    return Script::silence();
                }
                sound_answer(asked)
            });
            let agent = triads(&server, protocol, TriadsConfig::SMALL);
            let (heard, outcome, took) = run_and_cancel(&agent, question("Why?"), async |_| {
                while reached.load(Ordering::SeqCst) == 0 {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            })
            .await;
            assert!(matches!(outcome, Err(AgentError::Cancelled)), "{moment}: {outcome:?}");
            assert!(took < AT_ONCE, "{moment}: {took:?}");
            let snapshot = folded(&heard);
            assert_eq!(snapshot.timeline.phases.last().map(|span| span.name.as_str()), Some(phase));
            assert_closed(&heard);
            assert_eq!(heard.errors(), [] as [&str; 0], "{moment}");
        }
    }
}

#[tokio::test]
async fn a_cancel_between_phases_or_before_the_first_is_obeyed_too() {
    let server = ModelServer::start();
    server.otherwise(sound_answer);
    let agent = triads(&server, Protocol::OpenAi, TriadsConfig::SMALL);
    let before = question("Why?");
    before.cancel.cancel();
    let (heard, outcome) = run(&agent, before).await;
    assert!(matches!(outcome, Err(AgentError::Cancelled)));
    assert_eq!(heard.kinds(), [] as [&str; 0]);
    assert!(server.requests().is_empty());
    for phase in PHASES {
        let agent = triads(&server, Protocol::OpenAi, TriadsConfig::SMALL);
        let request = question("Why?");
        let sink = CancelAt { heard: Heard::default(), phase, cancel: request.cancel.clone() };
        let outcome = hfs_core::Agent::run(&agent, request, &sink).await;
        assert!(matches!(outcome, Err(AgentError::Cancelled)), "{phase}: {outcome:?}");
        assert_closed(&sink.heard);
    }
}

/// Cancels the run as soon as a phase begins.
struct CancelAt {
    heard: Heard,
    phase: &'static str,
    cancel: tokio_util::sync::CancellationToken,
}

impl hfs_core::RunSink for CancelAt {
    fn event(&self, payload: hfs_core::EventPayload) {
        if matches!(&payload, hfs_core::EventPayload::PhaseStarted { phase } if phase == self.phase) {
            self.cancel.cancel();
        }
        self.heard.event(payload);
    }

    fn reply(&self, delta: hfs_core::ReplyDelta) {
        self.heard.reply(delta);
    }

    fn remember(&self, agent: &str, memory: hfs_core::AgentMemory) {
        self.heard.remember(agent, memory);
    }
}

#[tokio::test]
async fn a_cancelled_run_closes_its_connections() {
    let server = ModelServer::start();
    server.otherwise(|_| Script::text("half").then_hang());
    let agent = triads(&server, Protocol::OpenAi, TriadsConfig::SMALL);
    let (_, outcome, _) = run_and_cancel(&agent, question("Why?"), async |_| arrived(&server, 2).await).await;
    assert!(matches!(outcome, Err(AgentError::Cancelled)));
    tokio::time::timeout(Duration::from_secs(10), async {
        while server.open_streams() > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await
    .unwrap();
}
