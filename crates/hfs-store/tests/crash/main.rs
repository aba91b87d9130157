//! Acknowledged writes survive `kill -9`, and each operation happens completely or not at all.
//!
//! A test starts this test binary again as a child process, in which the test [`child`] runs one of the scenarios. The
//! child prints a line (an acknowledgement) after each write has returned. The test kills the child at a random moment
//! and compares the store with the acknowledgements.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stdout,
    reason = "tests fail by panicking; child processes print what they have done"
)]

mod contention;
mod maintenance;
mod messages;
mod power;
mod structure;

use std::env;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use hfs_core::Store;
use hfs_store::{SqliteOptions, SqliteStore};

use power::DurableLog;

/// Number of kills per scenario, unless `HFS_CRASH_KILLS` sets it. `cargo xtask crash kills` does so for a long run.
fn kills(default: u64) -> u64 {
    from_env("HFS_CRASH_KILLS", default)
}

/// Seed of the random moments of the kills.
fn seed() -> u64 {
    from_env("HFS_CRASH_SEED", 20_260_201)
}

fn from_env(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |value| value.parse().unwrap())
}

#[test]
fn acknowledged_messages_survive_kills() {
    messages::survives_kills(kills(100), seed());
}

#[test]
fn acknowledged_messages_survive_power_cuts() {
    messages::survives_power_cuts(kills(20), seed());
}

#[test]
fn each_structural_change_happens_completely_or_not_at_all_despite_kills() {
    structure::survives_kills(kills(100), seed());
}

#[test]
fn a_killed_import_leaves_the_complete_session_or_nothing() {
    structure::imports_survive_kills(kills(25), seed());
}

#[test]
fn a_killed_purge_is_finished_later_and_leaves_no_text() {
    maintenance::purges_survive_kills(kills(15), seed());
}

#[test]
fn a_killed_repair_can_be_repeated_and_loses_nothing() {
    maintenance::repairs_survive_kills(kills(15), seed());
}

#[test]
fn a_killed_conversion_to_blocks_loses_no_message() {
    maintenance::conversions_survive_kills(kills(15), seed());
}

#[test]
fn sixteen_processes_have_only_stated_conflicts() {
    contention::only_stated_conflicts(from_env(contention::SECONDS, 3));
}

#[test]
fn eight_processes_append_to_one_store_and_to_one_session() {
    messages::concurrent_writers(0);
}

#[test]
fn killed_processes_do_not_disturb_the_others() {
    messages::concurrent_writers(3);
}

/// The work of a child process.
#[derive(Debug, Clone, Copy)]
enum Scenario {
    /// Appends messages and streams replies until it is killed.
    Messages,
    /// Makes checkpoints, rewinds, forks, undoes and deletes until it is killed.
    Structure,
    /// Imports sessions until it is killed.
    Imports,
    /// Purges sessions until it is killed.
    Purges,
    /// Repairs a damaged store.
    Repair,
    /// Moves messages to blocks and back until it is killed.
    Conversions,
    /// Sends messages and replies beside other processes for this time.
    Exchanges { seconds: u64 },
    /// Appends a fixed number of times to a session that it shares with other processes, and exits.
    ConcurrentWriter,
    /// Like `ConcurrentWriter`, until it is killed.
    EndlessConcurrentWriter,
}

impl Scenario {
    const ALL: [Self; 8] = [
        Self::Messages,
        Self::Structure,
        Self::Imports,
        Self::Purges,
        Self::Repair,
        Self::Conversions,
        Self::ConcurrentWriter,
        Self::EndlessConcurrentWriter,
    ];
}

/// Entry point of the child process. Does nothing unless another test has started it.
#[test]
#[ignore = "the other tests start it in a child process"]
fn child() {
    let Some((scenario, job)) = Job::from_env() else { return };
    match scenario {
        Scenario::Messages => messages::append_and_stream(&job),
        Scenario::Structure => structure::change_structure(&job),
        Scenario::Imports => structure::import_sessions(&job),
        Scenario::Purges => maintenance::purge_sessions(&job),
        Scenario::Repair => maintenance::repair(&job),
        Scenario::Conversions => maintenance::convert(&job),
        Scenario::Exchanges { seconds } => contention::exchange_messages(&job, seconds),
        Scenario::ConcurrentWriter => messages::append_concurrently(&job, messages::ROUNDS),
        Scenario::EndlessConcurrentWriter => messages::append_concurrently(&job, u64::MAX),
    }
}

