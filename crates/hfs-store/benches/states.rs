//! Checkpoint states that change a little each time, beside whole JSON in a bare table, and beside zstd alone there.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark that cannot go on ends")]

mod ground;

use std::cell::{Cell, RefCell};
use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use hfs_core::{Checkpoint, CheckpointState, CheckpointStore as _, Maintenance as _, Position, SessionId};
use rusqlite::Connection;
use testkit::bench::{Bench, Target, Unit};

use ground::Ground;
use ground::states::{Shape, States, checkpoint};

/// How many automatic checkpoints a session keeps, unless its user wants others.
const KEPT: u32 = 10;
/// More than are ever made.
const ALL: u32 = 100_000;
/// zstd's own default, which the store uses, too.
const LEVEL: i32 = 3;

fn main() -> ExitCode {
    let mut bench = Bench::from_args("states");
    for sequence in [
        Sequence::new("10 KB", Shape::Snapshot, 10_000, 1.4),
        Sequence::new("200 KB", Shape::Snapshot, 200_000, 1.4),
        Sequence::new("2 MB", Shape::Snapshot, 2_000_000, 0.65),
        Sequence::new("2 MB, prose", Shape::Prose, 2_000_000, 0.65),
    ] {
        sequence.writes(&mut bench);
        sequence.bytes(&mut bench);
        sequence.restores(&mut bench);
    }
    bench.finish()
}

/// A hundred checkpoints of a state of one size and shape.
struct Sequence {
    name: &'static str,
    shape: Shape,
    bytes: usize,
    write_target: f64,
    together_target: f64,
}

/// Ours, and the bare tables beside it.
struct Scene {
    ground: Ground,
    at: Position,
    session: SessionId,
    bare: Connection,
    made: Cell<usize>,
}

impl Scene {
    fn new() -> Self {
        let ground = Ground::new();
        let at = ground.session();
        let session = hfs_core::BranchStore::get_branch(&ground.store, at.branch).unwrap().session;
        let bare = ground::Bare::new(&ground.directory.path().join("bare.db")).conn;
        bare.execute_batch(
            "CREATE TABLE whole (n INTEGER PRIMARY KEY, json TEXT NOT NULL) STRICT;
                CREATE TABLE packed (n INTEGER PRIMARY KEY, frame BLOB NOT NULL) STRICT;",
        )
        .unwrap();
        Self { ground, at, session, bare, made: Cell::new(0) }
    }

    /// The time of one checkpoint.
    fn write(&self, state: CheckpointState, retention: u32) -> Duration {
        self.made.set(self.made.get() + 1);
        let draft = checkpoint(self.at, self.made.get(), state);
        timed(|| self.ground.store.create_checkpoint(&draft, retention).unwrap())
    }

    fn write_whole(&self, state: &CheckpointState) -> Duration {
        timed(|| {
            let json = serde_json::to_string(state).unwrap();
            self.bare.prepare_cached("INSERT INTO whole (json) VALUES (?1)").unwrap().execute([json]).unwrap()
        })
    }

    fn write_packed(&self, state: &CheckpointState) -> Duration {
        timed(|| {
            let frame = packed(state);
            let mut insert = self.bare.prepare_cached("INSERT INTO packed (frame) VALUES (?1)").unwrap();
            insert.execute([frame]).unwrap()
        })
    }

    fn checkpoints(&self) -> Vec<Checkpoint> {
        self.ground.store.list_checkpoints(self.session).unwrap()
    }

    #[allow(clippy::cast_precision_loss, reason = "these are megabytes")]
    fn stored(&self) -> f64 {
        self.ground.store.info().unwrap().checkpoint_bytes as f64
    }
}

fn packed(state: &CheckpointState) -> Vec<u8> {
    zstd::bulk::compress(&serde_json::to_vec(state).unwrap(), LEVEL).unwrap()
}

fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let begin = Instant::now();
    black_box(work());
    begin.elapsed()
}

impl Sequence {
    const fn new(name: &'static str, shape: Shape, bytes: usize, write_target: f64) -> Self {
        let together_target = if write_target < 1.0 { 1.0 } else { 2.0 };
        Self { name, shape, bytes, write_target, together_target }
    }

    fn states(&self, bench: &Bench) -> States {
        States::new(self.shape, 4, bench.size(self.bytes, self.bytes / 40 + 2000))
    }

    fn row(&self, what: &str) -> String {
        format!("{}: {what}", self.name)
    }

