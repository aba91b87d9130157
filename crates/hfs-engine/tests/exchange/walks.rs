//! Whatever is done to a session, and in whatever order, on every store alike: a checkpoint gives back the fold of
//! its run's events, histories only grow, and undo and redo are inverses.

use std::collections::HashMap;
use std::sync::Arc;

use hfs_core::{BranchId, EventPayload};
use hfs_core::{
    CheckpointId, CheckpointState, ErrorExt, MessageId, MessageRange, RunSnapshot, SessionId, Store,
};
use hfs_engine::{Conversation, Engine, EngineError, Settings};
use hfs_store::{Durability, SqliteOptions, SqliteStore};
use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

use crate::agent::{Heard, Scripted, Step, engine_set, memory_store};

/// How many automatic checkpoints these sessions keep: few, so that they are pruned often.
const RETENTION: u32 = 4;

/// Something that is done to a session. Numbers choose among what there is, going round.
#[derive(Debug, Clone)]
enum Act {
    Send { phases: u8 },
    Mark,
    Delete(u8),
    Pin(u8),
    Rewind(u8),
    RewindAndBack(u8),
    Fork { back: u8 },
    Switch(u8),
    Undo,
    Redo,
    UndoAndRedo,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        5 => (0..4_u8).prop_map(|phases| Act::Send { phases }),
        1 => Just(Act::Mark),
        1 => any::<u8>().prop_map(Act::Delete),
        1 => any::<u8>().prop_map(Act::Pin),
        2 => any::<u8>().prop_map(Act::Rewind),
        1 => any::<u8>().prop_map(Act::RewindAndBack),
        1 => (0..5_u8).prop_map(|back| Act::Fork { back }),
        2 => any::<u8>().prop_map(Act::Switch),
        2 => Just(Act::Undo),
        1 => Just(Act::Redo),
        2 => Just(Act::UndoAndRedo),
    ]
}

type History = Vec<(MessageId, String)>;

/// A session on one store, and what is known of it.
struct Walk {
    engine: Engine,
    agent: Arc<Scripted>,
    session: SessionId,
    runtime: tokio::runtime::Runtime,
    states: HashMap<CheckpointId, CheckpointState>,
    histories: HashMap<BranchId, History>,
}

impl Walk {
    fn begin(store: Arc<dyn Store>) -> Self {
        let agent = Scripted::new(vec![Step::Say("ok")]);
        let settings = Settings { checkpoint_retention: RETENTION, ..Settings::default() };
        let engine = engine_set(store, agent.clone(), settings);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let mut conversation = Conversation::new(None);
        let heard = Arc::new(Heard::default());
        let sent = engine.send(&mut conversation, "begin", heard, CancellationToken::new());
        runtime.block_on(sent).unwrap();
        let session = conversation.session().unwrap();
        Self { engine, agent, session, runtime, states: HashMap::new(), histories: HashMap::new() }
    }

    fn store(&self) -> &dyn Store {
        self.engine.store().as_ref()
    }

    fn send(&self, phases: u8) {
        let phase = |number: u8| {
            let phase = format!("phase {number}");
            [
                Step::Event(EventPayload::PhaseStarted { phase: phase.clone() }),
                Step::Remember("a", "another thing"),
                Step::Event(EventPayload::PhaseEnded { phase, duration_ms: 1 }),
            ]
        };
        let steps = (0..phases).flat_map(phase).chain([Step::Say("ok")]);
        *self.agent.steps.lock().unwrap() = steps.collect();
        let mut conversation = self.engine.resume(self.session, None).unwrap();
        let heard = Arc::new(Heard::default());
        let sent = self.engine.send(&mut conversation, "go on", heard, CancellationToken::new());
        assert!(self.runtime.block_on(sent).unwrap().failure.is_none());
        let checkpoints = self.store().list_checkpoints(self.session).unwrap();
        let automatic =
            checkpoints.iter().filter(|mark| !mark.pinned && mark.trigger != Trigger::Manual).count();
        assert!(automatic <= RETENTION as usize, "retention holds behind every run");
    }

    fn checkpoint(&self, number: u8) -> Option<CheckpointId> {
        let all = self.store().list_checkpoints(self.session).unwrap();
        all.get(usize::from(number) % all.len().max(1)).map(|checkpoint| checkpoint.id)
    }

    /// What users see of the session, but times.
    fn shape(&self) -> String {
        let store = self.store();
        let summary = store.get_session(self.session).unwrap();
        let branches = store.list_branches(self.session).unwrap();
        let shown = branches.iter().filter(|branch| !branch.undone);
        let shown: Vec<_> = shown.map(|branch| (&branch.name, branch.forked_at, branch.head)).collect();
        let start = store.load_branch_state(summary.session.current_branch).unwrap();
        let memories = start.map(|state| state.agents.get("a").map_or(0, |memory| memory.len()));
        let checkpoints = store.list_checkpoints(self.session).unwrap();
        let marks: Vec<_> =
            checkpoints.iter().map(|mark| (mark.seq, mark.trigger.as_str(), mark.pinned)).collect();
        format!(
            "{:?} on {} starting from {memories:?}: {shown:?} {marks:?}",
            summary.session.name, summary.branch
        )
    }

