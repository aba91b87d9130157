//! The event loop: reads input, applies messages to the model, performs effects and draws frames.

mod clipboard;
mod external_editor;
mod input;
mod job_control;
mod runner;
mod signals;
mod terminal;

use std::io::{IsTerminal, stdin};
use std::time::Duration;

use hfs_core::{ErrorExt, ErrorKind, Suggestion};
use ratatui::buffer::Buffer;
use signal_hook::consts::SIGHUP;
use tokio::sync::mpsc;
use tokio::time::Instant;

use self::input::{Input, InputEvent};
use self::runner::Runner;
use self::signals::{RedrawReason, SignalAction, Signals};
use self::terminal::{AppTerminal, TerminalModes};
use crate::chat::ExchangeInProgress;
use crate::model::Model;
use crate::ports::{AppParts, ErrorReport, Exit, Tone};
use crate::protocol::{CopyOutcome, Effect, Msg, TerminalCommand};
use crate::text::sanitize_line;
use crate::theme::{Background, ColorDepth};
use crate::update::{start, update};
use crate::view::{selected_text, view};

/// Minimum time between two frames, except after input.
const FRAME_INTERVAL: Duration = Duration::from_millis(16);
/// Maximum number of messages applied between two checks for input.
const MESSAGE_BATCH: usize = 4_096;
/// Maximum time of each step of the shutdown: saving the reply in progress, and leaving the conversation.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the first frame waits for the terminal to report its background. Long enough for the round trip of an
/// intercontinental ssh connection. Terminals that do not know the query answer another one at once.
const BACKGROUND_TIMEOUT: Duration = Duration::from_millis(250);

pub use job_control::hold_stop_signal;
pub use runner::is_store_empty;
pub use signals::die_by_signal;
pub use terminal::{keep_typed_ahead, require_terminal};

/// An error that ends the app.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TuiError {
    /// A standard stream is not a terminal.
    #[error("the terminal app needs a terminal, but {stream} is not one")]
    NoTerminal {
        /// `standard input`, `standard output` or `standard error`.
        stream: &'static str,
    },
    /// The terminal cannot move its cursor.
    #[error("the terminal app needs a terminal that can move its cursor, but TERM is {name:?}")]
    DumbTerminal {
        /// The kind of terminal.
        name: String,
    },
    /// The process is in the background of its terminal, and no shell can bring it to the foreground.
    #[error("the terminal app needs the foreground of its terminal, but no shell can bring it there")]
    Background,
    /// The terminal could not be set up or written to.
    #[error("cannot {action} the terminal")]
    Terminal {
        /// The action that failed.
        action: &'static str,
        /// The error.
        source: std::io::Error,
    },
}

impl TuiError {
    /// Whether the terminal was closed. Its streams are no terminals then.
    fn is_hangup(&self) -> bool {
        match self {
            Self::Terminal { .. } => !stdin().is_terminal(),
            Self::NoTerminal { .. } | Self::DumbTerminal { .. } | Self::Background => false,
        }
    }
}

impl ErrorExt for TuiError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoTerminal { .. } | Self::DumbTerminal { .. } | Self::Background => ErrorKind::Invalid,
            Self::Terminal { .. } => ErrorKind::Unavailable,
        }
    }

    fn suggestion(&self) -> Option<Suggestion> {
        match self {
            Self::NoTerminal { .. } | Self::DumbTerminal { .. } | Self::Background => {
                Some(Suggestion::UseChatCommand)
            }
            Self::Terminal { .. } => None,
        }
    }
}

/// Runs the app on the terminal of standard input and output until the user quits. The terminal is always
/// restored, even after a panic.
///
/// # Errors
/// See [`TuiError`].
pub async fn run(parts: AppParts) -> Result<Exit, TuiError> {
    match run_on_terminal(parts).await {
        // It was closed before the first frame.
        Err(error) if error.is_hangup() => Ok(Exit { signal: Some(SIGHUP), ..Exit::default() }),
        result => result,
    }
}

