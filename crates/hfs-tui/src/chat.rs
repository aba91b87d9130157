//! The chat: the conversation, the input, and the handling of keys.
//!
//! The chat is the bottom layer of the app. Unlike a [`Screen`](crate::screens::Screen) it uses most of the model, so
//! its methods are part of [`Model`].

mod exchange;
mod mentions;
mod sidebar;
pub mod view;

use std::collections::VecDeque;
use std::sync::Arc;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use hfs_core::{Event, Message, PlanStep, PlanStepStatus, RunSnapshot, SessionId};
use hfs_engine::{Conversation, RewindTarget};
use ratatui::layout::Rect;

use crate::commands::{Command, Suggestion, agent_suggestions, is_command, suggestions};
use crate::editor::{Editor, KeyMode, VimMode};
use crate::modal::Modal;
use crate::model::{Model, PendingConfirmation};
use crate::ports::{OutputMode, Tone};
use crate::protocol::{Change, Effect, Request, TerminalCommand};
use crate::render::RenderContext;
use crate::screens::ListSelection;
use crate::transcript::{PageRange, Tail, Transcript, unsaved_message_lines};

pub use exchange::{ContextGauge, ErrorBanner, ExchangeInProgress, Progress, SaveState};
pub use mentions::{PathCompletion, mention_of_picture};

/// Width of the sidebar.
const SIDEBAR_WIDTH: u16 = 32;
/// Terminals at least this high have a blank row above the input.
const BLANK_ROW_MIN_HEIGHT: u16 = 20;
/// An Esc that follows one which closed a screen or a modal this fast is a repetition of it.
const CLOSING_MS: u64 = 1_000;

/// The open conversation and the input.
#[derive(Debug)]
pub struct Chat {
    /// Position in the session; a new conversation has no session yet.
    pub conversation: Conversation,
    /// Name of the session; `None` before its first message.
    pub name: Option<String>,
    /// Name of the branch.
    pub branch: String,
    /// The messages.
    pub transcript: Transcript,
    /// The message or command that the user is writing.
    pub input: Editor,
    /// Selected row of the command completion; `None` if the user closed it.
    pub completion: Option<usize>,
    /// Paths that complete a mention of a file in the input.
    pub paths: Option<PathCompletion>,
    /// Earlier messages of the user.
    pub history: InputHistory,
    /// The exchange in progress.
    pub exchange: Option<ExchangeInProgress>,
    /// Messages submitted during a reply, which are sent one by one: each waits until the previous reply is complete.
    pub queue: VecDeque<String>,
    /// Number of requests in progress that move the conversation to another session or branch. Messages wait in `queue`
    /// until it is zero, because they belong to the new position.
    pub moves_in_progress: usize,
    /// Whether the whole conversation is durable.
    pub save: SaveState,
    /// The newest run.
    pub run: RunSnapshot,
    /// The events of the newest run, if it ran while the session was open.
    pub events: Vec<Arc<Event>>,
    /// Tokens used since the session was opened, without those that a server did not report.
    pub tokens: u64,
    /// Whether a server did not report its tokens since the session was opened.
    pub has_unknown_tokens: bool,
    /// How full the context of the model is; `None` if it is not known.
    pub context: Option<ContextGauge>,
    /// Name and output of a plugin's command, shown until the next message.
    pub plugin_output: Option<(String, String)>,
    /// Error of the newest exchange.
    pub error_banner: Option<ErrorBanner>,
    /// The change of the agent that messages in `queue` wait for.
    pub agent_change: Option<AgentChange>,
    /// The newest plan of the agent.
    pub plan: Vec<PlanStep>,
    /// The text of an earlier app that is in the input, as long as something of it may not be sent.
    pub restored_draft: Option<RestoredDraft>,
    /// Whether a rewind to the selected message is being planned; the confirmation opens when the plan arrives.
    pub is_planning_rewind: bool,
}

/// A text that was kept for a conversation when an earlier app ended, and is in the input again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestoredDraft {
    /// The session that it is still kept for.
    pub session: Option<SessionId>,
}

