//! The text index: which messages may contain a term.
//!
//! Each message that is not being written has a `tsvector` of its terms: its words, their stems, and the parts of its
//! identifiers, as `hfs-retrieval` finds them, each with a letter in front that says which of these it is. It is written
//! in the transaction of the message, so a search finds every acknowledged message at once.
//!
//! The `tsvector` has no positions: PostgreSQL limits them to the first 16,383 words of a text and 256 for each word, so
//! phrases in long messages would be lost. A search therefore reads the texts of the messages that the index finds, which
//! it needs for the ranking as well, and `hfs-retrieval` decides.

use std::borrow::Cow;
use std::collections::BTreeSet;

use hfs_core::{MessageDraft, Part, Role, Timestamp};
use hfs_retrieval::{IndexText, Pattern, RUN_SEPARATOR};
use hfs_store::codec::body;
use uuid::Uuid;

use crate::db::Tx;
use crate::db::value::{Columns as _, Value};
use crate::error::Result;
use crate::store::lookup::Place;

/// Longest term in bytes; of a longer one, the beginning is indexed. PostgreSQL's limit is 2,046.
const MAX_TERM_BYTES: usize = 256;
/// Maximum size of all terms of a message in bytes. PostgreSQL's limit is 1,048,575.
const MAX_TERMS_BYTES: usize = 900_000;

const WORD: char = 'w';
const STEM: char = 's';
const PART: char = 'p';

/// What the index stores of a message.
pub(crate) struct Entry {
    pub(crate) seq: u64,
    words: i64,
    /// A `tsvector`; `None` if the message has too many terms for one.
    terms: Option<String>,
}

impl Entry {
    pub(crate) fn new(seq: u64, body: &[u8]) -> Self {
        let IndexText { words, stems, parts } = IndexText::of(&text_of_body(body));
        let mut terms: BTreeSet<(char, &str)> = BTreeSet::new();
        for (kind, column) in [(WORD, &words), (STEM, &stems), (PART, &parts)] {
            let tokens =
                column.split(' ').filter(|token| !token.is_empty() && !token.starts_with(RUN_SEPARATOR));
            terms.extend(tokens.map(|token| (kind, beginning(token))));
        }
        let bytes: usize = terms.iter().map(|(_, term)| term.len() + 2).sum();
        let literal = (bytes <= MAX_TERMS_BYTES).then(|| {
            let mut literal = String::with_capacity(bytes + 3 * terms.len());
            for (kind, term) in terms {
                push_quoted(&mut literal, kind, term);
                literal.push(' ');
            }
            literal
        });
        let words = words.split(' ').filter(|word| !word.is_empty()).count();
        Self { seq, words: i64::try_from(words).unwrap_or(i64::MAX), terms: literal }
    }
}

/// The searchable text of a message's body. `verify` reports a damaged body; search works without the unreadable part.
pub(crate) fn text_of_body(body: &[u8]) -> String {
    // The role and the time do not affect the text.
    let text =
        |parts: Vec<Part>| MessageDraft::new(Role::User, parts, Timestamp::UNIX_EPOCH).searchable_text();
    body::decode(&String::from_utf8_lossy(body)).map(text).unwrap_or_default()
}

/// The part of a term that is indexed.
fn beginning(term: &str) -> &str {
    term.get(..term.floor_char_boundary(MAX_TERM_BYTES)).unwrap_or(term)
}

fn push_quoted(literal: &mut String, kind: char, term: &str) {
    literal.extend(['\'', kind]);
    for c in term.chars() {
        if matches!(c, '\'' | '\\') {
            literal.push(c);
        }
        literal.push(c);
    }
    literal.push('\'');
}

/// A `tsquery` for the messages in which a term may match.
pub(crate) fn expression(patterns: &[Pattern]) -> String {
    let sequence = |kind: char, tokens: &[String], prefix: bool| {
        let last = tokens.len().saturating_sub(1);
        let tokens = tokens.iter().enumerate().map(|(index, token)| {
            let mut literal = String::new();
            push_quoted(&mut literal, kind, beginning(token));
            if prefix && index == last {
                literal.push_str(":*");
            }
            literal
        });
        format!("({})", tokens.collect::<Vec<_>>().join(" & "))
    };
    let alternatives: Vec<String> = patterns
        .iter()
        .map(|pattern| match pattern {
            Pattern::Words { words, prefix } => sequence(WORD, words, *prefix),
            Pattern::Parts { parts, prefix } => sequence(PART, parts, *prefix),
            Pattern::Stem(stem) => {
                let of = |kind| sequence(kind, std::slice::from_ref(stem), false);
                format!("{} | {} | {}", of(WORD), of(STEM), of(PART))
            }
        })
        .collect();
    format!("({})", alternatives.join(" | "))
}

