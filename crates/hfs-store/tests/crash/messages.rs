//! Child processes that append messages and stream replies until they are killed.

use std::collections::BTreeMap;

use hfs_core::{
    BranchId, BranchStore, Maintenance, Message, MessageId, MessageRange, MessageStatus, MessageStore, Part,
    Position, ReplyDelta, ReplyHandle, Role, SessionRef, SessionStore, Store, StoreError, Timestamp,
};
use hfs_store::SqliteStore;
use testkit::builders::{Drafts, at};

use crate::power::BeforeChild;
use crate::{Job, Scenario, acknowledge, assert_intact, open, start};

/// Suffix of the text of a finished reply.
const END: &str = " (end)";

/// Appends messages and streams replies until the process is killed. `job.seed` is the number of messages that the
/// session has.
pub fn append_and_stream(job: &Job) {
    let store = open(&job.store);
    let session = store.resolve_session(&SessionRef::Recent(0), None, false).unwrap();
    let branch = store.get_session(session).unwrap().session.current_branch;
    let mut random = fastrand::Rng::with_seed(job.seed);
    let make = Drafts::new(job.seed + 1);
    let mut here = at(branch, job.seed);
    loop {
        let question = make.user(&random_text(&mut random, 400));
        here = store.append(here, std::slice::from_ref(&question)).unwrap().position;
        acknowledge(&format!("appended {} {}", question.id, question.text()));

        let reply = store.begin_reply(here, &make.assistant("")).unwrap();
        here.head = reply.seq;
        acknowledge(&format!("began {}", reply.message));
        let mut reply = reply;
        for step in 0..random.usize(0..4) {
            reply = use_a_tool(&store, &make, reply, step, &mut random);
            here.head = reply.seq;
        }
        let mut text = String::new();
        for _ in 0..random.usize(0..12) {
            let texts: Vec<String> = (0..random.usize(1..4)).map(|_| random_text(&mut random, 30)).collect();
            let deltas: Vec<ReplyDelta> = texts.iter().map(ReplyDelta::text).collect();
            store.extend_reply(reply, &deltas).unwrap();
            let added = texts.concat();
            acknowledge(&format!("extended {} {added}", reply.message));
            text.push_str(&added);
        }
        store.finish_reply(reply, &make.assistant(&format!("{text}{END}"))).unwrap();
        acknowledge(&format!("finished {}", reply.message));
    }
}

/// A message of a turn: a call that is durable before its result, and the result of it while the tool runs. Returns the next
/// message.
fn use_a_tool(
    store: &SqliteStore,
    make: &Drafts,
    reply: ReplyHandle,
    step: usize,
    random: &mut fastrand::Rng,
) -> ReplyHandle {
    let mut output = String::new();
    for line in 0..random.usize(1..4) {
        // The text of the acknowledgement is that of the message, so the output is written as text as well.
        let added = format!("{step}.{line} ");
        let deltas = [ReplyDelta::output("call", added.as_str()), ReplyDelta::text(added.as_str())];
        store.extend_reply(reply, &deltas).unwrap();
        acknowledge(&format!("extended {} {added}", reply.message));
        output.push_str(&added);
    }
    let (role, next) =
        if step.is_multiple_of(2) { (Role::Assistant, Role::Tool) } else { (Role::Tool, Role::Assistant) };
    let result = Part::ToolResult { id: "call".into(), output: output.clone(), is_error: false };
    let finished = make.message(role, vec![result, Part::text(format!("{output}{END}"))]);
    let next = store.continue_reply(reply, &[finished], &make.message(next, vec![])).unwrap();
    acknowledge(&format!("finished {}", reply.message));
    acknowledge(&format!("began {}", next.message));
    next
}

fn random_text(random: &mut fastrand::Rng, max_words: usize) -> String {
    (0..random.usize(1..max_words)).map(|_| ["so ", "word ", "größer ", "🦀 "][random.usize(0..4)]).collect()
}

/// A message as the acknowledgements describe it.
#[derive(Debug)]
struct Expected {
    id: MessageId,
    text: String,
    /// Whether the stored text must equal `text`. The stored text of an unfinished reply may be longer, because the
    /// child may have been killed before it acknowledged the last deltas.
    is_exact: bool,
}

