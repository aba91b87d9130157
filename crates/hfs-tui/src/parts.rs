//! What the binary hands to the app, and what the app asks of it.
//!
//! The app knows the engine and nothing behind it. What needs a concrete adapter (files that come and go, the
//! configuration, plugins) it asks through the small traits here; their calls block and are made away from the
//! screen's thread.

use std::path::PathBuf;
use std::sync::Arc;

use hfs_core::{Clock, ErrorExt, ErrorKind, Project, Session, SessionId};
use hfs_engine::{Conversation, Engine, ImportedSession, OnDuplicate, SkippedSession};
use tokio::sync::watch;

pub use hfs_core::{Node, Slot, Tone};

pub use crate::editor::KeyMode;
pub use crate::theme::{Depth, Ground};

/// Everything that the app is made of.
pub struct AppParts {
    /// The use cases.
    pub engine: Engine,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// What is opened first: a session, or a conversation that has not begun.
    pub conversation: Conversation,
    /// Whether to begin with the list of sessions instead, and with whose.
    pub pick: Option<PickFrom>,
    /// Where new conversations belong.
    pub project: Option<Project>,
    /// How the app looks and behaves.
    pub settings: AppSettings,
    /// Import and export.
    pub transfer: Arc<dyn Transfer>,
    /// The configuration.
    pub configuration: Arc<dyn Configuration>,
    /// Plugins.
    pub plugins: Arc<dyn PluginHost>,
}

/// Which sessions a list begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PickFrom {
    /// Those of this project.
    Project,
    /// All of them.
    Everywhere,
}

/// How much is shown of how a reply came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OutputMode {
    /// Thinking and tools folded, messages close together.
    #[default]
    Compact,
    /// Everything unfolded, with times, models and tokens.
    Verbose,
}

/// How the app looks and behaves.
#[derive(Debug, Clone)]
pub struct AppSettings {
    /// The terminal's background.
    pub ground: Ground,
    /// How many colours there are; [`Depth::None`] for `NO_COLOR`.
    pub depth: Depth,
    /// Whose habits the input follows.
    pub keys: KeyMode,
    /// How much is shown.
    pub output: OutputMode,
    /// Whether the app sees the mouse.
    pub mouse: bool,
    /// The command that edits long input: `$VISUAL` or `$EDITOR`, with its arguments.
    pub editor: Option<String>,
    /// The zone in which times are shown.
    pub time_zone: jiff::tz::TimeZone,
}

impl Default for AppSettings {
    fn default() -> Self {
        Self {
            ground: Ground::Dark,
            depth: Depth::True,
            keys: KeyMode::Standard,
            output: OutputMode::Compact,
            mouse: true,
            editor: None,
            time_zone: jiff::tz::TimeZone::system(),
        }
    }
}

/// How the app was left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exit {
    /// The session that was open last, for the line that says how to resume it.
    pub session: Option<SessionId>,
    /// What it is called.
    pub name: Option<String>,
}

/// Why something that was asked for did not happen, as a person is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure.
    pub kind: ErrorKind,
    /// What was tried and why it failed, its causes included.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure without a hint.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    /// What an error says, with everything that caused it.
    pub fn of(error: &dyn ErrorExt) -> Self {
        let message = hfs_core::error_chain(error);
        Self { kind: error.kind(), message, hint: error.suggestion().as_ref().map(hint) }
    }
}

/// Listens to long work. Its answer is `false` when the work shall stop.
pub trait Progress: Send + Sync {
    /// So much is done, of so much where that is known; `what` is worked on now.
    fn report(&self, done: u64, total: Option<u64>, what: &str) -> bool;
}

/// A form that sessions are exported in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportFormat {
    /// `json`, `markdown`, `html`.
    pub name: String,
    /// One line: what it is good for.
    pub about: String,
}

/// A session to be exported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportRequest {
    /// The session.
    pub session: SessionId,
    /// The format's name.
    pub format: String,
    /// The file.
    pub path: PathBuf,
    /// Whether secrets are masked.
    pub redact: bool,
    /// Whether all branches go along, or the current one only.
    pub all_branches: bool,
}

/// A finished export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// The file.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// What a person should know, such as what seems to be a secret.
    pub warnings: Vec<String>,
}

/// Transcripts of one tool that were found on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundTranscripts {
    /// The tool.
    pub tool: String,
    /// Where they are.
    pub path: PathBuf,
    /// How many files.
    pub files: u64,
    /// How many bytes.
    pub bytes: u64,
}

/// Files to be imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportRequest {
    /// Files and directories.
    pub paths: Vec<PathBuf>,
    /// What becomes of sessions that are there already.
    pub on_duplicate: OnDuplicate,
    /// Only say what would happen.
    pub dry_run: bool,
}

/// A finished import.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Imported {
    /// What was taken.
    pub imported: Vec<ImportedSession>,
    /// What was left as it was.
    pub skipped: Vec<SkippedSession>,
    /// Which files could not be read.
    pub failed: Vec<(String, Failure)>,
}

/// Sessions in and out of files. All calls block.
pub trait Transfer: Send + Sync {
    /// The formats of exports, the default first.
    fn export_formats(&self) -> Vec<ExportFormat>;

