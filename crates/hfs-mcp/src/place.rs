//! Citations: where a message is, in a form that the tool `read` resolves.
//!
//! A citation is the session, the branch and the number of the message: `kxrmnqvwtzlp/main:12`. The branch is always
//! named, because the current branch changes with a rewind, and a citation must not.

use hfs_core::{Branch, BranchId, MAIN_BRANCH, Seq, SessionId, ShortId};

/// The place of a message.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    pub session: SessionId,
    pub branch: BranchId,
    pub branch_name: &'a str,
    pub seq: Seq,
}

impl Place<'_> {
    /// The citation.
    pub fn cite(&self) -> String {
        format!("{}/{}:{}", self.session.short(), self.branch_label(), self.seq)
    }

    /// The branch in a citation: its name if that is a plain word, else its id.
    fn branch_label(&self) -> String {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let name = self.branch_name;
        if !name.is_empty() && name.len() <= 40 && name.chars().all(is_plain) && !hfs_secrets::contains(name)
        {
            name.to_owned()
        } else {
            self.branch.short().to_string()
        }
    }
}

/// What a client names: a session, and possibly a branch and a message of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    pub session: String,
    pub branch: Option<String>,
    pub seq: Option<Seq>,
}

impl Reference {
    /// Parses a citation, a citation without a message or branch, or any other reference to a session.
    pub fn parse(text: &str) -> Self {
        let text = text.trim().trim_start_matches('[').trim_end_matches(']').trim();
        let (before, seq) = match text.rsplit_once(':').map(|(before, seq)| (before, seq.parse().ok())) {
            Some((before, Some(seq))) => (before, Some(seq)),
            _ => (text, None),
        };
        let (session, branch) = match before.split_once('/') {
            Some((session, branch)) => (session, Some(branch.to_owned())),
            None => (before, None),
        };
        let is_id = ShortId::is_prefix_shaped(session) || session.parse::<SessionId>().is_ok();
        if is_id || (session.starts_with('@') && branch.is_none()) {
            return Self { session: session.to_owned(), branch, seq };
        }
        // A name may contain any character.
        Self { session: text.to_owned(), branch: None, seq: None }
    }
}

/// Whether a line of a text begins with a citation, as the answers of tools do.
pub fn is_cited(line: &str) -> bool {
    let Some((inner, _)) = line.trim_start().strip_prefix('[').and_then(|line| line.split_once(']')) else {
        return false;
    };
    let Reference { session, branch, seq } = Reference::parse(inner);
    branch.is_some() && seq.is_some() && session.len() == 12 && ShortId::is_prefix_shaped(&session)
}

/// Finds a branch by its name, or by its id or short id.
pub fn find_branch<'b>(branches: &'b [Branch], text: &str) -> Option<&'b Branch> {
    let by_name = branches.iter().find(|branch| branch.name == text);
    by_name.or_else(|| {
        branches.iter().find(|branch| branch.id.short().as_str() == text || branch.id.to_string() == text)
    })
}

/// The name of a branch for a heading; empty for the main branch.
pub fn branch_note(name: &str) -> String {
    if name == MAIN_BRANCH { String::new() } else { format!(", branch {name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(session: &str, branch: Option<&str>, seq: Option<Seq>) -> Reference {
        Reference { session: session.into(), branch: branch.map(str::to_owned), seq }
    }

    #[test]
    fn every_form_of_a_citation_is_understood() {
        for (text, expected) in [
            ("kxrmnqvwtzlp/main:12", reference("kxrmnqvwtzlp", Some("main"), Some(12))),
            (" [kxrmnqvwtzlp/main:12] ", reference("kxrmnqvwtzlp", Some("main"), Some(12))),
            ("kxrm/rewind-1", reference("kxrm", Some("rewind-1"), None)),
            ("kxrm:3", reference("kxrm", None, Some(3))),
            ("kxrm", reference("kxrm", None, None)),
            ("@-1:2", reference("@-1", None, Some(2))),
            ("Fix a/b: 3", reference("Fix a/b: 3", None, None)),
            ("", reference("", None, None)),
        ] {
            assert_eq!(Reference::parse(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_line_of_an_answer_is_recognized() {
        assert!(is_cited("[kxrmnqvwtzlp/main:12] user, 2026-05-02 14:30, \"x\", codex"));
        for other in
            ["[result] ok", "kxrmnqvwtzlp/main:12", "[1] user", "[link](a/b:3)", "[kxrm/main:1] x", ""]
        {
            assert!(!is_cited(other), "{other}");
        }
    }

    #[test]
    fn a_citation_is_parsed_into_what_it_names() {
        let (session, branch) = (SessionId::generate(), BranchId::generate());
        let short = branch.short().to_string();
        for (name, label) in [("main", "main"), ("a b", short.as_str()), ("x/y:1", &short), ("", &short)] {
            let cited = Place { session, branch, branch_name: name, seq: 7 }.cite();
            let parsed = Reference::parse(&cited);
            assert_eq!(parsed, reference(session.short().as_str(), Some(label), Some(7)));
        }
    }
}
