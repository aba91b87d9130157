//! Compressed messages: they are read, searched, changed and purged like others, and nothing is lost on the way into a block.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests fail by panicking")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use hfs_core::{
    AttachmentStore, BranchId, BranchStore, ImportStore, Maintenance, Message, MessageDraft, MessageId,
    MessageRange, MessageStore, OperationKind, Part, Position, ReplyDelta, Role, SearchIndex, SearchQuery,
    SessionId, SessionStore, Source, Store, Timestamp,
};
use hfs_store::{SqliteOptions, SqliteStore};
use proptest::prelude::*;
use rusqlite::Connection;
use tempfile::TempDir;
use testkit::builders::{Drafts, at, attachment};

/// The largest message that is stored in a block.
const LARGEST: usize = 4 * 1024 * 1024;

fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path, SqliteOptions::default()).unwrap()
}

fn new_store() -> (TempDir, SqliteStore) {
    let home = tempfile::tempdir().unwrap();
    let store = open(&home.path().join("hfs.db"));
    (home, store)
}

fn vacuum(store: &dyn Store) {
    store.vacuum().unwrap();
}

/// A text of about this size, which differs for each number.
fn text(number: usize, bytes: usize) -> String {
    let mut text = format!("message{number} ");
    while text.len() < bytes {
        text.push_str(&format!("line {} of the build log: größer\n", text.len() * (number + 7) % 9973));
    }
    text
}

fn imported(make: &Drafts, number: usize, bytes: usize) -> MessageDraft {
    let extra = serde_json::json!({"uuid": format!("u{number}"), "cwd": "/home/me/project", "nested": [1, {"a": null}]});
    MessageDraft {
        source: Some(Source { format: "claude-code".into(), id: format!("s{number}") }),
        extra: extra.as_object().cloned().unwrap().into(),
        ..make.user(&text(number, bytes))
    }
}

fn all(store: &dyn Store, branch: BranchId) -> Vec<Message> {
    store.read_messages(branch, MessageRange::From(1, u32::MAX)).unwrap()
}

fn append(store: &dyn Store, here: Position, messages: &[MessageDraft]) -> Position {
    store.append(here, messages).unwrap().position
}

/// Everything that can be read of a branch, in several ways, and what some searches find.
fn visible(store: &dyn Store, branch: BranchId) -> (Vec<Message>, Vec<Vec<(MessageId, String)>>) {
    let messages = all(store, branch);
    for message in &messages {
        assert_eq!(store.get_message(message.content.id).unwrap(), *message);
    }
    for count in [1, 3, 50] {
        let start = messages.len().saturating_sub(count);
        let newest = MessageRange::Newest(u32::try_from(count).unwrap());
        assert_eq!(store.read_messages(branch, newest).unwrap(), messages[start..]);
        let before =
            MessageRange::Before(u64::try_from(messages.len()).unwrap(), u32::try_from(count).unwrap());
        let end = messages.len().saturating_sub(1);
        assert_eq!(store.read_messages(branch, before).unwrap(), messages[end.saturating_sub(count)..end]);
    }
    let found = ["message7", "größer", "build log", "nothing of that"].map(|words| {
        let query = SearchQuery { text: words.into(), limit: 20, ..SearchQuery::default() };
        store
            .search(&query)
            .unwrap()
            .hits
            .into_iter()
            .map(|hit| (hit.message, format!("{:?}", hit.snippet)))
            .collect()
    });
    (messages, found.into())
}

fn count(home: &TempDir, sql: &str) -> u64 {
    let conn = Connection::open(home.path().join("hfs.db")).unwrap();
    conn.query_row(sql, [], |row| row.get(0)).unwrap()
}

fn blocks(home: &TempDir) -> u64 {
    count(home, "SELECT count(*) FROM block")
}

fn plain(home: &TempDir) -> u64 {
    count(home, "SELECT count(*) FROM message WHERE block_index IS NULL")
}

#[track_caller]
fn assert_intact(store: &dyn Store) {
    let verification = store.verify().unwrap();
    assert!(verification.is_ok(), "{:#?}", verification.problems);
}

