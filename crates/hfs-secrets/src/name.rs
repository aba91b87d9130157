//! Judges the names of variables, fields, options and headers.

/// What the name says about a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameKind {
    /// A password, which a person may have chosen.
    Password,
    /// A text for which words may be used, such as the words of a wallet.
    Passphrase,
    /// A secret that a person may have chosen, but mostly a generated one.
    Secret,
    /// A generated token or key.
    Token,
    /// Possibly a key: the value must leave no doubt.
    Key,
    /// The signature in a URL that allows access.
    Signature,
}

impl NameKind {
    pub const fn label(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Passphrase => "passphrase",
            Self::Secret => "secret",
            Self::Token => "token",
            Self::Key => "key",
            Self::Signature => "signature",
        }
    }
}

/// Words after the word that counts: `api_key_prod`, `token_value`, `PASSWORD_2`.
const SUFFIXES: &[&str] = &[
    "prod",
    "production",
    "dev",
    "development",
    "staging",
    "stage",
    "test",
    "live",
    "local",
    "value",
    "plain",
    "plaintext",
    "raw",
    "string",
    "b64",
    "base64",
    "new",
    "old",
    "base",
    "backup",
    "default",
    "v1",
    "v2",
    "secondary",
    "sandbox",
    "primary",
    "here",
    "confirmation",
    "confirm",
];

/// Words before `key` that make it a secret.
const SECRET_KEYS: &[&str] = &[
    "api",
    "access",
    "secret",
    "private",
    "encryption",
    "encrypt",
    "signing",
    "sign",
    "auth",
    "master",
    "account",
    "shared",
    "service",
    "app",
    "application",
    "consumer",
    "license",
    "ssh",
    "deploy",
    "admin",
    "webhook",
    "bot",
    "subscription",
    "rest",
    "write",
    "functions",
    "function",
    "storage",
    "decryption",
    "jwt",
    "hmac",
    "aes",
    "openai",
    "anthropic",
    "stripe",
    "gemini",
    "azure",
    "datadog",
    "sendgrid",
    "mailgun",
    "maps",
    "google",
    "groq",
    "mistral",
    "deepseek",
    "litellm",
    "virtual",
    "integration",
    "server",
    "client",
    "user",
    "project",
    "session",
    "cookie",
    "management",
    "ingest",
    "ingestion",
    "wallet",
    "rpc",
];

/// Words before `key` that make it something else.
const OTHER_KEYS: &[&str] = &[
    "public",
    "publishable",
    "primary",
    "foreign",
    "partition",
    "cache",
    "sort",
    "idempotency",
    "unique",
    "index",
    "row",
    "object",
    "s3",
    "lookup",
    "hash",
    "dedupe",
    "dedup",
    "map",
    "dict",
    "i18n",
    "translation",
    "route",
    "query",
    "react",
    "arrow",
    "shift",
    "enter",
    "tab",
    "hot",
    "short",
    "press",
    "config",
    "setting",
    "group",
    "event",
    "feature",
    "job",
    "host",
    "range",
    "bucket",
    "shard",
    "field",
    "column",
    "message",
    "task",
    "file",
    "data",
    "site",
    "anon",
    "composite",
    "natural",
    "surrogate",
    "candidate",
    "registry",
    "prompt",
    "routing",
];

/// Words before `token` that make it something else.
const OTHER_TOKENS: &[&str] = &[
    "page",
    "next",
    "continuation",
    "sync",
    "cursor",
    "eos",
    "bos",
    "pad",
    "unk",
    "sep",
    "cls",
    "mask",
    "stop",
    "special",
    "start",
    "end",
    "pagination",
    "starting",
    "resume",
    "cancel",
    "cancellation",
    "idempotency",
    "snapshot",
    "change",
    "prev",
    "previous",
    "first",
    "last",
    "design",
    "keyword",
    "punctuation",
    "per",
    "max",
    "min",
    "num",
    "syntax",
    "lexer",
    "word",
    "newline",
    "image",
    "audio",
    "fcm_topic",
];

const PASSWORDS: &[&str] = &[
    "password",
    "passwd",
    "pwd",
    "passwort",
    "kennwort",
    "pword",
    "psk",
    "pw",
    "passcode",
    "pass",
    "senha",
    "contrasena",
    "contraseña",
];

const PASSPHRASES: &[&str] = &["passphrase", "mnemonic", "seedphrase"];

/// Words that end in `pass` and are about something else.
const OTHER_PASSES: &[&str] = &[
    "bypass",
    "compass",
    "trespass",
    "encompass",
    "surpass",
    "underpass",
    "overpass",
    "multipass",
    "singlepass",
];

/// The longest name that is examined.
pub const MAX_NAME: usize = 80;

/// Whether the name is that of the header with a request's or a response's cookies.
pub fn is_cookies(name: &str) -> bool {
    ["cookie", "cookies", "set-cookie"].iter().any(|header| name.eq_ignore_ascii_case(header))
}

