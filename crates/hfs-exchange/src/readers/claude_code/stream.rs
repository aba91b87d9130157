//! The second pass: whole records, one after another, to messages in the order in which they began.

use std::collections::{HashMap, VecDeque};
use std::path::Path;

use hfs_core::{Disposition, ImportError, Part, PassthroughFields, Seq, SessionSink, Timestamp};

use super::messages::{Drafted, extend, of_assistant, of_user, record_id};
use super::plan::{Action, Plan};
use super::record::Record;
use super::saved::Saved;
use crate::Source;
use crate::json::push_array;
use crate::readers::RECORDS;
use crate::records::{Entry, Framing, visit};
use crate::tally::Tally;

/// At most so many bytes of records wait for a message to be complete, or for one they can be kept beside.
const MAX_WAITING: usize = 48 << 20;

struct Waiting {
    branch: u32,
    drafted: Drafted,
    /// The message is still growing.
    open: bool,
    bytes: usize,
}

pub(crate) struct Stream<'a> {
    source: &'a Source,
    sink: &'a mut dyn SessionSink,
    saved: Saved,
    plan: Plan,
    /// The first pass's share of the way.
    first_pass: u64,
    /// The number of the record that comes next.
    next: usize,
    queue: VecDeque<Waiting>,
    /// How many messages have left the queue.
    left: usize,
    /// The place of each growing message, counted from the first that ever was in the queue.
    open: HashMap<u32, usize>,
    /// The branches that the sink knows, beyond the first.
    announced: u32,
    /// The key of the first branch: 0, but for the files of subagents.
    offset: usize,
    /// Each branch's head.
    heads: Vec<Seq>,
    /// Where each tool was asked for, when subagents may have been started there.
    calls: HashMap<String, (usize, Seq)>,
    /// Records that are no messages, as JSON.
    events: Vec<String>,
    event_bytes: usize,
    waiting_bytes: usize,
    last_time: Option<Timestamp>,
    tally: Tally,
}

impl<'a> Stream<'a> {
    pub(crate) fn new(source: &'a Source, plan: Plan, sink: &'a mut dyn SessionSink) -> Self {
        Self {
            source,
            sink,
            saved: Saved::beside(source.path()),
            plan,
            first_pass: source.bytes() / 4,
            next: 0,
            queue: VecDeque::new(),
            left: 0,
            open: HashMap::new(),
            announced: 0,
            offset: 0,
            heads: vec![0],
            calls: HashMap::new(),
            events: Vec::new(),
            event_bytes: 0,
            waiting_bytes: 0,
            last_time: None,
            tally: Tally::default(),
        }
    }

    pub(crate) fn run(mut self, framing: Framing) -> Result<(), ImportError> {
        let mut session = super::session(self.source, &self.plan);
        let source = self.source;
        let empty = self.plan.messages == 0;
        if empty {
            // Without a message to stand beside, the records stay with the session.
            visit::<Record>(source, framing, &mut |at, entry| self.entry(at.line, at.bytes, entry))?;
            if self.next == 0 {
                return Ok(());
            }
            let mut json = format!("{{\"{RECORDS}\":");
            push_array(&mut json, std::mem::take(&mut self.events), |json, event| json.push_str(&event));
            json.push('}');
            session.extra = PassthroughFields::from_json(json);
        }
        if self.sink.begin(session)? == Disposition::Skip {
            return Ok(());
        }
        if !empty {
            visit::<Record>(source, framing, &mut |at, entry| self.entry(at.line, at.bytes, entry))?;
        }
        self.flush()?;
        let mut next = 1 + self.plan.forks.len();
        for path in source.companions() {
            next = self.companion(path, next)?;
        }
        if self.plan.current > 0 {
            self.sink.current_branch(self.plan.current as usize)?;
        }
        self.sink.end(self.tally.finish())?;
        Ok(())
    }

    /// Adds the file of a subagent as a branch that leaves where the agent was started. Returns the next
    /// branch's key.
    fn companion(&mut self, path: &Path, key: usize) -> Result<usize, ImportError> {
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let source = Source::file(path);
        let plan = match super::plan(&source, Framing::Lines, self.sink) {
            Ok(plan) => plan,
            Err(stop @ ImportError::Interrupted { .. }) => return Err(stop),
            // The session itself does not suffer from what is wrong with one of its agents' files.
            Err(error) => {
                self.tally.warn(None, format!("{name} is left out: {error}"));
                return Ok(key);
            }
        };
        if plan.messages == 0 {
            return Ok(key);
        }
        let started = started_by(path).and_then(|call| self.calls.get(&call)).copied();
        let (parent, seq) = started.unwrap_or((0, 0));
        self.sink.branch(key, parent, seq, None, Some(name))?;
        let forks = plan.forks.len();
        let mut agent = Stream::new(&source, plan, &mut *self.sink);
        agent.offset = key;
        // Branches within the file leave this one, whose history begins with what it shares.
        agent.heads = vec![seq];
        agent.shift(seq);
        visit::<Record>(&source, Framing::Lines, &mut |at, entry| agent.entry(at.line, at.bytes, entry))?;
        agent.flush()?;
        let tally = std::mem::take(&mut agent.tally);
        self.tally.absorb(tally);
        Ok(key + 1 + forks)
    }

    /// Moves the file's forks behind what its first branch shares with its parent.
    fn shift(&mut self, by: Seq) {
        self.plan.forks.iter_mut().for_each(|fork| fork.forked_at += by);
    }

