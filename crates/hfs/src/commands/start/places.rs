//! Where other tools leave their transcripts on this machine.

use std::path::PathBuf;

use hfs_exchange::{Format, Places, usual_places};

use crate::environment::Environment;

/// The places of other tools that exist, each with its format.
pub fn places(environment: &Environment) -> Vec<(Format, PathBuf)> {
    let Some(home) = &environment.user_home else { return Vec::new() };
    let folder = |name: &str| environment.get(name).map(PathBuf::from);
    let moved = Places {
        claude_config: folder("CLAUDE_CONFIG_DIR"),
        codex_home: folder("CODEX_HOME"),
        xdg_data_home: folder("XDG_DATA_HOME"),
        xdg_config_home: folder("XDG_CONFIG_HOME"),
        llm_user_path: folder("LLM_USER_PATH"),
    };
    usual_places(home, &moved).into_iter().filter(|(_, path)| path.exists()).collect()
}
