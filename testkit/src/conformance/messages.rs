//! What is appended is there, in its place, as it was.

use hfs_core::{ErrorKind, MessageDraft, MessageRange, MessageStatus, Part, Role, StoreError};
use serde_json::json;

use super::Scene;
use super::scene::{expect_kind, refused};
use crate::builders::{at, attachment};

pub fn every_field_of_a_message_is_kept(scene: &Scene<'_>) {
    let main = scene.main();
    let bytes = attachment(b"\x89PNG");
    scene.store.put_attachment(&bytes).unwrap();
    let draft = scene.make.full_message(&bytes);
    let plain = scene.make.message(Role::System, Vec::new());
    scene.store.append(main, &[draft.clone(), plain.clone()]).unwrap();
    let another = scene.another();
    let stored = another.read_messages(main.branch, MessageRange::Newest(10)).unwrap();
    assert_eq!(stored[0].content, draft);
    assert_eq!(stored[1].content, plain);
    assert_eq!(another.get_message(draft.id).unwrap(), stored[0]);
    let keys: Vec<_> = stored[0].content.extra.as_map().keys().collect();
    assert_eq!(keys, ["z", "a", ""], "what came with it keeps its order");
}

pub fn every_role_and_status_is_kept(scene: &Scene<'_>) {
    let main = scene.main();
    let mut drafts = Vec::new();
    for role in Role::ALL {
        for status in [MessageStatus::Complete, MessageStatus::Interrupted] {
            let message = scene.make.message(role, vec![Part::text(role.as_str())]);
            drafts.push(MessageDraft { status, ..message });
        }
    }
    scene.store.append(main, &drafts).unwrap();
    let stored: Vec<_> = scene.history(main.branch).into_iter().map(|message| message.content).collect();
    assert_eq!(stored, drafts);
}

pub fn a_message_of_any_size_is_kept(scene: &Scene<'_>) {
    let main = scene.main();
    let large = "0123456789abcdé\n".repeat(200_000);
    let mut deep = json!("bottom");
    for _ in 0..100 {
        deep = json!([deep]);
    }
    let parts = vec![
        Part::text(large),
        Part::ToolCall { id: "1".into(), name: "x".into(), input: deep },
        Part::text("\u{0}\u{1}\u{7f}\u{10ffff}"),
    ];
    let draft = scene.make.message(Role::Tool, parts);
    scene.store.append(main, std::slice::from_ref(&draft)).unwrap();
    assert_eq!(scene.another().get_message(draft.id).unwrap().content, draft);
}

