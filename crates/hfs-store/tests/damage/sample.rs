//! A store with rows in every table, and the pages of each row.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;

use hfs_core::{
    AttachmentStore, BranchId, BranchStore, CheckpointId, CheckpointStore, Maintenance, MessageId,
    MessageStore, OperationKind, OperationStore, PageRequest, ReplyDelta, RunId, RunStore, SearchIndex,
    SearchQuery, SessionId, SessionStore,
};
use hfs_store::{SqliteOptions, SqliteStore};
use rusqlite::Connection;
use testkit::builders::{Drafts, at, attachment, growing_state};

/// Page size of the database.
pub const PAGE: usize = 4096;

/// What a test expects to find after a repair.
#[derive(Debug, Clone)]
pub enum Item {
    Session(SessionId, String),
    Branch(BranchId, String),
    Message(MessageId, u64, String),
    Checkpoint(CheckpointId),
    Run(RunId),
    Operation(SessionId, String),
}

pub struct Row {
    pub item: Item,
    /// All pages that hold parts of the item.
    pub pages: BTreeSet<u32>,
}

impl Row {
    pub fn check(&self, store: &SqliteStore) -> Result<(), String> {
        let text = |error: hfs_core::StoreError| error.to_string();
        match &self.item {
            Item::Session(id, name) => {
                let found = store.get_session(*id).map_err(text)?.session.name;
                if found == *name { Ok(()) } else { Err(format!("its name is {found:?}")) }
            }
            Item::Branch(id, name) => {
                let found = store.get_branch(*id).map_err(text)?.name;
                if found == *name { Ok(()) } else { Err(format!("its name is {found:?}")) }
            }
            Item::Message(id, seq, content) => {
                let found = store.get_message(*id).map_err(text)?;
                if found.seq != *seq {
                    return Err(format!("its seq is {}", found.seq));
                }
                let found = found.content.text();
                if found == *content { Ok(()) } else { Err(format!("its text is {found:?}")) }
            }
            Item::Checkpoint(id) => store.load_state(*id).map(drop).map_err(text),
            Item::Run(id) => store.get_run(*id).map(drop).map_err(text),
            Item::Operation(session, id) => {
                let found = store.list_operations(None, &PageRequest::first(10_000)).map_err(text)?;
                let is_there = found.items.iter().any(|operation| operation.id.to_string() == *id);
                if is_there { Ok(()) } else { Err(format!("session {session}")) }
            }
        }
    }
}

pub struct Sample {
    pub database: Vec<u8>,
    pub log: Vec<u8>,
    /// The same store in one file.
    pub checkpointed: Vec<u8>,
    pub rows: Vec<Row>,
    /// Number of pages.
    pub pages: u32,
    /// The newest frame of each page that the log holds.
    pub newest_frames: HashMap<u32, usize>,
    commits: Vec<usize>,
    pub schema_pages: Vec<u32>,
}

impl Sample {
    pub fn create() -> Self {
        Self::with_sessions_from(0)
    }

    /// A store whose sessions have numbers from `first`, and other ids than those with other numbers.
    pub fn with_sessions_from(first: u64) -> Self {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("hfs.db");
        let store = SqliteStore::open(&path, SqliteOptions::default()).unwrap();
        fill(&store, first..first + 5);
        store.search(&SearchQuery { text: "question".into(), limit: 10, ..SearchQuery::default() }).unwrap();
        // Compresses the messages. Those of the other sessions stay in their rows.
        store.vacuum().unwrap();
        // Empties the log, which then gets the rest.
        let other = Connection::open(&path).unwrap();
        other.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        fill(&store, first + 5..first + 8);
        let (database, log) = (fs::read(&path).unwrap(), fs::read(home.path().join("hfs.db-wal")).unwrap());
        let rows = rows(&other, &store);
        let (newest_frames, commits) = frames(&log);
        let pages: u32 = other.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
        let schema_pages = page_numbers(&other, "sqlite_schema");
        other.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        let checkpointed = fs::read(&path).unwrap();
        Self { database, log, checkpointed, rows, pages, newest_frames, commits, schema_pages }
    }

