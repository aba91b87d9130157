//! A process that speaks and streams, and what must be left of that.

use hfs_core::{
    BranchId, DeltaKind, Message, MessageId, MessageRange, MessageStatus, MessageStore, Position, ReplyDelta,
    Role, SessionStore, Timestamp,
};
use testkit::builders::{Drafts, at};

use crate::child::{Part, acknowledge};
use crate::{assert_well, open};

/// Ends a reply that was finished.
const END: &str = " (end)";

/// Speaks and streams until it is killed. The seed is the number of messages that are there already.
pub fn play(part: &Part) {
    let store = open(&part.store);
    let session = store.resolve_session(&hfs_core::SessionRef::Recent(0), None, false).unwrap();
    let branch = store.get_session(session).unwrap().session.current_branch;
    let mut rng = fastrand::Rng::with_seed(part.seed);
    let make = Drafts::new(part.seed + 1);
    let mut here = at(branch, part.seed);
    loop {
        let question = make.user(&words(&mut rng, 400));
        here = store.append(here, std::slice::from_ref(&question)).unwrap().position;
        acknowledge(&format!("said {} {}", question.id, question.text()));

        let reply = store.begin_reply(here, &make.assistant("")).unwrap();
        here.head = reply.seq;
        acknowledge(&format!("began {}", reply.message));
        let mut text = String::new();
        for _ in 0..rng.usize(0..12) {
            let pieces: Vec<String> = (0..rng.usize(1..4)).map(|_| words(&mut rng, 30)).collect();
            let pieces: Vec<ReplyDelta> =
                pieces.into_iter().map(|text| ReplyDelta { kind: DeltaKind::Text, text }).collect();
            store.extend_reply(reply, &pieces).unwrap();
            let added: String = pieces.iter().map(|piece| piece.text.as_str()).collect();
            acknowledge(&format!("piece {} {added}", reply.message));
            text.push_str(&added);
        }
        store.finish_reply(reply, &make.assistant(&format!("{text}{END}"))).unwrap();
        acknowledge(&format!("ended {}", reply.message));
    }
}

fn words(rng: &mut fastrand::Rng, most: usize) -> String {
    (0..rng.usize(1..most)).map(|_| ["so ", "word ", "größer ", "🦀 "][rng.usize(0..4)]).collect()
}

/// What one message must be, after what was acknowledged of it.
#[derive(Debug)]
struct Expected {
    id: MessageId,
    text: String,
    /// Nothing can have come behind what was acknowledged.
    ended: bool,
}

pub fn survive(kills: u64) {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("hfs.db");
    let draft = Drafts::new(0).session("talk");
    open(&path).create_session(&draft).unwrap();
    let mut rng = fastrand::Rng::with_seed(20_260_201);
    let mut expected: Vec<Expected> = Vec::new();
    let mut partial = 0;
    for round in 0..kills {
        let store = open(&path);
        let here = head(&store, draft.main_branch);
        drop(store);
        let part = Part::new("talk", &path, here.head);
        let heard = part.start().kill_after(rng.usize(1..30), &mut rng);

        let before = expected.len();
        note(&mut expected, &heard);
        let store = open(&path);
        let found = history(&store, draft.main_branch);
        partial += check(&found, &expected, before);
        assert_well(&store);
        // Every other time the message is settled explicitly, or else by what is said behind it.
        if round % 2 == 0 {
            let settled = store.recover_abandoned_replies(None, Timestamp::UNIX_EPOCH).unwrap();
            assert!(settled <= 1);
            assert_eq!(history(&store, draft.main_branch), found, "settling changes nothing to be seen");
        }
        // What came behind the last acknowledgement stays from here on, too.
        expected = found
            .iter()
            .map(|message| Expected { id: message.content.id, text: message.content.text(), ended: true })
            .collect();
    }
    assert!(partial > kills / 10, "replies were cut in their middle: {partial}");
}

fn head(store: &dyn hfs_core::Store, branch: BranchId) -> Position {
    at(branch, store.get_branch(branch).unwrap().head)
}

fn history(store: &dyn MessageStore, branch: BranchId) -> Vec<Message> {
    store.read_messages(branch, MessageRange::From(1, u32::MAX)).unwrap()
}

/// Notes what was acknowledged.
fn note(expected: &mut Vec<Expected>, heard: &[String]) {
    for line in heard {
        let mut words = line.splitn(3, ' ');
        let what = words.next().unwrap();
        let id: MessageId = words.next().unwrap().parse().unwrap();
        let text = words.next().unwrap_or_default();
        match what {
            "said" => expected.push(Expected { id, text: text.into(), ended: true }),
            "began" => expected.push(Expected { id, text: String::new(), ended: false }),
            "piece" => expected.last_mut().unwrap().text.push_str(text),
            "ended" => {
                let reply = expected.last_mut().unwrap();
                reply.text.push_str(END);
                reply.ended = true;
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Checks what is left; `before` of the messages were there before the last kill. Returns how many replies were
/// cut in their middle.
fn check(found: &[Message], expected: &[Expected], before: usize) -> u64 {
    assert!((1..).zip(found).all(|(seq, message)| message.seq == seq), "seqs have no gaps");
    assert!(found.len() >= expected.len(), "what was acknowledged is there");
    assert!(found.len() <= expected.len() + 1, "nobody said more than one thing unheard");
    let mut cut = 0;
    for (index, (message, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(message.content.id, expected.id, "in the order in which it was said");
        let text = message.content.text();
        if expected.ended {
            assert_eq!(text, expected.text);
        } else {
            assert!(text.starts_with(&expected.text), "{:?} / {text:?}", expected.text);
        }
        if index >= before {
            let complete = message.content.role == Role::User || text.ends_with(END);
            let status = if complete { MessageStatus::Complete } else { MessageStatus::Interrupted };
            assert_eq!(message.content.status, status, "{text:?}");
            cut += u64::from(!complete && !text.is_empty());
        }
        assert_ne!(message.content.status, MessageStatus::Streaming);
    }
    cut
}
