//! Every screen with something on it: what the snapshot tests and the pictures in the documentation are made of.

mod data;
#[cfg(test)]
mod hostile;
mod svg;

use std::path::{Path, PathBuf};

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use hfs_core::DeltaKind;
use hfs_engine::Update;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;

use crate::effect::Effect;
use crate::message::{Changed, Msg, Purpose};
use crate::modal::Modal;
use crate::model::Model;
use crate::parts::{AppSettings, Failure, Ground, OutputMode};
use crate::text::Syntax;
use crate::update::update;
use crate::view::view;

pub use svg::svg;

/// A screen with something on it.
pub struct Scene {
    /// Its name.
    pub name: &'static str,
    make: fn(&mut Stage),
}

/// A model that messages are sent to, as the app does.
pub struct Stage {
    /// The model.
    pub model: Model,
    /// Everything that was asked for since the last look.
    pub effects: Vec<Effect>,
    #[cfg(test)]
    poison: Option<hostile::Poison>,
}

impl Stage {
    /// A model at the very start.
    #[must_use]
    pub fn new(settings: AppSettings, size: (u16, u16)) -> Self {
        let mut model =
            Model::new(settings, data::agent(), data::new_conversation(), Some(data::project()), data::now());
        model.size = size;
        model.look.set_syntax(Syntax::load());
        Self {
            model,
            effects: Vec::new(),
            #[cfg(test)]
            poison: None,
        }
    }

    /// Sends a message.
    pub fn tell(&mut self, #[cfg_attr(not(test), expect(unused_mut))] mut message: Msg) {
        #[cfg(test)]
        if let Some(poison) = &self.poison {
            poison.message(&mut message);
        }
        self.effects.extend(update(&mut self.model, message));
    }

    /// Presses a key.
    pub fn press(&mut self, code: KeyCode, modifiers: KeyModifiers) {
        self.tell(Msg::Key(KeyEvent::new(code, modifiers)));
    }

    /// Types text.
    pub fn type_text(&mut self, text: &str) {
        for c in text.chars() {
            self.press(KeyCode::Char(c), KeyModifiers::NONE);
        }
    }

    /// Types a line and sends it.
    pub fn say(&mut self, text: &str) {
        self.tell(Msg::Paste(text.to_owned()));
        self.model.chat.completion = None;
        self.press(KeyCode::Enter, KeyModifiers::NONE);
    }

    /// The number that the newest request for a list goes by.
    fn generation(&self) -> u64 {
        let newest = self.effects.iter().rev().find_map(|effect| match effect {
            Effect::ListSessions { generation, .. }
            | Effect::Search { generation, .. }
            | Effect::Preview { generation, .. }
            | Effect::Read { purpose: Purpose::Preview(generation), .. } => Some(*generation),
            _ => None,
        });
        newest.unwrap_or_default()
    }

    fn open(&mut self) {
        self.tell(Msg::Opened(Ok(Box::new(data::opened(data::conversation())))));
        self.model.chat.tokens = 12_480;
    }

    fn preview(&mut self) {
        let purpose = Purpose::Preview(self.generation());
        self.tell(Msg::Messages { purpose, branch: data::branch_id(1), result: Ok(data::conversation()) });
    }

    /// The picture.
    #[must_use]
    pub fn picture(&self) -> (Buffer, Option<(u16, u16)>) {
        let (width, height) = self.model.size;
        let Ok(mut terminal) = Terminal::new(TestBackend::new(width, height));
        let mut cursor = None;
        let Ok(_) = terminal.draw(|frame| cursor = view(&self.model, frame));
        (terminal.backend().buffer().clone(), cursor)
    }
}

impl Scene {
    /// Sets the scene.
    #[must_use]
    pub fn stage(&self, settings: AppSettings, size: (u16, u16)) -> Stage {
        let mut stage = Stage::new(settings, size);
        (self.make)(&mut stage);
        stage
    }
}

