//! Messages as in the APIs of OpenAI and Anthropic (role, content, tool calls), a format that many tools and datasets use.
//!
//! A source is one conversation (an array of messages, or a document or request with such an array), or a dataset with one
//! conversation per element of an array or per line. A dataset may also contain conversations of
//! [ShareGPT](super::sharegpt).

use std::collections::{HashMap, VecDeque};

use hfs_core::{
    Attachment, ForeignSession, ImportError, ImportEvent, MessageDraft, MessageFlag, Origin, Part, Role,
    Source as MessageSource, Timestamp,
};
use serde_json::{Map, Value, json};

use super::claude_code::PART;
use super::content::{FilePart, ToolOutput, file_of};
use super::conversation::usage;
use super::sharegpt;
use crate::detect::FormatProbe;
use crate::json::parse;
use crate::json::pull::{PullError, PullParser};
use crate::readers::{AFTER, BEFORE, Output, RAW, RECORDS, ReportBuilder, excerpt};
use crate::records::{Entry, Framing, JsonRecord, StreamError, for_each_record};
use crate::unread::UnreadFormat;
use crate::{Format, Source};

const NAME: &str = "openai-messages";
/// Keys of the message list in a document, a request or an element of a dataset.
const MESSAGE_KEYS: [&str; 5] = ["messages", "traj", "conversations", "conversation", "input"];
/// Keys of instructions beside the message list: in Anthropic's API, in datasets, and in OpenAI's Responses API.
const INSTRUCTION_KEYS: [&str; 2] = ["system", "instructions"];
/// Number of messages that are buffered until the user's first message, which identifies the conversation.
const MAX_BUFFERED: usize = 16;

pub(crate) struct OpenAi;

impl super::Reader for OpenAi {
    fn format(&self) -> Format {
        Format::OpenAiMessages
    }

    fn probe(&self, probe: &FormatProbe) -> bool {
        // Other formats contain such messages, too.
        let others = Format::ALL.into_iter().filter(|format| *format != Format::OpenAiMessages);
        if others.map(Format::reader).any(|reader| reader.probe(probe)) || UnreadFormat::of(probe).is_some() {
            return false;
        }
        first_conversation(probe).is_some()
            || probe.has_key("messages") && !probe.has_key("metadata") && !probe.has_key("info")
    }

    fn read(&self, source: &Source, out: &mut Output<'_>) -> Result<(), ImportError> {
        read_conversations(source, out, NAME)
    }
}

/// The first record that contains a conversation in one of the notations of datasets, or is a message. Other records may
/// precede it.
pub(crate) fn first_conversation(probe: &FormatProbe) -> Option<&Map<String, Value>> {
    let elements = probe.elements().iter().filter_map(Value::as_object);
    let mut objects = probe.first_object().into_iter().chain(elements).chain(probe.records());
    objects
        .find(|fields| sharegpt::is_conversation(fields) || is_message(fields) || contains_messages(fields))
}

/// Reads the conversations of a source.
pub(crate) fn read_conversations(
    source: &Source,
    out: &mut Output<'_>,
    format: &'static str,
) -> Result<(), ImportError> {
    let framing = framing(&FormatProbe::new(source)?);
    let mut sessions = ChatSessions::new(source, out.reborrow(), format);
    if let Framing::Array(Some(key)) = framing {
        // The fields beside the messages may follow them.
        let (id, fields) = document_fields(source, key)?;
        sessions.begin(id, fields)?;
    }
    for_each_record::<JsonRecord>(source, framing, &mut |at, entry| {
        sessions.report_progress(at.bytes)?;
        match entry {
            Entry::Damaged(why) => sessions.report.dropped(Some(at.line), why),
            Entry::Record(record, _) => sessions.record(record, at.line)?,
        }
        Ok(())
    })?;
    sessions.finish()
}

fn framing(probe: &FormatProbe) -> Framing {
    if probe.is_array() {
        return Framing::Array(None);
    }
    // A document can look like JSONL, if it is on one line or if one of its lines is an object.
    if probe.begins_with_record_and_more_lines() {
        return Framing::Lines;
    }
    let key = MESSAGE_KEYS.into_iter().find(|key| probe.has_key(key));
    match key {
        Some(key) if !probe.first_object().is_some_and(sharegpt::is_conversation) => {
            Framing::Array(Some(key))
        }
        None if probe.records().is_empty() => Framing::Array(Some("messages")),
        _ => Framing::Lines,
    }
}

