//! Detects secrets in configuration files. They are refused: API keys are read from environment variables only.
//!
//! Values are checked with the search that exports use. In addition, a word that starts like a provider's key is refused
//! even if the search does not match it, because here a false alarm is cheap, and a shortened or mistyped key must not
//! stay in a file.

use std::borrow::Cow;
use std::fmt;

/// How the API keys of well-known providers start.
const KEY_PREFIXES: &[&str] = &[
    "sk-",
    "sk_",
    "AIza",
    "gsk_",
    "xai-",
    "ghp_",
    "gho_",
    "github_pat_",
    "glpat-",
    "hf_",
    "xoxb-",
    "xoxp-",
    "AKIA",
    "ASIA",
];
/// A word with fewer characters after its prefix, such as `sk-`, is not taken for a key.
const MIN_KEY_SUFFIX: usize = 12;

/// Parts of the names of keys whose values are secrets.
const SECRET_NAMES: &[&str] =
    &["api_key", "apikey", "api-key", "secret", "password", "passwd", "token", "credential"];

/// Why a value is taken for a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretReason {
    Name,
    Value,
    /// The value contains the text that is shown in place of a secret.
    Mask,
}

impl fmt::Display for SecretReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "its name says it is a secret",
            Self::Value => "it looks like a key or contains a password",
            Self::Mask => "it contains the text that is shown in place of a secret, not the secret",
        })
    }
}

/// Whether an unknown key with this name holds a secret.
pub fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_NAMES.iter().any(|part| name.contains(part)) || name == "key" || name.ends_with("_key")
}

/// Whether a value, or a line of a file, contains a secret.
pub fn contains_secret(text: &str) -> bool {
    // The header alone is enough: in YAML, the body of a private key may be on other lines.
    text.contains("-----BEGIN")
        || words(text).any(starts_like_key)
        || matches!(hfs_secrets::mask_addresses(text), Cow::Owned(_))
}

/// The text as it may be shown: without the secrets in it.
pub fn shown(text: &str) -> Cow<'_, str> {
    match hfs_secrets::mask_addresses(text) {
        Cow::Borrowed(text) if contains_secret(text) => Cow::Owned(hfs_secrets::mark("key")),
        masked => masked,
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| {
        c.is_whitespace() || matches!(c, '"' | '\'' | '=' | ',' | ';' | '[' | ']' | '(' | ')')
    })
}

fn starts_like_key(word: &str) -> bool {
    let mut suffixes = KEY_PREFIXES.iter().filter_map(|prefix| word.strip_prefix(prefix));
    suffixes.any(|suffix| suffix.len() >= MIN_KEY_SUFFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_passwords_are_detected_and_ordinary_text_is_not() {
        for text in [
            "sk-proj-0123456789abcdef",
            "sk-ant-0123456789abcdefgh",
            "use AIzaSyA0123456789abcdef please",
            "postgres://me:pw@db.example/hfs",
            "-----BEGIN PRIVATE KEY-----",
            concat!("ghp_", "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8"),
        ] {
            assert!(contains_secret(text), "{text}");
        }
        for text in [
            "gpt-4o",
            "sk-",
            "Answer in one task-list.",
            "http://localhost:11434/v1",
            "https://me@example.com/",
            "claude-opus-4-5-20251101",
            "meta-llama/Llama-3.3-70B-Instruct-Turbo",
            "sqlite:/home/me/Documents/conversations-2026/hfs.db",
        ] {
            assert!(!contains_secret(text), "{text}");
        }
        assert!(is_secret_name("openai_api_key") && is_secret_name("Token") && is_secret_name("key"));
        assert!(!is_secret_name("keybinding_mode") && !is_secret_name("model"));
    }
}
