//! Parses a question in natural language.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::LazyLock;

use hfs_core::SearchTerm;

use crate::patterns::{Pattern, patterns};
use crate::words::{self, Word, WordKind};

/// English words that say nothing about the subject of a question: stop words, question words, and the ends of
/// contractions.
const STOP_WORDS: &str = "a about after again against ain all also am an and any are aren as at be because been before \
    being below between both but by can cannot could couldn d did didn do does doesn doing don down during each else \
    ever every few for from further had hadn has hasn have haven having he her here hers herself him himself his how i \
    if in into is isn it its itself just ll m many may me might mightn more most much must mustn my myself no nor not \
    now of off often on once only or other our ours ourselves out over own re s same shall shan she should shouldn so \
    some such t than that the their theirs them themselves then there these they this those through to too under until \
    up upon us ve very was wasn we were weren what when where which while who whom whose why will with won would \
    wouldn you your yours yourself yourselves";

/// Han characters of question words, pronouns and particles in Chinese and Japanese. A pair with one of them says nothing.
const STOP_HAN: &str =
    "的了吗嗎呢吧啊呀么麼什怎哪谁誰几幾我你您他她它们們这這那是在和与與及就都也很把被请請给給让讓从從为為何";
/// Hiragana that are particles. A pair of one of them and a character of another script is the end of a word. Pairs of Hiragana
/// alone are grammar far more often than not.
const PARTICLES: &str = "はがをにでともへのかやて";
/// Pairs of Hangul in endings and question words of Korean.
const STOP_HANGUL: &str = "어디 디서 디에 에서 언제 누가 누구 무엇 엇을 엇이 뭐가 어떻 떻게 무슨 어느 어떤 얼마 하나 했나 있나 되나 \
    나요 까요 습니 니까 니다 어요 아요 해요 인가 가요 있는 했어 하는 입니 되었 었나 었습 았나 았습 했습 그것 이것 저것 우리";
/// Syllables of Hangul that are a question word alone.
const STOP_SYLLABLES: &str = "왜뭐";
/// Hangul that are particles at the end of a word.
const HANGUL_PARTICLES: &str = "은는이가을를에의도로와과서만";

/// Further terms are dropped. In scripts without spaces, a term is a pair of characters.
const MAX_TERMS: usize = 32;

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

static STOPS: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| STOP_WORDS.split_ascii_whitespace().collect());

static STOP_PAIRS: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| STOP_HANGUL.split_ascii_whitespace().collect());

pub(crate) fn is_stop_word(folded: &str) -> bool {
    STOPS.contains(folded)
}

/// Whether a pair of characters says nothing about the subject of a question. `is_last` tells whether its run ends with it.
///
/// In these scripts, a question has several pairs for each word of grammar. No message has most of them, so they would weigh
/// more than the words that are asked for.
fn is_stop_pair(folded: &str, is_last: bool) -> bool {
    let is_stop_character =
        |character: char| STOP_HAN.contains(character) || STOP_SYLLABLES.contains(character);
    let mut characters = folded.chars();
    let Some(first) = characters.next() else { return false };
    let Some(second) = characters.next() else { return is_stop_character(first) };
    let is_particle = |character: char| PARTICLES.contains(character);
    let is_japanese_grammar = match (is_hiragana(first), is_hiragana(second)) {
        (true, true) => true,
        (true, false) => is_particle(first),
        (false, true) => is_particle(second),
        (false, false) => false,
    };
    STOP_PAIRS.contains(folded)
        || STOP_HAN.contains(first)
        || STOP_HAN.contains(second)
        || is_japanese_grammar
        || (is_last && HANGUL_PARTICLES.contains(second))
}

const fn is_hiragana(character: char) -> bool {
    matches!(character, '\u{3041}'..='\u{309f}')
}

/// A question as terms to look for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Question {
    /// Different terms, in the order of the question.
    pub terms: Vec<QuestionTerm>,
}

/// A word of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuestionTerm {
    /// The term for the store.
    pub term: SearchTerm,
    /// What it matches.
    pub patterns: Vec<Pattern>,
    /// Its stem, or the word itself.
    pub(crate) key: String,
    /// The word of a date that it stands for: the number of a day, the English name of a month, or a year.
    pub(crate) date_word: Option<String>,
    /// Whether it looks like a name: it begins with a capital, and not because the question begins with it.
    pub(crate) is_name: bool,
}

