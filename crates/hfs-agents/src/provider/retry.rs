//! When to try again.

use std::time::Duration;

use hfs_core::{Clock, SystemClock, Timestamp};

use crate::Retries;

use super::failure::Attempt;

/// How long to wait after attempt `number` (from 1) before the next one; `None` when there is to be no next.
pub(super) fn pause(retries: &Retries, number: u32, again: &Attempt) -> Option<Duration> {
    if number >= retries.attempts.max(1) {
        return None;
    }
    match again {
        Attempt::Last => None,
        Attempt::After(asked) if *asked > retries.longest_pause => None,
        // A little later than asked, so that many who were turned away together do not come back together.
        Attempt::After(asked) => Some(*asked + retries.first_pause.mul_f64(fastrand::f64() / 2.0)),
        Attempt::Again => {
            let doubled = retries.first_pause.saturating_mul(1 << (number - 1).min(16));
            Some(doubled.min(retries.longest_pause).mul_f64(1.0 - fastrand::f64() / 2.0))
        }
    }
}

/// What a provider asks for in its headers: milliseconds, seconds, or a date.
pub(super) fn asked_pause(headers: &reqwest::header::HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let number = |name: &str| text(name)?.parse::<f64>().ok().filter(|number| number.is_finite());
    if let Some(millis) = number("retry-after-ms") {
        return Duration::try_from_secs_f64(millis / 1000.0).ok();
    }
    if let Some(seconds) = number("retry-after") {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text("retry-after")?).ok()?;
    Some(Duration::from_millis(Timestamp::from(date).millis_since(SystemClock.now())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> reqwest::header::HeaderMap {
        reqwest::header::HeaderMap::from_iter([(
            reqwest::header::HeaderName::from_static(name),
            value.parse().unwrap(),
        )])
    }

    #[test]
    fn seconds_milliseconds_and_dates_are_understood() {
        assert_eq!(asked_pause(&headers("retry-after", "7")), Some(Duration::from_secs(7)));
        assert_eq!(asked_pause(&headers("retry-after-ms", "250")), Some(Duration::from_millis(250)));
        let past = asked_pause(&headers("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT"));
        assert_eq!(past, Some(Duration::ZERO));
        let future = SystemClock.now().to_jiff() + jiff::SignedDuration::from_secs(3600);
        let date = jiff::fmt::rfc2822::DateTimePrinter::new();
        let mut text = String::new();
        date.print_timestamp_rfc9110(&future, &mut text).unwrap();
        let asked = asked_pause(&headers("retry-after", &text)).unwrap();
        assert!(asked > Duration::from_secs(3500) && asked <= Duration::from_secs(3600), "{asked:?}");
    }

    #[test]
    fn nonsense_is_no_wish() {
        for value in ["soon", "-5", "NaN", "inf"] {
            assert_eq!(asked_pause(&headers("retry-after", value)), None, "{value}");
        }
    }

    #[test]
    fn pauses_double_within_their_bounds_and_end_with_the_attempts() {
        let retries = Retries {
            attempts: 4,
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_millis(300),
        };
        for (number, longest) in [(1, 100), (2, 200), (3, 300)] {
            let pause = pause(&retries, number, &Attempt::Again).unwrap();
            let longest = Duration::from_millis(longest);
            assert!(pause >= longest / 2 && pause <= longest, "{number}: {pause:?}");
        }
        assert_eq!(pause(&retries, 4, &Attempt::Again), None);
        assert_eq!(pause(&retries, 1, &Attempt::Last), None);
    }

    #[test]
    fn a_wish_is_kept_unless_it_is_too_long() {
        let retries = Retries::default();
        let asked = Duration::from_secs(2);
        assert!(pause(&retries, 1, &Attempt::After(asked)).unwrap() >= asked);
        assert_eq!(pause(&retries, 1, &Attempt::After(Duration::from_secs(3600))), None);
    }
}
