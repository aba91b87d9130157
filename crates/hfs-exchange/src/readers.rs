//! One reader per format, and the code that they share: the trait, the keys in `extra`, and the report of an
//! import.

pub(crate) mod aider;
pub(crate) mod chatgpt;
pub(crate) mod claude_ai;
pub(crate) mod claude_code;
pub(crate) mod cline;
pub(crate) mod codex;
pub(crate) mod content;
pub(crate) mod content_blocks;
pub(crate) mod conversation;
pub(crate) mod copilot;
pub(crate) mod entry_tree;
pub(crate) mod gemini;
pub(crate) mod genai;
pub(crate) mod goose;
pub(crate) mod hfs;
pub(crate) mod langgraph;
pub(crate) mod llm;
pub(crate) mod openai;
pub(crate) mod openai_agents;
pub(crate) mod opencode;
pub(crate) mod pi;
pub(crate) mod python;
pub(crate) mod qwen;
pub(crate) mod sharegpt;
pub(crate) mod streamed;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use hfs_core::{
    Attachment, BranchKey, Flow, ForeignSession, ImportError, ImportEvent, ImportReceiver, ImportReport,
    ImportWarning, MessageDraft, MessageId, plural,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::detect::FormatProbe;
use crate::resume::SessionVersions;
use crate::transcript::MESSAGE;
use crate::{Format, Source, resume};

/// Further warnings are only counted.
const MAX_WARNINGS: usize = 1_000;

/// Key in a message's `extra`: flags that have the same meaning in every format.
pub(crate) const FLAGS: &str = "flags";
/// Key in the `extra` of a message, or of a session without messages: the records that it was created from.
pub(crate) const RECORDS: &str = "records";
/// Key in a message's `extra`: the records before it that are not messages.
pub(crate) const BEFORE: &str = "before";
/// Key in the last message's `extra`: the records after it that are not messages.
pub(crate) const AFTER: &str = "after";
/// Key of the original text of a record that a JSON value does not represent without loss.
pub(crate) const RAW: &str = "$raw";

/// The message of hfs that a record names in its field [`WRITTEN`](crate::transcript::WRITTEN), because an export wrote
/// the record.
pub(crate) fn written_from(field: &Value) -> Option<MessageId> {
    field.get(MESSAGE)?.as_str()?.parse().ok()
}

/// Imports one format.
pub(crate) trait Reader: Sync {
    /// The format that this reader imports.
    fn format(&self) -> Format;

    /// Whether the probed source has the reader's format.
    fn probe(&self, probe: &FormatProbe) -> bool;

    /// Sends every session of the source.
    fn read(&self, source: &Source, out: &mut Output<'_>) -> Result<(), ImportError>;
}

/// The files about a session that its reader reads besides the transcript at `path`, apart from companions. They may not
/// exist.
pub(crate) fn files_beside(path: &Path) -> Vec<PathBuf> {
    let mut files = cline::files_beside(path);
    files.extend(copilot::file_beside(path));
    files
}

/// Where a reader sends its sessions: the receiver, with what readers have in common.
pub(crate) struct Output<'a> {
    source: &'a Source,
    receiver: &'a mut dyn ImportReceiver,
    state: &'a mut OutputState,
    /// Where an earlier import ended, if the receiver wants only what has changed since.
    resume_point: Option<&'a [u8]>,
}

/// What was sent up to now.
#[derive(Debug, Default)]
pub(crate) struct OutputState {
    /// Whether the receiver wants nothing more of the current session.
    is_skipping: bool,
    /// Whether the current session has content, or is an hfs document.
    has_content: bool,
    /// Number of sessions that the receiver got.
    pub(crate) sessions: u64,
    /// Number of sessions that were left out because they have no messages.
    pub(crate) empty_sessions: u64,
    /// Number of sessions that were left out because they have not changed.
    pub(crate) unchanged_sessions: u64,
    /// Id of the current session, and of those that are complete.
    open: Option<String>,
    ids: Vec<String>,
    /// Ids of the sessions that are not sent again.
    complete: HashSet<String>,
}

impl OutputState {
    /// Prepares for another reading of the same source, from which the sessions that are complete are left out.
    pub(crate) fn begin_again(&mut self) {
        self.complete.extend(self.ids.drain(..));
        self.is_skipping = false;
    }
}

impl<'a> Output<'a> {
    pub(crate) fn new(
        source: &'a Source,
        receiver: &'a mut dyn ImportReceiver,
        state: &'a mut OutputState,
        resume_point: Option<&'a [u8]>,
    ) -> Self {
        Self { source, receiver, state, resume_point }
    }

