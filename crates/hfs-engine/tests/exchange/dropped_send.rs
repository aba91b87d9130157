//! Dropping the future of `send` at any point leaves a writable branch and keeps the streamed text.

use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use hfs_core::{
    CheckpointStore, Event, EventPayload, Hooks, Message, MessageRange, MessageStatus, PluginStates,
    ReplyDelta, Role, RunEnding, RunSnapshot, RunStore, SessionId, Store, Trigger, Verdict,
};
use hfs_engine::{Conversation, Engine, Observer, Update};
use hfs_store::{SqliteOptions, SqliteStore};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::agent::{
    FaultyStore, Recorded, Scripted, Step, engine, engine_with_hooks, faulty_store, memory_store,
};

/// Notifies at an update that satisfies `on`.
struct Signal<F> {
    on: F,
    reached: Arc<Notify>,
}

impl<F: Fn(&Update) -> bool + Send + Sync> Observer for Signal<F> {
    fn update(&self, update: Update) {
        if (self.on)(&update) {
            self.reached.notify_one();
        }
    }
}

fn is_delta(update: &Update) -> bool {
    matches!(update, Update::Delta(_))
}

/// Sends a message and drops the future at the first await point after `reached` was notified.
async fn send_until(
    engine: &Engine,
    conversation: &mut Conversation,
    observer: Arc<dyn Observer>,
    reached: &Notify,
) {
    tokio::select! {
        biased;
        () = reached.notified() => {}
        exchange = engine.send(conversation, "go", observer, CancellationToken::new()) => {
            panic!("the exchange ended before it was dropped: {exchange:?}");
        }
    }
}

/// Sends a message and drops the future at the first await point after an update that satisfies `on`.
async fn send_and_drop_at(
    engine: &Engine,
    conversation: &mut Conversation,
    on: impl Fn(&Update) -> bool + Send + Sync + 'static,
) {
    let reached = Arc::new(Notify::new());
    let observer = Arc::new(Signal { on, reached: Arc::clone(&reached) });
    send_until(engine, conversation, observer, &reached).await;
}

/// Sends another message on the same conversation and then one on a resumed conversation. Both must succeed. Returns the
/// whole history.
async fn continue_session(
    store: &dyn Store,
    engine: &Engine,
    conversation: &mut Conversation,
) -> Vec<Message> {
    let updates = Recorded::default();
    engine.append_user_message(conversation, "next", &updates).await.unwrap();
    let mut resumed = engine.resume(conversation.session().unwrap(), None).await.unwrap();
    assert_eq!(resumed.head(), conversation.head());
    engine.append_user_message(&mut resumed, "and next", &updates).await.unwrap();
    store.read_messages(resumed.branch().unwrap(), MessageRange::Newest(100)).unwrap()
}

fn contents(messages: &[Message]) -> Vec<(Role, String, MessageStatus)> {
    let content = |message: &Message| (message.content.role, message.content.text(), message.content.status);
    messages.iter().map(content).collect()
}

fn user(text: &str) -> (Role, String, MessageStatus) {
    (Role::User, text.to_owned(), MessageStatus::Complete)
}

fn reply(text: &str, status: MessageStatus) -> (Role, String, MessageStatus) {
    (Role::Assistant, text.to_owned(), status)
}

/// The messages after a dropped exchange and [`continue_session`].
fn with_interrupted_reply(text: &str) -> Vec<(Role, String, MessageStatus)> {
    vec![user("go"), reply(text, MessageStatus::Interrupted), user("next"), user("and next")]
}

/// A runtime with one blocking thread. While [`occupy`] occupies the thread, every store call waits, so a test can drop
/// a future during a given call.
fn runtime_with_one_blocking_thread() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).max_blocking_threads(1).enable_all().build().unwrap()
}

/// Occupies the blocking thread until the returned sender is dropped.
fn occupy(runtime: &Handle) -> Sender<()> {
    let (release, released) = channel::<()>();
    runtime.spawn_blocking(move || released.recv());
    release
}

