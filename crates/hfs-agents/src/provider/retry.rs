//! Decides whether a failed request is repeated, and after which delay.

use std::time::Duration;

use hfs_core::{Backoff, Clock, SystemClock, Timestamp};
use reqwest::header::HeaderMap;
use serde_json::Value;

use crate::RetryPolicy;

/// Whether repeating a failed request can help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RetryAdvice {
    Never,
    /// After a delay of the client's choice.
    Backoff,
    /// After the delay that the provider requested.
    After(Duration),
    /// As often as necessary for [`LOADING_LIMIT`]: the server is loading the model.
    Loading,
}

/// How long a server may load a model. It may take longer, but then the user should know that nothing happens.
pub(super) const LOADING_LIMIT: Duration = Duration::from_secs(120);

/// Delay between attempt `attempt` (from 1) and the next one, when the request has taken `elapsed` so far. `None` if
/// there is no next attempt.
pub(super) fn next_delay(
    policy: &RetryPolicy,
    attempt: u32,
    elapsed: Duration,
    advice: &RetryAdvice,
    backoff: &mut Backoff,
) -> Option<Duration> {
    /// Longest delay between two questions whether the model is loaded.
    const MAX_LOADING_DELAY: Duration = Duration::from_secs(3);
    // Jitter shortens a delay by up to half, so that clients that failed together do not retry together.
    let mut shortened = || backoff.next_delay().mul_f64(1.0 - fastrand::f64() / 2.0);
    match advice {
        RetryAdvice::Loading => {
            (elapsed < LOADING_LIMIT && policy.max_attempts > 1).then(|| shortened().min(MAX_LOADING_DELAY))
        }
        RetryAdvice::Never => None,
        _ if attempt >= policy.max_attempts.max(1) => None,
        RetryAdvice::After(requested) if *requested > policy.max_delay => None,
        // Jitter only lengthens a requested delay: clients that were rejected together must not retry too early,
        // and must not all retry at the same time.
        RetryAdvice::After(requested) => {
            Some(*requested + policy.initial_delay.mul_f64(fastrand::f64() / 2.0))
        }
        RetryAdvice::Backoff => Some(shortened()),
    }
}