/// What a query selects from for the entries that match `words`, the parameter with a `tsquery`: columns session, branch and seq.
///
/// Where policies hold, the server reads every entry that they let pass, because `@@` is not LEAKPROOF. In one session that is
/// what it reads anyway; otherwise a function, which checks the owners itself, uses the index.
pub(crate) fn entries_with(tx: &Tx, words: &str, in_one_session: bool) -> String {
    if tx.has_row_security() && !in_one_session {
        return format!("entries_with({words}::tsquery)");
    }
    // Not a subquery that the server keeps apart, so that its plan also uses the condition on the session.
    format!(
        "(SELECT session, branch, seq FROM message_text WHERE terms @@ {words}::tsquery OR terms IS NULL)"
    )
}

/// Adds messages of a branch to the index, and returns the number of their words.
pub(crate) fn insert(tx: &Tx, session: Uuid, branch: i64, entries: &[Entry]) -> Result<i64> {
    if entries.is_empty() {
        return Ok(0);
    }
    let seq = |entry: &Entry| i64::try_from(entry.seq).ok();
    tx.execute(
        "INSERT INTO message_text (session, branch, seq, words, terms)
            SELECT $1, $2, entry.seq, entry.words, entry.terms::tsvector
            FROM unnest($3, $4, $5) AS entry (seq, words, terms)",
        &[
            session.into(),
            branch.into(),
            Value::Ints(entries.iter().map(seq).collect()),
            Value::Ints(entries.iter().map(|entry| Some(entry.words)).collect()),
            Value::Texts(entries.iter().map(|entry| entry.terms.as_deref().map(Cow::Borrowed)).collect()),
        ],
    )?;
    Ok(entries.iter().map(|entry| entry.words).sum())
}

/// Whether the entry of a message is what its body gives.
pub(crate) fn is_current(tx: &Tx, place: Place, body: &[u8]) -> Result<bool> {
    let Entry { words, terms, .. } = Entry::new(place.seq, body);
    let [session, branch, seq] = place.values();
    tx.exists(
        "SELECT 1 FROM message_text WHERE session = $1 AND branch = $2 AND seq = $3 AND words = $4
            AND terms IS NOT DISTINCT FROM $5::tsvector",
        &[session, branch, seq, words.into(), Value::Text(terms.map(Cow::Owned))],
    )
}

/// Replaces a message in the index, or adds it. Returns by how much the number of words has grown.
pub(crate) fn replace(tx: &Tx, place: Place, body: &[u8]) -> Result<i64> {
    let removed = tx.row(
        "DELETE FROM message_text WHERE session = $1 AND branch = $2 AND seq = $3 RETURNING words",
        &place.values(),
    )?;
    let removed = removed.map_or(Ok(0), |row| row.int(0))?;
    let added = insert(tx, place.session, place.branch, &[Entry::new(place.seq, body)])?;
    Ok(added - removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_quoted_and_marked_with_their_kind() {
        let entry = Entry::new(1, b"=Errors in HTTPServer");
        assert_eq!(entry.words, 3);
        assert_eq!(entry.terms.unwrap(), "'phttp' 'pserver' 'serror' 'werrors' 'whttpserver' 'win' ");
        let words = Pattern::Words { words: vec!["a".into(), "b'".into()], prefix: true };
        let stem = Pattern::Stem("x".into());
        assert_eq!(expression(&[words, stem]), "(('wa' & 'wb''':*) | ('wx') | ('sx') | ('px'))");
    }

    #[test]
    fn a_message_with_too_many_terms_is_marked() {
        let text: String = (0..150_000).map(|n| format!("word{n} ")).collect();
        let entry = Entry::new(1, format!("={text}").as_bytes());
        assert_eq!((entry.words, entry.terms), (150_000, None));
    }
}
