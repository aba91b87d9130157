//! `hfs plugin install` and `hfs plugin uninstall`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hfs_core::ErrorKind;
use hfs_plugins::{
    EntryPoint, IGNORED_FOLDERS, Language, MANIFEST_FILE, Manifest, Place, Plugins, check_folder, unpack,
};
use tempfile::TempDir;

use super::author::{invalid, manifest_of};
use crate::context::Context;
use crate::failure::Failure;
use crate::home::create_private;

/// What comes along with a plugin where it is there: words for people.
const PAPERS: [&str; 4] = ["README.md", "LICENSE", "LICENSE-MIT", "LICENSE-APACHE"];

/// Copies a plugin, from its folder or its archive, to the user's own; one of the same name is replaced, and has to
/// be approved again. Returns what was installed. What could not run is not installed, and then the one of the same
/// name stays as it is.
///
/// # Errors
/// As the system has it; `Invalid` when it can be no plugin.
pub fn install(source: &Path, context: &Context) -> Result<Manifest, Failure> {
    let kind =
        fs::metadata(source).map_err(|error| Failure::io(format!("read {}", source.display()), error))?;
    context.home.create()?;
    let plugins = context.home.root().join("plugins");
    create_private(&plugins).map_err(|error| not_written(&plugins, error))?;
    // Beside its place, so that it comes there in one step.
    let stage = stage(&plugins)?;
    if kind.is_dir() {
        return install_folder(source, stage, &plugins);
    }
    let unpacked = unpack(source, stage.path()).map_err(|error| invalid(source, &error.to_string()))?;
    install_folder(&unpacked, self::stage(&plugins)?, &plugins).map_err(|failure| match failure {
        // Where it was unpacked to is nobody's business, and gone.
        Failure::Refused { kind, message, hint } => {
            let message = message.replace(&unpacked.display().to_string(), &source.display().to_string());
            Failure::Refused { kind, message, hint }
        }
        other => other,
    })
}

/// Hidden, so that nobody takes it for a plugin.
fn stage(plugins: &Path) -> Result<TempDir, Failure> {
    let made = tempfile::Builder::new().prefix(".new-").tempdir_in(plugins);
    made.map_err(|error| not_written(plugins, error))
}

fn not_written(path: &Path, error: io::Error) -> Failure {
    Failure::io(format!("write {}", path.display()), error)
}

fn install_folder(source: &Path, stage: TempDir, plugins: &Path) -> Result<Manifest, Failure> {
    let manifest = manifest_of(source)?;
    let mut files = vec![(PathBuf::from(MANIFEST_FILE), true)];
    match entry_of(&manifest, source) {
        EntryPoint::Component(entry) => files.push((entry, true)),
        EntryPoint::Script(language, entry) => {
            files.push((entry, true));
            let sources = sources(source, language);
            let sources =
                sources.map_err(|error| Failure::io(format!("read {}", source.display()), error))?;
            files.extend(sources.into_iter().map(|file| (file, false)));
        }
    }
    for (file, needed) in files.into_iter().chain(PAPERS.map(|paper| (paper.into(), false))) {
        let from = source.join(&file);
        let to = stage.path().join(&file);
        // What lies behind a link is not the plugin's own.
        let is_plain = fs::symlink_metadata(&from).is_ok_and(|found| found.is_file());
        if needed && !is_plain {
            return Err(invalid(source, &format!("{} is not there, or no plain file", file.display())));
        }
        if is_plain {
            let parent = to.parent().unwrap_or(stage.path());
            let copied = fs::create_dir_all(parent).and_then(|()| fs::copy(&from, &to));
            copied.map_err(|error| Failure::io(format!("copy {}", from.display()), error))?;
        }
    }
    check_folder(stage.path()).map_err(|error| invalid(source, &error.to_string()))?;
    let place = plugins.join(&manifest.name);
    let mut old = None;
    if place.exists() {
        let aside = self::stage(plugins)?;
        fs::rename(&place, aside.path().join("plugin")).map_err(|error| not_written(&place, error))?;
        old = Some(aside);
    }
    if let Err(error) = fs::rename(stage.path(), &place) {
        if let Some(aside) = &old {
            fs::rename(aside.path().join("plugin"), &place).map_err(|error| not_written(&place, error))?;
        }
        return Err(not_written(&place, error));
    }
    // It is in its place now, and no longer to be removed.
    let _ = stage.keep();
    Ok(manifest)
}

/// Where its code is; where it is nowhere, what is said to be missing.
fn entry_of(manifest: &Manifest, folder: &Path) -> EntryPoint {
    let is_there = |entry: &EntryPoint| folder.join(entry.file()).is_file();
    let [first, ..] = EntryPoint::defaults();
    let usual = || EntryPoint::defaults().into_iter().find(is_there).unwrap_or(first);
    manifest.entry_point.clone().unwrap_or_else(usual)
}

/// All source of this language below a folder, but for what tools have left there.
fn sources(folder: &Path, language: Language) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(below) = folders.pop() {
        for entry in fs::read_dir(folder.join(&below))? {
            let entry = entry?;
            let name = entry.file_name();
            let path = below.join(&name);
            let kind = entry.file_type()?;
            let left =
                name.as_encoded_bytes().starts_with(b".") || IGNORED_FOLDERS.iter().any(|left| name == *left);
            if kind.is_dir() && !left {
                folders.push(path);
            } else if kind.is_file() && Language::of(&path) == Some(language) {
                found.push(path);
            }
        }
    }
    Ok(found)
}

/// Removes a plugin of the user's own, and what was decided about it. What it stored stays.
///
/// # Errors
/// `NotFound`; `Denied` for a project's, which belongs to the project.
pub fn uninstall(name: &str, plugins: &Plugins) -> Result<(), Failure> {
    let plugin = plugins.get(name)?;
    if plugin.place == Place::Project {
        return Err(Failure::Refused {
            kind: ErrorKind::Denied,
            message: format!("{name} belongs to the project, in {}", plugin.folder.display()),
            hint: Some(format!("`hfs plugin deny {name}` keeps it from running")),
        });
    }
    plugins.revoke(name)?;
    let removed = match fs::symlink_metadata(&plugin.folder) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(&plugin.folder),
        _ => fs::remove_file(&plugin.folder),
    };
    removed.map_err(|error| Failure::io(format!("remove {}", plugin.folder.display()), error))
}
