//! Writes pictures of screens as SVG: `cargo run -p hfs-tui --features gallery --example gallery -- ARGUMENTS`.
//!
//! `readme` writes those of the README to `docs/pictures`. Anything else is the directory for a picture of every
//! screen; names of scenes behind it choose some, `WIDTHxHEIGHT`, `light`, `none` and `16` another size and look.

use std::path::Path;

use hfs_tui::gallery::{readme_pictures, scenes, svg};
use hfs_tui::{AppSettings, Depth, Ground};

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().unwrap_or_else(|| "target/gallery".to_owned());
    if directory == "readme" {
        for (path, picture) in readme_pictures() {
            std::fs::write(path, picture)?;
        }
        return Ok(());
    }
    let rest: Vec<String> = arguments.collect();
    let size = rest.iter().find_map(|text| {
        let (width, height) = text.split_once('x')?;
        Some((width.parse().ok()?, height.parse().ok()?))
    });
    let has = |word: &str| rest.iter().any(|text| text == word);
    let ground = if has("light") { Ground::Light } else { Ground::Dark };
    let depth = match (has("none"), has("16")) {
        (true, _) => Depth::None,
        (_, true) => Depth::Sixteen,
        _ => Depth::True,
    };
    let all = scenes();
    let named = all.iter().any(|scene| has(scene.name));
    std::fs::create_dir_all(&directory)?;
    for scene in all.iter().filter(|scene| !named || has(scene.name)) {
        let settings =
            AppSettings { ground, depth, time_zone: jiff::tz::TimeZone::UTC, ..AppSettings::default() };
        let (buffer, cursor) = scene.stage(settings, size.unwrap_or((140, 45))).picture();
        std::fs::write(
            Path::new(&directory).join(format!("{}.svg", scene.name)),
            svg(&buffer, cursor, ground),
        )?;
    }
    Ok(())
}
