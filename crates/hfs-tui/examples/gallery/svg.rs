//! Renders a frame as SVG.

use std::fmt::Write;

use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};

use crate::ports::Background;
use crate::text::display_width;

/// Font size, in pixels.
const FONT_SIZE: f32 = 14.0;
/// Width and height of a cell, in pixels. The width is the advance of DejaVu Sans Mono and of Menlo, 0.602 of the font
/// size, so that text needs no `textLength`: browsers would stretch the words of a line whose font is narrower.
const CELL: (f32, f32) = (0.602 * FONT_SIZE, 18.0);
/// Space around the frame, in pixels.
const PADDING: f32 = 12.0;

/// Renders a frame and its cursor.
#[must_use]
pub fn svg(buffer: &Buffer, cursor: Option<(u16, u16)>, background: Background) -> String {
    let (default_bg, default_fg) = match background {
        Background::Dark | Background::Unknown => ("#1c1917", "#e7e5e4"),
        Background::Light => ("#fffdf8", "#292524"),
    };
    let (width, height) = (buffer.area.width, buffer.area.height);
    let total = (f32::from(width) * CELL.0 + 2.0 * PADDING, f32::from(height) * CELL.1 + 2.0 * PADDING);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{:.0}\" height=\"{:.0}\" viewBox=\"0 0 {:.0} {:.0}\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{default_bg}\"/>\n\
         <g font-family=\"DejaVu Sans Mono, Menlo, Consolas, monospace\" font-size=\"{FONT_SIZE}\" style=\"white-space: pre\">\n",
        total.0, total.1, total.0, total.1
    );
    for y in 0..height {
        let mut x = 0;
        while x < width {
            let Some(cell) = buffer.cell((x, y)) else { break };
            // Adjacent ASCII characters in one style form one run. Every other character is a run of its own, because the
            // width of such characters differs between fonts.
            let mut text = cell.symbol().to_owned();
            let mut end = x + u16::try_from(display_width(cell.symbol()).max(1)).unwrap_or(1);
            while text.is_ascii() && end < width {
                let Some(next) = buffer.cell((end, y)) else { break };
                if !next.symbol().is_ascii() || style(next) != style(cell) {
                    break;
                }
                text.push_str(next.symbol());
                end += 1;
            }
            let colors = Colors::new(cell, default_bg, default_fg);
            if let Some(bg) = &colors.bg {
                write_background(&mut out, (x, y), end - x, bg);
            }
            write_text(&mut out, (x, y), &text, cell.modifier, &colors.fg);
            x = end;
        }
    }
    if let Some((x, y)) = cursor {
        let (left, top) = pixels(x, y);
        let _ = writeln!(
            out,
            "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"2\" height=\"{}\" fill=\"#f59e0b\"/>",
            CELL.1
        );
    }
    out.push_str("</g>\n</svg>\n");
    out
}

fn pixels(x: u16, y: u16) -> (f32, f32) {
    (PADDING + f32::from(x) * CELL.0, PADDING + f32::from(y) * CELL.1)
}

fn style(cell: &Cell) -> (Color, Color, Modifier) {
    (cell.fg, cell.bg, cell.modifier)
}

struct Colors {
    fg: String,
    bg: Option<String>,
}

impl Colors {
    fn new(cell: &Cell, default_bg: &str, default_fg: &str) -> Self {
        let mut fg = hex(cell.fg).unwrap_or_else(|| default_fg.to_owned());
        let mut bg = hex(cell.bg);
        if cell.modifier.contains(Modifier::REVERSED) {
            let swapped = bg.unwrap_or_else(|| default_bg.to_owned());
            bg = Some(std::mem::replace(&mut fg, swapped));
        }
        Self { fg, bg }
    }
}

fn write_background(out: &mut String, (x, y): (u16, u16), columns: u16, color: &str) {
    let (left, top) = pixels(x, y);
    let width = f32::from(columns) * CELL.0;
    let _ = writeln!(
        out,
        "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{}\" fill=\"{color}\"/>",
        CELL.1
    );
}

/// Writes the words of a run. Words that are more than one blank apart are elements of their own and blanks at the ends
/// are not written, so that the picture does not depend on how a viewer treats blanks.
fn write_text(out: &mut String, (x, y): (u16, u16), text: &str, modifier: Modifier, color: &str) {
    let mut attributes = String::new();
    for (flag, attribute) in [
        (Modifier::BOLD, " font-weight=\"bold\""),
        (Modifier::ITALIC, " font-style=\"italic\""),
        (Modifier::UNDERLINED, " text-decoration=\"underline\""),
        (Modifier::CROSSED_OUT, " text-decoration=\"line-through\""),
        (Modifier::DIM, " opacity=\"0.6\""),
    ] {
        if modifier.contains(flag) {
            attributes.push_str(attribute);
        }
    }
    let mut column = x;
    for words in text.split("  ") {
        let blanks = words.len() - words.trim_start().len();
        let (left, top) = pixels(column + u16::try_from(blanks).unwrap_or(0), y);
        let baseline = top + CELL.1 * 0.75;
        column += u16::try_from(display_width(words) + 2).unwrap_or(0);
        let words = words.trim();
        if words.is_empty() {
            continue;
        }
        let escaped = words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let _ = writeln!(
            out,
            "<text x=\"{left:.1}\" y=\"{baseline:.1}\" fill=\"{color}\"{attributes}>{escaped}</text>"
        );
    }
}

fn hex(color: Color) -> Option<String> {
    let named = |text: &str| Some(text.to_owned());
    match color {
        Color::Rgb(r, g, b) => Some(format!("#{r:02x}{g:02x}{b:02x}")),
        Color::Black => named("#000000"),
        Color::Red | Color::LightRed => named("#cd3131"),
        Color::Green | Color::LightGreen => named("#0dbc79"),
        Color::Yellow | Color::LightYellow => named("#c5a332"),
        Color::Blue | Color::LightBlue => named("#2472c8"),
        Color::Magenta | Color::LightMagenta => named("#bc3fbc"),
        Color::Cyan | Color::LightCyan => named("#11a8cd"),
        Color::Gray | Color::White => named("#e5e5e5"),
        Color::DarkGray => named("#666666"),
        Color::Reset | Color::Indexed(_) => None,
    }
}
