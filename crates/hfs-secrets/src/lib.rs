//! Finds secrets in text: keys and tokens of well-known providers, passwords in URLs and command lines, private keys,
//! and values that are assigned to names such as `DB_PASSWORD`.
//!
//! One pass finds all literals that a secret can start with or that introduce one (*anchors*). Only the
//! text around an anchor is examined further, and only a bounded part of it. The time is therefore linear in the length
//! of the text, and the search allocates nothing but its result.
//!
//! A text may be quoted or escaped any number of times, as in a JSON string that contains JSON. A found secret never
//! contains quotes or a part of an escape sequence at its ends, so replacing it leaves the text around it valid.
//!
//! ```
//! let text = r#"{"url": "postgres://app:n8Xk2-qpl@db/app", "retries": 3}"#;
//! assert_eq!(hfs_secrets::mask(text), r#"{"url": "postgres://app:[redacted: password]@db/app", "retries": 3}"#);
//! ```

mod anchors;
mod assignment;
mod command;
mod formats;
mod name;
mod text;
mod tokens;
mod url;
mod value;

use std::borrow::Cow;

use anchors::{ANCHORS, Anchor};
use url::Examples;

/// A secret in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Secret {
    /// Byte offset of its first byte.
    pub start: usize,
    /// Byte offset after its last byte.
    pub end: usize,
    /// What it is, in words, such as `GitHub token`.
    pub label: &'static str,
}

/// The secrets in a text, in order and without overlaps.
#[must_use]
pub fn find(text: &str) -> Vec<Secret> {
    search(text, Examples::Ignore)
}

fn search(text: &str, examples: Examples) -> Vec<Secret> {
    let mut found = Vec::new();
    ANCHORS.find(text, |anchor, start, end| match anchor {
        Anchor::Format(format) => tokens::find_format(text, start, format, &mut found),
        Anchor::JsonWebToken => tokens::find_json_web_token(text, start, &mut found),
        Anchor::PrivateKey => tokens::find_private_key(text, start, &mut found),
        Anchor::PuttyKey => tokens::find_putty_key(text, end, &mut found),
        Anchor::TelegramToken => tokens::find_telegram_token(text, start, &mut found),
        Anchor::DiscordToken => tokens::find_discord_token(text, start, &mut found),
        Anchor::AzureSecret => tokens::find_azure_secret(text, start + 1, &mut found),
        Anchor::AzureDevOps => tokens::find_azure_devops_token(text, start, &mut found),
        Anchor::InfixedToken(label) => tokens::find_around(text, start, label, &mut found),
        Anchor::Url => url::find_userinfo(text, start, end, examples, &mut found),
        Anchor::OracleUrl => url::find_oracle_password(text, end, &mut found),
        Anchor::WebhookUrl => url::find_webhook(text, end, &mut found),
        Anchor::AuthScheme => assignment::find_after_scheme(text, start, end, &mut found),
        Anchor::Cookies => assignment::find_cookies(text, end, text.len(), &mut found),
        Anchor::Name => assignment::find_assigned(text, start, end, &mut found),
        Anchor::ForeignName => assignment::find_assigned_to(text, start, end, &mut found),
        Anchor::QuotedPassword => assignment::find_quoted_password(text, end, &mut found),
        Anchor::LoginPair => assignment::find_login_pair(text, end, &mut found),
        Anchor::PasswordReader(form) => command::find_piped(text, start, end, form, &mut found),
        Anchor::NetPassword(is_account) => command::find_net_password(text, end, is_account, &mut found),
        Anchor::Command(command) => command::find_in_command(text, start, end, command, &mut found),
    });
    merge(text, found)
}

/// The secrets in the value of a field: those that [`find`] finds in it, or the whole value if the field's name says that it
/// is one, such as `password`.
#[must_use]
pub fn find_in_field(name: &str, value: &str) -> Vec<Secret> {
    let mut found = find(value);
    if name::is_cookies(name) {
        assignment::find_cookies(value, 0, value.len(), &mut found);
        return merge(value, found);
    }
    if let Some(kind) = name::judge(name)
        && let Some(secret) = assignment::whole_value(kind, value)
    {
        // A specific label is better than that of the field.
        if !found.iter().any(|other| other.start <= secret.start && secret.end <= other.end) {
            found.insert(0, secret);
            found = merge(value, found);
        }
    }
    found
}

/// Whether a field of this name holds a password, so that even a number is a secret.
#[must_use]
pub fn is_password_name(name: &str) -> bool {
    name::judge(name) == Some(name::NameKind::Password)
}

/// Whether the text contains a secret.
#[must_use]
pub fn contains(text: &str) -> bool {
    !find(text).is_empty()
}

/// Replaces every secret in a text by `[redacted: LABEL]`.
#[must_use]
pub fn mask(text: &str) -> Cow<'_, str> {
    replace(text, &find(text))
}

/// Masks a text that contains an address in use, such as a setting or an error. Unlike for [`mask`], a password in a URL is
/// one even if it is a word such as `password`.
#[must_use]
pub fn mask_addresses(text: &str) -> Cow<'_, str> {
    replace(text, &search(text, Examples::Find))
}

/// Replaces secrets that were found in a text by `[redacted: LABEL]`.
#[must_use]
pub fn replace<'t>(text: &'t str, secrets: &[Secret]) -> Cow<'t, str> {
    if secrets.is_empty() {
        return Cow::Borrowed(text);
    }
    let mut masked = String::with_capacity(text.len());
    let mut copied = 0;
    for secret in secrets {
        masked.push_str(text.get(copied..secret.start).unwrap_or_default());
        masked.push_str(&mark(secret.label));
        copied = secret.end;
    }
    masked.push_str(text.get(copied..).unwrap_or_default());
    Cow::Owned(masked)
}

/// Whether the text contains the text that stands for a secret. Such a text is shown, but must not be saved in place of the
/// secret.
#[must_use]
pub fn contains_mark(text: &str) -> bool {
    text.contains(MARK)
}

/// Number of places in the text where a secret was masked.
#[must_use]
pub fn count_marks(text: &str) -> usize {
    text.matches(MARK).count()
}

/// How the text that stands for a secret begins.
const MARK: &str = "[redacted: ";

/// The text that stands for a secret.
#[must_use]
pub fn mark(label: &str) -> String {
    format!("{MARK}{label}]")
}

/// Sorts the secrets and joins those that overlap. The longest of several that start at the same place gives the label.
fn merge(text: &str, mut found: Vec<Secret>) -> Vec<Secret> {
    if found.is_empty() {
        return found;
    }
    found.retain(|secret| secret.start < secret.end && text.get(secret.start..secret.end).is_some());
    // The sort is stable, so of equally long ones the first found gives the label: formats come before names.
    found.sort_by(|a, b| a.start.cmp(&b.start).then(b.end.cmp(&a.end)));
    let mut merged: Vec<Secret> = Vec::with_capacity(found.len());
    for secret in found {
        match merged.last_mut() {
            Some(last) if secret.start < last.end => {
                // A token inside of a longer value, such as that of a variable, says more than the variable's name.
                if tokens::is_generic_label(last.label) && !tokens::is_generic_label(secret.label) {
                    last.label = secret.label;
                }
                last.end = last.end.max(secret.end);
            }
            _ => merged.push(secret),
        }
    }
    merged
}
