//! A checkpoint gives back exactly the state that was stored, whatever else is stored and pruned.

use hfs_core::{Checkpoint, CheckpointDraft, CheckpointId, ErrorKind, SessionId};

use super::Scene;
use super::scene::expect_kind;
use crate::builders::{at, growing_state, state_of};

fn listed(scene: &Scene<'_>, session: SessionId) -> Vec<CheckpointId> {
    let listed = scene.another().list_checkpoints(session).unwrap();
    for checkpoint in &listed {
        assert_eq!(&scene.store.get_checkpoint(checkpoint.id).unwrap(), checkpoint);
    }
    listed.iter().map(|checkpoint| checkpoint.id).collect()
}

/// What these states take is all that the store's states take: nothing is kept for what is gone.
#[track_caller]
fn expect_no_more_bytes(scene: &Scene<'_>, session: SessionId) {
    let listed = scene.store.list_checkpoints(session).unwrap();
    let theirs: u64 = listed.iter().map(|checkpoint| checkpoint.cost.stored_bytes).sum();
    assert_eq!(scene.store.info().unwrap().checkpoint_bytes, theirs);
}

pub fn a_checkpoint_is_kept_with_its_state(scene: &Scene<'_>) {
    let main = scene.talk(scene.main(), "m", 3);
    let mut state = growing_state(3);
    state.run_snapshot = scene.make.run(main.branch).snapshot.into();
    let draft = CheckpointDraft {
        label: Some("before the refactoring ü".into()),
        pinned: true,
        ..scene.make.checkpoint(at(main.branch, 2), state)
    };
    let checkpoint = scene.store.create_checkpoint(&draft, 10).unwrap();
    assert_eq!((checkpoint.id, checkpoint.branch, checkpoint.seq), (draft.id, main.branch, 2));
    assert_eq!(checkpoint.session, scene.session_of(main.branch));
    assert_eq!((&checkpoint.trigger, &checkpoint.label), (&draft.trigger, &draft.label));
    assert_eq!((checkpoint.pinned, checkpoint.created_at), (true, draft.created_at));
    let bytes = draft.state.canonical_json().unwrap();
    assert_eq!(checkpoint.state_hash.as_bytes(), blake3::hash(&bytes).as_bytes());
    assert_eq!(checkpoint.cost.state_bytes, bytes.len() as u64);
    assert!(checkpoint.cost.stored_bytes > 0 && checkpoint.cost.stored_bytes <= checkpoint.cost.state_bytes);

    let another = scene.another();
    let stored = another.get_checkpoint(draft.id).unwrap();
    // What it costs may be weighed anew; the rest is immutable.
    assert_eq!(Checkpoint { cost: checkpoint.cost, ..stored }, checkpoint);
    assert_eq!(another.load_state(draft.id).unwrap(), draft.state);
    assert_eq!(another.load_state_json(draft.id).unwrap().as_bytes(), bytes);
    expect_kind(another.load_state_json(scene.make.ids.checkpoint()), ErrorKind::NotFound);
}

pub fn checkpoints_are_listed_oldest_first(scene: &Scene<'_>) {
    let main = scene.talk(scene.main(), "m", 3);
    let late = scene.make.checkpoint(main, growing_state(1));
    let early = CheckpointDraft {
        created_at: hfs_core::Timestamp::UNIX_EPOCH,
        ..scene.make.checkpoint(at(main.branch, 1), growing_state(2))
    };
    let same =
        CheckpointDraft { created_at: late.created_at, ..scene.make.checkpoint(main, growing_state(3)) };
    for draft in [&late, &early, &same] {
        scene.store.create_checkpoint(draft, 10).unwrap();
    }
    assert_eq!(listed(scene, scene.session_of(main.branch)), [early.id, late.id, same.id]);
}

pub fn only_the_newest_automatic_ones_are_kept(scene: &Scene<'_>) {
    let main = scene.talk(scene.main(), "m", 20);
    let session = scene.session_of(main.branch);
    let (side, _) = scene.fork(at(main.branch, 5), "side");
    let mut kept = Vec::new();
    let mut states = Vec::new();
    for number in 0..20_u64 {
        // Two branches share one session's retention.
        let position = if number % 3 == 0 { side } else { at(main.branch, number) };
        let state = growing_state(usize::try_from(number).unwrap());
        let draft = scene.make.checkpoint(position, state.clone());
        let draft = match number {
            4 => CheckpointDraft { pinned: true, ..draft },
            7 => CheckpointDraft { label: Some("kept".into()), ..draft },
            9 => CheckpointDraft { trigger: "manual".into(), ..draft },
            _ => draft,
        };
        let created = scene.store.create_checkpoint(&draft, 3).unwrap();
        assert_eq!(scene.store.load_state(created.id).unwrap(), state);
        expect_no_more_bytes(scene, session);
        if matches!(number, 4 | 7 | 9 | 17..=19) {
            kept.push(created.id);
            states.push(state);
        }
    }
    assert_eq!(listed(scene, session), kept);
    for (id, state) in kept.iter().zip(&states) {
        assert_eq!(&scene.another().load_state(*id).unwrap(), state);
    }
    assert_eq!(scene.store.get_session(session).unwrap().checkpoints, 6);
    let recorded = scene.operations(session).iter().filter(|one| one.checkpoint.is_some()).count();
    assert_eq!(recorded, 0, "retention is no operation");
}

