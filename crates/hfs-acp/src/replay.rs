//! Stored messages as the updates that show them in an editor.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hfs_core::{
    DeltaKind, Message, MessageDraft, Part, ReplyDelta, Role, TextDelta, ToolInput, readable_context,
};
use serde_json::{Map, Value, json};

use crate::agent::Attachments;
use crate::permission::ActionKind;
use crate::turn::SOURCE;

/// Kinds of updates.
const USER: &str = "user_message_chunk";
const AGENT: &str = "agent_message_chunk";
const THOUGHT: &str = "agent_thought_chunk";

/// An update with a piece of the conversation.
fn chunk(kind: &str, content: &Value, message: Option<&str>) -> Value {
    let mut update = json!({"sessionUpdate": kind, "content": content});
    if let (Some(message), Value::Object(fields)) = (message, &mut update) {
        fields.insert("messageId".into(), message.into());
    }
    update
}

fn text_block(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

/// Words of hfs itself, or of an agent's program, beside the conversation. Editors show them folded, like thinking.
#[must_use]
pub fn note_update(text: &str) -> Value {
    chunk(THOUGHT, &text_block(text), None)
}

/// Words of hfs as those of the agent, such as the answer to a command.
#[must_use]
pub fn answer_update(text: &str) -> Value {
    chunk(AGENT, &text_block(text), None)
}

/// A piece of a reply that is being written as an update.
#[must_use]
pub fn delta_update(delta: &ReplyDelta) -> Option<Value> {
    match delta {
        ReplyDelta::Text(TextDelta { kind: DeltaKind::Text, text }) => Some(answer_update(text)),
        ReplyDelta::Text(TextDelta { kind: DeltaKind::Thinking, text }) => Some(note_update(text)),
        ReplyDelta::Part(Part::ToolCall { id, name, input }) => Some(call_update(id, name, input)),
        ReplyDelta::Part(Part::ToolResult { id, output, is_error }) => {
            Some(result_update(id, output, *is_error, None, Vec::new()))
        }
        // An agent of hfs that streams output has its result as a part in the end.
        ReplyDelta::Output(_) | ReplyDelta::Part(_) => None,
    }
}

/// Turns the messages of a branch, one after the other, into the updates with which an agent shows them.
///
/// The updates of an agent that speaks the protocol are stored in other pieces than they came: text is joined, and a call has
/// its last state. What a user sees is the same.
#[derive(Debug, Default)]
pub struct Replay {
    /// Calls that have not ended, in the order of their newest updates.
    open_calls: Vec<String>,
}

impl Replay {
    /// The updates of the next message. Blocks while attachments are read.
    pub fn message(&mut self, message: &Message, attachments: &dyn Attachments) -> Vec<Value> {
        let content = &message.content;
        let own = content.extra.get(SOURCE);
        let id = own.and_then(|own| own.get("message_id")?.as_str());
        let id = id.map_or_else(|| content.id.to_string(), str::to_owned);
        let mut updates = if content.role == Role::User { self.finish() } else { Vec::new() };
        let mut kept = KeptCalls::of(own);
        let mut parts = content.parts.iter().peekable();
        while let Some(part) = parts.next() {
            match part {
                Part::Text { text } => text_updates(content, text, &id, &mut updates),
                Part::Thinking { text, .. } if text.is_empty() => {}
                Part::Thinking { text, .. } => updates.push(chunk(THOUGHT, &text_block(text), Some(&id))),
                Part::ToolCall { id: call, name, input } => {
                    updates.push(self.noted(call_update(call, name, input)));
                }
                Part::ToolResult { id: call, output, is_error } => {
                    let mut blocks = Vec::new();
                    while let Some(part) = parts.next_if(|part| matches!(part, Part::Attachment { .. })) {
                        blocks.extend(attachment_block(part, attachments));
                    }
                    let update = result_update(call, output, *is_error, kept.take(call), blocks);
                    updates.push(self.noted(update));
                }
                Part::Attachment { .. } => {
                    let kind = if content.role == Role::User { USER } else { AGENT };
                    let block = attachment_block(part, attachments);
                    updates.extend(block.map(|block| chunk(kind, &block, Some(&id))));
                }
                Part::Opaque { source, raw } if source == SOURCE => updates.extend(opaque_update(raw)),
                // A part of another tool that has no meaning here.
                Part::Opaque { .. } => {}
            }
        }
        // Calls that were not finished, and what came after their results.
        for fields in kept.0 {
            let update = call_fields(fields, "", &mut std::iter::empty::<Value>());
            updates.push(self.noted(update.into()));
        }
        updates.extend(own.and_then(|own| own.get("plan")).cloned());
        updates
    }

    /// An update of a call, after noting whether the call has ended. The output of a call may be stored before its end.
    fn noted(&mut self, update: Value) -> Value {
        let text = |field: &str| update.get(field).and_then(Value::as_str);
        if let (Some(call), Some(status)) = (text("toolCallId"), text("status")) {
            self.open_calls.retain(|open| open != call);
            if !matches!(status, "completed" | "failed") {
                self.open_calls.push(call.to_owned());
            }
        }
        update
    }

    /// The updates after the last message: a call that has not ended has failed.
    pub fn finish(&mut self) -> Vec<Value> {
        let open = self.open_calls.drain(..);
        open.map(|call| json!({"sessionUpdate": "tool_call_update", "toolCallId": call, "status": "failed"}))
            .collect()
    }
}

/// The text of a message. Context that the user did not type is shown, but not as the user's words.
fn text_updates(content: &MessageDraft, text: &str, id: &str, updates: &mut Vec<Value>) {
    let kind = match content.role {
        Role::User => {
            let (context, typed) = content.split_text(text);
            let context = readable_context(context);
            for (kind, text) in [(THOUGHT, &*context), (USER, typed)] {
                if !text.is_empty() {
                    updates.push(chunk(kind, &text_block(text), Some(id)));
                }
            }
            return;
        }
        Role::Assistant | Role::Tool => AGENT,
        Role::System => THOUGHT,
    };
    updates.push(chunk(kind, &text_block(text), Some(id)));
}

/// An attachment as a picture, or its name if it is another file or its bytes are not stored. `None` for other parts.
fn attachment_block(part: &Part, attachments: &dyn Attachments) -> Option<Value> {
    let Part::Attachment { media_type, name, .. } = part else { return None };
    let file = || text_block(&format!("[file: {}]", name.as_deref().unwrap_or(media_type)));
    Some(picture_block(part, attachments).unwrap_or_else(file))
}

/// A picture with its bytes; `None` for another file, or if the bytes are not stored.
fn picture_block(part: &Part, attachments: &dyn Attachments) -> Option<Value> {
    let Part::Attachment { media_type, name, hash: Some(hash), .. } = part else { return None };
    if !media_type.starts_with("image/") {
        return None;
    }
    let mut block =
        json!({"type": "image", "mimeType": media_type, "data": STANDARD.encode(attachments.load(*hash)?)});
    if let (Some(name), Value::Object(fields)) =
        (name.as_ref().filter(|name| name.contains("://")), &mut block)
    {
        fields.insert("uri".into(), name.as_str().into());
    }
    Some(block)
}

/// A call as far as its message has it.
fn call_update(id: &str, name: &str, input: &Value) -> Value {
    // The only field of a call whose agent sent no arguments.
    let described = input.as_object().filter(|fields| fields.len() == 1);
    let described = described.and_then(|fields| fields.get("title")?.as_str());
    let (title, kind) = describe_input(name, input);
    let mut update = json!({
        "sessionUpdate": "tool_call",
        "toolCallId": id,
        "title": described.map_or(title, str::to_owned),
        "kind": kind.as_str(),
        "status": "pending",
    });
    if let (None, Value::Object(fields)) = (described, &mut update) {
        fields.insert("rawInput".into(), input.clone());
    }
    update
}

/// A title and a kind for a call of which only the tool and its arguments are known.
fn describe_input(name: &str, input: &Value) -> (String, ActionKind) {
    let meaning = ToolInput::of(input);
    let kind = match &meaning {
        ToolInput::Command(command) => return (command.clone(), ActionKind::Execute),
        ToolInput::Edits { .. } | ToolInput::Patch(_) | ToolInput::File { .. } => ActionKind::Edit,
        ToolInput::Other => name.parse().unwrap_or(ActionKind::Other),
    };
    let files = meaning.changed_files();
    let title = if files.is_empty() { name.to_owned() } else { format!("{name} {}", files.join(", ")) };
    (title, kind)
}

/// The result of a call with the attachments that follow it, and with what was kept of the call beside it.
fn result_update(
    id: &str,
    output: &str,
    is_error: bool,
    kept: Option<Map<String, Value>>,
    attachments: Vec<Value>,
) -> Value {
    let kept = kept.unwrap_or_else(|| Map::from_iter([("toolCallId".to_owned(), id.into())]));
    let mut attachments = attachments.into_iter();
    let mut fields = call_fields(kept, output, &mut attachments);
    fields.entry("status").or_insert_with(|| if is_error { "failed" } else { "completed" }.into());
    let has_content = fields.get("content").and_then(Value::as_array).is_some_and(|items| !items.is_empty());
    if !has_content {
        let text = (!output.is_empty()).then(|| text_block(output));
        let blocks = text.into_iter().chain(attachments);
        let blocks: Vec<Value> = blocks.map(|block| json!({"type": "content", "content": block})).collect();
        if !blocks.is_empty() {
            fields.insert("content".into(), blocks.into());
        }
    }
    if !output.is_empty() {
        fields.entry("rawOutput").or_insert_with(|| output.into());
    }
    fields.into()
}

/// The fields that were kept of a call as an update, with the output and the attachments that its messages hold.
fn call_fields(
    mut fields: Map<String, Value>,
    output: &str,
    attachments: &mut dyn Iterator<Item = Value>,
) -> Map<String, Value> {
    fields.insert("sessionUpdate".into(), "tool_call_update".into());
    for item in fields.get_mut("content").and_then(Value::as_array_mut).into_iter().flatten() {
        let Some(Value::Object(block)) = item.get_mut("content") else { continue };
        match block.get("type").and_then(Value::as_str) {
            Some("text") if !block.contains_key("text") => {
                block.insert("text".into(), output.into());
            }
            Some("image") if !block.contains_key("data") => {
                // The name instead of a picture whose bytes are not stored.
                if let Some(Value::Object(attachment)) = attachments.next() {
                    block.extend(attachment);
                }
            }
            _ => {}
        }
    }
    fields
}

/// What the messages have of an agent's update that has no part of its own.
fn opaque_update(raw: &Value) -> Option<Value> {
    if raw.get("sessionUpdate").is_some() {
        return Some(raw.clone());
    }
    // The rest of an output whose beginning is part of an earlier message.
    let (id, output) = (raw.get("toolCallId")?.as_str()?, raw.get("output")?.as_str()?);
    let content = json!([{"type": "content", "content": text_block(output)}]);
    Some(
        json!({"sessionUpdate": "tool_call_update", "toolCallId": id, "content": content, "rawOutput": output}),
    )
}

/// What was kept of calls beside a message.
struct KeptCalls(Vec<Map<String, Value>>);

impl KeptCalls {
    fn of(own: Option<&Value>) -> Self {
        let calls = own.and_then(|own| own.get("tool_calls")?.as_array()).into_iter().flatten();
        Self(calls.filter_map(Value::as_object).cloned().collect())
    }

    fn take(&mut self, id: &str) -> Option<Map<String, Value>> {
        let is_wanted =
            |fields: &Map<String, Value>| fields.get("toolCallId").and_then(Value::as_str) == Some(id);
        let index = self.0.iter().position(is_wanted)?;
        Some(self.0.remove(index))
    }
}

#[cfg(test)]
mod tests {
    use hfs_core::{Attachment, BranchId, ContentHash, NotPersisted, Timestamp};

    use super::*;

    struct OnePicture;

    impl Attachments for OnePicture {
        fn load(&self, _: ContentHash) -> Option<Vec<u8>> {
            Some(b"png".to_vec())
        }

        fn store(&self, _: &Attachment) -> Result<(), NotPersisted> {
            Ok(())
        }
    }

    fn message(role: Role, parts: Vec<Part>, own: Value) -> Message {
        let mut content = MessageDraft::new(role, parts, Timestamp::UNIX_EPOCH);
        if !own.is_null() {
            content.extra.insert(SOURCE.into(), own);
        }
        Message { branch: BranchId::generate(), seq: 1, content }
    }

    fn replay(messages: &[Message]) -> Vec<Value> {
        let mut replay = Replay::default();
        let mut updates: Vec<Value> =
            messages.iter().flat_map(|message| replay.message(message, &OnePicture)).collect();
        updates.extend(replay.finish());
        updates
    }

    #[test]
    fn a_call_is_replayed_with_all_that_its_agent_said_of_it() {
        let call = Part::ToolCall { id: "1".into(), name: "Edit".into(), input: json!({"path": "/a"}) };
        let result = Part::ToolResult { id: "1".into(), output: "done".into(), is_error: false };
        let hash = Some(ContentHash::from_bytes([1; 32]));
        let picture = Part::Attachment { media_type: "image/png".into(), name: None, hash, bytes: 3 };
        let kept = json!({"toolCallId": "1", "title": "Edit /a", "kind": "edit", "status": "completed", "locations": [{"path": "/a"}],
            "content": [{"type": "content", "content": {"type": "text"}}, {"type": "diff", "path": "/a", "newText": "x"},
                {"type": "content", "content": {"type": "image", "mimeType": "image/png"}}]});
        let plan = json!({"sessionUpdate": "plan", "entries": []});
        let updates = replay(&[
            message(Role::Assistant, vec![Part::text("I edit."), call], json!({"message_id": "m"})),
            message(Role::Tool, vec![result, picture], json!({"tool_calls": [kept], "plan": plan})),
        ]);
        assert_eq!(
            updates[0],
            json!({"sessionUpdate": "agent_message_chunk", "messageId": "m", "content": {"type": "text", "text": "I edit."}})
        );
        assert_eq!(
            (&updates[1]["status"], &updates[1]["rawInput"]["path"]),
            (&json!("pending"), &json!("/a"))
        );
        let ended = &updates[2];
        assert_eq!(
            (&ended["sessionUpdate"], &ended["title"]),
            (&json!("tool_call_update"), &json!("Edit /a"))
        );
        assert_eq!(ended["content"][0]["content"]["text"], "done");
        assert_eq!(ended["content"][1]["newText"], "x");
        assert_eq!(ended["content"][2]["content"]["data"], STANDARD.encode("png"));
        assert_eq!((&updates[3], updates.len()), (&plan, 4));
    }

    #[test]
    fn a_result_is_replayed_with_its_attachments_although_nothing_else_was_kept_of_its_call() {
        let result =
            |output: &str| Part::ToolResult { id: "1".into(), output: output.into(), is_error: false };
        let attachment = |media_type: &str, hash| Part::Attachment {
            media_type: media_type.into(),
            name: Some("a file".into()),
            hash,
            bytes: 3,
        };
        let stored = Some(ContentHash::from_bytes([1; 32]));
        let content = |parts: Vec<Part>| {
            let updates = replay(&[message(Role::Tool, parts, Value::Null)]);
            assert_eq!(updates.len(), 1, "{updates:?}");
            let items = updates[0]["content"].as_array().cloned().unwrap_or_default();
            items.iter().map(|item| item["content"].clone()).collect::<Vec<_>>()
        };
        let picture = json!({"type": "image", "mimeType": "image/png", "data": STANDARD.encode("png")});
        let name = text_block("[file: a file]");
        let all = vec![
            result("seen"),
            attachment("image/png", stored),
            attachment("image/png", None),
            attachment("text/plain", stored),
        ];
        assert_eq!(content(all), [text_block("seen"), picture.clone(), name.clone(), name]);
        assert_eq!(content(vec![result(""), attachment("image/png", stored)]), [picture]);
        assert!(content(vec![result("")]).is_empty());
    }

    #[test]
    fn a_picture_without_bytes_does_not_move_the_next_one_to_its_place() {
        let result = Part::ToolResult { id: "1".into(), output: String::new(), is_error: false };
        let picture = |hash| Part::Attachment { media_type: "image/png".into(), name: None, hash, bytes: 3 };
        let image = json!({"type": "content", "content": {"type": "image", "mimeType": "image/png"}});
        let kept = json!({"tool_calls": [{"toolCallId": "1", "content": [image, image]}]});
        let stored = Some(ContentHash::from_bytes([1; 32]));
        let parts = vec![result, picture(None), picture(stored)];
        let updates = replay(&[message(Role::Tool, parts, kept)]);
        let content = &updates[0]["content"];
        assert_eq!(content[0]["content"]["text"], "[file: image/png]");
        assert_eq!(content[1]["content"]["data"], STANDARD.encode("png"));
    }

    #[test]
    fn a_call_without_a_result_has_failed_before_the_next_message_of_the_user() {
        let call =
            |id: &str| Part::ToolCall { id: id.into(), name: "Bash".into(), input: json!({"command": "ls"}) };
        let updates = replay(&[
            message(Role::Assistant, vec![call("1")], Value::Null),
            message(Role::User, vec![Part::text("go on")], Value::Null),
            message(Role::Assistant, vec![call("2")], Value::Null),
        ]);
        let kinds: Vec<_> = updates.iter().map(|update| update["sessionUpdate"].as_str().unwrap()).collect();
        assert_eq!(
            kinds,
            ["tool_call", "tool_call_update", "user_message_chunk", "tool_call", "tool_call_update"]
        );
        assert_eq!((&updates[0]["title"], &updates[0]["kind"]), (&json!("ls"), &json!("execute")));
        assert_eq!((&updates[4]["toolCallId"], &updates[4]["status"]), (&json!("2"), &json!("failed")));
    }

    #[test]
    fn a_call_that_was_cancelled_after_it_had_output_has_failed() {
        let call = Part::ToolCall { id: "1".into(), name: "Bash".into(), input: json!({"command": "ls"}) };
        let output = Part::ToolResult { id: "1".into(), output: "so far".into(), is_error: false };
        let kept = json!({"tool_calls": [{"toolCallId": "1", "status": "in_progress"}]});
        let call = message(Role::Assistant, vec![call], Value::Null);
        let with_output = message(Role::Tool, vec![output.clone()], kept.clone());
        let (output, later) =
            (message(Role::Tool, vec![output], Value::Null), message(Role::Assistant, Vec::new(), kept));
        for messages in [vec![call.clone(), with_output], vec![call, output, later]] {
            let updates = replay(&messages);
            assert_eq!(updates[1]["content"][0]["content"]["text"], "so far");
            let last = updates.last().unwrap();
            assert_eq!(
                (&last["toolCallId"], &last["status"]),
                (&json!("1"), &json!("failed")),
                "{updates:?}"
            );
        }
    }

    #[test]
    fn only_what_the_user_typed_is_shown_as_the_users_words() {
        let mut context = message(Role::User, vec![Part::text("<environment/>")], Value::Null);
        context.content.set_flag(hfs_core::MessageFlag::Injected);
        let picture = Part::Attachment {
            media_type: "image/png".into(),
            name: Some("a.png".into()),
            hash: None,
            bytes: 3,
        };
        let mut command =
            message(Role::User, vec![Part::text("<bash-input>ls -l</bash-input>")], Value::Null);
        command.content.set_flag(hfs_core::MessageFlag::Injected);
        let look = message(Role::User, vec![Part::text("look"), picture], Value::Null);
        let updates = replay(&[context, command, look]);
        let shown: Vec<_> = updates
            .iter()
            .map(|update| {
                (update["sessionUpdate"].as_str().unwrap(), update["content"]["text"].as_str().unwrap())
            })
            .collect();
        let context = [(THOUGHT, "<environment/>"), (THOUGHT, "! ls -l")];
        assert_eq!(shown, [context[0], context[1], (USER, "look"), (USER, "[file: a.png]")]);
    }
}
