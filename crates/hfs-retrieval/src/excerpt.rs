//! Excerpts of a text around its matches.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use hfs_core::SearchHit;

use crate::patterns::{AnalyzedText, Pattern};
use crate::words::words;

/// Number of words of a snippet before its first match, and from the start of that match to the end.
const WORDS_BEFORE: usize = 6;
const WORDS_FROM: usize = 18;
/// Limits for the same in bytes, since a word can be as long as its text.
const BYTES_BEFORE: usize = 160;
const BYTES_FROM: usize = 480;

/// The words around the matches of the patterns of each term, at the place where most terms match. Each match is
/// enclosed in [`SearchHit::MARK_START`] and [`SearchHit::MARK_END`]. The beginning of the text if nothing matches.
#[must_use]
pub fn snippet(text: &AnalyzedText<'_>, terms: &[Vec<Pattern>]) -> String {
    // The matches of all terms, with the index of the term.
    let mut matches: Vec<(Range<usize>, usize)> = terms
        .iter()
        .enumerate()
        .flat_map(|(term, patterns)| text.find(patterns).into_iter().map(move |found| (found, term)))
        .collect();
    matches.sort_unstable_by_key(|(range, _)| (range.start, range.end));
    let first = best_start(&matches);
    let words = text.words();
    let from = first.saturating_sub(WORDS_BEFORE);
    let to = (first + WORDS_FROM).min(words.len());
    let Some(((anchor, start), end)) =
        words.get(first).zip(words.get(from)).zip(words.get(to.saturating_sub(1)))
    else {
        return String::new();
    };
    let whole = text.text();
    let start =
        whole.ceil_char_boundary(start.range.start.max(anchor.range.start.saturating_sub(BYTES_BEFORE)));
    let end = whole.floor_char_boundary(end.range.end.min(anchor.range.start + BYTES_FROM));
    let bytes_of = |range: &Range<usize>| {
        let first = words.get(range.start)?.range.start;
        let last = words.get(range.end.checked_sub(1)?)?.range.end;
        Some(first.clamp(start, end)..last.clamp(start, end))
    };
    let marked = merge(matches.iter().filter_map(|(range, _)| bytes_of(range)));

    let mut snippet = String::with_capacity(end.saturating_sub(start) + 16);
    if from > 0 || start > words.get(from).map_or(0, |word| word.range.start) {
        snippet.push('…');
    }
    let mut written = start;
    for range in marked {
        push_unmarked(&mut snippet, whole.get(written..range.start));
        snippet.push(SearchHit::MARK_START);
        push_unmarked(&mut snippet, whole.get(range.clone()));
        snippet.push(SearchHit::MARK_END);
        written = range.end;
    }
    push_unmarked(&mut snippet, whole.get(written..end));
    if words.last().is_some_and(|last| last.range.end > end) {
        snippet.push('…');
    }
    snippet
}

/// Appends text without the characters that mark matches.
fn push_unmarked(snippet: &mut String, text: Option<&str>) {
    let is_mark = |c: &char| [SearchHit::MARK_START, SearchHit::MARK_END].contains(c);
    snippet.extend(text.unwrap_or_default().chars().map(|c| if is_mark(&c) { ' ' } else { c }));
}

/// Limit for a passage, in bytes.
const PASSAGE_BYTES: usize = 420;
/// How much of the text before the first term a passage may contain, in bytes.
const PASSAGE_BYTES_BEFORE: usize = 100;

