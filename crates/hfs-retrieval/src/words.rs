//! Splits a text into words, stems and parts of identifiers.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::LazyLock;

use snowball_stemmers_rs::{Algorithm, Stemmer};
use unicode_normalization::char::{decompose_canonical, is_combining_mark};

/// Lengths of the words that are stemmed, in bytes. A shorter word has no ending, and a longer one is not a word of a
/// natural language.
const STEMMED_LENGTHS: std::ops::RangeInclusive<usize> = 3..=32;
/// Limits for identifiers that are split into parts. What exceeds them is most likely encoded data.
const MAX_SPLIT_BYTES: usize = 64;
const MAX_PARTS: usize = 8;
/// A word of this length with only hexadecimal digits, letters and decimal digits among them, is taken for a hash.
const MIN_HASH_DIGITS: usize = 7;
/// How many unsplit words of a run follow the parts of a split word, so that `1.2.3` is found in `v1.2.3`.
const MAX_FOLLOWING: usize = 3;
/// Characters that join words to a run, such as a path or a version.
const JOINING: &[u8] = b"._-/:\\@+#~";

static ENGLISH: LazyLock<Stemmer> = LazyLock::new(|| Stemmer::create(Algorithm::English));

/// A word of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// The word in lower case and without diacritics.
    pub folded: String,
    /// Its place in the text, in bytes.
    pub range: Range<usize>,
    /// Whether it belongs to a script without spaces between words.
    pub kind: WordKind,
}

/// How a word was separated from its neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WordKind {
    /// A run of letters and digits.
    Spaced,
    /// Two adjacent characters of a run in a script that is written without spaces, or the last character of the run.
    /// The words of such a run overlap, so that any part of it is found as a phrase.
    Pair,
}

/// Splits a text into words: runs of letters and digits, and pairs of characters in scripts without spaces.
#[must_use]
pub fn words(text: &str) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::with_capacity(text.len() / 6);
    let mut run = Run::None;
    for (start, c) in text.char_indices() {
        let end = start + c.len_utf8();
        let continues = || is_combining_mark(c);
        match &mut run {
            Run::Spaced(word) if (c.is_alphanumeric() && !is_unspaced(c)) || continues() => {
                word.range.end = end;
                fold(c, &mut word.folded);
            }
            Run::Unspaced(characters) if is_unspaced(c) || continues() => {
                characters.push(Character::new(c, start));
            }
            Run::None | Run::Spaced(_) | Run::Unspaced(_) => {
                std::mem::replace(&mut run, Run::starting_with(c, start)).end(&mut words);
            }
        }
    }
    run.end(&mut words);
    words
}

/// The run of characters that is being read.
enum Run {
    None,
    Spaced(Word),
    Unspaced(Vec<Character>),
}

struct Character {
    folded: String,
    range: Range<usize>,
}

impl Character {
    fn new(c: char, start: usize) -> Self {
        let mut folded = String::with_capacity(c.len_utf8());
        fold(c, &mut folded);
        Self { folded, range: start..start + c.len_utf8() }
    }
}

impl Run {
    fn starting_with(c: char, start: usize) -> Self {
        let range = start..start + c.len_utf8();
        if is_unspaced(c) && !is_combining_mark(c) {
            Self::Unspaced(vec![Character::new(c, start)])
        } else if c.is_alphanumeric() {
            let mut folded = String::new();
            fold(c, &mut folded);
            Self::Spaced(Word { folded, range, kind: WordKind::Spaced })
        } else {
            Self::None
        }
    }

    fn end(self, words: &mut Vec<Word>) {
        match self {
            Self::None => {}
            // A character that consists of diacritics only leaves nothing.
            Self::Spaced(word) if word.folded.is_empty() => {}
            Self::Spaced(word) => words.push(word),
            Self::Unspaced(mut characters) => {
                characters.retain(|character| !character.folded.is_empty());
                let pairs = characters.windows(2).filter_map(|pair| match pair {
                    [a, b] => Some((format!("{}{}", a.folded, b.folded), a.range.start..b.range.end)),
                    _ => None,
                });
                let last = characters.last().map(|last| (last.folded.clone(), last.range.clone()));
                words.extend(pairs.chain(last).map(|(folded, range)| Word {
                    folded,
                    range,
                    kind: WordKind::Pair,
                }));
            }
        }
    }
}

