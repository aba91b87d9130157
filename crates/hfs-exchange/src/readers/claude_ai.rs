//! The data export of claude.ai: the .zip, its conversations.json, or a file with one conversation.
//!
//! The export is not documented by its vendor. What is known of it comes from the files of public projects
//! that read it; conversations that browser extensions save have the same form and name the current leaf.

use hfs_core::{ImportError, Part, Role, Timestamp};
use serde_json::{Map, Value};

use super::content_blocks::BlockReader;
use super::conversation::{ConversationTree, ExportFormat, ImportedMessage, number, read_export, text};
use super::entry_tree::{EntryTree, Parent};
use crate::detect::FormatProbe;
use crate::readers::Output;
use crate::{Format, Source};

const NAME: &str = "claude-ai";
/// The parent that the first message of a conversation names.
const NO_PARENT: &str = "00000000-0000-4000-8000-000000000000";

pub(crate) struct ClaudeAi;

impl super::Reader for ClaudeAi {
    fn format(&self) -> Format {
        Format::ClaudeAi
    }

    fn probe(&self, probe: &FormatProbe) -> bool {
        probe.has_key("chat_messages")
    }

    fn read(&self, source: &Source, out: &mut Output<'_>) -> Result<(), ImportError> {
        let format = ExportFormat {
            is_conversation: |fields| fields.get("chat_messages").is_some_and(Value::is_array),
            build: conversation,
        };
        read_export(source, &format, out)
    }
}

fn conversation(source: &Source, mut fields: Map<String, Value>, position: u64) -> ConversationTree {
    let id = text(&fields, "uuid").map(str::to_owned);
    let id = id.unwrap_or_else(|| format!("{}/{position}", source.stem().unwrap_or_default()));
    let mut tree = EntryTree::new(ConversationTree::new(source, NAME, id));
    let messages = match fields.shift_remove("chat_messages") {
        Some(Value::Array(messages)) => messages,
        _ => Vec::new(),
    };
    let leaf = text(&fields, "current_leaf_message_uuid").map(str::to_owned);
    for (index, message) in messages.into_iter().enumerate() {
        push_message(&mut tree, message, index + 1);
    }
    if let Some(leaf) = leaf {
        let node = tree.node_of(Parent::Entry(&leaf));
        tree.continue_after(node);
    }
    let mut conversation = tree.finish();
    let session = &mut conversation.session;
    session.title = text(&fields, "name").filter(|name| !name.is_empty()).map(str::to_owned);
    session.automatic_name = true;
    session.created_at = fields.get("created_at").and_then(crate::time::from_json);
    session.updated_at = fields.get("updated_at").and_then(crate::time::from_json);
    session.extra.insert(NAME.into(), Value::Object(fields));
    conversation.set_times_from_messages();
    conversation
}

fn push_message(tree: &mut EntryTree, message: Value, position: usize) {
    let Value::Object(mut fields) = message else {
        let why = format!("not a message: `{}`", super::excerpt(&message.to_string()));
        tree.conversation.report.dropped(Some(position as u64), why);
        return;
    };
    let id = text(&fields, "uuid").map_or_else(|| format!("message-{position}"), str::to_owned);
    let Some(id) = tree.claim_id(&id, &fields) else {
        tree.conversation.report.dropped(Some(position as u64), "a repeated message");
        return;
    };
    let parent = text(&fields, "parent_message_uuid").map(str::to_owned);
    let parent = match parent.as_deref() {
        Some(NO_PARENT) => Parent::Root,
        Some(parent) => Parent::Entry(parent),
        None => Parent::Newest,
    };
    let role = match text(&fields, "sender") {
        Some("human" | "user") => Role::User,
        Some("assistant") => Role::Assistant,
        _ => {
            tree.conversation.report.opaque();
            tree.push_record(Some(&id), parent, Value::Object(fields));
            return;
        }
    };
    tree.conversation.report.mapped();
    let at = fields.get("created_at").and_then(crate::time::from_json).unwrap_or(Timestamp::UNIX_EPOCH);
    let mut messages = messages_of(&mut fields, &id, role, at);
    if let Some(first) = messages.first_mut() {
        first.set_record(fields);
    }
    tree.push_messages(&id, parent, messages);
}

/// Takes the content of a message: its attachments, then its blocks. Older exports have the text only.
fn messages_of(fields: &mut Map<String, Value>, id: &str, role: Role, at: Timestamp) -> Vec<ImportedMessage> {
    let mut reader = BlockReader::new(NAME, id, role, at);
    let list = |value: Option<Value>| if let Some(Value::Array(list)) = value { list } else { Vec::new() };
    for attachment in list(fields.shift_remove("attachments")) {
        push_attachment(&mut reader, attachment);
    }
    for file in list(fields.shift_remove("files")) {
        push_file(&mut reader, file);
    }
    let blocks = list(fields.shift_remove("content"));
    if blocks.is_empty() {
        if let Some(Value::String(text)) = fields.shift_remove("text").filter(|text| text != "") {
            reader.push_part(Part::Text { text });
        }
    } else {
        // The text repeats that of the blocks.
        fields.shift_remove("text");
    }
    for block in blocks {
        match voice_note(&block) {
            Some(text) => reader.push_part(Part::Text { text }),
            None => reader.push(block),
        }
    }
    let mut messages = reader.finish();
    if messages.is_empty() {
        messages.push(ImportedMessage::new(NAME, id, role, Vec::new(), at));
    }
    if role == Role::Assistant {
        let model = text(fields, "model").map(str::to_owned);
        messages.iter_mut().filter(|message| message.draft.role == role).for_each(|message| {
            message.draft.model.clone_from(&model);
        });
    }
    messages
}

fn voice_note(block: &Value) -> Option<String> {
    let is_voice = block.get("type").and_then(Value::as_str) == Some("voice_note");
    block.get("text").filter(|_| is_voice)?.as_str().map(str::to_owned)
}

/// An attached document, of which the export has the text. Long texts that were pasted have no name.
fn push_attachment(reader: &mut BlockReader<'_>, attachment: Value) {
    let Value::Object(fields) = &attachment else {
        return reader.push_part(Part::Opaque { source: NAME.into(), raw: attachment });
    };
    let name = text(fields, "file_name").filter(|name| !name.is_empty()).map(str::to_owned);
    let content = text(fields, "extracted_content").filter(|content| !content.is_empty());
    if name.is_some() || content.is_none() {
        let kind = text(fields, "file_type").filter(|kind| kind.contains('/'));
        reader.push_part(Part::Attachment {
            media_type: kind.unwrap_or("application/octet-stream").to_owned(),
            name,
            hash: None,
            bytes: number(fields, "file_size").unwrap_or(0),
        });
    }
    if let Some(content) = content {
        reader.push_part(Part::text(content));
    }
}

/// An attached file, of which the export has the name only.
fn push_file(reader: &mut BlockReader<'_>, file: Value) {
    let Value::Object(fields) = &file else {
        return reader.push_part(Part::Opaque { source: NAME.into(), raw: file });
    };
    let is_image = text(fields, "file_kind") == Some("image");
    let name = text(fields, "file_name").or_else(|| text(fields, "file_uuid")).map(str::to_owned);
    let media_type = if is_image { "image/*" } else { "application/octet-stream" };
    reader.push_part(Part::Attachment { media_type: media_type.into(), name, hash: None, bytes: 0 });
}
