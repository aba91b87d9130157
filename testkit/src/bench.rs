//! Benchmarks that compare our code with a baseline (the peer) in the same run.
//!
//! Absolute times depend on the machine more than on the code. Ours and the peer therefore run alternately, and
//! the target is a ratio of their times. The peer is usually the bare library call that our code is built on.
//!
//! ```no_run
//! use testkit::bench::{Bench, Target};
//!
//! fn main() -> std::process::ExitCode {
//!     let mut bench = Bench::from_args("sums");
//!     let numbers: Vec<u64> = (0..bench.size(1_000_000, 10)).map(|n| n as u64).collect();
//!     bench
//!         .pair("fold against loop")
//!         .median(Target::SpeedAtLeast(0.9))
//!         .run(|| numbers.iter().sum::<u64>(), || {
//!             let mut sum = 0;
//!             for number in &numbers {
//!                 sum += number;
//!             }
//!             sum
//!         });
//!     bench.finish()
//! }
//! ```
//!
//! A benchmark is a `[[bench]]` with `harness = false`. Its arguments are `--json` (prints JSON lines) and `TEXT...`
//! (only rows whose names contain one of the texts). With `HFS_BENCH_SMOKE=1` all sizes are tiny: that checks that
//! the benchmark runs, and no targets are checked.

mod distribution;
mod row;

use std::hint::black_box;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

pub use row::{Target, Unit};

use distribution::{Distribution, Quantile, find_disturbance};
use row::Row;

/// A benchmark program, which reports rows.
#[derive(Debug)]
pub struct Bench {
    name: String,
    is_smoke: bool,
    is_json: bool,
    filters: Vec<String>,
    reported_rows: usize,
}

impl Bench {
    /// Creates a benchmark with options from the command line and the environment. `name` is that of the `[[bench]]`.
    #[must_use]
    pub fn from_args(name: &str) -> Self {
        let is_smoke = std::env::var_os("HFS_BENCH_SMOKE").is_some_and(|value| value == "1");
        Self::new(name, is_smoke, std::env::args().skip(1))
    }

    fn new(name: &str, is_smoke: bool, arguments: impl Iterator<Item = String>) -> Self {
        // Cargo always adds `--bench`.
        let arguments: Vec<String> = arguments.filter(|argument| argument != "--bench").collect();
        let is_json = arguments.iter().any(|argument| argument == "--json");
        let filters = arguments.into_iter().filter(|argument| argument != "--json").collect();
        Self { name: name.to_owned(), is_smoke, is_json, filters, reported_rows: 0 }
    }

    /// Returns `smoke` with `HFS_BENCH_SMOKE=1`, else `full`.
    #[must_use]
    pub fn size(&self, full: usize, smoke: usize) -> usize {
        if self.is_smoke { smoke } else { full }
    }

    /// Whether the filters select this row. Check it before an expensive setup.
    #[must_use]
    pub fn wants(&self, row: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| row.contains(filter.as_str()))
    }

    /// The folder that an environment variable names, with data that is not part of the project.
    #[must_use]
    #[allow(clippy::print_stderr, reason = "the reader of the report needs to know that rows are missing")]
    pub fn folder(&self, variable: &str) -> Option<PathBuf> {
        let folder = PathBuf::from(std::env::var_os(variable)?);
        if folder.is_dir() {
            return Some(folder);
        }
        eprintln!("skipped: {variable} names {}, which is not a folder", folder.display());
        None
    }

    /// Creates a comparison of our code with a peer.
    pub fn pair(&mut self, row: &str) -> Pair<'_> {
        Pair::new(self, row)
    }

    /// Reports two amounts that were measured in the same run, or an amount and its limit.
    pub fn amounts(&mut self, row: &str, ours: f64, peer: f64, unit: Unit, target: Target) {
        if self.wants(row) {
            self.report(&Row::of_amounts(row, ours, peer, unit, target));
        }
    }

    /// Ends the benchmark without rows, because something is not installed.
    #[must_use]
    #[allow(clippy::print_stdout, reason = "xtask repeats the line")]
    pub fn skip(self, reason: &str) -> ExitCode {
        println!("skipped: {}: {reason}", self.name);
        ExitCode::SUCCESS
    }

    /// Ends the benchmark. It fails if it has no filters and yet reported no rows.
    #[must_use]
    pub fn finish(self) -> ExitCode {
        if self.reported_rows == 0 && self.filters.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }

    #[allow(clippy::print_stdout, reason = "the rows are the program's output")]
    fn report(&mut self, row: &Row) {
        self.reported_rows += 1;
        if self.is_json {
            println!("{}", row.json(&self.name, self.is_smoke));
        } else {
            println!("{}", row.line(&self.name, self.is_smoke));
        }
    }
}

