//! The app on a real terminal, with fake ports.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../examples/playground/no_files.rs"]
mod no_files;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use hfs_core::{
    Agent, AgentDescription, AgentError, Clock, RunOutcome, RunRequest, RunSink, SessionId, SystemClock,
    Timestamp,
};
use hfs_engine::{Conversation, Engine, Prices};
use hfs_store::MemoryStore;
use hfs_tui::{
    AppParts, AppSettings, ApprovalRequest, ErrorReport, NoPlugins, Node, PluginCommand, PluginDecision,
    PluginHost, PluginView, Slot, Tone, Widget,
};
use testkit::cli::{Hfs, Key, Terminal};
use tokio::sync::watch;

use no_files::NoFiles;

/// A clock that panics after it is broken. The app reads the clock on its main thread, so the main thread panics.
#[derive(Default)]
struct BreakingClock {
    is_broken: AtomicBool,
}

impl Clock for BreakingClock {
    fn now(&self) -> Timestamp {
        assert!(!self.is_broken.load(Ordering::SeqCst), "the clock broke");
        SystemClock.now()
    }
}

/// An agent that breaks the clock.
struct ClockBreaker(Arc<BreakingClock>);

#[async_trait]
impl Agent for ClockBreaker {
    fn describe(&self) -> AgentDescription {
        AgentDescription::new("clock-breaker", "")
    }

    async fn run(&self, _request: RunRequest, _sink: &dyn RunSink) -> Result<RunOutcome, AgentError> {
        self.0.is_broken.store(true, Ordering::SeqCst);
        Err(AgentError::Cancelled)
    }
}

/// Runs the app until the user quits.
fn run(agent: Arc<dyn Agent>, clock: Arc<dyn Clock>, plugins: Arc<dyn PluginHost>) {
    // The engine and the store have a working clock, so that only the app panics.
    let store_clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let store = Arc::new(MemoryStore::new(Arc::clone(&store_clock)));
    let engine = Engine::builder(store, agent).clock(store_clock).build();
    let parts = AppParts {
        engine,
        clock,
        conversation: Conversation::new(None),
        session_list: None,
        project: None,
        settings: AppSettings::default(),
        suggestion_wording: |suggestion| format!("{suggestion:?}"),
        prices: Prices::UNKNOWN,
        transfer: Arc::new(NoFiles),
        configuration: Arc::new(NoFiles),
        plugins,
        drafts: Arc::new(NoFiles),
        questions: None,
        warnings: Vec::new(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(hfs_tui::run(parts)).unwrap();
}

/// Starts a child process with a terminal of its own. The process runs `function`, an ignored test of this program that
/// runs the app.
fn start_app(program: &Hfs, function: &str) -> Terminal {
    let arguments = [function, "--exact", "--ignored", "--nocapture", "--test-threads=1"];
    program.command(&arguments).in_terminal(24, 100)
}

#[test]
#[ignore = "panics; the next test runs it in a child process"]
fn an_app_that_panics() {
    let clock = Arc::new(BreakingClock::default());
    run(Arc::new(ClockBreaker(Arc::clone(&clock))), clock, Arc::new(NoPlugins));
}

#[test]
fn a_panic_restores_the_terminal_and_is_printed() {
    let program = Hfs::new(std::env::current_exe().unwrap());
    let terminal = start_app(&program, "an_app_that_panics");
    let before = terminal.wait_for("Type a message");
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

/// A plugin host with one plugin, which runs after the user has approved it.
#[derive(Default)]
struct PendingPlugin {
    is_approved: Mutex<bool>,
}

impl PluginHost for PendingPlugin {
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

    fn decide(&self, _plugin: &str, decision: PluginDecision) -> Result<(), ErrorReport> {
        *self.is_approved.lock().unwrap() = decision == PluginDecision::Approve;
        Ok(())
    }

    fn run(
        &self,
        command: &str,
        arguments: &str,
        _session: Option<SessionId>,
    ) -> Result<String, ErrorReport> {
        Ok(format!("**{command}** burns {arguments}"))
    }
}

#[test]
#[ignore = "the next test runs it in a child process"]
fn an_app_with_a_plugin() {
    let agent = Arc::new(ClockBreaker(Arc::default()));
    run(agent, Arc::new(SystemClock), Arc::new(PendingPlugin::default()));
}

#[test]
fn a_plugin_runs_only_after_the_user_selects_approve() {
    let program = Hfs::new(std::env::current_exe().unwrap());
    let terminal = start_app(&program, "an_app_with_a_plugin");
    let dialog = terminal.wait_for("Approve a plugin").contents();
    assert!(
        dialog.contains("lamp 1.0.0 wants to run") && dialog.contains("read this session's messages"),
        "{dialog}"
    );
    assert!(!dialog.contains("lamp on"), "{dialog}");
    // Typing does not change the selection and is not lost, and the choice that is selected first postpones the decision.
    terminal.type_text("y/light");
    terminal.press(Key::Enter);
    let is_postponed = |screen: &testkit::cli::Screen| !screen.contents().contains("Approve a plugin");
    let chat = terminal.wait_until("the chat", is_postponed).contents();
    assert!(chat.contains("❯ y/light") && !chat.contains("lamp on"), "{chat}");
    terminal.press(Key::Ctrl('c'));
    terminal.wait_for("press Ctrl+C again to quit");
    terminal.press(Key::Ctrl('c'));
    terminal.wait_for_end();

    let terminal = start_app(&program, "an_app_with_a_plugin");
    terminal.wait_for("Approve a plugin");
    terminal.press(Key::Tab);
    terminal.press(Key::Tab);
    terminal.press(Key::Enter);
    terminal.wait_for("lamp on");
    terminal.type_text("/light brightly");
    terminal.press(Key::Enter);
    terminal.wait_for("light burns brightly");
}
