//! The event loop: reads input, applies messages to the model, performs effects and draws frames.

mod external_editor;
mod runner;
mod signals;
mod terminal;

use std::time::Duration;

use crossterm::event::{Event, EventStream, KeyEventKind};
use futures::StreamExt;
use hfs_core::{ErrorExt, ErrorKind, Suggestion};
use ratatui::buffer::Buffer;
use tokio::sync::mpsc;
use tokio::time::Instant;

use self::runner::Runner;
use self::signals::{SignalAction, Signals};
use self::terminal::AppTerminal;
use crate::model::Model;
use crate::ports::{AppParts, ErrorReport, Exit};
use crate::protocol::{Effect, Msg, TerminalCommand};
use crate::update::{start, update};
use crate::view::{selected_text, view};

/// Minimum time between two frames, except after input.
const FRAME_INTERVAL: Duration = Duration::from_millis(16);
/// Maximum number of messages applied between two checks for input.
const MESSAGE_BATCH: usize = 4_096;
/// Maximum time of each step of the shutdown: saving the reply in progress, and leaving the conversation.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// An error that ends the app.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TuiError {
    /// Standard input or output is not a terminal.
    #[error("the terminal app needs a terminal, but {stream} is not one")]
    NoTerminal {
        /// `standard input` or `standard output`.
        stream: &'static str,
    },
    /// The terminal could not be set up or written to.
    #[error("cannot {action} the terminal")]
    Terminal {
        /// The action that failed.
        action: &'static str,
        /// The error.
        source: std::io::Error,
    },
}

