//! ChatGPT's data export: the .zip, its conversations.json, the split files of newer exports, or a file with
//! a single conversation.

use std::collections::HashMap;

use hfs_core::{ImportError, MessageFlag, Part, Role, Timestamp};
use serde_json::{Map, Value};

use super::conversation::{
    ConversationTree, ExportFormat, ImportedMessage, TreeNode, number, read_export, text,
};
use crate::detect::FormatProbe;
use crate::json::parse;
use crate::readers::Output;
use crate::{Format, Source};

const NAME: &str = "chatgpt";

pub(crate) struct ChatGpt;

impl super::Reader for ChatGpt {
    fn format(&self) -> Format {
        Format::ChatGpt
    }

    fn probe(&self, probe: &FormatProbe) -> bool {
        // An export without conversations has no keys.
        let is_archive = !probe.conversation_entries().is_empty();
        probe.has_key("mapping") || is_archive && !probe.has_key("chat_messages")
    }

    fn read(&self, source: &Source, out: &mut Output<'_>) -> Result<(), ImportError> {
        let format = ExportFormat {
            is_conversation: |fields| fields.get("mapping").is_some_and(Value::is_object),
            build: conversation,
        };
        read_export(source, &format, out)
    }
}

fn conversation(source: &Source, mut fields: Map<String, Value>, number: u64) -> ConversationTree {
    let id = text(&fields, "conversation_id").or_else(|| text(&fields, "id"));
    let id = id.map_or_else(|| format!("{}/{number}", source.stem().unwrap_or_default()), str::to_owned);
    let mut conversation = ConversationTree::new(source, NAME, id);
    conversation.session.title = text(&fields, "title").filter(|title| !title.is_empty()).map(str::to_owned);
    conversation.session.automatic_name = true;
    let current = text(&fields, "current_node").map(str::to_owned);
    let time = |key: &str| fields.get(key).and_then(crate::time::from_json);
    let (created, updated) = (time("create_time"), time("update_time"));
    let Some(Value::Object(mut mapping)) = fields.shift_remove("mapping") else { return conversation };
    let order = topological_order(&mapping);
    let mut node_indexes: HashMap<String, usize> = HashMap::new();
    let mut calls = OpenCalls::default();
    for id in order {
        let Some(Value::Object(mut node)) = mapping.get_mut(&id).map(Value::take) else { continue };
        let parent = text(&node, "parent").and_then(|parent| node_indexes.get(parent)).copied();
        let messages = match node.get_mut("message").map(Value::take) {
            Some(Value::Object(message)) => match role(&message) {
                Some(role) => {
                    conversation.report.mapped();
                    vec![to_message(message, role, &id, calls.before(parent))]
                }
                None => {
                    conversation.report.opaque();
                    conversation.other_records.push(Value::Object(message));
                    Vec::new()
                }
            },
            Some(Value::Null) | None => {
                conversation.report.opaque();
                Vec::new()
            }
            Some(_) => {
                conversation.report.dropped(None, format!("the message of node {id} is not an object"));
                Vec::new()
            }
        };
        calls.push(parent, messages.first());
        if current.as_deref() == Some(id.as_str()) {
            conversation.current = Some(conversation.nodes.len());
        }
        node_indexes.insert(id, conversation.nodes.len());
        conversation.nodes.push(TreeNode { parent, messages, ..TreeNode::default() });
    }
    conversation.set_times_from_messages();
    conversation.set_missing_times(created, updated);
    conversation.fill_message_times(created, updated);
    conversation.session.extra.insert(NAME.into(), Value::Object(fields));
    conversation
}

/// The tool calls that have no result yet, for each node. The messages of tools do not contain the id of their call.
#[derive(Default)]
struct OpenCalls(Vec<Vec<ToolCallRef>>);

/// A tool call of an earlier message.
#[derive(Debug, Clone)]
struct ToolCallRef {
    id: String,
    tool: String,
}

impl OpenCalls {
    /// The calls on the path to a node, newest last.
    fn before(&self, parent: Option<usize>) -> &[ToolCallRef] {
        parent.and_then(|parent| self.0.get(parent)).map(Vec::as_slice).unwrap_or_default()
    }

    /// Adds a node with its message.
    fn push(&mut self, parent: Option<usize>, message: Option<&ImportedMessage>) {
        /// Calls are answered at once, so older ones are not needed.
        const MAX_OPEN: usize = 16;
        let mut open = self.before(parent).to_vec();
        for part in message.into_iter().flat_map(|message| &message.draft.parts) {
            if let Part::ToolCall { id, name, .. } = part {
                open.push(ToolCallRef { id: id.clone(), tool: name.clone() });
            }
        }
        let surplus = open.len().saturating_sub(MAX_OPEN);
        open.drain(..surplus);
        self.0.push(open);
    }
}

