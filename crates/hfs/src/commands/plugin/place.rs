//! `hfs plugin install` and `hfs plugin uninstall`.

use std::fs;
use std::path::Path;

use hfs_core::ErrorKind;
use hfs_plugins::{MANIFEST, Manifest, Place, Plugins};

use super::author::manifest_of;
use crate::context::Context;
use crate::failure::Failure;
use crate::home::create_private;

/// What comes along with a plugin where it is there: words for people.
const PAPERS: [&str; 4] = ["README.md", "LICENSE", "LICENSE-MIT", "LICENSE-APACHE"];

/// Copies a plugin to the user's own; one of the same name is replaced, and has to be approved again. Returns what
/// was installed.
///
/// # Errors
/// As the system has it; `Invalid` when its manifest makes no sense.
pub fn install(source: &Path, context: &Context) -> Result<Manifest, Failure> {
    let manifest = manifest_of(source)?;
    context.home.create()?;
    let plugins = context.home.root().join("plugins");
    let failed = |path: &Path, error| Failure::io(format!("write {}", path.display()), error);
    create_private(&plugins).map_err(|error| failed(&plugins, error))?;
    // Beside its place, so that it comes there in one step; hidden, so that nobody takes it for a plugin.
    let staged = tempfile::Builder::new().prefix(".new-").tempdir_in(&plugins);
    let staged = staged.map_err(|error| failed(&plugins, error))?;
    let entry = manifest.entry.file();
    for (file, needed) in [(Path::new(MANIFEST), true), (entry, true)]
        .into_iter()
        .chain(PAPERS.map(|paper| (Path::new(paper), false)))
    {
        let from = source.join(file);
        if needed || from.is_file() {
            let copied = fs::copy(&from, staged.path().join(file));
            copied.map_err(|error| Failure::io(format!("copy {}", from.display()), error))?;
        }
    }
    let place = plugins.join(&manifest.name);
    if place.exists() {
        let old = tempfile::Builder::new().prefix(".old-").tempdir_in(&plugins);
        let old = old.map_err(|error| failed(&plugins, error))?;
        fs::rename(&place, old.path().join("plugin")).map_err(|error| failed(&place, error))?;
    }
    fs::rename(staged.keep(), &place).map_err(|error| failed(&place, error))?;
    Ok(manifest)
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
