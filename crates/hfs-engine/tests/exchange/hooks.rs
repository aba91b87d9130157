//! Hooks are called in order, and plugin states are restored in another process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use hfs_core::{CheckpointStore as _, Event, Hooks, PluginStates, RunSnapshot, SessionId, Verdict};
use hfs_engine::{Conversation, Engine, SendError};
use hfs_store::MemoryStore;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::agent::{Recorded, Scripted, Step, engine, engine_with_hooks, memory_store};

/// Rewrites user messages to upper case, rejects one, and records every call.
#[derive(Default)]
struct CallLog(Mutex<Vec<String>>);

impl CallLog {
    fn add(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }
}

#[async_trait]
impl Hooks for CallLog {
    async fn on_start(&self, _session: SessionId) {
        self.add("start");
    }

    async fn on_message(&self, _session: SessionId, text: &str, is_user: bool) -> Verdict {
        self.add(format!("message {text} {is_user}"));
        match text {
            "secret" => Verdict::Reject { plugin: "guard".into(), reason: "no secrets".into() },
            _ if is_user => Verdict::Replace(text.to_uppercase()),
            _ => Verdict::Pass,
        }
    }

    async fn on_event(&self, _session: SessionId, event: &Event) {
        self.add(event.payload.kind());
    }

    async fn on_run_complete(&self, _session: SessionId, snapshot: &RunSnapshot) {
        self.add(format!("complete {:?}", snapshot.ending.unwrap()));
    }

    async fn on_exit(&self, _session: SessionId) {
        self.add("exit");
    }

    fn session_state(&self, _session: SessionId) -> Option<PluginStates> {
        None
    }

    fn restore_state(&self, _session: SessionId, _state: &PluginStates) {}

    fn release_state(&self, _session: SessionId) {}
}

