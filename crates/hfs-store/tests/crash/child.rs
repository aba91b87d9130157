//! Starting, hearing and killing processes.

use std::env;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

const PLAY: &str = "HFS_STORE_TEST_PLAY";
const STORE: &str = "HFS_STORE_TEST_STORE";
const SEED: &str = "HFS_STORE_TEST_SEED";

/// Before each acknowledgement, so that it is told from what the test harness prints.
const ACKNOWLEDGED: &str = "acknowledged ";

/// What a child is to do.
pub struct Part {
    pub play: String,
    pub store: PathBuf,
    pub seed: u64,
}

impl Part {
    pub fn new(play: &str, store: &Path, seed: u64) -> Self {
        Self { play: play.into(), store: store.into(), seed }
    }

    /// The part that this process was started for.
    pub fn given() -> Option<Self> {
        let play = env::var(PLAY).ok()?;
        let seed = env::var(SEED).ok()?.parse().ok()?;
        Some(Self { play, store: env::var_os(STORE)?.into(), seed })
    }

    pub fn start(&self) -> Playing {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["child", "--exact", "--ignored", "--nocapture"])
            .env(PLAY, &self.play)
            .env(STORE, &self.store)
            .env(SEED, self.seed.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Playing { child, lines }
    }
}

/// Tells the parent what has been done. It hears that even if this process dies right behind it.
pub fn acknowledge(what: &str) {
    let mut out = std::io::stdout().lock();
    // At the beginning of a line, whatever the harness has printed.
    out.write_all(format!("\n{ACKNOWLEDGED}{what}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// A child at work.
pub struct Playing {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Playing {
    /// The next thing that it acknowledges; `None` once it has ended.
    pub fn hear(&mut self) -> Option<String> {
        for line in self.lines.by_ref() {
            if let Some(what) = line.unwrap().strip_prefix(ACKNOWLEDGED) {
                return Some(what.to_owned());
            }
        }
        None
    }

    /// Kills it a random moment after it has acknowledged so much. Returns everything that it acknowledged.
    pub fn kill_after(mut self, count: usize, rng: &mut fastrand::Rng) -> Vec<String> {
        let mut heard = Vec::new();
        while heard.len() < count {
            heard.push(self.hear().unwrap_or_else(|| panic!("the child ended before it was killed")));
        }
        // Not synchronisation: this is the randomness of the moment.
        thread::sleep(Duration::from_micros(rng.u64(0..3000)));
        self.child.kill().unwrap();
        while let Some(what) = self.hear() {
            heard.push(what);
        }
        assert!(!self.child.wait().unwrap().success());
        heard
    }

    /// Waits for its end, which must be a good one. Returns everything that it acknowledged.
    pub fn finish(mut self) -> Vec<String> {
        let mut heard = Vec::new();
        while let Some(what) = self.hear() {
            heard.push(what);
        }
        assert!(self.child.wait().unwrap().success(), "the child failed");
        heard
    }
}

impl Drop for Playing {
    fn drop(&mut self) {
        // Nothing is left running when an expectation fails; one that has ended already is no failure.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
