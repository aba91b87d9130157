//! Child processes that change the structure of sessions: checkpoints, rewinds, forks, undo, deletions and imports.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use hfs_core::{
    CheckpointDraft, CheckpointState, Maintenance as _, MessageRange, MessageStore as _, OperationKind,
    PageRequest, Position, SessionFilter, SessionId, SessionStore as _, Store,
};
use hfs_store::MemoryStore;
use testkit::builders::{Drafts, at, attachment, growing_state};
use testkit::clock::TestClock;

use crate::{Job, Scenario, acknowledge, assert_intact, open, start};

/// A sequence of operations that depends only on its seed.
struct Script {
    make: Drafts,
    random: fastrand::Rng,
    session: SessionId,
    steps: usize,
}

impl Script {
    /// Creates a session in an empty store.
    fn begin(store: &dyn Store, seed: u64) -> Self {
        let make = Drafts::new(seed);
        let draft = make.session("structure");
        store.create_session(&draft).unwrap();
        let messages: Vec<_> = (0..6).map(|n| make.user(&format!("message {n}"))).collect();
        store.append(at(draft.main_branch, 0), &messages).unwrap();
        Self { make, random: fastrand::Rng::with_seed(seed), session: draft.id, steps: 0 }
    }

    fn head(&self, store: &dyn Store) -> Position {
        let branch = store.get_session(self.session).unwrap().session.current_branch;
        at(branch, store.get_branch(branch).unwrap().head)
    }

    /// Makes one call that changes the store, or that the store rejects.
    fn step(&mut self, store: &dyn Store) {
        self.steps += 1;
        let here = self.head(store);
        let now = self.make.now();
        let name = format!("branch {}", self.steps);
        let checkpoints = store.list_checkpoints(self.session).unwrap();
        let operations = store.list_operations(Some(self.session), &PageRequest::first(6)).unwrap().items;
        let choice = self.random.usize(0..14);
        let (a, b) = (self.random.usize(..), self.random.usize(..));
        let earlier = at(here.branch, here.head.saturating_sub(u64::try_from(a % 4).unwrap()));
        match choice {
            0..4 => {
                let draft = self.make.checkpoint(earlier, growing_state(a % 50));
                let pinned = b % 5 == 0;
                store.create_checkpoint(&CheckpointDraft { pinned, ..draft }, 3).unwrap();
            }
            4..6 if !checkpoints.is_empty() => {
                let checkpoint = &checkpoints[a % checkpoints.len()];
                let draft = self.make.branch(&name, at(checkpoint.branch, checkpoint.seq));
                store.create_branch(&draft, OperationKind::Rewind, Some(checkpoint.id), now).unwrap();
            }
            6 if !checkpoints.is_empty() => {
                store.delete_checkpoint(checkpoints[a % checkpoints.len()].id, now).unwrap();
            }
            7..11 => {
                let kind = if a % 2 == 0 { OperationKind::Undo } else { OperationKind::Redo };
                let target = &operations[b % operations.len()];
                // The store may reject the reversal. The memory store, which runs the same script, then rejects it too.
                let _ = store.reverse(target.id, kind, now);
            }
            11 => {
                let draft = self.make.branch(&name, earlier);
                store.create_branch(&draft, OperationKind::Fork, None, now).unwrap();
            }
            12 => store.save_branch_state(here.branch, &growing_state(a % 50)).unwrap(),
            _ => {
                store.append(here, &[self.make.user(&name)]).unwrap();
            }
        }
    }

    /// Checks that no unused state is left once all checkpoints are deleted and all branches have the same state.
    fn assert_no_unused_states(&self, store: &dyn Store) {
        for checkpoint in store.list_checkpoints(self.session).unwrap() {
            store.delete_checkpoint(checkpoint.id, self.make.now()).unwrap();
        }
        for branch in store.list_branches(self.session).unwrap() {
            store.save_branch_state(branch.id, &CheckpointState::default()).unwrap();
        }
        let left = store.info().unwrap().checkpoint_bytes;
        assert!(left < 1000, "{left} bytes");
        assert_intact(store);
    }

    /// Everything that the steps can change, as text.
    fn snapshot(&self, store: &dyn Store) -> String {
        let mut text = format!("{:?}\n", store.get_session(self.session).unwrap());
        for branch in store.list_branches(self.session).unwrap() {
            writeln!(text, "{branch:?}").unwrap();
            let history = store.read_messages(branch.id, MessageRange::From(1, u32::MAX)).unwrap();
            let history: Vec<_> =
                history.iter().map(|message| (message.content.id, message.content.text())).collect();
            let state = store.load_branch_state(branch.id).unwrap();
            let state = state.map(|state| state.agents["coder"].as_json().len());
            writeln!(text, "  {history:?} state {state:?}").unwrap();
        }
        for checkpoint in store.list_checkpoints(self.session).unwrap() {
            let state = store.load_state(checkpoint.id).unwrap();
            let hash = blake3::hash(&state.canonical_json().unwrap());
            assert_eq!(hash.as_bytes(), checkpoint.state_hash.as_bytes());
            let (branch, seq, pinned) = (checkpoint.branch, checkpoint.seq, checkpoint.pinned);
            writeln!(text, "{} on {branch} at {seq} {pinned} {hash}", checkpoint.id).unwrap();
        }
        for operation in store.list_operations(Some(self.session), &PageRequest::first(1000)).unwrap().items {
            let (kind, at, branch) = (operation.kind, operation.created_at, operation.branch);
            writeln!(text, "{kind} {at} {branch:?} {:?} {:?}", operation.before, operation.after).unwrap();
        }
        text
    }
}

