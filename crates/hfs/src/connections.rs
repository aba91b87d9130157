//! The agents that can start `hfs mcp`: where each keeps its configuration, and what is written there.
//!
//! A [`Connection`] is one agent with its file. A change of the file is planned as a text ([`ConfigEdit`]), so that the
//! user sees the difference first. The original is kept in hfs's home until the agent is disconnected, which restores
//! it byte by byte, or, if the file has changed since, removes only the entry of hfs.

mod edit;
mod record;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hfs_core::ErrorKind;
use hfs_files::Durability;

use crate::environment::Environment;
use crate::home::Home;
use crate::output::error::CliError;
use crate::output::sanitize;
use crate::wiring::programs::find_program;

use edit::{EditError, EntryForm, Syntax};
pub use edit::{Entry, Server};
use record::{Record, RecordFile};

/// The name of the server in every configuration.
const SERVER_NAME: &str = "hfs";
/// Larger configurations are not changed. Claude Code keeps a history of prompts in its own.
const MAX_CONFIG_BYTES: u64 = 64 * 1024 * 1024;

/// An agent whose configuration hfs knows.
#[derive(Debug)]
pub struct Client {
    pub name: &'static str,
    pub title: &'static str,
    /// Its program.
    program: &'static str,
    syntax: Syntax,
    /// The keys of the object that holds the servers.
    path: &'static [&'static str],
    form: EntryForm,
    /// The folder whose existence shows that the agent was used, and its configuration file.
    locate: fn(&Folders<'_>) -> (PathBuf, PathBuf),
}

const MCP_SERVERS: &[&str] = &["mcpServers"];

/// All agents that can be connected.
pub static CLIENTS: [Client; 9] = [
    Client {
        name: "claude",
        title: "Claude Code",
        program: "claude",
        syntax: Syntax::Json,
        path: MCP_SERVERS,
        form: EntryForm::TypedCommand("stdio"),
        // By default, the file is not in the folder.
        locate: |folders| match folders.variable("CLAUDE_CONFIG_DIR") {
            Some(folder) => with_file(folder, ".claude.json"),
            None => (folders.home.join(".claude"), folders.home.join(".claude.json")),
        },
    },
    Client {
        name: "codex",
        title: "Codex",
        program: "codex",
        syntax: Syntax::Toml,
        path: &["mcp_servers"],
        form: EntryForm::Command,
        locate: |folders| with_file(folders.variable_or_home("CODEX_HOME", ".codex"), "config.toml"),
    },
    Client {
        name: "opencode",
        title: "opencode",
        program: "opencode",
        syntax: Syntax::Json,
        path: &["mcp"],
        form: EntryForm::Opencode,
        locate: |folders| {
            let folder = folders.variable_or_home("XDG_CONFIG_HOME", ".config").join("opencode");
            let file = folders.variable("OPENCODE_CONFIG").unwrap_or_else(|| {
                // All of them are read, and the later ones override the earlier.
                let files = ["opencode.jsonc", "opencode.json", "config.json"].map(|name| folder.join(name));
                let existing = files.iter().find(|file| file.exists()).cloned();
                existing.unwrap_or_else(|| folder.join("opencode.json"))
            });
            (folder, file)
        },
    },
    Client {
        name: "gemini",
        title: "Gemini CLI",
        program: "gemini",
        syntax: Syntax::Json,
        path: MCP_SERVERS,
        form: EntryForm::Command,
        locate: |folders| {
            let home = folders.variable("GEMINI_CLI_HOME").unwrap_or_else(|| folders.home.to_owned());
            with_file(home.join(".gemini"), "settings.json")
        },
    },
    Client {
        name: "qwen",
        title: "Qwen Code",
        program: "qwen",
        syntax: Syntax::Json,
        path: MCP_SERVERS,
        form: EntryForm::Command,
        locate: |folders| with_file(folders.variable_or_home("QWEN_HOME", ".qwen"), "settings.json"),
    },
    Client {
        name: "goose",
        title: "goose",
        program: "goose",
        syntax: Syntax::Yaml,
        path: &["extensions"],
        form: EntryForm::Goose,
        locate: |folders| {
            let folder = folders.variable("GOOSE_PATH_ROOT").map_or_else(
                || folders.variable_or_home("XDG_CONFIG_HOME", ".config").join("goose"),
                |root| root.join("config"),
            );
            with_file(folder, "config.yaml")
        },
    },
    Client {
        name: "cursor",
        title: "Cursor",
        program: "cursor",
        syntax: Syntax::Json,
        path: MCP_SERVERS,
        form: EntryForm::Command,
        locate: |folders| with_file(folders.home.join(".cursor"), "mcp.json"),
    },
    Client {
        name: "copilot",
        title: "GitHub Copilot CLI",
        program: "copilot",
        syntax: Syntax::Json,
        path: MCP_SERVERS,
        form: EntryForm::Copilot,
        locate: |folders| with_file(folders.variable_or_home("COPILOT_HOME", ".copilot"), "mcp-config.json"),
    },
    Client {
        name: "windsurf",
        title: "Windsurf",
        program: "windsurf",
        syntax: Syntax::Json,
        path: MCP_SERVERS,
        form: EntryForm::Command,
        locate: |folders| with_file(folders.home.join(".codeium/windsurf"), "mcp_config.json"),
    },
];

