//! What plugins show, drawn from their node trees.

use ratatui::text::{Line, Span};

use super::chat::tone_style;
use crate::canvas;
use crate::parts::{Node, Widget};
use crate::text::{cells, clip, one_line};
use crate::theme::Theme;

/// Rows of one widget at most, whatever a plugin sends.
const ROWS: usize = 12;

/// A widget as lines.
pub fn lines(widget: &Widget, width: usize, theme: &Theme) -> Vec<Line<'static>> {
    let mut lines: Vec<Line<'static>> =
        widget.nodes.iter().flat_map(|node| node_lines(node, width, theme)).collect();
    lines.truncate(ROWS);
    lines
}

/// A widget on one row, as in the status bar: its texts.
pub fn one_row(widget: &Widget) -> String {
    let texts = widget.nodes.iter().filter_map(|node| match node {
        Node::Text(spans) => Some(spans.iter().map(|(text, _)| text.as_str()).collect::<String>()),
        Node::Gauge { label, ratio } => Some(format!("{label} {:.0} %", ratio.clamp(0.0, 1.0) * 100.0)),
        Node::Table { .. } | Node::Sparkline { .. } => None,
    });
    one_line(&texts.collect::<Vec<_>>().join(" "))
}

fn node_lines(node: &Node, width: usize, theme: &Theme) -> Vec<Line<'static>> {
    match node {
        Node::Text(spans) => {
            let mut room = width;
            let spans = spans.iter().map(|(text, tone)| {
                let before = if text.starts_with(' ') { " " } else { "" };
                let after = if text.len() > 1 && text.ends_with(' ') { " " } else { "" };
                let text = clip(&format!("{before}{}{after}", one_line(text)), room);
                room = room.saturating_sub(cells(&text));
                Span::styled(text, tone_style(*tone, theme))
            });
            vec![Line::from(spans.collect::<Vec<_>>())]
        }
        Node::Gauge { label, ratio } => {
            let label = clip(&one_line(label), width / 2);
            let bars = width.saturating_sub(cells(&label) + 7).max(3);
            vec![Line::from(vec![
                Span::styled(format!("{label} "), theme.text),
                Span::styled(format!("{:<bars$}", canvas::bar(*ratio, bars)), theme.accent),
                Span::styled(format!(" {:>3.0} %", ratio.clamp(0.0, 1.0) * 100.0), theme.dim),
            ])]
        }
        Node::Table { header, rows } => table_lines(header, rows, width, theme),
        Node::Sparkline { values } => vec![Line::styled(sparkline(values, width), theme.accent)],
    }
}

fn table_lines(header: &[String], rows: &[Vec<String>], width: usize, theme: &Theme) -> Vec<Line<'static>> {
    let columns = rows.iter().map(Vec::len).chain([header.len()]).max().unwrap_or(0).max(1);
    let column = (width.saturating_sub(columns - 1) / columns).max(1);
    let line = |cells: &[String], style| {
        let texts = cells.iter().map(|cell| format!("{:<column$}", clip(&one_line(cell), column)));
        Line::styled(texts.collect::<Vec<_>>().join(" "), style)
    };
    let head = (!header.is_empty()).then(|| line(header, theme.dim));
    head.into_iter().chain(rows.iter().take(ROWS).map(|row| line(row, theme.text))).collect()
}

fn sparkline(values: &[u64], width: usize) -> String {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let newest = values.get(values.len().saturating_sub(width)..).unwrap_or_default();
    let most = newest.iter().copied().max().unwrap_or(0).max(1);
    let level = |value: u64| {
        let index = u128::from(value) * 7 / u128::from(most);
        LEVELS.get(usize::try_from(index).unwrap_or(7)).copied().unwrap_or('█')
    };
    newest.iter().map(|value| level(*value)).collect()
}
