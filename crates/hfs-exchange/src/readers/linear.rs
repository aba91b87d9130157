//! Messages on their way to the sink one after another, with the records between them.

use hfs_core::{Disposition, ForeignSession, ImportError, Part, SessionSink};
use serde_json::{Value, json};

use super::conversation::Drafted;
use crate::Source;
use crate::readers::{AFTER, BEFORE, RAW, RECORDS};
use crate::records::Whole;
use crate::tally::Tally;

/// At most so many bytes of records wait for a message that they can be kept beside.
const MAX_WAITING: usize = 48 << 20;

/// A session that is handed over while it is read. The newest message is held back, because it may grow, and
/// because records that follow it may have to stand beside it.
pub(crate) struct Linear<'a> {
    source: &'a Source,
    sink: &'a mut dyn SessionSink,
    session: Option<ForeignSession>,
    taken: bool,
    held: Option<(usize, Drafted)>,
    events: Vec<Value>,
    waiting: usize,
    /// Each branch's head, counting the message that is held.
    heads: Vec<u64>,
    branch: usize,
    pub tally: Tally,
}

impl<'a> Linear<'a> {
    pub(crate) fn new(source: &'a Source, sink: &'a mut dyn SessionSink, session: ForeignSession) -> Self {
        Self {
            source,
            sink,
            session: Some(session),
            taken: true,
            held: None,
            events: Vec::new(),
            waiting: 0,
            heads: vec![0],
            branch: 0,
            tally: Tally::default(),
        }
    }

    pub(crate) fn go_on(&mut self, bytes: u64) -> Result<(), ImportError> {
        super::go_on(self.source, self.sink, bytes)
    }

    /// The branch that is being written, and its newest message.
    pub(crate) fn place(&self) -> (usize, u64) {
        (self.branch, self.heads.get(self.branch).copied().unwrap_or(0))
    }

    /// A record that is no message.
    pub(crate) fn event(&mut self, record: Whole, bytes: usize, line: u64) {
        if self.waiting + bytes > MAX_WAITING {
            self.tally.dropped(Some(line), "more records without a message in a row than can be kept");
            return;
        }
        self.tally.opaque();
        self.waiting += bytes;
        let fields = record.fields;
        self.events.push(record.raw.map_or_else(|| Value::Object(fields), |raw| json!({ RAW: raw })));
    }

    /// The newest message, to be added to.
    pub(crate) fn newest(&mut self) -> Option<&mut Drafted> {
        self.held.as_mut().map(|(_, drafted)| drafted)
    }

    /// Keeps the record of a part beside the newest message, events that came between in their order.
    pub(crate) fn keep_with_newest(&mut self, record: Value) {
        let events = std::mem::take(&mut self.events);
        self.waiting = 0;
        let Some((_, drafted)) = &mut self.held else { return };
        let mut records: Vec<Value> = events.into_iter().map(|event| json!({ "$event": event })).collect();
        records.push(record);
        match drafted.draft.extra.get_mut(RECORDS) {
            Some(Value::Array(kept)) => kept.append(&mut records),
            _ => {
                drafted.draft.extra.insert(RECORDS.into(), Value::Array(records));
            }
        }
    }

    /// The next message.
    pub(crate) fn push(&mut self, mut drafted: Drafted) -> Result<(), ImportError> {
        self.flush()?;
        let events = std::mem::take(&mut self.events);
        self.waiting = 0;
        if !events.is_empty() {
            drafted.draft.extra.insert(BEFORE.into(), Value::Array(events));
        }
        if let Some(head) = self.heads.get_mut(self.branch) {
            *head += 1;
        }
        self.held = Some((self.branch, drafted));
        Ok(())
    }

    /// Leaves `branch` after its message `seq` for a branch of its own.
    pub(crate) fn fork(&mut self, branch: usize, seq: u64) -> Result<(), ImportError> {
        self.flush()?;
        self.begin()?;
        let key = self.heads.len();
        if self.taken {
            self.sink.branch(key, branch, seq, None, None)?;
        }
        self.heads.push(seq);
        self.branch = key;
        Ok(())
    }

    fn begin(&mut self) -> Result<(), ImportError> {
        if let Some(session) = self.session.take() {
            self.taken = self.sink.begin(session)? == Disposition::Take;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ImportError> {
        let Some((branch, drafted)) = self.held.take() else { return Ok(()) };
        self.begin()?;
        if self.taken {
            for attachment in drafted.attachments {
                self.sink.attachment(attachment)?;
            }
            self.sink.message(branch, drafted.draft)?;
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
        if self.taken {
            if self.branch > 0 {
                self.sink.current_branch(self.branch)?;
            }
            self.sink.end(self.tally.finish())?;
        }
        Ok(())
    }
}

/// Whether a message has said something or asked for a tool, so that what follows belongs to the next.
pub(crate) fn has_spoken(drafted: &Drafted) -> bool {
    drafted.draft.parts.iter().any(|part| matches!(part, Part::Text { .. } | Part::ToolCall { .. }))
}