pub fn retention_looks_at_times_and_at_one_session_only(scene: &Scene<'_>) {
    let (main, elsewhere) = (scene.main(), scene.main());
    let session = scene.session_of(main.branch);
    let other = scene.checkpoint(elsewhere, growing_state(1), 1);
    let bytes = scene.store.info().unwrap().checkpoint_bytes;
    let newer = scene.checkpoint(main, growing_state(2), 1);
    let older = CheckpointDraft {
        created_at: hfs_core::Timestamp::UNIX_EPOCH,
        ..scene.make.checkpoint(main, growing_state(3))
    };
    scene.store.create_checkpoint(&older, 1).unwrap();
    assert_eq!(listed(scene, session), [newer.id], "the older one is pruned, though it came later");
    let none = scene.checkpoint(main, growing_state(4), 0);
    assert_eq!(listed(scene, session), []);
    expect_kind(scene.store.load_state(none.id), ErrorKind::NotFound);
    assert_eq!(scene.store.load_state(other.id).unwrap(), growing_state(1));
    assert_eq!(scene.store.info().unwrap().checkpoint_bytes, bytes, "what is pruned takes no space");
}

pub fn a_long_run_does_not_take_away_the_ends_of_those_before_it(scene: &Scene<'_>) {
    let main = scene.main();
    let session = scene.session_of(main.branch);
    let mut number = 0;
    let mut mark = |trigger: &str| {
        number += 1;
        let draft = scene.make.checkpoint(main, growing_state(number));
        scene.store.create_checkpoint(&CheckpointDraft { trigger: trigger.into(), ..draft }, 5).unwrap();
    };
    let triggers = || -> String {
        let listed = scene.store.list_checkpoints(session).unwrap();
        listed.iter().map(|checkpoint| if checkpoint.trigger.ends_run() { 'E' } else { 'm' }).collect()
    };
    ["run.ended"; 4].into_iter().for_each(&mut mark);
    ["phase.ended"; 9].into_iter().for_each(&mut mark);
    assert_eq!(triggers(), "EEmmm", "of the newest half, all are kept");
    mark("run.ended");
    assert_eq!(triggers(), "EEmmE");
    ["run.ended"; 2].into_iter().for_each(&mut mark);
    assert_eq!(triggers(), "EEEEE", "what lies in the middle of a run goes first");
    expect_no_more_bytes(scene, session);
}

pub fn a_pin_protects_while_it_is_there(scene: &Scene<'_>) {
    let main = scene.main();
    let session = scene.session_of(main.branch);
    let first = scene.checkpoint(main, growing_state(1), 1);
    scene.store.pin_checkpoint(first.id, true).unwrap();
    assert!(scene.another().get_checkpoint(first.id).unwrap().pinned);
    let second = scene.checkpoint(main, growing_state(2), 1);
    assert_eq!(listed(scene, session), [first.id, second.id]);
    scene.store.pin_checkpoint(first.id, false).unwrap();
    assert_eq!(listed(scene, session), [first.id, second.id]);
    let third = scene.checkpoint(main, growing_state(3), 1);
    assert_eq!(listed(scene, session), [third.id]);
    expect_kind(scene.store.pin_checkpoint(first.id, true), ErrorKind::NotFound);
}

