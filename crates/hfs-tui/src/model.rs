//! Everything that the app knows at a moment. It changes only in `update`, and is drawn by `view`.

use std::collections::VecDeque;
use std::sync::Arc;

use hfs_core::{AgentDescription, Message, Project, RunSnapshot, SessionId, SessionSummary, Timestamp};
use hfs_engine::Conversation;
use ratatui::layout::Rect;

use crate::editor::Editor;
use crate::look::Look;
use crate::modal::Modal;
use crate::parts::{AppSettings, Exit, PluginView, Tone};
use crate::screens::Screen;
use crate::transcript::{Reply, Tail, Transcript, sending_lines};

/// Everything that the app knows.
#[derive(Debug)]
pub struct Model {
    /// The terminal's size.
    pub size: (u16, u16),
    /// How everything looks.
    pub look: Look,
    /// Where new conversations belong.
    pub project: Option<Project>,
    /// Who answers.
    pub agent: AgentDescription,
    /// The conversation.
    pub chat: Chat,
    /// What is on the screen.
    pub screen: Screen,
    /// What must be answered first, the newest last.
    pub modals: Vec<Modal>,
    /// Plugins about which a decision is on its way: nobody is asked about them again meanwhile.
    pub deciding: Vec<String>,
    /// What plugins show.
    pub plugins: PluginView,
    /// Plugins that are not to be asked about again before the next start.
    pub asked: Vec<String>,
    /// The session that went to the trash last.
    pub deleted: Option<SessionId>,
    /// What the user is told for a moment.
    pub notice: Option<Notice>,
    /// Sessions to offer while nothing was said yet.
    pub recent: Vec<SessionSummary>,
    /// Whether the sidebar is shown; `None` leaves it to the width.
    pub sidebar: Option<bool>,
    /// A key that does something when it is pressed a second time.
    pub armed: Option<(Armed, u64)>,
    /// What is marked with the mouse.
    pub marked: Option<Marked>,
    /// Where the spinner is.
    pub spin: usize,
    /// The app is about to end.
    pub leaving: bool,
    counter: u64,
}

/// The conversation that is open.
#[derive(Debug)]
pub struct Chat {
    /// Where it is.
    pub conversation: Conversation,
    /// Its session's name; `None` before the first message.
    pub name: Option<String>,
    /// Its branch's name.
    pub branch: String,
    /// The messages.
    pub transcript: Transcript,
    /// What is being written.
    pub input: Editor,
    /// Which command of the completion is selected; `None` while the completion is dismissed.
    pub completion: Option<usize>,
    /// What was said before.
    pub history: History,
    /// The exchange in progress.
    pub exchange: Option<Exchanging>,
    /// What the user wants to say next, in order; it is sent when the reply in progress has come.
    pub queue: VecDeque<String>,
    /// Whether everything that was said is durable.
    pub save: SaveState,
    /// The newest run.
    pub run: RunSnapshot,
    /// Tokens of the runs since the session was opened.
    pub tokens: u64,
    /// What a plugin's command said: its name and its answer, shown until the next message.
    pub plugin_output: Option<(String, String)>,
    /// Why the newest exchange did not work out.
    pub trouble: Option<Trouble>,
}

/// An exchange in progress.
#[derive(Debug)]
pub struct Exchanging {
    /// The session that was made for it, until its first message is durable.
    pub created: Option<SessionId>,
    /// What the user said, until it is durable.
    pub sending: Option<String>,
    /// The message that is being answered, once it is durable.
    pub user: Option<Arc<Message>>,
    /// The reply so far.
    pub reply: Reply,
    /// The user has asked to stop it.
    pub stopping: bool,
}

/// Whether everything that was said is durable.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum SaveState {
    /// There is nothing to save.
    #[default]
    Nothing,
    /// Something is on its way.
    Saving,
    /// All of it is.
    Saved,
    /// It cannot be saved at the moment, for this reason.
    NotSaved(String),
}

/// Why an exchange did not work out, and what can be done.
#[derive(Debug, Clone)]
pub struct Trouble {
    /// What happened.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The message that can be answered again; `None` when it was never sent and is back in the input.
    pub user: Option<Arc<Message>>,
}

/// What the user said before, newest first, and where in it Up and Down are.
#[derive(Debug, Default)]
pub struct History {
    /// The texts.
    pub entries: Vec<String>,
    /// Whether they were asked for.
    pub loaded: bool,
    /// Which one is in the input.
    pub at: Option<usize>,
    /// What was in the input before.
    pub draft: String,
}

/// Something the user is told for a moment.
#[derive(Debug, Clone)]
pub struct Notice {
    /// Tells it from others.
    pub number: u64,
    /// What kind of news it is.
    pub tone: Tone,
    /// The text.
    pub text: String,
}

/// A key that does something when it is pressed a second time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Armed {
    /// Ctrl+C leaves.
    Leave,
    /// Esc goes to the checkpoints.
    Rewind,
}

/// What is marked on the screen: from one cell to another, both included, as one reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marked {
    /// Where the button went down.
    pub from: (u16, u16),
    /// Where the mouse is.
    pub to: (u16, u16),
}

