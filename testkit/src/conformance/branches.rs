//! Branches: forks, rewinds, the current branch, and the state that each branch starts with.

use hfs_core::{
    BranchDraft, BranchId, CheckpointDraft, CheckpointId, CheckpointState, ErrorKind, MessageRange,
    MessageStatus, Operation, OperationKind, PluginStates, ReplyDelta, StoreError, StoreResult, Timestamp,
};
use serde_json::json;

use super::Fixture;
use super::fixture::{expect_error, expect_kind};
use crate::builders::{at, growing_state};

fn create(
    fixture: &Fixture<'_>,
    draft: &BranchDraft,
    kind: OperationKind,
    checkpoint: Option<CheckpointId>,
) -> StoreResult<Operation> {
    fixture.store.create_branch(draft, kind, checkpoint, fixture.drafts.now())
}

pub fn parents_are_listed_before_their_children(fixture: &Fixture<'_>) {
    let main = fixture.append_numbered(fixture.main(), "main", 3);
    let session = fixture.session_of(main.branch);
    let (b, fork) = fixture.fork(at(main.branch, 3), "b");
    let (a, _) = fixture.fork(at(b.branch, 1), "a");
    let (c, _) = fixture.fork(at(main.branch, 2), "c");
    let listed = fixture.other_process().list_branches(session).unwrap();
    let ids: Vec<_> = listed.iter().map(|branch| branch.id).collect();
    assert_eq!(ids, [main.branch, b.branch, a.branch, c.branch]);
    assert!(listed.iter().all(|branch| branch.session == session && !branch.undone));
    assert_eq!(listed[1].created_at, fork.created_at);
    assert_eq!(listed, ids.iter().map(|id| fixture.store.get_branch(*id).unwrap()).collect::<Vec<_>>());
}

pub fn a_new_branch_becomes_current(fixture: &Fixture<'_>) {
    let main = fixture.append_numbered(fixture.main(), "main", 2);
    let session = fixture.session_of(main.branch);
    let (side, operation) = fixture.fork(main, "side");
    let summary = fixture.other_process().get_session(session).unwrap();
    assert_eq!((summary.session.current_branch, summary.branch.as_str()), (side.branch, "side"));
    assert_eq!(summary.session.updated_at, operation.created_at);
    assert_eq!(operation.kind, OperationKind::Fork);
    assert_eq!(
        (operation.session, operation.branch, operation.checkpoint),
        (session, Some(side.branch), None)
    );
    assert_eq!(operation.before.unwrap().current_branch, main.branch);
    assert_eq!(operation.after.current_branch, side.branch);
}

pub fn a_rewind_goes_back_to_its_checkpoint(fixture: &Fixture<'_>) {
    let main = fixture.append_numbered(fixture.main(), "main", 3);
    let checkpoint = fixture.checkpoint(at(main.branch, 2), growing_state(1), 10);
    let (back, operation) = fixture.rewind(&checkpoint, "back");
    assert_eq!((operation.kind, operation.checkpoint), (OperationKind::Rewind, Some(checkpoint.id)));
    assert_eq!(fixture.texts(back.branch), ["main 1", "main 2"]);
    assert_eq!(fixture.texts(main.branch), ["main 1", "main 2", "main 3"]);
    assert_eq!(fixture.last_operation(operation.session), operation);
}

pub fn only_a_fork_or_a_rewind_to_a_checkpoint_of_the_session_creates_a_branch(fixture: &Fixture<'_>) {
    let main = fixture.append_numbered(fixture.main(), "main", 1);
    let checkpoint = fixture.checkpoint(main, growing_state(1), 10).id;
    let elsewhere = fixture.append_numbered(fixture.main(), "other", 1);
    let foreign = fixture.checkpoint(elsewhere, growing_state(1), 10).id;
    let draft = fixture.drafts.branch("side", main);
    let unknown = Some(fixture.drafts.ids.checkpoint());
    expect_kind(create(fixture, &draft, OperationKind::Rewind, Some(foreign)), ErrorKind::Invalid);
    expect_kind(create(fixture, &draft, OperationKind::Rewind, unknown), ErrorKind::NotFound);
    expect_kind(create(fixture, &draft, OperationKind::Fork, Some(checkpoint)), ErrorKind::Invalid);
    expect_kind(create(fixture, &draft, OperationKind::Switch, None), ErrorKind::Invalid);
    let lost = fixture.drafts.branch("lost", at(fixture.drafts.ids.branch(), 0));
    expect_kind(create(fixture, &lost, OperationKind::Fork, None), ErrorKind::NotFound);
    assert_eq!(fixture.store.list_branches(fixture.session_of(main.branch)).unwrap().len(), 1);
}

