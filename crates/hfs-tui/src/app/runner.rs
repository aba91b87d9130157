//! Performs requests in the background and sends their results back as messages.
//!
//! Calls of the engine, the store and the ports may block, so they run on tokio's blocking threads. Exchanges run as
//! tasks.

mod follow;

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hfs_core::{
    BranchId, Clock, ErrorExt, ErrorKind, Message, MessageRange, PageRequest, Part, Position, Role, Seq,
    SessionFilter, SessionId, Store, StoreResult, lock_unpoisoned,
};
use hfs_engine::{
    BlockingEngine, Conversation, Engine, EngineError, Observer, OutgoingMessage, Prices, ReversalPlan,
    Reversed, SendError, StatsGrouping, StatsQuery, Update, collect_stats, words_at,
};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::chat::PathCompletion;
use crate::ports::{
    AgentQuestion, AppParts, ConfigChange, Configuration, Drafts, ErrorReport, ExportOutcome,
    PermissionAnswer, PluginHost, Progress, SuggestionWording, Transfer,
};
use crate::protocol::{
    Change, Changed, ConfigApplied, ExportChoice, Msg, Opened, PreviewSource, RecentSessions, Request,
    ScreenMsg, StatsRequest, TransferProgress, UiResult,
};
use crate::text::Syntax;
use crate::transcript::PAGE;
use follow::Follower;

/// Progress is reported at most this often.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(50);
/// Number of sessions on the start screen.
const RECENT_SESSIONS: u32 = 5;
/// Number of messages in the preview of a session.
const PREVIEW_MESSAGES: u32 = 12;
/// Number of messages that are searched for the last words of a session.
const LAST_WORDS_MESSAGES: u32 = 40;
/// Number of messages of the open branch that are read for the input history.
const HISTORY_MESSAGES: u32 = 400;
/// Number of other sessions that are read for the input history.
const HISTORY_SESSIONS: u32 = 10;
/// Number of messages that are read of each of the [`HISTORY_SESSIONS`].
const HISTORY_MESSAGES_PER_SESSION: u32 = 30;

/// The engine and the wording of errors, shared by all requests.
#[derive(Clone)]
struct Backend {
    engine: Engine,
    suggestion_wording: SuggestionWording,
}

impl Backend {
    fn store(&self) -> &dyn Store {
        self.engine.store().as_ref()
    }

    /// The engine for callers on tokio's blocking threads.
    fn blocking_engine(&self) -> BlockingEngine {
        BlockingEngine::with_handle(self.engine.clone(), Handle::current())
    }

    fn ui_result<T, E: ErrorExt>(&self, result: Result<T, E>) -> UiResult<T> {
        result.map_err(|error| ErrorReport::from_error(&error, self.suggestion_wording))
    }
}

/// Performs requests.
pub struct Runner {
    backend: Backend,
    clock: Arc<dyn Clock>,
    transfer: Arc<dyn Transfer>,
    configuration: Arc<dyn Configuration>,
    plugins: Arc<dyn PluginHost>,
    drafts: Arc<dyn Drafts>,
    sender: mpsc::UnboundedSender<Msg>,
    /// A new engine after a change of the agent or the model. The next request switches to it.
    next_engine: Arc<Mutex<Option<Engine>>>,
    /// Cancels the newest exchange.
    cancel: CancellationToken,
    /// The task of the newest exchange.
    exchange: Option<JoinHandle<()>>,
    /// Stops the import or export in progress.
    stop_transfer: Arc<AtomicBool>,
    prices: Prices,
    /// The newest request of statistics, and what stops it.
    stats: (u64, Arc<AtomicBool>),
    /// Held from a call of the plugin host until its result is sent, so that results arrive in the order of the calls.
    /// Otherwise a `PluginView` read before a decision could arrive after it, and the app would ask for the approval again.
    plugin_calls: Arc<Mutex<()>>,
    questions: OpenQuestions,
    follower: Follower,
}

/// The questions of agents that have no answer yet, by their ids.
type OpenQuestions = Arc<Mutex<HashMap<u64, oneshot::Sender<PermissionAnswer>>>>;

