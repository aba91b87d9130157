//! Turns effects into calls, and their results into messages. Nothing here runs on the screen's thread.

mod reads;
mod writes;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hfs_core::{BranchId, Clock, ErrorExt, ErrorKind, Message, Seq, SessionId};
use hfs_engine::{Conversation, Engine, EngineError, Observer, Update};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::effect::Effect;
use crate::message::{Answer, ConfigApplied, Msg};
use crate::parts::{AppParts, Configuration, Failure, PluginHost, Progress, Transfer};
use crate::text::Syntax;

/// Turns effects into calls.
pub struct Runner {
    engine: Engine,
    clock: Arc<dyn Clock>,
    transfer: Arc<dyn Transfer>,
    configuration: Arc<dyn Configuration>,
    plugins: Arc<dyn PluginHost>,
    sender: mpsc::UnboundedSender<Msg>,
    /// Another engine, once a setting has changed who answers.
    next_engine: Arc<Mutex<Option<Engine>>>,
    cancel: CancellationToken,
    exchange: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    plugin_turn: Arc<Mutex<()>>,
}

impl Runner {
    /// A runner of these parts that sends its messages to `sender`.
    pub fn new(parts: AppParts, sender: mpsc::UnboundedSender<Msg>) -> Self {
        if let Some(mut changes) = parts.plugins.changes() {
            let sender = sender.clone();
            tokio::spawn(async move {
                while changes.changed().await.is_ok() && sender.send(Msg::PluginsChanged).is_ok() {}
            });
        }
        Self {
            engine: parts.engine,
            clock: parts.clock,
            transfer: parts.transfer,
            configuration: parts.configuration,
            plugins: parts.plugins,
            sender,
            next_engine: Arc::default(),
            cancel: CancellationToken::new(),
            exchange: None,
            stop: Arc::default(),
            plugin_turn: Arc::default(),
        }
    }

    /// What time it is.
    pub fn clock(&self) -> &dyn Clock {
        self.clock.as_ref()
    }

    /// Sends a message to the model.
    pub fn tell(&self, message: Msg) {
        // Nobody listens any more only while the app ends.
        let _ = self.sender.send(message);
    }