    /// Where an export of this session goes unless the user says otherwise.
    fn default_export_path(&self, session: &Session, format: &str) -> PathBuf;

    /// Writes a session to a file.
    ///
    /// # Errors
    /// What stood in the way; nothing is left of the file then.
    fn export(&self, request: &ExportRequest, progress: &dyn Progress) -> Result<Exported, Failure>;

    /// Looks where other tools keep their transcripts.
    fn find_transcripts(&self) -> Vec<FoundTranscripts>;

    /// Reads transcripts into the store.
    ///
    /// # Errors
    /// What stood in the way of all of it; what concerns one file is in the result.
    fn import(&self, request: &ImportRequest, progress: &dyn Progress) -> Result<Imported, Failure>;
}

/// A setting as a person sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Its name, such as `keybinding_mode`.
    pub key: String,
    /// Its value as text; empty when nobody set it.
    pub value: String,
    /// Where it was set: a file, a variable, `default`.
    pub origin: String,
    /// One line: what it decides.
    pub about: String,
    /// The values it can have, where they are few.
    pub choices: Vec<String>,
}

/// What setting a value led to.
#[derive(Clone, Default)]
pub struct ConfigChange {
    /// How the app looks and behaves from now on, when that changed.
    pub settings: Option<AppSettings>,
    /// The engine to use from now on, when another agent or model answers.
    pub engine: Option<Engine>,
    /// What a person is told, such as when it takes effect.
    pub note: String,
}

/// The configuration. All calls block.
pub trait Configuration: Send + Sync {
    /// All settings with their present values.
    fn entries(&self) -> Vec<ConfigEntry>;

    /// Sets a value in the user's own configuration file.
    ///
    /// # Errors
    /// An unknown key, a value that it cannot have, a file that cannot be written.
    fn set(&self, key: &str, value: &str) -> Result<ConfigChange, Failure>;
}

/// The last good picture of a plugin's widget.
#[derive(Debug, Clone, PartialEq)]
pub struct Widget {
    /// Whose it is.
    pub plugin: String,
    /// Where it goes.
    pub slot: Slot,
    /// What it shows.
    pub nodes: Vec<Node>,
}

/// A command that a plugin adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginCommand {
    /// Without the slash; `plugin:name` where two clash.
    pub name: String,
    /// One line.
    pub about: String,
}

/// A plugin as lists show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginRow {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// `active`, `pending`, `denied`, `disabled`, `quarantined`, `invalid`.
    pub state: String,
    /// Why it is in that state, where that needs saying.
    pub reason: String,
    /// What it adds: commands, widgets, hooks.
    pub capabilities: Vec<String>,
}

/// A plugin that wants to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalRequest {
    /// Its name.
    pub plugin: String,
    /// Its version.
    pub version: String,
    /// What it says it does.
    pub about: String,
    /// What it may do when it is approved, in words, one line each.
    pub permissions: Vec<String>,
    /// Of these, what it could not do when it was approved before.
    pub new_permissions: Vec<String>,
}

/// What plugins show now.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PluginView {
    /// All plugins.
    pub plugins: Vec<PluginRow>,
    /// Their commands.
    pub commands: Vec<PluginCommand>,
    /// Their widgets.
    pub widgets: Vec<Widget>,
    /// Those that wait for a decision.
    pub pending: Vec<ApprovalRequest>,
    /// What plugins tell the user, once each.
    pub notices: Vec<String>,
}

/// What becomes of a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PluginDecision {
    /// It may run.
    Approve,
    /// It may not.
    Deny,
    /// It runs again.
    Enable,
    /// It stays installed and does not run.
    Disable,
}

/// Plugins. All calls block, none of them on a plugin but [`run`](Self::run).
pub trait PluginHost: Send + Sync {
    /// What there is to show.
    fn view(&self, session: Option<SessionId>) -> PluginView;

    /// Counts up whenever [`view`](Self::view) has something new; `None` where nothing ever changes.
    fn changes(&self) -> Option<watch::Receiver<u64>>;

    /// Decides about a plugin.
    ///
    /// # Errors
    /// When the decision cannot be kept.
    fn decide(&self, plugin: &str, decision: PluginDecision) -> Result<(), Failure>;

    /// Runs a plugin's command and returns what it says, as Markdown.
    ///
    /// # Errors
    /// What went wrong in it.
    fn run(&self, command: &str, arguments: &str, session: Option<SessionId>) -> Result<String, Failure>;
}

/// No plugins at all.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoPlugins;

impl PluginHost for NoPlugins {
    fn view(&self, _session: Option<SessionId>) -> PluginView {
        PluginView::default()
    }

    fn changes(&self) -> Option<watch::Receiver<u64>> {
        None
    }

    fn decide(&self, plugin: &str, _decision: PluginDecision) -> Result<(), Failure> {
        Err(Failure::new(ErrorKind::NotFound, format!("no plugin {plugin:?}")))
    }

    fn run(&self, command: &str, _arguments: &str, _session: Option<SessionId>) -> Result<String, Failure> {
        Err(Failure::new(ErrorKind::NotFound, format!("no command {command:?}")))
    }
}

/// Words a suggestion for the app.
pub fn hint(suggestion: &hfs_core::Suggestion) -> String {
    format!("{suggestion:?}")
}
