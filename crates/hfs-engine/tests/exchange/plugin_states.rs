//! What plugins keep for a session outlasts the process, whenever they changed it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use hfs_core::{CheckpointStore as _, Event, Hooks, RunSnapshot, SessionId, Verdict};
use hfs_engine::{Conversation, Engine};
use hfs_store::MemoryStore;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::agent::{Heard, Scripted, Step, engine, engine_with, memory_store};

type Kept = PluginStates;

/// Counts what it hears, for each session.
#[derive(Default)]
struct Counter {
    sessions: Mutex<HashMap<SessionId, Kept>>,
    starts: Mutex<u32>,
}

impl Counter {
    fn count(&self, session: SessionId, what: &str) {
        let mut sessions = self.sessions.lock().unwrap();
        let count = sessions.entry(session).or_default().entry(what.to_owned()).or_insert(json!(0));
        *count = json!(count.as_u64().unwrap() + 1);
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

    fn session_state(&self, session: SessionId) -> Option<Kept> {
        self.sessions.lock().unwrap().get(&session).cloned()
    }

    fn restore_state(&self, session: SessionId, state: &Kept) {
        self.sessions.lock().unwrap().insert(session, state.clone());
    }
}

/// As another process would have it.
fn another(store: &Arc<MemoryStore>) -> (Engine, Arc<Counter>) {
    let counter = Arc::new(Counter::default());
    (engine_with(store.clone(), Scripted::new(vec![Step::Say("fine")]), counter.clone()), counter)
}

async fn exchange(engine: &Engine, conversation: &mut Conversation) {
    let heard = Arc::new(Heard::default());
    engine.send(conversation, "hello", heard, CancellationToken::new()).await.unwrap();
}

fn stored(store: &MemoryStore, conversation: &Conversation) -> Value {
    let state = store.load_branch_state(conversation.branch().unwrap()).unwrap().unwrap();
    serde_json::to_value(state.plugins).unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_plugins_change_after_a_run_or_without_one_is_kept() {
    let store = memory_store();
    let (engine, counter) = another(&store);
    let mut conversation = Conversation::new(None);
    exchange(&engine, &mut conversation).await;
    assert_eq!(stored(&store, &conversation), json!({"messages": 2, "runs": 1}));
    let session = conversation.session().unwrap();
    counter.count(session, "commands");
    engine.persist_plugin_states(&conversation).unwrap();
    assert_eq!(stored(&store, &conversation), json!({"commands": 1, "messages": 2, "runs": 1}));
    engine.leave(&conversation).await;
    assert_eq!(stored(&store, &conversation), json!({"commands": 1, "exits": 1, "messages": 2, "runs": 1}));

    let (engine, counter) = another(&store);
    let mut conversation = engine.resume(session, None).unwrap();
    counter.count(session, "commands");
    engine.persist_plugin_states(&conversation).unwrap();
    exchange(&engine, &mut conversation).await;
    assert_eq!(stored(&store, &conversation), json!({"commands": 2, "exits": 1, "messages": 4, "runs": 2}));
}

#[tokio::test(start_paused = true)]
async fn a_rewind_brings_back_the_checkpoints_state_and_another_branch_has_its_own() {
    let store = memory_store();
    let (engine, counter) = another(&store);
    let mut conversation = Conversation::new(None);
    exchange(&engine, &mut conversation).await;
    let (session, main) = (conversation.session().unwrap(), conversation.branch().unwrap());
    counter.count(session, "commands");
    engine.persist_plugin_states(&conversation).unwrap();
    let checkpoint = store.list_checkpoints(session).unwrap().pop().unwrap();
    let back = engine.rewind(checkpoint.id).unwrap();
    // The run's end came before the plugins heard of it.
    let at_checkpoint = json!({"messages": 2});
    let live = || serde_json::to_value(counter.session_state(session).unwrap()).unwrap();
    assert_eq!(live(), at_checkpoint);
    engine.resume(session, Some(main)).unwrap();
    assert_eq!(live(), json!({"commands": 1, "messages": 2, "runs": 1}));
    let conversation = engine.resume(session, Some(back.branch.id)).unwrap();
    assert_eq!(live(), at_checkpoint);
    counter.count(session, "commands");
    engine.persist_plugin_states(&conversation).unwrap();
    let (engine, counter) = another(&store);
    engine.resume(session, None).unwrap();
    let live = serde_json::to_value(counter.session_state(session).unwrap()).unwrap();
    assert_eq!(live, json!({"commands": 1, "messages": 2}));
}

#[tokio::test(start_paused = true)]
async fn without_plugins_a_run_leaves_what_they_keep_alone() {
    let store = memory_store();
    let (with, _) = another(&store);
    let mut conversation = Conversation::new(None);
    exchange(&with, &mut conversation).await;
    let without = engine(store.clone(), Scripted::new(vec![Step::Say("fine")]));
    let mut conversation = without.resume(conversation.session().unwrap(), None).unwrap();
    exchange(&without, &mut conversation).await;
    assert_eq!(stored(&store, &conversation), json!({"messages": 2, "runs": 1}));
}

#[tokio::test(start_paused = true)]
async fn plugins_hear_once_of_each_session_that_is_opened() {
    let store = memory_store();
    let (engine, _) = another(&store);
    let mut conversation = Conversation::new(None);
    exchange(&engine, &mut conversation).await;
    let (engine, counter) = another(&store);
    let mut conversation = engine.resume(conversation.session().unwrap(), None).unwrap();
    engine.enter(&conversation).await;
    exchange(&engine, &mut conversation).await;
    assert_eq!(*counter.starts.lock().unwrap(), 1);
    engine.leave(&conversation).await;
    engine.enter(&conversation).await;
    assert_eq!(*counter.starts.lock().unwrap(), 2);
}
