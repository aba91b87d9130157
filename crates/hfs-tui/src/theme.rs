//! Styles: an amber palette for dark and light terminals, reduced to the number of colours of the terminal.

use hfs_core::Tone;
use ratatui::style::{Color, Modifier, Style};

/// The syntactic role of a token in code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are self-explanatory")]
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
    /// Returns the role with this discriminant, or `Plain`.
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

/// Background of the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Background {
    /// Dark background.
    #[default]
    Dark,
    /// Light background.
    Light,
    /// Not known. The app asks the terminal. If it does not answer, only the terminal's own palette is used, which is
    /// readable on its background.
    Unknown,
}

/// Number of colours of the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ColorDepth {
    /// 24-bit colours.
    #[default]
    True,
    /// xterm's 256 colours.
    Indexed,
    /// The terminal's palette of 16 colours.
    Sixteen,
    /// No colours; only bold, dim, underlined and reversed text.
    None,
}

/// A set of styles. Plain text and the background keep the colours of the terminal.
#[derive(Debug, Clone, PartialEq)]
pub struct Theme {
    color_depth: ColorDepth,
    /// Titles and keys.
    pub accent: Style,
    /// Text.
    pub text: Style,
    /// Secondary text.
    pub dim: Style,
    /// Borders and lines.
    pub border: Style,
    /// The selected row.
    pub selected: Style,
    /// Success.
    pub good: Style,
    /// Warnings.
    pub warn: Style,
    /// Errors.
    pub bad: Style,
    /// Links.
    pub link: Style,
    /// Code in running text.
    pub inline_code: Style,
    /// The user's messages.
    pub user: Style,
    /// The status bar.
    pub status_bar: Style,
    /// Matches of a search.
    pub search_match: Style,
    /// Styles of code, indexed by [`CodeRole`].
    code: [Style; 9],
}

const AMBER: Color = Color::Rgb(0xF5, 0x9E, 0x0B);
const DEEP_AMBER: Color = Color::Rgb(0x9A, 0x4A, 0x08);

const fn rgb(hex: u32) -> Color {
    let [_, r, g, b] = hex.to_be_bytes();
    Color::Rgb(r, g, b)
}

impl Theme {
    /// Returns the theme for a terminal.
    #[must_use]
    pub fn new(background: Background, color_depth: ColorDepth) -> Self {
        let theme = match (color_depth, background) {
            (ColorDepth::None, _) => Self::colourless(),
            (ColorDepth::Sixteen, _) | (_, Background::Unknown) => Self::sixteen(),
            (_, Background::Dark) => Self::dark(),
            (_, Background::Light) => Self::light(),
        };
        Self { color_depth, ..theme }
    }