/// The part of a text with the most terms by weight. `places` are indices of words and of terms, in order.
pub(crate) fn passage(whole: &str, places: &[(usize, usize)], weights: &[f64]) -> String {
    if whole.len() <= PASSAGE_BYTES {
        return whole.trim().to_owned();
    }
    let words = words(whole);
    let start_of = |place: &(usize, usize)| words.get(place.0).map_or(0, |word| word.range.start);
    let (mut first, mut best) = (0, f64::MIN);
    for (index, place) in places.iter().enumerate() {
        let end = start_of(place) + PASSAGE_BYTES - PASSAGE_BYTES_BEFORE;
        let terms: BTreeSet<usize> = places
            .iter()
            .skip(index)
            .take_while(|next| start_of(next) < end)
            .map(|(_, term)| *term)
            .collect();
        let weight: f64 = terms.iter().filter_map(|term| weights.get(*term)).sum();
        if weight > best {
            (first, best) = (start_of(place), weight);
        }
    }
    // From the beginning of the line, or else from the beginning of a word.
    let earliest = whole.floor_char_boundary(first.saturating_sub(PASSAGE_BYTES_BEFORE));
    let before = whole.get(earliest..first).unwrap_or_default();
    let start = match before.rfind('\n') {
        Some(newline) => earliest + newline + 1,
        None if earliest == 0 => 0,
        None => before.find(char::is_whitespace).map_or(first, |space| earliest + space + 1),
    };
    let limit = whole.floor_char_boundary(start + PASSAGE_BYTES);
    let rest = whole.get(start..limit).unwrap_or_default();
    let end =
        if limit == whole.len() { rest.len() } else { rest.rfind(char::is_whitespace).unwrap_or(rest.len()) };
    let passage = rest.get(..end).unwrap_or_default().trim();
    let (before, after) =
        (if start > 0 { "…" } else { "" }, if start + end < whole.len() { "…" } else { "" });
    format!("{before}{passage}{after}")
}

/// The index of the word where the excerpt with the most different terms has its first match.
fn best_start(matches: &[(Range<usize>, usize)]) -> usize {
    let mut best = (0, 0);
    let mut counts = HashMap::new();
    let mut end = 0;
    for (start, (range, term)) in matches.iter().enumerate() {
        while let Some((_, entering)) =
            matches.get(end).filter(|(next, _)| next.end <= range.start + WORDS_FROM)
        {
            *counts.entry(*entering).or_insert(0_usize) += 1;
            end += 1;
        }
        if counts.len() > best.1 || start == 0 {
            best = (range.start, counts.len());
        }
        if start < end
            && let Some(count) = counts.get_mut(term)
        {
            *count -= 1;
            if *count == 0 {
                counts.remove(term);
            }
        }
        end = end.max(start + 1);
    }
    best.0
}

/// Merges overlapping ranges, which are ordered by their start, and drops empty ones.
fn merge(ranges: impl Iterator<Item = Range<usize>>) -> Vec<Range<usize>> {
    let mut merged: Vec<Range<usize>> = Vec::new();
    for range in ranges.filter(|range| !range.is_empty()) {
        match merged.last_mut() {
            Some(last) if range.start < last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use hfs_core::SearchQuery;

    use super::*;
    use crate::patterns::patterns;

    fn of(query: &str, text: &str) -> String {
        let terms: Vec<_> = SearchQuery::new(query).terms().iter().map(patterns).collect();
        snippet(&AnalyzedText::new(text), &terms)
            .replace(SearchHit::MARK_START, "[")
            .replace(SearchHit::MARK_END, "]")
    }

    #[test]
    fn matches_are_marked_as_they_are_written() {
        assert_eq!(of("needle", "A Needle, here"), "A [Needle], here");
        assert_eq!(of("\"red fox\" red", "the red, fox"), "the [red, fox]");
        assert_eq!(of("connect", "it CONNECTED"), "it [CONNECTED]");
        assert_eq!(of("本語", "これは日本語で書かれた"), "これは日[本語]で書かれた");
        assert_eq!(of("x", "nothing"), "nothing");
        assert_eq!(of("x", ""), "");
    }

    #[test]
    fn the_place_with_the_most_terms_is_chosen() {
        let filler = "lorem ipsum ".repeat(50);
        let text = format!("red {filler} the red fox {filler}");
        assert!(of("red fox", &text).contains("the [red] [fox] lorem"), "{}", of("red fox", &text));
    }

    #[test]
    fn a_very_long_word_is_cut() {
        let text = format!("key {}", "a".repeat(100_000));
        let found = of("key", &text);
        assert!(found.starts_with("[key]") && found.ends_with('…') && found.len() < 600, "{}", found.len());
        assert!(of("aaa*", &text).len() < 900);
    }
}