    /// Does what an effect says; its result comes as a message.
    pub fn perform(&mut self, effect: Effect) {
        if let Ok(mut next) = self.next_engine.lock()
            && let Some(engine) = next.take()
        {
            self.engine = engine;
        }
        match effect {
            Effect::Send { conversation, text } => self.send(conversation, text, false),
            Effect::SendOnFork { conversation, text } => self.send(conversation, text, true),
            Effect::AnswerAgain { conversation, user } => self.answer_again(conversation, user),
            Effect::Interrupt => self.cancel.cancel(),
            Effect::Enter(conversation) => {
                let engine = self.engine.clone();
                tokio::spawn(async move { engine.enter(&conversation).await });
            }
            Effect::Leave(conversation) => {
                let engine = self.engine.clone();
                tokio::spawn(async move { engine.leave(&conversation).await });
            }
            Effect::After(pause, timer) => {
                let sender = self.sender.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(pause).await;
                    let _ = sender.send(Msg::Timer(timer));
                });
            }
            Effect::Change(change) => {
                let clock = Arc::clone(&self.clock);
                self.on_engine(move |engine| {
                    Msg::Changed(Box::new(writes::change(engine, clock.as_ref(), change)))
                });
            }
            Effect::LoadSyntax => self.blocking(|| Msg::SyntaxReady(Syntax::load())),
            Effect::StopTransfer => self.stop.store(true, Ordering::SeqCst),
            other => self.perform_for_parts(other),
        }
    }

    /// Effects that ask the binary's parts, and those that only read.
    fn perform_for_parts(&mut self, effect: Effect) {
        let (transfer, configuration) = (Arc::clone(&self.transfer), Arc::clone(&self.configuration));
        let plugins = Arc::clone(&self.plugins);
        match effect {
            Effect::PrepareExport { session, format } => self.on_engine(move |engine| {
                let result = reads::export_choices(engine, transfer.as_ref(), session);
                Msg::ExportPrepared { session, format, result }
            }),
            Effect::Export(request) => {
                let progress = self.progress();
                let export = move || Msg::Exported(transfer.export(&request, &progress));
                self.blocking_or(export, |failure| Msg::Exported(Err(failure)));
            }
            Effect::Import(request) => {
                let progress = self.progress();
                let import = move || Msg::Imported(transfer.import(&request, &progress));
                self.blocking_or(import, |failure| Msg::Imported(Err(failure)));
            }
            Effect::FindTranscripts { welcome } => self.on_engine(move |engine| {
                let wanted = !welcome || reads::is_empty(engine);
                let found = if wanted { transfer.find_transcripts() } else { Vec::new() };
                Msg::Transcripts { welcome, found }
            }),
            Effect::ReadConfig => self.blocking(move || Msg::Config(configuration.entries())),
            Effect::SetConfig { key, value } => {
                let next_engine = Arc::clone(&self.next_engine);
                self.blocking(move || {
                    Msg::ConfigSet(configuration.set(&key, &value).map(|change| {
                        let applied = ConfigApplied::of(key, &change);
                        if let (Some(engine), Ok(mut next)) = (change.engine, next_engine.lock()) {
                            *next = Some(engine);
                        }
                        applied
                    }))
                });
            }
            Effect::ReadPlugins(session) => self.read_plugins(session),
            Effect::DecidePlugin { plugin, decision } => {
                let (turn, sender) = (Arc::clone(&self.plugin_turn), self.sender.clone());
                tokio::task::spawn_blocking(move || {
                    // No view from before the decision is told behind it.
                    let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
                    let _ = sender.send(Msg::PluginDecided(plugins.decide(&plugin, decision)));
                });
            }
            Effect::RunPlugin { command, arguments, conversation } => self.on_engine(move |engine| {
                let ran = plugins.run(&command, &arguments, conversation.session());
                // What it changed before it failed is kept, too.
                let kept = answer(engine.persist_plugin_states(&conversation));
                Msg::PluginRan { command, result: ran.and_then(|said| kept.map(|()| said)) }
            }),
            other => self.on_engine(move |engine| reads::read(engine, other)),
        }
    }

    /// Views are told in the order in which they were seen: an old one behind a new one would ask again about a
    /// plugin that was just approved.
    fn read_plugins(&self, session: Option<SessionId>) {
        let (plugins, sender) = (Arc::clone(&self.plugins), self.sender.clone());
        let turn = Arc::clone(&self.plugin_turn);
        tokio::task::spawn_blocking(move || {
            let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = sender.send(Msg::Plugins(Box::new(plugins.view(session))));
        });
    }

    /// Runs work that blocks away from the screen. A panic in it becomes a message, too.
    fn blocking(&self, work: impl FnOnce() -> Msg + Send + 'static) {
        self.blocking_or(work, Msg::Failed);
    }

    /// As [`blocking`](Self::blocking), with a message of its own for a panic.
    fn blocking_or(&self, work: impl FnOnce() -> Msg + Send + 'static, failed: fn(Failure) -> Msg) {
        let sender = self.sender.clone();
        tokio::spawn(async move {
            let message = tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
                let text = format!("a background task of hfs failed: {error}");
                failed(Failure::new(ErrorKind::Internal, text))
            });
            let _ = sender.send(message);
        });
    }

    fn on_engine(&self, work: impl FnOnce(&Engine) -> Msg + Send + 'static) {
        let engine = self.engine.clone();
        self.blocking(move || work(&engine));
    }

    fn progress(&self) -> Reporter {
        self.stop.store(false, Ordering::SeqCst);
        Reporter { sender: self.sender.clone(), stop: Arc::clone(&self.stop), last: Mutex::new(None) }
    }

    fn observer(&self) -> Arc<dyn Observer> {
        let sender = self.sender.clone();
        Arc::new(move |update: Update| {
            let _ = sender.send(Msg::Update(update));
        })
    }

    fn send(&mut self, mut conversation: Conversation, text: String, on_fork: bool) {
        self.cancel = CancellationToken::new();
        let (engine, observer, cancel) = (self.engine.clone(), self.observer(), self.cancel.clone());
        let sender = self.sender.clone();
        self.exchange = Some(tokio::spawn(async move {
            let forked = match (on_fork, conversation.branch()) {
                (true, Some(branch)) => fork(&engine, &mut conversation, branch, None, &sender).await,
                _ => Ok(()),
            };
            let outcome = match forked {
                Ok(()) => engine.send(&mut conversation, &text, observer, cancel).await,
                Err(error) => Err(error.into()),
            };
            let _ = sender.send(Msg::Ended { conversation, outcome: Box::new(outcome) });
        }));
    }

    fn answer_again(&mut self, mut conversation: Conversation, user: Arc<Message>) {
        self.cancel = CancellationToken::new();
        let (engine, observer, cancel) = (self.engine.clone(), self.observer(), self.cancel.clone());
        let sender = self.sender.clone();
        self.exchange = Some(tokio::spawn(async move {
            let branch = conversation.branch().unwrap_or(user.branch);
            // Where nothing came back yet, the message is answered where it stands.
            let forked = if conversation.head() == user.seq {
                Ok(())
            } else {
                fork(&engine, &mut conversation, branch, Some(user.seq), &sender).await
            };
            let outcome = match forked {
                Ok(()) => engine.answer(&mut conversation, Message::clone(&user), observer, cancel).await,
                Err(error) => Err(error.into()),
            };
            let _ = sender.send(Msg::Ended { conversation, outcome: Box::new(outcome) });
        }));
    }

    /// Waits for what is still being saved, and says goodbye to the conversation.
    pub async fn finish(mut self, conversation: &Conversation, patience: Duration) {
        self.cancel.cancel();
        self.stop.store(true, Ordering::SeqCst);
        if let Some(exchange) = self.exchange.take() {
            let _ = tokio::time::timeout(patience, exchange).await;
        }
        let _ = tokio::time::timeout(patience, self.engine.leave(conversation)).await;
    }
}