/// Runs the script of the job's seed until the process is killed.
pub fn change_structure(job: &Job) {
    let store = open(&job.store);
    let mut script = Script::begin(&store, job.seed);
    for step in 0.. {
        acknowledge(&step.to_string());
        script.step(&store);
    }
}

/// Kills children and checks that each store has the state after the acknowledged steps, or after one more step. The
/// expected states come from a memory store that runs the same script.
pub fn survives_kills(kills: u64, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    for seed in seed..seed + kills {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("hfs.db");
        let child = start(Scenario::Structure, &path, seed);
        let acknowledged = child.kill_after(random.usize(1..40), &mut random);

        // The first acknowledgement only says that the script has begun.
        let steps = acknowledged.len() - 1;
        let memory = MemoryStore::new(Arc::new(TestClock::fixed()));
        let mut script = Script::begin(&memory, seed);
        for _ in 0..steps {
            script.step(&memory);
        }
        let before = script.snapshot(&memory);
        script.step(&memory);
        let after = script.snapshot(&memory);

        let store = open(&path);
        assert_intact(&store);
        let found = script.snapshot(&store);
        // A kill between a deletion and the rebase of its keyframe leaves an orphan, which the vacuum deletes.
        store.vacuum().unwrap();
        assert_intact(&store);
        assert_eq!(script.snapshot(&store), found);
        script.assert_no_unused_states(&store);
        assert!(
            found == before || found == after,
            "after {steps} steps with seed {seed}\n\nfound:\n{found}\n\nexpected:\n{before}\n\nor:\n{after}"
        );
    }
}

/// Numbers of messages on the main branch of an imported session. They are large, so that many kills hit an import; the
/// larger one takes several transactions.
const IMPORTED_MESSAGES: [u64; 2] = [1500, 8500];

/// Imports sessions until it is killed.
pub fn import_sessions(job: &Job) {
    let store = open(&job.store);
    let make = Drafts::new(job.seed);
    let messages = IMPORTED_MESSAGES[usize::from(job.seed.is_multiple_of(4))];
    loop {
        let draft = make.session("importing");
        let side = make.ids.branch();
        let bytes = attachment(draft.id.to_string().as_bytes());
        let mut import = store.import_session(&draft).unwrap();
        import.attachment(&bytes).unwrap();
        acknowledge("begun");
        for number in 1..=messages {
            import.message(0, &make.user(&format!("message {number}"))).unwrap();
        }
        import.branch(1, 0, 1, side, "side").unwrap();
        import.message(1, &make.full_message(&bytes)).unwrap();
        import.checkpoint(&make.checkpoint(at(side, 2), growing_state(5))).unwrap();
        import.run(&make.run(side)).unwrap();
        acknowledge("filled");
        import.finish("imported", 1, make.now(), make.now()).unwrap();
        acknowledge(&format!("imported {}", draft.id));
    }
}

/// Number of kills after which an empty store is used. Each kill verifies the whole store, so a store that grows without
/// end would make the last kills of a long run slow.
const KILLS_PER_STORE: u64 = 20;

pub fn imports_survive_kills(kills: u64, seed: u64) {
    let mut home = tempfile::tempdir().unwrap();
    let mut path = home.path().join("hfs.db");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut imported: BTreeMap<String, u64> = BTreeMap::new();
    for seed in seed..seed + kills {
        if seed.is_multiple_of(KILLS_PER_STORE) {
            home = tempfile::tempdir().unwrap();
            path = home.path().join("hfs.db");
            imported.clear();
        }
        let child = start(Scenario::Imports, &path, seed);
        let acknowledged = child.kill_after(random.usize(1..5), &mut random);
        let finished = acknowledged.iter().filter_map(|line| line.strip_prefix("imported "));
        imported.extend(finished.map(|id| (id.to_owned(), seed)));

        let store = open(&path);
        let page = store.list_sessions(&SessionFilter::default(), &PageRequest::first(1000)).unwrap();
        assert_eq!(page.next, None);
        for summary in &page.items {
            let is_complete = IMPORTED_MESSAGES.iter().any(|count| count + 1 == summary.messages);
            assert!(is_complete, "a listed session has {} messages", summary.messages);
            assert_eq!((summary.branches, summary.checkpoints), (2, 1), "every listed session is complete");
            let current = summary.session.current_branch;
            assert_eq!(store.read_messages(current, MessageRange::Newest(9)).unwrap().len(), 2);
            // The child may have been killed after the import and before its acknowledgement.
            imported.entry(summary.session.id.to_string()).or_insert(seed);
        }
        assert_eq!(page.items.len(), imported.len(), "every acknowledged session exists");
        let listed: u64 = page.items.iter().map(|summary| summary.messages).sum();
        assert_eq!(store.info().unwrap().messages, listed);
        assert_intact(&store);
    }
}
