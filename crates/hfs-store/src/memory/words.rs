//! Words as full-text search sees them: runs of letters and digits, in lower case, without diacritics.

use unicode_normalization::char::{decompose_canonical, is_combining_mark};

/// A word of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    pub folded: String,
    /// Where it begins in the text, in bytes.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
}

/// The words of a text, in order.
pub(super) fn words(text: &str) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    let mut inside = false;
    for (start, c) in text.char_indices() {
        let continues = inside && is_combining_mark(c);
        if !c.is_alphanumeric() && !continues {
            inside = false;
            continue;
        }
        if !inside {
            words.push(Word { folded: String::new(), start, end: start });
            inside = true;
        }
        if let Some(word) = words.last_mut() {
            word.end = start + c.len_utf8();
            fold(c, &mut word.folded);
        }
    }
    words
}

/// Adds `c` in lower case and without diacritics.
fn fold(c: char, folded: &mut String) {
    for lower in c.to_lowercase() {
        let mut base = None;
        let mut only_diacritics = true;
        decompose_canonical(lower, |part| {
            if base.is_none() {
                base = Some(part);
            } else {
                only_diacritics &= is_diacritic(part);
            }
        });
        let kept = base.filter(|_| only_diacritics).unwrap_or(lower);
        if !is_diacritic(kept) {
            folded.push(kept);
        }
    }
}

const fn is_diacritic(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let found = words(text);
        let folded: Vec<&str> = found.iter().map(|word| word.folded.as_str()).collect();
        assert_eq!(folded, expected);
        assert!(found.iter().all(|word| text.get(word.start..word.end).is_some_and(|said| !said.is_empty())));
    }

    #[test]
    fn words_are_folded_runs_of_letters_and_digits() {
        check("Hello, wide-open World2!", &["hello", "wide", "open", "world2"]);
        check("Été ETE e\u{301}te\u{301}", &["ete", "ete", "ete"]);
        check("Việt Straße İ", &["viet", "straße", "i"]);
        check("한국어 日本語 🦀", &["한국어", "日本語"]);
        check("\u{301} a", &["a"]);
        check("", &[]);
    }
}
