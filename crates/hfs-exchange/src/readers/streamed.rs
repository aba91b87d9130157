//! Sends a session, message by message, while the source is being read.

use hfs_core::{ForeignBranch, ForeignSession, ImportError, ImportEvent, Part};
use serde_json::{Value, json};

use super::conversation::ImportedMessage;
use crate::readers::{AFTER, BEFORE, Output, RAW, RECORDS, ReportBuilder};
use crate::records::JsonRecord;

/// Limit on the bytes of `StreamedSession::other_records`.
const MAX_BUFFERED_BYTES: usize = 48 << 20;

/// A session that is sent while it is read. The newest message stays pending, because later
/// records may add parts to it or may have to be stored with it.
pub(crate) struct StreamedSession<'a> {
    out: Output<'a>,
    /// The session-level fields; `None` after they were sent.
    session: Option<ForeignSession>,
    /// The newest message, with the key of its branch.
    pending: Option<(usize, ImportedMessage)>,
    /// Records that are not messages and follow the newest message.
    other_records: Vec<Value>,
    buffered_bytes: usize,
    /// Head of each branch, including the pending message.
    heads: Vec<u64>,
    branch: usize,
    pub report: ReportBuilder,
}

impl<'a> StreamedSession<'a> {
    pub(crate) fn new(out: Output<'a>, session: ForeignSession) -> Self {
        Self {
            out,
            session: Some(session),
            pending: None,
            other_records: Vec::new(),
            buffered_bytes: 0,
            heads: vec![0],
            branch: 0,
            report: ReportBuilder::default(),
        }
    }

    pub(crate) fn report_progress(&mut self, bytes: u64) -> Result<(), ImportError> {
        self.out.progress(bytes)
    }

    /// The current branch, and the seq of its newest message.
    pub(crate) fn position(&self) -> (usize, u64) {
        (self.branch, self.heads.get(self.branch).copied().unwrap_or(0))
    }

    /// Adds a record that is not a message.
    pub(crate) fn push_other(&mut self, record: JsonRecord, bytes: usize, line: u64) {
        if self.buffered_bytes + bytes > MAX_BUFFERED_BYTES {
            self.report.dropped(Some(line), "too many consecutive records that are not messages");
            return;
        }
        self.report.opaque();
        self.buffered_bytes += bytes;
        let fields = record.fields;
        self.other_records.push(record.raw.map_or_else(|| Value::Object(fields), |raw| json!({ RAW: raw })));
    }

    /// The newest message of the current branch, if it has not been sent yet.
    pub(crate) fn newest(&mut self) -> Option<&mut ImportedMessage> {
        let branch = self.branch;
        self.pending.as_mut().filter(|(key, _)| *key == branch).map(|(_, message)| message)
    }

    /// Stores a record with the newest message, together with the records before it that are not messages.
    pub(crate) fn attach_record(&mut self, record: Value) {
        let others = std::mem::take(&mut self.other_records);
        self.buffered_bytes = 0;
        let Some((_, message)) = &mut self.pending else { return };
        let mut records: Vec<Value> = others.into_iter().map(|other| json!({ "$event": other })).collect();
        records.push(record);
        match message.draft.extra.get_mut(RECORDS) {
            Some(Value::Array(stored)) => stored.append(&mut records),
            _ => {
                message.draft.extra.insert(RECORDS.into(), Value::Array(records));
            }
        }
    }

    /// Adds a message.
    pub(crate) fn push_message(&mut self, mut message: ImportedMessage) -> Result<(), ImportError> {
        self.flush()?;
        let others = std::mem::take(&mut self.other_records);
        self.buffered_bytes = 0;
        if !others.is_empty() {
            message.draft.extra.insert(BEFORE.into(), Value::Array(others));
        }
        if let Some(head) = self.heads.get_mut(self.branch) {
            *head += 1;
        }
        self.pending = Some((self.branch, message));
        Ok(())
    }

    /// Begins a branch that forks from `branch` after message `seq`.
    pub(crate) fn fork(&mut self, branch: usize, seq: u64) -> Result<(), ImportError> {
        // A message behind the fork stays pending: it gets the records that follow if no other message does.
        if self.heads.get(branch).is_none_or(|head| *head <= seq) {
            self.flush()?;
        }
        self.begin()?;
        let key = self.heads.len();
        let fork = ForeignBranch { key, parent: branch, forked_at: seq, id: None, name: None, undone: false };
        self.out.send(ImportEvent::Branch(fork))?;
        self.heads.push(seq);
        self.branch = key;
        Ok(())
    }

    fn begin(&mut self) -> Result<(), ImportError> {
        if let Some(session) = self.session.take() {
            self.out.session(session)?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ImportError> {
        let Some((branch, message)) = self.pending.take() else { return Ok(()) };
        self.begin()?;
        self.out.message(branch, message.draft, message.attachments)
    }

    /// Ends the session.
    pub(crate) fn finish(mut self) -> Result<(), ImportError> {
        let others = std::mem::take(&mut self.other_records);
        if !others.is_empty() {
            match (&mut self.pending, &mut self.session) {
                (Some((_, newest)), _) => newest.draft.extra.insert(AFTER.into(), Value::Array(others)),
                (None, Some(session)) => session.extra.insert(RECORDS.into(), Value::Array(others)),
                (None, None) => None,
            };
        }
        self.flush()?;
        self.begin()?;
        if self.branch > 0 {
            self.out.send(ImportEvent::CurrentBranch(self.branch))?;
        }
        self.out.send(ImportEvent::End(self.report.finish()))
    }
}

/// Whether a message contains text or a tool call. If it does, further text or reasoning belongs to
/// the next message.
pub(crate) fn has_output(message: &ImportedMessage) -> bool {
    message.draft.parts.iter().any(|part| matches!(part, Part::Text { .. } | Part::ToolCall { .. }))
}
