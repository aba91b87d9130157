//! Processes without a terminal: their output, and waiting for them.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// The output and exit status of a finished process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Command line, for messages.
    pub command: String,
    /// Standard output. Invalid UTF-8 is replaced; see `raw_stdout`.
    pub stdout: String,
    /// Standard output as bytes.
    pub raw_stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
    /// Exit code; `None` if a signal ended the process.
    pub code: Option<i32>,
    /// The signal that ended the process.
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

    /// Asserts that the process succeeded.
    #[track_caller]
    #[must_use]
    pub fn ok(self) -> Self {
        self.fails_with(0)
    }

    /// Asserts that the process ended with this exit code.
    #[track_caller]
    #[must_use]
    pub fn fails_with(self, code: i32) -> Self {
        assert!(self.code == Some(code), "expected exit code {code}:\n{}", self.describe());
        self
    }

    /// Parses standard output as one JSON document.
    #[track_caller]
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.raw_stdout).unwrap_or_else(|error| {
            panic!("standard output is not one JSON document: {error}\n{}", self.describe())
        })
    }

    /// The `error` field of the JSON document at the end of standard error.
    #[track_caller]
    #[must_use]
    pub fn json_error(&self) -> Value {
        let last = self.stderr.trim_end().lines().next_back().unwrap_or_default();
        // The document is either the last line, or the whole output on several lines.
        let document = serde_json::from_str::<Value>(last).or_else(|_| serde_json::from_str(&self.stderr));
        match document {
            Ok(Value::Object(mut fields)) if fields.contains_key("error") => {
                fields.swap_remove("error").unwrap_or_default()
            }
            other => panic!("standard error does not end with a JSON error: {other:?}\n{}", self.describe()),
        }
    }

    /// Everything about the process, for the message of a failed assertion.
    #[must_use]
    pub fn describe(&self) -> String {
        let Self { command, stdout, stderr, code, signal, .. } = self;
        format!("$ {command}\ncode {code:?}, signal {signal:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}")
    }
}

/// A running process. Dropping it kills the process.
#[derive(Debug)]
pub struct RunningProcess {
    command: String,
    child: Child,
    streams: Arc<OutputStreams>,
    timeout: Duration,
}

/// The output so far, shared with the threads that read it.
#[derive(Debug, Default)]
struct OutputStreams {
    written: Mutex<Written>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Written {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    closed_streams: usize,
}

impl RunningProcess {
    pub(super) fn start(mut command: Command, stdin: Vec<u8>, timeout: Duration) -> Self {
        let command_line = command_line(&command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("start {command_line}: {error}"));
        let streams = Arc::new(OutputStreams::default());
        let stdout = child.stdout.take().expect("stdout is a pipe");
        let stderr = child.stderr.take().expect("stderr is a pipe");
        let mut input = child.stdin.take().expect("stdin is a pipe");
        collect(stdout, Arc::clone(&streams), |written| &mut written.stdout);
        collect(stderr, Arc::clone(&streams), |written| &mut written.stderr);
        // Ignore errors: a process may exit without reading all of its input.
        thread::spawn(move || input.write_all(&stdin).ok());
        Self { command: command_line, child, streams, timeout }
    }

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a complete line of standard output that contains `text`, and returns the line.
    ///
    /// # Panics
    /// Panics if the process ends without one, or on timeout.
    #[track_caller]
    #[must_use]
    pub fn wait_for_line(&self, text: &str) -> String {
        let mut found = None;
        let is_done = |written: &Written| {
            found = line_with(&written.stdout, text);
            found.is_some() || written.closed_streams == 2
        };
        let in_time = self.wait_until(is_done);
        found.unwrap_or_else(|| {
            let why = if in_time { "the process ended without one" } else { "it timed out" };
            panic!("waited for a line with {text:?}, but {why}:\n{}", self.describe())
        })
    }

    /// Standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        let written = self.streams.written.lock().expect("no reader panics");
        String::from_utf8_lossy(&written.stdout).into_owned()
    }

    /// Sends SIGINT, as Ctrl-C does.
    pub fn interrupt(&self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a child has a pid");
        // Ignore errors: the process may just have ended.
        kill_process(pid, Signal::INT).ok();
    }

    /// Sends SIGKILL, and returns the output so far.
    #[must_use]
    pub fn kill(mut self) -> Output {
        // Ignore errors: the process may just have ended.
        self.child.kill().ok();
        self.wait()
    }

    /// Waits for the end of the process.
    ///
    /// # Panics
    /// Panics on timeout.
    #[track_caller]
    #[must_use]
    pub fn wait(mut self) -> Output {
        let in_time = self.wait_until(|written| written.closed_streams == 2);
        assert!(in_time, "not finished after {:?}:\n{}", self.timeout, self.describe());
        let status = self.reap();
        let mut written = self.streams.written.lock().expect("no reader panics");
        let stdout = std::mem::take(&mut written.stdout);
        Output::new(self.command.clone(), stdout, &written.stderr, status)
    }