pub fn survives_kills(kills: u64, seed: u64) {
    survives(kills, seed, false);
}

pub fn survives_power_cuts(cuts: u64, seed: u64) {
    survives(cuts, seed, true);
}

fn survives(kills: u64, seed: u64, cuts_power: bool) {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("hfs.db");
    let draft = Drafts::new(0).session("messages");
    open(&path).create_session(&draft).unwrap();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut expected: Vec<Expected> = Vec::new();
    let mut partial_replies = 0;
    for round in 0..kills {
        let store = open(&path);
        let here = head(&store, draft.main_branch);
        drop(store);
        let files = BeforeChild::read(&path);
        let child = start(Scenario::Messages, &path, here.head);
        let (acknowledged, logs) = child.kill_with_log(random.usize(1..30), &mut random);
        if cuts_power && let (Some(first), Some(last)) = (logs.first(), logs.last()) {
            files.cut_power(&path, first, last, &mut random);
        }

        let before = expected.len();
        add_expected(&mut expected, &acknowledged);
        let store = open(&path);
        let found = history(&store, draft.main_branch);
        partial_replies += check_history(&found, &expected, before);
        assert_intact(&store);
        // In the other rounds, the next append recovers the reply.
        if round % 2 == 0 {
            let recovered = store.recover_abandoned_replies(None, Timestamp::UNIX_EPOCH).unwrap();
            assert!(recovered <= 1);
            let after = history(&store, draft.main_branch);
            assert_eq!(after, found, "recovery does not change the history that readers see");
        }
        // After the next kill, the same text must still be there.
        expected = found
            .iter()
            .map(|message| Expected { id: message.content.id, text: message.content.text(), is_exact: true })
            .collect();
    }
    assert!(partial_replies > kills / 10, "only {partial_replies} replies were interrupted");
}

fn head(store: &dyn Store, branch: BranchId) -> Position {
    at(branch, store.get_branch(branch).unwrap().head)
}

fn history(store: &dyn MessageStore, branch: BranchId) -> Vec<Message> {
    store.read_messages(branch, MessageRange::From(1, u32::MAX)).unwrap()
}

fn add_expected(expected: &mut Vec<Expected>, acknowledged: &[String]) {
    for line in acknowledged {
        let mut words = line.splitn(3, ' ');
        let what = words.next().unwrap();
        let id: MessageId = words.next().unwrap().parse().unwrap();
        let text = words.next().unwrap_or_default();
        match what {
            "appended" => expected.push(Expected { id, text: text.into(), is_exact: true }),
            "began" => expected.push(Expected { id, text: String::new(), is_exact: false }),
            "extended" => expected.last_mut().unwrap().text.push_str(text),
            "finished" => {
                let reply = expected.last_mut().unwrap();
                reply.text.push_str(END);
                reply.is_exact = true;
            }
            other => panic!("unknown acknowledgement {other:?}"),
        }
    }
}

