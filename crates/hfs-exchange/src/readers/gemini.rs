//! Gemini CLI chats: one JSON object, or JSONL records that have to be replayed. The chats of subagents are in a folder
//! that is named after the session.

use std::collections::hash_map::Entry as MapEntry;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use hfs_core::{ImportError, MessageFlag, Part, Project, Role, Timestamp, plural, split_context};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::content::ToolOutput;
use super::conversation::{
    BufferedExport, ConversationTree, ImportedMessage, SentNode, TreeNode, number, read_small_file,
    regular_files, text, usage,
};
use super::genai::{self, FunctionResult};
use crate::detect::FormatProbe;
use crate::readers::{AFTER, BEFORE, Output, ReportBuilder};
use crate::records::{Entry, JsonRecord, for_each_record_from};
use crate::resume::{LineStart, StoredFields};
use crate::source::companion_states;
use crate::{Format, Source};

const NAME: &str = "gemini";

pub(crate) struct Gemini;

impl super::Reader for Gemini {
    fn format(&self) -> Format {
        Format::Gemini
    }

    fn probe(&self, probe: &FormatProbe) -> bool {
        let header = |fields: &Map<String, Value>| {
            fields.contains_key("sessionId")
                && fields.contains_key("projectHash")
                && !super::qwen::is_older_chat(fields)
        };
        probe.first_object().is_some_and(header) || probe.records().first().is_some_and(header)
    }

    fn read(&self, source: &Source, out: &mut Output<'_>) -> Result<(), ImportError> {
        if let Some(saved) = out.resume(NAME)
            && let Some(chat) = Chat::resumed(source, saved, out)?
        {
            return chat.send(source, out);
        }
        Chat::read(source, out)?.send(source, out)
    }
}

/// What is kept of a chat for the next import: the state before the newest message. Its header is that at the end of the file,
/// since records that are read again set the same fields.
#[derive(Serialize, Deserialize)]
struct SavedState {
    header: StoredFields,
    messages: Vec<SavedMessage>,
    /// The last message of the open line.
    last: Option<usize>,
    nodes: Vec<SentNode>,
    context: ChatContext,
    /// The chats of subagents, each with its state.
    subagents: HashMap<String, [u8; 32]>,
    /// The line of the newest message.
    start: LineStart,
}

#[derive(Serialize, Deserialize)]
struct SavedMessage {
    id: Option<String>,
    parent: Option<usize>,
    /// Its node, or that of its parent if it became no message.
    node: Option<usize>,
    is_replaced: bool,
}

/// What the conversion of a message needs to know of those before it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct ChatContext {
    /// The directories that the first message lists.
    directories: Vec<String>,
    results: SeenResults,
    /// Time of the message before, in microseconds.
    time: Option<i64>,
}

/// The results of tools that have been read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct SeenResults {
    /// For each id, the index of the first message with it.
    messages: HashMap<String, usize>,
    /// Index of the message that is being converted.
    current: usize,
}

impl SeenResults {
    /// Returns whether the id is new.
    fn insert(&mut self, id: String) -> bool {
        match self.messages.entry(id) {
            MapEntry::Occupied(_) => false,
            MapEntry::Vacant(slot) => {
                slot.insert(self.current);
                true
            }
        }
    }
}

/// A chat that has been read.
struct Chat {
    replay: Replay,
    session_id: String,
    conversation: ConversationTree,
    context: ChatContext,
    /// The chats of subagents that were sent and have not changed since, each with its state; `None` if they have to be sent.
    subagents: Option<HashMap<String, [u8; 32]>>,
    /// The place after the last line, if the next import may continue there.
    end: Option<LineStart>,
}

impl Chat {
    fn read(source: &Source, out: &mut Output<'_>) -> Result<Self, ImportError> {
        let mut conversation = ConversationTree::new(source, NAME, "");
        let mut replay = Replay::default();
        let end = replay.read(source, LineStart::BEGINNING, &mut conversation.report, out)?;
        let session_id = session_id(source, &replay.header)?;
        Ok(Self { replay, session_id, conversation, context: ChatContext::default(), subagents: None, end })
    }