    fn reap(&mut self) -> ExitStatus {
        self.child.wait().unwrap_or_else(|error| panic!("wait for {}: {error}", self.command))
    }

    /// Waits for the condition. Returns `false` on timeout.
    fn wait_until(&self, mut is_done: impl FnMut(&Written) -> bool) -> bool {
        let deadline = Instant::now() + self.timeout;
        let mut written = self.streams.written.lock().expect("no reader panics");
        while !is_done(&written) {
            let remaining = deadline.saturating_duration_since(Instant::now());
            if remaining.is_zero() {
                return false;
            }
            (written, _) = self.streams.changed.wait_timeout(written, remaining).expect("no reader panics");
        }
        true
    }

    fn describe(&self) -> String {
        let written = self.streams.written.lock().expect("no reader panics");
        let (stdout, stderr) =
            (String::from_utf8_lossy(&written.stdout), String::from_utf8_lossy(&written.stderr));
        format!("$ {}\n--- stdout\n{stdout}\n--- stderr\n{stderr}", self.command)
    }
}

impl Drop for RunningProcess {
    fn drop(&mut self) {
        // Ignore errors: the process may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Starts a thread that reads the pipe into the buffer that `into` selects.
fn collect(
    mut pipe: impl Read + Send + 'static,
    streams: Arc<OutputStreams>,
    into: fn(&mut Written) -> &mut Vec<u8>,
) {
    thread::spawn(move || {
        let mut buffer = [0; 8192];
        loop {
            let read = pipe.read(&mut buffer).unwrap_or(0);
            let mut written = streams.written.lock().expect("no reader panics");
            match buffer.get(..read) {
                Some(bytes) if read > 0 => into(&mut written).extend_from_slice(bytes),
                _ => {
                    written.closed_streams += 1;
                    streams.changed.notify_all();
                    return;
                }
            }
            streams.changed.notify_all();
        }
    });
}

/// The first complete line that contains `text`.
fn line_with(stdout: &[u8], text: &str) -> Option<String> {
    let complete = stdout.iter().rposition(|byte| *byte == b'\n').and_then(|end| stdout.get(..end))?;
    let complete = String::from_utf8_lossy(complete);
    complete.lines().find(|line| line.contains(text)).map(str::to_owned)
}

/// The command line, with the program's name instead of its path.
pub(super) fn command_line(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let mut line = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

#[cfg(test)]
mod tests {
    use super::super::Hfs;
    use super::*;

    fn sh(script: &str) -> Output {
        Hfs::new("/bin/sh").run(&["-c", script])
    }

    #[test]
    fn both_streams_and_the_exit_code_are_captured() {
        let out = sh("echo out; echo err >&2; exit 3").fails_with(3);
        assert_eq!((out.stdout.as_str(), out.stderr.as_str()), ("out\n", "err\n"));
    }

    #[test]
    #[should_panic(expected = "expected exit code 0")]
    fn an_unexpected_exit_code_fails_the_test() {
        let _ = sh("exit 1").ok();
    }

    #[test]
    fn json_output_and_json_errors_are_parsed() {
        assert_eq!(sh("echo '{\"a\":1}'").ok().json()["a"], 1);
        let out = sh("echo warning >&2; echo '{\"error\":{\"kind\":\"not_found\"}}' >&2; exit 3");
        assert_eq!(out.json_error()["kind"], "not_found");
    }

    #[test]
    #[should_panic(expected = "not one JSON document")]
    fn several_json_documents_are_rejected() {
        let _ = sh("echo '{}'; echo '{}'").json();
    }

    #[test]
    fn the_output_of_a_killed_process_is_kept() {
        let hfs = Hfs::new("/bin/sh");
        let running = hfs.command(&["-c", "echo ready 7; exec sleep 1000"]).spawn();
        assert_eq!(running.wait_for_line("ready"), "ready 7");
        let out = running.kill();
        assert_eq!((out.stdout.as_str(), out.code, out.signal), ("ready 7\n", None, Some(9)));
    }

    #[test]
    fn an_interrupted_process_can_handle_the_signal() {
        let hfs = Hfs::new("/bin/sh");
        let script = "trap 'echo stopping; exit 5' INT; echo ready; while :; do sleep 0.05; done";
        let running = hfs.command(&["-c", script]).spawn();
        let _ = running.wait_for_line("ready");
        running.interrupt();
        assert_eq!(running.wait().fails_with(5).stdout, "ready\nstopping\n");
    }

    #[test]
    #[should_panic(expected = "the process ended without one")]
    fn waiting_for_a_line_fails_when_the_process_ends() {
        let _ = Hfs::new("/bin/sh").command(&["-c", "echo other"]).spawn().wait_for_line("ready");
    }

    #[test]
    #[should_panic(expected = "not finished after")]
    fn a_hanging_process_fails_the_test_after_the_timeout() {
        let hfs = Hfs::new("/bin/sh");
        let _ = hfs.command(&["-c", "exec sleep 1000"]).timeout(Duration::from_millis(50)).run();
    }
}
