//! Interpreters: components that run plugins written in Python or JavaScript, in the same sandbox as other plugins.
//!
//! They are files beside the binary, because they are large (`cargo xtask runtimes` builds them). Each is installed under
//! a fixed file name, together with a second file that contains its BLAKE3 hash.

use std::fs;
use std::path::{Path, PathBuf};

use hfs_files::Durability;
use hfs_machine_code::ArtifactCache;
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::PluginError;
use crate::plugin::inspect::{ComponentError, check_interpreter};
use crate::plugin::script::Language;
use crate::private_files::{create_private_folder, replace_file};
use crate::runtime::Runtime;

/// Size limit of an interpreter, in bytes.
const MAX_BYTES: u64 = 128 << 20;

impl Language {
    /// File name of the interpreter.
    #[must_use]
    pub const fn file_name(self) -> &'static str {
        match self {
            Self::Python => "hfs-python.wasm",
            Self::JavaScript => "hfs-javascript.wasm",
        }
    }

    const fn hash_file_name(self) -> &'static str {
        match self {
            Self::Python => "hfs-python.blake3",
            Self::JavaScript => "hfs-javascript.blake3",
        }
    }
}

/// The folders that are searched for interpreters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interpreters {
    /// The folder of interpreters that the user installed. They have precedence.
    pub user_folder: PathBuf,
    /// The folder with the interpreters of a release of hfs.
    pub program_folder: Option<PathBuf>,
}

/// An interpreter that was found or installed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct InstalledInterpreter {
    /// Language that it runs.
    pub language: Language,
    /// Path of the component.
    pub path: PathBuf,
    /// The BLAKE3 hash from its hash file, in hexadecimal digits.
    pub hash: String,
    /// Size of the component.
    pub bytes: u64,
}

/// Why an interpreter cannot be used. The text is one line.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum InterpreterError {
    /// No interpreter of this language is installed.
    #[error(
        "it is {0} source, and no {0} interpreter is installed; `hfs plugin runtime install` installs one"
    )]
    Missing(Language),
    /// The file is larger than an interpreter may be.
    #[error("it is larger than {} MiB", MAX_BYTES >> 20)]
    TooLarge,
    /// The file cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    /// The file differs from its hash.
    #[error("it is damaged: its hash differs from the one in the file beside it")]
    Damaged,
    /// The file is not a component, or not one of an interpreter.
    #[error(transparent)]
    Component(#[from] ComponentError),
    /// The compiler refused the component.
    #[error("it cannot be compiled: {0}")]
    Compile(String),
    /// An installed interpreter cannot be used.
    #[error("the {language} interpreter {}: {problem}", path.display())]
    Installed {
        /// Language that it runs.
        language: Language,
        /// Path of the component.
        path: PathBuf,
        /// What is wrong with it.
        problem: Box<Self>,
    },
}

impl Interpreters {
    /// Finds the interpreter of a language, first in the user's folder, then in the program's.
    #[must_use]
    pub fn find(&self, language: Language) -> Option<InstalledInterpreter> {
        let mut folders = std::iter::once(&self.user_folder).chain(&self.program_folder);
        folders.find_map(|folder| {
            let path = folder.join(language.file_name());
            let bytes = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?.len();
            let hash = fs::read_to_string(folder.join(language.hash_file_name())).ok()?;
            let hash = hash.split_whitespace().next()?.to_owned();
            Some(InstalledInterpreter { language, path, hash, bytes })
        })
    }

    /// Copies an interpreter to the user's folder. `source` is its file, or a folder that contains it under
    /// [`Language::file_name`].
    ///
    /// # Errors
    /// `Interpreter` if the file is not an interpreter of this version; `Io`.
    pub fn install(&self, language: Language, source: &Path) -> Result<InstalledInterpreter, PluginError> {
        let file = if source.is_dir() { source.join(language.file_name()) } else { source.to_path_buf() };
        let invalid = |problem: InterpreterError| PluginError::Interpreter { path: file.clone(), problem };
        let bytes = fs::metadata(&file).map_err(|error| PluginError::io("read", &file, error))?.len();
        if bytes > MAX_BYTES {
            return Err(invalid(InterpreterError::TooLarge));
        }
        let binary = fs::read(&file).map_err(|error| PluginError::io("read", &file, error))?;
        check_interpreter(&binary).map_err(|error| invalid(error.into()))?;
        let hash = blake3::hash(&binary).to_hex().to_string();
        create_private_folder(&self.user_folder)?;
        // The hash is written last: an interpreter without it is ignored, and one with the hash of a previous version
        // is reported as damaged.
        let path = self.user_folder.join(language.file_name());
        replace_file(&path, &binary, Durability::Synced)?;
        let hash_path = self.user_folder.join(language.hash_file_name());
        replace_file(&hash_path, hash.as_bytes(), Durability::Synced)?;
        Ok(InstalledInterpreter { language, path, hash, bytes })
    }

    /// Compiles an interpreter, which takes seconds, and stores the result in the folder `cache`, so that the first
    /// plugin that needs it starts at once.
    ///
    /// # Errors
    /// `Interpreter` if there is none that can be used; `Runtime`.
    pub fn prepare(&self, language: Language, cache: &Path) -> Result<(), PluginError> {
        let compiled = Runtime::new(cache)?.interpreter(language, self);
        compiled.map(drop).map_err(|problem| {
            let path = self.find(language).map_or_else(|| language.file_name().into(), |found| found.path);
            PluginError::Interpreter { path, problem }
        })
    }

    /// Removes an interpreter from the user's folder. Returns `false` if there was none.
    ///
    /// # Errors
    /// `Io`.
    pub fn uninstall(&self, language: Language) -> Result<bool, PluginError> {
        let mut is_removed = false;
        for name in [language.hash_file_name(), language.file_name()] {
            let path = self.user_folder.join(name);
            match fs::remove_file(&path) {
                Ok(()) => is_removed = true,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(PluginError::io("remove", path, error)),
            }
        }
        Ok(is_removed)
    }
}

impl InstalledInterpreter {
    /// Loads the compiled interpreter from the cache, or compiles it, which takes seconds.
    pub(crate) fn load(&self, engine: &Engine, cache: &ArtifactCache) -> Result<Component, InterpreterError> {
        // Cache entries are stored under the hash of their source, so on a hit the file is not read and hashed again.
        if let Some(component) = cache.get(engine, &self.hash) {
            return Ok(component);
        }
        self.compile(engine, cache).map_err(|problem| InterpreterError::Installed {
            language: self.language,
            path: self.path.clone(),
            problem: Box::new(problem),
        })
    }

    fn compile(&self, engine: &Engine, cache: &ArtifactCache) -> Result<Component, InterpreterError> {
        if self.bytes > MAX_BYTES {
            return Err(InterpreterError::TooLarge);
        }
        let binary = fs::read(&self.path).map_err(|error| InterpreterError::Unreadable(error.to_string()))?;
        if blake3::hash(&binary).to_hex().as_str() != self.hash {
            return Err(InterpreterError::Damaged);
        }
        check_interpreter(&binary)?;
        cache
            .compile(engine, &self.hash, &binary)
            .map_err(|error| InterpreterError::Compile(format!("{error:#}")))
    }
}
