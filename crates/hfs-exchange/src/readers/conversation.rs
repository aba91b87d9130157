//! Reads a whole session into memory before it is sent to the receiver.
//!
//! Some formats require this, because a later part of the document changes an earlier one, or because the
//! messages form a tree whose branches are known only at the end. Other formats use
//! [`streamed`](super::streamed).

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use hfs_core::{
    Attachment, ForeignBranch, ForeignSession, ImportError, ImportEvent, MessageDraft, MessageFlag, Origin,
    Part, Role, Seq, Source as MessageSource, Timestamp, Usage,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::content::{FilePart, ToolOutput};
use crate::Source;
use crate::bounded::Bounded;
use crate::detect::FormatProbe;
use crate::json::parse;
use crate::json::pull::{Element, PullError, PullParser, visit_elements};
use crate::readers::{AFTER, Output, RECORDS, ReportBuilder, excerpt};
use crate::records::{StreamError, damage_message};

/// A message with its attachments.
#[derive(Debug)]
pub(crate) struct ImportedMessage {
    pub draft: MessageDraft,
    pub attachments: Vec<Attachment>,
}

impl ImportedMessage {
    /// Creates a message; `id` is its id in the other tool.
    pub(crate) fn new(
        format: &str,
        id: impl Into<String>,
        role: Role,
        parts: Vec<Part>,
        at: Timestamp,
    ) -> Self {
        let mut draft = MessageDraft::new(role, parts, at);
        draft.source = Some(MessageSource { format: format.to_owned(), id: id.into() });
        Self { draft, attachments: Vec::new() }
    }

    pub(crate) fn with_record(mut self, fields: Map<String, Value>) -> Self {
        self.set_record(fields);
        self
    }

    /// Stores the remaining fields of the record with the message.
    pub(crate) fn set_record(&mut self, fields: Map<String, Value>) {
        if !fields.is_empty() {
            self.draft.extra.insert(RECORDS.into(), Value::Array(vec![Value::Object(fields)]));
        }
    }

    /// Adds a flag if `set`.
    pub(crate) fn flagged(mut self, flag: MessageFlag, set: bool) -> Self {
        if set {
            self.draft.set_flag(flag);
        }
        self
    }
}

/// A node of a conversation, with any number of messages.
#[derive(Debug, Default)]
pub(crate) struct TreeNode {
    /// An earlier node.
    pub parent: Option<usize>,
    /// Whether it starts a branch even if it is the first child of its parent.
    pub fork: bool,
    /// Name of the branch that it starts.
    pub name: Option<String>,
    pub messages: Vec<ImportedMessage>,
    /// Set if an earlier import sent the node. It then has no messages here.
    pub sent: Option<SentNode>,
}

/// A node that was sent to the receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SentNode {
    parent: Option<usize>,
    fork: bool,
    /// The branch of its messages, and the seq of the last one.
    branch: usize,
    seq: Seq,
    /// Earliest and latest time of its messages, in microseconds.
    times: Option<(i64, i64)>,
}

impl SentNode {
    /// The first nodes of a conversation; `None` if one of them has no messages. The receiver does not keep a branch without
    /// messages.
    pub(crate) fn first(sent: &[Self], count: usize) -> Option<Vec<Self>> {
        let nodes = sent.get(..count)?;
        let is_empty = |node: &Self| {
            let before = node.parent.and_then(|parent| sent.get(parent)).map_or(0, |parent| parent.seq);
            node.seq == before
        };
        (!nodes.iter().any(is_empty)).then(|| nodes.to_vec())
    }

    /// The node whose branch it continues; `None` if it starts one.
    pub(crate) fn continued(&self) -> Option<usize> {
        self.parent.filter(|_| !self.fork)
    }

    fn into_node(self) -> TreeNode {
        TreeNode { parent: self.parent, fork: self.fork, sent: Some(self), ..TreeNode::default() }
    }
}

impl TreeNode {
    /// Earliest and latest known time of its messages, in microseconds.
    fn times(&self) -> Option<(i64, i64)> {
        let times = || self.messages.iter().filter_map(|message| message.draft.created_at.known());
        let known = times().min().zip(times().max());
        known
            .map(|(first, last)| (first.as_micros(), last.as_micros()))
            .or_else(|| self.sent.and_then(|sent| sent.times))
    }
}

