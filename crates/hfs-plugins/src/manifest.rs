//! What a plugin says of itself: `manifest.yaml`.

mod wire;

use std::path::{Path, PathBuf};

use crate::capability::{Capability, Import};
use crate::power::Power;
use crate::script::Language;

/// The manifest's name in a plugin's folder.
pub const MANIFEST: &str = "manifest.yaml";
/// A longer manifest is none.
const MOST_BYTES: usize = 64 << 10;

/// What a plugin says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Its name: lower-case letters, digits and `-`.
    pub name: String,
    /// Its version.
    pub version: semver::Version,
    /// What it does, on one line.
    pub description: String,
    /// Where its code is, if it says so.
    pub entry: Option<Entry>,
    /// What it adds.
    pub capabilities: Vec<Capability>,
    /// What it wants to be allowed.
    pub permissions: Permissions,
    /// What is strange about the manifest without making it useless, each with its line.
    pub warnings: Vec<String>,
}

/// Where a plugin's code is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A WebAssembly component, in this file of its folder.
    Component(PathBuf),
    /// Source in a language that has an interpreter: the language and the file to begin with.
    Script(Language, PathBuf),
}

/// What a plugin wants to be allowed. Nothing unless it is named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Permissions {
    /// To read sessions.
    pub read_sessions: bool,
    /// To talk to these hosts: `api.example.com`, `api.example.com:8080`, `*.example.com`, `*`.
    pub network: Vec<String>,
    /// To read files below these folders: absolute, or beginning with `~`.
    pub read_files: Vec<String>,
    /// To read and change files below these folders.
    pub write_files: Vec<String>,
    /// To keep so many bytes of its own.
    pub storage: u64,
}

/// Something that is wrong in a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub line: Option<u64>,
    pub message: String,
}

/// A manifest that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", shown(.0))]
pub struct ManifestError(pub(crate) Vec<Problem>);

fn shown(problems: &[Problem]) -> String {
    let shown = problems.iter().map(|problem| match problem.line {
        Some(line) => format!("{MANIFEST}:{line}: {}", problem.message),
        None => format!("{MANIFEST}: {}", problem.message),
    });
    shown.collect::<Vec<_>>().join("; ")
}

impl Manifest {
    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its line.
    pub fn from_yaml(text: &str) -> Result<Self, ManifestError> {
        if text.len() > MOST_BYTES {
            let message = format!("{} bytes are too many; {MOST_BYTES} is the limit", text.len());
            return Err(ManifestError(vec![Problem { line: None, message }]));
        }
        wire::read(text)
    }

    /// Whether it names what an import of the contract needs.
    pub(crate) fn covers(&self, import: Import) -> bool {
        let permissions = &self.permissions;
        match import {
            Import::Log | Import::Config | Import::Clock | Import::Ui => true,
            Import::Kv => permissions.storage > 0,
            Import::Session => permissions.read_sessions,
            Import::Http => !permissions.network.is_empty(),
            Import::Files => !permissions.read_files.is_empty() || !permissions.write_files.is_empty(),
        }
    }
}

impl Entry {
    /// Where the code of a plugin is that does not say it: the first of these files that is there.
    #[must_use]
    pub fn usual() -> [Self; 4] {
        [
            Self::Component("plugin.wasm".into()),
            Self::Script(Language::Python, "plugin.py".into()),
            Self::Script(Language::Python, "__init__.py".into()),
            Self::Script(Language::JavaScript, "plugin.js".into()),
        ]
    }

    /// The file, below the plugin's folder.
    #[must_use]
    pub fn file(&self) -> &Path {
        match self {
            Self::Component(file) | Self::Script(_, file) => file,
        }
    }
}

impl Permissions {
    /// The same, one by one.
    #[must_use]
    pub fn powers(&self) -> Vec<Power> {
        let mut powers = Vec::new();
        if self.read_sessions {
            powers.push(Power::ReadSessions);
        }
        powers.extend(self.network.iter().cloned().map(Power::Network));
        powers.extend(self.read_files.iter().cloned().map(Power::ReadFiles));
        powers.extend(self.write_files.iter().cloned().map(Power::WriteFiles));
        if self.storage > 0 {
            powers.push(Power::Storage(self.storage));
        }
        powers
    }
}

#[cfg(test)]
mod tests;