/// The id and the fields of a document, except for its messages.
fn document_fields(
    source: &Source,
    messages_key: &str,
) -> Result<(Option<String>, Map<String, Value>), ImportError> {
    let mut fields = Map::new();
    let mut read = || -> Result<(), StreamError> {
        let mut parser = PullParser::new(source.open()?)?;
        parser.enter()?;
        while let Some(key) = parser.next_key()? {
            if key == messages_key {
                parser.skip()?;
            } else if let Some(parsed) = parse(&parser.value()?) {
                fields.insert(key, parsed.value);
            }
        }
        Ok(())
    };
    match read() {
        // The pass over the messages reports the damage.
        Ok(()) | Err(StreamError::Json(PullError::Damaged { .. })) => Ok((id_of(&fields), fields)),
        Err(error) => Err(error.into_import_error(source)),
    }
}

/// The id of a conversation.
fn id_of(fields: &Map<String, Value>) -> Option<String> {
    ["id", "conversation_id", "session_id", "uuid"].into_iter().find_map(|key| match fields.get(key)? {
        Value::String(id) => Some(id.clone()),
        Value::Number(id) => Some(id.to_string()),
        _ => None,
    })
}

/// Whether a record contains a conversation.
pub(crate) fn contains_messages(fields: &Map<String, Value>) -> bool {
    MESSAGE_KEYS.iter().any(|key| {
        let list = fields.get(*key).and_then(Value::as_array);
        list.is_some_and(|list| list.iter().filter_map(Value::as_object).any(is_message))
    })
}

/// Sends conversations of chat messages.
pub(crate) struct ChatSessions<'a> {
    source: &'a Source,
    out: Output<'a>,
    format: &'static str,
    /// Number of conversations with each id.
    seen: HashMap<String, u32>,
    open: Option<OpenSession>,
    pub report: ReportBuilder,
    found: bool,
}

/// The conversation that is being read. It ends only when the next one begins, so that its report includes the records
/// that are dropped in between.
struct OpenSession {
    session: ForeignSession,
    /// The conversation's own id, if it has one.
    id: Option<String>,
    /// Messages that have not been sent: all of them until the session is sent, then the newest one.
    buffered: VecDeque<ChatMessage>,
    /// Whether the session has been sent.
    is_sent: bool,
    /// Whether it is complete, so that another message belongs to the next conversation.
    is_complete: bool,
    /// Number of messages.
    count: u64,
    /// Images of a dataset that have not been added to a message.
    images: VecDeque<String>,
    /// Records since the newest message that are not messages.
    others: Vec<Value>,
    /// Time of the newest message with a time, or of the session.
    last_time: Option<Timestamp>,
}

impl<'a> ChatSessions<'a> {
    pub(crate) fn new(source: &'a Source, out: Output<'a>, format: &'static str) -> Self {
        Self {
            source,
            out,
            format,
            seen: HashMap::new(),
            open: None,
            report: ReportBuilder::default(),
            found: false,
        }
    }

    pub(crate) fn report_progress(&mut self, bytes: u64) -> Result<(), ImportError> {
        self.out.progress(bytes)
    }

    /// Adds a record: a message of the only conversation, or a whole conversation.
    fn record(&mut self, mut record: JsonRecord, line: u64) -> Result<(), ImportError> {
        if sharegpt::is_conversation(&record.fields) {
            return self.sharegpt(record.fields, line);
        }
        let key = MESSAGE_KEYS.into_iter().find(|key| record.fields.get(*key).is_some_and(Value::is_array));
        let Some(key) = key else {
            if self.open.as_ref().is_none_or(|open| open.is_complete) && is_message(&record.fields) {
                self.begin(None, Map::new())?;
            }
            if self.open.as_ref().is_none_or(|open| open.is_complete) {
                self.report.dropped(Some(line), "a record that is neither a message nor a conversation");
                return Ok(());
            }
            return self.message(record, line);
        };
        let Some(Value::Array(list)) = record.fields.shift_remove(key) else { return Ok(()) };
        self.begin(id_of(&record.fields), record.fields)?;
        for item in list {
            match item {
                Value::Object(fields) => self.message(JsonRecord { fields, raw: None }, line)?,
                other => self
                    .report
                    .dropped(Some(line), format!("not a message: `{}`", excerpt(&other.to_string()))),
            }
        }
        self.complete();
        Ok(())
    }