/// A conversation that is read into memory as a tree of messages.
#[derive(Debug)]
pub(crate) struct ConversationTree {
    pub session: ForeignSession,
    pub nodes: Vec<TreeNode>,
    /// The node after which a resume continues; the last one by default.
    pub current: Option<usize>,
    pub report: ReportBuilder,
    /// Records that are not messages.
    pub other_records: Vec<Value>,
    /// Whether an earlier import sent the first nodes.
    is_resumed: bool,
}

impl ConversationTree {
    pub(crate) fn new(source: &Source, format: &str, id: impl Into<String>) -> Self {
        let path = source.path().map(|path| path.display().to_string());
        let session = ForeignSession::new(Origin { format: format.to_owned(), id: id.into(), path });
        Self {
            session,
            nodes: Vec::new(),
            current: None,
            report: ReportBuilder::default(),
            other_records: Vec::new(),
            is_resumed: false,
        }
    }

    /// Adds the nodes that an earlier import sent. Only what follows them is sent again.
    pub(crate) fn resume(&mut self, sent: Vec<SentNode>) {
        self.nodes = sent.into_iter().map(SentNode::into_node).collect();
        self.is_resumed = true;
    }

    /// Adds messages after the newest ones.
    pub(crate) fn push_messages(&mut self, messages: Vec<ImportedMessage>) {
        let parent = self.nodes.len().checked_sub(1);
        self.nodes.push(TreeNode { parent, messages, ..TreeNode::default() });
    }

    /// Sets missing times of the session to the earliest and latest known time of its messages.
    pub(crate) fn set_times_from_messages(&mut self) {
        let times = || self.nodes.iter().filter_map(TreeNode::times);
        let first = || times().map(|(first, _)| first).min().and_then(Timestamp::from_micros);
        let last = || times().map(|(_, last)| last).max().and_then(Timestamp::from_micros);
        self.session.created_at = self.session.created_at.or_else(first);
        self.session.updated_at = self.session.updated_at.or_else(last);
    }

    /// Gives messages without a time that of the message before them or `before`, or else that of the message after them
    /// or `after`.
    pub(crate) fn fill_message_times(&mut self, before: Option<Timestamp>, after: Option<Timestamp>) {
        let mut ends: Vec<Option<Timestamp>> = Vec::with_capacity(self.nodes.len());
        for node in &mut self.nodes {
            let mut last = node.parent.and_then(|parent| ends.get(parent).copied().flatten()).or(before);
            for message in &mut node.messages {
                last = message.draft.created_at.known().or(last);
                message.draft.created_at = last.unwrap_or(Timestamp::UNKNOWN);
            }
            ends.push(last);
        }
        // Messages that are still without a time are followed only by messages with one, if any.
        let mut next: Vec<Option<Timestamp>> = vec![None; self.nodes.len()];
        for (index, node) in self.nodes.iter_mut().enumerate().rev() {
            let mut following = next.get(index).copied().flatten().or(after);
            for message in node.messages.iter_mut().rev() {
                following = message.draft.created_at.known().or(following);
                message.draft.created_at = following.unwrap_or(Timestamp::UNKNOWN);
            }
            if let Some(parent) = node.parent.and_then(|parent| next.get_mut(parent)) {
                *parent = following.or(*parent);
            }
        }
    }

    /// The last node that begins at this time or earlier.
    pub(crate) fn node_at(&self, time: Option<Timestamp>) -> Option<usize> {
        let time = time?;
        let begins_before = |node: &TreeNode| {
            node.messages
                .first()
                .is_some_and(|first| first.draft.created_at.is_known() && first.draft.created_at <= time)
        };
        self.nodes.iter().rposition(begins_before)
    }

    /// The node whose stored record contains this value, such as the id of a session that a tool call started.
    pub(crate) fn node_with_value(&self, wanted: &str) -> Option<usize> {
        let contains = |node: &TreeNode| {
            node.messages
                .iter()
                .filter_map(|message| message.draft.extra.get(RECORDS))
                .any(|records| has_string(records, wanted))
        };
        self.nodes.iter().position(contains)
    }