/// The folders of the user.
struct Folders<'a> {
    environment: &'a Environment,
    home: &'a Path,
}

impl Folders<'_> {
    fn variable(&self, name: &str) -> Option<PathBuf> {
        self.environment.get_non_empty(name).map(|path| self.environment.resolve(Path::new(path)))
    }

    fn variable_or_home(&self, name: &str, default: &str) -> PathBuf {
        self.variable(name).unwrap_or_else(|| self.home.join(default))
    }
}

/// A folder, and the path of a file in it.
fn with_file(folder: PathBuf, name: &str) -> (PathBuf, PathBuf) {
    let file = folder.join(name);
    (folder, file)
}

/// Whether an agent starts `hfs mcp`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    NotConnected,
    Connected,
    /// The configuration has a server of this name with another command.
    Different(Entry),
    /// The configuration cannot be read. The text says why.
    Unreadable(String),
}

impl State {
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::NotConnected => "not_connected",
            Self::Connected => "connected",
            Self::Different(_) => "different",
            Self::Unreadable(_) => "unreadable",
        }
    }
}

/// An agent and its configuration file.
#[derive(Debug)]
pub struct Connection {
    pub client: &'static Client,
    pub file: PathBuf,
    /// Whether the agent seems to be installed.
    pub is_found: bool,
    record: RecordFile,
}

/// A planned change of a configuration file.
#[derive(Debug)]
pub struct ConfigEdit {
    /// The content; `None` if the file does not exist.
    pub before: Option<String>,
    /// The new content; `None` to remove the file.
    pub after: Option<String>,
    /// What to keep for disconnecting. `None` if nothing is to be kept.
    record: Option<Record>,
}

impl ConfigEdit {
    /// Whether the change connects the agent, and does not disconnect it.
    pub const fn is_connecting(&self) -> bool {
        self.record.is_some()
    }
}

impl Connection {
    /// Finds the configuration of an agent.
    ///
    /// # Errors
    /// `NotFound` if the user has no home directory.
    pub fn find(client: &'static Client, environment: &Environment, home: &Home) -> Result<Self, CliError> {
        let Some(user_home) = &environment.user_home else {
            return Err(CliError::with_hint(
                ErrorKind::NotFound,
                "cannot find the configurations of agents: your home directory is not known",
                "set the environment variable HOME",
            ));
        };
        let (folder, file) = (client.locate)(&Folders { environment, home: user_home });
        let is_found =
            folder.is_dir() || file.exists() || find_program(client.program, environment).is_some();
        let record = RecordFile::new(home, client.name, &file);
        Ok(Self { client, file, is_found, record })
    }

    /// Whether the agent starts this server.
    pub fn state(&self, server: &Server) -> State {
        let entry = self.read().and_then(|text| match text {
            Some(text) => self.entry(&text),
            None => Ok(None),
        });
        match entry {
            Ok(None) => State::NotConnected,
            Ok(Some(entry)) if entry == self.client.form.entry(server) => State::Connected,
            Ok(Some(entry)) => State::Different(entry),
            Err(error) => State::Unreadable(error.document().one_line()),
        }
    }

