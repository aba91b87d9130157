//! Helpers: a recording observer, and engines with a scripted agent.

use std::sync::{Arc, Mutex};

use hfs_core::{Agent, Hooks, NoHooks, Store};
use hfs_engine::{Engine, Observer, Settings, Update};
use hfs_store::MemoryStore;
use testkit::clock::TestClock;
pub use testkit::scripted_agent::{Scripted, Step, entries};

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
