//! A purge removes the text of a session from all files of the store.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests fail by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hfs_core::{
    BranchStore, ImportStore, Maintenance, MessageStore, OperationKind, Part, ReplyDelta, Role, SearchQuery,
    Session, SessionStore, Store,
};
use hfs_store::{SqliteOptions, SqliteStore};
use rusqlite::Connection;
use testkit::builders::{Drafts, at, attachment, state_of};

const WORD: &str = "zebrafinchword";
/// First bytes of a zstd frame.
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path, SqliteOptions::default()).unwrap()
}

/// Stores the word in every kind of row of a session.
fn plant(store: &dyn Store, make: &Drafts) -> Session {
    let session = store.create_session(&make.session(&format!("{WORD} name"))).unwrap();
    let mut here = at(session.current_branch, 0);
    for number in 0..40 {
        let texts = format!("{} {number} {WORD}{number}", "filler words ".repeat(number * 3));
        let parts = vec![
            Part::text(format!("{texts} {WORD}")),
            Part::Thinking { text: format!("thinking of {WORD}"), signature: None },
            Part::ToolResult { id: "1".into(), output: format!("output {WORD}"), is_error: false },
        ];
        here = store.append(here, &[make.message(Role::Assistant, parts)]).unwrap().position;
    }
    // Stems and parts of identifiers in the text index.
    let forms = format!("{WORD}s {WORD}ing HTTP{WORD}Error v2.{WORD}X3 {WORD}日本語");
    here = store.append(here, &[make.user(&forms)]).unwrap().position;
    let long = format!("{WORD} in several overflow pages. ").repeat(2000);
    here = store.append(here, &[make.user(&long)]).unwrap().position;
    let bytes = attachment(format!("attached {WORD}").repeat(1000).as_bytes());
    store.put_attachment(&bytes).unwrap();
    here = store.append(here, &[make.full_message(&bytes)]).unwrap().position;
    for number in 0..4 {
        let entries: Vec<String> = (0..30).map(|n| format!("{WORD} entry {n} {number}")).collect();
        let entries: Vec<&str> = entries.iter().map(String::as_str).collect();
        store.create_checkpoint(&make.checkpoint(here, state_of(&entries)), 10).unwrap();
    }
    store.save_run(&make.run(here.branch)).unwrap();
    let fork = make.branch(WORD, at(here.branch, 3));
    store.create_branch(&fork, OperationKind::Fork, None, make.now()).unwrap();
    let aside = store.append(at(fork.id, 3), &[make.user(WORD)]).unwrap().position;
    store.rename_session(session.id, &format!("renamed {WORD}"), false, make.now()).unwrap();
    let reply = store.begin_reply(aside, &make.assistant("")).unwrap();
    let delta = ReplyDelta::text(format!("streamed {WORD}"));
    store.extend_reply(reply, &[delta]).unwrap();
    session
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(self::files(&path)) } else { files.push(path) }
    }
    files
}

/// Where the word is: in the bytes of a file, or in a zstd frame that starts anywhere in it.
fn find_word(directory: &Path) -> Vec<String> {
    let contains =
        |bytes: &[u8]| bytes.windows(WORD.len()).any(|window| window.eq_ignore_ascii_case(WORD.as_bytes()));
    let mut found = Vec::new();
    for file in files(directory) {
        let bytes = fs::read(&file).unwrap();
        if contains(&bytes) {
            found.push(format!("{} as it is", file.display()));
        }
        for start in memchr::memmem::find_iter(&bytes, &ZSTD) {
            let mut text = Vec::new();
            if let Ok(decoder) = zstd::Decoder::with_buffer(&bytes[start..]) {
                // A frame in overflow pages is not contiguous. The part before the first page boundary is decoded.
                let _ = std::io::Read::read_to_end(
                    &mut std::io::Read::take(decoder.single_frame(), 1 << 22),
                    &mut text,
                );
            }
            if contains(&text) {
                found.push(format!("{} compressed at {start}", file.display()));
            }
        }
    }
    found
}