/// The call that a tool answers: the newest one of this tool, or the newest one. A tool may send several messages.
fn answered_call<'a>(calls: &'a [ToolCallRef], tool: &str) -> Option<&'a ToolCallRef> {
    let of_tool = |call: &&ToolCallRef| call.tool == tool;
    // A call may name a function of the tool, such as `browser.search`.
    let of_base = |call: &&ToolCallRef| call.tool.split('.').next() == tool.split('.').next();
    calls.iter().rev().find(of_tool).or_else(|| calls.iter().rev().find(of_base)).or(calls.last())
}

/// The ids of the nodes, parents before children, siblings in the order in which their parent lists them.
/// Nodes that are only reachable through a cycle come last.
fn topological_order(mapping: &Map<String, Value>) -> Vec<String> {
    let parent_of = |node: &Value| node.get("parent").and_then(Value::as_str).map(str::to_owned);
    let mut children: HashMap<&str, Vec<&str>> = HashMap::new();
    let mut roots: Vec<&str> = Vec::new();
    for (id, node) in mapping {
        match node.get("parent").and_then(Value::as_str).filter(|parent| mapping.contains_key(*parent)) {
            Some(parent) => children.entry(parent).or_default().push(id),
            None => roots.push(id),
        }
    }
    for (parent, list) in &mut children {
        let listed = mapping.get(*parent).and_then(|node| node.get("children")).and_then(Value::as_array);
        let rank = |id: &str| {
            listed
                .and_then(|listed| listed.iter().position(|child| child.as_str() == Some(id)))
                .unwrap_or(usize::MAX)
        };
        list.sort_by_key(|id| rank(id));
    }
    let mut order: Vec<String> = Vec::new();
    let mut seen: std::collections::HashSet<&str> = std::collections::HashSet::new();
    // Nodes that no root reaches are in a cycle or below one, so they have a parent.
    let with_parent: Vec<&str> =
        mapping.iter().filter(|(_, node)| parent_of(node).is_some()).map(|(id, _)| id.as_str()).collect();
    for start in roots.into_iter().chain(with_parent) {
        let mut pending = vec![start];
        while let Some(id) = pending.pop() {
            if !seen.insert(id) {
                continue;
            }
            order.push(id.to_owned());
            pending.extend(children.get(id).into_iter().flatten().rev());
        }
    }
    order
}

/// The author of a message; `None` if hfs does not know the role.
fn role(message: &Map<String, Value>) -> Option<Role> {
    message.get("author")?.get("role")?.as_str()?.parse().ok()
}

fn to_message(
    mut message: Map<String, Value>,
    role: Role,
    id: &str,
    calls: &[ToolCallRef],
) -> ImportedMessage {
    let author = message.get("author").and_then(Value::as_object);
    let name = author.and_then(|author| text(author, "name")).unwrap_or_default().to_owned();
    let at = message.get("create_time").and_then(crate::time::from_json).unwrap_or(Timestamp::UNKNOWN);
    let recipient = text(&message, "recipient").filter(|recipient| *recipient != "all").map(str::to_owned);
    let mut content = match message.get_mut("content").map(Value::take) {
        Some(Value::Object(content)) => content,
        // Old exports contain plain text in some places.
        Some(Value::String(text)) => Map::from_iter([("text".to_owned(), text.into())]),
        _ => Map::new(),
    };
    let kind = text(&content, "content_type").unwrap_or_default().to_owned();
    let parts = match (role, recipient) {
        (Role::Assistant, Some(tool)) => {
            vec![Part::ToolCall { id: id.to_owned(), name: tool, input: take_input(&mut content) }]
        }
        (Role::Tool, _) => {
            let id = answered_call(calls, &name).map_or(name, |call| call.id.clone());
            let is_error = kind == "system_error";
            let output = take_texts(&mut content).join("\n");
            let mut parts = vec![Part::ToolResult { id, output, is_error }];
            parts.extend(take_other_parts(&mut content));
            parts
        }
        _ => message_parts(&kind, &mut content),
    };
    let metadata = |key: &str| message.get("metadata").and_then(|metadata| metadata.get(key));
    let hidden = metadata("is_visually_hidden_from_conversation") == Some(&Value::Bool(true));
    let is_context = kind == "user_editable_context" || kind == "model_editable_context";
    let model = metadata("model_slug").and_then(Value::as_str).map(str::to_owned);
    message.insert("content".into(), Value::Object(content));
    let mut imported = ImportedMessage::new(NAME, id, role, parts, at)
        .flagged(MessageFlag::Hidden, hidden)
        .flagged(MessageFlag::Injected, is_context)
        .with_record(message);
    imported.draft.model = model.filter(|_| role == Role::Assistant);
    imported
}