    /// Continues after an earlier import. `None` if new records or subagents change what was sent before.
    fn resumed(
        source: &Source,
        saved: SavedState,
        out: &mut Output<'_>,
    ) -> Result<Option<Self>, ImportError> {
        let StoredFields(header) = saved.header;
        let session_id = session_id(source, &header)?;
        if companion_states(&subagents_of(source, &session_id)) != saved.subagents {
            return Ok(None);
        }
        let mut conversation = ConversationTree::new(source, NAME, "");
        conversation.resume(saved.nodes);
        let mut replay = Replay::resumed(header, saved.messages, saved.last);
        let end = replay.read(source, saved.start, &mut conversation.report, out)?;
        if replay.changes_known {
            return Ok(None);
        }
        let subagents = Some(saved.subagents);
        Ok(Some(Self { replay, session_id, conversation, context: saved.context, subagents, end }))
    }

    fn send(self, source: &Source, out: &mut Output<'_>) -> Result<(), ImportError> {
        let Self { mut replay, session_id, mut conversation, mut context, subagents, end } = self;
        let header = std::mem::take(&mut replay.header);
        context.directories = replay.directories().unwrap_or(context.directories);
        let directory = project_directory(source, &header, &context.directories);
        let mut added = replay.add_to(&mut conversation, None, "", &mut context);
        conversation.current = added.current;
        let subagents = match subagents {
            Some(known) => known,
            None => add_subagents(source, &session_id, &mut conversation, out)?,
        };
        let session = &mut conversation.session;
        session.project = directory.map(|directory| Project { directory, repository: None });
        session.title = text(&header, "summary").filter(|title| !title.is_empty()).map(str::to_owned);
        session.automatic_name = true;
        session.origin.id = session_id;
        conversation.set_times_from_messages();
        let time = |key: &str| header.get(key).and_then(crate::time::from_json);
        conversation.set_missing_times(time("startTime"), time("lastUpdated"));
        conversation.session.extra.insert(NAME.into(), Value::Object(header.clone()));
        conversation.send_with(out, |out, sent| {
            let Some((place, end)) = added.newest.zip(end) else { return Ok(()) };
            let Some(nodes) = SentNode::first(sent, place.nodes) else { return Ok(()) };
            added.messages.truncate(place.messages);
            context.results.messages.retain(|_, message| *message < place.messages);
            context.time = place.time;
            let state = SavedState {
                header: StoredFields(header),
                messages: added.messages,
                last: place.last,
                nodes,
                context,
                subagents,
                start: place.start,
            };
            out.resume_point(end.offset, NAME, &state)
        })
    }
}

fn session_id(source: &Source, header: &Map<String, Value>) -> Result<String, ImportError> {
    let id = text(header, "sessionId").map(str::to_owned).or_else(|| source.stem());
    id.ok_or_else(|| source.damaged("it has no session"))
}

/// A message in the tree that results from replaying the records.
struct ReplayedMessage {
    parent: Option<usize>,
    content: MessageContent,
    /// The line of the record that added it.
    start: LineStart,
    /// Whether a later list of messages omits it, or contains it at another place.
    is_replaced: bool,
}

enum MessageContent {
    Fields(Map<String, Value>),
    /// An earlier import sent it.
    Sent {
        id: Option<String>,
        node: Option<usize>,
    },
}

impl ReplayedMessage {
    fn id(&self) -> Option<String> {
        match &self.content {
            MessageContent::Fields(fields) => fields.get("id").and_then(message_id),
            MessageContent::Sent { id, .. } => id.clone(),
        }
    }
}

/// The state that results from replaying the records. Messages that were rewound, or that a later list of messages
/// omits, stay in the tree as a branch.
#[derive(Default)]
struct Replay {
    header: Map<String, Value>,
    messages: Vec<ReplayedMessage>,
    /// The open line: indexes of messages.
    line: Vec<usize>,
    /// Position in the open line of each message id.
    positions: HashMap<String, usize>,
    /// Records that are not messages, and contents that a later list of messages replaced, each with the number of messages before
    /// it. Replaced contents are stored too, because the messages that replace them after a resume lack tool calls, thoughts and
    /// tokens.
    others: Vec<(usize, Value)>,
    /// Ids of messages that an earlier import sent, and that were replaced.
    replaced_ids: HashSet<String>,
    /// Whether a record changes what an earlier import sent.
    changes_known: bool,
    /// The line that is being read.
    start: LineStart,
}

