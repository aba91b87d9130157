//! The model and the runner together, with a store in memory.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use async_trait::async_trait;
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use hfs_core::{
    Agent, AgentDescription, AgentError, BranchStore, CheckpointStore, MessageRange, MessageStore,
    PageRequest, Part, ReplyDelta, Role, RunOutcome, RunRequest, RunSink, Session, SessionFilter,
    SessionStore, Store, SystemClock,
};
use hfs_store::MemoryStore;
use testkit::faulty_store::FaultyStore;

use super::*;
use crate::chat::{InputHistory, SaveState};
use crate::model::Model;
use crate::ports::{
    AppSettings, ConfigChange, ConfigEntry, ExportFormat, ExportOutcome, ExportRequest, Exported,
    FoundTranscripts, ImportRequest, Imported, NoPlugins,
};
use crate::protocol::Effect;
use crate::update::{start, update};

/// An agent that returns scripted replies, last element first. The reply `wait` blocks until it is cancelled.
struct Scripted(Mutex<Vec<Result<&'static str, AgentError>>>);

#[async_trait]
impl Agent for Scripted {
    fn describe(&self) -> AgentDescription {
        AgentDescription::new("scripted", "returns scripted replies")
    }

    async fn run(&self, request: RunRequest, sink: &dyn RunSink) -> Result<RunOutcome, AgentError> {
        let next = self.0.lock().unwrap().pop().unwrap_or(Ok("nothing more to say"));
        sink.reply(ReplyDelta::text("so "));
        match next {
            Ok("panic") => panic!("the agent crashed"),
            Ok("wait") => {
                request.cancel.cancelled().await;
                Err(AgentError::Cancelled)
            }
            Ok(text) => {
                sink.reply(ReplyDelta::text(text));
                Ok(RunOutcome::new(vec![Part::text(format!("so {text}"))]))
            }
            Err(error) => Err(error),
        }
    }
}

struct FakeFiles;

impl Transfer for FakeFiles {
    fn export_formats(&self) -> Vec<ExportFormat> {
        vec![ExportFormat { name: "json".into(), about: String::new(), extensions: vec!["json".into()] }]
    }

    fn default_export_path(&self, session: &Session, format: &str) -> PathBuf {
        PathBuf::from(format!("{}.{format}", session.name))
    }

    fn export(&self, request: &ExportRequest, progress: &dyn Progress) -> Result<ExportOutcome, ErrorReport> {
        if request.path == Path::new("old.json") && !request.replaces {
            return Ok(ExportOutcome::FileExists(request.path.clone()));
        }
        progress.report(1, Some(2), "half");
        let path = request.path.clone();
        Ok(ExportOutcome::Written(Exported { path, bytes: 2, warnings: Vec::new() }))
    }

    fn find_transcripts(&self) -> Vec<FoundTranscripts> {
        vec![FoundTranscripts { tool: "other".into(), path: PathBuf::from("/o"), files: 1, bytes: 1 }]
    }

    fn import(&self, _request: &ImportRequest, _progress: &dyn Progress) -> Result<Imported, ErrorReport> {
        panic!("the reader panicked");
    }
}

impl Drafts for FakeFiles {
    fn read(&self, _session: Option<SessionId>) -> Result<Option<String>, ErrorReport> {
        Ok(None)
    }

    fn write(&self, _session: Option<SessionId>, _text: &str) -> Result<(), ErrorReport> {
        Ok(())
    }
}

impl Configuration for FakeFiles {
    fn entries(&self) -> Vec<ConfigEntry> {
        Vec::new()
    }

    fn set(&self, key: &str, _value: &str) -> Result<ConfigChange, ErrorReport> {
        assert_ne!(key, "agent", "the change of this setting crashes");
        Ok(ConfigChange { note: "kept".into(), ..ConfigChange::default() })
    }

    fn models(&self) -> Result<Vec<String>, ErrorReport> {
        Ok(vec!["small".to_owned(), "large".to_owned()])
    }

    fn use_model(&self, model: Option<&str>) -> Result<ConfigChange, ErrorReport> {
        Ok(ConfigChange { note: model.unwrap_or("the default").to_owned(), ..ConfigChange::default() })
    }
}

struct Harness {
    store: Arc<FaultyStore<MemoryStore>>,
    model: Model,
    runner: Runner,
    receiver: mpsc::UnboundedReceiver<Msg>,
}

impl Harness {
    fn new(mut script: Vec<Result<&'static str, AgentError>>) -> Self {
        // `Scripted` takes its replies from the end.
        script.reverse();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let store = Arc::new(FaultyStore::new(MemoryStore::new(Arc::clone(&clock))));
        let agent = Arc::new(Scripted(Mutex::new(script)));
        let engine =
            Engine::builder(Arc::clone(&store) as Arc<dyn Store>, agent).clock(Arc::clone(&clock)).build();
        let parts = AppParts {
            engine,
            clock: Arc::clone(&clock),
            conversation: Conversation::new(None),
            session_list: None,
            project: None,
            settings: AppSettings::default(),
            suggestion_wording: |suggestion| format!("{suggestion:?}"),
            prices: Prices::UNKNOWN,
            transfer: Arc::new(FakeFiles),
            configuration: Arc::new(FakeFiles),
            plugins: Arc::new(NoPlugins),
            drafts: Arc::new(FakeFiles),
            questions: None,
            warnings: Vec::new(),
        };
        let describe = parts.engine.agent().describe();
        let model = Model::new(
            parts.settings.clone(),
            describe,
            parts.conversation.clone(),
            None,
            clock.now(),
            parts.suggestion_wording,
        );
        let (sender, receiver) = mpsc::unbounded_channel();
        Self { store, model, runner: Runner::new(parts, sender), receiver }
    }

    fn send(&mut self, message: Msg) {
        let effects = update(&mut self.model, message);
        self.perform(effects);
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Request(request) => self.runner.perform(request),
                Effect::Terminal(command) => panic!("no terminal for {command:?}"),
            }
        }
    }

    fn press(&mut self, code: KeyCode) {
        self.send(Msg::Key(KeyEvent::new(code, KeyModifiers::NONE)));
    }

    fn submit(&mut self, text: &str) {
        self.send(Msg::Paste(text.to_owned()));
        // With the completion open, Enter would run the selected command, which may be another one.
        self.model.chat.completion = None;
        self.press(KeyCode::Enter);
    }

    /// Applies messages until `expected` is true. `description` describes the expected state in the panic message.
    async fn wait_until(&mut self, description: &str, expected: impl Fn(&Model) -> bool) {
        while !expected(&self.model) {
            let next = tokio::time::timeout(Duration::from_secs(10), self.receiver.recv()).await;
            let Ok(Some(message)) = next else {
                panic!("the model never reached this state: {description}; {:?}", self.model.notice)
            };
            self.send(message);
        }
    }

    async fn exchange(&mut self, text: &str) {
        self.submit(text);
        self.wait_until("the reply is complete", |model| !model.chat.is_busy()).await;
    }

    /// Like the event loop, which follows the branch after each message.
    async fn follow_until(&mut self, description: &str, expected: impl Fn(&Model) -> bool) {
        while !expected(&self.model) {
            self.runner.follow(self.model.followed_place());
            let next = tokio::time::timeout(Duration::from_secs(10), self.receiver.recv()).await;
            let Ok(Some(message)) = next else { panic!("the model never reached this state: {description}") };
            self.send(message);
        }
    }

    fn visible(&self) -> Vec<String> {
        self.model.chat.transcript.messages().map(|message| message.content.text()).collect()
    }

    fn stored(&self) -> Vec<String> {
        let branch = self.model.chat.conversation.branch().unwrap();
        let messages = self.store.read_messages(branch, MessageRange::Newest(100)).unwrap();
        messages.iter().map(|message| message.content.text()).collect()
    }
}

