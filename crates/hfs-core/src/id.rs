//! Identifiers: UUIDv7 in storage, a short form for users.
//!
//! A UUIDv7 starts with its time of creation, so ids created together share a long prefix. The short form is therefore
//! taken from the random tail. It is written in the letters `k`-`z`, as in jj, so that it cannot be mistaken for a
//! number such as a checkpoint's.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Number of letters in a short form. Each holds 4 bits, so a short form holds 48 of the id's random bits.
const SHORT_LENGTH: usize = 12;
const LETTERS: &[u8; 16] = b"zyxwvutsrqponmlk";

/// The short form of an id: twelve letters of `k`-`z`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShortId([u8; SHORT_LENGTH]);

impl ShortId {
    /// Number of letters that lists show by default.
    pub const SHOWN: usize = 6;

    /// The short form of a UUID.
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

    /// The first [`SHOWN`](Self::SHOWN) letters.
    #[must_use]
    pub fn shown(&self) -> &str {
        self.as_str().get(..Self::SHOWN).unwrap_or_default()
    }

    /// Whether `text` could be a prefix of a short form.
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

/// The text is not an id.
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
            /// Generates an id that sorts after all ids generated before it by this process.
            #[must_use]
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }

            /// Wraps a UUID.
            #[must_use]
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID.
            #[must_use]
            pub const fn as_uuid(&self) -> &Uuid {
                &self.0
            }

            /// The short form; users may type a prefix of it.
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
    /// Id of a session.
    SessionId;
    /// Id of a branch.
    BranchId;
    /// Id of a message.
    MessageId;
    /// Id of a run.
    RunId;
    /// Id of a checkpoint.
    CheckpointId;
    /// Id of an operation.
    OperationId;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_forms_of_ids_created_together_differ_in_the_first_letters() {
        let ids: Vec<SessionId> = (0..50).map(|_| SessionId::generate()).collect();
        let prefixes: std::collections::BTreeSet<String> =
            ids.iter().map(|id| id.short().as_str()[..8].to_owned()).collect();
        assert_eq!(prefixes.len(), ids.len());
    }

    #[test]
    fn a_short_form_cannot_be_mistaken_for_a_number_or_hexadecimal() {
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
    fn an_id_round_trips_through_text() {
        let id = MessageId::generate();
        assert_eq!(id.to_string().parse::<MessageId>().unwrap(), id);
        assert!("not an id".parse::<MessageId>().is_err());
    }
}
