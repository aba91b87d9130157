//! Finds secrets in exported sessions and masks them.
//!
//! [`RedactedSource`] wraps the source of an export, so an exporter cannot bypass the search. The search itself is in
//! the crate `hfs_secrets`; this module applies it to every text of a session.

mod attachment;
mod json;
mod pdf;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use hfs_core::{
    Branch, BranchId, Checkpoint, CheckpointId, CheckpointState, ContentHash, Message, Part,
    PassthroughFields, Run, RunId, Seq, Session, StoreError, StoreResult,
};
use hfs_secrets::{Secret, find, replace};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::export::DocumentSource;
use attachment::Content;

/// What an export does with the secrets in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redaction {
    /// Counts them and writes everything unchanged.
    Count,
    /// Masks them.
    Mask,
    /// Masks them, and leaves out what cannot be examined, such as pictures.
    Strict,
}

/// Content that cannot be examined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unexamined {
    /// A picture.
    Picture,
    /// Sound or a film.
    Recording,
    /// A PDF file whose text cannot be read.
    Pdf,
    /// A file of another format that is not text.
    Binary,
    /// A file that is too large.
    Large,
    /// Data in base64 that is not text.
    EncodedData,
    /// Reasoning that only the provider can decrypt, or its signature.
    EncryptedReasoning,
}

impl Unexamined {
    /// A count of such content in words.
    #[must_use]
    pub fn describe(self, count: u64) -> String {
        let (one, several) = match self {
            Self::Picture => ("picture", "pictures"),
            Self::Recording => ("recording", "recordings"),
            Self::Pdf => ("PDF", "PDFs"),
            Self::Binary => ("binary file", "binary files"),
            Self::Large => ("large file", "large files"),
            Self::EncodedData => ("piece of encoded data", "pieces of encoded data"),
            Self::EncryptedReasoning => ("piece of encrypted reasoning", "pieces of encrypted reasoning"),
        };
        format!("{count} {}", if count == 1 { one } else { several })
    }
}

/// The secrets in an export. Contains no text of the session.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SecretReport {
    /// Total number of secrets.
    pub total: u64,
    /// Number of secrets for each label, such as `GitHub token`.
    pub by_label: BTreeMap<&'static str, u64>,
    /// Where secrets were found, such as `message 3`.
    pub locations: Vec<String>,
    /// Number of contents that could not be examined.
    pub unexamined: BTreeMap<Unexamined, u64>,
    /// Number of files that were left out because of a secret in them that cannot be masked.
    pub left_out: u64,
}

/// A part of a session, without any of its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Location {
    Session,
    BranchName(BranchId),
    /// The branch is the position in the list of branches.
    Message(usize, Seq, BranchId),
    Run(RunId),
    CheckpointLabel(CheckpointId),
    CheckpointState(CheckpointId),
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session => f.write_str("the session's name or fields"),
            Self::BranchName(id) => write!(f, "the name of branch {}", id.short()),
            Self::Message(0, seq, _) => write!(f, "message {seq}"),
            Self::Message(_, seq, id) => write!(f, "message {seq} of branch {}", id.short()),
            Self::Run(id) => write!(f, "run {}", id.short()),
            Self::CheckpointLabel(id) => write!(f, "the label of checkpoint {}", id.short()),
            Self::CheckpointState(id) => write!(f, "the state of checkpoint {}", id.short()),
        }
    }
}

/// What was found at one location.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Tally {
    secrets: BTreeMap<&'static str, u64>,
    unexamined: BTreeMap<Unexamined, u64>,
    left_out: u64,
}

impl Tally {
    fn is_empty(&self) -> bool {
        self.secrets.is_empty() && self.unexamined.is_empty() && self.left_out == 0
    }

    fn add(&mut self, secrets: &[Secret]) {
        for secret in secrets {
            *self.secrets.entry(secret.label).or_default() += 1;
        }
    }

    fn add_unexamined(&mut self, kind: Unexamined) {
        *self.unexamined.entry(kind).or_default() += 1;
    }
}

/// Examines the texts of one location.
struct Examiner {
    redaction: Redaction,
    tally: Tally,
}