async fn run_on_terminal(parts: AppParts) -> Result<Exit, TuiError> {
    require_terminal(None)?;
    if !job_control::wait_for_foreground() {
        return Err(TuiError::Background);
    }
    let mut model = Model::new(
        parts.settings.clone(),
        parts.engine.agent().describe(),
        parts.conversation.clone(),
        parts.project.clone(),
        parts.clock.now(),
        parts.suggestion_wording,
    );
    let session_list = parts.session_list;
    let warnings =
        parts.warnings.iter().map(|warning| sanitize_line(warning)).collect::<Vec<_>>().join(" · ");
    let (sender, receiver) = mpsc::unbounded_channel();
    let runner = Runner::new(parts, sender);
    let signals = Signals::listen();
    let kept = terminal::take_kept();
    let typed_ahead = kept.len() + terminal::typed_ahead();
    let mut terminal = AppTerminal::acquire(modes(&model))?;
    let mut input =
        Input::open(kept, typed_ahead).map_err(|source| TuiError::Terminal { action: "read", source })?;
    let settings = &model.render.settings;
    if settings.background == Background::Unknown && settings.color_depth != ColorDepth::None {
        terminal.query_background()?;
        if let Some(InputEvent::Background(background)) = input.wait_for_background(BACKGROUND_TIMEOUT).await
        {
            model.render.set_reported_background(background);
        }
    }
    let mut app = App {
        model,
        runner,
        terminal,
        receiver,
        input,
        signals,
        selection_frame: None,
        schedule: FrameSchedule::new(Instant::now()),
        exit_signal: None,
        is_finished: false,
    };
    app.read_size();
    let mut effects = start(&mut app.model, session_list);
    if !warnings.is_empty() {
        effects.extend(app.model.notify(Tone::Warn, warnings));
    }
    app.perform(effects).await?;
    // Fails if the terminal was closed. What was written is kept all the same.
    let mut ended = app.run_event_loop().await;
    let App { mut model, mut runner, terminal, mut receiver, mut exit_signal, .. } = app;
    if ended.as_ref().is_err_and(TuiError::is_hangup) {
        exit_signal.get_or_insert(SIGHUP);
        ended = Ok(());
    }
    // Restores the terminal before the last reply is saved, so that the shell does not appear to hang.
    drop(terminal);
    // At once, because a system that shuts down does not wait for long. Only the end of the exchange shows whether a message
    // that was being saved is saved.
    let is_sending = model.chat.exchange.as_ref().is_some_and(|exchange| exchange.unsaved_text.is_some());
    let kept = if is_sending { None } else { Some(keep_draft(&model, &runner)) };
    let conversation = model.chat.conversation.clone();
    runner.shut_down(&conversation, SHUTDOWN_TIMEOUT).await;
    while let Ok(message) = receiver.try_recv() {
        let _ = update(&mut model, message);
    }
    let lost_draft = kept.unwrap_or_else(|| keep_draft(&model, &runner));
    ended?;
    Ok(Exit { signal: exit_signal, lost_draft, ..model.exit() })
}

/// Keeps what the user has not sent. Returns the text and the error if it cannot be kept.
fn keep_draft(model: &Model, runner: &Runner) -> Option<(String, ErrorReport)> {
    let created = model.chat.exchange.as_ref().and_then(|exchange| exchange.created_session);
    let session = model.chat.conversation.session().or(created);
    let text = model.chat.unsent_text();
    let restored = model.chat.restored_draft;
    let is_restored = restored.is_some_and(|restored| restored.session == session);
    let kept = runner.keep_draft(session, &text, is_restored);
    // A text that was restored in another conversation is part of this one now.
    let moved = restored.filter(|_| !is_restored && kept.is_ok());
    let forgotten = moved.map_or(Ok(()), |restored| runner.keep_draft(restored.session, "", true));
    kept.and(forgotten).err().map(|report| (text, report))
}

