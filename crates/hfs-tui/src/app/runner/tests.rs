//! The model and the runner together over a store in memory: what the screen shows is what the store holds.

use std::path::PathBuf;
use std::sync::Mutex;

use async_trait::async_trait;
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use hfs_core::{
    Agent, AgentDescription, AgentError, BranchStore, CheckpointStore, DeltaKind, MessageRange, MessageStore,
    NoHooks, PageRequest, Part, Role, RunOutcome, RunRequest, RunSink, Session, SessionFilter, SessionStore,
    Store, SystemClock,
};
use hfs_engine::{EngineParts, Settings};
use hfs_store::MemoryStore;

use super::*;
use crate::model::{Model, SaveState};
use crate::parts::{
    AppSettings, ConfigChange, ConfigEntry, ExportFormat, ExportRequest, Exported, FoundTranscripts,
    ImportRequest, Imported, NoPlugins,
};
use crate::screens::Screen;
use crate::update::{start, update};

/// Says what it is told to say, one after the other.
struct Scripted(Mutex<Vec<Result<&'static str, AgentError>>>);

#[async_trait]
impl Agent for Scripted {
    fn describe(&self) -> AgentDescription {
        AgentDescription { name: "scripted".into(), model: None, summary: "says what it is told to".into() }
    }

    async fn run(&self, request: RunRequest, sink: &dyn RunSink) -> Result<RunOutcome, AgentError> {
        let next = self.0.lock().unwrap().pop().unwrap_or(Ok("nothing more to say"));
        sink.reply(ReplyDelta::text("so "));
        match next {
            Ok("wait") => {
                request.cancel.cancelled().await;
                Err(AgentError::Cancelled)
            }
            Ok(text) => {
                sink.reply(ReplyDelta::text(text));
                Ok(RunOutcome { parts: vec![Part::text(format!("so {text}"))], ..RunOutcome::default() })
            }
            Err(error) => Err(error),
        }
    }
}

struct Nowhere;

impl Transfer for Nowhere {
    fn export_formats(&self) -> Vec<ExportFormat> {
        vec![ExportFormat { name: "json".into(), about: String::new() }]
    }

    fn default_export_path(&self, session: &Session, format: &str) -> PathBuf {
        PathBuf::from(format!("{}.{format}", session.name))
    }

    fn export(&self, request: &ExportRequest, progress: &dyn Progress) -> Result<Exported, Failure> {
        progress.report(1, Some(2), "half");
        Ok(Exported { path: request.path.clone(), bytes: 2, warnings: Vec::new() })
    }

    fn find_transcripts(&self) -> Vec<FoundTranscripts> {
        vec![FoundTranscripts { tool: "other".into(), path: PathBuf::from("/o"), files: 1, bytes: 1 }]
    }

    fn import(&self, _request: &ImportRequest, _progress: &dyn Progress) -> Result<Imported, Failure> {
        panic!("a reader has a fault");
    }
}

impl Configuration for Nowhere {
    fn entries(&self) -> Vec<ConfigEntry> {
        Vec::new()
    }

    fn set(&self, _key: &str, _value: &str) -> Result<ConfigChange, Failure> {
        Ok(ConfigChange { note: "kept".into(), ..ConfigChange::default() })
    }
}

struct Desk {
    store: Arc<MemoryStore>,
    model: Model,
    runner: Runner,
    receiver: mpsc::UnboundedReceiver<Msg>,
}

impl Desk {
    fn new(mut script: Vec<Result<&'static str, AgentError>>) -> Self {
        script.reverse();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let store = Arc::new(MemoryStore::new(Arc::clone(&clock)));
        let engine = Engine::new(EngineParts {
            store: Arc::clone(&store) as Arc<dyn Store>,
            agent: Arc::new(Scripted(Mutex::new(script))),
            hooks: Arc::new(NoHooks),
            clock: Arc::clone(&clock),
            settings: Settings::default(),
        });
        let parts = AppParts {
            engine,
            clock: Arc::clone(&clock),
            conversation: Conversation::new(None),
            pick: None,
            project: None,
            settings: AppSettings::default(),
            transfer: Arc::new(Nowhere),
            configuration: Arc::new(Nowhere),
            plugins: Arc::new(NoPlugins),
        };
        let describe = parts.engine.agent().describe();
        let model =
            Model::new(parts.settings.clone(), describe, parts.conversation.clone(), None, clock.now());
        let (sender, receiver) = mpsc::unbounded_channel();
        Self { store, model, runner: Runner::new(parts, sender), receiver }
    }

    fn tell(&mut self, message: Msg) {
        for effect in update(&mut self.model, message) {
            self.runner.perform(effect);
        }
    }

    fn press(&mut self, code: KeyCode) {
        self.tell(Msg::Key(KeyEvent::new(code, KeyModifiers::NONE)));
    }

    fn say(&mut self, text: &str) {
        self.tell(Msg::Paste(text.to_owned()));
        self.model.chat.completion = None;
        self.press(KeyCode::Enter);
    }

    /// Takes messages until the model is as expected.
    async fn until(&mut self, what: &str, expected: impl Fn(&Model) -> bool) {
        while !expected(&self.model) {
            let next = tokio::time::timeout(Duration::from_secs(10), self.receiver.recv()).await;
            let Ok(Some(message)) = next else {
                panic!("it never came to this: {what}; {:?}", self.model.notice)
            };
            self.tell(message);
        }
    }

    async fn talk(&mut self, text: &str) {
        self.say(text);
        self.until("the reply is there", |model| !model.chat.is_busy()).await;
    }

    fn shown(&self) -> Vec<String> {
        self.model.chat.transcript.messages().map(|message| message.content.text()).collect()
    }

    fn stored(&self) -> Vec<String> {
        let branch = self.model.chat.conversation.branch().unwrap();
        let messages = self.store.read_messages(branch, MessageRange::Newest(100)).unwrap();
        messages.iter().map(|message| message.content.text()).collect()
    }
}

fn told(model: &Model, part: &str) -> bool {
    model.notice.as_ref().is_some_and(|notice| notice.text.contains(part))
}

fn unavailable() -> AgentError {
    AgentError::Unavailable { provider: "p".into(), message: "503".into(), retry_after: None }
}

#[tokio::test]
async fn what_is_said_is_in_the_store_and_on_the_screen() {
    let mut desk = Desk::new(vec![Ok("one"), Ok("two")]);
    desk.talk("first").await;
    desk.talk("second").await;
    assert_eq!(desk.shown(), ["first", "so one", "second", "so two"]);
    assert_eq!(desk.shown(), desk.stored());
    assert_eq!(desk.model.chat.save, SaveState::Saved);
    assert!(desk.model.chat.name.as_ref().unwrap().starts_with("first"));
}

#[tokio::test]
async fn a_rewind_shows_the_past_and_undo_the_present_again() {
    let mut desk = Desk::new(vec![Ok("one"), Ok("two")]);
    desk.talk("first").await;
    desk.talk("second").await;
    let session = desk.model.chat.conversation.session().unwrap();
    let first =
        desk.store.list_checkpoints(session).unwrap().into_iter().find(|found| found.seq == 2).unwrap();
    desk.tell(Msg::Key(KeyEvent::from(KeyCode::F(4))));
    desk.runner.perform(Effect::Change(crate::effect::Change::Rewind(first.id)));
    desk.until("the past is shown", |model| model.chat.branch == "main-2").await;
    assert_eq!(desk.shown(), ["first", "so one"]);
    assert_eq!(desk.model.chat.input.text(), "second", "the next message can be edited and sent again");
    desk.model.chat.input.set("");
    desk.say("/undo");
    desk.until("the present is back", |model| model.chat.branch == "main").await;
    assert_eq!(desk.shown(), ["first", "so one", "second", "so two"]);
}

#[tokio::test]
async fn a_stopped_reply_is_kept_and_answered_again_on_a_branch_of_its_own() {
    let mut desk = Desk::new(vec![Ok("wait"), Ok("better")]);
    desk.say("first");
    desk.until("something has come", |model| {
        model.chat.exchange.as_ref().is_some_and(|exchange| !exchange.reply.is_empty())
    })
    .await;
    desk.press(KeyCode::Esc);
    desk.until("it has stopped", |model| !model.chat.is_busy()).await;
    assert_eq!(desk.stored(), ["first", "so "]);
    desk.press(KeyCode::F(5));
    desk.until("it was answered again", |model| !model.chat.is_busy()).await;
    assert_eq!(desk.shown(), ["first", "so better"]);
    assert_eq!(desk.shown(), desk.stored());
    let session = desk.model.chat.conversation.session().unwrap();
    assert_eq!(desk.store.list_branches(session).unwrap().len(), 2);
}

#[tokio::test]
async fn a_provider_that_fails_is_told_of_and_asked_again() {
    let mut desk = Desk::new(vec![Err(unavailable()), Ok("well")]);
    desk.talk("first").await;
    assert!(desk.model.chat.trouble.as_ref().unwrap().message.contains("503"));
    desk.press(KeyCode::F(5));
    desk.until("it was answered", |model| !model.chat.is_busy()).await;
    assert_eq!(desk.shown(), ["first", "so well"]);
}

#[tokio::test]
async fn somebody_elses_words_are_seen_after_a_reload_and_bypassed_by_a_fork() {
    let mut desk = Desk::new(vec![Ok("one"), Ok("mine")]);
    desk.talk("first").await;
    let branch = desk.model.chat.conversation.branch().unwrap();
    let position = hfs_core::Position { branch, head: 2 };
    let other = hfs_core::MessageDraft::user("somebody else's", SystemClock.now());
    desk.store.append(position, &[other]).unwrap();
    desk.say("hello");
    desk.until("the conflict is shown", |model| !model.modals.is_empty()).await;
    assert_eq!(desk.model.chat.input.text(), "hello");
    desk.press(KeyCode::Char('r'));
    desk.until("it was read again", |model| model.chat.conversation.head() == 3).await;
    assert_eq!(desk.shown(), ["first", "so one", "somebody else's"]);

    desk.model.chat.conversation =
        Conversation::at(desk.model.chat.conversation.session().unwrap(), position);
    desk.press(KeyCode::Enter);
    desk.until("the conflict is shown again", |model| !model.modals.is_empty()).await;
    desk.press(KeyCode::Char('f'));
    desk.until("it was sent on a branch of its own", |model| {
        model.chat.branch == "main-2" && !model.chat.is_busy()
    })
    .await;
    assert_eq!(desk.stored(), ["first", "so one", "hello", "so mine"]);
}

#[tokio::test]
async fn a_disk_that_fails_loses_nothing_that_was_typed() {
    let mut desk = Desk::new(vec![Ok("one"), Ok("two")]);
    desk.talk("first").await;
    desk.store.fail_saves(1);
    desk.say("precious");
    desk.until("it is told of", |model| model.chat.trouble.is_some()).await;
    assert_eq!(desk.model.chat.input.text(), "precious");
    desk.press(KeyCode::Enter);
    desk.until("it was sent", |model| !model.chat.is_busy()).await;
    assert_eq!(desk.shown(), ["first", "so one", "precious", "so two"]);
    assert_eq!(desk.shown(), desk.stored());
}

#[tokio::test]
async fn a_session_is_renamed_deleted_and_brought_back_from_its_list() {
    let mut desk = Desk::new(vec![Ok("one")]);
    desk.talk("first").await;
    let session = desk.model.chat.conversation.session().unwrap();
    desk.say("/rename A better name");
    desk.until("it has its name", |model| model.chat.name.as_deref() == Some("A better name")).await;
    desk.say("/sessions");
    desk.until("it is listed", |model| format!("{:?}", model.screen).contains("A better name")).await;
    desk.tell(Msg::Key(KeyEvent::new(KeyCode::Char('d'), KeyModifiers::CONTROL)));
    desk.press(KeyCode::Enter);
    desk.until("it is deleted", |model| told(model, "deleted")).await;
    let trash = SessionFilter { trashed: true, ..SessionFilter::default() };
    assert_eq!(desk.store.list_sessions(&trash, &PageRequest::first(9)).unwrap().items.len(), 1);
    desk.tell(Msg::Key(KeyEvent::new(KeyCode::Char('u'), KeyModifiers::CONTROL)));
    desk.until("it is back", |model| told(model, "brought back")).await;
    assert!(desk.store.get_session(session).unwrap().session.trashed_at.is_none());
}

#[tokio::test]
async fn a_hit_of_a_search_opens_at_its_message() {
    let mut desk = Desk::new(vec![Ok("one"), Ok("needle in it")]);
    desk.talk("first").await;
    desk.talk("second").await;
    desk.say("/new");
    desk.say("/search needle");
    desk.until("it is found", |model| format!("{:?}", model.screen).contains("total: 1")).await;
    desk.press(KeyCode::Enter);
    desk.until("it is open", |model| model.chat.transcript.selected() == Some(4)).await;
    assert!(matches!(desk.model.screen, Screen::Chat));
    assert_eq!(desk.shown().len(), 4);
}

#[tokio::test]
async fn a_newcomer_is_offered_what_other_tools_left_and_nobody_else() {
    let mut desk = Desk::new(vec![Ok("one")]);
    for effect in start(&mut desk.model, None) {
        desk.runner.perform(effect);
    }
    desk.until("it is offered", |model| matches!(model.screen, Screen::Import(_))).await;
    desk.press(KeyCode::Enter);
    desk.until("a fault in a reader is told of, not fatal", |model| {
        format!("{:?}", model.screen).contains("background task")
    })
    .await;

    let mut desk = Desk::new(vec![Ok("one")]);
    desk.talk("first").await;
    desk.say("/new");
    desk.runner.perform(Effect::FindTranscripts { welcome: true });
    desk.runner.perform(Effect::SetConfig { key: "k".into(), value: "v".into() });
    desk.until("the setting is kept", |model| told(model, "kept")).await;
    assert!(matches!(desk.model.screen, Screen::Chat));
}

#[tokio::test]
async fn an_export_asks_where_and_says_how_it_came_out() {
    let mut desk = Desk::new(vec![Ok("one")]);
    desk.talk("first").await;
    desk.say("/export");
    desk.until("the dialog is open", |model| matches!(model.screen, Screen::Export(_))).await;
    desk.press(KeyCode::Enter);
    desk.until("it is done", |model| format!("{:?}", model.screen).contains("Done(Ok")).await;
}

#[tokio::test]
async fn history_holds_what_the_user_said_newest_first_and_no_replies() {
    let mut desk = Desk::new(vec![Ok("one"), Ok("two")]);
    desk.talk("first").await;
    desk.talk("second").await;
    desk.say("/new");
    desk.model.chat.history = crate::model::History::default();
    desk.press(KeyCode::Up);
    desk.until("it came", |model| model.chat.history.entries.len() > 1).await;
    assert_eq!(desk.model.chat.history.entries, ["second", "first"]);
    let sent = desk.store.read_messages(desk.branch_of_newest(), MessageRange::Newest(9)).unwrap();
    assert_eq!(sent.iter().filter(|message| message.content.role == Role::User).count(), 2);
}

impl Desk {
    fn branch_of_newest(&self) -> BranchId {
        let page = self.store.list_sessions(&SessionFilter::default(), &PageRequest::first(1)).unwrap();
        page.items[0].session.current_branch
    }
}
