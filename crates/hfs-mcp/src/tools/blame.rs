//! The tool `blame`.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::path::Path;

use hfs_core::{DiffLine, Message, Part, SearchHit, SearchQuery, SessionId, ToolInput, diff_lines, plural};
use schemars::JsonSchema;
use serde::Deserialize;

use super::is_quoting_hfs;
use crate::answer::{Answer, MAX_ANSWER_BYTES, Masker, shorten};
use crate::error::McpError;
use crate::library::Library;
use crate::place::Place;

const DEFAULT_LIMIT: usize = 8;
const MAX_LIMIT: usize = 40;
/// Messages that mention the file and are examined.
const MAX_MENTIONS: u32 = 400;
/// Maximum length of an excerpt, in characters.
const WORDS: usize = 120;
/// Lines of a change that are shown.
const CHANGED_LINES: usize = 4;

/// Arguments of `blame`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BlameArgs {
    /// Path of the file, from the top of the project or absolute; a file name alone finds it in any directory
    path: String,
    /// Only where this function, type or other word is mentioned too
    symbol: Option<String>,
    /// Maximum number of conversations; 8 by default
    #[schemars(range(min = 1, max = 40))]
    limit: Option<usize>,
}

/// What a session did with the file: its newest change, else its newest mention.
struct SessionMentions {
    hit: SearchHit,
    message: Message,
    changes: usize,
    mentions: usize,
}

pub fn run(library: &Library<'_>, args: &BlameArgs) -> Result<String, McpError> {
    let path = relative(&args.path, &library.host.project().directory);
    if !path.chars().any(char::is_alphanumeric) {
        return Err(McpError::Argument(format!("{:?} is not the path of a file", args.path)));
    }
    let symbol = args.symbol.as_deref().map(str::trim).filter(|symbol| !symbol.is_empty());
    let text = match symbol {
        Some(symbol) => format!("\"{path}\" \"{symbol}\""),
        None => format!("\"{path}\""),
    };
    let query = SearchQuery::new(text).with_limit(MAX_MENTIONS);
    let found = library.store().search(&query)?;
    let total = found.total;
    let mut sessions: HashMap<SessionId, SessionMentions> = HashMap::new();
    for hit in found.hits {
        let message = library.store().get_message(hit.message)?;
        if is_quoting_hfs(&message.content) {
            continue;
        }
        let mentioned = message.content.searchable_text();
        if !mentions_path(&mentioned, &path) || symbol.is_some_and(|symbol| !mentioned.contains(symbol)) {
            continue;
        }
        let changes = changes_of(&message, &path).len();
        let new = SessionMentions { hit, message, changes, mentions: 1 };
        match sessions.get_mut(&new.hit.session) {
            None => drop(sessions.insert(new.hit.session, new)),
            Some(known) => known.add(new),
        }
    }
    let mut sessions: Vec<SessionMentions> = sessions.into_values().collect();
    sessions.sort_by_key(|found| (found.changes == 0, Reverse(found.hit.created_at), found.hit.session));
    let mut answer = Answer::new(MAX_ANSWER_BYTES);
    let limit = args.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT);
    let mut shown = 0;
    for session in sessions.iter().take(limit) {
        if !answer.push(&describe(library, session, &path)?) {
            break;
        }
        shown += 1;
    }
    if sessions.is_empty() {
        answer.push_footer(&format!(
            "No saved conversation mentions {}.",
            library.masker.text(&shorten(&path, WORDS))
        ));
    } else if shown < sessions.len() {
        answer.push_footer(&format!(
            "{shown} of {} conversations shown; a symbol or a longer path selects, limit shows more.",
            sessions.len()
        ));
    }
    if total > u64::from(MAX_MENTIONS) {
        answer.push_footer(&format!("Only the {MAX_MENTIONS} best of {total} messages were examined."));
    }
    Ok(answer.finish())
}

impl SessionMentions {
    fn add(&mut self, other: Self) {
        let (changes, mentions) = (self.changes + other.changes, self.mentions + other.mentions);
        let rank = |found: &Self| (found.changes > 0, found.hit.created_at, found.hit.seq);
        if rank(&other) > rank(self) {
            *self = other;
        }
        (self.changes, self.mentions) = (changes, mentions);
    }
}

fn describe(library: &Library<'_>, session: &SessionMentions, path: &str) -> Result<String, McpError> {
    let SessionMentions { hit, message, changes, mentions } = session;
    let place =
        Place { session: hit.session, branch: hit.branch, branch_name: &hit.branch_name, seq: hit.seq };
    let what = match (*changes, *mentions) {
        (0, 1) => "mentioned once".to_owned(),
        (0, mentions) => format!("mentioned in {mentions} messages"),
        (1, _) => "changed once".to_owned(),
        (changes, _) => format!("changed {changes} times"),
    };
    let mut block = format!(
        "[{}] {what}, {}, {}",
        place.cite(),
        library.time(hit.created_at),
        library.label_of(hit.session)?
    );
    let asked = library.asked(hit.branch, hit.seq)?;
    if !asked.is_empty() {
        block.push_str(&format!("\n  asked: {asked}"));
    }
    let excerpt = match changes_of(message, path).first() {
        Some(change) => shorten(&summarize(change, library.masker), WORDS),
        None => shorten(&library.excerpt(&message.content, &hit.snippet), WORDS),
    };
    if !excerpt.is_empty() {
        block.push_str(&format!("\n  {excerpt}"));
    }
    Ok(block)
}

