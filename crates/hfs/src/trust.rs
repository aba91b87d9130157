//! Trust in a project's `.hfs` folder, which may come from a stranger: from a cloned repository or an unpacked archive.
//!
//! The folder has no effect until the user has trusted it. The decision holds for the hash of everything in the folder,
//! so a folder that changes is asked about again. Decisions are stored in the home directory of hfs, by the folder's
//! path. Trust never extends to the plugins in the folder, each of which needs an approval of its own.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind as IoErrorKind, Read};
use std::path::{Path, PathBuf};

use hfs_core::{Clock as _, ErrorKind, SystemClock};
use hfs_files::Durability;
use hfs_plugins::IGNORED_FOLDERS;
use serde::{Deserialize, Serialize};

use crate::args::GlobalArgs;
use crate::config::{Key, ProjectPolicy, check_project_value, read_project};
use crate::environment::Environment;
use crate::home::Home;
use crate::output::console::Console;
use crate::output::error::CliError;
use crate::output::sanitize;

/// The decisions, in the home directory of hfs.
const FILE: &str = "trusted_projects.json";
const VERSION: u32 = 1;
/// Name of the folder with a project's plugins.
const PLUGINS: &str = "plugins";
/// Size limit of that file, in bytes.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Limits of a folder that can be trusted. hfs hashes the folder whenever it starts.
const MAX_FILES: usize = 10_000;
const MAX_BYTES: u64 = 64 << 20;
const MAX_DEPTH: usize = 32;
/// Characters of a value in the question.
const MAX_SHOWN: usize = 200;

/// A folder `.hfs` with settings or plugins in the working directory.
#[derive(Debug, Clone)]
pub struct ProjectFolder {
    path: PathBuf,
}

/// Whether a project's folder may have an effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// The user has trusted the folder as it is now.
    Trusted,
    /// The user has been asked about the folder as it is now, and has not trusted it.
    Refused,
    Undecided {
        /// The user has decided about an earlier content of the folder.
        has_changed: bool,
    },
    /// The folder cannot be hashed, so it cannot be trusted.
    Unusable(String),
}

/// What a project's folder would change.
#[derive(Debug, Default)]
pub struct ProjectEffects {
    /// Names and values of the settings that a project may choose.
    pub settings: Vec<(Key, String)>,
    /// Names of settings that a project may not choose, or not with this value.
    pub ignored: Vec<&'static str>,
    /// Names of the folders with plugins.
    pub plugins: Vec<String>,
    /// Why the settings cannot be read.
    pub problem: Option<String>,
}

impl ProjectFolder {
    /// The folder of the working directory; `None` if there is none, if it holds neither settings nor plugins, or if it
    /// is the home directory of hfs.
    pub fn find(home: &Path, working_directory: &Path) -> Option<Self> {
        let path = working_directory.join(".hfs").canonicalize().ok().filter(|path| path.is_dir())?;
        if home.canonicalize().is_ok_and(|home| home == path) {
            return None;
        }
        let folder = Self { path };
        (folder.config().exists() || folder.plugins().is_some()).then_some(folder)
    }

