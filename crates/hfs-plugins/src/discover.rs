//! Which plugins there are. Nothing of them runs or is compiled here.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::content::Content;
use crate::inspect::{Inspection, inspect};
use crate::manifest::{Entry, Manifest};
use crate::power::Power;
use crate::script::Script;

/// How many plugins are looked at in one place.
const MOST_PLUGINS: usize = 500;

/// Where a plugin lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// With the user's own things.
    Home,
    /// In a project, which comes from whoever made that.
    Project,
}

/// A plugin that was found, whatever it is worth.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// Its name; the folder's where the manifest tells none.
    pub name: String,
    pub place: Place,
    pub folder: PathBuf,
    /// What it is, or why it can be none.
    pub candidate: Result<Candidate, String>,
}

/// A plugin that could run.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub manifest: Manifest,
    pub entry: Entry,
    pub inspection: Inspection,
    /// The hash of all its files.
    pub hash: String,
}

impl Candidate {
    /// Everything that it may do once it is approved.
    pub fn powers(&self) -> Vec<Power> {
        let exports = self.inspection.exports.iter().copied().map(Power::Export);
        exports.chain(self.manifest.permissions.powers()).collect()
    }
}

impl Found {
    /// The name by which decisions about it are kept. A project's plugin is another one in every project.
    pub fn key(&self) -> String {
        match self.place {
            Place::Home => self.name.clone(),
            Place::Project => format!("project:{}", self.folder.display()),
        }
    }

    /// The name of the files in which its log and its data are.
    pub fn data_name(&self) -> String {
        match self.place {
            Place::Home => self.name.clone(),
            Place::Project => {
                let hash = blake3::hash(self.folder.as_os_str().as_encoded_bytes()).to_hex();
                format!("{}.{}", self.name, hash.get(..12).unwrap_or_default())
            }
        }
    }
}

/// Everything in both places, in the order of names. A plugin of the user's own comes before a project's that
/// has the same name.
pub(crate) fn discover(home: &Path, project: Option<&Path>) -> BTreeMap<String, Found> {
    let mut plugins: BTreeMap<String, Found> = BTreeMap::new();
    let places = [(Place::Home, Some(home)), (Place::Project, project)];
    for (place, root) in places.into_iter().filter_map(|(place, root)| Some((place, root?))) {
        for folder in folders(root) {
            let mut found = look(&folder, place);
            if let Some(first) = plugins.get(&found.name) {
                found.candidate =
                    Err(format!("the name {} is taken by {}", found.name, first.folder.display()));
                found.name = free_name(&plugins, &found.name);
            }
            plugins.insert(found.name.clone(), found);
        }
    }
    plugins
}

fn free_name(taken: &BTreeMap<String, Found>, name: &str) -> String {
    let numbered = (2_usize..).map(|number| format!("{name}~{number}"));
    numbered.into_iter().find(|name| !taken.contains_key(name)).unwrap_or_else(|| name.to_owned())
}

fn folders(root: &Path) -> Vec<PathBuf> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!("the plugins in {} cannot be listed: {error}", root.display());
            }
            return Vec::new();
        }
    };
    let named = entries.flatten().filter(|entry| {
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        // A link stands here for what is wrong with it; plain files beside the plugins are nobody's affair.
        !hidden && entry.file_type().is_ok_and(|kind| !kind.is_file())
    });
    let mut folders: Vec<PathBuf> = named.map(|entry| entry.path()).collect();
    folders.sort();
    folders.truncate(MOST_PLUGINS);
    folders
}

/// Looks at one folder.
pub(crate) fn look(folder: &Path, place: Place) -> Found {
    let folder_name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut name = folder_name.chars().filter(|c| !c.is_control()).take(40).collect();
    let candidate = candidate(folder, &mut name);
    Found { name, place, folder: folder.to_path_buf(), candidate }
}

/// Looks at a folder as discovery would, and says what kind of plugin it is. Nothing of it runs.
///
/// # Errors
/// Why it can be none, on one line.
pub fn examine(folder: &Path) -> Result<Manifest, String> {
    look(folder, Place::Home).candidate.map(|candidate| candidate.manifest)
}

fn candidate(folder: &Path, name: &mut String) -> Result<Candidate, String> {
    let kind = fs::symlink_metadata(folder).map_err(|error| format!("it cannot be read: {error}"))?;
    if !kind.is_dir() {
        return Err("it is not a folder of its own".into());
    }
    let content = Content::read(folder)?;
    let mut manifest = Manifest::from_yaml(&content.manifest).map_err(|error| error.to_string())?;
    name.clone_from(&manifest.name);
    let entry = entry_of(&manifest, &content)?;
    let inspection = match &entry {
        Entry::Component(file) => {
            let binary = content.file(file).unwrap_or_default();
            let inspection = inspect(binary).map_err(|reason| format!("{}: {reason}", file.display()))?;
            inspection.agrees(&manifest)?;
            inspection
        }
        Entry::Script(language, file) => Script::new(*language, file, &content)?.inspect(&mut manifest)?,
    };
    Ok(Candidate { manifest, entry, inspection, hash: content.hash })
}

fn entry_of(manifest: &Manifest, content: &Content) -> Result<Entry, String> {
    let is_there = |entry: &Entry| content.file(entry.file()).is_some();
    match &manifest.entry {
        Some(entry) if is_there(entry) => Ok(entry.clone()),
        Some(entry) => Err(format!("its entry point {} is not there", entry.file().display())),
        None => Entry::usual().into_iter().find(is_there).ok_or_else(|| {
            let usual = Entry::usual().map(|entry| entry.file().display().to_string());
            format!("it has no code: expected one of {}", usual.join(", "))
        }),
    }
}

/// What runs.
pub(crate) enum Code {
    Component(Vec<u8>),
    Script(Script),
}

fn code(entry: &Entry, content: &Content) -> Result<Code, String> {
    Ok(match entry {
        Entry::Component(file) => Code::Component(content.file(file).unwrap_or_default().to_vec()),
        Entry::Script(language, file) => Code::Script(Script::new(*language, file, content)?),
    })
}

/// What a plugin's code is, provided that all its files are still as they were when `hash` was taken.
///
/// # Errors
/// Why not, on one line.
pub(crate) fn read_unchanged(found: &Found) -> Result<Code, String> {
    let candidate = found.candidate.as_ref().map_err(Clone::clone)?;
    let content = Content::read(&found.folder)?;
    if content.hash != candidate.hash {
        return Err(CHANGED.to_owned());
    }
    code(&candidate.entry, &content)
}

/// Why a plugin that was approved has to be asked about again.
pub(crate) const CHANGED: &str = "its files changed since it was approved";
