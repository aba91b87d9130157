//! Writes screenshots as SVG: `cargo run -p hfs-tui --features gallery --example gallery -- ARGUMENTS`.
//!
//! If the first argument is `readme`, the program writes the screenshots of the README to `docs/pictures`. Otherwise
//! the first argument is the directory to write to, by default `target/gallery`. More arguments can follow: names of
//! scenes (by default all), `WIDTHxHEIGHT`, `light`, `none` (no colours) and `16` (16 colours).

use std::path::Path;

use hfs_tui::gallery::{readme_screenshots, scenes, svg};
use hfs_tui::{AppSettings, Background, ColorDepth};

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().unwrap_or_else(|| "target/gallery".to_owned());
    if directory == "readme" {
        for (path, image) in readme_screenshots() {
            std::fs::write(path, image)?;
        }
        return Ok(());
    }
    let rest: Vec<String> = arguments.collect();
    let size = rest.iter().find_map(|text| {
        let (width, height) = text.split_once('x')?;
        Some((width.parse().ok()?, height.parse().ok()?))
    });
    let has = |word: &str| rest.iter().any(|text| text == word);
    let background = if has("light") { Background::Light } else { Background::Dark };
    let color_depth = match (has("none"), has("16")) {
        (true, _) => ColorDepth::None,
        (_, true) => ColorDepth::Sixteen,
        _ => ColorDepth::True,
    };
    let all = scenes();
    let named = all.iter().any(|scene| has(scene.name));
    std::fs::create_dir_all(&directory)?;
    for scene in all.iter().filter(|scene| !named || has(scene.name)) {
        let settings = AppSettings {
            background,
            color_depth,
            time_zone: jiff::tz::TimeZone::UTC,
            ..AppSettings::default()
        };
        let (buffer, cursor) = scene.set_up(settings, size.unwrap_or((140, 45))).draw();
        std::fs::write(
            Path::new(&directory).join(format!("{}.svg", scene.name)),
            svg(&buffer, cursor, background),
        )?;
    }
    Ok(())
}
