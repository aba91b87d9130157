//! The interface between the binary and the app.
//!
//! The app depends on the engine only. Features that need a concrete adapter (import and export files, the configuration,
//! plugins) are reached through the traits in this module. Their methods may block: the runner calls them on blocking
//! threads.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use hfs_core::{Clock, ErrorExt, ErrorKind, Project, Session, SessionId, Suggestion, error_chain};
use hfs_engine::{
    Conversation, Engine, ImportedSession, OnDuplicate, OutgoingMessage, Prices, SendError, SkippedSession,
};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};

pub use hfs_core::{Node, Slot, Tone};

pub use crate::editor::KeyMode;
pub use crate::theme::{Background, ColorDepth};

/// Everything that the app needs to run.
pub struct AppParts {
    /// The engine.
    pub engine: Engine,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The conversation to start with: in a session, or new.
    pub conversation: Conversation,
    /// If set, the app starts with the list of these sessions instead of the chat.
    pub session_list: Option<SessionScope>,
    /// Project of new conversations.
    pub project: Option<Project>,
    /// The user's settings.
    pub settings: AppSettings,
    /// Wording of the engine's suggestions.
    pub suggestion_wording: SuggestionWording,
    /// The prices of models, for the statistics.
    pub prices: Prices,
    /// Import and export.
    pub transfer: Arc<dyn Transfer>,
    /// The configuration.
    pub configuration: Arc<dyn Configuration>,
    /// Plugins.
    pub plugins: Arc<dyn PluginHost>,
    /// What was written and not sent.
    pub drafts: Arc<dyn Drafts>,
    /// What agents ask while they work; `None` if no agent asks.
    pub questions: Option<mpsc::UnboundedReceiver<AgentQuestion>>,
    /// What the user should know from the start. What was printed before the app drew its first frame is out of sight.
    pub warnings: Vec<String>,
}

/// A question of an agent, or the number of those that wait for it.
#[derive(Debug)]
pub enum AgentQuestion {
    /// An agent asks whether it may do something. There is at most one open question. If the agent does not need the answer
    /// any more, the receiver of `answer` is dropped.
    Asked {
        /// What it wants to do.
        request: Box<PermissionRequest>,
        /// Receives the answer.
        answer: oneshot::Sender<PermissionAnswer>,
    },
    /// Number of questions that wait for the open one.
    Waiting(usize),
}

/// What an agent asks to do. All texts are the agent's: they may contain control characters.
#[derive(Debug, Clone, PartialEq)]
pub struct PermissionRequest {
    /// Name of the agent.
    pub agent: String,
    /// What it wants to do in general, such as `run a command`.
    pub action: &'static str,
    /// The agent's description.
    pub title: String,
    /// The command that would run.
    pub command: Option<String>,
    /// The files that would change.
    pub changes: Vec<FileChange>,
    /// The files that it is about.
    pub paths: Vec<String>,
    /// Arguments that neither the command nor the changes show.
    pub input: Option<Value>,
    /// Other text of the agent, such as a plan.
    pub text: Vec<String>,
    /// What an answer "always" would cover; `None` if it is not possible.
    pub always: Option<String>,
}

/// A change of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChange {
    /// The file.
    pub path: String,
    /// Its text before; `None` for a new file.
    pub old: Option<String>,
    /// Its text after.
    pub new: String,
}

/// The answer to a [`PermissionRequest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PermissionAnswer {
    /// Yes, this time.
    AllowOnce,
    /// Yes, always.
    AllowAlways,
    /// No, this time.
    RejectOnce,
    /// No, always.
    RejectAlways,
}

/// Expresses a suggestion in terms of the binary, whose commands and options the app does not know.
pub type SuggestionWording = fn(&Suggestion) -> String;

/// Which sessions a list starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionScope {
    /// Sessions of the current project.
    Project,
    /// Sessions of all projects.
    AllProjects,
}

