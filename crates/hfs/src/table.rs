//! Aligned columns.

use unicode_width::UnicodeWidthStr;

use crate::console::Palette;

/// A table that is drawn with spaces alone.
#[derive(Debug)]
pub struct Table {
    headings: Vec<&'static str>,
    right: Vec<bool>,
    flexible: usize,
    rows: Vec<Vec<String>>,
}

const GAP: &str = "  ";
/// The flexible column keeps at least this width, however narrow the screen.
const NARROWEST: usize = 16;

impl Table {
    /// An empty table. A heading that begins with `>` has its column aligned to the right. The column at
    /// `flexible` is shortened where the screen is too narrow.
    pub fn new(headings: &[&'static str], flexible: usize) -> Self {
        Self {
            headings: headings.iter().map(|heading| heading.trim_start_matches('>')).collect(),
            right: headings.iter().map(|heading| heading.starts_with('>')).collect(),
            flexible,
            rows: Vec::new(),
        }
    }

    /// Adds a row; its cells must be safe to show.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The table as lines, the headings first.
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

    fn widths(&self, screen: Option<usize>) -> Vec<usize> {
        let mut widths: Vec<usize> = self.headings.iter().map(|heading| heading.width()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.width());
            }
        }
        if let Some(screen) = screen {
            let all = widths.iter().sum::<usize>() + GAP.len() * widths.len().saturating_sub(1);
            let excess = all.saturating_sub(screen);
            if let Some(width) = widths.get_mut(self.flexible) {
                *width = width.saturating_sub(excess).max(NARROWEST.min(*width));
            }
        }
        widths
    }

    fn line(&self, cells: &[String], widths: &[usize]) -> String {
        let columns = cells.iter().zip(widths).zip(&self.right);
        let cells: Vec<String> = columns
            .map(|((cell, width), right)| {
                let cell = shorten(cell, *width);
                let padding = " ".repeat(width.saturating_sub(cell.width()));
                if *right { padding + &cell } else { cell + &padding }
            })
            .collect();
        cells.join(GAP).trim_end().to_owned()
    }
}

/// `text`, cut to at most `width` columns, with an ellipsis where something was cut.
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
    fn columns_line_up_whatever_the_width_of_their_letters() {
        let mut table = Table::new(&["ID", "NAME", ">COUNT"], 1);
        table.row(vec!["a".into(), "日本語".into(), "7".into()]);
        table.row(vec!["bcd".into(), "x".into(), "1234567".into()]);
        assert_eq!(
            table.render(&Palette::default(), None),
            "ID   NAME      COUNT\na    日本語        7\nbcd  x       1234567\n"
        );
    }

    #[test]
    fn the_flexible_column_gives_way_on_a_narrow_screen() {
        let mut table = Table::new(&["ID", "NAME"], 1);
        table.row(vec!["a".into(), "a long name that does not fit at all".into()]);
        assert_eq!(table.render(&Palette::default(), Some(24)), "ID  NAME\na   a long name that do…\n");
        assert_eq!(shorten("日本語", 5), "日本…");
        assert_eq!(shorten("日本語", 4), "日…");
    }
}
