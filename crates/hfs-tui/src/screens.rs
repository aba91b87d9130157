//! The screens that cover the chat. Each file holds one screen: its state, its keys and its drawing.
//!
//! To add a screen, write a type that implements [`Screen`] and a command in `commands.rs` that opens it. Data that no
//! other screen reads also needs a `Request` and a [`ScreenMsg`].

pub mod agents;
pub mod branches;
pub mod checkpoints;
pub mod config;
pub mod export;
pub mod help;
pub mod import;
pub mod inspect;
pub mod models;
pub mod plugins;
mod query;
pub mod search;
pub mod sessions;
pub mod stats;

use std::cell::Cell;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use hfs_core::{AgentDescription, BranchId, Event, Message, Project, RunSnapshot, SessionId};
use hfs_engine::Conversation;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Line;

use crate::canvas;
use crate::commands::Command;
use crate::modal::Modal;
use crate::ports::{AgentsView, ErrorReport, PluginView, Tone};
use crate::protocol::{Effect, ScreenMsg};
use crate::render::RenderContext;
use crate::text::{sanitize_line, wrap_text};
use crate::transcript::Transcript;

/// A screen that covers the chat.
pub trait Screen: fmt::Debug {
    /// Title, shown in the first row.
    fn title(&self) -> &'static str;

    /// Text after the title.
    fn subtitle(&self, _cx: &Context<'_>) -> String {
        String::new()
    }

    /// Keys and their effects, shown in the last row; the most important first.
    fn key_hints(&self) -> Vec<(&'static str, &'static str)>;

    /// Handles a key press.
    fn handle_key(&mut self, key: KeyEvent, cx: &Context<'_>) -> Vec<Action>;

    /// Handles pasted text.
    fn handle_paste(&mut self, _text: &str, _cx: &Context<'_>) -> Vec<Action> {
        Vec::new()
    }

    /// Handles the answer to a prompt that this screen opened with `PromptPurpose::OpenScreen`.
    fn handle_prompt(&mut self, _text: &str) -> Vec<Action> {
        Vec::new()
    }

    /// Handles a message, or returns one that this screen did not ask for.
    fn handle_message(&mut self, message: ScreenMsg, _cx: &Context<'_>) -> Handled {
        Handled::No(message)
    }

    /// Called when a background request failed without a result of its own.
    fn request_failed(&mut self) {}

    /// Reloads this kind of data, if the screen shows it.
    fn refresh(&mut self, _stale: StaleData, _cx: &Context<'_>) -> Vec<Action> {
        Vec::new()
    }

    /// Whether the screen stays open after another session or branch was opened.
    fn stays_open_after_switch(&self) -> bool {
        false
    }

    /// Draws the area between the title and the key hints. Returns the position of the cursor, if there is one.
    fn draw(&self, buffer: &mut Buffer, area: Rect, cx: &Context<'_>) -> Option<(u16, u16)>;
}

/// Whether a screen handled a message.
#[derive(Debug)]
pub enum Handled {
    /// The screen handled it.
    Yes(Vec<Action>),
    /// The screen did not ask for it.
    No(ScreenMsg),
}

/// A kind of data that has changed, so that a screen that shows it must read it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StaleData {
    /// Names or the trash state of sessions.
    Sessions,
    /// Checkpoints of the open session.
    Checkpoints,
    /// Branches of the open session.
    Branches,
    /// Runs of the open session.
    Runs,
    /// Settings.
    Config,
}

/// The part of the model that screens can read.
pub struct Context<'a> {
    /// The open conversation.
    pub conversation: &'a Conversation,
    /// Project of new conversations.
    pub project: Option<&'a Project>,
    /// The agent that answers.
    pub agent: &'a AgentDescription,
    /// The agents that can be chosen.
    pub agents: &'a AgentsView,
    /// State of the plugins.
    pub plugins: &'a PluginView,
    /// The newest run.
    pub run: &'a RunSnapshot,
    /// The events of the newest run, if it ran while the session was open.
    pub events: &'a [Arc<Event>],
    /// Whether a reply is in progress. During a reply, the conversation must stay on its session and branch.
    pub is_busy: bool,
    /// Settings, styles and the time.
    pub render: &'a RenderContext,
    /// Ids for requests.
    pub ids: &'a IdSource,
}

impl Context<'_> {
    pub fn session(&self) -> Option<SessionId> {
        self.conversation.session()
    }

    pub fn branch(&self) -> Option<BranchId> {
        self.conversation.branch()
    }
}

/// Generates ids that match results with requests, so that a late result of an earlier request is ignored.
#[derive(Debug, Default)]
pub struct IdSource(Cell<u64>);

impl IdSource {
    pub fn next(&self) -> u64 {
        self.0.set(self.0.get() + 1);
        self.0.get()
    }
}

/// An instruction of a screen or a modal to the model.
#[derive(Debug)]
pub enum Action {
    /// Closes the screen.
    Close,
    /// Performs an effect.
    Run(Effect),
    /// Opens a modal.
    OpenModal(Box<Modal>),
    /// Shows a notice for a few seconds.
    Notify(Tone, String),
    /// Runs a built-in command without arguments.
    RunCommand(Command),
    /// Runs a line that begins with a slash.
    RunCommandLine(String),
}

impl Action {
    /// Performs an effect.
    pub fn run(effect: impl Into<Effect>) -> Self {
        Self::Run(effect.into())
    }