impl ErrorExt for TuiError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoTerminal { .. } => ErrorKind::Invalid,
            Self::Terminal { .. } => ErrorKind::Unavailable,
        }
    }

    fn suggestion(&self) -> Option<Suggestion> {
        match self {
            Self::NoTerminal { .. } => Some(Suggestion::UseChatCommand),
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
    terminal::require()?;
    let model = Model::new(
        parts.settings.clone(),
        parts.engine.agent().describe(),
        parts.conversation.clone(),
        parts.project.clone(),
        parts.clock.now(),
        parts.suggestion_wording,
    );
    let session_list = parts.session_list;
    let (sender, receiver) = mpsc::unbounded_channel();
    let runner = Runner::new(parts, sender);
    let terminal = AppTerminal::acquire(model.render.settings.mouse)?;
    let mut app = App {
        model,
        runner,
        terminal,
        receiver,
        input: Some(EventStream::new()),
        signals: Signals::listen(),
        selection_frame: None,
        schedule: FrameSchedule::new(Instant::now()),
        is_finished: false,
    };
    app.read_size();
    let effects = start(&mut app.model, session_list);
    app.perform(effects).await?;
    app.run_event_loop().await?;
    let exit = app.model.exit();
    let conversation = app.model.chat.conversation.clone();
    // Restores the terminal before the last reply is saved, so that the shell does not appear to hang.
    drop(app.terminal);
    app.runner.shut_down(&conversation, SHUTDOWN_TIMEOUT).await;
    Ok(exit)
}

struct App {
    model: Model,
    runner: Runner,
    terminal: AppTerminal,
    receiver: mpsc::UnboundedReceiver<Msg>,
    /// Input of the terminal; `None` while the external editor runs.
    input: Option<EventStream>,
    signals: Signals,
    /// The last frame, kept while text is selected with the mouse: the text to copy is read from it.
    selection_frame: Option<Buffer>,
    schedule: FrameSchedule,
    is_finished: bool,
}

enum AppEvent {
    /// Input of the terminal; an error or `None` if the terminal was closed.
    Input(Option<std::io::Result<Event>>),
    /// A message of the runner; `None` if there are no more senders.
    Message(Option<Msg>),
    Draw,
    Signal(SignalAction),
}

impl App {
    async fn run_event_loop(&mut self) -> Result<(), TuiError> {
        while !self.is_finished {
            match self.next_event().await {
                // Handles one input event at a time. Draining the stream here without waiting (`now_or_never`) would
                // register a no-op waker, and crossterm's reader thread could no longer wake the event loop.
                AppEvent::Input(Some(Ok(event))) => self.handle_input(event).await?,
                AppEvent::Input(Some(Err(_)) | None) => self.apply(Msg::Terminate).await?,
                AppEvent::Message(Some(message)) => {
                    self.apply(message).await?;
                    for _ in 0..MESSAGE_BATCH {
                        let Ok(message) = self.receiver.try_recv() else { break };
                        self.apply(message).await?;
                    }
                }
                AppEvent::Message(None) => self.is_finished = true,
                AppEvent::Signal(SignalAction::Terminate) => self.apply(Msg::Terminate).await?,
                AppEvent::Signal(SignalAction::Suspend) => self.suspend()?,
                AppEvent::Draw => self.draw()?,
            }
        }
        Ok(())
    }

    async fn next_event(&mut self) -> AppEvent {
        let due = self.schedule.due();
        let next_input = async {
            match self.input.as_mut() {
                Some(input) => input.next().await,
                None => futures::future::pending().await,
            }
        };
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
            event = next_input => AppEvent::Input(event),
            message = self.receiver.recv() => AppEvent::Message(message),
        }
    }

    async fn handle_input(&mut self, event: Event) -> Result<(), TuiError> {
        let message = match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => Msg::Key(key),
            Event::Paste(text) => Msg::Paste(text),
            Event::Mouse(mouse) => Msg::Mouse(mouse),
            Event::Resize(width, height) => Msg::Resized(width, height),
            Event::Key(_) | Event::FocusGained | Event::FocusLost => return Ok(()),
        };
        self.schedule.request_immediate_redraw(Instant::now());
        self.apply(message).await
    }

    async fn apply(&mut self, message: Msg) -> Result<(), TuiError> {
        self.model.render.now = self.runner.clock().now();
        let effects = update(&mut self.model, message);
        self.schedule.request_redraw(Instant::now());
        self.terminal.set_mouse(self.model.render.settings.mouse)?;
        self.perform(effects).await
    }

    async fn perform(&mut self, effects: Vec<Effect>) -> Result<(), TuiError> {
        for effect in effects {
            match effect {
                Effect::Request(request) => self.runner.perform(request),
                Effect::Terminal(TerminalCommand::Copy { text, description }) => {
                    self.copy(&text, description)?;
                }
                Effect::Terminal(TerminalCommand::CopySelection) => {
                    if let (Some(frame), Some(selection)) =
                        (&self.selection_frame, self.model.mouse_selection)
                    {
                        let text = selected_text(frame, selection);
                        self.copy(&text, "the selected text".to_owned())?;
                    }
                }
                Effect::Terminal(TerminalCommand::Edit(text)) => self.edit(&text).await?,
                Effect::Terminal(TerminalCommand::Suspend) => self.suspend()?,
                Effect::Terminal(TerminalCommand::Redraw) => self.redraw()?,
                Effect::Terminal(TerminalCommand::Quit) => self.is_finished = true,
            }
        }
        Ok(())
    }

    fn copy(&mut self, text: &str, description: String) -> Result<(), TuiError> {
        self.terminal.copy(text)?;
        self.runner.send_message(Msg::Copied { description });
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
        self.input = None;
        self.terminal.leave()?;
        let edited = external_editor::edit(&command, text).await;
        self.terminal.reenter()?;
        self.input = Some(EventStream::new());
        self.read_size();
        self.runner.send_message(Msg::Edited(edited));
        self.redraw()
    }

    fn suspend(&mut self) -> Result<(), TuiError> {
        self.terminal.leave()?;
        signals::suspend_process();
        self.terminal.reenter()?;
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
        self.schedule.record_frame(started, Instant::now());
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