    /// Adds a conversation of ShareGPT.
    fn sharegpt(&mut self, mut fields: Map<String, Value>, line: u64) -> Result<(), ImportError> {
        let turns = sharegpt::take_turns(&mut fields);
        let id = fields.get("id").and_then(Value::as_str).map_or_else(|| line.to_string(), str::to_owned);
        self.begin(Some(id), fields)?;
        let mut calls = 0;
        for (number, turn) in turns.into_iter().enumerate() {
            let draft = match turn {
                Value::Object(turn) => sharegpt::to_message(turn, (number + 1).to_string(), &mut calls),
                other => Err(other),
            };
            match draft {
                Ok(draft) => {
                    self.report.mapped();
                    self.push(ChatMessage { draft, attachments: Vec::new() })?;
                }
                Err(other) => self.other(other),
            }
        }
        self.complete();
        Ok(())
    }

    /// Begins a conversation with these session-level fields.
    fn begin(&mut self, id: Option<String>, mut fields: Map<String, Value>) -> Result<(), ImportError> {
        self.end()?;
        let path = self.source.path().map(|path| path.display().to_string());
        let mut session = ForeignSession::new(Origin { format: self.format.into(), id: String::new(), path });
        session.positional_ids = true;
        session.title = ["title", "session_name"]
            .into_iter()
            .find_map(|key| fields.get(key)?.as_str().filter(|title| !title.is_empty()).map(str::to_owned));
        session.created_at = time_of(&fields).map(|(_, at)| at);
        let images = match fields.get("images") {
            Some(Value::Array(images)) => images
                .iter()
                .map(|image| image.as_str().map_or_else(|| image.to_string(), str::to_owned))
                .collect(),
            _ => VecDeque::new(),
        };
        let instructions = INSTRUCTION_KEYS.into_iter().find_map(|key| {
            let text = ToolOutput::new(fields.get(key)?).text;
            (!text.is_empty()).then_some((key, text))
        });
        if let Some((key, _)) = &instructions
            && fields.get(*key).is_some_and(Value::is_string)
        {
            fields.shift_remove(*key);
        }
        let last_time = session.created_at;
        if !fields.is_empty() {
            session.extra.insert(self.format.into(), Value::Object(fields));
        }
        self.open = Some(OpenSession {
            session,
            id,
            buffered: VecDeque::new(),
            is_sent: false,
            is_complete: false,
            count: 0,
            images,
            others: Vec::new(),
            last_time,
        });
        if let Some((_, text)) = instructions {
            let mut draft = MessageDraft::new(Role::System, vec![Part::text(text)], Timestamp::UNKNOWN);
            draft.source = Some(MessageSource { format: self.format.into(), id: "system".into() });
            self.push(ChatMessage { draft, attachments: Vec::new() })?;
        }
        Ok(())
    }

    /// Adds a message to the conversation.
    fn message(&mut self, record: JsonRecord, line: u64) -> Result<(), ImportError> {
        let Some(open) = self.open.as_mut() else { return Ok(()) };
        let number = open.count + 1;
        match messages(record, self.format, number) {
            Ok(converted) => {
                open.count += 1;
                self.report.mapped();
                converted.into_iter().try_for_each(|chat| self.push(chat))
            }
            Err(other) => {
                self.report.warn(Some(line), "a record that is not a message");
                self.other(Value::Object(other));
                Ok(())
            }
        }
    }

    /// Keeps a record that is not a message.
    fn other(&mut self, record: Value) {
        self.report.opaque();
        if let Some(open) = self.open.as_mut() {
            open.others.push(record);
        }
    }

