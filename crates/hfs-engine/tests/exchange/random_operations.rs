//! Random sequences of operations on both stores: a checkpoint contains the fold of its run's events up to the event
//! that triggered it, histories only grow, and undo and redo are inverses.

use std::collections::HashMap;
use std::sync::Arc;

use hfs_core::{
    BranchId, Checkpoint, CheckpointId, CheckpointState, ErrorExt, EventPayload, MessageId, MessageRange,
    RunSnapshot, SessionId, Store, Trigger,
};
use hfs_engine::{BlockingEngine, Conversation, EngineError, RewindTarget, Settings, StateAtPlace};
use hfs_store::{Durability, SqliteOptions, SqliteStore};
use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

use crate::agent::{Recorded, Scripted, Step, engine_with_settings, entries, memory_store};

/// Retention of the test sessions: small, so that checkpoints are pruned often.
const RETENTION: u32 = 4;

/// An operation on a session. `phases` and `back` are counts; every other number selects one of the existing objects,
/// modulo their count.
#[derive(Debug, Clone)]
enum TestOperation {
    Send { phases: u8 },
    Fail { phases: u8, cancel: bool },
    Checkpoint,
    Delete(u8),
    Pin(u8),
    Rewind(u8),
    RewindAndBack(u8),
    RewindToMessage(u8),
    Fork { back: u8 },
    Switch(u8),
    Undo,
    Redo,
    UndoAndRedo,
}

fn operation() -> impl Strategy<Value = TestOperation> {
    prop_oneof![
        5 => (0..4_u8).prop_map(|phases| TestOperation::Send { phases }),
        2 => (0..4_u8, any::<bool>()).prop_map(|(phases, cancel)| TestOperation::Fail { phases, cancel }),
        1 => Just(TestOperation::Checkpoint),
        1 => any::<u8>().prop_map(TestOperation::Delete),
        1 => any::<u8>().prop_map(TestOperation::Pin),
        2 => any::<u8>().prop_map(TestOperation::Rewind),
        1 => any::<u8>().prop_map(TestOperation::RewindAndBack),
        2 => any::<u8>().prop_map(TestOperation::RewindToMessage),
        1 => (0..5_u8).prop_map(|back| TestOperation::Fork { back }),
        2 => any::<u8>().prop_map(TestOperation::Switch),
        2 => Just(TestOperation::Undo),
        1 => Just(TestOperation::Redo),
        2 => Just(TestOperation::UndoAndRedo),
    ]
}

type History = Vec<(MessageId, String)>;

/// A session on one store, with the states and histories seen so far.
struct TestSession {
    engine: BlockingEngine,
    agent: Arc<Scripted>,
    session: SessionId,
    states: HashMap<CheckpointId, CheckpointState>,
    histories: HashMap<BranchId, History>,
}

impl TestSession {
    fn new(store: Arc<dyn Store>) -> Self {
        let agent = Scripted::new(vec![Step::Say("ok")]);
        let settings = Settings::default().with_checkpoint_retention(RETENTION);
        let engine = BlockingEngine::new(engine_with_settings(store, agent.clone(), settings)).unwrap();
        let mut conversation = Conversation::new(None);
        let updates = Arc::new(Recorded::default());
        engine.send(&mut conversation, "start", updates, CancellationToken::new()).unwrap();
        let session = conversation.session().unwrap();
        Self { engine, agent, session, states: HashMap::new(), histories: HashMap::new() }
    }

    fn store(&self) -> &dyn Store {
        self.engine.store().as_ref()
    }

    /// Sends a message whose run fails or is cancelled after some phases.
    fn fail(&self, phases: u8, cancel: bool) {
        let numbers = || -> Vec<u64> {
            let listed = self.store().list_checkpoints(self.session).unwrap();
            listed.iter().filter(|one| one.trigger.ends_run()).map(|one| one.number).collect()
        };
        let before = numbers();
        let cancelled = CancellationToken::new();
        let end = if cancel {
            let token = cancelled.clone();
            vec![Step::Call(Arc::new(move || token.cancel())), Step::AwaitCancel]
        } else {
            vec![Step::Fail]
        };
        *self.agent.steps.lock().unwrap() = Self::phases(phases).chain(end).collect();
        let mut conversation = self.engine.resume(self.session, None).unwrap();
        let updates = Arc::new(Recorded::default());
        let exchange = self.engine.send(&mut conversation, "continue", updates, cancelled);
        let run = exchange.unwrap();
        assert!(run.failure.is_some());
        assert_eq!(numbers(), before, "a failed request removes no state of another run");
        for checkpoint in self.store().list_checkpoints(self.session).unwrap() {
            let state = self.store().load_state(checkpoint.id).unwrap();
            assert!(
                state.run_snapshot.run_id != Some(run.run.id) || checkpoint.trigger == Trigger::Manual,
                "a failed request makes no automatic checkpoint"
            );
        }
    }

