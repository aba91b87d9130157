//! Many at once: nothing is lost, and nobody's words interleave.

use std::collections::HashMap;
use std::sync::Barrier;
use std::thread;

use hfs_core::{MessageDraft, OperationKind, Position, Store, StoreError};

use super::Scene;
use crate::builders::{Drafts, at, growing_state};

const WRITERS: u64 = 8;
const ROUNDS: u64 = 12;

/// Appends a question and its answer by one append, again where others were faster. Returns the new position.
fn exchange(store: &dyn Store, mut here: Position, pair: &[MessageDraft]) -> Position {
    loop {
        match store.append(here, pair) {
            Ok(appended) => return appended.position,
            Err(StoreError::HeadMismatch { found, .. }) => here = found,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Lets each writer do its part at the same time, each with a store of its own and drafts of its own.
fn together(scene: &Scene<'_>, part: impl Fn(u64, &dyn Store, &Drafts) + Sync) {
    let start = Barrier::new(usize::try_from(WRITERS).unwrap());
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let store = scene.another();
            let (start, part) = (&start, &part);
            scope.spawn(move || {
                let drafts = Drafts::new(1000 + writer);
                start.wait();
                part(writer, &*store, &drafts);
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

pub fn writers_of_one_branch_lose_nothing_and_do_not_interleave(scene: &Scene<'_>) {
    let main = scene.main();
    together(scene, |writer, store, drafts| {
        let mut here = main;
        for round in 0..ROUNDS {
            here = exchange(store, here, &pair(drafts, writer, round));
        }
    });
    let history = scene.history(main.branch);
    assert_eq!(history.len() as u64, WRITERS * ROUNDS * 2);
    assert!((1..).zip(&history).all(|(seq, message)| message.seq == seq), "seqs have no gaps");
    let mut next: HashMap<String, u64> = HashMap::new();
    for exchange in history.chunks(2) {
        let question = exchange[0].content.text();
        assert_eq!(exchange[1].content.text(), question.replace("question", "answer"));
        let mut words = question.split(' ').skip(1);
        let writer = words.next().unwrap().to_owned();
        let round = next.entry(writer).or_default();
        assert_eq!(words.next().unwrap(), round.to_string(), "each writer's order is kept");
        *round += 1;
    }
    let summary = scene.store.get_session(scene.session_of(main.branch)).unwrap();
    assert_eq!(summary.messages, WRITERS * ROUNDS * 2);
}

pub fn writers_of_one_instance_do_not_interleave_either(scene: &Scene<'_>) {
    let main = scene.main();
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            scope.spawn(move || {
                let drafts = Drafts::new(2000 + writer);
                let mut here = main;
                for round in 0..ROUNDS {
                    here = exchange(&*scene.store, here, &pair(&drafts, writer, round));
                }
            });
        }
    });
    let history = scene.history(main.branch);
    assert_eq!(history.len() as u64, WRITERS * ROUNDS * 2);
    for exchange in history.chunks(2) {
        assert_eq!(exchange[1].content.text(), exchange[0].content.text().replace("question", "answer"));
    }
}

pub fn sessions_are_written_to_side_by_side(scene: &Scene<'_>) {
    together(scene, |writer, store, drafts| {
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
    let info = scene.store.info().unwrap();
    assert_eq!((info.sessions, info.messages), (WRITERS, WRITERS * (ROUNDS * 2 + 1)));
    assert_eq!(info.checkpoints, WRITERS * 2);
}

pub fn only_one_of_many_takes_a_name_an_id_or_the_floor(scene: &Scene<'_>) {
    let main = scene.say(scene.main(), "hello");
    let session = scene.make.session("contested");
    let winners = std::sync::Mutex::new([0; 3]);
    together(scene, |_, store, drafts| {
        let branch = drafts.branch("contested", main);
        let made = store.create_branch(&branch, OperationKind::Fork, None, drafts.now()).is_ok();
        let created = store.create_session(&session).is_ok();
        let reply = store.begin_reply(main, &drafts.assistant(""));
        let mut won = winners.lock().unwrap();
        for (count, result) in won.iter_mut().zip([made, created, reply.is_ok()]) {
            *count += u32::from(result);
        }
    });
    assert_eq!(*winners.lock().unwrap(), [1, 1, 1]);
}

pub fn readers_see_whole_appends(scene: &Scene<'_>) {
    let main = scene.main();
    together(scene, |writer, store, drafts| {
        if writer % 2 == 0 {
            let mut here = main;
            for round in 0..ROUNDS {
                here = exchange(store, here, &pair(drafts, writer, round));
            }
        } else {
            for _ in 0..ROUNDS * 2 {
                let seen =
                    store.read_messages(main.branch, hfs_core::MessageRange::From(1, u32::MAX)).unwrap();
                assert_eq!(seen.len() % 2, 0, "a question comes with its answer");
                let branch = store.get_branch(main.branch).unwrap();
                assert!(branch.head >= seen.len() as u64);
            }
        }
    });
}

pub fn structural_changes_do_not_disturb_who_speaks(scene: &Scene<'_>) {
    let main = scene.main();
    let session = scene.session_of(main.branch);
    together(scene, |writer, store, drafts| {
        let mut here = main;
        for round in 0..ROUNDS / 2 {
            here = exchange(store, here, &pair(drafts, writer, round));
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
    let summary = scene.store.get_session(session).unwrap();
    assert_eq!((summary.branches, summary.messages), (1 + exchanges, 3 * exchanges));
    assert_eq!(summary.checkpoints, 3);
    assert_eq!(scene.operations(session).len() as u64, 1 + 3 * exchanges);
    assert_eq!(scene.texts(main.branch).len() as u64, 2 * exchanges);
}
