//! Commands of the binary that are killed at a random moment: what any command has shown is still there, and what an
//! unfinished one has left does not disturb the next ones.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::cli::{Hfs, Output};
use testkit::model_server::{ModelServer, Protocol, Script};

/// Planted in sessions that are purged.
const WORD: &str = "zebrafinchword";

fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    NewChat,
    Chat,
    Stream,
    Import,
    Rewind,
    Undo,
    Prune,
    Purge,
    Repair,
    InstallPlugin,
}

const KINDS: [Kind; 10] = [
    Kind::NewChat,
    Kind::Chat,
    Kind::Stream,
    Kind::Import,
    Kind::Rewind,
    Kind::Undo,
    Kind::Prune,
    Kind::Purge,
    Kind::Repair,
    Kind::InstallPlugin,
];

struct Home {
    hfs: Hfs,
    server: ModelServer,
    random: fastrand::Rng,
    /// The ids of all messages that were seen in each session, on any branch.
    seen: BTreeMap<String, BTreeSet<String>>,
    /// How long each kind of command takes, so that most kills hit it while it works.
    durations: BTreeMap<Kind, Duration>,
    /// Kills of commands that had not ended, by kind.
    killed: BTreeMap<Kind, u64>,
    round: u64,
}

fn strings(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

impl Home {
    fn new(seed: u64) -> Self {
        let server = ModelServer::start();
        server.otherwise(|_| Script::chunks((0..40).map(|n| format!("part {n} of the reply\n"))));
        let hfs = Hfs::new(env!("CARGO_BIN_EXE_hfs"))
            .env("HFS_BASE_URL", server.url(Protocol::OpenAi))
            .env("HFS_PROVIDER", "openai")
            .env("HFS_MODEL", "test-model")
            .env("OPENAI_API_KEY", "test-key-0123456789");
        let random = fastrand::Rng::with_seed(seed);
        let (seen, durations, killed) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { hfs, server, random, seen, durations, killed, round: 0 }
    }

    fn json(&self, arguments: &[&str]) -> Value {
        self.hfs.run(&[arguments, &["--json"]].concat()).ok().json()
    }

    fn any_session(&mut self) -> String {
        let number = self.random.usize(0..self.seen.len());
        self.seen.keys().nth(number).unwrap().clone()
    }

    /// Runs a command and kills it at a random moment. Returns its output, if it ended before.
    fn kill(&mut self, kind: Kind, arguments: &[String], stdin: &str) -> Option<Output> {
        let usual = self.durations.get(&kind).copied().unwrap_or(Duration::from_millis(60));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let began = Instant::now();
        let running = self.hfs.command(&arguments).stdin(stdin).spawn();
        let most = u64::try_from(usual.as_micros()).unwrap() * 11 / 10;
        std::thread::sleep(Duration::from_micros(self.random.u64(0..most)));
        let output = running.kill();
        if output.signal.is_some() {
            *self.killed.entry(kind).or_default() += 1;
            // Approaches the duration from below, since a command that was killed has taken longer.
            let elapsed = began.elapsed();
            self.durations.entry(kind).and_modify(|known| *known = (*known).max(elapsed)).or_insert(elapsed);
            return None;
        }
        assert_eq!(output.code, Some(0), "{}", output.describe());
        self.durations.insert(kind, (usual * 3 + began.elapsed()) / 4);
        Some(output)
    }

    fn chat(&mut self, kind: Kind, session: Option<&str>) {
        let text = format!("question {} {}", self.round, "with some words ".repeat(self.random.usize(0..40)));
        if kind == Kind::Stream {
            let parts = (0..60).map(|n| format!("streamed part {n}\n"));
            self.server.then(Script::chunks(parts));
        }
        let mut arguments = strings(&["chat", "--json"]);
        if let Some(session) = session {
            arguments.extend(strings(&["-s", session]));
        }
        arguments.push(text);
        if let Some(output) = self.kill(kind, &arguments, "") {
            let done = output.json();
            let session = done["session"].as_str().unwrap().to_owned();
            let reply = done["message"]["id"].as_str().unwrap().to_owned();
            self.seen.entry(session).or_default().insert(reply);
        }
    }

    fn perform(&mut self, kind: Kind) {
        let session = if self.seen.is_empty() { None } else { Some(self.any_session()) };
        match (kind, session) {
            (Kind::NewChat, _) => self.chat(kind, None),
            (Kind::Chat | Kind::Stream, Some(session)) => self.chat(kind, Some(&session)),
            (Kind::Import, _) => self.import(),
            (Kind::Rewind, Some(session)) => {
                let head = self.json(&["session", "show", &session])["messages"].as_array().unwrap().len();
                let place = format!("seq:{}", self.random.usize(0..=head));
                self.kill(kind, &strings(&["rewind", &session, &place]), "");
            }
            (Kind::Undo, Some(session)) => {
                // Something to undo.
                let _ = self.hfs.run(&["branch", "create", &session]).ok();
                self.kill(kind, &strings(&["undo", &session]), "");
            }
            (Kind::Prune, Some(session)) => {
                let created = self.json(&["checkpoint", "create", &session]);
                let number = created["checkpoint"]["number"].to_string();
                self.kill(kind, &strings(&["checkpoint", "delete", &session, &number]), "");
            }
            (Kind::Purge, _) => self.purge(),
            (Kind::Repair, _) => self.repair(),
            (Kind::InstallPlugin, _) => self.install_plugin(),
            (Kind::Chat | Kind::Stream | Kind::Rewind | Kind::Undo | Kind::Prune, None) => {}
        }
    }

    fn import(&mut self) {
        let messages: Vec<Value> = (0..self.random.usize(2..400))
            .map(|n| {
                let role = if n % 2 == 0 { "user" } else { "assistant" };
                serde_json::json!({"role": role, "content": format!("round {}: imported {n}", self.round)})
            })
            .collect();
        let count = messages.len();
        let transcript = Value::from(messages).to_string();
        let done = self.kill(Kind::Import, &strings(&["import", "-", "--json"]), &transcript);
        let expected =
            done.map(|output| output.json()["imported"][0]["session"].as_str().unwrap().to_owned());
        // The session is there completely or not at all.
        let name = format!("round {}: ", self.round);
        let found = self.json(&["session", "list", "--all", "-n", "10000"]);
        let found = found["sessions"].as_array().unwrap().iter();
        let found: Vec<&Value> =
            found.filter(|row| row["name"].as_str().unwrap().starts_with(&name)).collect();
        assert!(found.len() <= 1 && (expected.is_none() || found.len() == 1));
        for row in found {
            assert_eq!(row["messages"], count, "an import is complete or has left nothing");
        }
    }

    /// Purges a session. Afterwards it is there as before, or nothing of it is left.
    fn purge(&mut self) {
        let text = format!("{WORD} {}", self.round);
        let created = self.json(&["chat", &text]);
        let session = created["session"].as_str().unwrap().to_owned();
        let purged = self.kill(Kind::Purge, &strings(&["session", "delete", &session, "--purge"]), "");
        let shown = self.hfs.run(&["session", "show", &session, "--json"]);
        match shown.code {
            Some(0) => {
                assert!(purged.is_none());
                assert_eq!(shown.json()["messages"].as_array().unwrap().len(), 2, "it is complete");
                let _ = self.hfs.run(&["session", "delete", &session, "--purge"]).ok();
            }
            code => assert_eq!(code, Some(3), "{}", shown.describe()),
        }
        for path in files(&self.hfs.hfs_home()) {
            let bytes = fs::read(&path).unwrap();
            assert!(memchr::memmem::find(&bytes, WORD.as_bytes()).is_none(), "{}", path.display());
        }
    }

    /// Damages a copy of the store and repairs it, first in a process that is killed.
    fn repair(&mut self) {
        let folder = self.hfs.project().join("copy");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        let copy = folder.join("hfs.db");
        let path = copy.to_str().unwrap().to_owned();
        let _ = self.hfs.run(&["store", "backup", &path]).ok();
        let url = format!("sqlite:{path}");
        let sessions = self.json(&["--store", &url, "store", "info"])["sessions"].clone();
        // The first page has the header and the schema, and no rows.
        let mut bytes = fs::read(&copy).unwrap();
        bytes[..4096].fill(0);
        fs::write(&copy, bytes).unwrap();
        self.kill(Kind::Repair, &strings(&["--store", &url, "store", "repair"]), "");
        let _ = self.hfs.run(&["--store", &url, "store", "repair"]).ok();
        assert_eq!(self.json(&["--store", &url, "store", "verify"])["ok"], true);
        assert_eq!(self.json(&["--store", &url, "store", "info"])["sessions"], sessions);
        let left = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name());
        let left: Vec<_> = left.filter(|name| name.to_str().unwrap().contains("-repair")).collect();
        assert!(left.is_empty(), "{left:?}");
    }

    fn install_plugin(&mut self) {
        let source = self.hfs.project().join("mine");
        if !source.exists() {
            let _ = self.hfs.run(&["plugin", "new", "mine", "--lang", "python"]).ok();
            for number in 0..200 {
                fs::write(source.join(format!("module_{number}.py")), "X = 1\n".repeat(500)).unwrap();
            }
        }
        let version = format!("0.1.{}", self.round);
        let manifest = fs::read_to_string(source.join("manifest.yaml")).unwrap();
        let lines: Vec<String> =
            manifest
                .lines()
                .map(|line| {
                    if line.starts_with("version:") { format!("version: {version}") } else { line.to_owned() }
                })
                .collect();
        fs::write(source.join("manifest.yaml"), lines.join("\n") + "\n").unwrap();
        let before = self.json(&["plugin", "list"])["plugins"].as_array().unwrap().clone();
        let source = source.to_str().unwrap().to_owned();
        let done = self.kill(Kind::InstallPlugin, &strings(&["plugin", "install", &source]), "");
        let after = self.json(&["plugin", "list"])["plugins"].as_array().unwrap().clone();
        if done.is_some() || after != before {
            assert_eq!(after.len(), 1);
            assert_eq!((&after[0]["version"], &after[0]["state"]), (&version.into(), &"pending".into()));
        }
        let _ = self.hfs.run(&["plugin", "install", &source]).ok();
        let plugins = fs::read_dir(self.hfs.hfs_home().join("plugins")).unwrap();
        let names: Vec<_> = plugins.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["mine"], "a killed installation leaves nothing");
    }

    /// Everything that was seen once is still there, and the store is intact.
    fn check(&mut self) {
        assert_eq!(self.json(&["store", "verify"])["ok"], true, "after round {}", self.round);
        let listed = self.json(&["session", "list", "--all", "-n", "10000"]);
        let listed: Vec<&str> =
            listed["sessions"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap()).collect();
        for session in self.seen.keys() {
            assert!(listed.contains(&session.as_str()), "session {session} is lost");
        }
        if listed.is_empty() {
            return;
        }
        // One session is compared each time, since a document of all of them takes long.
        let session = listed[self.random.usize(0..listed.len())];
        let document: Value =
            serde_json::from_str(&self.hfs.run(&["export", "-q", session, "-o", "-"]).ok().stdout).unwrap();
        let branches = document["branches"].as_array().unwrap().iter();
        let messages = branches.flat_map(|branch| branch["messages"].as_array().unwrap());
        let found: BTreeSet<String> =
            messages.map(|message| message["id"].as_str().unwrap().to_owned()).collect();
        let seen = self.seen.entry(session.to_owned()).or_default();
        let lost: Vec<&String> = seen.difference(&found).collect();
        assert!(lost.is_empty(), "messages of {session} are lost after round {}: {lost:?}", self.round);
        *seen = found;
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

#[test]
fn a_killed_command_loses_nothing() {
    let (count, seed) = (from_env("HFS_CRASH_KILLS", 30), from_env("HFS_CRASH_SEED", 20_260_201));
    let mut home = Home::new(seed);
    // A home that grows without end would make the last rounds slow.
    const ROUNDS_PER_HOME: u64 = 250;
    let (mut kills, mut by_kind) = (0, BTreeMap::<Kind, u64>::new());
    let mut round = 0;
    while kills < count {
        round += 1;
        home.round = round;
        let kind = KINDS[usize::try_from(round).unwrap() % KINDS.len()];
        let before: u64 = home.killed.values().sum();
        home.perform(kind);
        home.check();
        kills += home.killed.values().sum::<u64>() - before;
        if round.is_multiple_of(ROUNDS_PER_HOME) {
            home.killed.iter().for_each(|(kind, count)| *by_kind.entry(*kind).or_default() += count);
            home = Home::new(seed + round);
        }
    }
    home.killed.iter().for_each(|(kind, count)| *by_kind.entry(*kind).or_default() += count);
    println!("{kills} commands killed in {round} rounds, seed {seed}: {by_kind:?}");
}
