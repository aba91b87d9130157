//! What a finished invocation left behind.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use serde_json::Value;

/// What the binary wrote, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its command line, for messages.
    pub command: String,
    /// Its standard output. Bytes that are no UTF-8 are replaced; `raw_stdout` has them as they came.
    pub stdout: String,
    /// Its standard output to the byte.
    pub raw_stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: String,
    /// Its exit code; absent when a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
}

impl Output {
    pub(super) fn new(command: String, stdout: Vec<u8>, stderr: &[u8], status: ExitStatus) -> Self {
        Self {
            command,
            stdout: String::from_utf8_lossy(&stdout).into_owned(),
            raw_stdout: stdout,
            stderr: String::from_utf8_lossy(stderr).into_owned(),
            code: status.code(),
            signal: status.signal(),
        }
    }

    /// Itself, having succeeded.
    #[track_caller]
    #[must_use]
    pub fn ok(self) -> Self {
        self.fails_with(0)
    }

    /// Itself, having ended with this exit code.
    #[track_caller]
    #[must_use]
    pub fn fails_with(self, code: i32) -> Self {
        assert!(self.code == Some(code), "expected exit code {code}:\n{}", self.told());
        self
    }

    /// The one JSON document that is its standard output.
    #[track_caller]
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.raw_stdout).unwrap_or_else(|error| {
            panic!("standard output is not one JSON document: {error}\n{}", self.told())
        })
    }

    /// What stands under `error` in the JSON document that ends its standard error.
    #[track_caller]
    #[must_use]
    pub fn json_error(&self) -> Value {
        let last = self.stderr.trim_end().lines().next_back().unwrap_or_default();
        // Printed on one line, or over several and then alone.
        let document = serde_json::from_str::<Value>(last).or_else(|_| serde_json::from_str(&self.stderr));
        match document {
            Ok(Value::Object(mut fields)) if fields.contains_key("error") => {
                fields.swap_remove("error").unwrap_or_default()
            }
            other => panic!("standard error does not end with a JSON error: {other:?}\n{}", self.told()),
        }
    }

    /// Everything about it, for the message of a failed expectation.
    #[must_use]
    pub fn told(&self) -> String {
        let Self { command, stdout, stderr, code, signal, .. } = self;
        format!("$ {command}\ncode {code:?}, signal {signal:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}")
    }
}

#[cfg(test)]
mod tests {
    use super::super::Hfs;

    fn sh(script: &str) -> super::Output {
        Hfs::new("/bin/sh").run(&["-c", script])
    }

    #[test]
    fn both_streams_and_the_code_are_kept_apart() {
        let out = sh("echo out; echo err >&2; exit 3").fails_with(3);
        assert_eq!((out.stdout.as_str(), out.stderr.as_str()), ("out\n", "err\n"));
    }

    #[test]
    #[should_panic(expected = "expected exit code 0")]
    fn a_failure_taken_for_success_fails_the_test() {
        let _ = sh("exit 1").ok();
    }

    #[test]
    fn the_document_and_the_error_are_read() {
        assert_eq!(sh("echo '{\"a\":1}'").ok().json()["a"], 1);
        let out = sh("echo warning >&2; echo '{\"error\":{\"kind\":\"not_found\"}}' >&2; exit 3");
        assert_eq!(out.json_error()["kind"], "not_found");
    }

    #[test]
    #[should_panic(expected = "not one JSON document")]
    fn two_documents_are_not_one() {
        let _ = sh("echo '{}'; echo '{}'").json();
    }
}