pub fn branch_names_and_ids_are_unique(fixture: &Fixture<'_>) {
    let (main, elsewhere) = (fixture.main(), fixture.main());
    let (side, _) = fixture.fork(main, "side");
    let taken = fixture.drafts.branch("side", main);
    expect_kind(create(fixture, &taken, OperationKind::Fork, None), ErrorKind::Conflict);
    let taken = BranchDraft { id: side.branch, ..fixture.drafts.branch("other", main) };
    expect_kind(create(fixture, &taken, OperationKind::Fork, None), ErrorKind::Conflict);
    let taken = BranchDraft { id: side.branch, ..fixture.drafts.branch("side", elsewhere) };
    expect_kind(create(fixture, &taken, OperationKind::Fork, None), ErrorKind::Conflict);
    // Names are unique per session, and are case-sensitive.
    fixture.fork(elsewhere, "side");
    fixture.fork(main, "Side");
    fixture.fork(main, "");
}

pub fn switching_makes_a_branch_current(fixture: &Fixture<'_>) {
    let main = fixture.main();
    let session = fixture.session_of(main.branch);
    let (side, _) = fixture.fork(main, "side");
    let now = fixture.drafts.now();
    let operation = fixture.store.switch_branch(main.branch, now).unwrap();
    assert_eq!((operation.kind, operation.created_at), (OperationKind::Switch, now));
    assert_eq!(operation.before.unwrap().current_branch, side.branch);
    assert_eq!(operation.after.current_branch, main.branch);
    let stored = fixture.other_process().get_session(session).unwrap().session;
    assert_eq!((stored.current_branch, stored.updated_at), (main.branch, now));
    fixture.store.switch_branch(main.branch, fixture.drafts.now()).unwrap();
    assert_eq!(fixture.operations(session).len(), 4);
    let unknown = fixture.drafts.ids.branch();
    expect_kind(fixture.store.switch_branch(unknown, fixture.drafts.now()), ErrorKind::NotFound);
}

pub fn a_branch_can_be_renamed(fixture: &Fixture<'_>) {
    let main = fixture.main();
    let session = fixture.session_of(main.branch);
    let (side, _) = fixture.fork(main, "side");
    let operation = fixture.store.rename_branch(main.branch, "trunk", fixture.drafts.now()).unwrap();
    assert_eq!((operation.kind, operation.branch), (OperationKind::RenameBranch, Some(main.branch)));
    assert_eq!(fixture.store.get_branch(main.branch).unwrap().name, "trunk");
    expect_kind(fixture.store.rename_branch(main.branch, "side", fixture.drafts.now()), ErrorKind::Conflict);
    fixture.store.rename_branch(side.branch, "side", fixture.drafts.now()).unwrap();
    fixture.store.rename_branch(side.branch, "main", fixture.drafts.now()).unwrap();
    assert_eq!(fixture.store.get_session(session).unwrap().branch, "main");
    let unknown = fixture.drafts.ids.branch();
    expect_kind(fixture.store.rename_branch(unknown, "x", fixture.drafts.now()), ErrorKind::NotFound);
    expect_kind(fixture.store.get_branch(unknown), ErrorKind::NotFound);
}

