//! Secrets in JSON values: in strings, in the names of fields, and in values that a field's name marks as secret.
//!
//! The functions are iterative, because imported values may be nested deeper than the stack allows.

use std::borrow::Cow;

use base64::Engine;
use hfs_secrets::{Secret, find, find_in_field, is_password_name, mark, replace};
use serde_json::{Map, Value};

use super::{Redaction, Tally, Unexamined};

/// What happens to a number in a field such as `password`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbers {
    /// A text takes its place.
    Mask,
    /// It stays, because the type of the value requires a number.
    Keep,
}

/// Strings of base64 that are shorter are not decoded.
const MIN_ENCODED: usize = 512;

/// Stands for data that was not examined in a strict export.
const LEFT_OUT: &str = "[left out: not examined]";

/// What a string contains.
enum Text {
    Plain(Vec<Secret>),
    /// Base64 of text with these secrets.
    EncodedSecret(Vec<Secret>),
    /// Base64 of something else.
    Encoded,
}

/// Adds what is in a value to the tally.
pub fn examine(value: &Value, redaction: Redaction, tally: &mut Tally) {
    examine_all(vec![("".into(), value)], redaction, tally);
}

/// As [`examine`], for the fields of an object.
pub fn examine_fields(fields: &Map<String, Value>, redaction: Redaction, tally: &mut Tally) {
    let mut pending = Vec::with_capacity(fields.len());
    push_fields(fields, tally, &mut pending);
    examine_all(pending, redaction, tally);
}

