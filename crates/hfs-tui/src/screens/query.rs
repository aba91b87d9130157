//! The words of a query: filters of the sessions, and the text to look for.

use hfs_core::SessionFilter;

/// A query of the list of sessions or of the search. `project:TEXT` and `tool:NAME` are filters, unless they are a part of a
/// quoted phrase; all other words are the text.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct QueryWords {
    /// A part of the directory or the repository of the sessions' project.
    pub project: Option<String>,
    /// The tool that the sessions come from.
    pub tool: Option<String>,
    /// The other words.
    pub text: String,
    /// Whether the query ends with the last word of the text, which the user may still be typing.
    pub is_last_word_open: bool,
}

impl QueryWords {
    /// Splits a query. A filter that the user is still typing has no effect.
    pub fn of(query: &str) -> Self {
        let mut words = Self::default();
        let mut is_quoted = false;
        for word in query.split_whitespace() {
            let filter = |name: &str| word.strip_prefix(name).filter(|_| !is_quoted);
            let value = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            if let Some(project) = filter("project:") {
                words.project = value(project);
            } else if let Some(tool) = filter("tool:") {
                words.tool = value(tool);
            } else {
                if !words.text.is_empty() {
                    words.text.push(' ');
                }
                words.text.push_str(word);
                is_quoted ^= word.matches('"').count() % 2 == 1;
                words.is_last_word_open = !word.ends_with(['"', '*']);
                continue;
            }
            words.is_last_word_open = false;
        }
        words.is_last_word_open &= !query.ends_with(char::is_whitespace);
        words
    }

    /// The sessions that the filters select.
    pub fn filter(&self) -> SessionFilter {
        SessionFilter {
            project_contains: self.project.clone(),
            tool: self.tool.clone(),
            ..SessionFilter::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_has_filters_for_the_project_and_the_tool() {
        let words = QueryWords::of("tool:codex fix  project:gate login");
        assert_eq!(words.text, "fix login");
        assert_eq!((words.project.as_deref(), words.tool.as_deref()), (Some("gate"), Some("codex")));
        assert_eq!(QueryWords::of("tool: project:"), QueryWords::default(), "while the user types a filter");
    }

    #[test]
    fn the_last_word_is_open_until_a_space_a_filter_or_a_mark_follows() {
        for open in ["login", "fix login", "tool:codex login", "\"tool:codex log"] {
            assert!(QueryWords::of(open).is_last_word_open, "{open}");
        }
        let closed = ["", "login ", "login project:login", "login tool:", "log*", "\"fix login\""];
        for closed in closed {
            assert!(!QueryWords::of(closed).is_last_word_open, "{closed}");
        }
    }

    #[test]
    fn a_filter_in_a_quoted_phrase_is_text() {
        let words = QueryWords::of("\"the tool:codex\" tool:aider \"tool:x\"");
        assert_eq!(
            (words.text.as_str(), words.tool.as_deref()),
            ("\"the tool:codex\" \"tool:x\"", Some("aider"))
        );
        assert_eq!(words.project, None);
    }
}