impl Examiner {
    const fn masks(&self) -> bool {
        !matches!(self.redaction, Redaction::Count)
    }

    fn text(&mut self, text: &mut String) {
        let secrets = find(text);
        self.tally.add(&secrets);
        if self.masks() && !secrets.is_empty() {
            *text = replace(text, &secrets).into_owned();
        }
    }

    fn texts<'t>(&mut self, texts: impl IntoIterator<Item = &'t mut String>) {
        texts.into_iter().for_each(|text| self.text(text));
    }

    /// Examines a JSON value. Changes it only if something in it must be masked.
    fn json(&mut self, value: &mut Value) {
        let before = self.tally.clone();
        json::examine(value, self.redaction, &mut self.tally);
        if self.masks() && self.tally != before {
            json::mask(value, self.redaction, json::Numbers::Mask);
        }
    }

    fn fields(&mut self, fields: &mut PassthroughFields) {
        let before = self.tally.clone();
        json::examine_fields(fields.as_map(), self.redaction, &mut self.tally);
        if self.masks() && self.tally != before {
            let mut value = Value::Object(std::mem::take(fields.as_map_mut()));
            json::mask(&mut value, self.redaction, json::Numbers::Mask);
            if let Value::Object(masked) = value {
                *fields = masked.into();
            }
        }
    }

    /// Examines a value of a type of its own in its JSON form.
    fn typed<T: Serialize + DeserializeOwned>(&mut self, typed: &mut T) -> StoreResult<()> {
        let corrupt = |error: serde_json::Error| StoreError::Corrupt { message: error.to_string() };
        let mut value = serde_json::to_value(&*typed).map_err(corrupt)?;
        let before = self.tally.clone();
        json::examine(&value, self.redaction, &mut self.tally);
        if self.masks() && self.tally != before {
            let mut masked = value.clone();
            json::mask(&mut masked, self.redaction, json::Numbers::Mask);
            // Where the type requires a number, a text cannot take its place.
            *typed = serde_json::from_value(masked).or_else(|_| {
                json::mask(&mut value, self.redaction, json::Numbers::Keep);
                serde_json::from_value(value).map_err(corrupt)
            })?;
        }
        Ok(())
    }
}

/// The source of an export, searched for secrets, which are optionally masked.
///
/// Exporters of all formats read a session through this wrapper. Ids of hfs are not changed.
///
/// Masking changes an attachment's bytes and therefore its hash. A masked message refers to the new hash, and
/// `attachment` maps it back to the original bytes and masks them again.
pub struct RedactedSource<'a> {
    source: &'a dyn DocumentSource,
    redaction: Redaction,
    branches: RefCell<Option<Vec<BranchId>>>,
    /// Original hash of each masked attachment, by its new hash.
    originals: RefCell<HashMap<ContentHash, ContentHash>>,
    /// What is known about each attachment that was read.
    examined: RefCell<HashMap<ContentHash, Verdict>>,
    /// Locations that are read twice are counted once.
    found: RefCell<BTreeMap<Location, Tally>>,
}

/// The result of examining an attachment.
#[derive(Debug, Clone)]
enum Verdict {
    Clean,
    /// The secrets in it, and the hash and size of the masked bytes; `None` if they cannot be masked.
    Secret(Vec<Secret>, Option<(ContentHash, u64)>),
    Unexamined(Unexamined),
    /// The store does not have its bytes.
    Missing,
}

impl<'a> RedactedSource<'a> {
    /// Wraps `source`.
    #[must_use]
    pub fn new(source: &'a dyn DocumentSource, redaction: Redaction) -> Self {
        Self {
            source,
            redaction,
            branches: RefCell::default(),
            originals: RefCell::default(),
            examined: RefCell::default(),
            found: RefCell::default(),
        }
    }

    /// The secrets found in the data that has been read so far.
    #[must_use]
    pub fn report(&self) -> SecretReport {
        let mut report = SecretReport::default();
        for (location, tally) in self.found.borrow().iter() {
            if !tally.secrets.is_empty() {
                report.locations.push(location.to_string());
            }
            for (label, count) in &tally.secrets {
                report.total += count;
                *report.by_label.entry(*label).or_default() += count;
            }
            for (kind, count) in &tally.unexamined {
                *report.unexamined.entry(*kind).or_default() += count;
            }
            report.left_out += tally.left_out;
        }
        report
    }

