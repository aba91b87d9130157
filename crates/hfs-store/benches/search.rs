//! Full-text search in 100,000 messages, compared with the bare FTS5 query.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing benchmark panics")]

mod fixtures;

use std::process::ExitCode;

use hfs_core::{SearchIndex as _, SearchQuery};
use testkit::bench::{Bench, Target};

use fixtures::{Random, StoreFixture, messages, word};

fn main() -> ExitCode {
    let mut bench = Bench::from_args("search");
    let count = bench.size(100_000, 500);
    let fixture = StoreFixture::new();
    fixture.create_session_with(1, count);
    let bare = bare_index(count);
    let mut random = Random::new(5);
    let (one, two, three) = (word(&mut random), word(&mut random), word(&mut random));
    for (row, text) in [
        ("search for one word in 100,000 messages, vs. bare FTS5", one.clone()),
        ("search for three words in 100,000 messages, vs. bare FTS5", format!("{one} {two} {three}")),
    ] {
        let query = SearchQuery { text: text.clone(), limit: 20, ..SearchQuery::default() };
        // The first search indexes the messages.
        fixture.store.search(&query).unwrap();
        let terms: Vec<String> = text.split(' ').map(|term| format!("\"{term}\"")).collect();
        let terms = terms.join(" ");
        bench.pair(row).rounds(50).median(Target::AtMost(1.5)).run(
            || fixture.store.search(&query).unwrap().hits.len(),
            || {
                let mut find = bare
                    .prepare_cached(
                        "SELECT rowid, snippet(words, 0, '', '', '…', 24) FROM words
                         WHERE words MATCH ?1 ORDER BY rank LIMIT 20",
                    )
                    .unwrap();
                let hits = find.query_map([&terms], |row| row.get::<_, String>(1)).unwrap();
                let hits = hits.map(Result::unwrap).count();
                let mut count =
                    bare.prepare_cached("SELECT count(*) FROM words WHERE words MATCH ?1").unwrap();
                (hits, count.query_row([&terms], |row| row.get::<_, i64>(0)).unwrap())
            },
        );
    }
    bench.finish()
}

/// An FTS5 table with the same texts, without a store.
fn bare_index(count: usize) -> rusqlite::Connection {
    let conn = rusqlite::Connection::open_in_memory().unwrap();
    conn.execute_batch("CREATE VIRTUAL TABLE words USING fts5(body); BEGIN").unwrap();
    for message in messages(1, count) {
        conn.prepare_cached("INSERT INTO words (body) VALUES (?1)")
            .unwrap()
            .execute([message.text()])
            .unwrap();
    }
    conn.execute_batch("COMMIT").unwrap();
    conn
}
