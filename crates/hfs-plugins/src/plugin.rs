//! Plugins as files: discovery, manifests, inspection. This module does not compile or run plugin code.
//!
//! Discovery searches two places: `~/.hfs/plugins` for the user's own plugins, and `.hfs/plugins` for those of the
//! current project. It returns every folder that it finds, also invalid plugins, with the reason.

pub(crate) mod archive;
pub(crate) mod files;
pub(crate) mod inspect;
pub(crate) mod manifest;
pub(crate) mod script;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{InvalidPlugin, StartError};
use crate::permission::Permission;
use files::PluginFiles;
use inspect::{Interfaces, inspect};
use manifest::{EntryPoint, Manifest};
use script::Script;

/// Maximum number of plugins that are read in one place.
const MAX_PLUGINS: usize = 500;

/// Where a plugin was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In the user's home directory.
    Home,
    /// In the current project. Its authors may not be known to the user.
    Project,
}

/// A folder that discovery found.
#[derive(Debug, Clone)]
pub(crate) struct FoundPlugin {
    /// Name in the manifest; the name of the folder if the manifest cannot be read.
    pub name: String,
    pub place: Place,
    pub folder: PathBuf,
    pub content: Result<PluginContent, InvalidPlugin>,
}

/// The parsed and inspected files of a valid plugin.
#[derive(Debug, Clone)]
pub(crate) struct PluginContent {
    pub manifest: Manifest,
    pub entry_point: EntryPoint,
    pub interfaces: Interfaces,
    /// The hash of all files; see [`PluginFiles`].
    pub hash: String,
}

/// The code of a plugin, ready to be compiled or interpreted.
pub(crate) enum PluginCode {
    /// Bytes of a component.
    Component(Vec<u8>),
    Script(Script),
}

impl PluginContent {
    fn read(folder: &Path, name: &mut String) -> Result<Self, InvalidPlugin> {
        let metadata =
            fs::symlink_metadata(folder).map_err(|error| InvalidPlugin::unreadable(Path::new(""), &error))?;
        if !metadata.is_dir() {
            return Err(InvalidPlugin::NotAFolder);
        }
        let files = PluginFiles::read(folder)?;
        let mut manifest = Manifest::from_yaml(&files.manifest)?;
        // Set first, so that a plugin whose other files are invalid is listed under the name in its manifest.
        name.clone_from(&manifest.name);
        let entry_point = find_entry_point(&manifest, &files)?;
        let interfaces = match &entry_point {
            EntryPoint::Component(file) => {
                let binary = files.get(file).unwrap_or_default();
                let interfaces = inspect(binary)
                    .map_err(|error| InvalidPlugin::Component { file: file.clone(), error })?;
                interfaces.check_manifest(&manifest)?;
                interfaces
            }
            EntryPoint::Script(language, file) => {
                Script::new(*language, file, &files)?.inspect(&mut manifest)?
            }
        };
        Ok(Self { manifest, entry_point, interfaces, hash: files.hash })
    }

    /// All permissions that the plugin has once it is approved.
    pub fn permissions(&self) -> Vec<Permission> {
        let exports = self.interfaces.exports.iter().copied().map(Permission::Export);
        exports.chain(self.manifest.permissions.to_list()).collect()
    }
}

impl FoundPlugin {
    /// Reads the plugin in a folder.
    pub fn read(folder: &Path, place: Place) -> Self {
        let folder_name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut name = folder_name.chars().filter(|c| !c.is_control()).take(40).collect();
        let content = PluginContent::read(folder, &mut name);
        Self { name, place, folder: folder.to_path_buf(), content }
    }

    /// The hash of all files; `None` for an invalid plugin.
    pub fn hash(&self) -> Option<&str> {
        self.content.as_ref().ok().map(|content| content.hash.as_str())
    }

    /// The key under which approvals are stored. Plugins of projects are identified by their folder, so that the
    /// approval of a plugin in one project does not apply to a plugin of the same name in another project.
    pub fn approval_key(&self) -> String {
        match self.place {
            Place::Home => self.name.clone(),
            Place::Project => format!("project:{}", self.folder.display()),
        }
    }

