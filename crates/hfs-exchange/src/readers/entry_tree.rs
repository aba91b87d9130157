//! Conversations in files whose entries each name the entry that they follow.
//!
//! Entries are read in the order of the file. An entry without a message, such as a change of the model, is
//! transparent: what follows it follows the message before it. Only messages therefore become nodes of the
//! tree, and a branch begins only where two messages follow the same one.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use hfs_core::ImportError;
use serde_json::{Map, Value, json};

use super::conversation::{ConversationTree, ImportedMessage, TreeNode, text};
use crate::Source;
use crate::readers::{BEFORE, FLAGS, Output, RAW};
use crate::records::{Entry, Framing, JsonRecord, for_each_record};

/// Limit on the bytes of a file that is read into memory. Real sessions are far smaller.
const MAX_BYTES: u64 = 256 << 20;

/// The entry that an entry follows.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Parent<'a> {
    /// None: it begins the conversation.
    Root,
    /// The newest one.
    Newest,
    /// The one with this id. If it has been lost, the newest one.
    Entry(&'a str),
}

impl<'a> Parent<'a> {
    /// The parent in a field of an entry: an id, null for the beginning, or missing.
    pub(crate) fn named_by(field: Option<&'a Value>) -> Self {
        match field {
            Some(Value::String(id)) => Self::Entry(id),
            Some(Value::Null) => Self::Root,
            _ => Self::Newest,
        }
    }
}

/// A conversation under construction.
#[derive(Debug)]
pub(crate) struct EntryTree {
    pub conversation: ConversationTree,
    /// For each entry, the node that its children follow; `None` before the first message.
    nodes: HashMap<String, Option<usize>>,
    /// Hashes of the records, by the id of their entry, to recognize repeated records.
    records: HashMap<String, u64>,
    /// The id of the first entry, which identifies a session whose header is lost.
    pub first_id: Option<String>,
    newest: Option<usize>,
    /// Records without a message that the next message will be stored with.
    others: Vec<Value>,
}

impl EntryTree {
    pub(crate) fn new(conversation: ConversationTree) -> Self {
        Self {
            conversation,
            nodes: HashMap::new(),
            records: HashMap::new(),
            first_id: None,
            newest: None,
            others: Vec::new(),
        }
    }

    /// Returns the id under which an entry is added, or `None` if the same record was added before. An id that
    /// another entry has is made unique.
    pub(crate) fn claim_id(&mut self, id: &str, record: &Map<String, Value>) -> Option<String> {
        let mut hasher = DefaultHasher::new();
        record.hash(&mut hasher);
        let hash = hasher.finish();
        let mut unique = id.to_owned();
        let mut number = 1;
        while let Some(found) = self.records.get(&unique) {
            if *found == hash {
                return None;
            }
            number += 1;
            unique = format!("{id}#{number}");
        }
        self.records.insert(unique.clone(), hash);
        self.first_id.get_or_insert_with(|| unique.clone());
        Some(unique)
    }

    /// Like [`claim_id`](Self::claim_id), for the record on a line, whose id is in the field `key` or else its line. A
    /// repeated record is counted.
    pub(crate) fn claim_record(
        &mut self,
        record: &Map<String, Value>,
        key: &str,
        line: u64,
    ) -> Option<String> {
        let id = text(record, key).map_or_else(|| format!("line-{line}"), str::to_owned);
        let claimed = self.claim_id(&id, record);
        if claimed.is_none() {
            self.conversation.report.dropped(Some(line), "a repeated record");
        }
        claimed
    }

    /// The node that an entry with this parent follows.
    pub(crate) fn node_of(&self, parent: Parent<'_>) -> Option<usize> {
        match parent {
            Parent::Root => None,
            Parent::Newest => self.newest,
            Parent::Entry(id) => self.nodes.get(id).copied().unwrap_or(self.newest),
        }
    }

    /// Adds an entry with its messages.
    pub(crate) fn push_messages(&mut self, id: &str, parent: Parent<'_>, messages: Vec<ImportedMessage>) {
        let parent = self.node_of(parent);
        let node = self.push_node(TreeNode { parent, messages, ..TreeNode::default() });
        self.newest = Some(node);
        self.nodes.insert(id.to_owned(), self.newest);
    }

    /// Adds a node that does not become the newest one, such as a message of a subagent.
    pub(crate) fn push_node(&mut self, mut node: TreeNode) -> usize {
        if let Some(first) = node.messages.first_mut()
            && !self.others.is_empty()
        {
            first.draft.extra.insert(BEFORE.into(), Value::Array(std::mem::take(&mut self.others)));
        }
        self.conversation.nodes.push(node);
        self.conversation.nodes.len() - 1
    }

    /// Adds an entry without a message, which stays with the messages verbatim.
    pub(crate) fn push_record(&mut self, id: Option<&str>, parent: Parent<'_>, record: Value) {
        let node = self.node_of(parent);
        self.newest = node;
        if let Some(id) = id {
            self.nodes.insert(id.to_owned(), node);
        }
        self.others.push(record);
    }

    /// Stores a record with the messages without changing what the next entry follows.
    pub(crate) fn keep_record(&mut self, record: Value) {
        self.others.push(record);
    }

    /// Continues after a node that was added before.
    pub(crate) fn continue_after(&mut self, node: Option<usize>) {
        self.newest = node;
    }

    /// The conversation, whose open line ends at the newest entry.
    pub(crate) fn finish(mut self) -> ConversationTree {
        let nodes = &mut self.conversation.nodes;
        self.conversation.current = self.newest;
        if nodes.iter().any(|node| node.parent == self.newest && !node.fork) {
            // The user went back to an earlier message and has not continued from there.
            nodes.push(TreeNode { parent: self.newest, fork: true, ..TreeNode::default() });
            self.conversation.current = nodes.len().checked_sub(1);
        }
        self.conversation.other_records.append(&mut self.others);
        self.conversation
    }
}

/// Calls `visit` for each record of a file with one record per line. Damaged lines are counted.
pub(crate) fn read_lines(
    source: &Source,
    tree: &mut EntryTree,
    out: &mut Output<'_>,
    mut visit: impl FnMut(&mut EntryTree, JsonRecord, u64),
) -> Result<(), ImportError> {
    for_each_record::<JsonRecord>(source, Framing::Lines, &mut |at, entry| {
        out.progress(at.bytes)?;
        match entry {
            Entry::Record(..) if at.bytes > MAX_BYTES => {
                tree.conversation
                    .report
                    .dropped(Some(at.line), "the file is too large to be read into memory");
            }
            Entry::Record(record, _) => visit(tree, record, at.line),
            Entry::Damaged(why) => tree.conversation.report.dropped(Some(at.line), why),
        }
        Ok(())
    })
}

/// The record as it is stored: its fields, or its text if they do not represent it without loss.
pub(crate) fn stored_record(fields: Map<String, Value>, raw: Option<String>) -> Value {
    raw.map_or_else(|| Value::Object(fields), |raw| json!({ RAW: raw }))
}

/// Adds flags to the messages of an entry.
pub(crate) fn flag_all(messages: &mut [ImportedMessage], flag: &str) {
    for message in messages {
        match message.draft.extra.get_mut(FLAGS) {
            Some(Value::Array(flags)) => flags.push(flag.into()),
            _ => {
                message.draft.extra.insert(FLAGS.into(), json!([flag]));
            }
        }
    }
}