    /// Adds the messages of a subagent as a branch that forks after the node `parent`.
    pub(crate) fn push_subagent(
        &mut self,
        name: String,
        parent: Option<usize>,
        messages: impl IntoIterator<Item = Vec<ImportedMessage>>,
    ) {
        self.current = self.current.or_else(|| self.nodes.len().checked_sub(1));
        self.nodes.push(TreeNode { parent, fork: true, name: Some(name), ..TreeNode::default() });
        for mut messages in messages {
            messages.iter_mut().for_each(|message| message.draft.set_flag(MessageFlag::Sidechain));
            self.push_messages(messages);
        }
    }

    /// Sets the times of the session that are still unknown.
    pub(crate) fn set_missing_times(&mut self, created_at: Option<Timestamp>, updated_at: Option<Timestamp>) {
        let session = &mut self.session;
        session.created_at = session.created_at.or(created_at);
        session.updated_at = session.updated_at.or(updated_at).max(session.created_at);
    }

    /// Sends the conversation to the receiver.
    pub(crate) fn send_to(self, out: &mut Output<'_>) -> Result<(), ImportError> {
        self.send_with(out, |_, _| Ok(()))
    }

    /// Sends the conversation to the receiver. `save` receives all nodes as they were sent, and sends the resume point.
    pub(crate) fn send_with(
        mut self,
        out: &mut Output<'_>,
        save: impl FnOnce(&mut Output<'_>, &[SentNode]) -> Result<(), ImportError>,
    ) -> Result<(), ImportError> {
        if !self.other_records.is_empty() {
            let others = Value::Array(std::mem::take(&mut self.other_records));
            match self.nodes.iter_mut().rev().find_map(|node| node.messages.last_mut()) {
                Some(last) => last.draft.extra.insert(AFTER.into(), others),
                None => self.session.extra.insert(RECORDS.into(), others),
            };
        }
        if self.is_resumed {
            self.session.resumed_after = Some(self.sent_heads());
        }
        if !out.session(self.session)? {
            return Ok(());
        }
        let current = self.current.or_else(|| self.nodes.len().checked_sub(1));
        // Branches are numbered in the order of their first nodes, so that they keep their numbers when the source grows.
        let mut branches = 1;
        let mut sent: Vec<SentNode> = Vec::with_capacity(self.nodes.len());
        // For each node, whether another node continues its branch.
        let mut is_continued = vec![false; self.nodes.len()];
        let mut is_begun = false;
        for node in self.nodes {
            let (parent, fork, times) = (node.parent, node.fork, node.times());
            let before = parent.and_then(|parent| sent.get(parent));
            let (mut branch, mut seq) = before.map_or((0, 0), |before| (before.branch, before.seq));
            let continued = match parent.and_then(|parent| is_continued.get_mut(parent)) {
                Some(continued) => continued,
                None => &mut is_begun,
            };
            let starts_branch = node.fork || *continued;
            if !starts_branch {
                *continued = true;
            }
            if let Some(known) = node.sent {
                branches = branches.max(known.branch + 1);
                sent.push(known);
                continue;
            }
            if starts_branch {
                send_branch(out, branches, branch, seq, node.name)?;
                branch = branches;
                branches += 1;
            }
            for message in node.messages {
                seq += 1;
                out.message(branch, message.draft, message.attachments)?;
            }
            sent.push(SentNode { parent, fork, branch, seq, times });
        }
        if let Some((end, is_continued)) =
            current.and_then(|current| sent.get(current).zip(is_continued.get(current)))
        {
            let mut branch = end.branch;
            // The tool continues before messages that it has kept, for example after a rewind.
            if *is_continued {
                send_branch(out, branches, branch, end.seq, None)?;
                branch = branches;
            }
            if branch > 0 {
                out.send(ImportEvent::CurrentBranch(branch))?;
            }
        }
        save(out, &sent)?;
        out.send(ImportEvent::End(self.report.finish()))
    }

    /// Head of each branch that an earlier import sent.
    fn sent_heads(&self) -> Vec<Seq> {
        let mut heads = vec![0];
        for node in self.nodes.iter().filter_map(|node| node.sent) {
            if heads.len() <= node.branch {
                heads.resize(node.branch + 1, 0);
            }
            if let Some(head) = heads.get_mut(node.branch) {
                *head = node.seq.max(*head);
            }
        }
        heads
    }
}

/// Whether a value contains this string. Iterative, because imported values may be nested deeper than the stack allows.
fn has_string(value: &Value, wanted: &str) -> bool {
    let mut pending = vec![value];
    while let Some(next) = pending.pop() {
        match next {
            Value::String(text) if text == wanted => return true,
            Value::Array(items) => pending.extend(items),
            Value::Object(fields) => pending.extend(fields.values()),
            Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    false
}

/// A session with the sessions that its agents started, directly or indirectly.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SessionGroup {
    pub root: String,
    /// Parents before children.
    pub subagents: Vec<String>,
}

/// Groups sessions, each given with the session whose agent started it. A session whose parent is missing, or that is
/// its own ancestor, is a root.
pub(crate) fn group_sessions(sessions: &[(String, Option<String>)]) -> Vec<SessionGroup> {
    let known: HashSet<&str> = sessions.iter().map(|(id, _)| id.as_str()).collect();
    let mut children: HashMap<&str, Vec<&str>> = HashMap::new();
    let mut roots = Vec::new();
    for (id, parent) in sessions {
        match parent.as_deref().filter(|parent| parent != id && known.contains(parent)) {
            Some(parent) => children.entry(parent).or_default().push(id),
            None => roots.push(id.as_str()),
        }
    }
    let mut seen = HashSet::new();
    let mut groups = Vec::new();
    // Sessions that no root reaches are in a cycle or below one.
    for root in roots.into_iter().chain(sessions.iter().map(|(id, _)| id.as_str())) {
        if !seen.insert(root) {
            continue;
        }
        let mut subagents = Vec::new();
        let mut pending: Vec<&str> = children.get(root).into_iter().flatten().rev().copied().collect();
        while let Some(id) = pending.pop() {
            if seen.insert(id) {
                subagents.push(id.to_owned());
                pending.extend(children.get(id).into_iter().flatten().rev());
            }
        }
        groups.push(SessionGroup { root: root.to_owned(), subagents });
    }
    groups
}

/// Sends the conversations of a dataset one behind the newest, so that records that are dropped after the
/// last conversation are in its report.
#[derive(Debug, Default)]
pub(crate) struct ConversationQueue {
    newest: Option<ConversationTree>,
    /// Records that were dropped before the first conversation.
    report: ReportBuilder,
}

impl ConversationQueue {
    /// Whether a conversation was added.
    pub(crate) const fn has_any(&self) -> bool {
        self.newest.is_some()
    }

    /// The report for records outside of conversations.
    pub(crate) fn report(&mut self) -> &mut ReportBuilder {
        self.newest.as_mut().map_or(&mut self.report, |newest| &mut newest.report)
    }

    /// Adds a conversation and sends the one before it.
    pub(crate) fn push(
        &mut self,
        mut conversation: ConversationTree,
        out: &mut Output<'_>,
    ) -> Result<(), ImportError> {
        conversation.report.merge(std::mem::take(&mut self.report));
        match self.newest.replace(conversation) {
            Some(complete) => complete.send_to(out),
            None => Ok(()),
        }
    }

    /// Sends the last conversation.
    ///
    /// # Errors
    /// Fails if there is no conversation, but something that could not be read.
    pub(crate) fn finish(self, source: &Source, out: &mut Output<'_>) -> Result<(), ImportError> {
        match self.newest {
            Some(last) => last.send_to(out),
            None if self.report.has_dropped() => {
                Err(source.damaged(self.report.first_reason("it contains no conversation")))
            }
            None => {
                out.leave_out_empty_session();
                Ok(())
            }
        }
    }
}

/// How an export has its conversations.
pub(crate) struct ExportFormat {
    /// Whether an element of the export is a conversation.
    pub is_conversation: fn(&Map<String, Value>) -> bool,
    /// Builds the conversation with this position, counted from 1.
    pub build: fn(&Source, Map<String, Value>, u64) -> ConversationTree,
}

/// Reads an export: a document with an array of conversations or with a single one, or an archive with such documents.
/// Damage costs the conversations that it hits; an error is returned only if none can be read.
pub(crate) fn read_export(
    source: &Source,
    format: &ExportFormat,
    out: &mut Output<'_>,
) -> Result<(), ImportError> {
    let probe = FormatProbe::new(source)?;
    let mut conversations = ConversationQueue::default();
    if probe.entries().is_empty() {
        read_export_document(source, source.open()?, format, &mut conversations, out)?;
    } else {
        let mut names = probe.conversation_entries();
        names.sort();
        let mut archive = source.archive()?;
        for name in names {
            let file = archive.by_name(&name).map_err(|error| source.damaged(error.to_string()))?;
            let compressed_bytes = file.compressed_size();
            let file = Bounded::new(file, compressed_bytes);
            read_export_document(source, file, format, &mut conversations, out)?;
        }
    }
    conversations.finish(source, out)
}

fn read_export_document(
    source: &Source,
    input: impl Read,
    format: &ExportFormat,
    conversations: &mut ConversationQueue,
    out: &mut Output<'_>,
) -> Result<(), ImportError> {
    // Position of the element that is read, which is the damaged one if reading fails.
    let mut number = 1;
    let mut conversation = |element: Element<'_>, bytes| -> Result<bool, StreamError> {
        out.progress(bytes)?;
        let is_conversation = match element {
            Element::Text(text) => match parse(text).map(|parsed| parsed.value) {
                Some(Value::Object(fields)) if (format.is_conversation)(&fields) => {
                    conversations.push((format.build)(source, fields, number), out)?;
                    true
                }
                _ => {
                    conversations.report().dropped(Some(number), "an element that is not a conversation");
                    false
                }
            },
            Element::Damaged { at, reason } => {
                let why = format!("a conversation that cannot be read: {reason} (at byte {at})");
                conversations.report().dropped(Some(number), why);
                false
            }
        };
        number += 1;
        Ok(is_conversation)
    };
    let parse_all = || -> Result<(), StreamError> {
        let mut parser = PullParser::new(input)?;
        if parser.peek()? == Some(b'[') {
            parser.enter()?;
            return visit_elements(&mut parser, None, &mut conversation);
        }
        // Files that were joined have one conversation after another.
        loop {
            let text = parser.value()?;
            conversation(Element::Text(&text), parser.consumed())?;
            if parser.peek()? != Some(b'{') {
                return Ok(parser.end()?);
            }
        }
    };
    match parse_all() {
        Err(StreamError::Json(PullError::Damaged { at, reason })) if conversations.has_any() => {
            conversations.report().dropped(Some(number), damage_message(reason, at));
            Ok(())
        }
        Err(error) => Err(error.into_import_error(source)),
        Ok(()) => Ok(()),
    }
}

fn send_branch(
    out: &mut Output<'_>,
    key: usize,
    parent: usize,
    forked_at: u64,
    name: Option<String>,
) -> Result<(), ImportError> {
    out.send(ImportEvent::Branch(ForeignBranch { key, parent, forked_at, id: None, name, undone: false }))
}

/// A string field.
pub(crate) fn text<'a>(fields: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    fields.get(key).and_then(Value::as_str)
}

