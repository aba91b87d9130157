//! Times as text: relative, local, and as users type them.

use hfs_core::{Timestamp, relative_time};
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Span, Zoned};

/// Shown for data that was imported without a time.
const UNKNOWN: &str = "time unknown";

/// How long ago `then` was, such as `3 days ago`. A time in the future, which another machine's clock may produce, is
/// shown in full.
pub fn relative(then: Timestamp, now: Timestamp) -> String {
    if then.is_known() && then.millis_since(now) >= 60_000 { local(then) } else { relative_time(then, now) }
}

/// The time in the system's time zone, to the second.
pub fn local(time: Timestamp) -> String {
    if !time.is_known() {
        return UNKNOWN.into();
    }
    time.to_jiff().to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// The text is neither a date, nor a time, nor a time span.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a date, a time or a span such as 2026-02-01, 2026-02-01T14:30, 2d or \"3 weeks ago\"")]
pub struct ParseTimeError;

/// Parses a time as users type it: `2026-02-01`, `2026-02-01T14:30` with or without a zone, or a span before `now` such
/// as `2d`, `3 weeks`, `1 hour ago`. Times without a zone are in that of `now`.
pub fn parse(text: &str, now: &Zoned) -> Result<Timestamp, ParseTimeError> {
    let text = text.trim();
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let local =
        text.parse::<DateTime>().ok().or_else(|| text.parse::<Date>().ok().map(|day| day.at(0, 0, 0, 0)));
    if let Some(zoned) = local.and_then(|local| local.to_zoned(now.time_zone().clone()).ok()) {
        return Ok(zoned.timestamp().into());
    }
    let span = text.strip_suffix("ago").unwrap_or(text).trim().parse::<Span>().ok();
    let zoned = span.and_then(|span| now.checked_sub(span.abs()).ok());
    zoned.map(|zoned| zoned.timestamp().into()).ok_or(ParseTimeError)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn relative_times_are_rounded_down_to_their_largest_unit() {
        let now = time("2026-02-01T12:00:00Z");
        for (then, expected) in [
            ("2026-02-01T11:59:01Z", "just now"),
            ("2026-02-01T12:00:30Z", "just now"),
            ("2026-02-01T11:59:00Z", "1 minute ago"),
            ("2026-02-01T10:01:00Z", "1 hour ago"),
            ("2026-01-29T12:00:00Z", "3 days ago"),
            ("2026-01-10T12:00:00Z", "3 weeks ago"),
            ("2025-02-01T12:00:00Z", "11 months ago"),
            ("2020-02-01T12:00:00Z", "6 years ago"),
            ("1970-01-01T00:00:00Z", "time unknown"),
        ] {
            assert_eq!(relative(time(then), now), expected, "{then}");
        }
    }

    #[test]
    fn times_are_parsed_in_every_usual_form() {
        let now: Zoned = "2026-02-10T12:00:00+01:00[Europe/Paris]".parse().unwrap();
        for (text, expected) in [
            ("2026-02-01", "2026-01-31T23:00:00Z"),
            ("2026-02-01T14:30", "2026-02-01T13:30:00Z"),
            ("2026-02-01 14:30", "2026-02-01T13:30:00Z"),
            ("2026-02-01T14:30:00Z", "2026-02-01T14:30:00Z"),
            ("2d", "2026-02-08T11:00:00Z"),
            ("3 weeks ago", "2026-01-20T11:00:00Z"),
            ("1 hour ago", "2026-02-10T10:00:00Z"),
        ] {
            assert_eq!(parse(text, &now), Ok(time(expected)), "{text}");
        }
        for text in ["", "yesterday-ish", "2026-13-01", "ago"] {
            assert!(parse(text, &now).is_err(), "{text}");
        }
    }
}