/// Whether the character belongs to a script that is written without spaces between words. Korean has spaces, but
/// appends particles to its words.
const fn is_unspaced(c: char) -> bool {
    matches!(c,
        // Thai, Lao; Myanmar; Khmer
        '\u{e01}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}'
        // Hangul
        | '\u{1100}'..='\u{11ff}' | '\u{3130}'..='\u{318f}' | '\u{a960}'..='\u{a97f}'
        | '\u{ac00}'..='\u{d7ff}' | '\u{ffa0}'..='\u{ffdc}'
        // Hiragana, Katakana, Bopomofo
        | '\u{3041}'..='\u{312f}' | '\u{31a0}'..='\u{31ff}' | '\u{ff66}'..='\u{ff9f}'
        // Han
        | '\u{3005}'..='\u{3007}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
        // Signs and punctuation of these blocks.
        && !matches!(c, '\u{30fb}' | '\u{e2f}' | '\u{e3f}' | '\u{e4f}' | '\u{e5a}' | '\u{e5b}'
            | '\u{104a}'..='\u{104f}' | '\u{17d4}'..='\u{17db}')
}

/// Appends `c` in lower case and without diacritics.
fn fold(c: char, folded: &mut String) {
    if c.is_ascii() {
        folded.push(c.to_ascii_lowercase());
        return;
    }
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
        // A character whose parts are not all diacritics, such as a Hangul syllable, is kept whole.
        let c = base.filter(|_| only_diacritics).unwrap_or(lower);
        if !is_diacritic(c) {
            folded.push(c);
        }
    }
}

const fn is_diacritic(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}')
}

/// The stem that the forms of an English word have in common, or `None` if `original` is not a word of a natural
/// language: an identifier with capitals inside, a number, or a word with other than ASCII letters.
#[must_use]
pub fn stem<'a>(original: &str, folded: &'a str) -> Option<Cow<'a, str>> {
    is_natural(original).then(|| ENGLISH.stem(folded))
}

fn is_natural(original: &str) -> bool {
    let bytes = original.as_bytes();
    STEMMED_LENGTHS.contains(&bytes.len())
        && bytes.iter().all(u8::is_ascii_alphabetic)
        && (bytes.iter().skip(1).all(u8::is_ascii_lowercase) || bytes.iter().all(u8::is_ascii_uppercase))
}

/// Whether a word looks like a hash or its beginning.
pub(crate) fn is_hash(word: &str) -> bool {
    let bytes = word.as_bytes();
    bytes.len() >= MIN_HASH_DIGITS
        && bytes.iter().all(u8::is_ascii_hexdigit)
        && bytes.iter().any(u8::is_ascii_digit)
        && bytes.iter().any(u8::is_ascii_alphabetic)
}

/// Splits an identifier at capitals and between letters and digits: `HTTPServerError` into `HTTP`, `Server` and
/// `Error`, `v1` into `v` and `1`. Returns `None` if there is nothing to split.
fn split_identifier(word: &str) -> Option<Vec<&str>> {
    if word.len() > MAX_SPLIT_BYTES || is_hash(word) {
        return None;
    }
    let mut starts = vec![0];
    let mut previous: Option<char> = None;
    let mut characters = word.char_indices().peekable();
    while let Some((at, c)) = characters.next() {
        let next_is_lower = characters.peek().is_some_and(|(_, next)| next.is_lowercase());
        let is_start = previous.is_some_and(|previous| {
            (c.is_uppercase() && (previous.is_lowercase() || (previous.is_uppercase() && next_is_lower)))
                || (c.is_numeric() != previous.is_numeric() && !is_combining_mark(c))
        });
        if is_start {
            starts.push(at);
        }
        previous = Some(c);
    }
    // Parts of fewer than two characters on average, except for names such as `v1`, are encoded data.
    let is_plausible = starts.len() == 2 || (starts.len() <= MAX_PARTS && starts.len() * 2 <= word.len());
    if starts.len() < 2 || !is_plausible {
        return None;
    }
    let ends = starts.iter().skip(1).copied().chain([word.len()]);
    Some(starts.iter().zip(ends).filter_map(|(start, end)| word.get(*start..end)).collect())
}

/// A part of an identifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// In lower case and without diacritics.
    pub folded: String,
    /// Its stem, if it is a word of a natural language.
    pub stem: Option<String>,
    /// Index of the word that contains it.
    pub word: usize,
}

impl Part {
    fn of(part: &str, word: usize) -> Self {
        let folded = folded(part);
        let stem = stem(part, &folded).map(Cow::into_owned);
        Self { folded, stem, word }
    }
}

