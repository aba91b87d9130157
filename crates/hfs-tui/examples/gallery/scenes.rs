//! Scenes: every screen with fixed content, for the snapshot tests and the screenshots in the documentation.
//!
//! `src/lib.rs` includes this file as a module, because the scenes need the private model. It is compiled only for
//! tests and with the feature `gallery`.

mod data;
#[cfg(test)]
mod hostile;
mod svg;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use hfs_core::{Part, ReplyDelta, Role};
use hfs_engine::{Conversation, Update};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;

use crate::chat::ErrorBanner;
use crate::modal::Modal;
use crate::model::Model;
use crate::ports::{AppSettings, Background, OutputMode, SuggestionWording};
use crate::protocol::{Changed, Effect, Msg, RecentSessions, Request, ScreenMsg, TransferProgress, UiResult};
use crate::text::Syntax;
use crate::update::update;
use crate::view::view;

pub use svg::svg;

/// A screen with fixed content.
pub struct Scene {
    /// Name of the scene.
    pub name: &'static str,
    play: fn(&mut Harness),
}

/// Drives a model without a terminal or a runner.
pub struct Harness {
    /// The model.
    pub model: Model,
    /// The effects that `update` has returned.
    pub effects: Vec<Effect>,
    #[cfg(test)]
    hostile: Option<hostile::HostileText>,
}

impl Harness {
    /// Creates a model with a new conversation.
    #[must_use]
    pub fn new(settings: AppSettings, size: (u16, u16)) -> Self {
        let conversation = Conversation::new(Some(data::project()));
        let project = Some(data::project());
        let wording: SuggestionWording = |suggestion| format!("{suggestion:?}");
        let mut model = Model::new(settings, data::agent(), conversation, project, data::now(), wording);
        model.size = size;
        model.render.set_syntax(Syntax::load());
        Self {
            model,
            effects: Vec::new(),
            #[cfg(test)]
            hostile: None,
        }
    }

    /// Sends a message to the model.
    pub fn send(&mut self, #[cfg_attr(not(test), expect(unused_mut))] mut message: Msg) {
        #[cfg(test)]
        if let Some(hostile) = &self.hostile {
            hostile.insert_into(&mut message);
        }
        self.effects.extend(update(&mut self.model, message));
    }

    fn send_to_screen(&mut self, message: ScreenMsg) {
        self.send(Msg::Screen(message));
    }

    /// Returns the title of the open screen.
    #[must_use]
    pub fn title(&self) -> Option<&'static str> {
        self.model.screen.as_ref().map(|screen| screen.title())
    }

    /// Answers the request for the formats of an export.
    pub fn export_prepared(&mut self, target: &str) {
        let result = Ok(data::export_choices());
        self.send(Msg::ExportPrepared { session: data::session_id(1), target: target.to_owned(), result });
    }

    /// Returns the requests among the effects.
    pub fn requests(&self) -> impl Iterator<Item = &Request> {
        self.effects.iter().filter_map(|effect| match effect {
            Effect::Request(request) => Some(request),
            Effect::Terminal(_) => None,
        })
    }

    /// Presses a key.
    pub fn press(&mut self, code: KeyCode, modifiers: KeyModifiers) {
        self.send(Msg::Key(KeyEvent::new(code, modifiers)));
    }

    /// Types text.
    pub fn type_text(&mut self, text: &str) {
        for c in text.chars() {
            self.press(KeyCode::Char(c), KeyModifiers::NONE);
        }
    }

    /// Pastes a line and presses Enter.
    pub fn submit(&mut self, text: &str) {
        self.send(Msg::Paste(text.to_owned()));
        // With the completion open, Enter could run a command other than `text`.
        self.model.chat.completion = None;
        self.press(KeyCode::Enter, KeyModifiers::NONE);
    }

    /// Returns the id of the newest request that has one.
    fn request_id(&self) -> u64 {
        let newest = self.effects.iter().rev().find_map(|effect| match effect {
            Effect::Request(
                Request::ListSessions { request_id, .. }
                | Request::Search { request_id, .. }
                | Request::ReadStats { request_id, .. }
                | Request::ReadPreview { request_id, .. },
            ) => Some(*request_id),
            _ => None,
        });
        newest.unwrap_or_default()
    }

    fn open(&mut self) {
        self.send(Msg::Opened(Ok(Box::new(data::opened(data::conversation())))));
        self.model.chat.tokens = 12_480;
    }

    fn answer_preview(&mut self) {
        let request_id = self.request_id();
        self.send_to_screen(ScreenMsg::Preview { request_id, result: Ok(data::conversation()) });
    }

    /// Draws the model. Returns the frame and the position of the cursor.
    #[must_use]
    pub fn draw(&self) -> (Buffer, Option<(u16, u16)>) {
        let (width, height) = self.model.size;
        let Ok(mut terminal) = Terminal::new(TestBackend::new(width, height));
        let mut cursor = None;
        let Ok(_) = terminal.draw(|frame| cursor = view(&self.model, frame));
        (terminal.backend().buffer().clone(), cursor)
    }
}

