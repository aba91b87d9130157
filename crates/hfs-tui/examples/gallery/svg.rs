//! Renders a frame as SVG.

use std::fmt::Write;

use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};

use crate::ports::Background;
use crate::text::display_width;

/// Width and height of a cell, in pixels.
const CELL: (f32, f32) = (8.4, 18.0);
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
         <g font-family=\"DejaVu Sans Mono, Menlo, Consolas, monospace\" font-size=\"14\" xml:space=\"preserve\">\n",
        total.0, total.1, total.0, total.1
    );
    for y in 0..height {
        let mut x = 0;
        while x < width {
            let Some(cell) = buffer.cell((x, y)) else { break };
            // Adjacent ASCII characters in one style form one element. Every other character has an element of its own,
            // because the width of such characters differs between fonts.
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
            write_text(&mut out, (x, y, end - x), &text, cell, (default_bg, default_fg));
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

fn write_text(
    out: &mut String,
    (x, y, length): (u16, u16, u16),
    text: &str,
    cell: &Cell,
    (default_bg, default_fg): (&str, &str),
) {
    let mut fg = hex(cell.fg).unwrap_or_else(|| default_fg.to_owned());
    let mut bg = hex(cell.bg);
    if cell.modifier.contains(Modifier::REVERSED) {
        let swapped = bg.unwrap_or_else(|| default_bg.to_owned());
        bg = Some(std::mem::replace(&mut fg, swapped));
    }
    let (left, top) = pixels(x, y);
    let width = f32::from(length) * CELL.0;
    if let Some(bg) = bg {
        let _ = writeln!(
            out,
            "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{}\" fill=\"{bg}\"/>",
            CELL.1
        );
    }
    if text.trim().is_empty() {
        return;
    }
    let mut attributes = String::new();
    for (modifier, attribute) in [
        (Modifier::BOLD, " font-weight=\"bold\""),
        (Modifier::ITALIC, " font-style=\"italic\""),
        (Modifier::UNDERLINED, " text-decoration=\"underline\""),
        (Modifier::CROSSED_OUT, " text-decoration=\"line-through\""),
        (Modifier::DIM, " opacity=\"0.6\""),
    ] {
        if cell.modifier.contains(modifier) {
            attributes.push_str(attribute);
        }
    }
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let baseline = top + CELL.1 * 0.75;
    let _ = writeln!(
        out,
        "<text x=\"{left:.1}\" y=\"{baseline:.1}\" textLength=\"{width:.1}\" fill=\"{fg}\"{attributes}>{escaped}</text>"
    );
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
