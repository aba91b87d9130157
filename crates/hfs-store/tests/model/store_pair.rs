//! The store in memory and the store under test, the ledger of their expected content, and the comparison of the stores.

use std::collections::BTreeMap;
use std::fmt::{Debug, Write};
use std::sync::Arc;

use hfs_core::{
    BranchId, Checkpoint, CheckpointId, CheckpointState, ContentHash, ErrorExt, ErrorKind, MessageId,
    MessageRange, MessageStatus, Operation, OperationId, OperationKind, PageRequest, Part, ReplyDelta,
    ReplyHandle, SearchQuery, Seq, SessionAttributes, SessionFilter, SessionId, StateCost, Store, StoreError,
    StoreResult, Timestamp, append_delta,
};
use hfs_store::MemoryStore;
use testkit::builders::Drafts;
use testkit::clock::TestClock;

/// Opens a store with a clock that stands still.
pub type OpenStore = Box<dyn Fn() -> Box<dyn Store>>;

/// Both stores, with two open instances of each, and the items that were created in them.
pub struct StorePair {
    memory: MemoryStore,
    /// Opens another instance of the store under test.
    open_tested: OpenStore,
    /// For each instance, the memory store and the store under test.
    pub open: [[Box<dyn Store>; 2]; 2],
    pub make: Drafts,
    pub ledger: Ledger,
    // All items that were ever created. Calls with a deleted item must fail in the same way in both stores.
    pub sessions: Vec<SessionId>,
    pub branches: Vec<BranchId>,
    pub messages: Vec<MessageId>,
    pub checkpoints: Vec<CheckpointId>,
    pub attachments: Vec<ContentHash>,
    /// Replies and the instances that began them.
    pub replies: Vec<(ReplyHandle, usize)>,
}

/// The properties of an error that callers can distinguish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VisibleError {
    NotFound(&'static str),
    Details(String),
    Kind(ErrorKind),
}

impl From<&StoreError> for VisibleError {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::NotFound { what, .. } => Self::NotFound(what),
            StoreError::HeadMismatch { .. } | StoreError::Locked { .. } => {
                Self::Details(format!("{error:?}"))
            }
            _ => Self::Kind(error.kind()),
        }
    }
}

impl StorePair {
    pub fn new(open_tested: OpenStore) -> Self {
        let memory = MemoryStore::new(Arc::new(TestClock::fixed()));
        let open = [0, 1].map(|_| [Box::new(memory.reopen()) as Box<dyn Store>, open_tested()]);
        let mut pair = Self {
            memory,
            open_tested,
            open,
            make: Drafts::new(3),
            ledger: Ledger::default(),
            sessions: Vec::new(),
            branches: Vec::new(),
            messages: Vec::new(),
            checkpoints: Vec::new(),
            attachments: Vec::new(),
            replies: Vec::new(),
        };
        pair.create_session(0);
        pair
    }

    /// Closes one instance of each store and opens another in its place.
    pub fn restart(&mut self, instance: usize) {
        self.open[instance] = [Box::new(self.memory.reopen()), (self.open_tested)()];
    }

    /// Makes the same call to both stores, and checks that the results are equal.
    #[track_caller]
    pub fn both<T: PartialEq + Debug>(
        &self,
        instance: usize,
        call: impl Fn(&dyn Store) -> StoreResult<T>,
    ) -> Result<T, VisibleError> {
        self.each(instance, |store, _| call(store))
    }

    /// Like [`StorePair::both`]. The call also gets the index of the store: 0 for memory, 1 for the one under test.
    #[track_caller]
    pub fn each<T: PartialEq + Debug>(
        &self,
        instance: usize,
        call: impl Fn(&dyn Store, usize) -> StoreResult<T>,
    ) -> Result<T, VisibleError> {
        let [memory, tested] = [0, 1].map(|which| call(&*self.open[instance][which], which));
        let visible = [&memory, &tested].map(|result| result.as_ref().map_err(VisibleError::from));
        assert_eq!(visible[0], visible[1], "the stores differ: in memory {memory:?}, under test {tested:?}");
        memory.map_err(|error| VisibleError::from(&error))
    }

    /// The memory store, for reads whose result is the same in both stores.
    pub fn reference(&self) -> &dyn Store {
        &*self.open[0][0]
    }

    /// The ids of one of the newest operations in each store. An even number selects among all operations, an odd one
    /// among those that can be reversed.
    pub fn operation(&self, number: u16) -> Option<[OperationId; 2]> {
        use OperationKind::{Create, Import, Prune, Redo, Undo};
        let back = number / 2;
        let lists = [0, 1].map(|which| {
            let mut list = self.operations(which, None);
            let irreversible = [Create, Import, Prune, Redo, Undo];
            list.retain(|operation| number.is_multiple_of(2) || !irreversible.contains(&operation.kind));
            list
        });
        assert_eq!(lists[0].len(), lists[1].len());
        let index = usize::from(back) % lists[0].len().max(1);
        Some([lists[0].get(index)?.id, lists[1].get(index)?.id])
    }

