//! `open`, `verify` and `repair` on damaged files and on files of other programs.

use std::fs;
use std::path::{Path, PathBuf};

use hfs_core::{
    ErrorExt, ErrorKind, Maintenance, MessageRange, MessageStatus, MessageStore, OperationKind,
    OperationStore, PageRequest, Part, ReplyDelta, SearchIndex, SearchQuery, SessionFilter, SessionStore,
    Store, StoreError, StoreResult,
};
use hfs_store::{SqliteOptions, SqliteStore};
use rusqlite::Connection;
use tempfile::TempDir;
use testkit::builders::{Drafts, at, attachment, growing_state};

use crate::{all_sessions, assert_fails, assert_intact, create_session, head, history, open, try_open};

/// Page size of the database.
const PAGE: usize = 4096;

/// Creates a store that has rows in every table, and closes it.
fn sample(sessions: u64) -> (TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("hfs.db");
    let opened = open(&path);
    let store: &dyn Store = &opened;
    let make = Drafts::new(1);
    for number in 0..sessions {
        let session = create_session(store, &make, &format!("session {number}"), 60);
        let here = head(store, &session);
        let bytes = attachment(&number.to_be_bytes());
        store.put_attachment(&bytes).unwrap();
        let here = store.append(here, &[make.full_message(&bytes)]).unwrap().position;
        for state in 0..4 {
            let draft =
                make.checkpoint(at(here.branch, state * 3), growing_state(usize::try_from(state).unwrap()));
            store.create_checkpoint(&draft, 10).unwrap();
        }
        store.save_run(&make.run(here.branch)).unwrap();
        let fork = make.branch("side", at(here.branch, 20));
        store.create_branch(&fork, OperationKind::Fork, None, make.now()).unwrap();
        store.append(at(fork.id, 20), &[make.user("aside")]).unwrap();
    }
    // Fills the text index.
    count_hits(store, "line").unwrap();
    drop(opened);
    (home, path)
}

fn count_hits(store: &dyn Store, text: &str) -> StoreResult<u64> {
    let query = SearchQuery { text: text.into(), limit: 1000, ..SearchQuery::default() };
    Ok(store.search(&query)?.total)
}

/// Reads everything through the port. Damaged data must cause an error, not a panic.
fn read_everything(store: &dyn Store) -> StoreResult<()> {
    count_hits(store, "line")?;
    for session in all_sessions(store)? {
        for branch in store.list_branches(session.id)? {
            for message in store.read_messages(branch.id, MessageRange::From(1, u32::MAX))? {
                store.get_message(message.content.id)?;
            }
            store.load_branch_state(branch.id)?;
        }
        for checkpoint in store.list_checkpoints(session.id)? {
            store.load_state(checkpoint.id)?;
        }
        for run in store.list_runs(session.id)? {
            store.get_run(run)?;
        }
        store.list_operations(Some(session.id), &PageRequest::first(100))?;
    }
    Ok(())
}

#[test]
fn a_file_that_is_not_a_store_is_rejected_and_not_changed() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("other.db");
    let mut random = fastrand::Rng::with_seed(1);
    let noise: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(100_000).collect();
    let only_the_magic = b"SQLite format 3\0".to_vec();
    let mut noise_after_the_magic = noise.clone();
    noise_after_the_magic[..16].copy_from_slice(&only_the_magic);
    let text = b"{\"role\": \"user\"}\n".to_vec();
    for bytes in [noise, only_the_magic, noise_after_the_magic, text, vec![0], vec![0; 4096]] {
        fs::write(&path, &bytes).unwrap();
        assert_fails(try_open(&path).map(|_| ()), &[ErrorKind::Corrupt, ErrorKind::Invalid]);
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }

    fs::remove_file(&path).unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE session (id TEXT); INSERT INTO session VALUES ('theirs')").unwrap();
    drop(other);
    let before = fs::read(&path).unwrap();
    assert_fails(try_open(&path).map(|_| ()), &[ErrorKind::Invalid]);
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn an_empty_file_becomes_a_store() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("hfs.db");
    fs::write(&path, b"").unwrap();
    create_session(&open(&path), &Drafts::new(1), "first", 1);
    assert_eq!(all_sessions(&open(&path)).unwrap().len(), 1);
}

