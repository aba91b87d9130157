//! Tells text that the user typed from context that a tool inserted in the user's name.
//!
//! Agents insert their environment, instructions files, editor state and the output of local commands into a
//! conversation as messages with the user's role. An import keeps them and marks them with [`MessageFlag::Injected`],
//! so that they are neither shown as the user's words nor used for names.

use std::borrow::Cow;

use serde_json::{Value, json};

use crate::{MessageDraft, Part, Role};

/// Key of the flags in a message's `extra`.
const FLAGS: &str = "flags";

/// A property of an imported message that has the same meaning in every format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageFlag {
    /// Part of a subagent's conversation.
    Sidechain,
    /// A note of the tool, such as a caveat for the model.
    Meta,
    /// The summary that replaces earlier messages in the model's context.
    CompactSummary,
    /// Not shown by the tool.
    Hidden,
    /// Context that the tool inserted in the user's name.
    Injected,
    /// An error of the tool or of the model's API.
    Error,
}

impl MessageFlag {
    /// All flags.
    pub const ALL: [Self; 6] =
        [Self::Sidechain, Self::Meta, Self::CompactSummary, Self::Hidden, Self::Injected, Self::Error];

    /// Name in the `flags` field.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sidechain => "sidechain",
            Self::Meta => "meta",
            Self::CompactSummary => "compact-summary",
            Self::Hidden => "hidden",
            Self::Injected => "injected",
            Self::Error => "error",
        }
    }

    /// Whether a user message with this flag was not typed by the user.
    const fn marks_context(self) -> bool {
        match self {
            Self::Sidechain | Self::Meta | Self::CompactSummary | Self::Hidden | Self::Injected => true,
            Self::Error => false,
        }
    }
}

impl MessageDraft {
    /// Whether the message has this flag.
    #[must_use]
    pub fn has_flag(&self, flag: MessageFlag) -> bool {
        let flags = self.extra.get(FLAGS).and_then(Value::as_array);
        flags.is_some_and(|flags| flags.iter().any(|name| name == flag.as_str()))
    }

    /// Adds a flag.
    pub fn set_flag(&mut self, flag: MessageFlag) {
        if self.has_flag(flag) {
            return;
        }
        match self.extra.get_mut(FLAGS) {
            Some(Value::Array(flags)) => flags.push(flag.as_str().into()),
            _ => {
                self.extra.insert(FLAGS.into(), json!([flag.as_str()]));
            }
        }
    }

    /// Whether the message has the user's role, but is context that the user did not type.
    #[must_use]
    pub fn is_context(&self) -> bool {
        self.role == Role::User
            && MessageFlag::ALL.into_iter().any(|flag| flag.marks_context() && self.has_flag(flag))
    }

    /// Whether the user wrote the message.
    #[must_use]
    pub fn is_typed(&self) -> bool {
        self.role == Role::User && !self.is_context()
    }

    /// Splits a text part of this message into context that a tool inserted and the author's own text. Text that was
    /// not imported is the author's, whatever it looks like.
    #[must_use]
    pub fn split_text<'a>(&self, text: &'a str) -> (&'a str, &'a str) {
        if self.is_context() {
            (text, "")
        } else if self.role == Role::User && self.source.is_some() {
            split_context(text)
        } else {
            ("", text)
        }
    }

    /// Sets [`MessageFlag::Injected`] on a user message that consists of injected context alone.
    pub fn mark_injected_context(&mut self) {
        let is_context = |part: &Part| match part {
            Part::Text { text } => split_context(text).1.is_empty(),
            _ => false,
        };
        let has_context =
            |part: &Part| matches!(part, Part::Text { text } if !split_context(text).0.is_empty());
        if self.role == Role::User && self.parts.iter().all(is_context) && self.parts.iter().any(has_context)
        {
            self.set_flag(MessageFlag::Injected);
        }
    }
}

/// Splits a text with the user's role into the context at its beginning, which a tool inserted, and the text that the
/// user typed, both without surrounding white space.
#[must_use]
pub fn split_context(text: &str) -> (&str, &str) {
    let text = text.trim();
    let mut typed = text;
    while let Some(rest) = strip_context(typed) {
        typed = rest.trim_start();
    }
    let context = text.get(..text.len() - typed.len()).unwrap_or_default();
    (context.trim_end(), typed)
}

/// Headings and phrases at which injected context begins, with the text after which the user's words follow; without
/// such a text, everything is context.
const CONTEXT_BEGINNINGS: [(&str, Option<&str>); 4] = [
    ("# AGENTS.md instructions for ", Some("</INSTRUCTIONS>")),
    ("# Context from my IDE setup:", Some("## My request for Codex:")),
    ("Caveat: The messages below were generated by the user while running local commands", None),
    ("[Request interrupted by user", Some("]")),
];