pub fn a_rewind_without_a_checkpoint_starts_without_a_state(fixture: &Fixture<'_>) {
    let main = fixture.append_numbered(fixture.main(), "main", 5);
    let session = fixture.session_of(main.branch);
    fixture.checkpoint(at(main.branch, 2), growing_state(1), 10);
    let draft = fixture.drafts.branch("back", at(main.branch, 3));
    let operation = create(fixture, &draft, OperationKind::Rewind, None).unwrap();
    assert_eq!((operation.kind, operation.checkpoint), (OperationKind::Rewind, None));
    assert_eq!(operation.after.current_branch, draft.id);
    assert_eq!(fixture.texts(draft.id), ["main 1", "main 2", "main 3"]);
    assert_eq!(state(fixture, draft.id), None, "not the state of an earlier checkpoint");
    fixture.undo(operation.id).unwrap();
    assert_eq!(fixture.store.get_session(session).unwrap().branch, "main");
}

pub fn a_switch_to_an_undone_branch_ends_that_it_is_undone(fixture: &Fixture<'_>) {
    let main = fixture.append_text(fixture.main(), "main");
    let session = fixture.session_of(main.branch);
    let (side, fork) = fixture.fork(main, "side");
    let side = fixture.append_text(side, "side");
    fixture.undo(fork.id).unwrap();
    let undone = || fixture.store.get_branch(side.branch).unwrap().undone;
    let branches = || fixture.store.get_session(session).unwrap().branches;
    assert_eq!((undone(), branches()), (true, 1));
    let switch = fixture.store.switch_branch(side.branch, fixture.drafts.now()).unwrap();
    assert_eq!((switch.kind, switch.branch), (OperationKind::Switch, Some(side.branch)));
    assert_eq!((undone(), branches()), (false, 2));
    // A redo of the fork would have to end that the branch is undone.
    fixture.store.switch_branch(main.branch, fixture.drafts.now()).unwrap();
    expect_kind(fixture.redo(fork.id), ErrorKind::Conflict);
    fixture.undo(fixture.last_operation(session).id).unwrap();
    fixture.undo(switch.id).unwrap();
    assert_eq!((undone(), branches()), (true, 1));
    fixture.redo(switch.id).unwrap();
    assert_eq!((undone(), branches()), (false, 2));
    fixture.append_text(side, "more");
    assert_eq!(fixture.texts(side.branch), ["main", "side", "more"]);
    assert!(fixture.store.verify().unwrap().is_ok());
}

pub fn an_undone_branch_is_kept_and_can_be_continued_after_a_switch(fixture: &Fixture<'_>) {
    let main = fixture.append_text(fixture.main(), "main");
    let session = fixture.session_of(main.branch);
    let (side, fork) = fixture.fork(main, "side");
    let side = fixture.append_text(side, "side");
    fixture.undo(fork.id).unwrap();
    let branch = fixture.store.list_branches(session).unwrap().remove(1);
    assert!(branch.undone && branch.is_listed());
    assert_eq!(branch, fixture.store.get_branch(side.branch).unwrap());
    assert_eq!(fixture.texts(side.branch), ["main", "side"]);
    expect_kind(fixture.store.append(side, &[fixture.drafts.user("lost")]), ErrorKind::Conflict);
    expect_kind(fixture.store.begin_reply(side, &fixture.drafts.assistant("")), ErrorKind::Conflict);
    // An undone branch keeps its name, and can also be continued on a fork of it.
    let same_name = fixture.drafts.branch("side", main);
    expect_kind(create(fixture, &same_name, OperationKind::Fork, None), ErrorKind::Conflict);
    let (rescued, _) = fixture.fork(side, "rescued");
    fixture.append_text(rescued, "on");
    assert_eq!(fixture.texts(rescued.branch), ["main", "side", "on"]);
    fixture.store.switch_branch(side.branch, fixture.drafts.now()).unwrap();
    fixture.append_text(side, "back");
    assert_eq!(fixture.texts(side.branch), ["main", "side", "back"]);
}

pub fn a_reply_on_a_branch_that_is_undone_meanwhile_is_kept(fixture: &Fixture<'_>) {
    let main = fixture.append_text(fixture.main(), "main");
    let (side, fork) = fixture.fork(main, "side");
    let reply = fixture.store.begin_reply(side, &fixture.drafts.assistant("")).unwrap();
    fixture.undo(fork.id).unwrap();
    fixture.store.finish_reply(reply, &fixture.drafts.assistant("answer")).unwrap();
    fixture.redo(fork.id).unwrap();
    assert_eq!(fixture.texts(side.branch), ["main", "answer"]);
}