impl Scene {
    /// Creates a model that shows the scene.
    #[must_use]
    pub fn set_up(&self, settings: AppSettings, size: (u16, u16)) -> Harness {
        let mut harness = Harness::new(settings, size);
        (self.play)(&mut harness);
        harness
    }
}

/// Returns all scenes.
#[must_use]
pub fn scenes() -> Vec<Scene> {
    let mut all = chat_scenes();
    all.extend(input_scenes());
    all.extend(session_scenes());
    all.extend(dialog_scenes());
    all
}

/// Returns the screenshots of the README and of `docs/agents.md`, with their paths.
#[must_use]
pub fn readme_screenshots() -> Vec<(PathBuf, String)> {
    const SIZE: (u16, u16) = (110, 32);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/pictures");
    let all = scenes();
    [("chat-streaming", "chat.svg"), ("rewind", "rewind.svg"), ("permission-edit", "permission.svg")]
        .into_iter()
        .filter_map(|(name, file)| {
            let scene = all.iter().find(|scene| scene.name == name)?;
            let settings = AppSettings { time_zone: jiff::tz::TimeZone::UTC, ..AppSettings::default() };
            let (buffer, cursor) = scene.set_up(settings, SIZE).draw();
            Some((folder.join(file), svg(&buffer, cursor, Background::Dark)))
        })
        .collect()
}

/// Returns the message of a change that moved the conversation.
pub fn changed(result: UiResult<Changed>) -> Msg {
    Msg::Changed { moved: true, result: Box::new(result) }
}

/// Returns a message of the user.
#[cfg(test)]
#[must_use]
pub fn user_message(seq: u64, text: &str) -> hfs_core::Message {
    data::user(seq, text, 0)
}

/// Returns the question of an agent that wants to run a command.
#[cfg(test)]
#[must_use]
pub fn command_permission() -> crate::ports::PermissionRequest {
    data::command_permission()
}

/// Returns the statistics of the scenes.
#[cfg(test)]
#[must_use]
pub fn stats() -> hfs_engine::Stats {
    data::stats()
}

/// Returns the agents of the scenes.
#[cfg(test)]
#[must_use]
pub fn agents(is_unconfigured: bool) -> crate::ports::AgentsView {
    data::agents(is_unconfigured)
}

/// Returns the session of the scenes, as the runner opens it.
#[cfg(test)]
#[must_use]
pub fn opened_session() -> crate::protocol::Opened {
    data::opened(data::conversation())
}

fn scene(name: &'static str, play: fn(&mut Harness)) -> Scene {
    Scene { name, play }
}

