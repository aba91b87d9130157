//! No operation on a session reads rows of other sessions: the plans of all its statements, as the server has executed them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "support/many_sessions.rs"]
mod many_sessions;
#[path = "support/test_server.rs"]
mod test_server;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hfs_core::{
    BranchStore as _, CheckpointStore as _, Clock as _, MessageRange, MessageStore as _, OperationKind,
    OperationStore as _, PageRequest, ReplyDelta, RunStore as _, SearchIndex as _, SearchQuery,
    SessionFilter, SessionId, SessionRef, SessionStore as _, SystemClock,
};
use serde_json::Value;
use testkit::builders::{Drafts, at, state_of};
use testkit::postgres::{Client, PostgresServer};

use many_sessions::{MESSAGES, TABLES, multiply, original};

/// Number of sessions, unless `HFS_PLAN_SESSIONS` has another one.
const SESSIONS: u32 = 1_000;
/// Maximum number of rows that one node of a plan reads. A session has fewer rows in each table.
const MAX_ROWS: u64 = 200;

/// An operation on the store.
type Step<'a> = Box<dyn Fn() + 'a>;

/// What a plan has read.
#[derive(Debug, Default)]
struct Reads {
    /// The largest number of rows that a node has read, and the query.
    rows: u64,
    query: String,
    /// Nodes that read a whole table, with the query.
    whole: Vec<String>,
}

impl Reads {
    fn add(&mut self, plan: &Value, query: &str) {
        let number = |name: &str| plan[name].as_f64().unwrap_or_default();
        let read = (number("Actual Rows")
            + number("Rows Removed by Filter")
            + number("Rows Removed by Index Recheck"))
            * number("Actual Loops");
        let table = plan["Relation Name"].as_str().unwrap_or_default();
        let is_scan = plan["Node Type"].as_str().unwrap_or_default().ends_with("Scan");
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of rows")]
        let read = read as u64;
        if is_scan && TABLES.contains(&table) {
            if read > self.rows {
                (self.rows, self.query) = (read, query.to_owned());
            }
            if plan["Node Type"] == "Seq Scan" && number("Actual Loops") > 0.0 {
                self.whole.push(format!("{table}: {query}"));
            }
        }
        for inner in plan["Plans"].as_array().into_iter().flatten() {
            self.add(inner, query);
        }
    }
}

/// The plans that the server has logged since `from`.
fn reads_since(server: &PostgresServer, from: usize) -> Reads {
    let log = server.log();
    let mut reads = Reads::default();
    for entry in log.get(from..).unwrap_or_default().split("  plan:\n").skip(1) {
        // The plan ends before the next line that does not begin with a tabulator.
        let mut json = String::new();
        for line in entry.lines().take_while(|line| line.starts_with('\t')) {
            json.push_str(line);
            json.push('\n');
        }
        let Ok(plan) = serde_json::from_str::<Value>(&json) else { panic!("not a plan: {json}") };
        reads.add(&plan["Plan"], plan["Query Text"].as_str().unwrap_or_default());
    }
    reads
}

