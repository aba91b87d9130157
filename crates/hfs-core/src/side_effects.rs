//! What agents did outside of the conversation, which a rewind does not take back.

use std::collections::HashSet;

use serde_json::Value;

use crate::{Message, Part, PermissionRecord, ToolInput};

/// Number of files and of commands that a description names.
const NAMED: usize = 5;
/// Characters of a command in a description.
const COMMAND_CHARS: usize = 60;

/// Results with which agents say that the user refused a call, so that it was not run.
const REFUSALS: [&str; 8] = [
    // Claude Code
    "The user doesn't want to proceed with this tool use",
    "Permission to use",
    "User refused permission to run tool",
    // Codex
    "exec command rejected by user",
    "patch rejected by user",
    "rejected by user",
    // opencode
    "The user rejected permission",
    "The user has specified a rule which prevents you from using this specific tool call",
];

/// Files that were changed and commands that were run in messages. Each is named once, in the order of the first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SideEffects {
    /// Files that calls have changed, as the agent named them.
    pub files: Vec<String>,
    /// Commands that were run, whether they succeeded or not.
    pub commands: Vec<String>,
    /// Files that calls may have changed: their results say that they failed, or are missing.
    pub uncertain_files: Vec<String>,
    /// Commands that may have been run: their results are missing.
    pub uncertain_commands: Vec<String>,
}

/// What is known of a call.
#[derive(Debug)]
struct Call {
    id: String,
    files: Vec<String>,
    command: Option<String>,
    outcome: Outcome,
    /// Whether the call stays in view. Then it counts only if its result does not.
    is_in_view: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// There is no result.
    Unknown,
    Completed,
    Failed,
    /// It was refused, so it was not run.
    Refused,
}

/// Collects the side effects of messages, which are added in their order.
#[derive(Debug, Default)]
pub struct SideEffectsCollector {
    calls: Vec<Call>,
    refused: HashSet<String>,
}

impl SideEffectsCollector {
    /// Adds messages whose effects are not taken back.
    pub fn add<'a>(&mut self, messages: impl IntoIterator<Item = &'a Message>) {
        for message in messages {
            self.add_message(message, false);
        }
    }

    /// Adds the messages before the place of a rewind, which stay in view. Their calls count if the results do not stay.
    pub fn add_in_view<'a>(&mut self, messages: impl IntoIterator<Item = &'a Message>) {
        for message in messages {
            self.add_message(message, true);
        }
        self.calls.retain(|call| call.outcome == Outcome::Unknown);
    }

    fn add_message(&mut self, message: &Message, is_in_view: bool) {
        for part in &message.content.parts {
            match part {
                Part::ToolCall { id, input, .. } => {
                    let input = ToolInput::of(input);
                    let files = input.changed_files().into_iter().map(str::to_owned).collect();
                    let command = match input {
                        ToolInput::Command(command) => Some(command),
                        ToolInput::Edits { .. }
                        | ToolInput::Patch(_)
                        | ToolInput::File { .. }
                        | ToolInput::Other => None,
                    };
                    let (id, outcome) = (id.clone(), Outcome::Unknown);
                    self.calls.push(Call { id, files, command, outcome, is_in_view });
                }
                Part::ToolResult { id, output, is_error } => {
                    let outcome = match is_error {
                        false => Outcome::Completed,
                        true if says_refused(output) => Outcome::Refused,
                        true => Outcome::Failed,
                    };
                    self.set_outcome(id, outcome);
                }
                Part::Opaque { .. } => {
                    if let Some(record) = PermissionRecord::read(part).filter(|record| !record.allowed) {
                        self.refused.insert(record.call);
                    }
                }
                Part::Text { .. } | Part::Thinking { .. } | Part::Attachment { .. } => {}
            }
        }
        if is_in_view {
            return;
        }
        // Calls of agents that are programs of their own, which may not show in their arguments what they change.
        let calls = message.content.extra.get("acp").and_then(|fields| fields.get("tool_calls")?.as_array());
        for reported in calls.into_iter().flatten() {
            let files: Vec<String> = changed_paths(reported).into_iter().map(str::to_owned).collect();
            if !files.is_empty() {
                let (id, outcome) = (String::new(), Outcome::Completed);
                self.calls.push(Call { id, files, command: None, outcome, is_in_view });
            }
        }
    }

    fn set_outcome(&mut self, id: &str, outcome: Outcome) {
        // Some agents number the calls of each turn from 1.
        let call = self.calls.iter_mut().rfind(|call| call.id == id && call.outcome == Outcome::Unknown);
        if let Some(call) = call {
            call.outcome = outcome;
        }
    }

    /// The effects of all messages.
    #[must_use]
    pub fn finish(self) -> SideEffects {
        let mut effects = SideEffects::default();
        for Call { id, files, command, outcome, is_in_view } in &self.calls {
            // An agent may act although the user refused, and then reports success.
            let is_refused = self.refused.contains(id) && *outcome != Outcome::Completed;
            let (into_files, into_commands) = match outcome {
                _ if is_refused => continue,
                Outcome::Unknown if *is_in_view => continue,
                Outcome::Refused => continue,
                Outcome::Completed => (&mut effects.files, &mut effects.commands),
                // A command that failed has run, and an edit that failed may have changed a part.
                Outcome::Failed => (&mut effects.uncertain_files, &mut effects.commands),
                Outcome::Unknown => (&mut effects.uncertain_files, &mut effects.uncertain_commands),
            };
            files.iter().for_each(|file| add_new(into_files, file));
            command.iter().for_each(|command| add_new(into_commands, command));
        }
        let SideEffects { files, commands, uncertain_files, uncertain_commands } = &mut effects;
        uncertain_files.retain(|file| !files.contains(file));
        uncertain_commands.retain(|command| !commands.contains(command));
        effects
    }
}