    fn push(&mut self, mut chat: ChatMessage) -> Result<(), ImportError> {
        let Some(open) = self.open.as_mut() else { return Ok(()) };
        place_images(&mut chat, &mut open.images);
        open.last_time = chat.draft.created_at.known().or(open.last_time);
        chat.draft.created_at = open.last_time.unwrap_or(Timestamp::UNKNOWN);
        if !open.others.is_empty() {
            chat.draft.extra.insert(BEFORE.into(), Value::Array(std::mem::take(&mut open.others)));
        }
        let user = chat.draft.role == Role::User;
        open.buffered.push_back(chat);
        if user || open.buffered.len() >= MAX_BUFFERED || open.is_sent {
            self.send_buffered(1)
        } else {
            Ok(())
        }
    }

    /// Sends the session if it has not been sent, then the buffered messages except for the newest `kept` ones.
    fn send_buffered(&mut self, kept: usize) -> Result<(), ImportError> {
        let Some(open) = self.open.as_mut() else { return Ok(()) };
        if !open.is_sent {
            let base = open.id.clone().unwrap_or_else(|| beginning_hash(&open.buffered));
            let base = self.source.stem().map_or_else(|| base.clone(), |stem| format!("{stem}/{base}"));
            let occurrences = self.seen.entry(base.clone()).or_insert(0);
            *occurrences += 1;
            open.session.origin.id = if *occurrences == 1 { base } else { format!("{base}/{occurrences}") };
            let times = open.buffered.iter().filter_map(|chat| chat.draft.created_at.known());
            open.session.created_at = times.min().or(open.session.created_at);
            self.found = true;
            self.out.session(open.session.clone())?;
            open.is_sent = true;
        }
        while open.buffered.len() > kept
            && let Some(chat) = open.buffered.pop_front()
        {
            self.out.message(0, chat.draft, chat.attachments)?;
        }
        Ok(())
    }

    /// Marks the conversation as complete.
    fn complete(&mut self) {
        if let Some(open) = self.open.as_mut() {
            open.is_complete = true;
        }
    }

    /// Ends the conversation, if one is open.
    fn end(&mut self) -> Result<(), ImportError> {
        let Some(open) = self.open.as_mut() else { return Ok(()) };
        if let (false, Some(last)) = (open.others.is_empty(), open.buffered.back_mut()) {
            last.draft.extra.insert(AFTER.into(), Value::Array(std::mem::take(&mut open.others)));
        }
        self.send_buffered(0)?;
        self.open = None;
        self.out.send(ImportEvent::End(std::mem::take(&mut self.report).finish()))
    }

    /// Ends the import.
    fn finish(mut self) -> Result<(), ImportError> {
        if self.open.as_ref().is_some_and(|open| !open.is_sent && open.buffered.is_empty()) {
            // A document without a message is not a conversation.
            self.open = None;
        }
        self.end()?;
        if self.found {
            Ok(())
        } else if self.report.has_dropped() {
            Err(self.source.damaged(self.report.first_reason("it contains no conversation")))
        } else {
            self.out.leave_out_empty_session();
            Ok(())
        }
    }
}

/// Identifies a conversation by a hash of its messages up to the user's first one.
fn beginning_hash(messages: &VecDeque<ChatMessage>) -> String {
    let mut hasher = blake3::Hasher::new();
    for chat in messages {
        hasher.update(chat.draft.role.as_str().as_bytes());
        hasher.update(chat.draft.searchable_text().as_bytes());
        if chat.draft.created_at.is_known() {
            hasher.update(&chat.draft.created_at.as_micros().to_le_bytes());
        }
    }
    hasher.finalize().to_hex().chars().take(16).collect()
}

/// Adds the images of a dataset, which lists them apart from the messages and marks their places with
/// `<image>`.
fn place_images(chat: &mut ChatMessage, images: &mut VecDeque<String>) {
    let placeholders: usize = chat
        .draft
        .parts
        .iter()
        .map(|part| if let Part::Text { text } = part { text.matches("<image>").count() } else { 0 })
        .sum();
    for _ in 0..placeholders {
        let Some(image) = images.pop_front() else { return };
        if let Some(file) = FilePart::at_url(&image, "image/*", None) {
            chat.draft.parts.push(file.part);
            chat.attachments.extend(file.attachment);
        }
    }
}

/// Fields that may contain the time of a message.
const TIME_FIELDS: [&str; 4] = ["created_at", "timestamp", "create_time", "created"];
/// Fields that may contain the model's reasoning.
const REASONING_FIELDS: [&str; 3] = ["reasoning_content", "reasoning", "thinking"];