fn examine_all<'v>(mut pending: Vec<(Cow<'v, str>, &'v Value)>, redaction: Redaction, tally: &mut Tally) {
    while let Some((name, value)) = pending.pop() {
        match value {
            Value::String(text) => match read(&name, text) {
                Text::Plain(secrets) | Text::EncodedSecret(secrets) => tally.add(&secrets),
                // A count of secrets needs no list of what it may have missed.
                Text::Encoded if redaction == Redaction::Count => {}
                Text::Encoded => tally.add_unexamined(unexamined(&name, text)),
            },
            Value::Number(number) if is_secret_number(&name, number) => tally.add(&[number_secret()]),
            Value::Array(items) => pending.extend(items.iter().map(|item| (name.clone(), item))),
            Value::Object(fields) => push_fields(fields, tally, &mut pending),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

fn push_fields<'v>(
    fields: &'v Map<String, Value>,
    tally: &mut Tally,
    pending: &mut Vec<(Cow<'v, str>, &'v Value)>,
) {
    let alias = named_by_sibling(fields);
    for (name, value) in fields {
        if name.len() >= MIN_SECRET_NAME {
            tally.add(&find(name));
        }
        let name = match alias {
            Some(alias) if name.eq_ignore_ascii_case("value") => alias,
            _ => name,
        };
        pending.push((name.into(), value));
    }
}

/// Names of fields that are shorter are not searched for secrets.
const MIN_SECRET_NAME: usize = 16;

/// Masks what [`examine`] counts.
pub fn mask(value: &mut Value, redaction: Redaction, numbers: Numbers) {
    let mut pending: Vec<(Cow<'_, str>, &mut Value)> = vec![("".into(), value)];
    while let Some((name, value)) = pending.pop() {
        match value {
            Value::String(text) => match read(&name, text) {
                Text::Plain(secrets) => {
                    if let Cow::Owned(masked) = replace(text, &secrets) {
                        *text = masked;
                    }
                }
                Text::EncodedSecret(secrets) => {
                    *text = mark(secrets.first().map_or("secret", |secret| secret.label));
                }
                Text::Encoded if redaction == Redaction::Strict => LEFT_OUT.clone_into(text),
                Text::Encoded => {}
            },
            Value::Number(number) if numbers == Numbers::Mask && is_secret_number(&name, number) => {
                *value = mark(number_secret().label).into();
            }
            Value::Array(items) => pending.extend(items.iter_mut().map(|item| (name.clone(), item))),
            Value::Object(fields) => {
                mask_names(fields);
                let alias = named_by_sibling(fields).map(str::to_owned);
                pending.extend(fields.iter_mut().map(|(name, value)| {
                    let name = match &alias {
                        Some(alias) if name.eq_ignore_ascii_case("value") => Cow::Owned(alias.clone()),
                        _ => Cow::Borrowed(name.as_str()),
                    };
                    (name, value)
                }));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// Masks the names of fields. Two names that become equal get numbers, so no field is lost.
fn mask_names(fields: &mut Map<String, Value>) {
    if !fields.keys().any(|name| name.len() >= MIN_SECRET_NAME && hfs_secrets::contains(name)) {
        return;
    }
    let mut renamed = Map::with_capacity(fields.len());
    for (name, value) in std::mem::take(fields) {
        let masked = if name.len() >= MIN_SECRET_NAME { hfs_secrets::mask(&name).into_owned() } else { name };
        let masked = unique(masked, |name| renamed.contains_key(name));
        renamed.insert(masked, value);
    }
    *fields = renamed;
}

/// The name itself if it is not taken, otherwise with a number.
pub fn unique(name: String, is_taken: impl Fn(&str) -> bool) -> String {
    if !is_taken(&name) {
        return name;
    }
    (2_u64..).map(|number| format!("{name} ({number})")).find(|name| !is_taken(name)).unwrap_or(name)
}

/// The name in `{"name": "DB_PASSWORD", "value": "..."}`.
fn named_by_sibling(fields: &Map<String, Value>) -> Option<&str> {
    let has_value = ["value", "Value"].iter().any(|name| fields.contains_key(*name));
    if !has_value {
        return None;
    }
    ["name", "key", "Name", "Key", "variable"].iter().find_map(|name| fields.get(*name)?.as_str())
}

fn is_secret_number(name: &str, number: &serde_json::Number) -> bool {
    !name.is_empty() && is_password_name(name) && number.as_u64().is_some_and(|number| number >= 1000)
}

fn number_secret() -> Secret {
    Secret { start: 0, end: 1, label: "password" }
}

fn read(name: &str, text: &str) -> Text {
    if text.len() >= MIN_ENCODED
        && let Some(encoded) = encoded_part(text)
    {
        let engine = base64::engine::general_purpose::STANDARD_NO_PAD;
        let decoded =
            engine.decode(encoded.trim_end_matches('=')).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        return match decoded {
            Some(decoded) if !decoded.contains('\0') => match find(&decoded) {
                secrets if secrets.is_empty() => Text::Plain(secrets),
                secrets => Text::EncodedSecret(secrets),
            },
            // A token can be longer than this.
            _ => match find_in_field(name, text) {
                secrets if secrets.is_empty() => Text::Encoded,
                secrets => Text::Plain(secrets),
            },
        };
    }
    Text::Plain(if name.is_empty() { find(text) } else { find_in_field(name, text) })
}

/// The base64 in a string that consists of it, or in a `data:` URL.
fn encoded_part(text: &str) -> Option<&str> {
    let encoded = match text.strip_prefix("data:") {
        Some(rest) => rest.split_once(";base64,")?.1,
        None => text,
    };
    let is_encoded = encoded.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=-_".contains(&byte));
    is_encoded.then_some(encoded)
}

fn unexamined(name: &str, text: &str) -> Unexamined {
    let is_reasoning =
        ["signature", "encrypted", "thought"].iter().any(|part| name.to_ascii_lowercase().contains(part));
    match text.strip_prefix("data:") {
        Some(media) if media.starts_with("image/") => Unexamined::Picture,
        _ if is_reasoning => Unexamined::EncryptedReasoning,
        // How the base64 of PNG, JPEG, GIF and WebP starts.
        _ if ["iVBORw0KGgo", "/9j/", "R0lGOD", "UklGR"].iter().any(|start| text.starts_with(start)) => {
            Unexamined::Picture
        }
        _ => Unexamined::EncodedData,
    }
}
