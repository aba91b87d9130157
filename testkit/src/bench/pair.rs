//! Two contenders that take turns.

use std::hint::black_box;
use std::time::{Duration, Instant};

use super::Bench;
use super::row::{Row, Target};
use super::spread::{Quantile, Spread, what_spoilt};

/// Rounds of a full measurement, unless the benchmark says otherwise.
const ROUNDS: usize = 200;
/// Rounds before those that count: caches fill, files grow, lazy parts wake.
const WARM_UP: usize = 5;
/// A measurement ends after that time, once it has `FEWEST` rounds.
const BUDGET: Duration = Duration::from_secs(10);
const FEWEST: usize = 10;
/// How often a spoilt measurement is repeated.
const ATTEMPTS: usize = 3;

/// A comparison of ours with a peer, before it is measured.
#[derive(Debug)]
#[must_use]
pub struct Pair<'a> {
    bench: &'a mut Bench,
    row: String,
    rounds: usize,
    work: (usize, usize),
    judged: Vec<(Quantile, Target)>,
}

impl<'a> Pair<'a> {
    pub(super) fn new(bench: &'a mut Bench, row: &str) -> Self {
        Self { bench, row: row.to_owned(), rounds: ROUNDS, work: (1, 1), judged: Vec::new() }
    }

    /// At most this many rounds, of one call of each.
    pub fn rounds(mut self, rounds: usize) -> Self {
        self.rounds = rounds;
        self
    }

    /// How many pieces of work one call of ours and one of the peer's does: what is compared is the time of one.
    pub fn work(mut self, ours: usize, peer: usize) -> Self {
        self.work = (ours, peer);
        self
    }

    /// Judges the medians.
    pub fn median(mut self, target: Target) -> Self {
        self.judged.push((Quantile::Median, target));
        self
    }

    /// Judges the 99th percentiles.
    pub fn p99(mut self, target: Target) -> Self {
        self.judged.push((Quantile::P99, target));
        self
    }

    /// Measures how long each takes and reports one row for each target.
    pub fn run<A, B>(self, mut ours: impl FnMut() -> A, mut peer: impl FnMut() -> B) {
        self.run_timed(|| timed(&mut ours), || timed(&mut peer));
    }

    /// The same for contenders that have more to do than what is measured: each tells its own time.
    pub fn run_timed(self, mut ours: impl FnMut() -> Duration, mut peer: impl FnMut() -> Duration) {
        let row = &self.row;
        let wants = self.judged.iter().any(|(quantile, _)| self.bench.wants(&quantile.named(row)));
        if !wants {
            return;
        }
        let attempts = self.bench.size(ATTEMPTS, 1);
        let mut measured = self.measure(&mut ours, &mut peer);
        let mut spoilt = what_spoilt(&measured.0, &measured.1);
        for _ in 1..attempts {
            if spoilt.is_none() {
                break;
            }
            measured = self.measure(&mut ours, &mut peer);
            spoilt = what_spoilt(&measured.0, &measured.1);
        }
        let ours = Spread::of(measured.0, self.work.0);
        let peer = Spread::of(measured.1, self.work.1);
        for (quantile, target) in &self.judged {
            let name = quantile.named(row);
            if self.bench.wants(&name) {
                self.bench.report(&Row::of_times(&name, &ours, &peer, *quantile, *target, spoilt));
            }
        }
    }

    /// The times of both, round by round. Who goes first changes, so that neither profits from its place.
    fn measure(
        &self,
        ours: &mut impl FnMut() -> Duration,
        peer: &mut impl FnMut() -> Duration,
    ) -> (Vec<Duration>, Vec<Duration>) {
        let rounds = self.bench.size(self.rounds, 2);
        for _ in 0..self.bench.size(WARM_UP.min(rounds), 1) {
            ours();
            peer();
        }
        let (mut our_times, mut peer_times) = (Vec::with_capacity(rounds), Vec::with_capacity(rounds));
        let begin = Instant::now();
        for round in 0..rounds {
            if round >= FEWEST && begin.elapsed() > BUDGET {
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

fn timed<T>(work: &mut impl FnMut() -> T) -> Duration {
    let begin = Instant::now();
    black_box(work());
    begin.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    fn smoke() -> Bench {
        Bench::new("test", true, std::iter::empty())
    }

    #[test]
    fn contenders_take_turns_and_swap_places() {
        let calls = RefCell::new(String::new());
        let mut bench = Bench::new("test", false, std::iter::empty());
        let tick = Duration::from_micros(10);
        let ours = || (calls.borrow_mut().push('o'), tick).1;
        let peer = || (calls.borrow_mut().push('p'), tick).1;
        bench.pair("turns").rounds(4).median(Target::AtMost(1.0)).run_timed(ours, peer);
        let (warm_up, rounds) = ("opopopop", "oppooppo");
        assert_eq!(*calls.borrow(), format!("{warm_up}{rounds}"));
        assert_eq!(bench.reported, 1);
    }

    #[test]
    fn each_target_is_a_row_of_its_own() {
        let mut bench = smoke();
        bench.pair("two").median(Target::AtMost(2.0)).p99(Target::AtMost(10.0)).run(|| 1, || 1);
        assert_eq!(bench.reported, 2);
    }

    #[test]
    fn what_was_not_asked_for_is_not_run() {
        let mut bench = Bench::new("test", false, std::iter::once("other".to_owned()));
        bench.pair("this").median(Target::AtMost(1.0)).run(|| panic!("it ran"), || ());
        assert_eq!(bench.reported, 0);
    }
}
