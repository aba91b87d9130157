//! Points in time, to the microsecond, and where they come from.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A point in time in UTC with a resolution of one microsecond, written as RFC 3339.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(jiff::Timestamp);

impl Timestamp {
    /// 1970-01-01T00:00:00Z, for what came without a time.
    pub const UNIX_EPOCH: Self = Self(jiff::Timestamp::UNIX_EPOCH);

    /// Whether it is more than what stands for a time that nobody told: some tools do not say when.
    #[must_use]
    pub fn is_known(self) -> bool {
        self != Self::UNIX_EPOCH
    }

    /// The time `micros` microseconds after 1970 began, or `None` beyond the years -9999 to 9999.
    #[must_use]
    pub fn from_micros(micros: i64) -> Option<Self> {
        jiff::Timestamp::from_microsecond(micros).ok().map(Self)
    }

    /// The time `millis` milliseconds after 1970 began, or `None` when out of range.
    #[must_use]
    pub fn from_millis(millis: i64) -> Option<Self> {
        jiff::Timestamp::from_millisecond(millis).ok().map(Self)
    }

    /// Microseconds since 1970 began.
    #[must_use]
    pub fn as_micros(self) -> i64 {
        self.0.as_microsecond()
    }

    /// Milliseconds from `earlier` to this; zero when `earlier` is later.
    #[must_use]
    pub fn millis_since(self, earlier: Self) -> u64 {
        u64::try_from(self.0.as_millisecond().saturating_sub(earlier.0.as_millisecond())).unwrap_or(0)
    }

    /// The same instant as the `jiff` type, for calendars and zones.
    #[must_use]
    pub const fn to_jiff(self) -> jiff::Timestamp {
        self.0
    }
}

impl From<jiff::Timestamp> for Timestamp {
    /// Drops what is finer than a microsecond, so that a time survives every store unchanged.
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
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        jiff::Timestamp::deserialize(deserializer).map(Self::from)
    }
}

/// Where the time comes from: the system, or a test's own.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
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
    fn a_time_survives_its_text_and_its_number() {
        let time: Timestamp = "2026-02-01T14:30:00.123456Z".parse().unwrap();
        assert_eq!(time.to_string(), "2026-02-01T14:30:00.123456Z");
        assert_eq!(Timestamp::from_micros(time.as_micros()), Some(time));
    }

    #[test]
    fn what_is_finer_than_a_microsecond_is_dropped() {
        let time: Timestamp = "2026-02-01T14:30:00.123456789+01:00".parse().unwrap();
        assert_eq!(time.to_string(), "2026-02-01T13:30:00.123456Z");
    }
}
