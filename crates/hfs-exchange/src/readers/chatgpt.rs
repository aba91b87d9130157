//! ChatGPT's data export: the .zip, its conversations.json, the split files of newer exports, or a file with
//! a single conversation.

use std::collections::HashMap;
use std::io::Read;

use hfs_core::{ImportError, Part, Role, Timestamp};
use serde_json::{Map, Value};

use super::conversation::{ConversationTree, ImportedMessage, TreeNode, text};
use crate::detect::FormatProbe;
use crate::json::parse;
use crate::json::pull::{PullError, PullParser};
use crate::readers::{Output, ReportBuilder};
use crate::records::StreamError;
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
        let probe = FormatProbe::new(source)?;
        let mut found = false;
        if probe.entries().is_empty() {
            read_from(source, source.open()?, out, &mut found)?;
        } else {
            let mut names = probe.conversation_entries();
            names.sort();
            let mut archive = source.archive()?;
            for name in names {
                let file = archive.by_name(&name).map_err(|error| source.damaged(error.to_string()))?;
                read_from(source, file, out, &mut found)?;
            }
        }
        if found { Ok(()) } else { Err(source.damaged("it contains no conversation")) }
    }
}

fn read_from(
    source: &Source,
    input: impl Read,
    out: &mut Output<'_>,
    found: &mut bool,
) -> Result<(), ImportError> {
    // Records that were dropped since the last conversation. The report of the next one includes them.
    let mut pending_report = ReportBuilder::default();
    let mut number = 0;
    let parse_all = || -> Result<(), StreamError> {
        let mut parser = PullParser::new(input)?;
        let is_array = parser.peek()? == Some(b'[');
        if is_array {
            parser.enter()?;
        }
        // If the document is not an array, it is a single conversation.
        while number == 0 || is_array {
            if is_array && !parser.next_element()? {
                break;
            }
            number += 1;
            out.progress(parser.consumed())?;
            match parse(&parser.value()?).map(|parsed| parsed.value) {
                Some(Value::Object(fields)) if fields.get("mapping").is_some_and(Value::is_object) => {
                    *found = true;
                    let mut conversation = conversation(source, fields, number);
                    conversation.report.merge(std::mem::take(&mut pending_report));
                    conversation.send_to(out)?;
                }
                _ => pending_report.dropped(Some(number), "an element that is not a conversation"),
            }
        }
        Ok(())
    };
    match parse_all() {
        // If the file is damaged after the first conversation, the import succeeds with those before the
        // damage.
        Err(StreamError::Json(PullError::Damaged { .. })) if *found => Ok(()),
        Err(error) => Err(error.into_import_error(source)),
        Ok(()) => Ok(()),
    }
}

