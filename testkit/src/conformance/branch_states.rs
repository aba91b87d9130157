//! A branch knows what its next run starts from.

use std::collections::BTreeMap;

use hfs_core::{BranchId, CheckpointDraft, CheckpointState, ErrorKind, PluginStates};
use serde_json::json;

use super::Scene;
use super::scene::expect_kind;
use crate::builders::{at, growing_state};

fn state(scene: &Scene<'_>, branch: BranchId) -> Option<CheckpointState> {
    scene.another().load_branch_state(branch).unwrap()
}

pub fn what_is_saved_for_a_branch_is_what_it_starts_from(scene: &Scene<'_>) {
    let main = scene.main();
    assert_eq!(state(scene, main.branch), None);
    for number in [1, 2, 2, 1] {
        scene.store.save_branch_state(main.branch, &growing_state(number)).unwrap();
        assert_eq!(state(scene, main.branch), Some(growing_state(number)));
    }
    let unknown = scene.make.ids.branch();
    expect_kind(scene.store.save_branch_state(unknown, &growing_state(1)), ErrorKind::NotFound);
    expect_kind(scene.store.load_branch_state(unknown), ErrorKind::NotFound);
}

pub fn a_checkpoint_is_not_what_its_own_branch_starts_from(scene: &Scene<'_>) {
    let main = scene.main();
    scene.checkpoint(main, growing_state(1), 10);
    assert_eq!(state(scene, main.branch), None);
}

pub fn a_rewound_branch_keeps_its_state_without_the_checkpoint(scene: &Scene<'_>) {
    let main = scene.talk(scene.main(), "m", 2);
    let checkpoint = scene.checkpoint(at(main.branch, 1), growing_state(1), 10);
    scene.checkpoint(main, growing_state(2), 10);
    let (back, operation) = scene.rewind(&checkpoint, "back");
    assert_eq!(state(scene, back.branch), Some(growing_state(1)));
    scene.store.delete_checkpoint(checkpoint.id, scene.make.now()).unwrap();
    assert_eq!(state(scene, back.branch), Some(growing_state(1)));
    // Neither undo nor redo nor pruning takes it away.
    scene.checkpoint(main, growing_state(3), 0);
    scene.undo(operation.id).unwrap();
    scene.redo(operation.id).unwrap();
    assert_eq!(state(scene, back.branch), Some(growing_state(1)));
    scene.store.save_branch_state(back.branch, &growing_state(9)).unwrap();
    assert_eq!(state(scene, back.branch), Some(growing_state(9)));
    assert_eq!(state(scene, main.branch), None);
}

pub fn a_fork_starts_from_the_nearest_checkpoint_before_it(scene: &Scene<'_>) {
    let main = scene.talk(scene.main(), "m", 6);
    let mark = |seq: u64, number: usize| scene.checkpoint(at(main.branch, seq), growing_state(number), 100);
    mark(2, 2);
    mark(4, 40);
    mark(4, 41);
    mark(5, 5);
    for (seq, expected) in [(1, None), (2, Some(2)), (3, Some(2)), (4, Some(41)), (5, Some(5)), (6, Some(5))]
    {
        let (side, _) = scene.fork(at(main.branch, seq), &format!("at {seq}"));
        assert_eq!(state(scene, side.branch), expected.map(growing_state), "a fork at {seq}");
    }
    let (early, _) = scene.fork(at(main.branch, 3), "early");
    mark(3, 30);
    let checkpoints = scene.store.list_checkpoints(scene.session_of(main.branch)).unwrap();
    for checkpoint in checkpoints {
        scene.store.delete_checkpoint(checkpoint.id, scene.make.now()).unwrap();
    }
    assert_eq!(state(scene, early.branch), Some(growing_state(2)), "what counts is the moment of the fork");
}

pub fn a_fork_of_a_fork_looks_along_the_history_that_it_shares(scene: &Scene<'_>) {
    let main = scene.talk(scene.main(), "m", 6);
    let (side, _) = scene.fork(at(main.branch, 3), "side");
    let side = scene.talk(side, "s", 6);
    scene.checkpoint(at(main.branch, 2), growing_state(2), 100);
    scene.checkpoint(at(main.branch, 5), growing_state(50), 100);
    let on_side = scene.make.checkpoint(at(side.branch, 5), growing_state(5));
    let older = CheckpointDraft { created_at: hfs_core::Timestamp::UNIX_EPOCH, ..on_side };
    scene.store.create_checkpoint(&older, 100).unwrap();
    // Main's checkpoint at 5 lies on what the fork does not share.
    let (deep, _) = scene.fork(side, "deep");
    assert_eq!(state(scene, deep.branch), Some(growing_state(5)));
    let (low, _) = scene.fork(at(side.branch, 4), "low");
    assert_eq!(state(scene, low.branch), Some(growing_state(2)));
    let (lower, _) = scene.fork(at(side.branch, 1), "lower");
    assert_eq!(state(scene, lower.branch), None);
}

