//! Sends a session, message by message, while the source is being read.

use hfs_core::{ForeignBranch, ForeignSession, ImportError, ImportEvent, Part, Role};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::conversation::ImportedMessage;
use crate::readers::{AFTER, BEFORE, Output, RAW, RECORDS, ReportBuilder};
use crate::records::{JsonRecord, RecordPosition};
use crate::resume::LineStart;

/// Limit on the bytes of the records that are buffered because they are stored with a later message.
pub(crate) const MAX_BUFFERED_BYTES: usize = 48 << 20;

/// Why a record is dropped when the limit is reached.
pub(crate) const TOO_MANY_RECORDS: &str = "too many consecutive records that are not messages";

/// Limit on the number of messages that stay pending.
const MAX_PENDING: usize = 64;

/// A session that is sent while it is read. The newest message stays pending, because later
/// records may add parts to it or may have to be stored with it. So does a message with the results of its calls, since its
/// number of tokens may follow them.
pub(crate) struct StreamedSession<'a> {
    out: Output<'a>,
    /// The session-level fields; `None` after they were sent.
    session: Option<ForeignSession>,
    /// The newest message, after the message whose calls it answers, if it does; each with the key of its branch.
    pending: Vec<(usize, ImportedMessage)>,
    /// Records that are not messages and follow the newest message.
    other_records: Vec<Value>,
    buffered_bytes: usize,
    /// Head of each branch, including the pending message.
    heads: Vec<u64>,
    branch: usize,
    /// The current branch of the session itself, while the transcript of a subagent is read.
    main_branch: Option<usize>,
    /// The place before the pending messages, and before the next one.
    pending_place: Option<Place>,
    next_place: Place,
    /// The place after the last line; `None` if the last line may be incomplete.
    end: Option<LineStart>,
    /// Whether more records had to be kept in memory than the limit allows. What is sent then depends on where the reader began.
    has_exceeded_limit: bool,
    pub report: ReportBuilder,
}

/// A place between two messages of a file, and what a reader knows there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// The line of the next record.
    pub start: LineStart,
    /// Head of each branch.
    pub heads: Vec<u64>,
    /// The current branch.
    pub branch: usize,
    /// What else the reader knows.
    pub known: KnownBefore,
}

/// What a reader knows before a record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KnownBefore {
    /// Number of turns of the user.
    pub turns: usize,
    /// The newest turn of the current history, by its index.
    pub newest_turn: Option<usize>,
    /// Time of the record before, in microseconds.
    pub time: Option<i64>,
    /// The current model, by its index.
    pub model: Option<usize>,
}

impl<'a> StreamedSession<'a> {
    pub(crate) fn new(out: Output<'a>, session: ForeignSession) -> Self {
        Self {
            out,
            session: Some(session),
            pending: Vec::new(),
            other_records: Vec::new(),
            buffered_bytes: 0,
            heads: vec![0],
            branch: 0,
            main_branch: None,
            pending_place: None,
            next_place: Place { heads: vec![0], ..Place::default() },
            end: None,
            has_exceeded_limit: false,
            report: ReportBuilder::default(),
        }
    }

    /// A session of which the messages after this place follow.
    pub(crate) fn resumed(out: Output<'a>, session: ForeignSession, place: &Place) -> Self {
        let session = ForeignSession { resumed_after: Some(place.heads.clone()), ..session };
        let heads = place.heads.clone();
        Self { heads, branch: place.branch, next_place: place.clone(), ..Self::new(out, session) }
    }

    /// Notes the place of the next record.
    pub(crate) fn begin_record(&mut self, at: RecordPosition, known: KnownBefore) {
        let start = LineStart { line: at.line, offset: at.bytes };
        // Records that are not messages are stored with the next message, and a place is where a line begins.
        if self.other_records.is_empty() && self.next_place.start.line < start.line {
            let heads = self.heads.clone();
            self.next_place = Place { start, heads, branch: self.branch, known };
        }
        self.end = at.next;
    }

    /// Notes a line without a record.
    pub(crate) const fn skip(&mut self, at: RecordPosition) {
        self.end = at.next;
    }

    /// The place before the pending messages and the place after the last line, if the next import may continue there.
    pub(crate) fn resume_places(&self) -> Option<(&Place, LineStart)> {
        self.pending_place.as_ref().zip(self.end).filter(|_| !self.has_exceeded_limit)
    }

