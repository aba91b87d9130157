use std::sync::Arc;
use std::time::Duration;

use hfs_core::{
    AgentError, EventPayload, MessageRange, MessageStatus, MessageStore, Part, Role, RunEnding, RunSnapshot,
    RunStore, SessionStore, StoreError,
};
use hfs_engine::{Conversation, SendError, Update};
use tokio_util::sync::CancellationToken;

use crate::agent::{Heard, Scripted, Step, engine, memory_store};

#[tokio::test(start_paused = true)]
async fn an_exchange_is_saved_whole_and_named_after_its_first_message() {
    let store = memory_store();
    let agent =
        Scripted::new(vec![Step::Think("hm"), Step::Say("Hello, "), Step::Pause(900), Step::Say("you")]);
    let heard = Arc::new(Heard::default());
    let mut conversation = Conversation::new(None);
    let exchange = engine(store.clone(), agent)
        .send(&mut conversation, "Fix login bug", heard.clone(), CancellationToken::new())
        .await
        .unwrap();
    assert!(exchange.failure.is_none());
    let session = conversation.session().unwrap();
    let summary = store.get_session(session).unwrap();
    assert!(summary.session.name.starts_with("Fix login bug - "), "{}", summary.session.name);
    let messages = store.read_messages(conversation.branch().unwrap(), MessageRange::Newest(10)).unwrap();
    let said: Vec<(Role, String, MessageStatus)> =
        messages.iter().map(|m| (m.content.role, m.content.text(), m.content.status)).collect();
    assert_eq!(
        said,
        [
            (Role::User, "Fix login bug".to_owned(), MessageStatus::Complete),
            (Role::Assistant, "Hello, you".to_owned(), MessageStatus::Complete),
        ]
    );
    assert_eq!(conversation.head(), 2);
    assert!(
        heard.count(|update| matches!(update, Update::Saved)) >= 2,
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
        .send(&mut conversation, "go", Arc::new(Heard::default()), CancellationToken::new())
        .await
        .unwrap();
    let run = store.get_run(exchange.run.id).unwrap();
    assert_eq!(run, exchange.run);
    assert_eq!(RunSnapshot::fold(&run.events), run.snapshot);
    assert_eq!(run.answers, Some(exchange.user.content.id));
    assert_eq!(run.snapshot.ending, Some(RunEnding::Completed));
}

#[tokio::test(start_paused = true)]
async fn a_failing_agent_leaves_what_it_had_said_marked_as_interrupted() {
    let store = memory_store();
    let agent = Scripted::new(vec![Step::Say("half a "), Step::Think("hm"), Step::Fail]);
    let mut conversation = Conversation::new(None);
    let exchange = engine(store.clone(), agent)
        .send(&mut conversation, "go", Arc::new(Heard::default()), CancellationToken::new())
        .await
        .unwrap();
    assert!(matches!(exchange.failure, Some(AgentError::Unavailable { .. })));
    let reply = store.get_message(exchange.reply.content.id).unwrap();
    assert_eq!(reply.content.status, MessageStatus::Interrupted);
    assert_eq!(
        reply.content.parts,
        [Part::text("half a "), Part::Thinking { text: "hm".into(), signature: None }]
    );
    assert_eq!(reply.content.extra["error"]["kind"], "unavailable");
    assert_eq!(exchange.run.snapshot.ending, Some(RunEnding::Failed));
    assert_eq!(exchange.run.snapshot.errors.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_cancel_ends_within_its_grace_even_an_agent_that_does_not_listen() {
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
        let began = tokio::time::Instant::now();
        let exchange =
            engine.send(&mut conversation, "go", Arc::new(Heard::default()), cancel).await.unwrap();
        assert!(began.elapsed() < Duration::from_millis(5_500), "{:?}", began.elapsed());
        assert!(matches!(exchange.failure, Some(AgentError::Cancelled)));
        assert_eq!(store.get_message(exchange.reply.content.id).unwrap().content.text(), "partial");
        // The session goes on.
        let next = engine.say(&mut conversation, "and now?", &Heard::default()).await.unwrap();
        assert_eq!(next.seq, 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_moved_is_a_conflict_and_writes_nothing() {
    let store = memory_store();
    let engine = engine(store.clone(), Scripted::new(vec![Step::Say("ok")]));
    let mut mine = Conversation::new(None);
    engine.send(&mut mine, "one", Arc::new(Heard::default()), CancellationToken::new()).await.unwrap();
    let mut theirs = engine.resume(mine.session().unwrap(), None).unwrap();
    engine.send(&mut theirs, "two", Arc::new(Heard::default()), CancellationToken::new()).await.unwrap();
    let refused = engine.send(&mut mine, "three", Arc::new(Heard::default()), CancellationToken::new()).await;
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
async fn an_empty_message_begins_no_session() {
    let store = memory_store();
    let engine = engine(store.clone(), Scripted::new(vec![]));
    let mut conversation = Conversation::new(None);
    let refused =
        engine.send(&mut conversation, " \n", Arc::new(Heard::default()), CancellationToken::new()).await;
    assert!(matches!(refused, Err(SendError::Empty)));
    assert_eq!(conversation.session(), None);
}

#[tokio::test(start_paused = true)]
async fn an_agent_is_shown_as_much_of_the_end_as_fits_and_always_the_question() {
    let store = memory_store();
    let agent = Scripted::new(vec![Step::Say("answer")]);
    let mut parts = hfs_engine::Settings { context_chars: 40, ..Default::default() };
    parts.time_zone = jiff::tz::TimeZone::UTC;
    let engine = hfs_engine::Engine::new(hfs_engine::EngineParts {
        store,
        agent: agent.clone(),
        hooks: Arc::new(hfs_core::NoHooks),
        clock: Arc::new(hfs_core::SystemClock),
        settings: parts,
    });
    let mut conversation = Conversation::new(None);
    for text in ["0123456789", "abcdefghij", &"long ".repeat(20)] {
        engine
            .send(&mut conversation, text, Arc::new(Heard::default()), CancellationToken::new())
            .await
            .unwrap();
    }
    let seen: Vec<usize> = agent.requests.lock().unwrap().iter().map(|r| r.history.len()).collect();
    assert_eq!(seen, [1, 3, 1]);
}
