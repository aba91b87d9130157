//! Rules about files that no lint knows.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::workspace::Workspace;

/// A file that is longer is not read in one go.
const LONGEST_FILE: usize = 600;
/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &["common", "helper", "helpers", "misc", "types", "util", "utils"];
/// What the core must do without: it has no files, network, processes, environment or terminal.
const NOT_IN_CORE: &[&str] = &[
    "std::env",
    "std::fs",
    "std::io::stdin",
    "std::io::stdout",
    "std::io::stderr",
    "std::net",
    "std::process",
    "tokio::fs",
    "tokio::net",
    "tokio::process",
];
/// What only the binary may do: read the environment.
const ONLY_IN_BINARY: &[&str] = &["env::var", "env::vars", "env::var_os", "env::vars_os", "env::home_dir"];

/// The crate whose one purpose is `unsafe`, which the workspace's lints forbid beyond appeal.
const UNSAFE: &[&str] = &["hfs-machine-code"];

/// Every breach of a rule in the workspace's own files.
pub fn violations(workspace: &Workspace) -> Result<Vec<String>> {
    let mut broken = Vec::new();
    for path in rust_files(&workspace.root)? {
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let shown = path.strip_prefix(&workspace.root).unwrap_or(&path);
        broken.extend(in_file(shown, &text));
    }
    for package in &workspace.packages {
        let manifest = &package.manifest_path;
        let text = fs::read_to_string(manifest).with_context(|| format!("read {}", manifest.display()))?;
        if !text.contains("[lints]\nworkspace = true") && !UNSAFE.contains(&package.name.as_str()) {
            broken.push(format!("{} does not take the workspace's lints", package.name));
        }
    }
    Ok(broken)
}

/// The Rust files below `folder`, in a stable order; build output and hidden folders are nobody's source.
fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if entry.file_type()?.is_dir() {
                if !name.starts_with('.') && !matches!(name.as_ref(), "target" | "dist" | "node_modules") {
                    folders.push(entry.path());
                }
            } else if name.ends_with(".rs") {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

fn in_file(path: &Path, text: &str) -> Vec<String> {
    let shown = path.display();
    let mut broken = Vec::new();
    let lines = text.lines().count();
    if lines > LONGEST_FILE {
        broken.push(format!("{shown} has {lines} lines; {LONGEST_FILE} is the limit"));
    }
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    if stem == "mod" {
        broken.push(format!("{shown}: a module `foo` lives in foo.rs, beside the folder foo/"));
    }
    if EMPTY_NAMES.contains(&stem.as_ref()) {
        broken.push(format!("{shown}: the name says nothing about what is inside"));
    }
    if let Some(room) = shipped_room(path) {
        broken.extend(uses(path, text, &forbidden_in(room)));
    }
    broken
}

/// The crate a file belongs to, when the file is part of what is shipped rather than of its tests.
fn shipped_room(path: &Path) -> Option<&str> {
    let mut parts = path.iter().map(|part| part.to_str().unwrap_or_default());
    if parts.next() != Some("crates") {
        return None;
    }
    let room = parts.next()?;
    let is_shipped = parts.next() == Some("src") && parts.all(|part| !matches!(part, "tests" | "tests.rs"));
    is_shipped.then_some(room)
}

fn forbidden_in(room: &str) -> Vec<&'static str> {
    match room {
        "hfs" => Vec::new(),
        "hfs-core" => NOT_IN_CORE.iter().chain(ONLY_IN_BINARY).copied().collect(),
        _ => ONLY_IN_BINARY.to_vec(),
    }
}

/// The first use of each of `names` in the part of `text` that comes before its unit tests, comments aside.
fn uses(path: &Path, text: &str, names: &[&str]) -> Vec<String> {
    let shipped = text.lines().take_while(|line| line.trim() != "#[cfg(test)]").enumerate();
    let code: Vec<(usize, &str)> =
        shipped.map(|(index, line)| (index + 1, line.split("//").next().unwrap_or_default())).collect();
    let first_use = |name: &&str| {
        let (number, _) = code.iter().find(|(_, line)| mentions(line, name))?;
        Some(format!("{}:{number}: {name} does not belong in this crate", path.display()))
    };
    names.iter().filter_map(first_use).collect()
}

/// Whether `line` names exactly `name`, not something that merely begins or ends like it.
fn mentions(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(start, _)| {
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        let before = line.get(..start).and_then(|text| text.chars().next_back());
        let after = line.get(start + name.len()..).and_then(|text| text.chars().next());
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(path: &str, text: &str) -> usize {
        in_file(Path::new(path), text).len()
    }

    #[test]
    fn a_file_of_600_lines_is_the_longest() {
        assert_eq!(broken("crates/hfs/src/long.rs", &"\n".repeat(600)), 0);
        assert_eq!(broken("crates/hfs/src/long.rs", &"\n".repeat(601)), 1);
    }

    #[test]
    fn mod_rs_and_names_that_say_nothing_are_refused() {
        assert_eq!(broken("crates/hfs-store/src/sqlite/mod.rs", ""), 1);
        assert_eq!(broken("crates/hfs-store/src/utils.rs", ""), 1);
        assert_eq!(broken("crates/hfs-store/src/sqlite.rs", ""), 0);
    }

    #[test]
    fn only_the_binary_reads_the_environment() {
        let reads = "let home = std::env::var(\"HOME\");\n";
        assert_eq!(broken("crates/hfs-agents/src/key.rs", reads), 1);
        assert_eq!(broken("crates/hfs/src/settings.rs", reads), 0);
        assert_eq!(broken("testkit/src/cli.rs", reads), 0);
        assert_eq!(broken("crates/hfs-agents/src/key.rs", "let x = env!(\"CARGO_PKG_VERSION\");"), 0);
    }

    #[test]
    fn the_core_touches_no_file() {
        assert_eq!(broken("crates/hfs-core/src/session.rs", "use std::fs;\n"), 1);
        assert_eq!(broken("crates/hfs-store/src/session.rs", "use std::fs;\n"), 0);
    }

    #[test]
    fn tests_and_comments_may_do_and_say_what_they_like() {
        let tested = "//! Not std::fs.\n#[cfg(test)]\nmod tests { use std::fs; }\n";
        assert_eq!(broken("crates/hfs-core/src/session.rs", tested), 0);
        assert_eq!(broken("crates/hfs-core/src/snapshot/tests.rs", "use std::fs;\n"), 0);
        assert_eq!(broken("crates/hfs-core/tests/story.rs", "use std::fs;\n"), 0);
    }

    #[test]
    fn a_name_that_only_looks_like_a_forbidden_one_is_fine() {
        assert_eq!(broken("crates/hfs-core/src/a.rs", "use my_std::fs; use std::fsync;\n"), 0);
    }

    #[test]
    fn build_output_and_hidden_folders_are_not_read() {
        let root = tempfile::tempdir().unwrap();
        for file in ["src/a.rs", "target/b.rs", ".git/c.rs", "dist/d.rs", "src/deep/e.rs", "src/f.txt"] {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let found = rust_files(root.path()).unwrap();
        let found: Vec<_> = found.iter().map(|path| path.strip_prefix(root.path()).unwrap()).collect();
        assert_eq!(found, [Path::new("src/a.rs"), Path::new("src/deep/e.rs")]);
    }
}
