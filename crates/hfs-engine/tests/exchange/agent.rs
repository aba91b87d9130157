//! An agent that does what a test tells it, and a listener that remembers what it was told.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use hfs_core::{
    Agent, AgentDescription, AgentError, AgentMemory, DeltaKind, EventPayload, Hooks, NoHooks, Part, Role,
    RunOutcome, RunRequest, RunSink, Store,
};
use hfs_engine::{Engine, EngineParts, Observer, Settings, Update};
use hfs_store::MemoryStore;
use testkit::clock::TestClock;

/// One thing that the agent does.
#[derive(Clone)]
pub enum Step {
    Say(&'static str),
    Think(&'static str),
    Event(EventPayload),
    Remember(&'static str, &'static str),
    /// Waits until it is cancelled, and then returns at once.
    AwaitCancel,
    /// Never returns, whatever is asked.
    Hang,
    /// Lets other tasks go on for this many milliseconds.
    Pause(u64),
    Fail,
    /// Does something else.
    Call(Arc<dyn Fn() + Send + Sync>),
}

/// Does the steps of its script at every run, and keeps what it was asked.
pub struct Scripted {
    pub steps: Mutex<Vec<Step>>,
    pub requests: Mutex<Vec<RunRequest>>,
}

impl Scripted {
    pub fn new(steps: Vec<Step>) -> Arc<Self> {
        Arc::new(Self { steps: Mutex::new(steps), requests: Mutex::new(Vec::new()) })
    }
}

#[async_trait]
impl Agent for Scripted {
    fn describe(&self) -> AgentDescription {
        AgentDescription { name: "scripted".into(), model: None, summary: "does what a test says".into() }
    }

    async fn run(&self, request: RunRequest, sink: &dyn RunSink) -> Result<RunOutcome, AgentError> {
        let steps = self.steps.lock().unwrap().clone();
        let cancel = request.cancel.clone();
        let mut memories = request.memories.clone();
        self.requests.lock().unwrap().push(request);
        let mut said = String::new();
        for step in steps {
            match step {
                Step::Say(text) => {
                    said.push_str(text);
                    sink.reply(ReplyDelta::text(text));
                }
                Step::Think(text) => sink.reply(ReplyDelta::thinking(text)),
                Step::Event(payload) => sink.event(payload),
                Step::Remember(agent, text) => {
                    let mut texts: Vec<String> =
                        memories.get(agent).map(|memory| memory.read().unwrap()).unwrap_or_default();
                    texts.push(text.to_owned());
                    let memory = AgentMemory::new(&texts).unwrap();
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
                        provider: "nobody".into(),
                        message: "gone".into(),
                        retry_after: None,
                    });
                }
            }
        }
        Ok(RunOutcome { parts: vec![Part::text(said)], ..RunOutcome::default() })
    }
}

/// Remembers every update.
#[derive(Default)]
pub struct Heard(pub Mutex<Vec<Update>>);

impl Observer for Heard {
    fn update(&self, update: Update) {
        self.0.lock().unwrap().push(update);
    }
}

impl Heard {
    pub fn count(&self, which: impl Fn(&Update) -> bool) -> usize {
        self.0.lock().unwrap().iter().filter(|update| which(update)).count()
    }
}

pub fn memory_store() -> Arc<MemoryStore> {
    Arc::new(MemoryStore::new(Arc::new(TestClock::ticking())))
}

pub fn engine_of(
    store: Arc<dyn Store>,
    agent: Arc<dyn Agent>,
    hooks: Arc<dyn Hooks>,
    settings: Settings,
) -> Engine {
    let clock = Arc::new(TestClock::ticking());
    let settings = Settings { time_zone: jiff::tz::TimeZone::UTC, ..settings };
    Engine::new(EngineParts { store, agent, hooks, clock, settings })
}

pub fn engine_with(store: Arc<dyn Store>, agent: Arc<dyn Agent>, hooks: Arc<dyn Hooks>) -> Engine {
    engine_of(store, agent, hooks, Settings::default())
}

pub fn engine_set(store: Arc<dyn Store>, agent: Arc<dyn Agent>, settings: Settings) -> Engine {
    engine_of(store, agent, Arc::new(NoHooks), settings)
}

pub fn engine(store: Arc<dyn Store>, agent: Arc<dyn Agent>) -> Engine {
    engine_with(store, agent, Arc::new(NoHooks))
}