pub fn a_fork_shares_messages_with_its_parent_without_copies(fixture: &Fixture<'_>) {
    let main = fixture.append_numbered(fixture.main(), "main", 4);
    let (side, _) = fixture.fork(at(main.branch, 2), "side");
    assert_eq!(fixture.texts(side.branch), ["main 1", "main 2"]);
    fixture.append_numbered(side, "side", 4);
    fixture.append_numbered(main, "main", 5);
    assert_eq!(fixture.texts(side.branch), ["main 1", "main 2", "side 3", "side 4"]);
    assert_eq!(fixture.texts(main.branch), ["main 1", "main 2", "main 3", "main 4", "main 5"]);
    assert_eq!(fixture.store.info().unwrap().messages, 7);

    let owners: Vec<BranchId> = fixture.history(side.branch).iter().map(|message| message.branch).collect();
    assert_eq!(owners, [main.branch, main.branch, side.branch, side.branch]);
    let branch = fixture.store.get_branch(side.branch).unwrap();
    assert_eq!((branch.parent, branch.forked_at, branch.head), (Some(main.branch), 2, 4));
}

pub fn a_branch_can_be_forked_at_any_position_up_to_its_head(fixture: &Fixture<'_>) {
    let main = fixture.append_numbered(fixture.main(), "main", 3);
    for head in 0..=3 {
        let (side, _) = fixture.fork(at(main.branch, head), &format!("at {head}"));
        assert_eq!(fixture.texts(side.branch).len() as u64, head);
        let side = fixture.append_text(side, "own");
        assert_eq!(side.head, head + 1);
        assert_eq!(fixture.texts(side.branch).last().unwrap(), "own");
    }
    let beyond = fixture.drafts.branch("beyond", at(main.branch, 4));
    let fork = OperationKind::Fork;
    expect_kind(fixture.store.create_branch(&beyond, fork, None, fixture.drafts.now()), ErrorKind::Invalid);
    assert_eq!(fixture.texts(main.branch), ["main 1", "main 2", "main 3"]);
}

pub fn a_fork_before_its_parents_fork_shares_messages_with_the_grandparent(fixture: &Fixture<'_>) {
    let main = fixture.append_numbered(fixture.main(), "main", 6);
    let (side, _) = fixture.fork(at(main.branch, 4), "side");
    let side = fixture.append_numbered(side, "side", 6);
    let (deep, _) = fixture.fork(at(side.branch, 2), "deep");
    fixture.append_text(deep, "deep 3");
    assert_eq!(fixture.texts(deep.branch), ["main 1", "main 2", "deep 3"]);
    let (edge, _) = fixture.fork(at(side.branch, 4), "edge");
    assert_eq!(fixture.texts(edge.branch), ["main 1", "main 2", "main 3", "main 4"]);
}

pub fn ranges_are_correct_at_any_depth_of_forks(fixture: &Fixture<'_>) {
    // Each branch is forked from the previous one: at its head, in the middle, or before its own fork.
    let mut branches = vec![fixture.append_numbered(fixture.main(), "0", 7)];
    let mut histories = vec![fixture.texts(branches[0].branch)];
    for (depth, fork) in [5, 9, 3, 3, 0, 2, 6, 11].into_iter().enumerate() {
        let parent = branches[depth];
        let fork = parent.head.min(fork);
        let (side, _) = fixture.fork(at(parent.branch, fork), &format!("depth {depth}"));
        branches.push(fixture.append_numbered(side, &format!("{}", depth + 1), fork + 4));
        let mut history = histories[depth][..usize::try_from(fork).unwrap()].to_vec();
        history.extend((fork + 1..=fork + 4).map(|seq| format!("{} {seq}", depth + 1)));
        histories.push(history);
    }
    let another = fixture.other_process();
    for (branch, history) in branches.iter().zip(&histories) {
        let length = history.len();
        let read = |range: MessageRange| -> Vec<(u64, String)> {
            let found = another.read_messages(branch.branch, range).unwrap();
            found.iter().map(|message| (message.seq, message.content.text())).collect()
        };
        let expected = |from: usize, to: usize| -> Vec<(u64, String)> {
            (from..to).map(|index| (index as u64 + 1, history[index].clone())).collect()
        };
        for count in 0..=length + 1 {
            let limit = u32::try_from(count).unwrap();
            assert_eq!(read(MessageRange::Newest(limit)), expected(length.saturating_sub(count), length));
            for place in 0..=length + 2 {
                let end = place.saturating_sub(1).min(length);
                let before = MessageRange::Before(place as u64, limit);
                assert_eq!(read(before), expected(end.saturating_sub(count), end), "{before:?} of {length}");
                let begin = place.max(1) - 1;
                let from = MessageRange::From(place as u64, limit);
                let expected = expected(begin.min(length), (begin + count).min(length));
                assert_eq!(read(from), expected, "{from:?} of {length}");
            }
        }
    }
}

