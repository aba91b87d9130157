//! States that are large enough to be compared while they are written and stored as scripts, with others in between
//! that are not, come back whatever is saved, pruned and removed around them.

use std::collections::BTreeMap;

use hfs_core::{
    BranchStore as _, Checkpoint, CheckpointId, CheckpointState, CheckpointStore as _, Maintenance as _,
    Position, SessionId, SessionStore as _,
};
use hfs_store::{Durability, SqliteOptions, SqliteStore};
use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, Strategy, prop_oneof, proptest};
use tempfile::TempDir;
use testkit::builders::{Drafts, at, state_of};

/// How many automatic checkpoints are kept.
const RETENTION: u32 = 4;
/// An entry takes 60 bytes: so many make a state that is handed over in a few pieces.
const MOST: usize = 3500;

#[derive(Debug, Clone)]
enum Step {
    /// Some entries more, or fewer.
    Resize(usize),
    /// Each of so many entries is another.
    Edit(usize),
    /// Everything is another.
    Renew,
    /// The state of a checkpoint is the state again.
    Back(u8),
    Mark,
    MarkManually,
    Remove(u8),
    KeepForBranch,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..MOST).prop_map(Step::Resize),
        4 => (1..20_usize).prop_map(Step::Edit),
        1 => Just(Step::Renew),
        1 => proptest::num::u8::ANY.prop_map(Step::Back),
        8 => Just(Step::Mark),
        2 => Just(Step::MarkManually),
        2 => proptest::num::u8::ANY.prop_map(Step::Remove),
        1 => Just(Step::KeepForBranch),
        1 => Just(Step::Reopen),
    ]
}

struct Scene {
    directory: TempDir,
    store: SqliteStore,
    make: Drafts,
    main: Position,
    session: SessionId,
    random: fastrand::Rng,
    entries: Vec<String>,
    marked: BTreeMap<CheckpointId, CheckpointState>,
    kept: Option<CheckpointState>,
}

fn open(directory: &TempDir) -> SqliteStore {
    let options = SqliteOptions { durability: Durability::Fast, ..SqliteOptions::default() };
    SqliteStore::open(directory.path().join("hfs.db"), options).unwrap()
}

impl Scene {
    fn new() -> Self {
        let (directory, make) = (tempfile::tempdir().unwrap(), Drafts::new(5));
        let (store, draft) = (open(&directory), make.session("s"));
        store.create_session(&draft).unwrap();
        let main = at(draft.main_branch, 0);
        let session = store.get_branch(draft.main_branch).unwrap().session;
        let (random, entries) = (fastrand::Rng::with_seed(1), Vec::new());
        let mut scene = Self {
            directory,
            store,
            make,
            main,
            session,
            random,
            entries,
            marked: BTreeMap::new(),
            kept: None,
        };
        scene.resize(MOST / 2);
        scene
    }

    fn entry(&mut self) -> String {
        format!("{:032x}", self.random.u128(..))
    }

    fn resize(&mut self, entries: usize) {
        self.entries.truncate(entries);
        while self.entries.len() < entries {
            let entry = self.entry();
            self.entries.push(entry);
        }
    }

    fn state(&self) -> CheckpointState {
        state_of(&self.entries.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn mark(&mut self, trigger: &str) {
        let state = self.state();
        let mut draft = self.make.checkpoint(self.main, state.clone());
        draft.trigger = trigger.into();
        let made = self.store.create_checkpoint(&draft, RETENTION).unwrap();
        assert_eq!(made.state_hash.as_bytes(), blake3::hash(&state.canonical_json().unwrap()).as_bytes());
        self.marked.insert(made.id, state);
        let left = self.store.list_checkpoints(self.session).unwrap();
        if let Some(listed) = left.iter().find(|left| left.id == made.id) {
            // It may have got another keyframe with what was pruned.
            let cost = made.cost;
            let listed = Checkpoint { cost, ..listed.clone() };
            assert_eq!(listed, made, "what is said to have been made is what is listed");
        }
        self.marked.retain(|id, _| left.iter().any(|left| left.id == *id));
        assert_eq!(self.marked.len(), left.len());
    }

    fn any_mark(&self, number: u8) -> Option<CheckpointId> {
        self.marked.keys().nth(usize::from(number) % self.marked.len().max(1)).copied()
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Resize(entries) => self.resize(*entries),
            Step::Edit(times) => {
                for _ in 0..(*times).min(self.entries.len()) {
                    let (place, entry) = (self.random.usize(..self.entries.len()), self.entry());
                    self.entries[place] = entry;
                }
            }
            Step::Renew => {
                let entries = self.entries.len();
                self.entries.clear();
                self.resize(entries);
            }
            Step::Back(number) => {
                if let Some(id) = self.any_mark(*number) {
                    let state = self.store.load_state(id).unwrap();
                    let memory = state.agents.values().next().unwrap();
                    self.entries = memory.iter().map(|entry| entry.text.clone()).collect();
                    assert_eq!(self.state(), state);
                }
            }
            Step::Mark => self.mark("event"),
            Step::MarkManually => self.mark("manual"),
            Step::Remove(number) => {
                if let Some(id) = self.any_mark(*number) {
                    self.store.delete_checkpoint(id, self.make.now()).unwrap();
                    self.marked.remove(&id);
                }
            }
            Step::KeepForBranch => {
                let state = self.state();
                self.store.save_branch_state(self.main.branch, &state).unwrap();
                self.kept = Some(state);
            }
            Step::Reopen => self.store = open(&self.directory),
        }
    }

    fn check(&self) {
        for (id, state) in &self.marked {
            assert_eq!(&self.store.load_state(*id).unwrap(), state);
            assert_eq!(self.store.load_state_json(*id).unwrap().as_bytes(), state.canonical_json().unwrap());
        }
        assert_eq!(self.store.load_branch_state(self.main.branch).unwrap(), self.kept);
        let verification = self.store.verify().unwrap();
        assert!(verification.is_ok(), "{:#?}", verification.problems);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, max_shrink_iters: 100, ..ProptestConfig::default() })]

    #[test]
    fn large_states_come_back_whatever_happens_around_them(steps in vec(step(), 20..50)) {
        let mut scene = Scene::new();
        for (number, step) in steps.iter().enumerate() {
            scene.take(step);
            if number % 20 == 19 {
                scene.check();
            }
        }
        scene.check();
    }
}
