//! The state of the app. It changes only in `update`, and `view` draws it.

use std::time::Duration;

use hfs_core::{AgentDescription, Project, SessionId, Timestamp};
use hfs_engine::Conversation;
use ratatui::layout::Rect;

use crate::chat::Chat;
use crate::modal::{Modal, ModalContext};
use crate::ports::{AgentsView, AppSettings, Exit, PluginView, SuggestionWording, Tone};
use crate::protocol::{Effect, RecentSessions, Request, Timer};
use crate::render::RenderContext;
use crate::screens::{Context, IdSource, Screen};
use crate::text::{sanitize_line, truncate};

/// How long a notice is shown.
const NOTICE_DURATION: Duration = Duration::from_secs(6);
/// How long the first of two key presses is remembered.
const CONFIRMATION_WINDOW: Duration = Duration::from_millis(1_500);
/// The sidebar is shown by default on terminals at least this wide.
const SIDEBAR_DEFAULT_MIN_WIDTH: u16 = 110;
/// The sidebar is never shown on terminals narrower than this.
const SIDEBAR_MIN_WIDTH: u16 = 60;

/// The state of the app.
#[derive(Debug)]
pub struct Model {
    /// Width and height of the terminal.
    pub size: (u16, u16),
    /// Settings, styles and the time.
    pub render: RenderContext,
    /// Project of new conversations.
    pub project: Option<Project>,
    /// The agent that answers.
    pub agent: AgentDescription,
    /// The agents that can be chosen.
    pub agents: AgentsView,
    /// The chat, which is the bottom layer.
    pub chat: Chat,
    /// The screen that covers the chat.
    pub screen: Option<Box<dyn Screen>>,
    /// Open modals; the last one has the focus.
    pub modals: Vec<Modal>,
    /// State of the plugins.
    pub plugins: PluginView,
    /// Plugins whose decision is being stored. The app does not ask about them again.
    pub pending_decisions: Vec<String>,
    /// Plugins whose approval the user has postponed until the next start.
    pub postponed_plugins: Vec<String>,
    /// Number of questions of agents that wait for the open one.
    pub waiting_questions: usize,
    /// The session that was moved to the trash last.
    pub last_trashed: Option<SessionId>,
    /// The notice that is shown.
    pub notice: Option<Notice>,
    /// Sessions offered on the start screen.
    pub recent: RecentSessions,
    /// Whether a model was chosen for the open session alone.
    pub has_session_model: bool,
    /// Whether the store has lost the connection to its server and is making another one.
    pub is_reconnecting: bool,
    /// Whether an agent was chosen for the open session alone.
    pub has_session_agent: bool,
    /// Whether the setting of the agent, or that of the model, was changed since the app started.
    pub has_set_agent: bool,
    /// Whether the sidebar is shown; `None` decides by the width.
    pub sidebar: Option<bool>,
    /// The key that was pressed once and must be pressed again, with the id of its timer.
    pub pending_confirmation: Option<(PendingConfirmation, u64)>,
    /// When Esc was last pressed in a screen or a modal.
    pub closing_esc_at: Option<Timestamp>,
    /// Time of the last key, if it inserted a character.
    pub last_text_key: Option<Timestamp>,
    /// Whether the open modal has received no key yet.
    pub modal_is_new: bool,
    /// Whether the last key wrote into the input although a question is open.
    pub is_writing_below_modal: bool,
    /// Text that is selected with the mouse.
    pub mouse_selection: Option<MouseSelection>,
    /// Whether a long message is being laid out in the background.
    pub is_laying_out: bool,
    /// Current frame of the spinner.
    pub spinner_frame: usize,
    /// Whether the terminal's window has the focus; `None` until the terminal reports it.
    pub focus: Option<bool>,
    /// Time of the last input of the user.
    pub last_input: Option<Timestamp>,
    /// Whether the app is ending.
    pub quitting: bool,
    /// Ids for requests and timers.
    pub ids: IdSource,
    /// Wording of the engine's suggestions.
    pub suggestion_wording: SuggestionWording,
}

/// A message for the user that is shown for a few seconds.
#[derive(Debug, Clone)]
pub struct Notice {
    /// Id of the timer that removes it.
    pub id: u64,
    /// Determines its style.
    pub tone: Tone,
    /// The text.
    pub text: String,
}

/// A key that has an effect only when it is pressed twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PendingConfirmation {
    /// Ctrl+C, which quits.
    Quit,
    /// Esc, which clears the input, or opens the checkpoints if the input is empty.
    Esc,
}

/// A mouse selection from one cell to another, both included, in reading order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MouseSelection {
    /// Column and row where the button was pressed.
    pub from: (u16, u16),
    /// Column and row of the mouse.
    pub to: (u16, u16),
}

impl MouseSelection {
    /// Returns the selected columns of row `y` on a terminal of this width.
    #[must_use]
    pub fn columns(&self, y: u16, width: u16) -> Option<std::ops::Range<u16>> {
        let ((ax, ay), (bx, by)) = (self.from, self.to);
        let ((start_x, start_y), (end_x, end_y)) =
            if (ay, ax) <= (by, bx) { ((ax, ay), (bx, by)) } else { ((bx, by), (ax, ay)) };
        if y < start_y || y > end_y {
            return None;
        }
        let start = if y == start_y { start_x } else { 0 };
        let end = if y == end_y { end_x.saturating_add(1) } else { width };
        Some(start..end.min(width))
    }
}