    /// The state that the reader of this name had at the end of an earlier import, if the source has only grown since.
    pub(crate) fn resume<S: DeserializeOwned>(&self, reader: &str) -> Option<S> {
        resume::decode(self.source, reader, self.resume_point?)
    }

    /// Whether [`resume`](Self::resume) returns a state.
    pub(crate) fn is_grown(&self, reader: &str) -> bool {
        self.resume_point
            .and_then(|point| resume::reader_of(self.source, point))
            .is_some_and(|name| name == reader)
    }

    /// Sends the state of the reader of this name, with which the next import continues at this offset.
    pub(crate) fn resume_point(
        &mut self,
        offset: u64,
        reader: &str,
        state: &impl Serialize,
    ) -> Result<(), ImportError> {
        match resume::encode(self.source, offset, reader, state) {
            Some(point) => self.send(ImportEvent::ResumePoint(point)),
            None => Ok(()),
        }
    }

    /// The versions of sessions that the reader of this name has found at an earlier import.
    pub(crate) fn known_versions(&self, reader: &str) -> SessionVersions {
        let known = self.resume_point.and_then(|point| SessionVersions::decode(reader, point));
        known.unwrap_or_default()
    }

    /// Sends the versions of all sessions, after the last one. The next import of the source leaves out those that have not changed.
    pub(crate) fn versions(&mut self, reader: &str, versions: &SessionVersions) -> Result<(), ImportError> {
        self.state.is_skipping = false;
        match versions.encode(reader) {
            Some(point) => self.send(ImportEvent::ResumePoint(point)),
            None => Ok(()),
        }
    }

    /// Counts a session that has not changed since an earlier import.
    pub(crate) const fn leave_out_unchanged_session(&mut self) {
        self.state.unchanged_sessions += 1;
    }

    /// Whether the receiver wants nothing more of the newest session.
    pub(crate) const fn is_skipping(&self) -> bool {
        self.state.is_skipping
    }

    /// The same output, for a value that lives shorter.
    pub(crate) fn reborrow(&mut self) -> Output<'_> {
        let Self { source, receiver, state, resume_point } = self;
        Output { source, receiver: &mut **receiver, state, resume_point: *resume_point }
    }

    /// Begins a session. Returns whether the receiver wants it; if not, all events up to the next session are ignored, and the
    /// reader may omit them.
    pub(crate) fn session(&mut self, session: ForeignSession) -> Result<bool, ImportError> {
        self.state.is_skipping = self.state.complete.contains(&session.origin.id);
        if self.state.is_skipping {
            return Ok(false);
        }
        self.state.has_content = session.id.is_some();
        self.state.open = Some(session.origin.id.clone());
        self.send(ImportEvent::Session(Box::new(session)))?;
        // A session that the receiver skips is complete.
        if self.state.is_skipping {
            self.state.sessions += 1;
            self.state.ids.extend(self.state.open.take());
        }
        Ok(!self.state.is_skipping)
    }

    /// Sends an event of the current session.
    pub(crate) fn send(&mut self, mut event: ImportEvent) -> Result<(), ImportError> {
        if self.state.is_skipping {
            return Ok(());
        }
        match &event {
            ImportEvent::Message { .. } | ImportEvent::Run(_) | ImportEvent::Checkpoint(_) => {
                self.state.has_content = true;
            }
            // The receiver discards a session without an end.
            ImportEvent::End(_) if !self.state.has_content => {
                self.state.empty_sessions += 1;
                self.state.ids.extend(self.state.open.take());
                return Ok(());
            }
            ImportEvent::End(_) => {
                self.state.sessions += 1;
                self.state.ids.extend(self.state.open.take());
            }
            ImportEvent::Session(_)
            | ImportEvent::Branch(_)
            | ImportEvent::Attachment(_)
            | ImportEvent::CurrentBranch(_)
            | ImportEvent::ResumePoint(_) => {}
        }
        if let (ImportEvent::End(report), Some(damage)) = (&mut event, self.source.damage()) {
            report.records += 1;
            report.dropped += 1;
            report.warnings.push(ImportWarning { line: None, message: damage.to_owned() });
        }
        let flow = self.receiver.receive(event)?;
        self.follow(flow)
    }

