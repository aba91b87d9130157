//! Shapes that the screens share: lines, panels, windows, key hints, bars, scroll marks.

use std::ops::Range;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Clear, Widget};

use crate::render::RenderContext;
use crate::text::{display_width, truncate};
use crate::theme::Theme;

/// Converts a number of cells to a coordinate, saturating.
#[must_use]
pub fn as_u16(cells: usize) -> u16 {
    u16::try_from(cells).unwrap_or(u16::MAX)
}

/// Returns row number `row` of `area`; its height is 0 if `area` has fewer rows.
#[must_use]
pub fn row(area: Rect, row: usize) -> Rect {
    let row = as_u16(row);
    if row >= area.height {
        return Rect { height: 0, ..area };
    }
    Rect { y: area.y + row, height: 1, ..area }
}

/// Returns the part of `area` from row number `row`.
#[must_use]
pub fn below(area: Rect, row: usize) -> Rect {
    let row = as_u16(row).min(area.height);
    Rect { y: area.y + row, height: area.height - row, ..area }
}

/// Draws lines from the top of `area`, as many as fit.
pub fn lines<'a>(buffer: &mut Buffer, area: Rect, lines: impl IntoIterator<Item = Line<'a>>) {
    for (content, y) in lines.into_iter().zip(area.top()..area.bottom()) {
        line(buffer, Rect { y, height: 1, ..area }, &content);
    }
}

/// Draws lines from row number `first`, as many as fit, and marks which part of them is visible.
pub fn scrolled_lines(buffer: &mut Buffer, area: Rect, all: Vec<Line<'static>>, first: usize, theme: &Theme) {
    let end = all.len().min(first + usize::from(area.height));
    scroll_mark(buffer, area, &(first.min(end)..end), all.len(), theme);
    lines(buffer, area, all.into_iter().skip(first));
}

/// The area inside a window or panel up to its right border, without the blank column between them.
#[must_use]
pub fn to_border(inner: Rect) -> Rect {
    Rect { width: inner.width + 1, ..inner }
}

/// Marks which of `length` rows are visible, in the column right of `area`, unless all are. The mark touches an end of the area
/// only if the first or last row is visible.
pub fn scroll_mark(buffer: &mut Buffer, area: Rect, visible: &Range<usize>, length: usize, theme: &Theme) {
    let height = usize::from(area.height);
    if visible.len() >= length || height == 0 || area.right() >= buffer.area.right() {
        return;
    }
    let hidden = length - visible.len();
    // Leaves a row for what is above, and one for what is below.
    let mark = (height * visible.len() / length).clamp(1, height.saturating_sub(2).max(1));
    let room = height - mark;
    let top = match (visible.start, visible.end) {
        (0, _) => 0,
        (_, end) if end >= length => room,
        (start, _) => (start * room / hidden).max(1).min(room.saturating_sub(1)),
    };
    for y in (0..height).skip(top).take(mark) {
        buffer.set_string(area.right(), area.y + as_u16(y), "┃", theme.dim);
    }
}

/// Draws one line at the top of `area`. If it does not fit, it ends with an ellipsis.
pub fn line(buffer: &mut Buffer, area: Rect, line: &Line<'_>) {
    if area.height == 0 {
        return;
    }
    if line.width() <= usize::from(area.width) {
        buffer.set_line(area.x, area.y, line, area.width);
    } else {
        buffer.set_line(area.x, area.y, &cut(line, usize::from(area.width)), area.width);
    }
}

/// Draws a right-aligned line and returns its width.
pub fn right_aligned(buffer: &mut Buffer, area: Rect, line: &Line<'_>) -> u16 {
    let width = as_u16(line.width()).min(area.width);
    if area.height > 0 {
        buffer.set_line(area.right() - width, area.y, line, width);
    }
    width
}

/// Draws a border with a title and returns the area inside.
pub fn panel(buffer: &mut Buffer, area: Rect, title: Line<'_>, theme: &Theme, highlighted: bool) -> Rect {
    let border = if highlighted { theme.accent } else { theme.border };
    let block = Block::bordered().border_type(BorderType::Rounded).border_style(border).title(title);
    let inner = block.inner(area);
    block.render(area, buffer);
    inner
}

