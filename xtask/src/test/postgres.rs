//! The PostgreSQL server and pgbouncer that tests start.
//!
//! Programs that are not installed are unpacked from Debian's packages into the target directory: nothing is installed, and no
//! service is started. Tests start their own servers (`testkit::postgres`).

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::apt;
use crate::workspace::Workspace;

/// Variable with the folder of the unpacked packages, for the tests.
pub const VARIABLE: &str = "HFS_POSTGRES";

/// The folder of the unpacked packages.
pub fn folder(workspace: &Workspace) -> PathBuf {
    workspace.target.join("postgres")
}

/// Unpacks the programs that are not installed. Returns the tests that are skipped, with the reasons.
pub fn prepare(workspace: &Workspace) -> Result<Vec<String>> {
    let folder = folder(workspace);
    let roots = [PathBuf::from("/"), folder.clone()];
    let mut skipped = Vec::new();
    for (package, is_found, tests) in [
        ("postgresql", has_server as fn(&Path) -> bool, "stores on PostgreSQL"),
        ("pgbouncer", has_pgbouncer, "stores on PostgreSQL behind pgbouncer"),
    ] {
        let is_there = || roots.iter().any(|root| is_found(root)) || is_in_path(package);
        if is_there() {
            continue;
        }
        if let Err(error) = apt::unpack(package, &folder) {
            skipped.push(format!("{tests}: {package} is not installed, and {error:#}"));
        } else if !is_there() {
            skipped.push(format!("{tests}: {package} is not installed, and its package has no such program"));
        }
    }
    Ok(skipped)
}

fn has_server(root: &Path) -> bool {
    let versions = fs::read_dir(root.join("usr/lib/postgresql")).into_iter().flatten().flatten();
    versions.into_iter().any(|version| version.path().join("bin/initdb").exists())
}

fn has_pgbouncer(root: &Path) -> bool {
    root.join("usr/sbin/pgbouncer").exists()
}

fn is_in_path(package: &str) -> bool {
    let program = if package == "postgresql" { "initdb" } else { package };
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).exists())
}