    /// The palette for a dark background.
    #[must_use]
    pub fn dark() -> Self {
        let fg = |hex| Style::new().fg(rgb(hex));
        Self {
            color_depth: ColorDepth::True,
            accent: Style::new().fg(AMBER),
            text: Style::new(),
            dim: fg(0xA8_A29E),
            border: fg(0x9E_9892),
            selected: Style::new().fg(rgb(0x1C_1917)).bg(AMBER),
            good: fg(0x84_CC16),
            warn: fg(0xFB_BF24).add_modifier(Modifier::BOLD),
            bad: fg(0xF8_7171),
            link: fg(0x7D_D3FC).add_modifier(Modifier::UNDERLINED),
            inline_code: fg(0xFD_E68A),
            user: fg(0x5E_EAD4),
            status_bar: Style::new().bg(rgb(0x29_2524)).fg(rgb(0xD6_D3D1)),
            search_match: Style::new().fg(rgb(0x1C_1917)).bg(rgb(0xFC_D34D)),
            code: [
                fg(0xD6_D3D1),
                fg(0xA8_A29E).add_modifier(Modifier::ITALIC),
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

    /// The palette for a light background, with darker colours.
    #[must_use]
    pub fn light() -> Self {
        let fg = |hex| Style::new().fg(rgb(hex));
        Self {
            color_depth: ColorDepth::True,
            accent: Style::new().fg(DEEP_AMBER),
            text: Style::new(),
            dim: fg(0x62_5B56),
            border: fg(0x6B_645F),
            selected: Style::new().fg(rgb(0x1C_1917)).bg(rgb(0xFC_D34D)),
            good: fg(0x3F_6212),
            warn: fg(0x92_400E).add_modifier(Modifier::BOLD),
            bad: fg(0xB9_1C1C),
            link: fg(0x03_629A).add_modifier(Modifier::UNDERLINED),
            inline_code: fg(0x92_400E),
            user: fg(0x0F_6A63),
            status_bar: Style::new().bg(rgb(0xF0_ECE6)).fg(rgb(0x44_403C)),
            search_match: Style::new().fg(rgb(0x1C_1917)).bg(rgb(0xFD_E68A)),
            code: [
                fg(0x44_403C),
                fg(0x62_5B56).add_modifier(Modifier::ITALIC),
                fg(0x3F_6212),
                fg(0x9A_3412),
                fg(0x92_400E),
                fg(0x15_5E75),
                fg(0x6D_28D9),
                fg(0x3F_6212),
                fg(0xB9_1C1C),
            ],
        }
    }

    /// The styles for 16 colours. Only colours that are readable on black and on white are used.
    fn sixteen() -> Self {
        // The title of a panel inherits the style of the border. These styles remove DIM, so that titles are not dim.
        let fg = |color| Style::new().fg(color).remove_modifier(Modifier::DIM);
        Self {
            color_depth: ColorDepth::Sixteen,
            accent: fg(Color::Yellow).add_modifier(Modifier::BOLD),
            text: Style::new(),
            // Also in the title of a panel with the focus, whose border has the accent.
            dim: Style::new().fg(Color::Reset).add_modifier(Modifier::DIM).remove_modifier(Modifier::BOLD),
            border: Style::new().add_modifier(Modifier::DIM),
            selected: Style::new().add_modifier(Modifier::REVERSED).remove_modifier(Modifier::DIM),
            good: fg(Color::Green),
            warn: fg(Color::Yellow).add_modifier(Modifier::BOLD),
            bad: fg(Color::Red).add_modifier(Modifier::BOLD),
            // Not blue, which is hard to read on black.
            link: fg(Color::Cyan).add_modifier(Modifier::UNDERLINED),
            inline_code: fg(Color::Magenta),
            user: fg(Color::Cyan).add_modifier(Modifier::BOLD),
            status_bar: Style::new(),
            search_match: Style::new().add_modifier(Modifier::REVERSED),
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

    /// The styles without colours.
    fn colourless() -> Self {
        // The title of a panel inherits the style of the border. These styles remove DIM, so that titles are not dim.
        let bold = Style::new().add_modifier(Modifier::BOLD).remove_modifier(Modifier::DIM);
        let dim = Style::new().add_modifier(Modifier::DIM).remove_modifier(Modifier::BOLD);
        let plain = Style::new();
        Self {
            color_depth: ColorDepth::None,
            accent: bold,
            text: plain,
            dim,
            border: dim,
            selected: Style::new().add_modifier(Modifier::REVERSED).remove_modifier(Modifier::DIM),
            good: plain,
            warn: bold,
            bad: bold,
            link: Style::new().add_modifier(Modifier::UNDERLINED),
            inline_code: bold,
            user: bold,
            status_bar: Style::new(),
            search_match: Style::new().add_modifier(Modifier::REVERSED),
            code: [plain, dim, plain, plain, bold, plain, plain, plain, plain],
        }
    }

    /// Returns the style of code with this role.
    #[must_use]
    pub fn code(&self, role: CodeRole) -> Style {
        self.code.get(role as usize).copied().unwrap_or_default()
    }

    /// Returns the style of a tone, which plugins and notices use.
    #[must_use]
    pub fn tone(&self, tone: Tone) -> Style {
        match tone {
            Tone::Plain => self.text,
            Tone::Dim => self.dim,
            Tone::Accent => self.accent,
            Tone::Good => self.good,
            Tone::Warn => self.warn,
            Tone::Bad => self.bad.add_modifier(Modifier::BOLD),
        }
    }

    /// Returns the style of titles.
    #[must_use]
    pub fn title(&self) -> Style {
        self.accent.add_modifier(Modifier::BOLD)
    }

    /// Returns the nearest colour that the terminal supports.
    #[must_use]
    pub fn reduce(&self, color: Color) -> Color {
        match (self.color_depth, color) {
            (ColorDepth::Indexed, Color::Rgb(r, g, b)) => Color::Indexed(nearest_indexed(r, g, b)),
            (ColorDepth::None, _) => Color::Reset,
            _ => color,
        }
    }

    /// Whether [`reduce`](Self::reduce) changes any colour.
    #[must_use]
    pub const fn is_reduced(&self) -> bool {
        matches!(self.color_depth, ColorDepth::Indexed | ColorDepth::None)
    }
}

/// Returns the nearest entry of xterm's 6x6x6 colour cube or grey ramp.
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
    fn the_accent_is_amber() {
        assert_eq!(Theme::dark().accent.fg, Some(Color::Rgb(0xF5, 0x9E, 0x0B)));
    }

    /// The relative luminance of WCAG 2.
    fn luminance((r, g, b): (u8, u8, u8)) -> f64 {
        let linear = |channel: u8| {
            let value = f64::from(channel) / 255.0;
            if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b)
    }

    fn channels(color: Color) -> (u8, u8, u8) {
        const LEVELS: [u8; 6] = [0, 95, 135, 175, 215, 255];
        match color {
            Color::Rgb(r, g, b) => (r, g, b),
            Color::Indexed(grey @ 232..) => {
                let value = 8 + 10 * (grey - 232);
                (value, value, value)
            }
            Color::Indexed(index @ 16..) => {
                let level = |place: u8| LEVELS[usize::from((index - 16) / place % 6)];
                (level(36), level(6), level(1))
            }
            other => panic!("{other} has no fixed value"),
        }
    }

    #[test]
    fn every_style_has_a_contrast_of_4_5_on_every_background_that_it_is_drawn_on() {
        // Black, white, and the backgrounds of common dark and light color schemes.
        let dark = [(0, 0, 0), (0x1c, 0x19, 0x17), (0x1e, 0x1e, 0x1e), (0x28, 0x28, 0x28)];
        let light = [(0xff, 0xff, 0xff), (0xff, 0xfd, 0xf8), (0xfd, 0xf6, 0xe3)];
        for (background, terminals) in [(Background::Dark, dark.as_slice()), (Background::Light, &light)] {
            for depth in [ColorDepth::True, ColorDepth::Indexed] {
                let theme = Theme::new(background, depth);
                let bar = theme.status_bar;
                let named = [
                    ("accent", theme.accent),
                    ("dim", theme.dim),
                    ("border", theme.border),
                    ("good", theme.good),
                    ("warn", theme.warn),
                    ("bad", theme.bad),
                    ("link", theme.link),
                    ("inline_code", theme.inline_code),
                    ("user", theme.user),
                ];
                let code = theme.code.iter().map(|style| ("code", *style));
                let on_terminal = named.into_iter().chain(code).flat_map(|(name, style)| {
                    terminals.iter().map(move |terminal| (name, style.fg.unwrap(), None, *terminal))
                });
                // The status bar shows notices in all tones.
                let tones = [Tone::Plain, Tone::Dim, Tone::Accent, Tone::Good, Tone::Warn, Tone::Bad];
                let on_bar = tones.map(|tone| ("status bar", bar.patch(theme.tone(tone))));
                let filled = [("selected", theme.selected), ("match", theme.search_match)];
                let on_style = on_bar
                    .into_iter()
                    .chain(filled)
                    .map(|(name, style)| (name, style.fg.unwrap(), style.bg, (0, 0, 0)));
                for (name, fg, bg, terminal) in on_terminal.chain(on_style) {
                    let back = luminance(bg.map_or(terminal, |bg| channels(theme.reduce(bg))));
                    let front = luminance(channels(theme.reduce(fg)));
                    let contrast = (front.max(back) + 0.05) / (front.min(back) + 0.05);
                    assert!(
                        contrast >= 4.5,
                        "{name}: {contrast:.2} on {terminal:?}, {background:?} {depth:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn an_unknown_background_gets_the_colours_of_the_terminals_palette() {
        let theme = Theme::new(Background::Unknown, ColorDepth::True);
        assert_eq!(theme.accent, Theme::new(Background::Dark, ColorDepth::Sixteen).accent);
    }

    #[test]
    fn dim_text_in_a_title_does_not_inherit_the_accent_of_the_border() {
        for depth in [ColorDepth::True, ColorDepth::Indexed, ColorDepth::Sixteen, ColorDepth::None] {
            let theme = Theme::new(Background::Dark, depth);
            let drawn = theme.accent.patch(theme.dim);
            assert_ne!(drawn.fg, theme.accent.fg.or(Some(Color::Yellow)), "{depth:?}");
            assert!(!drawn.add_modifier.contains(Modifier::BOLD), "{depth:?}");
        }
    }

    #[test]
    fn a_theme_without_colours_sets_none() {
        let theme = Theme::new(Background::Dark, ColorDepth::None);
        for style in [theme.accent, theme.bad, theme.selected, theme.status_bar, theme.code(CodeRole::String)]
        {
            assert_eq!((style.fg, style.bg), (None, None));
        }
        assert_eq!(theme.reduce(AMBER), Color::Reset);
    }

    #[test]
    fn colours_are_reduced_to_the_nearest_of_256() {
        let theme = Theme::new(Background::Dark, ColorDepth::Indexed);
        assert_eq!(theme.reduce(Color::Rgb(255, 0, 0)), Color::Indexed(196));
        assert_eq!(theme.reduce(Color::Rgb(128, 128, 128)), Color::Indexed(244));
        assert_eq!(theme.reduce(AMBER), Color::Indexed(214));
    }
}