/// Parts of the compressed messages in the store.
fn compressed_parts(path: &Path) -> Vec<Vec<u8>> {
    let conn = Connection::open(path).unwrap();
    let mut select = conn.prepare("SELECT data FROM block").unwrap();
    let blocks = select.query_map([], |row| row.get(0)).unwrap();
    let blocks: Vec<Vec<u8>> = blocks.collect::<rusqlite::Result<_>>().unwrap();
    blocks.iter().flat_map(|data| data.chunks_exact(100).map(|part| part[..32].to_vec())).collect()
}

fn search(store: &dyn Store, text: &str) -> u64 {
    store.search(&SearchQuery { text: text.into(), limit: 1000, ..SearchQuery::default() }).unwrap().total
}

#[test]
fn no_byte_of_a_purged_session_is_left_in_the_files() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("hfs.db");
    let store = open(&path);
    let make = Drafts::new(1);
    let other = store.create_session(&make.session("kept")).unwrap();
    let drafts: Vec<_> = (0..300).map(|n| make.user(&format!("kept words number {n}"))).collect();
    let kept = store.append(at(other.current_branch, 0), &drafts[..150]).unwrap().position;
    let session = plant(&store, &make);
    store.append(kept, &drafts[150..]).unwrap();
    assert!(search(&store, WORD) > 40);
    assert_eq!(search(&store, "kept words"), 300);
    assert!(!find_word(home.path()).is_empty(), "the test finds the word before the purge");

    store.purge_session(session.id).unwrap();
    assert_eq!(find_word(home.path()), Vec::<String>::new());
    assert_eq!((search(&store, WORD), search(&store, "kept words")), (0, 300));
    assert!(store.verify().unwrap().is_ok());
    drop(store);
    assert_eq!(find_word(home.path()), Vec::<String>::new());
    let terms = Connection::open(&path).unwrap();
    terms
        .execute_batch("CREATE VIRTUAL TABLE temp.terms USING fts5vocab(main, 'message_text', 'row')")
        .unwrap();
    let left: u64 =
        terms.query_row("SELECT count(*) FROM terms WHERE term LIKE 'zebra%'", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 0);
}

#[test]
fn no_byte_of_a_purged_session_is_left_in_blocks() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("hfs.db");
    let store = open(&path);
    let make = Drafts::new(1);
    let session = plant(&store, &make);
    let here = at(session.current_branch, store.get_branch(session.current_branch).unwrap().head);
    // More than a purge deletes in one transaction.
    let text = |n: u32| {
        format!(
            "{WORD} {n} {}",
            (0..60).map(|word| format!("{:x} ", n * 7919 + word * 31)).collect::<String>()
        )
    };
    let drafts: Vec<_> = (0..1500).map(|n| make.user(&text(n))).collect();
    store.append(here, &drafts).unwrap();
    store.vacuum().unwrap();
    search(&store, WORD);
    let parts = compressed_parts(&path);
    assert!(parts.len() > 500, "{}", parts.len());
    let left = || {
        let files: Vec<Vec<u8>> = files(home.path()).iter().map(|file| fs::read(file).unwrap()).collect();
        let is_left = |part: &&Vec<u8>| files.iter().any(|file| memchr::memmem::find(file, part).is_some());
        parts.iter().filter(is_left).count()
    };
    assert!(left() * 10 > parts.len() * 9, "the test finds most parts before the purge");
    store.purge_session(session.id).unwrap();
    assert_eq!((left(), find_word(home.path())), (0, vec![]));
    assert_eq!(search(&store, WORD), 0);
    assert!(store.verify().unwrap().is_ok());
}

#[test]
fn no_byte_of_a_replaced_message_is_left_after_a_purge_of_its_session() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("hfs.db");
    let store = open(&path);
    let make = Drafts::new(1);
    let session = store.create_session(&make.session("imported")).unwrap();
    let imported = |n: u32| hfs_core::MessageDraft {
        source: Some(hfs_core::Source { format: "claude-code".into(), id: n.to_string() }),
        ..make.user(&format!("{WORD} number {n}, long enough to be compressed"))
    };
    let drafts: Vec<_> = (0..50).map(imported).collect();
    store.append(at(session.current_branch, 0), &drafts).unwrap();
    store.vacuum().unwrap();
    let parts = vec![Part::text("another text")];
    store.update_imported_messages(&[hfs_core::MessageDraft { parts, ..drafts[7].clone() }]).unwrap();
    store.purge_session(session.id).unwrap();
    assert_eq!(find_word(home.path()), Vec::<String>::new());
}

