//! States of any size are restored exactly, while other states are stored, pruned and deleted. Many of the states are
//! large enough for the streaming encoder and for binary deltas.

use std::collections::BTreeMap;

use hfs_core::{
    BranchStore as _, Checkpoint, CheckpointId, CheckpointState, CheckpointStore as _, Maintenance as _,
    Position, SessionId, SessionStore as _,
};
use hfs_store::{Durability, SqliteOptions, SqliteStore};
use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, Strategy, prop_oneof, proptest};
use serde_json::Value;
use tempfile::TempDir;
use testkit::builders::{Drafts, at, state_of};

/// Number of automatic checkpoints to keep.
const RETENTION: u32 = 4;
/// Maximum number of entries in a state. An entry takes 60 bytes, so the largest states have a few chunks of the
/// streaming encoder.
const MAX_ENTRIES: usize = 3500;

#[derive(Debug, Clone)]
enum Step {
    /// Changes the number of entries.
    Resize(usize),
    /// Replaces this number of random entries.
    Edit(usize),
    /// Replaces all entries.
    ReplaceAll,
    /// Continues from the state of a checkpoint.
    Rewind(u8),
    Checkpoint,
    ManualCheckpoint,
    DeleteCheckpoint(u8),
    SaveBranchState,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..MAX_ENTRIES).prop_map(Step::Resize),
        4 => (1..20_usize).prop_map(Step::Edit),
        1 => Just(Step::ReplaceAll),
        1 => proptest::num::u8::ANY.prop_map(Step::Rewind),
        8 => Just(Step::Checkpoint),
        2 => Just(Step::ManualCheckpoint),
        2 => proptest::num::u8::ANY.prop_map(Step::DeleteCheckpoint),
        1 => Just(Step::SaveBranchState),
        1 => Just(Step::Reopen),
    ]
}

struct Fixture {
    directory: TempDir,
    store: SqliteStore,
    make: Drafts,
    main: Position,
    session: SessionId,
    random: fastrand::Rng,
    entries: Vec<String>,
    /// The state that each checkpoint must restore.
    checkpoints: BTreeMap<CheckpointId, CheckpointState>,
    branch_state: Option<CheckpointState>,
}

fn open(directory: &TempDir) -> SqliteStore {
    let options = SqliteOptions { durability: Durability::Fast, ..SqliteOptions::default() };
    SqliteStore::open(directory.path().join("hfs.db"), options).unwrap()
}

impl Fixture {
    fn new() -> Self {
        let (directory, make) = (tempfile::tempdir().unwrap(), Drafts::new(5));
        let (store, draft) = (open(&directory), make.session("s"));
        store.create_session(&draft).unwrap();
        let main = at(draft.main_branch, 0);
        let session = store.get_branch(draft.main_branch).unwrap().session;
        let (random, entries) = (fastrand::Rng::with_seed(1), Vec::new());
        let mut fixture = Self {
            directory,
            store,
            make,
            main,
            session,
            random,
            entries,
            checkpoints: BTreeMap::new(),
            branch_state: None,
        };
        fixture.resize(MAX_ENTRIES / 2);
        fixture
    }

    fn random_entry(&mut self) -> String {
        format!("{:032x}", self.random.u128(..))
    }

    fn resize(&mut self, entries: usize) {
        self.entries.truncate(entries);
        while self.entries.len() < entries {
            let entry = self.random_entry();
            self.entries.push(entry);
        }
    }

    fn state(&self) -> CheckpointState {
        state_of(&self.entries.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn checkpoint(&mut self, trigger: &str) {
        let state = self.state();
        let mut draft = self.make.checkpoint(self.main, state.clone());
        draft.trigger = trigger.into();
        let made = self.store.create_checkpoint(&draft, RETENTION).unwrap();
        assert_eq!(made.state_hash.as_bytes(), blake3::hash(&state.canonical_json().unwrap()).as_bytes());
        self.checkpoints.insert(made.id, state);
        let left = self.store.list_checkpoints(self.session).unwrap();
        if let Some(listed) = left.iter().find(|left| left.id == made.id) {
            // Ignores the cost, which changes if pruning has rebased the state.
            let listed = Checkpoint { cost: made.cost, ..listed.clone() };
            assert_eq!(listed, made, "the list contains what was returned");
        }
        self.checkpoints.retain(|id, _| left.iter().any(|left| left.id == *id));
        assert_eq!(self.checkpoints.len(), left.len());
    }

    fn any_checkpoint(&self, number: u8) -> Option<CheckpointId> {
        self.checkpoints.keys().nth(usize::from(number) % self.checkpoints.len().max(1)).copied()
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::Resize(entries) => self.resize(*entries),
            Step::Edit(times) => {
                for _ in 0..(*times).min(self.entries.len()) {
                    let (index, entry) = (self.random.usize(..self.entries.len()), self.random_entry());
                    self.entries[index] = entry;
                }
            }
            Step::ReplaceAll => {
                let entries = self.entries.len();
                self.entries.clear();
                self.resize(entries);
            }
            Step::Rewind(number) => {
                if let Some(id) = self.any_checkpoint(*number) {
                    let state = self.store.load_state(id).unwrap();
                    let memory = state.agents.values().next().unwrap();
                    self.entries = memory
                        .read::<Vec<Value>>()
                        .unwrap()
                        .iter()
                        .map(|entry| entry["text"].as_str().unwrap().to_owned())
                        .collect();
                    assert_eq!(self.state(), state);
                }
            }
            Step::Checkpoint => self.checkpoint("event"),
            Step::ManualCheckpoint => self.checkpoint("manual"),
            Step::DeleteCheckpoint(number) => {
                if let Some(id) = self.any_checkpoint(*number) {
                    self.store.delete_checkpoint(id, self.make.now()).unwrap();
                    self.checkpoints.remove(&id);
                }
            }
            Step::SaveBranchState => {
                let state = self.state();
                self.store.save_branch_state(self.main.branch, &state).unwrap();
                self.branch_state = Some(state);
            }
            Step::Reopen => self.store = open(&self.directory),
        }
    }

    fn check(&self) {
        for (id, state) in &self.checkpoints {
            assert_eq!(&self.store.load_state(*id).unwrap(), state);
            assert_eq!(self.store.load_state_json(*id).unwrap().as_bytes(), state.canonical_json().unwrap());
        }
        assert_eq!(self.store.load_branch_state(self.main.branch).unwrap(), self.branch_state);
        let verification = self.store.verify().unwrap();
        assert!(verification.is_ok(), "{:#?}", verification.problems);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, max_shrink_iters: 100, ..ProptestConfig::default() })]

    #[test]
    fn states_are_restored_exactly_while_others_are_stored_and_deleted(steps in vec(step(), 20..50)) {
        let mut fixture = Fixture::new();
        for (number, step) in steps.iter().enumerate() {
            fixture.apply(step);
            if number % 20 == 19 {
                fixture.check();
            }
        }
        fixture.check();
    }
}