/// What the name says about its value; `None` if nothing.
pub fn judge(name: &str) -> Option<NameKind> {
    if name.len() > MAX_NAME || name.len() < 2 {
        return None;
    }
    let mut words = words(name);
    while words.len() > 1 && words.last().is_some_and(|word| is_suffix(word)) {
        words.pop();
    }
    let last = words.pop()?;
    let previous = words.last().map(String::as_str);
    let (last, is_plural) = match last.strip_suffix('s') {
        Some(singular) if ["token", "key", "secret", "password"].contains(&singular) => (singular, true),
        _ => (last.as_str(), false),
    };
    let kind = judge_words(previous, last)?;
    // Lists of keys are rare, but counts and settings of tokens are frequent.
    Some(if is_plural && kind != NameKind::Password { NameKind::Key } else { kind })
}

fn judge_words(previous: Option<&str>, last: &str) -> Option<NameKind> {
    if PASSWORDS.contains(&last) || ["password", "passwd"].iter().any(|end| last.ends_with(end)) {
        return Some(NameKind::Password);
    }
    if last.ends_with("pass") && last.len() > 5 && !OTHER_PASSES.contains(&last) {
        return Some(NameKind::Password);
    }
    if PASSPHRASES.iter().any(|end| last.ends_with(end)) || (last == "phrase" && previous == Some("seed")) {
        return Some(NameKind::Passphrase);
    }
    if last.ends_with("secret") {
        return Some(NameKind::Secret);
    }
    if last == "token" {
        let is_other = previous.is_some_and(|word| OTHER_TOKENS.contains(&word));
        return (!is_other).then_some(NameKind::Token);
    }
    if last == "key" {
        let Some(previous) = previous else { return Some(NameKind::Key) };
        if SECRET_KEYS.contains(&previous) {
            return Some(NameKind::Token);
        }
        return (!OTHER_KEYS.contains(&previous)).then_some(NameKind::Key);
    }
    if let Some(kind) = last.strip_suffix("token") {
        return (!OTHER_TOKENS.contains(&kind)).then_some(NameKind::Token);
    }
    if let Some(kind) = last.strip_suffix("key").filter(|kind| !kind.is_empty()) {
        return SECRET_KEYS.iter().any(|word| kind.ends_with(word)).then_some(NameKind::Token);
    }
    match last {
        "auth" | "authorization" | "credential" | "credentials" | "creds" | "cred" | "jwt" | "bearer"
        | "pat" | "apikey" | "appid" => Some(NameKind::Token),
        "sig" | "signature" => Some(NameKind::Signature),
        _ => None,
    }
}

fn is_suffix(word: &str) -> bool {
    SUFFIXES.contains(&word) || word.bytes().all(|byte| byte.is_ascii_digit())
}

/// The last words of a name in lower case: `dbPassword_2` is `db`, `password`, `2`.
fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut word = String::new();
    let mut was_lower = false;
    let characters: Vec<char> = name.chars().collect();
    for (index, c) in characters.iter().enumerate() {
        if !c.is_alphanumeric() {
            words.extend((!word.is_empty()).then(|| std::mem::take(&mut word)));
            was_lower = false;
            continue;
        }
        let next_is_lower = characters.get(index + 1).is_some_and(|next| next.is_lowercase());
        let starts_word = c.is_uppercase() && (was_lower || (next_is_lower && !word.is_empty()));
        if starts_word {
            words.extend((!word.is_empty()).then(|| std::mem::take(&mut word)));
        }
        word.extend(c.to_lowercase());
        was_lower = c.is_lowercase() || c.is_ascii_digit();
    }
    words.extend((!word.is_empty()).then_some(word));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_are_told_from_names_of_other_things() {
        for (name, kind) in [
            ("DB_PASSWORD", NameKind::Password),
            ("spring.datasource.password", NameKind::Password),
            ("dbPass", NameKind::Password),
            ("PGPASSWORD", NameKind::Password),
            ("clientSecret", NameKind::Secret),
            ("SECRET_KEY_BASE", NameKind::Token),
            ("api-key", NameKind::Token),
            ("x-api-key", NameKind::Token),
            ("OPENAI_API_KEY_PROD", NameKind::Token),
            ("APIKEY", NameKind::Token),
            ("accessToken", NameKind::Token),
            ("_authToken", NameKind::Token),
            ("AccountKey", NameKind::Token),
            ("ACME_KEY", NameKind::Key),
        ] {
            assert_eq!(judge(name), Some(kind), "{name}");
        }
        for name in [
            "password_hash",
            "passwordField",
            "token_count",
            "tokenizer",
            "primary_key",
            "keyboard",
            "nextPageToken",
            "bypass",
            "author",
            "secretName",
            "public_key",
            "monkey",
            "session_id",
        ] {
            assert_eq!(judge(name), None, "{name}");
        }
    }
}
