//! Plugins: what they say of themselves, what they may do, and the sandbox in which they do it.
//!
//! A plugin is a folder with a manifest and a WebAssembly component. Nothing of it runs before a person approved
//! it as it is; afterwards every call is bounded in time and memory, every call back goes through one gate, and
//! what goes wrong in a plugin is that plugin's affair.

mod actor;
mod archive;
mod capability;
mod componentize;
mod content;
mod contract;
mod discover;
mod error;
mod gate;
mod grants;
mod guest;
mod hooks;
mod host;
mod inspect;
mod interpreter;
mod log;
mod manifest;
mod notices;
mod power;
mod runtime;
mod script;
mod session_states;
mod storage;
mod widget;

pub use archive::unpack;
pub use capability::{API_VERSION, Capability, Export};
pub use componentize::{check, componentize};
pub use content::LEFT_BY_TOOLS;
pub use discover::{Place, examine};
pub use error::PluginError;
pub use host::{CommandInfo, HostParts, Limits, PluginStatus, Plugins, State};
pub use interpreter::{Installed, Interpreters};
pub use manifest::{Entry, MANIFEST, Manifest, ManifestError, Permissions};
pub use power::Power;
pub use script::Language;
pub use widget::Picture;
