//! The rows of a report, as text and as JSON.

use std::time::Duration;

use serde_json::json;

use super::distribution::{Distribution, Disturbance, Quantile};

/// The target of a comparison.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Target {
    /// Ours is at most this multiple of the peer's. For times and bytes.
    AtMost(f64),
    /// Ours is at least this multiple of the peer's. For rates.
    AtLeast(f64),
    /// The peer's time is at least this multiple of ours.
    SpeedAtLeast(f64),
    /// Ours takes less than this, independent of the peer.
    Under(Duration),
    /// Ours takes at most this much longer than the peer.
    AtMostLonger(Duration),
}

impl Target {
    /// The ratio to show, and whether the target is met.
    fn evaluate(self, ours: f64, peer: f64) -> (f64, bool) {
        let ratio = ours / peer;
        match self {
            Self::AtMost(max) => (ratio, ratio <= max),
            Self::AtLeast(min) => (ratio, ratio >= min),
            Self::SpeedAtLeast(min) => (ratio.recip(), ratio.recip() >= min),
            Self::Under(limit) => (ratio, ours < limit.as_secs_f64()),
            Self::AtMostLonger(limit) => (ratio, ours - peer <= limit.as_secs_f64()),
        }
    }

    fn describe(self) -> String {
        match self {
            Self::AtMost(max) => format!("<= {max}"),
            Self::AtLeast(min) => format!(">= {min}"),
            Self::SpeedAtLeast(min) => format!("speed >= {min}"),
            Self::Under(limit) => format!("< {}", time(limit.as_secs_f64())),
            Self::AtMostLonger(limit) => format!("<= peer + {}", time(limit.as_secs_f64())),
        }
    }
}

/// The unit of an amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Units of work per second.
    PerSecond,
    /// Seconds.
    Seconds,
    /// A share of a whole, from 0 to 1.
    Share,
}

impl Unit {
    fn format(self, amount: f64) -> String {
        match self {
            Self::Bytes => scaled(amount, &[(1e9, " GB"), (1e6, " MB"), (1e3, " KB"), (1.0, " B")]),
            Self::PerSecond => scaled(amount, &[(1e6, " M/s"), (1e3, " K/s"), (1.0, "/s")]),
            Self::Seconds => time(amount),
            Self::Share => format!("{:.2} %", amount * 100.0),
        }
    }
}

/// A row of the report.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    name: String,
    ours: String,
    peer: String,
    ratio: f64,
    target: String,
    is_met: bool,
    disturbance: Option<Disturbance>,
}

impl Row {
    pub(super) fn of_times(
        name: &str,
        ours: &Distribution,
        peer: &Distribution,
        quantile: Quantile,
        target: Target,
        disturbance: Option<Disturbance>,
    ) -> Self {
        let seconds = |times: &Distribution| times.quantile(quantile).as_secs_f64();
        let (ratio, is_met) = target.evaluate(seconds(ours), seconds(peer));
        let summary = |times: &Distribution| {
            let (median, p99) = (times.median().as_secs_f64(), times.p99().as_secs_f64());
            format!("p50 {}, p99 {}", time(median), time(p99))
        };
        let (ours, peer) = (summary(ours), summary(peer));
        Self { name: name.to_owned(), ours, peer, ratio, target: target.describe(), is_met, disturbance }
    }

    pub(super) fn of_amounts(name: &str, ours: f64, peer: f64, unit: Unit, target: Target) -> Self {
        let (ratio, is_met) = target.evaluate(ours, peer);
        let (ours, peer) = (unit.format(ours), unit.format(peer));
        Self {
            name: name.to_owned(),
            ours,
            peer,
            ratio,
            target: target.describe(),
            is_met,
            disturbance: None,
        }
    }

    fn verdict(&self, is_smoke: bool) -> String {
        let verdict = match (is_smoke, self.is_met) {
            (true, _) => return "not checked".to_owned(),
            (false, true) => "ok",
            (false, false) => "MISSED",
        };
        self.disturbance.map_or_else(
            || verdict.to_owned(),
            |disturbance| format!("{verdict} (disturbed: {})", disturbance.as_str()),
        )
    }