const SCENARIO: &str = "HFS_STORE_TEST_SCENARIO";
const STORE: &str = "HFS_STORE_TEST_STORE";
const SEED: &str = "HFS_STORE_TEST_SEED";

/// Prefix of acknowledgements. The output also contains lines of the test harness.
const ACKNOWLEDGED: &str = "acknowledged ";
/// Prefix of the line before an acknowledgement: what is durable in the write-ahead log.
const DURABLE: &str = "durable ";

/// The parameters of a child process.
struct Job {
    store: PathBuf,
    seed: u64,
}

impl Job {
    /// The scenario and parameters that this process was started with.
    fn from_env() -> Option<(Scenario, Self)> {
        let name = env::var(SCENARIO).ok()?;
        let exchanges = Scenario::Exchanges { seconds: from_env(contention::SECONDS, 3) };
        let mut scenarios = Scenario::ALL.into_iter().chain([exchanges]);
        let scenario = scenarios.find(|scenario| format!("{scenario:?}") == name)?;
        let seed = env::var(SEED).ok()?.parse().ok()?;
        Some((scenario, Self { store: env::var_os(STORE)?.into(), seed }))
    }
}

fn start(scenario: Scenario, store: &Path, seed: u64) -> ChildProcess {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["child", "--exact", "--ignored", "--nocapture"])
        .env(SCENARIO, format!("{scenario:?}"))
        .env(STORE, store)
        .env(SEED, seed.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    ChildProcess { child, lines, durable: Vec::new() }
}

/// Prints an acknowledgement. It is flushed, so the test reads it even if the child is killed directly afterwards.
fn acknowledge(what: &str) {
    let durable = DurableLog::read(Path::new(&env::var_os(STORE).unwrap())).to_line();
    let mut out = std::io::stdout().lock();
    // Starts a new line, because the harness may have printed part of one.
    out.write_all(format!("\n{DURABLE}{durable}\n{ACKNOWLEDGED}{what}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

struct ChildProcess {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// The write-ahead log at each acknowledgement.
    durable: Vec<DurableLog>,
}

impl ChildProcess {
    /// Returns the next acknowledgement, or `None` if the child has ended.
    fn next_acknowledgement(&mut self) -> Option<String> {
        let mut durable = None;
        for line in self.lines.by_ref() {
            let line = line.unwrap();
            if let Some(log) = line.strip_prefix(DURABLE) {
                durable = Some(DurableLog::from_line(log));
            }
            if let Some(what) = line.strip_prefix(ACKNOWLEDGED) {
                self.durable.extend(durable);
                return Some(what.to_owned());
            }
        }
        None
    }

    /// Kills the child a random time after its acknowledgement number `count`. Returns all its acknowledgements.
    fn kill_after(self, count: usize, random: &mut fastrand::Rng) -> Vec<String> {
        self.kill_with_log(count, random).0
    }

    /// Like [`ChildProcess::kill_after`]. Also returns the write-ahead log at each acknowledgement.
    fn kill_with_log(mut self, count: usize, random: &mut fastrand::Rng) -> (Vec<String>, Vec<DurableLog>) {
        let mut acknowledged = Vec::new();
        while acknowledged.len() < count {
            let next = self.next_acknowledgement();
            acknowledged.push(next.unwrap_or_else(|| panic!("the child ended before it was killed")));
        }
        // This sleep is not a synchronization. It only varies the moment of the kill.
        thread::sleep(Duration::from_micros(random.u64(0..3000)));
        self.child.kill().unwrap();
        while let Some(what) = self.next_acknowledgement() {
            acknowledged.push(what);
        }
        assert!(!self.child.wait().unwrap().success());
        (acknowledged, std::mem::take(&mut self.durable))
    }

    /// Kills the child at a random moment within this time.
    fn kill_within(mut self, time: Duration, random: &mut fastrand::Rng) {
        let most = u64::try_from(time.as_micros()).unwrap();
        thread::sleep(Duration::from_micros(random.u64(0..most)));
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until the child ends successfully. Returns all its acknowledgements.
    fn finish(mut self) -> Vec<String> {
        let mut acknowledged = Vec::new();
        while let Some(what) = self.next_acknowledgement() {
            acknowledged.push(what);
        }
        assert!(self.child.wait().unwrap().success(), "the child failed");
        acknowledged
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        // Needed only if the test fails. Killing a child that has already exited is an error, which is ignored.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path, SqliteOptions::default()).unwrap()
}

#[track_caller]
fn assert_intact(store: &dyn Store) {
    let verification = store.verify().unwrap();
    assert!(verification.is_ok(), "{:#?}", verification.problems);
}