    /// Examines the texts of a location with `edit` and records what was found.
    fn examine<T>(
        &self,
        location: Location,
        mut item: T,
        edit: impl FnOnce(&mut T, &mut Examiner) -> StoreResult<()>,
    ) -> StoreResult<T> {
        let mut examiner = Examiner { redaction: self.redaction, tally: Tally::default() };
        edit(&mut item, &mut examiner)?;
        if !examiner.tally.is_empty() {
            self.found.borrow_mut().insert(location, examiner.tally);
        }
        Ok(item)
    }

    /// The position of a branch in the list of branches.
    fn branch_position(&self, branch: BranchId) -> StoreResult<usize> {
        let mut known = self.branches.borrow_mut();
        let ids = match known.take() {
            Some(ids) => ids,
            None => self.source.branches()?.iter().map(|branch| branch.id).collect(),
        };
        let position = ids.iter().position(|id| *id == branch).unwrap_or(0);
        *known = Some(ids);
        Ok(position)
    }

    fn edit_part(&self, part: &mut Part, examiner: &mut Examiner) -> StoreResult<()> {
        match part {
            Part::Text { text } => examiner.text(text),
            Part::Thinking { text, signature } => {
                examiner.text(text);
                if signature.is_some() {
                    examiner.tally.add_unexamined(Unexamined::EncryptedReasoning);
                    if examiner.redaction == Redaction::Strict {
                        *signature = None;
                    }
                }
            }
            Part::ToolResult { id, output, .. } => examiner.texts([id, output]),
            Part::ToolCall { id, name, input } => {
                examiner.texts([id, name]);
                examiner.json(input);
            }
            Part::Opaque { source, raw } => {
                examiner.text(source);
                examiner.json(raw);
            }
            Part::Attachment { media_type, name, hash, bytes } => {
                examiner.text(media_type);
                examiner.texts(name);
                if let Some(original) = *hash {
                    match self.verdict(original, media_type, *bytes)? {
                        Verdict::Clean | Verdict::Missing => {}
                        Verdict::Secret(secrets, masked) => {
                            examiner.tally.add(&secrets);
                            match masked {
                                Some((new, size)) if examiner.masks() => (*hash, *bytes) = (Some(new), size),
                                None if examiner.masks() => {
                                    examiner.tally.left_out += 1;
                                    *hash = None;
                                }
                                Some(_) | None => {}
                            }
                        }
                        Verdict::Unexamined(kind) => {
                            examiner.tally.add_unexamined(kind);
                            if examiner.redaction == Redaction::Strict {
                                *hash = None;
                            }
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn verdict(&self, hash: ContentHash, media_type: &str, bytes: u64) -> StoreResult<Verdict> {
        if let Some(verdict) = self.examined.borrow().get(&hash) {
            return Ok(verdict.clone());
        }
        let verdict = self.examine_attachment(hash, media_type, bytes)?;
        self.examined.borrow_mut().insert(hash, verdict.clone());
        Ok(verdict)
    }

    fn examine_attachment(&self, hash: ContentHash, media_type: &str, bytes: u64) -> StoreResult<Verdict> {
        if bytes > attachment::MAX_BYTES {
            return Ok(Verdict::Unexamined(Unexamined::Large));
        }
        let found = match self.source.attachment(hash) {
            Ok(found) => found,
            Err(StoreError::NotFound { .. }) => return Ok(Verdict::Missing),
            Err(error) => return Err(error),
        };
        Ok(match attachment::content(media_type, &found) {
            Content::Text(text, encoding) => {
                let secrets = find(&text);
                if secrets.is_empty() {
                    return Ok(Verdict::Clean);
                }
                let masked = encoding.encode(&replace(&text, &secrets));
                let new = ContentHash::from_bytes(*blake3::hash(&masked).as_bytes());
                self.originals.borrow_mut().insert(new, hash);
                Verdict::Secret(secrets, Some((new, masked.len() as u64)))
            }
            Content::ReadOnlyText(file) => match find(&file.text) {
                secrets if !secrets.is_empty() => Verdict::Secret(secrets, None),
                _ if file.is_complete => Verdict::Clean,
                _ => Verdict::Unexamined(Unexamined::Pdf),
            },
            Content::Unexamined(kind) => Verdict::Unexamined(kind),
        })
    }
}

impl DocumentSource for RedactedSource<'_> {
    fn session(&self) -> StoreResult<Session> {
        self.examine(Location::Session, self.source.session()?, |session, examiner| {
            examiner.text(&mut session.name);
            examiner.fields(&mut session.extra);
            if let Some(origin) = &mut session.origin {
                examiner.texts([&mut origin.format, &mut origin.id]);
                examiner.texts(&mut origin.path);
            }
            if let Some(project) = &mut session.project {
                examiner.text(&mut project.directory);
                examiner.texts(&mut project.repository);
            }
            Ok(())
        })
    }

    fn branches(&self) -> StoreResult<Vec<Branch>> {
        let branches = self.source.branches()?;
        *self.branches.borrow_mut() = Some(branches.iter().map(|branch| branch.id).collect());
        // Names are unique in a session, also after masking.
        let mut names: HashSet<String> = HashSet::new();
        branches
            .into_iter()
            .map(|branch| {
                let branch = self.examine(Location::BranchName(branch.id), branch, |branch, examiner| {
                    examiner.text(&mut branch.name);
                    Ok(())
                })?;
                let name = json::unique(branch.name.clone(), |name| names.contains(name));
                names.insert(name.clone());
                Ok(Branch { name, ..branch })
            })
            .collect()
    }

    fn messages(&self, branch: BranchId, after: Seq, limit: u32) -> StoreResult<Vec<Message>> {
        let messages = self.source.messages(branch, after, limit)?;
        let position = self.branch_position(branch)?;
        let examined = messages.into_iter().map(|message| {
            let location = Location::Message(position, message.seq, branch);
            self.examine(location, message, |message, examiner| {
                let content = &mut message.content;
                content.parts.iter_mut().try_for_each(|part| self.edit_part(part, examiner))?;
                examiner.texts(content.agent.iter_mut().chain(&mut content.model));
                if let Some(source) = &mut content.source {
                    examiner.texts([&mut source.format, &mut source.id]);
                }
                examiner.fields(&mut content.extra);
                Ok(())
            })
        });
        examined.collect()
    }

    fn runs(&self) -> StoreResult<Vec<RunId>> {
        self.source.runs()
    }

    fn run(&self, id: RunId) -> StoreResult<Run> {
        self.examine(Location::Run(id), self.source.run(id)?, |run, examiner| {
            examiner.typed(&mut run.snapshot)?;
            run.events.iter_mut().try_for_each(|event| examiner.typed(event))
        })
    }

    fn checkpoints(&self) -> StoreResult<Vec<Checkpoint>> {
        let checkpoints = self.source.checkpoints()?.into_iter().map(|checkpoint| {
            self.examine(Location::CheckpointLabel(checkpoint.id), checkpoint, |checkpoint, examiner| {
                examiner.texts(&mut checkpoint.label);
                Ok(())
            })
        });
        checkpoints.collect()
    }

    fn state(&self, checkpoint: CheckpointId) -> StoreResult<CheckpointState> {
        let state = self.source.state(checkpoint)?;
        self.examine(Location::CheckpointState(checkpoint), state, |state, examiner| examiner.typed(state))
    }

    fn attachment(&self, hash: ContentHash) -> StoreResult<Vec<u8>> {
        let Some(original) = self.originals.borrow().get(&hash).copied() else {
            return self.source.attachment(hash);
        };
        let bytes = self.source.attachment(original)?;
        // Only text is masked, so the media type does not matter.
        Ok(match attachment::content("text/plain", &bytes) {
            Content::Text(text, encoding) => encoding.encode(&hfs_secrets::mask(&text)),
            Content::ReadOnlyText(_) | Content::Unexamined(_) => bytes,
        })
    }
}