    pub fn operations(&self, which: usize, session: Option<SessionId>) -> Vec<Operation> {
        self.open[0][which].list_operations(session, &PageRequest::first(10_000)).unwrap().items
    }

    pub fn view(&self, which: usize, operation: &Operation) -> OperationView {
        OperationView::new(operation, &self.operations(which, Some(operation.session)))
    }

    /// Compares everything that is visible in both stores, and verifies them.
    #[track_caller]
    pub fn compare(&self) {
        self.recover_replies(0);
        for instance in 0..2 {
            let [memory, tested] = [0, 1].map(|which| snapshot(self, &*self.open[instance][which], which));
            assert!(memory == tested, "the stores differ:\n{}", difference(&memory, &tested));
        }
        for store in &self.open[0] {
            let verification = store.verify().unwrap();
            assert!(verification.is_ok(), "{:#?}", verification.problems);
            self.ledger.check(&**store);
        }
    }
}

/// Selects an item by a number, modulo the number of items.
pub fn pick<T: Copy>(all: &[T], number: u16) -> Option<T> {
    all.get(usize::from(number) % all.len().max(1)).copied()
}

/// The expected content of the stores, recorded from acknowledged calls.
#[derive(Default)]
pub struct Ledger {
    /// Each branch's own messages, in order.
    messages: BTreeMap<BranchId, Vec<LedgerMessage>>,
    /// The history before each fork, at the time of the fork.
    before_forks: BTreeMap<BranchId, Vec<(MessageId, String)>>,
    states: BTreeMap<CheckpointId, CheckpointState>,
    sessions: BTreeMap<BranchId, SessionId>,
    purged: Vec<SessionId>,
}

struct LedgerMessage {
    id: MessageId,
    parts: Vec<Part>,
    is_streaming: bool,
}

impl LedgerMessage {
    fn text(&self) -> String {
        let texts: Vec<&str> = self
            .parts
            .iter()
            .filter_map(|part| if let Part::Text { text } = part { Some(text.as_str()) } else { None })
            .collect();
        texts.join("\n\n")
    }
}

impl Ledger {
    pub fn add_branch(&mut self, session: SessionId, branch: BranchId) {
        self.sessions.insert(branch, session);
    }

    pub fn append(&mut self, branch: BranchId, id: MessageId, text: String, is_streaming: bool) {
        // A reply that was just begun has no part.
        let parts = if text.is_empty() { Vec::new() } else { vec![Part::text(text)] };
        self.messages.entry(branch).or_default().push(LedgerMessage { id, parts, is_streaming });
    }

    pub fn extend_reply(&mut self, branch: BranchId, id: MessageId, delta: &ReplyDelta) {
        append_delta(&mut self.reply(branch, id).parts, delta);
    }

    pub fn finish_reply(&mut self, branch: BranchId, id: MessageId, text: String) {
        let reply = self.reply(branch, id);
        (reply.parts, reply.is_streaming) = (vec![Part::text(text)], false);
    }

    fn reply(&mut self, branch: BranchId, id: MessageId) -> &mut LedgerMessage {
        let messages = self.messages.entry(branch).or_default();
        messages.iter_mut().find(|message| message.id == id).unwrap()
    }

    /// Records a new branch and the history before its fork.
    pub fn add_fork(&mut self, store: &dyn Store, branch: BranchId) {
        self.add_branch(store.get_branch(branch).unwrap().session, branch);
        self.before_forks.insert(branch, history(store, branch, Seq::MAX));
    }

    pub fn add_state(&mut self, checkpoint: CheckpointId, state: CheckpointState) {
        self.states.insert(checkpoint, state);
    }

    pub fn purge(&mut self, session: SessionId) {
        self.purged.push(session);
    }

