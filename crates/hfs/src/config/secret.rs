//! Detects secrets in configuration files. They are refused: API keys are read from environment variables only.
//!
//! Values are checked with the scanner that exports use. In addition, a word that starts like a provider's key is
//! refused even if the scanner does not match it. The scanner searches arbitrary text and avoids false alarms: its
//! rules for providers match complete keys only, and its generic rule ignores words that contain a stopword, such as
//! `ant-` in `sk-ant-...`. Here a false alarm is cheap, and a shortened or mistyped key must not stay in a file.

use std::fmt;
use std::sync::OnceLock;

use hfs_exchange::SecretScanner;

use super::ConfigError;

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

/// Text without a URL or a word of this length is not scanned. Complete keys are longer, and the first scan of a
/// process compiles the rules, so skipping short values makes most starts faster.
const MIN_SCANNED_WORD: usize = 16;

/// Parts of the names of keys whose values are secrets.
const SECRET_NAMES: &[&str] =
    &["api_key", "apikey", "api-key", "secret", "password", "passwd", "token", "credential"];

/// Why a value is taken for a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretReason {
    Name,
    Value,
}

impl fmt::Display for SecretReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "its name says it is a secret",
            Self::Value => "it looks like a key or contains a password",
        })
    }
}

/// Whether an unknown key with this name holds a secret.
pub fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_NAMES.iter().any(|part| name.contains(part)) || name == "key" || name.ends_with("_key")
}

/// Whether a value, or a line of a file, contains a secret.
///
/// # Errors
/// `SecretRules` if the rules of the scanner cannot be compiled.
pub fn contains_secret(text: &str) -> Result<bool, ConfigError> {
    // The header alone is enough: in YAML, the body of a private key may be on other lines.
    if text.contains("-----BEGIN") {
        return Ok(true);
    }
    let is_separator = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '=' | ',' | ';');
    let mut words = text.split(is_separator);
    if words.clone().any(starts_like_key) {
        return Ok(true);
    }
    let needs_scan = text.contains("://") || words.any(|word| word.len() >= MIN_SCANNED_WORD);
    Ok(needs_scan && scan(text)?)
}

fn starts_like_key(word: &str) -> bool {
    let mut suffixes = KEY_PREFIXES.iter().filter_map(|prefix| word.strip_prefix(prefix));
    suffixes.any(|suffix| suffix.len() >= MIN_KEY_SUFFIX)
}

fn scan(text: &str) -> Result<bool, ConfigError> {
    static SCANNER: OnceLock<SecretScanner> = OnceLock::new();
    let rules_error = |source| ConfigError::SecretRules { source };
    let scanner = match SCANNER.get() {
        Some(scanner) => scanner,
        None => {
            let scanner = SecretScanner::new().map_err(rules_error)?;
            SCANNER.get_or_init(|| scanner)
        }
    };
    scanner.contains_secret(text).map_err(rules_error)
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
            assert!(contains_secret(text).unwrap(), "{text}");
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
            assert!(!contains_secret(text).unwrap(), "{text}");
        }
        assert!(is_secret_name("openai_api_key") && is_secret_name("Token") && is_secret_name("key"));
        assert!(!is_secret_name("keybinding_mode") && !is_secret_name("model"));
    }
}
