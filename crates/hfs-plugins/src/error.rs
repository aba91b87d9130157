//! Errors of plugins.
//!
//! [`PluginError`] is the error of operations on plugins. [`InvalidPlugin`] is the reason why a folder is not a valid
//! plugin; discovery does not fail because of it, but lists the plugin with the reason. `StartError` is the reason why
//! an approved plugin did not start.

use std::io;
use std::path::{Path, PathBuf};

use hfs_core::{ErrorExt, ErrorKind, Suggestion};

use crate::approval::PluginState;
use crate::contract::{Capability, Export};
use crate::interpreter::InterpreterError;
use crate::plugin::files::{MAX_BYTES, MAX_DEPTH, MAX_FILES};
use crate::plugin::inspect::ComponentError;
use crate::plugin::manifest::{EntryPoint, MANIFEST_FILE, ManifestError};
use crate::runtime::RuntimeError;

/// Why an operation on plugins failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PluginError {
    /// There is no plugin of this name.
    #[error("there is no plugin {name:?}")]
    PluginNotFound {
        /// The requested name.
        name: String,
    },
    /// No running plugin has this command.
    #[error("no plugin has a command {name:?}")]
    CommandNotFound {
        /// The requested name.
        name: String,
    },
    /// Several plugins have this command.
    #[error("several plugins have a command {name:?}: {}", choices.join(", "))]
    AmbiguousCommand {
        /// The requested name.
        name: String,
        /// The possible meanings, as `plugin:command`.
        choices: Vec<String>,
    },
    /// The plugin is not active.
    #[error("plugin {name} does not run: it is {state}{}{reason}", if reason.is_empty() { "" } else { ": " })]
    NotActive {
        /// Name of the plugin.
        name: String,
        /// State of the plugin.
        state: PluginState,
        /// Why it is in that state; may be empty.
        reason: String,
    },
    /// The plugin's thread ended before it handled the call.
    #[error("plugin {name} does not run: it is stopped")]
    Ended {
        /// Name of the plugin.
        name: String,
    },
    /// The host stopped the plugin because it trapped, exceeded a limit or violated the contract.
    #[error("plugin {name} was stopped in {call}: {reason}")]
    Stopped {
        /// Name of the plugin.
        name: String,
        /// The call that was stopped.
        call: String,
        /// Why it was stopped.
        reason: String,
    },
    /// The plugin was busy with other calls and did not handle this one in time.
    #[error("plugin {name} is still busy with another call")]
    Busy {
        /// Name of the plugin.
        name: String,
    },
    /// The plugin returned an error.
    #[error("plugin {name}: {message}")]
    Failed {
        /// Name of the plugin.
        name: String,
        /// The plugin's message, truncated but not sanitized.
        message: String,
    },
    /// A file is not an interpreter that this version of hfs can use.
    #[error("{} is not an interpreter for this hfs: {problem}", path.display())]
    Interpreter {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong with it.
        problem: InterpreterError,
    },
    /// A file in which hfs stores data of plugins cannot be parsed.
    #[error("{}: {message}", path.display())]
    InvalidFile {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong with it, with the line.
        message: String,
    },
    /// A file operation failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// The attempted action.
        action: &'static str,
        /// Path of the file or folder.
        path: PathBuf,
        /// The error of the file system.
        source: io::Error,
    },
    /// The WebAssembly runtime cannot be started.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
}

impl PluginError {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io { action, path: path.into(), source }
    }
}

impl ErrorExt for PluginError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::PluginNotFound { .. } | Self::CommandNotFound { .. } => ErrorKind::NotFound,
            Self::AmbiguousCommand { .. } => ErrorKind::Conflict,
            Self::NotActive { .. } | Self::Ended { .. } => ErrorKind::Denied,
            Self::Stopped { .. } | Self::Busy { .. } | Self::Failed { .. } => ErrorKind::Unavailable,
            Self::InvalidFile { .. } | Self::Interpreter { .. } => ErrorKind::Invalid,
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => ErrorKind::NotFound,
                io::ErrorKind::PermissionDenied => ErrorKind::Denied,
                _ => ErrorKind::Unavailable,
            },
            Self::Runtime(_) => ErrorKind::Internal,
        }
    }

    fn suggestion(&self) -> Option<Suggestion> {
        match self {
            Self::PluginNotFound { .. } | Self::CommandNotFound { .. } => Some(Suggestion::ListPlugins),
            Self::NotActive { name, state, .. } => {
                let plugin = name.clone();
                match state {
                    PluginState::Pending => Some(Suggestion::ReviewPlugin { plugin }),
                    PluginState::Denied => Some(Suggestion::ApprovePlugin { plugin }),
                    PluginState::Disabled | PluginState::Quarantined => {
                        Some(Suggestion::EnablePlugin { plugin })
                    }
                    PluginState::Active | PluginState::Invalid => None,
                }
            }
            Self::Stopped { name, .. } | Self::Failed { name, .. } => {
                Some(Suggestion::ShowPluginLog { plugin: name.clone() })
            }
            Self::AmbiguousCommand { .. }
            | Self::Ended { .. }
            | Self::Busy { .. }
            | Self::Interpreter { .. }
            | Self::InvalidFile { .. }
            | Self::Io { .. }
            | Self::Runtime(_) => None,
        }
    }
}

