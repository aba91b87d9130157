//! The Debian package, and its test in a clean system.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{DOCUMENTS, Release, THIRD_PARTY, compare, copy, create, set_modes, size, write};
use crate::shell;
use crate::workspace::Workspace;

/// The release of Debian in which the package is tested.
const SUITE: &str = "bookworm";
/// Where each shell looks for completions, relative to the root.
const COMPLETIONS: &[(&str, &str)] = &[
    ("hfs.bash", "usr/share/bash-completion/completions/hfs"),
    ("hfs.zsh", "usr/share/zsh/vendor-completions/_hfs"),
    ("hfs.fish", "usr/share/fish/vendor_completions.d/hfs.fish"),
];

/// Builds the package from the files of the release.
pub fn package(workspace: &Workspace, dist: &Path, release: &Release) -> Result<PathBuf> {
    let architecture = shell::output_of(Command::new("dpkg").arg("--print-architecture"))?.trim().to_owned();
    let root = workspace.target.join("debian");
    if root.exists() {
        fs::remove_dir_all(&root).with_context(|| format!("delete {}", root.display()))?;
    }
    // The interpreters are found beside the program, behind the link.
    let library = root.join("usr/lib/hfs");
    let documents = root.join("usr/share/doc/hfs");
    let pages = root.join("usr/share/man/man1");
    for folder in [&library, &documents, &pages, &root.join("usr/bin"), &root.join("DEBIAN")] {
        create(folder)?;
    }
    for name in
        ["hfs", "hfs-python.wasm", "hfs-python.blake3", "hfs-javascript.wasm", "hfs-javascript.blake3"]
    {
        copy(&release.folder.join(name), &library.join(name))?;
    }
    symlink("../lib/hfs/hfs", root.join("usr/bin/hfs")).context("create the link to the program")?;
    for (name, place) in COMPLETIONS {
        let place = root.join(place);
        create(place.parent().context("find the folder of a completion")?)?;
        copy(&release.folder.join("completions").join(name), &place)?;
    }
    let mut compress = Command::new("gzip");
    compress.args(["--no-name", "-9"]);
    for entry in fs::read_dir(release.folder.join("man")).context("list the man pages")? {
        let entry = entry?;
        let page = pages.join(entry.file_name());
        copy(&entry.path(), &page)?;
        compress.arg(page);
    }
    ensure!(shell::is_available(&mut compress), "gzip cannot compress the man pages");
    for name in DOCUMENTS.iter().filter(|name| !name.starts_with("LICENSE")) {
        copy(&release.folder.join(name), &documents.join(name))?;
    }
    copy(&release.folder.join(THIRD_PARTY), &documents.join(THIRD_PARTY))?;
    write(&documents.join("copyright"), &copyright(&release.folder)?)?;
    write(&root.join("DEBIAN/control"), &control(release, &architecture, &root)?)?;
    set_modes(&root)?;

    let path = dist.join(format!("hfs_{}_{architecture}.deb", release.version));
    let previous = fs::read(&path).ok();
    let mut build = Command::new("dpkg-deb");
    build.args(["--root-owner-group", "-Zxz", "--build"]).arg(&root).arg(&path);
    ensure!(shell::succeeds(build.env("SOURCE_DATE_EPOCH", &release.epoch))?, "dpkg-deb failed");
    compare(&path, previous.as_deref())?;
    Ok(path)
}

fn copyright(folder: &Path) -> Result<String> {
    let read = |name: &str| fs::read_to_string(folder.join(name)).with_context(|| format!("read {name}"));
    Ok(format!(
        "hfs is under MIT or Apache-2.0, at your option. {THIRD_PARTY} in this folder has the licenses of what it contains.\n\n{}\n\n{}",
        read("LICENSE-MIT")?,
        read("LICENSE-APACHE")?
    ))
}

fn control(release: &Release, architecture: &str, root: &Path) -> Result<String> {
    let program = fs::read(release.folder.join("hfs")).context("read the program")?;
    let libc = newest_libc(&program).context("find the versions of glibc that the program needs")?;
    let mut control = String::new();
    write!(
        control,
        "Package: hfs\nVersion: {}\nArchitecture: {architecture}\nMaintainer: The developers of hfs <hfs@localhost>\n\
         Installed-Size: {}\nDepends: libc6 (>= {libc}), libgcc-s1\nRecommends: ca-certificates\nSection: utils\n\
         Priority: optional\nDescription: durable home for conversations with LLM agents\n \
         A terminal app and a command line that store, search, rewind, import and export\n \
         conversations with LLM agents, with sandboxed plugins.\n",
        release.version,
        installed_size(root)?.div_ceil(1024)
    )?;
    Ok(control)
}