fn modes(model: &Model) -> TerminalModes {
    let settings = &model.render.settings;
    TerminalModes { mouse: settings.mouse, extended_keys: settings.extended_keys }
}

struct App {
    model: Model,
    runner: Runner,
    terminal: AppTerminal,
    receiver: mpsc::UnboundedReceiver<Msg>,
    input: Input,
    signals: Signals,
    /// The last frame, kept while text is selected with the mouse: the text to copy is read from it.
    selection_frame: Option<Buffer>,
    schedule: FrameSchedule,
    /// The signal that ends the app.
    exit_signal: Option<i32>,
    is_finished: bool,
}

enum AppEvent {
    /// Input of the terminal; an error or `None` if the terminal was closed.
    Input(Option<std::io::Result<InputEvent>>),
    /// A message of the runner; `None` if there are no more senders.
    Message(Option<Msg>),
    Draw,
    Signal(SignalAction),
}

impl App {
    async fn run_event_loop(&mut self) -> Result<(), TuiError> {
        while !self.is_finished {
            match self.next_event().await {
                AppEvent::Input(Some(Ok(event))) => self.handle_input(event).await?,
                // The signal of a closed terminal may arrive later, or go to the shell alone.
                AppEvent::Input(Some(Err(_)) | None) => {
                    self.exit_signal.get_or_insert(SIGHUP);
                    self.apply(Msg::Terminate).await?;
                }
                AppEvent::Message(Some(message)) => {
                    self.apply(message).await?;
                    for _ in 0..MESSAGE_BATCH {
                        let Ok(message) = self.receiver.try_recv() else { break };
                        self.apply(message).await?;
                    }
                }
                AppEvent::Message(None) => self.is_finished = true,
                AppEvent::Signal(SignalAction::Terminate(number)) => {
                    self.exit_signal = Some(number);
                    self.apply(Msg::Terminate).await?;
                }
                AppEvent::Signal(SignalAction::Stop) => self.suspend().await?,
                AppEvent::Signal(SignalAction::Redraw(RedrawReason::Resized)) => {
                    self.read_size();
                    let (width, height) = self.model.size;
                    self.schedule.request_immediate_redraw(Instant::now());
                    self.apply(Msg::Resized(width, height)).await?;
                }
                AppEvent::Signal(SignalAction::Redraw(RedrawReason::Continued)) => self.take_terminal()?,
                AppEvent::Draw => self.draw()?,
            }
        }
        Ok(())
    }