    /// Does it. What came of that is the same on every store.
    fn take(&mut self, act: &Act) -> String {
        let told = |result: Result<(), EngineError>| match result {
            Ok(()) => "done".to_owned(),
            Err(error) => error.kind().as_str().to_owned(),
        };
        match *act {
            Act::Send { phases } => self.send(phases),
            Act::Mark => {
                let here = self.engine.resume(self.session, None).unwrap();
                self.engine.checkpoint(&here, None).unwrap();
            }
            Act::Delete(number) => {
                let Some(id) = self.checkpoint(number) else { return String::new() };
                self.store().delete_checkpoint(id, hfs_core::Timestamp::UNIX_EPOCH).unwrap();
            }
            Act::Pin(number) => {
                let Some(id) = self.checkpoint(number) else { return String::new() };
                self.store().pin_checkpoint(id, number.is_multiple_of(2)).unwrap();
            }
            Act::Rewind(number) => {
                let Some(id) = self.checkpoint(number) else { return String::new() };
                let state = self.engine.rewind(id).unwrap().state;
                self.send(1);
                let requests = self.agent.requests.lock().unwrap();
                assert_eq!(
                    requests.last().unwrap().memories,
                    state.agents,
                    "the run starts from what was restored"
                );
            }
            Act::RewindAndBack(number) => {
                let Some(id) = self.checkpoint(number) else { return String::new() };
                let before = self.shape();
                self.engine.rewind(id).unwrap();
                self.engine.undo(self.session).unwrap();
                assert_eq!(self.shape(), before, "undo of a rewind is the identity");
            }
            Act::Fork { back } => {
                let here = self.engine.resume(self.session, None).unwrap();
                let at = here.head().saturating_sub(back.into());
                self.engine.fork(here.branch().unwrap(), at, None).unwrap();
            }
            Act::Switch(number) => {
                let branches = self.store().list_branches(self.session).unwrap();
                let branch = &branches[usize::from(number) % branches.len()];
                return told(self.engine.switch(self.session, branch.id).map(drop));
            }
            Act::Undo => return told(self.engine.undo(self.session).map(drop)),
            Act::Redo => return told(self.engine.redo(self.session).map(drop)),
            Act::UndoAndRedo => {
                let before = self.shape();
                let undone = self.engine.undo(self.session).map(drop);
                if undone.is_ok() {
                    self.engine.redo(self.session).unwrap();
                }
                assert_eq!(self.shape(), before);
                return told(undone);
            }
        }
        String::new()
    }

    fn check(&mut self) {
        let store = Arc::clone(self.engine.store());
        let checkpoints = store.list_checkpoints(self.session).unwrap();
        for mark in checkpoints {
            let state = store.load_state(mark.id).unwrap();
            if mark.trigger != Trigger::Manual {
                let run = store.get_run(state.run_snapshot.run_id.unwrap()).unwrap();
                let is_its = |event: &hfs_core::Event| {
                    event.at == mark.created_at && event.payload.kind() == mark.trigger.as_str()
                };
                let until = run.events.iter().position(is_its).unwrap();
                assert_eq!(*state.run_snapshot, RunSnapshot::fold(&run.events[..=until]));
            }
            let known = self.states.entry(mark.id).or_insert_with(|| state.clone());
            assert_eq!(*known, state, "a checkpoint never changes");
        }
        for branch in store.list_branches(self.session).unwrap() {
            let messages = store.read_messages(branch.id, MessageRange::From(1, u32::MAX)).unwrap();
            let history: History =
                messages.iter().map(|message| (message.content.id, message.content.text())).collect();
            let known = self.histories.entry(branch.id).or_default();
            assert!(history.starts_with(known), "a history only grows");
            *known = history;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn checkpoints_histories_and_undo_keep_their_promises_in_any_order(
        acts in prop::collection::vec(act(), 1..25),
    ) {
        let home = tempfile::tempdir().unwrap();
        let options = SqliteOptions { durability: Durability::Fast, ..SqliteOptions::default() };
        let sqlite = Arc::new(SqliteStore::open(home.path().join("hfs.db"), options).unwrap());
        let mut walks = [Walk::begin(memory_store()), Walk::begin(sqlite)];
        for act in &acts {
            let [memory, sqlite] = walks.each_mut().map(|walk| {
                let told = walk.take(act);
                walk.check();
                format!("{told} {}", walk.shape())
            });
            prop_assert_eq!(memory, sqlite);
        }
        for walk in walks {
            let verification = walk.store().verify().unwrap();
            prop_assert!(verification.is_ok(), "{:#?}", verification.problems);
        }
    }
}