/// The chat.
fn chat_scenes() -> Vec<Scene> {
    vec![
        scene("start", |harness| {
            let last_words = vec![
                (Role::User, "Does the retry loop give up at some point?".to_owned()),
                (
                    Role::Assistant,
                    "It does, after five attempts.\n\nThe last delay is 3.2 seconds.".to_owned(),
                ),
            ];
            let sessions = data::sessions();
            harness.send(Msg::RecentSessions(RecentSessions { sessions, of_project: true, last_words }));
        }),
        scene("start-agents", |harness| harness.send(Msg::Agents(data::agents(true)))),
        scene("chat", Harness::open),
        scene("chat-verbose", |harness| {
            harness.open();
            let mut settings = harness.model.render.settings.clone();
            settings.output = OutputMode::Verbose;
            harness.model.render.set_settings(settings);
        }),
        scene("chat-streaming", streaming),
        scene("chat-sending", |harness| {
            harness.open();
            harness.submit("Does the retry loop give up at some point?");
        }),
        scene("chat-selected", |harness| {
            harness.open();
            harness.press(KeyCode::Up, KeyModifiers::ALT);
            harness.press(KeyCode::Up, KeyModifiers::ALT);
        }),
        scene("chat-error", error),
        scene("chat-not-saved", |harness| {
            streaming(harness);
            harness.send(Msg::Exchange(Update::NotSaved {
                reason: "cannot write hfs.db: no space left on device".into(),
            }));
        }),
        scene("chat-unicode", |harness| {
            harness.send(Msg::Opened(Ok(Box::new(data::opened(data::unusual_conversation())))));
            harness.send(Msg::Paste("日本語と emoji 👩‍👩‍👧 and \u{1b}[31m in the input".into()));
        }),
    ]
}

/// The input, and modals over the chat.
fn input_scenes() -> Vec<Scene> {
    vec![
        scene("completion", |harness| {
            harness.open();
            harness.type_text("/re");
        }),
        scene("input-long", |harness| {
            harness.open();
            harness.send(Msg::Paste(data::LONG_INPUT.into()));
        }),
        scene("palette", |harness| {
            harness.open();
            harness.press(KeyCode::Char('p'), KeyModifiers::CONTROL);
            harness.type_text("che");
        }),
        scene("history", |harness| {
            harness.open();
            harness.press(KeyCode::Char('r'), KeyModifiers::CONTROL);
            harness.send(Msg::History(data::history()));
        }),
        scene("rewound", |harness| {
            harness.open();
            harness.send(changed(Ok(Changed::Rewound(Box::new(data::rewound())))));
            harness.send(Msg::Opened(Ok(Box::new(data::opened_after_rewind()))));
        }),
        scene("chat-queued", |harness| {
            streaming(harness);
            harness.submit("And what happens to the requests that are still waiting?");
            harness.submit("Then write the tests for it.");
        }),
        scene("chat-fold", |harness| {
            harness.open();
            for _ in 0..6 {
                harness.press(KeyCode::Up, KeyModifiers::ALT);
            }
            harness.press(KeyCode::Tab, KeyModifiers::NONE);
            harness.press(KeyCode::Enter, KeyModifiers::NONE);
        }),
        scene("negotiating", |harness| {
            harness.open();
            harness.model.sidebar = Some(true);
            harness.submit("Does the retry loop give up at some point?");
            let user = data::user(8, "Does the retry loop give up at some point?", 0);
            harness.send(Msg::Exchange(Update::Sent(Arc::new(user))));
            harness.send(Msg::Exchange(Update::ReplyStarted(data::agent())));
            for event in data::events_of_first_round() {
                harness.send(Msg::Exchange(Update::Event(Arc::new(event))));
            }
            harness.model.render.now = data::after(9_000);
        }),
        scene("tool-running", |harness| {
            begin_turn(harness);
            harness.model.render.now = data::after(4_000);
        }),
        scene("tool-output", |harness| {
            begin_turn(harness);
            let result =
                Part::ToolResult { id: "call-2".into(), output: "2 files\n".into(), is_error: false };
            harness.send(Msg::Exchange(Update::MessageStarted { role: Role::Tool }));
            let running = ReplyDelta::output("call-1", "running 3 tests\ntest retry ... ");
            for delta in [ReplyDelta::Part(result), running] {
                harness.send(Msg::Exchange(Update::Delta(delta)));
            }
            harness.send(Msg::Exchange(Update::Event(Arc::new(data::call_ended("call-2")))));
            harness.model.render.now = data::after(9_000);
        }),
        scene("permission-command", |harness| {
            begin_turn(harness);
            // While there is text in the input, letters are not answers.
            harness.type_text("And then");
            harness.model.render.now = data::after(4_000);
            let request = Box::new(data::command_permission());
            harness.send(Msg::PermissionAsked { id: 1, request });
            harness.press(KeyCode::Down, KeyModifiers::NONE);
        }),
        scene("permission-edit", |harness| {
            begin_turn(harness);
            harness.model.render.now = data::after(4_000);
            harness.send(Msg::PermissionAsked { id: 1, request: Box::new(data::edit_permission()) });
            harness.send(Msg::QuestionsWaiting(2));
        }),
        scene("plan", |harness| {
            begin_turn(harness);
            harness.send(Msg::Exchange(Update::Event(Arc::new(data::plan_updated()))));
            harness.model.render.now = data::after(4_000);
        }),
        scene("conflict", |harness| {
            harness.open();
            harness.model.modals.push(Modal::Conflict {
                conversation: harness.model.chat.conversation.clone(),
                text: "Also handle the time-out".into(),
                reason: "Another process has added 2 messages to it.".into(),
            });
        }),
        scene("unknown-command", |harness| {
            harness.open();
            harness.submit("/serch retry");
        }),
    ]
}