pub fn branches_can_be_written_independently(fixture: &Fixture<'_>) {
    let main = fixture.append_numbered(fixture.main(), "main", 2);
    let (side, _) = fixture.fork(main, "side");
    let reply = fixture.store.begin_reply(side, &fixture.drafts.assistant("")).unwrap();
    let main = fixture.append_text(main, "main 3");
    fixture.store.finish_reply(reply, &fixture.drafts.assistant("answer")).unwrap();
    fixture.append_text(main, "main 4");
    assert_eq!(fixture.texts(side.branch), ["main 1", "main 2", "answer"]);
    assert_eq!(fixture.texts(main.branch), ["main 1", "main 2", "main 3", "main 4"]);
}

pub fn a_branch_cannot_be_forked_after_a_reply_that_is_being_written(fixture: &Fixture<'_>) {
    let main = fixture.append_numbered(fixture.main(), "main", 2);
    let session = fixture.session_of(main.branch);
    let writer = fixture.other_process();
    let reply = writer.begin_reply(main, &fixture.drafts.assistant("")).unwrap();
    let after_reply = fixture.drafts.branch("after the reply", at(main.branch, 3));
    let fork = OperationKind::Fork;
    let refusal = expect_error(fixture.store.create_branch(&after_reply, fork, None, fixture.drafts.now()));
    assert!(matches!(refusal, StoreError::Locked { seq: 3 }), "{refusal}");
    assert_eq!(fixture.store.list_branches(session).unwrap().len(), 1);

    let (side, _) = fixture.fork(main, "before it");
    assert_eq!(fixture.texts(side.branch), ["main 1", "main 2"]);
    writer.finish_reply(reply, &fixture.drafts.assistant("done")).unwrap();
    fixture.store.create_branch(&after_reply, fork, None, fixture.drafts.now()).unwrap();
    assert_eq!(fixture.texts(after_reply.id), ["main 1", "main 2", "done"]);
}

pub fn a_fork_after_an_interrupted_reply_contains_it(fixture: &Fixture<'_>) {
    let main = fixture.append_text(fixture.main(), "hello");
    let writer = fixture.other_process();
    let reply = writer.begin_reply(main, &fixture.drafts.assistant("")).unwrap();
    let delta = ReplyDelta::text("as far as");
    writer.extend_reply(reply, &[delta]).unwrap();
    drop(writer);
    let (side, _) = fixture.fork(at(main.branch, 2), "side");
    fixture.append_text(side, "go on");
    assert_eq!(fixture.texts(side.branch), ["hello", "as far as", "go on"]);
    assert_eq!(fixture.history(side.branch)[1].content.status, MessageStatus::Interrupted);
}

fn state(fixture: &Fixture<'_>, branch: BranchId) -> Option<CheckpointState> {
    fixture.other_process().load_branch_state(branch).unwrap()
}

pub fn a_saved_branch_state_is_read_back(fixture: &Fixture<'_>) {
    let main = fixture.main();
    assert_eq!(state(fixture, main.branch), None);
    for number in [1, 2, 2, 1] {
        fixture.store.save_branch_state(main.branch, &growing_state(number)).unwrap();
        assert_eq!(state(fixture, main.branch), Some(growing_state(number)));
    }
    let unknown = fixture.drafts.ids.branch();
    expect_kind(fixture.store.save_branch_state(unknown, &growing_state(1)), ErrorKind::NotFound);
    expect_kind(fixture.store.load_branch_state(unknown), ErrorKind::NotFound);
}

