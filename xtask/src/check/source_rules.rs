//! Rules about source files that no lint covers: file names, and APIs that only some crates may use.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::workspace::Workspace;

/// File names that do not describe the content.
const VAGUE_NAMES: &[&str] = &["common", "helper", "helpers", "misc", "types", "util", "utils"];
/// APIs that hfs-core must not use, because it does no I/O.
const FORBIDDEN_IN_CORE: &[&str] = &[
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
/// APIs that only the binary may use: it alone reads the environment.
const ONLY_IN_BINARY: &[&str] = &["env::var", "env::vars", "env::var_os", "env::vars_os", "env::home_dir"];

/// Conditions for systems that hfs does not support: it needs the signals, permissions and terminals of Unix.
const UNSUPPORTED_SYSTEMS: &[&str] =
    &["cfg(unix", "cfg(windows", "cfg(not(unix", "cfg!(unix", "cfg!(windows", "std::os::windows"];

/// Crates that contain unsafe code and so cannot inherit the workspace's lints, which forbid it.
const CRATES_WITH_UNSAFE: &[&str] = &["hfs-crash", "hfs-machine-code"];

/// All violations in the files of the workspace.
pub fn violations(workspace: &Workspace) -> Result<Vec<String>> {
    let mut violations = Vec::new();
    for path in rust_files(&workspace.root)? {
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let shown = path.strip_prefix(&workspace.root).unwrap_or(&path);
        violations.extend(in_file(shown, &text));
    }
    for package in &workspace.packages {
        let manifest = &package.manifest_path;
        let text = fs::read_to_string(manifest).with_context(|| format!("read {}", manifest.display()))?;
        if !text.contains("[lints]\nworkspace = true") && !CRATES_WITH_UNSAFE.contains(&package.name.as_str())
        {
            violations.push(format!("{} does not inherit the lints of the workspace", package.name));
        }
    }
    Ok(violations)
}

/// The Rust files below `folder`, sorted. Skips build output and hidden folders.
pub fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
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
    let mut violations = Vec::new();
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    if stem == "mod" {
        violations.push(format!("{shown}: write the module `foo` to foo.rs next to the folder foo/"));
    }
    if VAGUE_NAMES.contains(&stem.as_ref()) {
        violations.push(format!("{shown}: the file name does not describe the content"));
    }
    if path.starts_with("crates") || path.starts_with("testkit") {
        let conditions = UNSUPPORTED_SYSTEMS.iter().filter(|condition| text.contains(**condition));
        violations.extend(conditions.map(|condition| format!("{shown}: {condition}: hfs is for Unix only")));
    }
    if let Some(name) = shipped_crate(path) {
        violations.extend(forbidden_uses(path, text, &forbidden_apis(name)));
    }
    violations
}

/// The crate that a file belongs to. `None` if the file is not shipped, such as a test.
fn shipped_crate(path: &Path) -> Option<&str> {
    let mut parts = path.iter().map(|part| part.to_str().unwrap_or_default());
    if parts.next() != Some("crates") {
        return None;
    }
    let name = parts.next()?;
    let is_shipped = parts.next() == Some("src") && parts.all(|part| !matches!(part, "tests" | "tests.rs"));
    is_shipped.then_some(name)
}

fn forbidden_apis(crate_name: &str) -> Vec<&'static str> {
    match crate_name {
        "hfs" => Vec::new(),
        "hfs-core" => FORBIDDEN_IN_CORE.iter().chain(ONLY_IN_BINARY).copied().collect(),
        _ => ONLY_IN_BINARY.to_vec(),
    }
}

/// The first use of each name in the code before the unit tests. Comments do not count.
fn forbidden_uses(path: &Path, text: &str, names: &[&str]) -> Vec<String> {
    let lines = text.lines().take_while(|line| line.trim() != "#[cfg(test)]").enumerate();
    let code: Vec<(usize, &str)> =
        lines.map(|(index, line)| (index + 1, line.split("//").next().unwrap_or_default())).collect();
    let first_use = |name: &&str| {
        let (number, _) = code.iter().find(|(_, line)| mentions(line, name))?;
        Some(format!("{}:{number}: {name} must not be used in this crate", path.display()))
    };
    names.iter().filter_map(first_use).collect()
}

/// Whether the line contains `name` as a whole path, not as part of a longer identifier.
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

    fn count(path: &str, text: &str) -> usize {
        in_file(Path::new(path), text).len()
    }

    #[test]
    fn a_file_may_have_any_length() {
        assert_eq!(count("crates/hfs/src/long.rs", &"\n".repeat(10_000)), 0);
    }

    #[test]
    fn mod_rs_and_vague_file_names_are_rejected() {
        assert_eq!(count("crates/hfs-store/src/sqlite/mod.rs", ""), 1);
        assert_eq!(count("crates/hfs-store/src/utils.rs", ""), 1);
        assert_eq!(count("crates/hfs-store/src/sqlite.rs", ""), 0);
    }

    #[test]
    fn code_for_systems_that_are_not_supported_is_rejected() {
        assert_eq!(count("crates/hfs-store/src/db.rs", "#[cfg(windows)]\nfn lock() {}\n"), 1);
        assert_eq!(count("crates/hfs-store/src/db.rs", "#[cfg(target_os = \"macos\")]\nfn lock() {}\n"), 0);
    }

    #[test]
    fn only_the_binary_reads_the_environment() {
        let reads = "let home = std::env::var(\"HOME\");\n";
        assert_eq!(count("crates/hfs-agents/src/key.rs", reads), 1);
        assert_eq!(count("crates/hfs/src/settings.rs", reads), 0);
        assert_eq!(count("testkit/src/cli.rs", reads), 0);
        assert_eq!(count("crates/hfs-agents/src/key.rs", "let x = env!(\"CARGO_PKG_VERSION\");"), 0);
    }

    #[test]
    fn the_core_does_not_use_the_file_system() {
        assert_eq!(count("crates/hfs-core/src/session.rs", "use std::fs;\n"), 1);
        assert_eq!(count("crates/hfs-store/src/session.rs", "use std::fs;\n"), 0);
    }

    #[test]
    fn tests_and_comments_may_mention_any_api() {
        let tested = "//! Not std::fs.\n#[cfg(test)]\nmod tests { use std::fs; }\n";
        assert_eq!(count("crates/hfs-core/src/session.rs", tested), 0);
        assert_eq!(count("crates/hfs-core/src/snapshot/tests.rs", "use std::fs;\n"), 0);
        assert_eq!(count("crates/hfs-core/tests/story.rs", "use std::fs;\n"), 0);
    }

    #[test]
    fn identifiers_that_contain_a_forbidden_name_are_allowed() {
        assert_eq!(count("crates/hfs-core/src/a.rs", "use my_std::fs; use std::fsync;\n"), 0);
    }

    #[test]
    fn build_output_and_hidden_folders_are_skipped() {
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
