//! Finds secrets in exported sessions and masks them.
//!
//! The rules are those of gitleaks and Kingfisher, which the `secrets_scanner` crate bundles, and an
//! additional one for passwords in URLs. [`RedactedSource`] wraps the source of an export, so an exporter
//! cannot bypass the scanner.

mod rules;

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;

use hfs_core::{
    Branch, BranchId, Checkpoint, CheckpointId, CheckpointState, ContentHash, Message, Part, Run, RunId, Seq,
    Session, StoreError, StoreResult,
};
use regex::Regex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::export::DocumentSource;
use rules::RuleSet;

/// Matches the password in a URL such as `https://user:password@host`.
const URL_PASSWORD: &str = r"\b[A-Za-z][A-Za-z0-9+.-]{1,20}://[^\s/:@'\x22]*:([^\s/@'\x22]+)@";
/// Words in a field's name that suggest that its value is a secret.
const SECRET_FIELD_WORDS: [&str; 7] = ["key", "token", "secret", "pass", "auth", "credential", "pwd"];

/// A scanner for secrets. Each rule is compiled when a text contains one of its keywords.
pub struct SecretScanner {
    rules: RuleSet,
    url_password: Regex,
}

/// A secret in a text.
struct SecretSpan {
    start: usize,
    end: usize,
    rule: String,
}

impl SecretScanner {
    /// Creates a scanner. Use one scanner for several exports, because it caches compiled rules.
    ///
    /// # Errors
    /// Returns an error if the bundled rules are invalid.
    pub fn new() -> StoreResult<Self> {
        let url_password = Regex::new(URL_PASSWORD).map_err(|error| StoreError::Unsupported {
            message: format!("the rules for secrets cannot be compiled: {error}"),
        })?;
        Ok(Self { rules: RuleSet::new()?, url_password })
    }

    /// Whether a rule finds a secret in `text`.
    ///
    /// # Errors
    /// Returns an error if a rule that applies to the text cannot be compiled.
    pub fn contains_secret(&self, text: &str) -> StoreResult<bool> {
        let found = !self.find(text).is_empty();
        self.check()?;
        Ok(found)
    }

    /// Returns an error if a rule could not be compiled, since earlier scans may have missed secrets.
    fn check(&self) -> StoreResult<()> {
        self.rules.check()
    }

    /// The secrets in a text, in order and without overlaps.
    fn find(&self, text: &str) -> Vec<SecretSpan> {
        let mut all: Vec<SecretSpan> = Vec::new();
        for scanner in self.rules.scanners_for(text) {
            all.extend(scanner.scan_content("message", text).into_iter().map(|found| SecretSpan {
                start: found.secret_start_offset,
                end: found.secret_end_offset,
                rule: found.rule_id,
            }));
        }
        for found in self.url_password.captures_iter(text).filter_map(|found| found.get(1)) {
            all.push(SecretSpan { start: found.start(), end: found.end(), rule: "password-in-url".into() });
        }
        // Merge overlapping secrets. Of those with the same start, the longest one determines the rule; among
        // equally long ones, a specific rule takes precedence over a generic one.
        all.retain(|found| found.start < found.end && text.get(found.start..found.end).is_some());
        all.sort_by(|a, b| {
            let generic = |found: &SecretSpan| found.rule.contains("generic");
            let by_start = a.start.cmp(&b.start).then(b.end.cmp(&a.end));
            by_start.then(generic(a).cmp(&generic(b))).then(a.rule.cmp(&b.rule))
        });
        let mut merged: Vec<SecretSpan> = Vec::new();
        for found in all {
            match merged.last_mut() {
                Some(last) if found.start < last.end => last.end = last.end.max(found.end),
                _ => merged.push(found),
            }
        }
        merged
    }

