//! Messages and attachments: append and read.

use hfs_core::{Attachment, ErrorKind, MessageDraft, MessageRange, MessageStatus, Part, Role, StoreError};
use serde_json::json;

use super::Fixture;
use super::fixture::{expect_error, expect_kind};
use crate::builders::{at, attachment};

pub fn every_field_of_a_message_is_stored(fixture: &Fixture<'_>) {
    let main = fixture.main();
    let bytes = attachment(b"\x89PNG");
    fixture.store.put_attachment(&bytes).unwrap();
    let draft = fixture.drafts.full_message(&bytes);
    let plain = fixture.drafts.message(Role::System, Vec::new());
    fixture.store.append(main, &[draft.clone(), plain.clone()]).unwrap();
    let another = fixture.other_process();
    let stored = another.read_messages(main.branch, MessageRange::Newest(10)).unwrap();
    assert_eq!(stored[0].content, draft);
    assert_eq!(stored[1].content, plain);
    assert_eq!(another.get_message(draft.id).unwrap(), stored[0]);
    let keys: Vec<_> = stored[0].content.extra.as_map().keys().collect();
    assert_eq!(keys, ["z", "a", ""], "passthrough fields keep their order");
}

pub fn every_role_and_status_is_stored(fixture: &Fixture<'_>) {
    let main = fixture.main();
    let mut drafts = Vec::new();
    for role in Role::ALL {
        for status in [MessageStatus::Complete, MessageStatus::Interrupted] {
            let message = fixture.drafts.message(role, vec![Part::text(role.as_str())]);
            drafts.push(MessageDraft { status, ..message });
        }
    }
    fixture.store.append(main, &drafts).unwrap();
    let stored: Vec<_> = fixture.history(main.branch).into_iter().map(|message| message.content).collect();
    assert_eq!(stored, drafts);
}

pub fn a_message_of_any_size_is_stored(fixture: &Fixture<'_>) {
    let main = fixture.main();
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
    let draft = fixture.drafts.message(Role::Tool, parts);
    fixture.store.append(main, std::slice::from_ref(&draft)).unwrap();
    assert_eq!(fixture.other_process().get_message(draft.id).unwrap().content, draft);
}

