//! Sending messages: successful, failing and cancelled exchanges.

use std::sync::Arc;
use std::time::Duration;

use hfs_core::{
    AgentError, ErrorExt, ErrorKind, EventPayload, MessageDraft, MessageRange, MessageStatus, MessageStore,
    PageRequest, Part, ReplyDelta, Role, RunEnding, RunSnapshot, RunStore, SessionStore, StoreError,
};
use hfs_engine::{Conversation, Observer, SendError, Settings, Update};
use tokio_util::sync::CancellationToken;

use crate::agent::{
    FaultyStore, Recorded, Scripted, Step, engine, engine_with_settings, faulty_store, memory_store,
};

#[tokio::test(start_paused = true)]
async fn an_exchange_is_saved_and_its_session_named_after_the_first_message() {
    let store = memory_store();
    let agent =
        Scripted::new(vec![Step::Think("hm"), Step::Say("Hello, "), Step::Pause(900), Step::Say("you")]);
    let updates = Arc::new(Recorded::default());
    let mut conversation = Conversation::new(None);
    let exchange = engine(store.clone(), agent)
        .send(&mut conversation, "Fix login bug", updates.clone(), CancellationToken::new())
        .await
        .unwrap();
    assert!(exchange.failure.is_none());
    let session = conversation.session().unwrap();
    let summary = store.get_session(session).unwrap();
    assert!(summary.session.name.starts_with("Fix login bug - "), "{}", summary.session.name);
    let messages = store.read_messages(conversation.branch().unwrap(), MessageRange::Newest(10)).unwrap();
    let saved: Vec<(Role, String, MessageStatus)> =
        messages.iter().map(|m| (m.content.role, m.content.text(), m.content.status)).collect();
    assert_eq!(
        saved,
        [
            (Role::User, "Fix login bug".to_owned(), MessageStatus::Complete),
            (Role::Assistant, "Hello, you".to_owned(), MessageStatus::Complete),
        ]
    );
    assert_eq!(conversation.head(), 2);
    assert!(
        updates.count(|update| matches!(update, Update::Saved)) >= 2,
        "once while streaming, once at the end"
    );
}

#[tokio::test(start_paused = true)]
async fn the_stored_run_folds_to_its_own_snapshot() {
    let store = memory_store();
    let agent = Scripted::new(vec![
        Step::Event(EventPayload::PhaseStarted { phase: "thinking".into() }),
        Step::Event(EventPayload::PhaseEnded { phase: "thinking".into(), duration_ms: 4 }),
        Step::Say("done"),
    ]);
    let mut conversation = Conversation::new(None);
    let exchange = engine(store.clone(), agent)
        .send(&mut conversation, "go", Arc::new(Recorded::default()), CancellationToken::new())
        .await
        .unwrap();
    let run = store.get_run(exchange.run.id).unwrap();
    assert_eq!(run, exchange.run);
    assert_eq!(RunSnapshot::fold(&run.events), run.snapshot);
    assert_eq!(run.answers, Some(exchange.user.content.id));
    assert_eq!(run.snapshot.ending, Some(RunEnding::Completed));
}

