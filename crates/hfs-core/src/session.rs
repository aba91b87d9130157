//! Sessions: conversations with all their branches.

use crate::{BranchId, PassthroughFields, Project, SessionId, Timestamp};

/// Origin of an imported session.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Format, such as `claude-code`, `openai-messages` or `hfs`.
    pub format: String,
    /// Id of the session in its source; the same when the source is imported again.
    pub id: String,
    /// File that it was read from, for display only; `None` for standard input.
    pub path: Option<String>,
}

/// A session to be created.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionDraft {
    /// Session id.
    pub id: SessionId,
    /// Name.
    pub name: String,
    /// Whether hfs generated the name, so that a better one may replace it.
    pub automatic_name: bool,
    /// Project of the session.
    pub project: Option<Project>,
    /// Time of creation.
    pub created_at: Timestamp,
    /// Origin, if it is imported.
    pub origin: Option<Origin>,
    /// Fields of the source that hfs does not interpret.
    pub extra: PassthroughFields,
    /// Id of the first branch, which is named [`MAIN_BRANCH`](crate::MAIN_BRANCH).
    pub main_branch: BranchId,
}

/// A stored session.
#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    /// Session id.
    pub id: SessionId,
    /// Name.
    pub name: String,
    /// Whether hfs generated the name.
    pub automatic_name: bool,
    /// Project of the session.
    pub project: Option<Project>,
    /// Time of creation.
    pub created_at: Timestamp,
    /// Time of the newest message or structural change.
    pub updated_at: Timestamp,
    /// Branch that a resume opens.
    pub current_branch: BranchId,
    /// Origin, if it was imported.
    pub origin: Option<Origin>,
    /// When it was moved to the trash; `None` if it is not there.
    pub trashed_at: Option<Timestamp>,
    /// Fields of the source that hfs does not interpret.
    pub extra: PassthroughFields,
}

impl Session {
    /// The name for lists that also show a date: an automatic name without the time at its end.
    #[must_use]
    pub fn title(&self) -> &str {
        if self.automatic_name { name_without_time(&self.name) } else { &self.name }
    }
}

/// A session as lists show it.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionSummary {
    /// The session.
    pub session: Session,
    /// Number of messages on all branches, including undone ones.
    pub messages: u64,
    /// Number of branches, without undone ones.
    pub branches: u64,
    /// Number of checkpoints.
    pub checkpoints: u64,
    /// Name of the current branch.
    pub branch: String,
}

/// Selects the sessions of a list. All conditions must hold.
///
/// Fields may be added; construct it with `..SessionFilter::default()`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionFilter {
    /// Only sessions of the project with this [`Project::key`].
    pub project: Option<String>,
    /// Only sessions whose project has this text in its directory or its repository, in any case of ASCII letters.
    pub project_contains: Option<String>,
    /// Only sessions of this tool: the format of their [`Origin`], or [`SessionFilter::HFS`] for those without an origin.
    pub tool: Option<String>,
    /// Select the sessions in the trash instead of the others.
    pub trashed: bool,
    /// Only the session with this origin (format and id).
    pub origin: Option<(String, String)>,
}

impl SessionFilter {
    /// The tool of sessions that were not imported.
    pub const HFS: &'static str = "hfs";
}

impl Session {
    /// The tool that the session comes from, as [`SessionFilter::tool`] names it.
    #[must_use]
    pub fn tool(&self) -> &str {
        self.origin.as_ref().map_or(SessionFilter::HFS, |origin| &origin.format)
    }
}

/// How a user refers to a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionRef {
    /// `@` is the newest session, `@-1` the one before it, and so on.
    Recent(u32),
    /// An id, a prefix of one (in short or full form), or a name.
    Named(String),
}

impl SessionRef {
    /// Parses text typed by a user. Never fails: text other than `@` and `@-N` is taken as an id or a name, which the
    /// store resolves.
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

/// Maximum length of the beginning of the first message in an automatic name, in characters. It ends with a whole word
/// if there is one.
const NAME_CHARS: usize = 30;

/// Separates the title and the time in an automatic name.
pub const TIME_SEPARATOR: &str = " - ";

/// How much of the first message is read for a name. A secret that starts in the name ends within it.
const READ_CHARS: usize = 8192;

/// Generates the name of a session from its first user message and its local time of creation, such as
/// `Fix login bug - 2026-02-01_14-30`. Secrets in the message are replaced by an ellipsis.
#[must_use]
pub fn automatic_name(first_message: &str, local: &jiff::Zoned) -> String {
    let end = first_message.char_indices().nth(READ_CHARS).map_or(first_message.len(), |(index, _)| index);
    let text = without_secrets(first_message.get(..end).unwrap_or_default());
    let mut words = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()) {
        if !words.is_empty() {
            words.push(' ');
        }
        words.push_str(word);
        if words.len() > NAME_CHARS * 4 {
            break;
        }
    }
    let beginning = cut_at_word(&words);
    // Joining the words could have made a secret that was none in the message.
    let title =
        if beginning.is_empty() || hfs_secrets::contains(beginning) { "New session" } else { beginning };
    format!("{title}{TIME_SEPARATOR}{}", local.strftime("%Y-%m-%d_%H-%M"))
}

