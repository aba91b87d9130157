//! Durable appends, beside a bare loop of prepared inserts into one table.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark that cannot go on ends")]

mod ground;

use std::cell::RefCell;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use hfs_core::{CheckpointStore as _, MessageDraft, MessageStore as _, Position};
use testkit::bench::{Bench, Target, Unit};

use ground::{Bare, Ground, messages};

/// How many appends each of the waiting does in one round.
const EACH: usize = 16;
/// How many inserts of the bare loop make one round beside them.
const LOOP: usize = 200;

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

/// Messages without end.
struct Supply {
    ready: Vec<MessageDraft>,
    seed: u64,
}

impl Supply {
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

/// The time of one append at the end of a session.
fn append(ground: &Ground, at: &mut Position, message: &MessageDraft) -> Duration {
    let begin = Instant::now();
    *at = ground.store.append(*at, std::slice::from_ref(message)).unwrap().position;
    begin.elapsed()
}

fn bare_insert(bare: &mut Bare, message: &MessageDraft) -> Duration {
    let begin = Instant::now();
    bare.insert(message);
    begin.elapsed()
}

fn one_writer(bench: &mut Bench) {
    const ROW: &str = "durable append, one writer";
    if !bench.wants(ROW) {
        return;
    }
    let ground = Ground::new();
    let mut at = ground.session();
    let mut bare = Bare::new(&ground.directory.path().join("bare.db"));
    // Both write the same messages.
    let (mut ours, mut theirs) = (Supply::new(1), Supply::new(1));
    bench
        .pair(ROW)
        .rounds(4000)
        .median(Target::AtMost(1.3))
        .p99(Target::AtMost(10.0))
        .run_timed(|| append(&ground, &mut at, &ours.next()), || bare_insert(&mut bare, &theirs.next()));
}

fn many_writers(bench: &mut Bench, writers: usize, speed: f64) {
    let row = format!("durable appends, {writers} waiting");
    if !bench.wants(&row) {
        return;
    }
    let ground = Ground::new();
    let places = RefCell::new((0..writers).map(|_| ground.session()).collect::<Vec<_>>());
    let mut bare = Bare::new(&ground.directory.path().join("bare.db"));
    let (mut ours, mut theirs) = (Supply::new(1), Supply::new(1));
    bench.pair(&row).rounds(40).work(writers * EACH, LOOP).median(Target::SpeedAtLeast(speed)).run_timed(
        || {
            let batches: Vec<Vec<MessageDraft>> =
                (0..writers).map(|_| (0..EACH).map(|_| ours.next()).collect()).collect();
            let mut places = places.borrow_mut();
            let begin = Instant::now();
            std::thread::scope(|scope| {
                for (at, batch) in places.iter_mut().zip(&batches) {
                    let ground = &ground;
                    scope.spawn(move || {
                        for message in batch {
                            append(ground, at, message);
                        }
                    });
                }
            });
            begin.elapsed()
        },
        || {
            let batch: Vec<MessageDraft> = (0..LOOP).map(|_| theirs.next()).collect();
            let begin = Instant::now();
            batch.iter().for_each(|message| bare.insert(message));
            begin.elapsed()
        },
    );
}

/// An append costs the same however much is stored.
fn full_stores(bench: &mut Bench) {
    let against_empty = |bench: &mut Bench, row: &str, fill: &dyn Fn(&Ground) -> Position| {
        if !bench.wants(row) {
            return;
        }
        let (full, empty) = (Ground::new(), Ground::new());
        let (mut in_full, mut in_empty) = (fill(&full), empty.session());
        let (mut ours, mut theirs) = (Supply::new(1), Supply::new(1));
        bench.pair(row).rounds(2000).median(Target::AtMost(1.2)).run_timed(
            || append(&full, &mut in_full, &ours.next()),
            || append(&empty, &mut in_empty, &theirs.next()),
        );
    };
    let long = bench.size(100_000, 500);
    against_empty(bench, "append at 100,000 messages beside an empty store", &|ground| ground.talk(3, long));
    let crowd = bench.size(10_000, 5);
    against_empty(bench, "append among 1,000,000 messages beside an empty store", &|ground| {
        ground.crowd(crowd, 100);
        ground.session()
    });
    let states = bench.size(10, 1);
    against_empty(bench, "append beside ten 2 MB checkpoints beside an empty store", &|ground| {
        let at = ground.session();
        let mut sequence = ground::states::States::new(ground::states::Shape::Prose, 9, 2_000_000);
        for n in 0..states {
            let checkpoint = ground::states::checkpoint(at, n, sequence.another());
            ground.store.create_checkpoint(&checkpoint, 100).unwrap();
        }
        at
    });
}

/// Bytes on disk without the text index, beside the bytes of the texts.
fn payload(bench: &mut Bench) {
    const ROW: &str = "bytes on disk beside the texts' own";
    if !bench.wants(ROW) {
        return;
    }
    let ground = Ground::new();
    let count = bench.size(20_000, 100);
    ground.talk(3, count);
    let bytes: usize = messages(3, count).iter().map(|message| message.text().len()).sum();
    let reader = rusqlite::Connection::open(ground.path()).unwrap();
    let stored: i64 = reader
        .query_row("SELECT sum(pgsize) FROM dbstat WHERE name NOT LIKE 'message_text%'", [], |row| row.get(0))
        .unwrap();
    #[allow(clippy::cast_precision_loss, reason = "these are megabytes")]
    bench.amounts(ROW, stored as f64, bytes as f64, Unit::Bytes, Target::AtMost(1.25));
}