pub fn seqs_count_from_one_without_gaps(scene: &Scene<'_>) {
    let main = scene.main();
    let drafts: Vec<_> = (0..3).map(|n| scene.make.user(&format!("{n}"))).collect();
    let first = scene.store.append(main, &drafts[..1]).unwrap();
    assert_eq!((first.first, first.position), (1, at(main.branch, 1)));
    let second = scene.store.append(first.position, &drafts[1..]).unwrap();
    assert_eq!((second.first, second.position), (2, at(main.branch, 3)));
    let history = scene.history(main.branch);
    assert_eq!(history.iter().map(|message| message.seq).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(history.iter().zip(&drafts).all(|(stored, draft)| stored.content.id == draft.id));
    assert_eq!(scene.store.get_branch(main.branch).unwrap().head, 3);
}

pub fn an_append_of_nothing_only_looks(scene: &Scene<'_>) {
    let main = scene.say(scene.main(), "one");
    let appended = scene.store.append(main, &[]).unwrap();
    assert_eq!((appended.position, appended.first), (main, 2));
    let stale = scene.store.append(at(main.branch, 0), &[]);
    assert!(matches!(refused(stale), StoreError::HeadMismatch { .. }));
}

pub fn an_append_behind_a_moved_head_changes_nothing(scene: &Scene<'_>) {
    let main = scene.main();
    let seen = scene.say(main, "mine");
    let found = scene.another().append(seen, &[scene.make.user("theirs")]).unwrap().position;
    for stale in [main, seen, at(main.branch, 3), at(main.branch, u64::from(u32::MAX) + 7)] {
        let StoreError::HeadMismatch { expected, found: named } =
            refused(scene.store.append(stale, &[scene.make.user("late"), scene.make.user("later")]))
        else {
            panic!("expected to be told of the move");
        };
        assert_eq!((expected, named), (stale, found));
        let reply = scene.store.begin_reply(stale, &scene.make.assistant(""));
        assert!(matches!(refused(reply), StoreError::HeadMismatch { .. }));
    }
    assert_eq!(scene.texts(main.branch), ["mine", "theirs"]);
    scene.say(found, "now I have seen it");
}

pub fn an_id_is_taken_once_in_the_whole_store(scene: &Scene<'_>) {
    let (one, other) = (scene.main(), scene.main());
    let message = scene.make.user("first");
    let here = scene.store.append(one, std::slice::from_ref(&message)).unwrap().position;
    let again = MessageDraft { id: message.id, ..scene.make.user("second") };
    let new = scene.make.user("new");
    expect_kind(scene.store.append(here, std::slice::from_ref(&again)), ErrorKind::Conflict);
    expect_kind(scene.store.append(other, std::slice::from_ref(&again)), ErrorKind::Conflict);
    expect_kind(scene.store.begin_reply(other, &again), ErrorKind::Conflict);
    // All or none: what stands before the conflict is not written either.
    expect_kind(scene.store.append(other, &[new.clone(), again]), ErrorKind::Conflict);
    expect_kind(scene.store.append(other, &[new.clone(), new.clone()]), ErrorKind::Conflict);
    expect_kind(scene.store.get_message(new.id), ErrorKind::NotFound);
    assert_eq!(scene.texts(one.branch), ["first"]);
    assert_eq!(scene.history(other.branch), []);
    assert_eq!(scene.store.get_branch(other.branch).unwrap().head, 0);
    scene.store.append(other, &[new]).unwrap();
}

pub fn what_is_not_there_is_not_found(scene: &Scene<'_>) {
    let nowhere = at(scene.make.ids.branch(), 0);
    expect_kind(scene.store.append(nowhere, &[scene.make.user("x")]), ErrorKind::NotFound);
    expect_kind(scene.store.begin_reply(nowhere, &scene.make.assistant("")), ErrorKind::NotFound);
    expect_kind(scene.store.read_messages(nowhere.branch, MessageRange::Newest(1)), ErrorKind::NotFound);
    expect_kind(scene.store.get_message(scene.make.ids.message()), ErrorKind::NotFound);
}

pub fn a_message_without_a_writer_is_never_streaming(scene: &Scene<'_>) {
    let main = scene.main();
    let draft = MessageDraft { status: MessageStatus::Streaming, ..scene.make.assistant("from elsewhere") };
    let main = scene.store.append(main, &[draft]).unwrap().position;
    assert_eq!(scene.history(main.branch)[0].content.status, MessageStatus::Interrupted);
    scene.say(main, "nobody is writing there");
    assert_eq!(scene.store.recover_abandoned_replies(None, scene.make.now()).unwrap(), 0);
}

pub fn a_message_cannot_refer_to_bytes_that_are_not_there(scene: &Scene<'_>) {
    let main = scene.main();
    let missing = attachment(b"missing");
    let draft = scene.make.full_message(&missing);
    expect_kind(scene.store.append(main, &[scene.make.user("fine"), draft.clone()]), ErrorKind::Invalid);
    assert_eq!(scene.history(main.branch), []);
    let reply = scene.store.begin_reply(main, &scene.make.assistant("")).unwrap();
    expect_kind(scene.store.finish_reply(reply, &draft), ErrorKind::Invalid);
    scene.store.put_attachment(&missing).unwrap();
    scene.store.finish_reply(reply, &draft).unwrap();
    assert_eq!(scene.history(main.branch)[0].content.parts, draft.parts);
}

pub fn a_range_gives_what_it_says(scene: &Scene<'_>) {
    let main = scene.main();
    assert_eq!(scene.store.read_messages(main.branch, MessageRange::Newest(5)).unwrap(), []);
    scene.talk(main, "m", 10);
    let seqs = |range: MessageRange| -> Vec<u64> {
        let found = scene.store.read_messages(main.branch, range).unwrap();
        assert!(found.iter().all(|message| message.content.text() == format!("m {}", message.seq)));
        found.iter().map(|message| message.seq).collect()
    };
    let max = u64::MAX;
    for (range, expected) in [
        (MessageRange::Newest(3), 8..=10),
        (MessageRange::Newest(u32::MAX), 1..=10),
        (MessageRange::Before(8, 3), 5..=7),
        (MessageRange::Before(3, 10), 1..=2),
        (MessageRange::Before(11, 2), 9..=10),
        (MessageRange::Before(100, 2), 9..=10),
        (MessageRange::Before(max, u32::MAX), 1..=10),
        (MessageRange::From(4, 3), 4..=6),
        (MessageRange::From(9, 10), 9..=10),
        (MessageRange::From(0, 2), 1..=2),
        (MessageRange::From(10, u32::MAX), 10..=10),
    ] {
        assert_eq!(seqs(range), expected.collect::<Vec<_>>(), "{range:?}");
    }
    for range in [
        MessageRange::Newest(0),
        MessageRange::Before(5, 0),
        MessageRange::Before(1, 5),
        MessageRange::Before(0, 5),
        MessageRange::From(3, 0),
        MessageRange::From(11, 5),
        MessageRange::From(max, u32::MAX),
    ] {
        assert_eq!(seqs(range), [0; 0], "{range:?}");
    }
}
