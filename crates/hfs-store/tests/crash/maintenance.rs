//! Child processes that purge sessions or repair a damaged store until they are killed.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use hfs_core::{
    BranchId, CheckpointStore, ImportStore, Maintenance, MessageDraft, MessageRange, MessageStore,
    PageRequest, SearchIndex, SearchQuery, SessionFilter, SessionStore, Source,
};
use hfs_store::{SqliteOptions, StoreUrl};
use testkit::builders::{Drafts, at, growing_state};

use crate::{Job, Scenario, acknowledge, assert_intact, open, start};

/// Number of messages of a session that is purged. It is more than a purge deletes in one transaction.
const PURGED_MESSAGES: u64 = 1200;
const WORD: &str = "zebrafinchword";

/// Creates and purges sessions until it is killed.
pub fn purge_sessions(job: &Job) {
    let store = open(&job.store);
    let make = Drafts::new(job.seed);
    loop {
        let session = store.create_session(&make.session(WORD)).unwrap();
        let drafts: Vec<_> = (0..PURGED_MESSAGES).map(|n| make.user(&format!("{WORD} {n}"))).collect();
        let here = store.append(at(session.current_branch, 0), &drafts).unwrap().position;
        store.create_checkpoint(&make.checkpoint(here, growing_state(5)), 10).unwrap();
        store.search(&SearchQuery { text: WORD.into(), limit: 1, ..SearchQuery::default() }).unwrap();
        acknowledge("created");
        store.purge_session(session.id).unwrap();
        acknowledge(&format!("purged {}", session.id));
    }
}

pub fn purges_survive_kills(kills: u64, seed: u64) {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("hfs.db");
    let make = Drafts::new(u64::MAX);
    let kept = open(&path).create_session(&make.session("kept")).unwrap();
    let mut random = fastrand::Rng::with_seed(seed);
    for round in 0..kills {
        let child = start(Scenario::Purges, &path, seed + round);
        let acknowledged = child.kill_after(random.usize(1..4), &mut random);
        let store = open(&path);
        let page = store.list_sessions(&SessionFilter::default(), &PageRequest::first(100)).unwrap();
        for id in acknowledged.iter().filter_map(|line| line.strip_prefix("purged ")) {
            assert!(page.items.iter().all(|summary| summary.session.id.to_string() != id), "{id} is purged");
        }
        assert!(page.items.iter().any(|summary| summary.session.id == kept.id));
        // A session whose purge had not begun is complete.
        for summary in page.items.iter().filter(|summary| summary.session.id != kept.id) {
            assert!(summary.messages == PURGED_MESSAGES || summary.messages == 0, "{}", summary.messages);
            store.purge_session(summary.session.id).unwrap();
        }
        assert_intact(&store);
        drop(store);
        for entry in fs::read_dir(home.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                let bytes = fs::read(&path).unwrap();
                assert_eq!(memchr::memmem::find(&bytes, WORD.as_bytes()), None, "{}", path.display());
            }
        }
    }
}

/// Repairs the store once.
pub fn repair(job: &Job) {
    acknowledge("begun");
    hfs_store::repair(&StoreUrl::Sqlite(job.store.clone()), SqliteOptions::default()).unwrap();
    acknowledge("repaired");
    thread::sleep(Duration::from_secs(60));
}

pub fn repairs_survive_kills(kills: u64, seed: u64) {
    let home = tempfile::tempdir().unwrap();
    let sample = home.path().join("sample.db");
    let make = Drafts::new(1);
    let store = open(&sample);
    let mut sessions = Vec::new();
    for number in 0..20 {
        let session = store.create_session(&make.session(&format!("session {number}"))).unwrap();
        let drafts: Vec<_> = (0..200).map(|n| make.user(&format!("message {n} of {number}"))).collect();
        store.append(at(session.current_branch, 0), &drafts).unwrap();
        sessions.push(session);
    }
    drop(store);
    let mut damaged = fs::read(&sample).unwrap();
    // The first page and a byte of a message.
    damaged[..4096].fill(0);
    let at = memchr::memmem::find(&damaged, b"message 7 of 3").unwrap();
    damaged[at] = 0xff;

    let mut random = fastrand::Rng::with_seed(seed);
    for round in 0..kills {
        let directory = home.path().join(round.to_string());
        fs::create_dir(&directory).unwrap();
        let path = directory.join("hfs.db");
        fs::write(&path, &damaged).unwrap();
        let child = start(Scenario::Repair, &path, seed);
        child.kill_within(Duration::from_millis(400), &mut random);
        let copies = |directory: &Path| {
            let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
            entries.filter(|name| name.to_str().unwrap().contains(".damaged")).count()
        };
        let before = copies(&directory);
        hfs_store::repair(&StoreUrl::Sqlite(path.clone()), SqliteOptions::default()).unwrap();
        let store = open(&path);
        assert_intact(&store);
        for session in &sessions {
            assert_eq!(store.get_session(session.id).unwrap().messages, 200, "after kill {round}");
        }
        drop(store);
        assert!(copies(&directory) >= 1 && copies(&directory) <= before + 1);
        assert_no_leftovers(&directory);
        fs::remove_dir_all(&directory).unwrap();
    }
}

