//! `cargo xtask dist`: the release archive.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};

use crate::workspace::Workspace;
use crate::{runtimes, shell};

const SHELLS: &[&str] = &["bash", "elvish", "fish", "powershell", "zsh"];
const DOCUMENTS: &[&str] = &["README.md", "LICENSE-MIT", "LICENSE-APACHE"];

/// Builds the binary with the profile `dist` and packs it with interpreters, completions and licences.
pub fn run(workspace: &Workspace) -> Result<ExitCode> {
    let mut build = shell::cargo(&workspace.root);
    build.args(["build", "--profile", "dist", "--locked", "--package", "hfs"]);
    // A release does not look for its source on the user's machine.
    build.env("HFS_RELEASE", "1");
    ensure!(shell::succeeds(&mut build)?, "the release build failed");

    let version = &workspace.package("hfs").context("find the package hfs")?.version;
    let name = format!("hfs-{version}-{}", host()?);
    let dist = workspace.root.join("dist");
    let folder = dist.join(&name);
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("delete {}", folder.display()))?;
    }
    let completions = folder.join("completions");
    fs::create_dir_all(&completions).with_context(|| format!("create {}", completions.display()))?;

    let binary = folder.join(format!("hfs{}", std::env::consts::EXE_SUFFIX));
    let built = workspace.target.join("dist").join(format!("hfs{}", std::env::consts::EXE_SUFFIX));
    copy(&built, &binary)?;
    add_interpreters(workspace, &binary, &folder)?;
    for document in DOCUMENTS {
        copy(&workspace.root.join(document), &folder.join(document))?;
    }
    for shell in SHELLS {
        let script = shell::output_of(Command::new(&binary).args(["completions", shell]))?;
        let path = completions.join(format!("hfs.{shell}"));
        fs::write(&path, script).with_context(|| format!("write {}", path.display()))?;
    }

    let archive = format!("{name}.tar.gz");
    let mut tar = Command::new("tar");
    ensure!(
        shell::succeeds(tar.current_dir(&dist).args(["-czf", &archive, &name]))?,
        "tar cannot pack {name}"
    );
    println!("{}", dist.join(archive).display());
    Ok(ExitCode::SUCCESS)
}

/// Copies the interpreters and their hashes next to the program. The built program installs them first, which checks
/// that they match it and computes the hashes.
fn add_interpreters(workspace: &Workspace, binary: &Path, folder: &Path) -> Result<()> {
    let missing = runtimes::build_all(workspace)?;
    ensure!(missing.is_empty(), "cannot build {}", missing.join("; "));
    let home = workspace.target.join("dist-home");
    let mut install = Command::new(binary);
    install.arg("--home").arg(&home).args(["plugin", "runtime", "install"]).arg(runtimes::folder(workspace));
    ensure!(shell::succeeds(&mut install)?, "the interpreters do not match this version");
    for file in ["hfs-python", "hfs-javascript"] {
        for ending in ["wasm", "blake3"] {
            let name = format!("{file}.{ending}");
            copy(&home.join("runtimes").join(&name), &folder.join(&name))?;
        }
    }
    Ok(())
}

/// The target triple of the compiler.
fn host() -> Result<String> {
    let version = shell::output_of(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("find the host in the output of rustc -vV")?.to_owned())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("copy {} to {}", from.display(), to.display()))?;
    Ok(())
}
