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
    /// is shortened if the table does not fit the terminal. If that is not enough, the last columns are left out, and a line below
    /// the table names them.
    pub fn new(headings: &[&'static str], flexible: usize) -> Self {
        Self {
            headings: headings.iter().map(|heading| heading.trim_start_matches('>')).collect(),
            right_aligned: headings.iter().map(|heading| heading.starts_with('>')).collect(),
            flexible,
            rows: Vec::new(),
        }
    }

    /// Adds a row of sanitized cells. A row of one cell is a title, which may be wider than its column.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The table as text; `width` is that of the terminal.
    pub fn render(&self, palette: &Palette, width: Option<usize>) -> String {
        let widths = self.widths(width);
        let headings: Vec<String> = self.headings.iter().map(|heading| (*heading).to_owned()).collect();
        let mut out = format!("{0}{1}{0:#}\n", palette.heading, self.line(&headings, &widths));
        for row in &self.rows {
            let line = match row.as_slice() {
                [title] => width.map_or_else(|| title.clone(), |width| shorten(title, width)),
                cells => self.line(cells, &widths),
            };
            out.push_str(&line);
            out.push('\n');
        }
        let left_out = self.headings.iter().zip(&widths).filter(|(_, width)| width.is_none());
        let left_out: Vec<&str> = left_out.map(|(heading, _)| *heading).collect();
        if !left_out.is_empty() {
            out.push_str(&format!("too narrow for {}; --json prints everything\n", left_out.join(", ")));
        }
        out
    }

    /// The width of each column; `None` for those that are left out.
    fn widths(&self, available: Option<usize>) -> Vec<Option<usize>> {
        let mut widths: Vec<usize> = self.headings.iter().map(|heading| heading.width()).collect();
        for row in self.rows.iter().filter(|row| row.len() > 1) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.width());
            }
        }
        let mut widths: Vec<Option<usize>> = widths.into_iter().map(Some).collect();
        let Some(available) = available else { return widths };
        let excess = |widths: &[Option<usize>]| {
            let shown = widths.iter().flatten();
            let total = shown.clone().sum::<usize>() + GAP.len() * shown.count().saturating_sub(1);
            total.saturating_sub(available)
        };
        let flexible = widths.get(self.flexible).copied().flatten().unwrap_or(0);
        let reserve = flexible.saturating_sub(MIN_FLEXIBLE_WIDTH);
        for index in (1..widths.len()).rev().filter(|index| *index != self.flexible) {
            if excess(&widths) <= reserve {
                break;
            }
            if let Some(width) = widths.get_mut(index) {
                *width = None;
            }
        }
        let excess = excess(&widths).min(reserve);
        if let Some(Some(width)) = widths.get_mut(self.flexible) {
            *width -= excess;
        }
        widths
    }

    fn line(&self, cells: &[String], widths: &[Option<usize>]) -> String {
        let columns = cells.iter().zip(widths).zip(&self.right_aligned);
        let cells: Vec<String> = columns
            .filter_map(|((cell, width), right_aligned)| {
                let width = (*width)?;
                let cell = shorten(cell, width);
                let padding = " ".repeat(width.saturating_sub(cell.width()));
                Some(if *right_aligned { padding + &cell } else { cell + &padding })
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
    fn columns_that_do_not_fit_are_left_out_and_named() {
        let mut table = Table::new(&["NAME", ">CALLS", ">FILES", ">TIME"], 0);
        table.row(vec!["a name that is long".into(), "1,234".into(), "5".into(), "6 min".into()]);
        table.row(vec!["a title that is longer than any of the names".into()]);
        let render = |width| table.render(&Palette::default(), Some(width));
        assert_eq!(
            render(50),
            "NAME                 CALLS  FILES   TIME\na name that is long  1,234      5  6 min\n\
             a title that is longer than any of the names\n"
        );
        assert_eq!(
            render(30),
            "NAME              CALLS  FILES\na name that is …  1,234      5\na title that is longer than a…\n\
             too narrow for TIME; --json prints everything\n"
        );
        assert!(render(10).contains("too narrow for CALLS, FILES, TIME"), "{}", render(10));
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
