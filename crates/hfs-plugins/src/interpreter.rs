//! Interpreters: components that run the source of plugins, in the same sandbox in which every plugin runs.
//!
//! They are no part of the program, since what makes them is no part of a Rust toolchain: `cargo xtask runtimes`
//! builds them. Each lies beside the program, or among the user's own things, with its hash in a file beside it.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use hfs_machine_code::Shelf;
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::PluginError;
use crate::grants::create_private_folder;
use crate::inspect::is_interpreter;
use crate::runtime::Runtime;
use crate::script::Language;

/// A larger file is none.
const MOST_BYTES: u64 = 128 << 20;

impl Language {
    /// The name of its interpreter's file.
    #[must_use]
    pub const fn file_name(self) -> &'static str {
        match self {
            Self::Python => "hfs-python.wasm",
            Self::JavaScript => "hfs-javascript.wasm",
        }
    }

    const fn hash_name(self) -> &'static str {
        match self {
            Self::Python => "hfs-python.blake3",
            Self::JavaScript => "hfs-javascript.blake3",
        }
    }
}

/// Where interpreters are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interpreters {
    /// The user's own.
    pub own: PathBuf,
    /// Those that came with the program.
    pub beside: Option<PathBuf>,
}

/// An interpreter that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// Its language.
    pub language: Language,
    /// Its file.
    pub path: PathBuf,
    /// The BLAKE3 hash that it has to have.
    pub hash: String,
    /// Its size.
    pub bytes: u64,
}

impl Interpreters {
    /// The interpreter of a language: the user's own, then the program's.
    #[must_use]
    pub fn find(&self, language: Language) -> Option<Installed> {
        let folders = std::iter::once(&self.own).chain(&self.beside);
        folders.into_iter().find_map(|folder| {
            let path = folder.join(language.file_name());
            let bytes = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?.len();
            let hash = fs::read_to_string(folder.join(language.hash_name())).ok()?;
            let hash = hash.split_whitespace().next()?.to_owned();
            Some(Installed { language, path, hash, bytes })
        })
    }

    /// Takes an interpreter among the user's own, from its file or from a folder in which it has its usual name.
    ///
    /// # Errors
    /// `Interpreter` when it is none; as the system has it.
    pub fn install(&self, language: Language, source: &Path) -> Result<Installed, PluginError> {
        let file = if source.is_dir() { source.join(language.file_name()) } else { source.to_path_buf() };
        let bad = |message: String| PluginError::Interpreter { path: file.clone(), message };
        let io = |action, path: &Path| {
            let path = path.to_path_buf();
            move |source| PluginError::Io { action, path, source }
        };
        let size = fs::metadata(&file).map_err(io("read", &file))?.len();
        if size > MOST_BYTES {
            return Err(bad(format!("it is larger than {} MiB", MOST_BYTES >> 20)));
        }
        let binary = fs::read(&file).map_err(io("read", &file))?;
        is_interpreter(&binary).map_err(bad)?;
        let hash = blake3::hash(&binary).to_hex().to_string();
        create_private_folder(&self.own)?;
        // The hash last: without it the file counts for nothing.
        for (name, bytes) in
            [(language.file_name(), binary.as_slice()), (language.hash_name(), hash.as_bytes())]
        {
            let path = self.own.join(name);
            let write = || {
                let mut staged = tempfile::NamedTempFile::new_in(&self.own)?;
                staged.write_all(bytes)?;
                staged.as_file().sync_all()?;
                staged.persist(&path).map(drop).map_err(|error| error.error)
            };
            write().map_err(io("write", &path))?;
        }
        let path = self.own.join(language.file_name());
        Ok(Installed { language, path, hash, bytes: size })
    }

    /// Compiles an interpreter ahead of the first plugin that needs it, which takes seconds; once is enough.
    ///
    /// # Errors
    /// `Interpreter` when there is none that can be used; `Runtime`.
    pub fn prepare(&self, language: Language, cache: &Path) -> Result<(), PluginError> {
        let prepared = Runtime::new(cache)?.interpreter(language, self);
        prepared.map(drop).map_err(|message| {
            let path = self.find(language).map_or_else(|| language.file_name().into(), |found| found.path);
            PluginError::Interpreter { path, message }
        })
    }

    /// Removes an interpreter from among the user's own. `false` when there is none.
    ///
    /// # Errors
    /// As the system has it.
    pub fn uninstall(&self, language: Language) -> Result<bool, PluginError> {
        let mut found = false;
        for name in [language.hash_name(), language.file_name()] {
            let path = self.own.join(name);
            match fs::remove_file(&path) {
                Ok(()) => found = true,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(PluginError::Io { action: "remove", path, source }),
            }
        }
        Ok(found)
    }

    /// What to say where there is none.
    pub(crate) fn missing(language: Language) -> String {
        format!(
            "it is {language} source, and there is no {language} interpreter here; `hfs plugin runtime` says how to \
             get one"
        )
    }
}

impl Installed {
    /// The interpreter as the runtime wants it: as it was compiled before, or compiled now, which takes seconds.
    ///
    /// # Errors
    /// Why it cannot be used, on one line.
    pub(crate) fn component(&self, engine: &Engine, shelf: &Shelf) -> Result<Component, String> {
        // What was compiled under this hash was of it; the file itself need not be read again.
        if let Some(component) = shelf.find(engine, &self.hash) {
            return Ok(component);
        }
        let told =
            |what: String| format!("the {} interpreter {}: {what}", self.language, self.path.display());
        if self.bytes > MOST_BYTES {
            return Err(told("it is too large for one".into()));
        }
        let binary = fs::read(&self.path).map_err(|error| told(error.to_string()))?;
        if blake3::hash(&binary).to_hex().as_str() != self.hash {
            return Err(told("it is damaged: its hash is not the one that stands beside it".into()));
        }
        is_interpreter(&binary).map_err(told)?;
        shelf.compile(engine, &self.hash, &binary).map_err(|error| told(format!("{error:#}")))
    }
}
