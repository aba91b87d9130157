//! Fixtures of the benchmarks: messages and checkpoint states of realistic sizes, stores that hold many of them, and
//! the bare SQLite database that the store is compared with.

#![allow(dead_code, reason = "each benchmark uses a part of it")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing benchmark panics")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hfs_core::{
    AgentMemory, AgentNode, AgentStatus, BranchId, CheckpointDraft, CheckpointId, CheckpointState,
    ClaimDecision, Contest, MessageDraft, MessageId, MessageStore as _, Part, PassthroughFields, PhaseSpan,
    PluginStates, Position, Role, RunSnapshot, Section, SectionStatus, SessionDraft, SessionId,
    SessionStore as _, Timestamp, TokenCount, TriadNode, Usage,
};
use hfs_store::{SqliteOptions, SqliteStore};
use rusqlite::{Connection, params};
use serde::Serialize;
use tempfile::TempDir;

/// Random numbers (xorshift) that are the same in every run.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// A number between 0 and 1.
    #[allow(clippy::cast_precision_loss, reason = "53 bits are kept")]
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// A random word. As in natural language, the frequencies follow Zipf's law: the n-th word is about 1/n as frequent as
/// the first.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the value is between 0 and 20000"
)]
pub fn word(random: &mut Random) -> String {
    let rank = 20_000_f64.powf(random.unit()) as u64 - 1;
    const SYLLABLES: [&str; 16] = [
        "ka", "lo", "mi", "ten", "ro", "su", "vel", "da", "ne", "pri", "cor", "ba", "ul", "shi", "fo", "ger",
    ];
    let mut rest = rank;
    let mut word = String::new();
    loop {
        word.push_str(SYLLABLES[usize::try_from(rest % 16).unwrap()]);
        rest /= 16;
        if rest == 0 {
            return word;
        }
    }
}

/// A random text. The lengths are distributed like those of real messages: the median is 600 bytes, the mean is 1.9 KB,
/// and 1 % have more than 20 KB.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the value is between 20 and 60000"
)]
pub fn text(random: &mut Random) -> String {
    // The sum of twelve uniform numbers is nearly normal, with a standard deviation of 1.
    let normal = (0..12).map(|_| random.unit()).sum::<f64>() - 6.0;
    let length = (600.0 * (1.5 * normal).exp()).clamp(20.0, 60_000.0) as usize;
    let mut text = String::with_capacity(length + 16);
    while text.len() < length {
        text.push_str(&word(random));
        text.push(if random.below(12) == 0 { '\n' } else { ' ' });
    }
    text
}

pub fn messages(seed: u64, count: usize) -> Vec<MessageDraft> {
    let mut random = Random::new(seed);
    (0..count)
        .map(|n| {
            let role = if n % 2 == 0 { Role::User } else { Role::Assistant };
            MessageDraft::new(role, vec![Part::text(text(&mut random))], time(n))
        })
        .collect()
}

/// The time `n` seconds after a fixed one.
pub fn time(n: usize) -> Timestamp {
    Timestamp::from_millis(1_750_000_000_000 + i64::try_from(n).unwrap() * 1000).unwrap()
}

pub fn session(n: usize) -> SessionDraft {
    SessionDraft {
        id: SessionId::generate(),
        name: format!("session {n}"),
        automatic_name: true,
        project: None,
        created_at: time(n),
        origin: None,
        extra: PassthroughFields::new(),
        main_branch: BranchId::generate(),
    }
}

/// A store in a temporary directory.
pub struct StoreFixture {
    pub store: SqliteStore,
    pub directory: TempDir,
}

impl StoreFixture {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(directory.path().join("hfs.db"), SqliteOptions::default()).unwrap();
        Self { store, directory }
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().join("hfs.db")
    }

    /// Creates an empty session. Returns the position to append at.
    pub fn create_session(&self) -> Position {
        let draft = session(0);
        self.store.create_session(&draft).unwrap();
        Position { branch: draft.main_branch, head: 0 }
    }

    /// Creates a session with `count` messages.
    pub fn create_session_with(&self, seed: u64, count: usize) -> Position {
        let mut at = self.create_session();
        for chunk in messages(seed, count).chunks(1000) {
            at = self.store.append(at, chunk).unwrap().position;
        }
        at
    }

    /// Imports sessions with the same number of messages each.
    pub fn import_sessions(&self, sessions: usize, messages_each: usize) {
        let messages = messages(7, messages_each);
        for n in 0..sessions {
            let draft = session(n);
            let mut import = self.store.import_session(&draft).unwrap();
            for message in &messages {
                let message = MessageDraft { id: MessageId::generate(), ..message.clone() };
                import.message(0, &message).unwrap();
            }
            import.finish(&draft.name, 0, draft.created_at, draft.created_at).unwrap();
        }
    }
}