impl Replay {
    /// The state before the newest message of an earlier import.
    fn resumed(header: Map<String, Value>, messages: Vec<SavedMessage>, last: Option<usize>) -> Self {
        let messages: Vec<ReplayedMessage> = messages
            .into_iter()
            .map(|SavedMessage { id, parent, node, is_replaced }| ReplayedMessage {
                parent,
                content: MessageContent::Sent { id, node },
                start: LineStart::BEGINNING,
                is_replaced,
            })
            .collect();
        let before = |index: &usize| messages.get(*index).and_then(|message| message.parent);
        let mut line: Vec<usize> = std::iter::successors(last, before).take(messages.len()).collect();
        line.reverse();
        let replaced = messages.iter().filter(|message| message.is_replaced);
        let replaced_ids = replaced.filter_map(ReplayedMessage::id).collect();
        let mut positions = HashMap::new();
        for (position, message) in line.iter().filter_map(|index| messages.get(*index)).enumerate() {
            if let Some(id) = message.id() {
                positions.entry(id).or_insert(position);
            }
        }
        Self { header, messages, line, positions, replaced_ids, ..Self::default() }
    }

    /// Reads a transcript from this line on: `messages` in one document, or records that have to be replayed. Returns the place
    /// after its last line, if the next import may continue there.
    fn read(
        &mut self,
        source: &Source,
        start: LineStart,
        report: &mut ReportBuilder,
        out: &mut Output<'_>,
    ) -> Result<Option<LineStart>, ImportError> {
        if start == LineStart::BEGINNING && FormatProbe::new(source)?.has_key("messages") {
            let mut export = BufferedExport::read(source, "messages", out)?;
            export.count_unreadable(report);
            report.mapped();
            self.header = export.metadata;
            export.messages.into_iter().for_each(|message| self.append(message));
            return Ok(None);
        }
        let mut end = None;
        for_each_record_from::<JsonRecord>(source, start, &mut |at, entry| {
            out.progress(at.bytes)?;
            self.start = LineStart { line: at.line, offset: at.bytes };
            end = at.next;
            match entry {
                Entry::Record(record, _) => self.record(record.fields, at.line, report),
                Entry::Damaged(why) => report.dropped(Some(at.line), why),
            }
            Ok(())
        })?;
        Ok(end)
    }

    /// The directories that the first message lists; `None` if an earlier import sent it.
    fn directories(&self) -> Option<Vec<String>> {
        match &self.messages.first()?.content {
            MessageContent::Fields(fields) => Some(workspace_directories(fields)),
            MessageContent::Sent { .. } => None,
        }
    }

    fn record(&mut self, mut record: Map<String, Value>, line: u64, report: &mut ReportBuilder) {
        if let Some(Value::Object(mut set)) = record.shift_remove("$set") {
            report.mapped();
            if let Some(Value::Array(messages)) = set.shift_remove("messages") {
                let count = messages.len();
                let messages: Vec<Map<String, Value>> = messages.into_iter().filter_map(object).collect();
                if messages.len() < count {
                    let lost = count - messages.len();
                    report.warn(Some(line), format!("not objects: {} of a list", plural(lost, "message")));
                }
                self.replace(messages);
            }
            self.header.extend(set);
        } else if let Some(id) = record.get("$rewindTo") {
            report.mapped();
            // Gemini CLI forgets everything if it does not find the message.
            self.cut(message_id(id).and_then(|id| self.positions.get(&id).copied()).unwrap_or(0));
        } else if record.contains_key("sessionId") && !record.contains_key("type") {
            report.mapped();
            self.header.extend(record);
        } else if record.get("id").and_then(message_id).is_some() && record.contains_key("type") {
            report.mapped();
            self.append(record);
        } else {
            report.opaque();
            self.keep(record);
        }
    }

