//! Where tools keep their transcripts.

use std::path::{Path, PathBuf};

use crate::Format;

/// Folders that a user has moved, as the environment says; each `None` stands for the tool's default.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// `CLAUDE_CONFIG_DIR`.
    pub claude_config: Option<PathBuf>,
    /// `CODEX_HOME`.
    pub codex_home: Option<PathBuf>,
    /// `XDG_DATA_HOME`.
    pub xdg_data_home: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`.
    pub xdg_config_home: Option<PathBuf>,
    /// `LLM_USER_PATH`.
    pub llm_user_path: Option<PathBuf>,
}

/// The places below a home folder where transcripts may be, whether or not they exist.
#[must_use]
pub fn usual_places(home: &Path, moved: &Places) -> Vec<(Format, PathBuf)> {
    let or = |moved: &Option<PathBuf>, usual: &str| moved.clone().unwrap_or_else(|| home.join(usual));
    let codex = or(&moved.codex_home, ".codex");
    let data = or(&moved.xdg_data_home, ".local/share");
    let config = or(&moved.xdg_config_home, ".config");
    let llm = moved.llm_user_path.clone().unwrap_or_else(|| config.join("io.datasette.llm"));
    vec![
        (Format::ClaudeCode, or(&moved.claude_config, ".claude").join("projects")),
        (Format::Codex, codex.join("sessions")),
        (Format::Codex, codex.join("archived_sessions")),
        (Format::Gemini, home.join(".gemini/tmp")),
        (Format::OpenCode, data.join("opencode/opencode.db")),
        (Format::OpenCode, data.join("opencode/storage")),
        (Format::Goose, data.join("goose/sessions")),
        (Format::Llm, llm.join("logs.db")),
        (Format::Python, home.join(".hfs/sessions.db")),
    ]
}