    async fn next_event(&mut self) -> AppEvent {
        let due = self.schedule.due();
        let frame_is_due = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => futures::future::pending().await,
            }
        };
        // Biased, so that a flood of messages delays neither signals nor frames nor input.
        tokio::select! {
            biased;
            action = self.signals.next() => AppEvent::Signal(action),
            () = frame_is_due => AppEvent::Draw,
            event = self.input.next() => AppEvent::Input(event),
            message = self.receiver.recv() => AppEvent::Message(message),
        }
    }

    async fn handle_input(&mut self, event: InputEvent) -> Result<(), TuiError> {
        let message = match event {
            InputEvent::Key(key) => Msg::Key(key),
            InputEvent::Paste(text) => Msg::Paste(text),
            InputEvent::Mouse(mouse) => Msg::Mouse(mouse),
            InputEvent::FocusGained => Msg::FocusChanged { has_focus: true },
            InputEvent::FocusLost => Msg::FocusChanged { has_focus: false },
            // A late answer, after the first frame.
            InputEvent::Background(background) => Msg::BackgroundReported(background),
            InputEvent::DeviceAttributes => return Ok(()),
        };
        self.schedule.request_immediate_redraw(Instant::now());
        self.apply(message).await
    }

    async fn apply(&mut self, message: Msg) -> Result<(), TuiError> {
        self.model.render.now = self.runner.clock().now();
        let effects = update(&mut self.model, message);
        self.schedule.request_redraw(Instant::now());
        self.terminal.set_modes(modes(&self.model))?;
        self.perform(effects).await?;
        self.runner.follow(self.model.followed_place());
        Ok(())
    }

    async fn perform(&mut self, effects: Vec<Effect>) -> Result<(), TuiError> {
        for effect in effects {
            match effect {
                Effect::Request(request) => self.runner.perform(request),
                Effect::Terminal(TerminalCommand::Copy { text, description }) => {
                    self.copy(text, description).await?;
                }
                Effect::Terminal(TerminalCommand::CopySelection) => {
                    // The whole drag may have arrived at once, before a frame was drawn with the selection.
                    if self.selection_frame.is_none() {
                        self.draw()?;
                    }
                    if let (Some(frame), Some(selection)) =
                        (&self.selection_frame, self.model.mouse_selection)
                    {
                        let text = selected_text(frame, selection, self.model.text_area());
                        self.copy(text, "the selected text".to_owned()).await?;
                    }
                }
                Effect::Terminal(TerminalCommand::Edit(text)) => self.edit(&text).await?,
                Effect::Terminal(TerminalCommand::Suspend) => self.suspend().await?,
                Effect::Terminal(TerminalCommand::Redraw) => self.redraw()?,
                Effect::Terminal(TerminalCommand::Alert(text)) => self.terminal.alert(&text)?,
                Effect::Terminal(TerminalCommand::Quit) => self.is_finished = true,
            }
        }
        Ok(())
    }

    /// Copies text with the desktop's program, and with the terminal: it may be on another computer than this process. The
    /// terminal is not sent a part of a text that the program has as a whole, because both may use the same clipboard.
    async fn copy(&mut self, text: String, description: String) -> Result<(), TuiError> {
        /// A program that takes longer is not waited for.
        const TIMEOUT: Duration = Duration::from_secs(2);
        let program = self.model.render.settings.clipboard_program.clone();
        let mut copied_by = None;
        if let Some(program) = program {
            let (name, text) = (program.first().cloned().unwrap_or_default(), text.clone());
            let copying = tokio::task::spawn_blocking(move || clipboard::copy(&program, &text));
            if let Ok(Ok(Ok(()))) = tokio::time::timeout(TIMEOUT, copying).await {
                copied_by = Some(name);
            }
        }
        let sent = terminal::copied_bytes(&text);
        let outcome = match copied_by {
            Some(program) => CopyOutcome::Program(program),
            None if sent < text.len() => CopyOutcome::TerminalCut { sent, total: text.len() },
            None => CopyOutcome::Terminal,
        };
        if sent == text.len() || !matches!(outcome, CopyOutcome::Program(_)) {
            self.terminal.copy(&text)?;
        }
        self.runner.send_message(Msg::Copied { description, outcome });
        Ok(())
    }

    /// Runs the user's editor on the terminal and waits until it exits.
    async fn edit(&mut self, text: &str) -> Result<(), TuiError> {
        let Some(command) = self.model.render.settings.editor.clone() else {
            self.runner.send_message(Msg::Edited(Err(ErrorReport {
                kind: ErrorKind::NotFound,
                message: "no editor is set".to_owned(),
                suggestion: Some("set $VISUAL or $EDITOR".to_owned()),
            })));
            return Ok(());
        };
        self.input.pause();
        self.terminal.leave()?;
        let edited = external_editor::edit(&command, text).await;
        self.runner.send_message(Msg::Edited(edited));
        self.take_terminal()
    }

    /// Stops the process until the shell continues it.
    async fn suspend(&mut self) -> Result<(), TuiError> {
        if job_control::is_session_leader() {
            return Box::pin(self.apply(Msg::CannotSuspend)).await;
        }
        self.input.pause();
        self.terminal.leave()?;
        self.signals.stop_process();
        self.take_terminal()
    }

    /// Sets up the terminal again after another program has used it.
    fn take_terminal(&mut self) -> Result<(), TuiError> {
        if !job_control::wait_for_foreground() {
            return Err(TuiError::Background);
        }
        self.terminal.reenter()?;
        self.input.resume().map_err(|source| TuiError::Terminal { action: "read", source })?;
        self.read_size();
        self.redraw()
    }

    /// Reads the size of the terminal. If it cannot be read, the previous size stays.
    fn read_size(&mut self) {
        if let Ok(size) = self.terminal.size() {
            self.model.size = size;
        }
    }

    fn redraw(&mut self) -> Result<(), TuiError> {
        self.terminal.clear()?;
        self.draw()
    }

    fn draw(&mut self) -> Result<(), TuiError> {
        let started = Instant::now();
        self.model.render.now = self.runner.clock().now();
        let keep_frame = self.model.mouse_selection.is_some();
        let model = &mut self.model;
        self.selection_frame = self.terminal.draw(keep_frame, |frame| {
            let area = frame.area();
            model.size = (area.width, area.height);
            // `view` has already set the cursor. The tests and the gallery use the position that it returns.
            let _ = view(model, frame);
        })?;
        self.terminal.set_title(&self.model.window_title())?;
        if let Some(request) = self.model.take_layout_request() {
            self.runner.perform(request);
        }
        self.schedule.record_frame(started, Instant::now());
        // Only the chat lays out the reply.
        if self.model.screen.is_none()
            && self.model.chat.exchange.as_ref().is_some_and(ExchangeInProgress::is_behind)
        {
            self.schedule.request_redraw(Instant::now());
        }
        Ok(())
    }
}