    fn entry(&mut self, line: u64, bytes: u64, entry: Entry<Record>) -> Result<(), ImportError> {
        crate::readers::go_on(self.source, self.sink, self.first_pass + bytes / 4 * 3)?;
        let (record, length) = match entry {
            Entry::Bad(why) => {
                self.tally.dropped(Some(line), why);
                return Ok(());
            }
            Entry::Record(record, length) => (record, length),
        };
        let action = self.plan.actions.get(self.next).copied().unwrap_or(Action::Event);
        self.next += 1;
        match action {
            Action::Repetition => {
                self.tally.dropped(Some(line), format!("repeats record {}", record_id(&record, line)));
            }
            Action::Event => self.event(line, &record, length),
            Action::User { branch } => {
                self.tally.mapped();
                let at = self.time(&record);
                for mut drafted in of_user(record, line, at) {
                    self.saved.attach(&mut drafted);
                    self.push(Waiting { branch, drafted, open: false, bytes: length });
                }
            }
            Action::Assistant { branch, group, last } => {
                self.tally.mapped();
                self.assistant(record, (branch, group, last), line, length);
            }
        }
        self.emit()
    }

    /// When a record was written; for want of that, when the one before it was.
    fn time(&mut self, record: &Record) -> Timestamp {
        let time = record.facts.time.or(self.last_time).or(self.plan.first).unwrap_or(Timestamp::UNIX_EPOCH);
        self.last_time = Some(time);
        time
    }

    fn event(&mut self, line: u64, record: &Record, bytes: usize) {
        if self.waiting_bytes + bytes > MAX_WAITING {
            self.tally.dropped(Some(line), "more records without a message in a row than can be kept");
            return;
        }
        self.tally.opaque();
        self.waiting_bytes += bytes;
        self.event_bytes += bytes;
        self.events.push(record.whole());
    }

    fn assistant(&mut self, record: Record, to: (u32, u32, bool), line: u64, bytes: usize) {
        let (branch, group, last) = to;
        let time = self.time(&record);
        let place = self.open.get(&group).and_then(|place| place.checked_sub(self.left));
        if let Some(waiting) = place.and_then(|place| self.queue.get_mut(place)) {
            // Events between a message's records stay in their order among its shells.
            let events = std::mem::take(&mut self.events);
            let events = events.into_iter().map(|event| format!("{{\"$event\":{event}}}"));
            waiting.drafted.kept.records.extend(events);
            extend(&mut waiting.drafted, record);
            waiting.open = !last;
            waiting.bytes += bytes + std::mem::take(&mut self.event_bytes);
            self.waiting_bytes += bytes;
        } else {
            if !last {
                self.open.insert(group, self.left + self.queue.len());
            }
            let drafted = of_assistant(record, line, time);
            self.push(Waiting { branch, drafted, open: !last, bytes });
        }
        if last {
            self.open.remove(&group);
        }
    }

    fn push(&mut self, mut waiting: Waiting) {
        waiting.drafted.kept.before = std::mem::take(&mut self.events);
        self.waiting_bytes += waiting.bytes;
        waiting.bytes += std::mem::take(&mut self.event_bytes);
        self.queue.push_back(waiting);
    }

    /// Hands over what is complete, but for the newest: events that follow it may have to stand beside it.
    fn emit(&mut self) -> Result<(), ImportError> {
        if self.waiting_bytes > MAX_WAITING {
            // A message that is spread over so much is given over as it is.
            self.open.clear();
            self.queue.iter_mut().for_each(|waiting| waiting.open = false);
        }
        while self.queue.len() > 1 && self.queue.front().is_some_and(|waiting| !waiting.open) {
            self.emit_front()?;
        }
        Ok(())
    }

    fn emit_front(&mut self) -> Result<(), ImportError> {
        let Some(waiting) = self.queue.pop_front() else { return Ok(()) };
        self.left += 1;
        self.waiting_bytes = self.waiting_bytes.saturating_sub(waiting.bytes);
        while self.announced < waiting.branch {
            let Some(fork) = self.plan.forks.get(self.announced as usize) else { break };
            self.announced += 1;
            self.heads.push(fork.forked_at);
            let (key, parent) = (self.announced as usize, fork.parent as usize);
            self.sink.branch(self.offset + key, self.offset + parent, fork.forked_at, None, None)?;
        }
        if let Some(head) = self.heads.get_mut(waiting.branch as usize) {
            *head += 1;
            if !self.source.companions().is_empty() {
                for part in &waiting.drafted.draft.parts {
                    if let Part::ToolCall { id, .. } = part {
                        self.calls.insert(id.clone(), (waiting.branch as usize, *head));
                    }
                }
            }
        }
        let (draft, attachments) = waiting.drafted.finish();
        for attachment in attachments {
            self.sink.attachment(attachment)?;
        }
        self.sink.message(self.offset + waiting.branch as usize, draft)?;
        Ok(())
    }

    /// Hands over everything that still waits.
    fn flush(&mut self) -> Result<(), ImportError> {
        let events = std::mem::take(&mut self.events);
        if let Some(newest) = self.queue.back_mut() {
            newest.drafted.kept.after = events;
        }
        while !self.queue.is_empty() {
            self.emit_front()?;
        }
        Ok(())
    }
}

/// The call that started a subagent, as the small file beside its transcript says.
fn started_by(transcript: &Path) -> Option<String> {
    let text = std::fs::read_to_string(transcript.with_extension("meta.json")).ok()?;
    Some(crate::json::parse(&text)?.value.get("toolUseId")?.as_str()?.to_owned())
}