/// A message with its attachments.
#[derive(Debug)]
pub(crate) struct ChatMessage {
    pub draft: MessageDraft,
    pub attachments: Vec<Attachment>,
}

/// The role with this name, including the names that other tools use.
fn role(name: &str) -> Option<Role> {
    Some(match name {
        "user" | "human" => Role::User,
        "assistant" | "model" => Role::Assistant,
        "system" | "developer" => Role::System,
        "tool" | "function" => Role::Tool,
        _ => return None,
    })
}

/// The role of an item of OpenAI's Responses API that has no role.
fn item_role(kind: &str) -> Option<Role> {
    Some(match kind {
        "function_call" | "custom_tool_call" | "reasoning" => Role::Assistant,
        "function_call_output" | "custom_tool_call_output" => Role::Tool,
        _ => return None,
    })
}

/// Whether a record is a chat message.
pub(crate) fn is_message(fields: &Map<String, Value>) -> bool {
    match fields.get("role").and_then(Value::as_str) {
        Some(name) => {
            role(name).is_some()
                && ["content", "tool_calls", "function_call"].iter().any(|key| fields.contains_key(*key))
        }
        None => {
            let is_item =
                fields.get("type").and_then(Value::as_str).is_some_and(|kind| item_role(kind).is_some());
            // Records of Codex have an envelope or other fields.
            is_item && (fields.contains_key("call_id") || fields.contains_key("summary"))
        }
    }
}

fn time_of(fields: &Map<String, Value>) -> Option<(&'static str, Timestamp)> {
    TIME_FIELDS.into_iter().find_map(|key| Some((key, crate::time::from_json(fields.get(key)?)?)))
}

/// Converts a record into messages: the results of tools in a user's message become messages of their own, before the
/// rest. Returns the record if its role is not known.
fn messages(record: JsonRecord, format: &str, number: u64) -> Result<Vec<ChatMessage>, Map<String, Value>> {
    let JsonRecord { mut fields, raw } = record;
    let name = fields.get("role").and_then(Value::as_str).map(str::to_owned);
    let kind = fields.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    let role = match &name {
        Some(name) => role(name),
        None => item_role(&kind),
    };
    let Some(role) = role else { return Err(fields) };
    if name.as_deref() == Some(role.as_str()) {
        fields.shift_remove("role");
    }
    let time = time_of(&fields);
    let mut builder = MessageBuilder::new(format, &fields);
    match (name.is_some(), role) {
        (false, _) => builder.item(&kind, &mut fields),
        (true, Role::Tool) => builder.result(&mut fields),
        (true, _) => {
            builder.reasoning(&mut fields);
            builder.content(&mut fields);
            builder.calls(&mut fields);
        }
    }
    let at = time.map_or(Timestamp::UNKNOWN, |(_, at)| at);
    if let Some((key, at)) = time
        && fields.get(key).and_then(Value::as_str) == Some(&at.to_string())
    {
        fields.shift_remove(key);
    }
    let MessageBuilder { results, own, .. } = builder;
    let mut converted: Vec<ChatMessage> = Vec::new();
    let (has_results, is_empty) = (!results.is_empty(), own.parts.is_empty());
    for (index, content) in results.into_iter().enumerate() {
        converted.push(content.into_message(Role::Tool, at, format, format!("{number}/tool-{index}")));
    }
    if !has_results || !is_empty {
        let mut chat = own.into_message(role, at, format, number.to_string());
        if role == Role::Assistant {
            chat.draft.model = fields.get("model").and_then(Value::as_str).map(str::to_owned);
            chat.draft.usage = fields.get("usage").and_then(Value::as_object).and_then(|counts| {
                let count = |key: &str| super::conversation::number(counts, key);
                let details = ["prompt_tokens_details", "input_tokens_details"];
                let cached = details.iter().find_map(|key| counts.get(*key)?.get("cached_tokens")?.as_u64());
                usage(
                    &[count("prompt_tokens").or(count("input_tokens"))],
                    &[count("completion_tokens").or(count("output_tokens"))],
                )
                .map(|usage| usage.with_cache(cached, None))
            });
        }
        if fields.get("hidden") == Some(&Value::Bool(true)) {
            chat.draft.set_flag(MessageFlag::Hidden);
        }
        converted.push(chat);
    }
    if let Some(first) = converted.first_mut() {
        if let Some(raw) = raw {
            first.draft.extra.insert(RECORDS.into(), json!([{ RAW: raw }]));
        } else if !fields.is_empty() {
            first.draft.extra.insert(RECORDS.into(), json!([fields]));
        }
    }
    Ok(converted)
}

