//! How things look: one amber palette for dark and for light terminals, in as many colours as there are.

use ratatui::style::{Color, Modifier, Style};

/// What a piece of code is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names say it")]
pub enum CodeRole {
    Plain,
    Comment,
    String,
    Number,
    Keyword,
    Type,
    Function,
    Added,
    Removed,
}

impl CodeRole {
    /// The role with this number.
    #[must_use]
    pub const fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Comment,
            2 => Self::String,
            3 => Self::Number,
            4 => Self::Keyword,
            5 => Self::Type,
            6 => Self::Function,
            7 => Self::Added,
            8 => Self::Removed,
            _ => Self::Plain,
        }
    }
}

/// Whether the terminal's background is dark or light.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ground {
    /// Light text on a dark ground.
    #[default]
    Dark,
    /// Dark text on a light ground.
    Light,
}

/// How many colours the terminal shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Depth {
    /// All of them.
    #[default]
    True,
    /// The 256 of xterm's table.
    Indexed,
    /// The sixteen of the terminal's own palette.
    Sixteen,
    /// None: only bold, underlined, reversed.
    None,
}

/// A set of styles. The text's own colour and the background are always the terminal's.
#[derive(Debug, Clone, PartialEq)]
pub struct Theme {
    depth: Depth,
    /// What the eye is led by: titles, keys, the cursor's row.
    pub accent: Style,
    /// Text.
    pub text: Style,
    /// What may be overlooked.
    pub dim: Style,
    /// Lines and frames.
    pub frame: Style,
    /// The row that is selected.
    pub selected: Style,
    /// It went well.
    pub good: Style,
    /// It needs attention.
    pub warn: Style,
    /// It failed.
    pub bad: Style,
    /// Links.
    pub link: Style,
    /// Code in running text.
    pub inline_code: Style,
    /// The mark of what the user said.
    pub user: Style,
    /// The status bar's ground.
    pub bar: Style,
    /// What a search found.
    pub found: Style,
    code: [Style; 9],
}

const AMBER: Color = Color::Rgb(0xF5, 0x9E, 0x0B);
const DEEP_AMBER: Color = Color::Rgb(0xB4, 0x53, 0x09);

const fn rgb(hex: u32) -> Color {
    let [_, r, g, b] = hex.to_be_bytes();
    Color::Rgb(r, g, b)
}

impl Theme {
    /// The theme for a ground and a depth of colours.
    #[must_use]
    pub fn new(ground: Ground, depth: Depth) -> Self {
        let theme = match (depth, ground) {
            (Depth::None, _) => Self::colourless(),
            (Depth::Sixteen, _) => Self::sixteen(),
            (_, Ground::Dark) => Self::dark(),
            (_, Ground::Light) => Self::light(),
        };
        Self { depth, ..theme }
    }

    /// Amber on a dark ground.
    #[must_use]
    pub fn dark() -> Self {
        let fg = |hex| Style::new().fg(rgb(hex));
        Self {
            depth: Depth::True,
            accent: Style::new().fg(AMBER),
            text: Style::new(),
            dim: fg(0x8A_8580),
            frame: fg(0x57_534E),
            selected: Style::new().fg(rgb(0x1C_1917)).bg(AMBER),
            good: fg(0x84_CC16),
            warn: fg(0xFB_BF24).add_modifier(Modifier::BOLD),
            bad: fg(0xF8_7171),
            link: fg(0x7D_D3FC).add_modifier(Modifier::UNDERLINED),
            inline_code: fg(0xFD_E68A),
            user: fg(0x5E_EAD4),
            bar: Style::new().bg(rgb(0x29_2524)).fg(rgb(0xD6_D3D1)),
            found: Style::new().fg(rgb(0x1C_1917)).bg(rgb(0xFC_D34D)),
            code: [
                fg(0xD6_D3D1),
                fg(0x8A_8580).add_modifier(Modifier::ITALIC),
                fg(0xA3_E635),
                fg(0xFD_BA74),
                fg(0xF5_9E0B),
                fg(0x67_E8F9),
                fg(0xFD_E68A),
                fg(0x84_CC16),
                fg(0xF8_7171),
            ],
        }
    }

    /// Amber on a light ground, deeper so that it can be read.
    #[must_use]
    pub fn light() -> Self {
        let fg = |hex| Style::new().fg(rgb(hex));
        Self {
            depth: Depth::True,
            accent: Style::new().fg(DEEP_AMBER),
            text: Style::new(),
            dim: fg(0x78_716C),
            frame: fg(0xC4_BFB9),
            selected: Style::new().fg(rgb(0x1C_1917)).bg(rgb(0xFC_D34D)),
            good: fg(0x3F_6212),
            warn: fg(0x92_400E).add_modifier(Modifier::BOLD),
            bad: fg(0xB9_1C1C),
            link: fg(0x03_69A1).add_modifier(Modifier::UNDERLINED),
            inline_code: fg(0x92_400E),
            user: fg(0x0F_766E),
            bar: Style::new().bg(rgb(0xF0_ECE6)).fg(rgb(0x44_403C)),
            found: Style::new().fg(rgb(0x1C_1917)).bg(rgb(0xFD_E68A)),
            code: [
                fg(0x44_403C),
                fg(0x78_716C).add_modifier(Modifier::ITALIC),
                fg(0x3F_6212),
                fg(0xC2_410C),
                fg(0x92_400E),
                fg(0x15_5E75),
                fg(0x6D_28D9),
                fg(0x3F_6212),
                fg(0xB9_1C1C),
            ],
        }
    }

