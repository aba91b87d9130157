//! Plain `cargo test`: its output passed on and summed up.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::tally::Tally;
use crate::shell;

/// Runs `command`, a `cargo test`.
///
/// The output of passing tests is looked through for skips but not shown.
pub fn run(command: &mut Command) -> Result<Tally> {
    let shown = shell::shown(command);
    eprintln!("$ {shown}");
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("run {shown}"))?;
    let stdout = child.stdout.take().with_context(|| format!("read what {shown} writes"))?;
    let mut tally = Tally::default();
    let mut screen = Screen::default();
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.with_context(|| format!("read what {shown} writes"))?;
        let line = String::from_utf8_lossy(&line);
        tally.note_line(&line);
        if screen.shows(&line) {
            println!("{line}");
        }
    }
    let status = child.wait().with_context(|| format!("wait for {shown}"))?;
    tally.is_broken = !status.success() && tally.failed == 0;
    Ok(tally)
}

/// Hides the section in which the test harness repeats what passing tests printed.
#[derive(Debug, Default)]
struct Screen {
    is_hiding: bool,
}

impl Screen {
    fn shows(&mut self, line: &str) -> bool {
        if line == "successes:" {
            self.is_hiding = true;
        } else if line == "failures:" || line.starts_with("test result: ") {
            self.is_hiding = false;
        }
        !self.is_hiding
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passing_tests_printed_is_hidden_and_failures_are_not() {
        let lines = [
            "test a ... ok",
            "successes:",
            "---- a stdout ----",
            "noise",
            "successes:",
            "    a",
            "failures:",
            "---- b stdout ----",
            "test result: FAILED. 1 passed; 1 failed",
        ];
        let mut screen = Screen::default();
        let shown: Vec<_> = lines.into_iter().filter(|line| screen.shows(line)).collect();
        assert_eq!(shown, [lines[0], lines[6], lines[7], lines[8]]);
    }
}
