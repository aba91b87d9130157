//! The plugins and what became of them.

use crossterm::event::{KeyCode, KeyEvent};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::list::Picked;
use super::{Act, Context};
use crate::canvas;
use crate::effect::Effect;
use crate::look::Look;
use crate::modal::Modal;
use crate::parts::{PluginDecision, PluginView};
use crate::text::{Piece, clip, one_line, wrap};

/// The plugins screen.
#[derive(Debug, Default)]
pub struct Plugins {
    picked: Picked,
}

impl Plugins {
    /// The screen, and what it needs first.
    pub fn open(context: &Context<'_>) -> (Self, Vec<Act>) {
        (Self::default(), vec![Act::Do(Effect::ReadPlugins(context.session()))])
    }

    /// Handles a key.
    pub fn key(&mut self, key: KeyEvent, context: &Context<'_>) -> Vec<Act> {
        let plugins = &context.plugins.plugins;
        if self.picked.letter_key(key, plugins.len()) {
            return Vec::new();
        }
        let decide = |decision| {
            let plugin = plugins.get(self.picked.row).map(|row| row.name.clone());
            plugin.map(|plugin| Act::Do(Effect::DecidePlugin { plugin, decision })).into_iter().collect()
        };
        match key.code {
            KeyCode::Esc | KeyCode::Char('q') => vec![Act::Back],
            // What it may do is read before it is approved.
            KeyCode::Char('a') | KeyCode::Enter => {
                let name = plugins.get(self.picked.row).map(|row| &row.name);
                let request = context.plugins.pending.iter().find(|request| Some(&request.plugin) == name);
                request
                    .map(|request| {
                        Act::Ask(Box::new(Modal::Approval { request: request.clone(), choice: 0 }))
                    })
                    .into_iter()
                    .collect()
            }
            KeyCode::Char('d') => decide(PluginDecision::Deny),
            KeyCode::Char('e') => decide(PluginDecision::Enable),
            KeyCode::Char('x') => decide(PluginDecision::Disable),
            _ => Vec::new(),
        }
    }

    /// Draws the screen.
    pub fn view(&self, buffer: &mut Buffer, area: Rect, look: &Look, plugins: &PluginView) {
        let theme = &look.theme;
        let keys =
            [("a", "read and approve"), ("d", "deny"), ("e", "enable"), ("x", "disable"), ("Esc", "back")];
        let body = canvas::screen(buffer, area, look, "Plugins", "nothing runs before you approve it", &keys);
        let rows = &plugins.plugins;
        if rows.is_empty() {
            let text =
                "No plugins are installed. `hfs plugin install` adds one, `hfs plugin new` begins your own.";
            canvas::lines(buffer, body, wrap(&[Piece::new(text, theme.dim)], usize::from(body.width)));
            return;
        }
        let list = Rect { height: body.height.saturating_sub(4), ..body };
        for (at, index) in self.picked.window(rows.len(), usize::from(list.height)).enumerate() {
            let Some(row) = rows.get(index) else { break };
            let area = canvas::row(list, at);
            let style = match row.state.as_str() {
                "active" => theme.good,
                "pending" => theme.warn,
                "quarantined" | "invalid" => theme.bad,
                _ => theme.dim,
            };
            let line = Line::from(vec![
                Span::styled(format!("{:<12}", clip(&one_line(&row.state), 11)), style),
                Span::styled(format!("{:<24}", clip(&one_line(&row.name), 23)), theme.text),
                Span::styled(format!("{:<10}", clip(&one_line(&row.version), 9)), theme.dim),
                Span::styled(one_line(&row.capabilities.join(", ")), theme.dim),
            ]);
            canvas::line(buffer, area, &line);
            if index == self.picked.row {
                canvas::fill(buffer, area, theme.selected);
            }
        }
        if let Some(row) = rows.get(self.picked.row) {
            let foot =
                Rect { y: list.bottom() + 1, height: body.height.saturating_sub(list.height + 1), ..body };
            canvas::lines(
                buffer,
                foot,
                wrap(&[Piece::new(one_line(&row.reason), theme.dim)], usize::from(foot.width)),
            );
        }
    }
}