#[test]
fn a_store_of_a_newer_version_is_rejected_and_not_changed() {
    let (home, path) = sample(1);
    let conn = Connection::open(&path).unwrap();
    let version: u32 = conn.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    conn.execute_batch(&format!("PRAGMA user_version = {}; PRAGMA journal_mode = DELETE", version + 1))
        .unwrap();
    drop(conn);
    let files = |directory: &Path| {
        let mut paths: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    };
    let (before, files_before) = (fs::read(&path).unwrap(), files(home.path()));
    let error = try_open(&path).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.suggestion().is_some());
    let StoreError::Newer { found, supported, .. } = error else { panic!("{error}") };
    assert_eq!((found, supported), (version + 1, version));
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(files(home.path()), files_before);
}

#[test]
fn verify_finds_a_truncated_file() {
    let (_home, path) = sample(3);
    let bytes = fs::read(&path).unwrap();
    let mut random = fastrand::Rng::with_seed(3);
    let mut lengths: Vec<usize> = (0..40).map(|_| random.usize(1..bytes.len())).collect();
    lengths.extend([1, 16, 99, 100, 512, 4095, 4096, 8192, bytes.len() - 4096, bytes.len() - 1]);
    for length in lengths {
        let directory = tempfile::tempdir().unwrap();
        let copy = directory.path().join("hfs.db");
        fs::write(&copy, &bytes[..length]).unwrap();
        match try_open(&copy) {
            Err(error) => assert_eq!(error.kind(), ErrorKind::Corrupt, "{length}: {error}"),
            Ok(store) => {
                let found = store.verify();
                assert!(
                    found.is_ok_and(|found| !found.is_ok()),
                    "nothing found in {length} of {} bytes",
                    bytes.len()
                );
                let _ = read_everything(&store);
            }
        }
    }
}

/// The sessions and messages of a store, as text.
fn visible_content(store: &dyn Store) -> String {
    let sessions = all_sessions(store).unwrap();
    let messages = sessions.iter().flat_map(|session| history(store, session));
    messages.map(|message| format!("{message:?}\n")).chain([format!("{sessions:?}")]).collect()
}

#[test]
fn verify_finds_every_flipped_bit_that_changes_what_users_read() {
    let (_home, path) = sample(2);
    let expected = visible_content(&try_open(&path).unwrap());
    let original = fs::read(&path).unwrap();
    let mut random = fastrand::Rng::with_seed(5);
    let mut found = 0;
    for flip in 0..300 {
        let (at, bit) = (random.usize(0..original.len()), random.u8(0..8));
        let directory = tempfile::tempdir().unwrap();
        let copy = directory.path().join("hfs.db");
        let mut bytes = original.clone();
        bytes[at] ^= 1 << bit;
        fs::write(&copy, &bytes).unwrap();
        let Ok(store) = try_open(&copy) else {
            found += 1;
            continue;
        };
        let verification = store.verify().unwrap();
        let read = read_everything(&store);
        if verification.is_ok() {
            assert!(read.is_ok(), "flip {flip} of bit {bit} at {at} is not found, but {read:?}");
            assert_eq!(visible_content(&store), expected, "flip {flip} of bit {bit} at {at} is not found");
        } else {
            found += 1;
        }
    }
    assert!(found > 30, "only {found} flips were found");
}

#[test]
fn repair_changes_nothing_in_an_intact_store() {
    let (_home, path) = sample(2);
    let store = try_open(&path).unwrap();
    let before = store.verify().unwrap();
    assert_eq!(store.repair().unwrap(), []);
    assert_eq!(store.verify().unwrap(), before);
}

