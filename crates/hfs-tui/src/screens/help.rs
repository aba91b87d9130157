//! Keys and commands.

use crossterm::event::{KeyCode, KeyEvent};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::{Act, Context};
use crate::canvas;
use crate::command::COMMANDS;
use crate::editor::KeyMode;
use crate::look::Look;
use crate::parts::PluginView;
use crate::text::{clip, one_line};

const KEYS: [(&str, &str); 20] = [
    ("Enter", "send; during a reply, send after it"),
    ("Alt+Enter, Ctrl+J", "a new line"),
    ("Ctrl+G", "write in your editor"),
    ("↑ ↓", "what you said before"),
    ("Ctrl+R", "look for what you said before"),
    ("Esc", "stop the reply"),
    ("Esc Esc", "go back to a checkpoint"),
    ("Ctrl+C Ctrl+C", "leave"),
    ("Ctrl+Z", "to the shell; fg comes back"),
    ("PgUp PgDn, wheel", "scroll"),
    ("Ctrl+Home Ctrl+End", "oldest shown, newest"),
    ("Alt+↑ Alt+↓", "choose a message"),
    ("  then Enter", "fold or unfold it"),
    ("  then Tab", "one tool after the other"),
    ("  then c", "copy it"),
    ("  then f", "fork behind it"),
    ("Ctrl+O", "fold or unfold everything"),
    ("Ctrl+P", "every command"),
    ("F2", "sidebar"),
    ("click, drag", "fold a tool; mark and copy"),
];

const VIM: [(&str, &str); 3] = [
    ("Esc, then Esc", "normal mode, then as above"),
    ("i a o A I O", "insert mode"),
    ("d c y with w b e 0 $", "edit; u undoes, Ctrl+R does again"),
];

const EMACS: [(&str, &str); 3] = [
    ("Alt+X", "every command (Ctrl+P moves up)"),
    ("Ctrl+A E B F P N", "move"),
    ("Ctrl+D K W Y, Alt+D", "edit; Ctrl+_ undoes"),
];

/// The help screen.
#[derive(Debug, Default)]
pub struct Help {
    top: usize,
}

impl Help {
    /// Handles a key.
    pub fn key(&mut self, key: KeyEvent, _context: &Context<'_>) -> Vec<Act> {
        self.top = match key.code {
            KeyCode::Esc | KeyCode::Char('q') | KeyCode::F(1) => return vec![Act::Back],
            KeyCode::Down | KeyCode::Char('j') => self.top + 1,
            KeyCode::Up | KeyCode::Char('k') => self.top.saturating_sub(1),
            KeyCode::PageDown | KeyCode::Char(' ') => self.top + 10,
            KeyCode::PageUp => self.top.saturating_sub(10),
            KeyCode::Home => 0,
            _ => self.top,
        };
        Vec::new()
    }

    /// Draws the screen.
    pub fn view(&self, buffer: &mut Buffer, area: Rect, look: &Look, plugins: &PluginView) {
        let keys = [("↑ ↓", "scroll"), ("Esc", "back")];
        let body = canvas::screen(buffer, area, look, "Help", "keys, and commands that you type", &keys);
        let (left, right) = (key_lines(look), command_lines(look, plugins));
        if body.width >= 110 {
            let half = body.width * 2 / 5;
            let top = self.top.min(right.len().saturating_sub(usize::from(body.height)));
            canvas::lines(buffer, Rect { width: half - 2, ..body }, left.into_iter().skip(top));
            let area = Rect { x: body.x + half, width: body.width - half, ..body };
            canvas::lines(buffer, area, right.into_iter().skip(top));
            return;
        }
        let mut all = left;
        all.push(Line::default());
        all.extend(right);
        let top = self.top.min(all.len().saturating_sub(usize::from(body.height)));
        canvas::lines(buffer, body, all.into_iter().skip(top));
    }
}

fn key_lines(look: &Look) -> Vec<Line<'static>> {
    let theme = &look.theme;
    let mut lines = vec![Line::styled("Keys", theme.title())];
    let own: &[(&str, &str)] = match look.settings.keys {
        KeyMode::Standard => &[],
        KeyMode::Vim => &VIM,
        KeyMode::Emacs => &EMACS,
    };
    for (key, meaning) in KEYS.iter().chain(own) {
        lines.push(Line::from(vec![
            Span::styled(format!("{key:<21} "), theme.accent),
            Span::styled(*meaning, theme.text),
        ]));
    }
    lines
}

fn command_lines(look: &Look, plugins: &PluginView) -> Vec<Line<'static>> {
    let theme = &look.theme;
    let mut lines = vec![Line::styled("Commands", theme.title())];
    for spec in COMMANDS {
        let names: Vec<String> = spec.names.iter().map(|name| format!("/{name}")).collect();
        let key = spec.key_in(look.settings.keys);
        let key = if key.is_empty() { String::new() } else { format!("  {key}") };
        lines.push(Line::from(vec![
            Span::styled(format!("{:<21} ", names.join(" ")), theme.accent),
            Span::styled(spec.about, theme.text),
            Span::styled(key, theme.dim),
        ]));
    }
    for command in &plugins.commands {
        lines.push(Line::from(vec![
            Span::styled(
                format!("{:<21} ", clip(&format!("/{}", one_line(&command.name)), 21)),
                theme.accent,
            ),
            Span::styled(one_line(&command.about), theme.text),
        ]));
    }
    lines
}