impl Marked {
    /// The columns that are marked in row `y`, if any, on a screen of this width.
    #[must_use]
    pub fn columns(&self, y: u16, width: u16) -> Option<std::ops::Range<u16>> {
        let ((ax, ay), (bx, by)) = (self.from, self.to);
        let ((sx, sy), (ex, ey)) =
            if (ay, ax) <= (by, bx) { ((ax, ay), (bx, by)) } else { ((bx, by), (ax, ay)) };
        if y < sy || y > ey {
            return None;
        }
        let start = if y == sy { sx } else { 0 };
        let end = if y == ey { ex.saturating_add(1) } else { width };
        Some(start..end.min(width))
    }
}

/// Where the parts of the chat are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Areas {
    /// The messages.
    pub transcript: Rect,
    /// What plugins and troubles have to say, above the input.
    pub strip: Rect,
    /// The input with its frame.
    pub input: Rect,
    /// The agents.
    pub sidebar: Option<Rect>,
    /// The bottom line.
    pub status: Rect,
}

/// The sidebar appears by itself on screens at least this wide.
const WIDE: u16 = 110;
const SIDEBAR: u16 = 32;
/// Screens at least this high have room for a blank row.
const ROOMY: u16 = 20;

impl Model {
    /// The model at the start.
    #[must_use]
    pub fn new(
        settings: AppSettings,
        agent: AgentDescription,
        conversation: Conversation,
        project: Option<Project>,
        now: Timestamp,
    ) -> Self {
        Self {
            size: (80, 24),
            look: Look::new(settings, now),
            project,
            agent,
            chat: Chat::new(conversation),
            screen: Screen::Chat,
            modals: Vec::new(),
            deciding: Vec::new(),
            plugins: PluginView::default(),
            asked: Vec::new(),
            deleted: None,
            notice: None,
            recent: Vec::new(),
            sidebar: None,
            armed: None,
            marked: None,
            spin: 0,
            leaving: false,
            counter: 0,
        }
    }

    /// A number that was never used before.
    pub fn fresh(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// How the app is left.
    #[must_use]
    pub fn exit(&self) -> Exit {
        Exit { session: self.chat.conversation.session(), name: self.chat.name.clone() }
    }

    /// Whether the sidebar is there.
    #[must_use]
    pub fn has_sidebar(&self) -> bool {
        self.size.0 >= 60 && self.sidebar.unwrap_or(self.size.0 >= WIDE)
    }

    /// How wide the text in the input is.
    #[must_use]
    pub fn input_width(&self) -> usize {
        let sidebar = if self.has_sidebar() { SIDEBAR } else { 0 };
        usize::from(self.size.0.saturating_sub(sidebar + 6))
    }

    /// Where everything is.
    #[must_use]
    pub fn areas(&self) -> Areas {
        let (width, height) = self.size;
        let status = Rect { x: 0, y: height.saturating_sub(1), width, height: height.min(1) };
        let sidebar_width = if self.has_sidebar() { SIDEBAR } else { 0 };
        let main = width - sidebar_width;
        let above = height.saturating_sub(1);
        let rows = self.chat.input.layout(self.input_width()).rows.len();
        let input_rows = u16::try_from(rows).unwrap_or(u16::MAX).clamp(1, (above / 3).max(1));
        let input_height = (input_rows + 2).min(above);
        let strip_rows = crate::view::strip_lines(self, usize::from(main.saturating_sub(2))).len();
        let strip_height =
            u16::try_from(strip_rows).unwrap_or(u16::MAX).min(above.saturating_sub(input_height) / 2);
        // A blank row sets the messages off from the input where there are rows to spare.
        let gap = u16::from(height >= ROOMY && strip_height == 0);
        let transcript_height = above.saturating_sub(input_height + strip_height + gap);
        let area = |y, height| Rect { x: 0, y, width: main, height };
        Areas {
            transcript: Rect { x: 1, width: main.saturating_sub(2), ..area(0, transcript_height) },
            strip: Rect {
                x: 1,
                width: main.saturating_sub(2),
                ..area(transcript_height + gap, strip_height)
            },
            input: area(transcript_height + gap + strip_height, input_height),
            sidebar: (sidebar_width > 0).then_some(Rect {
                x: main,
                y: 0,
                width: sidebar_width,
                height: above,
            }),
            status,
        }
    }
}

impl Chat {
    /// A conversation of which nothing is loaded yet.
    #[must_use]
    pub fn new(conversation: Conversation) -> Self {
        Self {
            conversation,
            name: None,
            branch: hfs_core::MAIN_BRANCH.to_owned(),
            transcript: Transcript::default(),
            input: Editor::default(),
            completion: Some(0),
            history: History::default(),
            exchange: None,
            queue: VecDeque::new(),
            save: SaveState::Nothing,
            run: RunSnapshot::default(),
            tokens: 0,
            plugin_output: None,
            trouble: None,
        }
    }

    /// Whether an exchange is in progress.
    #[must_use]
    pub const fn is_busy(&self) -> bool {
        self.exchange.is_some()
    }

    /// What is on its way, as the last of the messages: the reply that is arriving, or before that what the user
    /// said and is not durable yet.
    #[must_use]
    pub fn tail(&self, look: &Look, width: usize) -> Tail {
        let exchange = self.exchange.as_ref()?;
        let lines = match &exchange.sending {
            Some(text) => sending_lines(text, look.paper(width)),
            None => exchange.reply.lines(look.paper(width)),
        };
        Some((self.conversation.head() + 1, lines))
    }
}