    /// The first frame of the transaction that the frame belongs to.
    pub fn transaction_start(&self, frame: usize) -> usize {
        self.commits.iter().rfind(|commit| **commit < frame).map_or(0, |commit| commit + 1)
    }
}

fn fill(store: &SqliteStore, sessions: std::ops::Range<u64>) {
    let make = Drafts::new(sessions.start);
    for number in sessions {
        let session = store.create_session(&make.session(&format!("session {number}"))).unwrap();
        let text = |n: u64| {
            format!(
                "a question with number {n} of {number} {}",
                "and more words ".repeat(usize::try_from(n % 40).unwrap())
            )
        };
        let drafts: Vec<_> = (0..60).map(|n| make.user(&text(n))).collect();
        let here = store.append(at(session.current_branch, 0), &drafts).unwrap().position;
        let long = "a long text in several overflow pages ".repeat(600);
        let here = store.append(here, &[make.user(&long)]).unwrap().position;
        let bytes = attachment(&[u8::try_from(number).unwrap(); 20_000]);
        store.put_attachment(&bytes).unwrap();
        let here = store.append(here, &[make.full_message(&bytes)]).unwrap().position;
        for state in 0..5 {
            let draft =
                make.checkpoint(at(here.branch, state * 3), growing_state(usize::try_from(state).unwrap()));
            store.create_checkpoint(&draft, 10).unwrap();
        }
        store.save_run(&make.run(here.branch)).unwrap();
        let fork = make.branch("side", at(here.branch, 20));
        store.create_branch(&fork, OperationKind::Fork, None, make.now()).unwrap();
        let aside = store.append(at(fork.id, 20), &[make.user("aside"), make.assistant("answer")]).unwrap();
        store.rename_session(session.id, &format!("renamed {number}"), false, make.now()).unwrap();
        match number % 3 {
            0 => store.trash_session(session.id, make.now()).unwrap(),
            1 => {
                let reply = store.begin_reply(aside.position, &make.assistant("")).unwrap();
                let delta = ReplyDelta::text("half an answer");
                store.extend_reply(reply, &[delta]).unwrap();
                store.finish_reply(reply, &make.assistant("a whole answer")).unwrap();
            }
            _ => {}
        }
    }
}

/// The frames of an intact log: the newest of each page, and those that commit.
fn frames(log: &[u8]) -> (HashMap<u32, usize>, Vec<usize>) {
    let number = |at: usize| u32::from_be_bytes(log[at..at + 4].try_into().unwrap());
    let (mut newest, mut commits) = (HashMap::new(), Vec::new());
    for frame in 0..(log.len() - 32) / (24 + PAGE) {
        let header = 32 + frame * (24 + PAGE);
        // Frames of an earlier use of the file have another salt.
        if log[header + 8..header + 16] != log[16..24] {
            break;
        }
        newest.insert(number(header), frame);
        if number(header + 4) > 0 {
            commits.push(frame);
        }
    }
    (newest, commits)
}

