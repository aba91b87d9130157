//! Compiling a plugin in Rust, with the author's own cargo.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use hfs_core::ErrorKind;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::failure::Failure;

/// The target that plugins in Rust are compiled for.
const TARGET: &str = "wasm32-unknown-unknown";

/// A line of what cargo tells while it builds.
#[derive(Deserialize)]
struct Artifact {
    reason: String,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

/// What cargo knows of the crates that a plugin is made of.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    manifest_path: PathBuf,
}

/// Compiles the crate in this folder, and returns where its module is.
///
/// # Errors
/// `Unavailable` when it does not compile; as the system has it.
pub fn compile(folder: &Path) -> Result<PathBuf, Failure> {
    let failed = |message: &str| Failure::Refused {
        kind: ErrorKind::Unavailable,
        message: format!("{}: {message}", folder.display()),
        hint: Some(format!("it is compiled for {TARGET}: `rustup target add {TARGET}` brings that")),
    };
    let metadata = cargo(folder, &["metadata", "--format-version=1", "--filter-platform", TARGET])?;
    let packages = lines_of::<Metadata>(&metadata).into_iter().flat_map(|metadata| metadata.packages);
    let anonymous = nameless(packages);
    let output = cargo(
        folder,
        &[
            "build",
            "--release",
            "--target",
            TARGET,
            "--message-format=json-render-diagnostics",
            "--config",
            &anonymous,
        ],
    )?;
    if !output.status.success() {
        return Err(failed("it does not compile"));
    }
    let built = lines_of::<Artifact>(&output).into_iter();
    let built = built.filter(|artifact| artifact.reason == "compiler-artifact");
    let is_module = |file: &PathBuf| file.extension().is_some_and(|ending| ending == "wasm");
    // The plugin itself comes after everything that it stands on.
    let mut modules: Vec<PathBuf> = built.flat_map(|artifact| artifact.filenames).filter(is_module).collect();
    modules.pop().ok_or_else(|| failed("its crate is no `cdylib`"))
}

fn cargo(folder: &Path, arguments: &[&str]) -> Result<Output, Failure> {
    Command::new("cargo")
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| Failure::io("run cargo", error))
}

fn lines_of<T: DeserializeOwned>(output: &Output) -> Vec<T> {
    let told = String::from_utf8_lossy(&output.stdout);
    told.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The setting that has the compiler write each crate's name where it would write the folder that the crate lies in.
/// A plugin is given to others, and where its author keeps things, and under which name, is none of their business.
fn nameless(packages: impl Iterator<Item = Package>) -> String {
    let flags: Vec<String> = packages
        .filter_map(|package| {
            let folder = package.manifest_path.parent()?.to_str()?.to_owned();
            Some(format!("--remap-path-prefix={folder}={}-{}", package.name, package.version))
        })
        .collect();
    let flags = serde_json::to_string(&flags).unwrap_or_else(|_| "[]".into());
    format!("target.{TARGET}.rustflags={flags}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_crate_is_named_instead_of_its_folder() {
        let package = |name: &str, path: &str| Package {
            name: name.into(),
            version: "1.0.0".into(),
            manifest_path: path.into(),
        };
        let packages = [package("p", "/home/me/my \"p\"/Cargo.toml"), package("q", "/r/q/Cargo.toml")];
        assert_eq!(
            nameless(packages.into_iter()),
            r#"target.wasm32-unknown-unknown.rustflags=["--remap-path-prefix=/home/me/my \"p\"=p-1.0.0","--remap-path-prefix=/r/q=q-1.0.0"]"#
        );
    }
}
