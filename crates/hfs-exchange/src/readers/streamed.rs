//! Sessions that are sent to the receiver message by message while they are read.

use hfs_core::{Disposition, ForeignSession, ImportError, Part, SessionSink};
use serde_json::{Value, json};

use super::conversation::ImportedMessage;
use crate::Source;
use crate::readers::{AFTER, BEFORE, RAW, RECORDS, ReportBuilder};
use crate::records::JsonRecord;

/// Limit on the bytes of records that wait for a message to be stored beside.
const MAX_HELD_BYTES: usize = 48 << 20;

/// A session that is sent to the receiver while it is read. The newest message is held back, because it may
/// grow and because records that follow it may have to be stored beside it.
pub(crate) struct StreamedSession<'a> {
    source: &'a Source,
    sink: &'a mut dyn SessionSink,
    session: Option<ForeignSession>,
    accepted: bool,
    held: Option<(usize, ImportedMessage)>,
    events: Vec<Value>,
    held_bytes: usize,
    /// Head of each branch, including the message that is held back.
    heads: Vec<u64>,
    branch: usize,
    pub report: ReportBuilder,
}

impl<'a> StreamedSession<'a> {
    pub(crate) fn new(source: &'a Source, sink: &'a mut dyn SessionSink, session: ForeignSession) -> Self {
        Self {
            source,
            sink,
            session: Some(session),
            accepted: true,
            held: None,
            events: Vec::new(),
            held_bytes: 0,
            heads: vec![0],
            branch: 0,
            report: ReportBuilder::default(),
        }
    }

    pub(crate) fn report_progress(&mut self, bytes: u64) -> Result<(), ImportError> {
        super::report_progress(self.source, self.sink, bytes)
    }

    /// The current branch, and the seq of its newest message.
    pub(crate) fn position(&self) -> (usize, u64) {
        (self.branch, self.heads.get(self.branch).copied().unwrap_or(0))
    }

    /// Adds a record that is not a message.
    pub(crate) fn push_event(&mut self, record: JsonRecord, bytes: usize, line: u64) {
        if self.held_bytes + bytes > MAX_HELD_BYTES {
            self.report.dropped(Some(line), "too many consecutive records that are not messages");
            return;
        }
        self.report.opaque();
        self.held_bytes += bytes;
        let fields = record.fields;
        self.events.push(record.raw.map_or_else(|| Value::Object(fields), |raw| json!({ RAW: raw })));
    }

    /// The newest message, which can still be extended.
    pub(crate) fn newest(&mut self) -> Option<&mut ImportedMessage> {
        self.held.as_mut().map(|(_, message)| message)
    }

    /// Stores a record beside the newest message, after the events that came before the record.
    pub(crate) fn attach_record(&mut self, record: Value) {
        let events = std::mem::take(&mut self.events);
        self.held_bytes = 0;
        let Some((_, message)) = &mut self.held else { return };
        let mut records: Vec<Value> = events.into_iter().map(|event| json!({ "$event": event })).collect();
        records.push(record);
        match message.draft.extra.get_mut(RECORDS) {
            Some(Value::Array(kept)) => kept.append(&mut records),
            _ => {
                message.draft.extra.insert(RECORDS.into(), Value::Array(records));
            }
        }
    }

    /// Adds a message.
    pub(crate) fn push_message(&mut self, mut message: ImportedMessage) -> Result<(), ImportError> {
        self.flush()?;
        let events = std::mem::take(&mut self.events);
        self.held_bytes = 0;
        if !events.is_empty() {
            message.draft.extra.insert(BEFORE.into(), Value::Array(events));
        }
        if let Some(head) = self.heads.get_mut(self.branch) {
            *head += 1;
        }
        self.held = Some((self.branch, message));
        Ok(())
    }

    /// Begins a branch that forks from `branch` after message `seq`.
    pub(crate) fn fork(&mut self, branch: usize, seq: u64) -> Result<(), ImportError> {
        self.flush()?;
        self.begin()?;
        let key = self.heads.len();
        if self.accepted {
            self.sink.branch(key, branch, seq, None, None)?;
        }
        self.heads.push(seq);
        self.branch = key;
        Ok(())
    }

    fn begin(&mut self) -> Result<(), ImportError> {
        if let Some(session) = self.session.take() {
            self.accepted = self.sink.begin(session)? == Disposition::Take;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ImportError> {
        let Some((branch, message)) = self.held.take() else { return Ok(()) };
        self.begin()?;
        if self.accepted {
            for attachment in message.attachments {
                self.sink.attachment(attachment)?;
            }
            self.sink.message(branch, message.draft)?;
        }
        Ok(())
    }

    /// Ends the session.
    pub(crate) fn finish(mut self) -> Result<(), ImportError> {
        let events = std::mem::take(&mut self.events);
        if !events.is_empty() {
            match (&mut self.held, &mut self.session) {
                (Some((_, newest)), _) => newest.draft.extra.insert(AFTER.into(), Value::Array(events)),
                (None, Some(session)) => session.extra.insert(RECORDS.into(), Value::Array(events)),
                (None, None) => None,
            };
        }
        self.flush()?;
        self.begin()?;
        if self.accepted {
            if self.branch > 0 {
                self.sink.current_branch(self.branch)?;
            }
            self.sink.end(self.report.finish())?;
        }
        Ok(())
    }
}

/// Whether a message contains text or a tool call, so that what follows begins the next message.
pub(crate) fn has_output(message: &ImportedMessage) -> bool {
    message.draft.parts.iter().any(|part| matches!(part, Part::Text { .. } | Part::ToolCall { .. }))
}
