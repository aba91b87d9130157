//! Helpers: a scripted agent, a recording observer, and engines.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use hfs_core::{
    Agent, AgentDescription, AgentError, AgentMemory, EventPayload, Hooks, NoHooks, Part, ReplyDelta,
    RunOutcome, RunRequest, RunSink, Store,
};
use hfs_engine::{Engine, Observer, Settings, Update};
use hfs_store::MemoryStore;
use testkit::clock::TestClock;

/// Step of a [`Scripted`] agent.
#[derive(Clone)]
pub enum Step {
    Say(&'static str),
    Think(&'static str),
    Event(EventPayload),
    /// Adds an entry to the memory of an agent.
    Remember(&'static str, &'static str),
    /// Waits until the run is cancelled and then returns at once.
    AwaitCancel,
    /// Never returns, even if the run is cancelled.
    Hang,
    /// Waits for this many milliseconds.
    Pause(u64),
    Fail,
    /// Calls a closure.
    Call(Arc<dyn Fn() + Send + Sync>),
}

/// Performs its steps in every run and records the requests.
pub struct Scripted {
    pub steps: Mutex<Vec<Step>>,
    pub requests: Mutex<Vec<RunRequest>>,
}

impl Scripted {
    pub fn new(steps: Vec<Step>) -> Arc<Self> {
        Arc::new(Self { steps: Mutex::new(steps), requests: Mutex::new(Vec::new()) })
    }
}

/// The entries that [`Step::Remember`] added to a memory.
pub fn entries(memory: &AgentMemory) -> Vec<String> {
    memory.read().unwrap()
}

#[async_trait]
impl Agent for Scripted {
    fn describe(&self) -> AgentDescription {
        AgentDescription::new("scripted", "performs the steps of a test")
    }

    async fn run(&self, request: RunRequest, sink: &dyn RunSink) -> Result<RunOutcome, AgentError> {
        let steps = self.steps.lock().unwrap().clone();
        let cancel = request.cancel.clone();
        let mut memories = request.memories.clone();
        self.requests.lock().unwrap().push(request);
        let mut reply = String::new();
        for step in steps {
            match step {
                Step::Say(text) => {
                    reply.push_str(text);
                    sink.reply(ReplyDelta::text(text));
                }
                Step::Think(text) => sink.reply(ReplyDelta::thinking(text)),
                Step::Event(payload) => sink.event(payload),
                Step::Remember(agent, text) => {
                    let mut all = memories.get(agent).map(entries).unwrap_or_default();
                    all.push(text.to_owned());
                    let memory = AgentMemory::new(&all).unwrap();
                    memories.insert(agent.to_owned(), memory.clone());
                    sink.remember(agent, memory);
                }
                Step::AwaitCancel => {
                    cancel.cancelled().await;
                    return Err(AgentError::Cancelled);
                }
                Step::Hang => std::future::pending().await,
                Step::Pause(millis) => tokio::time::sleep(std::time::Duration::from_millis(millis)).await,
                Step::Call(call) => call(),
                Step::Fail => {
                    return Err(AgentError::Unavailable {
                        provider: "test".into(),
                        message: "gone".into(),
                        retry_after: None,
                        suggestion: None,
                    });
                }
            }
        }
        Ok(RunOutcome::new(vec![Part::text(reply)]))
    }
}

/// Records every update.
#[derive(Default)]
pub struct Recorded(pub Mutex<Vec<Update>>);

impl Observer for Recorded {
    fn update(&self, update: Update) {
        self.0.lock().unwrap().push(update);
    }
}

impl Recorded {
    pub fn count(&self, which: impl Fn(&Update) -> bool) -> usize {
        self.0.lock().unwrap().iter().filter(|update| which(update)).count()
    }
}

/// A store with injected failures and delays.
pub type FaultyStore = testkit::faulty_store::FaultyStore<MemoryStore>;

pub fn faulty_store() -> Arc<FaultyStore> {
    Arc::new(FaultyStore::new(MemoryStore::new(Arc::new(TestClock::ticking()))))
}

pub fn memory_store() -> Arc<MemoryStore> {
    Arc::new(MemoryStore::new(Arc::new(TestClock::ticking())))
}

fn build(store: Arc<dyn Store>, agent: Arc<dyn Agent>, hooks: Arc<dyn Hooks>, settings: Settings) -> Engine {
    Engine::builder(store, agent)
        .hooks(hooks)
        .clock(Arc::new(TestClock::ticking()))
        .settings(settings.with_time_zone(jiff::tz::TimeZone::UTC))
        .build()
}

pub fn engine(store: Arc<dyn Store>, agent: Arc<dyn Agent>) -> Engine {
    build(store, agent, Arc::new(NoHooks), Settings::default())
}

pub fn engine_with_hooks(store: Arc<dyn Store>, agent: Arc<dyn Agent>, hooks: Arc<dyn Hooks>) -> Engine {
    build(store, agent, hooks, Settings::default())
}

pub fn engine_with_settings(store: Arc<dyn Store>, agent: Arc<dyn Agent>, settings: Settings) -> Engine {
    build(store, agent, Arc::new(NoHooks), settings)
}