/// Sessions, search, checkpoints, branches and runs.
fn session_scenes() -> Vec<Scene> {
    vec![
        scene("sessions", sessions),
        scene("session-rename", |harness| {
            sessions(harness);
            harness.press(KeyCode::Char('r'), KeyModifiers::CONTROL);
        }),
        scene("session-delete", |harness| {
            sessions(harness);
            harness.press(KeyCode::Char('d'), KeyModifiers::CONTROL);
        }),
        scene("search", |harness| {
            harness.open();
            harness.submit("/search retry loop");
            let request_id = harness.request_id();
            harness
                .send_to_screen(ScreenMsg::SearchResults { request_id, result: Ok(data::search_results()) });
        }),
        scene("checkpoints", checkpoints),
        scene("rewind", |harness| {
            checkpoints(harness);
            for _ in 0..3 {
                harness.press(KeyCode::Down, KeyModifiers::NONE);
            }
            harness.answer_preview();
            harness.press(KeyCode::Enter, KeyModifiers::NONE);
            harness.send_to_screen(ScreenMsg::RewindPlanned(Ok(Box::new(data::rewind_plan()))));
        }),
        scene("branches", |harness| {
            harness.open();
            harness.submit("/branches");
            let session = data::session_id(1);
            harness.send_to_screen(ScreenMsg::Branches { session, result: Ok(data::branches()) });
            harness.answer_preview();
        }),
        scene("inspect-agents", |harness| inspect(harness, '1')),
        scene("inspect-negotiation", |harness| inspect(harness, '2')),
        scene("inspect-tokens", |harness| inspect(harness, '3')),
        scene("inspect-trace", |harness| inspect(harness, '4')),
        scene("stats-loading", |harness| {
            harness.submit("/stats");
            let request_id = harness.request_id();
            harness.send_to_screen(ScreenMsg::StatsProgress { request_id, read: 5_120, sessions: 20_000 });
        }),
        scene("stats-days", |harness| open_stats(harness, "/stats")),
        scene("stats-models", |harness| {
            open_stats(harness, "/stats model");
            for _ in 0..3 {
                harness.press(KeyCode::Down, KeyModifiers::NONE);
            }
        }),
    ]
}

