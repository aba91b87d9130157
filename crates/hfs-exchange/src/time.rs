//! Parses times as other programs write them.

use hfs_core::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde_json::Value;

/// Larger numbers are milliseconds: as seconds they would lie beyond the year 5000.
const SECONDS_LIMIT: f64 = 1.0e11;

/// Smaller numbers of seconds, which lie before March 1973, are no times of a conversation but, for example, counts of seconds
/// since its beginning.
const SECONDS_MINIMUM: f64 = 1.0e8;

/// Parses a time that is written as text (RFC 3339, or without a zone, which means UTC) or as a number of
/// seconds or milliseconds.
pub(crate) fn from_json(value: &Value) -> Option<Timestamp> {
    match value {
        Value::String(text) => parse(text),
        Value::Number(number) => from_number(number.as_f64()?),
        _ => None,
    }
}

/// Parses a time that is written as text; without a zone, it is in UTC.
pub(crate) fn parse(text: &str) -> Option<Timestamp> {
    parse_in(text, &TimeZone::UTC)
}

/// Parses a time that is written as text; without a zone, it is in this one.
pub(crate) fn parse_in(text: &str, zone: &TimeZone) -> Option<Timestamp> {
    let text = text.trim();
    let zoned = || {
        let local: DateTime = text.parse().ok()?;
        Some(local.to_zoned(zone.clone()).ok()?.timestamp().into())
    };
    text.parse().ok().or_else(zoned).and_then(Timestamp::known)
}

/// Converts a number of seconds, or of milliseconds if it is too large for seconds.
pub(crate) fn from_number(number: f64) -> Option<Timestamp> {
    let seconds = if number > SECONDS_LIMIT { number / 1e3 } else { number };
    if !(SECONDS_MINIMUM..=SECONDS_LIMIT).contains(&seconds) {
        return None;
    }
    #[allow(clippy::cast_possible_truncation, reason = "bounded just above")]
    Timestamp::from_micros((seconds * 1e6).round() as i64).and_then(Timestamp::known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn all_notations_are_parsed() {
        for (written, time) in [
            (json!("2025-06-14T10:02:00Z"), "2025-06-14T10:02:00Z"),
            (json!("2025-06-14T10:02:00.5+02:00"), "2025-06-14T08:02:00.5Z"),
            (json!("2025-06-14T10:02:00.123456"), "2025-06-14T10:02:00.123456Z"),
            (json!("2025-06-14 10:02:00"), "2025-06-14T10:02:00Z"),
            (json!(1_732_845_769.248_123), "2024-11-29T02:02:49.248123Z"),
            (json!(1_732_845_769_248_i64), "2024-11-29T02:02:49.248Z"),
        ] {
            assert_eq!(from_json(&written).map(|time| time.to_string()).as_deref(), Some(time), "{written}");
        }
        let nonsense = [
            json!("yesterday"),
            json!(null),
            json!(1e300),
            json!(true),
            json!(""),
            json!(0),
            json!(12_345),
            json!(-1.7e9),
        ];
        for nonsense in nonsense {
            assert_eq!(from_json(&nonsense), None, "{nonsense}");
        }
    }
}
