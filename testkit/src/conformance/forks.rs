//! A fork shares its beginning, and what lies behind a fork never changes.

use hfs_core::{BranchId, ErrorKind, MessageRange, MessageStatus, StoreError};

use super::Scene;
use super::scene::{expect_kind, refused};
use crate::builders::at;

pub fn a_fork_shares_its_beginning_and_copies_nothing(scene: &Scene<'_>) {
    let main = scene.talk(scene.main(), "main", 4);
    let (side, _) = scene.fork(at(main.branch, 2), "side");
    assert_eq!(scene.texts(side.branch), ["main 1", "main 2"]);
    scene.talk(side, "side", 4);
    scene.talk(main, "main", 5);
    assert_eq!(scene.texts(side.branch), ["main 1", "main 2", "side 3", "side 4"]);
    assert_eq!(scene.texts(main.branch), ["main 1", "main 2", "main 3", "main 4", "main 5"]);
    assert_eq!(scene.store.info().unwrap().messages, 7);

    let holders: Vec<BranchId> = scene.history(side.branch).iter().map(|message| message.branch).collect();
    assert_eq!(holders, [main.branch, main.branch, side.branch, side.branch]);
    let branch = scene.store.get_branch(side.branch).unwrap();
    assert_eq!((branch.parent, branch.forked_at, branch.head), (Some(main.branch), 2, 4));
}

pub fn a_fork_can_lie_anywhere_up_to_the_head(scene: &Scene<'_>) {
    let main = scene.talk(scene.main(), "main", 3);
    for head in 0..=3 {
        let (side, _) = scene.fork(at(main.branch, head), &format!("at {head}"));
        assert_eq!(scene.texts(side.branch).len() as u64, head);
        let side = scene.say(side, "own");
        assert_eq!(side.head, head + 1);
        assert_eq!(scene.texts(side.branch).last().unwrap(), "own");
    }
    let beyond = scene.make.branch("beyond", at(main.branch, 4));
    let fork = hfs_core::OperationKind::Fork;
    expect_kind(scene.store.create_branch(&beyond, fork, None, scene.make.now()), ErrorKind::Invalid);
    assert_eq!(scene.texts(main.branch), ["main 1", "main 2", "main 3"]);
}

pub fn a_fork_below_its_parents_fork_shares_with_the_grandparent(scene: &Scene<'_>) {
    let main = scene.talk(scene.main(), "main", 6);
    let (side, _) = scene.fork(at(main.branch, 4), "side");
    let side = scene.talk(side, "side", 6);
    let (deep, _) = scene.fork(at(side.branch, 2), "deep");
    scene.say(deep, "deep 3");
    assert_eq!(scene.texts(deep.branch), ["main 1", "main 2", "deep 3"]);
    let (edge, _) = scene.fork(at(side.branch, 4), "edge");
    assert_eq!(scene.texts(edge.branch), ["main 1", "main 2", "main 3", "main 4"]);
}

pub fn a_range_is_the_same_at_any_depth_of_forks(scene: &Scene<'_>) {
    // Each branch forks from the one before: now at its head, now in the middle, now below its own fork.
    let mut branches = vec![scene.talk(scene.main(), "0", 7)];
    let mut histories = vec![scene.texts(branches[0].branch)];
    for (depth, fork) in [5, 9, 3, 3, 0, 2, 6, 11].into_iter().enumerate() {
        let parent = branches[depth];
        let fork = parent.head.min(fork);
        let (side, _) = scene.fork(at(parent.branch, fork), &format!("depth {depth}"));
        branches.push(scene.talk(side, &format!("{}", depth + 1), fork + 4));
        let mut history = histories[depth][..usize::try_from(fork).unwrap()].to_vec();
        history.extend((fork + 1..=fork + 4).map(|seq| format!("{} {seq}", depth + 1)));
        histories.push(history);
    }
    let another = scene.another();
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

pub fn branches_are_written_to_independently(scene: &Scene<'_>) {
    let main = scene.talk(scene.main(), "main", 2);
    let (side, _) = scene.fork(main, "side");
    let reply = scene.store.begin_reply(side, &scene.make.assistant("")).unwrap();
    let main = scene.say(main, "main 3");
    scene.store.finish_reply(reply, &scene.make.assistant("answer")).unwrap();
    scene.say(main, "main 4");
    assert_eq!(scene.texts(side.branch), ["main 1", "main 2", "answer"]);
    assert_eq!(scene.texts(main.branch), ["main 1", "main 2", "main 3", "main 4"]);
}

pub fn no_fork_lies_behind_a_reply_that_is_being_written(scene: &Scene<'_>) {
    let main = scene.talk(scene.main(), "main", 2);
    let session = scene.session_of(main.branch);
    let writer = scene.another();
    let reply = writer.begin_reply(main, &scene.make.assistant("")).unwrap();
    let behind = scene.make.branch("behind", at(main.branch, 3));
    let fork = hfs_core::OperationKind::Fork;
    let refusal = refused(scene.store.create_branch(&behind, fork, None, scene.make.now()));
    assert!(matches!(refusal, StoreError::Locked { seq: 3 }), "{refusal}");
    assert_eq!(scene.store.list_branches(session).unwrap().len(), 1);

    let (side, _) = scene.fork(main, "before it");
    assert_eq!(scene.texts(side.branch), ["main 1", "main 2"]);
    writer.finish_reply(reply, &scene.make.assistant("done")).unwrap();
    scene.store.create_branch(&behind, fork, None, scene.make.now()).unwrap();
    assert_eq!(scene.texts(behind.id), ["main 1", "main 2", "done"]);
}

pub fn a_fork_behind_an_interrupted_reply_keeps_it(scene: &Scene<'_>) {
    let main = scene.say(scene.main(), "hello");
    let writer = scene.another();
    let reply = writer.begin_reply(main, &scene.make.assistant("")).unwrap();
    let piece = hfs_core::ReplyDelta { kind: hfs_core::DeltaKind::Text, text: "as far as".into() };
    writer.extend_reply(reply, &[piece]).unwrap();
    drop(writer);
    let (side, _) = scene.fork(at(main.branch, 2), "side");
    scene.say(side, "go on");
    assert_eq!(scene.texts(side.branch), ["hello", "as far as", "go on"]);
    assert_eq!(scene.history(side.branch)[1].content.status, MessageStatus::Interrupted);
}