fn conversation(source: &Source, mut fields: Map<String, Value>, number: u64) -> ConversationTree {
    let id = text(&fields, "conversation_id").or_else(|| text(&fields, "id"));
    let id = id.map_or_else(|| format!("{}/{number}", source.stem().unwrap_or_default()), str::to_owned);
    let mut conversation = ConversationTree::new(source, NAME, id);
    conversation.session.title = text(&fields, "title").filter(|title| !title.is_empty()).map(str::to_owned);
    conversation.session.automatic_name = true;
    let current = text(&fields, "current_node").map(str::to_owned);
    let Some(Value::Object(mapping)) = fields.shift_remove("mapping") else { return conversation };
    let order = topological_order(&mapping);
    let mut node_indexes: HashMap<String, usize> = HashMap::new();
    let mut mapping = mapping;
    let mut last_time = Timestamp::UNIX_EPOCH;
    for id in order {
        let Some(Value::Object(mut node)) = mapping.get_mut(&id).map(Value::take) else { continue };
        let parent = text(&node, "parent").and_then(|parent| node_indexes.get(parent)).copied();
        let messages = match node.get_mut("message").map(Value::take) {
            Some(Value::Object(message)) => {
                conversation.report.mapped();
                vec![to_message(message, &id, &mut last_time)]
            }
            _ => {
                conversation.report.opaque();
                Vec::new()
            }
        };
        if current.as_deref() == Some(id.as_str()) {
            conversation.current = Some(conversation.nodes.len());
        }
        node_indexes.insert(id, conversation.nodes.len());
        conversation.nodes.push(TreeNode { parent, messages, ..TreeNode::default() });
    }
    conversation.set_times_from_messages();
    conversation.session.extra.insert(NAME.into(), Value::Object(fields));
    conversation
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

fn role(name: &str) -> Role {
    match name {
        "assistant" => Role::Assistant,
        "system" => Role::System,
        "tool" => Role::Tool,
        _ => Role::User,
    }
}

fn to_message(mut message: Map<String, Value>, id: &str, last_time: &mut Timestamp) -> ImportedMessage {
    let author = message.get("author").and_then(Value::as_object);
    let role = role(author.and_then(|author| text(author, "role")).unwrap_or_default());
    let name = author.and_then(|author| text(author, "name")).unwrap_or_default().to_owned();
    // Many messages have no time of their own; the time of the previous message is the best estimate.
    let time = message.get("create_time").and_then(crate::time::from_json);
    let at = time.unwrap_or(*last_time);
    *last_time = at;
    let recipient = text(&message, "recipient").filter(|recipient| *recipient != "all").map(str::to_owned);
    let mut content = match message.get_mut("content").map(Value::take) {
        Some(Value::Object(content)) => content,
        _ => Map::new(),
    };
    let parts = match (role, recipient) {
        (Role::Assistant, Some(tool)) => {
            vec![Part::ToolCall { id: id.to_owned(), name: tool, input: take_input(&mut content) }]
        }
        (Role::Tool, _) => tool_parts(&mut content, &name),
        _ => message_parts(&mut content),
    };
    let hidden = message
        .get("metadata")
        .and_then(|metadata| metadata.get("is_visually_hidden_from_conversation"))
        .is_some_and(|hidden| hidden == &Value::Bool(true));
    let model =
        message.get("metadata").and_then(|metadata| metadata.get("model_slug")).and_then(Value::as_str);
    let model = model.map(str::to_owned);
    message.insert("content".into(), Value::Object(content));
    let mut imported =
        ImportedMessage::new(NAME, id, role, parts, at).flagged("hidden", hidden).with_record(message);
    imported.draft.model = model.filter(|_| role == Role::Assistant);
    imported
}

/// The input of a tool call: the parsed object if the text is a JSON object, otherwise the text.
fn take_input(content: &mut Map<String, Value>) -> Value {
    let text = match content.get("text").and_then(Value::as_str) {
        Some(text) => text.to_owned(),
        None => take_texts(content).join("\n"),
    };
    match parse(&text).map(|parsed| parsed.value) {
        Some(value @ Value::Object(_)) => value,
        _ => text.into(),
    }
}

/// Removes and returns the texts in `parts`.
fn take_texts(content: &mut Map<String, Value>) -> Vec<String> {
    let Some(Value::Array(parts)) = content.get_mut("parts") else { return Vec::new() };
    let texts = parts.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    parts.retain(|part| !part.is_string());
    texts
}

/// Converts the objects in `parts`: images into attachments, all others that have a type into opaque parts.
fn non_text_parts(content: &Map<String, Value>) -> Vec<Part> {
    let parts = content.get("parts").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let convert = |part: &Value| {
        let fields = part.as_object()?;
        let bytes = fields.get("size_bytes").and_then(Value::as_u64).unwrap_or(0);
        match text(fields, "content_type")? {
            "image_asset_pointer" => Some(Part::Attachment {
                media_type: "image/*".into(),
                name: text(fields, "asset_pointer").map(str::to_owned),
                hash: None,
                bytes,
            }),
            _ => Some(Part::Opaque { source: NAME.into(), raw: part.clone() }),
        }
    };
    parts.iter().filter_map(convert).collect()
}

fn tool_parts(content: &mut Map<String, Value>, name: &str) -> Vec<Part> {
    let mut output = take_texts(content).join("\n");
    if output.is_empty()
        && let Some(text) = ["text", "result"].into_iter().find_map(|key| text(content, key))
    {
        output = text.to_owned();
    }
    // The message contains the name of the tool, but not the id of the call.
    let mut parts = vec![Part::ToolResult { id: name.to_owned(), output, is_error: false }];
    parts.extend(non_text_parts(content));
    parts
}

fn message_parts(content: &mut Map<String, Value>) -> Vec<Part> {
    match text(content, "content_type") {
        Some("text" | "multimodal_text") => {
            let mut parts = non_text_parts(content);
            parts.extend(take_texts(content).into_iter().map(|text| Part::Text { text }));
            parts
        }
        Some("thoughts") => {
            let thoughts =
                content.get("thoughts").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let content_of =
                |thought: &Value| thought.get("content").and_then(Value::as_str).map(str::to_owned);
            thoughts
                .iter()
                .filter_map(content_of)
                .map(|text| Part::Thinking { text, signature: None })
                .collect()
        }
        _ if content.is_empty() => Vec::new(),
        _ => vec![Part::Opaque { source: NAME.into(), raw: Value::Object(std::mem::take(content)) }],
    }
}