/// Makes a branch behind message `at` (or behind what was seen) and moves the conversation onto it.
async fn fork(
    engine: &Engine,
    conversation: &mut Conversation,
    branch: BranchId,
    at: Option<Seq>,
    sender: &mpsc::UnboundedSender<Msg>,
) -> Result<(), EngineError> {
    let at = at.unwrap_or_else(|| conversation.head());
    let on = engine.clone();
    let forked = tokio::task::spawn_blocking(move || on.fork(branch, at, None)).await;
    let branch = match forked {
        Ok(result) => result?,
        Err(error) => return Err(EngineError::Background { message: error.to_string() }),
    };
    *conversation =
        Conversation::at(branch.session, hfs_core::Position { branch: branch.id, head: branch.head });
    let _ = sender.send(Msg::Forked(branch));
    Ok(())
}

/// The answer to a call of the engine or the store.
pub fn answer<T, E: ErrorExt>(result: Result<T, E>) -> Answer<T> {
    result.map_err(|error| Failure::of(&error))
}

/// Passes progress on, not more often than it can be seen.
struct Reporter {
    sender: mpsc::UnboundedSender<Msg>,
    stop: Arc<AtomicBool>,
    last: Mutex<Option<std::time::Instant>>,
}

impl Progress for Reporter {
    fn report(&self, done: u64, total: Option<u64>, what: &str) -> bool {
        const OFTEN: Duration = Duration::from_millis(50);
        if let Ok(mut last) = self.last.lock()
            && last.is_none_or(|last| last.elapsed() >= OFTEN)
        {
            *last = Some(std::time::Instant::now());
            let _ = self.sender.send(Msg::Progress { done, total, what: what.to_owned() });
        }
        !self.stop.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests;
