//! Identifiers: UUIDv7 inside, short and random-looking outside.
//!
//! A UUIDv7 begins with its time of birth, so ids made together share a long prefix and make poor handles
//! for people. The short form is therefore taken from the random tail, and written in the letters `k`-`z`
//! (as jj does), so that a handle is never mistaken for a number such as a checkpoint's place in its list.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// How many letters a full short form has (48 random bits).
const SHORT_LENGTH: usize = 12;
const LETTERS: &[u8; 16] = b"zyxwvutsrqponmlk";

/// The full short form of an id: twelve letters of `k`-`z`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShortId([u8; SHORT_LENGTH]);

impl ShortId {
    /// How many letters a list shows when nothing forces more.
    pub const SHOWN: usize = 6;

    /// The short form of `uuid`.
    #[must_use]
    pub fn of(uuid: &Uuid) -> Self {
        let mut letters = [0; SHORT_LENGTH];
        let tail = uuid.as_bytes().iter().skip(16 - SHORT_LENGTH / 2);
        for (pair, byte) in letters.chunks_exact_mut(2).zip(tail) {
            for (letter, nibble) in pair.iter_mut().zip([byte >> 4, byte & 0xf]) {
                *letter = LETTERS.get(usize::from(nibble)).copied().unwrap_or(b'z');
            }
        }
        Self(letters)
    }

    /// All twelve letters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("zzzzzzzzzzzz")
    }

    /// The first letters, as many as a list shows.
    #[must_use]
    pub fn shown(&self) -> &str {
        self.as_str().get(..Self::SHOWN).unwrap_or_default()
    }

    /// Whether `text` could be the beginning of a short form.
    #[must_use]
    pub fn is_prefix_shaped(text: &str) -> bool {
        !text.is_empty() && text.len() <= SHORT_LENGTH && text.bytes().all(|b| LETTERS.contains(&b))
    }
}

impl fmt::Display for ShortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ShortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an id: expected a UUID such as 0192f0c1-7e1a-7cc0-9b1e-3f2a5c6d7e8f")]
pub struct ParseIdError {
    text: String,
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new id, ordered after those made before it by this process.
            #[must_use]
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }

            /// The id with these bytes.
            #[must_use]
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID itself.
            #[must_use]
            pub const fn as_uuid(&self) -> &Uuid {
                &self.0
            }

            /// The form that people see and type the beginning of.
            #[must_use]
            pub fn short(&self) -> ShortId {
                ShortId::of(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                Uuid::try_parse(text).map(Self).map_err(|_| ParseIdError { text: text.to_owned() })
            }
        }
    )*};
}

ids! {
    /// A session: one conversation with all its branches.
    SessionId;
    /// A branch of a session.
    BranchId;
    /// A message.
    MessageId;
    /// A run: what an agent did to answer one message.
    RunId;
    /// A checkpoint.
    CheckpointId;
    /// A recorded structural change.
    OperationId;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_forms_of_ids_made_together_differ_early() {
        let ids: Vec<SessionId> = (0..50).map(|_| SessionId::generate()).collect();
        let prefixes: std::collections::BTreeSet<String> =
            ids.iter().map(|id| id.short().as_str()[..8].to_owned()).collect();
        assert_eq!(prefixes.len(), ids.len());
    }

    #[test]
    fn a_short_form_is_never_a_number_nor_hexadecimal() {
        let short = SessionId::generate().short();
        assert!(ShortId::is_prefix_shaped(short.as_str()));
        assert!(!ShortId::is_prefix_shaped("12"));
        assert!(!ShortId::is_prefix_shaped("0192f0c1"));
        assert!(!ShortId::is_prefix_shaped(""));
    }

    #[test]
    fn the_short_form_is_stable() {
        let id: SessionId = "0192f0c1-7e1a-7cc0-9b1e-0123456789af".parse().unwrap();
        assert_eq!(id.short().as_str(), "zyxwvutsrqpk");
        assert_eq!(id.short().shown(), "zyxwvu");
    }

    #[test]
    fn an_id_survives_its_text() {
        let id = MessageId::generate();
        assert_eq!(id.to_string().parse::<MessageId>().unwrap(), id);
        assert!("not an id".parse::<MessageId>().is_err());
    }
}
