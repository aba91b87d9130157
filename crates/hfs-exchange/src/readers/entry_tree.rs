//! Conversations in files whose entries each name the entry that they follow.
//!
//! Entries are read in the order of the file. An entry without a message, such as a change of the model, is
//! transparent: what follows it follows the message before it. Only messages therefore become nodes of the
//! tree, and a branch begins only where two messages follow the same one.
//!
//! The state of the tree before the newest message is kept, so that the next import of a file that has grown begins there. What a
//! reader knows besides the tree may be kept as it is at the end of the file if a record that is read again does not change it, and
//! if the conversion of a message does not depend on later records through it.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use hfs_core::ImportError;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::conversation::{ConversationTree, ImportedMessage, SentNode, TreeNode, text};
use crate::Source;
use crate::readers::{AFTER, BEFORE, FLAGS, Output, RAW};
use crate::records::{Entry, JsonRecord, RecordPosition, for_each_record_from};
use crate::resume::LineStart;

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

/// An entry of the file.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct FileEntry {
    id: String,
    /// Hash of its record, to recognize repeated records. Another compiler may compute another hash; a record that is repeated
    /// after an update of hfs is then kept twice.
    hash: u64,
    /// The newest node before it.
    before: Option<usize>,
    /// The node that its children follow, `None` before the first message; outer `None` if it has no children.
    node: Option<Option<usize>>,
}

/// A place between two entries of a file.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// The line of the next entry.
    start: LineStart,
    /// Number of entries and of nodes before it.
    entries: usize,
    nodes: usize,
    newest: Option<usize>,
}

/// What is kept of a file for the next import: its tree, and what its reader knows besides.
#[derive(Serialize, Deserialize)]
pub(crate) struct SavedState<K> {
    pub tree: SavedTree,
    pub known: K,
}

/// What is kept of a tree: the state at a place, and where the file ended.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SavedTree {
    entries: Vec<FileEntry>,
    nodes: Vec<SentNode>,
    newest: Option<usize>,
    /// The line with which the next import begins.
    start: LineStart,
    /// The place after the last line.
    pub end: LineStart,
}

impl SavedTree {
    /// Number of nodes. A later one is read again.
    pub(crate) fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// Number of entries. A later one is read again.
    pub(crate) fn entry_count(&self) -> usize {
        self.entries.len()
    }
}

/// A conversation under construction.
#[derive(Debug)]
pub(crate) struct EntryTree {
    pub conversation: ConversationTree,
    entries: Vec<FileEntry>,
    /// The index of each entry, by its id.
    by_id: HashMap<String, usize>,
    newest: Option<usize>,
    /// Records without a message that the next message will be stored with.
    others: Vec<Value>,
    /// The place before the newest message, and before the next one.
    newest_place: Option<Place>,
    next_place: Place,
    /// The line of the newest record.
    line: u64,
    /// The place after the last line; `None` if the last line may be incomplete.
    end: Option<LineStart>,
    /// Whether the file with the session itself is being read, not that of a subagent.
    is_in_session: bool,
}

impl EntryTree {
    pub(crate) fn new(conversation: ConversationTree) -> Self {
        Self {
            conversation,
            entries: Vec::new(),
            by_id: HashMap::new(),
            newest: None,
            others: Vec::new(),
            newest_place: None,
            next_place: Place::default(),
            line: 0,
            end: None,
            is_in_session: true,
        }
    }

    /// The conversation of a file, and what its reader knows besides. An earlier import may have sent the beginning: the records
    /// from the returned line on follow.
    pub(crate) fn begin<K: Default + DeserializeOwned>(
        source: &Source,
        reader: &str,
        out: &Output<'_>,
    ) -> (Self, K, LineStart) {
        let conversation = ConversationTree::new(source, reader, "");
        match out.resume(reader) {
            Some(SavedState { tree, known }) => {
                let start = tree.start;
                (Self::resumed(conversation, tree), known, start)
            }
            None => (Self::new(conversation), K::default(), LineStart::BEGINNING),
        }
    }

    fn resumed(mut conversation: ConversationTree, saved: SavedTree) -> Self {
        conversation.resume(saved.nodes);
        let by_id = (0..).zip(&saved.entries).map(|(index, entry)| (entry.id.clone(), index)).collect();
        Self { entries: saved.entries, by_id, newest: saved.newest, ..Self::new(conversation) }
    }

    /// What is kept for the next import, with the conversation as it was sent; `None` if the file has to be read as a whole.
    pub(crate) fn saved(place: Option<ResumePlace>, sent: &[SentNode]) -> Option<SavedTree> {
        let ResumePlace { place, end, mut entries } = place?;
        entries.truncate(place.entries);
        let nodes = SentNode::first(sent, place.nodes)?;
        Some(SavedTree { entries, nodes, newest: place.newest, start: place.start, end })
    }

