//! Timestamps with microsecond resolution, and the clock port.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A point in time in UTC with microsecond resolution, serialized as RFC 3339, or an unknown time, serialized as null.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(jiff::Timestamp);

impl Timestamp {
    /// 1970-01-01T00:00:00Z. No message is that old, so stores and programs use this value for an unknown time.
    pub const UNIX_EPOCH: Self = Self(jiff::Timestamp::UNIX_EPOCH);

    /// An unknown time. Transcripts of some tools have no times.
    pub const UNKNOWN: Self = Self::UNIX_EPOCH;

    /// Whether the time is known.
    #[must_use]
    pub fn is_known(self) -> bool {
        self != Self::UNKNOWN
    }

    /// The time, if it is known.
    #[must_use]
    pub fn known(self) -> Option<Self> {
        self.is_known().then_some(self)
    }

    /// Creates a timestamp from microseconds since the Unix epoch; `None` outside of the years -9999 to 9999.
    #[must_use]
    pub fn from_micros(micros: i64) -> Option<Self> {
        jiff::Timestamp::from_microsecond(micros).ok().map(Self)
    }

    /// Creates a timestamp from milliseconds since the Unix epoch; `None` outside of the years -9999 to 9999.
    #[must_use]
    pub fn from_millis(millis: i64) -> Option<Self> {
        jiff::Timestamp::from_millisecond(millis).ok().map(Self)
    }

    /// Microseconds since the Unix epoch.
    #[must_use]
    pub fn as_micros(self) -> i64 {
        self.0.as_microsecond()
    }

    /// Milliseconds from `earlier` to this time; 0 if `earlier` is later.
    #[must_use]
    pub fn millis_since(self, earlier: Self) -> u64 {
        u64::try_from(self.0.as_millisecond().saturating_sub(earlier.0.as_millisecond())).unwrap_or(0)
    }

    /// The same time as a `jiff` timestamp, for calendars and time zones.
    #[must_use]
    pub const fn to_jiff(self) -> jiff::Timestamp {
        self.0
    }
}

impl From<jiff::Timestamp> for Timestamp {
    /// Truncates to microseconds, the resolution of every store, so that a stored time reads back unchanged.
    fn from(precise: jiff::Timestamp) -> Self {
        Self(jiff::Timestamp::from_microsecond(precise.as_microsecond()).unwrap_or(precise))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Timestamp {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, jiff::Error> {
        text.parse::<jiff::Timestamp>().map(Self::from)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.is_known() { serializer.collect_str(self) } else { serializer.serialize_none() }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let time = Option::<jiff::Timestamp>::deserialize(deserializer)?;
        Ok(time.map_or(Self::UNKNOWN, Self::from))
    }
}

/// Formats how long before `now` a time was, in the largest unit and rounded down: `3 days ago`. Returns `just now` for
/// less than a minute, `time unknown` for an unknown time, and the RFC 3339 form for a time a minute or more in the
/// future.
#[must_use]
pub fn relative_time(time: Timestamp, now: Timestamp) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    const WEEK: u64 = 7 * DAY;
    /// A twelfth of the mean Gregorian year.
    const MONTH: u64 = 2_629_800;
    const YEAR: u64 = 12 * MONTH;
    if !time.is_known() {
        return "time unknown".into();
    }
    if time.millis_since(now) >= 1000 * MINUTE {
        return time.to_string();
    }
    let seconds = now.millis_since(time) / 1000;
    let (count, unit) = match seconds {
        0..MINUTE => return "just now".into(),
        MINUTE..HOUR => (seconds / MINUTE, "minute"),
        HOUR..DAY => (seconds / HOUR, "hour"),
        DAY..WEEK => (seconds / DAY, "day"),
        WEEK..MONTH => (seconds / WEEK, "week"),
        MONTH..YEAR => (seconds / MONTH, "month"),
        _ => (seconds / YEAR, "year"),
    };
    format!("{count} {unit}{} ago", if count == 1 { "" } else { "s" })
}

/// Source of the current time, which tests replace.
pub trait Clock: Send + Sync {
    /// The current time.
    fn now(&self) -> Timestamp;
}

/// The system clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        jiff::Timestamp::now().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_round_trips_through_text_and_numbers() {
        let time: Timestamp = "2026-02-01T14:30:00.123456Z".parse().unwrap();
        assert_eq!(time.to_string(), "2026-02-01T14:30:00.123456Z");
        assert_eq!(Timestamp::from_micros(time.as_micros()), Some(time));
    }

    #[test]
    fn an_unknown_time_is_null_in_json() {
        let json = serde_json::to_string(&[Timestamp::UNKNOWN]).unwrap();
        assert_eq!(json, "[null]");
        assert_eq!(serde_json::from_str::<[Timestamp; 1]>(&json).unwrap(), [Timestamp::UNKNOWN]);
        // Documents of earlier versions have the Unix epoch instead.
        let old = r#"["1970-01-01T00:00:00Z"]"#;
        assert_eq!(serde_json::from_str::<[Timestamp; 1]>(old).unwrap(), [Timestamp::UNKNOWN]);
    }

    #[test]
    fn times_are_truncated_to_microseconds() {
        let time: Timestamp = "2026-02-01T14:30:00.123456789+01:00".parse().unwrap();
        assert_eq!(time.to_string(), "2026-02-01T13:30:00.123456Z");
    }

    #[test]
    fn relative_times_are_rounded_down_to_their_largest_unit() {
        let time = |text: &str| text.parse::<Timestamp>().unwrap();
        let now = time("2026-02-01T12:00:00Z");
        for (then, expected) in [
            ("2026-02-01T11:59:01Z", "just now"),
            ("2026-02-01T12:00:30Z", "just now"),
            ("2026-02-01T12:01:00Z", "2026-02-01T12:01:00Z"),
            ("2026-02-01T11:59:00Z", "1 minute ago"),
            ("2026-02-01T10:01:00Z", "1 hour ago"),
            ("2026-01-29T12:00:00Z", "3 days ago"),
            ("2026-01-10T12:00:00Z", "3 weeks ago"),
            ("2025-02-01T12:00:00Z", "11 months ago"),
            ("2020-02-01T12:00:00Z", "6 years ago"),
            ("1970-01-01T00:00:00Z", "time unknown"),
        ] {
            assert_eq!(relative_time(time(then), now), expected, "{then}");
        }
    }
}
