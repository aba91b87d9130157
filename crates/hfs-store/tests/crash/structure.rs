//! A process that marks, goes back, forks, undoes and prunes. As each of its operations happens or does not, the
//! store must look as after all that were acknowledged, or as after one more: the store in memory tells how that
//! looks.

use std::fmt::Write;
use std::sync::Arc;

use hfs_core::{
    CheckpointDraft, Maintenance as _, MessageRange, OperationKind, PageRequest, Position, SessionId, Store,
};
use hfs_store::MemoryStore;
use testkit::builders::{Drafts, at, growing_state};
use testkit::clock::TestClock;

use crate::child::{Part, acknowledge};
use crate::{assert_well, open};

/// A sequence of operations that depends on its seed only.
struct Script {
    make: Drafts,
    rng: fastrand::Rng,
    session: SessionId,
    taken: usize,
}

impl Script {
    /// Begins with a session in an empty store.
    fn begin(store: &dyn Store, seed: u64) -> Self {
        let make = Drafts::new(seed);
        let draft = make.session("structure");
        store.create_session(&draft).unwrap();
        let messages: Vec<_> = (0..6).map(|n| make.user(&format!("message {n}"))).collect();
        store.append(at(draft.main_branch, 0), &messages).unwrap();
        Self { make, rng: fastrand::Rng::with_seed(seed), session: draft.id, taken: 0 }
    }

    fn current(&self, store: &dyn Store) -> Position {
        let branch = store.get_session(self.session).unwrap().session.current_branch;
        at(branch, store.get_branch(branch).unwrap().head)
    }

    /// Takes the next step: one call, which may be refused.
    fn take(&mut self, store: &dyn Store) {
        self.taken += 1;
        let here = self.current(store);
        let now = self.make.now();
        let name = format!("branch {}", self.taken);
        let checkpoints = store.list_checkpoints(self.session).unwrap();
        let operations = store.list_operations(Some(self.session), &PageRequest::first(6)).unwrap().items;
        let choice = self.rng.usize(0..14);
        let (one, other) = (self.rng.usize(..), self.rng.usize(..));
        let back = u64::try_from(one % 4).unwrap();
        match choice {
            0..4 => {
                let state = growing_state(one % 50);
                let draft = self.make.checkpoint(at(here.branch, here.head.saturating_sub(back)), state);
                let pinned = other % 5 == 0;
                store.create_checkpoint(&CheckpointDraft { pinned, ..draft }, 3).unwrap();
            }
            4..6 if !checkpoints.is_empty() => {
                let checkpoint = &checkpoints[one % checkpoints.len()];
                let draft = self.make.branch(&name, at(checkpoint.branch, checkpoint.seq));
                store.create_branch(&draft, OperationKind::Rewind, Some(checkpoint.id), now).unwrap();
            }
            6 if !checkpoints.is_empty() => {
                store.delete_checkpoint(checkpoints[one % checkpoints.len()].id, now).unwrap();
            }
            7..11 => {
                let kind = if one % 2 == 0 { OperationKind::Undo } else { OperationKind::Redo };
                let target = &operations[other % operations.len()];
                // Whether it can be done now is the same for both stores.
                let _ = store.reverse(target.id, kind, now);
            }
            11 => {
                let draft = self.make.branch(&name, at(here.branch, here.head.saturating_sub(back)));
                store.create_branch(&draft, OperationKind::Fork, None, now).unwrap();
            }
            12 => store.save_branch_state(here.branch, &growing_state(one % 50)).unwrap(),
            _ => {
                store.append(here, &[self.make.user(&name)]).unwrap();
            }
        }
    }

    /// Without checkpoints and what branches start from, no state takes any space.
    fn assert_no_state_without_need(&self, store: &dyn Store) {
        for checkpoint in store.list_checkpoints(self.session).unwrap() {
            store.delete_checkpoint(checkpoint.id, self.make.now()).unwrap();
        }
        for branch in store.list_branches(self.session).unwrap() {
            store.save_branch_state(branch.id, &hfs_core::CheckpointState::default()).unwrap();
        }
        // All branches start from one small state now.
        let left = store.info().unwrap().checkpoint_bytes;
        assert!(left < 1000, "{left} bytes");
        assert_well(store);
    }

    /// Everything that these steps can change, as text.
    fn picture(&self, store: &dyn Store) -> String {
        let mut text = format!("{:?}\n", store.get_session(self.session).unwrap());
        for branch in store.list_branches(self.session).unwrap() {
            writeln!(text, "{branch:?}").unwrap();
            let history = store.read_messages(branch.id, MessageRange::From(1, u32::MAX)).unwrap();
            let history: Vec<_> =
                history.iter().map(|message| (message.content.id, message.content.text())).collect();
            let state = store.load_branch_state(branch.id).unwrap();
            let state = state.map(|state| state.agents["coder"].len());
            writeln!(text, "  {history:?} starts from {state:?}").unwrap();
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

pub fn play(part: &Part) {
    let store = open(&part.store);
    let mut script = Script::begin(&store, part.seed);
    for step in 0.. {
        acknowledge(&step.to_string());
        script.take(&store);
    }
}

pub fn survive(kills: u64) {
    let mut rng = fastrand::Rng::with_seed(4);
    for seed in 0..kills {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("hfs.db");
        let heard = Part::new("structure", &path, seed).start().kill_after(rng.usize(1..40), &mut rng);

        // As many steps as were acknowledged behind the first line, which says that it has begun.
        let memory = MemoryStore::new(Arc::new(TestClock::standing()));
        let mut script = Script::begin(&memory, seed);
        for _ in 1..heard.len() {
            script.take(&memory);
        }
        let before = script.picture(&memory);
        script.take(&memory);
        let after = script.picture(&memory);

        let store = open(&path);
        assert_well(&store);
        let found = script.picture(&store);
        // What was killed before it had let go of a keyframe has left nothing that a vacuum does not find.
        store.vacuum().unwrap();
        assert_well(&store);
        assert_eq!(script.picture(&store), found);
        script.assert_no_state_without_need(&store);
        assert!(
            found == before || found == after,
            "after {} steps with seed {seed}\n\nfound:\n{found}\n\nexpected:\n{before}\n\nor:\n{after}",
            heard.len() - 1
        );
    }
}
