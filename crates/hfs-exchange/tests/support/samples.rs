//! The folder of real transcripts.

use std::path::{Path, PathBuf};

/// The folder, or `None` (with a message) if there is none.
pub fn samples() -> Option<PathBuf> {
    let folder = std::env::var_os("HFS_SAMPLES")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/samples"), PathBuf::from);
    if folder.join("expected.json").is_file() {
        return Some(folder);
    }
    eprintln!("skipped: no samples in {}", folder.display());
    None
}