/// Why a folder is not a valid plugin. The message is one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPlugin {
    /// A file or folder cannot be read; the path is relative to the plugin's folder.
    #[error("{} cannot be read: {reason}", if path.as_os_str().is_empty() { "it".into() } else { path.to_string_lossy() })]
    Unreadable {
        /// Path below the plugin's folder; empty for the folder itself.
        path: PathBuf,
        /// The error of the file system.
        reason: String,
    },
    /// The plugin's folder is a link or a special file.
    #[error("it is not a folder; links to folders are not followed")]
    NotAFolder,
    /// The folder contains a symbolic link.
    #[error("{} is a symbolic link: a plugin consists of regular files", .0.display())]
    SymbolicLink(PathBuf),
    /// The folder contains a device, pipe or socket.
    #[error("{} is a special file: a plugin consists of regular files", .0.display())]
    SpecialFile(PathBuf),
    /// Folders are nested too deep.
    #[error("its folders are nested more than {MAX_DEPTH} deep")]
    TooDeep,
    /// There are too many files.
    #[error("it has more than {MAX_FILES} files")]
    TooManyFiles,
    /// The files are too large.
    #[error("it is larger than {} MiB", MAX_BYTES >> 20)]
    TooLarge,
    /// There is no manifest.
    #[error("it has no {MANIFEST_FILE}")]
    NoManifest,
    /// The manifest is not text.
    #[error("{MANIFEST_FILE} is not UTF-8")]
    ManifestNotUtf8,
    /// The manifest has mistakes.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Another plugin has the same name.
    #[error("the name {name} is taken by {}", by.display())]
    NameTaken {
        /// The name in the manifest.
        name: String,
        /// Folder of the other plugin.
        by: PathBuf,
    },
    /// The file that the manifest names as `entry_point` does not exist.
    #[error("its entry point {} does not exist", .0.display())]
    EntryPointMissing(PathBuf),
    /// The manifest names no `entry_point`, and none of the default files exists.
    #[error("it has no code: expected one of {}", default_entry_points())]
    NoCode,
    /// The entry point is not a valid component.
    #[error("{}: {error}", file.display())]
    Component {
        /// The entry point.
        file: PathBuf,
        /// What is wrong with it.
        error: ComponentError,
    },
    /// The component has an export whose capability the manifest does not list.
    #[error(
        "its component exports {}, but its manifest does not list the capability {}",
        .0.as_str(),
        .0.capability().as_str()
    )]
    CapabilityNotListed(Export),
    /// The manifest lists a capability that the code does not have.
    #[error("its manifest lists the capability {}, but its code does not implement it; remove one or add the other",
        .0.as_str())]
    CapabilityNotImplemented(Capability),
    /// The manifest lists the capability `hooks`, but the source has no hook function.
    #[error(
        "its manifest lists the capability hooks, but its code does not implement it: expected a function {}",
        .0.join(", ")
    )]
    NoHookFunction(Vec<&'static str>),
    /// The component has an import whose permission the manifest does not list.
    #[error("its component imports {import}, but its manifest does not list permissions.{permission}")]
    PermissionNotListed {
        /// Interface of the contract.
        import: &'static str,
        /// Key below `permissions`.
        permission: &'static str,
    },
    /// The name of a source file is not text.
    #[error("{}: its name is not UTF-8", .0.display())]
    FileNameNotUtf8(PathBuf),
    /// A source file is not text.
    #[error("{}:{line}: it is not UTF-8", file.display())]
    SourceNotUtf8 {
        /// The source file.
        file: PathBuf,
        /// The first line that is not UTF-8.
        line: usize,
    },
    /// The source has no function that the host calls.
    #[error("its source has nothing that hfs calls: expected a function {}", .0.join(", "))]
    NothingToCall(Vec<&'static str>),
}

fn default_entry_points() -> String {
    EntryPoint::defaults().map(|entry| entry.file().display().to_string()).join(", ")
}

impl InvalidPlugin {
    pub(crate) fn unreadable(path: &Path, error: &io::Error) -> Self {
        Self::Unreadable { path: path.to_path_buf(), reason: error.to_string() }
    }
}

/// Why an approved plugin did not start. The message is one line.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum StartError {
    /// The files are no longer those that were approved.
    #[error("its files changed since it was approved")]
    Changed,
    #[error(transparent)]
    Invalid(#[from] InvalidPlugin),
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error(transparent)]
    Interpreter(#[from] InterpreterError),
    #[error("it cannot be compiled: {0}")]
    Compile(String),
    #[error("its imports do not match the contract: {0}")]
    Imports(String),
    #[error("its {export} does not match the contract: {error}")]
    ExportType { export: &'static str, error: String },
    #[error("it asks for files in {0}, but there is no home directory")]
    NoHomeDirectory(String),
    #[error("it asks for files in {0}, which reaches the sessions, settings and approvals of hfs itself")]
    HfsFolder(String),
    #[error(
        "it asks for files in {listed}, which reaches {}; no plugin may access places where the system or other \
         programs keep credentials",
        reached.display()
    )]
    ProtectedFolder { listed: String, reached: PathBuf },
    #[error("no thread could be started for it: {0}")]
    Thread(String),
    #[error("its thread panicked")]
    ThreadPanicked,
    #[error("it does not start: {0}")]
    Load(String),
    #[error("it was stopped while it listed its {what}: {reason}")]
    StoppedInListing { what: &'static str, reason: String },
    #[error("its list of {what} is not valid: {reason}")]
    InvalidListing { what: &'static str, reason: String },
}