#[tokio::test(start_paused = true)]
async fn a_send_dropped_by_select_while_it_streams_leaves_the_streamed_text() {
    let store = memory_store();
    let engine =
        engine(store.clone(), Scripted::new(vec![Step::Say("half "), Step::Say("a reply"), Step::Hang]));
    let mut conversation = Conversation::new(None);
    send_and_drop_at(
        &engine,
        &mut conversation,
        |update| matches!(update, Update::Delta(delta) if *delta == ReplyDelta::text("a reply")),
    )
    .await;
    let messages = continue_session(store.as_ref(), &engine, &mut conversation).await;
    assert_eq!(contents(&messages), with_interrupted_reply("half a reply"));
    assert_eq!(messages[1].content.extra.get("error").unwrap()["message"], "the reply was cancelled");
}

#[tokio::test(start_paused = true)]
async fn a_send_dropped_by_a_timeout_leaves_the_streamed_text() {
    let store = memory_store();
    let engine = engine(store.clone(), Scripted::new(vec![Step::Say("half"), Step::Pause(60_000)]));
    let mut conversation = Conversation::new(None);
    let send = engine.send(&mut conversation, "go", Arc::new(Recorded::default()), CancellationToken::new());
    assert!(tokio::time::timeout(Duration::from_secs(5), send).await.is_err());
    let messages = continue_session(store.as_ref(), &engine, &mut conversation).await;
    assert_eq!(contents(&messages), with_interrupted_reply("half"));
}

#[tokio::test(start_paused = true)]
async fn a_send_dropped_before_the_first_delta_leaves_an_empty_reply() {
    let store = memory_store();
    let engine = engine(store.clone(), Scripted::new(vec![Step::Hang]));
    let mut conversation = Conversation::new(None);
    send_and_drop_at(&engine, &mut conversation, |update| matches!(update, Update::ReplyStarted(_))).await;
    let messages = continue_session(store.as_ref(), &engine, &mut conversation).await;
    assert_eq!(contents(&messages), with_interrupted_reply(""));
}

#[tokio::test(start_paused = true)]
async fn the_run_of_a_dropped_send_is_recorded_as_cancelled_with_its_memory_and_no_checkpoint() {
    let store = memory_store();
    let phase_ended = EventPayload::PhaseEnded { phase: "one".into(), duration_ms: 1 };
    let steps = vec![Step::Remember("a", "kept"), Step::Event(phase_ended), Step::Say("half"), Step::Hang];
    let engine = engine(store.clone(), Scripted::new(steps));
    let mut conversation = Conversation::new(None);
    send_and_drop_at(&engine, &mut conversation, is_delta).await;
    let session = conversation.session().unwrap();
    engine.resume(session, None).await.unwrap();
    let runs = store.list_runs(session).unwrap();
    assert_eq!(runs.len(), 1);
    let run = store.get_run(runs[0]).unwrap();
    assert_eq!(run.snapshot.ending, Some(RunEnding::Cancelled));
    let state = store.load_branch_state(conversation.branch().unwrap()).unwrap().unwrap();
    assert!(state.agents.contains_key("a"));
    // The checkpoint of the phase is stored, and removed again, by a task of its own. The number of the next one shows that it
    // existed.
    loop {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let made = engine.checkpoint(&conversation, None).await.unwrap();
        let automatic = store.list_checkpoints(session).unwrap();
        if made.number > 1 && automatic.iter().all(|checkpoint| checkpoint.trigger == Trigger::Manual) {
            break;
        }
    }
}

#[test]
fn a_send_dropped_during_the_call_that_begins_the_reply_leaves_an_empty_reply() {
    let runtime = runtime_with_one_blocking_thread();
    let store = memory_store();
    let engine = engine(store.clone(), Scripted::new(vec![Step::Say("never")]));
    let messages = runtime.block_on(async {
        let mut conversation = Conversation::new(None);
        let release = Arc::new(Mutex::new(None));
        let (runtime, slot) = (Handle::current(), Arc::clone(&release));
        // Occupy the blocking thread once the message is saved. The next store call, `begin_reply`, then waits for the
        // thread, and the future is dropped at the await of that call.
        send_and_drop_at(&engine, &mut conversation, move |update| {
            let is_sent = matches!(update, Update::Sent(_));
            if is_sent {
                *slot.lock().unwrap() = Some(occupy(&runtime));
            }
            is_sent
        })
        .await;
        drop(release.lock().unwrap().take());
        continue_session(store.as_ref(), &engine, &mut conversation).await
    });
    assert_eq!(contents(&messages), with_interrupted_reply(""));
}