    /// Keeps a record or a content that is not a message.
    fn keep(&mut self, record: Map<String, Value>) {
        self.others.push((self.messages.len(), Value::Object(record)));
    }

    /// Ends the open line before this position.
    fn cut(&mut self, position: usize) {
        self.line.truncate(position);
        self.positions.retain(|_, at| *at < position);
    }

    /// Adds a message to the open line, or replaces the one with the same id.
    fn append(&mut self, fields: Map<String, Value>) {
        let id = fields.get("id").and_then(message_id);
        let known = id.as_ref().and_then(|id| self.positions.get(id)).and_then(|at| self.line.get(*at));
        match known.and_then(|index| self.messages.get_mut(*index)).map(|message| &mut message.content) {
            Some(MessageContent::Fields(content)) => *content = fields,
            Some(MessageContent::Sent { .. }) => self.changes_known = true,
            None => self.push(fields),
        }
    }

    /// Adds a message to the open line. In a list of messages, the results of tools have the id of their call's message.
    fn push(&mut self, fields: Map<String, Value>) {
        if let Some(id) = fields.get("id").and_then(message_id) {
            // The message that was replaced is not a branch then, but an earlier state of this one.
            self.changes_known |= self.replaced_ids.contains(&id);
            self.positions.entry(id).or_insert(self.line.len());
        }
        let parent = self.line.last().copied();
        let (content, start) = (MessageContent::Fields(fields), self.start);
        self.messages.push(ReplayedMessage { parent, content, start, is_replaced: false });
        self.line.push(self.messages.len() - 1);
    }

    /// Replaces the open line by a list of messages. Both share the messages at their beginning with equal ids. A resume
    /// writes such a list in several steps, the first of which omits most messages.
    fn replace(&mut self, messages: Vec<Map<String, Value>>) {
        let is_same = |old: &Map<String, Value>, new: &Map<String, Value>| {
            old.get("id") == new.get("id") && old.get("type") == new.get("type")
        };
        let mut messages = messages.into_iter().peekable();
        let mut shared = 0;
        while let Some(index) = self.line.get(shared).copied()
            && let Some(message) = self.messages.get_mut(index)
        {
            let MessageContent::Fields(old) = &mut message.content else {
                self.changes_known = true;
                return;
            };
            let Some(fields) = messages.next_if(|fields| is_same(old, fields)) else { break };
            if *old != fields {
                let replaced = std::mem::replace(old, fields);
                self.keep(replaced);
            }
            shared += 1;
        }
        for index in self.line.iter().skip(shared) {
            if let Some(message) = self.messages.get_mut(*index) {
                self.changes_known |= matches!(message.content, MessageContent::Sent { .. });
                message.is_replaced = true;
            }
        }
        self.cut(shared);
        messages.for_each(|fields| self.push(fields));
    }