fn title(model: &Model) -> Option<&'static str> {
    model.screen.as_ref().map(|screen| screen.title())
}

fn has_notice(model: &Model, part: &str) -> bool {
    model.notice.as_ref().is_some_and(|notice| notice.text.contains(part))
}

fn unavailable() -> AgentError {
    AgentError::Unavailable {
        provider: "p".into(),
        message: "503".into(),
        retry_after: None,
        suggestion: None,
    }
}

#[tokio::test]
async fn messages_are_in_the_store_and_on_the_screen() {
    let mut harness = Harness::new(vec![Ok("one"), Ok("two")]);
    harness.exchange("first").await;
    harness.exchange("second").await;
    assert_eq!(harness.visible(), ["first", "so one", "second", "so two"]);
    assert_eq!(harness.visible(), harness.stored());
    assert_eq!(harness.model.chat.save, SaveState::Saved);
    assert!(harness.model.chat.name.as_ref().unwrap().starts_with("first"));
}

#[tokio::test]
async fn messages_of_another_front_end_appear_and_what_is_typed_stays() {
    let mut harness = Harness::new(vec![Ok("one"), Ok("two")]);
    harness.exchange("first").await;
    harness.send(Msg::Paste("half a sent".to_owned()));
    let branch = harness.model.chat.conversation.branch().unwrap();
    let user =
        |text: &str| hfs_core::MessageDraft::new(Role::User, vec![Part::text(text)], SystemClock.now());
    let at = |head| Position { branch, head };
    harness.store.append(at(2), &[user("theirs")]).unwrap();
    // A reply appears when it is complete.
    let empty = hfs_core::MessageDraft::new(Role::Assistant, Vec::new(), SystemClock.now());
    let reply = harness.store.begin_reply(at(3), &empty).unwrap();
    harness.follow_until("the message appears", |model| model.chat.conversation.head() == 3).await;
    assert_eq!(harness.visible(), ["first", "so one", "theirs"]);
    harness
        .store
        .finish_reply(reply, &hfs_core::MessageDraft { id: reply.message, ..user("answer") })
        .unwrap();
    harness.follow_until("the reply appears", |model| model.chat.conversation.head() == 4).await;
    assert_eq!(harness.visible(), harness.stored());
    assert!(has_notice(&harness.model, "1 new message, written elsewhere"));
    // The next message follows what is shown, without a conflict.
    assert_eq!(harness.model.chat.input.text(), "half a sent");
    harness.model.chat.input.set("");
    harness.exchange("mine").await;
    assert!(harness.model.modals.is_empty());
    assert_eq!(harness.visible(), ["first", "so one", "theirs", "answer", "mine", "so two"]);
}