    pub(super) fn line(&self, bench: &str, is_smoke: bool) -> String {
        let Self { name, ours, peer, ratio, target, .. } = self;
        let verdict = self.verdict(is_smoke);
        format!("{bench}: {name} | {ours} | {peer} | {ratio:.2} | {target} | {verdict}")
    }

    pub(super) fn json(&self, bench: &str, is_smoke: bool) -> String {
        let Self { name, ours, peer, ratio, target, .. } = self;
        let verdict = self.verdict(is_smoke);
        json!({
            "bench": bench, "name": name, "ours": ours, "peer": peer, "ratio": ratio, "target": target,
            "verdict": verdict,
        })
        .to_string()
    }
}

fn time(seconds: f64) -> String {
    scaled(seconds, &[(1.0, " s"), (1e-3, " ms"), (1e-6, " us"), (1e-9, " ns")])
}

/// Formats an amount with three digits in the largest unit that does not exceed it.
fn scaled(amount: f64, units: &[(f64, &str)]) -> String {
    let unit = units.iter().find(|(size, _)| amount >= *size).or(units.last());
    let (size, unit) = unit.copied().unwrap_or((1.0, ""));
    let amount = amount / size;
    let decimals = match amount {
        100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    };
    format!("{amount:.decimals$}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distribution(micros: u64) -> Distribution {
        Distribution::of(vec![Duration::from_micros(micros)], 1)
    }

    fn line(ours: u64, peer: u64, target: Target) -> String {
        Row::of_times("row", &distribution(ours), &distribution(peer), Quantile::Median, target, None)
            .line("bench", false)
    }

    #[test]
    fn a_row_has_both_sides_the_ratio_and_the_verdict() {
        assert_eq!(
            line(160, 130, Target::SpeedAtLeast(0.8)),
            "bench: row | p50 160 us, p99 160 us | p50 130 us, p99 130 us | 0.81 | speed >= 0.8 | ok"
        );
    }

    #[test]
    fn targets_are_met_at_their_limits_and_missed_beyond_them() {
        assert!(line(130, 100, Target::AtMost(1.3)).ends_with("| ok"));
        assert!(line(131, 100, Target::AtMost(1.3)).ends_with("| MISSED"));
        assert!(line(125, 100, Target::SpeedAtLeast(0.8)).ends_with("| ok"));
        assert!(line(126, 100, Target::SpeedAtLeast(0.8)).ends_with("| MISSED"));
        assert!(line(10_000, 900, Target::Under(Duration::from_millis(10))).ends_with("< 10.0 ms | MISSED"));
        assert!(line(9_999, 900, Target::Under(Duration::from_millis(10))).ends_with("| ok"));
    }

    #[test]
    fn a_ratio_of_zero_to_zero_meets_no_target() {
        let row = Row::of_amounts("row", 0.0, 0.0, Unit::Bytes, Target::AtMost(1.0));
        assert_eq!(row.verdict(false), "MISSED");
        let row = Row::of_amounts("row", 0.0, 0.0, Unit::PerSecond, Target::AtLeast(1.0));
        assert_eq!(row.verdict(false), "MISSED");
    }

    #[test]
    fn a_smoke_test_checks_no_targets() {
        let row = Row::of_amounts("row", 9.0, 1.0, Unit::Bytes, Target::AtMost(1.0));
        assert_eq!(row.verdict(true), "not checked");
    }

    #[test]
    fn the_json_has_the_same_content_as_the_line() {
        let row = Row::of_amounts("row", 2_500_000.0, 2e6, Unit::Bytes, Target::AtMost(1.25));
        let json: serde_json::Value = serde_json::from_str(&row.json("bench", false)).unwrap();
        let expected = json!({
            "bench": "bench", "name": "row", "ours": "2.50 MB", "peer": "2.00 MB", "ratio": 1.25,
            "target": "<= 1.25", "verdict": "ok",
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn amounts_are_formatted_with_three_digits() {
        assert_eq!(Unit::PerSecond.format(1_234_567.0), "1.23 M/s");
        assert_eq!(Unit::Bytes.format(512.0), "512 B");
        assert_eq!(time(0.000_000_25), "250 ns");
        assert_eq!(time(0.0), "0.00 ns");
    }
}
