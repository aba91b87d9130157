//! Checkpoints: stored states, retention, pins and deletion.

use hfs_core::{Checkpoint, CheckpointDraft, CheckpointId, CheckpointState, ErrorKind, SessionId, Timestamp};

use super::Fixture;
use super::fixture::expect_kind;
use crate::builders::{at, growing_state, state_of};

fn listed(fixture: &Fixture<'_>, session: SessionId) -> Vec<CheckpointId> {
    let listed = fixture.other_process().list_checkpoints(session).unwrap();
    for checkpoint in &listed {
        assert_eq!(&fixture.store.get_checkpoint(checkpoint.id).unwrap(), checkpoint);
    }
    listed.iter().map(|checkpoint| checkpoint.id).collect()
}

/// Asserts that the store contains no states besides those of the listed checkpoints.
#[track_caller]
fn expect_no_orphaned_states(fixture: &Fixture<'_>, session: SessionId) {
    let listed = fixture.store.list_checkpoints(session).unwrap();
    let listed_bytes: u64 = listed.iter().map(|checkpoint| checkpoint.cost.stored_bytes).sum();
    assert_eq!(fixture.store.info().unwrap().checkpoint_bytes, listed_bytes);
}

pub fn a_checkpoint_is_stored_with_its_state(fixture: &Fixture<'_>) {
    let main = fixture.append_numbered(fixture.main(), "m", 3);
    let mut state = growing_state(3);
    state.run_snapshot = fixture.drafts.run(main.branch).snapshot.into();
    let draft = CheckpointDraft {
        label: Some("before the refactoring ü".into()),
        pinned: true,
        ..fixture.drafts.checkpoint(at(main.branch, 2), state)
    };
    let checkpoint = fixture.store.create_checkpoint(&draft, 10).unwrap();
    assert_eq!((checkpoint.id, checkpoint.branch, checkpoint.seq), (draft.id, main.branch, 2));
    assert_eq!(checkpoint.session, fixture.session_of(main.branch));
    assert_eq!((&checkpoint.trigger, &checkpoint.label), (&draft.trigger, &draft.label));
    assert_eq!((checkpoint.pinned, checkpoint.created_at), (true, draft.created_at));
    let bytes = draft.state.canonical_json().unwrap();
    assert_eq!(checkpoint.state_hash.as_bytes(), blake3::hash(&bytes).as_bytes());
    assert_eq!(checkpoint.cost.state_bytes, bytes.len() as u64);
    assert!(checkpoint.cost.stored_bytes > 0 && checkpoint.cost.stored_bytes <= checkpoint.cost.state_bytes);

    let another = fixture.other_process();
    let stored = another.get_checkpoint(draft.id).unwrap();
    // The cost may be recomputed; the rest is immutable.
    assert_eq!(Checkpoint { cost: checkpoint.cost, ..stored }, checkpoint);
    assert_eq!(another.load_state(draft.id).unwrap(), draft.state);
    assert_eq!(another.load_state_json(draft.id).unwrap().as_bytes(), bytes);
    expect_kind(another.load_state_json(fixture.drafts.ids.checkpoint()), ErrorKind::NotFound);
}

pub fn checkpoints_are_listed_oldest_first(fixture: &Fixture<'_>) {
    let main = fixture.append_numbered(fixture.main(), "m", 3);
    let late = fixture.drafts.checkpoint(main, growing_state(1));
    let early = CheckpointDraft {
        created_at: Timestamp::UNIX_EPOCH,
        ..fixture.drafts.checkpoint(at(main.branch, 1), growing_state(2))
    };
    let same =
        CheckpointDraft { created_at: late.created_at, ..fixture.drafts.checkpoint(main, growing_state(3)) };
    for draft in [&late, &early, &same] {
        fixture.store.create_checkpoint(draft, 10).unwrap();
    }
    assert_eq!(listed(fixture, fixture.session_of(main.branch)), [early.id, late.id, same.id]);
}