    /// Opens a modal.
    pub fn open(modal: Modal) -> Self {
        Self::OpenModal(Box::new(modal))
    }

    /// Shows an error.
    pub fn error(report: ErrorReport) -> Self {
        Self::Notify(Tone::Bad, report.message)
    }

    /// Explains that the conversation cannot be moved during a reply.
    pub fn busy() -> Self {
        Self::Notify(Tone::Warn, "a reply is in progress; Esc in the chat stops it".to_owned())
    }
}

/// The selected row of a list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ListSelection {
    /// Index of the row.
    pub row: usize,
}

impl ListSelection {
    /// Moves the selection in a list of `length` rows; returns `false` if the key is not one that moves a selection.
    pub fn handle_key(&mut self, key: KeyEvent, length: usize) -> bool {
        const PAGE: usize = 10;
        let last = length.saturating_sub(1);
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        self.row = match key.code {
            KeyCode::Up => self.row.saturating_sub(1),
            KeyCode::Down => self.row + 1,
            KeyCode::Char('p') if control => self.row.saturating_sub(1),
            KeyCode::Char('n') if control => self.row + 1,
            KeyCode::PageUp => self.row.saturating_sub(PAGE),
            KeyCode::PageDown => self.row + PAGE,
            KeyCode::Home if control => 0,
            KeyCode::End if control => last,
            _ => return false,
        }
        .min(last);
        true
    }

    /// Like [`handle_key`](Self::handle_key), but also accepts the letters of vim. For lists without a text field.
    pub fn handle_key_with_letters(&mut self, key: KeyEvent, length: usize) -> bool {
        let last = length.saturating_sub(1);
        self.row = match key.code {
            KeyCode::Char('k') if key.modifiers.is_empty() => self.row.saturating_sub(1),
            KeyCode::Char('j') if key.modifiers.is_empty() => (self.row + 1).min(last),
            KeyCode::Char('g') | KeyCode::Home => 0,
            KeyCode::Char('G') | KeyCode::End => last,
            _ => return self.handle_key(key, length),
        };
        true
    }

    /// Moves the selection into a list that became shorter.
    pub fn clamp(&mut self, length: usize) {
        self.row = self.row.min(length.saturating_sub(1));
    }

    /// Returns the rows that are visible in `height` rows, with the selected row near the middle.
    #[must_use]
    pub fn visible_range(&self, length: usize, height: usize) -> Range<usize> {
        let start = self.row.saturating_sub(height / 2).min(length.saturating_sub(height));
        start..(start + height).min(length)
    }
}

/// Messages of the selected row, shown beside a list.
#[derive(Debug, Default)]
pub struct Preview {
    request_id: u64,
    transcript: Transcript,
    is_loaded: bool,
    error: Option<String>,
}

impl Preview {
    /// Clears the preview until the result of this request arrives.
    pub fn start_loading(&mut self, request_id: u64) {
        *self = Self { request_id, ..Self::default() };
    }

    /// Clears the preview, because no row is selected.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Shows the result of a request, unless a newer request was made.
    pub fn set_messages(&mut self, request_id: u64, result: Result<Vec<Message>, ErrorReport>) {
        if request_id != self.request_id {
            return;
        }
        match result {
            Ok(messages) => {
                let head = messages.last().map_or(0, |message| message.seq);
                self.transcript.open(messages, head, None);
                self.is_loaded = true;
            }
            Err(report) => self.error = Some(report.message),
        }
    }

    /// Draws the preview with a border.
    pub fn draw(&self, buffer: &mut Buffer, area: Rect, render: &RenderContext, title: &str) {
        if area.height < 3 || area.width < 20 {
            return;
        }
        let theme = &render.theme;
        let title = Line::styled(format!(" {title} "), theme.dim);
        let inner = canvas::panel(buffer, area, title, theme, false);
        // Messages of the user begin with a bar, which would touch the border.
        let inner = Rect { x: inner.x + 1, width: inner.width.saturating_sub(2), ..inner };
        if let Some(error) = &self.error {
            let lines = wrap_text(&sanitize_line(error), theme.bad, usize::from(inner.width));
            canvas::lines(buffer, inner, lines);
        }
        if self.is_loaded && self.transcript.is_empty() {
            canvas::line(buffer, canvas::row(inner, 0), &Line::styled("no messages yet", theme.dim));
        }
        let layout = render.message_layout(usize::from(inner.width));
        let rows = self.transcript.rows(layout, &None, usize::from(inner.height));
        canvas::lines(buffer, inner, rows.into_iter().map(|row| row.line));
    }
}

/// Splits an area into a list and its preview: side by side in a wide area, else one above the other. An area with few
/// rows holds only the list.
pub fn split_for_preview(area: Rect) -> (Rect, Rect) {
    if area.width >= 100 {
        let list = area.width * 11 / 20;
        let preview = Rect { x: area.x + list + 1, width: area.width - list - 1, ..area };
        return (Rect { width: list, ..area }, preview);
    }
    let below = if area.height >= 14 { area.height * 2 / 5 } else { 0 };
    let list = Rect { height: area.height - below, ..area };
    (list, Rect { y: list.bottom(), height: below, ..area })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_selected_row_is_always_visible() {
        for length in 0..30 {
            for row in 0..length {
                let range = ListSelection { row }.visible_range(length, 7);
                assert!(range.contains(&row) && range.len() == length.min(7));
            }
        }
    }
}
