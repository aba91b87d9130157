//! Counting what the test runners report.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result};

/// What a test that passes without having tested prints, followed by why.
const SKIPPED: &str = "skipped: ";

/// The sum of one or several test runs.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub passed: usize,
    pub failed: usize,
    pub ignored: usize,
    /// Why tests, or parts of tests, were skipped.
    pub skipped: BTreeSet<String>,
    /// A run failed though no test did: it did not build, or was stopped.
    pub is_broken: bool,
}

impl Tally {
    /// The sum in cargo-nextest's JUnit report, with the skips that passing tests tell of.
    pub fn of_junit(xml: &str) -> Result<Self> {
        let head = xml
            .lines()
            .find(|line| line.contains("<testsuites "))
            .context("find the sum in the JUnit report")?;
        let count = |name: &str| -> Result<usize> {
            let (_, rest) =
                head.split_once(&format!(" {name}=\"")).with_context(|| format!("find {name} in {head}"))?;
            let (digits, _) =
                rest.split_once('"').with_context(|| format!("find the end of {name} in {head}"))?;
            digits.parse().with_context(|| format!("read {name} in {head}"))
        };
        let failed = count("failures")? + count("errors")?;
        let mut tally = Self { passed: count("tests")?.saturating_sub(failed), failed, ..Self::default() };
        for line in xml.lines() {
            tally.note_skip(&text_of(line));
        }
        Ok(tally)
    }

    /// Takes in one line that `cargo test` printed.
    pub fn note_line(&mut self, line: &str) {
        self.note_skip(line);
        let Some(sums) = line.strip_prefix("test result: ") else { return };
        for part in sums.split(['.', ';']) {
            let mut words = part.split_whitespace();
            let (Some(Ok(count)), Some(what)) = (words.next().map(str::parse::<usize>), words.next()) else {
                continue;
            };
            match what {
                "passed" => self.passed += count,
                "failed" => self.failed += count,
                "ignored" => self.ignored += count,
                _ => {}
            }
        }
    }

    fn note_skip(&mut self, line: &str) {
        if let Some(reason) = line.trim().strip_prefix(SKIPPED) {
            self.skipped.insert(reason.to_owned());
        }
    }

    /// Adds the sum of another run.
    pub fn add(&mut self, mut other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.skipped.append(&mut other.skipped);
        self.is_broken |= other.is_broken;
    }

    /// Whether everything that ran, ran and passed.
    pub fn is_ok(&self) -> bool {
        self.failed == 0 && !self.is_broken
    }

    /// The sum in the form that Rust's own test harness ends with.
    pub fn closing_line(&self, elapsed: Duration) -> String {
        let verdict = if self.is_ok() { "ok" } else { "FAILED" };
        let Self { passed, failed, ignored, .. } = self;
        let seconds = elapsed.as_secs_f64();
        let broken = if self.is_broken { " (a part did not build or was stopped)" } else { "" };
        format!(
            "test result: {verdict}. {passed} passed; {failed} failed; {ignored} ignored; 0 measured; \
             0 filtered out; finished in {seconds:.2}s{broken}"
        )
    }
}

/// What a line of XML says, its tags aside.
fn text_of(xml: &str) -> String {
    let pieces = xml.split('<').enumerate();
    let text: String = pieces
        .map(|(index, piece)| match piece.split_once('>') {
            Some((_tag, text)) if index > 0 => text,
            _ => piece,
        })
        .collect();
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&apos;", "'")
        .replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    const JUNIT: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="nextest-run" tests="5" failures="1" errors="1" uuid="0" time="0.01">
    <testsuite name="hfs-core" tests="5" disabled="0" errors="1" failures="1">
        <testcase name="a" classname="hfs-core"><system-out>
running 1 test
skipped: no folder &lt;samples&gt; &amp; none named
test a ... ok</system-out></testcase>
        <testcase name="b"><system-err>skipped: something else</system-err></testcase>
"#;

    #[test]
    fn a_junit_report_is_summed_up_with_its_skips() {
        let tally = Tally::of_junit(JUNIT).unwrap();
        assert_eq!((tally.passed, tally.failed), (3, 2));
        let skips: Vec<_> = tally.skipped.iter().map(String::as_str).collect();
        assert_eq!(skips, ["no folder <samples> & none named", "something else"]);
        assert!(!tally.is_ok());
    }

    #[test]
    fn a_report_without_a_sum_is_an_error_rather_than_nothing_failed() {
        assert!(Tally::of_junit("<testsuites name=\"x\">").is_err());
        assert!(Tally::of_junit("").is_err());
    }

    #[test]
    fn the_results_of_several_binaries_add_up() {
        let mut tally = Tally::default();
        tally.note_line(
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.01s",
        );
        tally.note_line(
            "test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s",
        );
        tally.note_line("test a ... ok");
        assert_eq!((tally.passed, tally.failed, tally.ignored), (14, 1, 1));
    }

    #[test]
    fn what_does_not_build_is_no_success() {
        let mut tally = Tally { passed: 3, ..Tally::default() };
        tally.add(Tally { is_broken: true, ..Tally::default() });
        assert!(!tally.is_ok());
        assert!(tally.closing_line(Duration::from_millis(1500)).starts_with(
            "test result: FAILED. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.50s"
        ));
    }

    #[test]
    fn the_closing_line_can_be_read_back() {
        let tally = Tally { passed: 7, failed: 2, ignored: 1, ..Tally::default() };
        let mut again = Tally::default();
        again.note_line(&tally.closing_line(Duration::ZERO));
        assert_eq!(again, tally);
    }
}
