//! What an imported session is called after, when its tool gave it no title.

use hfs_core::{MessageDraft, Role};
use serde_json::Value;

/// Flags in a message's `extra` that say its words are not the user's own.
const NOT_SAID: [&str; 5] = ["injected", "meta", "hidden", "compact-summary", "sidechain"];

/// The first real words of the user, as far as they have been seen.
#[derive(Debug, Default)]
pub struct FirstWords {
    said: Option<String>,
    /// What stands in for them while there are none: a command that was typed, or any text at all.
    instead: Option<String>,
}

impl FirstWords {
    /// Takes the next message in.
    pub fn hear(&mut self, message: &MessageDraft) {
        if message.role != Role::User || self.said.is_some() {
            return;
        }
        let text = message.text();
        let injected =
            message.extra.get("flags").and_then(Value::as_array).is_some_and(|flags| {
                flags.iter().filter_map(Value::as_str).any(|flag| NOT_SAID.contains(&flag))
            });
        let rest = behind_elements(&text);
        if !injected && !rest.is_empty() {
            self.said = Some(rest.to_owned());
        } else if self.instead.is_none() {
            let words = command(&text).unwrap_or_else(|| without_tags(&text));
            self.instead = Some(words).filter(|words| !words.trim().is_empty());
        }
    }

    /// The words; empty when nothing was said at all.
    pub fn words(&self) -> &str {
        self.said.as_deref().or(self.instead.as_deref()).unwrap_or_default()
    }
}

/// What stands behind the elements that tools put in front of what a user types, such as
/// `<ide_selection>...</ide_selection>`.
fn behind_elements(text: &str) -> &str {
    let mut rest = text.trim();
    while let Some(behind) = behind_element(rest) {
        rest = behind.trim_start();
    }
    rest
}

fn behind_element(text: &str) -> Option<&str> {
    let inside = text.strip_prefix('<')?;
    let name_end =
        inside.find(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c)))?;
    let (name, rest) = inside.split_at(name_end);
    if name.is_empty() || !rest.starts_with(['>', ' ']) {
        return None;
    }
    let end = format!("</{name}>");
    rest.split_once(&end).map(|(_, behind)| behind)
}

/// A command as the user typed it, out of the elements that Claude Code records it in.
fn command(text: &str) -> Option<String> {
    let name = element(text, "command-name")?;
    let arguments = element(text, "command-args").unwrap_or_default();
    Some(format!("{} {}", name.trim(), arguments.trim()))
}

fn element<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(inside, _)| inside)
}

fn without_tags(text: &str) -> String {
    let mut words = String::new();
    for piece in text.split('<') {
        let word = match piece.split_once('>') {
            Some((tag, behind)) if !tag.contains(char::is_whitespace) => behind,
            _ => piece,
        };
        words.push_str(word);
        words.push(' ');
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use hfs_core::{Part, Timestamp};
    use serde_json::json;

    fn named(texts: &[&str]) -> String {
        let mut first = FirstWords::default();
        for text in texts {
            first.hear(&MessageDraft::user(*text, Timestamp::UNIX_EPOCH));
        }
        first.words().split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_session_is_named_after_what_its_user_typed() {
        for (texts, name) in [
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
            assert_eq!(named(texts), name, "{texts:?}");
        }
    }

    #[test]
    fn words_that_a_tool_put_into_the_users_mouth_are_the_last_choice() {
        let mut first = FirstWords::default();
        let mut caveat = MessageDraft::user("Caveat: the messages below", Timestamp::UNIX_EPOCH);
        caveat.extra.insert("flags".into(), json!(["meta"]));
        first.hear(&caveat);
        assert_eq!(first.words().trim(), "Caveat: the messages below");
        first.hear(&MessageDraft::new(Role::Assistant, vec![Part::text("no")], Timestamp::UNIX_EPOCH));
        first.hear(&MessageDraft::user("Say", Timestamp::UNIX_EPOCH));
        assert_eq!(first.words(), "Say");
    }
}
