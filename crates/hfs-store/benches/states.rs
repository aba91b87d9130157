//! Storing and restoring checkpoint states. From one state to the next, 1 to 2 % of its parts change. The alternatives
//! are to store each state as JSON, to compress each state without a base, and (rows "delta") zstd with the keyframe as
//! its prefix.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing benchmark panics")]

mod fixtures;

use std::cell::{Cell, RefCell};
use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use hfs_core::{
    BranchStore as _, Checkpoint, CheckpointState, CheckpointStore as _, Maintenance as _, Position,
    SessionId,
};
use hfs_store::binary_delta::{self, BlockIndex};
use rusqlite::Connection;
use testkit::bench::{Bench, Target, Unit};
use zstd::zstd_safe::{CCtx, CParameter, compress_bound};

use fixtures::{BareDatabase, Shape, States, StoreFixture, checkpoint};

/// The default retention of automatic checkpoints.
const DEFAULT_RETENTION: u32 = 10;
/// A retention larger than the number of checkpoints in any benchmark, so that none is deleted.
const KEEP_ALL: u32 = 100_000;
/// The compression level that the store uses, which is zstd's default.
const LEVEL: i32 = 3;

fn main() -> ExitCode {
    let mut bench = Bench::from_args("states");
    for sequence in [
        Sequence::new("10 KB", Shape::Snapshot, 10_000, 1.4),
        Sequence::new("200 KB", Shape::Snapshot, 200_000, 1.4),
        Sequence::new("2 MB", Shape::Snapshot, 2_000_000, 0.65),
        Sequence::new("2 MB, prose", Shape::Prose, 2_000_000, 0.65),
    ] {
        sequence.measure_writes(&mut bench);
        sequence.measure_streaming(&mut bench);
        sequence.measure_bytes(&mut bench);
        sequence.measure_restores(&mut bench);
        sequence.measure_deltas(&mut bench);
    }
    bench.finish()
}

/// A hundred checkpoints of states of one size and shape.
struct Sequence {
    name: &'static str,
    shape: Shape,
    bytes: usize,
    /// Largest accepted ratio of the median time of a write to that of inserting the JSON.
    write_target: f64,
    /// Largest accepted ratio of the total time of all writes, including rebases.
    total_target: f64,
}

/// A store, and a database with bare tables to compare it with.
struct Fixture {
    store: StoreFixture,
    at: Position,
    session: SessionId,
    bare: Connection,
    checkpoints: Cell<usize>,
}

impl Fixture {
    fn new() -> Self {
        let store = StoreFixture::new();
        let at = store.create_session();
        let session = store.store.get_branch(at.branch).unwrap().session;
        let bare = BareDatabase::new(&store.directory.path().join("bare.db")).conn;
        bare.execute_batch(
            "CREATE TABLE plain (n INTEGER PRIMARY KEY, json TEXT NOT NULL) STRICT;
                CREATE TABLE compressed (n INTEGER PRIMARY KEY, frame BLOB NOT NULL) STRICT;",
        )
        .unwrap();
        Self { store, at, session, bare, checkpoints: Cell::new(0) }
    }

    /// Creates a checkpoint and returns the time that it took.
    fn create_checkpoint(&self, state: CheckpointState, retention: u32) -> Duration {
        self.checkpoints.set(self.checkpoints.get() + 1);
        let draft = checkpoint(self.at, self.checkpoints.get(), state);
        timed(|| self.store.store.create_checkpoint(&draft, retention).unwrap())
    }

    fn insert_json(&self, state: &CheckpointState) -> Duration {
        timed(|| {
            let json = serde_json::to_string(state).unwrap();
            self.bare.prepare_cached("INSERT INTO plain (json) VALUES (?1)").unwrap().execute([json]).unwrap()
        })
    }

    fn insert_compressed(&self, state: &CheckpointState) -> Duration {
        timed(|| self.insert_frame(compressed(state)))
    }

    fn insert_frame(&self, frame: Vec<u8>) -> usize {
        let mut insert = self.bare.prepare_cached("INSERT INTO compressed (frame) VALUES (?1)").unwrap();
        insert.execute([frame]).unwrap()
    }

    fn list_checkpoints(&self) -> Vec<Checkpoint> {
        self.store.store.list_checkpoints(self.session).unwrap()
    }

    #[allow(clippy::cast_precision_loss, reason = "the values are megabytes")]
    fn stored_bytes(&self) -> f64 {
        self.store.store.info().unwrap().checkpoint_bytes as f64
    }
}

fn compressed(state: &CheckpointState) -> Vec<u8> {
    zstd::bulk::compress(&serde_json::to_vec(state).unwrap(), LEVEL).unwrap()
}

/// A delta as the store encodes it for long states.
fn binary_delta(base: &[u8], index: &BlockIndex, json: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(&binary_delta::encode(base, index, json), LEVEL).unwrap()
}

