//! `cargo xtask dist`: the release archive and the Debian package.
//!
//! Two builds of one commit by one compiler are equal: paths are replaced, all times are that of the commit, and files are packed in
//! the order of their names. If an archive exists already, the new one is compared with it.

mod debian;
mod licenses;

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::workspace::Workspace;
use crate::{runtimes, shell};

const SHELLS: &[&str] = &["bash", "elvish", "fish", "powershell", "zsh"];
const DOCUMENTS: &[&str] =
    &["README.md", "CHANGELOG.md", "SECURITY.md", "STABILITY.md", "LICENSE-MIT", "LICENSE-APACHE"];
const THIRD_PARTY: &str = "THIRD-PARTY-LICENSES.txt";
/// The program may not become larger without a decision.
const MAX_PROGRAM_BYTES: u64 = 35_000_000;

#[derive(Debug, Args)]
pub struct Options {
    /// Also install, run and remove the Debian package in a clean system below target/ (needs root and debootstrap)
    #[arg(long)]
    test: bool,
}

/// The files of a release, in a folder for each kind of package.
struct Release {
    /// `hfs-VERSION-TARGET`.
    name: String,
    version: String,
    /// Unpacked archive.
    folder: PathBuf,
    /// Time of the commit, in seconds since 1970.
    epoch: String,
}