/// A field that is a non-negative integer.
pub(crate) fn number(fields: &Map<String, Value>, key: &str) -> Option<u64> {
    let value = fields.get(key)?;
    // Some tools write integers with a decimal point. Larger ones have no exact floating-point number.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be in range")]
    let from_float = |number: f64| {
        (number.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&number)).then_some(number as u64)
    };
    value.as_u64().or_else(|| value.as_f64().and_then(from_float))
}

/// The sums of known token counts; `None` if none is known.
pub(crate) fn usage(prompt: &[Option<u64>], completion: &[Option<u64>]) -> Option<Usage> {
    let sum =
        |counts: &[Option<u64>]| counts.iter().flatten().fold(0_u64, |sum, count| sum.saturating_add(*count));
    let is_known = prompt.iter().chain(completion).any(Option::is_some);
    is_known.then(|| Usage::new(sum(prompt), sum(completion)))
}

/// The output of a tool as text.
pub(crate) fn as_text(output: &Value) -> String {
    ToolOutput::new(output).text
}

/// A part for a file that is given as base64, with its bytes if they can be decoded.
pub(crate) fn inline_image(media_type: &str, data: &str, name: Option<String>) -> (Part, Option<Attachment>) {
    match FilePart::from_base64(media_type, data, name.clone()) {
        Some(FilePart { part, attachment }) => (part, attachment),
        None => (Part::Attachment { media_type: media_type.to_owned(), name, hash: None, bytes: 0 }, None),
    }
}

