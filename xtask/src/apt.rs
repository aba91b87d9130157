//! Programs from Debian's packages that are unpacked, not installed: no rights are needed, and nothing outside the folder changes.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::shell;

/// Downloads a package and those that it needs and that are not installed, and unpacks them into the folder.
pub fn unpack(package: &str, folder: &Path) -> Result<()> {
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