/// Cuts a text to [`NAME_CHARS`], after a whole word unless the last word takes up more than half of them.
fn cut_at_word(text: &str) -> &str {
    let Some((end, next)) = text.char_indices().nth(NAME_CHARS) else { return text.trim_end() };
    let cut = text.get(..end).unwrap_or(text);
    let whole_words = if next == ' ' { Some(cut) } else { cut.rsplit_once(' ').map(|(words, _)| words) };
    whole_words.filter(|words| words.chars().count() >= NAME_CHARS / 2).unwrap_or(cut).trim_end()
}

/// An automatic name without the time at its end; every other name is returned whole.
#[must_use]
pub fn name_without_time(name: &str) -> &str {
    let title = name.rsplit_once(TIME_SEPARATOR).filter(|(_, time)| is_name_time(time));
    title.map_or(name, |(title, _)| title)
}

/// Whether a text is the time in an automatic name, such as `2026-02-01_14-30`.
fn is_name_time(text: &str) -> bool {
    let form = "dddd-dd-dd_dd-dd";
    text.len() == form.len()
        && text.bytes().zip(form.bytes()).all(
            |(byte, form)| {
                if form == b'd' { byte.is_ascii_digit() } else { byte == form }
            },
        )
}

fn without_secrets(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut copied = 0;
    for secret in hfs_secrets::find(text) {
        kept.push_str(text.get(copied..secret.start).unwrap_or_default());
        kept.push('…');
        copied = secret.end;
    }
    kept.push_str(text.get(copied..).unwrap_or_default());
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_automatic_name_is_the_first_words_and_the_local_time() {
        let local: jiff::Zoned = "2026-02-01T14:30:59+01:00[Europe/Paris]".parse().unwrap();
        for (text, name) in [
            ("Fix login bug", "Fix login bug - 2026-02-01_14-30"),
            ("  Fix\n\tlogin   bug ", "Fix login bug - 2026-02-01_14-30"),
            ("", "New session - 2026-02-01_14-30"),
            (
                "äöü 日本語 a long message that goes on and on",
                "äöü 日本語 a long message that - 2026-02-01_14-30",
            ),
        ] {
            assert_eq!(automatic_name(text, &local), name);
        }
    }

    #[test]
    fn a_name_ends_with_a_whole_word_unless_the_word_is_long() {
        for (text, cut) in [
            ("Why does the login fail on Windows", "Why does the login fail on"),
            ("Why does the login fail on Mac OS", "Why does the login fail on Mac"),
            ("See https://example.org/a/long/path", "See https://example.org/a/long"),
            ("short", "short"),
        ] {
            assert_eq!(cut_at_word(text), cut);
        }
    }

    #[test]
    fn a_title_is_an_automatic_name_without_its_time() {
        let session = |name: &str, automatic_name| Session {
            id: SessionId::generate(),
            name: name.to_owned(),
            automatic_name,
            project: None,
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
            current_branch: BranchId::generate(),
            origin: None,
            trashed_at: None,
            extra: PassthroughFields::new(),
        };
        assert_eq!(session("Fix - it - 2026-02-01_14-30", true).title(), "Fix - it");
        assert_eq!(session("Fix it - 2026-02-01_14-30", false).title(), "Fix it - 2026-02-01_14-30");
        assert_eq!(session("Fix it - 2026", true).title(), "Fix it - 2026");
    }

    #[test]
    fn an_automatic_name_contains_no_secret_and_no_part_of_one() {
        let local: jiff::Zoned = "2026-02-01T14:30:59+01:00[Europe/Paris]".parse().unwrap();
        let token = ["gh", "p_", "Zq8vT2mN4kR7wX1yB5cD9fG3hJ6lP0sAuEiO"].concat();
        let long = ["sk-ant", "-oat01-"].concat() + &"aB3dE7fG".repeat(2000);
        for (text, beginning) in [
            (format!("Use {token} to push"), "Use … to push - "),
            (format!("deploy with token {token}"), "deploy with token … - "),
            ("psql postgres://app:n8Xk2qpl@db/x fails".to_owned(), "psql postgres://app:…@db/x - "),
            ("DB_PASSWORD=Kestrel-7781\nwhy?".to_owned(), "DB_PASSWORD=… why? - "),
            (format!("{long} expired"), "… - "),
        ] {
            let name = automatic_name(&text, &local);
            assert!(name.starts_with(beginning), "{name}");
        }
    }

    #[test]
    fn references_by_age_are_distinguished_from_names() {
        assert_eq!(SessionRef::new("@"), SessionRef::Recent(0));
        assert_eq!(SessionRef::new("@-2"), SessionRef::Recent(2));
        assert_eq!(SessionRef::new("@home"), SessionRef::Named("@home".into()));
        assert_eq!(SessionRef::new("zyxw"), SessionRef::Named("zyxw".into()));
    }
}
