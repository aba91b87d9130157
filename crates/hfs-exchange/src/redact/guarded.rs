//! A session that is looked through on its way out.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;

use hfs_core::{
    Branch, BranchId, Checkpoint, CheckpointId, CheckpointState, ContentHash, Message, Part, Run, RunId, Seq,
    Session, StoreError, StoreResult,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Secrets;
use crate::export::DocumentSource;

/// Larger attachments are not looked through.
const MAX_ATTACHMENT: u64 = 32 << 20;

/// Whether bytes of this kind are text that people and programs read.
fn is_textual(media_type: &str) -> bool {
    let kind = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let textual = ["json", "xml", "yaml", "toml", "javascript", "x-sh", "octet-stream"];
    kind.starts_with("text/") || kind.is_empty() || textual.iter().any(|word| kind.ends_with(word))
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
/// Ids and the bytes of attachments that are no text, such as pictures, are left as they are.
pub struct Guarded<'a> {
    source: &'a dyn DocumentSource,
    secrets: &'a Secrets,
    mask: bool,
    names: RefCell<BTreeMap<BranchId, String>>,
    /// By the hash of a masked attachment, that of the one it was.
    originals: RefCell<BTreeMap<ContentHash, ContentHash>>,
    /// By place, so that reading the same page twice counts once.
    found: RefCell<BTreeMap<String, BTreeMap<String, u64>>>,
}

impl<'a> Guarded<'a> {
    /// Looks for secrets, and masks them when `mask`.
    #[must_use]
    pub fn new(source: &'a dyn DocumentSource, secrets: &'a Secrets, mask: bool) -> Self {
        Self {
            source,
            secrets,
            mask,
            names: RefCell::default(),
            originals: RefCell::default(),
            found: RefCell::default(),
        }
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
        self.secrets.check()?;
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

    /// Masks what an attachment says, if it is text. The part then refers to the masked bytes.
    fn attached(&self, part: &mut Part, tell: &mut dyn FnMut(&str)) -> StoreResult<()> {
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
        if let Cow::Owned(masked) = self.secrets.mask(text, tell) {
            let new = ContentHash::from_bytes(*blake3::hash(masked.as_bytes()).as_bytes());
            self.originals.borrow_mut().insert(new, *hash);
            (*hash, *bytes) = (new, masked.len() as u64);
        }
        Ok(())
    }
}

impl DocumentSource for Guarded<'_> {
    fn session(&self) -> StoreResult<Session> {
        self.guard(
            || "the session's own fields".into(),
            self.source.session()?,
            |session, tell| {
                self.secrets.mask_text(&mut session.name, tell);
                self.secrets.mask_fields(session.extra.as_map_mut(), tell);
                if let Some(path) = session.origin.as_mut().and_then(|origin| origin.path.as_mut()) {
                    self.secrets.mask_text(path, tell);
                }
                if let Some(project) = &mut session.project {
                    self.secrets.mask_text(&mut project.directory, tell);
                    project
                        .repository
                        .iter_mut()
                        .for_each(|repository| self.secrets.mask_text(repository, tell));
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
                        self.secrets.mask_text(&mut branch.name, tell);
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
                let content = &mut message.content;
                for part in &mut content.parts {
                    self.secrets.mask_part(part, tell);
                    self.attached(part, tell)?;
                }
                for name in content.agent.iter_mut().chain(&mut content.model) {
                    self.secrets.mask_text(name, tell);
                }
                self.secrets.mask_fields(content.extra.as_map_mut(), tell);
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
                checkpoint.label.iter_mut().for_each(|label| self.secrets.mask_text(label, tell));
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
        let Some(original) = self.originals.borrow().get(&hash).copied() else {
            return self.source.attachment(hash);
        };
        let bytes = self.source.attachment(original)?;
        let masked = str::from_utf8(&bytes).map(|text| self.secrets.mask(text, &mut |_| {}).into_owned());
        Ok(masked.map_or(bytes, String::into_bytes))
    }
}
