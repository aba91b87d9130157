//! Keys, which nobody may see.

use std::fmt;
use std::sync::Arc;

/// What stands where a key would have stood.
const MASK: &str = "[key]";

/// Shorter texts than this are too likely to occur by chance to be masked everywhere.
const SHORTEST_MASKED: usize = 6;

/// A provider's key. It has no `Display`, its `Debug` does not show it, and [`Secret::scrub`] takes it out of
/// everything that a provider says.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Keeps a key, without the white space around it. `None` when nothing is left.
    #[must_use]
    pub fn new(key: &str) -> Option<Self> {
        let key = key.trim();
        (!key.is_empty()).then(|| Self(key.into()))
    }

    /// The key itself, for the one place that sends it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// `text` without the key in it, in plain or percent-encoded form.
    #[must_use]
    pub fn scrub(&self, text: &str) -> String {
        if self.0.len() < SHORTEST_MASKED {
            return text.to_owned();
        }
        let plain = text.replace(&*self.0, MASK);
        let encoded = percent_encoded(&self.0);
        if encoded == *self.0 { plain } else { plain.replace(&encoded, MASK) }
    }
}

fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_shows_neither_in_debug_nor_in_what_a_provider_repeats() {
        let key = Secret::new(" sk-very/secret+key ").unwrap();
        assert_eq!(format!("{key:?}"), "Secret(..)");
        assert_eq!(
            key.scrub("bad key sk-very/secret+key at ?key=sk-very%2Fsecret%2Bkey"),
            "bad key [key] at ?key=[key]"
        );
    }

    #[test]
    fn nothing_is_no_key() {
        assert_eq!(Secret::new(" \n"), None);
    }
}