    /// Adds the messages to a conversation, after the node `root`. A record that is not a message is stored with the next message.
    fn add_to(
        mut self,
        conversation: &mut ConversationTree,
        root: Option<usize>,
        prefix: &str,
        context: &mut ChatContext,
    ) -> AddedMessages {
        let mut added = AddedMessages::default();
        let mut others: Vec<Value> = Vec::new();
        let first = conversation.nodes.len();
        let is_kept = |message: &&ReplayedMessage| !message.is_replaced;
        let kept_ids: HashSet<String> =
            self.messages.iter().filter(is_kept).filter_map(ReplayedMessage::id).collect();
        let mut kept = std::mem::take(&mut self.others).into_iter().peekable();
        // The place before the next node, if it is the beginning of a line.
        let mut place: Option<Place> = None;
        let mut line = 0;
        for (index, message) in self.messages.into_iter().enumerate() {
            let parent = message.parent.and_then(|parent| added.messages.get(parent)?.node).or(root);
            let id = message.id();
            let mut saved =
                SavedMessage { id, parent: message.parent, node: parent, is_replaced: message.is_replaced };
            let fields = match message.content {
                MessageContent::Fields(fields) => fields,
                MessageContent::Sent { node, .. } => {
                    saved.node = node;
                    added.messages.push(saved);
                    continue;
                }
            };
            let has_others = !others.is_empty();
            while let Some((_, record)) = kept.next_if(|(before, _)| *before <= index) {
                others.push(record);
            }
            if line < message.start.line && !has_others {
                // A record that was kept before the message is not on its line.
                place = others.is_empty().then_some(Place {
                    start: message.start,
                    messages: index,
                    nodes: conversation.nodes.len(),
                    last: message.parent,
                    time: context.time,
                });
            }
            line = message.start.line;
            // A replaced message that is in the open line again is an earlier state of it; otherwise it is a branch.
            if message.is_replaced && saved.id.as_ref().is_some_and(|id| kept_ids.contains(id)) {
                others.push(Value::Object(fields));
                added.messages.push(saved);
                continue;
            }
            let at = fields.get("timestamp").and_then(crate::time::from_json);
            context.time = at.map(Timestamp::as_micros).or(context.time);
            let at = context.time.and_then(Timestamp::from_micros).unwrap_or(Timestamp::UNKNOWN);
            context.results.current = index;
            let mut converted = match text(&fields, "type") {
                Some("user") => user_messages(fields, at, &mut context.results),
                Some("gemini") => model_messages(fields, at, &mut context.results),
                _ => Converted { messages: Vec::new(), rest: fields },
            };
            let Some(first) = converted.messages.first_mut() else {
                others.push(Value::Object(converted.rest));
                added.messages.push(saved);
                continue;
            };
            first.set_record(converted.rest);
            if !others.is_empty() {
                first.draft.extra.insert(BEFORE.into(), Value::Array(std::mem::take(&mut others)));
            }
            for source in converted.messages.iter_mut().filter_map(|message| message.draft.source.as_mut()) {
                source.id.insert_str(0, prefix);
            }
            saved.node = Some(conversation.nodes.len());
            added.messages.push(saved);
            added.newest = place.take();
            conversation.nodes.push(TreeNode { parent, messages: converted.messages, ..TreeNode::default() });
        }
        others.extend(kept.map(|(_, record)| record));
        if !others.is_empty() {
            let nodes = conversation.nodes.get_mut(first..).unwrap_or_default();
            match nodes.iter_mut().rev().find_map(|node| node.messages.last_mut()) {
                Some(last) => {
                    last.draft.extra.insert(AFTER.into(), Value::Array(others));
                }
                None => conversation.other_records.append(&mut others),
            }
        }
        added.current = self.line.last().and_then(|last| added.messages.get(*last)?.node).or(root);
        added
    }
}

/// The messages of a chat that were added to a conversation.
#[derive(Default)]
struct AddedMessages {
    messages: Vec<SavedMessage>,
    /// The last node of the open line.
    current: Option<usize>,
    /// The place before the newest node.
    newest: Option<Place>,
}

/// A place before a message.
struct Place {
    /// The line of the message.
    start: LineStart,
    /// Number of messages and of nodes before it.
    messages: usize,
    nodes: usize,
    /// The last message of the open line.
    last: Option<usize>,
    /// Time of the message before, in microseconds.
    time: Option<i64>,
}

/// The chats of subagents, which are in a folder named after the session.
fn subagents_of(source: &Source, session: &str) -> Vec<PathBuf> {
    let is_name = !session.is_empty() && !session.contains(['/', '\\']) && session != "." && session != "..";
    let folder = source.path().and_then(Path::parent).filter(|_| is_name).map(|folder| folder.join(session));
    folder.map(|folder| regular_files(&folder, &["json", "jsonl"])).unwrap_or_default()
}

