//! Benchmarks as ratios: what we do beside the bare thing it stands on, in one run on one machine.
//!
//! Absolute times say more about the machine than about the code. So ours and the peer take turns, and
//! what is printed and judged is how they compare.
//!
//! ```no_run
//! use testkit::bench::{Bench, Target};
//!
//! fn main() -> std::process::ExitCode {
//!     let mut bench = Bench::from_args("sums");
//!     let numbers: Vec<u64> = (0..bench.size(1_000_000, 10)).map(|n| n as u64).collect();
//!     bench
//!         .pair("a fold beside a loop")
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
//! A benchmark is a `[[bench]]` with `harness = false`. It knows the arguments `--json` (one JSON document a
//! line) and `TEXT...` (only rows whose names contain one of them). `HFS_BENCH_SMOKE=1` makes everything tiny:
//! it then proves that the benchmark runs, and nothing is judged.

mod pair;
mod row;
mod spread;

use std::process::ExitCode;

pub use pair::Pair;
pub use row::{Target, Unit};

use row::Row;

/// One benchmark: a program that reports rows.
#[derive(Debug)]
pub struct Bench {
    name: String,
    is_smoke: bool,
    is_json: bool,
    filters: Vec<String>,
    reported: usize,
}

impl Bench {
    /// The benchmark of this name, which is that of its `[[bench]]`, as the command line and the environment
    /// want it.
    #[must_use]
    pub fn from_args(name: &str) -> Self {
        let is_smoke = std::env::var_os("HFS_BENCH_SMOKE").is_some_and(|value| value == "1");
        Self::new(name, is_smoke, std::env::args().skip(1))
    }

    fn new(name: &str, is_smoke: bool, arguments: impl Iterator<Item = String>) -> Self {
        // Cargo adds `--bench` of its own.
        let arguments: Vec<String> = arguments.filter(|argument| argument != "--bench").collect();
        let is_json = arguments.iter().any(|argument| argument == "--json");
        let filters = arguments.into_iter().filter(|argument| argument != "--json").collect();
        Self { name: name.to_owned(), is_smoke, is_json, filters, reported: 0 }
    }

    /// `full`, or `smoke` where it is only to be seen that the benchmark runs.
    #[must_use]
    pub fn size(&self, full: usize, smoke: usize) -> usize {
        if self.is_smoke { smoke } else { full }
    }

    /// Whether a row of this name was asked for: what it needs may be costly to set up.
    #[must_use]
    pub fn wants(&self, row: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| row.contains(filter.as_str()))
    }

    /// Prepares to measure ours beside a peer.
    pub fn pair(&mut self, row: &str) -> Pair<'_> {
        Pair::new(self, row)
    }

    /// Reports two amounts that were measured in the same run, or an amount beside its limit.
    pub fn amounts(&mut self, row: &str, ours: f64, peer: f64, unit: Unit, target: Target) {
        if self.wants(row) {
            self.report(&Row::of_amounts(row, ours, peer, unit, target));
        }
    }

    /// Ends the benchmark. It has failed when it reported nothing though everything was asked for.
    #[must_use]
    pub fn finish(self) -> ExitCode {
        if self.reported == 0 && self.filters.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }

    #[allow(clippy::print_stdout, reason = "a benchmark's rows are its output")]
    fn report(&mut self, row: &Row) {
        self.reported += 1;
        if self.is_json {
            println!("{}", row.json(&self.name, self.is_smoke));
        } else {
            println!("{}", row.line(&self.name, self.is_smoke));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bench(is_smoke: bool, arguments: &[&str]) -> Bench {
        Bench::new("test", is_smoke, arguments.iter().map(|argument| (*argument).to_owned()))
    }

    #[test]
    fn cargos_own_argument_is_no_filter() {
        let bench = bench(false, &["--bench", "--json"]);
        assert!(bench.is_json && bench.wants("anything"));
    }

    #[test]
    fn filters_choose_rows_by_a_part_of_their_names() {
        let mut bench = bench(false, &["append", "open"]);
        assert!(bench.wants("durable append, one writer") && bench.wants("open 50"));
        assert!(!bench.wants("list"));
        bench.amounts("list", 1.0, 1.0, Unit::Bytes, Target::AtMost(1.0));
        assert_eq!(bench.reported, 0);
    }

    #[test]
    fn sizes_shrink_for_a_smoke_test() {
        assert_eq!(bench(true, &[]).size(100_000, 50), 50);
        assert_eq!(bench(false, &[]).size(100_000, 50), 100_000);
    }
}