fn assert_no_leftovers(directory: &Path) {
    for entry in fs::read_dir(directory).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(!name.contains("-repair"), "{name} is left");
    }
}

/// Number of messages of each session that is converted. Their blocks take several transactions.
const CONVERTED_MESSAGES: u64 = 400;
const CONVERTED_SESSIONS: u64 = 2;

fn converted_text(number: u64) -> String {
    format!(
        "{number} {}",
        format!("a line of {number} in a log\n").repeat(usize::try_from(number % 170).unwrap())
    )
}

/// Moves all messages to blocks, appends, and replaces some messages, until it is killed. `job.seed` is the number of messages
/// that the first session has.
pub fn convert(job: &Job) {
    let store = open(&job.store);
    let sessions = store.list_sessions(&SessionFilter::default(), &PageRequest::first(10)).unwrap();
    let mut branches: Vec<BranchId> = sessions.items.iter().map(|item| item.session.current_branch).collect();
    branches.sort_unstable();
    let make = Drafts::new(1_000_000 + job.seed);
    let mut head = job.seed;
    acknowledge("begun");
    loop {
        store.vacuum().unwrap();
        acknowledge("converted");
        for _ in 0..20 {
            store.append(at(branches[0], head), &[make.user(&converted_text(head))]).unwrap();
            head += 1;
            acknowledge(&format!("appended {head}"));
        }
        // The same texts again, which makes their blocks rows.
        for branch in &branches[1..] {
            let messages = store.read_messages(*branch, MessageRange::From(100, 1)).unwrap();
            let drafts: Vec<MessageDraft> = messages.into_iter().map(|message| message.content).collect();
            store.update_imported_messages(&drafts).unwrap();
        }
    }
}

pub fn conversions_survive_kills(kills: u64, seed: u64) {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("hfs.db");
    let store = open(&path);
    let make = Drafts::new(1);
    let mut branches = Vec::new();
    for _ in 0..CONVERTED_SESSIONS {
        let session = store.create_session(&make.session("converted")).unwrap();
        let drafts: Vec<MessageDraft> = (0..CONVERTED_MESSAGES)
            .map(|number| MessageDraft {
                source: Some(Source { format: "claude-code".into(), id: number.to_string() }),
                ..make.user(&converted_text(number))
            })
            .collect();
        store.append(at(session.current_branch, 0), &drafts).unwrap();
        branches.push(session.current_branch);
    }
    branches.sort_unstable();
    drop(store);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut head = CONVERTED_MESSAGES;
    for round in 0..kills {
        let child = start(Scenario::Conversions, &path, head);
        let acknowledged = child.kill_after(random.usize(1..30), &mut random);
        let appended = acknowledged.iter().filter_map(|line| line.strip_prefix("appended "));
        let newest: Option<u64> = appended.map(|number| number.parse().unwrap()).next_back();
        let store = open(&path);
        assert_intact(&store);
        for branch in &branches {
            let messages = store.read_messages(*branch, MessageRange::From(1, u32::MAX)).unwrap();
            for (number, message) in (0..).zip(&messages) {
                assert_eq!(message.content.text(), converted_text(number), "after kill {round}");
            }
            let count = messages.len() as u64;
            if *branch == branches[0] {
                let least = newest.unwrap_or(head);
                assert!(
                    count == least || count == least + 1,
                    "{count} of {least} messages after kill {round}"
                );
                head = count;
            } else {
                assert_eq!(count, CONVERTED_MESSAGES, "after kill {round}");
            }
        }
    }
}