    /// Returns the id under which an entry is added, or `None` if the same record was added before. An id that
    /// another entry has is made unique.
    pub(crate) fn claim_id(&mut self, id: &str, record: &Map<String, Value>) -> Option<String> {
        let mut hasher = DefaultHasher::new();
        record.hash(&mut hasher);
        let hash = hasher.finish();
        let mut unique = id.to_owned();
        let mut number = 1;
        while let Some(found) = self.entry(&unique) {
            if found.hash == hash {
                return None;
            }
            number += 1;
            unique = format!("{id}#{number}");
        }
        self.by_id.insert(unique.clone(), self.entries.len());
        self.entries.push(FileEntry { id: unique.clone(), hash, before: self.newest, node: None });
        Some(unique)
    }

    fn entry(&self, id: &str) -> Option<&FileEntry> {
        self.entries.get(*self.by_id.get(id)?)
    }

    /// Number of entries up to now.
    pub(crate) fn entry_count(&self) -> usize {
        self.entries.len()
    }

    /// The id of the first entry, which identifies a session whose header is lost.
    pub(crate) fn first_id(&self) -> Option<String> {
        self.entries.first().map(|entry| entry.id.clone())
    }

    /// The newest node before the entry with this id; outer `None` if there is no such entry.
    pub(crate) fn node_before(&self, id: &str) -> Option<Option<usize>> {
        self.entry(id).map(|entry| entry.before)
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
            Parent::Entry(id) => self.entry(id).and_then(|entry| entry.node).unwrap_or(self.newest),
        }
    }

    /// Adds an entry with its messages.
    pub(crate) fn push_messages(&mut self, id: &str, parent: Parent<'_>, messages: Vec<ImportedMessage>) {
        let parent = self.node_of(parent);
        let node = self.push_node(TreeNode { parent, messages, ..TreeNode::default() });
        self.newest = Some(node);
        self.set_node(id, self.newest);
    }

    fn set_node(&mut self, id: &str, node: Option<usize>) {
        if let Some(entry) = self.by_id.get(id).and_then(|index| self.entries.get_mut(*index)) {
            entry.node = Some(node);
        }
    }

    /// Adds a node that does not become the newest one, such as a message of a subagent.
    pub(crate) fn push_node(&mut self, mut node: TreeNode) -> usize {
        if let Some(first) = node.messages.first_mut()
            && !self.others.is_empty()
        {
            first.draft.extra.insert(BEFORE.into(), Value::Array(std::mem::take(&mut self.others)));
        }
        self.conversation.nodes.push(node);
        if self.is_in_session {
            self.newest_place = Some(self.next_place);
        }
        self.conversation.nodes.len() - 1
    }

    /// Adds an entry without a message, which stays with the messages verbatim.
    pub(crate) fn push_record(&mut self, id: Option<&str>, parent: Parent<'_>, record: Value) {
        let node = self.node_of(parent);
        self.newest = node;
        if let Some(id) = id {
            self.set_node(id, node);
        }
        self.others.push(record);
    }

    /// Stores a record with the messages without changing what the next entry follows.
    pub(crate) fn keep_record(&mut self, record: Value) {
        self.others.push(record);
    }

    /// Notes the place of the next record.
    fn begin_record(&mut self, at: RecordPosition) {
        if !self.is_in_session {
            return;
        }
        // Records without a message are stored with the next message, and a place is where a line begins.
        if self.others.is_empty() && self.line < at.line {
            self.next_place = Place {
                start: LineStart { line: at.line, offset: at.bytes },
                entries: self.entries.len(),
                nodes: self.conversation.nodes.len(),
                newest: self.newest,
            };
        }
        (self.line, self.end) = (at.line, at.next);
    }

    /// Stores the last records of a file with its last message. The file of a subagent may follow.
    pub(crate) fn end_file(&mut self) {
        self.is_in_session = false;
        if self.others.is_empty() {
            return;
        }
        let last = self.conversation.nodes.last_mut().and_then(|node| node.messages.last_mut());
        let others = std::mem::take(&mut self.others);
        match last {
            Some(last) => {
                last.draft.extra.insert(AFTER.into(), Value::Array(others));
            }
            None => self.conversation.other_records.extend(others),
        }
    }

    /// Where the next import may continue. Taken before [`finish`](Self::finish).
    pub(crate) fn take_resume_place(&mut self) -> Option<ResumePlace> {
        let (place, end) = self.newest_place.zip(self.end)?;
        Some(ResumePlace { place, end, entries: std::mem::take(&mut self.entries) })
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

/// The place before the newest message, with the entries of the whole file.
pub(crate) struct ResumePlace {
    place: Place,
    end: LineStart,
    entries: Vec<FileEntry>,
}

/// Calls `visit` for each record of a file with one record per line, from this place on. Damaged lines are counted.
pub(crate) fn read_lines(
    source: &Source,
    start: LineStart,
    tree: &mut EntryTree,
    out: &mut Output<'_>,
    mut visit: impl FnMut(&mut EntryTree, JsonRecord, u64),
) -> Result<(), ImportError> {
    for_each_record_from::<JsonRecord>(source, start, &mut |at, entry| {
        out.progress(at.bytes)?;
        tree.begin_record(at);
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
    })?;
    tree.end_file();
    Ok(())
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