/// The calls in a message that change the file.
fn changes_of<'m>(message: &'m Message, path: &str) -> Vec<ToolInput<'m>> {
    let inputs = message.content.parts.iter().filter_map(|part| match part {
        Part::ToolCall { input, .. } => Some(ToolInput::of(input)),
        Part::Text { .. }
        | Part::Thinking { .. }
        | Part::ToolResult { .. }
        | Part::Attachment { .. }
        | Part::Opaque { .. } => None,
    });
    inputs.filter(|input| input.changed_files().iter().any(|file| is_path(file, path))).collect()
}

/// The first lines of a change. The texts are masked before lines are taken out of them, since a line of a secret, such as of
/// a private key, does not look like one.
fn summarize(input: &ToolInput<'_>, masker: Masker) -> String {
    match input {
        ToolInput::Edits { edits, .. } => {
            let mut lines = Vec::new();
            for (old, new) in edits {
                let (old, new) = (masker.text(old), masker.text(new));
                lines.extend(diff_lines(&old, &new).into_iter().filter_map(|line| match line {
                    DiffLine::Same(_) => None,
                    DiffLine::Removed(line) => Some(format!("- {}", line.trim())),
                    DiffLine::Added(line) => Some(format!("+ {}", line.trim())),
                }));
            }
            lines.truncate(CHANGED_LINES);
            lines.join(" ")
        }
        ToolInput::Patch(patch) => {
            let is_change = |line: &&str| {
                line.starts_with(['+', '-']) && !line.starts_with("+++") && !line.starts_with("---")
            };
            masker.text(patch).lines().filter(is_change).take(CHANGED_LINES).collect::<Vec<_>>().join(" ")
        }
        ToolInput::File { content, .. } => format!("wrote {}", plural(content.lines().count(), "line")),
        ToolInput::Command(_) | ToolInput::Other => String::new(),
    }
}

/// The path below the project's directory, without `./`; other paths as they are.
fn relative(path: &str, project: &str) -> String {
    let path = path.trim().replace('"', "");
    let below =
        Path::new(&path).strip_prefix(project).ok().and_then(Path::to_str).filter(|below| !below.is_empty());
    below.unwrap_or(&path).trim_start_matches("./").to_owned()
}

/// Whether a file is the one at the path: the same path, or one that ends with it.
fn is_path(file: &str, path: &str) -> bool {
    let file = file.trim().trim_matches('"');
    file.strip_suffix(path)
        .is_some_and(|before| before.is_empty() || before.ends_with(['/', '\\']) || path.starts_with('/'))
}

/// Whether a text contains the path, and not only the end of another file's name.
fn mentions_path(text: &str, path: &str) -> bool {
    text.match_indices(path).any(|(start, found)| {
        let before = text.get(..start).and_then(|before| before.chars().next_back());
        let after = text.get(start + found.len()..).and_then(|after| after.chars().next());
        let continues = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
        !before.is_some_and(|c| continues(c) || c == '.') && !after.is_some_and(continues)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_not_the_end_of_another_name() {
        assert!(mentions_path("edit src/lib.rs now", "lib.rs"));
        assert!(mentions_path("\"/home/me/x/src/lib.rs\"", "src/lib.rs"));
        assert!(mentions_path("lib.rs:12", "lib.rs") && mentions_path("see lib.rs.", "lib.rs"));
        assert!(!mentions_path("mylib.rs and lib.rst", "lib.rs"));
        assert!(is_path("/home/me/src/lib.rs", "src/lib.rs") && is_path("src/lib.rs", "src/lib.rs"));
        assert!(!is_path("src/mylib.rs", "lib.rs"));
    }

    #[test]
    fn changed_lines_of_a_private_key_are_masked() {
        let key = |line: &str| {
            let [begin, end] = ["BEGIN", "END"].map(|word| format!("-----{word} RSA PRIVATE {}-----", "KEY"));
            format!("{begin}\n{line}\n{end}\n")
        };
        let (old, new) = (key("MIIEpAIBAAKCAQEAzX4v9Qm2Lk7sTb"), key("MIIEpAIBAAKCAQEAr8Wd3Ny6Pc1hGf"));
        let new = format!("{new}port = 1\n");
        let patch = format!("--- a/x\n+++ b/x\n{}", new.replace("MII", "+MII").replace("port", "+port"));
        let edits = vec![(old.as_str(), new.as_str())];
        for input in [ToolInput::Edits { path: None, edits }, ToolInput::Patch(&patch)] {
            let summary = summarize(&input, Masker::new(true));
            assert!(summary.contains("port = 1") && !summary.contains("AQEA"), "{summary}");
            assert!(summarize(&input, Masker::new(false)).contains("AQEA"));
        }
    }

    #[test]
    fn a_path_starts_at_the_project() {
        assert_eq!(relative("/home/me/x/src/lib.rs", "/home/me/x"), "src/lib.rs");
        assert_eq!(relative("./src/lib.rs", "/home/me/x"), "src/lib.rs");
        assert_eq!(relative("/etc/hosts", "/home/me/x"), "/etc/hosts");
        assert_eq!(relative("/home/me/x", "/home/me/x"), "/home/me/x");
    }
}
