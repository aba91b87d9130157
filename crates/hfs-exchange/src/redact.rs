//! Finds secrets in what is about to leave, and masks them.
//!
//! The rules are those of gitleaks and Kingfisher, as the `secrets_scanner` crate carries them, and one of our
//! own for passwords in addresses, which neither has.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;

use hfs_core::{
    Branch, BranchId, Checkpoint, CheckpointId, CheckpointState, ContentHash, Message, Part, Run, RunId, Seq,
    Session, StoreError, StoreResult,
};
use regex::Regex;
use secrets_scanner::{ScanConfig, Scanner};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::export::DocumentSource;

const URL_PASSWORD: &str = r"\b[A-Za-z][A-Za-z0-9+.-]{1,20}://[^\s/:@'\x22]*:([^\s/@'\x22]+)@";
/// Words in a field's name that tell what its value is.
const TELLING: [&str; 7] = ["key", "token", "secret", "pass", "auth", "credential", "pwd"];

/// The rules, compiled.
pub struct Secrets {
    scanner: Scanner,
    url_password: Regex,
}

/// A secret inside a text.
struct Found {
    start: usize,
    end: usize,
    rule: String,
}

impl Secrets {
    /// Compiles the rules, which takes a moment: keep them for as many exports as there are.
    ///
    /// # Errors
    /// When the rules that came with the program are broken.
    pub fn new() -> StoreResult<Self> {
        let broken = |error: &dyn std::fmt::Display| StoreError::Unsupported {
            message: format!("the rules for secrets cannot be compiled: {error}"),
        };
        let config = ScanConfig {
            honor_allow_markers: false,
            capture_context: false,
            redact: true,
            ..ScanConfig::default()
        };
        Ok(Self {
            scanner: Scanner::from_bundled().map_err(|error| broken(&error))?.with_config(config),
            url_password: Regex::new(URL_PASSWORD).map_err(|error| broken(&error))?,
        })
    }

    /// The secrets in a text, in order, none overlapping another.
    fn find(&self, text: &str) -> Vec<Found> {
        let mut all: Vec<Found> = Vec::new();
        for found in self.scanner.scan_content("message", text) {
            all.push(Found {
                start: found.secret_start_offset,
                end: found.secret_end_offset,
                rule: found.rule_id,
            });
        }
        for found in self.url_password.captures_iter(text).filter_map(|found| found.get(1)) {
            all.push(Found { start: found.start(), end: found.end(), rule: "password-in-url".into() });
        }
        // Of secrets that overlap, the longest names the whole.
        all.retain(|found| found.start < found.end && text.get(found.start..found.end).is_some());
        all.sort_by(|a, b| a.start.cmp(&b.start).then(b.end.cmp(&a.end)));
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

    fn mask_part(&self, part: &mut Part, tell: &mut dyn FnMut(&str)) {
        let mut text = |text: &mut String| {
            if let Cow::Owned(masked) = self.mask(text, tell) {
                *text = masked;
            }
        };
        match part {
            Part::Text { text: said } | Part::Thinking { text: said, .. } => text(said),
            Part::ToolResult { output, .. } => text(output),
            Part::Attachment { name: Some(name), .. } => text(name),
            Part::Attachment { name: None, .. } => {}
            Part::ToolCall { input: value, .. } | Part::Opaque { raw: value, .. } => {
                self.mask_value(value, "", tell);
            }
        }
    }
}

/// What was found, and where.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SecretReport {
    /// How many secrets in all.
    pub total: u64,
    /// How many by each rule.
    pub by_rule: BTreeMap<String, u64>,
    /// Where: `message 3 of main`, `the session's name` ...
    pub places: Vec<String>,
}

/// A session on its way out, in which secrets are looked for and, if that is wanted, masked.
///
/// Bytes of attachments and ids are left as they are.
pub struct Guarded<'a> {
    source: &'a dyn DocumentSource,
    secrets: &'a Secrets,
    mask: bool,
    names: RefCell<BTreeMap<BranchId, String>>,
    /// By place, so that reading the same page twice counts once.
    found: RefCell<BTreeMap<String, BTreeMap<String, u64>>>,
}

impl<'a> Guarded<'a> {
    /// Looks for secrets, and masks them when `mask`.
    #[must_use]
    pub fn new(source: &'a dyn DocumentSource, secrets: &'a Secrets, mask: bool) -> Self {
        Self { source, secrets, mask, names: RefCell::default(), found: RefCell::default() }
    }

