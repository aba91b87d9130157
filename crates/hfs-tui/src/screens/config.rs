//! The settings.

use crossterm::event::{KeyCode, KeyEvent};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::list::Picked;
use super::{Act, Context};
use crate::canvas;
use crate::effect::Effect;
use crate::look::Look;
use crate::modal::{Ask, AskedFor, Modal};
use crate::parts::ConfigEntry;
use crate::text::{Piece, cells, clip, one_line, wrap};

/// The settings screen.
#[derive(Debug)]
pub struct Config {
    entries: Vec<ConfigEntry>,
    picked: Picked,
    /// The setting to begin with.
    first: Option<String>,
}

impl Config {
    /// The screen, and what it needs first; `key` is the setting to begin with.
    pub fn open(key: &str) -> (Self, Vec<Act>) {
        let first = (!key.is_empty()).then(|| key.to_owned());
        let screen = Self { entries: Vec::new(), picked: Picked::default(), first };
        (screen, vec![Act::Do(Effect::ReadConfig)])
    }

    /// Takes the settings.
    pub fn take(&mut self, entries: Vec<ConfigEntry>) {
        self.entries = entries;
        if let Some(first) = self.first.take() {
            self.picked.row = self.entries.iter().position(|entry| entry.key == first).unwrap_or(0);
        }
        self.picked.clamp(self.entries.len());
    }

    /// Handles a key.
    pub fn key(&mut self, key: KeyEvent, _context: &Context<'_>) -> Vec<Act> {
        if self.picked.letter_key(key, self.entries.len()) {
            return Vec::new();
        }
        let Some(entry) = self.entries.get(self.picked.row) else {
            return if key.code == KeyCode::Esc { vec![Act::Back] } else { Vec::new() };
        };
        match key.code {
            KeyCode::Esc | KeyCode::Char('q') => vec![Act::Back],
            KeyCode::Enter | KeyCode::Right | KeyCode::Left | KeyCode::Char(' ')
                if !entry.choices.is_empty() =>
            {
                let count = entry.choices.len();
                let at = entry.choices.iter().position(|choice| *choice == entry.value);
                let step = if key.code == KeyCode::Left { count - 1 } else { 1 };
                let next = at.map_or(0, |at| (at + step) % count);
                let value = entry.choices.get(next).cloned().unwrap_or_default();
                vec![Act::Do(Effect::SetConfig { key: entry.key.clone(), value })]
            }
            KeyCode::Enter => {
                let about = AskedFor::Setting(entry.key.clone());
                let ask = Ask::new(format!("Set {}", entry.key), entry.about.clone(), &entry.value, about);
                vec![Act::Ask(Box::new(Modal::Ask(ask)))]
            }
            _ => Vec::new(),
        }
    }

    /// Draws the screen.
    pub fn view(&self, buffer: &mut Buffer, area: Rect, look: &Look) {
        let theme = &look.theme;
        let keys = [("Enter", "change"), ("← →", "other choice"), ("Esc", "back")];
        let body =
            canvas::screen(buffer, area, look, "Settings", "kept in your own configuration file", &keys);
        let names = self.entries.iter().map(|entry| cells(&entry.key)).max().unwrap_or(0).clamp(12, 28);
        let list = Rect { height: body.height.saturating_sub(4), ..body };
        for (at, index) in self.picked.window(self.entries.len(), usize::from(list.height)).enumerate() {
            let Some(entry) = self.entries.get(index) else { break };
            let area = canvas::row(list, at);
            let value = if entry.value.is_empty() { "not set".to_owned() } else { one_line(&entry.value) };
            let style = if entry.value.is_empty() { theme.dim } else { theme.accent };
            let origin = one_line(&entry.origin);
            let room = usize::from(area.width).saturating_sub(names + 2 + cells(&origin));
            canvas::line(
                buffer,
                area,
                &Line::from(vec![
                    Span::styled(format!("{:<names$}  ", clip(&one_line(&entry.key), names)), theme.text),
                    Span::styled(clip(&value, room.saturating_sub(1)), style),
                ]),
            );
            canvas::right(buffer, area, &Line::styled(clip(&origin, 30), theme.dim));
            if index == self.picked.row {
                canvas::fill(buffer, area, theme.selected);
            }
        }
        if let Some(entry) = self.entries.get(self.picked.row) {
            let foot =
                Rect { y: list.bottom() + 1, height: body.height.saturating_sub(list.height + 1), ..body };
            let mut pieces = vec![Piece::new(one_line(&entry.about), theme.text)];
            if !entry.choices.is_empty() {
                pieces.push(Piece::new(
                    format!("\none of: {}", one_line(&entry.choices.join(", "))),
                    theme.dim,
                ));
            }
            canvas::lines(buffer, foot, wrap(&pieces, usize::from(foot.width)));
        }
    }
}
