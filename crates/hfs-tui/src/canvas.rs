//! Drawing on the screen's buffer: the few shapes that every screen is made of.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Clear, Widget};

use crate::look::Look;
use crate::text::cells;
use crate::theme::Theme;

/// A number of cells as coordinates are counted.
#[must_use]
pub fn as_u16(cells: usize) -> u16 {
    u16::try_from(cells).unwrap_or(u16::MAX)
}

/// The part of `area` in row number `row`, or nothing below its end.
#[must_use]
pub fn row(area: Rect, row: usize) -> Rect {
    let row = as_u16(row);
    if row >= area.height {
        return Rect { height: 0, ..area };
    }
    Rect { y: area.y + row, height: 1, ..area }
}

/// Draws lines from the top of `area`; what does not fit is left out.
pub fn lines<'a>(buffer: &mut Buffer, area: Rect, lines: impl IntoIterator<Item = Line<'a>>) {
    for (line, y) in lines.into_iter().zip(area.top()..area.bottom()) {
        buffer.set_line(area.x, y, &line, area.width);
    }
}

/// Draws one line in one row.
pub fn line(buffer: &mut Buffer, area: Rect, line: &Line<'_>) {
    if area.height > 0 {
        buffer.set_line(area.x, area.y, line, area.width);
    }
}

/// Draws text so that it ends at the right edge; returns how many cells it took.
pub fn right(buffer: &mut Buffer, area: Rect, line: &Line<'_>) -> u16 {
    let width = as_u16(line.width()).min(area.width);
    if area.height > 0 {
        buffer.set_line(area.right() - width, area.y, line, width);
    }
    width
}

/// A frame with a title; returns what is inside.
pub fn panel(buffer: &mut Buffer, area: Rect, title: Line<'_>, theme: &Theme, strong: bool) -> Rect {
    let border = if strong { theme.accent } else { theme.frame };
    let block = Block::bordered().border_type(BorderType::Rounded).border_style(border).title(title);
    let inner = block.inner(area);
    block.render(area, buffer);
    inner
}

/// A window over the screen, in its middle, with room for content of this size; returns the inside.
pub fn window(
    buffer: &mut Buffer,
    screen: Rect,
    title: Line<'_>,
    theme: &Theme,
    size: (usize, usize),
) -> Rect {
    let width = as_u16(size.0 + 4).min(screen.width.saturating_sub(2));
    let height = as_u16(size.1 + 2).min(screen.height);
    let area = Rect {
        x: screen.x + (screen.width.saturating_sub(width)) / 2,
        y: screen.y + (screen.height.saturating_sub(height)) / 3,
        width,
        height,
    };
    let around = Rect { x: area.x.saturating_sub(1), width: area.width + 2, ..area }.intersection(screen);
    Clear.render(around, buffer);
    let inner = panel(buffer, area, title, theme, true);
    Rect { x: inner.x + 1, width: inner.width.saturating_sub(2), ..inner }
}

/// Keys and what they do, as `Enter open · Esc back`, as many as there is room for.
#[must_use]
pub fn hints(pairs: &[(&str, &str)], theme: &Theme, width: usize) -> Line<'static> {
    let mut spans: Vec<Span<'static>> = Vec::new();
    let mut used = 0;
    for (key, meaning) in pairs {
        let needed = cells(key) + cells(meaning) + 1 + if spans.is_empty() { 0 } else { 3 };
        if used + needed > width {
            break;
        }
        used += needed;
        if !spans.is_empty() {
            spans.push(Span::styled(" · ", theme.frame));
        }
        spans.push(Span::styled((*key).to_owned(), theme.accent));
        spans.push(Span::styled(format!(" {meaning}"), theme.dim));
    }
    Line::from(spans)
}

/// The frame that all screens but the chat share: a title above, keys below; returns what lies between.
pub fn screen(
    buffer: &mut Buffer,
    area: Rect,
    look: &Look,
    title: &str,
    subtitle: &str,
    keys: &[(&str, &str)],
) -> Rect {
    let theme = &look.theme;
    let head = Line::from(vec![
        Span::styled(format!(" {title}"), theme.title()),
        Span::styled(format!("  {subtitle}"), theme.dim),
    ]);
    line(buffer, row(area, 0), &head);
    let rule = Line::styled("─".repeat(usize::from(area.width)), theme.frame);
    line(buffer, row(area, 1), &rule);
    let foot = Rect { y: area.bottom().saturating_sub(1), height: area.height.min(1), ..area };
    let foot = Rect { x: foot.x + 1, width: foot.width.saturating_sub(2), ..foot };
    line(buffer, foot, &hints(keys, theme, usize::from(foot.width)));
    Rect {
        x: area.x + 1,
        y: area.y + 2,
        width: area.width.saturating_sub(2),
        height: area.height.saturating_sub(4),
    }
}

/// Fills a row with a style, as for the one that is selected.
pub fn fill(buffer: &mut Buffer, area: Rect, style: Style) {
    buffer.set_style(area, style);
}

/// A bar that is full to `ratio`, `width` cells long, with eighths of a cell.
#[must_use]
pub fn bar(ratio: f64, width: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let ratio = if ratio.is_finite() { ratio.clamp(0.0, 1.0) } else { 0.0 };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let eighths = (ratio * width as f64 * 8.0).round() as usize;
    let full = "█".repeat(eighths / 8);
    format!("{full}{}", EIGHTHS.get(eighths % 8).copied().unwrap_or_default())
}
