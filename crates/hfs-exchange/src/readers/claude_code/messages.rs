//! Records to messages.

use hfs_core::{MessageDraft, MessageStatus, PassthroughFields, Role, Source as MessageSource, Timestamp};

use super::blocks::Parts;
use super::content::{Block, Content};
use super::record::Record;
use crate::json::{push_array, push_value};
use crate::readers::{AFTER, BEFORE, FLAGS, RECORDS};

/// More than what usually stands in a shell for a content, in bytes.
const USUAL_SHELL: usize = 128;

/// A message with what it refers to.
#[derive(Debug)]
pub(crate) struct Drafted {
    pub draft: MessageDraft,
    pub attachments: Vec<hfs_core::Attachment>,
    pub kept: Kept,
}

/// What is kept beside a message, as JSON.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    flags: Vec<&'static str>,
    /// The records that it was made of, without its content.
    pub records: Vec<String>,
    /// Records that are no messages, and stood before and after it.
    pub before: Vec<String>,
    pub after: Vec<String>,
}

impl Kept {
    /// The same as what came with the message.
    fn into_extra(self) -> PassthroughFields {
        let flags: Vec<String> = self.flags.iter().map(|flag| format!("{flag:?}")).collect();
        let lists = [(FLAGS, flags), (RECORDS, self.records), (BEFORE, self.before), (AFTER, self.after)];
        let length = lists.iter().flat_map(|(_, list)| list).map(|json| json.len() + 1).sum::<usize>();
        let mut json = String::with_capacity(length + 64);
        for (name, list) in lists.iter().filter(|(_, list)| !list.is_empty()) {
            json.extend([if json.is_empty() { "{\"" } else { ",\"" }, name, "\":"]);
            push_array(&mut json, list, |json, value| json.push_str(value));
        }
        if json.is_empty() {
            return PassthroughFields::new();
        }
        json.push('}');
        PassthroughFields::from_json(json)
    }
}

impl Drafted {
    fn new(record: &Record, role: Role, id: String, at: Timestamp) -> Self {
        let mut draft = MessageDraft::new(role, Vec::new(), at);
        draft.source = Some(MessageSource { format: super::NAME.into(), id });
        draft.agent.clone_from(&record.facts.agent);
        let kept = Kept { flags: record.facts.flags().collect(), ..Kept::default() };
        Self { draft, attachments: Vec::new(), kept }
    }

    /// The message, and what it refers to.
    pub(crate) fn finish(mut self) -> (MessageDraft, Vec<hfs_core::Attachment>) {
        self.draft.extra = self.kept.into_extra();
        (self.draft, self.attachments)
    }
}

/// The id that the messages of a record are found by.
pub(crate) fn record_id(record: &Record, line: u64) -> String {
    record.facts.uuid.clone().unwrap_or_else(|| format!("line-{line}"))
}

/// The messages of a user's record: one for each tool result, then one for the rest.
pub(crate) fn of_user(mut record: Record, line: u64, at: Timestamp) -> Vec<Drafted> {
    let id = record_id(&record, line);
    let is_result =
        |block: &Block| matches!(block, Block::Fields(fields) if fields.text("type") == Some("tool_result"));
    let mut messages: Vec<(Role, Parts)> = Vec::new();
    let mut user = Parts::default();
    let mut shell = String::with_capacity(USUAL_SHELL);
    match record.content.take() {
        Some(Content::Blocks(blocks)) => {
            let results = blocks.iter().filter(|block| is_result(block)).count();
            push_array(&mut shell, blocks, |shell, block| {
                if is_result(&block) {
                    let mut tool = Parts::default();
                    tool.add(block, messages.len(), shell);
                    messages.push((Role::Tool, tool));
                } else {
                    user.add(block, results, shell);
                }
            });
        }
        Some(Content::Text(text)) => user.add_text(text, &mut shell),
        Some(Content::Other(other)) => user.add(other.into(), 0, &mut shell),
        None => {}
    }
    if !user.parts.is_empty() {
        messages.push((Role::User, user));
    }
    let mut drafted: Vec<Drafted> = messages
        .into_iter()
        .enumerate()
        .map(|(number, (role, parts))| {
            let id = if number == 0 { id.clone() } else { format!("{id}/{number}") };
            let mut drafted = Drafted::new(&record, role, id, at);
            drafted.draft.parts = parts.parts;
            drafted.attachments = parts.attachments;
            drafted
        })
        .collect();
    if let Some(first) = drafted.first_mut() {
        first.kept.records.push(record.with_content(&shell));
    }
    drafted
}

/// An assistant's message of one record; [`extend`] adds the others.
pub(crate) fn of_assistant(record: Record, line: u64, at: Timestamp) -> Drafted {
    let mut drafted = Drafted::new(&record, Role::Assistant, record_id(&record, line), at);
    extend(&mut drafted, record);
    drafted
}

/// Adds a record to the message it continues.
pub(crate) fn extend(drafted: &mut Drafted, mut record: Record) {
    let draft = &mut drafted.draft;
    let mut parts = Parts { parts: std::mem::take(&mut draft.parts), attachments: Vec::new() };
    let mut shell = String::with_capacity(USUAL_SHELL);
    match record.content.take() {
        Some(Content::Blocks(blocks)) => {
            push_array(&mut shell, blocks, |shell, block| parts.add(block, 0, shell));
        }
        Some(Content::Text(text)) => parts.add_text(text, &mut shell),
        Some(Content::Other(other)) => push_value(&mut shell, &other),
        None => {}
    }
    draft.parts = parts.parts;
    drafted.attachments.append(&mut parts.attachments);
    drafted.kept.records.push(record.with_content(&shell));
    let facts = record.facts;
    if facts.model.is_some() {
        draft.model = facts.model;
    }
    if facts.usage.is_some() {
        draft.usage = facts.usage;
    }
    if facts.is_aborted {
        draft.status = MessageStatus::Interrupted;
    }
}