/// A delta of the simple alternative: zstd at level 1 with the base as its prefix and with long-distance matching.
fn prefix_delta(base: &[u8], json: &[u8]) -> Vec<u8> {
    let window_log = (base.len() + json.len()).next_power_of_two().trailing_zeros() + 1;
    let mut context = CCtx::create();
    for parameter in [
        CParameter::CompressionLevel(1),
        CParameter::ChecksumFlag(true),
        CParameter::WindowLog(window_log.clamp(10, 30)),
        CParameter::EnableLongDistanceMatching(true),
    ] {
        context.set_parameter(parameter).unwrap();
    }
    context.ref_prefix(base).unwrap();
    let mut frame = Vec::with_capacity(compress_bound(json.len()));
    context.compress2(&mut frame, json).unwrap();
    frame
}

fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let begin = Instant::now();
    black_box(work());
    begin.elapsed()
}

impl Sequence {
    const fn new(name: &'static str, shape: Shape, bytes: usize, write_target: f64) -> Self {
        let total_target = if write_target < 1.0 { 1.0 } else { 2.0 };
        Self { name, shape, bytes, write_target, total_target }
    }

    fn states(&self, bench: &Bench) -> States {
        States::new(self.shape, 4, bench.size(self.bytes, self.bytes / 40 + 2000))
    }

    fn row(&self, what: &str) -> String {
        format!("{}: {what}", self.name)
    }

    fn measure_writes(&self, bench: &mut Bench) {
        let rows = [
            (self.row("write, 10 kept, vs. inserting the JSON"), true, self.write_target),
            (self.row("write, 10 kept, vs. inserting the JSON compressed with zstd"), false, 1.5),
        ];
        for (row, is_plain, target) in rows {
            if !bench.wants(&row) {
                continue;
            }
            let fixture = Fixture::new();
            // Both sides write the same states, each state once.
            let (ours, theirs) = (RefCell::new(self.states(bench)), RefCell::new(self.states(bench)));
            let (our_total, their_total) = (Cell::new(Duration::ZERO), Cell::new(Duration::ZERO));
            let add = |total: &Cell<Duration>, time: Duration| {
                total.set(total.get() + time);
                time
            };
            bench.pair(&row).rounds(100).median(Target::AtMost(target)).run_timed(
                || {
                    let state = ours.borrow_mut().next_state();
                    add(&our_total, fixture.create_checkpoint(state, DEFAULT_RETENTION))
                },
                || {
                    let state = theirs.borrow_mut().next_state();
                    let time = if is_plain {
                        fixture.insert_json(&state)
                    } else {
                        fixture.insert_compressed(&state)
                    };
                    add(&their_total, time)
                },
            );
            // The median hides the rebases, because only every tenth checkpoint causes one. The total includes them.
            bench.amounts(
                &format!("{row}, total"),
                our_total.get().as_secs_f64(),
                their_total.get().as_secs_f64(),
                Unit::Seconds,
                Target::AtMost(if is_plain { self.total_target } else { 2.0 }),
            );
        }
    }

    /// Compares the streaming encoder with the same steps in sequence on one thread. The alternative inserts its result
    /// into a bare table.
    fn measure_streaming(&self, bench: &mut Bench) {
        let row = self.row("write, 10 kept, vs. serialising, hashing and encoding on one thread");
        if self.bytes < 64 * 1024 || !bench.wants(&row) {
            return;
        }
        let fixture = Fixture::new();
        let (ours, theirs) = (RefCell::new(self.states(bench)), RefCell::new(self.states(bench)));
        let base = theirs.borrow_mut().next_state().canonical_json().unwrap();
        let index = BlockIndex::new(&base);
        bench.pair(&row).rounds(100).median(Target::AtMost(1.4)).run_timed(
            || {
                let state = ours.borrow_mut().next_state();
                fixture.create_checkpoint(state, DEFAULT_RETENTION)
            },
            || {
                let state = theirs.borrow_mut().next_state();
                timed(|| {
                    let json = state.canonical_json().unwrap();
                    black_box(blake3::hash(&json));
                    fixture.insert_frame(binary_delta(&base, &index, &json))
                })
            },
        );
    }