/// How much detail of a reply is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OutputMode {
    /// Thinking and tool calls folded.
    #[default]
    Compact,
    /// Everything unfolded, with token counts.
    Verbose,
}

/// Appearance and behaviour of the app.
#[derive(Debug, Clone)]
pub struct AppSettings {
    /// The terminal's background; unknown if the app should ask the terminal.
    pub background: Background,
    /// Number of colours; [`ColorDepth::None`] for `NO_COLOR`.
    pub color_depth: ColorDepth,
    /// Key bindings of the input.
    pub keys: KeyMode,
    /// How much detail is shown.
    pub output: OutputMode,
    /// Whether the app captures the mouse.
    pub mouse: bool,
    /// Whether the app asks the terminal for unambiguous keys: the kitty protocol, and xterm's modified keys.
    pub extended_keys: bool,
    /// The command of the external editor with its arguments, from `$VISUAL` or `$EDITOR`.
    pub editor: Option<String>,
    /// A program with its arguments that puts its standard input on the desktop's clipboard, if there is one.
    pub clipboard_program: Option<Vec<String>>,
    /// Whether counters and the spinner move while a reply is in progress. Screen readers read each change.
    pub animations: bool,
    /// Time zone of the times shown.
    pub time_zone: jiff::tz::TimeZone,
}

impl Default for AppSettings {
    fn default() -> Self {
        Self {
            background: Background::Dark,
            color_depth: ColorDepth::True,
            keys: KeyMode::Standard,
            output: OutputMode::Compact,
            mouse: true,
            extended_keys: true,
            editor: None,
            clipboard_program: None,
            animations: true,
            time_zone: jiff::tz::TimeZone::system(),
        }
    }
}

/// The result of a run of the app.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exit {
    /// The session that was open when the app ended.
    pub session: Option<SessionId>,
    /// Name of that session.
    pub name: Option<String>,
    /// The signal that ended the app.
    pub signal: Option<i32>,
    /// What was written and not sent, if it could not be kept, and why.
    pub lost_draft: Option<(String, ErrorReport)>,
}

/// An error as the user sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorReport {
    /// Classification of the error.
    pub kind: ErrorKind,
    /// The error's message, followed by its causes.
    pub message: String,
    /// A suggestion for the user.
    pub suggestion: Option<String>,
}

impl ErrorReport {
    /// Creates a report without a suggestion.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), suggestion: None }
    }

    /// Creates a report of an error and its causes.
    pub fn from_error(error: &dyn ErrorExt, wording: SuggestionWording) -> Self {
        Self {
            kind: error.kind(),
            message: error_chain(error),
            suggestion: error.suggestion().as_ref().map(wording),
        }
    }
}

/// Receives the progress of an import or export.
pub trait Progress: Send + Sync {
    /// Reports `done` of `total` bytes while `item` is processed. Returns `false` if the work should stop.
    fn report(&self, done: u64, total: Option<u64>, item: &str) -> bool;
}

/// An export format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportFormat {
    /// Name: `json`, `markdown` or `html`.
    pub name: String,
    /// Description in one line.
    pub about: String,
    /// The file extensions that select it.
    pub extensions: Vec<String>,
}

/// An export of one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportRequest {
    /// The session.
    pub session: SessionId,
    /// Name of the format.
    pub format: String,
    /// The file to write.
    pub path: PathBuf,
    /// Whether secrets are masked.
    pub redact: bool,
    /// Whether all branches are exported, or only the current one.
    pub all_branches: bool,
    /// Whether a file with this path is replaced.
    pub replaces: bool,
}

/// The result of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExportOutcome {
    /// The file was written.
    Written(Exported),
    /// Nothing was written, because this file exists.
    FileExists(PathBuf),
}

/// A completed export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// The file that was written.
    pub path: PathBuf,
    /// Size of the file.
    pub bytes: u64,
    /// Warnings for the user, such as possible secrets in the file.
    pub warnings: Vec<String>,
}

