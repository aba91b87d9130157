//! Counts of passed, failed and skipped tests, parsed from the output of the test runners.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result};

/// A test that cannot run prints a line with this prefix and the reason, and passes.
const SKIPPED_PREFIX: &str = "skipped: ";

/// The summary of one or more test runs.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub passed: usize,
    pub failed: usize,
    pub ignored: usize,
    /// Reasons of skipped tests, or of skipped parts of tests.
    pub skipped: BTreeSet<String>,
    /// A run failed although no test failed: it did not build, or was aborted.
    pub is_broken: bool,
}

impl Summary {
    /// Parses the JUnit report of cargo-nextest.
    pub fn from_junit(xml: &str) -> Result<Self> {
        let head = xml
            .lines()
            .find(|line| line.contains("<testsuites "))
            .context("find the totals in the JUnit report")?;
        let count = |name: &str| -> Result<usize> {
            let (_, rest) =
                head.split_once(&format!(" {name}=\"")).with_context(|| format!("find {name} in {head}"))?;
            let (digits, _) =
                rest.split_once('"').with_context(|| format!("find the end of {name} in {head}"))?;
            digits.parse().with_context(|| format!("read {name} in {head}"))
        };
        let failed = count("failures")? + count("errors")?;
        let mut summary = Self { passed: count("tests")?.saturating_sub(failed), failed, ..Self::default() };
        for line in xml.lines() {
            summary.add_skip(&xml_text(line));
        }
        Ok(summary)
    }

    /// Parses a line of the output of `cargo test`.
    pub fn add_line(&mut self, line: &str) {
        self.add_skip(line);
        let Some(totals) = line.strip_prefix("test result: ") else { return };
        for part in totals.split(['.', ';']) {
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

    fn add_skip(&mut self, line: &str) {
        if let Some(reason) = line.trim().strip_prefix(SKIPPED_PREFIX) {
            self.skipped.insert(reason.to_owned());
        }
    }

    /// Adds the summary of another run.
    pub fn add(&mut self, mut other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.skipped.append(&mut other.skipped);
        self.is_broken |= other.is_broken;
    }

    /// Whether all runs completed without failures.
    pub fn is_ok(&self) -> bool {
        self.failed == 0 && !self.is_broken
    }

    /// The summary in the format of Rust's test harness.
    pub fn closing_line(&self, elapsed: Duration) -> String {
        let verdict = if self.is_ok() { "ok" } else { "FAILED" };
        let Self { passed, failed, ignored, .. } = self;
        let seconds = elapsed.as_secs_f64();
        let broken = if self.is_broken { " (a part did not build or was aborted)" } else { "" };
        format!(
            "test result: {verdict}. {passed} passed; {failed} failed; {ignored} ignored; 0 measured; \
             0 filtered out; finished in {seconds:.2}s{broken}"
        )
    }
}

/// The text of a line of XML without tags.
fn xml_text(xml: &str) -> String {
    let segments = xml.split('<').enumerate();
    let text: String = segments
        .map(|(index, segment)| match segment.split_once('>') {
            Some((_tag, text)) if index > 0 => text,
            _ => segment,
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
    fn a_junit_report_is_parsed_with_its_skips() {
        let summary = Summary::from_junit(JUNIT).unwrap();
        assert_eq!((summary.passed, summary.failed), (3, 2));
        let skips: Vec<_> = summary.skipped.iter().map(String::as_str).collect();
        assert_eq!(skips, ["no folder <samples> & none named", "something else"]);
        assert!(!summary.is_ok());
    }

    #[test]
    fn a_report_without_totals_is_an_error() {
        assert!(Summary::from_junit("<testsuites name=\"x\">").is_err());
        assert!(Summary::from_junit("").is_err());
    }

    #[test]
    fn the_results_of_several_binaries_are_added() {
        let mut summary = Summary::default();
        summary.add_line(
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.01s",
        );
        summary.add_line(
            "test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s",
        );
        summary.add_line("test a ... ok");
        assert_eq!((summary.passed, summary.failed, summary.ignored), (14, 1, 1));
    }

    #[test]
    fn a_failed_build_is_not_a_success() {
        let mut summary = Summary { passed: 3, ..Summary::default() };
        summary.add(Summary { is_broken: true, ..Summary::default() });
        assert!(!summary.is_ok());
        assert!(summary.closing_line(Duration::from_millis(1500)).starts_with(
            "test result: FAILED. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.50s"
        ));
    }

    #[test]
    fn the_closing_line_can_be_parsed() {
        let summary = Summary { passed: 7, failed: 2, ignored: 1, ..Summary::default() };
        let mut again = Summary::default();
        again.add_line(&summary.closing_line(Duration::ZERO));
        assert_eq!(again, summary);
    }
}