pub fn a_checkpoint_does_not_change_the_state_of_its_branch(fixture: &Fixture<'_>) {
    let main = fixture.main();
    fixture.checkpoint(main, growing_state(1), 10);
    assert_eq!(state(fixture, main.branch), None);
}

pub fn a_rewound_branch_keeps_its_state_when_the_checkpoint_is_deleted(fixture: &Fixture<'_>) {
    let main = fixture.append_numbered(fixture.main(), "m", 2);
    let checkpoint = fixture.checkpoint(at(main.branch, 1), growing_state(1), 10);
    fixture.checkpoint(main, growing_state(2), 10);
    let (back, operation) = fixture.rewind(&checkpoint, "back");
    assert_eq!(state(fixture, back.branch), Some(growing_state(1)));
    fixture.store.delete_checkpoint(checkpoint.id, fixture.drafts.now()).unwrap();
    assert_eq!(state(fixture, back.branch), Some(growing_state(1)));
    // Undo, redo and pruning keep it.
    fixture.checkpoint(main, growing_state(3), 0);
    fixture.undo(operation.id).unwrap();
    fixture.redo(operation.id).unwrap();
    assert_eq!(state(fixture, back.branch), Some(growing_state(1)));
    fixture.store.save_branch_state(back.branch, &growing_state(9)).unwrap();
    assert_eq!(state(fixture, back.branch), Some(growing_state(9)));
    assert_eq!(state(fixture, main.branch), None);
}

pub fn a_fork_starts_with_the_state_of_the_nearest_checkpoint_before_it(fixture: &Fixture<'_>) {
    let main = fixture.append_numbered(fixture.main(), "m", 6);
    let mark = |seq: u64, number: usize| fixture.checkpoint(at(main.branch, seq), growing_state(number), 100);
    mark(2, 2);
    mark(4, 40);
    mark(4, 41);
    mark(5, 5);
    for (seq, expected) in [(1, None), (2, Some(2)), (3, Some(2)), (4, Some(41)), (5, Some(5)), (6, Some(5))]
    {
        let (side, _) = fixture.fork(at(main.branch, seq), &format!("at {seq}"));
        assert_eq!(state(fixture, side.branch), expected.map(growing_state), "a fork at {seq}");
    }
    let (early, _) = fixture.fork(at(main.branch, 3), "early");
    mark(3, 30);
    let checkpoints = fixture.store.list_checkpoints(fixture.session_of(main.branch)).unwrap();
    for checkpoint in checkpoints {
        fixture.store.delete_checkpoint(checkpoint.id, fixture.drafts.now()).unwrap();
    }
    assert_eq!(
        state(fixture, early.branch),
        Some(growing_state(2)),
        "the state is determined at the time of the fork"
    );
}

pub fn a_fork_of_a_fork_considers_only_checkpoints_in_its_own_history(fixture: &Fixture<'_>) {
    let main = fixture.append_numbered(fixture.main(), "m", 6);
    let (side, _) = fixture.fork(at(main.branch, 3), "side");
    let side = fixture.append_numbered(side, "s", 6);
    fixture.checkpoint(at(main.branch, 2), growing_state(2), 100);
    fixture.checkpoint(at(main.branch, 5), growing_state(50), 100);
    let on_side = fixture.drafts.checkpoint(at(side.branch, 5), growing_state(5));
    let older = CheckpointDraft { created_at: Timestamp::UNIX_EPOCH, ..on_side };
    fixture.store.create_checkpoint(&older, 100).unwrap();
    // The checkpoint of main at 5 is after the fork, so it is not in the history of the side branch.
    let (deep, _) = fixture.fork(side, "deep");
    assert_eq!(state(fixture, deep.branch), Some(growing_state(5)));
    let (low, _) = fixture.fork(at(side.branch, 4), "low");
    assert_eq!(state(fixture, low.branch), Some(growing_state(2)));
    let (lower, _) = fixture.fork(at(side.branch, 1), "lower");
    assert_eq!(state(fixture, lower.branch), None);
}