pub fn only_the_newest_automatic_checkpoints_are_kept(fixture: &Fixture<'_>) {
    let main = fixture.append_numbered(fixture.main(), "m", 20);
    let session = fixture.session_of(main.branch);
    let (side, _) = fixture.fork(at(main.branch, 5), "side");
    let mut kept = Vec::new();
    let mut states = Vec::new();
    for number in 0..20_u64 {
        // Retention counts the checkpoints of all branches of the session.
        let position = if number % 3 == 0 { side } else { at(main.branch, number) };
        let state = growing_state(usize::try_from(number).unwrap());
        let draft = fixture.drafts.checkpoint(position, state.clone());
        let draft = match number {
            4 => CheckpointDraft { pinned: true, ..draft },
            7 => CheckpointDraft { label: Some("kept".into()), ..draft },
            9 => CheckpointDraft { trigger: "manual".into(), ..draft },
            _ => draft,
        };
        let created = fixture.store.create_checkpoint(&draft, 3).unwrap();
        assert_eq!(fixture.store.load_state(created.id).unwrap(), state);
        expect_no_orphaned_states(fixture, session);
        if matches!(number, 4 | 7 | 9 | 17..=19) {
            kept.push(created.id);
            states.push(state);
        }
    }
    assert_eq!(listed(fixture, session), kept);
    for (id, state) in kept.iter().zip(&states) {
        assert_eq!(&fixture.other_process().load_state(*id).unwrap(), state);
    }
    assert_eq!(fixture.store.get_session(session).unwrap().checkpoints, 6);
    let recorded = fixture.operations(session).iter().filter(|one| one.checkpoint.is_some()).count();
    assert_eq!(recorded, 0, "retention is not recorded as an operation");
}

pub fn retention_is_by_time_and_per_session(fixture: &Fixture<'_>) {
    let (main, elsewhere) = (fixture.main(), fixture.main());
    let session = fixture.session_of(main.branch);
    let other = fixture.checkpoint(elsewhere, growing_state(1), 1);
    let bytes = fixture.store.info().unwrap().checkpoint_bytes;
    let newer = fixture.checkpoint(main, growing_state(2), 1);
    let older = CheckpointDraft {
        created_at: Timestamp::UNIX_EPOCH,
        ..fixture.drafts.checkpoint(main, growing_state(3))
    };
    fixture.store.create_checkpoint(&older, 1).unwrap();
    assert_eq!(listed(fixture, session), [newer.id], "the older one is pruned although it was added later");
    let none = fixture.checkpoint(main, growing_state(4), 0);
    assert_eq!(listed(fixture, session), []);
    expect_kind(fixture.store.load_state(none.id), ErrorKind::NotFound);
    assert_eq!(fixture.store.load_state(other.id).unwrap(), growing_state(1));
    assert_eq!(fixture.store.info().unwrap().checkpoint_bytes, bytes, "pruned checkpoints take no space");
}

pub fn a_long_run_does_not_displace_the_final_checkpoints_of_earlier_runs(fixture: &Fixture<'_>) {
    let main = fixture.main();
    let session = fixture.session_of(main.branch);
    let mut number = 0;
    let mut mark = |trigger: &str| {
        number += 1;
        let draft = fixture.drafts.checkpoint(main, growing_state(number));
        fixture.store.create_checkpoint(&CheckpointDraft { trigger: trigger.into(), ..draft }, 5).unwrap();
    };
    // `E` for a checkpoint at the end of a run, `m` for one in the middle.
    let triggers = || -> String {
        let listed = fixture.store.list_checkpoints(session).unwrap();
        listed.iter().map(|checkpoint| if checkpoint.trigger.ends_run() { 'E' } else { 'm' }).collect()
    };
    ["run.ended"; 2].into_iter().for_each(&mut mark);
    ["phase.ended"; 9].into_iter().for_each(&mut mark);
    assert_eq!(triggers(), "EEmmm", "checkpoints in the middle of a run take the free places");
    mark("run.ended");
    assert_eq!(triggers(), "EEmmE");
    ["run.ended"; 2].into_iter().for_each(&mut mark);
    assert_eq!(triggers(), "EEEEE", "checkpoints in the middle of a run are pruned first");
    ["phase.ended"; 30].into_iter().for_each(&mut mark);
    assert_eq!(triggers(), "EEEEE", "a run displaces no end of an earlier run");
    expect_no_orphaned_states(fixture, session);
}