/// Whether a failed result says that its call was refused.
fn says_refused(output: &str) -> bool {
    REFUSALS.iter().any(|refusal| output.trim_start().starts_with(refusal))
}

impl SideEffects {
    /// Whether nothing was changed or run.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.files.is_empty()
            && self.commands.is_empty()
            && self.uncertain_files.is_empty()
            && self.uncertain_commands.is_empty()
    }

    /// Names what there is, to follow `not taken back:`. `None` if nothing was changed or run.
    #[must_use]
    pub fn describe(&self) -> Option<String> {
        let lines = |commands: &[String]| -> Vec<String> {
            commands.iter().map(|command| one_line(command)).collect()
        };
        let known = [
            named(&self.files).map(|names| format!("the changes of {names}")),
            named(&lines(&self.commands)).map(|names| format!("the commands {names}")),
        ];
        let uncertain = [
            named(&self.uncertain_files).map(|names| format!("changes of {names}")),
            named(&lines(&self.uncertain_commands)).map(|names| format!("the commands {names}")),
        ];
        let uncertain: Vec<String> = uncertain.into_iter().flatten().collect();
        let uncertain = (!uncertain.is_empty())
            .then(|| format!("perhaps also {}, of which no result is known", uncertain.join(" and ")));
        let all: Vec<String> = known.into_iter().flatten().chain(uncertain).collect();
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

    fn effects(messages: &[Message]) -> SideEffects {
        let mut collector = SideEffectsCollector::default();
        collector.add(messages);
        collector.finish()
    }

    fn call(id: &str, input: Value) -> Part {
        Part::ToolCall { id: id.into(), name: "x".into(), input }
    }

    fn result(id: &str, output: &str, is_error: bool) -> Part {
        Part::ToolResult { id: id.into(), output: output.into(), is_error }
    }

    #[test]
    fn changed_files_and_commands_are_named_once() {
        let calls = vec![
            call("1", json!({"command": "cargo   test\n--all"})),
            call("2", json!({"file_path": "a.rs", "old_string": "x", "new_string": "y"})),
            call("3", json!({"file_path": "a.rs", "content": "z"})),
            call("4", json!({"pattern": "x"})),
        ];
        let results = ["1", "2", "3", "4"].map(|id| result(id, "", false)).to_vec();
        let done = json!({"kind": "edit", "status": "completed", "locations": [{"path": "b.rs"}],
            "content": [{"type": "diff", "path": "c.rs"}]});
        let refused = json!({"kind": "edit", "status": "failed", "locations": [{"path": "d.rs"}]});
        let read = json!({"kind": "read", "status": "completed", "locations": [{"path": "e.rs"}]});
        assert!(effects(&[]).is_empty() && effects(&[]).describe().is_none());
        let mut effects = effects(&[
            message(calls, None),
            message(results, Some(json!({"tool_calls": [done, refused, read]}))),
        ]);
        assert_eq!(effects.files, ["a.rs", "b.rs", "c.rs"]);
        let described = "the changes of a.rs, b.rs, c.rs; the commands cargo test --all";
        assert_eq!(effects.describe().as_deref(), Some(described));
        effects.files.extend((0..9).map(|number| number.to_string()));
        let described = effects.describe().unwrap();
        assert!(described.starts_with("the changes of a.rs, b.rs, c.rs, 0, 1 and 7 more;"), "{described}");
    }

    #[test]
    fn only_what_ran_counts_and_what_is_unknown_is_said() {
        let refused = |call: &str| {
            let (call, kind, by) = (call.to_owned(), "execute".to_owned(), crate::DecidedBy::User);
            PermissionRecord { call, kind, allowed: false, by, title: None }.to_part()
        };
        let edit = |path: &str| json!({"file_path": path, "old_string": "x", "new_string": "y"});
        let calls = vec![
            call("ran", json!({"command": "make"})),
            call("failed", json!({"command": "false"})),
            call("refused", json!({"command": "rm a"})),
            refused("refused"),
            call("refused without result", json!({"command": "rm b"})),
            refused("refused without result"),
            call("refused by its agent", json!({"command": "rm c"})),
            call("open", json!({"command": "sleep 9"})),
            call("failed edit", edit("a.rs")),
            call("refused edit", edit("b.rs")),
        ];
        let results = vec![
            result("ran", "", false),
            result("failed", "exit code 1", true),
            result("refused", "no", true),
            result("refused by its agent", "The user doesn't want to proceed with this tool use. The", true),
            result("failed edit", "not found", true),
            result("refused edit", "The user rejected permission to use this specific tool call.", true),
        ];
        let effects = effects(&[message(calls, None), message(results, None)]);
        assert_eq!(effects.commands, ["make", "false"]);
        assert_eq!(effects.uncertain_commands, ["sleep 9"]);
        assert_eq!((effects.files.len(), effects.uncertain_files.as_slice()), (0, &["a.rs".to_owned()][..]));
        assert_eq!(
            effects.describe().as_deref(),
            Some(
                "the commands make, false; perhaps also changes of a.rs and the commands sleep 9, of which no result is known"
            )
        );
    }

    #[test]
    fn a_call_that_stays_in_view_counts_if_its_result_does_not() {
        let calls =
            message(vec![call("1", json!({"command": "one"})), call("2", json!({"command": "two"}))], None);
        let mut collector = SideEffectsCollector::default();
        collector.add_in_view([&calls]);
        collector.add(&[message(vec![result("1", "", false)], None)]);
        let effects = collector.finish();
        assert_eq!(
            (effects.commands.as_slice(), effects.uncertain_commands.len()),
            (&["one".to_owned()][..], 0)
        );
    }
}