    #[track_caller]
    pub fn check(&self, store: &dyn Store) {
        for (branch, session) in &self.sessions {
            if self.purged.contains(session) {
                assert!(store.get_branch(*branch).is_err());
                continue;
            }
            let found = history(store, *branch, Seq::MAX);
            let stored = store.get_branch(*branch).unwrap();
            let head = stored.head;
            let has_messages = self.messages.get(branch).is_some_and(|messages| !messages.is_empty());
            assert!(!has_messages || stored.is_listed(), "a branch with messages is in every list");
            assert_eq!(found.len() as u64, head, "a history has no gaps");
            if let Some(before) = self.before_forks.get(branch) {
                assert_eq!(&found[..before.len()], before, "the history before a fork never changes");
            }
            let messages = self.messages.get(branch).map_or(&[][..], Vec::as_slice);
            let own = &found[found.len() - messages.len()..];
            for (message, (id, text)) in messages.iter().zip(own) {
                assert_eq!((message.id, &message.text()), (*id, text), "streaming: {}", message.is_streaming);
            }
        }
        for (checkpoint, state) in &self.states {
            match store.load_state(*checkpoint) {
                Ok(stored) => assert_eq!(&stored, state, "a checkpoint restores what was stored"),
                Err(error) => assert!(matches!(error, StoreError::NotFound { .. }), "{error}"),
            }
        }
    }
}

fn history(store: &dyn Store, branch: BranchId, before: Seq) -> Vec<(MessageId, String)> {
    let messages = store.read_messages(branch, MessageRange::Before(before, u32::MAX)).unwrap();
    messages.iter().map(|message| (message.content.id, message.content.text())).collect()
}

/// An operation without ids that differ between the stores.
#[derive(Debug, PartialEq)]
pub struct OperationView {
    session: SessionId,
    kind: OperationKind,
    at: Timestamp,
    before: Option<SessionAttributes>,
    after: SessionAttributes,
    branch: Option<BranchId>,
    checkpoint: Option<CheckpointId>,
    /// The position of the target among the session's operations, from the oldest.
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
            target: target.map(|id| all.iter().rev().position(|operation| operation.id == id).unwrap()),
        }
    }
}

const QUERIES: [&str; 6] = ["alpha", "beta gamma", "\"gamma delta\"", "del*", "piece", "nowhere"];

/// Everything that is visible in a store, as text.
fn snapshot(pair: &StorePair, store: &dyn Store, which: usize) -> String {
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
                snapshot_session(pair, store, which, summary.session.id, &mut text);
            }
            match found.next {
                Some(next) => page.after = Some(next),
                None => break,
            }
        }
    }
    for hash in &pair.attachments {
        writeln!(text, "attachment {hash} {:?}", store.get_attachment(*hash).ok()).unwrap();
    }
    snapshot_searches(store, &mut text);
    text
}

fn snapshot_session(pair: &StorePair, store: &dyn Store, which: usize, id: SessionId, text: &mut String) {
    for branch in store.list_branches(id).unwrap() {
        writeln!(text, "  {branch:?}").unwrap();
        for message in store.read_messages(branch.id, MessageRange::From(1, u32::MAX)).unwrap() {
            writeln!(text, "    {message:?}").unwrap();
        }
        let state = store.load_branch_state(branch.id).unwrap();
        let hash = state.map(|state| blake3::hash(&state.canonical_json().unwrap()));
        writeln!(text, "    state {hash:?}").unwrap();
    }
    for checkpoint in store.list_checkpoints(id).unwrap() {
        let cost = StateCost { stored_bytes: 0, ..checkpoint.cost };
        writeln!(text, "  {:?}", Checkpoint { cost, ..checkpoint }).unwrap();
    }
    let operations = pair.operations(which, Some(id));
    for operation in &operations {
        writeln!(text, "  {:?}", OperationView::new(operation, &operations)).unwrap();
    }
    for run in store.list_runs(id).unwrap() {
        writeln!(text, "  {:?}", store.get_run(run).unwrap()).unwrap();
    }
}

/// The hits of searches in complete messages. Other messages are left out, because the stores may index streaming
/// replies at different times.
fn snapshot_searches(store: &dyn Store, text: &mut String) {
    for query in QUERIES {
        let found = store.search(&SearchQuery::new(query).with_limit(1000)).unwrap();
        assert_eq!(found.total, found.hits.len() as u64);
        let mut hits: Vec<(MessageId, BranchId, String)> = found
            .hits
            .into_iter()
            .filter(|hit| store.get_message(hit.message).unwrap().content.status == MessageStatus::Complete)
            .map(|hit| (hit.message, hit.branch, format!("{} {}", hit.session_name, hit.branch_name)))
            .collect();
        hits.sort();
        writeln!(text, "{query:?}: {hits:?}").unwrap();
    }
}

/// The lines that only one of two snapshots has.
fn difference(memory: &str, tested: &str) -> String {
    let mut text = String::new();
    for line in memory.lines().filter(|line| !tested.lines().any(|other| other == *line)) {
        writeln!(text, "only in memory: {line}").unwrap();
    }
    for line in tested.lines().filter(|line| !memory.lines().any(|other| other == *line)) {
        writeln!(text, "only under test: {line}").unwrap();
    }
    if text.is_empty() { format!("only the order differs:\n{memory}\n/\n{tested}") } else { text }
}
