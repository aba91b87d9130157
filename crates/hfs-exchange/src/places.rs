//! Where tools keep their transcripts.

use std::path::{Path, PathBuf};

use crate::Format;

/// Folders that a user has moved, as the environment says; each `None` stands for the tool's default.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// `CLAUDE_CONFIG_DIR`.
    pub claude_config: Option<PathBuf>,
}

/// The places below a home folder where transcripts may be, whether or not they exist.
#[must_use]
pub fn usual_places(home: &Path, moved: &Places) -> Vec<(Format, PathBuf)> {
    let or = |moved: &Option<PathBuf>, usual: &str| moved.clone().unwrap_or_else(|| home.join(usual));
    vec![(Format::ClaudeCode, or(&moved.claude_config, ".claude").join("projects"))]
}