/// A change of the agent, until which messages wait in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentChange {
    /// A user who has configured nothing is asked which agent should answer.
    Offered,
    /// An agent was chosen, and is being prepared.
    InProgress,
}

/// Earlier messages of the user, which Up and Down put into the input.
#[derive(Debug, Default)]
pub struct InputHistory {
    /// The messages, newest first.
    pub entries: Vec<String>,
    /// Whether the stored messages were requested.
    pub is_requested: bool,
    /// Index of the entry in the input; `None` if the input contains the draft.
    pub position: Option<usize>,
    /// Whether Up was pressed before the stored messages arrived, so that the newest of them is still to be shown.
    pub is_awaited: bool,
    /// The text that the user was writing before Up. Down puts it back into the input after the newest entry.
    pub draft: String,
}

/// The areas of the chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChatLayout {
    /// The messages.
    pub transcript: Rect,
    /// Plugin output, plugin panels, the error banner and queued messages.
    pub banners: Rect,
    /// The input with its border.
    pub input: Rect,
    /// The sidebar, if it is shown.
    pub sidebar: Option<Rect>,
}

impl Chat {
    /// Creates a chat without messages.
    #[must_use]
    pub fn new(conversation: Conversation) -> Self {
        Self {
            conversation,
            name: None,
            branch: hfs_core::MAIN_BRANCH.to_owned(),
            transcript: Transcript::default(),
            input: Editor::default(),
            completion: Some(0),
            paths: None,
            history: InputHistory::default(),
            exchange: None,
            queue: VecDeque::new(),
            moves_in_progress: 0,
            save: SaveState::Nothing,
            run: RunSnapshot::default(),
            events: Vec::new(),
            tokens: 0,
            has_unknown_tokens: false,
            context: None,
            plugin_output: None,
            error_banner: None,
            agent_change: None,
            plan: Vec::new(),
            restored_draft: None,
            is_planning_rewind: false,
        }
    }

    /// What the user has written and not sent: queued messages and the text in the input. A text that the app has put into the
    /// input, such as an earlier message, is none.
    #[must_use]
    pub fn unsent_text(&self) -> String {
        let unsaved = self.exchange.as_ref().and_then(|exchange| exchange.unsaved_text.clone());
        let input = if self.input.is_selected() { String::new() } else { self.input.full_text() };
        let is_recalled = self.history.position.and_then(|at| self.history.entries.get(at)) == Some(&input);
        let input = if is_recalled { String::new() } else { input };
        let texts =
            unsaved.into_iter().chain(self.queue.iter().cloned()).chain([self.history.draft.clone(), input]);
        texts.filter(|text| !text.trim().is_empty()).collect::<Vec<_>>().join("\n\n")
    }

    /// Whether an exchange is in progress.
    #[must_use]
    pub const fn is_busy(&self) -> bool {
        self.exchange.is_some()
    }

    /// Whether an exchange cannot begin yet, because another one, a move of the conversation or a change of the agent is in
    /// progress.
    #[must_use]
    pub const fn must_wait(&self) -> bool {
        self.is_busy() || self.moves_in_progress > 0 || self.agent_change.is_some()
    }

    /// Whether the user has neither opened a session nor typed anything.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        self.conversation.session().is_none() && self.input.is_empty() && !self.is_busy()
    }

    /// Whether the agent's plan has steps that are not done.
    #[must_use]
    pub fn has_open_steps(&self) -> bool {
        self.plan.iter().any(|step| step.status != PlanStepStatus::Completed)
    }

    /// Returns the phase of the run that is in progress.
    #[must_use]
    pub fn current_phase(&self) -> Option<&str> {
        let phase = self.run.timeline.phases.iter().rev().find(|phase| phase.end.is_none());
        phase.map(|phase| phase.name.as_str())
    }

    /// Returns the block after the last message: the user's message until it is durable, then the reply that is being
    /// received.
    #[must_use]
    pub fn tail(&self, render: &RenderContext, width: usize) -> Tail {
        let exchange = self.exchange.as_ref().filter(|exchange| !exchange.is_compaction)?;
        let layout = render.message_layout(width);
        let lines = match &exchange.unsaved_text {
            Some(text) => unsaved_message_lines(text, layout),
            None => exchange.lines(layout)?,
        };
        Some((self.conversation.head() + 1, lines))
    }
}