/// Transcripts of another tool on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundTranscripts {
    /// Name of the tool.
    pub tool: String,
    /// Directory of the transcripts.
    pub path: PathBuf,
    /// Number of files.
    pub files: u64,
    /// Total size of the files.
    pub bytes: u64,
}

/// An import of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportRequest {
    /// Files and directories.
    pub paths: Vec<PathBuf>,
    /// How sessions that were imported before are handled.
    pub on_duplicate: OnDuplicate,
    /// Reports what would be imported without writing it.
    pub dry_run: bool,
}

/// A completed import.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Imported {
    /// Sessions that were imported.
    pub imported: Vec<ImportedSession>,
    /// Sessions that were skipped.
    pub skipped: Vec<SkippedSession>,
    /// Files that could not be read, with the reason.
    pub failed: Vec<(String, ErrorReport)>,
}

/// Files: import, export, and those that go with messages. All methods may block.
pub trait Transfer: Send + Sync {
    /// Lists the export formats, the default first.
    fn export_formats(&self) -> Vec<ExportFormat>;

    /// Returns the file that a session is exported to if the user gives no path.
    fn default_export_path(&self, session: &Session, format: &str) -> PathBuf;

    /// Writes a session to a file.
    ///
    /// # Errors
    /// Fails if the session cannot be read or the file cannot be written; an incomplete file is removed.
    fn export(&self, request: &ExportRequest, progress: &dyn Progress) -> Result<ExportOutcome, ErrorReport>;

    /// Searches the default locations of other tools for transcripts.
    fn find_transcripts(&self) -> Vec<FoundTranscripts>;

    /// Imports transcripts into the store.
    ///
    /// # Errors
    /// Fails if nothing could be imported; errors of single files are part of the result.
    fn import(&self, request: &ImportRequest, progress: &dyn Progress) -> Result<Imported, ErrorReport>;

    /// Attaches the files that a message mentions.
    ///
    /// # Errors
    /// `NotAttached` if a mentioned file cannot be attached.
    fn attach_files(&self, text: &str) -> Result<OutgoingMessage, SendError> {
        Ok(text.into())
    }

    /// Lists the paths that begin with the typed text.
    fn complete_path(&self, _typed: &str) -> FoundPaths {
        FoundPaths::default()
    }
}

/// Paths that begin with a typed text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FoundPaths {
    /// The paths; those of folders end with a slash.
    pub paths: Vec<String>,
    /// Number of further paths, which are not listed.
    pub left_out: usize,
}

/// Keeps what the user has written and not sent when the app ends, until the conversation is opened again. `None` stands for a
/// conversation without a session. All methods may block.
pub trait Drafts: Send + Sync {
    /// Returns the text that is kept for a conversation.
    ///
    /// # Errors
    /// If it cannot be read.
    fn read(&self, session: Option<SessionId>) -> Result<Option<String>, ErrorReport>;

    /// Replaces the text that is kept for a conversation. An empty text removes it.
    ///
    /// # Errors
    /// If it cannot be written or removed.
    fn write(&self, session: Option<SessionId>, text: &str) -> Result<(), ErrorReport>;
}

/// A setting and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Key, such as `keybinding_mode`.
    pub key: String,
    /// Value as text; empty if it is not set.
    pub value: String,
    /// Whether a secret in the value is masked, so that the text cannot be edited.
    pub is_masked: bool,
    /// Where the value comes from: a file, an environment variable, or `default`.
    pub origin: String,
    /// Description in one line.
    pub about: String,
    /// Allowed values, if there are only a few.
    pub choices: Vec<String>,
}

/// An agent that the user can choose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentEntry {
    /// Name, such as `claude`.
    pub name: String,
    /// Name that is shown, such as `Claude Code`.
    pub title: String,
    /// Description in one line.
    pub about: String,
    /// Whether it is a program of its own.
    pub is_program: bool,
    /// Whether it can answer.
    pub state: AgentState,
}