    /// The terminal's own sixteen colours, only those that can be read on black and on white.
    fn sixteen() -> Self {
        // A title on a frame must not be as dim as the frame.
        let fg = |color| Style::new().fg(color).remove_modifier(Modifier::DIM);
        Self {
            depth: Depth::Sixteen,
            accent: fg(Color::Yellow).add_modifier(Modifier::BOLD),
            text: Style::new(),
            dim: Style::new().add_modifier(Modifier::DIM),
            frame: Style::new().add_modifier(Modifier::DIM),
            selected: Style::new().add_modifier(Modifier::REVERSED).remove_modifier(Modifier::DIM),
            good: fg(Color::Green),
            warn: fg(Color::Yellow).add_modifier(Modifier::BOLD),
            bad: fg(Color::Red).add_modifier(Modifier::BOLD),
            // Blue cannot be read on black.
            link: fg(Color::Cyan).add_modifier(Modifier::UNDERLINED),
            inline_code: fg(Color::Magenta),
            user: fg(Color::Cyan).add_modifier(Modifier::BOLD),
            bar: Style::new(),
            found: Style::new().add_modifier(Modifier::REVERSED),
            code: [
                Style::new(),
                Style::new().add_modifier(Modifier::DIM),
                fg(Color::Green),
                fg(Color::Magenta),
                fg(Color::Yellow),
                fg(Color::Cyan),
                Style::new().add_modifier(Modifier::BOLD),
                fg(Color::Green),
                fg(Color::Red),
            ],
        }
    }

    /// No colours: weight, lines and reversal carry the meaning.
    fn colourless() -> Self {
        // A title on a frame must not be as dim as the frame.
        let bold = Style::new().add_modifier(Modifier::BOLD).remove_modifier(Modifier::DIM);
        let dim = Style::new().add_modifier(Modifier::DIM);
        let plain = Style::new();
        Self {
            depth: Depth::None,
            accent: bold,
            text: plain,
            dim,
            frame: dim,
            selected: Style::new().add_modifier(Modifier::REVERSED).remove_modifier(Modifier::DIM),
            good: plain,
            warn: bold,
            bad: bold,
            link: Style::new().add_modifier(Modifier::UNDERLINED),
            inline_code: bold,
            user: bold,
            bar: Style::new(),
            found: Style::new().add_modifier(Modifier::REVERSED),
            code: [plain, dim, plain, plain, bold, plain, plain, plain, plain],
        }
    }

    /// How code of this role looks.
    #[must_use]
    pub fn code(&self, role: CodeRole) -> Style {
        self.code.get(role as usize).copied().unwrap_or_default()
    }

    /// A title.
    #[must_use]
    pub fn title(&self) -> Style {
        self.accent.add_modifier(Modifier::BOLD)
    }

    /// Turns a colour of the palette into one that the terminal has.
    #[must_use]
    pub fn reduce(&self, color: Color) -> Color {
        match (self.depth, color) {
            (Depth::Indexed, Color::Rgb(r, g, b)) => Color::Indexed(nearest_indexed(r, g, b)),
            (Depth::None, _) => Color::Reset,
            _ => color,
        }
    }

    /// Whether colours must be reduced on the way to the screen.
    #[must_use]
    pub const fn is_reduced(&self) -> bool {
        matches!(self.depth, Depth::Indexed | Depth::None)
    }
}

/// The entry of xterm's 6x6x6 cube or grey ramp that is nearest.
fn nearest_indexed(r: u8, g: u8, b: u8) -> u8 {
    const LEVELS: [u8; 6] = [0, 95, 135, 175, 215, 255];
    let level = |value: u8| {
        let near = LEVELS.iter().enumerate().min_by_key(|(_, level)| level.abs_diff(value));
        near.map_or((0, 0), |(index, level)| (u8::try_from(index).unwrap_or(0), *level))
    };
    let distance = |x: u8, y: u8, z: u8| {
        let square = |a: u8, b: u8| u32::from(a.abs_diff(b)).pow(2);
        square(r, x) + square(g, y) + square(b, z)
    };
    let ((ri, rv), (gi, gv), (bi, bv)) = (level(r), level(g), level(b));
    let cube = 16 + 36 * ri + 6 * gi + bi;
    let mean = ((u16::from(r) + u16::from(g) + u16::from(b)) / 3).clamp(8, 238);
    let step = u8::try_from((mean - 8) / 10).unwrap_or(0).min(23);
    let grey = 8 + 10 * step;
    if distance(grey, grey, grey) < distance(rv, gv, bv) { 232 + step } else { cube }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amber_is_the_accent() {
        assert_eq!(Theme::dark().accent.fg, Some(Color::Rgb(0xF5, 0x9E, 0x0B)));
    }

    #[test]
    fn without_colours_there_are_none() {
        let theme = Theme::new(Ground::Dark, Depth::None);
        for style in [theme.accent, theme.bad, theme.selected, theme.bar, theme.code(CodeRole::String)] {
            assert_eq!((style.fg, style.bg), (None, None));
        }
        assert_eq!(theme.reduce(AMBER), Color::Reset);
    }

    #[test]
    fn colours_are_reduced_to_the_nearest_of_256() {
        let theme = Theme::new(Ground::Dark, Depth::Indexed);
        assert_eq!(theme.reduce(Color::Rgb(255, 0, 0)), Color::Indexed(196));
        assert_eq!(theme.reduce(Color::Rgb(128, 128, 128)), Color::Indexed(244));
        assert_eq!(theme.reduce(AMBER), Color::Indexed(214));
    }
}