    #[allow(clippy::cast_precision_loss, reason = "the values are megabytes")]
    fn measure_bytes(&self, bench: &mut Bench) {
        let rows = ["bytes, all kept, vs. the JSON", "bytes, all kept, vs. the JSON compressed with zstd"]
            .map(|what| self.row(what));
        let ten = self.row("bytes, 10 kept, vs. their JSON");
        if !rows.iter().chain([&ten]).any(|row| bench.wants(row)) {
            return;
        }
        let (all, newest, mut states) = (Fixture::new(), Fixture::new(), self.states(bench));
        let (mut frame_bytes, mut json_sizes) = (0, Vec::new());
        for _ in 0..bench.size(100, 12) {
            let state = states.next_state();
            json_sizes.push(serde_json::to_string(&state).unwrap().len());
            frame_bytes += compressed(&state).len();
            all.create_checkpoint(state.clone(), KEEP_ALL);
            newest.create_checkpoint(state, DEFAULT_RETENTION);
        }
        let json_bytes: usize = json_sizes.iter().sum();
        let newest_json_bytes: usize = json_sizes.iter().rev().take(DEFAULT_RETENTION as usize).sum();
        let stored = all.stored_bytes();
        bench.amounts(&rows[0], stored, json_bytes as f64, Unit::Bytes, Target::AtMost(0.05));
        bench.amounts(&rows[1], stored, frame_bytes as f64, Unit::Bytes, Target::AtMost(1.0));
        let stored = newest.stored_bytes();
        bench.amounts(&ten, stored, newest_json_bytes as f64, Unit::Bytes, Target::AtMost(0.06));
    }

    fn measure_restores(&self, bench: &mut Bench) {
        let json_row = self.row("restore the JSON, vs. parsing it");
        let values_row = self.row("restore the values, vs. reading the JSON from a table and parsing it");
        let compressed_row =
            self.row("restore the JSON, vs. reading it from a table and decompressing it with zstd");
        if ![&json_row, &values_row, &compressed_row].into_iter().any(|row| bench.wants(row)) {
            return;
        }
        let (fixture, mut states) = (Fixture::new(), self.states(bench));
        let mut jsons = Vec::new();
        for _ in 0..bench.size(30, 3) {
            let state = states.next_state();
            fixture.insert_json(&state);
            fixture.insert_compressed(&state);
            jsons.push(serde_json::to_string(&state).unwrap());
            fixture.create_checkpoint(state, KEEP_ALL);
        }
        let (checkpoints, store) = (fixture.list_checkpoints(), &fixture.store.store);
        // In steps of 11, successive checkpoints have different keyframes, so each restore misses the keyframe cache.
        let (ours, theirs) = (Cell::new(0), Cell::new(0));
        let next = |counter: &Cell<usize>| {
            counter.set(counter.get() + 1);
            counter.get() * 11 % checkpoints.len()
        };
        bench.pair(&json_row).median(Target::AtMost(0.5)).run(
            || store.load_state_json(checkpoints[next(&ours)].id).unwrap(),
            || serde_json::from_str::<CheckpointState>(&jsons[next(&theirs)]).unwrap(),
        );
        let (ours, theirs) = (Cell::new(0), Cell::new(0));
        bench.pair(&values_row).median(Target::AtMost(1.5)).run(
            || store.load_state(checkpoints[next(&ours)].id).unwrap(),
            || {
                let mut select = fixture.bare.prepare_cached("SELECT json FROM plain WHERE n = ?1").unwrap();
                let json: String = select.query_row([next(&theirs) + 1], |row| row.get(0)).unwrap();
                serde_json::from_str::<CheckpointState>(&json).unwrap()
            },
        );
        let (ours, theirs) = (Cell::new(0), Cell::new(0));
        bench.pair(&compressed_row).median(Target::AtMost(2.0)).run(
            || store.load_state_json(checkpoints[next(&ours)].id).unwrap(),
            || {
                let mut select =
                    fixture.bare.prepare_cached("SELECT frame FROM compressed WHERE n = ?1").unwrap();
                let frame: Vec<u8> = select.query_row([next(&theirs) + 1], |row| row.get(0)).unwrap();
                zstd::bulk::decompress(&frame, jsons[0].len() * 2).unwrap()
            },
        );
    }

    /// Encodes nine deltas to a keyframe, as binary deltas and with zstd's prefix. Short states are left out, because
    /// the store uses the prefix for them.
    #[allow(clippy::cast_precision_loss, reason = "the values are kilobytes")]
    fn measure_deltas(&self, bench: &mut Bench) {
        let time_row = self.row("delta, vs. zstd with the keyframe as prefix");
        let bytes_row = self.row("delta bytes, vs. zstd with the keyframe as prefix");
        if self.bytes < 64 * 1024 || ![&time_row, &bytes_row].into_iter().any(|row| bench.wants(row)) {
            return;
        }
        let mut states = self.states(bench);
        let base = states.next_state().canonical_json().unwrap();
        let jsons: Vec<_> = (0..9).map(|_| states.next_state().canonical_json().unwrap()).collect();
        let encode_all = || {
            // The store builds the index once per keyframe.
            let index = BlockIndex::new(&base);
            jsons.iter().map(|json| binary_delta(&base, &index, json).len()).sum::<usize>()
        };
        let compress_all = || jsons.iter().map(|json| prefix_delta(&base, json).len()).sum::<usize>();
        bench.pair(&time_row).median(Target::AtMost(1.0)).run(encode_all, compress_all);
        let (ours, theirs) = (encode_all() as f64, compress_all() as f64);
        bench.amounts(&bytes_row, ours, theirs, Unit::Bytes, Target::AtMost(1.2));
    }
}