pub fn a_branch_state_equal_to_a_checkpoint_takes_no_space(fixture: &Fixture<'_>) {
    let main = fixture.main();
    let checkpoint = fixture.checkpoint(main, growing_state(1), 10);
    let bytes = fixture.store.info().unwrap().checkpoint_bytes;
    fixture.store.save_branch_state(main.branch, &growing_state(1)).unwrap();
    assert_eq!(fixture.store.info().unwrap().checkpoint_bytes, bytes);
    fixture.store.delete_checkpoint(checkpoint.id, fixture.drafts.now()).unwrap();
    assert_eq!(state(fixture, main.branch), Some(growing_state(1)));
    fixture.store.save_branch_state(main.branch, &CheckpointState::default()).unwrap();
    assert_eq!(state(fixture, main.branch), Some(CheckpointState::default()));
    assert!(fixture.store.info().unwrap().checkpoint_bytes < bytes, "a state without references is deleted");
}

pub fn plugin_states_can_be_saved_without_the_rest_of_the_state(fixture: &Fixture<'_>) {
    let main = fixture.append_numbered(fixture.main(), "m", 2);
    let plugins = |text: &str| [("notes".to_owned(), json!({ "n": text }))].into();
    // Saving no plugin states does not create a branch state.
    fixture.store.save_branch_plugins(main.branch, &PluginStates::new()).unwrap();
    assert_eq!(state(fixture, main.branch), None);
    fixture.store.save_branch_plugins(main.branch, &plugins("1")).unwrap();
    let alone = CheckpointState { plugins: plugins("1"), ..CheckpointState::default() };
    assert_eq!(state(fixture, main.branch), Some(alone));
    fixture.store.save_branch_state(main.branch, &growing_state(2)).unwrap();
    for text in ["2", "2", "3"] {
        fixture.other_process().save_branch_plugins(main.branch, &plugins(text)).unwrap();
        let expected = CheckpointState { plugins: plugins(text), ..growing_state(2) };
        assert_eq!(state(fixture, main.branch), Some(expected));
    }
    // An equal checkpoint does not change, and neither does the branch that was rewound to it.
    let before = state(fixture, main.branch).unwrap();
    let checkpoint = fixture.checkpoint(main, before.clone(), 10);
    let (back, _) = fixture.rewind(&checkpoint, "back");
    fixture.store.save_branch_plugins(main.branch, &PluginStates::new()).unwrap();
    fixture.store.save_branch_plugins(back.branch, &plugins("4")).unwrap();
    assert_eq!(fixture.store.load_state(checkpoint.id).unwrap(), before);
    let without = CheckpointState { plugins: PluginStates::new(), ..before.clone() };
    assert_eq!(state(fixture, main.branch), Some(without));
    assert_eq!(state(fixture, back.branch), Some(CheckpointState { plugins: plugins("4"), ..before }));
    let unknown = fixture.drafts.ids.branch();
    expect_kind(fixture.store.save_branch_plugins(unknown, &plugins("1")), ErrorKind::NotFound);
}

pub fn concurrent_saves_of_plugin_states_and_run_states_do_not_overwrite_each_other(fixture: &Fixture<'_>) {
    let main = fixture.main();
    let plugins = |number: usize| [("notes".to_owned(), json!(number))].into();
    let state_of = |number: usize| CheckpointState { plugins: plugins(number), ..growing_state(number) };
    fixture.store.save_branch_state(main.branch, &state_of(0)).unwrap();
    std::thread::scope(|threads| {
        let other = fixture.other_process();
        threads.spawn(move || {
            (1..=40).for_each(|number| other.save_branch_plugins(main.branch, &plugins(number)).unwrap());
        });
        for number in 1..=20 {
            fixture.store.save_branch_state(main.branch, &state_of(number)).unwrap();
        }
    });
    // Independent of which save was the last, the run part of the state is that of the last run.
    let last = state(fixture, main.branch).unwrap();
    assert_eq!(last.agents, growing_state(20).agents);
    assert_eq!(last.run_snapshot, growing_state(20).run_snapshot);
}