#[tokio::test]
async fn undo_returns_to_the_branch_before_a_rewind() {
    let mut harness = Harness::new(vec![Ok("one"), Ok("two")]);
    harness.exchange("first").await;
    harness.exchange("second").await;
    let session = harness.model.chat.conversation.session().unwrap();
    let checkpoint =
        harness.store.list_checkpoints(session).unwrap().into_iter().find(|found| found.seq == 2).unwrap();
    // The branches screen is open during the rewind, which closes it.
    harness.send(Msg::Key(KeyEvent::from(KeyCode::F(4))));
    harness.runner.perform(Request::Change(Change::Rewind(checkpoint.id.into())));
    harness.wait_until("the rewind is shown", |model| model.chat.branch == "main-2").await;
    assert_eq!(harness.visible(), ["first", "so one"]);
    assert_eq!(harness.model.chat.input.text(), "second", "the next message can be edited and sent again");
    harness.model.chat.input.set("");
    harness.submit("/undo");
    harness.wait_until("the undo is shown", |model| model.chat.branch == "main").await;
    assert_eq!(harness.visible(), ["first", "so one", "second", "so two"]);
}

#[tokio::test]
async fn a_rewind_to_a_message_and_its_undo_ask_before_messages_leave_the_view() {
    let mut harness = Harness::new(vec![Ok("one"), Ok("two"), Ok("three")]);
    harness.exchange("first").await;
    harness.exchange("second").await;
    // The reply to the second message, then the message itself.
    for _ in 0..2 {
        harness.send(Msg::Key(KeyEvent::new(KeyCode::Up, KeyModifiers::ALT)));
    }
    assert_eq!(harness.model.chat.transcript.selected(), Some(3));
    harness.press(KeyCode::Char('r'));
    harness.wait_until("the rewind is planned", |model| !model.modals.is_empty()).await;
    assert_eq!(harness.model.chat.branch, "main", "nothing changes before the answer");
    harness.press(KeyCode::Enter);
    harness.wait_until("the rewind is shown", |model| model.chat.branch == "main-2").await;
    assert_eq!(harness.visible(), ["first", "so one"]);
    assert_eq!(harness.model.chat.input.text(), "second", "the message is put into the input");
    harness.model.chat.input.set("");

    harness.exchange("third").await;
    harness.submit("/undo");
    harness.wait_until("the undo asks", |model| !model.modals.is_empty()).await;
    assert_eq!(harness.model.chat.branch, "main-2");
    harness.press(KeyCode::Esc);
    assert_eq!(harness.visible(), ["first", "so one", "third", "so three"]);
    harness.submit("/undo");
    harness.wait_until("the undo asks", |model| !model.modals.is_empty()).await;
    harness.press(KeyCode::Enter);
    harness.wait_until("the undo is shown", |model| model.chat.branch == "main").await;
    let session = harness.model.chat.conversation.session().unwrap();
    let branches = harness.store.list_branches(session).unwrap();
    assert!(branches[1].undone && branches[1].is_listed());
    // The undone branch is in the list, and Enter continues it.
    harness.send(Msg::Key(KeyEvent::from(KeyCode::F(4))));
    harness
        .wait_until("the branches are listed", |model| {
            model.screen.as_ref().is_some_and(|screen| screen.subtitle(&model.context()) == "2 branches")
        })
        .await;
    harness.press(KeyCode::Down);
    harness.press(KeyCode::Enter);
    harness.wait_until("the branch is shown", |model| model.chat.branch == "main-2").await;
    assert_eq!(harness.visible(), ["first", "so one", "third", "so three"]);
}