impl AgentEntry {
    /// Whether the agent is offered to a user who has configured nothing.
    #[must_use]
    pub fn is_offered(&self) -> bool {
        self.is_found() || (self.name == OFFLINE_AGENT && self.state == AgentState::Ready)
    }

    /// Whether it is a program of its own that is on this machine, possibly without its adapter.
    #[must_use]
    pub const fn is_found(&self) -> bool {
        match self.state {
            AgentState::Ready | AgentState::NeedsAdapter { .. } => self.is_program,
            AgentState::NotInstalled { .. } => false,
        }
    }
}

/// Name of the agent that needs no model.
const OFFLINE_AGENT: &str = "recall";

/// Whether an agent can answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentState {
    /// It can.
    Ready,
    /// Its tool is installed; this command installs the adapter that hfs needs.
    NeedsAdapter {
        /// The command.
        command: String,
    },
    /// It is not installed.
    NotInstalled {
        /// How to install it, if that is known.
        hint: Option<String>,
    },
}

/// The agents that the user can choose.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentsView {
    /// The agents.
    pub agents: Vec<AgentEntry>,
    /// Whether recall answers only because nothing is configured and no model was found.
    pub is_unconfigured: bool,
}

/// The effects of a changed setting.
#[derive(Clone, Default)]
pub struct ConfigChange {
    /// New settings of the app, if they changed.
    pub settings: Option<AppSettings>,
    /// The engine to use from now on, if the agent or the model changed.
    pub engine: Option<Engine>,
    /// Message for the user, such as when the change takes effect.
    pub note: String,
}

/// The configuration. All methods may block.
pub trait Configuration: Send + Sync {
    /// Lists all settings.
    fn entries(&self) -> Vec<ConfigEntry>;

    /// Changes a setting in the user's configuration file.
    ///
    /// # Errors
    /// Fails if the key is unknown, the value is not valid, or the file cannot be written.
    fn set(&self, key: &str, value: &str) -> Result<ConfigChange, ErrorReport>;

    /// Lists the models of the server that answers.
    ///
    /// # Errors
    /// Fails if no model answers, or the server does not list its models.
    fn models(&self) -> Result<Vec<String>, ErrorReport>;

    /// Uses a model until the next call, without saving it; `None` for the configured one.
    ///
    /// # Errors
    /// Fails if the model's provider is not available.
    fn use_model(&self, model: Option<&str>) -> Result<ConfigChange, ErrorReport>;

    /// Lists the agents.
    fn agents(&self) -> AgentsView {
        AgentsView::default()
    }

    /// Returns the agent that answered last in a session, if it is a program of its own that can continue it and the user did not
    /// name another one for this run.
    fn agent_of(&self, _session: SessionId) -> Option<String> {
        None
    }

    /// Lets an agent answer until the next call, without changing the configuration; `None` for the configured agent. The note
    /// of the change need not name an agent that was given: the app says who answers.
    ///
    /// # Errors
    /// Fails if the agent is not available.
    fn use_agent(&self, agent: Option<&str>) -> Result<ConfigChange, ErrorReport> {
        Err(ErrorReport::new(ErrorKind::NotFound, format!("no agent {:?}", agent.unwrap_or_default())))
    }

    /// Installs the adapter of an agent. `output` receives the lines that the installation prints, and returns `false` if it
    /// should stop.
    ///
    /// # Errors
    /// Fails if the installation fails or was stopped, or the adapter cannot be found afterwards.
    fn install_agent(&self, agent: &str, _output: &dyn Fn(&str) -> bool) -> Result<(), ErrorReport> {
        Err(ErrorReport::new(ErrorKind::NotFound, format!("no agent {agent:?}")))
    }
}

/// A plugin's widget in its last valid state.
#[derive(Debug, Clone, PartialEq)]
pub struct Widget {
    /// Name of the plugin.
    pub plugin: String,
    /// Where the widget is shown.
    pub slot: Slot,
    /// Content.
    pub nodes: Vec<Node>,
}

