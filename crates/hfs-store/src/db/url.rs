//! Where a store is.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use hfs_core::StoreError;

/// A store's address.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreUrl {
    /// `sqlite:PATH`, or a path alone: a file.
    Sqlite(PathBuf),
    /// `memory:`: this process's memory, gone with it.
    Memory,
    /// `postgres://...`: a server. The text may hold a password; nothing here prints it.
    Postgres(String),
}

impl FromStr for StoreUrl {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        let (scheme, rest) = match text.split_once(':') {
            // One letter is a drive of Windows; a separator before the colon makes it a path.
            Some((scheme, rest)) if scheme.len() > 1 && !scheme.contains(['/', '\\']) => (scheme, rest),
            _ => ("", text),
        };
        let file = |path: &str| match path {
            "" => Err(StoreError::Invalid { message: "the store's address names no file".into() }),
            ":memory:" => Ok(Self::Memory),
            path => Ok(Self::Sqlite(PathBuf::from(path))),
        };
        match scheme {
            "" => file(rest),
            "sqlite" => file(rest.strip_prefix("//").unwrap_or(rest)),
            "memory" => Ok(Self::Memory),
            "postgres" | "postgresql" => Ok(Self::Postgres(text.to_owned())),
            // Whatever follows may hold a password and is not repeated.
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
                let place = match path.rsplit_once('@') {
                    Some((_, place)) => place,
                    // An `@` behind a `?`: where the password ends is anybody's guess.
                    None if rest.contains('@') => "...",
                    None => path,
                };
                write!(f, "postgres://{place}")
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
    fn paths_and_addresses_are_told_apart() {
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
    fn no_password_is_ever_repeated() {
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
