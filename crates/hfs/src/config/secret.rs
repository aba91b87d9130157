//! What must not stand in a configuration file: keys come from the environment only.

/// What keys of well-known providers begin with.
const KEY_BEGINNINGS: &[&str] = &[
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
    "-----BEGIN",
];

/// Words in a name that say its value is a secret.
const SECRET_NAMES: &[&str] =
    &["api_key", "apikey", "api-key", "secret", "password", "passwd", "token", "credential"];

/// Whether a key of this name holds a secret, going by its name. Settings of ours are known not to.
pub fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_NAMES.iter().any(|word| name.contains(word)) || name == "key" || name.ends_with("_key")
}

/// What makes `text` look like a secret, if anything does.
pub fn secret_in(text: &str) -> Option<&'static str> {
    let words = text.split(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '=' | ',' | ';'));
    let is_key = |word: &str| {
        KEY_BEGINNINGS.iter().any(|beginning| {
            word.strip_prefix(beginning).is_some_and(|rest| rest.len() >= 12 || beginning.starts_with('-'))
        })
    };
    if words.clone().any(is_key) || text.contains("-----BEGIN") {
        return Some("it looks like a key");
    }
    words.clone().any(has_password).then_some("its address holds a password")
}

/// Whether a word is an address with a password in it: `scheme://user:password@host`.
fn has_password(word: &str) -> bool {
    let Some((_, rest)) = word.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_passwords_are_seen_and_ordinary_text_is_not() {
        for text in [
            "sk-proj-0123456789abcdef",
            "use AIzaSyA0123456789abcdef please",
            "postgres://me:pw@db.example/hfs",
            "-----BEGIN PRIVATE KEY-----",
        ] {
            assert!(secret_in(text).is_some(), "{text}");
        }
        for text in [
            "gpt-4o",
            "sk-",
            "Answer in one task-list.",
            "http://localhost:11434/v1",
            "https://me@example.com/",
        ] {
            assert_eq!(secret_in(text), None, "{text}");
        }
        assert!(is_secret_name("openai_api_key") && is_secret_name("Token") && is_secret_name("key"));
        assert!(!is_secret_name("keybinding_mode") && !is_secret_name("model"));
    }
}