    fn writes(&self, bench: &mut Bench) {
        let rows = [
            (self.row("write, 10 kept, beside inserting the JSON"), true, self.write_target),
            (self.row("write, 10 kept, beside inserting the JSON packed by zstd"), false, 1.5),
        ];
        for (row, whole, target) in rows {
            if !bench.wants(&row) {
                continue;
            }
            let scene = Scene::new();
            // Both write the same states, each of them once.
            let (ours, theirs) = (RefCell::new(self.states(bench)), RefCell::new(self.states(bench)));
            let (our_time, their_time) = (Cell::new(Duration::ZERO), Cell::new(Duration::ZERO));
            let add = |sum: &Cell<Duration>, time: Duration| {
                sum.set(sum.get() + time);
                time
            };
            bench.pair(&row).rounds(100).median(Target::AtMost(target)).run_timed(
                || add(&our_time, scene.write(ours.borrow_mut().another(), KEPT)),
                || {
                    let state = theirs.borrow_mut().another();
                    let time = if whole { scene.write_whole(&state) } else { scene.write_packed(&state) };
                    add(&their_time, time)
                },
            );
            // Moving others from a keyframe that is pruned happens at each tenth only: no median shows it.
            bench.amounts(
                &format!("{row}, all of them together"),
                our_time.get().as_secs_f64(),
                their_time.get().as_secs_f64(),
                Unit::Seconds,
                Target::AtMost(if whole { self.together_target } else { 2.0 }),
            );
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "these are megabytes")]
    fn bytes(&self, bench: &mut Bench) {
        let rows = ["bytes, all kept, beside the JSON", "bytes, all kept, beside the JSON packed by zstd"]
            .map(|what| self.row(what));
        let ten = self.row("bytes, 10 kept, beside the JSON of those");
        if !rows.iter().chain([&ten]).any(|row| bench.wants(row)) {
            return;
        }
        let (all, few, mut states) = (Scene::new(), Scene::new(), self.states(bench));
        let (mut json, mut frames, mut last) = (0, 0, Vec::new());
        for _ in 0..bench.size(100, 12) {
            let state = states.another();
            last.push(serde_json::to_string(&state).unwrap().len());
            json += last.last().unwrap();
            frames += packed(&state).len();
            all.write(state.clone(), ALL);
            few.write(state, KEPT);
        }
        let kept: usize = last.iter().rev().take(KEPT as usize).sum();
        bench.amounts(&rows[0], all.stored(), json as f64, Unit::Bytes, Target::AtMost(0.05));
        bench.amounts(&rows[1], all.stored(), frames as f64, Unit::Bytes, Target::AtMost(1.0));
        bench.amounts(&ten, few.stored(), kept as f64, Unit::Bytes, Target::AtMost(0.06));
    }

    fn restores(&self, bench: &mut Bench) {
        let json_row = self.row("restore the JSON, beside parsing it");
        let values_row =
            self.row("restore the values, beside reading the JSON from its table and parsing it");
        let packed_row =
            self.row("restore the JSON, beside reading it from its table and unpacking it by zstd");
        if ![&json_row, &values_row, &packed_row].into_iter().any(|row| bench.wants(row)) {
            return;
        }
        let (scene, mut states) = (Scene::new(), self.states(bench));
        let mut jsons = Vec::new();
        for _ in 0..bench.size(30, 3) {
            let state = states.another();
            scene.write_whole(&state);
            scene.write_packed(&state);
            jsons.push(serde_json::to_string(&state).unwrap());
            scene.write(state, ALL);
        }
        let (made, store) = (scene.checkpoints(), &scene.ground.store);
        // Those of three keyframes in turns, so that none finds its keyframe opened.
        let (ours, theirs) = (Cell::new(0), Cell::new(0));
        let turn = |cell: &Cell<usize>| {
            cell.set(cell.get() + 1);
            cell.get() * 11 % made.len()
        };
        bench.pair(&json_row).median(Target::AtMost(0.5)).run(
            || store.load_state_json(made[turn(&ours)].id).unwrap(),
            || serde_json::from_str::<CheckpointState>(&jsons[turn(&theirs)]).unwrap(),
        );
        let (ours, theirs) = (Cell::new(0), Cell::new(0));
        bench.pair(&values_row).median(Target::AtMost(1.5)).run(
            || store.load_state(made[turn(&ours)].id).unwrap(),
            || {
                let mut select = scene.bare.prepare_cached("SELECT json FROM whole WHERE n = ?1").unwrap();
                let json: String = select.query_row([turn(&theirs) + 1], |row| row.get(0)).unwrap();
                serde_json::from_str::<CheckpointState>(&json).unwrap()
            },
        );
        let (ours, theirs) = (Cell::new(0), Cell::new(0));
        bench.pair(&packed_row).median(Target::AtMost(2.0)).run(
            || store.load_state_json(made[turn(&ours)].id).unwrap(),
            || {
                let mut select = scene.bare.prepare_cached("SELECT frame FROM packed WHERE n = ?1").unwrap();
                let frame: Vec<u8> = select.query_row([turn(&theirs) + 1], |row| row.get(0)).unwrap();
                zstd::bulk::decompress(&frame, jsons[0].len() * 2).unwrap()
            },
        );
    }
}
