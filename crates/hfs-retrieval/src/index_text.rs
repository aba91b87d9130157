//! What a full-text index stores of a text.

use std::collections::HashSet;

use crate::words::{self, WordKind};

/// Separates the runs of [`IndexText::parts`], so that no phrase continues from one identifier to the next.
pub const RUN_SEPARATOR: char = '|';

/// The columns of a full-text index: tokens separated by spaces. No token has a space or a separator inside.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IndexText {
    /// All words, in order.
    pub words: String,
    /// Each stem that differs from its word, once.
    pub stems: String,
    /// The parts of each different run of identifiers, once.
    pub parts: String,
}

impl IndexText {
    /// Returns what an index stores of a text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let words = words::words(text);
        let mut columns = Self { words: String::with_capacity(text.len() + 16), ..Self::default() };
        let mut seen: HashSet<&str> = HashSet::new();
        let mut stems: HashSet<String> = HashSet::new();
        for word in &words {
            push(&mut columns.words, &word.folded);
            // Each word needs to be stemmed once, although it may occur with and without capitals inside.
            if word.kind == WordKind::Pair || seen.contains(word.folded.as_str()) {
                continue;
            }
            let original = text.get(word.range.clone()).unwrap_or_default();
            if let Some(stem) = words::stem(original, &word.folded) {
                seen.insert(&word.folded);
                if stem != word.folded && stems.insert(stem.to_string()) {
                    push(&mut columns.stems, &stem);
                }
            }
        }
        let mut runs: HashSet<String> = HashSet::new();
        for run in words::identifier_runs(text, &words) {
            for part in &run {
                if let Some(stem) = &part.stem
                    && *stem != part.folded
                    && stems.insert(stem.clone())
                {
                    push(&mut columns.stems, stem);
                }
            }
            let parts: Vec<&str> = run.iter().map(|part| part.folded.as_str()).collect();
            let parts = parts.join(" ");
            if !runs.contains(&parts) {
                if !columns.parts.is_empty() {
                    push(&mut columns.parts, RUN_SEPARATOR.encode_utf8(&mut [0; 4]));
                }
                push(&mut columns.parts, &parts);
                runs.insert(parts);
            }
        }
        columns
    }
}

fn push(column: &mut String, token: &str) {
    if !column.is_empty() {
        column.push(' ');
    }
    column.push_str(token);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stems_and_parts_are_stored_once() {
        let text = IndexText::of("Errors in HTTPServer: error errors, HTTPServer fails; v1.2");
        assert_eq!(text.words, "errors in httpserver error errors httpserver fails v1 2");
        assert_eq!(text.stems, "error fail");
        assert_eq!(text.parts, "http server | v 1 2");
        assert_eq!(IndexText::of(" ... "), IndexText::default());
    }
}