/// Import, export, settings, plugins and help.
fn dialog_scenes() -> Vec<Scene> {
    vec![
        scene("welcome", |harness| {
            harness.send_to_screen(ScreenMsg::Transcripts { welcome: true, found: data::transcripts() });
        }),
        scene("agent-offer", |harness| {
            harness.send(Msg::Agents(data::agents(true)));
            harness.submit("Why do the retries double the load?");
        }),
        scene("agents", |harness| {
            harness.open();
            harness.send(Msg::Agents(data::agents(false)));
            harness.submit("/agent");
            harness.press(KeyCode::Down, KeyModifiers::NONE);
        }),
        scene("agent-install", |harness| {
            harness.send(Msg::Agents(data::agents(true)));
            harness.submit("Why do the retries double the load?");
            harness.press(KeyCode::Down, KeyModifiers::NONE);
            harness.press(KeyCode::Enter, KeyModifiers::NONE);
            harness.press(KeyCode::Enter, KeyModifiers::NONE);
            for line in ["npm warn deprecated node-domexception@1.0.0", "added 112 packages in 9s"] {
                harness.send_to_screen(ScreenMsg::InstallOutput(line.to_owned()));
            }
        }),
        scene("importing", |harness| {
            harness.submit("/import");
            harness.send_to_screen(ScreenMsg::Transcripts { welcome: false, found: data::transcripts() });
            harness.press(KeyCode::Enter, KeyModifiers::NONE);
            let item = "~/.codex/sessions/2026/01/rollout-17.jsonl".to_owned();
            let progress = TransferProgress { done: 41_000_000, total: Some(118_000_000), item };
            harness.send_to_screen(ScreenMsg::Progress(progress));
        }),
        scene("imported", |harness| {
            harness.submit("/import ~/old");
            harness.send_to_screen(ScreenMsg::Imported(Ok(data::imported())));
        }),
        scene("export", export),
        scene("exported", |harness| {
            export(harness);
            harness.press(KeyCode::Enter, KeyModifiers::NONE);
            harness.send_to_screen(ScreenMsg::Exported(Ok(data::exported())));
        }),
        scene("config", |harness| {
            harness.submit("/config");
            harness.send_to_screen(ScreenMsg::Config(data::config()));
        }),
        scene("plugins", |harness| {
            // A postponed approval does not cover the screen.
            harness.model.postponed_plugins.push("word-count".into());
            harness.send(Msg::Plugins(Box::new(data::plugins())));
            harness.submit("/plugins");
        }),
        scene("widgets", |harness| {
            harness.open();
            // A postponed approval does not cover the chat.
            harness.model.postponed_plugins.push("word-count".into());
            harness.send(Msg::Plugins(Box::new(data::plugins())));
            harness.model.sidebar = Some(true);
            let result = Ok("**Today**: 3 sessions, 41 messages.\n\n- retry loop\n- login".to_owned());
            harness.send(Msg::PluginRan { command: "standup".into(), result });
        }),
        scene("approval", |harness| {
            harness.open();
            harness.send(Msg::Plugins(Box::new(data::plugins())));
        }),
        scene("help", |harness| harness.submit("/help")),
    ]
}

fn sessions(harness: &mut Harness) {
    harness.open();
    harness.submit("/sessions");
    let request_id = harness.request_id();
    let page = hfs_core::Page { items: data::sessions(), next: None, unreadable: 0 };
    harness.send_to_screen(ScreenMsg::Sessions { request_id, result: Ok(page) });
    harness.answer_preview();
}

fn checkpoints(harness: &mut Harness) {
    harness.open();
    harness.submit("/checkpoints");
    let session = data::session_id(1);
    harness.send_to_screen(ScreenMsg::Branches { session, result: Ok(data::branches()) });
    harness.send_to_screen(ScreenMsg::Checkpoints { session, result: Ok(data::checkpoints()) });
    harness.send_to_screen(ScreenMsg::Words(data::words()));
    harness.answer_preview();
}

fn export(harness: &mut Harness) {
    harness.open();
    harness.submit("/export");
    harness.export_prepared("");
}

