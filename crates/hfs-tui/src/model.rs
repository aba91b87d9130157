//! The state of the app. It changes only in `update`, and `view` draws it.

use std::time::Duration;

use hfs_core::{AgentDescription, Project, SessionId, SessionSummary, Timestamp};
use hfs_engine::Conversation;

use crate::chat::Chat;
use crate::modal::Modal;
use crate::ports::{AppSettings, Exit, PluginView, SuggestionWording, Tone};
use crate::protocol::{Effect, Request, Timer};
use crate::render::RenderContext;
use crate::screens::{Context, IdSource, Screen};

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
    /// The session that was moved to the trash last.
    pub last_trashed: Option<SessionId>,
    /// The notice that is shown.
    pub notice: Option<Notice>,
    /// Sessions offered on the start screen.
    pub recent_sessions: Vec<SessionSummary>,
    /// Whether the sidebar is shown; `None` decides by the width.
    pub sidebar: Option<bool>,
    /// The key that was pressed once and must be pressed again, with the id of its timer.
    pub pending_confirmation: Option<(PendingConfirmation, u64)>,
    /// Text that is selected with the mouse.
    pub mouse_selection: Option<MouseSelection>,
    /// Current frame of the spinner.
    pub spinner_frame: usize,
    /// Whether the terminal's window has the focus. A terminal that does not report it always has.
    pub has_focus: bool,
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
            chat: Chat::new(conversation),
            screen: None,
            modals: Vec::new(),
            plugins: PluginView::default(),
            pending_decisions: Vec::new(),
            postponed_plugins: Vec::new(),
            last_trashed: None,
            notice: None,
            recent_sessions: Vec::new(),
            sidebar: None,
            pending_confirmation: None,
            mouse_selection: None,
            spinner_frame: 0,
            has_focus: true,
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
            plugins: &self.plugins,
            run: &self.chat.run,
            is_busy: self.chat.is_busy(),
            render: &self.render,
            ids: &self.ids,
        }
    }

    /// Returns the result of the app.
    #[must_use]
    pub fn exit(&self) -> Exit {
        Exit { session: self.chat.conversation.session(), name: self.chat.name.clone(), signal: None }
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
