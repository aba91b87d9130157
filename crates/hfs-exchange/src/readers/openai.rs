//! OpenAI messages: one conversation (an array, or `{"messages": [...]}`), or a dataset with one conversation
//! in each element or on each line.

use std::collections::{HashMap, VecDeque};

use hfs_core::{Disposition, ForeignSession, ImportError, Origin, Part, Role, SessionSink, Timestamp};
use serde_json::{Map, Value};

use super::chat::{Chat, is_message, message, reference_to_image};
use crate::detect::Head;
use crate::records::{Entry, Framing, Whole, visit};
use crate::tally::Tally;
use crate::{Format, Source};

const NAME: &str = "openai-messages";
/// Under which key a dataset's element keeps its messages.
const LISTS: [&str; 2] = ["messages", "traj"];
/// So many messages at most are looked at for the first words of a user, which tell conversations apart.
const MAX_BEGINNING: usize = 16;

pub(crate) struct OpenAi;

impl super::Reader for OpenAi {
    fn format(&self) -> Format {
        Format::OpenAiMessages
    }

    fn recognizes(&self, head: &Head) -> bool {
        head.first().is_some_and(|first| is_message(first) || holds_messages(first))
            || head.objects().first().is_some_and(|first| is_message(first) || holds_messages(first))
            || head.has_key("messages") && !head.has_key("metadata") && !head.has_key("info")
    }

    fn read(&self, source: &Source, sink: &mut dyn SessionSink) -> Result<(), ImportError> {
        let head = Head::of(source)?;
        // A document may stand on one line, or on many of which some look like records.
        let is_document = head.has_key("messages") && !head.begins_with_several_records();
        let framing = if head.is_array() {
            Framing::Array(None)
        } else if head.objects().is_empty() || is_document {
            Framing::Array(Some("messages"))
        } else {
            Framing::Lines
        };
        let mut datasets = Sessions::new(source, sink, NAME);
        visit::<Whole>(source, framing, &mut |at, entry| {
            datasets.go_on(at.bytes)?;
            match entry {
                Entry::Bad(why) => datasets.tally.dropped(Some(at.line), why),
                Entry::Record(record, _) => datasets.record(record, at.line)?,
            }
            Ok(())
        })?;
        datasets.finish()
    }
}

/// Whether a record is a conversation.
fn holds_messages(fields: &Map<String, Value>) -> bool {
    LISTS.iter().any(|key| {
        let list = fields.get(*key).and_then(Value::as_array);
        list.is_some_and(|list| list.iter().take(3).filter_map(Value::as_object).any(is_message))
    })
}

/// Conversations of chat messages on their way to the sink.
pub(crate) struct Sessions<'a> {
    source: &'a Source,
    sink: &'a mut dyn SessionSink,
    format: &'static str,
    /// How often a conversation with the same beginning has come.
    seen: HashMap<String, u32>,
    open: Option<Open>,
    pub tally: Tally,
    any: bool,
}

/// A conversation that is being read.
struct Open {
    session: ForeignSession,
    /// Its own name for itself, if it has one.
    id: Option<String>,
    /// What has not been handed over, because the session has not begun.
    waiting: VecDeque<Chat>,
    state: State,
    count: u64,
    images: VecDeque<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Begun,
    Skipped,
}

impl<'a> Sessions<'a> {
    pub(crate) fn new(source: &'a Source, sink: &'a mut dyn SessionSink, format: &'static str) -> Self {
        Self { source, sink, format, seen: HashMap::new(), open: None, tally: Tally::default(), any: false }
    }

    pub(crate) fn go_on(&mut self, bytes: u64) -> Result<(), ImportError> {
        super::go_on(self.source, self.sink, bytes)
    }

    /// A record: a message of the one conversation, or a conversation.
    fn record(&mut self, mut record: Whole, line: u64) -> Result<(), ImportError> {
        let key = LISTS.into_iter().find(|key| record.fields.get(*key).is_some_and(Value::is_array));
        let Some(key) = key else {
            if self.open.is_none() {
                self.begin(None, Map::new())?;
            }
            return self.message(record, line);
        };
        self.end()?;
        let Some(Value::Array(list)) = record.fields.shift_remove(key) else { return Ok(()) };
        let id = ["id", "conversation_id", "session_id", "uuid"].into_iter().find_map(|key| {
            match record.fields.get(key)? {
                Value::String(id) => Some(id.clone()),
                Value::Number(id) => Some(id.to_string()),
                _ => None,
            }
        });
        self.begin(id, record.fields)?;
        for item in list {
            match item {
                Value::Object(fields) => self.message(Whole { fields, raw: None }, line)?,
                other => self.tally.dropped(
                    Some(line),
                    format!("no message: `{}`", crate::tally::excerpt(&other.to_string())),
                ),
            }
        }
        self.end()
    }

