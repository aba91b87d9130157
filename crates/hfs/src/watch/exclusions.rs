//! Projects and paths that are not followed: the setting `watch.exclude`.

use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use hfs_core::Project;

/// The patterns of `watch.exclude`.
///
/// An absolute pattern, or one that begins with `~`, names a folder or file with everything below it. Any other pattern names a
/// folder or file by its last components, or a repository such as `example.com/owner/*`. `*` stands for any text without a slash,
/// `**` for any folders.
#[derive(Debug, Default)]
pub struct Exclusions {
    patterns: Vec<Exclusion>,
    user_home: PathBuf,
}

#[derive(Debug)]
struct Exclusion {
    text: String,
    is_absolute: bool,
    matcher: GlobMatcher,
}

impl Exclusions {
    /// Compiles the patterns.
    ///
    /// # Errors
    /// Returns the reason why a pattern is not valid.
    pub fn new(patterns: &[String], user_home: Option<&Path>) -> Result<Self, globset::Error> {
        let user_home = user_home.map(Path::to_owned).unwrap_or_default();
        let patterns =
            patterns.iter().map(|text| Exclusion::new(text, &user_home)).collect::<Result<_, _>>()?;
        Ok(Self { patterns, user_home })
    }

    /// The pattern that excludes a transcript by its path.
    pub fn pattern_for_path(&self, path: &Path) -> Option<&str> {
        let found = self.patterns.iter().find(|exclusion| self.covers(exclusion, path));
        found.map(|exclusion| exclusion.text.as_str())
    }

    /// The pattern that excludes the sessions of a project.
    pub fn pattern_for_project(&self, project: &Project) -> Option<&str> {
        let found = self.patterns.iter().find(|exclusion| {
            let repository = project.repository.as_deref().filter(|_| !exclusion.is_absolute);
            self.covers(exclusion, Path::new(&project.directory))
                || repository.is_some_and(|repository| exclusion.matcher.is_match(repository))
        });
        found.map(|exclusion| exclusion.text.as_str())
    }

    /// Identifies the patterns, so that a change of the setting is recognized.
    pub fn hash(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        for exclusion in &self.patterns {
            hasher.update(&(exclusion.text.len() as u64).to_le_bytes()).update(exclusion.text.as_bytes());
        }
        *hasher.finalize().as_bytes()
    }

    /// Whether the pattern names the path or a folder above it.
    fn covers(&self, exclusion: &Exclusion, path: &Path) -> bool {
        if exclusion.is_absolute {
            return path.ancestors().any(|path| exclusion.matcher.is_match(path));
        }
        // The names of the folders above the user's home, such as that of the user, are not meant.
        let below = path.strip_prefix(&self.user_home).unwrap_or(path);
        below.ancestors().any(|path| exclusion.matcher.is_match(path))
    }
}

impl Exclusion {
    fn new(text: &str, user_home: &Path) -> Result<Self, globset::Error> {
        let trimmed = text.trim_end_matches('/');
        let (is_absolute, glob) = match trimmed.strip_prefix('~') {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => {
                (true, globset::escape(&user_home.to_string_lossy()) + rest)
            }
            _ if Path::new(text).components().next() == Some(Component::RootDir) => {
                (true, trimmed.to_owned())
            }
            _ => (false, format!("**/{trimmed}")),
        };
        let matcher = GlobBuilder::new(&glob).literal_separator(true).build()?.compile_matcher();
        Ok(Self { text: text.to_owned(), is_absolute, matcher })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exclusions(pattern: &str) -> Exclusions {
        Exclusions::new(&[pattern.to_owned()], Some(Path::new("/home/me"))).unwrap()
    }

    #[test]
    fn a_pattern_names_a_folder_with_everything_below_it() {
        for (pattern, path, is_excluded) in [
            ("/home/me/secret", "/home/me/secret", true),
            ("/home/me/secret/", "/home/me/secret/deep/er", true),
            ("/home/me/secret", "/home/me/secrets", false),
            ("~/clients/*", "/home/me/clients/a/b", true),
            ("~/clients/*", "/home/me/clients", false),
            ("~/*/private", "/home/me/x/private/y", true),
            ("~/**/private", "/home/me/x/y/private", true),
            ("~", "/home/me/x", true),
            ("secret", "/home/me/work/secret/api", true),
            ("secret", "/home/me/work/secrets", false),
            ("*.key.jsonl", "/home/me/.claude/projects/x/a.key.jsonl", true),
            ("work/api", "/home/me/work/api/src", true),
            ("me", "/home/me/work", false),
            ("home", "/home/me/work", false),
            ("srv", "/srv/work", true),
        ] {
            let exclusions = exclusions(pattern);
            let found = exclusions.pattern_for_path(Path::new(path));
            assert_eq!(found, is_excluded.then_some(pattern), "{pattern} and {path}");
        }
    }

    #[test]
    fn a_project_is_excluded_by_its_directory_or_its_repository() {
        let project =
            Project { directory: "/home/me/api".into(), repository: Some("example.com/acme/api".into()) };
        for (pattern, is_excluded) in [
            ("api", true),
            ("~/api", true),
            ("example.com/acme/*", true),
            ("acme/api", true),
            ("acme", false),
        ] {
            let exclusions = exclusions(pattern);
            assert_eq!(exclusions.pattern_for_project(&project).is_some(), is_excluded, "{pattern}");
        }
    }

    #[test]
    fn a_pattern_that_is_not_valid_is_rejected() {
        assert!(Exclusions::new(&["a[".into()], None).is_err());
    }
}