/// Draws a window for content of this width and height, and returns the area inside. The window is centred horizontally,
/// and its top is a third of the free rows below the top of the screen.
pub fn window(
    buffer: &mut Buffer,
    screen: Rect,
    title: Line<'_>,
    theme: &Theme,
    size: (usize, usize),
) -> Rect {
    // The border, and inside it a blank column on the left and on the right.
    let width = as_u16(size.0 + 4).min(screen.width.saturating_sub(2));
    let height = as_u16(size.1 + 2).min(screen.height);
    let area = Rect {
        x: screen.x + (screen.width.saturating_sub(width)) / 2,
        y: screen.y + (screen.height.saturating_sub(height)) / 3,
        width,
        height,
    };
    // One blank column on each side separates the window from the text below it.
    let cleared = Rect { x: area.x.saturating_sub(1), width: area.width + 2, ..area }.intersection(screen);
    Clear.render(cleared, buffer);
    let inner = panel(buffer, area, title, theme, true);
    Rect { x: inner.x + 1, width: inner.width.saturating_sub(2), ..inner }
}

/// Formats keys with their meaning, such as `Enter open · Esc back`. Pairs that do not fit are left out, the last ones first;
/// Esc, which leaves the screen, stays as long as one other key does.
#[must_use]
pub fn hints(pairs: &[(&str, &str)], theme: &Theme, width: usize) -> Line<'static> {
    const GAP: &str = " · ";
    let (pairs, esc) = match pairs.split_last() {
        Some((esc @ ("Esc", _), others)) => (others, Some(esc)),
        Some(_) | None => (pairs, None),
    };
    let width_of = |count: usize, esc: Option<&(&str, &str)>| {
        let shown = pairs.iter().take(count).chain(esc);
        let widths = shown.map(|(key, meaning)| display_width(&format!("{key} {meaning}{GAP}")));
        widths.sum::<usize>().saturating_sub(display_width(GAP))
    };
    let with_esc = (1..=pairs.len()).rev().map(|count| (count, esc));
    let without = (1..=pairs.len()).rev().map(|count| (count, None));
    let fits = |(count, esc): &(usize, Option<_>)| width_of(*count, *esc) <= width;
    let alone = std::iter::once((0, esc));
    let (count, last) = with_esc.chain(without).chain(alone).find(fits).unwrap_or((0, None));
    let mut spans: Vec<Span<'static>> = Vec::new();
    for (key, meaning) in pairs.iter().take(count).chain(last) {
        if !spans.is_empty() {
            spans.push(Span::styled(GAP, theme.border));
        }
        spans.push(Span::styled((*key).to_owned(), theme.accent));
        spans.push(Span::styled(format!(" {meaning}"), theme.dim));
    }
    Line::from(spans)
}