    fn phases(count: u8) -> impl Iterator<Item = Step> {
        (0..count).flat_map(|number| {
            let phase = format!("phase {number}");
            [
                Step::Event(EventPayload::PhaseStarted { phase: phase.clone() }),
                Step::Remember("a", "another thing"),
                Step::Event(EventPayload::PhaseEnded { phase, duration_ms: 1 }),
            ]
        })
    }

    fn send(&self, phases: u8) {
        *self.agent.steps.lock().unwrap() = Self::phases(phases).chain([Step::Say("ok")]).collect();
        let mut conversation = self.engine.resume(self.session, None).unwrap();
        let updates = Arc::new(Recorded::default());
        let exchange = self.engine.send(&mut conversation, "continue", updates, CancellationToken::new());
        assert!(exchange.unwrap().failure.is_none());
        let checkpoints = self.store().list_checkpoints(self.session).unwrap();
        let is_automatic =
            |checkpoint: &&Checkpoint| !checkpoint.pinned && checkpoint.trigger != Trigger::Manual;
        let automatic = checkpoints.iter().filter(is_automatic).count();
        assert!(
            automatic <= RETENTION as usize,
            "no run leaves more automatic checkpoints than the retention"
        );
    }

    fn checkpoint(&self, number: u8) -> Option<CheckpointId> {
        let all = self.store().list_checkpoints(self.session).unwrap();
        all.get(usize::from(number) % all.len().max(1)).map(|checkpoint| checkpoint.id)
    }

    /// The state of the session that users can see, without times.
    fn visible_state(&self) -> String {
        let store = self.store();
        let summary = store.get_session(self.session).unwrap();
        let branches = store.list_branches(self.session).unwrap();
        let shown = branches.iter().filter(|branch| !branch.undone);
        let shown: Vec<_> = shown.map(|branch| (&branch.name, branch.forked_at, branch.head)).collect();
        let start = store.load_branch_state(summary.session.current_branch).unwrap();
        let memories = start.map(|state| state.agents.get("a").map_or(0, |memory| entries(memory).len()));
        let checkpoints = store.list_checkpoints(self.session).unwrap();
        let shown_checkpoints: Vec<_> = checkpoints
            .iter()
            .map(|checkpoint| (checkpoint.seq, checkpoint.trigger.as_str(), checkpoint.pinned))
            .collect();
        format!(
            "{:?} on {} starting from {memories:?}: {shown:?} {shown_checkpoints:?}",
            summary.session.name, summary.branch
        )
    }