/// Default number of rounds.
const DEFAULT_ROUNDS: usize = 200;
/// Rounds before the measured ones, for caches and lazy initialization.
const WARM_UP_ROUNDS: usize = 5;
/// A measurement ends after this time if it has at least `MIN_ROUNDS` rounds.
const TIME_LIMIT: Duration = Duration::from_secs(10);
const MIN_ROUNDS: usize = 10;
/// Maximum number of attempts to get a measurement without a disturbance.
const MAX_ATTEMPTS: usize = 3;

/// A comparison of our code with a peer. Nothing is measured before [`run`](Self::run).
#[derive(Debug)]
#[must_use]
pub struct Pair<'a> {
    bench: &'a mut Bench,
    row: String,
    rounds: usize,
    /// Units of work per call, of ours and of the peer.
    work: (usize, usize),
    targets: Vec<(Quantile, Target)>,
}

impl<'a> Pair<'a> {
    fn new(bench: &'a mut Bench, row: &str) -> Self {
        Self { bench, row: row.to_owned(), rounds: DEFAULT_ROUNDS, work: (1, 1), targets: Vec::new() }
    }

    /// Sets the maximum number of rounds. Each round calls both once.
    pub fn rounds(mut self, rounds: usize) -> Self {
        self.rounds = rounds;
        self
    }

    /// Sets how many units of work a call of ours and of the peer does. Times are compared per unit.
    pub fn work(mut self, ours: usize, peer: usize) -> Self {
        self.work = (ours, peer);
        self
    }

    /// Sets a target for the medians.
    pub fn median(mut self, target: Target) -> Self {
        self.targets.push((Quantile::Median, target));
        self
    }

    /// Sets a target for the 99th percentiles.
    pub fn p99(mut self, target: Target) -> Self {
        self.targets.push((Quantile::P99, target));
        self
    }

    /// Measures both and reports one row for each target.
    pub fn run<A, B>(self, mut ours: impl FnMut() -> A, mut peer: impl FnMut() -> B) {
        self.run_timed(|| time_call(&mut ours), || time_call(&mut peer));
    }

    /// Like [`run`](Self::run), for calls that measure themselves because they include setup. Each returns its time.
    pub fn run_timed(self, mut ours: impl FnMut() -> Duration, mut peer: impl FnMut() -> Duration) {
        let row = &self.row;
        let wants = self.targets.iter().any(|(quantile, _)| self.bench.wants(&quantile.row_name(row)));
        if !wants {
            return;
        }
        let attempts = self.bench.size(MAX_ATTEMPTS, 1);
        let mut measured = self.measure(&mut ours, &mut peer);
        let mut disturbance = find_disturbance(&measured.0, &measured.1);
        for _ in 1..attempts {
            if disturbance.is_none() {
                break;
            }
            measured = self.measure(&mut ours, &mut peer);
            disturbance = find_disturbance(&measured.0, &measured.1);
        }
        let ours = Distribution::of(measured.0, self.work.0);
        let peer = Distribution::of(measured.1, self.work.1);
        for (quantile, target) in &self.targets {
            let name = quantile.row_name(row);
            if self.bench.wants(&name) {
                self.bench.report(&Row::of_times(&name, &ours, &peer, *quantile, *target, disturbance));
            }
        }
    }

