//! Every screen, as it looks: its letters at two sizes, and its styles in three looks.

use std::collections::BTreeMap;
use std::fmt::Write;

use proptest::prelude::*;
use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier};

use super::*;
use crate::gallery::{Stage, scenes};
use crate::message::Msg;
use crate::parts::{AppSettings, Depth, Ground};

fn settings(ground: Ground, depth: Depth) -> AppSettings {
    AppSettings { ground, depth, time_zone: jiff::tz::TimeZone::UTC, ..AppSettings::default() }
}

fn letters(buffer: &Buffer) -> String {
    let mut text = String::new();
    for y in 0..buffer.area.height {
        let mut row = String::new();
        let mut covered = 0;
        for x in 0..buffer.area.width {
            if covered > 0 {
                covered -= 1;
                continue;
            }
            let symbol = buffer[(x, y)].symbol();
            covered = crate::text::cells(symbol).saturating_sub(1);
            row.push_str(symbol);
        }
        let _ = writeln!(text, "{}", row.trim_end());
    }
    text
}

/// One letter for each style, row by row, and what the letters mean.
fn styles(buffer: &Buffer) -> String {
    let mut legend: BTreeMap<String, char> = BTreeMap::new();
    let mut rows = String::new();
    for y in 0..buffer.area.height {
        let mut row = String::new();
        for x in 0..buffer.area.width {
            let cell = &buffer[(x, y)];
            let is_plain = cell.fg == Color::Reset && cell.bg == Color::Reset && cell.modifier.is_empty();
            let unseen = cell.symbol() == " "
                && cell.bg == Color::Reset
                && !cell.modifier.intersects(Modifier::REVERSED | Modifier::UNDERLINED);
            if is_plain || unseen {
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
fn every_screen_looks_as_it_did() {
    for scene in scenes() {
        for size in [(80, 24), (140, 45)] {
            let (dark, cursor) = scene.stage(settings(Ground::Dark, Depth::True), size).picture();
            let (light, _) = scene.stage(settings(Ground::Light, Depth::True), size).picture();
            let (none, _) = scene.stage(settings(Ground::Dark, Depth::None), size).picture();
            let text = letters(&dark);
            assert_eq!(letters(&light), text, "{} says something else in light", scene.name);
            assert_eq!(letters(&none), text, "{} says something else without colours", scene.name);
            let mut all = format!("cursor: {cursor:?}\n{text}");
            for (name, buffer) in [("dark", &dark), ("light", &light), ("no colour", &none)] {
                let _ = write!(all, "\n--- {name} ---\n{}", styles(buffer));
            }
            insta::assert_snapshot!(format!("{}@{}x{}", scene.name, size.0, size.1), all);
        }
    }
}

#[test]
fn the_pictures_of_the_readme_show_the_app_as_it_is() {
    let pictures = crate::gallery::readme_pictures();
    assert_eq!(pictures.len(), 2);
    for (path, picture) in pictures {
        let kept = std::fs::read_to_string(&path).unwrap();
        assert!(
            kept == picture,
            "{} is another picture: cargo run -p hfs-tui --features gallery --example gallery -- readme",
            path.display()
        );
    }
}

#[test]
fn without_colours_no_cell_has_one() {
    for scene in scenes() {
        let (picture, _) = scene.stage(settings(Ground::Dark, Depth::None), (100, 30)).picture();
        assert!(
            picture.content.iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset),
            "{}",
            scene.name
        );
    }
}

#[test]
fn sixteen_colours_are_those_of_the_terminal_and_never_black_or_white() {
    for scene in scenes() {
        let (picture, _) = scene.stage(settings(Ground::Dark, Depth::Sixteen), (100, 30)).picture();
        for cell in &picture.content {
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
fn every_screen_survives_every_size() {
    for scene in scenes() {
        for size in [(1, 1), (20, 5), (30, 8), (40, 10), (61, 12), (300, 90)] {
            let mut stage = scene.stage(settings(Ground::Dark, Depth::True), size);
            stage.tell(Msg::Resized(size.1.max(1), size.0));
            stage.tell(Msg::Resized(size.0, size.1));
            let (picture, _) = stage.picture();
            assert_eq!(picture.area.width, size.0);
        }
    }
}

#[test]
fn what_is_marked_is_read_as_it_stands() {
    let mut buffer = Buffer::empty(Rect::new(0, 0, 10, 3));
    for (y, text) in ["one two", "日本 three", "four"].into_iter().enumerate() {
        buffer.set_string(0, u16::try_from(y).unwrap(), text, ratatui::style::Style::new());
    }
    let marked = Marked { from: (4, 0), to: (6, 1) };
    assert_eq!(marked_text(&buffer, marked), "two\n日本 th");
    assert_eq!(marked_text(&buffer, Marked { from: marked.to, to: marked.from }), "two\n日本 th");
}

/// Letters that a terminal obeys, that reorder or hide what is read, and those of our own notations.
const HOSTILE: &str = "[a-z\u{0}-\u{1f}\u{7f}-\u{9f}\u{200b}\u{2060}\u{202a}-\u{202e}\u{2066}-\u{2069}\u{feff}\u{e0041}\u{301}日\n\t/#*`|\\[\\]()]{0,40}";

#[track_caller]
fn assert_harmless(picture: &Buffer, scene: &str) {
    for cell in &picture.content {
        let symbol = cell.symbol();
        assert!(!symbol.chars().any(char::is_control), "{symbol:?} in {scene}");
        let hides = |c: char| {
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
        assert!(!symbol.chars().any(hides), "{symbol:?} in {scene}");
        assert!(symbol != "\u{FFFD}", "a control character came as far as the last lock in {scene}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn nothing_from_outside_steers_the_terminal_on_any_screen(text in HOSTILE) {
        for scene in scenes() {
            let stage = scene.poisoned(&text, settings(Ground::Dark, Depth::True), (90, 28));
            assert_harmless(&stage.picture().0, scene.name);
        }
    }
}

#[test]
fn the_classic_attacks_reach_no_screen() {
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
            let stage = scene.poisoned(attack, settings(Ground::Dark, Depth::True), (80, 24));
            assert_harmless(&stage.picture().0, scene.name);
        }
    }
}

#[test]
fn an_escape_sequence_in_a_name_is_shown() {
    let mut stage = Stage::new(settings(Ground::Dark, Depth::True), (100, 30));
    stage.model.chat.name = Some("evil\u{1b}[2Jname".into());
    assert!(letters(&stage.picture().0).contains("evil␛[2Jname"));
}