/// Passes the questions of agents on to the model, and closes those that need no answer any more.
async fn pass_on_questions(
    mut questions: mpsc::UnboundedReceiver<AgentQuestion>,
    open: OpenQuestions,
    sender: mpsc::UnboundedSender<Msg>,
) {
    let mut id = 0;
    while let Some(question) = questions.recv().await {
        let (request, mut answer) = match question {
            AgentQuestion::Asked { request, answer } => (request, answer),
            AgentQuestion::Waiting(count) => {
                let _ = sender.send(Msg::QuestionsWaiting(count));
                continue;
            }
        };
        id += 1;
        let (decide, decided) = oneshot::channel();
        lock_unpoisoned(&open).insert(id, decide);
        let _ = sender.send(Msg::PermissionAsked { id, request });
        let (open, sender) = (Arc::clone(&open), sender.clone());
        tokio::spawn(async move {
            let decision = tokio::select! {
                () = answer.closed() => None,
                decision = decided => decision.ok(),
            };
            lock_unpoisoned(&open).remove(&id);
            match decision {
                // The agent's turn may have ended just now.
                Some(decision) => drop(answer.send(decision)),
                None => drop(sender.send(Msg::PermissionWithdrawn(id))),
            }
        });
    }
}

impl Runner {
    /// Creates a runner that sends its messages to `sender`.
    pub fn new(parts: AppParts, sender: mpsc::UnboundedSender<Msg>) -> Self {
        if let Some(mut changes) = parts.plugins.changes() {
            let sender = sender.clone();
            tokio::spawn(async move {
                while changes.changed().await.is_ok() && sender.send(Msg::PluginsChanged).is_ok() {}
            });
        }
        if parts.engine.store().is_reconnecting().is_some() {
            tokio::spawn(follow::watch_connection(Arc::clone(parts.engine.store()), sender.clone()));
        }
        let questions = OpenQuestions::default();
        if let Some(asked) = parts.questions {
            tokio::spawn(pass_on_questions(asked, Arc::clone(&questions), sender.clone()));
        }
        Self {
            questions,
            follower: Follower::default(),
            backend: Backend { engine: parts.engine, suggestion_wording: parts.suggestion_wording },
            clock: parts.clock,
            transfer: parts.transfer,
            configuration: parts.configuration,
            plugins: parts.plugins,
            drafts: parts.drafts,
            sender,
            next_engine: Arc::default(),
            cancel: CancellationToken::new(),
            exchange: None,
            stop_transfer: Arc::default(),
            prices: parts.prices,
            stats: Default::default(),
            plugin_calls: Arc::default(),
        }
    }

    /// Returns the clock.
    pub fn clock(&self) -> &dyn Clock {
        self.clock.as_ref()
    }

    /// Sends a message to the model.
    pub fn send_message(&self, message: Msg) {
        // Fails only when the app has ended.
        let _ = self.sender.send(message);
    }

    /// Reads what other processes add after this position of the open branch. It arrives as a message.
    pub fn follow(&mut self, place: Option<Position>) {
        if !self.follower.is_at(place) {
            self.follower.follow(place, &self.backend, &self.sender);
        }
    }