pub fn a_deleted_checkpoint_is_gone_and_leaves_the_others_whole(scene: &Scene<'_>) {
    let main = scene.main();
    let session = scene.session_of(main.branch);
    let states: Vec<_> = (0..24).map(growing_state).collect();
    let mut left: Vec<_> =
        states.iter().map(|state| (scene.checkpoint(main, state.clone(), 100).id, state)).collect();
    // In an order that takes keyframes, differences and neighbours of both away.
    for index in [0, 10, 0, 5, 20, 3, 3, 3, 0, 12, 0, 0] {
        let (id, _) = left.remove(index.min(left.len() - 1));
        let now = scene.make.now();
        scene.store.delete_checkpoint(id, now).unwrap();
        assert_eq!(scene.last_operation(session).checkpoint, Some(id));
        assert_eq!(scene.store.get_session(session).unwrap().session.updated_at, now);
        expect_kind(scene.store.get_checkpoint(id), ErrorKind::NotFound);
        expect_kind(scene.store.load_state(id), ErrorKind::NotFound);
        expect_kind(scene.store.delete_checkpoint(id, scene.make.now()), ErrorKind::NotFound);
        expect_no_more_bytes(scene, session);
        for (id, state) in &left {
            assert_eq!(&&scene.store.load_state(*id).unwrap(), state);
        }
    }
    assert_eq!(listed(scene, session), left.iter().map(|(id, _)| *id).collect::<Vec<_>>());
    assert!(scene.store.verify().unwrap().is_ok());
    for (id, _) in left {
        scene.store.delete_checkpoint(id, scene.make.now()).unwrap();
    }
    assert_eq!(scene.store.info().unwrap().checkpoint_bytes, 0);
}

pub fn equal_states_are_stored_once(scene: &Scene<'_>) {
    let (main, elsewhere) = (scene.main(), scene.main());
    let first = scene.checkpoint(main, growing_state(7), 10);
    let bytes = scene.store.info().unwrap().checkpoint_bytes;
    assert!(bytes > 0);
    let second = scene.checkpoint(main, growing_state(7), 10);
    let third = scene.checkpoint(elsewhere, growing_state(7), 10);
    assert_eq!(scene.store.info().unwrap().checkpoint_bytes, bytes);
    assert_eq!(scene.store.info().unwrap().checkpoints, 3);
    assert_eq!((first.state_hash, first.state_hash), (second.state_hash, third.state_hash));
    scene.store.delete_checkpoint(first.id, scene.make.now()).unwrap();
    scene.store.purge_session(second.session).unwrap();
    assert_eq!(scene.store.load_state(third.id).unwrap(), growing_state(7));
    scene.store.delete_checkpoint(third.id, scene.make.now()).unwrap();
    assert_eq!(scene.store.info().unwrap().checkpoint_bytes, 0);
}

pub fn states_of_very_different_sizes_live_together(scene: &Scene<'_>) {
    let main = scene.main();
    let large = "no two of these lines are the same: ".to_owned();
    let large: String = (0..20_000).map(|n| format!("{large}{}\n", n * 7919 % 20_011)).collect();
    let states = [
        state_of(&[]),
        state_of(&[&large]),
        state_of(&["small"]),
        state_of(&[&large, "and a little more"]),
        state_of(&["little", &large]),
        hfs_core::CheckpointState::default(),
        state_of(&["\u{0}", "\"quoted\" \\ ü 🦀"]),
    ];
    let ids: Vec<_> = states.iter().map(|state| scene.checkpoint(main, state.clone(), 100).id).collect();
    for (id, state) in ids.iter().zip(&states).rev() {
        assert_eq!(&scene.another().load_state(*id).unwrap(), state);
    }
}

pub fn a_checkpoint_marks_a_place_that_exists(scene: &Scene<'_>) {
    let main = scene.talk(scene.main(), "m", 2);
    let lost = scene.make.checkpoint(at(scene.make.ids.branch(), 0), growing_state(0));
    expect_kind(scene.store.create_checkpoint(&lost, 10), ErrorKind::NotFound);
    let beyond = scene.make.checkpoint(at(main.branch, 3), growing_state(0));
    expect_kind(scene.store.create_checkpoint(&beyond, 10), ErrorKind::Invalid);
    let (side, _) = scene.fork(at(main.branch, 1), "side");
    let beyond = scene.make.checkpoint(at(side.branch, 2), growing_state(0));
    expect_kind(scene.store.create_checkpoint(&beyond, 10), ErrorKind::Invalid);
    let before_the_fork = scene.make.checkpoint(at(side.branch, 0), growing_state(0));
    scene.store.create_checkpoint(&before_the_fork, 10).unwrap();
    expect_kind(scene.store.create_checkpoint(&before_the_fork, 10), ErrorKind::Conflict);
    assert_eq!(listed(scene, scene.session_of(main.branch)), [before_the_fork.id]);
}

pub fn a_checkpoint_moves_no_session(scene: &Scene<'_>) {
    let main = scene.main();
    let session = scene.session_of(main.branch);
    let before = scene.store.get_session(session).unwrap().session;
    scene.checkpoint(main, growing_state(1), 10);
    assert_eq!(scene.store.get_session(session).unwrap().session, before);
    assert_eq!(scene.operations(session).len(), 1);
}