/// The content of one message.
#[derive(Debug, Default)]
struct Content {
    parts: Vec<Part>,
    attachments: Vec<Attachment>,
}

impl Content {
    fn of_result(id: String, output: ToolOutput, is_error: bool) -> Self {
        let mut parts = vec![Part::ToolResult { id, output: output.text, is_error }];
        parts.extend(output.files);
        Self { parts, attachments: output.attachments }
    }

    fn into_message(self, role: Role, at: Timestamp, format: &str, id: String) -> ChatMessage {
        let mut draft = MessageDraft::new(role, self.parts, at);
        draft.source = Some(MessageSource { format: format.to_owned(), id });
        ChatMessage { draft, attachments: self.attachments }
    }
}

/// Converts the fields of a record. In the stored record, `{"$part": [message, part]}` replaces what became a part.
struct MessageBuilder<'f> {
    format: &'f str,
    /// Results of tools inside of a user's message.
    results: Vec<Content>,
    own: Content,
    /// Number of the record's message that `own` becomes.
    own_index: usize,
}

impl<'f> MessageBuilder<'f> {
    fn new(format: &'f str, fields: &Map<String, Value>) -> Self {
        let items = fields.get("content").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let own_index =
            items.iter().filter_map(Value::as_object).filter(|block| is_tool_result(block)).count();
        Self { format, results: Vec::new(), own: Content::default(), own_index }
    }

    fn reference(&self, index: usize) -> Value {
        json!([self.own_index, index])
    }

    fn reasoning(&mut self, fields: &mut Map<String, Value>) {
        for key in REASONING_FIELDS {
            if let Some(Value::String(text)) = fields.get_mut(key)
                && !text.is_empty()
            {
                self.own.parts.push(Part::Thinking { text: std::mem::take(text), signature: None });
                fields.insert(key.into(), json!({ PART: self.reference(self.own.parts.len() - 1) }));
                return;
            }
        }
    }

    fn content(&mut self, fields: &mut Map<String, Value>) {
        match fields.get_mut("content").map(Value::take) {
            Some(Value::String(text)) => {
                fields.shift_remove("content");
                // An empty string becomes a part as well; null, which precedes tool calls, does not.
                self.own.parts.push(Part::Text { text });
            }
            Some(Value::Array(items)) => {
                let items = items.into_iter().map(|item| self.block(item)).collect();
                fields.insert("content".into(), Value::Array(items));
            }
            Some(Value::Null) => {
                fields.insert("content".into(), Value::Null);
            }
            Some(other) => {
                let reference =
                    self.push(Map::new(), Part::Opaque { source: self.format.into(), raw: other });
                fields.insert("content".into(), reference);
            }
            None => {}
        }
    }

    fn push(&mut self, mut rest: Map<String, Value>, part: Part) -> Value {
        self.own.parts.push(part);
        rest.insert(PART.into(), self.reference(self.own.parts.len() - 1));
        Value::Object(rest)
    }