    /// What has been found in what has been read so far.
    #[must_use]
    pub fn report(&self) -> SecretReport {
        let mut report = SecretReport::default();
        for (place, rules) in self.found.borrow().iter() {
            report.places.push(place.clone());
            for (rule, count) in rules {
                report.total += count;
                *report.by_rule.entry(rule.clone()).or_default() += count;
            }
        }
        report
    }

    /// Runs `edit` over something, notes what it tells, and gives back the edited form or the original.
    fn guard<T: Clone>(
        &self,
        place: impl FnOnce() -> String,
        original: T,
        edit: impl FnOnce(&mut T, &mut dyn FnMut(&str)) -> StoreResult<()>,
    ) -> StoreResult<T> {
        let mut rules: BTreeMap<String, u64> = BTreeMap::new();
        let mut edited = original.clone();
        edit(&mut edited, &mut |rule| *rules.entry(rule.to_owned()).or_default() += 1)?;
        if rules.is_empty() {
            return Ok(original);
        }
        self.found.borrow_mut().insert(place(), rules);
        Ok(if self.mask { edited } else { original })
    }

    /// Masks what is written through its JSON form.
    fn by_json<T: Clone + Serialize + DeserializeOwned>(
        &self,
        edited: &mut T,
        tell: &mut dyn FnMut(&str),
    ) -> StoreResult<()> {
        let told = |error: serde_json::Error| StoreError::Corrupt { message: error.to_string() };
        let mut value = serde_json::to_value(&*edited).map_err(told)?;
        self.secrets.mask_value(&mut value, "", tell);
        *edited = serde_json::from_value(value).map_err(told)?;
        Ok(())
    }

    fn text(&self, text: &mut String, tell: &mut dyn FnMut(&str)) {
        if let Cow::Owned(masked) = self.secrets.mask(text, tell) {
            *text = masked;
        }
    }
}

impl DocumentSource for Guarded<'_> {
    fn session(&self) -> StoreResult<Session> {
        self.guard(
            || "the session's own fields".into(),
            self.source.session()?,
            |session, tell| {
                self.text(&mut session.name, tell);
                self.secrets.mask_fields(&mut session.extra, tell);
                if let Some(project) = &mut session.project {
                    self.text(&mut project.directory, tell);
                    project.repository.iter_mut().for_each(|repository| self.text(repository, tell));
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
                self.guard(
                    || "the name of a branch".into(),
                    branch,
                    |branch, tell| {
                        self.text(&mut branch.name, tell);
                        Ok(())
                    },
                )
            })
            .collect()
    }

    fn messages(&self, branch: BranchId, after: Seq, limit: u32) -> StoreResult<Vec<Message>> {
        let messages = self.source.messages(branch, after, limit)?;
        let name = self.names.borrow().get(&branch).cloned().unwrap_or_default();
        let guarded = messages.into_iter().map(|message| {
            let seq = message.seq;
            let place = || format!("message {seq} of {name}");
            self.guard(place, message, |message, tell| {
                for part in &mut message.content.parts {
                    self.secrets.mask_part(part, tell);
                }
                self.secrets.mask_fields(&mut message.content.extra, tell);
                Ok(())
            })
        });
        guarded.collect()
    }

    fn runs(&self) -> StoreResult<Vec<RunId>> {
        self.source.runs()
    }

    fn run(&self, id: RunId) -> StoreResult<Run> {
        self.guard(
            || format!("run {id}"),
            self.source.run(id)?,
            |run, tell| {
                self.by_json(&mut run.snapshot, tell)?;
                run.events.iter_mut().try_for_each(|event| self.by_json(event, tell))
            },
        )
    }

    fn checkpoints(&self) -> StoreResult<Vec<Checkpoint>> {
        let checkpoints = self.source.checkpoints()?.into_iter().map(|checkpoint| {
            let id = checkpoint.id;
            let place = || format!("the label of checkpoint {id}");
            self.guard(place, checkpoint, |checkpoint, tell| {
                checkpoint.label.iter_mut().for_each(|label| self.text(label, tell));
                Ok(())
            })
        });
        checkpoints.collect()
    }

    fn state(&self, checkpoint: CheckpointId) -> StoreResult<CheckpointState> {
        let place = || format!("the state of checkpoint {checkpoint}");
        self.guard(place, self.source.state(checkpoint)?, |state, tell| self.by_json(state, tell))
    }

    fn attachment(&self, hash: ContentHash) -> StoreResult<Vec<u8>> {
        self.source.attachment(hash)
    }
}