/// Checks the history after a kill. The first `before` messages are older than the child process. Returns the number
/// of interrupted replies that have some text.
fn check_history(found: &[Message], expected: &[Expected], before: usize) -> u64 {
    assert!((1..).zip(found).all(|(seq, message)| message.seq == seq), "seqs have no gaps");
    assert!(found.len() >= expected.len(), "every acknowledged message exists");
    assert!(found.len() <= expected.len() + 1, "at most one message was not acknowledged");
    let mut partial = 0;
    for (index, (message, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(message.content.id, expected.id, "messages are in the order of their acknowledgements");
        let text = message.content.text();
        if expected.is_exact {
            assert_eq!(text, expected.text);
        } else {
            assert!(text.starts_with(&expected.text), "{:?} / {text:?}", expected.text);
        }
        for part in &message.content.parts {
            if let Part::ToolResult { output, .. } = part {
                assert_eq!(
                    output,
                    text.trim_end_matches(END),
                    "the output is as long as the text next to it"
                );
            }
        }
        if index >= before {
            let is_complete = message.content.role == Role::User || text.ends_with(END);
            let status = if is_complete { MessageStatus::Complete } else { MessageStatus::Interrupted };
            assert_eq!(message.content.status, status, "{text:?}");
            partial += u64::from(!is_complete && !text.is_empty());
        }
        assert_ne!(message.content.status, MessageStatus::Streaming);
    }
    partial
}

const WRITERS: u64 = 8;
/// Number of appends by each writer that is not killed.
pub const ROUNDS: u64 = 25;

/// Appends pairs of messages to two sessions: one that all writers share, and one that only this writer uses.
pub fn append_concurrently(job: &Job, rounds: u64) {
    let store = open(&job.store);
    let (shared, make) = (shared_branch(&store), Drafts::new(100 + job.seed));
    let own = store.create_session(&make.session(&format!("own {}", job.seed))).unwrap();
    let mut own = at(own.current_branch, 0);
    let mut here = at(shared, 0);
    for round in 0..rounds {
        let [question, answer] = ["question", "answer"].map(|word| format!("{word} {} {round}", job.seed));
        own = store.append(own, &[make.user(&question), make.assistant(&answer)]).unwrap().position;
        let pair = [make.user(&question), make.assistant(&answer)];
        here = loop {
            match store.append(here, &pair) {
                Ok(appended) => break appended.position,
                Err(StoreError::HeadMismatch { found, .. }) => here = found,
                Err(error) => panic!("{error}"),
            }
        };
        acknowledge(&format!("{} {round}", job.seed));
    }
}

fn shared_branch(store: &SqliteStore) -> BranchId {
    let session = store.resolve_session(&SessionRef::new("shared"), None, false).unwrap();
    store.get_session(session).unwrap().session.current_branch
}

/// Starts all writers and kills the first `killed` of them.
pub fn concurrent_writers(killed: u64) {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("hfs.db");
    let store = open(&path);
    store.create_session(&Drafts::new(0).session("shared")).unwrap();
    let mut random = fastrand::Rng::with_seed(8);
    let children: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let scenario =
                if writer < killed { Scenario::EndlessConcurrentWriter } else { Scenario::ConcurrentWriter };
            start(scenario, &path, writer)
        })
        .collect();
    let mut acknowledged = 0;
    let mut surviving = Vec::new();
    for (writer, child) in (0..WRITERS).zip(children) {
        if writer < killed {
            acknowledged += child.kill_after(random.usize(1..10), &mut random).len() as u64;
        } else {
            surviving.push(child);
        }
    }
    for child in surviving {
        let rounds = child.finish().len() as u64;
        assert_eq!(rounds, ROUNDS);
        acknowledged += rounds;
    }

    let history = history(&store, shared_branch(&store));
    assert!((1..).zip(&history).all(|(seq, message)| message.seq == seq), "seqs have no gaps");
    let pairs = history.len() as u64 / 2;
    assert!(pairs >= acknowledged && pairs <= acknowledged + killed, "every acknowledged pair is stored");
    let mut rounds: BTreeMap<String, u64> = BTreeMap::new();
    for pair in history.chunks(2) {
        let question = pair[0].content.text();
        assert_eq!(pair[1].content.text(), question.replace("question", "answer"), "pairs stay together");
        let mut words = question.split(' ').skip(1);
        let next = rounds.entry(words.next().unwrap().to_owned()).or_default();
        assert_eq!(words.next().unwrap(), next.to_string(), "each writer's rounds are in order");
        *next += 1;
    }
    for writer in 0..WRITERS {
        let own = SessionRef::Named(format!("own {writer}"));
        let session = store.resolve_session(&own, None, false).unwrap();
        let branch = store.get_session(session).unwrap().session.current_branch;
        let own_rounds = store.get_branch(branch).unwrap().head / 2;
        let shared_rounds = rounds.get(&writer.to_string()).copied().unwrap_or_default();
        // In each round, a writer appends to its own session first, so a kill may come between the two appends.
        assert!(own_rounds >= shared_rounds && own_rounds <= shared_rounds + 1);
    }
    assert_eq!(store.info().unwrap().sessions, WRITERS + 1);
    assert_intact(&store);
}