    /// Performs a request. Its result arrives as a message.
    pub fn perform(&mut self, request: Request) {
        self.switch_engine();
        match request {
            // Exchanges.
            Request::Send { conversation, text } => self.send(conversation, text, false),
            Request::SendOnFork { conversation, text } => self.send(conversation, text, true),
            Request::Retry { conversation, user } => self.retry(conversation, user),
            Request::Compact(conversation) => self.compact(conversation),
            Request::Interrupt => self.cancel.cancel(),

            // Conversations and their messages.
            Request::EnterConversation(conversation) => {
                let engine = self.backend.engine.clone();
                tokio::spawn(async move { engine.open_session(&conversation).await });
            }
            Request::LeaveConversation(conversation) => {
                let engine = self.backend.engine.clone();
                tokio::spawn(async move { engine.close_session(&conversation).await });
            }
            Request::Open { session, branch, at } => {
                let (backend, configuration) = (self.backend.clone(), Arc::clone(&self.configuration));
                let open = move || {
                    let opened = open(&backend.blocking_engine(), session, branch, at);
                    let opened =
                        opened.map(|opened| Opened { agent: configuration.agent_of(session), ..opened });
                    Msg::Opened(backend.ui_result(opened).map(Box::new))
                };
                self.run_blocking(open, |report| Msg::Opened(Err(report)));
            }
            Request::ReadMessages { branch, range, page } => self.run(move |backend| {
                let result = backend.ui_result(backend.store().read_messages(branch, range));
                Msg::Messages { page, branch, result }
            }),
            Request::ReadDraft(session) => {
                let drafts = Arc::clone(&self.drafts);
                self.run(move |_| Msg::DraftRead { session, result: drafts.read(session) });
            }
            Request::WriteDraft { session, text } => {
                let (drafts, sender) = (Arc::clone(&self.drafts), self.sender.clone());
                tokio::task::spawn_blocking(move || {
                    if let Err(report) = drafts.write(session, &text) {
                        let _ = sender.send(Msg::Failed(report));
                    }
                });
            }
            Request::ReadHistory { branch, project } => self.run(move |backend| {
                // The app works without the history, so an error is not shown.
                Msg::History(read_history(backend.store(), branch, project).unwrap_or_default())
            }),
            Request::Change(change) => {
                let (clock, backend) = (Arc::clone(&self.clock), self.backend.clone());
                let moved = change.moves_conversation();
                let apply = move || {
                    let changed = apply_change(&backend.blocking_engine(), clock.as_ref(), change);
                    Msg::Changed { moved, result: Box::new(backend.ui_result(changed)) }
                };
                self.run_blocking(apply, move |report| Msg::Changed { moved, result: Box::new(Err(report)) });
            }

            // Data for screens.
            Request::ListRecentSessions { project } => self.run(move |backend| {
                // The app works without the list, so an error is not shown.
                Msg::RecentSessions(recent_sessions(backend.store(), project).unwrap_or_default())
            }),
            Request::CompletePath(typed) => {
                let transfer = Arc::clone(&self.transfer);
                self.run(move |_| {
                    let found = transfer.complete_path(&typed);
                    Msg::PathsCompleted(PathCompletion { typed, found })
                });
            }
            Request::ReadPreview { source, request_id } => {
                self.run(move |backend| read_preview(backend, source, request_id));
            }
            Request::ListSessions { filter, page, request_id } => self.read(move |backend| {
                let result = backend.ui_result(backend.store().list_sessions(&filter, &page));
                ScreenMsg::Sessions { request_id, result }
            }),
            Request::Search { query, request_id } => self.read(move |backend| {
                let result = backend.ui_result(backend.store().search(&query));
                ScreenMsg::SearchResults { request_id, result }
            }),
            Request::ListCheckpoints(session) => self.read(move |backend| {
                let result = backend.ui_result(backend.store().list_checkpoints(session));
                ScreenMsg::Checkpoints { session, result }
            }),
            Request::ReadWords(places) => self.read(move |backend| {
                let words = places.into_iter().filter_map(|(branch, seq)| {
                    // A row without its words can still be used, so an error is not shown.
                    let words = words_at(backend.store(), branch, seq).ok()?;
                    Some((branch, seq, words))
                });
                ScreenMsg::Words(words.collect())
            }),
            Request::PlanRewind(target) => self.read(move |backend| {
                ScreenMsg::RewindPlanned(
                    backend.ui_result(backend.blocking_engine().plan_rewind(target)).map(Box::new),
                )
            }),
            Request::PlanUndo(session) => {
                self.plan_reversal(Change::Undo(session), move |engine| engine.plan_undo(session));
            }
            Request::PlanRedo(session) => {
                self.plan_reversal(Change::Redo(session), move |engine| engine.plan_redo(session));
            }
            Request::ListBranches(session) => self.read(move |backend| {
                let result = backend.ui_result(backend.store().list_branches(session));
                ScreenMsg::Branches { session, result }
            }),
            Request::ListRuns(session) => self.read(move |backend| {
                let result = backend.ui_result(backend.store().list_runs(session));
                ScreenMsg::Runs { session, result }
            }),
            Request::ReadRun(run) => self.read(move |backend| {
                let result = backend.ui_result(backend.store().get_run(run)).map(Box::new);
                ScreenMsg::Run { run, result }
            }),

            Request::ReadStats { query, request_id } => self.read_stats(query, request_id),
            Request::StopStats { request_id } => {
                let (newest, stop) = &self.stats;
                stop.fetch_or(*newest == request_id, Ordering::SeqCst);
            }

            // Import and export.
            Request::PrepareExport { session, target } => {
                let transfer = Arc::clone(&self.transfer);
                self.run(move |backend| {
                    let result = export_choices(backend, transfer.as_ref(), session);
                    Msg::ExportPrepared { session, target, result }
                });
            }
            Request::Export(request) => {
                let (transfer, progress) = (Arc::clone(&self.transfer), self.progress());
                let export = move || {
                    Msg::Screen(match transfer.export(&request, &progress) {
                        Ok(ExportOutcome::Written(exported)) => ScreenMsg::Exported(Ok(exported)),
                        Ok(ExportOutcome::FileExists(path)) => ScreenMsg::ExportFileExists(path),
                        Err(report) => ScreenMsg::Exported(Err(report)),
                    })
                };
                self.run_blocking(export, |report| Msg::Screen(ScreenMsg::Exported(Err(report))));
            }
            Request::Import(request) => {
                let (transfer, progress) = (Arc::clone(&self.transfer), self.progress());
                let import = move || Msg::Screen(ScreenMsg::Imported(transfer.import(&request, &progress)));
                self.run_blocking(import, |report| Msg::Screen(ScreenMsg::Imported(Err(report))));
            }
            Request::StopTransfer => self.stop_transfer.store(true, Ordering::SeqCst),
            Request::FindTranscripts { welcome } => {
                let transfer = Arc::clone(&self.transfer);
                self.read(move |backend| {
                    let found = if welcome && !is_store_empty(backend.store()) {
                        Vec::new()
                    } else {
                        transfer.find_transcripts()
                    };
                    ScreenMsg::Transcripts { welcome, found }
                });
            }

            // Configuration.
            Request::ReadConfig => {
                let configuration = Arc::clone(&self.configuration);
                self.read(move |_| ScreenMsg::Config(configuration.entries()));
            }
            Request::SetConfig { key, value } => {
                let (configuration, next_engine) =
                    (Arc::clone(&self.configuration), Arc::clone(&self.next_engine));
                let set = move || {
                    let change = configuration.set(&key, &value);
                    Msg::ConfigSet(change.map(|change| apply_config_change(key, change, &next_engine)))
                };
                // Messages may wait for the result.
                self.run_blocking(set, |report| Msg::ConfigSet(Err(report)));
            }
            Request::ListModels => {
                let configuration = Arc::clone(&self.configuration);
                self.read(move |_| ScreenMsg::Models(configuration.models()));
            }
            Request::UseModel { model } => {
                let (configuration, next_engine) =
                    (Arc::clone(&self.configuration), Arc::clone(&self.next_engine));
                self.run(move |_| {
                    let for_session = model.is_some();
                    let change = configuration.use_model(model.as_deref());
                    let apply = |change| apply_config_change("model".to_owned(), change, &next_engine);
                    Msg::ModelUsed { for_session, result: change.map(apply) }
                });
            }

            Request::ListAgents => {
                let configuration = Arc::clone(&self.configuration);
                self.run(move |_| Msg::Agents(configuration.agents()));
            }
            Request::UseAgent { agent } => {
                let (configuration, next_engine) =
                    (Arc::clone(&self.configuration), Arc::clone(&self.next_engine));
                let use_agent = move || {
                    let change = configuration.use_agent(agent.as_deref());
                    let apply = |change| apply_config_change("agent".to_owned(), change, &next_engine);
                    Msg::AgentUsed { for_session: agent.is_some(), result: change.map(apply) }
                };
                self.run_blocking(use_agent, |report| Msg::AgentUsed {
                    for_session: false,
                    result: Err(report),
                });
            }
            Request::InstallAgent { agent } => self.install_agent(agent),

            // Plugins.
            Request::ReadPlugins(session) => {
                self.call_plugins(move |plugins| Msg::Plugins(Box::new(plugins.view(session))));
            }
            Request::DecidePlugin { plugin, decision } => {
                self.call_plugins(move |plugins| Msg::PluginDecided(plugins.decide(&plugin, decision)));
            }
            Request::RunPlugin { command, arguments, conversation } => {
                let plugins = Arc::clone(&self.plugins);
                self.run(move |backend| {
                    let output = plugins.run(&command, &arguments, conversation.session());
                    // A command that fails can still have changed its plugin's state.
                    let persisted =
                        backend.ui_result(backend.blocking_engine().persist_plugin_states(&conversation));
                    let result = output.and_then(|output| persisted.map(|()| output));
                    Msg::PluginRan { command, result }
                });
            }

            Request::AnswerPermission { id, answer } => {
                if let Some(decide) = lock_unpoisoned(&self.questions).remove(&id) {
                    let _ = decide.send(answer);
                }
            }

            Request::StartTimer(duration, timer) => {
                let sender = self.sender.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(duration).await;
                    let _ = sender.send(Msg::Timer(timer));
                });
            }
            Request::LayOut(job) => self.run(|_| Msg::LaidOut(Box::new(job.run()))),
            Request::LoadSyntax => self.run(|_| Msg::SyntaxReady(Syntax::load())),
        }
    }

    /// Reads the statistics, which takes seconds for a large store, and reports its progress.
    fn read_stats(&mut self, query: StatsRequest, request_id: u64) {
        let stop = Arc::new(AtomicBool::new(false));
        let (_, before) = std::mem::replace(&mut self.stats, (request_id, Arc::clone(&stop)));
        before.store(true, Ordering::SeqCst);
        let (backend, sender, prices) = (self.backend.clone(), self.sender.clone(), self.prices);
        let on_panic = self.sender.clone();
        let StatsRequest { since, project, zone } = query;
        let read = move || {
            let mut last_report = Instant::now();
            let mut progress = |read, sessions| {
                if last_report.elapsed() >= PROGRESS_INTERVAL {
                    last_report = Instant::now();
                    let _ = sender.send(Msg::Screen(ScreenMsg::StatsProgress { request_id, read, sessions }));
                }
                if stop.load(Ordering::SeqCst) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            let filter = SessionFilter { project, ..SessionFilter::default() };
            let groupings = &StatsGrouping::ALL;
            let query = StatsQuery { since, filter, groupings, zone, prices, progress: &mut progress };
            // Statistics that were stopped have no result.
            if let Some(result) = backend.ui_result(collect_stats(backend.store(), query)).transpose() {
                let result = result.map(Box::new);
                let _ = sender.send(Msg::Screen(ScreenMsg::Stats { request_id, result }));
            }
        };
        tokio::spawn(async move {
            if let Err(error) = tokio::task::spawn_blocking(read).await {
                let _ = on_panic.send(Msg::Failed(panic_report(&error)));
            }
        });
    }

    fn install_agent(&self, agent: String) {
        let (configuration, sender) = (Arc::clone(&self.configuration), self.sender.clone());
        self.stop_transfer.store(false, Ordering::SeqCst);
        let stop = Arc::clone(&self.stop_transfer);
        let output = move |line: &str| {
            let _ = sender.send(Msg::Screen(ScreenMsg::InstallOutput(line.to_owned())));
            !stop.load(Ordering::SeqCst)
        };
        let ended = |agent, result| Msg::Screen(ScreenMsg::AgentInstalled { agent, result });
        let name = agent.clone();
        let install = move || {
            let result = configuration.install_agent(&agent, &output);
            ended(agent, result)
        };
        self.run_blocking(install, move |report| ended(name, Err(report)));
    }

    /// Switches to the next engine, if a change of the settings created one.
    fn switch_engine(&mut self) {
        let next = lock_unpoisoned(&self.next_engine).take();
        if let Some(engine) = next {
            // An exchange in progress keeps the engine that it began with, and its agent.
            self.backend.engine = engine;
        }
    }

    /// Runs `work` on a blocking thread and sends its message. If it panics, sends the result of `on_panic`.
    fn run_blocking(
        &self,
        work: impl FnOnce() -> Msg + Send + 'static,
        on_panic: impl FnOnce(ErrorReport) -> Msg + Send + 'static,
    ) {
        let sender = self.sender.clone();
        tokio::spawn(async move {
            let result = tokio::task::spawn_blocking(work).await;
            let _ = sender.send(result.unwrap_or_else(|error| on_panic(panic_report(&error))));
        });
    }

    /// Runs an exchange as a task. If it panics, the model is told, so that the app does not stay busy.
    fn run_exchange(&mut self, exchange: impl Future<Output = Msg> + Send + 'static) {
        let sender = self.sender.clone();
        self.exchange = Some(tokio::spawn(async move {
            let result = tokio::spawn(exchange).await;
            let _ = sender.send(result.unwrap_or_else(|error| Msg::ExchangeCrashed(panic_report(&error))));
        }));
    }

    fn run(&self, work: impl FnOnce(&Backend) -> Msg + Send + 'static) {
        let backend = self.backend.clone();
        self.run_blocking(move || work(&backend), Msg::Failed);
    }

    /// Like [`run`](Self::run), for results that only screens handle.
    fn read(&self, read: impl FnOnce(&Backend) -> ScreenMsg + Send + 'static) {
        self.run(move |backend| Msg::Screen(read(backend)));
    }

    /// Plans an undo or redo. If it is possible, the model decides whether to perform it at once.
    fn plan_reversal(
        &self,
        change: Change,
        plan: impl FnOnce(&BlockingEngine) -> Result<ReversalPlan, EngineError> + Send + 'static,
    ) {
        let (backend, planned) = (self.backend.clone(), change.clone());
        let work = move || {
            let result = backend.ui_result(plan(&backend.blocking_engine())).map(Box::new);
            Msg::ReversalPlanned { change: planned, result }
        };
        self.run_blocking(work, move |report| Msg::ReversalPlanned { change, result: Err(report) });
    }

    fn call_plugins(&self, call: impl FnOnce(&dyn PluginHost) -> Msg + Send + 'static) {
        let (plugins, sender) = (Arc::clone(&self.plugins), self.sender.clone());
        let calls = Arc::clone(&self.plugin_calls);
        tokio::task::spawn_blocking(move || {
            let _guard = lock_unpoisoned(&calls);
            let _ = sender.send(call(plugins.as_ref()));
        });
    }

    fn progress(&self) -> ProgressReporter {
        self.stop_transfer.store(false, Ordering::SeqCst);
        ProgressReporter {
            sender: self.sender.clone(),
            stop: Arc::clone(&self.stop_transfer),
            last_report: Mutex::new(None),
        }
    }

    fn observer(&self) -> Arc<dyn Observer> {
        let sender = self.sender.clone();
        Arc::new(move |update: Update| {
            let _ = sender.send(Msg::Exchange(update));
        })
    }

    fn send(&mut self, mut conversation: Conversation, text: String, on_fork: bool) {
        self.cancel = CancellationToken::new();
        let (engine, observer, cancel) = (self.backend.engine.clone(), self.observer(), self.cancel.clone());
        let (sender, transfer) = (self.sender.clone(), Arc::clone(&self.transfer));
        self.run_exchange(async move {
            // Files are read before a branch is created for the message.
            let message = match attach(transfer, text, &engine, &sender).await {
                Ok(message) => message,
                Err(error) => return Msg::ExchangeEnded { conversation, outcome: Box::new(Err(error)) },
            };
            let head = conversation.head();
            let forked = match (on_fork, conversation.branch()) {
                (true, Some(branch)) => fork(&engine, &mut conversation, branch, head, &sender).await,
                _ => Ok(()),
            };
            let outcome = match forked {
                Ok(()) => engine.send(&mut conversation, message, observer, cancel).await,
                Err(error) => Err(error.into()),
            };
            Msg::ExchangeEnded { conversation, outcome: Box::new(outcome) }
        });
    }

    fn retry(&mut self, mut conversation: Conversation, user: Arc<Message>) {
        self.cancel = CancellationToken::new();
        let (engine, observer, cancel) = (self.backend.engine.clone(), self.observer(), self.cancel.clone());
        let sender = self.sender.clone();
        self.run_exchange(async move {
            let branch = conversation.branch().unwrap_or(user.branch);
            // If no reply follows the message, no new branch is needed.
            let forked = if conversation.head() == user.seq {
                Ok(())
            } else {
                fork(&engine, &mut conversation, branch, user.seq, &sender).await
            };
            let outcome = match forked {
                Ok(()) => {
                    engine.generate_reply(&mut conversation, Message::clone(&user), observer, cancel).await
                }
                Err(error) => Err(error.into()),
            };
            Msg::ExchangeEnded { conversation, outcome: Box::new(outcome) }
        });
    }

    fn compact(&mut self, mut conversation: Conversation) {
        self.cancel = CancellationToken::new();
        let (engine, observer, cancel) = (self.backend.engine.clone(), self.observer(), self.cancel.clone());
        self.run_exchange(async move {
            let result = engine.compact(&mut conversation, observer.as_ref(), cancel).await;
            Msg::Compacted { conversation, result: Box::new(result) }
        });
    }

    /// Keeps what was written in a conversation and not sent. Another app may have kept a text for the same conversation;
    /// `replaces` says that it is in this one.
    pub fn keep_draft(&self, session: Option<SessionId>, text: &str, replaces: bool) -> UiResult<()> {
        if replaces {
            return self.drafts.write(session, text);
        }
        if text.is_empty() {
            return Ok(());
        }
        match self.drafts.read(session)? {
            Some(kept) if kept != text => self.drafts.write(session, &format!("{kept}\n\n{text}")),
            _ => self.drafts.write(session, text),
        }
    }

    /// Stops all work, waits until the reply in progress is saved, leaves the conversation, and ends what the agent has
    /// started. Saving and leaving take at most `timeout` each.
    pub async fn shut_down(&mut self, conversation: &Conversation, timeout: Duration) {
        self.cancel.cancel();
        self.stop_transfer.store(true, Ordering::SeqCst);
        self.stats.1.store(true, Ordering::SeqCst);
        if let Some(exchange) = self.exchange.take() {
            let _ = tokio::time::timeout(timeout, exchange).await;
        }
        let _ = tokio::time::timeout(timeout, self.backend.engine.close_session(conversation)).await;
        self.backend.engine.agent().close().await;
    }
}

