//! Sessions: one conversation each, with all its branches.

use crate::{BranchId, PassthroughFields, Project, SessionId, Timestamp};

/// Where an imported session came from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The format: `claude-code`, `openai-messages`, `hfs` ...
    pub format: String,
    /// The session's id there; the same when the same conversation is read again.
    pub id: String,
    /// The file it was read from, for people; `None` for standard input.
    pub path: Option<String>,
}

/// A session to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionDraft {
    /// Its identity.
    pub id: SessionId,
    /// What it is called.
    pub name: String,
    /// Whether the name is made up by the program, so that a better one may replace it.
    pub automatic_name: bool,
    /// Where it is held.
    pub project: Option<Project>,
    /// When it began.
    pub created_at: Timestamp,
    /// Where it came from.
    pub origin: Option<Origin>,
    /// What came with it and means nothing here.
    pub extra: PassthroughFields,
    /// The identity of its first branch, which is called `main`.
    pub main_branch: BranchId,
}

/// A session.
#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    /// Its identity.
    pub id: SessionId,
    /// What it is called.
    pub name: String,
    /// Whether the name is made up by the program.
    pub automatic_name: bool,
    /// Where it is held.
    pub project: Option<Project>,
    /// When it began.
    pub created_at: Timestamp,
    /// When something was last said in it or its structure last changed.
    pub updated_at: Timestamp,
    /// The branch that a resume opens.
    pub current_branch: BranchId,
    /// Where it came from.
    pub origin: Option<Origin>,
    /// When it was put into the trash; `None` while it is not there.
    pub trashed_at: Option<Timestamp>,
    /// What came with it and means nothing here.
    pub extra: PassthroughFields,
}

/// A session as lists show it.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionSummary {
    /// The session.
    pub session: Session,
    /// How many messages all its branches hold together, undone ones included.
    pub messages: u64,
    /// How many branches it has, undone ones left out.
    pub branches: u64,
    /// How many checkpoints it has.
    pub checkpoints: u64,
    /// The name of its current branch.
    pub branch: String,
}

/// Which sessions a list is to show. All conditions must hold; the newest come first.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SessionFilter {
    /// Only those of the project with this [`Project::key`].
    pub project: Option<String>,
    /// Those in the trash instead of those that are not.
    pub trashed: bool,
    /// Only the one with this origin (format and id).
    pub origin: Option<(String, String)>,
}

/// How a person names a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionRef {
    /// `@`, `@-1`, `@-2`: so many before the newest.
    Recent(u32),
    /// An id, the beginning of one (of the short or of the full form), or a name.
    Named(String),
}

impl SessionRef {
    /// Reads what a person typed. Every text is some reference; whether it finds anything is the store's word.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let back = match text.strip_prefix('@') {
            Some("") => Some(0),
            Some(rest) => rest.strip_prefix('-').and_then(|digits| digits.parse().ok()),
            None => None,
        };
        back.map_or_else(|| Self::Named(text.to_owned()), Self::Recent)
    }
}

/// How many characters of the first message an automatic name keeps.
const NAME_CHARS: usize = 30;

/// The name of a session whose first user message is `first_message`, begun at this local time:
/// `Fix login bug - 2026-02-01_14-30`.
#[must_use]
pub fn automatic_name(first_message: &str, local: &jiff::Zoned) -> String {
    let mut words = String::new();
    for word in first_message.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()) {
        if !words.is_empty() {
            words.push(' ');
        }
        words.push_str(word);
        if words.len() > NAME_CHARS * 4 {
            break;
        }
    }
    let beginning: String = words.chars().take(NAME_CHARS).collect();
    let beginning = beginning.trim_end();
    let title = if beginning.is_empty() { "New session" } else { beginning };
    format!("{title} - {}", local.strftime("%Y-%m-%d_%H-%M"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_automatic_name_is_the_first_thirty_characters_and_the_local_time() {
        let local: jiff::Zoned = "2026-02-01T14:30:59+01:00[Europe/Paris]".parse().unwrap();
        for (text, name) in [
            ("Fix login bug", "Fix login bug - 2026-02-01_14-30"),
            ("  Fix\n\tlogin   bug ", "Fix login bug - 2026-02-01_14-30"),
            ("", "New session - 2026-02-01_14-30"),
            (
                "äöü 日本語 a long message that goes on and on",
                "äöü 日本語 a long message that go - 2026-02-01_14-30",
            ),
        ] {
            assert_eq!(automatic_name(text, &local), name);
        }
    }

    #[test]
    fn references_by_age_are_told_from_names() {
        assert_eq!(SessionRef::new("@"), SessionRef::Recent(0));
        assert_eq!(SessionRef::new("@-2"), SessionRef::Recent(2));
        assert_eq!(SessionRef::new("@home"), SessionRef::Named("@home".into()));
        assert_eq!(SessionRef::new("zyxw"), SessionRef::Named("zyxw".into()));
    }
}