#[test]
fn no_operation_on_a_session_reads_rows_of_other_sessions() {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let options = [
        "shared_preload_libraries=auto_explain",
        "auto_explain.log_min_duration=0",
        "auto_explain.log_analyze=on",
        "auto_explain.log_format=json",
        "autovacuum=off",
    ];
    let Some(server) = PostgresServer::start(cache, &options) else { return };
    let sessions = std::env::var("HFS_PLAN_SESSIONS").ok().and_then(|number| number.parse().ok());
    let sessions = sessions.unwrap_or(SESSIONS);
    let schema = PostgresServer::new_schema();
    let store = test_server::open(&server.url(), &schema, Arc::new(SystemClock));
    let make = Drafts::new(1);
    original(&store, &make);
    let admin = Client::connect(&server.url());
    multiply(&admin, &schema, sessions);

    // A session in the middle, with a word of its own.
    let page = PageRequest::first(50);
    let listed = store.list_sessions(&SessionFilter::default(), &page).unwrap();
    let session = listed.items[25].session.clone();
    let id: SessionId = session.id;
    let branch = session.current_branch;
    let head = MESSAGES as u64;
    let rare = store.append(at(branch, head), &[make.user("needle")]).unwrap().position;
    let checkpoint = store.list_checkpoints(id).unwrap().remove(0);
    let run = store.list_runs(id).unwrap().remove(0);
    let query =
        |text: &str, session| SearchQuery { text: text.into(), session, limit: 10, ..SearchQuery::default() };
    let now = || make.clock.now();
    let fork = make.branch("fork", at(branch, 10));
    let rewound = make.branch("rewound", at(branch, checkpoint.seq));
    let store = &store;
    let steps: Vec<(&str, Step<'_>)> = vec![
        (
            "list sessions",
            Box::new(|| {
                let _ = store.list_sessions(&SessionFilter::default(), &page).unwrap();
            }),
        ),
        (
            "open a session",
            Box::new(|| {
                store.get_session(id).unwrap();
                store.list_branches(id).unwrap();
                store.get_branch(branch).unwrap();
                store.read_messages(branch, MessageRange::Newest(100)).unwrap();
                store.list_checkpoints(id).unwrap();
                store.list_runs(id).unwrap();
                store.get_run(run).unwrap();
            }),
        ),
        (
            "resolve a name",
            Box::new(|| {
                let _ = store.resolve_session(&SessionRef::new("copy 30"), None, false).unwrap();
            }),
        ),
        (
            "resolve a short id",
            Box::new(|| {
                let _ = store.resolve_session(&SessionRef::new("kkkk30"), None, false);
            }),
        ),
        (
            "append",
            Box::new(|| {
                let _ = store.append(rare, &[make.user("appended")]).unwrap();
            }),
        ),
        (
            "stream a reply",
            Box::new(|| {
                let reply = store.begin_reply(at(branch, head + 2), &make.assistant("")).unwrap();
                store.extend_reply(reply, &[ReplyDelta::text("part")]).unwrap();
                store.finish_reply(reply, &make.assistant("reply")).unwrap();
            }),
        ),
        (
            "save a checkpoint",
            Box::new(|| {
                let draft = make.checkpoint(at(branch, head), state_of(&["new"]));
                let _ = store.create_checkpoint(&draft, 10).unwrap();
            }),
        ),
        (
            "read a state",
            Box::new(|| {
                let _ = store.load_state(checkpoint.id).unwrap();
            }),
        ),
        (
            "fork",
            Box::new(|| {
                let _ = store.create_branch(&fork, OperationKind::Fork, None, now()).unwrap();
            }),
        ),
        (
            "rewind",
            Box::new(|| {
                let kind = OperationKind::Rewind;
                let _ = store.create_branch(&rewound, kind, Some(checkpoint.id), now()).unwrap();
            }),
        ),
        (
            "undo",
            Box::new(|| {
                let newest = store.list_operations(Some(id), &PageRequest::first(1)).unwrap().items.remove(0);
                let _ = store.reverse(newest.id, OperationKind::Undo, now()).unwrap();
            }),
        ),
        (
            "list operations",
            Box::new(|| {
                let _ = store.list_operations(None, &PageRequest::first(20)).unwrap();
            }),
        ),
        ("rename", Box::new(|| store.rename_session(id, "renamed", false, now()).unwrap())),
        (
            "search a rare word",
            Box::new(|| assert_eq!(store.search(&query("needle", None)).unwrap().total, 1)),
        ),
        (
            "search a common word in a session",
            Box::new(|| {
                assert!(store.search(&query("common", Some(id))).unwrap().total >= 50);
            }),
        ),
        (
            "trash and restore",
            Box::new(|| {
                store.trash_session(id, now()).unwrap();
                store.restore_session(id, now()).unwrap();
            }),
        ),
        (
            "purge",
            Box::new(|| {
                let _ = store.purge_session(id).unwrap();
            }),
        ),
    ];
    let mut failures = Vec::new();
    for (name, step) in steps {
        // The server writes the log before it answers the next statement, but a late line of the last one may follow.
        std::thread::sleep(Duration::from_millis(100));
        let from = server.log().len();
        let started = Instant::now();
        step();
        let elapsed = started.elapsed();
        std::thread::sleep(Duration::from_millis(100));
        let reads = reads_since(&server, from);
        println!("{name}: {:.1} ms, at most {} rows", elapsed.as_secs_f64() * 1000.0, reads.rows);
        if reads.rows > MAX_ROWS {
            failures.push(format!("{name} reads {} rows: {}", reads.rows, reads.query));
        }
        failures.extend(reads.whole.iter().map(|whole| format!("{name} reads a whole table: {whole}")));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