pub fn numbers_are_given_once(fixture: &Fixture<'_>) {
    let (main, other) = (fixture.main(), fixture.main());
    let session = fixture.session_of(main.branch);
    let mark = |retention: u32, trigger: &str| {
        let draft = fixture.drafts.checkpoint(main, growing_state(1));
        let draft = CheckpointDraft { trigger: trigger.into(), ..draft };
        fixture.store.create_checkpoint(&draft, retention).unwrap()
    };
    let numbers = || -> Vec<u64> {
        let listed = fixture.other_process().list_checkpoints(session).unwrap();
        listed.iter().map(|checkpoint| checkpoint.number).collect()
    };
    let made: Vec<_> = (0..5).map(|_| mark(3, "run.ended")).collect();
    assert_eq!(made.iter().map(|checkpoint| checkpoint.number).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert_eq!(numbers(), [3, 4, 5]);
    assert_eq!(fixture.checkpoint(other, growing_state(1), 10).number, 1, "numbers count within a session");
    fixture.store.delete_checkpoint(made[4].id, fixture.drafts.now()).unwrap();
    fixture.store.delete_checkpoint(made[2].id, fixture.drafts.now()).unwrap();
    assert_eq!(mark(3, "run.ended").number, 6, "the number of the deleted one is not given again");
    fixture.store.withdraw_checkpoints(&[mark(9, "phase.ended").id]).unwrap();
    assert_eq!((mark(9, "manual").number, numbers()), (8, vec![4, 6, 8]));
    mark(2, "phase.ended");
    assert_eq!(mark(2, "manual").number, 9, "a checkpoint that was pruned at once had no number");
    mark(0, "run.ended");
    assert_eq!((mark(9, "run.ended").number, numbers()), (10, vec![8, 9, 10]));
    assert!(fixture.store.verify().unwrap().is_ok());
}

pub fn the_checkpoints_of_a_failed_run_are_withdrawn(fixture: &Fixture<'_>) {
    let main = fixture.main();
    let session = fixture.session_of(main.branch);
    let kept = fixture.checkpoint(main, growing_state(1), 10);
    let bytes = fixture.store.info().unwrap().checkpoint_bytes;
    let made: Vec<_> = (2..6).map(|number| fixture.checkpoint(main, growing_state(number), 10).id).collect();
    fixture.store.pin_checkpoint(made[1], true).unwrap();
    fixture.store.withdraw_checkpoints(&made).unwrap();
    assert_eq!(listed(fixture, session), [kept.id, made[1]], "one that the user has pinned is kept");
    assert_eq!(fixture.store.get_session(session).unwrap().checkpoints, 2);
    assert_eq!(fixture.operations(session).len(), 1, "no operation is recorded");
    fixture.store.withdraw_checkpoints(&made).unwrap();
    fixture.store.delete_checkpoint(made[1], fixture.drafts.now()).unwrap();
    assert_eq!(fixture.store.info().unwrap().checkpoint_bytes, bytes);
    assert!(fixture.store.verify().unwrap().is_ok());
}

pub fn a_pinned_checkpoint_is_kept_until_it_is_unpinned(fixture: &Fixture<'_>) {
    let main = fixture.main();
    let session = fixture.session_of(main.branch);
    let first = fixture.checkpoint(main, growing_state(1), 1);
    fixture.store.pin_checkpoint(first.id, true).unwrap();
    assert!(fixture.other_process().get_checkpoint(first.id).unwrap().pinned);
    let second = fixture.checkpoint(main, growing_state(2), 1);
    assert_eq!(listed(fixture, session), [first.id, second.id]);
    fixture.store.pin_checkpoint(first.id, false).unwrap();
    assert_eq!(listed(fixture, session), [first.id, second.id]);
    let third = fixture.checkpoint(main, growing_state(3), 1);
    assert_eq!(listed(fixture, session), [third.id]);
    expect_kind(fixture.store.pin_checkpoint(first.id, true), ErrorKind::NotFound);
}

pub fn deleting_a_checkpoint_leaves_the_others_intact(fixture: &Fixture<'_>) {
    let main = fixture.main();
    let session = fixture.session_of(main.branch);
    let states: Vec<_> = (0..24).map(growing_state).collect();
    let mut left: Vec<_> =
        states.iter().map(|state| (fixture.checkpoint(main, state.clone(), 100).id, state)).collect();
    // The order removes keyframes, binary deltas and the neighbours of both.
    for index in [0, 10, 0, 5, 20, 3, 3, 3, 0, 12, 0, 0] {
        let (id, _) = left.remove(index.min(left.len() - 1));
        let now = fixture.drafts.now();
        fixture.store.delete_checkpoint(id, now).unwrap();
        assert_eq!(fixture.last_operation(session).checkpoint, Some(id));
        assert_eq!(fixture.store.get_session(session).unwrap().session.updated_at, now);
        expect_kind(fixture.store.get_checkpoint(id), ErrorKind::NotFound);
        expect_kind(fixture.store.load_state(id), ErrorKind::NotFound);
        expect_kind(fixture.store.delete_checkpoint(id, fixture.drafts.now()), ErrorKind::NotFound);
        expect_no_orphaned_states(fixture, session);
        for (id, state) in &left {
            assert_eq!(&&fixture.store.load_state(*id).unwrap(), state);
        }
    }
    assert_eq!(listed(fixture, session), left.iter().map(|(id, _)| *id).collect::<Vec<_>>());
    assert!(fixture.store.verify().unwrap().is_ok());
    for (id, _) in left {
        fixture.store.delete_checkpoint(id, fixture.drafts.now()).unwrap();
    }
    assert_eq!(fixture.store.info().unwrap().checkpoint_bytes, 0);
}

pub fn equal_states_are_stored_once(fixture: &Fixture<'_>) {
    let (main, elsewhere) = (fixture.main(), fixture.main());
    let first = fixture.checkpoint(main, growing_state(7), 10);
    let bytes = fixture.store.info().unwrap().checkpoint_bytes;
    assert!(bytes > 0);
    let second = fixture.checkpoint(main, growing_state(7), 10);
    let third = fixture.checkpoint(elsewhere, growing_state(7), 10);
    assert_eq!(fixture.store.info().unwrap().checkpoint_bytes, bytes);
    assert_eq!(fixture.store.info().unwrap().checkpoints, 3);
    assert_eq!((first.state_hash, first.state_hash), (second.state_hash, third.state_hash));
    fixture.store.delete_checkpoint(first.id, fixture.drafts.now()).unwrap();
    fixture.store.purge_session(second.session).unwrap();
    assert_eq!(fixture.store.load_state(third.id).unwrap(), growing_state(7));
    fixture.store.delete_checkpoint(third.id, fixture.drafts.now()).unwrap();
    assert_eq!(fixture.store.info().unwrap().checkpoint_bytes, 0);
}

pub fn states_of_very_different_sizes_are_stored_together(fixture: &Fixture<'_>) {
    let main = fixture.main();
    let large = "no two of these lines are the same: ".to_owned();
    let large: String = (0..20_000).map(|n| format!("{large}{}\n", n * 7919 % 20_011)).collect();
    let states = [
        state_of(&[]),
        state_of(&[&large]),
        state_of(&["small"]),
        state_of(&[&large, "and a little more"]),
        state_of(&["little", &large]),
        CheckpointState::default(),
        state_of(&["\u{0}", "\"quoted\" \\ ü 🦀"]),
    ];
    let ids: Vec<_> = states.iter().map(|state| fixture.checkpoint(main, state.clone(), 100).id).collect();
    for (id, state) in ids.iter().zip(&states).rev() {
        assert_eq!(&fixture.other_process().load_state(*id).unwrap(), state);
    }
}

pub fn a_checkpoint_needs_an_existing_position(fixture: &Fixture<'_>) {
    let main = fixture.append_numbered(fixture.main(), "m", 2);
    let lost = fixture.drafts.checkpoint(at(fixture.drafts.ids.branch(), 0), growing_state(0));
    expect_kind(fixture.store.create_checkpoint(&lost, 10), ErrorKind::NotFound);
    let beyond = fixture.drafts.checkpoint(at(main.branch, 3), growing_state(0));
    expect_kind(fixture.store.create_checkpoint(&beyond, 10), ErrorKind::Invalid);
    let (side, _) = fixture.fork(at(main.branch, 1), "side");
    let beyond = fixture.drafts.checkpoint(at(side.branch, 2), growing_state(0));
    expect_kind(fixture.store.create_checkpoint(&beyond, 10), ErrorKind::Invalid);
    let before_the_fork = fixture.drafts.checkpoint(at(side.branch, 0), growing_state(0));
    fixture.store.create_checkpoint(&before_the_fork, 10).unwrap();
    expect_kind(fixture.store.create_checkpoint(&before_the_fork, 10), ErrorKind::Conflict);
    assert_eq!(listed(fixture, fixture.session_of(main.branch)), [before_the_fork.id]);
}

pub fn a_checkpoint_does_not_change_its_session(fixture: &Fixture<'_>) {
    let main = fixture.main();
    let session = fixture.session_of(main.branch);
    let before = fixture.store.get_session(session).unwrap().session;
    fixture.checkpoint(main, growing_state(1), 10);
    assert_eq!(fixture.store.get_session(session).unwrap().session, before);
    assert_eq!(fixture.operations(session).len(), 1);
}