/// Decides when the next frame is drawn: immediately after input, after a pause otherwise, and never without a change.
#[derive(Debug)]
struct FrameSchedule {
    last_frame: Instant,
    /// How long it took to draw the last frame.
    cost: Duration,
    /// Minimum time between the last frame and the next one.
    pause: Duration,
    due: Option<Instant>,
}

impl FrameSchedule {
    /// Minimum pause after a frame, as a multiple of the time that the frame took to draw. Slow frames thus leave
    /// time for other work.
    const PAUSE_FACTOR: u32 = 3;

    /// Creates a schedule whose first frame is due immediately.
    fn new(now: Instant) -> Self {
        Self { last_frame: now, cost: Duration::ZERO, pause: Duration::ZERO, due: Some(now) }
    }

    /// Returns when the next frame is due; `None` if nothing has changed.
    const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Schedules a frame after a change. Several changes share one frame.
    fn request_redraw(&mut self, now: Instant) {
        if self.due.is_none() {
            self.due = Some(now.max(self.last_frame + self.pause));
        }
    }

    /// Schedules a frame after input. Typing must not feel slow during a reply, so the pause is only as long as the last
    /// frame took, and at least a quarter of the frame interval.
    fn request_immediate_redraw(&mut self, now: Instant) {
        let soon = now.max(self.last_frame + self.cost.max(FRAME_INTERVAL / 4));
        self.due = Some(self.due.map_or(soon, |due| due.min(soon)));
    }

    fn record_frame(&mut self, started: Instant, now: Instant) {
        self.last_frame = now;
        self.cost = now - started;
        self.pause = FRAME_INTERVAL.max(self.cost * Self::PAUSE_FACTOR);
        self.due = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nothing_is_drawn_without_a_change() {
        let now = Instant::now();
        let mut schedule = FrameSchedule::new(now);
        schedule.record_frame(now, now);
        assert_eq!(schedule.due(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn changes_share_a_frame_and_input_does_not_wait_for_it() {
        let now = Instant::now();
        let mut schedule = FrameSchedule::new(now);
        let drawn = now + Duration::from_millis(40);
        schedule.record_frame(now, drawn);
        schedule.request_redraw(drawn);
        let due = schedule.due().unwrap();
        schedule.request_redraw(drawn + Duration::from_millis(5));
        assert_eq!(schedule.due(), Some(due));
        assert_eq!(due - drawn, Duration::from_millis(120));
        schedule.request_immediate_redraw(drawn + Duration::from_millis(6));
        assert_eq!(schedule.due(), Some(drawn + Duration::from_millis(40)));
    }
}
