//! Snapshots of every screen at two sizes: its text, and its styles in three themes.

use std::collections::BTreeMap;
use std::fmt::Write;

use proptest::prelude::*;
use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier};

use super::*;
use crate::gallery::{Harness, scenes};
use crate::ports::{AppSettings, Background, ColorDepth};
use crate::protocol::Msg;

fn settings(background: Background, color_depth: ColorDepth) -> AppSettings {
    AppSettings { background, color_depth, time_zone: jiff::tz::TimeZone::UTC, ..AppSettings::default() }
}

fn text_of(buffer: &Buffer) -> String {
    let mut text = String::new();
    for y in 0..buffer.area.height {
        let mut row = String::new();
        let mut cells_to_skip = 0;
        for x in 0..buffer.area.width {
            // A wide character is in the first of its cells; the others are not part of the text.
            if cells_to_skip > 0 {
                cells_to_skip -= 1;
                continue;
            }
            let symbol = buffer[(x, y)].symbol();
            cells_to_skip = display_width(symbol).saturating_sub(1);
            row.push_str(symbol);
        }
        let _ = writeln!(text, "{}", row.trim_end());
    }
    text
}

/// Returns one letter per cell for its style, and a legend.
fn styles_of(buffer: &Buffer) -> String {
    let mut legend: BTreeMap<String, char> = BTreeMap::new();
    let mut rows = String::new();
    for y in 0..buffer.area.height {
        let mut row = String::new();
        for x in 0..buffer.area.width {
            let cell = &buffer[(x, y)];
            let is_plain = cell.fg == Color::Reset && cell.bg == Color::Reset && cell.modifier.is_empty();
            let is_invisible = cell.symbol() == " "
                && cell.bg == Color::Reset
                && !cell.modifier.intersects(Modifier::REVERSED | Modifier::UNDERLINED);
            if is_plain || is_invisible {
                row.push('.');
                continue;
            }
            let style = format!("{} on {} {:?}", cell.fg, cell.bg, cell.modifier);
            let next = char::from(b'a' + u8::try_from(legend.len()).unwrap());
            row.push(*legend.entry(style).or_insert(next));
        }
        let _ = writeln!(rows, "{}", row.trim_end_matches('.'));
    }
    for (style, letter) in legend {
        let _ = writeln!(rows, "{letter} = {}", style.replace("Modifier", ""));
    }
    rows
}

#[test]
fn every_screen_matches_its_snapshot() {
    for scene in scenes() {
        for size in [(80, 24), (140, 45)] {
            let (dark, cursor) = scene.set_up(settings(Background::Dark, ColorDepth::True), size).draw();
            let (light, _) = scene.set_up(settings(Background::Light, ColorDepth::True), size).draw();
            let (none, _) = scene.set_up(settings(Background::Dark, ColorDepth::None), size).draw();
            let text = text_of(&dark);
            assert_eq!(text_of(&light), text, "{} has a different text with a light background", scene.name);
            assert_eq!(text_of(&none), text, "{} has a different text without colours", scene.name);
            let mut all = format!("cursor: {cursor:?}\n{text}");
            for (name, buffer) in [("dark", &dark), ("light", &light), ("no colour", &none)] {
                let _ = write!(all, "\n--- {name} ---\n{}", styles_of(buffer));
            }
            insta::assert_snapshot!(format!("{}@{}x{}", scene.name, size.0, size.1), all);
        }
    }
}

#[test]
fn the_screenshots_of_the_documentation_are_up_to_date() {
    let screenshots = crate::gallery::readme_screenshots();
    assert_eq!(screenshots.len(), 3);
    for (path, image) in screenshots {
        let stored = std::fs::read_to_string(&path).unwrap();
        assert!(
            stored == image,
            "{} is out of date; run `cargo run -p hfs-tui --features gallery --example gallery -- readme`",
            path.display()
        );
    }
}

#[test]
fn a_frame_without_colours_has_none() {
    for scene in scenes() {
        let (frame, _) = scene.set_up(settings(Background::Dark, ColorDepth::None), (100, 30)).draw();
        assert!(
            frame.content.iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset),
            "{}",
            scene.name
        );
    }
}

#[test]
fn sixteen_colours_exclude_black_and_white() {
    for scene in scenes() {
        let (frame, _) = scene.set_up(settings(Background::Dark, ColorDepth::Sixteen), (100, 30)).draw();
        for cell in &frame.content {
            // The theme for 16 colours is the same for dark and light backgrounds, so it uses neither black nor white.
            for color in [cell.fg, cell.bg] {
                assert!(
                    !matches!(
                        color,
                        Color::Rgb(..) | Color::Indexed(_) | Color::Black | Color::White | Color::Gray
                    ),
                    "{color} in {}",
                    scene.name
                );
            }
        }
    }
}

#[test]
fn every_screen_can_be_drawn_at_every_size() {
    for scene in scenes() {
        for size in [(1, 1), (20, 5), (30, 8), (40, 10), (61, 12), (300, 90)] {
            let mut harness = scene.set_up(settings(Background::Dark, ColorDepth::True), size);
            // Swaps width and height, and then restores them.
            harness.send(Msg::Resized(size.1.max(1), size.0));
            harness.send(Msg::Resized(size.0, size.1));
            let (frame, _) = harness.draw();
            assert_eq!(frame.area.width, size.0);
        }
    }
}