/// Builds the program with the profile `dist` and packs it with interpreters, man pages, completions and licenses.
pub fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let version = workspace.package("hfs").context("find the package hfs")?.version.clone();
    let name = format!("hfs-{version}-{}", host()?);
    let dist = workspace.root.join("dist");
    let release = Release { folder: dist.join(&name), name, version, epoch: epoch(workspace)? };
    if release.folder.exists() {
        fs::remove_dir_all(&release.folder)
            .with_context(|| format!("delete {}", release.folder.display()))?;
    }
    create(&release.folder)?;
    fill(workspace, &release)?;

    let mut packages = vec![archive(&dist, &release)?];
    if shell::is_available(Command::new("dpkg-deb").arg("--version")) {
        packages.push(debian::package(workspace, &dist, &release)?);
    } else {
        println!("left out: the Debian package: dpkg-deb is not installed");
    }
    for package in &packages {
        println!("{} ({} bytes)", package.display(), size(package)?);
    }
    if options.test {
        let package = packages.get(1).context("there is no Debian package to test")?;
        debian::test(workspace, package)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The time of the commit, or `SOURCE_DATE_EPOCH`.
fn epoch(workspace: &Workspace) -> Result<String> {
    if let Ok(epoch) = env::var("SOURCE_DATE_EPOCH") {
        return Ok(epoch);
    }
    let mut log = Command::new("git");
    let epoch = shell::output_of(log.current_dir(&workspace.root).args(["log", "-1", "--format=%ct"]));
    Ok(epoch.context("without git, set SOURCE_DATE_EPOCH to the time of the release")?.trim().to_owned())
}

/// Builds everything that a package contains.
fn fill(workspace: &Workspace, release: &Release) -> Result<()> {
    let program = release.folder.join("hfs");
    copy(&build(workspace, release)?, &program)?;
    let bytes = size(&program)?;
    println!("hfs: {bytes} bytes");
    ensure!(bytes <= MAX_PROGRAM_BYTES, "the program has more than {MAX_PROGRAM_BYTES} bytes");
    add_interpreters(workspace, &program, &release.folder)?;
    for document in DOCUMENTS {
        copy(&workspace.root.join(document), &release.folder.join(document))?;
    }
    write(&release.folder.join(THIRD_PARTY), &licenses::collect(workspace, &host()?)?)?;
    let completions = release.folder.join("completions");
    create(&completions)?;
    for shell in SHELLS {
        let script = shell::output_of(Command::new(&program).args(["completions", shell]))?;
        write(&completions.join(format!("hfs.{shell}")), &script)?;
    }
    let pages = release.folder.join("man");
    create(&pages)?;
    // A test writes them, so that the program itself need not contain what generates them.
    let mut generate = shell::cargo(&workspace.root);
    generate.args([
        "test",
        "--quiet",
        "--locked",
        "--package",
        "hfs",
        "--bins",
        "--",
        "every_command_has_a_man_page",
    ]);
    ensure!(shell::succeeds(generate.env("HFS_MAN_PAGES", &pages))?, "the man pages cannot be written");
    set_modes(&release.folder)
}

/// Builds the program, without paths of this machine. Returns where it is.
fn build(workspace: &Workspace, release: &Release) -> Result<PathBuf> {
    let mut build = shell::cargo(&workspace.root);
    build.args(["build", "--profile", "dist", "--locked", "--package", "hfs"]);
    // A release does not look for its source on the user's machine.
    build.env("HFS_RELEASE", "1").env("SOURCE_DATE_EPOCH", &release.epoch);
    let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo_home = cargo_home.or_else(|| Some(env::home_dir()?.join(".cargo")));
    let replaced = [(Some(workspace.root.clone()), "/hfs"), (cargo_home, "/cargo")];
    let replaced: Vec<String> =
        replaced.into_iter().filter_map(|(from, to)| Some(format!("{}={to}", from?.display()))).collect();
    let for_rust = replaced.iter().map(|pair| format!("--remap-path-prefix={pair}"));
    build.env("CARGO_ENCODED_RUSTFLAGS", for_rust.collect::<Vec<_>>().join("\u{1f}"));
    let for_c = replaced.iter().map(|pair| format!("-ffile-prefix-map={pair}"));
    build.env("CFLAGS", for_c.collect::<Vec<_>>().join(" "));
    // Other flags would replace the dependencies of an ordinary build.
    let target = workspace.target.join("for-dist");
    build.arg("--target-dir").arg(&target);
    ensure!(shell::succeeds(&mut build)?, "the build failed");
    Ok(target.join("dist/hfs"))
}

/// Copies the interpreters and their hashes next to the program. The built program installs them first, which checks
/// that they match it and computes the hashes.
fn add_interpreters(workspace: &Workspace, program: &Path, folder: &Path) -> Result<()> {
    let built = match env::var_os("HFS_RUNTIMES") {
        Some(folder) => PathBuf::from(folder),
        None => {
            let missing = runtimes::build_all(workspace)?;
            ensure!(missing.is_empty(), "cannot build {}", missing.join("; "));
            runtimes::folder(workspace)
        }
    };
    let home = workspace.target.join("dist-home");
    let mut install = Command::new(program);
    install.arg("--home").arg(&home).args(["plugin", "runtime", "install"]).arg(built);
    ensure!(shell::succeeds(&mut install)?, "the interpreters do not match this version");
    for file in ["hfs-python", "hfs-javascript"] {
        for ending in ["wasm", "blake3"] {
            let name = format!("{file}.{ending}");
            copy(&home.join("runtimes").join(&name), &folder.join(&name))?;
        }
    }
    fs::remove_dir_all(&home).with_context(|| format!("delete {}", home.display()))
}

/// Packs the folder, and compares the archive with the previous one.
fn archive(dist: &Path, release: &Release) -> Result<PathBuf> {
    let path = dist.join(format!("{}.tar.gz", release.name));
    let previous = fs::read(&path).ok();
    let mut tar = Command::new("tar");
    tar.current_dir(dist).args([
        "--create",
        "--sort=name",
        "--format=gnu",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
    ]);
    tar.arg(format!("--mtime=@{}", release.epoch)).args([
        "--use-compress-program",
        "gzip --no-name -9",
        "--file",
    ]);
    ensure!(
        shell::succeeds(tar.arg(&path).arg(&release.name))?,
        "tar cannot pack {} (GNU tar is needed)",
        release.name
    );
    compare(&path, previous.as_deref())?;
    Ok(path)
}

/// Says whether a package is equal to the one that was there before.
fn compare(path: &Path, previous: Option<&[u8]>) -> Result<()> {
    let Some(previous) = previous else { return Ok(()) };
    let now = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let result = if now == previous { "equal to" } else { "different from" };
    println!("{}: {result} the previous build", path.display());
    Ok(())
}

/// The target triple of the compiler.
fn host() -> Result<String> {
    let version = shell::output_of(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("find the host in the output of rustc -vV")?.to_owned())
}

/// Sets the modes of a package's files, whatever the umask: programs may be run, all may be read.
fn set_modes(folder: &Path) -> Result<()> {
    let set = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
            .with_context(|| format!("set the mode of {}", path.display()))
    };
    set(folder, 0o755)?;
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let entry = entry?;
        let path = entry.path();
        let kind = entry.file_type()?;
        if kind.is_dir() {
            set_modes(&path)?;
        } else if kind.is_file() {
            set(&path, if path.file_name().is_some_and(|name| name == "hfs") { 0o755 } else { 0o644 })?;
        }
    }
    Ok(())
}

fn create(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))
}

fn size(path: &Path) -> Result<u64> {
    Ok(fs::metadata(path).with_context(|| format!("find {}", path.display()))?.len())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_does_not_depend_on_times_owners_and_the_umask() {
        let build = |umask: u32| {
            let root = tempfile::tempdir().unwrap();
            let folder = root.path().join("hfs-1-x");
            for name in ["b", "a", "man/c", "hfs"] {
                let path = folder.join(name);
                create(path.parent().unwrap()).unwrap();
                write(&path, name).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(umask)).unwrap();
            }
            set_modes(&folder).unwrap();
            let release =
                Release { name: "hfs-1-x".into(), version: "1".into(), folder, epoch: "1000000000".into() };
            fs::read(archive(root.path(), &release).unwrap()).unwrap()
        };
        assert_eq!(build(0o600), build(0o777));
    }
}