#[test]
fn a_send_dropped_while_its_message_is_saved_leaves_the_message_and_the_start_of_its_reply() {
    let runtime = runtime_with_one_blocking_thread();
    let store = memory_store();
    let engine = engine(store.clone(), Scripted::new(vec![Step::Say("never")]));
    let messages = runtime.block_on(async {
        let mut conversation = Conversation::new(None);
        let release = occupy(&Handle::current());
        let updates = Arc::new(Recorded::default());
        let send = engine.send(&mut conversation, "go", updates, CancellationToken::new());
        // Polls the future once, which starts the store call.
        assert!(tokio::time::timeout(Duration::ZERO, send).await.is_err());
        assert!(conversation.session().is_some());
        drop(release);
        continue_session(store.as_ref(), &engine, &mut conversation).await
    });
    assert_eq!(contents(&messages), with_interrupted_reply(""));
}

#[test]
fn a_send_dropped_while_its_finished_reply_is_saved_leaves_the_whole_reply() {
    let runtime = runtime_with_one_blocking_thread();
    let store = memory_store();
    let (reached, release) = (Arc::new(Notify::new()), Arc::new(Mutex::new(None)));
    let (handle, signal, slot) = (runtime.handle().clone(), Arc::clone(&reached), Arc::clone(&release));
    // Occupy the blocking thread in this hook. The next store call, which saves the finished reply, then waits for the
    // thread, and the future is dropped at the await of that call.
    let hooks = TestHooks {
        on_reply: Some(Box::new(move || {
            *slot.lock().unwrap() = Some(occupy(&handle));
            signal.notify_one();
        })),
        ..TestHooks::default()
    };
    let agent = Scripted::new(vec![Step::Say("a whole reply")]);
    let engine = engine_with_hooks(store.clone(), agent, Arc::new(hooks));
    let messages = runtime.block_on(async {
        let mut conversation = Conversation::new(None);
        send_until(&engine, &mut conversation, Arc::new(Recorded::default()), &reached).await;
        drop(release.lock().unwrap().take());
        continue_session(store.as_ref(), &engine, &mut conversation).await
    });
    let whole = reply("a whole reply", MessageStatus::Complete);
    assert_eq!(contents(&messages), [user("go"), whole, user("next"), user("and next")]);
}

/// Hooks that call a closure or never return.
#[derive(Default)]
struct TestHooks {
    is_stuck_on_user_message: bool,
    is_stuck_on_reply: bool,
    on_reply: Option<Box<dyn Fn() + Send + Sync>>,
    completed: Mutex<Vec<RunEnding>>,
}

#[async_trait]
impl Hooks for TestHooks {
    async fn on_start(&self, _session: SessionId) {}

    async fn on_message(&self, _session: SessionId, text: &str, is_user: bool) -> Verdict {
        if !is_user && let Some(call) = &self.on_reply {
            call();
        }
        let is_stuck =
            if is_user { self.is_stuck_on_user_message && text == "go" } else { self.is_stuck_on_reply };
        if is_stuck {
            std::future::pending::<()>().await;
        }
        Verdict::Pass
    }

    async fn on_event(&self, _session: SessionId, _event: &Event) {}

    async fn on_run_complete(&self, _session: SessionId, snapshot: &RunSnapshot) {
        self.completed.lock().unwrap().extend(snapshot.ending);
    }

    async fn on_exit(&self, _session: SessionId) {}

    fn session_state(&self, _session: SessionId) -> Option<PluginStates> {
        None
    }

    fn restore_state(&self, _session: SessionId, _states: &PluginStates) {}

    fn release_state(&self, _session: SessionId) {}
}

