//! The PostgreSQL server and pgbouncer that tests start.
//!
//! Programs that are not installed are unpacked from Debian's packages into the target directory: nothing is installed, and no
//! service is started. Tests start their own servers (`testkit::postgres`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::shell;
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
        if let Err(error) = unpack(package, &folder) {
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

/// Downloads a package and those that it needs and that are not installed, and unpacks them into the folder.
fn unpack(package: &str, folder: &Path) -> Result<()> {
    let downloads = folder.join("packages");
    fs::create_dir_all(&downloads).with_context(|| format!("create {}", downloads.display()))?;
    let mut list = Command::new("apt-get");
    list.args(["install", "--print-uris", "--yes", "--no-install-recommends", package]);
    let listed = shell::output_of(&mut list).context("apt-get does not find it")?;
    // Lines of the form: 'http://deb.debian.org/.../pgbouncer_1.18.0-1_amd64.deb' pgbouncer_1.18.0-1_amd64.deb 208108 MD5Sum:...
    let names: Vec<&str> = listed
        .lines()
        .filter(|line| line.starts_with('\''))
        .filter_map(|line| line.split_whitespace().nth(1)?.split_once('_').map(|(name, _)| name))
        .collect();
    anyhow::ensure!(!names.is_empty(), "apt-get has no package for it");
    let mut download = Command::new("apt-get");
    download.args(["download", "--quiet"]).args(&names).current_dir(&downloads);
    anyhow::ensure!(shell::succeeds(&mut download)?, "its packages cannot be downloaded");
    let files = fs::read_dir(&downloads).with_context(|| format!("list {}", downloads.display()))?;
    for file in files {
        let file = file?.path();
        let mut unpack = Command::new("dpkg-deb");
        unpack.arg("--extract").arg(&file).arg(folder);
        anyhow::ensure!(shell::succeeds(&mut unpack)?, "{} cannot be unpacked", file.display());
        fs::remove_file(&file).with_context(|| format!("remove {}", file.display()))?;
    }
    Ok(())
}
