//! What cargo knows about the workspace.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::shell;

/// The workspace: where it is and which crates it has.
#[derive(Debug, Deserialize)]
pub struct Workspace {
    /// Its folder.
    #[serde(rename = "workspace_root")]
    pub root: PathBuf,
    /// Where cargo builds.
    #[serde(rename = "target_directory")]
    pub target: PathBuf,
    /// Its crates.
    pub packages: Vec<Package>,
}

/// A crate of the workspace.
#[derive(Debug, Deserialize)]
pub struct Package {
    pub name: String,
    pub version: String,
    pub manifest_path: PathBuf,
    pub dependencies: Vec<Dependency>,
    pub targets: Vec<Target>,
}

/// What a crate depends on.
#[derive(Debug, Deserialize)]
pub struct Dependency {
    pub name: String,
    /// `None` for an ordinary one, otherwise `dev` or `build`.
    pub kind: Option<String>,
    /// Where it is, for a crate of our own.
    pub path: Option<PathBuf>,
}

/// What cargo builds from a crate.
#[derive(Debug, Deserialize)]
pub struct Target {
    pub name: String,
    pub kind: Vec<String>,
}

impl Workspace {
    /// Asks cargo.
    pub fn load() -> Result<Self> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut metadata = shell::cargo(here);
        metadata.args(["metadata", "--format-version", "1", "--no-deps"]);
        let json = shell::output_of(&mut metadata)?;
        serde_json::from_str(&json).context("read what cargo metadata says")
    }

    /// The crates with a benchmark, each with the benchmark's name.
    pub fn benchmarks(&self) -> impl Iterator<Item = (&Package, &str)> {
        self.packages.iter().flat_map(|package| {
            let benches =
                package.targets.iter().filter(|target| target.kind.iter().any(|kind| kind == "bench"));
            benches.map(move |target| (package, target.name.as_str()))
        })
    }

    /// The crate of this name.
    pub fn package(&self, name: &str) -> Option<&Package> {
        self.packages.iter().find(|package| package.name == name)
    }
}