#[test]
fn a_repaired_store_is_intact_and_has_most_of_its_messages() {
    let (_home, path) = sample(6);
    let original = fs::read(&path).unwrap();
    let (mut opened, mut messages, mut expected) = (0, 0, 0);
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..30 {
        let directory = tempfile::tempdir().unwrap();
        let copy = directory.path().join("hfs.db");
        let mut bytes = original.clone();
        // Zeroes a page, or overwrites a part of it. The first page is left intact, because a database without it
        // cannot be read at all.
        let page = random.usize(1..original.len() / PAGE) * PAGE;
        if round % 2 == 0 {
            bytes[page..page + PAGE].fill(0);
        } else {
            let from = page + random.usize(0..PAGE - 300);
            bytes[from..from + 300].iter_mut().for_each(|byte| *byte = random.u8(..));
        }
        fs::write(&copy, &bytes).unwrap();
        let store = match try_open(&copy) {
            Ok(store) => store,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
                continue;
            }
        };
        let is_damaged = !store.verify().unwrap().is_ok();
        let log = store.repair().unwrap();
        assert_eq!(
            is_damaged,
            !log.is_empty(),
            "the log has an entry if and only if there was damage: {log:?}"
        );
        assert_intact(&store);
        read_everything(&store).unwrap();
        let reopened = try_open(&copy).unwrap();
        assert_intact(&reopened);
        opened += 1;
        // Six sessions of 60 lines, a message with an attachment, and a message on the fork.
        expected += 6 * 62;
        messages += reopened.info().unwrap().messages;
    }
    assert!(opened > 20, "only {opened} of 30 could be opened");
    assert!(messages * 10 > expected * 8, "only {messages} of {expected} messages were recovered");
}

#[test]
fn repair_rebuilds_a_damaged_text_index_from_the_messages() {
    let (_home, path) = sample(2);
    let conn = Connection::open(&path).unwrap();
    conn.execute_batch("DELETE FROM message_text_data WHERE id > 1").unwrap();
    drop(conn);
    let store = try_open(&path).unwrap();
    assert!(!store.verify().unwrap().is_ok());
    assert!(!store.repair().unwrap().is_empty());
    assert_intact(&store);
    let query = SearchQuery { text: "line".into(), limit: 1000, ..SearchQuery::default() };
    assert_eq!(store.search(&query).unwrap().total, 120);
    // The current branch is the fork: 20 messages before the fork and one of its own.
    assert!(all_sessions(&store).unwrap().iter().all(|session| history(&store, session).len() == 21));
}

#[test]
fn repair_deletes_only_the_checkpoints_of_unreadable_states() {
    let (_home, path) = sample(2);
    let conn = Connection::open(&path).unwrap();
    conn.execute_batch("UPDATE state SET data = zeroblob(length(data)) WHERE base IS NOT NULL").unwrap();
    let unreadable: u64 = conn
        .query_row(
            "SELECT count(*) FROM checkpoint JOIN state ON state.no = state WHERE base IS NOT NULL",
            [],
            |row| row.get(0),
        )
        .unwrap();
    drop(conn);
    assert!(unreadable > 0);
    let store = try_open(&path).unwrap();
    let before = store.info().unwrap();
    assert!(!store.verify().unwrap().is_ok());
    store.repair().unwrap();
    assert_intact(&store);
    let after = store.info().unwrap();
    assert_eq!(after.checkpoints, before.checkpoints - unreadable);
    assert_eq!((after.sessions, after.messages), (before.sessions, before.messages));
    read_everything(&store as &dyn Store).unwrap();
}