    /// Plans to let the agent start this server. `None` if it does so already.
    ///
    /// # Errors
    /// If the configuration cannot be read, parsed or changed.
    pub fn plan_connect(&self, server: &Server) -> Result<Option<ConfigEdit>, CliError> {
        let before = self.read()?;
        let entry = self.client.form.entry(server);
        let text = before.as_deref().unwrap_or_default();
        let existing = self.entry(text)?;
        if existing.as_ref() == Some(&entry) {
            return Ok(None);
        }
        let record = self.record.read()?;
        // What disconnecting restores: never an entry of hfs.
        let original = match record {
            Some(record) if record.is_current(before.as_deref()) => record.original,
            _ if existing.as_ref().is_some_and(Entry::is_of_hfs) => Some(self.removed(text)?),
            _ => before.clone(),
        };
        let path = self.path(text);
        let edited =
            self.client.syntax.set(text, &path, SERVER_NAME, &entry).map_err(|error| self.error(&error))?;
        let record = Record::new(self.file.clone(), original, &edited);
        Ok(Some(ConfigEdit { before, after: Some(edited), record: Some(record) }))
    }

    /// Plans to remove the server. `None` if the configuration has no entry of hfs.
    ///
    /// # Errors
    /// If the configuration cannot be read, parsed or changed.
    pub fn plan_disconnect(&self) -> Result<Option<ConfigEdit>, CliError> {
        let before = self.read()?;
        let record = self.record.read()?;
        let Some(text) = &before else {
            // The user has removed the file.
            return Ok(None);
        };
        if let Some(record) = record
            && record.is_current(Some(text))
        {
            return Ok(Some(ConfigEdit { after: record.original, before, record: None }));
        }
        if !self.entry(text)?.is_some_and(|entry| entry.is_of_hfs()) {
            return Ok(None);
        }
        let after = self.removed(text)?;
        Ok(Some(ConfigEdit { before, after: Some(after), record: None }))
    }

    /// Carries out a planned change.
    ///
    /// # Errors
    /// `Conflict` if the file has changed since the plan; or if a file cannot be written.
    pub fn apply(&self, edit: &ConfigEdit, home: &Home) -> Result<(), CliError> {
        if self.read()? != edit.before {
            return Err(CliError::with_hint(
                ErrorKind::Conflict,
                format!("{} has changed in the meantime and was left as it is", self.shown_file()),
                "run the command again",
            ));
        }
        let had_record = self.record.exists();
        if let Some(record) = &edit.record {
            // Before the file changes, so that a crash in between loses nothing.
            home.create()?;
            self.record.write(record, missing_folders(&self.file))?;
        }
        let changed = match &edit.after {
            Some(text) => self.write(text),
            None => fs::remove_file(&self.file),
        };
        if let Err(source) = changed {
            // A copy of a configuration that was not changed is of no use.
            if edit.record.is_some() && !had_record {
                self.forget()?;
            }
            return Err(CliError::io(format!("change {}", self.shown_file()), source));
        }
        if edit.record.is_none() { self.forget() } else { Ok(()) }
    }

    /// Removes what is kept of the configuration, and the folders that were created for it. Those that have been used since stay.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn forget(&self) -> Result<(), CliError> {
        let folders = self.record.remove()?;
        folders.iter().rev().for_each(|folder| drop(fs::remove_dir(folder)));
        Ok(())
    }

    /// Replaces the file with its permissions.
    fn write(&self, text: &str) -> io::Result<()> {
        if let Some(folder) = self.file.parent() {
            hfs_files::create_private_folders(folder)?;
        }
        let permissions = fs::metadata(&self.file).ok().map(|metadata| metadata.permissions());
        hfs_files::replace(&self.file, text.as_bytes(), Durability::Synced)?;
        match permissions {
            Some(permissions) => fs::set_permissions(&self.file, permissions),
            None => Ok(()),
        }
    }

    fn read(&self) -> Result<Option<String>, CliError> {
        let cannot = |source| CliError::io(format!("read {}", self.shown_file()), source);
        let invalid =
            |reason: &str| CliError::new(ErrorKind::Invalid, format!("{} {reason}", self.shown_file()));
        match fs::metadata(&self.file) {
            Ok(metadata) if !metadata.is_file() => return Err(invalid("is not a regular file")),
            Ok(metadata) if metadata.len() > MAX_CONFIG_BYTES => {
                return Err(invalid("is too large to be changed"));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if fs::symlink_metadata(&self.file).is_ok() {
                    return Err(invalid("is a symbolic link to a file that does not exist"));
                }
                // What it leads to may be on a disk that is not mounted.
                if let Some(link) = missing_folders(&self.file).iter().find(|folder| folder.is_symlink()) {
                    let link = sanitize::line(&link.display().to_string());
                    return Err(invalid(&format!(
                        "cannot be created: {link} is a symbolic link to a folder that does not exist"
                    )));
                }
                return Ok(None);
            }
            Err(error) => return Err(cannot(error)),
        }
        match fs::read_to_string(&self.file) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(invalid("is not UTF-8")),
            Err(error) => Err(cannot(error)),
        }
    }

    /// The entry of the server.
    fn entry(&self, text: &str) -> Result<Option<Entry>, CliError> {
        self.client.syntax.get(text, &self.path(text), SERVER_NAME).map_err(|error| self.error(&error))
    }

    fn removed(&self, text: &str) -> Result<String, CliError> {
        self.client.syntax.remove(text, &self.path(text), SERVER_NAME).map_err(|error| self.error(&error))
    }

    /// The keys of the object with the servers. Version 2 of opencode keeps them one level deeper.
    fn path(&self, text: &str) -> Vec<&'static str> {
        let mut path = self.client.path.to_vec();
        if self.client.form == EntryForm::Opencode && edit::has_object_without_type(text, &["mcp", "servers"])
        {
            path.push("servers");
        }
        path
    }

    fn error(&self, error: &EditError) -> CliError {
        CliError::with_hint(
            ErrorKind::Invalid,
            format!("{} was left as it is: {error}", self.shown_file()),
            "correct the file, or add a server with the command `hfs mcp` by hand",
        )
    }

    pub fn shown_file(&self) -> String {
        sanitize::line(&self.file.display().to_string())
    }
}

