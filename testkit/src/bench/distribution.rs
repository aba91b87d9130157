//! The distribution of measured times, and whether the measurement was disturbed.

use std::time::Duration;

/// The timer tick of common kernels. Under contention, a thread that waits for a disk wakes up at the next tick, and
/// then the time measures the tick, not the work.
const TICK: Duration = Duration::from_millis(4);
/// A time this close to a multiple of the tick counts as a wait for it.
const TICK_TOLERANCE: Duration = Duration::from_micros(40);
/// A measurement counts as disturbed if at least this share of its times are waits for ticks.
const DISTURBED_TICK_SHARE: f64 = 0.1;
/// How much the ratio may change between the halves of a measurement.
const MAX_DRIFT: f64 = 4.0 / 3.0;
/// With fewer rounds, the halves are too small to compare.
const MIN_ROUNDS_FOR_DRIFT: usize = 20;

/// A statistic of a distribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quantile {
    Median,
    P99,
}

impl Quantile {
    /// The name of the row for this quantile.
    pub(super) fn row_name(self, row: &str) -> String {
        match self {
            Self::Median => row.to_owned(),
            Self::P99 => format!("{row}, p99"),
        }
    }
}

/// Sorted times per unit of work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Distribution(Vec<Duration>);

impl Distribution {
    /// The distribution of calls that do `work` units each.
    pub(super) fn of(mut times: Vec<Duration>, work: usize) -> Self {
        let work = u32::try_from(work).unwrap_or(u32::MAX).max(1);
        times.iter_mut().for_each(|time| *time /= work);
        times.sort_unstable();
        Self(times)
    }

    pub(super) fn median(&self) -> Duration {
        self.percentile(50)
    }

    pub(super) fn p99(&self) -> Duration {
        self.percentile(99)
    }

    pub(super) fn quantile(&self, quantile: Quantile) -> Duration {
        match quantile {
            Quantile::Median => self.median(),
            Quantile::P99 => self.p99(),
        }
    }

    /// The shortest time that `percent` of the times do not exceed.
    fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).saturating_sub(1);
        self.0.get(rank).copied().unwrap_or_default()
    }
}

/// Why a measurement is not reliable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Disturbance {
    TimerTicks,
    Drift,
}

impl Disturbance {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::TimerTicks => "waited for timer ticks",
            Self::Drift => "the ratio drifted",
        }
    }
}

/// Checks alternately measured times for a disturbance.
pub(super) fn find_disturbance(ours: &[Duration], peer: &[Duration]) -> Option<Disturbance> {
    let median = |times: &[Duration]| Distribution::of(times.to_vec(), 1).median();
    let both_wait = [ours, peer].iter().all(|times| is_tick(median(times)));
    if both_wait || [ours, peer].iter().any(|times| often_waits(times)) {
        return Some(Disturbance::TimerTicks);
    }
    let rounds = ours.len().min(peer.len());
    if rounds < MIN_ROUNDS_FOR_DRIFT {
        return None;
    }
    let (first, second) = (ours.split_at(rounds / 2), peer.split_at(rounds / 2));
    let ratio =
        |ours: &[Duration], peer: &[Duration]| median(ours).as_secs_f64() / median(peer).as_secs_f64();
    let drift = ratio(first.1, second.1) / ratio(first.0, second.0);
    (!(1.0 / MAX_DRIFT..=MAX_DRIFT).contains(&drift)).then_some(Disturbance::Drift)
}

fn is_tick(time: Duration) -> bool {
    (1..=5).any(|ticks| time.abs_diff(TICK * ticks) < TICK_TOLERANCE)
}

/// Whether many of the times are ticks although the work itself takes much less than a tick.
fn often_waits(times: &[Duration]) -> bool {
    let is_quick = Distribution::of(times.to_vec(), 1).percentile(10) < TICK / 2;
    let ticks = times.iter().filter(|time| is_tick(**time)).count();
    #[allow(clippy::cast_precision_loss, reason = "a share")]
    let share = ticks as f64 / times.len().max(1) as f64;
    is_quick && share >= DISTURBED_TICK_SHARE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(times: impl IntoIterator<Item = u64>) -> Vec<Duration> {
        times.into_iter().map(Duration::from_micros).collect()
    }

    #[test]
    fn quantiles_are_measured_times() {
        let times = Distribution::of(micros((1..=200).rev()), 1);
        assert_eq!((times.median(), times.p99()), (Duration::from_micros(100), Duration::from_micros(198)));
        let one = Distribution::of(micros([7]), 1);
        assert_eq!((one.median(), one.p99()), (Duration::from_micros(7), Duration::from_micros(7)));
    }

    #[test]
    fn times_are_per_unit_of_work() {
        assert_eq!(Distribution::of(micros([640]), 64).median(), Duration::from_micros(10));
    }

    #[test]
    fn quick_work_that_often_takes_whole_ticks_is_disturbed() {
        let calm = micros((0..100).map(|n| 150 + n % 7));
        let contended = micros((0..100).map(|n| if n % 8 == 0 { 8_003 } else { 150 + n % 7 }));
        assert_eq!(find_disturbance(&calm, &calm), None);
        assert!(find_disturbance(&contended, &calm).is_some());
        assert!(find_disturbance(&calm, &contended).is_some());
    }

    #[test]
    fn a_measurement_with_only_waits_is_disturbed() {
        let waiting = micros((0..100).map(|n| 3_995 + n % 7));
        assert!(find_disturbance(&waiting, &waiting).is_some());
    }

    #[test]
    fn slow_work_that_takes_a_tick_by_chance_is_not_disturbed() {
        let slow = micros((0..100).map(|n| 3_000 + n * 30));
        assert_eq!(find_disturbance(&slow, &micros((0..100).map(|n| 2_500 + n * 30))), None);
    }

    #[test]
    fn a_drifting_ratio_is_disturbed_and_a_common_slowdown_is_not() {
        let steady = micros((0..100).map(|_| 100));
        let slowing = micros((0..100).map(|n| if n < 50 { 100 } else { 200 }));
        assert!(find_disturbance(&slowing, &steady).is_some());
        assert_eq!(find_disturbance(&slowing, &slowing), None);
    }
}
