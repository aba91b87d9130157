//! The licenses of everything that a package contains.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::workspace::Workspace;
use crate::{runtimes, shell};

/// What the interpreters contain besides the packages whose files are collected.
const INTERPRETERS: &str = "\
The interpreters hfs-python.wasm and hfs-javascript.wasm contain, besides what is listed below:
  CPython and its standard library    PSF-2.0           https://docs.python.org/3/license.html
  QuickJS                             MIT               https://bellard.org/quickjs/
  wasi-libc                           Apache-2.0 WITH LLVM-exception, MIT    https://github.com/WebAssembly/wasi-libc
";

/// The beginnings of names of files with licenses, in upper case.
const FILES: &[&str] = &["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"];

/// `cargo metadata` with dependencies.
#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Debug, Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    license_file: Option<PathBuf>,
    repository: Option<String>,
    manifest_path: PathBuf,
    /// `None` for a crate of this workspace.
    source: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Debug, Deserialize)]
struct DependencyKind {
    /// `None` for a dependency that is linked, else `dev` or `build`.
    kind: Option<String>,
}

/// One text with the licenses of all crates that are linked, and of the interpreters.
pub fn collect(workspace: &Workspace, target: &str) -> Result<String> {
    let mut metadata = shell::cargo(&workspace.root);
    metadata.args(["metadata", "--format-version", "1", "--locked", "--filter-platform", target]);
    let json = shell::output_of(&mut metadata)?;
    let metadata: Metadata = serde_json::from_str(&json).context("parse the output of cargo metadata")?;
    let linked = linked(&metadata)?;
    let mut list = String::new();
    // Each text, with the names of what it holds for.
    let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in &linked {
        let name = format!("{} {}", package.name, package.version);
        let license = package.license.as_deref().unwrap_or("see its file");
        ensure!(
            package.license.is_some() || package.license_file.is_some(),
            "{name} names no license; find it out before a release"
        );
        writeln!(list, "  {name:<40} {license:<45} {}", package.repository.as_deref().unwrap_or_default())?;
        let folder = package.manifest_path.parent().context("find the folder of a crate")?;
        for text in texts_in(folder)? {
            texts.entry(text).or_default().insert(name.clone());
        }
    }
    for (name, folder) in interpreter_packages(&runtimes::folder(workspace))? {
        for text in texts_in(&folder)? {
            texts.entry(text).or_default().insert(name.clone());
        }
    }
    let mut all = format!(
        "hfs is under MIT or Apache-2.0, at your option. It contains these crates:\n\n{list}\n{INTERPRETERS}\n\
         Their texts follow, each once, with the names of what it is for. Where a crate has no text of its own, that of its license \
         in another crate holds.\n"
    );
    for (text, names) in texts {
        let names = names.into_iter().collect::<Vec<_>>().join(", ");
        write!(all, "\n{}\n{names}\n\n{text}\n", "=".repeat(100))?;
    }
    Ok(all)
}

/// The crates of others that are part of the program, by name.
fn linked(metadata: &Metadata) -> Result<Vec<&Package>> {
    let package = |id: &str| metadata.packages.iter().find(|package| package.id == id);
    let program = metadata.packages.iter().find(|package| package.name == "hfs" && package.source.is_none());
    let mut waiting = vec![program.context("find the package hfs")?.id.as_str()];
    let mut seen: BTreeSet<&str> = waiting.iter().copied().collect();
    while let Some(id) = waiting.pop() {
        let node = metadata.resolve.nodes.iter().find(|node| node.id == id);
        for dependency in node.into_iter().flat_map(|node| &node.deps) {
            let is_linked = dependency.dep_kinds.iter().any(|kind| kind.kind.is_none());
            if is_linked && seen.insert(&dependency.pkg) {
                waiting.push(&dependency.pkg);
            }
        }
    }
    let mut linked: Vec<&Package> =
        seen.into_iter().filter_map(package).filter(|package| package.source.is_some()).collect();
    linked.sort_by(|one, other| (&one.name, &one.version).cmp(&(&other.name, &other.version)));
    Ok(linked)
}

/// The texts of the license files in a folder, without differences in line ends.
fn texts_in(folder: &Path) -> Result<BTreeSet<String>> {
    let mut texts = BTreeSet::new();
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().to_uppercase();
        if entry.file_type()?.is_file() && FILES.iter().any(|file| name.starts_with(file)) {
            let bytes = fs::read(entry.path()).with_context(|| format!("read {}", entry.path().display()))?;
            let text = String::from_utf8_lossy(&bytes);
            texts.insert(text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n").trim().to_owned());
        }
    }
    Ok(texts)
}

/// The packages from which the interpreters were built, if pip and npm built them, with their folders.
fn interpreter_packages(runtimes: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    let mut folders = vec![runtimes.join("javascript/node_modules"), runtimes.join("python/tools/lib")];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name == "licenses" && path.is_dir() {
                found.push(("componentize-py".to_owned(), path));
            } else if path.join("package.json").is_file() {
                found.push((format!("{name} (npm)"), path));
            } else if path.is_dir()
                && (name.starts_with('@') || name.starts_with("python3") || is_of_componentize(&name))
            {
                folders.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Other packages in the environment are tools of pip.
fn is_of_componentize(name: &str) -> bool {
    name == "site-packages" || name.starts_with("componentize_py-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata() -> Metadata {
        let package = |name: &str, is_own: bool| {
            serde_json::json!({"id": name, "name": name, "version": "1.0.0", "license": "MIT", "license_file": null,
                "repository": null, "manifest_path": "Cargo.toml", "source": (!is_own).then_some("registry")})
        };
        let dependency =
            |name: &str, kind: Option<&str>| serde_json::json!({"pkg": name, "dep_kinds": [{"kind": kind}]});
        serde_json::from_value(serde_json::json!({
            "packages": [package("hfs", true), package("hfs-core", true), package("serde", false), package("cc", false),
                package("insta", false)],
            "resolve": {"nodes": [
                {"id": "hfs", "deps": [dependency("hfs-core", None), dependency("insta", Some("dev"))]},
                {"id": "hfs-core", "deps": [dependency("serde", None), dependency("cc", Some("build"))]},
            ]},
        }))
        .unwrap()
    }

    #[test]
    fn only_crates_that_are_linked_are_listed() {
        let metadata = metadata();
        let names: Vec<&str> =
            linked(&metadata).unwrap().iter().map(|package| package.name.as_str()).collect();
        assert_eq!(names, ["serde"]);
    }

    #[test]
    fn texts_that_differ_only_in_line_ends_are_one() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("LICENSE-MIT", "a\r\nb\r\n"), ("license.txt", "a \nb"), ("README", "c")] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        assert_eq!(texts_in(folder.path()).unwrap(), BTreeSet::from(["a\nb".to_owned()]));
    }
}
