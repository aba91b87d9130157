//! The folder of real transcripts.

use std::path::{Path, PathBuf};

/// Returns the folder's path. If the folder does not exist, prints a message and returns `None`.
pub fn samples() -> Option<PathBuf> {
    let folder = std::env::var_os("HFS_SAMPLES")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/samples"), PathBuf::from);
    if folder.join("expected.json").is_file() {
        return Some(folder);
    }
    eprintln!("skipped: no samples in {}", folder.display());
    None
}
