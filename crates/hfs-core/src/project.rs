//! Projects: the directory or repository that a session belongs to.

use serde::{Deserialize, Serialize};

/// The working directory of a session and, inside a git work tree, the identity of its repository.
///
/// Two sessions belong to the same project if their repositories are equal or, outside of git, their directories; see
/// [`Project::key`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Project {
    /// The absolute working directory.
    pub directory: String,
    /// Identity of the git repository: its remote without scheme and credentials (see
    /// [`Project::identity_of_remote`]), or the absolute path of its top directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
}

impl Project {
    /// Key that sessions of the same project share.
    #[must_use]
    pub fn key(&self) -> &str {
        self.repository.as_deref().unwrap_or(&self.directory)
    }

    /// Normalizes the URL of a git remote to `host/path`, with the host in lower case and without scheme, credentials,
    /// query and `.git`. Clones over SSH and HTTPS thus have one identity, and no password is stored. A local path is
    /// returned without trailing slashes. `None` if the URL has no path or no host.
    #[must_use]
    pub fn identity_of_remote(remote: &str) -> Option<String> {
        let remote = remote.trim();
        let (scheme, rest) =
            remote.split_once("://").map_or((None, remote), |(scheme, rest)| (Some(scheme), rest));
        if scheme == Some("file")
            || (scheme.is_none() && (rest.starts_with(['/', '.', '~']) || !rest.contains(':')))
        {
            let path = rest.trim_end_matches('/');
            return (!path.is_empty()).then(|| path.to_owned());
        }
        let separator = if scheme.is_some() { '/' } else { ':' };
        let (authority, path) = rest.split_once(separator)?;
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let path = path.split(['?', '#']).next().unwrap_or_default().trim_matches('/');
        let path = path.strip_suffix(".git").unwrap_or(path);
        (!host.is_empty() && !path.is_empty()).then(|| format!("{}/{path}", host.to_ascii_lowercase()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_urls_of_a_repository_have_one_identity_without_credentials() {
        for remote in [
            "https://github.com/owner/repo.git",
            "https://me:sesame@GitHub.com/owner/repo",
            "https://sesame@github.com/owner/repo/",
            "https://github.com/owner/repo?token=sesame",
            "git@github.com:owner/repo.git",
            "ssh://git@github.com/owner/repo.git",
        ] {
            assert_eq!(
                Project::identity_of_remote(remote).as_deref(),
                Some("github.com/owner/repo"),
                "{remote}"
            );
        }
        assert_eq!(Project::identity_of_remote("/srv/git/repo.git/").as_deref(), Some("/srv/git/repo.git"));
        assert_eq!(Project::identity_of_remote("file:///srv/repo").as_deref(), Some("/srv/repo"));
        assert_eq!(Project::identity_of_remote("../other").as_deref(), Some("../other"));
        for nothing in ["", "https://", "host:", "https://host/"] {
            assert_eq!(Project::identity_of_remote(nothing), None, "{nothing}");
        }
    }
}