/// All scenes.
#[must_use]
pub fn scenes() -> Vec<Scene> {
    let mut all = chat_scenes();
    all.extend(input_scenes());
    all.extend(structure_scenes());
    all.extend(dialog_scenes());
    all
}

/// The README's pictures: where they are kept, and what they show.
#[must_use]
pub fn readme_pictures() -> Vec<(PathBuf, String)> {
    const SIZE: (u16, u16) = (110, 32);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/pictures");
    let all = scenes();
    [("chat-streaming", "chat.svg"), ("rewind", "rewind.svg")]
        .into_iter()
        .filter_map(|(name, file)| {
            let scene = all.iter().find(|scene| scene.name == name)?;
            let settings = AppSettings { time_zone: jiff::tz::TimeZone::UTC, ..AppSettings::default() };
            let (buffer, cursor) = scene.stage(settings, SIZE).picture();
            Some((folder.join(file), svg(&buffer, cursor, Ground::Dark)))
        })
        .collect()
}

fn scene(name: &'static str, make: fn(&mut Stage)) -> Scene {
    Scene { name, make }
}

/// The chat and what lies over it.
fn chat_scenes() -> Vec<Scene> {
    vec![
        scene("greeting", |stage| {
            let page = hfs_core::Page { items: data::sessions(), next: None };
            stage.tell(Msg::Sessions { generation: 0, result: Ok(page) });
        }),
        scene("chat", Stage::open),
        scene("chat-verbose", |stage| {
            stage.open();
            let mut settings = stage.model.look.settings.clone();
            settings.output = OutputMode::Verbose;
            stage.model.look.change(settings);
        }),
        scene("chat-streaming", streaming),
        scene("chat-sending", |stage| {
            stage.open();
            stage.say("Does the retry loop give up at some point?");
        }),
        scene("chat-selected", |stage| {
            stage.open();
            stage.press(KeyCode::Up, KeyModifiers::ALT);
            stage.press(KeyCode::Up, KeyModifiers::ALT);
        }),
        scene("chat-trouble", trouble),
        scene("chat-not-saved", |stage| {
            streaming(stage);
            stage.tell(Msg::Update(Update::NotSaved {
                reason: "cannot write hfs.db: no space left on device".into(),
            }));
        }),
        scene("chat-unicode", |stage| {
            stage.tell(Msg::Opened(Ok(Box::new(data::opened(data::unusual_conversation())))));
            stage.tell(Msg::Paste("日本語と emoji 👩‍👩‍👧 and \u{1b}[31m in the input".into()));
        }),
    ]
}

/// What is written, and what answers it without a reply.
fn input_scenes() -> Vec<Scene> {
    vec![
        scene("completion", |stage| {
            stage.open();
            stage.type_text("/re");
        }),
        scene("input-long", |stage| {
            stage.open();
            stage.tell(Msg::Paste(data::LONG_INPUT.into()));
        }),
        scene("palette", |stage| {
            stage.open();
            stage.press(KeyCode::Char('p'), KeyModifiers::CONTROL);
            stage.type_text("che");
        }),
        scene("history", |stage| {
            stage.open();
            stage.press(KeyCode::Char('r'), KeyModifiers::CONTROL);
            stage.tell(Msg::History(data::history()));
        }),
        scene("rewound", |stage| {
            stage.open();
            stage.tell(Msg::Changed(Box::new(Ok(Changed::Rewound(Box::new(data::rewound()))))));
            stage.tell(Msg::Opened(Ok(Box::new(data::opened_after_rewind()))));
        }),
        scene("chat-queued", |stage| {
            streaming(stage);
            stage.say("And what happens to the requests that are still waiting?");
            stage.say("Then write the tests for it.");
        }),
        scene("chat-fold", |stage| {
            stage.open();
            for _ in 0..6 {
                stage.press(KeyCode::Up, KeyModifiers::ALT);
            }
            stage.press(KeyCode::Tab, KeyModifiers::NONE);
            stage.press(KeyCode::Enter, KeyModifiers::NONE);
        }),
        scene("negotiating", |stage| {
            stage.open();
            stage.model.sidebar = Some(true);
            stage.say("Does the retry loop give up at some point?");
            let user = data::user(8, "Does the retry loop give up at some point?", 0);
            stage.tell(Msg::Update(Update::Sent(std::sync::Arc::new(user))));
            stage.tell(Msg::Update(Update::Answering(data::triads())));
            for event in data::events_of_first_round() {
                stage.tell(Msg::Update(Update::Event(std::sync::Arc::new(event))));
            }
            stage.model.look.now = data::after(9_000);
        }),
        scene("conflict", |stage| {
            stage.open();
            stage.model.modals.push(Modal::Conflict {
                conversation: stage.model.chat.conversation.clone(),
                text: "Also handle the time-out".into(),
                reason: "the branch has moved on: its newest message is number 9 now, not 7".into(),
            });
        }),
        scene("unknown-command", |stage| {
            stage.open();
            stage.say("/serch retry");
        }),
    ]
}

