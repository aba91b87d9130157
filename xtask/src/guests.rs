//! `cargo xtask guests`: the components of the example plugins, from their sources.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::pages;
use crate::shell;
use crate::workspace::Workspace;

const TARGET: &str = "wasm32-unknown-unknown";
const COMPONENT: &str = "plugin.wasm";
/// Names the compiler where the usual one has no such target.
const COMPILER: &str = "HFS_GUEST_RUSTC";
/// Names that compiler's linker, where it brings none.
const LINKER: &str = "HFS_GUEST_LINKER";

/// Which plugins, and whether to build.
#[derive(Debug, Args)]
pub struct Options {
    /// Only the plugins of these names (all without any)
    names: Vec<String>,
    /// Build nothing; say whether each component was built from the sources beside it
    #[arg(long)]
    check: bool,
}

/// Builds the components, or says which of them are stale.
pub fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let root = &workspace.root;
    let known = names(root)?;
    for name in &options.names {
        ensure!(known.contains(name), "there is no plugin {name}; there are {}", known.join(", "));
    }
    let wanted = if options.names.is_empty() { &known } else { &options.names };
    if options.check {
        let stale = wanted.iter().map(|name| Ok((name, is_stale(root, name)?)));
        let stale: Vec<_> = stale.collect::<Result<_>>()?;
        let stale: Vec<_> = stale.into_iter().filter(|(_, stale)| *stale).map(|(name, _)| name).collect();
        stale.iter().for_each(|name| println!("plugins/{name}/{COMPONENT} was built from other sources"));
        return Ok(if stale.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let compiler = compiler()?;
    let hfs = pages::program(workspace, &["build", "--package", "hfs"])?;
    for name in wanted {
        let folder = root.join("plugins").join(name);
        let mut command = Command::new(&hfs);
        command.current_dir(root).args(["plugin", "build"]).arg(&folder);
        command.env("CARGO_TARGET_DIR", workspace.target.join("guests"));
        command.env("RUSTC", &compiler);
        if let Some(linker) = env::var_os(LINKER) {
            command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
        }
        ensure!(shell::succeeds(&mut command)?, "plugins/{name} could not be built");
        let record = record(root, name);
        fs::write(&record, sources(root, name)? + "\n")
            .with_context(|| format!("write {}", record.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A compiler that has the target's library.
fn compiler() -> Result<OsString> {
    let compiler = env::var_os(COMPILER).unwrap_or_else(|| "rustc".into());
    let mut ask = Command::new(&compiler);
    let library = shell::output_of(ask.args(["--print", "target-libdir", "--target", TARGET]))?;
    let has_core = fs::read_dir(library.trim()).is_ok_and(|entries| {
        entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
    });
    if has_core {
        return Ok(compiler);
    }
    bail!(
        "{} has no library for {TARGET}, which plugins are compiled for: `rustup target add {TARGET}` brings it. \
         Where that cannot be had, name another compiler with {COMPILER}, and its linker with {LINKER}: Debian, for \
         one, has both in rustc, libstd-rust-dev-wasm32 and lld",
        compiler.to_string_lossy()
    )
}

/// The plugins that are compiled.
fn names(root: &Path) -> Result<Vec<String>> {
    let folder = root.join("plugins");
    let entries = fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))?;
    let is_crate = |path: &PathBuf| path.join("Cargo.toml").is_file();
    let folders = entries.flatten().map(|entry| entry.path()).filter(is_crate);
    let mut names: Vec<String> =
        folders.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect();
    names.sort();
    Ok(names)
}

fn record(root: &Path, name: &str) -> PathBuf {
    root.join("plugins").join(name).join(format!("{COMPONENT}.sources"))
}

fn is_stale(root: &Path, name: &str) -> Result<bool> {
    let recorded = fs::read_to_string(record(root, name)).unwrap_or_default();
    Ok(recorded.trim() != sources(root, name)?)
}

/// Stands for everything that a plugin's component is made from.
fn sources(root: &Path, name: &str) -> Result<String> {
    let plugin = Path::new("plugins").join(name);
    let mut files = vec![plugin.join("Cargo.toml"), plugin.join("Cargo.lock")];
    files.extend([PathBuf::from("sdk/rust/Cargo.toml"), PathBuf::from("wit/0.1/hfs-plugin.wit")]);
    below(root, &plugin.join("src"), &mut files)?;
    below(root, Path::new("sdk/rust/src"), &mut files)?;
    files.sort();
    let mut sum = Sum::new();
    for file in files {
        let bytes = fs::read(root.join(&file)).with_context(|| format!("read {}", file.display()))?;
        let name = file.to_string_lossy().replace('\\', "/");
        sum.add(name.as_bytes());
        sum.add(&(bytes.len() as u64).to_le_bytes());
        sum.add(&bytes);
    }
    Ok(format!("{:032x}", sum.0))
}

/// FNV-1a of 128 bits. Nobody gains anything by deceiving it, and it needs no library.
struct Sum(u128);

impl Sum {
    const fn new() -> Self {
        Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u128::from(*byte)).wrapping_mul(0x0100_0000_0000_0000_0000_013b);
        }
    }
}

fn below(root: &Path, folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(root.join(folder)).with_context(|| format!("list {}", folder.display()))? {
        let entry = entry?;
        let path = folder.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            below(root, &path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
    }

    #[test]
    fn the_sum_is_fnv() {
        let mut sum = Sum::new();
        sum.add(b"a");
        assert_eq!(format!("{:032x}", sum.0), "d228cb696f1a8caf78912b704e4a8964");
    }

    #[test]
    fn the_components_were_built_from_the_sources_beside_them() {
        for name in names(&root()).unwrap() {
            assert!(!is_stale(&root(), &name).unwrap(), "run `cargo xtask guests {name}`");
        }
    }

    /// Where somebody keeps things says who they are.
    #[test]
    fn the_components_name_no_folder_of_the_machine_they_were_built_on() {
        let root = root().canonicalize().unwrap();
        let cargo = env::var("CARGO_HOME").unwrap_or_else(|_| "/.cargo/".into());
        let names = names(&root).unwrap();
        assert!(names.len() >= 3, "{names:?}");
        for name in names {
            let component = fs::read(root.join("plugins").join(&name).join(COMPONENT)).unwrap();
            let text = String::from_utf8_lossy(&component);
            let common =
                ["/home/", "/root/", "/Users/", "\\Users\\", "/tmp/", "/work", "/.cargo/", "/registry/"];
            for folder in common.into_iter().chain([root.to_str().unwrap(), cargo.as_str()]) {
                assert!(!text.contains(folder), "{name} names {folder}");
            }
        }
    }
}
