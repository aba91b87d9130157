//! What a person decided about plugins: `plugin_permissions.yaml`.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::PluginError;

/// The file's version, of which there is one so far.
const VERSION: u32 = 1;
/// A longer file is none of ours.
const MOST_BYTES: u64 = 4 << 20;

/// The file of decisions.
#[derive(Debug)]
pub(crate) struct Grants {
    path: PathBuf,
}

/// What was decided about one plugin, and what became of it since.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Grant {
    /// The hash of the content that was decided about.
    pub content: String,
    /// Whether it may run.
    pub decision: Decision,
    /// What it was allowed, by the names of powers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub powers: Vec<String>,
    /// When, in RFC 3339.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub decided_at: String,
    /// How often it was stopped lately.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub strikes: u32,
    /// Why it is quarantined, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Decision {
    Approved,
    #[default]
    Denied,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
const fn is_zero(count: &u32) -> bool {
    *count == 0
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Document {
    version: u32,
    #[serde(default)]
    plugins: BTreeMap<String, Grant>,
}

impl Grants {
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// All decisions, by the key of the plugin.
    ///
    /// # Errors
    /// When the file is there and cannot be understood: then nothing is granted.
    pub fn read(&self) -> Result<BTreeMap<String, Grant>, PluginError> {
        let text = match fs::metadata(&self.path) {
            Ok(found) if found.len() > MOST_BYTES => {
                return Err(self.bad(format!("{} bytes are too many", found.len())));
            }
            Ok(_) => {
                fs::read_to_string(&self.path).map_err(|error| PluginError::io("read", &self.path, error))?
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(error) => return Err(PluginError::io("read", &self.path, error)),
        };
        let options = serde_saphyr::options! { with_snippet: false };
        let document: Document = serde_saphyr::from_str_with_options(&text, options)
            .map_err(|error| self.bad(error.to_string().lines().next().unwrap_or("not YAML").to_owned()))?;
        if document.version != VERSION {
            return Err(
                self.bad(format!("version {} is not known; this hfs knows {VERSION}", document.version))
            );
        }
        Ok(document.plugins)
    }

    /// Changes what is decided about one plugin; `None` forgets it. Others who do the same wait for each other.
    ///
    /// # Errors
    /// As [`read`](Self::read), and as the system has it.
    pub fn change(
        &self,
        key: &str,
        change: impl FnOnce(Option<Grant>) -> Option<Grant>,
    ) -> Result<(), PluginError> {
        let _lock = self.lock()?;
        let mut plugins = self.read()?;
        let before = plugins.remove(key);
        if let Some(after) = change(before) {
            plugins.insert(key.to_owned(), after);
        }
        self.write(&Document { version: VERSION, plugins })
    }

    fn lock(&self) -> Result<File, PluginError> {
        let path = self.path.with_extension("lock");
        let told = |error| PluginError::io("lock", &path, error);
        if let Some(folder) = path.parent() {
            create_private_folder(folder)?;
        }
        let file =
            private(OpenOptions::new().create(true).truncate(false).write(true)).open(&path).map_err(told)?;
        fs4::FileExt::lock(&file).map_err(told)?;
        Ok(file)
    }

    /// JSON is YAML, too, and needs no second writer.
    fn write(&self, document: &Document) -> Result<(), PluginError> {
        let told = |error| PluginError::io("write", &self.path, error);
        let folder = self.path.parent().unwrap_or_else(|| Path::new("."));
        let mut text = serde_json::to_string_pretty(document).map_err(|error| told(error.into()))?;
        text.push('\n');
        // Temporary files are made readable by their owner only.
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(told)?;
        file.write_all(text.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(told)?;
        file.persist(&self.path).map_err(|error| told(error.error))?;
        Ok(())
    }

    fn bad(&self, message: String) -> PluginError {
        PluginError::BadFile { path: self.path.clone(), message }
    }
}

/// The same options, for a file that nobody else may read.
pub(crate) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

/// Makes a folder that nobody else may enter, with those above it.
pub(crate) fn create_private_folder(path: &Path) -> Result<(), PluginError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(|error| PluginError::io("make the folder", path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants() -> (tempfile::TempDir, Grants) {
        let folder = tempfile::tempdir().unwrap();
        let grants = Grants::new(folder.path().join("new/plugin_permissions.yaml"));
        (folder, grants)
    }

    #[test]
    fn decisions_are_kept_and_forgotten_in_a_file_of_ones_own() {
        let (_folder, grants) = grants();
        assert_eq!(grants.read().unwrap(), BTreeMap::new());
        let grant = Grant {
            content: "abc".into(),
            decision: Decision::Approved,
            powers: vec!["session:read".into()],
            decided_at: "2026-01-01T00:00:00Z".into(),
            strikes: 1,
            quarantine: None,
        };
        grants.change("a", |_| Some(grant.clone())).unwrap();
        grants.change("b", |_| Some(Grant::default())).unwrap();
        grants
            .change("a", |before| before.map(|grant| Grant { quarantine: Some("3 traps".into()), ..grant }))
            .unwrap();
        assert_eq!(grants.read().unwrap()["a"], Grant { quarantine: Some("3 traps".into()), ..grant });
        grants.change("a", |_| None).unwrap();
        assert_eq!(grants.read().unwrap().keys().collect::<Vec<_>>(), ["b"]);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(&grants.path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn a_file_that_makes_no_sense_grants_nothing_and_is_not_overwritten() {
        for text in [
            "{",
            "version: 2\n",
            "version: 1\nplugins: 3\n",
            "version: 1\nplugins: {a: {content: x, decision: perhaps}}\n",
        ] {
            let (_folder, grants) = grants();
            fs::create_dir_all(grants.path.parent().unwrap()).unwrap();
            fs::write(&grants.path, text).unwrap();
            assert!(grants.read().is_err(), "{text}");
            assert!(grants.change("a", |_| Some(Grant::default())).is_err());
            assert_eq!(fs::read_to_string(&grants.path).unwrap(), text);
        }
    }

    #[test]
    fn many_who_decide_at_once_lose_nothing() {
        let (_folder, grants) = grants();
        std::thread::scope(|scope| {
            for number in 0..8 {
                let grants = &grants;
                scope
                    .spawn(move || grants.change(&format!("p{number}"), |_| Some(Grant::default())).unwrap());
            }
        });
        assert_eq!(grants.read().unwrap().len(), 8);
    }
}
