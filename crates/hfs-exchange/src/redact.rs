//! Finds secrets in what is about to leave, and masks them.
//!
//! The rules are those of gitleaks and Kingfisher, as the `secrets_scanner` crate carries them, and one of our
//! own for passwords in addresses, which neither has.

mod guarded;
mod rules;

use std::borrow::Cow;

use hfs_core::{Part, StoreError, StoreResult};
use regex::Regex;
use serde_json::{Map, Value};

pub use guarded::{Guarded, SecretReport};
use rules::Rules;

const URL_PASSWORD: &str = r"\b[A-Za-z][A-Za-z0-9+.-]{1,20}://[^\s/:@'\x22]*:([^\s/@'\x22]+)@";
/// Words in a field's name that tell what its value is.
const TELLING: [&str; 7] = ["key", "token", "secret", "pass", "auth", "credential", "pwd"];

/// The rules; each is compiled when a text gives cause for it.
pub struct Secrets {
    rules: Rules,
    url_password: Regex,
}

/// A secret inside a text.
struct Found {
    start: usize,
    end: usize,
    rule: String,
}

impl Secrets {
    /// The rules. Keep them for as many exports as there are.
    ///
    /// # Errors
    /// When the rules that came with the program are broken.
    pub fn new() -> StoreResult<Self> {
        let url_password = Regex::new(URL_PASSWORD).map_err(|error| StoreError::Unsupported {
            message: format!("the rules for secrets cannot be compiled: {error}"),
        })?;
        Ok(Self { rules: Rules::new()?, url_password })
    }

    /// Whether a rule finds a secret in `text`.
    ///
    /// # Errors
    /// If a rule that the text needs cannot be compiled.
    pub fn contains_secret(&self, text: &str) -> StoreResult<bool> {
        let is_found = !self.find(text).is_empty();
        self.check()?;
        Ok(is_found)
    }

    /// Whether what was looked through has been looked through by every rule.
    fn check(&self) -> StoreResult<()> {
        self.rules.check()
    }

    /// The secrets in a text, in order, none overlapping another.
    fn find(&self, text: &str) -> Vec<Found> {
        let mut all: Vec<Found> = Vec::new();
        for scanner in self.rules.scanners_for(text) {
            all.extend(scanner.scan_content("message", text).into_iter().map(|found| Found {
                start: found.secret_start_offset,
                end: found.secret_end_offset,
                rule: found.rule_id,
            }));
        }
        for found in self.url_password.captures_iter(text).filter_map(|found| found.get(1)) {
            all.push(Found { start: found.start(), end: found.end(), rule: "password-in-url".into() });
        }
        // Of secrets that overlap, the longest names the whole; of equal ones, the rule that knows more.
        all.retain(|found| found.start < found.end && text.get(found.start..found.end).is_some());
        all.sort_by(|a, b| {
            let generic = |found: &Found| found.rule.contains("generic");
            let by_place = a.start.cmp(&b.start).then(b.end.cmp(&a.end));
            by_place.then(generic(a).cmp(&generic(b))).then(a.rule.cmp(&b.rule))
        });
        let mut apart: Vec<Found> = Vec::new();
        for found in all {
            match apart.last_mut() {
                Some(last) if found.start < last.end => last.end = last.end.max(found.end),
                _ => apart.push(found),
            }
        }
        apart
    }

    /// The text with every secret replaced by `[redacted: RULE]`; each is told to `tell`.
    fn mask<'t>(&self, text: &'t str, tell: &mut dyn FnMut(&str)) -> Cow<'t, str> {
        let found = self.find(text);
        if found.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut masked = String::with_capacity(text.len());
        let mut copied = 0;
        for secret in found {
            tell(&secret.rule);
            masked.push_str(text.get(copied..secret.start).unwrap_or_default());
            masked.push_str("[redacted: ");
            masked.push_str(&secret.rule);
            masked.push(']');
            copied = secret.end;
        }
        masked.push_str(text.get(copied..).unwrap_or_default());
        Cow::Owned(masked)
    }

    /// Masks the strings of a value. A field's name takes part in the judgement of its value.
    fn mask_value(&self, value: &mut Value, name: &str, tell: &mut dyn FnMut(&str)) {
        match value {
            Value::String(text) => {
                let telling = TELLING.iter().any(|word| name.to_ascii_lowercase().contains(word));
                let before = if telling { format!("{name} = \"") } else { String::new() };
                let whole = format!("{before}{text}{}", if telling { "\"" } else { "" });
                if let Cow::Owned(masked) = self.mask(&whole, tell) {
                    let inner = masked.strip_prefix(&before).unwrap_or(&masked);
                    let inner = if telling { inner.strip_suffix('"').unwrap_or(inner) } else { inner };
                    *text = inner.to_owned();
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.mask_value(item, name, tell)),
            Value::Object(fields) => self.mask_fields(fields, tell),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn mask_fields(&self, fields: &mut Map<String, Value>, tell: &mut dyn FnMut(&str)) {
        for (name, value) in fields.iter_mut() {
            self.mask_value(value, name, tell);
        }
    }

    fn mask_text(&self, text: &mut String, tell: &mut dyn FnMut(&str)) {
        if let Cow::Owned(masked) = self.mask(text, tell) {
            *text = masked;
        }
    }

    /// Masks a part; the bytes of an attachment are another matter.
    fn mask_part(&self, part: &mut Part, tell: &mut dyn FnMut(&str)) {
        match part {
            Part::Text { text } | Part::Thinking { text, .. } => self.mask_text(text, tell),
            Part::ToolResult { output, .. } => self.mask_text(output, tell),
            Part::Attachment { name: Some(name), .. } => self.mask_text(name, tell),
            Part::Attachment { name: None, .. } => {}
            Part::ToolCall { name, input, .. } => {
                self.mask_text(name, tell);
                self.mask_value(input, "", tell);
            }
            Part::Opaque { raw, .. } => self.mask_value(raw, "", tell),
        }
    }
}