    /// Sends the next message of a branch, after its attachments. A message of injected context is marked.
    pub(crate) fn message(
        &mut self,
        branch: BranchKey,
        mut message: MessageDraft,
        attachments: impl IntoIterator<Item = Attachment>,
    ) -> Result<(), ImportError> {
        message.mark_injected_context();
        for attachment in attachments {
            self.send(ImportEvent::Attachment(attachment))?;
        }
        self.send(ImportEvent::Message { branch, message })
    }

    /// Counts a session that has neither messages nor an identity.
    pub(crate) const fn leave_out_empty_session(&mut self) {
        self.state.empty_sessions += 1;
    }

    /// Reports the number of bytes of the source that have been read.
    pub(crate) fn progress(&mut self, bytes: u64) -> Result<(), ImportError> {
        let flow = self.receiver.progress(bytes);
        self.follow(flow)
    }

    fn follow(&mut self, flow: Flow) -> Result<(), ImportError> {
        match flow {
            Flow::Continue => {}
            Flow::SkipSession => self.state.is_skipping = true,
            Flow::Stop => return Err(ImportError::Interrupted { path: self.source.name() }),
        }
        Ok(())
    }
}

/// Builds the report of an import. Every record is counted exactly once, as mapped, opaque or dropped.
#[derive(Debug, Default)]
pub(crate) struct ReportBuilder {
    report: ImportReport,
    suppressed: u64,
}

impl ReportBuilder {
    /// Counts a record that became part of a session.
    pub(crate) fn mapped(&mut self) {
        self.report.records += 1;
        self.report.mapped += 1;
    }

    /// Counts a record that is stored verbatim.
    pub(crate) fn opaque(&mut self) {
        self.report.records += 1;
        self.report.opaque += 1;
    }

    /// Counts a record that is not imported, and adds a warning.
    pub(crate) fn dropped(&mut self, line: Option<u64>, why: impl Into<String>) {
        self.report.records += 1;
        self.report.dropped += 1;
        self.warn(line, why);
    }

    /// Whether a record was dropped.
    pub(crate) const fn has_dropped(&self) -> bool {
        self.report.dropped > 0
    }

    pub(crate) fn warn(&mut self, line: Option<u64>, message: impl Into<String>) {
        if self.report.warnings.len() < MAX_WARNINGS {
            self.report.warnings.push(ImportWarning { line, message: message.into() });
        } else {
            self.suppressed += 1;
        }
    }

    /// Adds the counts and warnings of another report.
    pub(crate) fn merge(&mut self, other: Self) {
        let report = other.report;
        self.report.records += report.records;
        self.report.mapped += report.mapped;
        self.report.opaque += report.opaque;
        self.report.dropped += report.dropped;
        self.suppressed += other.suppressed;
        for warning in report.warnings {
            self.warn(warning.line, warning.message);
        }
    }

    /// The first warning, or `otherwise`.
    pub(crate) fn first_reason(self, otherwise: &str) -> String {
        match self.report.warnings.into_iter().next() {
            Some(ImportWarning { line: Some(line), message }) => format!("line {line}: {message}"),
            Some(ImportWarning { line: None, message }) => message,
            None => otherwise.to_owned(),
        }
    }

    pub(crate) fn finish(mut self) -> ImportReport {
        if self.suppressed > 0 {
            let message = format!("and {}", plural(self.suppressed, "more warning"));
            self.report.warnings.push(ImportWarning { line: None, message });
        }
        self.report
    }
}

/// The beginning of a text that could not be read, for a warning.
pub(crate) fn excerpt(text: &str) -> String {
    const SHOWN: usize = 60;
    let mut shown: String = text.chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}
