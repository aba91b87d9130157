//! An invocation that is still going on.

use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::output::Output;

/// The binary while it runs. Dropping it kills it.
#[derive(Debug)]
pub struct Running {
    command: String,
    child: Child,
    streams: Arc<Streams>,
    patience: Duration,
}

/// What it has written so far.
#[derive(Debug, Default)]
struct Streams {
    written: Mutex<Written>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct Written {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    ended: usize,
}

impl Running {
    pub(super) fn start(mut command: Command, stdin: Vec<u8>, patience: Duration) -> Self {
        let shown = shown(&command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("start {shown}: {error}"));
        let streams = Arc::new(Streams::default());
        let stdout = child.stdout.take().expect("stdout is a pipe");
        let stderr = child.stderr.take().expect("stderr is a pipe");
        let mut input = child.stdin.take().expect("stdin is a pipe");
        collect(stdout, Arc::clone(&streams), |written| &mut written.stdout);
        collect(stderr, Arc::clone(&streams), |written| &mut written.stderr);
        // A process that does not read all of its input ends the pipe, which is its good right.
        thread::spawn(move || input.write_all(&stdin).ok());
        Self { command: shown, child, streams, patience }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until its standard output has a whole line that contains `text`, and gives that line.
    ///
    /// # Panics
    /// When it ends without, or takes too long.
    #[track_caller]
    #[must_use]
    pub fn wait_for_line(&self, text: &str) -> String {
        let mut found = None;
        let is_settled = |written: &Written| {
            found = line_with(&written.stdout, text);
            found.is_some() || written.ended == 2
        };
        let in_time = self.wait_until(is_settled);
        found.unwrap_or_else(|| {
            let why = if in_time { "it ended without" } else { "it took too long" };
            panic!("waited for a line with {text:?}, but {why}:\n{}", self.so_far())
        })
    }

    /// Its standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        let written = self.streams.written.lock().expect("no reader panics");
        String::from_utf8_lossy(&written.stdout).into_owned()
    }

    /// Asks it to stop, as Ctrl-C does.
    pub fn interrupt(&self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a child has a pid");
        // One that has just ended needs no signal.
        kill_process(pid, Signal::INT).ok();
    }

    /// Ends it at once, as `kill -9` does, and gives what it had written.
    #[must_use]
    pub fn kill(mut self) -> Output {
        // One that has just ended is as good as killed.
        self.child.kill().ok();
        self.wait()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it takes too long.
    #[track_caller]
    #[must_use]
    pub fn wait(mut self) -> Output {
        let in_time = self.wait_until(|written| written.ended == 2);
        assert!(in_time, "{:?} were not enough for it:\n{}", self.patience, self.so_far());
        let status = self.reap();
        let mut written = self.streams.written.lock().expect("no reader panics");
        let stdout = std::mem::take(&mut written.stdout);
        Output::new(self.command.clone(), stdout, &written.stderr, status)
    }

    fn reap(&mut self) -> ExitStatus {
        self.child.wait().unwrap_or_else(|error| panic!("wait for {}: {error}", self.command))
    }

    /// Whether `is_settled` came true in time.
    fn wait_until(&self, mut is_settled: impl FnMut(&Written) -> bool) -> bool {
        let deadline = Instant::now() + self.patience;
        let mut written = self.streams.written.lock().expect("no reader panics");
        while !is_settled(&written) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            (written, _) = self.streams.news.wait_timeout(written, left).expect("no reader panics");
        }
        true
    }

    fn so_far(&self) -> String {
        let written = self.streams.written.lock().expect("no reader panics");
        let (stdout, stderr) =
            (String::from_utf8_lossy(&written.stdout), String::from_utf8_lossy(&written.stderr));
        format!("$ {}\n--- stdout\n{stdout}\n--- stderr\n{stderr}", self.command)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Nothing may outlive the test, which has ended already where this fails.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Reads `pipe` to its end into what `into` picks.
fn collect(
    mut pipe: impl Read + Send + 'static,
    streams: Arc<Streams>,
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
                    written.ended += 1;
                    streams.news.notify_all();
                    return;
                }
            }
            streams.news.notify_all();
        }
    });
}

/// The first whole line of `stdout` that contains `text`.
fn line_with(stdout: &[u8], text: &str) -> Option<String> {
    let whole = stdout.iter().rposition(|byte| *byte == b'\n').and_then(|end| stdout.get(..end))?;
    let whole = String::from_utf8_lossy(whole);
    whole.lines().find(|line| line.contains(text)).map(str::to_owned)
}

/// The command line of `command`, program without its folder.
pub(super) fn shown(command: &Command) -> String {
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
    use std::time::Duration;

    use super::super::Hfs;

    #[test]
    fn a_killed_process_leaves_what_it_had_written() {
        let hfs = Hfs::new("/bin/sh");
        let running = hfs.command(&["-c", "echo ready 7; exec sleep 1000"]).spawn();
        assert_eq!(running.wait_for_line("ready"), "ready 7");
        let out = running.kill();
        assert_eq!((out.stdout.as_str(), out.code, out.signal), ("ready 7\n", None, Some(9)));
    }

    #[test]
    fn an_interrupted_process_may_end_in_its_own_way() {
        let hfs = Hfs::new("/bin/sh");
        let script = "trap 'echo stopping; exit 5' INT; echo ready; while :; do sleep 0.05; done";
        let running = hfs.command(&["-c", script]).spawn();
        let _ = running.wait_for_line("ready");
        running.interrupt();
        assert_eq!(running.wait().fails_with(5).stdout, "ready\nstopping\n");
    }

    #[test]
    #[should_panic(expected = "it ended without")]
    fn waiting_for_a_line_that_never_comes_fails() {
        let _ = Hfs::new("/bin/sh").command(&["-c", "echo other"]).spawn().wait_for_line("ready");
    }

    #[test]
    #[should_panic(expected = "were not enough")]
    fn a_process_that_hangs_fails_the_test() {
        let hfs = Hfs::new("/bin/sh");
        let _ = hfs.command(&["-c", "exec sleep 1000"]).patience(Duration::from_millis(50)).run();
    }
}