/// Adds the chats of subagents as branches. Returns the states of those whose call was found.
fn add_subagents(
    source: &Source,
    session: &str,
    conversation: &mut ConversationTree,
    out: &mut Output<'_>,
) -> Result<HashMap<String, [u8; 32]>, ImportError> {
    let paths = subagents_of(source, session);
    let mut states = companion_states(&paths);
    for path in paths {
        let name = path.display().to_string();
        let chat = Source::found(path);
        let mut replay = Replay::default();
        match replay.read(&chat, LineStart::BEGINNING, &mut conversation.report, out) {
            Ok(_) => {}
            Err(error @ ImportError::Interrupted { .. }) => return Err(error),
            Err(error) => {
                conversation.report.dropped(None, error.to_string());
                continue;
            }
        }
        let id =
            text(&replay.header, "sessionId").map(str::to_owned).or_else(|| chat.stem()).unwrap_or_default();
        let started = replay.header.get("startTime").and_then(crate::time::from_json);
        let call = conversation.node_with_value(&id);
        if call.is_none() {
            states.remove(&name);
        }
        let parent = call.or_else(|| conversation.node_at(started));
        let first = conversation.nodes.len();
        conversation.nodes.push(TreeNode {
            parent,
            fork: true,
            name: Some(id.clone()),
            ..TreeNode::default()
        });
        replay.add_to(conversation, Some(first), &format!("{id}/"), &mut ChatContext::default());
        let added = conversation.nodes.get_mut(first..).unwrap_or_default();
        for message in added.iter_mut().flat_map(|node| &mut node.messages) {
            message.draft.set_flag(MessageFlag::Sidechain);
        }
    }
    Ok(states)
}

fn object(value: Value) -> Option<Map<String, Value>> {
    if let Value::Object(fields) = value { Some(fields) } else { None }
}

/// The id of a message, which is a string in every known version.
fn message_id(id: &Value) -> Option<String> {
    match id {
        Value::String(id) => Some(id.clone()),
        Value::Number(id) => Some(id.to_string()),
        _ => None,
    }
}

/// The project's directory: from the file that Gemini CLI keeps in the project's folder, or one that the transcript
/// mentions and whose hash identifies the project.
fn project_directory(source: &Source, header: &Map<String, Value>, directories: &[String]) -> Option<String> {
    let mut folders = source.path().into_iter().flat_map(|path| path.ancestors().skip(1).take(3));
    if let Some(root) = folders.find_map(|folder| read_small_file(&folder.join(".project_root"))) {
        return Some(root.trim().to_owned()).filter(|root| !root.is_empty());
    }
    let listed =
        header.get("directories").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let candidates: Vec<&str> = listed.chain(directories.iter().map(String::as_str)).collect();
    let hash = text(header, "projectHash").unwrap_or_default();
    let is_project = |directory: &&&str| hex(&Sha256::digest(directory.as_bytes())) == hash;
    candidates.iter().find(is_project).or_else(|| candidates.first()).map(|directory| (*directory).to_owned())
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// The directories that the context at the beginning of a conversation lists.
fn workspace_directories(message: &Map<String, Value>) -> Vec<String> {
    let content = message.get("content").map(|content| ToolOutput::new(content).text).unwrap_or_default();
    let (context, _) = split_context(&content);
    let Some((_, list)) = context.split_once("Workspace Directories:**\n") else { return Vec::new() };
    let lines = list.lines().map_while(|line| line.trim_start().strip_prefix("- "));
    lines.filter(|line| line.starts_with('/') || line.contains(":\\")).map(str::to_owned).collect()
}

/// The messages of a record, and the fields of the record that did not become content.
struct Converted {
    messages: Vec<ImportedMessage>,
    rest: Map<String, Value>,
}

/// The results of tool calls, in order. Gemini CLI repeats results; only the first one with each id is imported.
struct ToolResults<'a> {
    seen: &'a mut SeenResults,
    results: Vec<(Part, ToolOutput)>,
    /// Whether the newest result is a repeated one.
    repeated: bool,
}

impl<'a> ToolResults<'a> {
    fn new(seen: &'a mut SeenResults) -> Self {
        Self { seen, results: Vec::new(), repeated: false }
    }

    fn push(&mut self, id: String, output: ToolOutput, is_error: bool) {
        self.repeated = !self.seen.insert(id.clone());
        if !self.repeated {
            let part = Part::ToolResult { id, output: output.text.clone(), is_error };
            self.results.push((part, output));
        }
    }

    /// Adds the result of a function call. Returns whether the item is one.
    fn push_function_result(&mut self, item: &Value, failed: bool) -> bool {
        let Some(FunctionResult { id, output, is_error }) = FunctionResult::of(item) else { return false };
        self.push(id, output, is_error || failed);
        true
    }

