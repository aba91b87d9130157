//! The workspace as reported by `cargo metadata`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::shell;

#[derive(Debug, Deserialize)]
pub struct Workspace {
    #[serde(rename = "workspace_root")]
    pub root: PathBuf,
    #[serde(rename = "target_directory")]
    pub target: PathBuf,
    pub packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
pub struct Package {
    pub name: String,
    pub version: String,
    pub manifest_path: PathBuf,
    pub dependencies: Vec<Dependency>,
    pub targets: Vec<Target>,
}

#[derive(Debug, Deserialize)]
pub struct Dependency {
    pub name: String,
    /// `None` for a normal dependency, else `dev` or `build`.
    pub kind: Option<String>,
    /// Path of a crate in this workspace.
    pub path: Option<PathBuf>,
}

/// A build target of a crate.
#[derive(Debug, Deserialize)]
pub struct Target {
    pub name: String,
    pub kind: Vec<String>,
}

impl Workspace {
    /// Runs `cargo metadata`.
    pub fn load() -> Result<Self> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut metadata = shell::cargo(here);
        metadata.args(["metadata", "--format-version", "1", "--no-deps"]);
        let json = shell::output_of(&mut metadata)?;
        serde_json::from_str(&json).context("parse the output of cargo metadata")
    }

    /// The names of all benchmarks, with their crates.
    pub fn benchmarks(&self) -> impl Iterator<Item = (&Package, &str)> {
        self.packages.iter().flat_map(|package| {
            let benches =
                package.targets.iter().filter(|target| target.kind.iter().any(|kind| kind == "bench"));
            benches.map(move |target| (package, target.name.as_str()))
        })
    }

    pub fn package(&self, name: &str) -> Option<&Package> {
        self.packages.iter().find(|package| package.name == name)
    }
}
