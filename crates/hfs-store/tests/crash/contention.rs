//! Many processes that write to one session and to sessions of their own, for a given time.

use std::time::{Duration, Instant};

use hfs_core::{
    Maintenance, MessageRange, MessageStore, ReplyDelta, SearchIndex, SearchQuery, SessionRef, SessionStore,
    StoreError,
};
use testkit::builders::{Drafts, at};

use crate::{Job, Scenario, acknowledge, assert_intact, open, start};

const PROCESSES: u64 = 16;
/// Environment variable of the child processes: how long they write.
pub const SECONDS: &str = "HFS_CRASH_SECONDS";

/// Exchanges messages on the shared session and on one of its own. Any error but a stated conflict is a failure.
pub fn exchange_messages(job: &Job, seconds: u64) {
    let end = Instant::now() + Duration::from_secs(seconds);
    let make = Drafts::new(1000 + job.seed);
    let mut random = fastrand::Rng::with_seed(job.seed);
    let store = open(&job.store);
    let shared = store.resolve_session(&SessionRef::new("shared"), None, false).unwrap();
    let shared = store.get_session(shared).unwrap().session.current_branch;
    let own = store.create_session(&make.session(&format!("own {}", job.seed))).unwrap().current_branch;
    let mut heads = [(shared, 0_u64), (own, 0)];
    let (mut exchanges, mut conflicts) = (0_u64, 0_u64);
    while Instant::now() < end {
        let which = random.usize(0..2);
        let (branch, head) = heads[which];
        let question = make.user(&format!("question {exchanges} of {}", job.seed));
        match store.append_and_begin_reply(at(branch, head), &[question], &make.assistant("")) {
            Ok((_, reply)) => {
                let delta = ReplyDelta::text("an ");
                store.extend_reply(reply, &[delta]).unwrap();
                store
                    .finish_reply(reply, &make.assistant(&format!("answer to {exchanges} of {}", job.seed)))
                    .unwrap();
                heads[which].1 = reply.seq;
                exchanges += 1;
            }
            Err(StoreError::HeadMismatch { found, .. }) if which == 0 => {
                heads[0].1 = found.head;
                conflicts += 1;
            }
            Err(StoreError::Locked { .. }) if which == 0 => conflicts += 1,
            Err(error) => panic!("{error:?}"),
        }
        if random.u8(..) < 4 {
            store
                .search(&SearchQuery { text: "question".into(), limit: 5, ..SearchQuery::default() })
                .unwrap();
        }
    }
    acknowledge(&format!("{exchanges} {conflicts}"));
}

pub fn only_stated_conflicts(seconds: u64) {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("hfs.db");
    let store = open(&path);
    store.create_session(&Drafts::new(0).session("shared")).unwrap();
    let children: Vec<_> =
        (0..PROCESSES).map(|process| start(Scenario::Exchanges { seconds }, &path, process)).collect();
    let (mut exchanges, mut conflicts) = (0, 0);
    for child in children {
        let acknowledged = child.finish();
        let (done, rejected) = acknowledged[0].split_once(' ').unwrap();
        exchanges += done.parse::<u64>().unwrap();
        conflicts += rejected.parse::<u64>().unwrap();
    }
    println!("{exchanges} exchanges of {PROCESSES} processes in {seconds} s, {conflicts} stated conflicts");
    assert_eq!(store.info().unwrap().messages, exchanges * 2);
    let shared = store.resolve_session(&SessionRef::new("shared"), None, false).unwrap();
    let shared = store.get_session(shared).unwrap().session.current_branch;
    let history = store.read_messages(shared, MessageRange::From(1, u32::MAX)).unwrap();
    for pair in history.chunks(2) {
        let expected = pair[0].content.text().replace("question", "answer to");
        assert_eq!(pair[1].content.text(), expected, "a message and its reply stay together");
    }
    assert!(exchanges >= PROCESSES);
    assert_intact(&store);
}