impl Chat {
    /// Keeps only what is still not sent of a text that was restored.
    pub(crate) fn forget_restored_draft(&mut self) -> Vec<Effect> {
        let Some(RestoredDraft { session }) = self.restored_draft else { return Vec::new() };
        let text = self.unsent_text();
        if text.is_empty() {
            self.restored_draft = None;
        }
        vec![Request::WriteDraft { session, text }.into()]
    }
}

/// The size of the message area, and the block after the last message.
struct Viewport {
    width: usize,
    height: usize,
    tail: Tail,
}

impl Model {
    /// Returns the areas of the chat.
    #[must_use]
    pub fn chat_layout(&self) -> ChatLayout {
        let (width, height) = self.size;
        let above_status = height.saturating_sub(1);
        let sidebar_width = if self.has_sidebar() { SIDEBAR_WIDTH } else { 0 };
        // Cannot underflow: narrow terminals have no sidebar.
        let main_width = width - sidebar_width;
        let inner_width = main_width.saturating_sub(2);
        let to_u16 = |rows: usize| u16::try_from(rows).unwrap_or(u16::MAX);

        let input_rows = to_u16(self.chat.input.layout(self.input_width()).rows.len());
        let input_height = (input_rows.clamp(1, (above_status / 3).max(1)) + 2).min(above_status);
        let banner_rows = to_u16(view::banner_lines(self, usize::from(inner_width)).len());
        let banner_height = banner_rows.min(above_status.saturating_sub(input_height) / 2);
        let blank = u16::from(height >= BLANK_ROW_MIN_HEIGHT && banner_height == 0);
        let transcript_height = above_status.saturating_sub(input_height + banner_height + blank);
        let banner_top = transcript_height + blank;
        ChatLayout {
            transcript: Rect { x: 1, y: 0, width: inner_width, height: transcript_height },
            banners: Rect { x: 1, y: banner_top, width: inner_width, height: banner_height },
            input: Rect { x: 0, y: banner_top + banner_height, width: main_width, height: input_height },
            sidebar: (sidebar_width > 0).then_some(Rect {
                x: main_width,
                y: 0,
                width: sidebar_width,
                height: above_status,
            }),
        }
    }

    /// Returns the width of the text in the input.
    fn input_width(&self) -> usize {
        // Border, prompt and padding.
        const NON_TEXT_COLUMNS: u16 = 6;
        let sidebar = if self.has_sidebar() { SIDEBAR_WIDTH } else { 0 };
        usize::from(self.size.0.saturating_sub(sidebar + NON_TEXT_COLUMNS))
    }

    fn viewport(&self) -> Viewport {
        let area = self.chat_layout().transcript;
        let width = usize::from(area.width);
        Viewport { width, height: usize::from(area.height), tail: self.chat.tail(&self.render, width) }
    }

    pub(crate) fn handle_chat_key(&mut self, key: KeyEvent) -> Vec<Effect> {
        if let Some(effects) = self.handle_global_key(key) {
            return effects;
        }
        if self.chat.transcript.selected().is_some()
            && let Some(effects) = self.handle_message_key(key)
        {
            return effects;
        }
        if let Some(effects) = self.handle_completion_key(key) {
            return effects;
        }
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        let alt = key.modifiers.contains(KeyModifiers::ALT);
        match key.code {
            KeyCode::Esc => self.handle_esc(key),
            KeyCode::Char('j') if control => {
                self.chat.input.insert("\n");
                Vec::new()
            }
            KeyCode::Enter if alt || key.modifiers.contains(KeyModifiers::SHIFT) => {
                self.chat.input.insert("\n");
                Vec::new()
            }
            // For terminals that send the same byte for Enter and Shift+Enter.
            KeyCode::Enter if self.chat.input.is_after_backslash() => {
                self.chat.input.replace_before("\n");
                Vec::new()
            }
            KeyCode::Enter => self.submit(),
            KeyCode::Tab if self.chat.input.unfold() => Vec::new(),
            KeyCode::Up if alt => self.select_message(false),
            KeyCode::Down if alt => self.select_message(true),
            KeyCode::PageUp => self.scroll_page(-1),
            KeyCode::PageDown => self.scroll_page(1),
            // In an empty input, Home and End have no text to move in.
            KeyCode::Home if control || self.chat.input.is_empty() => {
                let page = self.chat.transcript.show_oldest();
                self.read_page(page)
            }
            KeyCode::End if control || self.chat.input.is_empty() => {
                let page = self.chat.transcript.show_newest();
                self.read_page(page)
            }
            _ => self.edit_input(key),
        }
    }