/// The folders that have to be created for a file, outermost first.
fn missing_folders(file: &Path) -> Vec<PathBuf> {
    let mut missing: Vec<PathBuf> =
        file.ancestors().skip(1).take_while(|folder| !folder.exists()).map(Path::to_owned).collect();
    missing.reverse();
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(name: &str, folder: &Path) -> (Connection, Home) {
        let mut environment = Environment::with_variables([]);
        environment.user_home = Some(folder.to_owned());
        let home = Home::find(Some(&folder.join("hfs")), &environment).unwrap();
        let client = CLIENTS.iter().find(|client| client.name == name).unwrap();
        (Connection::find(client, &environment, &home).unwrap(), home)
    }

    #[test]
    fn a_file_that_changes_while_the_user_is_asked_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let (connection, home) = connection("claude", folder.path());
        let server = Server { program: "/usr/bin/hfs".into(), arguments: vec!["mcp".into()] };
        fs::write(&connection.file, "{}").unwrap();
        let edit = connection.plan_connect(&server).unwrap().unwrap();
        fs::write(&connection.file, "{\"a\": 1}").unwrap();
        let error = connection.apply(&edit, &home).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert_eq!(fs::read_to_string(&connection.file).unwrap(), "{\"a\": 1}");
        assert!(!home.root().join("connections").exists());
    }

    #[test]
    fn a_crash_between_the_record_and_the_change_loses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (connection, home) = connection("codex", folder.path());
        let server = Server { program: "/usr/bin/hfs".into(), arguments: vec!["mcp".into()] };
        fs::create_dir(folder.path().join(".codex")).unwrap();
        fs::write(&connection.file, "model = 'x'\n").unwrap();
        let edit = connection.plan_connect(&server).unwrap().unwrap();
        home.create().unwrap();
        connection.record.write(edit.record.as_ref().unwrap(), Vec::new()).unwrap();
        assert!(connection.plan_disconnect().unwrap().is_none(), "it has not been connected");
        fs::write(&connection.file, "model = 'y'\n").unwrap();
        let edit = connection.plan_connect(&server).unwrap().unwrap();
        connection.apply(&edit, &home).unwrap();
        let edit = connection.plan_disconnect().unwrap().unwrap();
        connection.apply(&edit, &home).unwrap();
        assert_eq!(fs::read_to_string(&connection.file).unwrap(), "model = 'y'\n");
    }

    #[test]
    fn a_folder_that_was_created_is_removed_unless_it_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let (connection, home) = connection("windsurf", folder.path());
        let server = Server { program: "/usr/bin/hfs".into(), arguments: vec!["mcp".into()] };
        for is_used in [false, true] {
            let edit = connection.plan_connect(&server).unwrap().unwrap();
            connection.apply(&edit, &home).unwrap();
            if is_used {
                fs::write(folder.path().join(".codeium/other"), "").unwrap();
            }
            let edit = connection.plan_disconnect().unwrap().unwrap();
            connection.apply(&edit, &home).unwrap();
            assert_eq!(folder.path().join(".codeium").exists(), is_used);
            assert!(!folder.path().join(".codeium/windsurf").exists());
        }
    }
}
