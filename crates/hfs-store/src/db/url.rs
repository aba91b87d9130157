//! Addresses of stores.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use hfs_core::StoreError;

/// The address of a store.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreUrl {
    /// A file: `sqlite:PATH`, or a path without a scheme.
    Sqlite(PathBuf),
    /// The memory of this process: `memory:`.
    Memory,
    /// A PostgreSQL server: `postgres://...`. The text may contain a password, so `Display` and `Debug` leave that out.
    Postgres(String),
}

impl FromStr for StoreUrl {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        let (scheme, rest) = match text.split_once(':') {
            // A single letter before the colon is a Windows drive. With a path separator before it, the text is a path.
            Some((scheme, rest)) if scheme.len() > 1 && !scheme.contains(['/', '\\']) => (scheme, rest),
            _ => ("", text),
        };
        let file = |path: &str| match path {
            "" => Err(StoreError::Invalid { message: "the store's address does not name a file".into() }),
            ":memory:" => Ok(Self::Memory),
            path => Ok(Self::Sqlite(PathBuf::from(path))),
        };
        match scheme {
            "" => file(rest),
            "sqlite" => file(rest.strip_prefix("//").unwrap_or(rest)),
            "memory" => Ok(Self::Memory),
            "postgres" | "postgresql" => Ok(Self::Postgres(text.to_owned())),
            // The rest may contain a password, so the message leaves it out.
            other => Err(StoreError::Invalid {
                message: format!(
                    "{other:?} is not a kind of store: expected sqlite:PATH, a path, memory: or postgres://..."
                ),
            }),
        }
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Memory => f.write_str("memory:"),
            Self::Postgres(text) => {
                let rest = text.split_once("://").map_or("", |(_, rest)| rest);
                let path = rest.split_once(['?', '#']).map_or(rest, |(path, _)| path);
                let host = match path.rsplit_once('@') {
                    Some((_, host)) => host,
                    // With an `@` after a `?`, it is not clear where the password ends.
                    None if rest.contains('@') => "...",
                    None => path,
                };
                write!(f, "postgres://{host}")
            }
        }
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_addresses_are_distinguished() {
        for (text, expected) in [
            ("sqlite:/a/b.db", "sqlite:/a/b.db"),
            ("sqlite:///a/b.db", "sqlite:/a/b.db"),
            ("sqlite:b.db", "sqlite:b.db"),
            ("/a/b.db", "sqlite:/a/b.db"),
            ("./a:b.db", "sqlite:./a:b.db"),
            ("C:\\a\\b.db", "sqlite:C:\\a\\b.db"),
            ("memory:", "memory:"),
            ("sqlite::memory:", "memory:"),
        ] {
            assert_eq!(text.parse::<StoreUrl>().unwrap().to_string(), expected, "{text}");
        }
        assert!("".parse::<StoreUrl>().is_err());
        assert!("sqlite:".parse::<StoreUrl>().is_err());
    }

    #[test]
    fn passwords_are_never_shown() {
        for text in [
            "postgres://me:sesame@host:5432/db?password=sesame",
            "postgresql://me:se@same:sesame@host/db",
            "postgres://me:what?sesame@host/db",
            "postgres://host/db?password=a@sesame",
            "mysql://me:sesame@host/db",
        ] {
            let shown = match text.parse::<StoreUrl>() {
                Ok(url) => format!("{url} {url:?}"),
                Err(error) => format!("{error} {error:?}"),
            };
            assert!(!shown.contains("sesame"), "{shown}");
        }
        let url: StoreUrl = "postgres://me:sesame@host:5432/db?password=sesame".parse().unwrap();
        assert_eq!(url.to_string(), "postgres://host:5432/db");
    }
}