impl Model {
    /// Creates the state of the app at its start.
    #[must_use]
    pub fn new(
        settings: AppSettings,
        agent: AgentDescription,
        conversation: Conversation,
        project: Option<Project>,
        now: Timestamp,
        suggestion_wording: SuggestionWording,
    ) -> Self {
        Self {
            size: (80, 24),
            render: RenderContext::new(settings, now),
            project,
            agent,
            agents: AgentsView::default(),
            chat: Chat::new(conversation),
            screen: None,
            modals: Vec::new(),
            plugins: PluginView::default(),
            pending_decisions: Vec::new(),
            postponed_plugins: Vec::new(),
            waiting_questions: 0,
            last_trashed: None,
            notice: None,
            recent: RecentSessions::default(),
            has_session_model: false,
            is_reconnecting: false,
            has_session_agent: false,
            has_set_agent: false,
            sidebar: None,
            pending_confirmation: None,
            closing_esc_at: None,
            last_text_key: None,
            modal_is_new: true,
            is_writing_below_modal: false,
            mouse_selection: None,
            is_laying_out: false,
            spinner_frame: 0,
            focus: None,
            last_input: None,
            quitting: false,
            ids: IdSource::default(),
            suggestion_wording,
        }
    }

    /// Returns the part of the model that screens can read.
    #[must_use]
    pub fn context(&self) -> Context<'_> {
        Context {
            conversation: &self.chat.conversation,
            project: self.project.as_ref(),
            agent: &self.agent,
            agents: &self.agents,
            plugins: &self.plugins,
            run: &self.chat.run,
            events: &self.chat.events,
            is_busy: self.chat.is_busy(),
            render: &self.render,
            ids: &self.ids,
        }
    }

    /// Returns the part of the model that modals can read.
    #[must_use]
    pub fn modal_context(&self) -> ModalContext<'_> {
        ModalContext {
            plugins: &self.plugins,
            keys: self.render.settings.keys,
            now: self.render.now,
            is_writing: self.screen.is_some() || !self.chat.input.is_empty(),
            waiting_questions: self.waiting_questions,
        }
    }

    /// Whether no agent and no model was chosen, neither for all sessions nor for the open one. The list of agents alone does
    /// not say so: it may be older than a choice in the app.
    #[must_use]
    pub const fn is_unconfigured(&self) -> bool {
        self.agents.is_unconfigured
            && !self.has_set_agent
            && !self.has_session_agent
            && !self.has_session_model
    }

    /// Returns the result of the app.
    #[must_use]
    pub fn exit(&self) -> Exit {
        let (session, name) = (self.chat.conversation.session(), self.chat.name.clone());
        Exit { session, name, signal: None, lost_draft: None }
    }

    /// Returns the title of the terminal's window.
    #[must_use]
    pub fn window_title(&self) -> String {
        const WIDTH: usize = 60;
        let name = self.chat.name.as_deref().map_or_else(|| "new conversation".to_owned(), sanitize_line);
        let mark = if self.chat.is_busy() { "… " } else { "" };
        format!("{mark}{} - hfs", truncate(&name, WIDTH))
    }

    /// Returns the area of the messages, if the chat is visible. Text that is selected there is copied without margins.
    #[must_use]
    pub fn text_area(&self) -> Option<Rect> {
        (self.screen.is_none() && self.modals.is_empty()).then(|| self.chat_layout().transcript)
    }

    /// Whether the user watches the app: its window has the focus or, on a terminal that does not report it, the user has
    /// pressed a key since `start`.
    #[must_use]
    pub fn is_watched_since(&self, start: Timestamp) -> bool {
        self.focus.unwrap_or_else(|| self.last_input.is_some_and(|at| at >= start))
    }

    /// Returns the request to lay out a long message that the last frame showed incompletely. There is at most one at a
    /// time, so that many resizes do not start many.
    #[must_use]
    pub fn take_layout_request(&mut self) -> Option<Request> {
        if self.is_laying_out || self.screen.is_some() {
            return None;
        }
        let width = usize::from(self.chat_layout().transcript.width);
        let job = self.chat.transcript.take_layout_job(self.render.message_layout(width))?;
        self.is_laying_out = true;
        Some(Request::LayOut(Box::new(job)))
    }

    /// Whether the reply streams: a piece of it arrived a moment ago.
    #[must_use]
    pub fn is_receiving(&self) -> bool {
        const PAUSE_MS: u64 = 1_000;
        let last = self.chat.exchange.as_ref().and_then(|exchange| exchange.last_delta_at);
        last.is_some_and(|at| self.render.now.millis_since(at) < PAUSE_MS)
    }

    /// Whether the sidebar is shown.
    #[must_use]
    pub fn has_sidebar(&self) -> bool {
        let width = self.size.0;
        width >= SIDEBAR_MIN_WIDTH && self.sidebar.unwrap_or(width >= SIDEBAR_DEFAULT_MIN_WIDTH)
    }

    /// Shows a notice for a few seconds.
    pub fn notify(&mut self, tone: Tone, text: impl Into<String>) -> Vec<Effect> {
        let id = self.ids.next();
        self.notice = Some(Notice { id, tone, text: text.into() });
        vec![Request::StartTimer(NOTICE_DURATION, Timer::Notice(id)).into()]
    }

    /// Returns whether this is the second press of a key that must be pressed twice. Remembers a first press, and returns
    /// the timer that forgets it.
    pub fn is_second_press(&mut self, key: PendingConfirmation) -> (bool, Vec<Effect>) {
        if self.pending_confirmation.take().is_some_and(|(pending, _)| pending == key) {
            return (true, Vec::new());
        }
        let id = self.ids.next();
        self.pending_confirmation = Some((key, id));
        (false, vec![Request::StartTimer(CONFIRMATION_WINDOW, Timer::ConfirmationExpired(id)).into()])
    }
}