    /// Performs an operation and returns its outcome, which must be the same on both stores.
    fn perform(&mut self, operation: &TestOperation) -> String {
        let outcome = |result: Result<(), EngineError>| match result {
            Ok(()) => "done".to_owned(),
            Err(error) => error.kind().as_str().to_owned(),
        };
        match *operation {
            TestOperation::Send { phases } => self.send(phases),
            TestOperation::Fail { phases, cancel } => self.fail(phases, cancel),
            TestOperation::Checkpoint => {
                let here = self.engine.resume(self.session, None).unwrap();
                self.engine.checkpoint(&here, None).unwrap();
            }
            TestOperation::Delete(number) => {
                let Some(id) = self.checkpoint(number) else { return String::new() };
                self.store().delete_checkpoint(id, hfs_core::Timestamp::UNIX_EPOCH).unwrap();
            }
            TestOperation::Pin(number) => {
                let Some(id) = self.checkpoint(number) else { return String::new() };
                self.store().pin_checkpoint(id, number.is_multiple_of(2)).unwrap();
            }
            TestOperation::Rewind(number) => {
                let Some(id) = self.checkpoint(number) else { return String::new() };
                let state = self.engine.rewind(id).unwrap().state;
                self.send(1);
                let requests = self.agent.requests.lock().unwrap();
                assert_eq!(
                    requests.last().unwrap().memories,
                    state.agents,
                    "the run starts from the restored memories"
                );
            }
            TestOperation::RewindAndBack(number) => {
                let Some(id) = self.checkpoint(number) else { return String::new() };
                let before = self.visible_state();
                self.engine.rewind(id).unwrap();
                self.engine.undo(self.session).unwrap();
                assert_eq!(self.visible_state(), before, "undo reverses a rewind");
            }
            TestOperation::RewindToMessage(number) => {
                let here = self.engine.resume(self.session, None).unwrap();
                let (branch, seq) = (here.branch().unwrap(), u64::from(number) % (here.head() + 1));
                let rewound = self.engine.rewind(RewindTarget::Message { branch, seq }).unwrap();
                assert_eq!((rewound.branch.head, rewound.plan.in_view), (seq, seq));
                let stored = self.store().load_branch_state(rewound.branch.id).unwrap();
                match &rewound.plan.state {
                    StateAtPlace::Kept(checkpoint) => {
                        assert!(checkpoint.seq <= seq);
                        assert_eq!(stored, Some(rewound.state.clone()));
                    }
                    StateAtPlace::Initial | StateAtPlace::NotKept => assert_eq!(stored, None),
                }
                self.send(1);
                let requests = self.agent.requests.lock().unwrap();
                assert_eq!(requests.last().unwrap().memories, rewound.state.agents);
            }
            TestOperation::Fork { back } => {
                let here = self.engine.resume(self.session, None).unwrap();
                let at = here.head().saturating_sub(back.into());
                self.engine.fork(here.branch().unwrap(), at, None).unwrap();
            }
            TestOperation::Switch(number) => {
                let branches = self.store().list_branches(self.session).unwrap();
                let branch = &branches[usize::from(number) % branches.len()];
                return outcome(self.engine.switch(self.session, branch.id).map(drop));
            }
            TestOperation::Undo => return outcome(self.engine.undo(self.session).map(drop)),
            TestOperation::Redo => return outcome(self.engine.redo(self.session).map(drop)),
            TestOperation::UndoAndRedo => {
                let before = self.visible_state();
                let undone = self.engine.undo(self.session).map(drop);
                if undone.is_ok() {
                    self.engine.redo(self.session).unwrap();
                }
                assert_eq!(self.visible_state(), before);
                return outcome(undone);
            }
        }
        String::new()
    }

    fn check(&mut self) {
        let store = Arc::clone(self.engine.store());
        let checkpoints = store.list_checkpoints(self.session).unwrap();
        for checkpoint in checkpoints {
            let state = store.load_state(checkpoint.id).unwrap();
            if checkpoint.trigger != Trigger::Manual {
                let run = store.get_run(state.run_snapshot.run_id.unwrap()).unwrap();
                // The test clock never returns the same time twice, so time and type identify the event.
                let is_trigger = |event: &hfs_core::Event| {
                    event.at == checkpoint.created_at && event.payload.kind() == checkpoint.trigger.as_str()
                };
                let until = run.events.iter().position(is_trigger).unwrap();
                assert_eq!(*state.run_snapshot, RunSnapshot::fold(&run.events[..=until]));
            }
            let known = self.states.entry(checkpoint.id).or_insert_with(|| state.clone());
            assert_eq!(*known, state, "a checkpoint never changes");
        }
        for branch in store.list_branches(self.session).unwrap() {
            let messages = store.read_messages(branch.id, MessageRange::From(1, u32::MAX)).unwrap();
            let history: History =
                messages.iter().map(|message| (message.content.id, message.content.text())).collect();
            let known = self.histories.entry(branch.id).or_default();
            assert!(history.starts_with(known), "a history only grows");
            *known = history;
            assert!(branch.is_listed() || branch.head == branch.forked_at, "words stay within reach");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn invariants_hold_after_every_sequence_of_operations(
        operations in prop::collection::vec(operation(), 1..25),
    ) {
        let home = tempfile::tempdir().unwrap();
        let options = SqliteOptions { durability: Durability::Fast, ..SqliteOptions::default() };
        let sqlite = Arc::new(SqliteStore::open(home.path().join("hfs.db"), options).unwrap());
        let mut sessions = [TestSession::new(memory_store()), TestSession::new(sqlite)];
        for operation in &operations {
            let [memory, sqlite] = sessions.each_mut().map(|session| {
                let outcome = session.perform(operation);
                session.check();
                format!("{outcome} {}", session.visible_state())
            });
            prop_assert_eq!(memory, sqlite);
        }
        for session in sessions {
            let verification = session.store().verify().unwrap();
            prop_assert!(verification.is_ok(), "{:#?}", verification.problems);
        }
    }
}
