//! What the benchmarks stand on: messages of the sizes that real ones have, stores that hold many, and the bare
//! database that everything is measured beside.

#![allow(dead_code, reason = "each benchmark uses a part of it")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark that cannot go on ends")]

pub mod states;

use std::path::Path;

use hfs_core::{
    BranchId, MessageDraft, MessageStore as _, Part, Position, Role, SessionDraft, SessionId,
    SessionStore as _, Timestamp,
};
use hfs_store::{SqliteOptions, SqliteStore};
use rusqlite::{Connection, params};
use tempfile::TempDir;

/// The same numbers in every run.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
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

/// Words as often as language has them: the n-th about 1/n as often as the first.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is between 0 and 20000")]
pub fn word(dice: &mut Dice) -> String {
    let rank = 20_000_f64.powf(dice.unit()) as u64 - 1;
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

/// A text as long as messages are: half of them under 600 bytes, the mean 1.9 KB, one in a hundred over 20 KB.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is between 20 and 60000")]
pub fn text(dice: &mut Dice) -> String {
    // Twelve uniform numbers make one that is nearly normal.
    let normal = (0..12).map(|_| dice.unit()).sum::<f64>() - 6.0;
    let length = (600.0 * (1.5 * normal).exp()).clamp(20.0, 60_000.0) as usize;
    let mut text = String::with_capacity(length + 16);
    while text.len() < length {
        text.push_str(&word(dice));
        text.push(if dice.below(12) == 0 { '\n' } else { ' ' });
    }
    text
}

pub fn messages(seed: u64, count: usize) -> Vec<MessageDraft> {
    let mut dice = Dice::new(seed);
    (0..count)
        .map(|n| {
            let role = if n % 2 == 0 { Role::User } else { Role::Assistant };
            MessageDraft::new(role, vec![Part::text(text(&mut dice))], time(n))
        })
        .collect()
}

/// A time, later for a greater number.
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
        extra: hfs_core::PassthroughFields::new(),
        main_branch: BranchId::generate(),
    }
}

/// A store in a directory of its own.
pub struct Ground {
    pub store: SqliteStore,
    pub directory: TempDir,
}

impl Ground {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(directory.path().join("hfs.db"), SqliteOptions::default()).unwrap();
        Self { store, directory }
    }

    pub fn path(&self) -> std::path::PathBuf {
        self.directory.path().join("hfs.db")
    }

    /// Makes an empty session; the place to append at.
    pub fn session(&self) -> Position {
        let draft = session(0);
        self.store.create_session(&draft).unwrap();
        Position { branch: draft.main_branch, head: 0 }
    }

    /// Makes a session with so many messages.
    pub fn talk(&self, seed: u64, count: usize) -> Position {
        let mut at = self.session();
        for chunk in messages(seed, count).chunks(1000) {
            at = self.store.append(at, chunk).unwrap().position;
        }
        at
    }

    /// Makes so many sessions of so many messages each.
    pub fn crowd(&self, sessions: usize, each: usize) {
        let messages = messages(7, each);
        for n in 0..sessions {
            let draft = session(n);
            let mut import = self.store.import_session(&draft).unwrap();
            for message in &messages {
                let fresh = MessageDraft { id: hfs_core::MessageId::generate(), ..message.clone() };
                import.message(0, &fresh).unwrap();
            }
            import.finish(&draft.name, 0, draft.created_at, draft.created_at).unwrap();
        }
    }
}

/// One table, one prepared statement, the same SQLite with the same settings.
pub struct Bare {
    pub conn: Connection,
    next: i64,
}

impl Bare {
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