/// The regular files of a folder with these extensions, sorted by name. Links are not followed.
pub(crate) fn regular_files(folder: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    if !fs::symlink_metadata(folder).is_ok_and(|metadata| metadata.is_dir()) {
        return Vec::new();
    }
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_wanted = |path: &PathBuf| {
        path.extension().is_some_and(|extension| extensions.iter().any(|wanted| extension == *wanted))
            && fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file())
    };
    let mut files: Vec<PathBuf> = entries.filter(is_wanted).collect();
    files.sort();
    files
}

/// Largest file that is read beside a transcript.
const MAX_SMALL_FILE: u64 = 64 << 10;

/// Reads a small file that belongs to a transcript; `None` if it is missing, too large or not a regular file. Links are
/// not followed.
pub(crate) fn read_small_file(path: &Path) -> Option<String> {
    let metadata = fs::symlink_metadata(path).ok()?;
    (metadata.is_file() && metadata.len() <= MAX_SMALL_FILE).then(|| fs::read_to_string(path).ok()).flatten()
}

/// Limit on the size of a [`BufferedExport`]. Real sessions are far smaller.
const MAX_BYTES: u64 = 256 << 20;

/// A document of one session that is read into memory, because later parts of it change earlier ones.
#[derive(Debug, Default)]
pub(crate) struct BufferedExport {
    pub metadata: Map<String, Value>,
    pub messages: Vec<Map<String, Value>>,
    /// Reasons why items could not be read.
    unreadable: Vec<String>,
}