    /// Handles keys that run commands, and Ctrl+C.
    fn handle_global_key(&mut self, key: KeyEvent) -> Option<Vec<Effect>> {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        let alt = key.modifiers.contains(KeyModifiers::ALT);
        // In emacs mode these keys move the cursor.
        let emacs = self.render.settings.keys == KeyMode::Emacs;
        let command = match key.code {
            KeyCode::Char('c') if control => return Some(self.handle_ctrl_c()),
            KeyCode::Char('d') if control && self.chat.input.is_empty() => return Some(self.handle_ctrl_d()),
            KeyCode::Char('p') if control && !emacs => return Some(self.open_palette()),
            KeyCode::Char('x') if alt => return Some(self.open_palette()),
            // In vim's normal mode, Ctrl+R redoes.
            KeyCode::Char('r') if control && self.chat.input.vim_mode() == VimMode::Insert => {
                return Some(self.open_history_search());
            }
            KeyCode::Char('o') if control => return Some(self.toggle_output_mode()),
            KeyCode::Char('n') if control && !emacs => Command::New,
            KeyCode::Char('f') if control && !emacs => Command::Search,
            KeyCode::Char('s') if control => Command::Sessions,
            KeyCode::Char('t') if control => Command::Checkpoints,
            KeyCode::Char('g') if control => Command::Edit,
            KeyCode::F(1) => Command::Help,
            KeyCode::F(2) => Command::Sidebar,
            KeyCode::F(3) => Command::Inspect,
            KeyCode::F(4) => Command::Branches,
            KeyCode::F(5) => Command::Retry,
            _ => return None,
        };
        Some(self.run_command(command, ""))
    }

    fn handle_ctrl_c(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.chat.is_busy() {
            effects.extend(self.interrupt());
        } else if !self.chat.input.is_empty() {
            self.keep_draft_in_history();
        }
        let (is_second, timer) = self.is_second_press(PendingConfirmation::Quit);
        if is_second {
            return self.quit();
        }
        effects.extend(timer);
        effects
    }

    /// Handles the end of input, as in a shell: leaves at once. If a reply is in progress or messages are queued, it is
    /// handled like Ctrl+C.
    fn handle_ctrl_d(&mut self) -> Vec<Effect> {
        if self.chat.is_busy() || !self.chat.queue.is_empty() { self.handle_ctrl_c() } else { self.quit() }
    }

    /// Handles Esc. One press ends vim's insert mode, or else stops the reply, or else closes a banner. Two presses clear
    /// the input, or open the checkpoints if it is empty.
    fn handle_esc(&mut self, key: KeyEvent) -> Vec<Effect> {
        if self.chat.input.handle_key(key, self.render.settings.keys, self.input_width()) {
            return Vec::new();
        }
        if self.chat.is_busy() {
            return self.ignore_repeated_esc().unwrap_or_else(|| self.interrupt());
        }
        if self.chat.plugin_output.take().is_some() || self.chat.error_banner.take().is_some() {
            return Vec::new();
        }
        let (is_second, timer) = self.is_second_press(PendingConfirmation::Esc);
        if !is_second {
            return timer;
        }
        if self.chat.input.is_empty() {
            return self.run_command(Command::Checkpoints, "");
        }
        self.keep_draft_in_history();
        Vec::new()
    }

    /// Reports that an Esc has no effect, if the one before it has just closed a screen or a modal: a key that repeats, or is
    /// pressed once too often, does not stop a reply that took minutes.
    pub(crate) fn ignore_repeated_esc(&mut self) -> Option<Vec<Effect>> {
        let closed_at = self.closing_esc_at.take()?;
        let is_repeated = self.render.now.millis_since(closed_at) < CLOSING_MS;
        is_repeated.then(|| self.notify(Tone::Plain, "press Esc again to stop the reply"))
    }