#[test]
fn compressed_messages_are_read_and_found_like_others() {
    let (home, store) = new_store();
    let make = Drafts::new(1);
    let session = store.create_session(&make.session("long")).unwrap();
    let bytes = attachment(b"bytes");
    store.put_attachment(&bytes).unwrap();
    let drafts = (0..900).map(|number| match number % 90 {
        30 => make.full_message(&bytes),
        60 => make.user(""),
        _ => imported(&make, number, number * 37 % 3000),
    });
    let mut here = append(&store, at(session.current_branch, 0), &drafts.collect::<Vec<_>>());
    here = append(&store, here, &[make.user(&text(7, 300_000)), imported(&make, 901, 2000)]);
    let fork = make.branch("side", at(here.branch, 450));
    store.create_branch(&fork, OperationKind::Fork, None, make.now()).unwrap();
    append(&store, at(fork.id, 450), &[make.user(&text(1000, 5000)), make.user("message7 aside")]);
    let before = [here.branch, fork.id].map(|branch| visible(&store, branch));
    let (size, mut reported) = (store.info().unwrap().bytes, Vec::new());
    store.compress(&mut |done, all| reported.push((done, all))).unwrap();
    store.vacuum().unwrap();
    assert_eq!((reported.first(), reported.last()), (Some(&(0, 904)), Some(&(904, 904))));
    assert_eq!(plain(&home), 0);
    assert!(blocks(&home) > 20);
    assert_eq!([here.branch, fork.id].map(|branch| visible(&store, branch)), before);
    let compressed = store.compressed_size().unwrap();
    assert!(compressed.uncompressed_bytes > 1_500_000);
    assert!(compressed.compressed_bytes * 3 < compressed.uncompressed_bytes);
    let info = store.info().unwrap();
    assert!(info.bytes < size, "{} bytes, {size} before", info.bytes);
    assert_intact(&store);
    assert!(store.repair().unwrap().is_empty());

    let copy = home.path().join("copy.db");
    store.backup(&copy).unwrap();
    assert_eq!(visible(&open(&copy), here.branch), before[0]);
}

#[test]
fn an_import_stores_compressed_messages() {
    let (home, store) = new_store();
    let make = Drafts::new(1);
    let bytes = attachment(b"picture");
    for with_attachments in [false, true] {
        let draft = make.session("imported");
        let mut import = store.import_session(&draft).unwrap();
        import.branch(1, 0, 0, make.ids.branch(), "side").unwrap();
        let mut expected = Vec::new();
        for number in 0..400 {
            let message = imported(&make, number, number * 91 % 2000);
            import.message(0, &message).unwrap();
            expected.push(message);
            if number % 3 == 0 {
                import.message(1, &make.user(&text(number, 200))).unwrap();
            }
            if with_attachments && number % 5 == 0 {
                import.attachment(&bytes).unwrap();
                let message = make.full_message(&bytes);
                import.message(0, &message).unwrap();
                expected.push(message);
            }
        }
        import.finish("imported", 0, Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH).unwrap();
        let stored: Vec<MessageDraft> =
            all(&store, draft.main_branch).into_iter().map(|message| message.content).collect();
        assert_eq!(stored, expected);
        assert_eq!(plain(&home), 0, "with attachments: {with_attachments}");
    }
    let small = count(&home, "SELECT count(*) FROM block WHERE size < 30000");
    assert!(blocks(&home) > 12 && small <= 4, "{small} of {} blocks are small", blocks(&home));
    assert_intact(&store);
}

#[test]
fn a_message_in_a_block_is_replaced_by_a_newer_version() {
    let (home, store) = new_store();
    let make = Drafts::new(1);
    let session = store.create_session(&make.session("imported")).unwrap();
    let drafts: Vec<MessageDraft> = (0..100).map(|number| imported(&make, number, 1500)).collect();
    append(&store, at(session.current_branch, 0), &drafts);
    vacuum(&store);
    let before = all(&store, session.current_branch);
    let newer = MessageDraft { parts: vec![Part::text("zebrafinch instead")], ..drafts[50].clone() };
    store.update_imported_messages(std::slice::from_ref(&newer)).unwrap();
    let after = all(&store, session.current_branch);
    assert_eq!(after[50].content, newer);
    assert_eq!((&after[..50], &after[51..]), (&before[..50], &before[51..]));
    let found = |text: &str| {
        let query = SearchQuery { text: text.into(), limit: 5, ..SearchQuery::default() };
        store.search(&query).unwrap().total
    };
    assert_eq!((found("zebrafinch"), found("message50"), found("message51")), (1, 0, 1));
    assert!(plain(&home) > 1, "its block is rows again");
    assert_intact(&store);
    vacuum(&store);
    assert_eq!(plain(&home), 0);
    assert!(all(&store, session.current_branch) == after);
}

