//! Checkpoints, rewind, fork, undo and redo.

use std::sync::Arc;

use hfs_core::{
    BranchStore, CheckpointStore, EventPayload, MessageRange, MessageStore, OperationKind, OperationStore,
    PageRequest, Pattern, RunSnapshot, SearchIndex, SearchQuery, SessionStore,
};
use hfs_engine::{
    BlockingEngine, Conversation, Engine, EngineError, RewindTarget, Settings, StateAtPlace, Update,
};
use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

use crate::agent::{
    Recorded, Scripted, Step, engine, engine_with_settings, entries, faulty_store, memory_store,
};

async fn send(engine: &Engine, conversation: &mut Conversation, text: &str) {
    engine.send(conversation, text, Arc::new(Recorded::default()), CancellationToken::new()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_holds_the_state_at_its_event_and_nothing_later() {
    let store = memory_store();
    let agent = Scripted::new(vec![
        Step::Event(EventPayload::PhaseStarted { phase: "one".into() }),
        Step::Remember("a", "first"),
        Step::Event(EventPayload::PhaseEnded { phase: "one".into(), duration_ms: 1 }),
        Step::Remember("a", "second"),
        Step::Event(EventPayload::PhaseStarted { phase: "two".into() }),
        Step::Say("done"),
    ]);
    let mut conversation = Conversation::new(None);
    let engine = engine(store.clone(), agent);
    let exchange = engine
        .send(&mut conversation, "go", Arc::new(Recorded::default()), CancellationToken::new())
        .await
        .unwrap();
    let checkpoints = store.list_checkpoints(conversation.session().unwrap()).unwrap();
    let triggers: Vec<(&str, u64)> = checkpoints.iter().map(|c| (c.trigger.as_str(), c.seq)).collect();
    assert_eq!(triggers, [("phase.ended", 1), ("run.ended", 2)]);
    for checkpoint in &checkpoints {
        let state = store.load_state(checkpoint.id).unwrap();
        let until =
            exchange.run.events.iter().position(|e| e.payload.kind() == checkpoint.trigger.as_str()).unwrap();
        assert_eq!(*state.run_snapshot, RunSnapshot::fold(&exchange.run.events[..=until]));
    }
    let middle = store.load_state(checkpoints[0].id).unwrap();
    assert_eq!(entries(&middle.agents["a"]).len(), 1);
}

#[tokio::test]
async fn a_slow_store_does_not_delay_a_run_and_gets_the_state_at_each_event() {
    let store = faulty_store();
    store.hold_checkpoints(true);
    let phase = |ended: bool, phase: &str| match ended {
        false => Step::Event(EventPayload::PhaseStarted { phase: phase.into() }),
        true => Step::Event(EventPayload::PhaseEnded { phase: phase.into(), duration_ms: 1 }),
    };
    // The last step of the run releases the checkpoints.
    let released = store.clone();
    let agent = Scripted::new(vec![
        phase(false, "one"),
        Step::Remember("a", "first"),
        phase(true, "one"),
        phase(false, "two"),
        Step::Remember("a", "second"),
        phase(true, "two"),
        Step::Remember("a", "third"),
        Step::Say("done"),
        Step::Call(Arc::new(move || released.hold_checkpoints(false))),
    ]);
    let updates = Arc::new(Recorded::default());
    let mut conversation = Conversation::new(None);
    let exchange = engine(store.clone(), agent)
        .send(&mut conversation, "go", updates.clone(), CancellationToken::new())
        .await
        .unwrap();
    assert_eq!(updates.count(|update| matches!(update, Update::CheckpointFailed { .. })), 0);
    let checkpoints = store.list_checkpoints(conversation.session().unwrap()).unwrap();
    let triggers: Vec<&str> = checkpoints.iter().map(|checkpoint| checkpoint.trigger.as_str()).collect();
    assert_eq!(triggers, ["phase.ended", "phase.ended", "run.ended"]);
    let events = &exchange.run.events;
    let ends = events.iter().enumerate().filter(|(_, event)| triggers.contains(&event.payload.kind()));
    for ((checkpoint, (at, event)), memories) in checkpoints.iter().zip(ends).zip(1..) {
        let state = store.load_state(checkpoint.id).unwrap();
        assert_eq!(*state.run_snapshot, RunSnapshot::fold(&events[..=at]));
        assert_eq!((entries(&state.agents["a"]).len(), checkpoint.created_at), (memories, event.at));
    }
}

#[tokio::test(start_paused = true)]
async fn the_settings_select_the_events_that_cause_a_checkpoint() {
    for (patterns, expected) in [
        (vec!["phase.*"], vec!["phase.started", "phase.ended"]),
        (vec!["negotiation.resolved", "phase.started"], vec!["phase.started"]),
        (vec![], vec![]),
    ] {
        let store = memory_store();
        let agent = Scripted::new(vec![
            Step::Event(EventPayload::PhaseStarted { phase: "one".into() }),
            Step::Event(EventPayload::PhaseEnded { phase: "one".into(), duration_ms: 1 }),
            Step::Say("done"),
        ]);
        let checkpoint_on = patterns.iter().map(|text| Pattern::new(text)).collect();
        let engine =
            engine_with_settings(store.clone(), agent, Settings::default().with_checkpoint_on(checkpoint_on));
        let mut conversation = Conversation::new(None);
        send(&engine, &mut conversation, "go").await;
        engine.checkpoint(&conversation, None).await.unwrap();
        let checkpoints = store.list_checkpoints(conversation.session().unwrap()).unwrap();
        let triggers: Vec<&str> = checkpoints.iter().map(|checkpoint| checkpoint.trigger.as_str()).collect();
        assert_eq!(triggers, [expected, vec!["manual"]].concat());
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_rewind_the_next_run_starts_from_the_restored_memory() {
    let store = memory_store();
    let agent = Scripted::new(vec![Step::Remember("a", "again"), Step::Say("ok")]);
    let engine = engine(store.clone(), agent.clone());
    let mut conversation = Conversation::new(None);
    for text in ["one", "two", "three"] {
        send(&engine, &mut conversation, text).await;
    }
    let session = conversation.session().unwrap();
    let first = store.list_checkpoints(session).unwrap()[0].clone();
    let rewound = engine.rewind(first.id).await.unwrap();
    assert_eq!((rewound.plan.in_view, rewound.plan.out_of_view), (2, 4));
    assert_eq!(rewound.plan.prompt.unwrap().content.text(), "two");
    let mut again = engine.resume(session, None).await.unwrap();
    assert_eq!((again.branch(), again.head()), (Some(rewound.branch.id), 2));
    send(&engine, &mut again, "another two").await;
    let requests = agent.requests.lock().unwrap();
    let (second, last) = (&requests[1], &requests[3]);
    assert_eq!(last.memories, second.memories, "the memory at the first reply to the second message");
    let texts: Vec<String> = last.history.iter().map(|message| message.content.text()).collect();
    assert_eq!(texts, ["one", "ok", "another two"]);
    // The old branch is unchanged.
    let old = store.read_messages(conversation.branch().unwrap(), MessageRange::Newest(10)).unwrap();
    assert_eq!(old.len(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_failed_or_cancelled_request_makes_no_checkpoint() {
    for (last, cancel) in [(Step::Fail, false), (Step::AwaitCancel, true)] {
        let store = memory_store();
        let phase_ended = Step::Event(EventPayload::PhaseEnded { phase: "one".into(), duration_ms: 1 });
        let agent = Scripted::new(vec![phase_ended.clone(), Step::Say("done")]);
        let engine = engine(store.clone(), agent.clone());
        let mut conversation = Conversation::new(None);
        send(&engine, &mut conversation, "one").await;
        let session = conversation.session().unwrap();
        let before = store.list_checkpoints(session).unwrap();
        assert_eq!(before.len(), 2);

        let token = CancellationToken::new();
        if cancel {
            token.cancel();
        }
        *agent.steps.lock().unwrap() = vec![phase_ended, Step::Remember("a", "lost"), last];
        let sent = engine.send(&mut conversation, "two", Arc::new(Recorded::default()), token).await.unwrap();
        assert!(sent.failure.is_some());
        assert_eq!(store.list_checkpoints(session).unwrap(), before);
        // The next checkpoint does not reuse a number that was visible during the run.
        let next = engine.checkpoint(&conversation, None).await.unwrap();
        assert_eq!(next.number, 4);
    }
}

#[tokio::test(start_paused = true)]
async fn any_message_can_be_rewound_to() {
    let store = memory_store();
    let agent = Scripted::new(vec![Step::Remember("a", "again"), Step::Say("ok")]);
    let settings = Settings::default().with_checkpoint_retention(2);
    let engine = engine_with_settings(store.clone(), agent.clone(), settings);
    let mut conversation = Conversation::new(None);
    for text in ["one", "two", "three", "four"] {
        send(&engine, &mut conversation, text).await;
    }
    let main = conversation.branch().unwrap();
    for (seq, kept, prompt) in [
        (8, Some(8), None),
        (7, Some(6), None),
        (6, Some(6), Some("four")),
        // The checkpoints at 2 and 4 are pruned.
        (5, None, Some("four")),
        (4, None, Some("three")),
        (2, None, Some("two")),
    ] {
        let plan = engine.plan_rewind(RewindTarget::Message { branch: main, seq }).await.unwrap();
        let expected = kept.map(|seq| {
            store
                .list_checkpoints(conversation.session().unwrap())
                .unwrap()
                .into_iter()
                .find(|checkpoint| checkpoint.seq == seq)
                .unwrap()
        });
        assert_eq!(plan.checkpoint(), expected.as_ref(), "message {seq}");
        assert!(kept.is_some() || plan.state == StateAtPlace::NotKept, "message {seq}");
        assert_eq!((plan.in_view, plan.out_of_view), (seq, 8 - seq));
        assert_eq!(plan.prompt.map(|message| message.content.text()).as_deref(), prompt, "message {seq}");
    }
    for seq in [0, 1] {
        let plan = engine.plan_rewind(RewindTarget::Message { branch: main, seq }).await.unwrap();
        assert_eq!(plan.state, StateAtPlace::Initial);
    }
    assert!(engine.plan_rewind(RewindTarget::Message { branch: main, seq: 9 }).await.is_err());

    let rewound = engine.rewind(RewindTarget::Message { branch: main, seq: 3 }).await.unwrap();
    assert_eq!((rewound.branch.forked_at, rewound.operation.checkpoint), (3, None));
    let mut again = engine.resume(rewound.branch.session, None).await.unwrap();
    send(&engine, &mut again, "another").await;
    let requests = agent.requests.lock().unwrap();
    let last = requests.last().unwrap();
    assert!(last.memories.is_empty(), "no state was kept there");
    let texts: Vec<String> = last.history.iter().map(|message| message.content.text()).collect();
    assert_eq!(texts, ["one", "ok", "two", "another"]);
}

#[tokio::test(start_paused = true)]
async fn the_plan_of_an_undo_counts_the_messages_that_leave_the_view() {
    let store = memory_store();
    let engine = engine(store.clone(), Scripted::new(vec![Step::Say("ok")]));
    let mut conversation = Conversation::new(None);
    send(&engine, &mut conversation, "one").await;
    let (session, main) = (conversation.session().unwrap(), conversation.branch().unwrap());
    let fork = engine.fork(main, 2, None).await.unwrap();
    assert_eq!(engine.plan_undo(session).await.unwrap().out_of_view, 0);
    let mut aside = engine.resume(session, None).await.unwrap();
    send(&engine, &mut aside, "aside").await;
    let plan = engine.plan_undo(session).await.unwrap();
    assert_eq!((plan.out_of_view, plan.from.id, plan.to.id), (2, fork.id, main));
    let undone = engine.undo(session).await.unwrap();
    assert_eq!(undone.plan, plan);
    // The undone branch is listed, and a switch to it continues it.
    let listed = store.list_branches(session).unwrap();
    assert!(listed[1].undone && listed[1].is_listed());
    let found =
        store.search(&SearchQuery { text: "aside".into(), limit: 9, ..SearchQuery::default() }).unwrap();
    assert_eq!(found.total, 1);
    assert!(!engine.switch(session, fork.id).await.unwrap().undone);
    assert_eq!(engine.plan_undo(session).await.unwrap().out_of_view, 2);
    let mut aside = engine.resume(session, None).await.unwrap();
    send(&engine, &mut aside, "again").await;
    assert_eq!(store.get_branch(fork.id).unwrap().head, 6);
}

#[tokio::test(start_paused = true)]
async fn undoing_a_rewind_restores_the_session_and_redo_repeats_the_rewind() {
    let store = memory_store();
    let engine = engine(store.clone(), Scripted::new(vec![Step::Say("ok")]));
    let mut conversation = Conversation::new(None);
    send(&engine, &mut conversation, "one").await;
    send(&engine, &mut conversation, "two").await;
    let session = conversation.session().unwrap();
    let before = store.get_session(session).unwrap();
    let first = store.list_checkpoints(session).unwrap()[0].id;
    let rewound = engine.rewind(first).await.unwrap();
    engine.undo(session).await.unwrap();
    let after = store.get_session(session).unwrap();
    assert_eq!(
        (after.branches, &after.branch, after.messages),
        (before.branches, &before.branch, before.messages)
    );
    assert!(
        matches!(
            engine.undo(session).await,
            Err(EngineError::NotReversible { operation: OperationKind::Create, .. })
        ),
        "only the creation of the session is left"
    );
    engine.redo(session).await.unwrap();
    assert_eq!(store.get_session(session).unwrap().session.current_branch, rewound.branch.id);
    assert!(matches!(engine.redo(session).await, Err(EngineError::NothingToReverse { .. })));
    let kinds: Vec<OperationKind> = store
        .list_operations(Some(session), &PageRequest::first(10))
        .unwrap()
        .items
        .iter()
        .map(|operation| operation.kind)
        .collect();
    let expected = [OperationKind::Redo, OperationKind::Undo, OperationKind::Rewind, OperationKind::Create];
    assert_eq!(kinds, expected);
}

#[tokio::test(start_paused = true)]
async fn a_fork_without_a_name_gets_the_next_free_number() {
    let store = memory_store();
    let engine = engine(store.clone(), Scripted::new(vec![Step::Say("ok")]));
    let mut conversation = Conversation::new(None);
    send(&engine, &mut conversation, "one").await;
    let main = conversation.branch().unwrap();
    let second = engine.fork(main, 1, None).await.unwrap();
    let third = engine.fork(second.id, 1, None).await.unwrap();
    let named = engine.fork(main, 0, Some("try-7x")).await.unwrap();
    let fourth = engine.fork(named.id, 0, None).await.unwrap();
    let names = [&second.name, &third.name, &named.name, &fourth.name];
    assert_eq!(names, ["main-2", "main-3", "try-7x", "try-7x-2"]);
}

/// Step of a test.
#[derive(Debug, Clone)]
enum Edit {
    Rename(u8),
    Undo,
    Redo,
}

proptest! {
    #[test]
    fn undo_and_redo_work_as_in_a_text_editor(
        edits in prop::collection::vec(
            prop_oneof![any::<u8>().prop_map(Edit::Rename), Just(Edit::Undo), Just(Edit::Redo)], 0..40),
    ) {
        let store = memory_store();
        let engine = BlockingEngine::new(engine(store.clone(), Scripted::new(vec![]))).unwrap();
        let mut conversation = Conversation::new(None);
        engine.append_user_message(&mut conversation, "start", &Recorded::default()).unwrap();
        let session = conversation.session().unwrap();
        let name = || store.get_session(session).unwrap().session.name;
        let (mut done, mut undone) = (vec![name()], Vec::new());
        for edit in edits {
            match edit {
                Edit::Rename(number) => {
                    let new = format!("name {number} {}", done.len());
                    store.rename_session(session, &new, false, hfs_core::Timestamp::UNIX_EPOCH).unwrap();
                    done.push(new);
                    undone.clear();
                }
                Edit::Undo if done.len() > 1 => {
                    engine.undo(session).unwrap();
                    undone.extend(done.pop());
                }
                Edit::Undo => prop_assert!(engine.undo(session).is_err()),
                Edit::Redo => match undone.pop() {
                    Some(name) => {
                        engine.redo(session).unwrap();
                        done.push(name);
                    }
                    None => prop_assert!(engine.redo(session).is_err()),
                },
            }
            prop_assert_eq!(Some(&name()), done.last());
        }
    }
}