impl BufferedExport {
    /// Reads a document whose messages are under `key`. If it is damaged after the first message, the
    /// messages before the damage are returned.
    pub(crate) fn read(source: &Source, key: &str, out: &mut Output<'_>) -> Result<Self, ImportError> {
        let mut export = Self::default();
        match export.fill(source, key, out) {
            Err(StreamError::Json(PullError::Damaged { at, reason })) if !export.messages.is_empty() => {
                export.unreadable.push(damage_message(reason, at));
            }
            filled => filled.map_err(|error| error.into_import_error(source))?,
        }
        Ok(export)
    }

    /// Counts the items that could not be read as dropped.
    pub(crate) fn count_unreadable(&mut self, report: &mut ReportBuilder) {
        self.unreadable.drain(..).for_each(|why| report.dropped(None, why));
    }

    fn fill(&mut self, source: &Source, messages_key: &str, out: &mut Output<'_>) -> Result<(), StreamError> {
        let mut parser = PullParser::new(source.open()?)?;
        parser.enter()?;
        while let Some(key) = parser.next_key()? {
            if key != messages_key || parser.peek()? != Some(b'[') {
                if let Some(parsed) = parse(&parser.value()?) {
                    self.metadata.insert(key, parsed.value);
                }
                continue;
            }
            parser.enter()?;
            visit_elements(&mut parser, Some(b'}'), |element, bytes| -> Result<bool, StreamError> {
                out.progress(bytes)?;
                if bytes > MAX_BYTES {
                    let reason = "it is too large to be read into memory";
                    return Err(PullError::Damaged { at: bytes, reason }.into());
                }
                match element {
                    Element::Text(text) => match parse(text).map(|parsed| parsed.value) {
                        Some(Value::Object(fields)) => {
                            self.messages.push(fields);
                            return Ok(true);
                        }
                        _ => self.unreadable.push(format!("not a message: `{}`", excerpt(text))),
                    },
                    Element::Damaged { at, reason } => {
                        self.unreadable
                            .push(format!("a message that cannot be read: {reason} (at byte {at})"));
                    }
                }
                Ok(false)
            })?;
        }
        Ok(parser.end()?)
    }
}