    /// Converts one element of a content list and returns its replacement in the stored record.
    fn block(&mut self, block: Value) -> Value {
        let mut fields = match block {
            Value::Object(fields) if is_tool_result(&fields) => return self.result_block(fields),
            Value::Object(fields) if !fields.contains_key(PART) => fields,
            Value::String(text) => return self.push(Map::new(), Part::Text { text }),
            other => return self.push(Map::new(), Part::Opaque { source: self.format.into(), raw: other }),
        };
        let kind = fields.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        let key = ["text", "value", "thinking", "reasoning", "summary", "refusal"]
            .into_iter()
            .find(|key| fields.get(*key).is_some_and(Value::is_string));
        // In the stored record, `true` marks the field whose text became the part.
        match (kind.as_str(), key) {
            ("text" | "input_text" | "output_text" | "refusal", Some(key)) => {
                let text = take(&mut fields, key);
                fields.insert(key.into(), json!(true));
                self.push(fields, Part::Text { text })
            }
            ("reasoning" | "thinking", Some(key)) => {
                let text = take(&mut fields, key);
                fields.insert(key.into(), json!(true));
                let signature =
                    Some(take(&mut fields, "signature")).filter(|signature| !signature.is_empty());
                self.push(fields, Part::Thinking { text, signature })
            }
            ("redacted_thinking", _) => {
                let signature = Some(take(&mut fields, "data")).filter(|data| !data.is_empty());
                self.push(fields, Part::Thinking { text: String::new(), signature })
            }
            ("tool_call" | "function_call", Some("value")) => self.text_call(fields),
            ("tool_use" | "server_tool_use" | "mcp_tool_use", _) => {
                let id = take(&mut fields, "id");
                let name = take(&mut fields, "name");
                let input = fields.shift_remove("input").unwrap_or_default();
                self.push(fields, Part::ToolCall { id, name, input })
            }
            _ => self.file(fields),
        }
    }

    /// Converts a block that contains a file, or else keeps the block.
    fn file(&mut self, mut fields: Map<String, Value>) -> Value {
        // Some datasets write the URL of an image as `value`.
        let value = fields.get("value").filter(|value| value.is_string()).cloned();
        let has_url = fields.contains_key("url");
        if let Some(value) = value.filter(|_| !has_url) {
            fields.insert("url".into(), value);
        }
        let Some(file) = file_of(&fields) else {
            return self
                .push(Map::new(), Part::Opaque { source: self.format.into(), raw: Value::Object(fields) });
        };
        if file.attachment.is_some() {
            remove_data(&mut fields);
        } else if !has_url && fields.contains_key("value") {
            fields.shift_remove("url");
        }
        self.own.attachments.extend(file.attachment);
        self.push(fields, file.part)
    }

    /// Converts a tool call that is written as text: `{"name": ..., "arguments": ...}`.
    fn text_call(&mut self, mut fields: Map<String, Value>) -> Value {
        let text = fields.get("value").and_then(Value::as_str).unwrap_or_default();
        let parsed = parse(text).map(|parsed| parsed.value);
        let name =
            parsed.as_ref().and_then(|parsed| parsed.get("name")).and_then(Value::as_str).unwrap_or_default();
        let input =
            parsed.as_ref().and_then(|parsed| parsed.get("arguments").or_else(|| parsed.get("parameters")));
        let input = input.cloned().unwrap_or_else(|| Value::String(text.to_owned()));
        let call = Part::ToolCall { id: String::new(), name: name.to_owned(), input };
        let written = parsed.is_some_and(|parsed| serializes_as(&parsed, text));
        if written {
            fields.shift_remove("value");
        }
        self.push(fields, call)
    }

    fn calls(&mut self, fields: &mut Map<String, Value>) {
        if let Some(Value::Array(calls)) = fields.get_mut("tool_calls") {
            let calls: Vec<Value> = std::mem::take(calls).into_iter().map(|call| self.call(call)).collect();
            fields.insert("tool_calls".into(), Value::Array(calls));
        }
        if let Some(call @ Value::Object(_)) = fields.get_mut("function_call") {
            let call = call.take();
            let reference = self.call(json!({ "function": call }));
            fields.insert("function_call".into(), reference);
        }
    }

    fn call(&mut self, call: Value) -> Value {
        let Value::Object(mut fields) = call else {
            return self.push(Map::new(), Part::Opaque { source: self.format.into(), raw: call });
        };
        let id = take(&mut fields, "id");
        let (name, input) = match fields.get_mut("function") {
            Some(Value::Object(function)) => (take(function, "name"), take_arguments(function)),
            _ => (take(&mut fields, "name"), take_arguments(&mut fields)),
        };
        self.push(fields, Part::ToolCall { id, name, input })
    }

    /// Converts a tool's message into one result.
    fn result(&mut self, fields: &mut Map<String, Value>) {
        let id = match take(fields, "tool_call_id") {
            id if id.is_empty() => fields.get("name").and_then(Value::as_str).unwrap_or_default().to_owned(),
            id => id,
        };
        let is_error = fields.get("is_error") == Some(&Value::Bool(true));
        let output = take_output(fields, "content");
        self.own = Content::of_result(id, output, is_error);
    }