#[test]
fn a_message_that_is_too_large_stays_in_its_row() {
    let (home, store) = new_store();
    let make = Drafts::new(1);
    let session = store.create_session(&make.session("large")).unwrap();
    let drafts = [text(1, 3000), "x".repeat(LARGEST - 1), "y".repeat(LARGEST), text(2, 3000)]
        .map(|text| make.user(&text));
    append(&store, at(session.current_branch, 0), &drafts);
    let before = all(&store, session.current_branch);
    vacuum(&store);
    assert_eq!((all(&store, session.current_branch), plain(&home), blocks(&home)), (before, 1, 3));
    assert_intact(&store);
}

#[test]
fn older_messages_are_compressed_when_a_store_is_closed() {
    let (home, store) = new_store();
    let make = Drafts::new(1);
    let session = store.create_session(&make.session("growing")).unwrap();
    let mut here = at(session.current_branch, 0);
    for number in 0..200 {
        here = append(&store, here, &[make.user(&text(number, 1500))]);
    }
    let reply = store.begin_reply(here, &make.assistant("")).unwrap();
    assert_eq!(blocks(&home), 0);
    drop(store);
    assert!(blocks(&home) >= 3);
    let newest = "SELECT count(*) FROM message WHERE no & 0xffffffff > 151 AND block_index IS NULL";
    assert_eq!(count(&home, newest), 50);
    let store = open(&home.path().join("hfs.db"));
    let messages = all(&store, here.branch);
    assert_eq!(messages.len(), 201);
    for (number, message) in messages[..200].iter().enumerate() {
        assert_eq!(message.content.text(), text(number, 1500));
    }
    assert_eq!(messages[200].content.id, reply.message);
    assert_intact(&store);
}

#[test]
fn older_messages_are_compressed_after_a_pause() {
    let (home, store) = new_store();
    let make = Drafts::new(1);
    let session = store.create_session(&make.session("growing")).unwrap();
    let drafts: Vec<MessageDraft> = (0..200).map(|number| make.user(&text(number, 1500))).collect();
    let here = append(&store, at(session.current_branch, 0), &drafts);
    assert_eq!(blocks(&home), 0);
    // An append after half a second follows a pause.
    std::thread::sleep(Duration::from_millis(600));
    append(&store, here, &[make.user("typed")]);
    assert!(blocks(&home) >= 3);
    assert_eq!(all(&store, here.branch).len(), 201);
    assert_intact(&store);
}

#[test]
fn short_blocks_are_merged_with_what_follows_them() {
    let (home, store) = new_store();
    let make = Drafts::new(1);
    let session = store.create_session(&make.session("growing")).unwrap();
    let mut here = at(session.current_branch, 0);
    for number in 0..60 {
        here = append(&store, here, &[make.user(&text(number, 2000))]);
        vacuum(&store);
    }
    assert_eq!((plain(&home), blocks(&home)), (0, 4));
    // A message that does not fit in a short block begins another one.
    here = append(&store, here, &[make.user(&text(60, 59_000))]);
    vacuum(&store);
    append(&store, here, &[make.user("short")]);
    vacuum(&store);
    assert_eq!(blocks(&home), 5);
    assert_eq!(plain(&home), 1, "a block of so few bytes is not worthwhile");
    assert_eq!(all(&store, here.branch).len(), 62);
    assert_intact(&store);
}

#[test]
fn a_reply_that_is_being_written_is_not_compressed() {
    let (home, store) = new_store();
    let make = Drafts::new(1);
    let session = store.create_session(&make.session("s")).unwrap();
    let here = append(&store, at(session.current_branch, 0), &[make.user(&text(1, 2000))]);
    let reply = store.begin_reply(here, &make.assistant("")).unwrap();
    store.extend_reply(reply, &[ReplyDelta::text(text(2, 2000))]).unwrap();
    vacuum(&open(&home.path().join("hfs.db")));
    assert_eq!((blocks(&home), plain(&home)), (1, 1));
    store.finish_reply(reply, &make.message(Role::Assistant, vec![Part::text("finished")])).unwrap();
    assert_eq!(all(&store, here.branch)[1].content.text(), "finished");
    assert_intact(&store);
}

