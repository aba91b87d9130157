//! Concurrent writers and readers.

use std::collections::HashMap;
use std::sync::Barrier;
use std::thread;

use hfs_core::{MessageDraft, MessageRange, OperationKind, Position, Store, StoreError};

use super::Fixture;
use crate::builders::{Drafts, at, growing_state};

const WRITERS: u64 = 8;
const ROUNDS: u64 = 12;

/// Appends a question and its answer in one append, and retries at the new head after a conflict. Returns the new
/// position.
fn append_exchange(store: &dyn Store, mut here: Position, pair: &[MessageDraft]) -> Position {
    loop {
        match store.append(here, pair) {
            Ok(appended) => return appended.position,
            Err(StoreError::HeadMismatch { found, .. }) => here = found,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Runs `work` in each writer thread at the same time, each with its own store instance and drafts.
fn run_concurrently(fixture: &Fixture<'_>, work: impl Fn(u64, &dyn Store, &Drafts) + Sync) {
    let start = Barrier::new(usize::try_from(WRITERS).unwrap());
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let store = fixture.other_process();
            let (start, work) = (&start, &work);
            scope.spawn(move || {
                let drafts = Drafts::new(1000 + writer);
                start.wait();
                work(writer, &*store, &drafts);
            });
        }
    });
}

fn pair(drafts: &Drafts, writer: u64, round: u64) -> [MessageDraft; 2] {
    [
        drafts.user(&format!("question {writer} {round}")),
        drafts.assistant(&format!("answer {writer} {round}")),
    ]
}

pub fn concurrent_appends_to_one_branch_are_complete_and_not_interleaved(fixture: &Fixture<'_>) {
    let main = fixture.main();
    run_concurrently(fixture, |writer, store, drafts| {
        let mut here = main;
        for round in 0..ROUNDS {
            here = append_exchange(store, here, &pair(drafts, writer, round));
        }
    });
    let history = fixture.history(main.branch);
    assert_eq!(history.len() as u64, WRITERS * ROUNDS * 2);
    assert!((1..).zip(&history).all(|(seq, message)| message.seq == seq), "seqs have no gaps");
    let mut next: HashMap<String, u64> = HashMap::new();
    for exchange in history.chunks(2) {
        let question = exchange[0].content.text();
        assert_eq!(exchange[1].content.text(), question.replace("question", "answer"));
        let mut words = question.split(' ').skip(1);
        let writer = words.next().unwrap().to_owned();
        let round = next.entry(writer).or_default();
        assert_eq!(words.next().unwrap(), round.to_string(), "the messages of each writer keep their order");
        *round += 1;
    }
    let summary = fixture.store.get_session(fixture.session_of(main.branch)).unwrap();
    assert_eq!(summary.messages, WRITERS * ROUNDS * 2);
}

pub fn concurrent_appends_through_one_instance_are_not_interleaved(fixture: &Fixture<'_>) {
    let main = fixture.main();
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            scope.spawn(move || {
                let drafts = Drafts::new(2000 + writer);
                let mut here = main;
                for round in 0..ROUNDS {
                    here = append_exchange(&*fixture.store, here, &pair(&drafts, writer, round));
                }
            });
        }
    });
    let history = fixture.history(main.branch);
    assert_eq!(history.len() as u64, WRITERS * ROUNDS * 2);
    for exchange in history.chunks(2) {
        assert_eq!(exchange[1].content.text(), exchange[0].content.text().replace("question", "answer"));
    }
}

pub fn different_sessions_can_be_written_concurrently(fixture: &Fixture<'_>) {
    run_concurrently(fixture, |writer, store, drafts| {
        let session = store.create_session(&drafts.session(&format!("{writer}"))).unwrap();
        let mut here = at(session.current_branch, 0);
        for round in 0..ROUNDS {
            here = store.append(here, &pair(drafts, writer, round)).unwrap().position;
            if round % 4 == 0 {
                let state = growing_state(usize::try_from(round).unwrap());
                store.create_checkpoint(&drafts.checkpoint(here, state), 2).unwrap();
            }
        }
        let reply = store.begin_reply(here, &drafts.assistant("")).unwrap();
        store.finish_reply(reply, &drafts.assistant("done")).unwrap();
    });
    let info = fixture.store.info().unwrap();
    assert_eq!((info.sessions, info.messages), (WRITERS, WRITERS * (ROUNDS * 2 + 1)));
    assert_eq!(info.checkpoints, WRITERS * 2);
}

pub fn concurrent_writers_never_share_a_name_an_id_or_a_reply(fixture: &Fixture<'_>) {
    let main = fixture.append_text(fixture.main(), "hello");
    let session = fixture.drafts.session("contested");
    let winners = std::sync::Mutex::new([0; 3]);
    run_concurrently(fixture, |_, store, drafts| {
        let branch = drafts.branch("contested", main);
        let forked = store.create_branch(&branch, OperationKind::Fork, None, drafts.now()).is_ok();
        let created = store.create_session(&session).is_ok();
        let reply = store.begin_reply(main, &drafts.assistant(""));
        let mut won = winners.lock().unwrap();
        for (count, result) in won.iter_mut().zip([forked, created, reply.is_ok()]) {
            *count += u32::from(result);
        }
    });
    assert_eq!(*winners.lock().unwrap(), [1, 1, 1]);
}

pub fn readers_see_appends_completely_or_not_at_all(fixture: &Fixture<'_>) {
    let main = fixture.main();
    run_concurrently(fixture, |writer, store, drafts| {
        if writer % 2 == 0 {
            let mut here = main;
            for round in 0..ROUNDS {
                here = append_exchange(store, here, &pair(drafts, writer, round));
            }
        } else {
            for _ in 0..ROUNDS * 2 {
                let seen = store.read_messages(main.branch, MessageRange::From(1, u32::MAX)).unwrap();
                assert_eq!(seen.len() % 2, 0, "a question is visible together with its answer");
                let branch = store.get_branch(main.branch).unwrap();
                assert!(branch.head >= seen.len() as u64);
            }
        }
    });
}

pub fn concurrent_structural_changes_do_not_disturb_appends(fixture: &Fixture<'_>) {
    let main = fixture.main();
    let session = fixture.session_of(main.branch);
    run_concurrently(fixture, |writer, store, drafts| {
        let mut here = main;
        for round in 0..ROUNDS / 2 {
            here = append_exchange(store, here, &pair(drafts, writer, round));
            let name = format!("{writer} {round}");
            let branch = drafts.branch(&name, here);
            store.create_branch(&branch, OperationKind::Fork, None, drafts.now()).unwrap();
            store.append(at(branch.id, here.head), &[drafts.user("aside")]).unwrap();
            store.rename_session(session, &name, false, drafts.now()).unwrap();
            store.switch_branch(main.branch, drafts.now()).unwrap();
            let state = growing_state(usize::try_from(writer).unwrap());
            store.create_checkpoint(&drafts.checkpoint(here, state), 3).unwrap();
        }
    });
    let exchanges = WRITERS * (ROUNDS / 2);
    let summary = fixture.store.get_session(session).unwrap();
    assert_eq!((summary.branches, summary.messages), (1 + exchanges, 3 * exchanges));
    assert_eq!(summary.checkpoints, 3);
    assert_eq!(fixture.operations(session).len() as u64, 1 + 3 * exchanges);
    assert_eq!(fixture.texts(main.branch).len() as u64, 2 * exchanges);
}