#[tokio::test(start_paused = true)]
async fn hooks_are_called_in_order_and_a_rewrite_keeps_the_original() {
    let calls = Arc::new(CallLog::default());
    let engine = engine_with_hooks(memory_store(), Scripted::new(vec![Step::Say("fine")]), calls.clone());
    let mut conversation = Conversation::new(None);
    let exchange = engine
        .send(&mut conversation, "hello", Arc::new(Recorded::default()), CancellationToken::new())
        .await
        .unwrap();
    engine.close_session(&conversation).await;
    assert_eq!(exchange.user.content.text(), "HELLO");
    // The session is named after the rewritten text.
    let session = engine.store().get_session(conversation.session().unwrap()).unwrap().session;
    assert!(session.name.contains("HELLO") && !session.name.contains("hello"), "{}", session.name);
    assert_eq!(exchange.user.content.extra.get("original_text").unwrap(), "hello");
    let mut calls = calls.0.lock().unwrap().clone();
    // A separate task passes events to the hooks, so their order relative to the other calls varies.
    calls.retain(|line| !line.starts_with("run."));
    assert_eq!(calls, ["start", "message hello true", "message fine false", "complete Completed", "exit"]);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_message_is_not_saved_and_names_the_plugin() {
    let engine = engine_with_hooks(memory_store(), Scripted::new(vec![]), Arc::new(CallLog::default()));
    let mut conversation = Conversation::new(None);
    let rejected = engine
        .send(&mut conversation, "secret", Arc::new(Recorded::default()), CancellationToken::new())
        .await;
    assert!(matches!(rejected, Err(SendError::Rejected { plugin, .. }) if plugin == "guard"));
    assert_eq!(conversation.session(), None);
}

/// Counts the calls of its hooks in the plugin state of each session.
#[derive(Default)]
struct Counter {
    sessions: Mutex<HashMap<SessionId, PluginStates>>,
    starts: Mutex<u32>,
}

impl Counter {
    fn count(&self, session: SessionId, what: &str) {
        let mut sessions = self.sessions.lock().unwrap();
        let states = sessions.entry(session).or_default();
        let count = states.get(what).map_or(0, |count| count.as_u64().unwrap());
        states.insert(what.to_owned(), json!(count + 1));
    }
}

#[async_trait]
impl Hooks for Counter {
    async fn on_start(&self, _session: SessionId) {
        *self.starts.lock().unwrap() += 1;
    }

    async fn on_message(&self, session: SessionId, _text: &str, _is_user: bool) -> Verdict {
        self.count(session, "messages");
        Verdict::Pass
    }

    async fn on_event(&self, _session: SessionId, _event: &Event) {}

    async fn on_run_complete(&self, session: SessionId, _snapshot: &RunSnapshot) {
        self.count(session, "runs");
    }

    async fn on_exit(&self, session: SessionId) {
        self.count(session, "exits");
    }

    fn session_state(&self, session: SessionId) -> Option<PluginStates> {
        self.sessions.lock().unwrap().get(&session).cloned()
    }

    fn restore_state(&self, session: SessionId, state: &PluginStates) {
        self.sessions.lock().unwrap().insert(session, state.clone());
    }

    fn release_state(&self, _session: SessionId) {}
}

/// An engine with new hooks, as in another process.
fn another_engine(store: &Arc<MemoryStore>) -> (Engine, Arc<Counter>) {
    let counter = Arc::new(Counter::default());
    (engine_with_hooks(store.clone(), Scripted::new(vec![Step::Say("fine")]), counter.clone()), counter)
}

async fn exchange(engine: &Engine, conversation: &mut Conversation) {
    let updates = Arc::new(Recorded::default());
    engine.send(conversation, "hello", updates, CancellationToken::new()).await.unwrap();
}

fn stored(store: &MemoryStore, conversation: &Conversation) -> Value {
    let state = store.load_branch_state(conversation.branch().unwrap()).unwrap().unwrap();
    serde_json::to_value(state.plugins).unwrap()
}

#[tokio::test(start_paused = true)]
async fn plugin_states_changed_after_a_run_or_without_one_are_saved() {
    let store = memory_store();
    let (engine, counter) = another_engine(&store);
    let mut conversation = Conversation::new(None);
    exchange(&engine, &mut conversation).await;
    assert_eq!(stored(&store, &conversation), json!({"messages": 2, "runs": 1}));
    let session = conversation.session().unwrap();
    counter.count(session, "commands");
    engine.persist_plugin_states(&conversation).await.unwrap();
    assert_eq!(stored(&store, &conversation), json!({"commands": 1, "messages": 2, "runs": 1}));
    engine.close_session(&conversation).await;
    assert_eq!(stored(&store, &conversation), json!({"commands": 1, "exits": 1, "messages": 2, "runs": 1}));

    let (engine, counter) = another_engine(&store);
    let mut conversation = engine.resume(session, None).await.unwrap();
    counter.count(session, "commands");
    engine.persist_plugin_states(&conversation).await.unwrap();
    exchange(&engine, &mut conversation).await;
    assert_eq!(stored(&store, &conversation), json!({"commands": 2, "exits": 1, "messages": 4, "runs": 2}));
}

#[tokio::test(start_paused = true)]
async fn a_rewind_restores_the_plugin_states_and_each_branch_has_its_own() {
    let store = memory_store();
    let (engine, counter) = another_engine(&store);
    let mut conversation = Conversation::new(None);
    exchange(&engine, &mut conversation).await;
    let (session, main) = (conversation.session().unwrap(), conversation.branch().unwrap());
    counter.count(session, "commands");
    engine.persist_plugin_states(&conversation).await.unwrap();
    let checkpoint = store.list_checkpoints(session).unwrap().pop().unwrap();
    let back = engine.rewind(checkpoint.id).await.unwrap();
    // The checkpoint was captured at `run.ended`, before `on_run_complete` counted the run.
    let at_checkpoint = json!({"messages": 2});
    let live = || serde_json::to_value(counter.session_state(session).unwrap()).unwrap();
    assert_eq!(live(), at_checkpoint);
    engine.resume(session, Some(main)).await.unwrap();
    assert_eq!(live(), json!({"commands": 1, "messages": 2, "runs": 1}));
    let conversation = engine.resume(session, Some(back.branch.id)).await.unwrap();
    assert_eq!(live(), at_checkpoint);
    counter.count(session, "commands");
    engine.persist_plugin_states(&conversation).await.unwrap();
    let (engine, counter) = another_engine(&store);
    engine.resume(session, None).await.unwrap();
    let live = serde_json::to_value(counter.session_state(session).unwrap()).unwrap();
    assert_eq!(live, json!({"commands": 1, "messages": 2}));
}

#[tokio::test(start_paused = true)]
async fn a_run_without_plugins_leaves_their_states_unchanged() {
    let store = memory_store();
    let (with, _) = another_engine(&store);
    let mut conversation = Conversation::new(None);
    exchange(&with, &mut conversation).await;
    let without = engine(store.clone(), Scripted::new(vec![Step::Say("fine")]));
    let mut conversation = without.resume(conversation.session().unwrap(), None).await.unwrap();
    exchange(&without, &mut conversation).await;
    assert_eq!(stored(&store, &conversation), json!({"messages": 2, "runs": 1}));
}

#[tokio::test(start_paused = true)]
async fn the_start_hook_is_called_once_for_each_opened_session() {
    let store = memory_store();
    let (engine, _) = another_engine(&store);
    let mut conversation = Conversation::new(None);
    exchange(&engine, &mut conversation).await;
    let (engine, counter) = another_engine(&store);
    let mut conversation = engine.resume(conversation.session().unwrap(), None).await.unwrap();
    engine.open_session(&conversation).await;
    exchange(&engine, &mut conversation).await;
    assert_eq!(*counter.starts.lock().unwrap(), 1);
    engine.close_session(&conversation).await;
    engine.open_session(&conversation).await;
    assert_eq!(*counter.starts.lock().unwrap(), 2);
}
