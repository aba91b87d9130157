//! The app on a real terminal, with parts that do what they are told.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation is a test's own way of speaking")]

#[path = "../examples/playground/nowhere.rs"]
mod nowhere;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use hfs_core::{
    Agent, AgentDescription, AgentError, Clock, NoHooks, RunOutcome, RunRequest, RunSink, SessionId,
    SystemClock, Timestamp,
};
use hfs_engine::{Conversation, Engine, EngineParts, Settings};
use hfs_store::MemoryStore;
use hfs_tui::{
    AppParts, AppSettings, ApprovalRequest, Failure, NoPlugins, Node, PluginCommand, PluginDecision,
    PluginHost, PluginView, Slot, Tone, Widget,
};
use testkit::cli::{Hfs, Key, Terminal};
use tokio::sync::watch;

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

/// The app with these parts, to its end.
fn run(agent: Arc<dyn Agent>, clock: Arc<dyn Clock>, plugins: Arc<dyn PluginHost>) {
    let steady: Arc<dyn Clock> = Arc::new(SystemClock);
    let engine = Engine::new(EngineParts {
        store: Arc::new(MemoryStore::new(Arc::clone(&steady))),
        agent,
        hooks: Arc::new(NoHooks),
        clock: steady,
        settings: Settings::default(),
    });
    let parts = AppParts {
        engine,
        clock,
        conversation: Conversation::new(None),
        pick: None,
        project: None,
        settings: AppSettings::default(),
        transfer: Arc::new(Nowhere),
        configuration: Arc::new(Nowhere),
        plugins,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(hfs_tui::run(parts)).unwrap();
}

/// This test program again, as the app that this function of it runs, on a terminal of its own.
fn app(program: &Hfs, function: &str) -> Terminal {
    let arguments = [function, "--exact", "--ignored", "--nocapture", "--test-threads=1"];
    program.command(&arguments).in_terminal(24, 100)
}

#[test]
#[ignore = "breaks, as it is meant to"]
fn an_app_that_breaks() {
    let fuse = Arc::new(Fuse::default());
    run(Arc::new(Match(Arc::clone(&fuse))), fuse, Arc::new(NoPlugins));
}

#[test]
fn a_panic_gives_the_terminal_back_and_is_read_on_it() {
    let program = Hfs::new(std::env::current_exe().unwrap());
    let terminal = app(&program, "an_app_that_breaks");
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

/// A plugin that waits for its approval, and works once it has it.
#[derive(Default)]
struct Waiting {
    is_approved: Mutex<bool>,
}

impl PluginHost for Waiting {
    fn view(&self, _session: Option<SessionId>) -> PluginView {
        if !*self.is_approved.lock().unwrap() {
            let request = ApprovalRequest {
                plugin: "lamp".into(),
                version: "1.0.0".into(),
                about: "Lights the way.".into(),
                permissions: vec!["read this session's messages".into()],
                new_permissions: Vec::new(),
            };
            return PluginView { pending: vec![request], ..PluginView::default() };
        }
        let widget = Widget {
            plugin: "lamp".into(),
            slot: Slot::StatusBar,
            nodes: vec![Node::Text(vec![("lamp on".into(), Tone::Good)])],
        };
        let command = PluginCommand { name: "light".into(), about: "light it".into() };
        PluginView { commands: vec![command], widgets: vec![widget], ..PluginView::default() }
    }

    fn changes(&self) -> Option<watch::Receiver<u64>> {
        None
    }

    fn decide(&self, _plugin: &str, decision: PluginDecision) -> Result<(), Failure> {
        *self.is_approved.lock().unwrap() = decision == PluginDecision::Approve;
        Ok(())
    }

    fn run(&self, command: &str, arguments: &str, _session: Option<SessionId>) -> Result<String, Failure> {
        Ok(format!("**{command}** burns {arguments}"))
    }
}

#[test]
#[ignore = "is the app of the test below"]
fn an_app_with_a_plugin() {
    let agent = Arc::new(Match(Arc::default()));
    run(agent, Arc::new(SystemClock), Arc::new(Waiting::default()));
}

#[test]
fn a_plugin_does_nothing_before_its_approval_which_takes_more_than_a_key_in_passing() {
    let program = Hfs::new(std::env::current_exe().unwrap());
    let terminal = app(&program, "an_app_with_a_plugin");
    let asked = terminal.wait_for("A plugin asks").contents();
    assert!(
        asked.contains("lamp 1.0.0 wants to run") && asked.contains("read this session's messages"),
        "{asked}"
    );
    assert!(!asked.contains("lamp on"), "{asked}");
    // What is typed goes to the question, and the choice that Enter takes is the safe one.
    terminal.type_text("y/light");
    terminal.press(Key::Enter);
    let is_put_off = |screen: &testkit::cli::Screen| !screen.contents().contains("A plugin asks");
    let left = terminal.wait_until("the chat", is_put_off).contents();
    assert!(left.contains("❯ Say something") && !left.contains("lamp on"), "{left}");
    terminal.press(Key::Ctrl('c'));
    terminal.wait_for("Ctrl+C again leaves");
    terminal.press(Key::Ctrl('c'));
    terminal.wait_for_end();

    let terminal = app(&program, "an_app_with_a_plugin");
    terminal.wait_for("A plugin asks");
    terminal.press(Key::Tab);
    terminal.press(Key::Tab);
    terminal.press(Key::Enter);
    terminal.wait_for("lamp on");
    terminal.type_text("/light brightly");
    terminal.press(Key::Enter);
    terminal.wait_for("light burns brightly");
}