/// Attaches the files that a message mentions. Tells the user if the agent does not look at the pictures among them.
async fn attach(
    transfer: Arc<dyn Transfer>,
    text: String,
    engine: &Engine,
    sender: &mpsc::UnboundedSender<Msg>,
) -> Result<OutgoingMessage, SendError> {
    let attaching = tokio::task::spawn_blocking(move || transfer.attach_files(&text));
    let message = attaching.await.map_err(|error| {
        SendError::Engine(EngineError::Background { message: panic_report(&error).message })
    })??;
    if !message.attachments.is_empty() && !engine.agent().describe().sees_images {
        let names = message.attachments.iter().map(|file| file.name.clone()).collect();
        let _ = sender.send(Msg::PicturesNotSeen { names });
    }
    Ok(message)
}

/// Hands a new engine to the next request, and returns what the model needs to know.
fn apply_config_change(
    key: String,
    change: ConfigChange,
    next_engine: &Mutex<Option<Engine>>,
) -> ConfigApplied {
    let applied = ConfigApplied::new(key, &change);
    if let Some(engine) = change.engine {
        *lock_unpoisoned(next_engine) = Some(engine);
    }
    applied
}

/// The newest sessions of a project, and the end of the newest one. If the project has none, those of all projects.
fn recent_sessions(store: &dyn Store, project: Option<String>) -> StoreResult<RecentSessions> {
    let page = PageRequest::first(RECENT_SESSIONS);
    let in_project = SessionFilter { project, ..SessionFilter::default() };
    let sessions = store.list_sessions(&in_project, &page)?.items;
    if in_project.project.is_none() {
        return Ok(RecentSessions { sessions, ..RecentSessions::default() });
    }
    let Some(newest) = sessions.first() else {
        let sessions = store.list_sessions(&SessionFilter::default(), &page)?.items;
        return Ok(RecentSessions { sessions, ..RecentSessions::default() });
    };
    let messages =
        store.read_messages(newest.session.current_branch, MessageRange::Newest(LAST_WORDS_MESSAGES))?;
    let last_of = |role| {
        let words = |message: &Message| {
            let content = &message.content;
            if content.role != role || content.is_context() {
                return None;
            }
            let text = content.text();
            (!text.trim().is_empty()).then_some((role, text))
        };
        messages.iter().rev().find_map(words)
    };
    let last_words = [Role::User, Role::Assistant].into_iter().filter_map(last_of).collect();
    Ok(RecentSessions { sessions, of_project: true, last_words })
}

