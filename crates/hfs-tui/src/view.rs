//! The model as a picture. Pure: the same model gives the same picture.

mod chat;
mod sidebar;
mod status;
mod widgets;

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Modifier;
use ratatui::text::Line;

use crate::canvas;
use crate::model::{Marked, Model};
use crate::screens::Screen;

pub use chat::strip_lines;

/// Less than this cannot be drawn sensibly.
const SMALLEST: (u16, u16) = (30, 8);

/// Draws the model; returns where the terminal's cursor is, if it is seen.
pub fn view(model: &Model, frame: &mut Frame<'_>) -> Option<(u16, u16)> {
    let area = frame.area();
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        let text = format!("{}x{} is too small", area.width, area.height);
        canvas::line(frame.buffer_mut(), area, &Line::from(text));
        return None;
    }
    let cursor = draw(model, frame.buffer_mut(), area);
    finish(model, frame.buffer_mut());
    let cursor =
        cursor.map(|(x, y)| (x.min(area.right().saturating_sub(1)), y.min(area.bottom().saturating_sub(1))));
    if let Some(cursor) = cursor {
        frame.set_cursor_position(cursor);
    }
    cursor
}

fn draw(model: &Model, buffer: &mut Buffer, area: Rect) -> Option<(u16, u16)> {
    let look = &model.look;
    let screen = Rect { height: area.height.saturating_sub(1), ..area };
    let mut cursor = None;
    match &model.screen {
        Screen::Chat => cursor = Some(chat::view(model, buffer)),
        Screen::Sessions(list) => cursor = Some(list.view(buffer, screen, look)),
        Screen::Search(search) => cursor = Some(search.view(buffer, screen, look)),
        Screen::Timeline(timeline) => timeline.view(buffer, screen, look),
        Screen::Branches(branches) => branches.view(buffer, screen, look),
        Screen::Inspect(inspect) => inspect.view(buffer, screen, look, model.chat.is_busy(), &model.chat.run),
        Screen::Import(import) => import.view(buffer, screen, look),
        Screen::Export(export) => export.view(buffer, screen, look),
        Screen::Config(config) => config.view(buffer, screen, look),
        Screen::Plugins(plugins) => plugins.view(buffer, screen, look, &model.plugins),
        Screen::Help(help) => help.view(buffer, screen, look, &model.plugins),
    }
    status::view(model, buffer, Rect { y: screen.bottom(), height: 1, ..area });
    for modal in &model.modals {
        cursor = modal.view(buffer, screen, look, &model.plugins);
    }
    cursor
}

/// What is done to every cell at last: marks, the terminal's colours, and a second lock on the door that no
/// control character goes through.
fn finish(model: &Model, buffer: &mut Buffer) {
    let theme = &model.look.theme;
    let (width, reduce) = (buffer.area.width, theme.is_reduced());
    for (index, cell) in buffer.content.iter_mut().enumerate() {
        let index = u16::try_from(index).unwrap_or(u16::MAX);
        if let Some(marked) = &model.marked
            && marked.from != marked.to
            && marked.columns(index / width, width).is_some_and(|columns| columns.contains(&(index % width)))
        {
            cell.modifier.toggle(Modifier::REVERSED);
        }
        if reduce {
            cell.fg = theme.reduce(cell.fg);
            cell.bg = theme.reduce(cell.bg);
        }
        if cell.symbol().chars().any(char::is_control) {
            cell.set_symbol("\u{FFFD}");
        }
    }
}

/// The text that is marked in a picture, a line for each row.
#[must_use]
pub fn marked_text(buffer: &Buffer, marked: Marked) -> String {
    let mut rows = Vec::new();
    for y in 0..buffer.area.height {
        let Some(columns) = marked.columns(y, buffer.area.width) else { continue };
        let mut row = String::new();
        let mut covered = 0;
        for x in columns {
            if covered > 0 {
                covered -= 1;
                continue;
            }
            let Some(cell) = buffer.cell((x, y)) else { continue };
            covered = crate::text::cells(cell.symbol()).saturating_sub(1);
            row.push_str(cell.symbol());
        }
        rows.push(row.trim_end().to_owned());
    }
    rows.join("\n")
}

#[cfg(test)]
mod tests;
