//! Processes that all write to the same store, and to the same session of it.

use std::collections::BTreeMap;

use hfs_core::{
    BranchStore, Maintenance, MessageRange, MessageStore, Position, SessionRef, SessionStore, StoreError,
};
use hfs_store::SqliteStore;
use testkit::builders::{Drafts, at};

use crate::child::{Part, acknowledge};
use crate::{assert_well, open};

const WRITERS: u64 = 8;
/// How often each of them writes that is not killed.
pub const ROUNDS: u64 = 25;

/// Appends to the session that everybody writes to, and to one of its own.
pub fn play(part: &Part, rounds: u64) {
    let store = open(&part.store);
    let (shared, make) = (shared(&store), Drafts::new(100 + part.seed));
    let own = store.create_session(&make.session(&format!("own {}", part.seed))).unwrap();
    let mut own = at(own.current_branch, 0);
    let mut here = at(shared, 0);
    for round in 0..rounds {
        let [question, answer] = ["question", "answer"].map(|word| format!("{word} {} {round}", part.seed));
        own = store.append(own, &[make.user(&question), make.assistant(&answer)]).unwrap().position;
        let pair = [make.user(&question), make.assistant(&answer)];
        here = loop {
            match store.append(here, &pair) {
                Ok(appended) => break appended.position,
                Err(StoreError::HeadMismatch { found, .. }) => here = found,
                Err(error) => panic!("{error}"),
            }
        };
        acknowledge(&format!("{} {round}", part.seed));
    }
}

fn shared(store: &SqliteStore) -> hfs_core::BranchId {
    let session = store.resolve_session(&SessionRef::new("shared"), None, false).unwrap();
    store.get_session(session).unwrap().session.current_branch
}

/// Lets them all write, and kills some of them.
pub fn append(killed: u64) {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("hfs.db");
    let store = open(&path);
    store.create_session(&Drafts::new(0).session("shared")).unwrap();
    let mut rng = fastrand::Rng::with_seed(8);
    let play = |writer: u64| if writer < killed { "endless crowd" } else { "crowd" };
    let playing: Vec<_> = (0..WRITERS).map(|writer| Part::new(play(writer), &path, writer).start()).collect();
    let mut acknowledged = 0;
    let mut left = Vec::new();
    for (writer, child) in (0..WRITERS).zip(playing) {
        if writer < killed {
            acknowledged += child.kill_after(rng.usize(1..10), &mut rng).len() as u64;
        } else {
            left.push(child);
        }
    }
    for child in left {
        let heard = child.finish().len() as u64;
        assert_eq!(heard, ROUNDS);
        acknowledged += heard;
    }

    let history = store.read_messages(shared(&store), MessageRange::From(1, u32::MAX)).unwrap();
    assert!((1..).zip(&history).all(|(seq, message)| message.seq == seq), "seqs have no gaps");
    let exchanges = history.len() as u64 / 2;
    assert!(exchanges >= acknowledged && exchanges <= acknowledged + killed, "nothing is lost");
    let mut rounds: BTreeMap<String, u64> = BTreeMap::new();
    for exchange in history.chunks(2) {
        let question = exchange[0].content.text();
        assert_eq!(exchange[1].content.text(), question.replace("question", "answer"), "nothing interleaves");
        let mut words = question.split(' ').skip(1);
        let next = rounds.entry(words.next().unwrap().to_owned()).or_default();
        assert_eq!(words.next().unwrap(), next.to_string());
        *next += 1;
    }
    for writer in 0..WRITERS {
        let own = SessionRef::Named(format!("own {writer}"));
        let session = store.resolve_session(&own, None, false).unwrap();
        let branch = store.get_session(session).unwrap().session.current_branch;
        let head: Position = at(branch, store.get_branch(branch).unwrap().head);
        let shared = rounds.get(&writer.to_string()).copied().unwrap_or_default();
        assert!(head.head / 2 >= shared && head.head / 2 <= shared + 1);
    }
    assert_eq!(store.info().unwrap().sessions, WRITERS + 1);
    assert_well(&store);
}