pub fn a_state_that_equals_a_checkpoints_costs_nothing(scene: &Scene<'_>) {
    let main = scene.main();
    let checkpoint = scene.checkpoint(main, growing_state(1), 10);
    let bytes = scene.store.info().unwrap().checkpoint_bytes;
    scene.store.save_branch_state(main.branch, &growing_state(1)).unwrap();
    assert_eq!(scene.store.info().unwrap().checkpoint_bytes, bytes);
    scene.store.delete_checkpoint(checkpoint.id, scene.make.now()).unwrap();
    assert_eq!(state(scene, main.branch), Some(growing_state(1)));
    scene.store.save_branch_state(main.branch, &CheckpointState::default()).unwrap();
    assert_eq!(state(scene, main.branch), Some(CheckpointState::default()));
    assert!(scene.store.info().unwrap().checkpoint_bytes < bytes, "what nothing refers to is gone");
}

pub fn what_plugins_keep_changes_alone(scene: &Scene<'_>) {
    let main = scene.talk(scene.main(), "m", 2);
    let kept = |text: &str| [("notes".to_owned(), json!({ "n": text }))].into();
    // Nothing is made of nothing.
    scene.store.save_branch_plugins(main.branch, &PluginStates::new()).unwrap();
    assert_eq!(state(scene, main.branch), None);
    scene.store.save_branch_plugins(main.branch, &kept("1")).unwrap();
    let alone = CheckpointState { plugins: kept("1"), ..CheckpointState::default() };
    assert_eq!(state(scene, main.branch), Some(alone));
    scene.store.save_branch_state(main.branch, &growing_state(2)).unwrap();
    for text in ["2", "2", "3"] {
        scene.another().save_branch_plugins(main.branch, &kept(text)).unwrap();
        let expected = CheckpointState { plugins: kept(text), ..growing_state(2) };
        assert_eq!(state(scene, main.branch), Some(expected));
    }
    // A checkpoint that was equal stays what it was, and so does the branch that was rewound to it.
    let before = state(scene, main.branch).unwrap();
    let checkpoint = scene.checkpoint(main, before.clone(), 10);
    let (back, _) = scene.rewind(&checkpoint, "back");
    scene.store.save_branch_plugins(main.branch, &PluginStates::new()).unwrap();
    scene.store.save_branch_plugins(back.branch, &kept("4")).unwrap();
    assert_eq!(scene.store.load_state(checkpoint.id).unwrap(), before);
    let without = CheckpointState { plugins: PluginStates::new(), ..before.clone() };
    assert_eq!(state(scene, main.branch), Some(without));
    assert_eq!(state(scene, back.branch), Some(CheckpointState { plugins: kept("4"), ..before }));
    let unknown = scene.make.ids.branch();
    expect_kind(scene.store.save_branch_plugins(unknown, &kept("1")), ErrorKind::NotFound);
}

pub fn what_plugins_keep_and_what_runs_leave_do_not_undo_each_other(scene: &Scene<'_>) {
    let main = scene.main();
    let kept = |number: usize| [("notes".to_owned(), json!(number))].into();
    let state_of = |number: usize| CheckpointState { plugins: kept(number), ..growing_state(number) };
    scene.store.save_branch_state(main.branch, &state_of(0)).unwrap();
    std::thread::scope(|threads| {
        let other = scene.another();
        threads.spawn(move || {
            (1..=40).for_each(|number| other.save_branch_plugins(main.branch, &kept(number)).unwrap());
        });
        for number in 1..=20 {
            scene.store.save_branch_state(main.branch, &state_of(number)).unwrap();
        }
    });
    // Whoever came last, the run's share is the last run's.
    let last = state(scene, main.branch).unwrap();
    assert_eq!(last.agents, growing_state(20).agents);
    assert_eq!(last.run_snapshot, growing_state(20).run_snapshot);
}
