//! The settings.

use crossterm::event::{KeyCode, KeyEvent};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::{Action, Context, Handled, ListSelection, Screen, StaleData};
use crate::canvas;
use crate::modal::{Modal, Prompt, PromptPurpose};
use crate::ports::ConfigEntry;
use crate::protocol::{Request, ScreenMsg};
use crate::text::{Fragment, display_width, fitting_suffix, sanitize_line, truncate, wrap};

#[derive(Debug)]
pub struct Config {
    entries: Vec<ConfigEntry>,
    selection: ListSelection,
    /// The setting to select after the settings are loaded.
    initial_key: Option<String>,
}

impl Config {
    /// Opens the screen with the setting `key` selected, or the first one if `key` is empty.
    pub fn open(key: &str) -> (Self, Vec<Action>) {
        let initial_key = (!key.is_empty()).then(|| key.to_owned());
        let screen = Self { entries: Vec::new(), selection: ListSelection::default(), initial_key };
        (screen, vec![Action::run(Request::ReadConfig)])
    }

    fn set_entries(&mut self, entries: Vec<ConfigEntry>) {
        self.entries = entries;
        if let Some(key) = self.initial_key.take() {
            self.selection.row = self.entries.iter().position(|entry| entry.key == key).unwrap_or(0);
        }
        self.selection.clamp(self.entries.len());
    }
}

impl Screen for Config {
    fn title(&self) -> &'static str {
        "Settings"
    }

    fn subtitle(&self, _cx: &Context<'_>) -> String {
        "saved in your own configuration file".to_owned()
    }

    fn key_hints(&self) -> Vec<(&'static str, &'static str)> {
        vec![("Enter", "change"), ("← →", "previous or next value"), ("Esc", "back")]
    }

    fn handle_key(&mut self, key: KeyEvent, _cx: &Context<'_>) -> Vec<Action> {
        if self.selection.handle_key_with_letters(key, self.entries.len()) {
            return Vec::new();
        }
        let Some(entry) = self.entries.get(self.selection.row) else {
            return if key.code == KeyCode::Esc { vec![Action::Close] } else { Vec::new() };
        };
        match key.code {
            KeyCode::Esc | KeyCode::Char('q') => vec![Action::Close],
            KeyCode::Enter | KeyCode::Right | KeyCode::Left | KeyCode::Char(' ')
                if !entry.choices.is_empty() =>
            {
                let count = entry.choices.len();
                let current = entry.choices.iter().position(|choice| *choice == entry.value);
                let step = if key.code == KeyCode::Left { count - 1 } else { 1 };
                let next = current.map_or(0, |current| (current + step) % count);
                let value = entry.choices.get(next).cloned().unwrap_or_default();
                vec![Action::run(Request::SetConfig { key: entry.key.clone(), value })]
            }
            KeyCode::Enter => {
                let purpose = PromptPurpose::Setting(entry.key.clone());
                let title = format!("Set {}", entry.key);
                let text = if entry.is_masked { "" } else { &entry.value };
                let prompt = Prompt::new(title, entry.about.clone(), text, purpose);
                vec![Action::open(Modal::Prompt(prompt))]
            }
            _ => Vec::new(),
        }
    }

    fn handle_message(&mut self, message: ScreenMsg, _cx: &Context<'_>) -> Handled {
        match message {
            ScreenMsg::Config(entries) => {
                self.set_entries(entries);
                Handled::Yes(Vec::new())
            }
            other => Handled::No(other),
        }
    }

    fn refresh(&mut self, stale: StaleData, _cx: &Context<'_>) -> Vec<Action> {
        if stale == StaleData::Config { vec![Action::run(Request::ReadConfig)] } else { Vec::new() }
    }

    fn draw(&self, buffer: &mut Buffer, area: Rect, cx: &Context<'_>) -> Option<(u16, u16)> {
        /// Width of a value that its origin leaves free.
        const MIN_VALUE_WIDTH: usize = 12;
        let theme = &cx.render.theme;
        let key_width =
            self.entries.iter().map(|entry| display_width(&entry.key)).max().unwrap_or(0).clamp(12, 28);
        let key_width = key_width.min(usize::from(area.width / 2));
        let list = Rect { height: area.height.saturating_sub(4), ..area };
        let visible = self.selection.visible_range(self.entries.len(), usize::from(list.height));
        canvas::scroll_mark(buffer, list, &visible, self.entries.len(), theme);
        for (at, index) in visible.enumerate() {
            let Some(entry) = self.entries.get(index) else { break };
            let row = canvas::row(list, at);
            let (value, style) = if entry.value.is_empty() {
                ("not set".to_owned(), theme.dim)
            } else {
                (sanitize_line(&entry.value), theme.accent)
            };
            let key = truncate(&sanitize_line(&entry.key), key_width);
            // The end of a path says most.
            let origin = sanitize_line(&entry.origin);
            let origin_width = (usize::from(row.width) / 3).max(30);
            let origin = if display_width(&origin) > origin_width {
                format!("…{}", fitting_suffix(&origin, origin_width - 1))
            } else {
                origin
            };
            let room = usize::from(row.width).saturating_sub(key_width + 2);
            // A value is worth more than where it was set.
            let room_beside = room.saturating_sub(display_width(&origin) + 1);
            let (room, origin) =
                if room_beside >= MIN_VALUE_WIDTH { (room_beside, origin) } else { (room, String::new()) };
            let line = Line::from(vec![
                Span::styled(format!("{key:<key_width$}  "), theme.text),
                Span::styled(truncate(&value, room), style),
            ]);
            canvas::line(buffer, row, &line);
            canvas::right_aligned(buffer, row, &Line::styled(origin, theme.dim));
            if index == self.selection.row {
                canvas::fill(buffer, row, theme.selected);
            }
        }
        if let Some(entry) = self.entries.get(self.selection.row) {
            let foot =
                Rect { y: list.bottom() + 1, height: area.height.saturating_sub(list.height + 1), ..area };
            let mut text = vec![Fragment::new(sanitize_line(&entry.about), theme.text)];
            if !entry.choices.is_empty() {
                let choices = sanitize_line(&entry.choices.join(", "));
                text.push(Fragment::new(format!("\none of: {choices}"), theme.dim));
            }
            canvas::lines(buffer, foot, wrap(&text, usize::from(foot.width)));
        }
        None
    }
}