    /// Base name of the plugin's log file and data file.
    pub fn data_name(&self) -> String {
        match self.place {
            Place::Home => self.name.clone(),
            Place::Project => {
                let hash = blake3::hash(self.folder.as_os_str().as_encoded_bytes()).to_hex();
                format!("{}.{}", self.name, hash.get(..12).unwrap_or_default())
            }
        }
    }

    /// Reads the plugin's code again to run it.
    ///
    /// # Errors
    /// [`StartError::Changed`] if any file differs from the hash in [`Self::content`].
    pub fn load_code(&self) -> Result<PluginCode, StartError> {
        let content = self.content.as_ref().map_err(Clone::clone)?;
        let files = PluginFiles::read(&self.folder)?;
        if files.hash != content.hash {
            return Err(StartError::Changed);
        }
        Ok(match &content.entry_point {
            EntryPoint::Component(file) => {
                PluginCode::Component(files.get(file).unwrap_or_default().to_vec())
            }
            EntryPoint::Script(language, file) => PluginCode::Script(Script::new(*language, file, &files)?),
        })
    }
}

fn find_entry_point(manifest: &Manifest, files: &PluginFiles) -> Result<EntryPoint, InvalidPlugin> {
    let exists = |entry_point: &EntryPoint| files.get(entry_point.file()).is_some();
    match &manifest.entry_point {
        Some(entry_point) if exists(entry_point) => Ok(entry_point.clone()),
        Some(entry_point) => Err(InvalidPlugin::EntryPointMissing(entry_point.file().to_path_buf())),
        None => EntryPoint::defaults().into_iter().find(exists).ok_or(InvalidPlugin::NoCode),
    }
}

/// Checks a folder as discovery does, and returns the manifest of the plugin in it.
///
/// # Errors
/// [`InvalidPlugin`].
pub fn check_folder(folder: &Path) -> Result<Manifest, InvalidPlugin> {
    FoundPlugin::read(folder, Place::Home).content.map(|content| content.manifest)
}

/// All plugins in both places, by name. If two plugins have the same name, the second one is listed as invalid under a
/// numbered name. The user's own plugins are read first, so that a project cannot take the name of one of them.
pub(crate) fn discover(home: &Path, project: Option<&Path>) -> BTreeMap<String, FoundPlugin> {
    let mut plugins: BTreeMap<String, FoundPlugin> = BTreeMap::new();
    let places = [(Place::Home, Some(home)), (Place::Project, project)];
    for (place, root) in places.into_iter().filter_map(|(place, root)| Some((place, root?))) {
        for folder in list_folders(root) {
            let mut found = FoundPlugin::read(&folder, place);
            if let Some(first) = plugins.get(&found.name) {
                found.content =
                    Err(InvalidPlugin::NameTaken { name: found.name.clone(), by: first.folder.clone() });
                found.name = numbered_name(&plugins, &found.name);
            }
            plugins.insert(found.name.clone(), found);
        }
    }
    plugins
}

fn numbered_name(taken: &BTreeMap<String, FoundPlugin>, name: &str) -> String {
    let mut numbered = (2_usize..).map(|number| format!("{name}~{number}"));
    numbered.find(|name| !taken.contains_key(name)).unwrap_or_else(|| name.to_owned())
}

fn list_folders(root: &Path) -> Vec<PathBuf> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!("the plugins in {} cannot be listed: {error}", root.display());
            }
            return Vec::new();
        }
    };
    let candidates = entries.flatten().filter(|entry| {
        let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        // Symbolic links are kept, so that they are listed as invalid with a reason. Regular files are ignored.
        !is_hidden && entry.file_type().is_ok_and(|kind| !kind.is_file())
    });
    let mut folders: Vec<PathBuf> = candidates.map(|entry| entry.path()).collect();
    folders.sort();
    folders.truncate(MAX_PLUGINS);
    folders
}
