//! The folders in which other tools store their transcripts, and the paths where exported transcripts have to
//! be placed so that a tool finds them.

use std::path::{Path, PathBuf};

use hfs_core::Session;

use crate::Format;
use crate::transcript::{claude_code, opencode_session_id, session_time, thread_id};

/// Values of the environment variables that move the folders of other tools. `None` means the default.
#[derive(Debug, Clone, Default)]
pub struct LocationOverrides {
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
    /// `QWEN_HOME`.
    pub qwen_home: Option<PathBuf>,
    /// `PI_CODING_AGENT_DIR`.
    pub pi_agent: Option<PathBuf>,
    /// `COPILOT_HOME`.
    pub copilot_home: Option<PathBuf>,
    /// `CLINE_DIR`.
    pub cline_home: Option<PathBuf>,
}

impl LocationOverrides {
    fn claude_config(&self, home: &Path) -> PathBuf {
        self.claude_config.clone().unwrap_or_else(|| home.join(".claude"))
    }

    fn codex_home(&self, home: &Path) -> PathBuf {
        self.codex_home.clone().unwrap_or_else(|| home.join(".codex"))
    }
}

/// Editors that run extensions of Visual Studio Code, as they name their folders.
const EDITORS: [&str; 6] = ["Code", "Code - Insiders", "VSCodium", "Cursor", "Windsurf", "Kiro"];
/// Data of editors outside of the configuration folder: on macOS, and on a remote machine.
const EDITOR_DATA: [&str; 7] = [
    "Library/Application Support/Code",
    "Library/Application Support/Code - Insiders",
    "Library/Application Support/VSCodium",
    "Library/Application Support/Cursor",
    "Library/Application Support/Windsurf",
    ".vscode-server/data",
    ".cursor-server/data",
];
/// Cline, Roo Code and Kilo Code.
const CLINE_EXTENSIONS: [&str; 3] =
    ["saoudrizwan.claude-dev", "rooveterinaryinc.roo-cline", "kilocode.kilo-code"];

/// The files and folders where other tools store their transcripts by default. They may not exist.
#[must_use]
pub fn default_locations(home: &Path, overrides: &LocationOverrides) -> Vec<(Format, PathBuf)> {
    let codex = overrides.codex_home(home);
    let data = overrides.xdg_data_home.clone().unwrap_or_else(|| home.join(".local/share"));
    let config = overrides.xdg_config_home.clone().unwrap_or_else(|| home.join(".config"));
    let llm = overrides.llm_user_path.clone().unwrap_or_else(|| config.join("io.datasette.llm"));
    let qwen = overrides.qwen_home.clone().unwrap_or_else(|| home.join(".qwen"));
    let pi = overrides.pi_agent.clone().unwrap_or_else(|| home.join(".pi/agent"));
    let copilot = overrides.copilot_home.clone().unwrap_or_else(|| home.join(".copilot"));
    let cline = overrides.cline_home.clone().unwrap_or_else(|| home.join(".cline"));
    let mut locations = vec![
        (Format::ClaudeCode, overrides.claude_config(home).join("projects")),
        (Format::Codex, codex.join("sessions")),
        (Format::Codex, codex.join("archived_sessions")),
        (Format::Gemini, home.join(".gemini/tmp")),
        (Format::Qwen, qwen.join("projects")),
        (Format::Qwen, qwen.join("tmp")),
        (Format::Pi, pi.join("sessions")),
        (Format::Copilot, copilot.join("session-state")),
        (Format::Copilot, copilot.join("history-session-state")),
        (Format::Cline, cline.join("data/sessions")),
        (Format::Cline, cline.join("data/tasks")),
        (Format::OpenCode, data.join("opencode/opencode.db")),
        (Format::OpenCode, data.join("opencode/storage")),
        (Format::Goose, data.join("goose/sessions")),
        (Format::Llm, llm.join("logs.db")),
        (Format::Python, home.join(".hfs/sessions.db")),
    ];
    // The extensions of an editor store their data below its own.
    let editors = EDITOR_DATA
        .iter()
        .map(|folder| home.join(folder))
        .chain(EDITORS.iter().map(|editor| config.join(editor)));
    for editor in editors {
        let storage = editor.join("User/globalStorage");
        locations.extend(CLINE_EXTENSIONS.iter().map(|id| (Format::Cline, storage.join(id).join("tasks"))));
    }
    locations
}