/// The rest of a text that begins with injected context.
fn strip_context(text: &str) -> Option<&str> {
    for (beginning, end) in CONTEXT_BEGINNINGS {
        if text.starts_with(beginning) {
            let rest = end.and_then(|end| text.split_once(end)).map(|(_, rest)| rest);
            return Some(rest.unwrap_or_default());
        }
    }
    let inside = text.strip_prefix('<')?;
    let end_of_name = inside.find(|c: char| !(c.is_ascii_alphanumeric() || "_-".contains(c)))?;
    let (name, rest) = inside.split_at(end_of_name);
    if !rest.starts_with(['>', ' ', '\n']) || !is_context_element(name) {
        return None;
    }
    // An element without its end, for example in a truncated text, extends to the end of the text.
    Some(rest.split_once(&format!("</{name}>")).map_or("", |(_, rest)| rest))
}

/// What Claude Code's records of local commands were: a command as it was typed, and its output. Other context is returned as it
/// is.
#[must_use]
pub fn readable_context(context: &str) -> Cow<'_, str> {
    const CAVEAT: &str = "Caveat: The messages below were generated by the user while running local commands";
    const ELEMENTS: [&str; 5] =
        ["<command-name>", "<command-message>", "<bash-input>", "<bash-stdout>", "<local-command-"];
    let is_record = |text: &str| ELEMENTS.iter().any(|element| text.starts_with(element));
    if context.starts_with(CAVEAT) {
        return Cow::Borrowed(
            "note to the model: what follows are local commands of the user and their output",
        );
    }
    if !is_record(context) {
        return Cow::Borrowed(context);
    }
    let mut lines: Vec<String> = Vec::new();
    let mut command = String::new();
    let mut rest = context;
    while let Some((name, content, after)) = first_element(rest) {
        let content = content.trim();
        match name {
            "command-name" => command.insert_str(0, content),
            "command-args" if !content.is_empty() => command.push_str(&format!(" {content}")),
            "command-args" | "command-message" => {}
            "bash-input" => lines.push(format!("! {content}")),
            "local-command-caveat" => {
                lines.push(
                    "note to the model: what follows are local commands of the user and their output".into(),
                );
            }
            _ if content.is_empty() => {}
            _ => lines.push(content.to_owned()),
        }
        rest = after.trim_start();
    }
    if !command.is_empty() {
        lines.insert(0, command);
    }
    lines.extend(Some(rest.to_owned()).filter(|rest| !rest.is_empty()));
    if lines.is_empty() {
        Cow::Borrowed("a local command without output")
    } else {
        Cow::Owned(lines.join("\n"))
    }
}

/// The element at the beginning of a text: its name, its content, and what follows.
fn first_element(text: &str) -> Option<(&str, &str, &str)> {
    let inside = text.strip_prefix('<')?;
    let (name, rest) = inside.split_once('>')?;
    if !is_context_element(name) {
        return None;
    }
    let (content, after) = rest.split_once(&format!("</{name}>"))?;
    Some((name, content, after))
}