    /// Clears the input. Its text is kept in the history, so that no key loses it.
    fn keep_draft_in_history(&mut self) {
        let text = self.chat.input.take();
        self.chat.history.entries.insert(0, text);
    }

    fn open_palette(&mut self) -> Vec<Effect> {
        self.modals.push(Modal::Palette { query: Editor::default(), selection: ListSelection::default() });
        Vec::new()
    }

    fn open_history_search(&mut self) -> Vec<Effect> {
        let mut query = Editor::default();
        query.set(self.chat.input.text().lines().next().unwrap_or_default());
        let entries = self.chat.history.entries.clone();
        self.modals.push(Modal::History { query, selection: ListSelection::default(), entries });
        self.read_history()
    }

    fn read_history(&mut self) -> Vec<Effect> {
        if std::mem::replace(&mut self.chat.history.is_requested, true) {
            return Vec::new();
        }
        let project = self.project.as_ref().map(|project| project.key().to_owned());
        vec![Request::ReadHistory { branch: self.chat.conversation.branch(), project }.into()]
    }

    pub(crate) fn toggle_output_mode(&mut self) -> Vec<Effect> {
        let mut settings = self.render.settings.clone();
        let (mode, text) = match settings.output {
            OutputMode::Compact => (OutputMode::Verbose, "verbose: everything is unfolded"),
            OutputMode::Verbose => (OutputMode::Compact, "compact: thinking and tools are folded"),
        };
        settings.output = mode;
        self.render.set_settings(settings);
        self.notify(Tone::Dim, text)
    }

    fn submit(&mut self) -> Vec<Effect> {
        if self.chat.input.text().trim().is_empty() {
            return Vec::new();
        }
        let text = self.chat.input.take();
        self.add_to_history(text.clone());
        if is_command(&text) {
            return self.run_command_line(&text);
        }
        if self.chat.must_wait() {
            self.chat.queue.push_back(text);
            return Vec::new();
        }
        if self.offer_agents(&text) {
            return Vec::new();
        }
        self.send(text)
    }

    fn add_to_history(&mut self, text: String) {
        let history = &mut self.chat.history;
        history.position = None;
        history.draft.clear();
        history.entries.retain(|entry| *entry != text);
        history.entries.insert(0, text);
    }

