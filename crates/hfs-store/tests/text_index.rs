//! The text index finds what a scan of the messages finds, and an index of an older version is replaced.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use hfs_core::{
    Clock, ImportStore, Maintenance, MessageDraft, MessageStore, Part, SearchIndex, SearchQuery,
    SessionStore, Source, Store, SystemClock,
};
use hfs_store::{MemoryStore, SqliteOptions, SqliteStore};
use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, Strategy, any, prop_assert_eq, proptest};
use proptest::sample::select;
use rusqlite::Connection;
use testkit::builders::{Drafts, at};

fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path, SqliteOptions::default()).unwrap()
}

fn append(store: &dyn Store, make: &Drafts, messages: &[MessageDraft]) {
    let session = store.create_session(&make.session("session")).unwrap();
    store.append(at(session.current_branch, 0), messages).unwrap();
}

/// The positions of the messages that a search finds.
fn search(store: &dyn Store, text: &str) -> BTreeSet<u64> {
    let found = store.search(&SearchQuery::new(text).with_limit(1000)).unwrap();
    let seqs: BTreeSet<u64> = found.hits.iter().map(|hit| hit.seq).collect();
    assert_eq!(found.total, seqs.len() as u64);
    seqs
}

const PIECES: [&str; 36] = [
    "connect",
    "connecting",
    "Connections",
    "CONNECTED",
    "server",
    "ServerError",
    "HTTPServerError",
    "getServers",
    "errors",
    "v1",
    "v1.2.3",
    "1.2",
    "2",
    "sha256",
    "x86_64",
    "src/main.rs",
    "foo_bar",
    "foo",
    "don't",
    "Été",
    "ete",
    "Straße",
    "3fa98ad2b1c07f",
    "3fa98ad",
    "日本",
    "日本語で",
    "語",
    "テスト",
    "한국어를",
    "ประเทศไทย",
    "ไทย",
    "🦀",
    "\u{301}",
    "iPhone手机",
    "a",
    "|",
];

fn text() -> impl Strategy<Value = String> {
    let separators = select(&[" ", " ", " ", "\n", ", ", ".", "-", "_", "::", ""][..]);
    vec((select(&PIECES[..]), separators), 0..8)
        .prop_map(|pieces| pieces.into_iter().flat_map(|(piece, separator)| [piece, separator]).collect())
}

fn query() -> impl Strategy<Value = String> {
    vec((text(), any::<bool>(), any::<bool>()), 1..3).prop_map(|terms| {
        let terms = terms.into_iter().map(|(text, quoted, star)| {
            let text = if quoted { format!("\"{text}\"") } else { text };
            format!("{text}{}", if star { "*" } else { "" })
        });
        terms.collect::<Vec<_>>().join(" ")
    })
}

/// Whether the text has a run of ASCII letters and digits that equals the word in any case.
fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric()).any(|other| other.eq_ignore_ascii_case(word))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_index_finds_what_a_scan_of_the_messages_finds(texts in vec(text(), 1..12), queries in vec(query(), 1..12)) {
        let home = tempfile::tempdir().unwrap();
        let indexed = open(&home.path().join("hfs.db"));
        let scanned = MemoryStore::new(Arc::new(SystemClock) as Arc<dyn Clock>);
        let make = Drafts::new(1);
        let messages: Vec<MessageDraft> = texts.iter().map(|text| make.user(text)).collect();
        append(&indexed, &make, &messages);
        append(&scanned, &make, &messages);
        for query in &queries {
            prop_assert_eq!(search(&indexed, query), search(&scanned, query), "{:?}", query);
        }
        prop_assert_eq!(indexed.verify().unwrap().problems.len(), 0);
    }

    #[test]
    fn a_quoted_word_finds_exactly_the_messages_with_this_word(
        texts in vec("[a-cA-C1 ._/-]{0,24}", 1..12),
        words in vec("[a-cA-C1]{1,3}", 1..6),
    ) {
        let home = tempfile::tempdir().unwrap();
        let store = open(&home.path().join("hfs.db"));
        let make = Drafts::new(1);
        append(&store, &make, &texts.iter().map(|text| make.user(text)).collect::<Vec<_>>());
        for word in &words {
            let expected: BTreeSet<u64> =
                (1..).zip(&texts).filter(|(_, text)| has_word(text, word)).map(|(seq, _)| seq).collect();
            prop_assert_eq!(&search(&store, &format!("\"{word}\"")), &expected, "{:?}", word);
            // Without quotes, it finds at least these.
            let found = search(&store, word);
            prop_assert_eq!(found.intersection(&expected).count(), expected.len(), "{:?}", word);
        }
    }
}