/// Screens about sessions and their structure.
fn structure_scenes() -> Vec<Scene> {
    vec![
        scene("sessions", sessions),
        scene("session-rename", |stage| {
            sessions(stage);
            stage.press(KeyCode::Char('r'), KeyModifiers::CONTROL);
        }),
        scene("session-delete", |stage| {
            sessions(stage);
            stage.press(KeyCode::Char('d'), KeyModifiers::CONTROL);
        }),
        scene("search", |stage| {
            stage.open();
            stage.say("/search retry loop");
            let generation = stage.generation();
            stage.tell(Msg::Found { generation, result: Ok(data::search_results()) });
        }),
        scene("checkpoints", timeline),
        scene("rewind", |stage| {
            timeline(stage);
            for _ in 0..3 {
                stage.press(KeyCode::Down, KeyModifiers::NONE);
            }
            stage.preview();
            stage.press(KeyCode::Enter, KeyModifiers::NONE);
            stage.tell(Msg::Planned(Ok(Box::new(data::rewind_plan()))));
        }),
        scene("branches", |stage| {
            stage.open();
            stage.say("/branches");
            let session = data::session_id(1);
            stage.tell(Msg::Branches { session, result: Ok(data::branches()) });
            stage.preview();
        }),
        scene("inspect-agents", |stage| inspect(stage, '1')),
        scene("inspect-negotiation", |stage| inspect(stage, '2')),
        scene("inspect-tokens", |stage| inspect(stage, '3')),
        scene("inspect-trace", |stage| inspect(stage, '4')),
    ]
}

/// Dialogs, settings, plugins.
fn dialog_scenes() -> Vec<Scene> {
    vec![
        scene("welcome", |stage| {
            stage.tell(Msg::Transcripts { welcome: true, found: data::transcripts() });
        }),
        scene("importing", |stage| {
            stage.say("/import");
            stage.tell(Msg::Transcripts { welcome: false, found: data::transcripts() });
            stage.press(KeyCode::Enter, KeyModifiers::NONE);
            let what = "~/.codex/sessions/2026/01/rollout-17.jsonl".to_owned();
            stage.tell(Msg::Progress { done: 41_000_000, total: Some(118_000_000), what });
        }),
        scene("imported", |stage| {
            stage.say("/import ~/old");
            stage.tell(Msg::Imported(Ok(data::imported())));
        }),
        scene("export", export),
        scene("exported", |stage| {
            export(stage);
            stage.press(KeyCode::Enter, KeyModifiers::NONE);
            stage.tell(Msg::Exported(Ok(data::exported())));
        }),
        scene("config", |stage| {
            stage.say("/config");
            stage.tell(Msg::Config(data::config()));
        }),
        scene("plugins", |stage| {
            stage.model.asked.push("word-count".into());
            stage.tell(Msg::Plugins(Box::new(data::plugins())));
            stage.say("/plugins");
        }),
        scene("widgets", |stage| {
            stage.open();
            stage.model.asked.push("word-count".into());
            stage.tell(Msg::Plugins(Box::new(data::plugins())));
            stage.model.sidebar = Some(true);
            let result = Ok("**Today**: 3 sessions, 41 messages.\n\n- retry loop\n- login".to_owned());
            stage.tell(Msg::PluginRan { command: "standup".into(), result });
        }),
        scene("approval", |stage| {
            stage.open();
            stage.tell(Msg::Plugins(Box::new(data::plugins())));
        }),
        scene("help", |stage| stage.say("/help")),
    ]
}

