//! How much twenty active plugins delay the start of the app: the built binary on a pseudo-terminal.
//!
//! `cargo xtask bench plugins`, or `cargo bench -p hfs --bench plugins`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use testkit::bench::{Bench, Target, Unit};
use testkit::cli::Hfs;

const ROW: &str = "start to first frame with 20 plugins, compared with none";
const PLUGINS: usize = 20;

fn main() -> ExitCode {
    let mut bench = Bench::from_args("plugins");
    if bench.wants(ROW) {
        first_frame(&mut bench);
    }
    bench.finish()
}

/// Installs and approves `count` plugins. Each has its own machine code, which is in the cache afterwards.
fn install(hfs: &Hfs, count: usize) {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins/secret-guard");
    let manifest = fs::read_to_string(example.join("manifest.yaml")).unwrap();
    let component = fs::read(example.join("plugin.wasm")).unwrap();
    for number in 0..count {
        let name = format!("guard-{number:02}");
        let folder = hfs.hfs_home().join("plugins").join(&name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("manifest.yaml"), manifest.replace("secret-guard", &name)).unwrap();
        // A custom section makes each component different, so that each is compiled.
        let name_length = u8::try_from(name.len()).unwrap();
        let section = [&[0, name_length + 1, name_length], name.as_bytes()].concat();
        fs::write(folder.join("plugin.wasm"), [component.as_slice(), &section].concat()).unwrap();
        let _ = hfs.run(&["plugin", "approve", &name, "--yes"]).ok();
    }
}

/// Starts the app. Returns the seconds until the first frame.
fn start(hfs: &Hfs) -> f64 {
    let start = Instant::now();
    let terminal = hfs.command(&[]).in_terminal(45, 140);
    terminal.wait_for("Type a message");
    let seconds = start.elapsed().as_secs_f64();
    terminal.kill();
    seconds
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

fn first_frame(bench: &mut Bench) {
    let hfs = || Hfs::new(env!("CARGO_BIN_EXE_hfs")).env("HFS_AGENT", "recall");
    let (with, without) = (hfs(), hfs());
    install(&with, bench.size(PLUGINS, 1));
    // The first start creates the store.
    start(&with);
    start(&without);
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    for _ in 0..bench.size(31, 1) {
        ours.push(start(&with));
        peer.push(start(&without));
    }
    let limit = Target::AtMostLonger(Duration::from_millis(10));
    bench.amounts(ROW, median(ours), median(peer), Unit::Seconds, limit);
}