    /// Adds a part that belongs to the newest result, such as a picture.
    fn extend_newest(&mut self, part: &Value) {
        if let Some((Part::ToolResult { output: text, .. }, output)) = self.results.last_mut()
            && !self.repeated
        {
            output.add(part);
            text.clone_from(&output.text);
        }
    }

    fn into_messages(self, id: &str, at: Timestamp) -> impl Iterator<Item = ImportedMessage> {
        self.results.into_iter().enumerate().map(move |(number, (part, output))| {
            let mut parts = vec![part];
            parts.extend(output.files);
            let mut message =
                ImportedMessage::new(NAME, format!("{id}/tool-{number}"), Role::Tool, parts, at);
            message.attachments = output.attachments;
            message
        })
    }
}

fn user_messages(mut message: Map<String, Value>, at: Timestamp, results: &mut SeenResults) -> Converted {
    let id = message.get("id").and_then(message_id).unwrap_or_default();
    let mut parts = Vec::new();
    let mut attachments = Vec::new();
    let mut tools = ToolResults::new(results);
    for item in genai::items(message.shift_remove("content").unwrap_or_default()) {
        if !tools.push_function_result(&item, false) {
            parts.extend(genai::part(item, NAME, &mut attachments));
        }
    }
    let mut messages: Vec<ImportedMessage> = tools.into_messages(&id, at).collect();
    if !parts.is_empty() {
        let mut imported = ImportedMessage::new(NAME, id, Role::User, parts, at);
        imported.attachments = attachments;
        messages.push(imported);
    }
    Converted { messages, rest: message }
}

fn model_messages(mut message: Map<String, Value>, at: Timestamp, results: &mut SeenResults) -> Converted {
    let id = message.get("id").and_then(message_id).unwrap_or_default();
    let mut parts = Vec::new();
    let mut attachments = Vec::new();
    let mut calls = HashSet::new();
    if let Some(Value::Array(thoughts)) = message.get("thoughts") {
        for thought in thoughts {
            let texts = [thought.get("subject"), thought.get("description")];
            let texts: Vec<&str> = texts.into_iter().flatten().filter_map(Value::as_str).collect();
            parts.push(Part::Thinking { text: texts.join("\n"), signature: None });
        }
    }
    for item in genai::items(message.shift_remove("content").unwrap_or_default()) {
        let part = genai::part(item, NAME, &mut attachments);
        if let Some(Part::ToolCall { id, .. }) = &part {
            calls.insert(id.clone());
        }
        parts.extend(part);
    }
    let mut tools = ToolResults::new(results);
    if let Some(Value::Array(made)) = message.get_mut("toolCalls") {
        for call in made.iter_mut().filter_map(Value::as_object_mut) {
            let id = text(call, "id").unwrap_or_default().to_owned();
            let name = text(call, "name").unwrap_or_default().to_owned();
            if calls.insert(id.clone()) {
                let input = call.shift_remove("args").unwrap_or_default();
                parts.push(Part::ToolCall { id: id.clone(), name, input });
            }
            let failed = text(call, "status") == Some("error");
            match call.get("result") {
                Some(Value::Array(answers)) => {
                    for answer in answers {
                        if !tools.push_function_result(answer, failed) {
                            tools.extend_newest(answer);
                        }
                    }
                }
                Some(Value::Null) | None => {}
                Some(other) => {
                    if !tools.push_function_result(other, failed) {
                        tools.push(id, ToolOutput::new(other), failed);
                    }
                }
            }
        }
    }
    let usage = message.get("tokens").and_then(Value::as_object).and_then(|tokens| {
        let count = |key| number(tokens, key);
        usage(&[count("input")], &[count("output"), count("thoughts")])
            .map(|usage| usage.with_cache(count("cached"), None))
    });
    let mut imported = ImportedMessage::new(NAME, id.clone(), Role::Assistant, parts, at);
    imported.attachments = attachments;
    imported.draft.usage = usage;
    imported.draft.model = text(&message, "model").map(str::to_owned);
    let messages = std::iter::once(imported).chain(tools.into_messages(&id, at)).collect();
    Converted { messages, rest: message }
}
