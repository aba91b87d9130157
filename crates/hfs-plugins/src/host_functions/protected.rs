//! Folders that no plugin may access, whatever its manifest asks for and the user grants.

use std::path::{Path, PathBuf};

/// The kernel's interfaces, the sockets of services, and the files with the system's credentials.
const SYSTEM: [&str; 12] = [
    "/proc",
    "/sys",
    "/dev",
    "/run",
    "/var/run",
    "/etc/shadow",
    "/etc/gshadow",
    "/etc/sudoers",
    "/etc/sudoers.d",
    "/etc/ssh",
    "/etc/ssl/private",
    "/etc/NetworkManager",
];

/// Where programs keep credentials, below the user's home directory: keys and keyrings, browsers, package managers,
/// clouds, and agents.
const USER: [&str; 68] = [
    ".ssh",
    ".gnupg",
    ".pki",
    ".netrc",
    ".authinfo",
    ".pgpass",
    ".my.cnf",
    ".git-credentials",
    ".config/git",
    ".config/gh",
    ".config/glab-cli",
    ".config/hub",
    ".subversion",
    ".password-store",
    ".local/share/keyrings",
    ".local/share/kwalletd",
    ".config/op",
    ".config/1Password",
    ".config/Bitwarden",
    ".config/Bitwarden CLI",
    ".config/keepassxc",
    ".vault-token",
    ".age",
    ".config/sops",
    ".mozilla",
    ".thunderbird",
    ".config/google-chrome",
    ".config/chromium",
    ".config/BraveSoftware",
    ".config/microsoft-edge",
    ".config/Slack",
    ".config/discord",
    ".config/Signal",
    ".npmrc",
    ".yarnrc.yml",
    ".pypirc",
    ".cargo",
    ".m2",
    ".gradle",
    ".gem",
    ".config/composer",
    ".docker",
    ".kube",
    ".helm",
    ".aws",
    ".azure",
    ".config/gcloud",
    ".config/doctl",
    ".config/hcloud",
    ".config/rclone",
    ".terraform.d",
    ".fly",
    ".claude",
    ".claude.json",
    ".codex",
    ".gemini",
    ".qwen",
    ".copilot",
    ".config/github-copilot",
    ".cursor",
    ".config/goose",
    ".config/opencode",
    ".local/share/opencode",
    ".pi",
    ".config/io.datasette.llm",
    ".ollama",
    "Library/Keychains",
    "Library/Application Support",
];

/// The protected folders and files of this machine and user.
///
/// A folder is refused if it is inside a protected one or contains one, also if that does not exist yet. Checking each
/// access instead would allow more grants, but it would have to hold against links and against renames between the
/// check and the access.
#[derive(Debug, Clone)]
pub(crate) struct ProtectedFolders {
    hfs_home: PathBuf,
    others: Vec<PathBuf>,
}

/// What a folder that a plugin asks for would reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reach {
    Allowed,
    /// Sessions, settings and approvals of hfs.
    HfsHome,
    /// This protected folder or file.
    Protected(PathBuf),
}

impl ProtectedFolders {
    pub fn new(user_home: Option<&Path>, hfs_home: &Path) -> Self {
        let mut others: Vec<PathBuf> = SYSTEM.iter().map(PathBuf::from).collect();
        if let Some(home) = user_home {
            others.extend(USER.iter().map(|name| home.join(name)));
        }
        // A protected folder may be a link, or below one: `/home` is a link on some systems.
        let canonical: Vec<PathBuf> = others.iter().map(|path| canonical(path)).collect();
        others.extend(canonical);
        others.sort();
        others.dedup();
        Self { hfs_home: canonical_existing(hfs_home), others }
    }

    /// What access to a folder and everything below it would reach. Call it with the path as it is now: links are
    /// followed.
    pub fn reach(&self, folder: &Path) -> Reach {
        let folder = canonical(folder);
        let overlaps = |protected: &Path| folder.starts_with(protected) || protected.starts_with(&folder);
        if overlaps(&self.hfs_home) {
            return Reach::HfsHome;
        }
        let reached = self.others.iter().find(|protected| overlaps(protected));
        reached.map_or(Reach::Allowed, |protected| Reach::Protected(protected.clone()))
    }
}

fn canonical_existing(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_path_buf())
}

/// The path without links. The part that does not exist is kept as it is.
fn canonical(path: &Path) -> PathBuf {
    for ancestor in path.ancestors() {
        if let Ok(resolved) = ancestor.canonicalize() {
            return match path.strip_prefix(ancestor) {
                Ok(rest) if !rest.as_os_str().is_empty() => resolved.join(rest),
                _ => resolved,
            };
        }
    }
    path.to_path_buf()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn folders_with_credentials_are_not_reached_from_above_from_inside_or_through_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("home");
        fs::create_dir_all(home.join("notes")).unwrap();
        fs::create_dir_all(home.join(".ssh/keys")).unwrap();
        std::os::unix::fs::symlink(home.join(".ssh"), home.join("way")).unwrap();
        std::os::unix::fs::symlink("/proc", home.join("kernel")).unwrap();
        let protected = ProtectedFolders::new(Some(&home), &home.join(".hfs"));
        for allowed in ["notes", "notes/2026", "missing", ".configs", ".sshd"] {
            assert_eq!(protected.reach(&home.join(allowed)), Reach::Allowed, "{allowed}");
        }
        for refused in [
            ".ssh",
            ".ssh/keys",
            ".ssh/new/deep",
            "way",
            "way/keys",
            "kernel/self",
            ".config",
            ".claude/projects",
        ] {
            let reach = protected.reach(&home.join(refused));
            assert!(matches!(reach, Reach::Protected(_)), "{refused}: {reach:?}");
        }
        assert_eq!(protected.reach(&home.join(".hfs/plugins")), Reach::HfsHome);
        assert_eq!(protected.reach(&home), Reach::HfsHome);
        for refused in ["/proc/self", "/sys", "/dev/shm", "/run/user/1000", "/etc", "/etc/ssh/keys"] {
            let reach = protected.reach(Path::new(refused));
            assert!(matches!(reach, Reach::Protected(_)), "{refused}: {reach:?}");
        }
    }

    #[test]
    fn a_linked_home_directory_is_protected_under_both_names() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("real/.gnupg")).unwrap();
        let home = folder.path().join("home");
        std::os::unix::fs::symlink(folder.path().join("real"), &home).unwrap();
        let protected = ProtectedFolders::new(Some(&home), Path::new("/nowhere"));
        for path in [home.join(".gnupg"), folder.path().join("real/.gnupg"), folder.path().join("real/.aws")]
        {
            assert!(matches!(protected.reach(&path), Reach::Protected(_)), "{}", path.display());
        }
    }
}