/// Changes one byte of a stored text, so that it is not valid UTF-8 any more.
fn damage_text(path: &Path, text: &[u8]) {
    let mut bytes = fs::read(path).unwrap();
    let at = bytes.windows(text.len()).rposition(|window| window == text).unwrap();
    bytes[at] = 0xff;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_search_finds_the_other_messages_if_one_has_invalid_text() {
    let (_home, path) = sample(2);
    damage_text(&path, b"session 1 says its line number 7");
    let store = try_open(&path).unwrap();
    assert_eq!(count_hits(&store, "line").unwrap(), 120);
    let query = SearchQuery { text: "number".into(), limit: 200, ..SearchQuery::default() };
    assert_eq!(store.search(&query).unwrap().hits.len(), 120);
}

/// A store with two sessions whose messages are in blocks, and the numbers of the blocks of the first one.
fn with_blocks() -> (TempDir, PathBuf, Vec<i64>) {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("hfs.db");
    let store = open(&path);
    let make = Drafts::new(1);
    for name in ["first", "second"] {
        let session = store.create_session(&make.session(name)).unwrap();
        let text = |n: u64| format!("{name} line {n} {}", format!("of the log {n} ").repeat(100));
        let drafts: Vec<_> = (1..=200).map(|n| make.user(&text(n))).collect();
        store.append(at(session.current_branch, 0), &drafts).unwrap();
    }
    count_hits(&store, "line").unwrap();
    store.vacuum().unwrap();
    drop(store);
    let conn = Connection::open(&path).unwrap();
    let mut select = conn.prepare("SELECT no FROM block WHERE no >> 32 = 1").unwrap();
    let blocks: Vec<i64> = select.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    assert!(blocks.len() > 2);
    drop(select);
    (home, path, blocks)
}

/// Numbers of the messages of the first session whose text is the original one.
fn intact_lines(store: &dyn Store) -> Vec<u64> {
    let mut sessions = all_sessions(store).unwrap();
    sessions.sort_by_key(|session| session.created_at);
    let second = history(store, &sessions[1]);
    assert!(second.iter().all(|message| message.content.text().starts_with("second line")));
    assert_eq!(second.len(), 200);
    let first = history(store, &sessions[0]);
    assert_eq!(first.len(), 200);
    let is_intact = |message: &&hfs_core::Message| {
        message.content.text().starts_with(&format!("first line {} ", message.seq))
    };
    first.iter().filter(is_intact).map(|message| message.seq).collect()
}

#[test]
fn a_damaged_block_costs_its_own_messages_alone() {
    // A flipped bit, a frame that declares gigabytes, one that is cut, no frame, and none of these: a missing block.
    let huge = [&[0x28, 0xb5, 0x2f, 0xfd, 0xe0][..], &900_000_000_u64.to_le_bytes(), &[0; 40]].concat();
    type Damage<'d> = &'d dyn Fn(&[u8]) -> Vec<u8>;
    let damages: [Damage<'_>; 4] = [
        &|data| data.iter().enumerate().map(|(n, byte)| byte ^ u8::from(n == data.len() / 2)).collect(),
        &|_| huge.clone(),
        &|data| data[..data.len() / 2].to_vec(),
        &|_| b"no frame".to_vec(),
    ];
    for damage in damages.iter().map(Some).chain([None]) {
        let (_home, path, blocks) = with_blocks();
        let conn = Connection::open(&path).unwrap();
        match damage {
            Some(damage) => {
                let data: Vec<u8> = conn
                    .query_row("SELECT data FROM block WHERE no = ?1", [blocks[1]], |row| row.get(0))
                    .unwrap();
                conn.execute("UPDATE block SET data = ?2 WHERE no = ?1", (blocks[1], damage(&data))).unwrap();
            }
            None => drop(conn.execute("DELETE FROM block WHERE no = ?1", [blocks[1]]).unwrap()),
        }
        drop(conn);
        let seq_of = |no: i64| (no & 0xffff_ffff).cast_unsigned();
        let seqs = seq_of(blocks[1])..seq_of(blocks[2]);
        let store = open(&path);
        let branch =
            all_sessions(&store).unwrap().into_iter().find(|session| session.name == "first").unwrap();
        let branch = branch.current_branch;
        let read = |seq: u64| store.read_messages(branch, MessageRange::From(seq, 1));
        assert_eq!(read(seqs.start).unwrap_err().kind(), ErrorKind::Corrupt);
        assert!(read(seqs.start - 1).is_ok() && read(seqs.end).is_ok());
        let all = store.read_messages(branch, MessageRange::From(1, u32::MAX));
        assert_eq!(all.unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(count_hits(&store, "line").unwrap(), 400);
        assert!(!store.verify().unwrap().is_ok());
        let report = store.repair().unwrap();
        let count = seqs.end - seqs.start;
        let lost = report.iter().filter(|problem| problem.kind == "lost").collect::<Vec<_>>();
        assert!(lost.len() == 1 && lost[0].detail.contains(&format!("{count} messages")), "{report:#?}");
        let store = open(&path);
        assert_intact(&store);
        assert_eq!(intact_lines(&store), (1..=200).filter(|seq| !seqs.contains(seq)).collect::<Vec<_>>());
    }
}

#[test]
fn the_text_of_a_lost_row_is_recovered_from_its_block() {
    let (_home, path, blocks) = with_blocks();
    let conn = Connection::open(&path).unwrap();
    conn.execute("DELETE FROM message WHERE no IN (?1 + 3, ?1 + 4)", [blocks[1]]).unwrap();
    // Rows that do not know their place in the block any more.
    conn.execute("UPDATE message SET block_index = NULL WHERE no = ?1 + 6", [blocks[1]]).unwrap();
    conn.execute("UPDATE message SET block_index = 99 WHERE no = ?1 + 7", [blocks[1]]).unwrap();
    drop(conn);
    let store = open(&path);
    let kinds: Vec<String> =
        store.verify().unwrap().problems.into_iter().map(|problem| problem.kind).collect();
    assert!(kinds.contains(&"reference".to_owned()) && kinds.contains(&"gap".to_owned()), "{kinds:?}");
    store.repair().unwrap();
    let store = open(&path);
    assert_intact(&store);
    assert_eq!(intact_lines(&store), (1..=200).collect::<Vec<_>>());
}

#[test]
fn a_purge_of_a_session_with_a_damaged_block_leaves_nothing() {
    let (_home, path, blocks) = with_blocks();
    let conn = Connection::open(&path).unwrap();
    conn.execute("UPDATE block SET data = x'00' WHERE no = ?1", [blocks[1]]).unwrap();
    // A block without messages.
    conn.execute("DELETE FROM message WHERE no >= ?1 AND no < ?2", [blocks[0], blocks[1]]).unwrap();
    drop(conn);
    let store = open(&path);
    let session = all_sessions(&store).unwrap().into_iter().find(|session| session.name == "first").unwrap();
    store.purge_session(session.id).unwrap();
    let left: u64 = Connection::open(&path)
        .unwrap()
        .query_row("SELECT count(*) FROM block WHERE no >> 32 = 1", [], |row| row.get(0))
        .unwrap();
    assert_eq!(left, 0);
}

#[test]
fn a_list_and_a_search_leave_out_damaged_rows_and_count_them() {
    let (_home, path) = sample(3);
    let conn = Connection::open(&path).unwrap();
    conn.execute("UPDATE session SET name = CAST(x'ff' AS TEXT) WHERE no = 2", []).unwrap();
    conn.execute("UPDATE message SET created_at = 9223372036854775807 WHERE no = (1 << 32) + 5", []).unwrap();
    drop(conn);
    let store = try_open(&path).unwrap();
    let page = store.list_sessions(&SessionFilter::default(), &PageRequest::first(10)).unwrap();
    assert_eq!((page.items.len(), page.unreadable), (2, 1));
    let first = store.list_sessions(&SessionFilter::default(), &PageRequest::first(2)).unwrap();
    let rest = PageRequest { limit: 2, after: first.next.clone() };
    let rest = store.list_sessions(&SessionFilter::default(), &rest).unwrap();
    assert_eq!(first.items.len() + rest.items.len(), 2);
    assert_eq!(first.unreadable + rest.unreadable, 1);
    let query = SearchQuery { text: "line".into(), limit: 1000, ..SearchQuery::default() };
    let found = store.search(&query).unwrap();
    // The messages of the damaged session cannot be shown either: a hit has the session's name.
    assert_eq!((found.hits.len(), found.unreadable), (119, 61));
}

#[test]
fn a_repair_keeps_the_original_and_reports_where_it_is() {
    let (home, path) = sample(1);
    damage_text(&path, b"session 0 says its line number 7");
    let damaged = fs::read(&path).unwrap();
    let store = try_open(&path).unwrap();
    let report = store.repair().unwrap();
    let kept = home.path().join("hfs.db.damaged");
    assert_eq!(fs::read(&kept).unwrap(), damaged);
    assert!(report[0].detail.contains("hfs.db.damaged"), "{report:?}");
    assert_intact(&store);
    assert!(
        report.iter().any(|problem| problem.place.contains("message 7 of branch number 1")),
        "{report:?}"
    );
}

#[test]
fn sessions_that_are_created_again_keep_the_rows_of_the_lost_ones() {
    let (_home, path) = sample(4);
    let operations =
        |store: &SqliteStore| store.list_operations(None, &PageRequest::first(1000)).unwrap().items.len();
    let before = operations(&try_open(&path).unwrap());
    let conn = Connection::open(&path).unwrap();
    conn.execute_batch("PRAGMA foreign_keys = OFF; DELETE FROM session WHERE no IN (1, 3, 4); DELETE FROM branch WHERE no IN (2, 7)")
        .unwrap();
    drop(conn);
    let store = try_open(&path).unwrap();
    store.repair().unwrap();
    assert_intact(&store);
    assert_eq!(all_sessions(&store).unwrap().len(), 5, "the messages of one branch cannot be assigned");
    assert_eq!(operations(&store), before);
    let conn = Connection::open(&path).unwrap();
    let numbers: String = conn
        .query_row("SELECT group_concat(no) FROM (SELECT no FROM session ORDER BY no)", [], |row| row.get(0))
        .unwrap();
    assert_eq!(numbers, "1,2,3,4,5");
}

#[test]
fn a_checkpoint_number_that_is_not_valid_is_found_and_repaired() {
    for number in [-1, 0, i64::from(u32::MAX) + 1] {
        let (_home, path) = sample(1);
        let conn = Connection::open(&path).unwrap();
        conn.execute("UPDATE checkpoint SET number = ?1 WHERE no = 2", [number]).unwrap();
        drop(conn);
        let store = try_open(&path).unwrap();
        let problems = store.verify().unwrap().problems;
        assert!(
            problems.iter().any(|problem| problem.detail == "its number in the session is not valid"),
            "{number}: {problems:#?}"
        );
        store.repair().unwrap();
        assert_intact(&store);
    }
}

#[test]
fn a_reply_with_an_unreadable_piece_keeps_its_other_pieces() {
    let (_home, path) = sample(1);
    let (branch, seq) = {
        let store = open(&path);
        let session = all_sessions(&store).unwrap().remove(0);
        let here = head(&store, &session);
        let reply = store.begin_reply(here, &Drafts::new(9).assistant("")).unwrap();
        let call = Part::ToolCall { id: "1".into(), name: "run".into(), input: "ls".into() };
        for delta in [ReplyDelta::Part(call), ReplyDelta::output("1", "lost"), ReplyDelta::text("kept")] {
            store.extend_reply(reply, &[delta]).unwrap();
        }
        (reply.branch, reply.seq)
    };
    let damage = "UPDATE reply_piece SET text = '{' WHERE kind = 3";
    assert_eq!(Connection::open(&path).unwrap().execute(damage, []).unwrap(), 1);
    let store = open(&path);
    assert!(!store.verify().unwrap().is_ok());
    assert!(store.read_messages(branch, MessageRange::From(seq, 1)).is_err());
    assert!(!store.repair().unwrap().is_empty());
    assert_intact(&store);
    let reply = store.read_messages(branch, MessageRange::From(seq, 1)).unwrap().remove(0);
    assert_eq!(reply.content.status, MessageStatus::Interrupted);
    assert_eq!(reply.content.searchable_text(), "run\nls\nkept");
}

#[test]
fn a_full_disk_is_not_counted_as_lost_rows() {
    let (home, path) = sample(3);
    damage_text(&path, b"session 1 says its line number 7");
    let before = fs::read(&path).unwrap();
    // The workspace of the repair cannot be created.
    fs::write(home.path().join("hfs.db-repair"), b"").unwrap();
    let store = try_open(&path).unwrap();
    assert_fails(store.repair(), &[ErrorKind::Unavailable, ErrorKind::Denied]);
    assert_eq!(fs::read(&path).unwrap(), before);
    assert!(!home.path().join("hfs.db.damaged").exists());
    fs::remove_file(home.path().join("hfs.db-repair")).unwrap();
    store.repair().unwrap();
    assert_intact(&store);
}

#[test]
fn a_file_of_another_program_is_not_replaced_by_a_repair() {
    let home = tempfile::tempdir().unwrap();
    let text = home.path().join("notes.txt");
    fs::write(&text, "these are my notes\n".repeat(1000)).unwrap();
    let other = home.path().join("other.db");
    let conn = Connection::open(&other).unwrap();
    conn.execute_batch(
        "CREATE TABLE note (no INTEGER PRIMARY KEY, text TEXT); INSERT INTO note VALUES (1, 'theirs')",
    )
    .unwrap();
    drop(conn);
    for path in [text, other] {
        let before = fs::read(&path).unwrap();
        for _ in 0..2 {
            let _ = try_open(&path);
            let repaired =
                hfs_store::repair(&hfs_store::StoreUrl::Sqlite(path.clone()), SqliteOptions::default());
            assert_fails(repaired, &[ErrorKind::Invalid]);
            assert_eq!(fs::read(&path).unwrap(), before);
        }
    }
}

#[test]
fn a_replacement_that_was_interrupted_is_finished_when_the_store_is_opened() {
    let (home, path) = sample(2);
    let expected = visible_content(&try_open(&path).unwrap());
    fs::copy(&path, home.path().join("hfs.db-repaired")).unwrap();
    fs::write(&path, vec![7; 50_000]).unwrap();
    fs::write(home.path().join("hfs.db-wal"), vec![7; 50_000]).unwrap();
    let store = try_open(&path).unwrap();
    assert_intact(&store);
    assert_eq!(visible_content(&store), expected);
    assert!(!home.path().join("hfs.db-repaired").exists());
}

#[test]
fn another_open_store_reads_and_writes_the_repaired_database() {
    let (_home, path) = sample(2);
    damage_text(&path, b"session 1 says its line number 7");
    let (store, other) = (try_open(&path).unwrap(), try_open(&path).unwrap());
    assert_eq!(all_sessions(&other).unwrap().len(), 2);
    store.repair().unwrap();
    let make = Drafts::new(9);
    create_session(&other, &make, "after the repair", 3);
    drop(other);
    assert_eq!(all_sessions(&store).unwrap().len(), 3);
    assert_intact(&store);
    drop(store);
    assert_eq!(all_sessions(&try_open(&path).unwrap()).unwrap().len(), 3);
}

#[test]
fn a_rollback_journal_of_another_database_does_not_change_the_store() {
    let (home, path) = sample(3);
    let before = visible_content(&open(&path));
    let other = home.path().join("other.db");
    let conn = Connection::open(&other).unwrap();
    conn.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (zeroblob(100000)); PRAGMA cache_size = 5;")
        .unwrap();
    // Pages are written before the commit, because the cache is small.
    conn.execute_batch("BEGIN; UPDATE t SET x = randomblob(100000); UPDATE t SET x = zeroblob(90000);")
        .unwrap();
    let journal = fs::read(home.path().join("other.db-journal")).unwrap();
    assert!(journal.len() > PAGE);
    fs::write(home.path().join("hfs.db-journal"), &journal).unwrap();
    let store = open(&path);
    assert_intact(&store);
    assert!(visible_content(&store) == before);
    assert_eq!(fs::read(home.path().join("hfs.db.damaged-journal")).unwrap(), journal);
}

#[test]
fn verify_finds_a_changed_schema_and_repair_restores_it() {
    for change in [
        "CREATE TRIGGER other AFTER INSERT ON message BEGIN DELETE FROM branch; END",
        "DROP INDEX message_id",
        "CREATE UNIQUE INDEX other ON message (role, created_at, no)",
        "DROP TABLE purged_source",
    ] {
        let (_home, path) = sample(1);
        let before = visible_content(&open(&path));
        Connection::open(&path).unwrap().execute_batch(change).unwrap();
        let store = open(&path);
        let problems = store.verify().unwrap().problems;
        assert!(problems.iter().any(|problem| problem.kind == "schema"), "{change}: {problems:#?}");
        assert!(!store.repair().unwrap().is_empty());
        assert_intact(&store);
        assert!(visible_content(&store) == before, "{change}");
    }
    // What another program keeps beside the tables of hfs does not change them.
    let (_home, path) = sample(1);
    Connection::open(&path).unwrap().execute_batch("CREATE VIEW mine AS SELECT name FROM session").unwrap();
    assert_intact(&open(&path));
}

#[test]
fn branches_that_lead_in_a_circle_are_found_and_repaired() {
    let (_home, path) = sample(1);
    let conn = Connection::open(&path).unwrap();
    conn.execute("UPDATE branch SET parent = (SELECT max(no) FROM branch), forked_at = 5", []).unwrap();
    drop(conn);
    let store = open(&path);
    let problems = store.verify().unwrap().problems;
    assert!(problems.iter().any(|problem| problem.detail.contains("not older")), "{problems:#?}");
    assert!(read_everything(&store).is_err(), "a circle is an error, not an endless loop");
    store.repair().unwrap();
    assert_intact(&store);
    read_everything(&store).unwrap();
}

#[test]
fn messages_of_a_lost_branch_stay_in_the_session_whose_current_branch_it_was() {
    let (_home, path) = sample(3);
    let before = all_sessions(&open(&path)).unwrap().len();
    let conn = Connection::open(&path).unwrap();
    conn.execute_batch(
        "PRAGMA foreign_keys = OFF; DELETE FROM branch; DELETE FROM run; DELETE FROM checkpoint",
    )
    .unwrap();
    drop(conn);
    let store = open(&path);
    store.repair().unwrap();
    assert_intact(&store);
    let sessions = all_sessions(&store).unwrap();
    // The other branch of each session is known by nothing else, so it gets a session of its own.
    assert_eq!(sessions.len(), before * 2);
    let with_messages = sessions.iter().filter(|session| history(&store, session).len() == 61).count();
    assert_eq!(with_messages, before);
}

#[test]
fn a_log_that_declares_a_huge_database_is_read_in_bounded_time() {
    let (home, path) = sample(1);
    let mut database = fs::read(&path).unwrap();
    let checksum = |sum: (u32, u32), bytes: &[u8]| {
        bytes.chunks_exact(8).fold(sum, |(mut first, mut second), pair| {
            let word = |at: usize| u32::from_le_bytes(pair[at..at + 4].try_into().unwrap());
            first = first.wrapping_add(word(0)).wrapping_add(second);
            second = second.wrapping_add(word(4)).wrapping_add(first);
            (first, second)
        })
    };
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>();
    let mut log = words(&[0x377f_0682, 3_007_000, 4096, 0, 1, 2]);
    let mut sum = checksum((0, 0), &log);
    log.extend(words(&[sum.0, sum.1]));
    for page in [3, u32::MAX - 1] {
        let (head, body) = (words(&[page, u32::MAX - 1]), vec![0xa5; PAGE]);
        sum = checksum(checksum(sum, &head), &body);
        log.extend(head);
        log.extend(words(&[1, 2, sum.0, sum.1]));
        log.extend(body);
    }
    fs::write(home.path().join("hfs.db-wal"), log).unwrap();
    database[..100].fill(0);
    fs::write(&path, database).unwrap();
    hfs_store::repair(&hfs_store::StoreUrl::Sqlite(path.clone()), SqliteOptions::default()).unwrap();
    let store = open(&path);
    assert_intact(&store);
    assert_eq!(all_sessions(&store).unwrap().len(), 1);
}
