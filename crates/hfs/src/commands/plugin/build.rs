//! `hfs plugin build`: a component of what a plugin's author wrote.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hfs_core::ErrorKind;
use hfs_plugins::{EntryPoint, check_component, componentize};

use super::author::{CONTRACT, WORLD, invalid, manifest_of};
use super::compile::compile;
use crate::failure::Failure;

/// Compiles a plugin and makes its component; returns where that is. What there is says in which language: a
/// `Cargo.toml`, an `app.py` or an `app.js`.
///
/// # Errors
/// `Invalid` when its manifest or the component makes no sense; `Unavailable` when it does not compile.
pub fn build(folder: &Path) -> Result<PathBuf, Failure> {
    let manifest = manifest_of(folder)?;
    let entry = match &manifest.entry_point {
        Some(EntryPoint::Script(..)) => {
            return Err(invalid(folder, "a plugin in plain source needs no building"));
        }
        Some(EntryPoint::Component(entry)) => entry.clone(),
        None => "plugin.wasm".into(),
    };
    let has = |file: &str| folder.join(file).is_file();
    let path = folder.join(entry);
    let built = if has("Cargo.toml") {
        compile(folder)?
    } else if has("app.py") {
        let arguments = ["--wit-path", "wit", "--world", WORLD, "componentize", "app", "--output"];
        interpret(folder, "componentize-py", &arguments, "pip install componentize-py")?
    } else if has("app.js") {
        let arguments = ["--wit", "wit", "--world", WORLD, "--sync", "--js", "app.js", "--output"];
        interpret(folder, "componentize-qjs", &arguments, "npm install --global componentize-qjs")?
    } else {
        return Err(invalid(
            folder,
            "there is nothing to build: expected a Cargo.toml, an app.py or an app.js",
        ));
    };
    let bytes = fs::read(&built).map_err(|error| Failure::io(format!("read {}", built.display()), error))?;
    let component = componentize(&bytes).map_err(|error| invalid(folder, &error.to_string()))?;
    check_component(&manifest, &component).map_err(|error| invalid(folder, &error.to_string()))?;
    fs::write(&path, component).map_err(|error| Failure::io(format!("write {}", path.display()), error))?;
    Ok(path)
}

/// Has another tool make a component of a script and its interpreter.
fn interpret(folder: &Path, tool: &str, arguments: &[&str], install: &str) -> Result<PathBuf, Failure> {
    // The contract is this version's, whatever the plugin was begun with.
    let contract = folder.join("wit/deps/hfs-plugin/hfs-plugin.wit");
    let parent = contract.parent().unwrap_or(folder);
    let written = fs::create_dir_all(parent).and_then(|()| fs::write(&contract, CONTRACT));
    written.map_err(|error| Failure::io(format!("write {}", contract.display()), error))?;
    let made = folder.join("build").join("plugin.wasm");
    let parent = made.parent().unwrap_or(folder);
    fs::create_dir_all(parent).map_err(|error| Failure::io(format!("make {}", parent.display()), error))?;
    let mut command = Command::new(tool);
    command.args(arguments).arg(&made).current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null());
    // Nothing is left beside the author's files.
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    let status = command.status().map_err(|error| Failure::Refused {
        kind: ErrorKind::Unavailable,
        message: format!("{tool} cannot be run: {error}"),
        hint: Some(format!("`{install}` brings it")),
    })?;
    if !status.success() {
        return Err(Failure::Refused {
            kind: ErrorKind::Unavailable,
            message: format!("{}: {tool} made no component of it", folder.display()),
            hint: None,
        });
    }
    Ok(made)
}
