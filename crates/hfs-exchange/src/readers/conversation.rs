//! Reads a whole session into memory before it is sent.
//!
//! Some formats require this, because a later part of the document changes an earlier one, or because the
//! messages form a tree whose branches are known only at the end. Other formats use
//! [`streamed`](super::streamed).

use hfs_core::{
    Attachment, ForeignBranch, ForeignSession, ImportError, ImportEvent, MessageDraft, Origin, Part, Role,
    Source as MessageSource, Timestamp,
};
use serde_json::{Map, Value, json};

use crate::Source;
use crate::json::parse;
use crate::json::pull::{PullError, PullParser};
use crate::readers::{AFTER, FLAGS, Output, RECORDS, ReportBuilder, excerpt};
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
    pub(crate) fn flagged(mut self, flag: &str, set: bool) -> Self {
        if set {
            match self.draft.extra.get_mut(FLAGS) {
                Some(Value::Array(flags)) => flags.push(flag.into()),
                _ => {
                    self.draft.extra.insert(FLAGS.into(), json!([flag]));
                }
            }
        }
        self
    }
}

/// A node of a conversation, with any number of messages.
#[derive(Debug, Default)]
pub(crate) struct TreeNode {
    pub parent: Option<usize>,
    /// Whether it starts a branch even if it is the first child of its parent.
    pub fork: bool,
    /// Name of the branch that it starts.
    pub name: Option<String>,
    pub messages: Vec<ImportedMessage>,
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
        }
    }

    /// Adds messages after the newest ones.
    pub(crate) fn push_messages(&mut self, messages: Vec<ImportedMessage>) {
        let parent = self.nodes.len().checked_sub(1);
        self.nodes.push(TreeNode { parent, messages, ..TreeNode::default() });
    }

    /// Sets missing times of the session to the earliest and latest known time of its messages.
    pub(crate) fn set_times_from_messages(&mut self) {
        let times =
            || self.nodes.iter().flat_map(|node| &node.messages).map(|message| message.draft.created_at);
        let known = || times().filter(|at| at.is_known());
        self.session.created_at = self.session.created_at.or_else(|| known().min());
        self.session.updated_at = self.session.updated_at.or_else(|| known().max());
    }

    /// Sends the conversation.
    pub(crate) fn send_to(mut self, out: &mut Output<'_>) -> Result<(), ImportError> {
        if !self.other_records.is_empty() {
            let others = Value::Array(std::mem::take(&mut self.other_records));
            match self.nodes.iter_mut().rev().find_map(|node| node.messages.last_mut()) {
                Some(last) => last.draft.extra.insert(AFTER.into(), others),
                None => self.session.extra.insert(RECORDS.into(), others),
            };
        }
        if !out.session(self.session)? {
            return Ok(());
        }
        let current = self.current.unwrap_or(self.nodes.len().saturating_sub(1));
        let mut children: Vec<Vec<usize>> = vec![Vec::new(); self.nodes.len()];
        let mut roots = Vec::new();
        for (index, node) in self.nodes.iter().enumerate() {
            match node.parent.and_then(|parent| children.get_mut(parent)) {
                Some(siblings) => siblings.push(index),
                None => roots.push(index),
            }
        }
        let mut nodes: Vec<Option<TreeNode>> = self.nodes.into_iter().map(Some).collect();
        // Each entry: a node, the branch and seq that it follows, and whether it starts a branch there.
        let mut pending: Vec<(usize, usize, u64, bool)> =
            roots.iter().enumerate().map(|(number, root)| (*root, 0, 0, number > 0)).rev().collect();
        let mut branches = 1;
        while let Some((index, mut branch, mut seq, fork)) = pending.pop() {
            let Some(node) = nodes.get_mut(index).and_then(Option::take) else { continue };
            if fork || node.fork {
                out.send(ImportEvent::Branch(ForeignBranch {
                    key: branches,
                    parent: branch,
                    forked_at: seq,
                    id: None,
                    name: node.name,
                }))?;
                branch = branches;
                branches += 1;
            }
            for message in node.messages {
                seq += 1;
                out.message(branch, message.draft, message.attachments)?;
            }
            if index == current && branch > 0 {
                out.send(ImportEvent::CurrentBranch(branch))?;
            }
            let next = children.get(index).map(Vec::as_slice).unwrap_or_default();
            // The first child that does not start a branch continues this one.
            let starts_branch =
                |child: &usize| nodes.get(*child).and_then(Option::as_ref).is_some_and(|node| node.fork);
            let continues = next.iter().position(|child| !starts_branch(child));
            pending.extend(
                next.iter()
                    .enumerate()
                    .rev()
                    .map(|(number, child)| (*child, branch, seq, Some(number) != continues)),
            );
        }
        out.send(ImportEvent::End(self.report.finish()))
    }
}

/// A string field.
pub(crate) fn text<'a>(fields: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    fields.get(key).and_then(Value::as_str)
}

/// An integer field.
pub(crate) fn number(fields: &Map<String, Value>, key: &str) -> Option<u64> {
    fields.get(key).and_then(Value::as_u64)
}

/// The output of a tool as text.
pub(crate) fn as_text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let texts = items.iter().map(|item| match item.get("text").and_then(Value::as_str) {
                Some(text) => text.to_owned(),
                None => as_text_item(item),
            });
            texts.collect::<Vec<_>>().join("\n")
        }
        other => other.to_string(),
    }
}

fn as_text_item(item: &Value) -> String {
    item.as_str().map_or_else(|| item.to_string(), str::to_owned)
}

/// A part for an image that is given inline as base64.
pub(crate) fn inline_image(media_type: &str, data: &str, name: Option<String>) -> (Part, Option<Attachment>) {
    match super::claude_code::decode_base64(data) {
        Some(attachment) => {
            let bytes = attachment.bytes.len() as u64;
            let hash = Some(attachment.hash);
            (Part::Attachment { media_type: media_type.to_owned(), name, hash, bytes }, Some(attachment))
        }
        None => (Part::Attachment { media_type: media_type.to_owned(), name, hash: None, bytes: 0 }, None),
    }
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
            while parser.next_element()? {
                out.progress(parser.consumed())?;
                if parser.consumed() > MAX_BYTES {
                    let reason = "it is too large to be read into memory";
                    return Err(PullError::Damaged { at: parser.consumed(), reason }.into());
                }
                let text = parser.value()?;
                match parse(&text).map(|parsed| parsed.value) {
                    Some(Value::Object(fields)) => self.messages.push(fields),
                    _ => self.unreadable.push(format!("not a message: `{}`", excerpt(&text))),
                }
            }
        }
        Ok(())
    }
}