/// Whether a provider says in its response headers that the request should be repeated.
pub(super) fn should_retry(headers: &HeaderMap) -> Option<bool> {
    match headers.get("x-should-retry")?.to_str().ok()?.trim() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// The delay that a provider requests in its response headers.
pub(super) fn requested_delay(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let number = |name: &str| text(name)?.parse::<f64>().ok().filter(|number| number.is_finite());
    if let Some(millis) = number("retry-after-ms") {
        return Duration::try_from_secs_f64(millis / 1000.0).ok();
    }
    if let Some(seconds) = number("retry-after") {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    text("retry-after").and_then(|text| parse_duration(text).or_else(|| until_date(text)))
}

/// The delay until the limit is reset that the server names first, for a response that requests no delay itself.
pub(super) fn reset_delay(headers: &HeaderMap) -> Option<Duration> {
    let resets = headers.iter().filter(|(name, _)| {
        let name = name.as_str();
        name.contains("ratelimit") && name.contains("reset")
    });
    // A limit with a remaining quota is not the one that was hit.
    let is_used_up = |name: &str| {
        let remaining = headers.get(name.replace("reset", "remaining"));
        remaining.is_none_or(|remaining| remaining.to_str().is_ok_and(|text| text.trim() == "0"))
    };
    resets
        .filter(|(name, _)| is_used_up(name.as_str()))
        .filter_map(|(_, value)| reset_time(value.to_str().ok()?.trim()))
        .max()
}

fn reset_time(text: &str) -> Option<Duration> {
    /// Larger numbers are points in time, in seconds or milliseconds since 1970.
    const MIN_EPOCH: f64 = 1e9;
    const MIN_EPOCH_MILLIS: f64 = 1e12;
    let Ok(number) = text.parse::<f64>() else {
        return parse_duration(text).or_else(|| until_date(text));
    };
    if number < MIN_EPOCH {
        return Duration::try_from_secs_f64(number).ok();
    }
    let millis = if number < MIN_EPOCH_MILLIS { number * 1000.0 } else { number };
    let at = Duration::try_from_secs_f64(millis / 1000.0).ok()?;
    let now = Duration::from_millis(SystemClock.now().millis_since(Timestamp::UNIX_EPOCH));
    Some(at.saturating_sub(now))
}

fn until_date(text: &str) -> Option<Duration> {
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok();
    let date = date.or_else(|| text.parse::<jiff::Timestamp>().ok())?;
    Some(Duration::from_millis(Timestamp::from(date).millis_since(SystemClock.now())))
}

/// Parses `7.66s`, `1m30s`, `250ms` or `2 minutes`.
fn parse_duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text.trim();
    let mut is_empty = true;
    while let Some((amount, after)) = leading_number(rest) {
        let unit_length = after.trim_start().find(|c: char| !c.is_ascii_alphabetic());
        let after = after.trim_start();
        let (unit, after) = after.split_at_checked(unit_length.unwrap_or(after.len()))?;
        let seconds = match unit.to_ascii_lowercase().as_str() {
            "ms" | "millisecond" | "milliseconds" => 0.001,
            "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
            "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
            "h" | "hr" | "hour" | "hours" => 3_600.0,
            "d" | "day" | "days" => 86_400.0,
            _ => break,
        };
        total = total.checked_add(Duration::try_from_secs_f64(amount * seconds).ok()?)?;
        is_empty = false;
        rest = after.strip_prefix(' ').unwrap_or(after);
    }
    (!is_empty).then_some(total)
}

fn leading_number(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at_checked(end)?;
    Some((number.trim_end_matches('.').parse().ok()?, rest))
}

/// The delay in a message such as `Please try again in 7.66s`.
pub(super) fn delay_in_text(text: &str) -> Option<Duration> {
    let text = text.to_lowercase();
    ["try again in ", "retry in ", "retry after ", "try again after ", "wait "].into_iter().find_map(
        |phrase| {
            let after = text.split_once(phrase)?.1;
            let after = ["about ", "at least ", "approximately "]
                .iter()
                .find_map(|word| after.strip_prefix(word))
                .unwrap_or(after);
            parse_duration(after)
        },
    )
}

/// The delay in a field of an error: `"2s"`, a number of seconds, or `{"seconds": 2}`.
pub(super) fn delay_of_value(value: &Value) -> Option<Duration> {
    match value {
        Value::String(text) => {
            parse_duration(text).or_else(|| Duration::try_from_secs_f64(text.trim().parse().ok()?).ok())
        }
        Value::Number(number) => Duration::try_from_secs_f64(number.as_f64()?).ok(),
        Value::Object(fields) => delay_of_value(fields.get("seconds")?),
        Value::Null | Value::Bool(_) | Value::Array(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(reqwest::header::HeaderName::from_static(name), value.parse().unwrap())])
    }

    #[test]
    fn a_requested_delay_may_be_in_seconds_milliseconds_or_a_date() {
        assert_eq!(requested_delay(&headers("retry-after", "7")), Some(Duration::from_secs(7)));
        assert_eq!(requested_delay(&headers("retry-after-ms", "250")), Some(Duration::from_millis(250)));
        assert_eq!(requested_delay(&headers("retry-after", "1m2.5s")), Some(Duration::from_millis(62_500)));
        let past = requested_delay(&headers("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT"));
        assert_eq!(past, Some(Duration::ZERO));
        let future = SystemClock.now().to_jiff() + jiff::SignedDuration::from_secs(3600);
        let date = jiff::fmt::rfc2822::DateTimePrinter::new();
        let mut text = String::new();
        date.print_timestamp_rfc9110(&future, &mut text).unwrap();
        let delay = requested_delay(&headers("retry-after", &text)).unwrap();
        assert!(delay > Duration::from_secs(3500) && delay <= Duration::from_secs(3600), "{delay:?}");
    }

    #[test]
    fn an_unreadable_header_requests_no_delay() {
        for value in ["soon", "-5", "NaN", "inf", "5 tokens"] {
            assert_eq!(requested_delay(&headers("retry-after", value)), None, "{value}");
        }
    }

    #[test]
    fn delays_double_up_to_the_maximum_and_end_with_the_attempts() {
        let policy = RetryPolicy {
            max_attempts: 4,
            initial_delay: Duration::from_millis(100),
            max_delay: Duration::from_millis(300),
        };
        let mut backoff = Backoff::new(policy.initial_delay, policy.max_delay);
        for (attempt, longest) in [(1, 100), (2, 200), (3, 300)] {
            let delay =
                next_delay(&policy, attempt, Duration::ZERO, &RetryAdvice::Backoff, &mut backoff).unwrap();
            let longest = Duration::from_millis(longest);
            assert!(delay >= longest / 2 && delay <= longest, "{attempt}: {delay:?}");
        }
        assert_eq!(next_delay(&policy, 4, Duration::ZERO, &RetryAdvice::Backoff, &mut backoff), None);
        assert_eq!(next_delay(&policy, 1, Duration::ZERO, &RetryAdvice::Never, &mut backoff), None);
    }

    #[test]
    fn a_requested_delay_is_respected_unless_it_exceeds_the_maximum() {
        let policy = RetryPolicy::default();
        let mut backoff = Backoff::new(policy.initial_delay, policy.max_delay);
        let requested = Duration::from_secs(2);
        let delay = next_delay(&policy, 1, Duration::ZERO, &RetryAdvice::After(requested), &mut backoff);
        assert!(delay.unwrap() >= requested);
        let too_long = RetryAdvice::After(Duration::from_secs(3600));
        assert_eq!(next_delay(&policy, 1, Duration::ZERO, &too_long, &mut backoff), None);
    }

    #[test]
    fn a_loading_model_is_waited_for_beyond_the_attempts_but_not_for_ever() {
        let policy = RetryPolicy::default();
        let mut backoff = Backoff::new(policy.initial_delay, policy.max_delay);
        let mut delay = |elapsed| next_delay(&policy, 50, elapsed, &RetryAdvice::Loading, &mut backoff);
        assert!(delay(Duration::from_secs(100)).unwrap() <= Duration::from_secs(3));
        assert_eq!(delay(LOADING_LIMIT), None);
    }

    #[test]
    fn a_delay_is_found_in_the_words_of_an_error() {
        for (text, seconds) in [
            ("Rate limit reached. Please try again in 7.66s. Visit x", Some(7.66)),
            ("Please try again in 1m2.5s", Some(62.5)),
            ("please retry in 250ms", Some(0.25)),
            ("Try again in 20 seconds.", Some(20.0)),
            ("Please wait 2 minutes and 3 seconds", Some(120.0)),
            ("retry after 1 minute", Some(60.0)),
            ("Try again in 1h0m0s", Some(3_600.0)),
            ("try again in a while", None),
            ("try again in 5 tokens", None),
            ("slow down", None),
        ] {
            assert_eq!(delay_in_text(text).map(|delay| delay.as_secs_f64()), seconds, "{text}");
        }
    }

    #[test]
    fn the_reset_of_the_limit_that_is_used_up_is_a_delay() {
        let mut map = headers("x-ratelimit-reset-tokens", "7.5s");
        map.extend(headers("x-ratelimit-remaining-tokens", "0"));
        map.extend(headers("x-ratelimit-reset-requests", "2h"));
        map.extend(headers("x-ratelimit-remaining-requests", "99"));
        assert_eq!(reset_delay(&map), Some(Duration::from_millis(7_500)));
        assert_eq!(reset_delay(&headers("x-ratelimit-reset", "12")), Some(Duration::from_secs(12)));
        assert_eq!(reset_delay(&headers("x-ratelimit-reset", "1000000000")), Some(Duration::ZERO));
        let soon = (SystemClock.now().to_jiff() + jiff::SignedDuration::from_secs(100)).to_string();
        let delay = reset_delay(&headers("anthropic-ratelimit-tokens-reset", &soon)).unwrap();
        assert!(delay > Duration::from_secs(90) && delay <= Duration::from_secs(100), "{delay:?}");
    }
}