    /// Sends the state of the reader of this name, with which the next import continues at this offset.
    pub(crate) fn resume_point(
        &mut self,
        offset: u64,
        reader: &str,
        state: &impl Serialize,
    ) -> Result<(), ImportError> {
        self.begin()?;
        self.out.resume_point(offset, reader, state)
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
            self.has_exceeded_limit = true;
            self.report.dropped(Some(line), TOO_MANY_RECORDS);
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
        self.pending.last_mut().filter(|(key, _)| *key == branch).map(|(_, message)| message)
    }

    /// The newest message of the assistant on the current branch, if it and the results of its calls are the newest messages.
    pub(crate) fn newest_reply(&mut self) -> Option<&mut ImportedMessage> {
        let branch = self.branch;
        let mut newest = self.pending.iter_mut().rev().filter(|(key, _)| *key == branch);
        newest.find(|(_, message)| message.draft.role == Role::Assistant).map(|(_, message)| message)
    }

    /// Stores a record with the newest message, together with the records before it that are not messages.
    pub(crate) fn attach_record(&mut self, record: Value) {
        let others = std::mem::take(&mut self.other_records);
        self.buffered_bytes = 0;
        let Some((_, message)) = self.pending.last_mut() else { return };
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
        let answers = message.draft.role == Role::Tool
            && self.pending.len() < MAX_PENDING
            && self.pending.last().is_some_and(|(key, _)| *key == self.branch);
        if !answers {
            self.flush()?;
            self.pending_place = Some(self.next_place.clone());
        }
        let others = std::mem::take(&mut self.other_records);
        self.buffered_bytes = 0;
        if !others.is_empty() {
            message.draft.extra.insert(BEFORE.into(), Value::Array(others));
        }
        if let Some(head) = self.heads.get_mut(self.branch) {
            *head += 1;
        }
        self.pending.push((self.branch, message));
        Ok(())
    }

    /// Begins a branch that forks from `branch` after message `seq`.
    pub(crate) fn fork(&mut self, branch: usize, seq: u64) -> Result<(), ImportError> {
        // A message after the fork stays pending: it gets the records that follow if no other message does.
        if self.heads.get(branch).is_none_or(|head| *head <= seq) {
            self.flush()?;
        }
        self.add_branch(branch, seq, None)
    }

    /// Begins the branch of a subagent, after the records of the session itself.
    pub(crate) fn begin_subagent(&mut self, at: (usize, u64), name: String) -> Result<(), ImportError> {
        self.end_records()?;
        self.main_branch.get_or_insert(self.branch);
        self.add_branch(at.0, at.1, Some(name))
    }

    fn add_branch(&mut self, branch: usize, seq: u64, name: Option<String>) -> Result<(), ImportError> {
        self.begin()?;
        let key = self.heads.len();
        let fork = ForeignBranch { key, parent: branch, forked_at: seq, id: None, name, undone: false };
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
        for (branch, message) in std::mem::take(&mut self.pending) {
            self.begin()?;
            self.out.message(branch, message.draft, message.attachments)?;
        }
        Ok(())
    }

    /// Stores the last records with the newest message, and sends it.
    fn end_records(&mut self) -> Result<(), ImportError> {
        let others = std::mem::take(&mut self.other_records);
        self.buffered_bytes = 0;
        if !others.is_empty() {
            match (self.pending.last_mut(), &mut self.session) {
                (Some((_, newest)), _) => newest.draft.extra.insert(AFTER.into(), Value::Array(others)),
                (None, Some(session)) => session.extra.insert(RECORDS.into(), Value::Array(others)),
                (None, None) => None,
            };
        }
        self.flush()
    }

    /// Ends the session.
    pub(crate) fn finish(mut self) -> Result<(), ImportError> {
        self.end_records()?;
        self.begin()?;
        let current = self.main_branch.unwrap_or(self.branch);
        if current > 0 {
            self.out.send(ImportEvent::CurrentBranch(current))?;
        }
        self.out.send(ImportEvent::End(self.report.finish()))
    }
}

/// Whether a message contains text or a tool call. If it does, further text or reasoning belongs to
/// the next message.
pub(crate) fn has_output(message: &ImportedMessage) -> bool {
    message.draft.parts.iter().any(|part| matches!(part, Part::Text { .. } | Part::ToolCall { .. }))
}
