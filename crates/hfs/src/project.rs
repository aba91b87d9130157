//! Finds the project that a directory belongs to.

use std::fs;
use std::path::{Path, PathBuf};

use hfs_core::{Project, SessionFilter};

use crate::environment::Environment;

/// Larger git configurations are ignored.
const MAX_GIT_CONFIG_BYTES: u64 = 1024 * 1024;
/// Larger `.git` and `commondir` files are ignored: they contain one path.
const MAX_PATH_FILE_BYTES: u64 = 4096;

/// The project of a directory: its path and, inside a git work tree, the identity of the repository. Reads git's files
/// instead of running git, because the configuration of an untrusted repository can make git run commands.
pub fn of_directory(directory: &Path) -> Project {
    let directory = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    let repository = directory.ancestors().find_map(repository_at);
    Project { directory: directory.display().to_string(), repository }
}

/// Selects the sessions of the project that the user names: a directory by its path, or all projects whose directory or
/// repository contains the text.
pub fn filter(text: &str, environment: &Environment) -> SessionFilter {
    let directory = environment.resolve(Path::new(text));
    // A word such as `gateway` may also be the name of a folder here; only a path stands for a directory.
    let is_path = text.starts_with(['.', '~', '/']) || text.contains('/');
    if is_path && directory.is_dir() {
        let project = Some(of_directory(&directory).key().to_owned());
        SessionFilter { project, ..SessionFilter::default() }
    } else {
        SessionFilter { project_contains: Some(text.to_owned()), ..SessionFilter::default() }
    }
}

/// The identity of the repository with this top directory: the address of its remote, else the path of `top`.
fn repository_at(top: &Path) -> Option<String> {
    let git = git_directory(top)?;
    let config = git.join("config");
    let remote = read_regular_file(&config, MAX_GIT_CONFIG_BYTES).and_then(|text| remote_address(&text));
    let identity = remote.and_then(|remote| Project::identity_of_remote(&remote));
    // A relative path does not identify a repository.
    let identity = identity.filter(|identity| !identity.starts_with('.'));
    identity.or_else(|| Some(top.display().to_string()))
}

/// The directory with the configuration of the repository at `top`. In submodules, `.git` is a file that contains the
/// path of this directory. In linked work trees, `.git` contains the path of another directory, whose file `commondir`
/// contains the path of this one.
fn git_directory(top: &Path) -> Option<PathBuf> {
    let git = top.join(".git");
    let metadata = fs::metadata(&git).ok()?;
    if metadata.is_dir() {
        return git.join("HEAD").exists().then_some(git);
    }
    let text = read_regular_file(&git, MAX_PATH_FILE_BYTES)?;
    let linked = top.join(text.strip_prefix("gitdir:")?.trim());
    let common = read_regular_file(&linked.join("commondir"), MAX_PATH_FILE_BYTES);
    Some(common.map_or_else(|| linked.clone(), |common| linked.join(common.trim())))
}

/// Reads a small text file. Other kinds of files are not opened: opening a FIFO waits for its writer.
fn read_regular_file(path: &Path, max_bytes: u64) -> Option<String> {
    let metadata = fs::metadata(path).ok()?;
    (metadata.is_file() && metadata.len() <= max_bytes).then(|| fs::read_to_string(path).ok())?
}

/// The address of the remote `origin` in a git configuration, else of the first remote.
fn remote_address(config: &str) -> Option<String> {
    let mut first = None;
    let mut remote = None;
    for line in config.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            let name =
                section.strip_prefix("remote").map(str::trim_start).and_then(|rest| rest.strip_prefix('"'));
            remote = name.and_then(|rest| rest.split('"').next());
        } else if let (Some(name), Some((key, value))) = (remote, line.split_once('='))
            && key.trim().eq_ignore_ascii_case("url")
        {
            let value = value.trim().trim_matches('"').to_owned();
            if name == "origin" {
                return Some(value);
            }
            first.get_or_insert(value);
        }
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(config: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join(".git")).unwrap();
        fs::create_dir_all(folder.path().join("a/b")).unwrap();
        fs::write(folder.path().join(".git/HEAD"), "ref: refs/heads/main\n").unwrap();
        fs::write(folder.path().join(".git/config"), config).unwrap();
        folder
    }

    #[test]
    fn a_directory_belongs_to_the_repository_that_contains_it() {
        let folder = repository(
            "[core]\n\tbare = false\n[remote \"fork\"]\n\turl = https://example.com/fork.git\n[remote \"origin\"]\n\turl = https://me:sesame@example.com/owner/repo.git\n\tfetch = +refs\n[branch \"main\"]\n\turl = no\n",
        );
        let project = of_directory(&folder.path().join("a/b"));
        assert_eq!(project.repository.as_deref(), Some("example.com/owner/repo"));
        assert!(project.directory.ends_with("a/b"));
    }

    #[test]
    fn a_repository_without_a_remote_is_identified_by_its_top_directory() {
        for config in ["", "[remote \"origin\"]\n\turl = ../elsewhere\n", "[[[\n= \n"] {
            let folder = repository(config);
            let project = of_directory(&folder.path().join("a"));
            let top = folder.path().canonicalize().unwrap();
            assert_eq!(project.repository, Some(top.display().to_string()), "{config:?}");
        }
    }

    #[test]
    fn a_linked_work_tree_belongs_to_its_repository() {
        let main = repository("[remote \"origin\"]\n\turl = git@example.com:owner/repo.git\n");
        let linked = main.path().join(".git/worktrees/two");
        fs::create_dir_all(&linked).unwrap();
        fs::write(linked.join("commondir"), "../..\n").unwrap();
        let tree = tempfile::tempdir().unwrap();
        fs::write(tree.path().join(".git"), format!("gitdir: {}\n", linked.display())).unwrap();
        assert_eq!(of_directory(tree.path()).repository.as_deref(), Some("example.com/owner/repo"));
    }

    #[test]
    fn a_fifo_in_place_of_a_git_file_is_not_opened() {
        let make_fifo = |path: &Path| {
            assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
        };
        let folder = tempfile::tempdir().unwrap();
        make_fifo(&folder.path().join(".git"));
        assert_eq!(of_directory(folder.path()).repository, None);
        let linked = tempfile::tempdir().unwrap();
        make_fifo(&linked.path().join("commondir"));
        make_fifo(&linked.path().join("config"));
        let tree = tempfile::tempdir().unwrap();
        fs::write(tree.path().join(".git"), format!("gitdir: {}\n", linked.path().display())).unwrap();
        assert!(of_directory(tree.path()).repository.is_some());
    }

    #[test]
    fn a_directory_outside_of_git_is_its_own_project() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(".git")).unwrap();
        assert_eq!(of_directory(folder.path()).repository, None);
    }
}
