//! Where other tools leave their transcripts on this machine.

use std::path::PathBuf;

use hfs_exchange::{Format, LocationOverrides, default_locations};

use crate::environment::Environment;

/// The places of other tools that exist, each with its format.
pub fn places(environment: &Environment) -> Vec<(Format, PathBuf)> {
    let Some(home) = &environment.user_home else { return Vec::new() };
    default_locations(home, &moved(environment)).into_iter().filter(|(_, path)| path.exists()).collect()
}

/// The folders of other tools that the environment moves.
pub fn moved(environment: &Environment) -> LocationOverrides {
    let folder = |name: &str| environment.get(name).map(PathBuf::from);
    LocationOverrides {
        claude_config: folder("CLAUDE_CONFIG_DIR"),
        codex_home: folder("CODEX_HOME"),
        xdg_data_home: folder("XDG_DATA_HOME"),
        xdg_config_home: folder("XDG_CONFIG_HOME"),
        llm_user_path: folder("LLM_USER_PATH"),
    }
}
