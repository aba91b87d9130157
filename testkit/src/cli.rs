//! Runs the built binary in isolation: with an empty home, a clean environment, and a fixed time zone and locale.
//!
//! The caller passes the path of the binary, which only the crate that builds it knows:
//!
//! ```text
//! let hfs = Hfs::new(env!("CARGO_BIN_EXE_hfs"));
//! let listed = hfs.run(&["session", "list", "--json"]).ok().json();
//! ```
#![allow(clippy::panic, clippy::expect_used, reason = "a panic here fails the test that called")]

mod process;
mod terminal;

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use regex::{Captures, Regex};

use crate::postgres::{PostgresServer, TestDatabase};
pub use process::{Output, RunningProcess};
use terminal::ReportedBackground;
pub use terminal::{Key, Screen, Signal, Terminal};

/// Variable with the kind of store that the binary uses by default: `postgres` for a database of its own for each [`Hfs`], on the
/// server that all tests share. Not set: a file in its home.
const STORE: &str = "HFS_TEST_STORE";
/// Default timeout of every wait.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
/// Directories of the system's programs, such as git.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The binary with its own home, working directory and environment. Dropping it deletes the directories.
#[derive(Debug)]
pub struct Hfs {
    binary: PathBuf,
    root: tempfile::TempDir,
    environment: Vec<(OsString, OsString)>,
    database: Option<TestDatabase>,
}

impl Hfs {
    /// Creates an empty home for the binary at this path.
    #[must_use]
    pub fn new(binary: impl Into<PathBuf>) -> Self {
        let root = tempfile::Builder::new().prefix("hfs-").tempdir().expect("make a temporary home");
        let binary = binary.into();
        let database = new_database(&binary);
        let hfs = Self { binary, root, environment: Vec::new(), database };
        for folder in [hfs.home(), hfs.project(), hfs.temporary()] {
            std::fs::create_dir(&folder).unwrap_or_else(|error| panic!("make {}: {error}", folder.display()));
        }
        hfs
    }

    /// Sets an environment variable for all invocations.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// The user's home directory.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    /// The value of `HFS_HOME`. The binary creates this directory.
    #[must_use]
    pub fn hfs_home(&self) -> PathBuf {
        self.home().join(".hfs")
    }

    /// The working directory.
    #[must_use]
    pub fn project(&self) -> PathBuf {
        self.root.path().join("project")
    }

    /// The value of `TMPDIR`.
    #[must_use]
    pub fn temporary(&self) -> PathBuf {
        self.root.path().join("tmp")
    }

    /// Runs the binary with these arguments and an empty standard input, and waits for its end.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).run()
    }

    /// Creates an invocation with these arguments.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Invocation<'_> {
        Invocation {
            hfs: self,
            arguments: arguments.iter().map(OsString::from).collect(),
            environment: Vec::new(),
            folder: self.project(),
            stdin: Vec::new(),
            timeout: DEFAULT_TIMEOUT,
        }
    }

    /// Replaces everything that differs between runs, for snapshots.
    ///
    /// Ids become `[id-1]`, `[id-2]` in the order of their first appearance, and short ids `[short-1]`. Times,
    /// durations and directories become `[time]`, `[duration]`, `[home]` and `[project]`.
    #[must_use]
    pub fn scrub(&self, text: &str) -> String {
        let folders = [
            (self.home(), "[home]"),
            (self.project(), "[project]"),
            (self.temporary(), "[tmp]"),
            (self.root.path().to_path_buf(), "[root]"),
        ];
        scrub(text, &folders)
    }
}

/// A database for the store, if the tests run on PostgreSQL.
fn new_database(binary: &Path) -> Option<TestDatabase> {
    let kind = std::env::var_os(STORE)?;
    assert_eq!(kind, "postgres", "{STORE}");
    // As `CARGO_TARGET_TMPDIR`, which only the crate of the test knows.
    let cache = binary.parent().and_then(Path::parent).expect("a folder for each profile").join("tmp");
    let server = PostgresServer::shared(&cache).expect("a PostgreSQL server is installed");
    Some(server.new_database())
}

/// An invocation of the binary, before it starts.
#[derive(Debug)]
pub struct Invocation<'a> {
    hfs: &'a Hfs,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    folder: PathBuf,
    stdin: Vec<u8>,
    timeout: Duration,
}

