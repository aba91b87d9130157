//! Rewind, fork and switch, whose cost must not depend on the length of the session.

#![allow(clippy::unwrap_used, reason = "benchmarks may panic")]

use std::cell::Cell;
use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use hfs_core::{
    Agent, AgentDescription, AgentError, BranchId, CheckpointId, MessageDraft, Position, RunOutcome,
    RunRequest, RunSink, Store,
};
use hfs_engine::{BlockingEngine, Engine};
use hfs_store::{SqliteOptions, SqliteStore};
use testkit::bench::{Bench, Target, Unit};
use testkit::builders::{Drafts, at, growing_state};

/// Characters of a message: the median of real transcripts.
const MESSAGE_CHARS: usize = 600;
/// Repetitions of an operation when its disk usage is measured.
const REPETITIONS: u32 = 60;

/// Never runs, since the benchmark sends no messages.
struct NoAgent;

#[async_trait]
impl Agent for NoAgent {
    fn describe(&self) -> AgentDescription {
        AgentDescription::new("none", "")
    }

    async fn run(&self, _request: RunRequest, _sink: &dyn RunSink) -> Result<RunOutcome, AgentError> {
        Err(AgentError::Cancelled)
    }
}

/// A session with a checkpoint in its middle and a second branch.
struct Fixture {
    engine: BlockingEngine,
    drafts: Drafts,
    main: Position,
    second_branch: BranchId,
    checkpoint: CheckpointId,
    counter: Cell<u64>,
    directory: tempfile::TempDir,
}

impl Fixture {
    fn new(messages: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(directory.path().join("hfs.db"), SqliteOptions::default()).unwrap();
        let engine = Engine::builder(Arc::new(store), Arc::new(NoAgent)).build();
        let engine = BlockingEngine::new(engine).unwrap();
        let drafts = Drafts::new(1);
        let draft = drafts.session("long");
        let store = engine.store();
        store.create_session(&draft).unwrap();
        let mut main = at(draft.main_branch, 0);
        let text = "some words ".repeat(MESSAGE_CHARS / 11);
        let mut left = messages;
        while left > 0 {
            let batch: Vec<MessageDraft> = (0..left.min(1000)).map(|_| drafts.user(&text)).collect();
            main = store.append(main, &batch).unwrap().position;
            left -= batch.len();
        }
        let middle = at(main.branch, main.head / 2);
        let checkpoint = drafts.checkpoint(middle, growing_state(100));
        store.create_checkpoint(&checkpoint, 10).unwrap();
        let second_branch = engine.fork(main.branch, main.head, Some("other")).unwrap().id;
        let checkpoint = checkpoint.id;
        Self { engine, drafts, main, second_branch, checkpoint, counter: Cell::new(0), directory }
    }

    fn store(&self) -> &dyn Store {
        self.engine.store().as_ref()
    }

    /// A number that differs with each call.
    fn next(&self) -> u64 {
        self.counter.set(self.counter.get() + 1);
        self.counter.get()
    }

    fn rewind(&self) -> Duration {
        timed(|| self.engine.rewind(self.checkpoint).unwrap())
    }

    fn fork(&self) -> Duration {
        let name = format!("fork {}", self.next());
        timed(|| self.engine.fork(self.main.branch, self.main.head - 1, Some(&name)).unwrap())
    }

    fn switch(&self) -> Duration {
        let branch = if self.next().is_multiple_of(2) { self.main.branch } else { self.second_branch };
        let session = self.store().get_branch(branch).unwrap().session;
        timed(|| self.engine.switch(session, branch).unwrap())
    }

    /// Appends a message to the second branch.
    fn append(&self) -> Duration {
        let head = self.store().get_branch(self.second_branch).unwrap().head;
        let message = self.drafts.user(&"some words ".repeat(MESSAGE_CHARS / 11));
        timed(|| self.store().append(at(self.second_branch, head), std::slice::from_ref(&message)).unwrap())
    }

    /// Size of a compact copy of the store in bytes.
    #[allow(clippy::cast_precision_loss, reason = "the size is far below 2^52")]
    fn bytes(&self) -> f64 {
        let copy = self.directory.path().join(format!("copy-{}.db", self.next()));
        self.store().backup(&copy).unwrap();
        std::fs::metadata(copy).unwrap().len() as f64
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let start = Instant::now();
    black_box(work());
    start.elapsed()
}

type Operation = fn(&Fixture) -> Duration;

fn main() -> ExitCode {
    let mut bench = Bench::from_args("time_travel");
    let operations: [(&str, Operation); 3] =
        [("rewind", Fixture::rewind), ("fork", Fixture::fork), ("switch", Fixture::switch)];
    let (long, short) = (Fixture::new(bench.size(100_000, 100)), Fixture::new(10));
    for (name, operation) in operations {
        bench
            .pair(&format!("{name} in 100,000 messages, beside the same in 10"))
            .median(Target::AtMost(1.25))
            .run_timed(|| operation(&long), || operation(&short));
        bench
            .pair(&format!("{name} in 100,000 messages, beside one durable append"))
            .median(Target::AtMost(5.0))
            .run_timed(|| operation(&long), || long.append());
    }
    for (name, operation) in operations {
        let before = long.bytes();
        let times = f64::from(u32::try_from(bench.size(REPETITIONS as usize, 2)).unwrap());
        for _ in 0..bench.size(REPETITIONS as usize, 2) {
            operation(&long);
        }
        let each = (long.bytes() - before) / times;
        bench.amounts(
            &format!("bytes of one {name} in 100,000 messages, beside 4 KB"),
            each,
            4096.0,
            Unit::Bytes,
            Target::AtMost(1.0),
        );
    }
    bench.finish()
}