impl Question {
    /// Parses a question. Its terms are the words that are not stop words, or all words if there are no others.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let words = words::words(text);
        let mut question = Self::default();
        let is_meaningful = |index: usize, word: &Word| match word.kind {
            WordKind::Spaced => {
                !is_stop_word(&word.folded) || (word.folded == "may" && is_beside_a_number(&words, index))
            }
            WordKind::Pair => !is_stop_pair(&word.folded, is_last_pair(&words, index)),
        };
        for (index, word) in words.iter().enumerate().filter(|(index, word)| is_meaningful(*index, word)) {
            question.add(text, &words, index, word);
        }
        if question.terms.is_empty() {
            for (index, word) in words.iter().enumerate() {
                question.add(text, &words, index, word);
            }
        }
        question
    }

    fn add(&mut self, text: &str, words: &[Word], index: usize, word: &Word) {
        if self.terms.len() >= MAX_TERMS || (word.kind == WordKind::Pair && !is_term(words, index)) {
            return;
        }
        let original = text.get(word.range.clone()).unwrap_or_default();
        let key = words::stem(original, &word.folded).map_or_else(|| word.folded.clone(), Cow::into_owned);
        if self.terms.iter().any(|known| known.key == key) {
            return;
        }
        let term = SearchTerm { phrase: original.to_owned(), prefix: false, quoted: false };
        let patterns = patterns(&term);
        let date_word = date_word(&word.folded);
        let is_name = index > 0 && original.starts_with(char::is_uppercase);
        self.terms.push(QuestionTerm { term, patterns, key, date_word, is_name });
    }
}

/// Whether a pair is a term of its own. The last character of a run is not, unless the run has only this
/// character.
fn is_term(words: &[Word], index: usize) -> bool {
    let end = |index: usize| words.get(index).map(|word| word.range.end);
    index.checked_sub(1).and_then(end) != end(index)
}

/// Whether the run of a pair ends with it, and has other pairs: the word after it is the last character of the run.
fn is_last_pair(words: &[Word], index: usize) -> bool {
    let Some(word) = words.get(index) else { return false };
    let follows = |index: usize| words.get(index).is_some_and(|next| next.range.end == word.range.end);
    let has_others = index
        .checked_sub(1)
        .and_then(|index| words.get(index))
        .is_some_and(|before| before.kind == WordKind::Pair && before.range.end > word.range.start);
    has_others && follows(index + 1)
}

fn is_beside_a_number(words: &[Word], index: usize) -> bool {
    let is_number = |index: usize| {
        words.get(index).is_some_and(|word| word.folded.starts_with(|first: char| first.is_ascii_digit()))
    };
    is_number(index + 1) || index.checked_sub(1).is_some_and(is_number)
}

fn date_word(folded: &str) -> Option<String> {
    let number =
        ["st", "nd", "rd", "th"].iter().find_map(|ending| folded.strip_suffix(ending)).unwrap_or(folded);
    if let Ok(number) = number.parse::<u16>() {
        return matches!(number, 1..=31 | 1970..=2199).then(|| number.to_string());
    }
    MONTHS
        .iter()
        .find(|month| **month == folded || month.get(..3) == Some(folded))
        .map(|month| (*month).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Vec<String> {
        Question::parse(text).terms.into_iter().map(|term| term.key).collect()
    }

    #[test]
    fn stop_words_are_dropped_unless_there_are_no_others() {
        assert_eq!(keys("How did we fix the login bugs in auth.rs?"), ["fix", "login", "bug", "auth", "rs"]);
        assert_eq!(keys("What is this?"), ["what", "is", "this"]);
        assert_eq!(keys("Migrations: migrating, migrated"), ["migrat"]);
        assert_eq!(keys(""), [] as [&str; 0]);
    }

    #[test]
    fn scripts_without_spaces_become_pairs() {
        assert_eq!(keys("会议记录"), ["会议", "议记", "记录"]);
        assert_eq!(keys("字"), ["字"]);
    }

    #[test]
    fn pairs_of_grammar_are_dropped_unless_there_are_no_others() {
        assert_eq!(keys("我们现在用的是什么缓存？"), ["缓存"]);
        assert_eq!(keys("ログインはどこでしたか"), ["ログ", "グイ", "イン"]);
        assert_eq!(keys("배포가 왜 실패했나요?"), ["배포", "실패", "패했"]);
        assert_eq!(keys("どこ"), ["どこ"]);
    }

    #[test]
    fn words_of_dates_are_recognized() {
        let dates = |text: &str| -> Vec<Option<String>> {
            Question::parse(text).terms.into_iter().map(|term| term.date_word).collect()
        };
        let some = |word: &str| Some(word.to_owned());
        assert_eq!(dates("8 May 2023"), [some("8"), some("may"), some("2023")]);
        assert_eq!(dates("Dec 3rd 99"), [some("december"), some("3"), None]);
        assert_eq!(keys("What may happen?"), ["happen"]);
    }
}
