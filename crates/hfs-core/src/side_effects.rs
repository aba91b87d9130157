//! What agents did outside of the conversation, which a rewind does not take back.

use serde_json::Value;

use crate::{Message, Part, ToolInput};

/// Number of files and of commands that a description names.
const NAMED: usize = 5;
/// Characters of a command in a description.
const COMMAND_CHARS: usize = 60;

/// Files that were changed and commands that were run in messages. Each is named once, in the order of the first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SideEffects {
    /// Files that calls have changed, as the agent named them.
    pub files: Vec<String>,
    /// Commands that were run, whether they succeeded or not.
    pub commands: Vec<String>,
}

impl SideEffects {
    /// Adds what the calls of these messages did.
    pub fn add<'a>(&mut self, messages: impl IntoIterator<Item = &'a Message>) {
        for message in messages {
            for part in &message.content.parts {
                if let Part::ToolCall { input, .. } = part {
                    let input = ToolInput::of(input);
                    input.changed_files().into_iter().for_each(|file| add_new(&mut self.files, file));
                    if let ToolInput::Command(command) = &input {
                        add_new(&mut self.commands, command);
                    }
                }
            }
            // Calls of agents that are programs of their own, which may not show in their arguments what they change.
            let calls =
                message.content.extra.get("acp").and_then(|fields| fields.get("tool_calls")?.as_array());
            for call in calls.into_iter().flatten() {
                changed_paths(call).into_iter().for_each(|file| add_new(&mut self.files, file));
            }
        }
    }

    /// Whether nothing was changed or run.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.files.is_empty() && self.commands.is_empty()
    }

    /// Names what there is, to follow `not taken back:`. `None` if nothing was changed or run.
    #[must_use]
    pub fn describe(&self) -> Option<String> {
        let commands: Vec<String> = self.commands.iter().map(|command| one_line(command)).collect();
        let files = named(&self.files).map(|names| format!("the changes of {names}"));
        let commands = named(&commands).map(|names| format!("the commands {names}"));
        let all: Vec<String> = files.into_iter().chain(commands).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }
}

fn add_new(texts: &mut Vec<String>, text: &str) {
    if !texts.iter().any(|known| known == text) {
        texts.push(text.to_owned());
    }
}

/// The files that a call changed, from what its agent reported of it.
fn changed_paths(call: &Value) -> Vec<&str> {
    let text = |name: &str| call.get(name).and_then(Value::as_str);
    if text("status") != Some("completed") || !matches!(text("kind"), Some("edit" | "delete" | "move")) {
        return Vec::new();
    }
    let items = |name: &str| call.get(name).and_then(Value::as_array).into_iter().flatten();
    let changes = items("content").filter(|item| item.get("type").and_then(Value::as_str) == Some("diff"));
    items("locations").chain(changes).filter_map(|item| item.get("path")?.as_str()).collect()
}

fn one_line(command: &str) -> String {
    let mut line = command.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = line.char_indices().nth(COMMAND_CHARS) {
        line.truncate(end);
        line.push('…');
    }
    line
}

/// The first texts, and how many more there are. `None` without any.
fn named(texts: &[String]) -> Option<String> {
    let first: Vec<&str> = texts.iter().take(NAMED).map(String::as_str).collect();
    if first.is_empty() {
        return None;
    }
    let more = texts.len() - first.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Some(format!("{}{more}", first.join(", ")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{BranchId, MessageDraft, Role, Timestamp};

    fn message(parts: Vec<Part>, extra: Option<Value>) -> Message {
        let mut content = MessageDraft::new(Role::Assistant, parts, Timestamp::UNIX_EPOCH);
        if let Some(extra) = extra {
            content.extra.insert("acp".into(), extra);
        }
        Message { branch: BranchId::generate(), seq: 1, content }
    }

    #[test]
    fn changed_files_and_commands_are_named_once() {
        let call = |input| Part::ToolCall { id: "1".into(), name: "x".into(), input };
        let calls = vec![
            call(json!({"command": "cargo   test\n--all"})),
            call(json!({"file_path": "a.rs", "old_string": "x", "new_string": "y"})),
            call(json!({"file_path": "a.rs", "content": "z"})),
            call(json!({"pattern": "x"})),
        ];
        let done = json!({"kind": "edit", "status": "completed", "locations": [{"path": "b.rs"}],
            "content": [{"type": "diff", "path": "c.rs"}]});
        let refused = json!({"kind": "edit", "status": "failed", "locations": [{"path": "d.rs"}]});
        let read = json!({"kind": "read", "status": "completed", "locations": [{"path": "e.rs"}]});
        let mut effects = SideEffects::default();
        assert!(effects.is_empty() && effects.describe().is_none());
        effects.add(&[
            message(calls, None),
            message(Vec::new(), Some(json!({"tool_calls": [done, refused, read]}))),
        ]);
        assert_eq!(effects.files, ["a.rs", "b.rs", "c.rs"]);
        let described = "the changes of a.rs, b.rs, c.rs; the commands cargo test --all";
        assert_eq!(effects.describe().as_deref(), Some(described));
        effects.files.extend((0..9).map(|number| number.to_string()));
        let described = effects.describe().unwrap();
        assert!(described.starts_with("the changes of a.rs, b.rs, c.rs, 0, 1 and 7 more;"), "{described}");
    }
}
