//! The real transcripts, where they are.

use std::path::{Path, PathBuf};

/// The folder of samples, or `None` (with a line that says so) where there is none.
pub fn samples() -> Option<PathBuf> {
    let folder = std::env::var_os("HFS_SAMPLES")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/samples"), PathBuf::from);
    if folder.join("expected.json").is_file() {
        return Some(folder);
    }
    eprintln!("skipped: no samples in {}", folder.display());
    None
}