    /// Replaces every secret by `[redacted: RULE]` and calls `on_secret` with the rule.
    fn mask<'t>(&self, text: &'t str, on_secret: &mut dyn FnMut(&str)) -> Cow<'t, str> {
        let found = self.find(text);
        if found.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut masked = String::with_capacity(text.len());
        let mut copied = 0;
        for secret in found {
            on_secret(&secret.rule);
            masked.push_str(text.get(copied..secret.start).unwrap_or_default());
            masked.push_str("[redacted: ");
            masked.push_str(&secret.rule);
            masked.push(']');
            copied = secret.end;
        }
        masked.push_str(text.get(copied..).unwrap_or_default());
        Cow::Owned(masked)
    }

    /// Masks the strings in a value. The name of a field is scanned together with its value, because many
    /// rules match assignments such as `token = "..."`.
    fn mask_value(&self, value: &mut Value, name: &str, on_secret: &mut dyn FnMut(&str)) {
        match value {
            Value::String(text) => {
                let is_named_secret =
                    SECRET_FIELD_WORDS.iter().any(|word| name.to_ascii_lowercase().contains(word));
                let prefix = if is_named_secret { format!("{name} = \"") } else { String::new() };
                let assignment = format!("{prefix}{text}{}", if is_named_secret { "\"" } else { "" });
                if let Cow::Owned(masked) = self.mask(&assignment, on_secret) {
                    let inner = masked.strip_prefix(&prefix).unwrap_or(&masked);
                    let inner =
                        if is_named_secret { inner.strip_suffix('"').unwrap_or(inner) } else { inner };
                    *text = inner.to_owned();
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.mask_value(item, name, on_secret)),
            Value::Object(fields) => self.mask_fields(fields, on_secret),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn mask_fields(&self, fields: &mut Map<String, Value>, on_secret: &mut dyn FnMut(&str)) {
        for (name, value) in fields.iter_mut() {
            self.mask_value(value, name, on_secret);
        }
    }

    fn mask_text(&self, text: &mut String, on_secret: &mut dyn FnMut(&str)) {
        if let Cow::Owned(masked) = self.mask(text, on_secret) {
            *text = masked;
        }
    }

    /// Masks a part, but not the bytes of an attachment.
    fn mask_part(&self, part: &mut Part, on_secret: &mut dyn FnMut(&str)) {
        match part {
            Part::Text { text } | Part::Thinking { text, .. } => self.mask_text(text, on_secret),
            Part::ToolResult { output, .. } => self.mask_text(output, on_secret),
            Part::Attachment { name: Some(name), .. } => self.mask_text(name, on_secret),
            Part::Attachment { name: None, .. } => {}
            Part::ToolCall { name, input, .. } => {
                self.mask_text(name, on_secret);
                self.mask_value(input, "", on_secret);
            }
            Part::Opaque { raw, .. } => self.mask_value(raw, "", on_secret),
        }
    }
}

/// Larger attachments are not scanned.
const MAX_ATTACHMENT: u64 = 32 << 20;

/// Whether attachments of this media type are scanned as text.
fn is_textual(media_type: &str) -> bool {
    let kind = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let suffixes = ["json", "xml", "yaml", "toml", "javascript", "x-sh", "octet-stream"];
    kind.starts_with("text/") || kind.is_empty() || suffixes.iter().any(|suffix| kind.ends_with(suffix))
}

/// The secrets found in an export.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SecretReport {
    /// Total number of secrets.
    pub total: u64,
    /// Number of secrets per rule.
    pub by_rule: BTreeMap<String, u64>,
    /// Where secrets were found, such as `message 3 of main`.
    pub locations: Vec<String>,
}

/// The source of an export, scanned for secrets and optionally masked.
///
/// Exporters of all formats read a session through this wrapper. Ids, and attachments that are not text, such
/// as images, are not changed.
///
/// Masking changes an attachment's bytes and therefore its hash. A masked message refers to the new hash, and
/// `attachment` maps it back to the original bytes and masks them again.
pub struct RedactedSource<'a> {
    source: &'a dyn DocumentSource,
    scanner: &'a SecretScanner,
    mask: bool,
    names: RefCell<BTreeMap<BranchId, String>>,
    /// Original hash of each masked attachment, by its new hash.
    originals: RefCell<BTreeMap<ContentHash, ContentHash>>,
    /// Number of secrets per rule, by location. Messages that are read twice are counted once.
    found: RefCell<BTreeMap<String, BTreeMap<String, u64>>>,
}

impl<'a> RedactedSource<'a> {
    /// Wraps `source`. Secrets are always reported, and masked if `mask` is set.
    #[must_use]
    pub fn new(source: &'a dyn DocumentSource, scanner: &'a SecretScanner, mask: bool) -> Self {
        Self {
            source,
            scanner,
            mask,
            names: RefCell::default(),
            originals: RefCell::default(),
            found: RefCell::default(),
        }
    }

    /// The secrets found in the data that has been read so far.
    #[must_use]
    pub fn report(&self) -> SecretReport {
        let mut report = SecretReport::default();
        for (location, rules) in self.found.borrow().iter() {
            report.locations.push(location.clone());
            for (rule, count) in rules {
                report.total += count;
                *report.by_rule.entry(rule.clone()).or_default() += count;
            }
        }
        report
    }

    /// Scans a value with `edit` and records the secrets found. Returns the masked value if masking is on,
    /// otherwise the original.
    fn scan<T: Clone>(
        &self,
        location: impl FnOnce() -> String,
        original: T,
        edit: impl FnOnce(&mut T, &mut dyn FnMut(&str)) -> StoreResult<()>,
    ) -> StoreResult<T> {
        let mut rules: BTreeMap<String, u64> = BTreeMap::new();
        let mut edited = original.clone();
        edit(&mut edited, &mut |rule| *rules.entry(rule.to_owned()).or_default() += 1)?;
        self.scanner.check()?;
        if rules.is_empty() {
            return Ok(original);
        }
        self.found.borrow_mut().insert(location(), rules);
        Ok(if self.mask { edited } else { original })
    }

    /// Masks a value in its JSON form.
    fn mask_json<T: Clone + Serialize + DeserializeOwned>(
        &self,
        edited: &mut T,
        on_secret: &mut dyn FnMut(&str),
    ) -> StoreResult<()> {
        let corrupt = |error: serde_json::Error| StoreError::Corrupt { message: error.to_string() };
        let mut value = serde_json::to_value(&*edited).map_err(corrupt)?;
        self.scanner.mask_value(&mut value, "", on_secret);
        *edited = serde_json::from_value(value).map_err(corrupt)?;
        Ok(())
    }

