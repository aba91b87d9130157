use std::fmt::Write;

use hfs_core::{
    BranchId, Checkpoint, CheckpointId, MessageId, MessageRange, MessageStatus, Operation, OperationKind,
    PageRequest, SearchQuery, SessionAttributes, SessionFilter, SessionId, StateCost, Store, Timestamp,
};

use crate::world::World;

/// An operation without what each store makes up by itself.
#[derive(Debug, PartialEq)]
pub struct OperationView {
    session: SessionId,
    kind: OperationKind,
    at: Timestamp,
    before: Option<SessionAttributes>,
    after: SessionAttributes,
    branch: Option<BranchId>,
    checkpoint: Option<CheckpointId>,
    /// How many of the session's operations are older than the target.
    target: Option<usize>,
}

impl OperationView {
    /// `all` are the session's operations, newest first.
    pub fn new(operation: &Operation, all: &[Operation]) -> Self {
        let target = operation.target;
        Self {
            session: operation.session,
            kind: operation.kind,
            at: operation.created_at,
            before: operation.before.clone(),
            after: operation.after.clone(),
            branch: operation.branch,
            checkpoint: operation.checkpoint,
            target: target.map(|id| all.iter().rev().position(|one| one.id == id).unwrap()),
        }
    }
}

const QUERIES: [&str; 6] = ["alpha", "beta gamma", "\"gamma delta\"", "del*", "piece", "nowhere"];

/// Everything that can be seen in a store, as text.
pub fn of(world: &World, store: &dyn Store, which: usize) -> String {
    let mut text = String::new();
    let info = store.info().unwrap();
    writeln!(
        text,
        "{} sessions, {} messages, {} checkpoints",
        info.sessions, info.messages, info.checkpoints
    )
    .unwrap();
    for trashed in [false, true] {
        let filter = SessionFilter { trashed, ..SessionFilter::default() };
        let mut page = PageRequest::first(3);
        loop {
            let found = store.list_sessions(&filter, &page).unwrap();
            for summary in found.items {
                writeln!(text, "{summary:?}").unwrap();
                session(world, store, which, summary.session.id, &mut text);
            }
            match found.next {
                Some(next) => page.after = Some(next),
                None => break,
            }
        }
    }
    for hash in &world.attachments {
        writeln!(text, "attachment {hash} {:?}", store.get_attachment(*hash).ok()).unwrap();
    }
    searches(store, &mut text);
    text
}

fn session(world: &World, store: &dyn Store, which: usize, id: SessionId, text: &mut String) {
    for branch in store.list_branches(id).unwrap() {
        writeln!(text, "  {branch:?}").unwrap();
        for message in store.read_messages(branch.id, MessageRange::From(1, u32::MAX)).unwrap() {
            writeln!(text, "    {message:?}").unwrap();
        }
        let state = store.load_branch_state(branch.id).unwrap();
        let bytes = state.map(|state| blake3::hash(&state.canonical_json().unwrap()));
        writeln!(text, "    starts from {bytes:?}").unwrap();
    }
    for checkpoint in store.list_checkpoints(id).unwrap() {
        let cost = StateCost { stored_bytes: 0, ..checkpoint.cost };
        writeln!(text, "  {:?}", Checkpoint { cost, ..checkpoint }).unwrap();
    }
    let operations = world.operations(which, Some(id));
    for operation in &operations {
        writeln!(text, "  {:?}", OperationView::new(operation, &operations)).unwrap();
    }
    for run in store.list_runs(id).unwrap() {
        writeln!(text, "  {:?}", store.get_run(run).unwrap()).unwrap();
    }
}

/// What is found, but in replies that have not ended: those may be found already, or not yet.
fn searches(store: &dyn Store, text: &mut String) {
    for query in QUERIES {
        for any_word in [false, true] {
            let query = SearchQuery { text: query.into(), any_word, limit: 1000, ..SearchQuery::default() };
            let found = store.search(&query).unwrap();
            assert_eq!(found.total, found.hits.len() as u64);
            let mut ended: Vec<(MessageId, BranchId, String)> = found
                .hits
                .into_iter()
                .filter(|hit| {
                    store.get_message(hit.message).unwrap().content.status == MessageStatus::Complete
                })
                .map(|hit| (hit.message, hit.branch, format!("{} {}", hit.session_name, hit.branch_name)))
                .collect();
            ended.sort();
            writeln!(text, "{:?} {any_word}: {ended:?}", query.text).unwrap();
        }
    }
}

/// The lines in which two pictures differ.
pub fn difference(memory: &str, sqlite: &str) -> String {
    let mut text = String::new();
    for line in memory.lines().filter(|line| !sqlite.lines().any(|other| other == *line)) {
        writeln!(text, "only in memory: {line}").unwrap();
    }
    for line in sqlite.lines().filter(|line| !memory.lines().any(|other| other == *line)) {
        writeln!(text, "only on SQLite: {line}").unwrap();
    }
    if text.is_empty() { format!("the order only:\n{memory}\n/\n{sqlite}") } else { text }
}