#[tokio::test(start_paused = true)]
async fn a_failing_agent_leaves_an_interrupted_reply_with_the_streamed_text() {
    let store = memory_store();
    let agent = Scripted::new(vec![Step::Say("half a "), Step::Think("hm"), Step::Fail]);
    let mut conversation = Conversation::new(None);
    let exchange = engine(store.clone(), agent)
        .send(&mut conversation, "go", Arc::new(Recorded::default()), CancellationToken::new())
        .await
        .unwrap();
    assert!(matches!(exchange.failure, Some(AgentError::Unavailable { .. })));
    let reply = store.get_message(exchange.reply.content.id).unwrap();
    assert_eq!(reply.content.status, MessageStatus::Interrupted);
    assert_eq!(
        reply.content.parts,
        [Part::text("half a "), Part::Thinking { text: "hm".into(), signature: None }]
    );
    assert_eq!(reply.content.extra.get("error").unwrap()["kind"], "unavailable");
    assert_eq!(exchange.run.snapshot.ending, Some(RunEnding::Failed));
    assert_eq!(exchange.run.snapshot.errors.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_run_ends_soon_even_if_the_agent_ignores_it() {
    for step in [Step::AwaitCancel, Step::Hang] {
        let store = memory_store();
        let agent = Scripted::new(vec![Step::Say("partial"), step]);
        let engine = engine(store.clone(), agent);
        let cancel = CancellationToken::new();
        let mut conversation = Conversation::new(None);
        let canceller = cancel.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(5)).await;
            canceller.cancel();
        });
        let started = tokio::time::Instant::now();
        let exchange =
            engine.send(&mut conversation, "go", Arc::new(Recorded::default()), cancel).await.unwrap();
        assert!(started.elapsed() < Duration::from_millis(5_500), "{:?}", started.elapsed());
        assert!(matches!(exchange.failure, Some(AgentError::Cancelled)));
        assert_eq!(store.get_message(exchange.reply.content.id).unwrap().content.text(), "partial");
        // The session can be continued.
        let next =
            engine.append_user_message(&mut conversation, "and now?", &Recorded::default()).await.unwrap();
        assert_eq!(next.seq, 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_for_an_old_head_is_a_conflict_and_writes_nothing() {
    let store = memory_store();
    let engine = engine(store.clone(), Scripted::new(vec![Step::Say("ok")]));
    let mut mine = Conversation::new(None);
    engine.send(&mut mine, "one", Arc::new(Recorded::default()), CancellationToken::new()).await.unwrap();
    let mut theirs = engine.resume(mine.session().unwrap(), None).await.unwrap();
    engine.send(&mut theirs, "two", Arc::new(Recorded::default()), CancellationToken::new()).await.unwrap();
    let refused =
        engine.send(&mut mine, "three", Arc::new(Recorded::default()), CancellationToken::new()).await;
    match refused {
        Err(SendError::NotSaved { text, source: StoreError::HeadMismatch { found, .. } }) => {
            assert_eq!((text.as_str(), found.head), ("three", 4));
        }
        other => panic!("expected a conflict, got {other:?}"),
    }
    let messages = store.read_messages(mine.branch().unwrap(), MessageRange::Newest(10)).unwrap();
    assert_eq!(messages.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn an_empty_message_creates_no_session() {
    let store = memory_store();
    let engine = engine(store.clone(), Scripted::new(vec![]));
    let mut conversation = Conversation::new(None);
    let refused =
        engine.send(&mut conversation, " \n", Arc::new(Recorded::default()), CancellationToken::new()).await;
    assert!(matches!(refused, Err(SendError::Empty)));
    assert_eq!(conversation.session(), None);
}

#[tokio::test(start_paused = true)]
async fn an_agent_receives_as_many_of_the_newest_messages_as_fit_and_always_the_last() {
    let store = memory_store();
    let agent = Scripted::new(vec![Step::Say("answer")]);
    let engine = engine_with_settings(store, agent.clone(), Settings::default().with_context_chars(40));
    let mut conversation = Conversation::new(None);
    for text in ["0123456789", "abcdefghij", &"long ".repeat(20)] {
        engine
            .send(&mut conversation, text, Arc::new(Recorded::default()), CancellationToken::new())
            .await
            .unwrap();
    }
    let seen: Vec<usize> = agent.requests.lock().unwrap().iter().map(|r| r.history.len()).collect();
    // At the second message, all messages so far have 26 characters. The third message alone exceeds the limit of 40.
    assert_eq!(seen, [1, 3, 1]);
}

/// Makes saves fail, as on a full disk, once the reply starts to stream.
struct FillsDisk {
    store: Arc<FaultyStore>,
    failures: u32,
    updates: Recorded,
}

impl Observer for FillsDisk {
    fn update(&self, update: Update) {
        if matches!(&update, Update::Delta(delta) if *delta == ReplyDelta::text("one ")) {
            self.store.fail_saves(self.failures);
        }
        self.updates.update(update);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_save_is_reported_and_retried_until_nothing_is_lost() {
    let store = faulty_store();
    let agent = Scripted::new(vec![Step::Say("one "), Step::Pause(1_500), Step::Say("two")]);
    let observer = Arc::new(FillsDisk { store: store.clone(), failures: 9, updates: Recorded::default() });
    let mut conversation = Conversation::new(None);
    let exchange = engine(store.clone(), agent)
        .send(&mut conversation, "go", observer.clone(), CancellationToken::new())
        .await
        .unwrap();
    assert!(observer.updates.count(|update| matches!(update, Update::NotSaved { .. })) >= 1);
    let saved = store.get_message(exchange.reply.content.id).unwrap();
    assert_eq!((saved.content.text().as_str(), saved.content.status), ("one two", MessageStatus::Complete));
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_cannot_be_saved_is_returned_with_the_error() {
    let store = faulty_store();
    let agent = Scripted::new(vec![Step::Say("one "), Step::Say("two")]);
    let observer =
        Arc::new(FillsDisk { store: store.clone(), failures: u32::MAX, updates: Recorded::default() });
    let mut conversation = Conversation::new(None);
    let failed = engine(store, agent).send(&mut conversation, "go", observer, CancellationToken::new()).await;
    match failed {
        Err(SendError::ReplyNotSaved { messages, source }) => {
            assert_eq!(messages.iter().map(MessageDraft::text).collect::<Vec<_>>(), ["one two"]);
            assert_eq!(source.kind(), ErrorKind::Unavailable);
        }
        other => panic!("expected the reply in the error, got {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_cannot_be_saved_is_returned_and_can_be_sent_again() {
    let store = faulty_store();
    let engine = engine(store.clone(), Scripted::new(vec![Step::Say("ok")]));
    let mut conversation = Conversation::new(None);
    store.fail_saves(1);
    let failed =
        engine.send(&mut conversation, "keep me", Arc::new(Recorded::default()), CancellationToken::new());
    assert!(matches!(failed.await, Err(SendError::NotSaved { text, .. }) if text == "keep me"));
    let again =
        engine.send(&mut conversation, "keep me", Arc::new(Recorded::default()), CancellationToken::new());
    assert!(again.await.unwrap().failure.is_none());
    let sessions = store.list_sessions(&Default::default(), &PageRequest::first(10)).unwrap().items;
    assert_eq!((sessions.len(), sessions[0].messages), (1, 2));
}