/// Whether a tool, and not the user, writes elements of this name into the user's messages.
fn is_context_element(name: &str) -> bool {
    const NAMES: [&str; 26] = [
        // Claude Code
        "command-name",
        "command-message",
        "command-args",
        "command-contents",
        "bash-input",
        "bash-stdout",
        "bash-stderr",
        "system-reminder",
        "task-notification",
        "user-prompt-submit-hook",
        "ide_opened_file",
        "ide_selection",
        "ide_diagnostics",
        "new-diagnostics",
        // Codex
        "environment_context",
        "user_instructions",
        "user_shell_command",
        "turn_aborted",
        "model_switch",
        "collaboration_mode",
        "permissions",
        "INSTRUCTIONS",
        // Gemini CLI
        "session_context",
        // Cline and its forks
        "environment_details",
        // opencode
        "system_reminder",
        "file-context",
    ];
    const FAMILIES: [&str; 3] = ["local-command-", "subagent", "skill"];
    NAMES.contains(&name) || FAMILIES.iter().any(|family| name.starts_with(family))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Source, Timestamp};

    #[test]
    fn context_is_split_from_the_words_that_follow_it() {
        for (text, context, typed) in [
            ("Fix it", "", "Fix it"),
            (
                "<environment_context>\n<cwd>/</cwd>\n</environment_context>",
                "<environment_context>\n<cwd>/</cwd>\n</environment_context>",
                "",
            ),
            (
                "<ide_selection a=\"1\">x</ide_selection>\n\n Why?",
                "<ide_selection a=\"1\">x</ide_selection>",
                "Why?",
            ),
            (
                "<system-reminder>a</system-reminder><ide_opened_file>b</ide_opened_file> c",
                "<system-reminder>a</system-reminder><ide_opened_file>b</ide_opened_file>",
                "c",
            ),
            (
                "# AGENTS.md instructions for /p\n\n<INSTRUCTIONS>\nBe kind\n</INSTRUCTIONS>",
                "# AGENTS.md instructions for /p\n\n<INSTRUCTIONS>\nBe kind\n</INSTRUCTIONS>",
                "",
            ),
            (
                "# Context from my IDE setup:\n\n## Active file: a\n\n## My request for Codex:\nGo",
                "# Context from my IDE setup:\n\n## Active file: a\n\n## My request for Codex:",
                "Go",
            ),
            (
                "<local-command-stdout>x</local-command-stdout>",
                "<local-command-stdout>x</local-command-stdout>",
                "",
            ),
            ("[Request interrupted by user for tool use]", "[Request interrupted by user for tool use]", ""),
            ("<turn_aborted cut", "<turn_aborted cut", ""),
            ("<div>what is this</div>", "", "<div>what is this</div>"),
            ("# AGENTS.md is wrong", "", "# AGENTS.md is wrong"),
            ("a <system-reminder>b</system-reminder>", "", "a <system-reminder>b</system-reminder>"),
            ("<", "", "<"),
            ("", "", ""),
        ] {
            assert_eq!(split_context(text), (context, typed), "{text:?}");
        }
    }

    #[test]
    fn records_of_local_commands_read_as_what_they_were() {
        for (record, expected) in [
            (
                "<command-name>/model</command-name>\n            <command-message>model</command-message>\n            <command-args>opus</command-args>",
                "/model opus",
            ),
            (
                "<command-message>init is analyzing</command-message>\n<command-name>/init</command-name>",
                "/init",
            ),
            ("<local-command-stdout>Set model to opus</local-command-stdout>", "Set model to opus"),
            ("<local-command-stdout></local-command-stdout>", "a local command without output"),
            ("<bash-input>ls -l</bash-input>", "! ls -l"),
            ("<bash-stdout>a\nb</bash-stdout><bash-stderr></bash-stderr>", "a\nb"),
            (
                "Caveat: The messages below were generated by the user while running local commands. DO NOT respond",
                "note to the model: what follows are local commands of the user and their output",
            ),
            ("<environment_context>x</environment_context>", "<environment_context>x</environment_context>"),
            ("<bash-input>cut", "<bash-input>cut"),
            ("", ""),
        ] {
            assert_eq!(readable_context(record), expected, "{record:?}");
        }
    }

    #[test]
    fn a_user_message_of_context_alone_is_marked() {
        let marked = |parts: &[&str], role| {
            let parts = parts.iter().map(|text| Part::text(*text)).collect();
            let mut message = MessageDraft::new(role, parts, Timestamp::UNKNOWN);
            message.source = Some(Source { format: "codex".into(), id: "1".into() });
            message.mark_injected_context();
            message.mark_injected_context();
            message.is_context()
        };
        let context = "<user_instructions>x</user_instructions>";
        assert!(marked(&[context], Role::User));
        assert!(marked(&[context, "<skill>y</skill>", " "], Role::User));
        assert!(!marked(&[context, "words"], Role::User));
        assert!(!marked(&[context], Role::Assistant));
        assert!(!marked(&[], Role::User));
        assert!(!marked(&[" "], Role::User));
    }

    #[test]
    fn context_inside_a_message_is_split_only_from_imported_text_of_the_user() {
        let text = "<ide_opened_file>a.rs</ide_opened_file>\nWhy?";
        let split = |role, is_imported: bool, is_context: bool| {
            let mut message = MessageDraft::new(role, vec![Part::text(text)], Timestamp::UNKNOWN);
            message.source = is_imported.then(|| Source { format: "claude-code".into(), id: "1".into() });
            if is_context {
                message.set_flag(MessageFlag::Meta);
            }
            message.split_text(text)
        };
        assert_eq!(split(Role::User, true, false), ("<ide_opened_file>a.rs</ide_opened_file>", "Why?"));
        assert_eq!(split(Role::User, true, true), (text, ""));
        assert_eq!(split(Role::User, false, false), ("", text));
        assert_eq!(split(Role::Assistant, true, false), ("", text));
    }
}