#[test]
fn the_end_of_the_retention_in_the_trash_is_a_purge() {
    let home = tempfile::tempdir().unwrap();
    let store = open(&home.path().join("hfs.db"));
    let make = Drafts::new(1);
    let session = plant(&store, &make);
    search(&store, WORD);
    store.trash_session(session.id, make.now()).unwrap();
    assert_eq!(store.purge_trash(make.now()).unwrap().sessions, 1);
    assert_eq!(find_word(home.path()), Vec::<String>::new());
}

#[test]
fn a_purge_that_was_interrupted_is_finished_when_the_store_is_opened() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("hfs.db");
    let store = open(&path);
    plant(&store, &Drafts::new(1));
    drop(store);
    // The state that the first transaction of a purge leaves.
    let conn = Connection::open(&path).unwrap();
    conn.execute("UPDATE session SET state = 2, importer = ''", []).unwrap();
    drop(conn);
    let store = open(&path);
    assert_eq!(store.info().unwrap().sessions, 0);
    drop(store);
    assert_eq!(find_word(home.path()), Vec::<String>::new());
}

#[test]
fn a_damaged_state_of_a_session_does_not_purge_it() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("hfs.db");
    let session = plant(&open(&path), &Drafts::new(1));
    let conn = Connection::open(&path).unwrap();
    conn.execute("UPDATE session SET state = 2", []).unwrap();
    drop(conn);
    let store = open(&path);
    assert!(!store.verify().unwrap().is_ok());
    assert!(!store.repair().unwrap().is_empty());
    assert!(store.verify().unwrap().is_ok());
    assert!(store.get_session(session.id).unwrap().messages > 40);
}

#[test]
fn copies_that_hfs_made_are_deleted_with_the_session_that_they_contain() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("hfs.db");
    let store = open(&path);
    let make = Drafts::new(1);
    let session = plant(&store, &make);
    for name in ["hfs.db.v3.bak", "hfs.db.damaged"] {
        store.backup(&home.path().join(name)).unwrap();
    }
    let others = store.create_session(&make.session("other")).unwrap();
    store.purge_session(others.id).unwrap();
    assert!(home.path().join("hfs.db.damaged").exists());
    store.purge_session(session.id).unwrap();
    assert_eq!(find_word(home.path()), Vec::<String>::new());
    assert!(!home.path().join("hfs.db.v3.bak").exists() && !home.path().join("hfs.db.damaged").exists());
}

#[test]
fn text_that_a_snapshot_keeps_is_removed_when_the_snapshot_ends() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("hfs.db");
    let store = open(&path);
    let make = Drafts::new(1);
    let session = plant(&store, &make);
    let exporting = open(&path);
    let snapshot = exporting.snapshot().unwrap();
    let began = Instant::now();
    let purged = store.purge_session(session.id).unwrap();
    assert!(purged.text_remains);
    assert!(began.elapsed() < Duration::from_secs(5), "a purge does not wait for a snapshot");
    assert!(!find_word(home.path()).is_empty(), "the snapshot still reads the session");
    assert!(snapshot.get_session(session.id).is_ok());
    store.vacuum().unwrap();
    drop(snapshot);
    assert_eq!(find_word(home.path()), Vec::<String>::new());
    let others = store.create_session(&make.session("other")).unwrap();
    assert!(!store.purge_session(others.id).unwrap().text_remains);
}

#[test]
fn text_that_a_killed_process_kept_is_removed_when_the_store_is_opened() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("hfs.db");
    let store = open(&path);
    let session = plant(&store, &Drafts::new(1));
    // Reads an older state without being a snapshot of hfs, so that its end removes nothing.
    let reader = Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema;").unwrap();
    assert!(store.purge_session(session.id).unwrap().text_remains);
    assert!(!find_word(home.path()).is_empty());
    reader.execute_batch("COMMIT").unwrap();
    open(&path);
    assert_eq!(find_word(home.path()), Vec::<String>::new());
}