/// The input of a tool call: the parsed object if the text is a JSON object, otherwise the text.
fn take_input(content: &mut Map<String, Value>) -> Value {
    let text = take_texts(content).join("\n");
    match parse(&text).map(|parsed| parsed.value) {
        Some(value @ Value::Object(_)) => value,
        _ => text.into(),
    }
}

/// Fields that contain the text of content without `parts`.
const TEXT_FIELDS: [&str; 3] = ["text", "result", "content"];

/// Removes and returns the texts of a content: strings and transcribed speech in `parts`, or the fields of other types.
fn take_texts(content: &mut Map<String, Value>) -> Vec<String> {
    let mut texts = Vec::new();
    if let Some(Value::Array(parts)) = content.get_mut("parts") {
        parts.retain_mut(|part| match part_text(part) {
            Some(text) => {
                texts.push(text);
                false
            }
            None => true,
        });
    }
    if texts.is_empty() {
        for key in TEXT_FIELDS {
            if let Some(Value::String(text)) = content.get_mut(key) {
                texts.push(std::mem::take(text));
                content.shift_remove(key);
            }
        }
    }
    texts
}

/// The text of a part: of a string, or of speech that ChatGPT transcribed.
fn part_text(part: &Value) -> Option<String> {
    match part {
        Value::String(text) => Some(text.clone()),
        Value::Object(fields) if fields.get("asset_pointer").is_none() => {
            text(fields, "text").map(str::to_owned)
        }
        _ => None,
    }
}

/// Removes the objects in `parts` and returns them as parts: files that the export stores apart as references, all
/// others that have a type as opaque parts.
fn take_other_parts(content: &mut Map<String, Value>) -> Vec<Part> {
    let Some(Value::Array(parts)) = content.get_mut("parts") else { return Vec::new() };
    parts.iter_mut().filter_map(|part| other_part(part)).collect()
}

fn other_part(part: &Value) -> Option<Part> {
    let fields = part.as_object()?;
    let kind = text(fields, "content_type")?;
    if !kind.ends_with("asset_pointer") {
        return Some(Part::Opaque { source: NAME.into(), raw: part.clone() });
    }
    // A recording of speech and video contains the pointers to its files.
    let inner = ["audio_asset_pointer", "video_container_asset_pointer"]
        .into_iter()
        .find_map(|key| fields.get(key)?.as_object());
    let asset = inner.unwrap_or(fields);
    let media_type = match text(asset, "format") {
        Some(format) => format!("audio/{format}"),
        None if kind.contains("image") => "image/*".to_owned(),
        None if kind.contains("audio") => "audio/*".to_owned(),
        None => "application/octet-stream".to_owned(),
    };
    Some(Part::Attachment {
        media_type,
        name: text(asset, "asset_pointer").map(str::to_owned),
        hash: None,
        bytes: number(asset, "size_bytes").unwrap_or(0),
    })
}

fn message_parts(kind: &str, content: &mut Map<String, Value>) -> Vec<Part> {
    match kind {
        // Settings that are sent to the model; the message is marked as context.
        "user_editable_context" | "model_editable_context" => {
            vec![Part::Opaque { source: NAME.into(), raw: Value::Object(std::mem::take(content)) }]
        }
        "thoughts" => {
            let thoughts =
                content.get("thoughts").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let thought = |thought: &Value| {
                let text =
                    |key: &str| thought.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
                let texts: Vec<&str> = [text("summary"), text("content")].into_iter().flatten().collect();
                Part::Thinking { text: texts.join("\n"), signature: None }
            };
            thoughts.iter().map(thought).collect()
        }
        "reasoning_recap" => {
            take_texts(content).into_iter().map(|text| Part::Thinking { text, signature: None }).collect()
        }
        _ => {
            let mut parts = take_other_parts(content);
            // An empty string in `parts` becomes a part as well, so that the message is not taken for one without content.
            parts.extend(take_texts(content).into_iter().map(|text| Part::Text { text }));
            if parts.is_empty() && !kind.is_empty() && kind != "text" && kind != "multimodal_text" {
                parts.push(Part::Opaque { source: NAME.into(), raw: Value::Object(std::mem::take(content)) });
            }
            parts
        }
    }
}