/// Cuts a line that is wider than `width`, and marks the cut, unless only spaces are cut.
fn cut(line: &Line<'_>, width: usize) -> Line<'static> {
    let whole: String = line.spans.iter().map(|span| span.content.as_ref()).collect();
    let keeps_end = display_width(whole.trim_end()) <= width;
    let mut room = width;
    let mut spans = Vec::new();
    for span in &line.spans {
        let text = if keeps_end || display_width(&span.content) < room {
            span.content.clone().into_owned()
        } else {
            // The space is cut, so the ellipsis is added also if exactly this span fits.
            truncate(&format!("{} ", span.content), room)
        };
        room = room.saturating_sub(display_width(&text));
        spans.push(Span::styled(text, span.style));
        if room == 0 {
            break;
        }
    }
    Line { spans, style: line.style, alignment: line.alignment }
}

/// Returns the first of several texts, the longest first, that is at most `width` cells wide, or else the last one.
#[must_use]
pub fn longest_fitting<const N: usize>(texts: [String; N], width: usize) -> String {
    let mut texts = texts.into_iter().peekable();
    while let Some(text) = texts.next() {
        if display_width(&text) <= width || texts.peek().is_none() {
            return text;
        }
    }
    String::new()
}

/// Draws the title and the key hints of a screen and returns the area between them.
pub fn screen(
    buffer: &mut Buffer,
    area: Rect,
    render: &RenderContext,
    title: &str,
    subtitle: &str,
    keys: &[(&str, &str)],
) -> Rect {
    let theme = &render.theme;
    let head = Line::from(vec![
        Span::styled(format!(" {title}"), theme.title()),
        Span::styled(format!("  {subtitle}"), theme.dim),
    ]);
    line(buffer, row(area, 0), &head);
    let rule = Line::styled("─".repeat(usize::from(area.width)), theme.border);
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

/// Applies a style to an area, for example to the selected row.
pub fn fill(buffer: &mut Buffer, area: Rect, style: Style) {
    buffer.set_style(area, style);
}

/// Formats a bar of at most `width` cells, filled to `ratio` with a precision of an eighth of a cell.
#[must_use]
pub fn bar(ratio: f64, width: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let ratio = if ratio.is_finite() { ratio.clamp(0.0, 1.0) } else { 0.0 };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let eighths = (ratio * width as f64 * 8.0).round() as usize;
    let full = "█".repeat(eighths / 8);
    format!("{full}{}", EIGHTHS.get(eighths % 8).copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn esc_stays_when_not_all_hints_fit() {
        let theme = Theme::dark();
        let pairs = [("Enter", "open"), ("Tab", "next"), ("Ctrl+D", "delete"), ("Esc", "back")];
        let shown = |width| hints(&pairs, &theme, width).to_string();
        assert_eq!(shown(80), "Enter open · Tab next · Ctrl+D delete · Esc back");
        assert_eq!(shown(40), "Enter open · Tab next · Esc back");
        assert_eq!(shown(25), "Enter open · Esc back");
        assert_eq!(shown(12), "Enter open");
        assert_eq!(shown(8), "Esc back");
        assert_eq!(shown(7), "");
        let pairs = [("Enter", "send"), ("Ctrl+J", "new line"), ("Ctrl+G", "editor")];
        assert_eq!(hints(&pairs, &theme, 30).to_string(), "Enter send · Ctrl+J new line");
    }

    #[test]
    fn a_part_of_a_list_is_marked_at_its_place() {
        let theme = Theme::dark();
        let marked = |visible: Range<usize>, length, height| -> String {
            let mut buffer = Buffer::empty(Rect::new(0, 0, 4, height));
            scroll_mark(&mut buffer, Rect::new(0, 0, 3, height), &visible, length, &theme);
            (0..height).map(|y| if buffer[(3, y)].symbol() == "┃" { '#' } else { '.' }).collect()
        };
        assert_eq!(marked(0..8, 8, 8), "........", "nothing is hidden");
        assert_eq!(marked(0..8, 25, 8), "##......");
        assert_eq!(marked(1..9, 25, 8), ".##.....", "something is above");
        assert_eq!(marked(16..24, 25, 8), ".....##.", "something is below");
        assert_eq!(marked(17..25, 25, 8), "......##");
        assert_eq!(marked(0..8, 9, 8), "######..");
        assert_eq!(marked(500..508, 100_000, 8), ".#......");
        assert_eq!(marked(0..1, 2, 1), "#");
        assert_eq!(marked(0..0, 3, 0), "");
        // No column is left for a mark.
        let mut buffer = Buffer::empty(Rect::new(0, 0, 3, 2));
        scroll_mark(&mut buffer, Rect::new(0, 0, 3, 2), &(0..2), 9, &theme);
        assert_eq!(buffer, Buffer::empty(Rect::new(0, 0, 3, 2)));
    }

    #[test]
    fn a_line_that_is_cut_ends_with_an_ellipsis() {
        let line = || Line::from(vec![Span::raw("one "), Span::raw("two "), Span::raw("日本")]);
        let shown = |width| cut(&line(), width).to_string();
        assert_eq!(shown(11), "one two 日…");
        assert_eq!(shown(8), "one two…");
        assert_eq!(shown(4), "one…");
        for width in 0..12 {
            assert!(cut(&line(), width).width() <= width);
        }
        assert_eq!(cut(&Line::raw("padded    "), 8).to_string().trim_end(), "padded");
    }
}