async fn send_with_timeout(engine: &Engine, conversation: &mut Conversation) {
    let send = engine.send(conversation, "go", Arc::new(Recorded::default()), CancellationToken::new());
    assert!(tokio::time::timeout(Duration::from_secs(5), send).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_send_dropped_in_the_hook_for_its_message_leaves_nothing() {
    let store = memory_store();
    let hooks = Arc::new(TestHooks { is_stuck_on_user_message: true, ..TestHooks::default() });
    let engine = engine_with_hooks(store.clone(), Scripted::new(vec![]), hooks);
    let mut conversation = Conversation::new(None);
    send_with_timeout(&engine, &mut conversation).await;
    assert_eq!(conversation.session(), None);
    let messages = continue_session(store.as_ref(), &engine, &mut conversation).await;
    assert_eq!(contents(&messages), [user("next"), user("and next")]);
}

#[tokio::test(start_paused = true)]
async fn a_send_dropped_in_the_hook_for_its_reply_leaves_the_streamed_text_and_ends_the_run() {
    let store = memory_store();
    let hooks = Arc::new(TestHooks { is_stuck_on_reply: true, ..TestHooks::default() });
    let engine = engine_with_hooks(store.clone(), Scripted::new(vec![Step::Say("streamed")]), hooks.clone());
    let mut conversation = Conversation::new(None);
    send_with_timeout(&engine, &mut conversation).await;
    let messages = continue_session(store.as_ref(), &engine, &mut conversation).await;
    assert_eq!(contents(&messages), with_interrupted_reply("streamed"));
    assert_eq!(*hooks.completed.lock().unwrap(), [RunEnding::Cancelled]);
}

#[tokio::test]
async fn an_agent_that_panics_leaves_the_streamed_text() {
    let store = memory_store();
    let panics = Step::Call(Arc::new(|| panic!("a bug in the agent")));
    let engine = engine(store.clone(), Scripted::new(vec![Step::Say("half"), panics]));
    let task = tokio::spawn({
        let engine = engine.clone();
        async move {
            let mut conversation = Conversation::new(None);
            let updates = Arc::new(Recorded::default());
            let _ = engine.send(&mut conversation, "go", updates, CancellationToken::new()).await;
        }
    });
    assert!(task.await.unwrap_err().is_panic());
    let session = only_session(store.as_ref());
    let mut conversation = engine.resume(session, None).await.unwrap();
    let messages = continue_session(store.as_ref(), &engine, &mut conversation).await;
    assert_eq!(contents(&messages), with_interrupted_reply("half"));
}

#[tokio::test]
async fn finalizing_a_dropped_reply_is_retried_while_the_store_is_unavailable() {
    let store = faulty_store();
    let engine = engine(store.clone(), Scripted::new(vec![Step::Say("half"), Step::Hang]));
    let mut conversation = Conversation::new(None);
    let failing: Arc<FaultyStore> = store.clone();
    send_and_drop_at(&engine, &mut conversation, move |update| {
        if is_delta(update) {
            failing.fail_saves(2);
        }
        is_delta(update)
    })
    .await;
    let messages = continue_session(store.as_ref(), &engine, &mut conversation).await;
    assert_eq!(contents(&messages), with_interrupted_reply("half"));
}

fn only_session(store: &dyn Store) -> SessionId {
    let page = store.list_sessions(&Default::default(), &hfs_core::PageRequest::first(10)).unwrap();
    assert_eq!(page.items.len(), 1);
    page.items[0].session.id
}

#[test]
fn the_shutdown_of_a_runtime_waits_until_its_replies_are_finalized() {
    for current_thread in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(directory.path().join("hfs.db"), SqliteOptions::default()).unwrap();
        let store: Arc<dyn Store> = Arc::new(store);
        let mut builder =
            if current_thread { Builder::new_current_thread() } else { Builder::new_multi_thread() };
        let runtime = builder.enable_all().build().unwrap();
        let engine = engine(Arc::clone(&store), Scripted::new(vec![Step::Say("half"), Step::Hang]));
        let reached = Arc::new(Notify::new());
        let observer = Arc::new(Signal { on: is_delta, reached: Arc::clone(&reached) });
        runtime.spawn(async move {
            let mut conversation = Conversation::new(None);
            engine.send(&mut conversation, "go", observer, CancellationToken::new()).await
        });
        runtime.block_on(reached.notified());
        drop(runtime);
        let branch = store.get_session(only_session(store.as_ref())).unwrap().session.current_branch;
        let messages = store.read_messages(branch, MessageRange::Newest(10)).unwrap();
        assert_eq!(contents(&messages), [user("go"), reply("half", MessageStatus::Interrupted)]);
    }
}
