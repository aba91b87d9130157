//! Adds the commit and its date to the version of optimized builds, if they are made in a git repository.
//!
//! Builds for development have the version only: otherwise each commit would compile the crate again.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // `release` for all profiles that inherit from it.
    if std::env::var("PROFILE").is_ok_and(|profile| profile == "release")
        && let Some(commit) = commit()
    {
        let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
        println!("cargo::rustc-env=HFS_BUILD_VERSION={version} ({commit})");
    }
}

/// The short hash and the date of the commit. `None` without git, or if this folder is not part of the repository that git finds.
fn commit() -> Option<String> {
    git(&["ls-files", "--error-unmatch", "build.rs"])?;
    // Git adds a line to this file for each commit and each change of the branch.
    println!("cargo::rerun-if-changed={}", git(&["rev-parse", "--git-path", "logs/HEAD"])?);
    git(&["log", "-1", "--format=%h %cs", "--abbrev=10"])
}

/// The output of git. `None` if it cannot be run or fails.
fn git(arguments: &[&str]) -> Option<String> {
    let output =
        Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