    /// Masks the bytes of a text attachment. The part then refers to the masked bytes.
    fn mask_attachment(&self, part: &mut Part, on_secret: &mut dyn FnMut(&str)) -> StoreResult<()> {
        let Part::Attachment { media_type, hash: Some(hash), bytes, .. } = part else { return Ok(()) };
        if *bytes > MAX_ATTACHMENT || !is_textual(media_type) {
            return Ok(());
        }
        let found = match self.source.attachment(*hash) {
            Ok(found) => found,
            Err(StoreError::NotFound { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        let Ok(text) = str::from_utf8(&found) else { return Ok(()) };
        if let Cow::Owned(masked) = self.scanner.mask(text, on_secret) {
            let new = ContentHash::from_bytes(*blake3::hash(masked.as_bytes()).as_bytes());
            self.originals.borrow_mut().insert(new, *hash);
            (*hash, *bytes) = (new, masked.len() as u64);
        }
        Ok(())
    }
}

impl DocumentSource for RedactedSource<'_> {
    fn session(&self) -> StoreResult<Session> {
        self.scan(
            || "the session's own fields".into(),
            self.source.session()?,
            |session, on_secret| {
                self.scanner.mask_text(&mut session.name, on_secret);
                self.scanner.mask_fields(session.extra.as_map_mut(), on_secret);
                if let Some(path) = session.origin.as_mut().and_then(|origin| origin.path.as_mut()) {
                    self.scanner.mask_text(path, on_secret);
                }
                if let Some(project) = &mut session.project {
                    self.scanner.mask_text(&mut project.directory, on_secret);
                    project
                        .repository
                        .iter_mut()
                        .for_each(|repository| self.scanner.mask_text(repository, on_secret));
                }
                Ok(())
            },
        )
    }

    fn branches(&self) -> StoreResult<Vec<Branch>> {
        let branches = self.source.branches()?;
        *self.names.borrow_mut() = branches.iter().map(|branch| (branch.id, branch.name.clone())).collect();
        branches
            .into_iter()
            .map(|branch| {
                self.scan(
                    || "the name of a branch".into(),
                    branch,
                    |branch, on_secret| {
                        self.scanner.mask_text(&mut branch.name, on_secret);
                        Ok(())
                    },
                )
            })
            .collect()
    }

    fn messages(&self, branch: BranchId, after: Seq, limit: u32) -> StoreResult<Vec<Message>> {
        let messages = self.source.messages(branch, after, limit)?;
        let name = self.names.borrow().get(&branch).cloned().unwrap_or_default();
        let scanned = messages.into_iter().map(|message| {
            let seq = message.seq;
            let location = || format!("message {seq} of {name}");
            self.scan(location, message, |message, on_secret| {
                let content = &mut message.content;
                for part in &mut content.parts {
                    self.scanner.mask_part(part, on_secret);
                    self.mask_attachment(part, on_secret)?;
                }
                for name in content.agent.iter_mut().chain(&mut content.model) {
                    self.scanner.mask_text(name, on_secret);
                }
                self.scanner.mask_fields(content.extra.as_map_mut(), on_secret);
                Ok(())
            })
        });
        scanned.collect()
    }

    fn runs(&self) -> StoreResult<Vec<RunId>> {
        self.source.runs()
    }

    fn run(&self, id: RunId) -> StoreResult<Run> {
        self.scan(
            || format!("run {id}"),
            self.source.run(id)?,
            |run, on_secret| {
                self.mask_json(&mut run.snapshot, on_secret)?;
                run.events.iter_mut().try_for_each(|event| self.mask_json(event, on_secret))
            },
        )
    }

    fn checkpoints(&self) -> StoreResult<Vec<Checkpoint>> {
        let checkpoints = self.source.checkpoints()?.into_iter().map(|checkpoint| {
            let id = checkpoint.id;
            let location = || format!("the label of checkpoint {id}");
            self.scan(location, checkpoint, |checkpoint, on_secret| {
                checkpoint.label.iter_mut().for_each(|label| self.scanner.mask_text(label, on_secret));
                Ok(())
            })
        });
        checkpoints.collect()
    }

    fn state(&self, checkpoint: CheckpointId) -> StoreResult<CheckpointState> {
        let location = || format!("the state of checkpoint {checkpoint}");
        self.scan(location, self.source.state(checkpoint)?, |state, on_secret| {
            self.mask_json(state, on_secret)
        })
    }

    fn attachment(&self, hash: ContentHash) -> StoreResult<Vec<u8>> {
        let Some(original) = self.originals.borrow().get(&hash).copied() else {
            return self.source.attachment(hash);
        };
        let bytes = self.source.attachment(original)?;
        let masked = str::from_utf8(&bytes).map(|text| self.scanner.mask(text, &mut |_| {}).into_owned());
        Ok(masked.map_or(bytes, String::into_bytes))
    }
}