/// Gives the database the text index of version 9, as a program of that version left it.
fn downgrade(path: &Path) {
    let conn = Connection::open(path).unwrap();
    conn.execute_batch(
        "DROP TABLE message_text; DROP VIEW indexed_text; DROP VIEW whole_message; DROP TABLE block;
        ALTER TABLE message DROP COLUMN block_index;
        ALTER TABLE branch RENAME COLUMN indexed_seq TO indexed;
        CREATE VIEW indexed_text (no, text) AS SELECT no, hfs_text(body) FROM message;
        CREATE VIRTUAL TABLE message_text USING fts5 (
            text, content = 'indexed_text', content_rowid = 'no', tokenize = 'unicode61 remove_diacritics 2'
        );
        INSERT INTO message_text (message_text, rank) VALUES ('secure-delete', 1);
        INSERT INTO message_text (rowid, text) SELECT no, substr(body, 2) FROM message;
        UPDATE store_identity SET version = 9; PRAGMA user_version = 9;",
    )
    .unwrap();
}

#[test]
fn an_older_store_is_indexed_again_by_the_next_search() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("hfs.db");
    let make = Drafts::new(1);
    let store = open(&path);
    let messages: Vec<MessageDraft> =
        (0..300).map(|number| make.user(&format!("connecting to HTTPServerError{number} 数据库"))).collect();
    append(&store, &make, &messages);
    assert_eq!(search(&store, "connect").len(), 300);
    drop(store);
    downgrade(&path);

    let store = open(&path);
    let mut reported = Vec::new();
    let mut progress = |remaining: u64| {
        reported.push(remaining);
        reported.len() < 2
    };
    store.update_index(&mut progress).unwrap();
    assert_eq!(reported[0], 300, "all messages are indexed again, with progress");
    for text in ["connect", "ServerError", "数据", "connecting", "\"to HTTPServerError7\""] {
        let expected = if text.contains('7') { 1 } else { 300 };
        assert_eq!(search(&store, text).len(), expected, "{text}");
    }
    assert!(store.verify().unwrap().is_ok());
    assert!(home.path().join("hfs.db.v9.bak").exists(), "the store was copied before its migration");
}

#[test]
fn a_purge_before_an_older_store_is_indexed_again_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("hfs.db");
    let make = Drafts::new(1);
    let store = open(&path);
    append(&store, &make, &[make.user("connecting to zebrafinches")]);
    assert_eq!(search(&store, "zebrafinch").len(), 1);
    drop(store);
    downgrade(&path);
    let store = open(&path);
    let session =
        store.list_sessions(&hfs_core::SessionFilter::default(), &hfs_core::PageRequest::first(1)).unwrap();
    store.purge_session(session.items[0].session.id).unwrap();
    assert_eq!(search(&store, "zebrafinch").len(), 0);
    drop(store);
    let contains = |path: &Path| {
        let bytes = std::fs::read(path).unwrap();
        bytes.windows(11).any(|window| window == b"zebrafinche" || window == b"rafinches h")
    };
    assert!(!contains(&path));
}

#[test]
fn a_message_that_is_replaced_between_two_vacuums_leaves_an_intact_index() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("hfs.db");
    let make = Drafts::new(1);
    let text = |number: usize| {
        let lines =
            (0..40).map(|line| format!("line {} of the build log: größer\n", line * (number + 7) % 9973));
        format!("message{number} {}", lines.collect::<String>())
    };
    let imported = |number: usize| MessageDraft {
        source: Some(Source { format: "claude-code".into(), id: format!("s{number}") }),
        ..make.user(&text(number))
    };
    let store = open(&path);
    let session = store.create_session(&make.session("imported")).unwrap();
    let drafts: Vec<MessageDraft> = (0..100).map(imported).collect();
    store.append(at(session.current_branch, 0), &drafts).unwrap();
    store.vacuum().unwrap();
    assert_eq!(search(&store, "message50").len(), 1);
    let newer = MessageDraft { parts: vec![Part::text("zebrafinch instead")], ..drafts[50].clone() };
    store.update_imported_messages(std::slice::from_ref(&newer)).unwrap();
    assert_eq!((search(&store, "zebrafinch").len(), search(&store, "message50").len()), (1, 0));
    for _ in 0..3 {
        store.vacuum().unwrap();
        let problems = open(&path).verify().unwrap().problems;
        assert!(problems.is_empty(), "by another process: {problems:#?}");
        let problems = store.verify().unwrap().problems;
        assert!(problems.is_empty(), "{problems:#?}");
    }
    assert_eq!(search(&store, "zebrafinch").len(), 1);
}