impl Invocation<'_> {
    /// Adds an argument that need not be UTF-8, such as a path.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn in_folder(mut self, folder: impl AsRef<Path>) -> Self {
        self.folder = folder.as_ref().to_path_buf();
        self
    }

    /// Sets the content of standard input.
    #[must_use]
    pub fn stdin(mut self, text: impl AsRef<[u8]>) -> Self {
        self.stdin = text.as_ref().to_vec();
        self
    }

    /// Sets the timeout of every wait. The test fails when it expires.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Runs the binary and waits for its end.
    #[must_use]
    pub fn run(self) -> Output {
        self.spawn().wait()
    }

    /// Starts the binary and does not wait for it.
    #[must_use]
    pub fn spawn(self) -> RunningProcess {
        let command = self.to_command();
        RunningProcess::start(command, self.stdin, self.timeout)
    }

    /// Starts the binary on a terminal of this size.
    #[must_use]
    pub fn in_terminal(self, rows: u16, columns: u16) -> Terminal {
        self.start_in_terminal(rows, columns, ReportedBackground::Dark)
    }

    /// Like [`in_terminal`](Self::in_terminal), on a terminal that reports a light background when a program asks.
    #[must_use]
    pub fn in_light_terminal(self, rows: u16, columns: u16) -> Terminal {
        self.start_in_terminal(rows, columns, ReportedBackground::Light)
    }

    /// Like [`in_terminal`](Self::in_terminal), on a terminal that answers no queries.
    #[must_use]
    pub fn in_silent_terminal(self, rows: u16, columns: u16) -> Terminal {
        self.start_in_terminal(rows, columns, ReportedBackground::None)
    }

    fn start_in_terminal(self, rows: u16, columns: u16, background: ReportedBackground) -> Terminal {
        let mut command = self.to_command();
        // The default environment disables colours. On a terminal they are enabled, unless the test itself sets these
        // variables.
        if !self.sets("NO_COLOR") {
            command.env_remove("NO_COLOR");
        }
        if !self.sets("TERM") {
            command.env("TERM", "xterm-256color");
        }
        Terminal::start(command, (rows, columns), background, self.timeout)
    }

    /// The invocation as a [`Command`], for tests that need more than this type offers.
    #[must_use]
    pub fn to_command(&self) -> Command {
        let mut command = Command::new(&self.hfs.binary);
        command
            .args(&self.arguments)
            .current_dir(&self.folder)
            .env_clear()
            .env("HOME", self.hfs.home())
            .env("HFS_HOME", self.hfs.hfs_home())
            .env("TMPDIR", self.hfs.temporary())
            .env("PATH", PATH)
            .env("TZ", "UTC")
            .env("LANG", "C.UTF-8")
            .env("TERM", "dumb")
            .env("NO_COLOR", "1")
            .envs(self.hfs.database.iter().map(|database| ("HFS_STORE", database.url())))
            .envs(self.hfs.environment.iter().map(|(name, value)| (name, value)))
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    fn sets(&self, name: &str) -> bool {
        self.hfs.environment.iter().chain(&self.environment).any(|(set, _)| set == name)
    }
}

/// Words that match the pattern of a short id but are not ids.
const WORDS_LIKE_SHORT_IDS: &[&str] = &["output"];

static ID: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"));
/// The 6 letters that lists show, or all 12.
static SHORT: LazyLock<Regex> = LazyLock::new(|| pattern(r"\b(?:[k-z]{12}|[k-z]{6})\b"));
static TIME: LazyLock<Regex> = LazyLock::new(|| {
    // Three formats: RFC 3339, the times in lists, and the times in automatic session names.
    pattern(r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:\d\d)?|_\d\d-\d\d)")
});
static AGO: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"\b(?:\d+ ?(?:s|m|h|d|seconds?|minutes?|hours?|days?|weeks?|months?|years?) ago|just now)\b")
});
static DURATION: LazyLock<Regex> = LazyLock::new(|| pattern(r"\b\d+(?:\.\d+)? ?(?:ns|µs|us|ms|s|sec|min)\b"));

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the pattern is well-formed")
}

/// Replaces everything that differs between runs. `folders` lists nested directories before their parents.
fn scrub(text: &str, folders: &[(PathBuf, &str)]) -> String {
    let mut text = text.to_owned();
    for (folder, name) in folders {
        // If the temporary directory is a symbolic link, programs may print either path.
        let real = folder.canonicalize().unwrap_or_else(|_| folder.clone());
        for path in [&real, folder] {
            text = text.replace(&*path.to_string_lossy(), name);
        }
    }
    let text = number_matches(&ID, &text, "id");
    let text = number_matches(&SHORT, &text, "short");
    let text = TIME.replace_all(&text, "[time]");
    let text = AGO.replace_all(&text, "[ago]");
    DURATION.replace_all(&text, "[duration]").into_owned()
}