    /// Converts a result inside of a user's message.
    fn result_block(&mut self, mut fields: Map<String, Value>) -> Value {
        let id = match take(&mut fields, "tool_use_id") {
            id if id.is_empty() => take(&mut fields, "tool_call_id"),
            id => id,
        };
        let is_error = fields.get("is_error") == Some(&Value::Bool(true));
        let output = take_output(&mut fields, "content");
        fields.insert(PART.into(), json!([self.results.len(), 0]));
        self.results.push(Content::of_result(id, output, is_error));
        Value::Object(fields)
    }

    /// Converts an item of OpenAI's Responses API that has no role.
    fn item(&mut self, kind: &str, fields: &mut Map<String, Value>) {
        match kind {
            "reasoning" => {
                let text =
                    |key: &str| fields.get(key).map(|value| ToolOutput::new(value).text).unwrap_or_default();
                let text =
                    Some(text("summary")).filter(|text| !text.is_empty()).unwrap_or_else(|| text("content"));
                let signature = Some(take(fields, "encrypted_content")).filter(|data| !data.is_empty());
                self.own.parts.push(Part::Thinking { text, signature });
            }
            "function_call" | "custom_tool_call" => {
                let id = take(fields, "call_id");
                let name = take(fields, "name");
                let input = match fields.shift_remove("input") {
                    Some(input) => input,
                    None => take_arguments(fields),
                };
                self.own.parts.push(Part::ToolCall { id, name, input });
            }
            _ => {
                let id = take(fields, "call_id");
                let output = take_output(fields, "output");
                self.own = Content::of_result(id, output, false);
            }
        }
    }
}

fn is_tool_result(block: &Map<String, Value>) -> bool {
    let kind = block.get("type").and_then(Value::as_str).unwrap_or_default();
    kind.ends_with("tool_result") && (block.contains_key("tool_use_id") || block.contains_key("tool_call_id"))
}

/// The output of a tool. Removes the field if it is text, which becomes the result, or only the data of its files.
fn take_output(fields: &mut Map<String, Value>, key: &str) -> ToolOutput {
    let output = ToolOutput::new(fields.get(key).unwrap_or(&Value::Null));
    match fields.get_mut(key) {
        Some(Value::String(_)) => {
            fields.shift_remove(key);
        }
        Some(Value::Array(items)) => {
            for item in items.iter_mut().filter_map(Value::as_object_mut) {
                if file_of(item).is_some_and(|file| file.attachment.is_some()) {
                    remove_data(item);
                }
            }
        }
        _ => {}
    }
    output
}

/// Removes the data of a file from a block, because the attachment contains it.
fn remove_data(block: &mut Map<String, Value>) {
    const KEYS: [&str; 6] = ["data", "url", "image_url", "file_data", "base64", "value"];
    block.retain(|key, value| !(KEYS.contains(&key.as_str()) && value.is_string()));
    for inner in block.values_mut().filter_map(Value::as_object_mut) {
        inner.retain(|key, value| !(KEYS.contains(&key.as_str()) && value.is_string()));
    }
}

/// Removes and returns a string; empty if the field is missing or has another type.
fn take(fields: &mut Map<String, Value>, key: &str) -> String {
    match fields.get_mut(key) {
        Some(Value::String(text)) => {
            let text = std::mem::take(text);
            fields.shift_remove(key);
            text
        }
        _ => String::new(),
    }
}

/// Returns the arguments of a call. Removes the field only if serializing the value gives exactly the same
/// text.
pub(crate) fn take_arguments(fields: &mut Map<String, Value>) -> Value {
    match fields.get("arguments") {
        Some(Value::String(text)) => match parse(text) {
            Some(parsed) if parsed.raw.is_none() => {
                if serializes_as(&parsed.value, text) {
                    fields.shift_remove("arguments");
                }
                parsed.value
            }
            _ => fields.shift_remove("arguments").unwrap_or_default(),
        },
        Some(_) => fields.get("arguments").cloned().unwrap_or_default(),
        None => Value::Null,
    }
}

/// Whether serializing the value gives exactly this text.
fn serializes_as(value: &Value, text: &str) -> bool {
    let written = value.to_string();
    written == text
}
