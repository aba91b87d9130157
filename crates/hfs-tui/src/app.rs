//! The app at work: what happens goes into the model, what is to be done goes out of it, and the picture follows.

mod external;
mod plan;
mod runner;
mod signals;
mod terminal;

use std::time::Duration;

use crossterm::event::{Event, EventStream, KeyEventKind};
use futures::StreamExt;
use ratatui::buffer::Buffer;
use tokio::sync::mpsc;
use tokio::time::Instant;

use self::runner::Runner;
use self::signals::{Asked, Signals};
use self::terminal::Screen;
use crate::effect::Effect;
use crate::error::TuiError;
use crate::message::Msg;
use crate::model::Model;
use crate::parts::{AppParts, Exit, Failure};
use crate::update::{start, update};
use crate::view::{marked_text, view};

/// Pictures come at most this often.
const FRAME: Duration = Duration::from_millis(16);
/// How many messages are taken before the next picture.
const BATCH: usize = 4_096;
/// How long leaving waits for a reply in progress to be saved.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Runs the app until it is left, on the terminal that standard input and output are. The terminal is put back
/// as it was however it ends.
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
    );
    let pick = parts.pick;
    let (sender, receiver) = mpsc::unbounded_channel();
    let runner = Runner::new(parts, sender);
    let screen = Screen::enter(model.look.settings.mouse)?;
    let mut app = App {
        model,
        runner,
        screen,
        receiver,
        events: Some(EventStream::new()),
        signals: Signals::listen(),
        picture: None,
        plan: plan::Plan::new(Instant::now()),
        over: false,
    };
    app.resize();
    let effects = start(&mut app.model, pick);
    app.perform(effects).await?;
    app.live().await?;
    let exit = app.model.exit();
    let conversation = app.model.chat.conversation.clone();
    drop(app.screen);
    app.runner.finish(&conversation, LAST_WORDS).await;
    Ok(exit)
}

struct App {
    model: Model,
    runner: Runner,
    screen: Screen,
    receiver: mpsc::UnboundedReceiver<Msg>,
    /// `None` while another program has the terminal.
    events: Option<EventStream>,
    signals: Signals,
    /// The picture on the screen while something is marked in it.
    picture: Option<Buffer>,
    plan: plan::Plan,
    over: bool,
}

enum Happening {
    Event(Option<std::io::Result<Event>>),
    Message(Option<Msg>),
    Draw,
    Terminate,
    Suspend,
}

impl App {
    async fn live(&mut self) -> Result<(), TuiError> {
        while !self.over {
            match self.wait().await {
                // One at a time: polling the stream for more would cost it the waker that ends the wait.
                Happening::Event(Some(Ok(event))) => self.event(event).await?,
                // The terminal is gone.
                Happening::Event(_) => self.message(Msg::Terminate).await?,
                Happening::Message(Some(message)) => {
                    self.message(message).await?;
                    for _ in 0..BATCH {
                        let Ok(message) = self.receiver.try_recv() else { break };
                        self.message(message).await?;
                    }
                }
                Happening::Message(None) => self.over = true,
                Happening::Terminate => self.message(Msg::Terminate).await?,
                Happening::Suspend => self.suspend()?,
                Happening::Draw => self.draw()?,
            }
        }
        Ok(())
    }

    async fn wait(&mut self) -> Happening {
        let due = self.plan.due();
        let next_event = async {
            match self.events.as_mut() {
                Some(events) => events.next().await,
                None => futures::future::pending().await,
            }
        };
        let drawing = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => futures::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            asked = self.signals.next() => match asked {
                Asked::Terminate => Happening::Terminate,
                Asked::Suspend => Happening::Suspend,
            },
            () = drawing => Happening::Draw,
            event = next_event => Happening::Event(event),
            message = self.receiver.recv() => Happening::Message(message),
        }
    }

    async fn event(&mut self, event: Event) -> Result<(), TuiError> {
        let message = match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => Msg::Key(key),
            Event::Paste(text) => Msg::Paste(text),
            Event::Mouse(mouse) => Msg::Mouse(mouse),
            Event::Resize(width, height) => Msg::Resized(width, height),
            Event::Key(_) | Event::FocusGained | Event::FocusLost => return Ok(()),
        };
        self.plan.hurry(Instant::now());
        self.message(message).await
    }

    async fn message(&mut self, message: Msg) -> Result<(), TuiError> {
        self.model.look.now = self.runner.clock().now();
        let effects = update(&mut self.model, message);
        self.plan.changed(Instant::now());
        self.screen.set_mouse(self.model.look.settings.mouse)?;
        self.perform(effects).await
    }

    async fn perform(&mut self, effects: Vec<Effect>) -> Result<(), TuiError> {
        for effect in effects {
            match effect {
                Effect::Quit => self.over = true,
                Effect::Suspend => self.suspend()?,
                Effect::Redraw => self.redraw()?,
                Effect::Copy { text, what } => self.copy(&text, what)?,
                Effect::CopyMarked => {
                    if let (Some(picture), Some(marked)) = (&self.picture, self.model.marked) {
                        let text = marked_text(picture, marked);
                        self.copy(&text, "what was marked".to_owned())?;
                    }
                }
                Effect::Edit(text) => self.edit(&text).await?,
                other => self.runner.perform(other),
            }
        }
        Ok(())
    }

    fn copy(&mut self, text: &str, what: String) -> Result<(), TuiError> {
        self.screen.copy(text)?;
        self.runner.tell(Msg::Copied { what });
        Ok(())
    }

    /// Lets the user's editor have the terminal.
    async fn edit(&mut self, text: &str) -> Result<(), TuiError> {
        let Some(command) = self.model.look.settings.editor.clone() else {
            self.runner.tell(Msg::Edited(Err(Failure {
                kind: hfs_core::ErrorKind::NotFound,
                message: "no editor is set".to_owned(),
                hint: Some("set $VISUAL or $EDITOR".to_owned()),
            })));
            return Ok(());
        };
        self.events = None;
        self.screen.leave()?;
        let edited = external::edit(&command, text).await;
        self.screen.enter_again()?;
        self.events = Some(EventStream::new());
        self.resize();
        self.runner.tell(Msg::Edited(edited));
        self.redraw()
    }

    fn suspend(&mut self) -> Result<(), TuiError> {
        self.screen.leave()?;
        signals::stop_this_process();
        self.screen.enter_again()?;
        self.resize();
        self.redraw()
    }

    fn resize(&mut self) {
        if let Ok(size) = self.screen.size() {
            self.model.size = size;
        }
    }

    fn redraw(&mut self) -> Result<(), TuiError> {
        self.screen.clear()?;
        self.draw()
    }

    fn draw(&mut self) -> Result<(), TuiError> {
        let begun = Instant::now();
        self.model.look.now = self.runner.clock().now();
        let keep = self.model.marked.is_some();
        let model = &mut self.model;
        self.picture = self.screen.draw(keep, |frame| {
            let area = frame.area();
            model.size = (area.width, area.height);
            let _ = view(model, frame);
        })?;
        self.plan.drawn(begun, Instant::now());
        Ok(())
    }
}