pub fn seqs_count_from_one_without_gaps(fixture: &Fixture<'_>) {
    let main = fixture.main();
    let drafts: Vec<_> = (0..3).map(|n| fixture.drafts.user(&format!("{n}"))).collect();
    let first = fixture.store.append(main, &drafts[..1]).unwrap();
    assert_eq!((first.first, first.position), (1, at(main.branch, 1)));
    let second = fixture.store.append(first.position, &drafts[1..]).unwrap();
    assert_eq!((second.first, second.position), (2, at(main.branch, 3)));
    let history = fixture.history(main.branch);
    assert_eq!(history.iter().map(|message| message.seq).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(history.iter().zip(&drafts).all(|(stored, draft)| stored.content.id == draft.id));
    assert_eq!(fixture.store.get_branch(main.branch).unwrap().head, 3);
}

pub fn an_empty_append_only_checks_the_position(fixture: &Fixture<'_>) {
    let main = fixture.append_text(fixture.main(), "one");
    let appended = fixture.store.append(main, &[]).unwrap();
    assert_eq!((appended.position, appended.first), (main, 2));
    let stale = fixture.store.append(at(main.branch, 0), &[]);
    assert!(matches!(expect_error(stale), StoreError::HeadMismatch { .. }));
}

pub fn an_append_at_a_stale_head_changes_nothing(fixture: &Fixture<'_>) {
    let main = fixture.main();
    let seen = fixture.append_text(main, "mine");
    let found = fixture.other_process().append(seen, &[fixture.drafts.user("theirs")]).unwrap().position;
    for stale in [main, seen, at(main.branch, 3), at(main.branch, u64::from(u32::MAX) + 7)] {
        let StoreError::HeadMismatch { expected, found: named } = expect_error(
            fixture.store.append(stale, &[fixture.drafts.user("late"), fixture.drafts.user("later")]),
        ) else {
            panic!("expected a head mismatch");
        };
        assert_eq!((expected, named), (stale, found));
        let reply = fixture.store.begin_reply(stale, &fixture.drafts.assistant(""));
        assert!(matches!(expect_error(reply), StoreError::HeadMismatch { .. }));
    }
    assert_eq!(fixture.texts(main.branch), ["mine", "theirs"]);
    fixture.append_text(found, "now I have seen it");
}

pub fn message_ids_are_unique_in_the_store(fixture: &Fixture<'_>) {
    let (one, other) = (fixture.main(), fixture.main());
    let message = fixture.drafts.user("first");
    let here = fixture.store.append(one, std::slice::from_ref(&message)).unwrap().position;
    let again = MessageDraft { id: message.id, ..fixture.drafts.user("second") };
    let new = fixture.drafts.user("new");
    expect_kind(fixture.store.append(here, std::slice::from_ref(&again)), ErrorKind::Conflict);
    expect_kind(fixture.store.append(other, std::slice::from_ref(&again)), ErrorKind::Conflict);
    expect_kind(fixture.store.begin_reply(other, &again), ErrorKind::Conflict);
    // An append is atomic: messages before the conflicting one are not written either.
    expect_kind(fixture.store.append(other, &[new.clone(), again]), ErrorKind::Conflict);
    expect_kind(fixture.store.append(other, &[new.clone(), new.clone()]), ErrorKind::Conflict);
    expect_kind(fixture.store.get_message(new.id), ErrorKind::NotFound);
    assert_eq!(fixture.texts(one.branch), ["first"]);
    assert_eq!(fixture.history(other.branch), []);
    assert_eq!(fixture.store.get_branch(other.branch).unwrap().head, 0);
    fixture.store.append(other, &[new]).unwrap();
}

pub fn unknown_ids_are_not_found(fixture: &Fixture<'_>) {
    let nowhere = at(fixture.drafts.ids.branch(), 0);
    expect_kind(fixture.store.append(nowhere, &[fixture.drafts.user("x")]), ErrorKind::NotFound);
    expect_kind(fixture.store.begin_reply(nowhere, &fixture.drafts.assistant("")), ErrorKind::NotFound);
    expect_kind(fixture.store.read_messages(nowhere.branch, MessageRange::Newest(1)), ErrorKind::NotFound);
    expect_kind(fixture.store.get_message(fixture.drafts.ids.message()), ErrorKind::NotFound);
}

pub fn an_appended_message_is_never_streaming(fixture: &Fixture<'_>) {
    let main = fixture.main();
    let draft =
        MessageDraft { status: MessageStatus::Streaming, ..fixture.drafts.assistant("from elsewhere") };
    let main = fixture.store.append(main, &[draft]).unwrap().position;
    assert_eq!(fixture.history(main.branch)[0].content.status, MessageStatus::Interrupted);
    fixture.append_text(main, "the branch is not locked");
    assert_eq!(fixture.store.recover_abandoned_replies(None, fixture.drafts.now()).unwrap(), 0);
}

pub fn a_message_cannot_refer_to_a_missing_attachment(fixture: &Fixture<'_>) {
    let main = fixture.main();
    let missing = attachment(b"missing");
    let draft = fixture.drafts.full_message(&missing);
    expect_kind(
        fixture.store.append(main, &[fixture.drafts.user("fine"), draft.clone()]),
        ErrorKind::Invalid,
    );
    assert_eq!(fixture.history(main.branch), []);
    let reply = fixture.store.begin_reply(main, &fixture.drafts.assistant("")).unwrap();
    expect_kind(fixture.store.finish_reply(reply, &draft), ErrorKind::Invalid);
    fixture.store.put_attachment(&missing).unwrap();
    fixture.store.finish_reply(reply, &draft).unwrap();
    assert_eq!(fixture.history(main.branch)[0].content.parts, draft.parts);
}

pub fn a_range_contains_exactly_its_messages(fixture: &Fixture<'_>) {
    let main = fixture.main();
    assert_eq!(fixture.store.read_messages(main.branch, MessageRange::Newest(5)).unwrap(), []);
    fixture.append_numbered(main, "m", 10);
    let seqs = |range: MessageRange| -> Vec<u64> {
        let found = fixture.store.read_messages(main.branch, range).unwrap();
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

pub fn an_attachment_is_read_back_unchanged(fixture: &Fixture<'_>) {
    let large: Vec<u8> = (0..1_000_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    for bytes in [b"".as_slice(), b"\x00\xff\xfe", "text ü".as_bytes(), &large] {
        let one = attachment(bytes);
        fixture.store.put_attachment(&one).unwrap();
        fixture.store.put_attachment(&one).unwrap();
        assert_eq!(fixture.other_process().get_attachment(one.hash).unwrap(), bytes);
    }
}

pub fn an_attachment_with_a_wrong_hash_is_rejected(fixture: &Fixture<'_>) {
    let wrong = Attachment { bytes: b"other".to_vec(), ..attachment(b"bytes") };
    expect_kind(fixture.store.put_attachment(&wrong), ErrorKind::Invalid);
    expect_kind(fixture.store.get_attachment(wrong.hash), ErrorKind::NotFound);
}