fn sessions(stage: &mut Stage) {
    stage.open();
    stage.say("/sessions");
    let generation = stage.generation();
    let page = hfs_core::Page { items: data::sessions(), next: None };
    stage.tell(Msg::Sessions { generation, result: Ok(page) });
    stage.preview();
}

fn timeline(stage: &mut Stage) {
    stage.open();
    stage.say("/checkpoints");
    let session = data::session_id(1);
    stage.tell(Msg::Branches { session, result: Ok(data::branches()) });
    stage.tell(Msg::Checkpoints { session, result: Ok(data::checkpoints()) });
    stage.preview();
}

fn export(stage: &mut Stage) {
    stage.open();
    stage.say("/export");
    let result = Ok(data::export_choices());
    stage.tell(Msg::ExportPrepared { session: data::session_id(1), format: String::new(), result });
}

fn inspect(stage: &mut Stage, page: char) {
    stage.open();
    stage.say("/inspect");
    let run = data::run();
    stage.tell(Msg::Runs { session: data::session_id(1), result: Ok(vec![data::run_id(1), run.id]) });
    stage.tell(Msg::Run(Ok(Box::new(run))));
    stage.press(KeyCode::Char(page), KeyModifiers::NONE);
    if page == '2' {
        stage.press(KeyCode::Down, KeyModifiers::NONE);
    }
}

fn streaming(stage: &mut Stage) {
    stage.open();
    stage.say("Does the retry loop give up at some point?");
    let user = data::user(8, "Does the retry loop give up at some point?", 0);
    stage.tell(Msg::Update(Update::Sent(std::sync::Arc::new(user))));
    stage.tell(Msg::Update(Update::Answering(data::triads())));
    for event in data::events_until("execution") {
        stage.tell(Msg::Update(Update::Event(std::sync::Arc::new(event))));
    }
    for piece in data::STREAMED {
        stage.tell(Msg::Update(Update::Reply { kind: DeltaKind::Text, text: (*piece).to_owned() }));
    }
    stage.model.look.now = data::after(12_300);
}

fn trouble(stage: &mut Stage) {
    stage.open();
    stage.model.chat.trouble = Some(crate::model::Trouble {
        message: Failure::new(
            hfs_core::ErrorKind::Unavailable,
            "openai is not available: 503 Service Unavailable",
        )
        .message,
        hint: Some("your message is saved; send it again when the provider is back".into()),
        user: Some(std::sync::Arc::new(data::user(6, "And the time-out?", 3))),
    });
}

#[cfg(test)]
impl Scene {
    /// Sets the scene with `poison` before every text from outside.
    #[must_use]
    pub fn poisoned(&self, poison: &str, settings: AppSettings, size: (u16, u16)) -> Stage {
        let mut stage = Stage::new(settings, size);
        let poison = hostile::Poison(poison.to_owned());
        stage.poison = Some(poison.clone());
        poison.text(&mut stage.model.agent.name);
        poison.text(&mut stage.model.agent.summary);
        (self.make)(&mut stage);
        if let Some(trouble) = &mut stage.model.chat.trouble {
            poison.text(&mut trouble.message);
        }
        for modal in &mut stage.model.modals {
            match modal {
                Modal::Conflict { text, reason, .. } => [text, reason].map(|text| poison.text(text)).len(),
                _ => 0,
            };
        }
        stage.model.chat.queue.push_back(poison.0.clone());
        stage.tell(Msg::Failed(Failure::new(hfs_core::ErrorKind::Internal, "it failed")));
        stage.tell(Msg::Paste(poison.0));
        stage
    }
}
