//! Sends a session, message by message, while the source is being read.

use hfs_core::{ForeignBranch, ForeignSession, ImportError, ImportEvent, Part};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::conversation::ImportedMessage;
use crate::readers::{AFTER, BEFORE, Output, RAW, RECORDS, ReportBuilder};
use crate::records::{JsonRecord, RecordPosition};
use crate::resume::LineStart;

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
    /// The current branch of the session itself, while the transcript of a subagent is read.
    main_branch: Option<usize>,
    /// The place before the newest message, and before the next one.
    newest_place: Option<Place>,
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
            main_branch: None,
            newest_place: None,
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

    /// The place before the newest message and the place after the last line, if the next import may continue there.
    pub(crate) fn resume_places(&self) -> Option<(&Place, LineStart)> {
        self.newest_place.as_ref().zip(self.end).filter(|_| !self.has_exceeded_limit)
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
        self.newest_place = Some(self.next_place.clone());
        Ok(())
    }

    /// Begins a branch that forks from `branch` after message `seq`.
    pub(crate) fn fork(&mut self, branch: usize, seq: u64) -> Result<(), ImportError> {
        // A message behind the fork stays pending: it gets the records that follow if no other message does.
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
        let Some((branch, message)) = self.pending.take() else { return Ok(()) };
        self.begin()?;
        self.out.message(branch, message.draft, message.attachments)
    }

    /// Stores the last records with the newest message, and sends it.
    fn end_records(&mut self) -> Result<(), ImportError> {
        let others = std::mem::take(&mut self.other_records);
        self.buffered_bytes = 0;
        if !others.is_empty() {
            match (&mut self.pending, &mut self.session) {
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
