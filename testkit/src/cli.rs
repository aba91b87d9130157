//! The built binary in a world of its own: an empty home, a clean environment, a fixed zone and language.
//!
//! A test of the binary hands in where it is, which only its own crate knows:
//!
//! ```text
//! let hfs = Hfs::new(env!("CARGO_BIN_EXE_hfs"));
//! let listed = hfs.run(&["session", "list", "--json"]).ok().json();
//! ```
#![allow(clippy::panic, clippy::expect_used, reason = "what fails in here fails the test that called it")]

mod keys;
mod output;
mod running;
mod scrub;
mod terminal;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

pub use keys::Key;
pub use output::Output;
pub use running::Running;
pub use terminal::{Screen, Terminal};

/// How long anything may take before the test fails, unless the invocation says otherwise.
const PATIENCE: Duration = Duration::from_secs(60);
/// Where the usual programs are, such as git; nothing of the developer's own.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The binary with a home, a working directory and an environment of its own, all gone when it is dropped.
#[derive(Debug)]
pub struct Hfs {
    binary: PathBuf,
    world: tempfile::TempDir,
    environment: Vec<(OsString, OsString)>,
}

impl Hfs {
    /// The binary at `binary`, in an empty home.
    #[must_use]
    pub fn new(binary: impl Into<PathBuf>) -> Self {
        let world = tempfile::Builder::new().prefix("hfs-").tempdir().expect("make a temporary home");
        let hfs = Self { binary: binary.into(), world, environment: Vec::new() };
        for folder in [hfs.home(), hfs.project(), hfs.temporary()] {
            std::fs::create_dir(&folder).unwrap_or_else(|error| panic!("make {}: {error}", folder.display()));
        }
        hfs
    }

    /// Sets a variable for every invocation.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// The user's home directory.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        self.world.path().join("home")
    }

    /// What `HFS_HOME` says. It does not exist before the binary makes it.
    #[must_use]
    pub fn hfs_home(&self) -> PathBuf {
        self.home().join(".hfs")
    }

    /// The working directory.
    #[must_use]
    pub fn project(&self) -> PathBuf {
        self.world.path().join("project")
    }

    /// What `TMPDIR` says.
    fn temporary(&self) -> PathBuf {
        self.world.path().join("tmp")
    }

    /// Runs the binary with these arguments and an empty standard input, to its end.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).run()
    }

    /// Prepares an invocation with these arguments.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Invocation<'_> {
        Invocation {
            hfs: self,
            arguments: arguments.iter().map(OsString::from).collect(),
            environment: Vec::new(),
            folder: self.project(),
            stdin: Vec::new(),
            patience: PATIENCE,
        }
    }

    /// `text` with everything replaced that differs from run to run, for snapshots.
    ///
    /// Ids become `[id-1]`, `[id-2]` in the order of their first appearance, their short forms `[short-1]`;
    /// times, durations and this world's directories become `[time]`, `[duration]`, `[home]` and `[project]`.
    #[must_use]
    pub fn scrub(&self, text: &str) -> String {
        let folders = [
            (self.home(), "[home]"),
            (self.project(), "[project]"),
            (self.temporary(), "[tmp]"),
            (self.world.path().to_path_buf(), "[world]"),
        ];
        scrub::scrubbed(text, &folders)
    }
}

/// One invocation of the binary, before it starts.
#[derive(Debug)]
pub struct Invocation<'a> {
    hfs: &'a Hfs,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    folder: PathBuf,
    stdin: Vec<u8>,
    patience: Duration,
}

impl Invocation<'_> {
    /// Adds an argument, such as a path.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Starts it in another working directory.
    #[must_use]
    pub fn in_folder(mut self, folder: impl AsRef<Path>) -> Self {
        self.folder = folder.as_ref().to_path_buf();
        self
    }

    /// What it reads from its standard input, which ends after that.
    #[must_use]
    pub fn stdin(mut self, text: impl AsRef<[u8]>) -> Self {
        self.stdin = text.as_ref().to_vec();
        self
    }

    /// How long anything may take before the test fails.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Runs it to its end.
    #[must_use]
    pub fn run(self) -> Output {
        self.spawn().wait()
    }

    /// Starts it and leaves it running.
    #[must_use]
    pub fn spawn(self) -> Running {
        let command = self.to_command();
        Running::start(command, self.stdin, self.patience)
    }

    /// Starts it on a terminal of that many rows and columns.
    #[must_use]
    pub fn in_terminal(self, rows: u16, columns: u16) -> Terminal {
        self.on_terminal(rows, columns, false)
    }

    /// As [`in_terminal`](Self::in_terminal), on one that tells whoever asks that its ground is light.
    #[must_use]
    pub fn in_light_terminal(self, rows: u16, columns: u16) -> Terminal {
        self.on_terminal(rows, columns, true)
    }

    fn on_terminal(self, rows: u16, columns: u16, is_light: bool) -> Terminal {
        let mut command = self.to_command();
        // A person's terminal: it has colours unless the test says otherwise.
        if !self.sets("NO_COLOR") {
            command.env_remove("NO_COLOR");
        }
        if !self.sets("TERM") {
            command.env("TERM", "xterm-256color");
        }
        Terminal::start(command, (rows, columns), is_light, self.patience)
    }

    /// The command as the standard library knows it, for what this harness cannot do.
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
            .envs(self.hfs.environment.iter().map(|(name, value)| (name, value)))
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    fn sets(&self, name: &str) -> bool {
        self.hfs.environment.iter().chain(&self.environment).any(|(set, _)| set == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A shell in the binary's place.
    fn shell() -> Hfs {
        Hfs::new("/bin/sh")
    }

    #[test]
    fn nothing_of_the_developers_own_reaches_the_binary() {
        let hfs = shell().env("EVERY", "1");
        let out = hfs.command(&["-c", "env | cut -d= -f1 | sort"]).env("ONE", "2").run().ok();
        // PWD, SHLVL, _ and OLDPWD are the shell's own.
        let names: Vec<&str> =
            out.stdout.lines().filter(|name| !matches!(*name, "PWD" | "OLDPWD" | "SHLVL" | "_")).collect();
        let expected =
            ["EVERY", "HFS_HOME", "HOME", "LANG", "NO_COLOR", "ONE", "PATH", "TERM", "TMPDIR", "TZ"];
        assert_eq!(names, expected);
    }

    #[test]
    fn two_homes_have_nothing_in_common() {
        let (one, other) = (shell(), shell());
        let _ = one.run(&["-c", "mkdir $HFS_HOME && touch $HFS_HOME/a"]).ok();
        assert!(one.hfs_home().join("a").exists());
        assert!(!other.hfs_home().exists());
        assert_ne!(one.project(), other.project());
    }

    #[test]
    fn standard_input_is_given_whole_and_then_ends() {
        let text = "line\n".repeat(100_000);
        let out = shell().command(&["-c", "cat"]).stdin(&text).run().ok();
        assert_eq!(out.stdout, text);
    }

    #[test]
    fn an_argument_may_be_a_path_and_the_folder_another() {
        let hfs = shell();
        let out = hfs.command(&["-c", "pwd; echo $0"]).arg(hfs.home()).in_folder(hfs.home()).run().ok();
        assert_eq!(hfs.scrub(&out.stdout), "[home]\n[home]\n");
    }
}
