//! Conversations that are held whole before they are handed over, as trees of messages.

use hfs_core::{
    Attachment, Disposition, ForeignSession, ImportError, MessageDraft, Origin, Part, Role, SessionSink,
    Source as MessageSource, Timestamp,
};
use serde_json::{Map, Value, json};

use crate::Source;
use crate::readers::{AFTER, FLAGS, RECORDS};
use crate::tally::Tally;

/// A message with the bytes it refers to.
#[derive(Debug)]
pub(crate) struct Drafted {
    pub draft: MessageDraft,
    pub attachments: Vec<Attachment>,
}

impl Drafted {
    /// A message that came from `format` under this id.
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

    /// Keeps what came with it.
    pub(crate) fn with_record(mut self, fields: Map<String, Value>) -> Self {
        self.keep(fields);
        self
    }

    /// Keeps what came with it.
    pub(crate) fn keep(&mut self, fields: Map<String, Value>) {
        if !fields.is_empty() {
            self.draft.extra.insert(RECORDS.into(), Value::Array(vec![Value::Object(fields)]));
        }
    }

    /// Marks it.
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

/// A place in a conversation's tree, with the messages said there (none, or several).
#[derive(Debug, Default)]
pub(crate) struct Node {
    pub parent: Option<usize>,
    /// Whether it begins a branch even where nothing else follows its parent.
    pub fork: bool,
    pub said: Vec<Drafted>,
}

/// A whole conversation.
#[derive(Debug)]
pub(crate) struct Conversation {
    pub session: ForeignSession,
    pub nodes: Vec<Node>,
    /// The node that a resume goes on from; the last one without it.
    pub current: Option<usize>,
    pub tally: Tally,
    /// Records that are no messages.
    pub events: Vec<Value>,
}

impl Conversation {
    /// An empty one.
    pub(crate) fn new(source: &Source, format: &str, id: impl Into<String>) -> Self {
        let path = source.path().map(|path| path.display().to_string());
        let session = ForeignSession::new(Origin { format: format.to_owned(), id: id.into(), path });
        Self { session, nodes: Vec::new(), current: None, tally: Tally::default(), events: Vec::new() }
    }

    /// Adds messages behind the newest.
    pub(crate) fn say(&mut self, said: Vec<Drafted>) {
        let parent = self.nodes.len().checked_sub(1);
        self.nodes.push(Node { parent, fork: false, said });
    }

    /// Sets the session's times to those of its messages that are known, where it has none of its own.
    pub(crate) fn time_by_messages(&mut self) {
        let times = || self.nodes.iter().flat_map(|node| &node.said).map(|said| said.draft.created_at);
        let known = || times().filter(|at| at.is_known());
        self.session.created_at = self.session.created_at.or_else(|| known().min());
        self.session.updated_at = self.session.updated_at.or_else(|| known().max());
    }

    /// Hands it over.
    pub(crate) fn hand_over(mut self, sink: &mut dyn SessionSink) -> Result<(), ImportError> {
        if !self.events.is_empty() {
            let events = Value::Array(std::mem::take(&mut self.events));
            match self.nodes.iter_mut().rev().find_map(|node| node.said.last_mut()) {
                Some(last) => last.draft.extra.insert(AFTER.into(), events),
                None => self.session.extra.insert(RECORDS.into(), events),
            };
        }
        if sink.begin(self.session)? == Disposition::Skip {
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
        let mut nodes: Vec<Option<Node>> = self.nodes.into_iter().map(Some).collect();
        // Each entry: a node, the branch and seq it follows, and whether it begins a branch there.
        let mut pending: Vec<(usize, usize, u64, bool)> =
            roots.iter().enumerate().map(|(number, root)| (*root, 0, 0, number > 0)).rev().collect();
        let mut branches = 1;
        while let Some((index, mut branch, mut seq, fork)) = pending.pop() {
            let Some(node) = nodes.get_mut(index).and_then(Option::take) else { continue };
            if fork || node.fork {
                sink.branch(branches, branch, seq, None, None)?;
                branch = branches;
                branches += 1;
            }
            for said in node.said {
                seq += 1;
                for attachment in said.attachments {
                    sink.attachment(attachment)?;
                }
                sink.message(branch, said.draft)?;
            }
            if index == current && branch > 0 {
                sink.current_branch(branch)?;
            }
            let next = children.get(index).map(Vec::as_slice).unwrap_or_default();
            pending.extend(
                next.iter().enumerate().rev().map(|(number, child)| (*child, branch, seq, number > 0)),
            );
        }
        sink.end(self.tally.finish())?;
        Ok(())
    }
}

/// A text field.
pub(crate) fn text<'a>(fields: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    fields.get(key).and_then(Value::as_str)
}

/// A number field.
pub(crate) fn number(fields: &Map<String, Value>, key: &str) -> Option<u64> {
    fields.get(key).and_then(Value::as_u64)
}

/// What a tool answered, as text.
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

/// A picture that came inline as base64.
pub(crate) fn inline_picture(
    media_type: &str,
    data: &str,
    name: Option<String>,
) -> (Part, Option<Attachment>) {
    match super::claude_code::decode_base64(data) {
        Some(attachment) => {
            let bytes = attachment.bytes.len() as u64;
            let hash = Some(attachment.hash);
            (Part::Attachment { media_type: media_type.to_owned(), name, hash, bytes }, Some(attachment))
        }
        None => (Part::Attachment { media_type: media_type.to_owned(), name, hash: None, bytes: 0 }, None),
    }
}
