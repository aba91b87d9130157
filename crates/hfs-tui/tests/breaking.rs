//! An app that breaks gives the terminal back before it says why.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation is a test's own way of speaking")]

#[path = "../examples/playground/nowhere.rs"]
mod nowhere;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use hfs_core::{
    Agent, AgentDescription, AgentError, Clock, NoHooks, RunOutcome, RunRequest, RunSink, SystemClock,
    Timestamp,
};
use hfs_engine::{Conversation, Engine, EngineParts, Settings};
use hfs_store::MemoryStore;
use hfs_tui::{AppParts, AppSettings, NoPlugins};
use testkit::cli::{Hfs, Key};

use nowhere::Nowhere;

/// A part of the app that breaks on the screen's own thread, once somebody has said something.
#[derive(Default)]
struct Fuse {
    is_lit: AtomicBool,
}

impl Clock for Fuse {
    fn now(&self) -> Timestamp {
        assert!(!self.is_lit.load(Ordering::SeqCst), "the clock broke");
        SystemClock.now()
    }
}

struct Match(Arc<Fuse>);

#[async_trait]
impl Agent for Match {
    fn describe(&self) -> AgentDescription {
        AgentDescription { name: "match".into(), model: None, summary: String::new() }
    }

    async fn run(&self, _request: RunRequest, _sink: &dyn RunSink) -> Result<RunOutcome, AgentError> {
        self.0.is_lit.store(true, Ordering::SeqCst);
        Err(AgentError::Cancelled)
    }
}

/// The app of the test below, in a process of its own.
#[test]
#[ignore = "breaks, as it is meant to"]
fn an_app_that_breaks() {
    let fuse = Arc::new(Fuse::default());
    let steady: Arc<dyn Clock> = Arc::new(SystemClock);
    let engine = Engine::new(EngineParts {
        store: Arc::new(MemoryStore::new(Arc::clone(&steady))),
        agent: Arc::new(Match(Arc::clone(&fuse))),
        hooks: Arc::new(NoHooks),
        clock: steady,
        settings: Settings::default(),
    });
    let parts = AppParts {
        engine,
        clock: fuse,
        conversation: Conversation::new(None),
        pick: None,
        project: None,
        settings: AppSettings::default(),
        transfer: Arc::new(Nowhere),
        configuration: Arc::new(Nowhere),
        plugins: Arc::new(NoPlugins),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(hfs_tui::run(parts)).unwrap();
}

#[test]
fn a_panic_gives_the_terminal_back_and_is_read_on_it() {
    let program = Hfs::new(std::env::current_exe().unwrap());
    let terminal = program
        .command(&["an_app_that_breaks", "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .in_terminal(24, 100);
    let before = terminal.wait_for("Say something");
    assert!(before.alternate_screen() && before.bracketed_paste() && !terminal.is_cooked());
    assert_ne!(before.mouse_protocol_mode(), vt100::MouseProtocolMode::None);
    terminal.type_text("strike");
    terminal.press(Key::Enter);
    let after = terminal.wait_for_end();
    assert!(after.contents().contains("the clock broke"), "{}", after.contents());
    assert!(!after.alternate_screen() && !after.bracketed_paste() && !after.hide_cursor());
    assert_eq!(after.mouse_protocol_mode(), vt100::MouseProtocolMode::None);
    assert!(terminal.is_cooked());
}