#[test]
fn a_snapshot_reads_what_is_compressed_meanwhile() {
    let (home, store) = new_store();
    let make = Drafts::new(1);
    let session = store.create_session(&make.session("s")).unwrap();
    let drafts: Vec<MessageDraft> = (0..600).map(|number| imported(&make, number, 500)).collect();
    append(&store, at(session.current_branch, 0), &drafts);
    let expected = all(&store, session.current_branch);
    let snapshot = store.snapshot().unwrap();
    vacuum(&store);
    let compressed = store.snapshot().unwrap();
    let newer = MessageDraft { parts: vec![Part::text("newer")], ..drafts[3].clone() };
    store.update_imported_messages(&[newer]).unwrap();
    for view in [&snapshot, &compressed] {
        assert_eq!(all(view.as_ref(), session.current_branch), expected);
    }
    drop((snapshot, compressed));
    assert!(blocks(&home) > 0);
    assert_eq!(all(&store, session.current_branch)[3].content.text(), "newer");
}

/// Changes the database to version 10 of the schema, as a program of that version left it.
fn downgrade(path: &Path) {
    let conn = Connection::open(path).unwrap();
    conn.execute_batch(
        "DROP VIEW indexed_text; DROP VIEW whole_message; DROP TABLE block;
        ALTER TABLE message DROP COLUMN block_index;
        ALTER TABLE branch RENAME COLUMN indexed_seq TO indexed;
        CREATE VIEW indexed_text (no, words, stems, parts) AS
            SELECT message.no, hfs_words(message.body), hfs_stems(message.body), hfs_parts(message.body)
            FROM message JOIN branch ON branch.no = message.no >> 32
            WHERE message.no & 0xffffffff <= branch.indexed;
        UPDATE store_identity SET version = 10; PRAGMA user_version = 10;",
    )
    .unwrap();
}

#[test]
fn an_older_store_is_converted_by_a_vacuum() {
    let (home, store) = new_store();
    let make = Drafts::new(1);
    let session = store.create_session(&make.session("old")).unwrap();
    let drafts: Vec<MessageDraft> = (0..500).map(|number| imported(&make, number, 1000)).collect();
    append(&store, at(session.current_branch, 0), &drafts[..499]);
    let expected = visible(&store, session.current_branch);
    let path = home.path().join("hfs.db");
    let (copy, plain_store) = (home.path().join("v10.db"), store.backup(&home.path().join("v10.db")));
    plain_store.unwrap();
    downgrade(&copy);
    let before = fs::metadata(&copy).unwrap().len();
    drop(store);
    fs::rename(&copy, &path).unwrap();
    for suffix in ["-wal", "-shm"] {
        let _ = fs::remove_file(home.path().join(format!("hfs.db{suffix}")));
    }
    let store = open(&path);
    assert_eq!((visible(&store, session.current_branch), blocks(&home)), (expected.clone(), 0));
    assert_intact(&store);
    vacuum(&store);
    assert_eq!((visible(&store, session.current_branch), plain(&home)), (expected, 0));
    assert_intact(&store);
    drop(store);
    let after = fs::metadata(&path).unwrap().len();
    assert!(after * 2 < before, "{after} bytes, {before} before");
    assert!(home.path().join("hfs.db.v10.bak").exists(), "the store was copied before its migration");
}

#[derive(Debug, Clone)]
enum Step {
    Append(prop::sample::Index, Vec<usize>),
    Import(Vec<usize>),
    Replace(prop::sample::Index, usize),
    Vacuum,
    Restart,
    Purge(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    let sizes = || {
        let size = prop_oneof![6 => 0..300_usize, 3 => 300..6000_usize, 1 => 20_000..90_000_usize];
        prop::collection::vec(size, 1..40)
    };
    let which = any::<prop::sample::Index>;
    prop_oneof![
        4 => (which(), sizes()).prop_map(|(which, sizes)| Step::Append(which, sizes)),
        2 => sizes().prop_map(Step::Import),
        2 => (which(), 0..3000_usize).prop_map(|(which, size)| Step::Replace(which, size)),
        3 => Just(Step::Vacuum),
        1 => Just(Step::Restart),
        1 => which().prop_map(Step::Purge),
    ]
}

/// A session and what it should contain.
struct Expected {
    session: SessionId,
    branch: BranchId,
    messages: Vec<MessageDraft>,
    /// The beginnings of all texts that it has ever had.
    beginnings: Vec<String>,
}

impl Expected {
    fn new(session: SessionId, branch: BranchId) -> Self {
        Self { session, branch, messages: Vec::new(), beginnings: Vec::new() }
    }