    /// The times of both, by round. The order alternates, because the second call may profit from warm caches or be
    /// slowed down by work that the first one deferred.
    fn measure(
        &self,
        ours: &mut impl FnMut() -> Duration,
        peer: &mut impl FnMut() -> Duration,
    ) -> (Vec<Duration>, Vec<Duration>) {
        let rounds = self.bench.size(self.rounds, 2);
        for _ in 0..self.bench.size(WARM_UP_ROUNDS.min(rounds), 1) {
            ours();
            peer();
        }
        let (mut our_times, mut peer_times) = (Vec::with_capacity(rounds), Vec::with_capacity(rounds));
        let start = Instant::now();
        for round in 0..rounds {
            if round >= MIN_ROUNDS && start.elapsed() > TIME_LIMIT {
                break;
            }
            if round % 2 == 0 {
                our_times.push(ours());
                peer_times.push(peer());
            } else {
                peer_times.push(peer());
                our_times.push(ours());
            }
        }
        (our_times, peer_times)
    }
}

fn time_call<T>(call: &mut impl FnMut() -> T) -> Duration {
    let start = Instant::now();
    black_box(call());
    start.elapsed()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn bench(is_smoke: bool, arguments: &[&str]) -> Bench {
        Bench::new("test", is_smoke, arguments.iter().map(|argument| (*argument).to_owned()))
    }

    #[test]
    fn the_argument_that_cargo_adds_is_not_a_filter() {
        let bench = bench(false, &["--bench", "--json"]);
        assert!(bench.is_json && bench.wants("anything"));
    }

    #[test]
    fn filters_select_rows_by_part_of_their_name() {
        let mut bench = bench(false, &["append", "open"]);
        assert!(bench.wants("durable append, one writer") && bench.wants("open 50"));
        assert!(!bench.wants("list"));
        bench.amounts("list", 1.0, 1.0, Unit::Bytes, Target::AtMost(1.0));
        assert_eq!(bench.reported_rows, 0);
    }

    #[test]
    fn sizes_are_small_in_a_smoke_test() {
        assert_eq!(bench(true, &[]).size(100_000, 50), 50);
        assert_eq!(bench(false, &[]).size(100_000, 50), 100_000);
    }

    fn smoke() -> Bench {
        Bench::new("test", true, std::iter::empty())
    }

    #[test]
    fn ours_and_the_peer_run_alternately_and_swap_their_order() {
        let calls = RefCell::new(String::new());
        let mut bench = Bench::new("test", false, std::iter::empty());
        let tick = Duration::from_micros(10);
        let ours = || (calls.borrow_mut().push('o'), tick).1;
        let peer = || (calls.borrow_mut().push('p'), tick).1;
        bench.pair("turns").rounds(4).median(Target::AtMost(1.0)).run_timed(ours, peer);
        let (warm_up, rounds) = ("opopopop", "oppooppo");
        assert_eq!(*calls.borrow(), format!("{warm_up}{rounds}"));
        assert_eq!(bench.reported_rows, 1);
    }

    #[test]
    fn each_target_has_its_own_row() {
        let mut bench = smoke();
        bench.pair("two").median(Target::AtMost(2.0)).p99(Target::AtMost(10.0)).run(|| 1, || 1);
        assert_eq!(bench.reported_rows, 2);
    }

    #[test]
    fn a_row_that_is_not_selected_is_not_measured() {
        let mut bench = Bench::new("test", false, std::iter::once("other".to_owned()));
        bench.pair("this").median(Target::AtMost(1.0)).run(|| panic!("it ran"), || ());
        assert_eq!(bench.reported_rows, 0);
    }
}
