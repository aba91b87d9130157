use std::sync::Arc;

use hfs_core::{ErrorExt, ErrorKind, MessageStatus, MessageStore, PageRequest, SessionStore};
use hfs_engine::{Conversation, SendError, Update};
use tokio_util::sync::CancellationToken;

use crate::agent::{Heard, Scripted, Step, engine, memory_store};

/// Lets the disk fill up as soon as the reply begins to stream.
struct FillsUp {
    store: Arc<hfs_store::MemoryStore>,
    failures: u32,
    heard: Heard,
}

impl hfs_engine::Observer for FillsUp {
    fn update(&self, update: Update) {
        if matches!(&update, Update::Reply { text, .. } if text == "one ") {
            self.store.fail_saves(self.failures);
        }
        self.heard.update(update);
    }
}

#[tokio::test(start_paused = true)]
async fn a_save_that_fails_is_told_and_tried_again_until_nothing_is_lost() {
    let store = memory_store();
    let agent = Scripted::new(vec![Step::Say("one "), Step::Pause(1_500), Step::Say("two")]);
    let listener = Arc::new(FillsUp { store: store.clone(), failures: 9, heard: Heard::default() });
    let mut conversation = Conversation::new(None);
    let exchange = engine(store.clone(), agent)
        .send(&mut conversation, "go", listener.clone(), CancellationToken::new())
        .await
        .unwrap();
    assert!(listener.heard.count(|update| matches!(update, Update::NotSaved { .. })) >= 1);
    let saved = store.get_message(exchange.reply.content.id).unwrap();
    assert_eq!((saved.content.text().as_str(), saved.content.status), ("one two", MessageStatus::Complete));
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_cannot_be_saved_comes_back_with_the_error() {
    let store = memory_store();
    let agent = Scripted::new(vec![Step::Say("one "), Step::Say("two")]);
    let listener = Arc::new(FillsUp { store: store.clone(), failures: u32::MAX, heard: Heard::default() });
    let mut conversation = Conversation::new(None);
    let failed = engine(store, agent).send(&mut conversation, "go", listener, CancellationToken::new()).await;
    match failed {
        Err(SendError::ReplyNotSaved { reply, source }) => {
            assert_eq!(reply.text(), "one two");
            assert_eq!(source.kind(), ErrorKind::Unavailable);
        }
        other => panic!("expected the reply back, got {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_cannot_be_saved_comes_back_and_can_be_sent_again() {
    let store = memory_store();
    let engine = engine(store.clone(), Scripted::new(vec![Step::Say("ok")]));
    let mut conversation = Conversation::new(None);
    store.fail_saves(1);
    let failed =
        engine.send(&mut conversation, "keep me", Arc::new(Heard::default()), CancellationToken::new());
    assert!(matches!(failed.await, Err(SendError::NotSaved { text, .. }) if text == "keep me"));
    let again =
        engine.send(&mut conversation, "keep me", Arc::new(Heard::default()), CancellationToken::new());
    assert!(again.await.unwrap().failure.is_none());
    let sessions = store.list_sessions(&Default::default(), &PageRequest::first(10)).unwrap().items;
    assert_eq!((sessions.len(), sessions[0].messages), (1, 2));
}
