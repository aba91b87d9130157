//! `hfs plugin new`: a plugin to begin with, in each language.

use std::fs;
use std::path::Path;

use clap::ValueEnum;
use hfs_core::ErrorKind;
use hfs_plugins::{MANIFEST_FILE, Manifest};

use crate::failure::Failure;

/// The contract, which comes along with every plugin that is compiled.
pub const CONTRACT: &str = include_str!("../../../../../wit/0.1/hfs-plugin.wit");
/// The world of a plugin that another tool compiles, in its `wit/plugin.wit`.
pub const WORLD: &str = "my-plugin";

/// What a plugin is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Language {
    /// Rust
    Rust,
    /// Python
    Python,
    /// JavaScript
    Javascript,
}

/// A file of a new plugin: its path and its text, in which NAME stands for the plugin's name.
type Template = (&'static str, &'static str);

macro_rules! template {
    ($path:literal, $file:literal) => {
        ($path, include_str!(concat!("../../../templates/", $file)))
    };
}

/// A new plugin in Rust, with the guest's library, so that it needs nothing from elsewhere.
const RUST: &[Template] = &[
    template!("manifest.yaml", "rust/manifest.yaml"),
    template!("Cargo.toml", "rust/Cargo.toml.txt"),
    template!("src/lib.rs", "rust/lib.rs.txt"),
    (".gitignore", "target\n"),
    ("hfs-plugin/Cargo.toml", include_str!("../../../../../sdk/rust/Cargo.toml")),
    ("hfs-plugin/src/lib.rs", include_str!("../../../../../sdk/rust/src/lib.rs")),
    ("hfs-plugin/src/bindings.rs", include_str!("../../../../../sdk/rust/src/bindings.rs")),
    ("hfs-plugin/wit/hfs-plugin.wit", CONTRACT),
];
/// What editors know of the module `hfs`.
const STUBS: Template = ("hfs.pyi", include_str!("../../../../../sdk/python/hfs.pyi"));
const DECLARATIONS: Template = ("hfs.d.ts", include_str!("../../../../../sdk/javascript/hfs.d.ts"));
const PYTHON: &[Template] =
    &[template!("manifest.yaml", "python/manifest.yaml"), template!("plugin.py", "python/plugin.py"), STUBS];
const JAVASCRIPT: &[Template] = &[
    template!("manifest.yaml", "javascript/manifest.yaml"),
    template!("plugin.js", "javascript/plugin.js"),
    template!("jsconfig.json", "javascript/jsconfig.json"),
    DECLARATIONS,
];
const COMPILED_PYTHON: &[Template] = &[
    template!("manifest.yaml", "compiled/manifest.yaml"),
    template!("app.py", "compiled/app.py"),
    template!("wit/plugin.wit", "compiled/plugin.wit"),
    ("wit/deps/hfs-plugin/hfs-plugin.wit", CONTRACT),
    (".gitignore", "build\n"),
];
const COMPILED_JAVASCRIPT: &[Template] = &[
    template!("manifest.yaml", "compiled/manifest.yaml"),
    template!("app.js", "compiled/app.js"),
    template!("wit/plugin.wit", "compiled/plugin.wit"),
    ("wit/deps/hfs-plugin/hfs-plugin.wit", CONTRACT),
    (".gitignore", "build\n"),
];

/// Makes a plugin that can be run, or built and run.
///
/// # Errors
/// `Conflict` when the folder exists; `Invalid` for what is no name.
pub fn create(folder: &Path, language: Language, compiled: bool) -> Result<String, Failure> {
    let templates = match (language, compiled) {
        (Language::Rust, _) => RUST,
        (Language::Python, false) => PYTHON,
        (Language::Python, true) => COMPILED_PYTHON,
        (Language::Javascript, false) => JAVASCRIPT,
        (Language::Javascript, true) => COMPILED_JAVASCRIPT,
    };
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let named = |text: &str| text.replace("NAME", &name);
    let manifest = templates.iter().find(|(path, _)| *path == MANIFEST_FILE).map(|(_, text)| named(text));
    Manifest::from_yaml(&manifest.unwrap_or_default())
        .map_err(|error| invalid(folder, &error.to_string()))?;
    fs::create_dir(folder)
        .map_err(|error| Failure::io(format!("make the folder {}", folder.display()), error))?;
    for (path, text) in templates {
        // Only what is a template has a name to be filled in.
        let text = if text.contains("NAME") && !path.starts_with("hfs-plugin/") {
            named(text)
        } else {
            (*text).to_owned()
        };
        let path = folder.join(path);
        let parent = path.parent().unwrap_or(folder);
        let written = fs::create_dir_all(parent).and_then(|()| fs::write(&path, text));
        written.map_err(|error| Failure::io(format!("write {}", path.display()), error))?;
    }
    Ok(name)
}

/// A refusal of what is in a plugin's folder.
pub fn invalid(folder: &Path, message: &str) -> Failure {
    Failure::Refused {
        kind: ErrorKind::Invalid,
        message: format!("{}: {message}", folder.display()),
        hint: None,
    }
}

/// The manifest of a plugin's folder.
///
/// # Errors
/// As the system has it; `Invalid` when it makes no sense.
pub fn manifest_of(folder: &Path) -> Result<Manifest, Failure> {
    let path = folder.join(MANIFEST_FILE);
    let text =
        fs::read_to_string(&path).map_err(|error| Failure::io(format!("read {}", path.display()), error))?;
    Manifest::from_yaml(&text).map_err(|error| invalid(folder, &error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_plugin_is_whole_and_takes_nobodys_place() {
        let all = [
            (Language::Rust, false, RUST),
            (Language::Python, false, PYTHON),
            (Language::Python, true, COMPILED_PYTHON),
            (Language::Javascript, false, JAVASCRIPT),
            (Language::Javascript, true, COMPILED_JAVASCRIPT),
        ];
        for (language, compiled, templates) in all {
            let folder = tempfile::tempdir().unwrap();
            let place = folder.path().join("my-plugin");
            assert_eq!(create(&place, language, compiled).unwrap(), "my-plugin");
            let manifest = manifest_of(&place).unwrap();
            assert_eq!((manifest.name.as_str(), manifest.warnings.len()), ("my-plugin", 0));
            for (path, _) in templates {
                let text = fs::read_to_string(place.join(path)).unwrap();
                assert!(path.starts_with("hfs-plugin/") || !text.contains("NAME"), "{path}");
            }
            assert!(create(&place, language, compiled).is_err());
            assert!(create(&folder.path().join("My Plugin"), language, compiled).is_err());
        }
    }
}
