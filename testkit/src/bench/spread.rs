//! How measured times are spread, and whether they can be believed.

use std::time::Duration;

/// The timer tick of common kernels. Under contention, whoever waits for a disk is woken at the next one.
const TICK: Duration = Duration::from_millis(4);
/// How near to a multiple of it a time has to be to be put down to it.
const NEAR: Duration = Duration::from_micros(40);
/// The share of such times from which a measurement is spoilt.
const MANY: f64 = 0.1;
/// How far the ratio may move between the halves of a measurement.
const DRIFT: f64 = 4.0 / 3.0;
/// With fewer rounds, halves say nothing.
const ENOUGH_FOR_HALVES: usize = 20;

/// Which time of many stands for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quantile {
    Median,
    P99,
}

impl Quantile {
    /// The name of a row about this quantile.
    pub(super) fn named(self, row: &str) -> String {
        match self {
            Self::Median => row.to_owned(),
            Self::P99 => format!("{row}, p99"),
        }
    }
}

/// The times of one piece of work, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spread(Vec<Duration>);

impl Spread {
    /// The spread of calls that do `work` pieces each.
    pub(super) fn of(mut times: Vec<Duration>, work: usize) -> Self {
        let work = u32::try_from(work).unwrap_or(u32::MAX).max(1);
        times.iter_mut().for_each(|time| *time /= work);
        times.sort_unstable();
        Self(times)
    }

    pub(super) fn median(&self) -> Duration {
        self.at(50)
    }

    pub(super) fn p99(&self) -> Duration {
        self.at(99)
    }

    pub(super) fn quantile(&self, quantile: Quantile) -> Duration {
        match quantile {
            Quantile::Median => self.median(),
            Quantile::P99 => self.p99(),
        }
    }

    /// The least time that `percent` of them do not exceed.
    fn at(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).saturating_sub(1);
        self.0.get(rank).copied().unwrap_or_default()
    }
}

/// Why times measured in turns say nothing about either, if that is so.
pub(super) fn what_spoilt(ours: &[Duration], peer: &[Duration]) -> Option<&'static str> {
    let median = |times: &[Duration]| Spread::of(times.to_vec(), 1).median();
    let all_wait = [ours, peer].iter().all(|times| is_tick(median(times)));
    if all_wait || [ours, peer].iter().any(|times| often_waits(times)) {
        return Some("waited for timer ticks");
    }
    let rounds = ours.len().min(peer.len());
    if rounds < ENOUGH_FOR_HALVES {
        return None;
    }
    let (first, second) = (ours.split_at(rounds / 2), peer.split_at(rounds / 2));
    let ratio =
        |ours: &[Duration], peer: &[Duration]| median(ours).as_secs_f64() / median(peer).as_secs_f64();
    let drift = ratio(first.1, second.1) / ratio(first.0, second.0);
    (!(1.0 / DRIFT..=DRIFT).contains(&drift)).then_some("the ratio drifted")
}

fn is_tick(time: Duration) -> bool {
    (1..=5).any(|ticks| time.abs_diff(TICK * ticks) < NEAR)
}

/// Whether many of the times are ticks though the work itself is much quicker.
fn often_waits(times: &[Duration]) -> bool {
    let is_quick = Spread::of(times.to_vec(), 1).at(10) < TICK / 2;
    let ticks = times.iter().filter(|time| is_tick(**time)).count();
    #[allow(clippy::cast_precision_loss, reason = "a share")]
    let share = ticks as f64 / times.len().max(1) as f64;
    is_quick && share >= MANY
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(times: impl IntoIterator<Item = u64>) -> Vec<Duration> {
        times.into_iter().map(Duration::from_micros).collect()
    }

    #[test]
    fn quantiles_are_times_that_were_measured() {
        let spread = Spread::of(micros((1..=200).rev()), 1);
        assert_eq!((spread.median(), spread.p99()), (Duration::from_micros(100), Duration::from_micros(198)));
        let one = Spread::of(micros([7]), 1);
        assert_eq!((one.median(), one.p99()), (Duration::from_micros(7), Duration::from_micros(7)));
    }

    #[test]
    fn a_time_is_that_of_one_piece_of_work() {
        assert_eq!(Spread::of(micros([640]), 64).median(), Duration::from_micros(10));
    }

    #[test]
    fn quick_work_that_often_takes_whole_ticks_is_spoilt() {
        let calm = micros((0..100).map(|n| 150 + n % 7));
        let contended = micros((0..100).map(|n| if n % 8 == 0 { 8_003 } else { 150 + n % 7 }));
        assert_eq!(what_spoilt(&calm, &calm), None);
        assert!(what_spoilt(&contended, &calm).is_some());
        assert!(what_spoilt(&calm, &contended).is_some());
    }

    #[test]
    fn a_run_in_which_everything_waits_is_spoilt() {
        let waiting = micros((0..100).map(|n| 3_995 + n % 7));
        assert!(what_spoilt(&waiting, &waiting).is_some());
    }

    #[test]
    fn slow_work_may_take_a_tick_by_chance() {
        let slow = micros((0..100).map(|n| 3_000 + n * 30));
        assert_eq!(what_spoilt(&slow, &micros((0..100).map(|n| 2_500 + n * 30))), None);
    }

    #[test]
    fn a_ratio_that_moves_is_spoilt_and_a_shared_slowdown_is_not() {
        let steady = micros((0..100).map(|_| 100));
        let slowing = micros((0..100).map(|n| if n < 50 { 100 } else { 200 }));
        assert!(what_spoilt(&slowing, &steady).is_some());
        assert_eq!(what_spoilt(&slowing, &slowing), None);
    }
}