/// A command that a plugin provides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginCommand {
    /// Name without the slash; `plugin:name` if two plugins use the same name.
    pub name: String,
    /// Description in one line.
    pub about: String,
}

/// Whether a plugin runs, and why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PluginRowState {
    /// Running.
    Active,
    /// Not approved yet.
    Pending,
    /// Denied by the user.
    Denied,
    /// Disabled by the user.
    Disabled,
    /// Stopped after repeated failures.
    Quarantined,
    /// Cannot be loaded.
    Invalid,
}

impl PluginRowState {
    /// The state in one word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Pending => "pending",
            Self::Denied => "denied",
            Self::Disabled => "disabled",
            Self::Quarantined => "quarantined",
            Self::Invalid => "invalid",
        }
    }
}

impl fmt::Display for PluginRowState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A row in the list of plugins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginRow {
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
    /// State.
    pub state: PluginRowState,
    /// Reason for the state; may be empty.
    pub reason: String,
    /// The kinds of features that the plugin provides, such as `commands`, `widgets` or `hooks`.
    pub capabilities: Vec<String>,
}

/// A plugin that waits for the user's approval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalRequest {
    /// Name of the plugin.
    pub plugin: String,
    /// Version of the plugin.
    pub version: String,
    /// The plugin's own description.
    pub about: String,
    /// The permissions it requests, one line each.
    pub permissions: Vec<String>,
    /// The permissions that the last approved version did not request.
    pub new_permissions: Vec<String>,
}

/// The state of all plugins.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PluginView {
    /// All plugins.
    pub plugins: Vec<PluginRow>,
    /// Commands of active plugins.
    pub commands: Vec<PluginCommand>,
    /// Widgets of active plugins.
    pub widgets: Vec<Widget>,
    /// Plugins that wait for approval.
    pub pending: Vec<ApprovalRequest>,
    /// Messages of plugins to the user; each is returned once.
    pub notices: Vec<String>,
}

/// The user's decision about a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PluginDecision {
    /// Allows the plugin to run with its requested permissions.
    Approve,
    /// Forbids the plugin to run.
    Deny,
    /// Enables a disabled plugin again.
    Enable,
    /// Disables the plugin; it stays installed.
    Disable,
}

/// The plugin host. All methods may block, but only [`run`](Self::run) waits for a plugin.
pub trait PluginHost: Send + Sync {
    /// Returns the state of the plugins.
    fn view(&self, session: Option<SessionId>) -> PluginView;

    /// Returns a counter that increases whenever [`view`](Self::view) changes; `None` if the view never changes.
    fn changes(&self) -> Option<watch::Receiver<u64>>;

    /// Stores a decision about a plugin.
    ///
    /// # Errors
    /// Fails if the plugin does not exist or the decision cannot be stored.
    fn decide(&self, plugin: &str, decision: PluginDecision) -> Result<(), ErrorReport>;

    /// Runs a plugin's command and returns its output as Markdown.
    ///
    /// # Errors
    /// Fails if there is no such command or the plugin fails.
    fn run(&self, command: &str, arguments: &str, session: Option<SessionId>) -> Result<String, ErrorReport>;
}

/// A host without plugins.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoPlugins;

impl PluginHost for NoPlugins {
    fn view(&self, _session: Option<SessionId>) -> PluginView {
        PluginView::default()
    }

    fn changes(&self) -> Option<watch::Receiver<u64>> {
        None
    }

    fn decide(&self, plugin: &str, _decision: PluginDecision) -> Result<(), ErrorReport> {
        Err(ErrorReport::new(ErrorKind::NotFound, format!("no plugin {plugin:?}")))
    }

    fn run(
        &self,
        command: &str,
        _arguments: &str,
        _session: Option<SessionId>,
    ) -> Result<String, ErrorReport> {
        Err(ErrorReport::new(ErrorKind::NotFound, format!("no command {command:?}")))
    }
}