/// Reports the panic of a task. Its message is left out, because it may quote text of a message.
fn panic_report(error: &JoinError) -> ErrorReport {
    let text = if error.is_panic() {
        "a background task of hfs crashed; the log has its place"
    } else {
        "a background task of hfs was stopped"
    };
    ErrorReport::new(ErrorKind::Internal, text)
}

/// Creates a branch after message `at` and moves the conversation to it.
async fn fork(
    engine: &Engine,
    conversation: &mut Conversation,
    branch: BranchId,
    at: Seq,
    sender: &mpsc::UnboundedSender<Msg>,
) -> Result<(), EngineError> {
    let branch = engine.fork(branch, at, None).await?;
    *conversation = Conversation::at(branch.session, Position { branch: branch.id, head: branch.head });
    let _ = sender.send(Msg::ForkedForSend(branch));
    Ok(())
}

fn open(
    engine: &BlockingEngine,
    session: SessionId,
    branch: Option<BranchId>,
    at: Option<Seq>,
) -> Result<Opened, EngineError> {
    let store = engine.store();
    let summary = store.get_session(session)?;
    let current = summary.session.current_branch;
    // If the current branch shares the message with `branch`, open the current branch, so that the user stays on it.
    // A message that the current branch inherited from `branch` still has `branch` as its own branch.
    let branch = match (branch, at) {
        (Some(branch), Some(at)) if branch != current => {
            let shared = store.read_messages(current, MessageRange::From(at, 1))?;
            if shared.iter().any(|message| message.branch == branch) { None } else { Some(branch) }
        }
        (branch, _) => branch,
    };
    let conversation = engine.resume(session, branch)?;
    let branch = store.get_branch(branch.unwrap_or(current))?;
    let range = match at {
        Some(at) => MessageRange::From(at.saturating_sub(u64::from(PAGE) / 2).max(1), PAGE),
        None => MessageRange::Newest(PAGE),
    };
    let messages = store.read_messages(branch.id, range)?;
    Ok(Opened { conversation, summary, branch, messages, at, agent: None })
}