/// Replaces each distinct match by a number, in the order of first appearance.
fn number_matches(pattern: &Regex, text: &str, name: &str) -> String {
    let mut known: HashMap<String, usize> = HashMap::new();
    let replaced = pattern.replace_all(text, |found: &Captures<'_>| {
        let found = found.get(0).map_or("", |found| found.as_str());
        if WORDS_LIKE_SHORT_IDS.contains(&found) {
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
    use super::*;

    /// Uses a shell as the binary.
    fn shell() -> Hfs {
        Hfs::new("/bin/sh")
    }

    #[test]
    fn the_environment_of_the_developer_is_not_passed_on() {
        let hfs = shell().env("EVERY", "1");
        let out = hfs.command(&["-c", "env | cut -d= -f1 | sort"]).env("ONE", "2").run().ok();
        // The shell itself sets PWD, SHLVL, _ and OLDPWD.
        let names: Vec<&str> =
            out.stdout.lines().filter(|name| !matches!(*name, "PWD" | "OLDPWD" | "SHLVL" | "_")).collect();
        let expected =
            ["EVERY", "HFS_HOME", "HOME", "LANG", "NO_COLOR", "ONE", "PATH", "TERM", "TMPDIR", "TZ"];
        assert_eq!(names, expected);
    }

    #[test]
    fn two_homes_are_isolated_from_each_other() {
        let (one, other) = (shell(), shell());
        let _ = one.run(&["-c", "mkdir $HFS_HOME && touch $HFS_HOME/a"]).ok();
        assert!(one.hfs_home().join("a").exists());
        assert!(!other.hfs_home().exists());
        assert_ne!(one.project(), other.project());
    }

    #[test]
    fn standard_input_is_passed_completely_and_then_closed() {
        let text = "line\n".repeat(100_000);
        let out = shell().command(&["-c", "cat"]).stdin(&text).run().ok();
        assert_eq!(out.stdout, text);
    }

    #[test]
    fn arguments_may_be_paths_and_the_working_directory_can_be_set() {
        let hfs = shell();
        let out = hfs.command(&["-c", "pwd; echo $0"]).arg(hfs.home()).in_folder(hfs.home()).run().ok();
        assert_eq!(hfs.scrub(&out.stdout), "[home]\n[home]\n");
    }

    fn scrub_in_tmp(text: &str) -> String {
        scrub(text, &[("/tmp/hfs-x/home".into(), "[home]"), ("/tmp/hfs-x".into(), "[root]")])
    }

    #[test]
    fn ids_are_numbered_in_order_and_an_id_keeps_its_number() {
        let one = "0192f0c1-7e1a-7cc0-9b1e-3f2a5c6d7e8f";
        let other = "0192f0c1-7e1a-7cc0-9b1e-3f2a5c6d7e80";
        assert_eq!(scrub_in_tmp(&format!("{other} {one} {other}")), "[id-1] [id-2] [id-1]");
    }

    #[test]
    fn short_ids_are_distinguished_from_words() {
        assert_eq!(
            scrub_in_tmp("qpvuzx zyxwvutsrqpk output unknown support"),
            "[short-1] [short-2] output unknown support"
        );
    }

    #[test]
    fn times_in_all_formats_and_durations_are_replaced() {
        assert_eq!(scrub_in_tmp("at 2026-02-01T14:30:00.123456Z"), "at [time]");
        assert_eq!(scrub_in_tmp("\"2026-02-01T14:30:00Z\""), "\"[time]\"");
        assert_eq!(scrub_in_tmp("2026-02-01 14:30, 3 minutes ago, just now"), "[time], [ago], [ago]");
        assert_eq!(scrub_in_tmp("Fix login bug - 2026-02-01_14-30"), "Fix login bug - [time]");
        assert_eq!(scrub_in_tmp("took 1.25 ms, then 3s"), "took [duration], then [duration]");
    }

    #[test]
    fn nested_directories_are_replaced_first() {
        assert_eq!(scrub_in_tmp("/tmp/hfs-x/home/.hfs and /tmp/hfs-x/b"), "[home]/.hfs and [root]/b");
    }

    #[test]
    fn counts_and_dates_are_kept() {
        assert_eq!(
            scrub_in_tmp("12 messages, 3 branches, since 2026-02-01"),
            "12 messages, 3 branches, since 2026-02-01"
        );
    }
}