#[tokio::test]
async fn a_stopped_reply_is_kept_and_a_retry_uses_a_new_branch() {
    let mut harness = Harness::new(vec![Ok("wait"), Ok("better")]);
    harness.submit("first");
    harness
        .wait_until("the reply has started", |model| {
            model.chat.exchange.as_ref().is_some_and(|exchange| !exchange.reply.is_empty())
        })
        .await;
    harness.press(KeyCode::Esc);
    harness.wait_until("the reply has stopped", |model| !model.chat.is_busy()).await;
    assert_eq!(harness.stored(), ["first", "so "]);
    harness.press(KeyCode::F(5));
    harness.wait_until("the retry is complete", |model| !model.chat.is_busy()).await;
    assert_eq!(harness.visible(), ["first", "so better"]);
    assert_eq!(harness.visible(), harness.stored());
    let session = harness.model.chat.conversation.session().unwrap();
    assert_eq!(harness.store.list_branches(session).unwrap().len(), 2);
}

#[tokio::test]
async fn a_provider_error_is_shown_and_can_be_retried() {
    let mut harness = Harness::new(vec![Err(unavailable()), Ok("well")]);
    harness.exchange("first").await;
    assert!(harness.model.chat.error_banner.as_ref().unwrap().message.contains("503"));
    harness.press(KeyCode::F(5));
    harness.wait_until("the retry is complete", |model| !model.chat.is_busy()).await;
    assert_eq!(harness.visible(), ["first", "so well"]);
}

