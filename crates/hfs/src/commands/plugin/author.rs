//! `hfs plugin new` and `hfs plugin build`: for those who write plugins.

use std::fs;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use hfs_core::ErrorKind;
use hfs_plugins::{Entry, MANIFEST, Manifest, check, componentize};

use super::compile::compile;
use crate::failure::Failure;

/// What a plugin is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Language {
    /// Rust
    Rust,
}

/// The guest's library as it comes along with every new plugin, so that it needs nothing from elsewhere.
const SDK: [(&str, &str); 4] = [
    ("hfs-plugin/Cargo.toml", include_str!("../../../../../sdk/rust/Cargo.toml")),
    ("hfs-plugin/src/lib.rs", include_str!("../../../../../sdk/rust/src/lib.rs")),
    ("hfs-plugin/src/bindings.rs", include_str!("../../../../../sdk/rust/src/bindings.rs")),
    ("hfs-plugin/wit/hfs-plugin.wit", include_str!("../../../../../wit/0.1/hfs-plugin.wit")),
];

const MANIFEST_TEXT: &str = r#"name: NAME
version: 0.1.0
description: Says hello
entry_point: plugin.wasm
capabilities: [commands]   # and hooks, widgets
# permissions:             # nothing unless it is named
#   session: read
#   network: ["api.example.com"]
#   filesystem: { read: ["~/notes"], write: [] }
#   storage: 64KiB
api_version: "0.1"
"#;

const CARGO: &str = r#"[package]
name = "NAME"
version = "0.1.0"
edition = "2024"
publish = false

[lib]
crate-type = ["cdylib"]

[dependencies]
hfs-plugin = { path = "hfs-plugin" }

[profile.release]
opt-level = "s"
lto = true
panic = "abort"
strip = true

[workspace]
exclude = ["hfs-plugin"]
"#;

const SOURCE: &str = r#"use hfs_plugin::{Command, Commands, Error, Invocation, Outcome};

struct Plugin;

impl Commands for Plugin {
    fn list() -> Vec<Command> {
        vec![Command { name: "hello".into(), about: "says hello".into(), usage: "[WHOM]".into() }]
    }

    fn run(invocation: Invocation) -> Result<Outcome, Error> {
        let whom = match invocation.arguments.trim() {
            "" => "world",
            whom => whom,
        };
        Ok(Outcome::Show(format!("Hello, **{whom}**!")))
    }
}

// Behind the colon stands what the plugin has; `capabilities` in the manifest says the same.
hfs_plugin::plugin!(Plugin: commands);
"#;

/// Makes a plugin that can be built and run.
///
/// # Errors
/// `Conflict` when the folder exists; `Invalid` for what is no name.
pub fn create(folder: &Path, language: Language) -> Result<String, Failure> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let manifest = MANIFEST_TEXT.replace("NAME", &name);
    Manifest::from_yaml(&manifest).map_err(|error| invalid(folder, &error.to_string()))?;
    let files = match language {
        Language::Rust => [
            (MANIFEST, manifest),
            ("Cargo.toml", CARGO.replace("NAME", &name)),
            ("src/lib.rs", SOURCE.to_owned()),
            (".gitignore", "target\n".to_owned()),
        ],
    };
    fs::create_dir(folder)
        .map_err(|error| Failure::io(format!("make the folder {}", folder.display()), error))?;
    let sdk = SDK.into_iter().map(|(path, text)| (path, text.to_owned()));
    for (path, text) in files.into_iter().chain(sdk) {
        let path = folder.join(path);
        let parent = path.parent().unwrap_or(folder);
        let written = fs::create_dir_all(parent).and_then(|()| fs::write(&path, text));
        written.map_err(|error| Failure::io(format!("write {}", path.display()), error))?;
    }
    Ok(name)
}

/// What is wrong with a plugin, said of where it lies.
pub fn invalid(folder: &Path, message: &str) -> Failure {
    Failure::Refused {
        kind: ErrorKind::Invalid,
        message: format!("{}: {message}", folder.display()),
        hint: None,
    }
}

/// Compiles a plugin and makes its component; returns where that is.
///
/// # Errors
/// `Invalid` when its manifest or the component makes no sense; `Unavailable` when it does not compile.
pub fn build(folder: &Path) -> Result<PathBuf, Failure> {
    let manifest = manifest_of(folder)?;
    let Entry::Component(entry) = &manifest.entry else {
        return Err(invalid(folder, "a plugin in plain source needs no building"));
    };
    let module = compile(folder)?;
    let bytes =
        fs::read(&module).map_err(|error| Failure::io(format!("read {}", module.display()), error))?;
    let component = componentize(&bytes).map_err(|reason| invalid(folder, &reason))?;
    check(&manifest, &component).map_err(|reason| invalid(folder, &reason))?;
    let path = folder.join(entry);
    fs::write(&path, component).map_err(|error| Failure::io(format!("write {}", path.display()), error))?;
    Ok(path)
}

/// The manifest of a plugin's folder.
///
/// # Errors
/// As the system has it; `Invalid` when it makes no sense.
pub fn manifest_of(folder: &Path) -> Result<Manifest, Failure> {
    let path = folder.join(MANIFEST);
    let text =
        fs::read_to_string(&path).map_err(|error| Failure::io(format!("read {}", path.display()), error))?;
    Manifest::from_yaml(&text).map_err(|error| invalid(folder, &error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_plugin_is_whole_and_takes_nobodys_place() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("my-plugin");
        assert_eq!(create(&place, Language::Rust).unwrap(), "my-plugin");
        assert_eq!(manifest_of(&place).unwrap().name, "my-plugin");
        for (path, _) in SDK {
            assert!(place.join(path).is_file(), "{path}");
        }
        assert!(create(&place, Language::Rust).is_err());
        assert!(create(&folder.path().join("My Plugin"), Language::Rust).is_err());
    }
}