#[test]
fn selected_text_follows_the_reading_order() {
    let mut buffer = Buffer::empty(Rect::new(0, 0, 10, 3));
    for (y, text) in ["one two", "日本 three", "four"].into_iter().enumerate() {
        buffer.set_string(0, u16::try_from(y).unwrap(), text, Style::new());
    }
    let selection = MouseSelection { from: (4, 0), to: (6, 1) };
    assert_eq!(selected_text(&buffer, selection, None), "two\n日本 th");
    assert_eq!(
        selected_text(&buffer, MouseSelection { from: selection.to, to: selection.from }, None),
        "two\n日本 th"
    );
}

#[test]
fn text_selected_in_a_message_has_no_margin_no_bar_and_no_breaks_where_it_was_wrapped() {
    let mut harness = Harness::new(settings(Background::Dark, ColorDepth::True), (40, 24));
    let prose = "The quick brown fox jumps over the lazy dog and runs away.";
    let code = "let answer = compute(alpha, beta, gamma, delta);";
    let text = format!("{prose}\n\n```rust\n{code}\nlet b = 2;\n```\n\n> quoted words\n\n- one\n- two");
    harness.submit("question");
    harness.send(Msg::Exchange(hfs_engine::Update::Delta(hfs_core::ReplyDelta::text(text))));
    let user = crate::gallery::user_message(1, "question");
    harness.send(Msg::Exchange(hfs_engine::Update::Sent(std::sync::Arc::new(user))));
    let (frame, _) = harness.draw();
    let area = harness.model.text_area().unwrap();
    let row = |text: &str| {
        (0..24).find(|y| row_text(&frame, *y, 0..40).contains(text)).unwrap_or_else(|| panic!("{text}"))
    };
    let selection = MouseSelection { from: (1, row("The quick")), to: (39, row("two")) };
    let copied = selected_text(&frame, selection, Some(area));
    assert_eq!(copied, format!("{prose}\n\nrust\n{code}\nlet b = 2;\n\nquoted words\n\n• one\n• two"));
}

/// A regular expression from which proptest generates strings. They contain control, bidirectional and invisible
/// characters, and characters with a meaning in Markdown or commands.
const HOSTILE: &str = "[a-z\u{0}-\u{1f}\u{7f}-\u{9f}\u{200b}\u{2060}\u{202a}-\u{202e}\u{2066}-\u{2069}\u{feff}\u{e0041}\u{301}日\n\t/#*`|\\[\\]()]{0,40}";

#[track_caller]
fn assert_harmless(frame: &Buffer, scene: &str) {
    for cell in &frame.content {
        let symbol = cell.symbol();
        assert!(!symbol.chars().any(char::is_control), "{symbol:?} in {scene}");
        let is_hidden = |c: char| {
            matches!(
                c,
                '\u{200b}'
                    | '\u{2060}'..='\u{2064}'
                    | '\u{202a}'..='\u{202e}'
                    | '\u{2066}'..='\u{2069}'
                    | '\u{feff}'
                    | '\u{e0000}'..='\u{e007f}'
            )
        };
        assert!(!symbol.chars().any(is_hidden), "{symbol:?} in {scene}");
        // The view replaces control characters that were not sanitized before.
        assert!(symbol != "\u{FFFD}", "a control character was not sanitized in {scene}");
    }
}

proptest! {
    // Few cases, because each one draws every scene.
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn untrusted_text_cannot_control_the_terminal(text in HOSTILE) {
        for scene in scenes() {
            let harness = scene.set_up_with_hostile_text(&text, settings(Background::Dark, ColorDepth::True), (90, 28));
            assert_harmless(&harness.draw().0, scene.name);
        }
    }
}

#[test]
fn known_attacks_are_sanitized_on_every_screen() {
    let long = "wide日".repeat(1_000);
    let attacks = [
        "\u{1b}]52;c;AAAA\u{7}\u{1b}[2J\u{1b}[?1049l",
        "\u{9b}31m\u{90}q\u{9c}",
        "\u{202e}txt.exe\u{2066}",
        "a\u{200b}b\u{2060}c\u{feff}\u{e0041}\u{e0042}",
        "nul\u{0}\u{8}\u{8}\u{8}\ttab\rback",
        long.as_str(),
    ];
    for attack in attacks {
        for scene in scenes() {
            let harness = scene.set_up_with_hostile_text(
                attack,
                settings(Background::Dark, ColorDepth::True),
                (80, 24),
            );
            assert_harmless(&harness.draw().0, scene.name);
        }
    }
}

#[test]
fn an_escape_sequence_in_a_name_is_visible() {
    let mut harness = Harness::new(settings(Background::Dark, ColorDepth::True), (100, 30));
    harness.model.chat.name = Some("evil\u{1b}[2Jname".into());
    assert!(text_of(&harness.draw().0).contains("evil␛[2Jname"));
}
