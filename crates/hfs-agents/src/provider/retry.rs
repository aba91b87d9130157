//! Decides whether a failed request is repeated, and after which delay.

use std::time::Duration;

use hfs_core::{Backoff, Clock, SystemClock, Timestamp};

use crate::RetryPolicy;

/// Whether repeating a failed request can help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RetryAdvice {
    Never,
    /// After a delay of the client's choice.
    Backoff,
    /// After the delay that the provider requested.
    After(Duration),
}

/// Delay between attempt `attempt` (from 1) and the next one. `None` if there is no next attempt.
pub(super) fn next_delay(
    policy: &RetryPolicy,
    attempt: u32,
    advice: &RetryAdvice,
    backoff: &mut Backoff,
) -> Option<Duration> {
    if attempt >= policy.max_attempts.max(1) {
        return None;
    }
    match advice {
        RetryAdvice::Never => None,
        RetryAdvice::After(requested) if *requested > policy.max_delay => None,
        // Jitter only lengthens a requested delay: clients that were rejected together must not retry too early,
        // and must not all retry at the same time.
        RetryAdvice::After(requested) => {
            Some(*requested + policy.initial_delay.mul_f64(fastrand::f64() / 2.0))
        }
        // Jitter shortens a delay by up to half, so that clients that failed together do not retry together.
        RetryAdvice::Backoff => Some(backoff.next_delay().mul_f64(1.0 - fastrand::f64() / 2.0)),
    }
}

/// The delay that a provider requests in its response headers: as milliseconds, seconds or a date.
pub(super) fn requested_delay(headers: &reqwest::header::HeaderMap) -> Option<Duration> {
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
    fn a_requested_delay_may_be_in_seconds_milliseconds_or_a_date() {
        assert_eq!(requested_delay(&headers("retry-after", "7")), Some(Duration::from_secs(7)));
        assert_eq!(requested_delay(&headers("retry-after-ms", "250")), Some(Duration::from_millis(250)));
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
        for value in ["soon", "-5", "NaN", "inf"] {
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
            let delay = next_delay(&policy, attempt, &RetryAdvice::Backoff, &mut backoff).unwrap();
            let longest = Duration::from_millis(longest);
            assert!(delay >= longest / 2 && delay <= longest, "{attempt}: {delay:?}");
        }
        assert_eq!(next_delay(&policy, 4, &RetryAdvice::Backoff, &mut backoff), None);
        assert_eq!(next_delay(&policy, 1, &RetryAdvice::Never, &mut backoff), None);
    }

    #[test]
    fn a_requested_delay_is_respected_unless_it_exceeds_the_maximum() {
        let policy = RetryPolicy::default();
        let mut backoff = Backoff::new(policy.initial_delay, policy.max_delay);
        let requested = Duration::from_secs(2);
        let delay = next_delay(&policy, 1, &RetryAdvice::After(requested), &mut backoff);
        assert!(delay.unwrap() >= requested);
        let too_long = RetryAdvice::After(Duration::from_secs(3600));
        assert_eq!(next_delay(&policy, 1, &too_long, &mut backoff), None);
    }
}