fn page_numbers(conn: &Connection, table: &str) -> Vec<u32> {
    conn.prepare("SELECT pageno FROM dbstat WHERE name = ?1")
        .unwrap()
        .query_map([table], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

/// The pages of each row of a table. SQLite's dbstat lists the leaves with their numbers of rows, in the order of the
/// rows, and the overflow pages with the number of their row.
fn pages_of_rows(conn: &Connection, table: &str) -> BTreeMap<i64, BTreeSet<u32>> {
    let mut select = conn
        .prepare("SELECT path, pageno, ncell, pagetype FROM dbstat WHERE name = ?1 ORDER BY path")
        .unwrap();
    let mut leaves = Vec::new();
    let mut overflow: HashMap<(String, usize), Vec<u32>> = HashMap::new();
    let mut found = select.query([table]).unwrap();
    while let Some(row) = found.next().unwrap() {
        let (path, page, cells, kind): (String, u32, usize, String) =
            (row.get(0).unwrap(), row.get(1).unwrap(), row.get(2).unwrap(), row.get(3).unwrap());
        match kind.as_str() {
            "leaf" => leaves.push((path, page, cells)),
            "overflow" => {
                let (cell, _) = path.split_once('+').unwrap();
                let (leaf, cell) = cell.rsplit_once('/').unwrap();
                let cell = usize::from_str_radix(cell, 16).unwrap();
                overflow.entry((format!("{leaf}/"), cell)).or_default().push(page);
            }
            _ => {}
        }
    }
    let mut numbers = conn.prepare(&format!("SELECT rowid FROM {table} NOT INDEXED ORDER BY rowid")).unwrap();
    let mut numbers = numbers.query_map([], |row| row.get::<_, i64>(0)).unwrap().map(Result::unwrap);
    let mut pages = BTreeMap::new();
    for (path, page, cells) in leaves {
        for cell in 0..cells {
            let row = numbers.next().unwrap();
            let more = overflow.get(&(path.clone(), cell)).into_iter().flatten().copied();
            pages.insert(row, std::iter::once(page).chain(more).collect());
        }
    }
    assert_eq!(numbers.next(), None, "{table}: each row has a page");
    pages
}

fn rows(conn: &Connection, store: &SqliteStore) -> Vec<Row> {
    let uuid = |bytes: [u8; 16]| uuid::Uuid::from_bytes(bytes);
    let mut rows = Vec::new();
    let mut add = |table: &str,
                   sql: &str,
                   item: &dyn Fn(&rusqlite::Row<'_>) -> Item,
                   more: &dyn Fn(&rusqlite::Row<'_>) -> BTreeSet<u32>| {
        let pages = pages_of_rows(conn, table);
        let mut select = conn.prepare(sql).unwrap();
        let mut found = select.query([]).unwrap();
        while let Some(row) = found.next().unwrap() {
            let mut pages = pages[&row.get::<_, i64>(0).unwrap()].clone();
            pages.extend(more(row));
            rows.push(Row { item: item(row), pages });
        }
    };
    let nothing = |_: &rusqlite::Row<'_>| BTreeSet::new();
    add(
        "session",
        "SELECT no, id, name FROM session",
        &|row| Item::Session(SessionId::from_uuid(uuid(row.get(1).unwrap())), row.get(2).unwrap()),
        &nothing,
    );
    add(
        "branch",
        "SELECT no, id, name FROM branch",
        &|row| Item::Branch(BranchId::from_uuid(uuid(row.get(1).unwrap())), row.get(2).unwrap()),
        &nothing,
    );
    let blocks = pages_of_rows(conn, "block");
    add(
        "message",
        "SELECT no, id, no - block_index FROM message",
        &|row| {
            let id = MessageId::from_uuid(uuid(row.get(1).unwrap()));
            let message = store.get_message(id).unwrap();
            Item::Message(id, message.seq, message.content.text())
        },
        &|row| {
            let block: Option<i64> = row.get(2).unwrap();
            block.map(|block| blocks[&block].clone()).unwrap_or_default()
        },
    );
    let states = pages_of_rows(conn, "state");
    add(
        "checkpoint",
        "SELECT checkpoint.no, checkpoint.id, checkpoint.state, ifnull(state.base, state.no)
        FROM checkpoint JOIN state ON state.no = checkpoint.state",
        &|row| Item::Checkpoint(CheckpointId::from_uuid(uuid(row.get(1).unwrap()))),
        &|row| {
            let (state, base): (i64, i64) = (row.get(2).unwrap(), row.get(3).unwrap());
            states[&state].union(&states[&base]).copied().collect()
        },
    );
    add(
        "run",
        "SELECT no, id FROM run",
        &|row| Item::Run(RunId::from_uuid(uuid(row.get(1).unwrap()))),
        &nothing,
    );
    add(
        "operation",
        "SELECT operation.no, operation.id, session.id FROM operation JOIN session ON session.no = operation.session",
        &|row| {
            let session = SessionId::from_uuid(uuid(row.get(2).unwrap()));
            Item::Operation(session, hfs_core::OperationId::from_uuid(uuid(row.get(1).unwrap())).to_string())
        },
        &nothing,
    );
    rows
}