/// Where to place an exported transcript, and how to continue its session.
///
/// All names and arguments are built from ids of a known form, never from text of the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstallPath {
    /// The folder that the tool searches; `None` if the file has to be passed to an import command.
    pub folder: Option<PathBuf>,
    /// The file name that the tool requires, or a name that is unique to the session.
    pub name: String,
    /// The program and arguments that import the file, if it has to be imported. The path of the file has to be
    /// appended.
    pub import: Option<Vec<String>>,
    /// The program and arguments that continue the session.
    pub resume: Vec<String>,
}

/// Where to place `session` when it is exported as `format`; `None` if `format` is not a transcript format
/// that can be written.
#[must_use]
pub fn install_path(
    format: Format,
    session: &Session,
    home: &Path,
    overrides: &LocationOverrides,
) -> Option<InstallPath> {
    let arguments = |all: &[&str]| all.iter().map(|argument| (*argument).to_owned()).collect();
    match format {
        Format::ClaudeCode => {
            let id = claude_code::session_id(session);
            let project = claude_project_folder(&claude_code::cwd(session));
            Some(InstallPath {
                folder: Some(overrides.claude_config(home).join("projects").join(project)),
                name: format!("{id}.jsonl"),
                import: None,
                resume: arguments(&["claude", "--resume", &id]),
            })
        }
        Format::Codex => {
            let id = thread_id(session).to_string();
            let at = session_time(session).to_jiff().to_zoned(jiff::tz::TimeZone::UTC);
            let sessions = overrides.codex_home(home).join("sessions");
            Some(InstallPath {
                folder: Some(sessions.join(at.strftime("%Y/%m/%d").to_string())),
                name: format!("rollout-{}-{id}.jsonl", at.strftime("%Y-%m-%dT%H-%M-%S")),
                import: None,
                resume: arguments(&["codex", "resume", &id]),
            })
        }
        Format::OpenCode => {
            let id = opencode_session_id(session.current_branch);
            Some(InstallPath {
                folder: None,
                name: format!("{id}.json"),
                import: Some(arguments(&["opencode", "import"])),
                resume: arguments(&["opencode", "--session", &id]),
            })
        }
        Format::Hfs
        | Format::Gemini
        | Format::Qwen
        | Format::Pi
        | Format::Copilot
        | Format::Cline
        | Format::ClaudeAi
        | Format::OpenAiAgents
        | Format::Goose
        | Format::ChatGpt
        | Format::Llm
        | Format::Aider
        | Format::ShareGpt
        | Format::LangGraph
        | Format::Python
        | Format::OpenAiMessages => None,
    }
}

/// The name that Claude Code gives to the folder of a project.
fn claude_project_folder(directory: &str) -> String {
    /// A longer name is cut, and a hash of the directory is appended.
    const MAX_LENGTH: usize = 200;
    // Claude Code replaces code units of UTF-16.
    let safe = |unit: u16| char::from_u32(u32::from(unit)).filter(char::is_ascii_alphanumeric).unwrap_or('-');
    let name: String = directory.encode_utf16().map(safe).collect();
    let Some(start) = name.get(..MAX_LENGTH).filter(|start| start.len() < name.len()) else { return name };
    let hash = directory
        .encode_utf16()
        .fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    format!("{start}-{}", in_base_36(hash.unsigned_abs()))
}

fn in_base_36(mut number: u32) -> String {
    let mut digits = Vec::new();
    loop {
        digits.extend(char::from_digit(number % 36, 36));
        number /= 36;
        if number == 0 {
            return digits.into_iter().rev().collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_of_a_project_has_the_name_that_claude_code_gives_it() {
        assert_eq!(claude_project_folder("/home/me/it's a pröject"), "-home-me-it-s-a-pr-ject");
        assert_eq!(claude_project_folder(&"a".repeat(200)), "a".repeat(200));
        let levels: Vec<String> = (0..6).map(|level| format!("{}{level}", "a".repeat(40))).collect();
        // As Claude Code 2.1.197 named it.
        let name = claude_project_folder(&format!("/tmp/export-tools/long/{}", levels.join("/")));
        assert_eq!(name.len(), 200 + "-z8mzlj".len());
        assert!(
            name.starts_with("-tmp-export-tools-long-aaaa") && name.ends_with("3-aaaaaaaaa-z8mzlj"),
            "{name}"
        );
    }
}
