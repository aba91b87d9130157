//! Reading: the time must depend on the size of the page, not on the size of the store.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing benchmark panics")]

mod fixtures;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use hfs_core::{
    Maintenance as _, MessageRange, MessageStore as _, PageRequest, SessionFilter, SessionStore as _,
};
use testkit::bench::{Bench, Target, Unit};

use fixtures::StoreFixture;

fn main() -> ExitCode {
    let mut bench = Bench::from_args("read");
    newest_page(&mut bench);
    whole_session(&mut bench, Stored::InRows);
    whole_session(&mut bench, Stored::InBlocks);
    one_message(&mut bench);
    lists(&mut bench);
    bench.finish()
}

fn newest_page(bench: &mut Bench) {
    const ROW: &str = "read the newest 50 of 100,000 messages, vs. a session of 50";
    if !bench.wants(ROW) {
        return;
    }
    let fixture = StoreFixture::new();
    let long = fixture.create_session_with(1, bench.size(100_000, 200));
    let short = fixture.create_session_with(2, 50);
    let open = |branch| fixture.store.read_messages(branch, MessageRange::Newest(50)).unwrap();
    bench.pair(ROW).rounds(1000).median(Target::AtMost(2.0)).run(|| open(long.branch), || open(short.branch));
}

/// Where the texts of the messages are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stored {
    InRows,
    InBlocks,
}

fn whole_session(bench: &mut Bench, stored: Stored) {
    let (row, target) = match stored {
        Stored::InRows => {
            ("read all 5,000 messages of a session among others, vs. a bare scan of the rows", 1.3)
        }
        Stored::InBlocks => {
            ("read all 5,000 compressed messages of a session, vs. a bare scan of plain rows", 1.5)
        }
    };
    if !bench.wants(row) {
        return;
    }
    let fixture = StoreFixture::new();
    let count = bench.size(5_000, 50);
    fixture.import_sessions(bench.size(500, 2), 50);
    let at = fixture.create_session_with(3, count);
    if stored == Stored::InBlocks {
        fixture.store.vacuum().unwrap();
    }
    let mut bare = fixtures::BareDatabase::new(&fixture.directory.path().join("bare.db"));
    fixtures::messages(3, count).iter().for_each(|message| bare.insert(message));
    bench.pair(row).rounds(50).median(Target::AtMost(target)).run(
        || fixture.store.read_messages(at.branch, MessageRange::From(1, u32::MAX)).unwrap().len(),
        || {
            let mut scan =
                bare.conn.prepare_cached("SELECT id, role, created_at, body FROM message").unwrap();
            let rows = scan.query_map([], |row| {
                Ok((
                    row.get::<_, Vec<u8>>(0)?,
                    row.get::<_, i64>(1)?,
                    row.get::<_, i64>(2)?,
                    row.get::<_, String>(3)?,
                ))
            });
            // Both sides collect the rows, as a caller does.
            rows.unwrap().map(Result::unwrap).collect::<Vec<_>>().len()
        },
    );
}

/// One of the messages that are furthest from the end, which the caller has not read before.
fn one_message(bench: &mut Bench) {
    const ROW: &str = "read one of 5,000 compressed messages (limit)";
    if !bench.wants(ROW) {
        return;
    }
    let fixture = StoreFixture::new();
    let count = bench.size(5_000, 50);
    let at = fixture.create_session_with(3, count);
    fixture.store.vacuum().unwrap();
    let mut random = fixtures::Random::new(9);
    let mut times: Vec<Duration> = (0..bench.size(2_000, 5))
        .map(|_| {
            let seq = 1 + random.below(count as u64);
            let begin = Instant::now();
            assert_eq!(fixture.store.read_messages(at.branch, MessageRange::From(seq, 1)).unwrap().len(), 1);
            begin.elapsed()
        })
        .collect();
    times.sort_unstable();
    let median = times[times.len() / 2].as_secs_f64();
    bench.amounts(ROW, median, 0.001, Unit::Seconds, Target::AtMost(1.0));
}

fn lists(bench: &mut Bench) {
    const ROW: &str = "list 20 of 100,000 sessions, vs. 20 of 1,000";
    if !bench.wants(ROW) {
        return;
    }
    let (many, few) = (StoreFixture::new(), StoreFixture::new());
    many.import_sessions(bench.size(100_000, 200), 1);
    few.import_sessions(bench.size(1_000, 50), 1);
    let list = |fixture: &StoreFixture| {
        fixture.store.list_sessions(&SessionFilter::default(), &PageRequest::first(20)).unwrap().items.len()
    };
    bench.pair(ROW).rounds(1000).median(Target::AtMost(1.5)).run(|| list(&many), || list(&few));
}
