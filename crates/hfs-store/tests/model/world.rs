use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;

use hfs_core::{
    BranchId, CheckpointId, ContentHash, ErrorExt, ErrorKind, MessageId, Operation, OperationId,
    OperationKind, PageRequest, ReplyHandle, SessionId, Store, StoreError, StoreResult,
};
use hfs_store::{Durability, MemoryStore, SqliteOptions, SqliteStore};
use tempfile::TempDir;
use testkit::builders::Drafts;
use testkit::clock::TestClock;

use crate::ledger::Ledger;
use crate::picture::{self, OperationView};

/// Both stores, each open twice, and what is known to have been done to them.
pub struct World {
    memory: MemoryStore,
    path: PathBuf,
    clock: Arc<TestClock>,
    /// Memory and SQLite, through each of the two instances.
    pub open: [[Box<dyn Store>; 2]; 2],
    _directory: TempDir,
    pub make: Drafts,
    pub ledger: Ledger,
    // Everything that ever was, what is gone included: that must be refused alike.
    pub sessions: Vec<SessionId>,
    pub branches: Vec<BranchId>,
    pub messages: Vec<MessageId>,
    pub checkpoints: Vec<CheckpointId>,
    pub attachments: Vec<ContentHash>,
    /// Replies that were begun, and through which instance.
    pub replies: Vec<(ReplyHandle, usize)>,
}

/// What a caller can tell of a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    NotFound(&'static str),
    Told(String),
    Kind(ErrorKind),
}

impl From<&StoreError> for Refusal {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::NotFound { what, .. } => Self::NotFound(what),
            StoreError::HeadMismatch { .. } | StoreError::Locked { .. } => Self::Told(format!("{error:?}")),
            _ => Self::Kind(error.kind()),
        }
    }
}

impl World {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hfs.db");
        let clock = Arc::new(TestClock::fixed());
        let memory = MemoryStore::new(clock.clone());
        let open = [0, 1].map(|_| [Box::new(memory.reopen()) as Box<dyn Store>, sqlite(&path, &clock)]);
        let mut world = Self {
            memory,
            path,
            clock,
            open,
            _directory: directory,
            make: Drafts::new(3),
            ledger: Ledger::default(),
            sessions: Vec::new(),
            branches: Vec::new(),
            messages: Vec::new(),
            checkpoints: Vec::new(),
            attachments: Vec::new(),
            replies: Vec::new(),
        };
        world.new_session(0);
        world
    }

    /// Ends one instance of each store, and opens another in its place.
    pub fn restart(&mut self, instance: usize) {
        self.open[instance] = [Box::new(self.memory.reopen()), sqlite(&self.path, &self.clock)];
    }

    /// Does the same to both stores; both must answer the same.
    #[track_caller]
    pub fn both<T: PartialEq + Debug>(
        &self,
        through: usize,
        act: impl Fn(&dyn Store) -> StoreResult<T>,
    ) -> Result<T, Refusal> {
        self.each(through, |store, _| act(store))
    }

    /// The same, told which of the two stores it is.
    #[track_caller]
    pub fn each<T: PartialEq + Debug>(
        &self,
        through: usize,
        act: impl Fn(&dyn Store, usize) -> StoreResult<T>,
    ) -> Result<T, Refusal> {
        let [memory, sqlite] = [0, 1].map(|which| act(&*self.open[through][which], which));
        let seen = [&memory, &sqlite].map(|result| result.as_ref().map_err(Refusal::from));
        assert_eq!(seen[0], seen[1], "memory and SQLite differ: {memory:?} / {sqlite:?}");
        memory.map_err(|error| Refusal::from(&error))
    }

    /// The memory store, where it does not matter which is asked.
    pub fn reference(&self) -> &dyn Store {
        &*self.open[0][0]
    }

    /// The ids by which each store knows one of the operations recorded last. An even number counts all of them,
    /// an odd one leaves out what can never be reversed.
    pub fn operation(&self, number: u16) -> Option<[OperationId; 2]> {
        use OperationKind::{Create, Import, Prune, Redo, Undo};
        let back = number / 2;
        let lists = [0, 1].map(|which| {
            let mut list = self.operations(which, None);
            let fixed = [Create, Import, Prune, Redo, Undo];
            list.retain(|operation| number.is_multiple_of(2) || !fixed.contains(&operation.kind));
            list
        });
        assert_eq!(lists[0].len(), lists[1].len());
        let index = usize::from(back) % lists[0].len().max(1);
        Some([lists[0].get(index)?.id, lists[1].get(index)?.id])
    }

    pub fn operations(&self, which: usize, session: Option<SessionId>) -> Vec<Operation> {
        self.open[0][which].list_operations(session, &PageRequest::first(10_000)).unwrap().items
    }

    /// An operation without what each store makes up by itself.
    pub fn view(&self, which: usize, operation: &Operation) -> OperationView {
        OperationView::new(operation, &self.operations(which, Some(operation.session)))
    }

    /// Compares everything that can be seen, and looks whether both stores are well.
    #[track_caller]
    pub fn compare(&self) {
        self.settle(0);
        for through in 0..2 {
            let [memory, sqlite] = [0, 1].map(|which| picture::of(self, &*self.open[through][which], which));
            assert!(memory == sqlite, "memory and SQLite differ:\n{}", picture::difference(&memory, &sqlite));
        }
        for store in &self.open[0] {
            let verification = store.verify().unwrap();
            assert!(verification.is_ok(), "{:#?}", verification.problems);
            self.ledger.check(&**store);
        }
    }
}

fn sqlite(path: &std::path::Path, clock: &Arc<TestClock>) -> Box<dyn Store> {
    let options =
        SqliteOptions { durability: Durability::Fast, clock: clock.clone(), ..SqliteOptions::default() };
    Box::new(SqliteStore::open(path, options).unwrap())
}

/// One of those, going round.
pub fn pick<T: Copy>(all: &[T], number: u16) -> Option<T> {
    all.get(usize::from(number) % all.len().max(1)).copied()
}