    pub(crate) fn edit_input(&mut self, key: KeyEvent) -> Vec<Effect> {
        let width = self.input_width();
        let length = self.chat.input.text().len();
        if self.chat.input.handle_key(key, self.render.settings.keys, width) {
            // Keys that only move the cursor change neither the completion nor the selection.
            if self.chat.input.text().len() != length {
                self.chat.completion = Some(0);
                self.chat.transcript.unselect();
            }
            return self.complete_mention();
        }
        match key.code {
            // The input does not handle these keys in its first and last row: the arrow keys, vim's `j` and `k`, and
            // emacs's Ctrl+P and Ctrl+N.
            KeyCode::Up | KeyCode::Char('k') if key.modifiers.is_empty() => self.walk_history(true),
            KeyCode::Down | KeyCode::Char('j') if key.modifiers.is_empty() => self.walk_history(false),
            KeyCode::Char('p') if key.modifiers == KeyModifiers::CONTROL => self.walk_history(true),
            KeyCode::Char('n') if key.modifiers == KeyModifiers::CONTROL => self.walk_history(false),
            // In vim's normal mode, `:` and `/` start a command.
            KeyCode::Char(':' | '/') => {
                self.chat.input.handle_key(KeyEvent::from(KeyCode::Char('i')), KeyMode::Vim, width);
                self.chat.input.set("/");
                self.chat.completion = Some(0);
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// Puts an older or newer message of the user into the input.
    pub(crate) fn walk_history(&mut self, older: bool) -> Vec<Effect> {
        // Queued messages come first, because they are newer than the history.
        if older
            && self.chat.input.is_empty()
            && let Some(text) = self.chat.queue.pop_back()
        {
            self.chat.input.set_folded(&text);
            self.chat.completion = None;
            return Vec::new();
        }
        let effects = self.read_history();
        let history = &mut self.chat.history;
        let next = match (history.position, older) {
            (None, true) if history.entries.is_empty() => {
                history.is_awaited |= !effects.is_empty();
                return effects;
            }
            (None, true) => {
                history.draft = self.chat.input.full_text();
                Some(0)
            }
            (Some(position), true) => Some((position + 1).min(history.entries.len().saturating_sub(1))),
            (Some(0), false) => None,
            (Some(position), false) => Some(position - 1),
            (None, false) => return effects,
        };
        history.position = next;
        let text = next.and_then(|position| history.entries.get(position)).unwrap_or(&history.draft).clone();
        self.chat.input.set_folded(&text);
        // With the completion open, Up and Down would move in it instead of in the history.
        self.chat.completion = None;
        effects
    }

    fn handle_completion_key(&mut self, key: KeyEvent) -> Option<Vec<Effect>> {
        if let Some(effects) = self.handle_mention_key(key) {
            return Some(effects);
        }
        let rows = self.completions();
        let selected = self.chat.completion?;
        let row = rows.get(selected)?;
        match key.code {
            _ if self.move_completion(key, selected, rows.len()) => {}
            KeyCode::Tab => {
                let text = format!("/{} ", row.name);
                self.chat.input.set(&text);
                self.chat.completion = Some(0);
            }
            // Runs the selected command, so that the first letters and Enter are enough.
            KeyCode::Enter if key.modifiers.is_empty() => {
                let line = format!("/{}", row.name);
                self.chat.input.take();
                self.add_to_history(line.clone());
                return Some(self.run_command_line(&line));
            }
            _ => return None,
        }
        Some(Vec::new())
    }

    /// Handles keys while paths complete a mention.
    fn handle_mention_key(&mut self, key: KeyEvent) -> Option<Vec<Effect>> {
        let selected = self.chat.completion?;
        let paths = self.mention_completions();
        let (path, count) = (paths.get(selected)?.clone(), paths.len());
        match key.code {
            _ if self.move_completion(key, selected, count) => Some(Vec::new()),
            KeyCode::Tab => Some(self.insert_mention(&path)),
            KeyCode::Enter if key.modifiers.is_empty() => Some(self.insert_mention(&path)),
            _ => None,
        }
    }

    /// Handles the keys that select one of `count` completions or close them. Returns `false` for all others.
    fn move_completion(&mut self, key: KeyEvent, selected: usize, count: usize) -> bool {
        self.chat.completion = match key.code {
            KeyCode::Up if key.modifiers.is_empty() => Some(selected.saturating_sub(1)),
            KeyCode::Down if key.modifiers.is_empty() => Some((selected + 1).min(count.saturating_sub(1))),
            KeyCode::Esc => None,
            _ => return false,
        };
        true
    }

    /// Returns the commands that complete the input, while the user types the name of a command.
    #[must_use]
    pub fn completions(&self) -> Vec<Suggestion> {
        let Some(name) = self.chat.input.text().strip_prefix('/') else { return Vec::new() };
        if self.chat.completion.is_some()
            && let Some(agent) = name.strip_prefix("agent ")
        {
            return agent_suggestions(agent.trim_start(), &self.agents);
        }
        if self.chat.completion.is_none() || name.contains(char::is_whitespace) || name.contains('/') {
            return Vec::new();
        }
        suggestions(name, &self.plugins.commands, self.render.settings.keys)
    }

    fn select_message(&mut self, forward: bool) -> Vec<Effect> {
        let Viewport { width, height, tail } = self.viewport();
        self.chat.transcript.select(self.render.message_layout(width), &tail, height, forward);
        Vec::new()
    }

    /// Handles keys that act on the selected message.
    fn handle_message_key(&mut self, key: KeyEvent) -> Option<Vec<Effect>> {
        if key.code == KeyCode::Esc {
            self.chat.transcript.unselect();
            return Some(Vec::new());
        }
        if !self.chat.input.is_empty() {
            return None;
        }
        let message = self.chat.transcript.selected_message().cloned();
        match key.code {
            KeyCode::Enter | KeyCode::Char(' ') => {
                self.chat.transcript.toggle_selected(self.unfolds_by_default());
            }
            KeyCode::Tab => {
                let Viewport { width, height, tail } = self.viewport();
                self.chat.transcript.select_next_fold(self.render.message_layout(width), &tail, height);
            }
            KeyCode::Up => return Some(self.select_message(false)),
            KeyCode::Down => return Some(self.select_message(true)),
            KeyCode::Char('c') if key.modifiers.is_empty() => return Some(copy_message(&message?)),
            KeyCode::Char('f') if key.modifiers.is_empty() => {
                if self.chat.is_busy() {
                    return Some(self.notify_busy());
                }
                let branch = self.chat.conversation.branch()?;
                let at = message?.seq;
                return Some(vec![Change::Fork { branch, at, name: None }.into()]);
            }
            KeyCode::Char('r') if key.modifiers.is_empty() => {
                if self.chat.is_busy() {
                    return Some(self.notify_busy());
                }
                let branch = self.chat.conversation.branch()?;
                let message = message?;
                // To a message of the user means before it: its text is put into the input, to be changed and sent again.
                let seq =
                    if message.content.is_typed() { message.seq.saturating_sub(1) } else { message.seq };
                self.chat.is_planning_rewind = true;
                return Some(vec![Request::PlanRewind(RewindTarget::Message { branch, seq }).into()]);
            }
            _ => return None,
        }
        Some(Vec::new())
    }

    fn unfolds_by_default(&self) -> bool {
        self.render.settings.output == OutputMode::Verbose
    }

    pub(crate) fn notify_busy(&mut self) -> Vec<Effect> {
        let text = if self.chat.is_busy() {
            // The title of the input has the key that stops it.
            "not while a reply is in progress"
        } else if self.chat.agent_change.is_some() {
            "another agent is being prepared"
        } else {
            "another session or branch is being opened"
        };
        self.notify(Tone::Warn, text)
    }

    /// Toggles the fold whose header was clicked.
    pub(crate) fn click(&mut self, (x, y): (u16, u16)) {
        let area = self.chat_layout().transcript;
        let is_chat = self.modals.is_empty() && self.screen.is_none();
        if !is_chat || !area.contains((x, y).into()) {
            return;
        }
        let Viewport { width, height, tail } = self.viewport();
        let rows = self.chat.transcript.rows(self.render.message_layout(width), &tail, height);
        if let Some(row) = rows.get(usize::from(y - area.y))
            && let Some(fold) = row.fold
        {
            self.chat.transcript.toggle_fold(row.seq, fold, self.unfolds_by_default());
        }
    }

    pub(crate) fn scroll(&mut self, rows: isize) {
        let Viewport { width, height, tail } = self.viewport();
        self.chat.transcript.scroll_by(self.render.message_layout(width), &tail, height, rows);
    }

    fn scroll_page(&mut self, direction: isize) -> Vec<Effect> {
        let height = self.chat_layout().transcript.height;
        self.scroll(direction * isize::try_from(height.saturating_sub(2).max(1)).unwrap_or(1));
        Vec::new()
    }

    fn read_page(&self, page: Option<PageRange>) -> Vec<Effect> {
        let request = page
            .zip(self.chat.conversation.branch())
            .map(|((range, page), branch)| Effect::from(Request::ReadMessages { branch, range, page }));
        request.into_iter().collect()
    }

    /// Reads the next page of messages when the view is near an end of the loaded ones.
    pub(crate) fn prefetch_messages(&mut self) -> Vec<Effect> {
        if self.chat.conversation.branch().is_none() {
            return Vec::new();
        }
        let page = self.chat.transcript.page_to_prefetch();
        self.read_page(page)
    }
}

fn copy_message(message: &Arc<Message>) -> Vec<Effect> {
    let text = match message.content.text() {
        // A message that contains only tool calls has no text.
        text if text.is_empty() => message.content.searchable_text(),
        text => text,
    };
    vec![TerminalCommand::Copy { text, description: format!("message {}", message.seq) }.into()]
}