fn read_preview(backend: &Backend, source: PreviewSource, request_id: u64) -> Msg {
    let store = backend.store();
    let (branch, range) = match source {
        PreviewSource::Branch(branch, range) => (branch, range),
        PreviewSource::Session(session) => match backend.ui_result(store.get_session(session)) {
            Ok(summary) => (summary.session.current_branch, MessageRange::Newest(PREVIEW_MESSAGES)),
            Err(report) => return Msg::Screen(ScreenMsg::Preview { request_id, result: Err(report) }),
        },
    };
    let mut result = backend.ui_result(store.read_messages(branch, range));
    result.iter_mut().flatten().for_each(shorten_for_preview);
    Msg::Screen(ScreenMsg::Preview { request_id, result })
}

/// Cuts long texts of a message at their beginning, because a preview shows the end of the newest message.
fn shorten_for_preview(message: &mut Message) {
    /// More than the largest preview can show.
    const MAX_BYTES: usize = 16 << 10;
    for part in &mut message.content.parts {
        if let Part::Text { text } | Part::Thinking { text, .. } | Part::ToolResult { output: text, .. } =
            part
            && text.len() > MAX_BYTES
        {
            let start = text.ceil_char_boundary(text.len() - MAX_BYTES);
            *text = format!("…{}", text.get(start..).unwrap_or_default());
        }
    }
}