#[tokio::test]
async fn a_conflict_is_resolved_by_a_reload_or_a_fork() {
    let mut harness = Harness::new(vec![Ok("one"), Ok("mine")]);
    harness.exchange("first").await;
    let branch = harness.model.chat.conversation.branch().unwrap();
    let position = Position { branch, head: 2 };
    let message = hfs_core::MessageDraft::user("from another process", SystemClock.now());
    harness.store.append(position, &[message]).unwrap();
    harness.submit("hello");
    harness.wait_until("the conflict is shown", |model| !model.modals.is_empty()).await;
    assert_eq!(harness.model.chat.input.text(), "hello");
    harness.press(KeyCode::Char('r'));
    harness.wait_until("the branch is reloaded", |model| model.chat.conversation.head() == 3).await;
    assert_eq!(harness.visible(), ["first", "so one", "from another process"]);

    // Returns to the outdated position, so that sending "hello" again causes another conflict.
    harness.model.chat.conversation =
        Conversation::at(harness.model.chat.conversation.session().unwrap(), position);
    harness.press(KeyCode::Enter);
    harness.wait_until("the conflict is shown again", |model| !model.modals.is_empty()).await;
    harness.press(KeyCode::Char('f'));
    harness
        .wait_until("it was sent on a new branch", |model| {
            model.chat.branch == "main-2" && !model.chat.is_busy()
        })
        .await;
    assert_eq!(harness.stored(), ["first", "so one", "hello", "so mine"]);
}

#[tokio::test]
async fn a_failed_save_keeps_the_message_in_the_input() {
    let mut harness = Harness::new(vec![Ok("one"), Ok("two")]);
    harness.exchange("first").await;
    harness.store.fail_saves(1);
    harness.submit("precious");
    harness.wait_until("the error is shown", |model| model.chat.error_banner.is_some()).await;
    assert_eq!(harness.model.chat.input.text(), "precious");
    harness.press(KeyCode::Enter);
    harness.wait_until("it was sent", |model| !model.chat.is_busy()).await;
    assert_eq!(harness.visible(), ["first", "so one", "precious", "so two"]);
    assert_eq!(harness.visible(), harness.stored());
}

#[tokio::test]
async fn a_session_is_renamed_deleted_and_restored_in_the_list() {
    let mut harness = Harness::new(vec![Ok("one")]);
    harness.exchange("first").await;
    let session = harness.model.chat.conversation.session().unwrap();
    harness.submit("/rename A better name");
    harness.wait_until("it is renamed", |model| model.chat.name.as_deref() == Some("A better name")).await;
    harness.submit("/sessions");
    harness.wait_until("it is listed", |model| format!("{:?}", model.screen).contains("A better name")).await;
    harness.send(Msg::Key(KeyEvent::new(KeyCode::Char('d'), KeyModifiers::CONTROL)));
    harness.press(KeyCode::Enter);
    harness.wait_until("it is deleted", |model| has_notice(model, "deleted")).await;
    let trash = SessionFilter { trashed: true, ..SessionFilter::default() };
    assert_eq!(harness.store.list_sessions(&trash, &PageRequest::first(9)).unwrap().items.len(), 1);
    harness.send(Msg::Key(KeyEvent::new(KeyCode::Char('u'), KeyModifiers::CONTROL)));
    harness.wait_until("it is restored", |model| has_notice(model, "restored")).await;
    assert!(harness.store.get_session(session).unwrap().session.trashed_at.is_none());
}

#[tokio::test]
async fn a_search_hit_opens_at_its_message() {
    let mut harness = Harness::new(vec![Ok("one"), Ok("needle in it")]);
    harness.exchange("first").await;
    harness.exchange("second").await;
    harness.submit("/new");
    harness.submit("/search needle");
    harness.wait_until("it is found", |model| format!("{:?}", model.screen).contains("total: 1")).await;
    harness.press(KeyCode::Enter);
    harness.wait_until("it is open", |model| model.chat.transcript.selected() == Some(4)).await;
    assert!(harness.model.screen.is_none());
    assert_eq!(harness.visible().len(), 4);
}

