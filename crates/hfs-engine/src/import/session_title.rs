//! Derives a title from the user's messages, for imported sessions that have no title in their source.

use hfs_core::{MessageDraft, Role, split_context};

/// Title of a session, from the text of its first messages.
#[derive(Debug, Default)]
pub struct SessionTitle {
    /// The first text that the user typed.
    typed: Option<String>,
    /// The first text of a user message that the user did not type, or a slash command. It is the title if `typed` is
    /// `None`.
    fallback: Option<String>,
}

impl SessionTitle {
    /// Adds the next message of the session.
    pub fn add(&mut self, message: &MessageDraft) {
        if message.role != Role::User || self.typed.is_some() {
            return;
        }
        let text = message.text();
        let typed = strip_leading_elements(split_context(&text).1);
        if !message.is_context() && !typed.is_empty() {
            self.typed = Some(typed.to_owned());
        } else if self.fallback.is_none() {
            let fallback = slash_command(&text).unwrap_or_else(|| without_tags(&text));
            self.fallback = Some(fallback).filter(|text| !text.trim().is_empty());
        }
    }

    /// Whether further messages do not change the title.
    pub const fn is_final(&self) -> bool {
        self.typed.is_some()
    }

    /// The title; empty if no message has text.
    pub fn as_str(&self) -> &str {
        self.typed.as_deref().or(self.fallback.as_deref()).unwrap_or_default()
    }
}

/// Strips the elements that tools insert before the typed text, such as `<ide_selection>...</ide_selection>`.
fn strip_leading_elements(text: &str) -> &str {
    let mut rest = text.trim();
    while let Some(after) = strip_element(rest) {
        rest = after.trim_start();
    }
    rest
}

fn strip_element(text: &str) -> Option<&str> {
    let inside = text.strip_prefix('<')?;
    let name_end =
        inside.find(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c)))?;
    let (name, rest) = inside.split_at(name_end);
    if name.is_empty() || !rest.starts_with(['>', ' ']) {
        return None;
    }
    let end = format!("</{name}>");
    rest.split_once(&end).map(|(_, after)| after)
}

/// Restores a slash command from the elements in which Claude Code records it.
fn slash_command(text: &str) -> Option<String> {
    let name = element(text, "command-name")?;
    let arguments = element(text, "command-args").unwrap_or_default();
    Some(format!("{} {}", name.trim(), arguments.trim()))
}

fn element<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(inside, _)| inside)
}

fn without_tags(text: &str) -> String {
    let mut stripped = String::new();
    for section in text.split('<') {
        let text = match section.split_once('>') {
            Some((tag, after)) if !tag.contains(char::is_whitespace) => after,
            _ => section,
        };
        stripped.push_str(text);
        stripped.push(' ');
    }
    stripped
}

#[cfg(test)]
mod tests {
    use super::*;
    use hfs_core::{Part, Timestamp};
    use serde_json::json;

    fn title(texts: &[&str]) -> String {
        let mut title = SessionTitle::default();
        for text in texts {
            title.add(&MessageDraft::user(*text, Timestamp::UNIX_EPOCH));
        }
        title.as_str().split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_title_is_the_first_text_that_the_user_typed() {
        for (texts, expected) in [
            (&["Fix it", "And that"][..], "Fix it"),
            (&["<ide_selection>line 3\n<b></ide_selection>\n Why this?"], "Why this?"),
            (&["<ide_opened_file>a.rs</ide_opened_file>", "Explain"], "Explain"),
            (&["<local-command-stdout>\u{1b}[1mx</local-command-stdout>", "Go on"], "Go on"),
            (
                &["<command-message>init</command-message>\n<command-name>/init</command-name>\n\
                   <command-args>fast</command-args>"],
                "/init fast",
            ),
            (&["<command-name>/clear</command-name>", "Real words"], "Real words"),
            (&["a < b > c"], "a < b > c"),
            (&["<unclosed> tag"], "<unclosed> tag"),
            (&["<task>only this</task>"], "only this"),
            (&["", "  "], ""),
            (&[], ""),
        ] {
            assert_eq!(title(texts), expected, "{texts:?}");
        }
    }

    #[test]
    fn injected_text_is_used_only_without_typed_text() {
        let mut title = SessionTitle::default();
        let mut caveat = MessageDraft::user("Caveat: the messages below", Timestamp::UNIX_EPOCH);
        caveat.extra.insert("flags".into(), json!(["meta"]));
        title.add(&caveat);
        assert_eq!(title.as_str().trim(), "Caveat: the messages below");
        title.add(&MessageDraft::new(Role::Assistant, vec![Part::text("no")], Timestamp::UNIX_EPOCH));
        title.add(&MessageDraft::user("Say", Timestamp::UNIX_EPOCH));
        assert_eq!(title.as_str(), "Say");
    }
}