    /// Begins a conversation; `fields` are its own.
    pub(crate) fn begin(
        &mut self,
        id: Option<String>,
        mut fields: Map<String, Value>,
    ) -> Result<(), ImportError> {
        self.end()?;
        let path = self.source.path().map(|path| path.display().to_string());
        let mut session = ForeignSession::new(Origin { format: self.format.into(), id: String::new(), path });
        session.title = ["title", "session_name"]
            .into_iter()
            .find_map(|key| fields.get(key)?.as_str().filter(|title| !title.is_empty()).map(str::to_owned));
        let images = match fields.get("images") {
            Some(Value::Array(images)) => images
                .iter()
                .map(|image| image.as_str().map_or_else(|| image.to_string(), str::to_owned))
                .collect(),
            _ => VecDeque::new(),
        };
        if !fields.is_empty() {
            fields.shift_remove("messages");
            session.extra.insert(self.format.into(), Value::Object(fields));
        }
        self.open =
            Some(Open { session, id, waiting: VecDeque::new(), state: State::Waiting, count: 0, images });
        Ok(())
    }

    /// The next message of the conversation.
    pub(crate) fn message(&mut self, record: Whole, line: u64) -> Result<(), ImportError> {
        let Some(open) = self.open.as_mut() else { return Ok(()) };
        let id = (open.count + 1).to_string();
        let Some(mut chat) = message(record, self.format, id) else {
            self.tally.dropped(Some(line), "a message without a role that is known");
            return Ok(());
        };
        open.count += 1;
        self.tally.mapped();
        place_images(&mut chat, &mut open.images);
        open.waiting.push_back(chat);
        let user = open.waiting.back().is_some_and(|chat| chat.draft.role == Role::User);
        if user || open.waiting.len() >= MAX_BEGINNING || open.state != State::Waiting {
            self.hand_over()?;
        }
        Ok(())
    }

    /// Begins the session in the sink if it has not been, and hands over what waits.
    fn hand_over(&mut self) -> Result<(), ImportError> {
        let Some(open) = self.open.as_mut() else { return Ok(()) };
        if open.state == State::Waiting {
            let base = open.id.clone().unwrap_or_else(|| beginning(&open.waiting));
            let base = self.source.stem().map_or_else(|| base.clone(), |stem| format!("{stem}/{base}"));
            let times = self.seen.entry(base.clone()).or_insert(0);
            *times += 1;
            open.session.origin.id = if *times == 1 { base } else { format!("{base}/{times}") };
            // Sessions' times are those of their messages; where those have none, nobody knows.
            let timed: Vec<Timestamp> =
                open.waiting.iter().filter(|chat| chat.timed).map(|chat| chat.draft.created_at).collect();
            open.session.created_at = timed.iter().min().copied();
            self.any = true;
            let taken = self.sink.begin(open.session.clone())?;
            open.state = if taken == Disposition::Take { State::Begun } else { State::Skipped };
        }
        while let Some(chat) = open.waiting.pop_front() {
            if open.state == State::Begun {
                for attachment in chat.attachments {
                    self.sink.attachment(attachment)?;
                }
                self.sink.message(0, chat.draft)?;
            }
        }
        Ok(())
    }

    /// Ends the conversation, if one is open.
    pub(crate) fn end(&mut self) -> Result<(), ImportError> {
        self.hand_over()?;
        if self.open.take().is_some_and(|open| open.state == State::Begun) {
            self.sink.end(std::mem::take(&mut self.tally).finish())?;
        }
        Ok(())
    }

    /// Ends everything.
    pub(crate) fn finish(mut self) -> Result<(), ImportError> {
        self.end()?;
        if self.any {
            return Ok(());
        }
        let report = self.tally.finish();
        let first = report.warnings.into_iter().next();
        let reason = first.map_or_else(
            || "it holds no conversation".to_owned(),
            |warning| {
                warning
                    .line
                    .map_or(warning.message.clone(), |line| format!("line {line}: {}", warning.message))
            },
        );
        Err(self.source.damaged(reason))
    }
}

/// What tells a conversation from others: a hash of what was said up to the user's first words.
fn beginning(messages: &VecDeque<Chat>) -> String {
    let mut hasher = blake3::Hasher::new();
    for chat in messages {
        hasher.update(chat.draft.role.as_str().as_bytes());
        hasher.update(chat.draft.searchable_text().as_bytes());
        if chat.timed {
            hasher.update(&chat.draft.created_at.as_micros().to_le_bytes());
        }
    }
    hasher.finalize().to_hex().chars().take(16).collect()
}

/// Datasets list their images beside the messages and write `<image>` where each belongs.
fn place_images(chat: &mut Chat, images: &mut VecDeque<String>) {
    let marks: usize = chat
        .draft
        .parts
        .iter()
        .map(|part| if let Part::Text { text } = part { text.matches("<image>").count() } else { 0 })
        .sum();
    for _ in 0..marks {
        let Some(image) = images.pop_front() else { return };
        chat.draft.parts.push(reference_to_image(&image));
    }
}