/// Whether the store has no sessions, neither active nor in the trash. The app then offers to import transcripts that it finds.
#[must_use]
pub fn is_store_empty(store: &dyn Store) -> bool {
    let page = PageRequest::first(1);
    let has_none = |trashed| {
        let filter = SessionFilter { trashed, ..SessionFilter::default() };
        store.list_sessions(&filter, &page).is_ok_and(|page| page.items.is_empty())
    };
    has_none(false) && has_none(true)
}

fn export_choices(
    backend: &Backend,
    transfer: &dyn Transfer,
    session: SessionId,
) -> UiResult<Vec<ExportChoice>> {
    let summary = backend.ui_result(backend.store().get_session(session))?;
    let formats = transfer.export_formats().into_iter();
    Ok(formats
        .map(|format| {
            let path = transfer.default_export_path(&summary.session, &format.name);
            (format, path)
        })
        .collect())
}

/// Returns the user's messages on this branch and in the newest sessions of the project, newest first.
fn read_history(
    store: &dyn Store,
    branch: Option<BranchId>,
    project: Option<String>,
) -> StoreResult<Vec<String>> {
    let mut texts = Vec::new();
    let mut add_branch = |branch, count| -> StoreResult<()> {
        let messages = store.read_messages(branch, MessageRange::Newest(count))?;
        for message in messages.iter().rev().filter(|message| message.content.is_typed()) {
            let text = message.content.text();
            if !text.is_empty() && !texts.contains(&text) {
                texts.push(text);
            }
        }
        Ok(())
    };
    if let Some(branch) = branch {
        add_branch(branch, HISTORY_MESSAGES)?;
    }
    let filter = SessionFilter { project, ..SessionFilter::default() };
    for summary in store.list_sessions(&filter, &PageRequest::first(HISTORY_SESSIONS))?.items {
        if Some(summary.session.current_branch) != branch {
            add_branch(summary.session.current_branch, HISTORY_MESSAGES_PER_SESSION)?;
        }
    }
    Ok(texts)
}