    /// A message that the session gets, with a text that no other message has.
    fn next(&mut self, make: &Drafts, number: &mut usize, bytes: usize) -> MessageDraft {
        *number += 1;
        self.beginnings.push(format!("message{number} "));
        imported(make, *number, bytes)
    }
}

/// What is in the files of the store of these texts, by their beginnings, and of these blocks, except for what others contain too.
fn left_in_files(
    home: &TempDir,
    beginnings: &[String],
    purged: &[Vec<u8>],
    others: &[Vec<u8>],
) -> Vec<String> {
    let contains = |bytes: &[u8], part: &[u8]| memchr::memmem::find(bytes, part).is_some();
    let files = ["hfs.db", "hfs.db-wal"].map(|name| fs::read(home.path().join(name)).unwrap_or_default());
    let is_left = |part: &[u8]| files.iter().any(|file| contains(file, part));
    let parts = purged.iter().flat_map(|block| block.chunks_exact(128)).map(|chunk| &chunk[..32]);
    let parts = parts.filter(|part| is_left(part) && !others.iter().any(|block| contains(block, part)));
    let texts = beginnings.iter().filter(|text| is_left(text.as_bytes()));
    texts.cloned().chain(parts.map(|part| format!("{part:x?}"))).collect()
}

fn blocks_of(home: &TempDir, branch: BranchId) -> Vec<Vec<u8>> {
    let conn = Connection::open(home.path().join("hfs.db")).unwrap();
    let mut select = conn
        .prepare("SELECT data FROM block JOIN branch ON branch.no = block.no >> 32 WHERE branch.id = ?1")
        .unwrap();
    let rows = select.query_map([branch.as_uuid().as_bytes()], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn messages_never_change_by_compression_and_nothing_is_left_of_purged_ones(
        steps in prop::collection::vec(step(), 1..20),
    ) {
        let (home, mut store) = new_store();
        let make = Drafts::new(1);
        let mut number = 0;
        let session = store.create_session(&make.session("appended")).unwrap();
        let mut expected = vec![Expected::new(session.id, session.current_branch)];
        for step in &steps {
            match step {
                Step::Append(which, sizes) => {
                    let session = which.get_mut(&mut expected);
                    let drafts: Vec<MessageDraft> =
                        sizes.iter().map(|size| session.next(&make, &mut number, *size)).collect();
                    append(&store, at(session.branch, session.messages.len() as u64), &drafts);
                    session.messages.extend(drafts);
                }
                Step::Import(sizes) => {
                    let draft = make.session("imported");
                    let mut session = Expected::new(draft.id, draft.main_branch);
                    let mut import = store.import_session(&draft).unwrap();
                    for size in sizes {
                        let message = session.next(&make, &mut number, *size);
                        import.message(0, &message).unwrap();
                        session.messages.push(message);
                    }
                    import.finish("imported", 0, Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH).unwrap();
                    expected.push(session);
                }
                Step::Replace(which, size) => {
                    let session = which.get_mut(&mut expected);
                    if !session.messages.is_empty() {
                        let place = which.index(session.messages.len());
                        let newer = session.next(&make, &mut number, *size);
                        session.messages[place] = MessageDraft { id: session.messages[place].id, ..newer };
                        store.update_imported_messages(&session.messages[place..=place]).unwrap();
                    }
                }
                Step::Vacuum => vacuum(&store),
                Step::Restart => {
                    drop(store);
                    store = open(&home.path().join("hfs.db"));
                }
                Step::Purge(which) => {
                    if expected.len() > 1 {
                        let purged = expected.remove(1 + which.index(expected.len() - 1));
                        let blocks = blocks_of(&home, purged.branch);
                        store.purge_session(purged.session).unwrap();
                        let others: Vec<Vec<u8>> =
                            expected.iter().flat_map(|session| blocks_of(&home, session.branch)).collect();
                        let left = left_in_files(&home, &purged.beginnings, &blocks, &others);
                        prop_assert!(left.is_empty(), "{left:?}");
                    }
                }
            }
            for session in &expected {
                let stored: Vec<MessageDraft> =
                    all(&store, session.branch).into_iter().map(|message| message.content).collect();
                prop_assert!(stored == session.messages, "after {step:?}");
            }
        }
        prop_assert_eq!(store.verify().unwrap().problems, vec![]);
        let of_no_branch = "SELECT count(*) FROM block WHERE NOT EXISTS (SELECT 1 FROM branch WHERE branch.no = block.no >> 32)";
        prop_assert_eq!(count(&home, of_no_branch), 0);
    }
}
