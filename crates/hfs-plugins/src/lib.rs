//! Plugins: discovery, approval, and a sandbox that runs them.
//!
//! A plugin is a folder with a manifest and code: a WebAssembly component, or a script in Python or JavaScript that an
//! interpreter (itself a component) runs. Three rules hold for all of them:
//!
//! * No plugin code runs before the user has approved the exact content of its files.
//! * Every call into a plugin has a time limit and a memory limit. A plugin that exceeds one is stopped, and the
//!   caller continues without it.
//! * A plugin can access data and services outside its sandbox only through host functions, which check its
//!   permissions.
//!
//! [`Plugins`] is the entry point. It implements [`hfs_core::Hooks`], through which the engine calls plugins.

mod approval;
mod contract;
mod error;
mod hooks;
mod host;
mod host_functions;
mod instance;
mod interpreter;
mod log;
mod notices;
mod permission;
mod plugin;
mod private_files;
mod runtime;
mod storage;
mod worker;

pub use approval::PluginState;
pub use contract::{API_VERSION, Capability, Export};
pub use error::{InvalidPlugin, PluginError};
pub use host::{CommandInfo, HostConfig, Limits, PluginStatus, Plugins, RenderedWidget};
pub use interpreter::{InstalledInterpreter, InterpreterError, Interpreters};
pub use permission::Permission;
pub use plugin::archive::{ArchiveError, unpack};
pub use plugin::files::IGNORED_FOLDERS;
pub use plugin::inspect::{ComponentError, check_component, componentize};
pub use plugin::manifest::{EntryPoint, MANIFEST_FILE, Manifest, ManifestError, Permissions};
pub use plugin::script::Language;
pub use plugin::{Place, check_folder};
pub use runtime::RuntimeError;