fn apply_change(engine: &BlockingEngine, clock: &dyn Clock, change: Change) -> Result<Changed, EngineError> {
    let store = engine.store();
    Ok(match change {
        Change::Rename { session, name } => {
            store.rename_session(session, &name, false, clock.now())?;
            Changed::Renamed { session, name }
        }
        Change::Trash(session) => {
            store.trash_session(session, clock.now())?;
            Changed::Trashed { session }
        }
        Change::Restore(session) => {
            store.restore_session(session, clock.now())?;
            Changed::Restored { session }
        }
        Change::Checkpoint { conversation, label } => {
            Changed::Checkpointed(engine.checkpoint(&conversation, label.as_deref())?)
        }
        Change::Pin { checkpoint, pinned } => {
            store.pin_checkpoint(checkpoint, pinned)?;
            Changed::Pinned
        }
        Change::DeleteCheckpoint(checkpoint) => {
            store.delete_checkpoint(checkpoint, clock.now())?;
            Changed::CheckpointDeleted
        }
        Change::Rewind(target) => Changed::Rewound(Box::new(engine.rewind(target)?)),
        Change::Fork { branch, at, name } => Changed::Forked(engine.fork(branch, at, name.as_deref())?),
        Change::Switch { session, branch } => Changed::Switched(engine.switch(session, branch)?),
        Change::RenameBranch { branch, name } => {
            store.rename_branch(branch, &name, clock.now())?;
            Changed::BranchRenamed(store.get_branch(branch)?)
        }
        Change::Undo(session) => reversed(engine.undo(session)?),
        Change::Redo(session) => reversed(engine.redo(session)?),
    })
}

fn reversed(Reversed { plan, operation }: Reversed) -> Changed {
    Changed::Reversed { target: Box::new(plan.target), operation: Box::new(operation) }
}

/// Sends progress messages, at most one per [`PROGRESS_INTERVAL`].
struct ProgressReporter {
    sender: mpsc::UnboundedSender<Msg>,
    stop: Arc<AtomicBool>,
    last_report: Mutex<Option<Instant>>,
}

impl Progress for ProgressReporter {
    fn report(&self, done: u64, total: Option<u64>, item: &str) -> bool {
        let mut last_report = lock_unpoisoned(&self.last_report);
        if last_report.is_none_or(|last| last.elapsed() >= PROGRESS_INTERVAL) {
            *last_report = Some(Instant::now());
            let progress = TransferProgress { done, total, item: item.to_owned() };
            let _ = self.sender.send(Msg::Screen(ScreenMsg::Progress(progress)));
        }
        !self.stop.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests;
