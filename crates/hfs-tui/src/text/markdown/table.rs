//! Tables: columns as wide as there is room for, cells wrapped inside them.

use pulldown_cmark::Alignment;
use ratatui::style::Modifier;
use ratatui::text::{Line, Span};

use crate::text::{Piece, cells, wrap};
use crate::theme::Theme;

const SEPARATOR: &str = " │ ";
/// A column narrower than this cannot be read; then each row becomes a list of its fields.
const NARROWEST: usize = 4;

type CellText = Vec<Piece>;

pub struct Table {
    alignments: Vec<Alignment>,
    rows: Vec<Vec<CellText>>,
    current: Vec<CellText>,
}

impl Table {
    pub const fn new(alignments: Vec<Alignment>) -> Self {
        Self { alignments, rows: Vec::new(), current: Vec::new() }
    }

    pub fn cell(&mut self, cell: CellText) {
        self.current.push(cell);
    }

    pub fn end_row(&mut self) {
        self.rows.push(std::mem::take(&mut self.current));
    }

    pub fn lines(mut self, width: usize, theme: &Theme) -> Vec<Line<'static>> {
        if let Some(head) = self.rows.first_mut() {
            for piece in head.iter_mut().flatten() {
                piece.style = piece.style.patch(theme.title());
            }
        }
        match self.column_widths(width) {
            Some(widths) => self.grid(&widths, theme),
            None => self.fields(width, theme),
        }
    }

    /// `None` when the columns do not fit side by side.
    fn column_widths(&self, width: usize) -> Option<Vec<usize>> {
        let columns = self.alignments.len().max(1);
        let available = width.saturating_sub(cells(SEPARATOR) * (columns - 1));
        if available < NARROWEST * columns {
            return None;
        }
        let mut widths = vec![1; columns];
        for row in &self.rows {
            for (column, cell) in widths.iter_mut().zip(row) {
                *column = (*column).max(natural_width(cell).min(available));
            }
        }
        let mut excess = widths.iter().sum::<usize>().saturating_sub(available);
        while excess > 0 {
            let Some(widest) = widths.iter_mut().max() else { break };
            *widest = widest.saturating_sub(1).max(1);
            excess -= 1;
        }
        Some(widths)
    }

    fn grid(&self, widths: &[usize], theme: &Theme) -> Vec<Line<'static>> {
        let rule: Vec<String> = widths.iter().map(|width| "─".repeat(*width)).collect();
        let rule = || Line::from(Span::styled(rule.join("─┼─"), theme.frame));
        let mut lines = Vec::new();
        let rows: Vec<(Vec<Line<'static>>, usize)> =
            self.rows.iter().map(|row| self.grid_row(row, widths, theme)).collect();
        let any_tall = rows.iter().skip(1).any(|(_, height)| *height > 1);
        let last = rows.len().saturating_sub(1);
        for (index, (row, _)) in rows.into_iter().enumerate() {
            lines.extend(row);
            if index == 0 || (any_tall && index < last) {
                lines.push(rule());
            }
        }
        lines
    }

    fn grid_row(&self, row: &[CellText], widths: &[usize], theme: &Theme) -> (Vec<Line<'static>>, usize) {
        let empty = CellText::new();
        let columns: Vec<Vec<Line<'static>>> = widths
            .iter()
            .enumerate()
            .map(|(column, width)| wrap(row.get(column).unwrap_or(&empty), *width))
            .collect();
        let height = columns.iter().map(Vec::len).max().unwrap_or(1);
        let lines = (0..height).map(|line| {
            let mut spans = Vec::new();
            for (index, (column, width)) in columns.iter().zip(widths).enumerate() {
                if index > 0 {
                    spans.push(Span::styled(SEPARATOR, theme.frame));
                }
                let text = column.get(line).cloned().unwrap_or_default();
                let alignment = self.alignments.get(index).copied().unwrap_or(Alignment::None);
                spans.extend(padded(text, *width, alignment));
            }
            Line::from(spans)
        });
        (lines.collect(), height)
    }

    fn fields(&self, width: usize, theme: &Theme) -> Vec<Line<'static>> {
        let mut rows = self.rows.iter();
        let empty = Vec::new();
        let head = rows.next().unwrap_or(&empty);
        let mut lines = Vec::new();
        for row in rows {
            if !lines.is_empty() {
                lines.push(Line::from(Span::styled("─".repeat(width.min(12)), theme.frame)));
            }
            for (name, cell) in head.iter().zip(row) {
                let mut field = name.clone();
                field.push(Piece::new(": ", theme.text.add_modifier(Modifier::BOLD)));
                field.extend(cell.iter().cloned());
                lines.extend(wrap(&field, width));
            }
        }
        lines
    }
}

fn natural_width(cell: &CellText) -> usize {
    cell.iter().map(|piece| cells(&piece.text)).sum()
}

fn padded(text: Line<'static>, width: usize, alignment: Alignment) -> Vec<Span<'static>> {
    let space = width.saturating_sub(text.width());
    let before = match alignment {
        Alignment::Right => space,
        Alignment::Center => space / 2,
        Alignment::None | Alignment::Left => 0,
    };
    let mut spans = Vec::with_capacity(text.spans.len() + 2);
    spans.push(Span::raw(" ".repeat(before)));
    spans.extend(text.spans);
    spans.push(Span::raw(" ".repeat(space - before)));
    spans
}