    /// The folder at a path that a decision names; `None` if it is not there.
    pub fn at(path: &Path) -> Option<Self> {
        path.is_dir().then(|| Self { path: path.to_owned() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The project's configuration file, which may be missing.
    pub fn config(&self) -> PathBuf {
        self.path.join("config.yaml")
    }

    /// The folder of the project's plugins; `None` if it is missing, or a symbolic link, which may lead to any folder.
    pub fn plugins(&self) -> Option<PathBuf> {
        let plugins = self.path.join(PLUGINS);
        fs::symlink_metadata(&plugins).is_ok_and(|metadata| metadata.is_dir()).then_some(plugins)
    }

    /// What the folder would change if it were trusted.
    pub fn effects(&self) -> ProjectEffects {
        let mut effects = ProjectEffects::default();
        match read_project(&self.config()) {
            Ok(layer) => {
                let project = self.path.parent().unwrap_or(&self.path).to_owned();
                let environment = Environment::default().in_directory(project);
                for (key, setting) in layer.values {
                    let has_effect = match key.spec().project_policy {
                        ProjectPolicy::Replace => check_project_value(key, &setting, &environment).is_ok(),
                        ProjectPolicy::Ignore => false,
                    };
                    if has_effect {
                        effects.settings.push((key, setting.value.to_string()));
                    } else {
                        effects.ignored.push(key.name());
                    }
                }
                effects.ignored.extend(layer.program_sections.iter().map(|(section, _)| section.name()));
            }
            Err(error) => effects.problem = Some(error.with_cause()),
        }
        let entries = self.plugins().and_then(|plugins| fs::read_dir(plugins).ok());
        let entries = entries.into_iter().flatten().flatten();
        let names = entries.filter(|entry| entry.path().is_dir());
        effects.plugins = names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        effects.plugins.sort();
        effects
    }

    /// The hash of the names and contents of everything in the folder. Links are not followed: their targets are part
    /// of the hash. Special files are not opened.
    fn content_hash(&self) -> Result<String, HashError> {
        let mut hash = ContentHash { hasher: blake3::Hasher::new(), files: 0, bytes: 0 };
        hash.add_folder(&self.path, 0, false)?;
        Ok(hash.hasher.finalize().to_hex().to_string())
    }

    /// The path under which decisions are stored.
    fn key(&self) -> Result<String, HashError> {
        self.path.to_str().map(str::to_owned).ok_or(HashError::PathNotUtf8)
    }
}

/// Why a folder cannot be trusted.
#[derive(Debug, thiserror::Error)]
enum HashError {
    #[error("its path is not UTF-8")]
    PathNotUtf8,
    #[error("its folders are nested more than {MAX_DEPTH} deep")]
    TooDeep,
    #[error("it has more than {MAX_FILES} files")]
    TooManyFiles,
    #[error("it is larger than {} MiB", MAX_BYTES >> 20)]
    TooLarge,
    #[error("{} cannot be read: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
}

struct ContentHash {
    hasher: blake3::Hasher,
    files: usize,
    bytes: u64,
}

impl ContentHash {
    /// In the folders of plugins, what compilers, package managers and git create is left out, as in a plugin's own hash.
    /// Elsewhere it could be a file that the settings name.
    fn add_folder(&mut self, folder: &Path, depth: usize, is_in_plugins: bool) -> Result<(), HashError> {
        if depth > MAX_DEPTH {
            return Err(HashError::TooDeep);
        }
        let failed = |source| HashError::Read { path: folder.to_owned(), source };
        let mut entries =
            fs::read_dir(folder).map_err(failed)?.collect::<io::Result<Vec<_>>>().map_err(failed)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let (name, path) = (entry.file_name(), entry.path());
            let file_type = entry.file_type().map_err(failed)?;
            if is_in_plugins && file_type.is_dir() && IGNORED_FOLDERS.iter().any(|ignored| name == *ignored) {
                continue;
            }
            self.files += 1;
            if self.files > MAX_FILES {
                return Err(HashError::TooManyFiles);
            }
            self.add_bytes(name.as_encoded_bytes());
            if file_type.is_dir() {
                self.hasher.update(b"{");
                self.add_folder(&path, depth + 1, is_in_plugins || (depth == 0 && name == PLUGINS))?;
                self.hasher.update(b"}");
            } else if file_type.is_symlink() {
                self.hasher.update(b"@");
                self.add_bytes(fs::read_link(&path).map_err(failed)?.as_os_str().as_encoded_bytes());
            } else if file_type.is_file() {
                self.hasher.update(b"=");
                let text = self.read(&path)?;
                self.add_bytes(&text);
            } else {
                self.hasher.update(b"!");
            }
        }
        Ok(())
    }

    fn read(&mut self, path: &Path) -> Result<Vec<u8>, HashError> {
        let failed = |source| HashError::Read { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        let remaining = MAX_BYTES - self.bytes;
        File::open(path).and_then(|file| file.take(remaining + 1).read_to_end(&mut bytes)).map_err(failed)?;
        if bytes.len() as u64 > remaining {
            return Err(HashError::TooLarge);
        }
        self.bytes += bytes.len() as u64;
        Ok(bytes)
    }

    /// Adds bytes after their length, so that the hash of two fields is not that of two other fields with the same bytes.
    fn add_bytes(&mut self, bytes: &[u8]) {
        self.hasher.update(&(bytes.len() as u64).to_le_bytes());
        self.hasher.update(bytes);
    }
}

/// A decision about one folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustRecord {
    /// Hash of the content that the decision is about.
    pub hash: String,
    pub trusted: bool,
    /// Time of the decision, in RFC 3339.
    pub decided_at: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Document {
    version: u32,
    #[serde(default)]
    projects: BTreeMap<String, TrustRecord>,
}

/// The stored decisions.
#[derive(Debug, Clone)]
pub struct TrustedProjects {
    path: PathBuf,
}

impl TrustedProjects {
    pub fn new(home: &Home) -> Self {
        Self { path: home.root().join(FILE) }
    }

    /// All decisions, by the folder's path.
    ///
    /// # Errors
    /// If the file exists and cannot be read.
    pub fn read(&self) -> Result<BTreeMap<String, TrustRecord>, CliError> {
        let mut text = String::new();
        match File::open(&self.path).and_then(|file| file.take(MAX_FILE_BYTES).read_to_string(&mut text)) {
            Ok(_) => {}
            Err(error) if error.kind() == IoErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(error) => return Err(CliError::io(format!("read {}", self.path.display()), error)),
        }
        let invalid = |reason: String| {
            CliError::with_hint(
                ErrorKind::Invalid,
                format!("{} cannot be read: {reason}", self.path.display()),
                "remove the file; hfs then asks again about every project",
            )
        };
        let document: Document = serde_json::from_str(&text).map_err(|error| invalid(error.to_string()))?;
        if document.version > VERSION {
            return Err(invalid(format!("version {} is newer than this hfs", document.version)));
        }
        Ok(document.projects)
    }

    /// Whether the folder may have an effect. Decisions that cannot be read trust nothing.
    pub fn trust(&self, folder: &ProjectFolder) -> Trust {
        let records = match self.read() {
            Ok(records) => records,
            Err(error) => return Trust::Unusable(error.to_string()),
        };
        let decided = folder.key().and_then(|key| Ok((folder.content_hash()?, records.get(&key).cloned())));
        match decided {
            Err(error) => Trust::Unusable(error.to_string()),
            Ok((hash, Some(record))) if record.hash == hash => {
                if record.trusted {
                    Trust::Trusted
                } else {
                    Trust::Refused
                }
            }
            Ok((_, record)) => Trust::Undecided { has_changed: record.is_some() },
        }
    }

    /// Stores the user's decision about the folder as it is now.
    ///
    /// # Errors
    /// If the folder cannot be hashed, or the decisions cannot be read or written.
    pub fn decide(&self, folder: &ProjectFolder, trusted: bool) -> Result<(), CliError> {
        let unusable = |error: HashError| {
            CliError::new(ErrorKind::Invalid, format!("{} cannot be trusted: {error}", folder.path.display()))
        };
        let key = folder.key().map_err(unusable)?;
        let hash = folder.content_hash().map_err(unusable)?;
        let decided_at = SystemClock.now().to_jiff().to_string();
        self.update(|projects| {
            projects.insert(key, TrustRecord { hash, trusted, decided_at });
        })
    }

    /// Removes the decision about a folder. Returns whether there was one.
    ///
    /// # Errors
    /// If the decisions cannot be read or written.
    pub fn forget(&self, folder: &str) -> Result<bool, CliError> {
        let mut was_known = false;
        self.update(|projects| was_known = projects.remove(folder).is_some())?;
        Ok(was_known)
    }

    /// Changes the file under a lock, so that decisions of several processes are all kept.
    fn update(&self, change: impl FnOnce(&mut BTreeMap<String, TrustRecord>)) -> Result<(), CliError> {
        let failed = |error| CliError::io(format!("write {}", self.path.display()), error);
        let _lock = hfs_files::lock_for_replacing(&self.path).map_err(failed)?;
        let mut projects = self.read()?;
        change(&mut projects);
        let text = serde_json::to_vec_pretty(&Document { version: VERSION, projects })
            .map_err(|error| failed(error.into()))?;
        hfs_files::replace(&self.path, &text, Durability::Synced).map_err(failed)
    }
}

/// The project's folder and whether it may have an effect.
#[derive(Debug)]
pub struct ProjectFolderTrust {
    pub folder: ProjectFolder,
    pub trust: Trust,
}

impl ProjectFolderTrust {
    /// Finds the project's folder. With `--trust`, trusts it as it is now. If the user has not decided about it and can
    /// be asked, shows what it would change, and asks.
    ///
    /// # Errors
    /// If a decision cannot be stored.
    pub fn find(
        home: &Home,
        environment: &Environment,
        global: &GlobalArgs,
        console: &Console,
        may_ask: bool,
    ) -> Result<Option<Self>, CliError> {
        let Some(folder) = ProjectFolder::find(home.root(), &environment.working_directory) else {
            return Ok(None);
        };
        let decisions = TrustedProjects::new(home);
        if global.trust {
            home.create()?;
            decisions.decide(&folder, true)?;
        }
        let mut project = Self { trust: decisions.trust(&folder), folder };
        if may_ask && console.is_interactive() && !console.options.quiet {
            home.create()?;
            project.ask(&decisions, console)?;
        }
        Ok(Some(project))
    }

    /// Asks about a folder that the user has not decided about, and stores the answer.
    ///
    /// # Errors
    /// If the answer cannot be read or stored.
    pub fn ask(&mut self, decisions: &TrustedProjects, console: &Console) -> Result<(), CliError> {
        let Trust::Undecided { .. } = self.trust else { return Ok(()) };
        console.print_stderr(&self.describe());
        let trusted = console.ask("Trust this folder as it is now?")?;
        decisions.decide(&self.folder, trusted)?;
        self.trust = decisions.trust(&self.folder);
        Ok(())
    }

    pub fn is_trusted(&self) -> bool {
        self.trust == Trust::Trusted
    }

    /// Why the folder has no effect, for a warning; `None` if it is trusted, or if the user does not want it.
    pub fn warning(&self) -> Option<String> {
        let folder = self.folder.path.display();
        match &self.trust {
            Trust::Trusted | Trust::Refused => None,
            Trust::Undecided { has_changed } => {
                let why = if *has_changed {
                    "it has changed since you decided about it"
                } else {
                    "you have not trusted it"
                };
                Some(format!("{folder} is ignored, because {why}; `hfs trust` shows what it would change"))
            }
            Trust::Unusable(reason) => Some(format!("{folder} is ignored: {reason}")),
        }
    }

    /// What the folder would change, on several lines.
    pub fn describe(&self) -> String {
        let effects = self.folder.effects();
        let path = sanitize::line(&self.folder.path.display().to_string());
        let mut text = match self.trust {
            Trust::Undecided { has_changed: true } => {
                format!("{path} has changed since you decided about it.\n")
            }
            _ => format!("{path} came with this project.\n"),
        };
        let mut has_effect = false;
        for (key, value) in &effects.settings {
            has_effect = true;
            text += &format!("  It sets {} to {}\n", key.name(), shorten(&sanitize::line(value)));
        }
        if !effects.plugins.is_empty() {
            has_effect = true;
            let names: Vec<String> = effects.plugins.iter().map(|name| sanitize::line(name)).collect();
            text += &format!(
                "  It brings plugins: {}. Each of them runs only after you approve it.\n",
                names.join(", ")
            );
        }
        if let Some(problem) = &effects.problem {
            text += &format!("  Its settings cannot be read and are ignored: {}\n", sanitize::line(problem));
        }
        if !effects.ignored.is_empty() {
            text +=
                &format!("  It also sets {}, which a project may not choose.\n", effects.ignored.join(", "));
        }
        if !has_effect {
            text += "  It would change nothing.\n";
        }
        text
    }
}

fn shorten(text: &str) -> String {
    let count = text.chars().count();
    if count <= MAX_SHOWN {
        return text.to_owned();
    }
    let start: String = text.chars().take(MAX_SHOWN).collect();
    format!("{start}... ({} more characters)", count - MAX_SHOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, ProjectFolder, TrustedProjects) {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("project/.hfs/plugins/p")).unwrap();
        fs::create_dir_all(directory.path().join("home")).unwrap();
        fs::write(directory.path().join("project/.hfs/config.yaml"), "model: a\n").unwrap();
        fs::write(directory.path().join("project/.hfs/plugins/p/plugin.yaml"), "name: p\n").unwrap();
        let found = ProjectFolder::find(&directory.path().join("home"), &directory.path().join("project"));
        let decisions = TrustedProjects { path: directory.path().join("home").join(FILE) };
        (directory, found.unwrap(), decisions)
    }

    #[test]
    fn a_setting_that_would_be_ignored_is_not_named_as_an_effect() {
        let (_directory, folder, _) = folder();
        let text = "model: a\nagent: claude\ntriads: mixed\nagents:\n  claude: {command: /bin/evil}\n";
        fs::write(folder.config(), text).unwrap();
        let effects = folder.effects();
        let named: Vec<&str> = effects.settings.iter().map(|(key, _)| key.name()).collect();
        assert_eq!(named, ["model"]);
        let mut ignored = effects.ignored;
        ignored.sort_unstable();
        assert_eq!(ignored, ["agent", "agents", "triads"]);
        fs::write(folder.config(), "agent: recall\n").unwrap();
        assert_eq!(folder.effects().settings.len(), 1);
    }

    #[test]
    fn a_decision_holds_until_anything_in_the_folder_changes() {
        let (_directory, folder, decisions) = folder();
        assert_eq!(decisions.trust(&folder), Trust::Undecided { has_changed: false });
        decisions.decide(&folder, true).unwrap();
        assert_eq!(decisions.trust(&folder), Trust::Trusted);
        let file = folder.path().join("plugins/p/plugin.yaml");
        for change in [
            &|| fs::write(&file, "name: q\n").unwrap() as (),
            &|| fs::write(folder.path().join("new"), "").unwrap(),
            &|| fs::rename(folder.path().join("new"), folder.path().join("renamed")).unwrap(),
            &|| fs::remove_file(folder.path().join("renamed")).unwrap(),
            &|| fs::create_dir(folder.path().join("empty")).unwrap(),
        ] as [&dyn Fn(); 5]
        {
            change();
            assert_eq!(decisions.trust(&folder), Trust::Undecided { has_changed: true });
            decisions.decide(&folder, true).unwrap();
            assert_eq!(decisions.trust(&folder), Trust::Trusted);
        }
        decisions.decide(&folder, false).unwrap();
        assert_eq!(decisions.trust(&folder), Trust::Refused);
        assert!(decisions.forget(folder.path().to_str().unwrap()).unwrap());
        assert_eq!(decisions.trust(&folder), Trust::Undecided { has_changed: false });
    }

    #[test]
    fn only_what_tools_create_in_plugins_may_change() {
        let (_directory, folder, _) = folder();
        let before = folder.content_hash().unwrap();
        fs::create_dir_all(folder.path().join("plugins/p/target")).unwrap();
        fs::write(folder.path().join("plugins/p/target/x"), "built").unwrap();
        assert_eq!(folder.content_hash().unwrap(), before);
        fs::create_dir(folder.path().join("target")).unwrap();
        fs::write(folder.path().join("target/team.yaml"), "triads").unwrap();
        let with_file = folder.content_hash().unwrap();
        assert_ne!(with_file, before);
        fs::write(folder.path().join("target/team.yaml"), "others").unwrap();
        assert_ne!(folder.content_hash().unwrap(), with_file);
    }

    #[test]
    fn text_that_moves_from_one_file_to_the_next_changes_the_hash() {
        let (_directory, folder, _) = folder();
        fs::write(folder.path().join("a"), "bc").unwrap();
        fs::write(folder.path().join("d"), "").unwrap();
        let before = folder.content_hash().unwrap();
        fs::write(folder.path().join("a"), "b").unwrap();
        fs::write(folder.path().join("d"), "c").unwrap();
        assert_ne!(folder.content_hash().unwrap(), before);
    }

    #[test]
    fn links_are_not_followed_and_special_files_are_not_opened() {
        let (directory, folder, _) = folder();
        let outside = directory.path().join("outside");
        fs::create_dir(&outside).unwrap();
        std::os::unix::fs::symlink(&outside, folder.path().join("way")).unwrap();
        let socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
        let before = folder.content_hash().unwrap();
        fs::write(outside.join("x"), "changed").unwrap();
        assert_eq!(folder.content_hash().unwrap(), before);
        drop(socket);
    }

    #[test]
    fn links_bring_neither_settings_nor_plugins() {
        let (directory, folder, _) = folder();
        let outside = directory.path().join("outside");
        fs::create_dir_all(outside.join("q")).unwrap();
        for name in ["config.yaml", "plugins"] {
            fs::rename(folder.path().join(name), outside.join(name)).unwrap();
            std::os::unix::fs::symlink(outside.join(name), folder.path().join(name)).unwrap();
        }
        assert_eq!(folder.plugins(), None);
        let effects = folder.effects();
        assert_eq!((effects.settings.len(), effects.plugins.len()), (0, 0));
        assert!(effects.problem.unwrap().contains("symbolic link"));
    }

    #[test]
    fn a_folder_that_is_too_large_and_unreadable_decisions_trust_nothing() {
        let (_directory, folder, decisions) = folder();
        decisions.decide(&folder, true).unwrap();
        let large = File::create(folder.path().join("large")).unwrap();
        large.set_len(MAX_BYTES + 1).unwrap();
        assert!(matches!(decisions.trust(&folder), Trust::Unusable(_)));
        fs::remove_file(folder.path().join("large")).unwrap();
        assert_eq!(decisions.trust(&folder), Trust::Trusted);
        fs::write(&decisions.path, "{ damaged").unwrap();
        assert!(matches!(decisions.trust(&folder), Trust::Unusable(_)));
    }
}
