//! Where a tool looks for a transcript that was written for it.

use std::path::{Path, PathBuf};

use hfs_core::Session;

use crate::places::Places;
use crate::{Format, TRANSCRIPTS};

/// Where a transcript has to lie so that its tool goes on with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Landing {
    /// The folder that the tool looks into; `None` when the file is handed to its importer.
    pub folder: Option<PathBuf>,
    /// The name that the file must have there; `None` when any will do.
    pub name: Option<String>,
    /// What to type then; the file's path is to be added where there is no folder.
    pub command: String,
}

/// Where a session written as `format` is to be put, in the home folder `home` whose tools may have moved theirs.
/// `None` for a format that is not written.
#[must_use]
pub fn landing(format: Format, session: &Session, home: &Path, moved: &Places) -> Option<Landing> {
    if !TRANSCRIPTS.contains(&format) {
        return None;
    }
    Some(match format {
        Format::ClaudeCode => {
            let id = super::claude_code::session_id(session);
            let config = moved.claude_config.clone().unwrap_or_else(|| home.join(".claude"));
            let project = dashed(&super::claude_code::cwd(session));
            Landing {
                folder: Some(config.join("projects").join(project)),
                name: Some(format!("{id}.jsonl")),
                command: format!("claude --resume {id}"),
            }
        }
        Format::Codex => {
            let at = session.created_at.to_jiff().to_zoned(jiff::tz::TimeZone::UTC);
            let codex = moved.codex_home.clone().unwrap_or_else(|| home.join(".codex"));
            Landing {
                folder: Some(codex.join("sessions").join(at.strftime("%Y/%m/%d").to_string())),
                name: Some(format!("rollout-{}-{}.jsonl", at.strftime("%Y-%m-%dT%H-%M-%S"), session.id)),
                command: format!("codex resume {}", session.id),
            }
        }
        _ => Landing { folder: None, name: None, command: "opencode import".into() },
    })
}

/// A directory as Claude Code names the folder of its sessions.
fn dashed(directory: &str) -> String {
    directory.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect()
}