#[tokio::test]
async fn the_welcome_screen_opens_only_with_an_empty_store() {
    let mut harness = Harness::new(vec![Ok("one")]);
    let effects = start(&mut harness.model, None);
    harness.perform(effects);
    harness.wait_until("the welcome screen is open", |model| title(model) == Some("Welcome to hfs")).await;
    harness.press(KeyCode::Enter);
    harness
        .wait_until("a panic of a reader is shown", |model| {
            format!("{:?}", model.screen).contains("background task")
        })
        .await;

    let mut harness = Harness::new(vec![Ok("one")]);
    harness.exchange("first").await;
    harness.submit("/new");
    harness.runner.perform(Request::FindTranscripts { welcome: true });
    // The setting is changed only to have a message to wait for while the transcripts are searched.
    harness.runner.perform(Request::SetConfig { key: "k".into(), value: "v".into() });
    harness.wait_until("the setting is changed", |model| has_notice(model, "kept")).await;
    assert!(harness.model.screen.is_none());
}

#[tokio::test]
async fn a_message_does_not_wait_for_a_change_of_the_agent_that_has_crashed() {
    let mut harness = Harness::new(vec![Ok("one")]);
    harness.submit("/config agent other");
    harness.submit("first");
    harness.wait_until("the message is back", |model| model.chat.input.text() == "first").await;
}

#[tokio::test]
async fn an_export_shows_its_destination_and_its_result() {
    let mut harness = Harness::new(vec![Ok("one")]);
    harness.exchange("first").await;
    harness.submit("/export");
    harness.wait_until("the export screen is open", |model| title(model) == Some("Export")).await;
    harness.press(KeyCode::Enter);
    harness.wait_until("it is done", |model| format!("{:?}", model.screen).contains("Done(Ok")).await;
}

#[tokio::test]
async fn an_export_asks_before_it_replaces_a_file() {
    let mut harness = Harness::new(vec![Ok("one")]);
    harness.exchange("first").await;
    harness.submit("/export old.json");
    harness.wait_until("it asks", |model| format!("{:?}", model.modals).contains("Replace this file?")).await;
    harness.press(KeyCode::Esc);
    assert!(!format!("{:?}", harness.model.screen).contains("Done"), "{:?}", harness.model.screen);
    harness.press(KeyCode::Enter);
    harness.wait_until("it asks again", |model| format!("{:?}", model.modals).contains("Replace")).await;
    harness.press(KeyCode::Enter);
    harness.wait_until("it is done", |model| format!("{:?}", model.screen).contains("Done(Ok")).await;
}

#[tokio::test]
async fn the_history_has_the_users_messages_newest_first() {
    let mut harness = Harness::new(vec![Ok("one"), Ok("two")]);
    harness.exchange("first").await;
    harness.exchange("second").await;
    harness.submit("/new");
    harness.model.chat.history = InputHistory::default();
    harness.press(KeyCode::Up);
    harness.wait_until("the history is loaded", |model| model.chat.history.entries.len() > 1).await;
    assert_eq!(harness.model.chat.history.entries, ["second", "first"]);
    let stored =
        harness.store.read_messages(harness.branch_of_newest_session(), MessageRange::Newest(9)).unwrap();
    assert_eq!(stored.iter().filter(|message| message.content.role == Role::User).count(), 2);
}

impl Harness {
    fn branch_of_newest_session(&self) -> BranchId {
        let page = self.store.list_sessions(&SessionFilter::default(), &PageRequest::first(1)).unwrap();
        page.items[0].session.current_branch
    }
}

#[tokio::test]
async fn a_panic_of_the_agent_ends_the_exchange_and_the_next_message_is_answered() {
    let mut harness = Harness::new(vec![Ok("panic"), Ok("well")]);
    harness.exchange("first").await;
    assert!(harness.model.chat.error_banner.is_some());
    harness.wait_until("the branch is read again", |model| model.chat.moves_in_progress == 0).await;
    harness.exchange("second").await;
    assert_eq!(harness.visible(), ["first", "so ", "second", "so well"]);
    assert_eq!(harness.visible(), harness.stored());
}