/// A database with the same SQLite settings as the store, but only one table and one prepared statement.
pub struct BareDatabase {
    pub conn: Connection,
    next: i64,
}

impl BareDatabase {
    pub fn new(path: &Path) -> Self {
        let conn = Connection::open(path).unwrap();
        conn.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())).unwrap();
        conn.pragma_update(None, "synchronous", "FULL").unwrap();
        conn.pragma_update(None, "cache_size", -8192).unwrap();
        conn.execute_batch(
            "CREATE TABLE message (no INTEGER PRIMARY KEY, id BLOB NOT NULL, role INTEGER NOT NULL,
                created_at INTEGER NOT NULL, body TEXT NOT NULL) STRICT;",
        )
        .unwrap();
        Self { conn, next: 0 }
    }

    pub fn insert(&mut self, message: &MessageDraft) {
        self.next += 1;
        let Some(Part::Text { text }) = message.parts.first() else { return };
        self.conn
            .prepare_cached(
                "INSERT INTO message (no, id, role, created_at, body) VALUES (?1, ?2, ?3, ?4, ?5)",
            )
            .unwrap()
            .execute(params![
                self.next,
                message.id.as_uuid().as_bytes(),
                0,
                message.created_at.as_micros(),
                text
            ])
            .unwrap();
    }
}

/// An entry of an agent's memory.
#[derive(Debug, Clone, Serialize)]
pub struct MemoryEntry {
    role: Role,
    text: String,
}

/// Number of agents in a state. Each three form a triad.
const AGENTS: usize = 18;

/// The content of the states of a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Run snapshots; a fifth of the bytes are agent memories.
    Snapshot,
    /// Agent memories, in texts as long as messages.
    Prose,
}

/// An endless sequence of states. From each to the next, 1 to 2 % of the parts change, as in real runs.
#[derive(Debug, Clone)]
pub struct States {
    random: Random,
    sections: Vec<Section>,
    memories: Vec<Vec<MemoryEntry>>,
    /// Maximum number of entries in an agent's memory. Without a limit the states would grow from round to round.
    max_entries: usize,
    /// The step in which each agent was last active.
    active: Vec<usize>,
    step: usize,
}

impl States {
    /// Each state has about `bytes` bytes of JSON.
    pub fn new(shape: Shape, seed: u64, bytes: usize) -> Self {
        let mut random = Random::new(seed);
        let prose = if shape == Shape::Prose { bytes } else { bytes / 5 };
        let memories = vec![Vec::new(); AGENTS];
        let mut states = Self {
            random: random.clone(),
            sections: Vec::new(),
            memories,
            max_entries: 0,
            active: vec![1; AGENTS],
            step: 1,
        };
        let mut size = serde_json::to_string(&states.state()).unwrap().len();
        let mut written = 0;
        for agent in (0..AGENTS).cycle() {
            if written >= prose {
                break;
            }
            let entry = entry(&mut random, shape);
            // An entry's JSON has about 40 bytes besides its text.
            written += entry.text.len() + 40;
            states.memories[agent].push(entry);
        }
        states.max_entries = states.memories.iter().map(Vec::len).max().unwrap_or(0) + 3;
        size += written;
        while shape == Shape::Snapshot && size < bytes {
            let section = section(&mut random, states.sections.len());
            size += serde_json::to_string(&section).unwrap().len();
            states.sections.push(section);
        }
        states.random = random;
        states
    }

