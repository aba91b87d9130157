//! Text in columns.

/// The rows as lines with their columns aligned, the last one ragged.
pub fn aligned<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let mut widths = [0; COLUMNS];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join(" | ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_whatever_letters_they_hold() {
        let rows = [["a", "µs", "x"], ["long", "b", ""]].map(|row| row.map(str::to_owned));
        assert_eq!(aligned(&rows), "a    | µs | x\nlong | b  |\n");
    }
}
