//! Durable appends, compared with a bare loop of prepared inserts into one table.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing benchmark panics")]

mod fixtures;

use std::cell::RefCell;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use hfs_core::{CheckpointStore as _, MessageDraft, MessageStore as _, Position};
use testkit::bench::{Bench, Target, Unit};

use fixtures::{BareDatabase, StoreFixture, messages};

/// Number of appends by each writer in one round.
const APPENDS_PER_WRITER: usize = 16;
/// Number of inserts by the bare loop in one round.
const BARE_INSERTS: usize = 200;

fn main() -> ExitCode {
    let mut bench = Bench::from_args("append");
    one_writer(&mut bench);
    for (writers, speed) in [(8, 1.5), (64, 5.0)] {
        many_writers(&mut bench, writers, speed);
    }
    full_stores(&mut bench);
    payload(&mut bench);
    bench.finish()
}

/// An endless sequence of messages.
struct Messages {
    ready: Vec<MessageDraft>,
    seed: u64,
}

impl Messages {
    fn new(seed: u64) -> Self {
        Self { ready: Vec::new(), seed }
    }

    fn next(&mut self) -> MessageDraft {
        if self.ready.is_empty() {
            self.seed += 1;
            self.ready = messages(self.seed, 500);
        }
        self.ready.pop().unwrap()
    }
}

/// Appends a message and returns the time that it took.
fn append(fixture: &StoreFixture, at: &mut Position, message: &MessageDraft) -> Duration {
    let begin = Instant::now();
    *at = fixture.store.append(*at, std::slice::from_ref(message)).unwrap().position;
    begin.elapsed()
}

fn bare_insert(bare: &mut BareDatabase, message: &MessageDraft) -> Duration {
    let begin = Instant::now();
    bare.insert(message);
    begin.elapsed()
}

fn one_writer(bench: &mut Bench) {
    const ROW: &str = "durable append, one writer";
    if !bench.wants(ROW) {
        return;
    }
    let fixture = StoreFixture::new();
    let mut at = fixture.create_session();
    let mut bare = BareDatabase::new(&fixture.directory.path().join("bare.db"));
    // Both sides write the same messages.
    let (mut ours, mut theirs) = (Messages::new(1), Messages::new(1));
    bench
        .pair(ROW)
        .rounds(4000)
        .median(Target::AtMost(1.3))
        .p99(Target::AtMost(10.0))
        .run_timed(|| append(&fixture, &mut at, &ours.next()), || bare_insert(&mut bare, &theirs.next()));
}

fn many_writers(bench: &mut Bench, writers: usize, speed: f64) {
    let row = format!("durable appends, {writers} waiting");
    if !bench.wants(&row) {
        return;
    }
    let fixture = StoreFixture::new();
    let positions = RefCell::new((0..writers).map(|_| fixture.create_session()).collect::<Vec<_>>());
    let mut bare = BareDatabase::new(&fixture.directory.path().join("bare.db"));
    let (mut ours, mut theirs) = (Messages::new(1), Messages::new(1));
    bench
        .pair(&row)
        .rounds(40)
        .work(writers * APPENDS_PER_WRITER, BARE_INSERTS)
        .median(Target::SpeedAtLeast(speed))
        .run_timed(
            || {
                let batches: Vec<Vec<MessageDraft>> =
                    (0..writers).map(|_| (0..APPENDS_PER_WRITER).map(|_| ours.next()).collect()).collect();
                let mut positions = positions.borrow_mut();
                let begin = Instant::now();
                std::thread::scope(|scope| {
                    for (at, batch) in positions.iter_mut().zip(&batches) {
                        let fixture = &fixture;
                        scope.spawn(move || {
                            for message in batch {
                                append(fixture, at, message);
                            }
                        });
                    }
                });
                begin.elapsed()
            },
            || {
                let batch: Vec<MessageDraft> = (0..BARE_INSERTS).map(|_| theirs.next()).collect();
                let begin = Instant::now();
                batch.iter().for_each(|message| bare.insert(message));
                begin.elapsed()
            },
        );
}

/// Compares appends to large stores with appends to an empty one: the time must not depend on the size of the store.
fn full_stores(bench: &mut Bench) {
    let compare_with_empty = |bench: &mut Bench, row: &str, fill: &dyn Fn(&StoreFixture) -> Position| {
        if !bench.wants(row) {
            return;
        }
        let (full, empty) = (StoreFixture::new(), StoreFixture::new());
        let (mut in_full, mut in_empty) = (fill(&full), empty.create_session());
        let (mut ours, mut theirs) = (Messages::new(1), Messages::new(1));
        bench.pair(row).rounds(2000).median(Target::AtMost(1.2)).run_timed(
            || append(&full, &mut in_full, &ours.next()),
            || append(&empty, &mut in_empty, &theirs.next()),
        );
    };
    let long = bench.size(100_000, 500);
    compare_with_empty(bench, "append to 100,000 messages vs. to an empty store", &|fixture| {
        fixture.create_session_with(3, long)
    });
    let sessions = bench.size(10_000, 5);
    compare_with_empty(bench, "append in a store of 1,000,000 messages vs. in an empty store", &|fixture| {
        fixture.import_sessions(sessions, 100);
        fixture.create_session()
    });
    let states = bench.size(10, 1);
    compare_with_empty(
        bench,
        "append in a store of ten 2 MB checkpoints vs. in an empty store",
        &|fixture| {
            let at = fixture.create_session();
            let mut sequence = fixtures::States::new(fixtures::Shape::Prose, 9, 2_000_000);
            for n in 0..states {
                let checkpoint = fixtures::checkpoint(at, n, sequence.next_state());
                fixture.store.create_checkpoint(&checkpoint, 100).unwrap();
            }
            at
        },
    );
}

/// Bytes on disk without the text index, compared with the bytes of the texts.
fn payload(bench: &mut Bench) {
    const ROW: &str = "bytes on disk vs. bytes of the texts";
    if !bench.wants(ROW) {
        return;
    }
    let fixture = StoreFixture::new();
    let count = bench.size(20_000, 100);
    fixture.create_session_with(3, count);
    let bytes: usize = messages(3, count).iter().map(|message| message.text().len()).sum();
    let reader = rusqlite::Connection::open(fixture.path()).unwrap();
    let stored: i64 = reader
        .query_row("SELECT sum(pgsize) FROM dbstat WHERE name NOT LIKE 'message_text%'", [], |row| row.get(0))
        .unwrap();
    #[allow(clippy::cast_precision_loss, reason = "these are megabytes")]
    bench.amounts(ROW, stored as f64, bytes as f64, Unit::Bytes, Target::AtMost(1.25));
}
