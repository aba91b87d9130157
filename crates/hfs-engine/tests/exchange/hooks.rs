use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use hfs_core::{Event, Hooks, RunSnapshot, SessionId, Verdict};
use hfs_engine::{Conversation, SendError};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::agent::{Heard, Scripted, Step, engine_with, memory_store};

/// Shouts what users say, refuses what is secret, and keeps a diary.
#[derive(Default)]
struct Diary(Mutex<Vec<String>>);

impl Diary {
    fn note(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }
}

#[async_trait]
impl Hooks for Diary {
    async fn on_start(&self, _session: SessionId) {
        self.note("start");
    }

    async fn on_message(&self, _session: SessionId, text: &str, is_user: bool) -> Verdict {
        self.note(format!("message {text} {is_user}"));
        match text {
            "secret" => Verdict::Reject { plugin: "guard".into(), reason: "no secrets".into() },
            _ if is_user => Verdict::Replace(text.to_uppercase()),
            _ => Verdict::Pass,
        }
    }

    async fn on_event(&self, _session: SessionId, event: &Event) {
        self.note(event.payload.kind());
    }

    async fn on_run_complete(&self, _session: SessionId, snapshot: &RunSnapshot) {
        self.note(format!("complete {:?}", snapshot.ending.unwrap()));
    }

    async fn on_exit(&self, _session: SessionId) {
        self.note("exit");
    }

    fn session_state(&self, _session: SessionId) -> Option<PluginStates> {
        None
    }

    fn restore_state(&self, _session: SessionId, _state: &PluginStates) {}
}

#[tokio::test(start_paused = true)]
async fn hooks_see_everything_in_order_and_a_rewrite_keeps_the_original() {
    let diary = Arc::new(Diary::default());
    let engine = engine_with(memory_store(), Scripted::new(vec![Step::Say("fine")]), diary.clone());
    let mut conversation = Conversation::new(None);
    let exchange = engine
        .send(&mut conversation, "hello", Arc::new(Heard::default()), CancellationToken::new())
        .await
        .unwrap();
    engine.leave(&conversation).await;
    assert_eq!(exchange.user.content.text(), "HELLO");
    // What was taken out of the message is not in the session's name either.
    let session = engine.store().get_session(conversation.session().unwrap()).unwrap().session;
    assert!(session.name.contains("HELLO") && !session.name.contains("hello"), "{}", session.name);
    assert_eq!(exchange.user.content.extra["original_text"], "hello");
    let mut diary = diary.0.lock().unwrap().clone();
    // Events reach the plugins beside the run, so their place among the rest is their own.
    diary.retain(|line| !line.starts_with("run."));
    assert_eq!(diary, ["start", "message hello true", "message fine false", "complete Completed", "exit"]);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_message_is_not_saved_and_names_the_plugin() {
    let engine = engine_with(memory_store(), Scripted::new(vec![]), Arc::new(Diary::default()));
    let mut conversation = Conversation::new(None);
    let refused =
        engine.send(&mut conversation, "secret", Arc::new(Heard::default()), CancellationToken::new()).await;
    assert!(matches!(refused, Err(SendError::Rejected { plugin, .. }) if plugin == "guard"));
    assert_eq!(conversation.session(), None);
}
