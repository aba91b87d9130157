//! Rewind, fork and switch: what they cost does not depend on how long the session is.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on ends")]

use std::cell::Cell;
use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use hfs_core::{
    Agent, AgentDescription, AgentError, BranchId, CheckpointId, MessageDraft, NoHooks, Position, RunOutcome,
    RunRequest, RunSink, Store, SystemClock,
};
use hfs_engine::{Engine, EngineParts, Settings};
use hfs_store::{SqliteOptions, SqliteStore};
use testkit::bench::{Bench, Target, Unit};
use testkit::builders::{Drafts, at, growing_state};

/// What one message says: the median of real ones.
const WORDS: usize = 600;
/// How many times each operation is done where its bytes are counted.
const TIMES: u32 = 60;

/// Nobody is asked anything here.
struct Nobody;

#[async_trait]
impl Agent for Nobody {
    fn describe(&self) -> AgentDescription {
        AgentDescription { name: "nobody".into(), model: None, summary: String::new() }
    }

    async fn run(&self, _request: RunRequest, _sink: &dyn RunSink) -> Result<RunOutcome, AgentError> {
        Err(AgentError::Cancelled)
    }
}

/// A session of some length, with a checkpoint in its middle.
struct Scene {
    engine: Engine,
    make: Drafts,
    main: Position,
    branch: BranchId,
    checkpoint: CheckpointId,
    turn: Cell<u64>,
    home: tempfile::TempDir,
}

impl Scene {
    fn new(messages: usize) -> Self {
        let home = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(home.path().join("hfs.db"), SqliteOptions::default()).unwrap();
        let engine = Engine::new(EngineParts {
            store: Arc::new(store),
            agent: Arc::new(Nobody),
            hooks: Arc::new(NoHooks),
            clock: Arc::new(SystemClock),
            settings: Settings::default(),
        });
        let make = Drafts::new(1);
        let draft = make.session("long");
        let store = engine.store();
        store.create_session(&draft).unwrap();
        let mut main = at(draft.main_branch, 0);
        let text = "some words ".repeat(WORDS / 11);
        let mut left = messages;
        while left > 0 {
            let some: Vec<MessageDraft> = (0..left.min(1000)).map(|_| make.user(&text)).collect();
            main = store.append(main, &some).unwrap().position;
            left -= some.len();
        }
        let middle = at(main.branch, main.head / 2);
        let checkpoint = make.checkpoint(middle, growing_state(100));
        store.create_checkpoint(&checkpoint, 10).unwrap();
        let branch = engine.fork(main.branch, main.head, Some("other")).unwrap().id;
        Self { engine, make, main, branch, checkpoint: checkpoint.id, turn: Cell::new(0), home }
    }

    fn store(&self) -> &dyn Store {
        self.engine.store().as_ref()
    }

    /// Another number with each call.
    fn next(&self) -> u64 {
        self.turn.set(self.turn.get() + 1);
        self.turn.get()
    }

    fn rewind(&self) -> Duration {
        timed(|| self.engine.rewind(self.checkpoint).unwrap())
    }

    fn fork(&self) -> Duration {
        let name = format!("fork {}", self.next());
        timed(|| self.engine.fork(self.main.branch, self.main.head - 1, Some(&name)).unwrap())
    }

    fn switch(&self) -> Duration {
        let branch = if self.next().is_multiple_of(2) { self.main.branch } else { self.branch };
        let session = self.store().get_branch(branch).unwrap().session;
        timed(|| self.engine.switch(session, branch).unwrap())
    }

    /// A message at the end of another branch.
    fn append(&self) -> Duration {
        let head = self.store().get_branch(self.branch).unwrap().head;
        let message = self.make.user(&"some words ".repeat(WORDS / 11));
        timed(|| self.store().append(at(self.branch, head), std::slice::from_ref(&message)).unwrap())
    }

    /// The bytes of everything, as a compact copy has them.
    #[allow(clippy::cast_precision_loss, reason = "these are megabytes")]
    fn bytes(&self) -> f64 {
        let copy = self.home.path().join(format!("copy-{}.db", self.next()));
        self.store().backup(&copy).unwrap();
        std::fs::metadata(copy).unwrap().len() as f64
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let begin = Instant::now();
    black_box(work());
    begin.elapsed()
}

type Act = fn(&Scene) -> Duration;

fn main() -> ExitCode {
    let mut bench = Bench::from_args("time_travel");
    let acts: [(&str, Act); 3] =
        [("rewind", Scene::rewind), ("fork", Scene::fork), ("switch", Scene::switch)];
    let (long, short) = (Scene::new(bench.size(100_000, 100)), Scene::new(10));
    for (name, act) in acts {
        bench
            .pair(&format!("{name} in 100,000 messages, beside the same in 10"))
            .median(Target::AtMost(1.25))
            .run_timed(|| act(&long), || act(&short));
        bench
            .pair(&format!("{name} in 100,000 messages, beside one durable append"))
            .median(Target::AtMost(5.0))
            .run_timed(|| act(&long), || long.append());
    }
    for (name, act) in acts {
        let before = long.bytes();
        let times = f64::from(u32::try_from(bench.size(TIMES as usize, 2)).unwrap());
        for _ in 0..bench.size(TIMES as usize, 2) {
            act(&long);
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
