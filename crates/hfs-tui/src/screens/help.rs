//! Help: keys and commands.

use crossterm::event::{KeyCode, KeyEvent};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::{Action, Context, Screen};
use crate::canvas;
use crate::commands::COMMANDS;
use crate::editor::KeyMode;
use crate::ports::PluginView;
use crate::render::RenderContext;
use crate::text::{Fragment, sanitize_line, truncate, wrap};
use crate::theme::Theme;

const KEYS: [(&str, &str); 23] = [
    ("Enter", "send; during a reply, send after it"),
    ("Alt+Enter, Ctrl+J", "new line; Shift+Enter and \\ Enter, too"),
    ("@", "attach a file or a picture, such as @src/main.rs"),
    ("Ctrl+G", "open your editor"),
    ("↑ ↓", "your earlier messages"),
    ("Ctrl+R", "search your earlier messages"),
    ("Esc", "stop the reply; queued messages return to the input"),
    ("Esc Esc", "rewind to a checkpoint"),
    ("Ctrl+C Ctrl+C", "quit"),
    ("Ctrl+D", "quit, if the input is empty"),
    ("Ctrl+Z", "suspend; fg resumes"),
    ("PgUp PgDn, wheel", "scroll"),
    ("Ctrl+Home Ctrl+End", "the first message, the newest"),
    ("Alt+↑ Alt+↓", "select a message"),
    ("  then Enter", "fold or unfold it"),
    ("  then Tab", "next tool of the message"),
    ("  then c", "copy it"),
    ("  then f", "fork after it"),
    ("  then r", "rewind to it; your own message is put into the input"),
    ("Ctrl+O", "fold or unfold everything"),
    ("Ctrl+P", "all commands"),
    ("F2", "sidebar"),
    ("click, drag", "fold a tool; select and copy"),
];

const VIM: [(&str, &str); 3] = [
    ("Esc, then Esc", "normal mode, then as above"),
    ("i a o A I O", "insert mode"),
    ("d c y with w b e 0 $", "edit; u undoes, Ctrl+R redoes"),
];

const EMACS: [(&str, &str); 3] = [
    ("Alt+X", "all commands (Ctrl+P moves up)"),
    ("Ctrl+A E B F P N", "move"),
    ("Ctrl+D K W Y, Alt+D", "edit; Ctrl+_ undoes"),
];

#[derive(Debug, Default)]
pub struct Help {
    /// Index of the first visible row; may be past the end of the text.
    scroll: usize,
}

impl Screen for Help {
    fn title(&self) -> &'static str {
        "Help"
    }

    fn subtitle(&self, _cx: &Context<'_>) -> String {
        "keys and commands".to_owned()
    }

    fn key_hints(&self) -> Vec<(&'static str, &'static str)> {
        vec![("↑ ↓", "scroll"), ("Esc", "back")]
    }

    fn handle_key(&mut self, key: KeyEvent, _cx: &Context<'_>) -> Vec<Action> {
        self.scroll = match key.code {
            KeyCode::Esc | KeyCode::Char('q') | KeyCode::F(1) => return vec![Action::Close],
            KeyCode::Down | KeyCode::Char('j') => self.scroll + 1,
            KeyCode::Up | KeyCode::Char('k') => self.scroll.saturating_sub(1),
            KeyCode::PageDown | KeyCode::Char(' ') => self.scroll + 10,
            KeyCode::PageUp => self.scroll.saturating_sub(10),
            KeyCode::Home => 0,
            _ => self.scroll,
        };
        Vec::new()
    }

    fn draw(&self, buffer: &mut Buffer, area: Rect, cx: &Context<'_>) -> Option<(u16, u16)> {
        let height = usize::from(area.height);
        if area.width >= 110 {
            let left_width = area.width * 2 / 5;
            let left = key_lines(cx.render, usize::from(left_width - 2));
            let right = command_lines(cx.render, cx.plugins, usize::from(area.width - left_width));
            let skipped = self.scroll.min(right.len().saturating_sub(height));
            canvas::lines(buffer, Rect { width: left_width - 2, ..area }, left.into_iter().skip(skipped));
            let area = Rect { x: area.x + left_width, width: area.width - left_width, ..area };
            canvas::scrolled_lines(buffer, area, right, skipped, &cx.render.theme);
            return None;
        }
        let width = usize::from(area.width);
        let mut all = key_lines(cx.render, width);
        all.push(Line::default());
        all.extend(command_lines(cx.render, cx.plugins, width));
        let skipped = self.scroll.min(all.len().saturating_sub(height));
        canvas::scrolled_lines(buffer, area, all, skipped, &cx.render.theme);
        None
    }
}

fn key_lines(render: &RenderContext, width: usize) -> Vec<Line<'static>> {
    let theme = &render.theme;
    let mut lines = vec![Line::styled("Keys", theme.title())];
    let mode_keys: &[(&str, &str)] = match render.settings.keys {
        KeyMode::Standard => &[],
        KeyMode::Vim => &VIM,
        KeyMode::Emacs => &EMACS,
    };
    for (key, meaning) in KEYS.iter().chain(mode_keys) {
        lines.extend(entry(key, &[Fragment::new(*meaning, theme.text)], theme, width));
    }
    lines
}

fn command_lines(render: &RenderContext, plugins: &PluginView, width: usize) -> Vec<Line<'static>> {
    let theme = &render.theme;
    let mut lines = vec![Line::styled("Commands", theme.title())];
    for spec in COMMANDS {
        let names: Vec<String> = spec.names.iter().map(|name| format!("/{name}")).collect();
        let key = spec.key_in(render.settings.keys);
        let key = if key.is_empty() { String::new() } else { format!("  {key}") };
        let meaning = [Fragment::new(spec.about, theme.text), Fragment::new(key, theme.dim)];
        lines.extend(entry(&names.join(" "), &meaning, theme, width));
    }
    for command in &plugins.commands {
        let name = truncate(&format!("/{}", sanitize_line(&command.name)), NAME_WIDTH);
        let meaning = [Fragment::new(sanitize_line(&command.about), theme.text)];
        lines.extend(entry(&name, &meaning, theme, width));
    }
    lines
}

/// Width of the column of keys and commands.
const NAME_WIDTH: usize = 21;

/// Returns the rows of a key or a command with its meaning beside it or, if that leaves little room, below it.
fn entry(name: &str, meaning: &[Fragment], theme: &Theme, width: usize) -> Vec<Line<'static>> {
    const MIN_WIDTH: usize = 30;
    const INDENT: usize = 4;
    let is_beside = width >= NAME_WIDTH + 1 + MIN_WIDTH;
    let indent = if is_beside { NAME_WIDTH + 1 } else { INDENT };
    let mut rows = wrap(meaning, width.saturating_sub(indent));
    for (index, row) in rows.iter_mut().enumerate() {
        let before = if is_beside && index == 0 { name } else { "" };
        row.spans.insert(0, Span::styled(format!("{before:<indent$}"), theme.accent));
    }
    if !is_beside {
        rows.insert(0, Line::styled(name.to_owned(), theme.accent));
    }
    rows
}