/// The newest version of glibc whose symbols a program names, such as `2.34`.
fn newest_libc(program: &[u8]) -> Option<String> {
    const PREFIX: &[u8] = b"GLIBC_2.";
    let starts = program.windows(PREFIX.len()).enumerate().filter(|(_, window)| *window == PREFIX);
    let minors = starts.filter_map(|(start, _)| {
        let digits = program.get(start + PREFIX.len()..)?.iter().take_while(|byte| byte.is_ascii_digit());
        String::from_utf8(digits.copied().collect()).ok()?.parse::<u32>().ok()
    });
    Some(format!("2.{}", minors.max()?))
}

fn installed_size(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let entry = entry?;
        bytes += match entry.file_type()? {
            kind if kind.is_dir() => installed_size(&entry.path())?,
            kind if kind.is_file() => size(&entry.path())?,
            _ => 0,
        };
    }
    Ok(bytes)
}

/// What is typed in the clean system, as a user without rights. Everything must succeed.
const TYPED: &str = r#"
set -eu
export HOME=/home/tester
cd "$HOME"
hfs --version
hfs doctor
hfs chat "Does it run here?" >/dev/null
hfs search run
hfs rewind @ seq:1
hfs store verify
hfs completions bash >/dev/null
test -s /usr/share/man/man1/hfs.1.gz
test -s /usr/share/bash-completion/completions/hfs
test -s /usr/share/doc/hfs/THIRD-PARTY-LICENSES.txt
for language in python javascript; do
    hfs plugin new "say-$language" --lang "$language"
    hfs plugin check "say-$language" --yes
done
"#;

/// Installs the package in a new minimal Debian below target/, runs it as an ordinary user, removes it, and checks that nothing of the
/// package is left and that the user's sessions are.
pub fn test(workspace: &Workspace, package: &Path) -> Result<()> {
    for program in ["debootstrap", "unshare", "chroot"] {
        if !shell::is_available(Command::new(program).arg("--version")) {
            println!("left out: the test of the Debian package: {program} is not installed");
            return Ok(());
        }
    }
    let root = workspace.target.join("debian-test");
    new_system(&workspace.target.join(format!("debian-{SUITE}")), &root)?;
    copy(package, &root.join("hfs.deb"))?;
    ensure!(run(&root, &["dpkg", "--install", "/hfs.deb"])?, "the package cannot be installed");
    ensure!(run(&root, &["useradd", "--create-home", "tester"])?, "the user cannot be created");
    let listed = shell::output_of(inside(&root).args(["dpkg", "--listfiles", "hfs"]))?;
    let files: Vec<&str> = listed.lines().filter(|path| path.contains("hfs")).collect();
    ensure!(files.len() > 50, "the package has only {} files of its own", files.len());
    ensure!(
        run(&root, &["su", "tester", "--command", TYPED])?,
        "a command failed in the clean system; {} is still there",
        root.display()
    );
    ensure!(run(&root, &["dpkg", "--purge", "hfs"])?, "the package cannot be removed");
    let is_left = |path: &&&str| root.join(path.trim_start_matches('/')).symlink_metadata().is_ok();
    let left: Vec<&&str> = files.iter().filter(is_left).collect();
    ensure!(left.is_empty(), "the removed package left {left:?}");
    ensure!(root.join("home/tester/.hfs/hfs.db").is_file(), "the sessions of the user were removed");
    fs::remove_dir_all(&root).with_context(|| format!("delete {}", root.display()))?;
    println!("the package was installed, run and removed in a clean {SUITE}");
    Ok(())
}

/// Makes a minimal Debian in `root`, from one that is kept for the next time.
fn new_system(kept: &Path, root: &Path) -> Result<()> {
    // debootstrap removes this folder when it has finished.
    if kept.join("debootstrap").exists() {
        fs::remove_dir_all(kept).with_context(|| format!("delete {}", kept.display()))?;
    }
    if !kept.exists() {
        let mut bootstrap = Command::new("debootstrap");
        bootstrap.args(["--variant=minbase", SUITE]).arg(kept);
        ensure!(shell::succeeds(&mut bootstrap)?, "debootstrap failed; it needs root and a mirror of Debian");
    }
    if root.exists() {
        fs::remove_dir_all(root).with_context(|| format!("delete {}", root.display()))?;
    }
    let mut copy = Command::new("cp");
    ensure!(shell::succeeds(copy.arg("--archive").arg(kept).arg(root))?, "the system cannot be copied");
    Ok(())
}

/// A command inside of the system. It has a /proc, where hfs finds out which folder it is in, until the command ends.
fn inside(root: &Path) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork"]).arg(format!("--mount-proc={}", root.join("proc").display()));
    command.arg("chroot").arg(root);
    command
}

fn run(root: &Path, words: &[&str]) -> Result<bool> {
    shell::succeeds(inside(root).args(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_of_glibc_counts() {
        assert_eq!(newest_libc(b"\0GLIBC_2.2.5\0GLIBC_2.34\0GLIBC_2.9\0").as_deref(), Some("2.34"));
        assert_eq!(newest_libc(b"static"), None);
    }
}
