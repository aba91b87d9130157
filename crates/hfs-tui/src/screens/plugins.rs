//! The list of plugins, where the user approves, denies, enables and disables them.

use std::cell::Cell;

use crossterm::event::{KeyCode, KeyEvent};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::{Action, Context, ListSelection, Screen};
use crate::canvas;
use crate::modal::Modal;
use crate::ports::{PluginDecision, PluginRowState};
use crate::protocol::Request;
use crate::text::{Fragment, sanitize_line, truncate, wrap};

#[derive(Debug, Default)]
pub struct Plugins {
    selection: ListSelection,
}

impl Plugins {
    /// Opens the screen.
    pub fn open(cx: &Context<'_>) -> (Self, Vec<Action>) {
        (Self::default(), vec![Action::run(Request::ReadPlugins(cx.session()))])
    }
}

impl Screen for Plugins {
    fn title(&self) -> &'static str {
        "Plugins"
    }

    fn subtitle(&self, _cx: &Context<'_>) -> String {
        "a plugin runs only after you approve it".to_owned()
    }

    fn key_hints(&self) -> Vec<(&'static str, &'static str)> {
        vec![("a", "review and approve"), ("d", "deny"), ("e", "enable"), ("x", "disable"), ("Esc", "back")]
    }

    fn handle_key(&mut self, key: KeyEvent, cx: &Context<'_>) -> Vec<Action> {
        let plugins = &cx.plugins.plugins;
        if self.selection.handle_key_with_letters(key, plugins.len()) {
            return Vec::new();
        }
        let selected = plugins.get(self.selection.row);
        let decide = |decision| {
            let request = selected.map(|row| Request::DecidePlugin { plugin: row.name.clone(), decision });
            request.map(Action::run).into_iter().collect()
        };
        match key.code {
            KeyCode::Esc | KeyCode::Char('q') => vec![Action::Close],
            // The dialog shows the permissions before the user approves.
            KeyCode::Char('a') | KeyCode::Enter => {
                let name = selected.map(|row| &row.name);
                let request = cx.plugins.pending.iter().find(|request| Some(&request.plugin) == name);
                let modal = request.map(|request| Modal::Approval {
                    request: request.clone(),
                    choice: 0,
                    scroll: Cell::default(),
                });
                modal.map(Action::open).into_iter().collect()
            }
            KeyCode::Char('d') => decide(PluginDecision::Deny),
            KeyCode::Char('e') => decide(PluginDecision::Enable),
            KeyCode::Char('x') => decide(PluginDecision::Disable),
            _ => Vec::new(),
        }
    }

    fn draw(&self, buffer: &mut Buffer, area: Rect, cx: &Context<'_>) -> Option<(u16, u16)> {
        let theme = &cx.render.theme;
        let width = usize::from(area.width);
        let rows = &cx.plugins.plugins;
        if rows.is_empty() {
            let text = "No plugins are installed. `hfs plugin install` installs one, and `hfs plugin new` creates one of your own.";
            canvas::lines(buffer, area, wrap(&[Fragment::new(text, theme.dim)], width));
            return None;
        }
        let list = Rect { height: area.height.saturating_sub(4), ..area };
        let visible = self.selection.visible_range(rows.len(), usize::from(list.height));
        canvas::scroll_mark(buffer, list, &visible, rows.len(), theme);
        for (at, index) in visible.enumerate() {
            let Some(row) = rows.get(index) else { break };
            let area = canvas::row(list, at);
            let style = match row.state {
                PluginRowState::Active => theme.good,
                PluginRowState::Pending => theme.warn,
                PluginRowState::Quarantined | PluginRowState::Invalid => theme.bad,
                PluginRowState::Denied | PluginRowState::Disabled => theme.dim,
            };
            let line = Line::from(vec![
                Span::styled(format!("{:<12}", row.state.as_str()), style),
                Span::styled(format!("{:<24}", truncate(&sanitize_line(&row.name), 23)), theme.text),
                Span::styled(format!("{:<10}", truncate(&sanitize_line(&row.version), 9)), theme.dim),
                Span::styled(sanitize_line(&row.capabilities.join(", ")), theme.dim),
            ]);
            canvas::line(buffer, area, &line);
            if index == self.selection.row {
                canvas::fill(buffer, area, theme.selected);
            }
        }
        if let Some(row) = rows.get(self.selection.row) {
            let foot =
                Rect { y: list.bottom() + 1, height: area.height.saturating_sub(list.height + 1), ..area };
            let reason = Fragment::new(sanitize_line(&row.reason), theme.dim);
            canvas::lines(buffer, foot, wrap(&[reason], width));
        }
        None
    }
}
