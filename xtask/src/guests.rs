//! `cargo xtask guests`: the WebAssembly components of the example plugins.
//!
//! The components are checked in, because building them needs a WebAssembly compiler. Next to each is a hash of its
//! sources, so that a test can check whether it is up to date without building it.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::page_check;
use crate::shell;
use crate::workspace::Workspace;

const TARGET: &str = "wasm32-unknown-unknown";
const COMPONENT: &str = "plugin.wasm";
/// Variable with a compiler that supports the target, if the default one does not.
const COMPILER_VARIABLE: &str = "HFS_GUEST_RUSTC";
/// Variable with a linker, if the compiler has none.
const LINKER_VARIABLE: &str = "HFS_GUEST_LINKER";

#[derive(Debug, Args)]
pub struct Options {
    /// Only plugins with these names (default: all)
    names: Vec<String>,
    /// Do not build, but check that the components are up to date
    #[arg(long)]
    check: bool,
}

/// Builds the components, or prints which of them are stale.
pub fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let root = &workspace.root;
    let known = plugin_names(root)?;
    for name in &options.names {
        ensure!(known.contains(name), "there is no plugin {name}; the plugins are {}", known.join(", "));
    }
    let selected = if options.names.is_empty() { &known } else { &options.names };
    if options.check {
        let stale = selected.iter().map(|name| Ok((name, is_stale(root, name)?)));
        let stale: Vec<_> = stale.collect::<Result<_>>()?;
        let stale: Vec<_> = stale.into_iter().filter(|(_, stale)| *stale).map(|(name, _)| name).collect();
        stale.iter().for_each(|name| println!("plugins/{name}/{COMPONENT} is not up to date"));
        return Ok(if stale.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let compiler = compiler()?;
    let hfs = page_check::build_program(workspace, &["build", "--package", "hfs"])?;
    for name in selected {
        let folder = root.join("plugins").join(name);
        let mut command = Command::new(&hfs);
        command.current_dir(root).args(["plugin", "build"]).arg(&folder);
        command.env("CARGO_TARGET_DIR", workspace.target.join("guests"));
        command.env("RUSTC", &compiler);
        if let Some(linker) = env::var_os(LINKER_VARIABLE) {
            command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
        }
        ensure!(shell::succeeds(&mut command)?, "plugins/{name} cannot be built");
        let hash_file = hash_file(root, name);
        fs::write(&hash_file, source_hash(root, name)? + "\n")
            .with_context(|| format!("write {}", hash_file.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A compiler with the standard library for the target.
fn compiler() -> Result<OsString> {
    let compiler = env::var_os(COMPILER_VARIABLE).unwrap_or_else(|| "rustc".into());
    let mut print_path = Command::new(&compiler);
    let library = shell::output_of(print_path.args(["--print", "target-libdir", "--target", TARGET]))?;
    let has_core = fs::read_dir(library.trim()).is_ok_and(|entries| {
        entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
    });
    if has_core {
        return Ok(compiler);
    }
    bail!(
        "{} has no standard library for {TARGET}. Install it with `rustup target add {TARGET}`, or set \
         {COMPILER_VARIABLE} to another compiler and {LINKER_VARIABLE} to its linker (in Debian: the packages rustc, \
         libstd-rust-dev-wasm32 and lld)",
        compiler.to_string_lossy()
    )
}

/// The example plugins in Rust.
fn plugin_names(root: &Path) -> Result<Vec<String>> {
    let folder = root.join("plugins");
    let entries = fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))?;
    let is_crate = |path: &PathBuf| path.join("Cargo.toml").is_file();
    let folders = entries.flatten().map(|entry| entry.path()).filter(is_crate);
    let mut names: Vec<String> =
        folders.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect();
    names.sort();
    Ok(names)
}

fn hash_file(root: &Path, name: &str) -> PathBuf {
    root.join("plugins").join(name).join(format!("{COMPONENT}.sources"))
}

fn is_stale(root: &Path, name: &str) -> Result<bool> {
    let recorded = fs::read_to_string(hash_file(root, name)).unwrap_or_default();
    Ok(recorded.trim() != source_hash(root, name)?)
}

/// The hash of all files that a component is built from.
fn source_hash(root: &Path, name: &str) -> Result<String> {
    let plugin = Path::new("plugins").join(name);
    let mut files = vec![plugin.join("Cargo.toml"), plugin.join("Cargo.lock")];
    files.extend([PathBuf::from("sdk/rust/Cargo.toml"), PathBuf::from("wit/0.1/hfs-plugin.wit")]);
    add_files(root, &plugin.join("src"), &mut files)?;
    add_files(root, Path::new("sdk/rust/src"), &mut files)?;
    files.sort();
    let mut hash = Fnv128::new();
    for file in files {
        let bytes = fs::read(root.join(&file)).with_context(|| format!("read {}", file.display()))?;
        let name = file.to_string_lossy().replace('\\', "/");
        hash.add(name.as_bytes());
        hash.add(&(bytes.len() as u64).to_le_bytes());
        hash.add(&bytes);
    }
    Ok(format!("{:032x}", hash.0))
}

/// FNV-1a with 128 bits. It detects accidental changes only, and needs no dependency.
struct Fnv128(u128);

impl Fnv128 {
    const fn new() -> Self {
        Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u128::from(*byte)).wrapping_mul(0x0100_0000_0000_0000_0000_013b);
        }
    }
}

fn add_files(root: &Path, folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(root.join(folder)).with_context(|| format!("list {}", folder.display()))? {
        let entry = entry?;
        let path = folder.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            add_files(root, &path, files)?;
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
    fn the_hash_is_fnv_1a() {
        let mut hash = Fnv128::new();
        hash.add(b"a");
        assert_eq!(format!("{:032x}", hash.0), "d228cb696f1a8caf78912b704e4a8964");
    }

    #[test]
    fn the_components_are_up_to_date() {
        for name in plugin_names(&root()).unwrap() {
            assert!(!is_stale(&root(), &name).unwrap(), "run `cargo xtask guests {name}`");
        }
    }

    /// Paths can contain the name of a user.
    #[test]
    fn the_components_contain_no_paths_of_the_machine_that_built_them() {
        let root = root().canonicalize().unwrap();
        let cargo = env::var("CARGO_HOME").unwrap_or_else(|_| "/.cargo/".into());
        let names = plugin_names(&root).unwrap();
        assert!(names.len() >= 3, "{names:?}");
        for name in names {
            let component = fs::read(root.join("plugins").join(&name).join(COMPONENT)).unwrap();
            let text = String::from_utf8_lossy(&component);
            let common =
                ["/home/", "/root/", "/Users/", "\\Users\\", "/tmp/", "/work", "/.cargo/", "/registry/"];
            for folder in common.into_iter().chain([root.to_str().unwrap(), cargo.as_str()]) {
                assert!(!text.contains(folder), "{name} contains {folder}");
            }
        }
    }
}