    pub fn next_state(&mut self) -> CheckpointState {
        let random = &mut self.random;
        // Returns 1 % of `all`, rounded up or down at random.
        let changes =
            |random: &mut Random, all: usize| all / 100 + usize::from(random.below(100) < all as u64 % 100);
        for _ in 0..changes(random, self.sections.len()) {
            let place = usize::try_from(random.below(self.sections.len() as u64)).unwrap();
            self.sections[place] = section(random, place);
        }
        let shape = if self.sections.is_empty() { Shape::Prose } else { Shape::Snapshot };
        let entries: usize = self.memories.iter().map(Vec::len).sum();
        for _ in 0..changes(random, entries) {
            let agent = usize::try_from(random.below(AGENTS as u64)).unwrap();
            self.active[agent] = self.step;
            // A new entry is added at the end. If there are too many, the oldest is removed.
            self.memories[agent].push(entry(random, shape));
            if self.memories[agent].len() > self.max_entries {
                self.memories[agent].remove(0);
            }
        }
        self.step += 1;
        self.active[self.step % AGENTS] = self.step;
        self.state()
    }

    fn state(&self) -> CheckpointState {
        let names: Vec<String> = (0..AGENTS).map(|n| format!("triad-{}/agent-{}", n / 3, n % 3)).collect();
        let agents: BTreeMap<String, AgentMemory> = names
            .iter()
            .cloned()
            .zip(self.memories.iter().map(|memory| AgentMemory::new(memory).unwrap()))
            .collect();
        let mut snapshot = RunSnapshot::default();
        let node = |(name, active): (&String, &usize)| AgentNode {
            agent_id: name.clone(),
            role: "critic".into(),
            status: AgentStatus::Working,
            model: Some("some-model-20260201".into()),
            started_at: Some(time(1)),
            ended_at: Some(time(*active)),
        };
        snapshot.agent_tree.triads = names
            .chunks(3)
            .zip(self.active.chunks(3))
            .map(|(triad, active)| TriadNode {
                triad_id: triad[0].clone(),
                preset: "dialectic".into(),
                agents: triad.iter().zip(active).map(node).collect(),
                lost: Vec::new(),
            })
            .collect();
        snapshot.negotiation.sections.clone_from(&self.sections);
        snapshot.negotiation.round = u32::try_from(self.step).unwrap();
        let count = |n: usize| {
            let usage = Usage::new((n * 997) as u64, (n * 131) as u64);
            TokenCount { usage, calls: n as u64, unknown_calls: 0 }
        };
        snapshot.usage.by_agent =
            names.iter().zip(&self.active).map(|(name, active)| (name.clone(), count(*active))).collect();
        snapshot.usage.total_tokens = 1000 * self.step as u64;
        snapshot.timeline.phases = (0..5)
            .map(|n| PhaseSpan {
                name: format!("phase {n}"),
                start: time(n),
                end: Some(time(n + 1)),
                duration_ms: Some(1000),
            })
            .collect();
        CheckpointState { run_snapshot: Arc::new(snapshot), agents, plugins: PluginStates::default() }
    }
}

fn entry(random: &mut Random, shape: Shape) -> MemoryEntry {
    let mut text = text(random);
    if shape == Shape::Snapshot {
        text.truncate(400);
    }
    MemoryEntry { role: Role::Assistant, text }
}

fn section(random: &mut Random, number: usize) -> Section {
    let name = |random: &mut Random| format!("triad-{}", random.below(6));
    let contest = |random: &mut Random, round: u32| {
        let claimants: Vec<String> = (0..3).map(|_| name(random)).collect();
        let decide = |claimant: &String, random: &mut Random| {
            let decision = [ClaimDecision::Concede, ClaimDecision::Revise, ClaimDecision::Hold];
            (claimant.clone(), decision[usize::try_from(random.below(3)).unwrap()])
        };
        let decisions = claimants.iter().map(|claimant| decide(claimant, random)).collect();
        Contest { round, temperature: random.unit(), claimants, decisions }
    };
    Section {
        name: format!("{} {} {number}", word(random), word(random)),
        status: SectionStatus::Contested,
        owners: vec![name(random)],
        claimants: (0..3).map(|_| name(random)).collect(),
        contests: (1..4).map(|round| contest(random, round)).collect(),
        arbiter: None,
    }
}

pub fn checkpoint(at: Position, n: usize, state: CheckpointState) -> CheckpointDraft {
    CheckpointDraft {
        id: CheckpointId::generate(),
        branch: at.branch,
        seq: at.head,
        trigger: "run.ended".into(),
        label: None,
        pinned: false,
        created_at: time(n),
        state,
    }
}
