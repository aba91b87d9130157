//! Taking out of a text what differs from run to run.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::LazyLock;

use regex::{Captures, Regex};

/// Words that are built like a short id of six letters and are none.
const WORDS: &[&str] = &["output"];

static ID: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"));
/// As many letters as a list shows, or all of them.
static SHORT: LazyLock<Regex> = LazyLock::new(|| pattern(r"\b(?:[k-z]{12}|[k-z]{6})\b"));
static TIME: LazyLock<Regex> = LazyLock::new(|| {
    // RFC 3339; as people read it; as it stands in a session's automatic name.
    pattern(r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:\d\d)?|_\d\d-\d\d)")
});
static AGO: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"\b(?:\d+ ?(?:s|m|h|d|seconds?|minutes?|hours?|days?|weeks?|months?|years?) ago|just now)\b")
});
static DURATION: LazyLock<Regex> = LazyLock::new(|| pattern(r"\b\d+(?:\.\d+)? ?(?:ns|µs|us|ms|s|sec|min)\b"));

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the pattern is well-formed")
}

/// `text` with stable names for what differs from run to run. Inner folders come before those around them.
pub(super) fn scrubbed(text: &str, folders: &[(PathBuf, &str)]) -> String {
    let mut text = text.to_owned();
    for (folder, name) in folders {
        // Where a temporary folder lies behind a link, programs may say either name.
        let real = folder.canonicalize().unwrap_or_else(|_| folder.clone());
        for path in [&real, folder] {
            text = text.replace(&*path.to_string_lossy(), name);
        }
    }
    let text = numbered(&ID, &text, "id");
    let text = numbered(&SHORT, &text, "short");
    let text = TIME.replace_all(&text, "[time]");
    let text = AGO.replace_all(&text, "[ago]");
    DURATION.replace_all(&text, "[duration]").into_owned()
}

/// `text` with each distinct match numbered in the order of first appearance.
fn numbered(pattern: &Regex, text: &str, name: &str) -> String {
    let mut known: HashMap<String, usize> = HashMap::new();
    let replaced = pattern.replace_all(text, |found: &Captures<'_>| {
        let found = found.get(0).map_or("", |found| found.as_str());
        if WORDS.contains(&found) {
            return found.to_owned();
        }
        let next = known.len() + 1;
        let number = known.entry(found.to_owned()).or_insert(next);
        format!("[{name}-{number}]")
    });
    replaced.into_owned()
}

#[cfg(test)]
mod tests {
    use super::scrubbed;

    fn scrub(text: &str) -> String {
        scrubbed(text, &[("/tmp/hfs-x/home".into(), "[home]"), ("/tmp/hfs-x".into(), "[world]")])
    }

    #[test]
    fn ids_are_numbered_as_they_appear_and_the_same_id_keeps_its_number() {
        let one = "0192f0c1-7e1a-7cc0-9b1e-3f2a5c6d7e8f";
        let other = "0192f0c1-7e1a-7cc0-9b1e-3f2a5c6d7e80";
        assert_eq!(scrub(&format!("{other} {one} {other}")), "[id-1] [id-2] [id-1]");
    }

    #[test]
    fn short_ids_are_told_from_words() {
        assert_eq!(
            scrub("qpvuzx zyxwvutsrqpk output unknown support"),
            "[short-1] [short-2] output unknown support"
        );
    }

    #[test]
    fn times_in_every_dress_and_durations_go() {
        assert_eq!(scrub("at 2026-02-01T14:30:00.123456Z"), "at [time]");
        assert_eq!(scrub("\"2026-02-01T14:30:00Z\""), "\"[time]\"");
        assert_eq!(scrub("2026-02-01 14:30, 3 minutes ago, just now"), "[time], [ago], [ago]");
        assert_eq!(scrub("Fix login bug - 2026-02-01_14-30"), "Fix login bug - [time]");
        assert_eq!(scrub("took 1.25 ms, then 3s"), "took [duration], then [duration]");
    }

    #[test]
    fn folders_go_the_inner_ones_first() {
        assert_eq!(scrub("/tmp/hfs-x/home/.hfs and /tmp/hfs-x/b"), "[home]/.hfs and [world]/b");
    }

    #[test]
    fn counts_and_plain_dates_stay() {
        assert_eq!(
            scrub("12 messages, 3 branches, since 2026-02-01"),
            "12 messages, 3 branches, since 2026-02-01"
        );
    }
}