/// The parts of the identifiers in a text. Each run starts with the parts of a word that is split, and continues with
/// the words that are joined to it, as in `v1.2.3`.
#[must_use]
pub fn identifier_runs(text: &str, words: &[Word]) -> Vec<Vec<Part>> {
    let mut runs: Vec<Vec<Part>> = Vec::new();
    let mut following = 0;
    let mut previous: Option<&Word> = None;
    for (index, word) in words.iter().enumerate() {
        if !previous.is_some_and(|previous| is_joined(text, previous, word)) {
            following = 0;
        }
        previous = Some(word);
        let split = match word.kind {
            WordKind::Pair => continue,
            WordKind::Spaced => text.get(word.range.clone()).and_then(split_identifier),
        };
        match split {
            Some(parts) => {
                if following == 0 {
                    runs.push(Vec::new());
                }
                following = MAX_FOLLOWING + 1;
                if let Some(run) = runs.last_mut() {
                    run.extend(parts.into_iter().map(|part| Part::of(part, index)));
                }
            }
            None if following > 0 => {
                if let Some(run) = runs.last_mut() {
                    // Its stem is that of the word.
                    run.push(Part { folded: word.folded.clone(), stem: None, word: index });
                }
            }
            None => {}
        }
        following = following.saturating_sub(1);
    }
    runs
}

/// The parts of a term of a query: those of its words, in order.
pub(crate) fn parts_of_term(text: &str, words: &[Word]) -> Vec<String> {
    words
        .iter()
        .flat_map(|word| match text.get(word.range.clone()).and_then(split_identifier) {
            Some(parts) => parts.into_iter().map(folded).collect(),
            None => vec![word.folded.clone()],
        })
        .collect()
}

fn folded(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    text.chars().for_each(|c| fold(c, &mut result));
    result
}

fn is_joined(text: &str, previous: &Word, word: &Word) -> bool {
    text.get(previous.range.end..word.range.start).is_some_and(|between| {
        (1..=2).contains(&between.len()) && between.bytes().all(|byte| JOINING.contains(&byte))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let found = words(text);
        let folded: Vec<&str> = found.iter().map(|word| word.folded.as_str()).collect();
        assert_eq!(folded, expected, "{text:?}");
        assert!(found.iter().all(|word| text.get(word.range.clone()).is_some_and(|word| !word.is_empty())));
    }

    #[test]
    fn words_are_folded_runs_of_letters_and_digits() {
        check("Hello, wide-open World2!", &["hello", "wide", "open", "world2"]);
        check("Été ETE e\u{301}te\u{301}", &["ete", "ete", "ete"]);
        check("Việt Straße İ", &["viet", "straße", "i"]);
        check("\u{301} a", &["a"]);
        check("", &[]);
    }

    #[test]
    fn scripts_without_spaces_are_split_into_pairs() {
        check("한국어 日本", &["한국", "국어", "어", "日本", "本"]);
        check("iPhone手机壳2", &["iphone", "手机", "机壳", "壳", "2"]);
        check("字 🦀", &["字"]);
        check("ไทย", &["ไท", "ทย", "ย"]);
        check("カード・キー", &["カー", "ード", "ド", "キー", "ー"]);
    }

    #[test]
    fn only_words_of_natural_language_are_stemmed() {
        let stem_of = |word: &str| stem(word, &word.to_lowercase()).map(Cow::into_owned);
        assert_eq!(stem_of("connections").as_deref(), Some("connect"));
        assert_eq!(stem_of("Connecting").as_deref(), Some("connect"));
        for word in ["HTTPServers", "k8s", "naïveties", "is", "getUsers"] {
            assert_eq!(stem_of(word), None, "{word}");
        }
    }

    #[test]
    fn identifiers_are_split_at_capitals_and_digits() {
        let check = |word: &str, expected: Option<&[&str]>| {
            assert_eq!(split_identifier(word).as_deref(), expected, "{word}");
        };
        check("HTTPServerError", Some(&["HTTP", "Server", "Error"]));
        check("getHTTP", Some(&["get", "HTTP"]));
        check("v1", Some(&["v", "1"]));
        check("sha256sum", Some(&["sha", "256", "sum"]));
        check("ÜberTest", Some(&["Über", "Test"]));
        for word in ["server", "SERVER", "Server", "3fa98ad2c0", "a1b2c3", "", "aGVsbG8gd29ybGQhISEx"] {
            check(word, None);
        }
    }

    #[test]
    fn the_words_that_follow_a_split_word_belong_to_its_run() {
        let text = "use v1.2.3 of src/HTTPServer.rs, not x";
        let words = words(text);
        let runs = identifier_runs(text, &words);
        let runs: Vec<Vec<&str>> =
            runs.iter().map(|run| run.iter().map(|part| part.folded.as_str()).collect()).collect();
        assert_eq!(runs, [vec!["v", "1", "2", "3"], vec!["http", "server", "rs"]]);
    }
}
