//! A reported comparison, and how it is written.

use std::time::Duration;

use serde_json::json;

use super::spread::{Quantile, Spread};

/// What a comparison has to come to.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Target {
    /// Ours is at most so many times the peer's: time, bytes.
    AtMost(f64),
    /// Ours is at least so many times the peer's: a rate.
    AtLeast(f64),
    /// We are at least so many times as fast as the peer: its time divided by ours.
    SpeedAtLeast(f64),
    /// Ours takes less than that, whatever the peer takes.
    Under(Duration),
    /// Ours takes at most so much longer than the peer.
    AtMostLonger(Duration),
}

impl Target {
    /// What is compared with the target and shown as the ratio, and whether that meets it.
    fn judge(self, ours: f64, peer: f64) -> (f64, bool) {
        let ratio = ours / peer;
        match self {
            Self::AtMost(most) => (ratio, ratio <= most),
            Self::AtLeast(least) => (ratio, ratio >= least),
            Self::SpeedAtLeast(least) => (ratio.recip(), ratio.recip() >= least),
            Self::Under(limit) => (ratio, ours < limit.as_secs_f64()),
            Self::AtMostLonger(limit) => (ratio, ours - peer <= limit.as_secs_f64()),
        }
    }

    fn shown(self) -> String {
        match self {
            Self::AtMost(most) => format!("<= {most}"),
            Self::AtLeast(least) => format!(">= {least}"),
            Self::SpeedAtLeast(least) => format!("speed >= {least}"),
            Self::Under(limit) => format!("< {}", time(limit.as_secs_f64())),
            Self::AtMostLonger(limit) => format!("<= peer + {}", time(limit.as_secs_f64())),
        }
    }
}

/// What an amount is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Pieces of work in a second.
    PerSecond,
    /// Seconds.
    Seconds,
}

impl Unit {
    fn shown(self, amount: f64) -> String {
        match self {
            Self::Bytes => scaled(amount, &[(1e9, " GB"), (1e6, " MB"), (1e3, " KB"), (1.0, " B")]),
            Self::PerSecond => scaled(amount, &[(1e6, " M/s"), (1e3, " K/s"), (1.0, "/s")]),
            Self::Seconds => time(amount),
        }
    }
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    name: String,
    ours: String,
    peer: String,
    ratio: f64,
    target: String,
    is_met: bool,
    spoilt: Option<&'static str>,
}

impl Row {
    pub(super) fn of_times(
        name: &str,
        ours: &Spread,
        peer: &Spread,
        quantile: Quantile,
        target: Target,
        spoilt: Option<&'static str>,
    ) -> Self {
        let seconds = |spread: &Spread| spread.quantile(quantile).as_secs_f64();
        let (ratio, is_met) = target.judge(seconds(ours), seconds(peer));
        let shown = |spread: &Spread| {
            let (median, p99) = (spread.median().as_secs_f64(), spread.p99().as_secs_f64());
            format!("p50 {}, p99 {}", time(median), time(p99))
        };
        let (ours, peer) = (shown(ours), shown(peer));
        Self { name: name.to_owned(), ours, peer, ratio, target: target.shown(), is_met, spoilt }
    }

    pub(super) fn of_amounts(name: &str, ours: f64, peer: f64, unit: Unit, target: Target) -> Self {
        let (ratio, is_met) = target.judge(ours, peer);
        let (ours, peer) = (unit.shown(ours), unit.shown(peer));
        Self { name: name.to_owned(), ours, peer, ratio, target: target.shown(), is_met, spoilt: None }
    }

    fn verdict(&self, is_smoke: bool) -> String {
        let verdict = match (is_smoke, self.is_met) {
            (true, _) => return "not judged".to_owned(),
            (false, true) => "ok",
            (false, false) => "MISSED",
        };
        self.spoilt.map_or_else(|| verdict.to_owned(), |why| format!("{verdict} (spoilt: {why})"))
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

/// `amount` with three digits in the largest of `units` that it reaches.
fn scaled(amount: f64, units: &[(f64, &str)]) -> String {
    let reached = units.iter().find(|(size, _)| amount >= *size).or(units.last());
    let (size, unit) = reached.copied().unwrap_or((1.0, ""));
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

    fn spread(micros: u64) -> Spread {
        Spread::of(vec![Duration::from_micros(micros)], 1)
    }

    fn line(ours: u64, peer: u64, target: Target) -> String {
        Row::of_times("row", &spread(ours), &spread(peer), Quantile::Median, target, None)
            .line("bench", false)
    }

    #[test]
    fn a_row_says_both_sides_the_ratio_and_the_verdict() {
        assert_eq!(
            line(160, 130, Target::SpeedAtLeast(0.8)),
            "bench: row | p50 160 us, p99 160 us | p50 130 us, p99 130 us | 0.81 | speed >= 0.8 | ok"
        );
    }

    #[test]
    fn targets_are_met_at_their_limits_and_missed_beyond() {
        assert!(line(130, 100, Target::AtMost(1.3)).ends_with("| ok"));
        assert!(line(131, 100, Target::AtMost(1.3)).ends_with("| MISSED"));
        assert!(line(125, 100, Target::SpeedAtLeast(0.8)).ends_with("| ok"));
        assert!(line(126, 100, Target::SpeedAtLeast(0.8)).ends_with("| MISSED"));
        assert!(line(10_000, 900, Target::Under(Duration::from_millis(10))).ends_with("< 10.0 ms | MISSED"));
        assert!(line(9_999, 900, Target::Under(Duration::from_millis(10))).ends_with("| ok"));
    }

    #[test]
    fn a_ratio_of_nothing_meets_no_target() {
        let row = Row::of_amounts("row", 0.0, 0.0, Unit::Bytes, Target::AtMost(1.0));
        assert_eq!(row.verdict(false), "MISSED");
        let row = Row::of_amounts("row", 0.0, 0.0, Unit::PerSecond, Target::AtLeast(1.0));
        assert_eq!(row.verdict(false), "MISSED");
    }

    #[test]
    fn a_smoke_test_judges_nothing() {
        let row = Row::of_amounts("row", 9.0, 1.0, Unit::Bytes, Target::AtMost(1.0));
        assert_eq!(row.verdict(true), "not judged");
    }

    #[test]
    fn json_holds_what_the_line_holds() {
        let row = Row::of_amounts("row", 2_500_000.0, 2e6, Unit::Bytes, Target::AtMost(1.25));
        let json: serde_json::Value = serde_json::from_str(&row.json("bench", false)).unwrap();
        let expected = json!({
            "bench": "bench", "name": "row", "ours": "2.50 MB", "peer": "2.00 MB", "ratio": 1.25,
            "target": "<= 1.25", "verdict": "ok",
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn amounts_are_shown_with_three_digits() {
        assert_eq!(Unit::PerSecond.shown(1_234_567.0), "1.23 M/s");
        assert_eq!(Unit::Bytes.shown(512.0), "512 B");
        assert_eq!(time(0.000_000_25), "250 ns");
        assert_eq!(time(0.0), "0.00 ns");
    }
}
