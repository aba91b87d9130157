//! Tables with aligned columns.

use unicode_width::UnicodeWidthStr;

use super::console::Palette;

/// A table without lines: columns are separated by spaces.
#[derive(Debug)]
pub struct Table {
    headings: Vec<&'static str>,
    right_aligned: Vec<bool>,
    flexible: usize,
    rows: Vec<Vec<String>>,
}

const GAP: &str = "  ";
/// The flexible column is never shortened below this width.
const MIN_FLEXIBLE_WIDTH: usize = 16;

impl Table {
    /// An empty table. A heading that starts with `>` aligns its column to the right. The column with index `flexible`
    /// is shortened if the table does not fit the terminal.
    pub fn new(headings: &[&'static str], flexible: usize) -> Self {
        Self {
            headings: headings.iter().map(|heading| heading.trim_start_matches('>')).collect(),
            right_aligned: headings.iter().map(|heading| heading.starts_with('>')).collect(),
            flexible,
            rows: Vec::new(),
        }
    }

    /// Adds a row of sanitized cells.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The table as text; `width` is that of the terminal.
    pub fn render(&self, palette: &Palette, width: Option<usize>) -> String {
        let widths = self.widths(width);
        let headings: Vec<String> = self.headings.iter().map(|heading| (*heading).to_owned()).collect();
        let mut out = format!("{0}{1}{0:#}\n", palette.heading, self.line(&headings, &widths));
        for row in &self.rows {
            out.push_str(&self.line(row, &widths));
            out.push('\n');
        }
        out
    }

    fn widths(&self, available: Option<usize>) -> Vec<usize> {
        let mut widths: Vec<usize> = self.headings.iter().map(|heading| heading.width()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.width());
            }
        }
        if let Some(available) = available {
            let total = widths.iter().sum::<usize>() + GAP.len() * widths.len().saturating_sub(1);
            let excess = total.saturating_sub(available);
            if let Some(width) = widths.get_mut(self.flexible) {
                *width = width.saturating_sub(excess).max(MIN_FLEXIBLE_WIDTH.min(*width));
            }
        }
        widths
    }

    fn line(&self, cells: &[String], widths: &[usize]) -> String {
        let columns = cells.iter().zip(widths).zip(&self.right_aligned);
        let cells: Vec<String> = columns
            .map(|((cell, width), right_aligned)| {
                let cell = shorten(cell, *width);
                let padding = " ".repeat(width.saturating_sub(cell.width()));
                if *right_aligned { padding + &cell } else { cell + &padding }
            })
            .collect();
        cells.join(GAP).trim_end().to_owned()
    }
}

/// `text`, shortened to at most `width` columns; an ellipsis replaces the rest.
pub fn shorten(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut out = String::new();
    for c in text.chars() {
        out.push(c);
        if out.width() >= width {
            out.pop();
            break;
        }
    }
    out.push('…');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_with_wide_characters() {
        let mut table = Table::new(&["ID", "NAME", ">COUNT"], 1);
        table.row(vec!["a".into(), "日本語".into(), "7".into()]);
        table.row(vec!["bcd".into(), "x".into(), "1234567".into()]);
        assert_eq!(
            table.render(&Palette::default(), None),
            "ID   NAME      COUNT\na    日本語        7\nbcd  x       1234567\n"
        );
    }

    #[test]
    fn the_flexible_column_is_shortened_on_a_narrow_terminal() {
        let mut table = Table::new(&["ID", "NAME"], 1);
        table.row(vec!["a".into(), "a long name that does not fit at all".into()]);
        assert_eq!(table.render(&Palette::default(), Some(24)), "ID  NAME\na   a long name that do…\n");
        assert_eq!(shorten("日本語", 5), "日本…");
        assert_eq!(shorten("日本語", 4), "日…");
    }
}