fn inspect(harness: &mut Harness, page_key: char) {
    harness.open();
    harness.submit("/inspect");
    let run = data::run();
    harness.send(Msg::Screen(ScreenMsg::Runs {
        session: data::session_id(1),
        result: Ok(vec![data::run_id(1), run.id]),
    }));
    harness.send_to_screen(ScreenMsg::Run { run: run.id, result: Ok(Box::new(run)) });
    harness.press(KeyCode::Char(page_key), KeyModifiers::NONE);
    if page_key == '2' {
        // Select the second section of the negotiation.
        harness.press(KeyCode::Down, KeyModifiers::NONE);
    }
}

fn open_stats(harness: &mut Harness, command: &str) {
    harness.submit(command);
    let request_id = harness.request_id();
    harness.send_to_screen(ScreenMsg::Stats { request_id, result: Ok(Box::new(data::stats())) });
}

/// A turn whose agent runs two tools.
fn begin_turn(harness: &mut Harness) {
    harness.open();
    harness.submit("Do the tests pass?");
    let user = data::user(8, "Do the tests pass?", 0);
    harness.send(Msg::Exchange(Update::Sent(Arc::new(user))));
    harness.send(Msg::Exchange(Update::ReplyStarted(data::agent())));
    harness.send(Msg::Exchange(Update::Delta(ReplyDelta::text("I run them and look for more."))));
    for (id, name, input) in [
        ("call-1", "Bash", serde_json::json!({"command": "cargo test retry"})),
        ("call-2", "Glob", serde_json::json!({"pattern": "tests/*.rs"})),
    ] {
        let call = Part::ToolCall { id: id.into(), name: name.into(), input };
        harness.send(Msg::Exchange(Update::Delta(ReplyDelta::Part(call))));
    }
}

fn streaming(harness: &mut Harness) {
    harness.open();
    harness.submit("Does the retry loop give up at some point?");
    let user = data::user(8, "Does the retry loop give up at some point?", 0);
    harness.send(Msg::Exchange(Update::Sent(Arc::new(user))));
    harness.send(Msg::Exchange(Update::ReplyStarted(data::agent())));
    for event in data::events_until("execution") {
        harness.send(Msg::Exchange(Update::Event(Arc::new(event))));
    }
    for fragment in data::STREAMED {
        harness.send(Msg::Exchange(Update::Delta(ReplyDelta::text(*fragment))));
    }
    harness.model.render.now = data::after(12_300);
}

fn error(harness: &mut Harness) {
    harness.open();
    harness.model.chat.error_banner = Some(ErrorBanner {
        message: "openai is not available: 503 Service Unavailable".into(),
        is_in_reply: false,
        suggestion: Some("your message is saved; send it again when the provider is back".into()),
        user: Some(Arc::new(data::user(6, "And the time-out?", 3))),
    });
}

#[cfg(test)]
impl Scene {
    /// Like [`set_up`](Self::set_up), with `text` inserted before every untrusted text.
    #[must_use]
    pub fn set_up_with_hostile_text(&self, text: &str, settings: AppSettings, size: (u16, u16)) -> Harness {
        use crate::ports::ErrorReport;

        let mut harness = Harness::new(settings, size);
        let hostile = hostile::HostileText(text.to_owned());
        harness.hostile = Some(hostile.clone());
        hostile.insert(&mut harness.model.agent.name);
        hostile.insert(&mut harness.model.agent.summary);
        (self.play)(&mut harness);
        // Some scenes set the error banner or the conflict directly, so `send` has not inserted the text into them.
        if let Some(banner) = &mut harness.model.chat.error_banner {
            hostile.insert(&mut banner.message);
        }
        for modal in &mut harness.model.modals {
            if let Modal::Conflict { text, reason, .. } = modal {
                hostile.insert(text);
                hostile.insert(reason);
            }
        }
        harness.model.chat.queue.push_back(hostile.0.clone());
        harness.send(Msg::Failed(ErrorReport::new(hfs_core::ErrorKind::Internal, "it failed")));
        harness.send(Msg::Paste(hostile.0));
        harness
    }
}
