//! Checkpoint states that change a little each time, beside whole JSON in a bare table.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark that cannot go on ends")]

mod ground;

use std::cell::Cell;
use std::process::ExitCode;

use hfs_core::{CheckpointState, CheckpointStore as _, Maintenance as _};
use testkit::bench::{Bench, Target, Unit};

use ground::Ground;
use ground::states::{checkpoint, state};

fn main() -> ExitCode {
    let mut bench = Bench::from_args("states");
    sequence(&mut bench, "200 KB", 200_000, 0.65);
    sequence(&mut bench, "2 MB", 2_000_000, 0.65);
    bench.finish()
}

fn sequence(bench: &mut Bench, size: &str, bytes: usize, write_target: f64) {
    let write_row = format!("write a {size} state, beside inserting its JSON");
    let restore_row = format!("restore a {size} state, beside parsing its JSON");
    let bytes_row = format!("bytes of the {size} states, beside their JSON");
    if ![&write_row, &restore_row, &bytes_row].into_iter().any(|row| bench.wants(row)) {
        return;
    }
    let (count, bytes) = (bench.size(20, 3), bench.size(bytes, bytes / 20));
    let states: Vec<CheckpointState> = (0..count).map(|n| state(4, n, bytes)).collect();
    let jsons: Vec<String> = states.iter().map(|state| serde_json::to_string(state).unwrap()).collect();
    let ground = Ground::new();
    let at = ground.session();
    let bare = ground::Bare::new(&ground.directory.path().join("bare.db"));
    bare.conn.execute_batch("CREATE TABLE state (n INTEGER PRIMARY KEY, json TEXT NOT NULL) STRICT").unwrap();
    let (ours, theirs) = (Cell::new(0), Cell::new(0));
    let turn = |cell: &Cell<usize>| {
        let n = cell.get();
        cell.set(n + 1);
        n % count
    };
    bench.pair(&write_row).rounds(count).median(Target::AtMost(write_target)).run(
        || {
            let n = turn(&ours);
            ground.store.create_checkpoint(&checkpoint(at, n, states.get(n).unwrap().clone()), 1000).unwrap()
        },
        || {
            let json = serde_json::to_string(states.get(turn(&theirs)).unwrap()).unwrap();
            bare.conn.execute("INSERT INTO state (json) VALUES (?1)", [json]).unwrap()
        },
    );
    let session = hfs_core::BranchStore::get_branch(&ground.store, at.branch).unwrap().session;
    let made = ground.store.list_checkpoints(session).unwrap();
    let total: usize = jsons.iter().map(String::len).sum();
    #[allow(clippy::cast_precision_loss, reason = "these are megabytes")]
    bench.amounts(
        &bytes_row,
        ground.store.info().unwrap().checkpoint_bytes as f64,
        total as f64,
        Unit::Bytes,
        Target::AtMost(0.12),
    );
    let (ours, theirs) = (Cell::new(0), Cell::new(0));
    bench.pair(&restore_row).rounds(count).median(Target::AtMost(0.5)).run(
        || ground.store.load_state(made.get(turn(&ours)).unwrap().id).unwrap(),
        || serde_json::from_str::<CheckpointState>(jsons.get(turn(&theirs)).unwrap()).unwrap(),
    );
}
