//! Ranks sessions and messages for a question.
//!
//! The score of a session is a sum of BM25 at two granularities: the whole session, and the best of its windows of a
//! few adjacent messages. Terms that are adjacent in the question and in the session add to it, and so do pairs of
//! terms that are near each other. The weights were chosen on LoCoMo's conversations (`cargo xtask bench recall`).
//! Reciprocal rank fusion of the same lists is worse, because it ignores by how much a list prefers its first entry.

use std::collections::{BTreeSet, HashMap};

use hfs_core::{CandidateMessage, CandidateSession, Candidates, Timestamp};

use crate::excerpt::passage;
use crate::patterns::{AnalyzedText, Pattern};
use crate::question::{Question, QuestionTerm, is_stop_word};
use crate::words::{self, Part, Word, WordKind};

/// Saturation of frequencies and influence of the length, as in BM25, for whole sessions and for windows.
const SESSION_BM25: Bm25 = Bm25 { k1: 0.9, b: 0.4 };
const WINDOW_BM25: Bm25 = Bm25 { k1: 1.2, b: 0.5 };
/// Sizes of the windows, in messages.
const WINDOWS: [u32; 2] = [2, 5];
/// Weight of two terms that follow each other in the question and in the session.
const ADJACENT: f64 = 0.6;
/// Weight of two terms within [`NEAR_WORDS`] of each other, stop words not counted.
const NEAR: f64 = 0.4;
const NEAR_WORDS: usize = 3;
/// Weight of the words of a message for its place among all messages, in proportion to the score of its session.
const OWN_WORDS: f64 = 2.0;
/// Factor for the words of a message that has only thinking, calls and output of tools.
const WITHOUT_TEXT: f64 = 0.5;
/// Size of the window in which the terms are looked for to decide whether the question is answered at all.
const ANSWER_WINDOW: u32 = 4;
/// For that decision, messages without any of the terms are added, so that in a small store a term that all messages have
/// still counts.
const BACKGROUND_MESSAGES: f64 = 1_000.0;
/// Passages of one session that keep their rank; the others move to the end of the list.
const MAX_PER_SESSION: usize = 3;

struct Bm25 {
    k1: f64,
    b: f64,
}

impl Bm25 {
    fn score(&self, idf: f64, count: f64, relative_length: f64) -> f64 {
        if count <= 0.0 {
            return 0.0;
        }
        idf * count * (self.k1 + 1.0) / (count + self.k1 * (1.0 - self.b + self.b * relative_length))
    }
}

/// The weight of something that `with` of `all` have.
fn idf(all: f64, with: f64) -> f64 {
    let with = with.clamp(0.0, all);
    (1.0 + (all - with + 0.5) / (with + 0.5)).ln()
}

/// A message with the places of the terms.
struct Found<'c> {
    candidate: &'c CandidateMessage,
    text: String,
    /// Number of words.
    words: f64,
    /// Places of terms, without stop words: position and index of the term.
    places: Vec<(usize, usize)>,
    /// The same in words of the text.
    word_places: Vec<(usize, usize)>,
    /// How often each term occurs.
    counts: Vec<f64>,
    has_text_part: bool,
}

/// A session with its score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RankedSession<'c> {
    /// The session.
    pub session: &'c CandidateSession,
    /// Relevance; higher is better.
    pub score: f64,
}

/// A message with its score.
#[derive(Debug, Clone, PartialEq)]
pub struct RankedMessage<'c> {
    /// Its session.
    pub session: &'c CandidateSession,
    /// The message.
    pub candidate: &'c CandidateMessage,
    /// The part of its text with the most terms.
    pub text: String,
    /// Relevance; higher is better.
    pub score: f64,
}

/// The ranking of candidates.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Ranking<'c> {
    /// Best first.
    pub sessions: Vec<RankedSession<'c>>,
    /// Best first.
    pub messages: Vec<RankedMessage<'c>>,
    /// How much of the question the best place contains, from 0 to 1: the share of its terms by weight, times the share of its
    /// names that occur anywhere.
    pub confidence: f64,
}

/// Ranks candidates for a question. `max_messages` limits the messages.
#[must_use]
pub fn rank<'c>(question: &Question, candidates: &'c Candidates, max_messages: usize) -> Ranking<'c> {
    let terms = &question.terms;
    if terms.is_empty() || candidates.found.is_empty() {
        return Ranking::default();
    }
    let finder = TermFinder::new(terms);
    let found: Vec<(&CandidateSession, Vec<Found<'c>>)> = candidates
        .found
        .iter()
        .map(|session| (session, session.messages.iter().map(|message| finder.find(message)).collect()))
        .collect();
    let weights = Weights::new(question, candidates, &found);
    let mut scored: Vec<Scored<'_, 'c>> =
        found.iter().map(|(session, messages)| score_session(&weights, session, messages)).collect();
    add_pairs(&weights, &mut scored);
    let best = scored.iter().map(|session| session.confidence).fold(0.0, f64::max);
    let confidence = best * share_of_known_names(question, candidates);

    let mut messages: Vec<(f64, &Scored<'_, 'c>, usize)> = scored
        .iter()
        .flat_map(|session| {
            session
                .message_scores
                .iter()
                .enumerate()
                .map(move |(index, score)| (*score + session.score, session, index))
        })
        .collect();
    messages.sort_by(|(a, a_session, a_index), (b, b_session, b_index)| {
        b.total_cmp(a)
            .then_with(|| b_session.session.created_at.cmp(&a_session.session.created_at))
            .then_with(|| a_session.session.session.cmp(&b_session.session.session))
            .then_with(|| a_index.cmp(b_index))
    });
    let mut per_session: HashMap<_, usize> = HashMap::new();
    let (mut first, rest): (Vec<_>, Vec<_>) = messages.into_iter().partition(|(_, session, _)| {
        let count = per_session.entry(session.session.session).or_default();
        *count += 1;
        *count <= MAX_PER_SESSION
    });
    first.extend(rest);
    let messages = first
        .into_iter()
        .take(max_messages)
        .filter_map(|(score, session, index)| {
            let found = session.messages.get(index)?;
            let text = passage(&found.text, &found.word_places, &weights.message);
            Some(RankedMessage { session: session.session, candidate: found.candidate, text, score })
        })
        .collect();
    let mut sessions: Vec<RankedSession<'c>> =
        scored.iter().map(|scored| RankedSession { session: scored.session, score: scored.score }).collect();
    sessions.sort_by(|a, b| {
        b.score
            .total_cmp(&a.score)
            .then_with(|| b.session.created_at.cmp(&a.session.created_at))
            .then_with(|| a.session.session.cmp(&b.session.session))
    });
    Ranking { sessions, messages, confidence }
}

/// The share of the names in a question that any message has. In a small store other words weigh as much as a name, but a
/// question about a name that was never mentioned is not answered by them.
fn share_of_known_names(question: &Question, candidates: &Candidates) -> f64 {
    let (mut names, mut known) = (0.0, 0.0);
    for (term, frequency) in question.terms.iter().zip(&candidates.frequencies) {
        if term.is_name && term.date_word.is_none() {
            names += 1.0;
            if frequency.messages > 0 {
                known += 1.0;
            }
        }
    }
    if names > 0.0 { known / names } else { 1.0 }
}

/// Finds the terms of a question in messages.
struct TermFinder<'q> {
    terms: &'q [QuestionTerm],
    /// Terms by word and by stem.
    by_word: HashMap<&'q str, usize>,
    by_stem: HashMap<&'q str, usize>,
    /// First bytes of stems. Only the end of a word changes, so others need not be stemmed.
    first_bytes: BTreeSet<u8>,
    /// Terms that neither a word nor its stem shows: phrases, prefixes and sequences of parts of identifiers.
    others: Vec<usize>,
}

impl<'q> TermFinder<'q> {
    fn new(terms: &'q [QuestionTerm]) -> Self {
        let mut finder = Self {
            terms,
            by_word: HashMap::new(),
            by_stem: HashMap::new(),
            first_bytes: BTreeSet::new(),
            others: Vec::new(),
        };
        for (index, term) in terms.iter().enumerate() {
            for pattern in &term.patterns {
                match pattern {
                    Pattern::Stem(stem) => {
                        finder.by_word.insert(stem, index);
                        finder.by_stem.insert(stem, index);
                        finder.first_bytes.extend(stem.as_bytes().first());
                    }
                    Pattern::Words { words, prefix: false } if words.len() == 1 => {
                        finder.by_word.extend(words.iter().map(|word| (word.as_str(), index)));
                    }
                    Pattern::Words { .. } | Pattern::Parts { .. } => finder.others.push(index),
                }
            }
        }
        finder.others.dedup();
        finder
    }

    fn find<'c>(&self, candidate: &'c CandidateMessage) -> Found<'c> {
        let text = candidate.message.content.searchable_text();
        let analyzed = AnalyzedText::new(&text);
        let (mut places, mut word_places) = (Vec::new(), Vec::new());
        let mut counts = vec![0.0; self.terms.len()];
        let mut found = self.terms_at_words(&analyzed).into_iter().peekable();
        let mut position = 0;
        for (index, word) in analyzed.words().iter().enumerate() {
            while let Some((_, term)) = found.next_if(|(at, _)| *at == index) {
                places.push((position, term));
                word_places.push((index, term));
                if let Some(count) = counts.get_mut(term) {
                    *count += 1.0;
                }
            }
            if !is_stop_word(&word.folded) {
                position += 1;
            }
        }
        let words = float(analyzed.words().len());
        let has_text_part = !candidate.message.content.text().trim().is_empty();
        Found { candidate, text, words, places, word_places, counts, has_text_part }
    }

    /// The terms at each word: the index of the word and that of the term. A term counts once at a word, even if the
    /// word and several parts of it match.
    fn terms_at_words(&self, text: &AnalyzedText<'_>) -> BTreeSet<(usize, usize)> {
        let words = text.words().iter().enumerate();
        let mut found: BTreeSet<(usize, usize)> =
            words.filter_map(|(index, word)| Some((index, self.term_of(text, word)?))).collect();
        found.extend(
            text.runs().iter().flatten().filter_map(|part| Some((part.word, self.term_of_part(part)?))),
        );
        for (index, term) in self.others.iter().filter_map(|index| Some((*index, self.terms.get(*index)?))) {
            found.extend(text.find(&term.patterns).into_iter().map(|range| (range.start, index)));
        }
        found
    }

    fn term_of_part(&self, part: &Part) -> Option<usize> {
        let by_stem = |stem: &str| self.by_stem.get(stem).copied();
        by_stem(&part.folded).or_else(|| by_stem(part.stem.as_deref()?))
    }

    fn term_of(&self, text: &AnalyzedText<'_>, word: &Word) -> Option<usize> {
        if let Some(term) = self.by_word.get(word.folded.as_str()) {
            return Some(*term);
        }
        let is_stemmed = word.kind == WordKind::Spaced
            && word.folded.as_bytes().first().is_some_and(|first| self.first_bytes.contains(first));
        if !is_stemmed {
            return None;
        }
        let stem = words::stem(text.original(word), &word.folded)?;
        self.by_stem.get(&*stem).copied()
    }
}

fn float(number: impl TryInto<u32>) -> f64 {
    f64::from(number.try_into().unwrap_or(u32::MAX))
}

/// Statistics of the searched messages, and the weights of the terms.
struct Weights {
    sessions: f64,
    words_per_session: f64,
    words_per_message: f64,
    /// Weight of each term for whole sessions, for each size of windows, and for messages.
    session: Vec<f64>,
    windows: Vec<Vec<f64>>,
    message: Vec<f64>,
    /// The same with [`BACKGROUND_MESSAGES`].
    presence: Vec<f64>,
    /// Whether each session's date has the date word of each term.
    dates: HashMap<hfs_core::SessionId, Vec<bool>>,
}

impl Weights {
    fn new(
        question: &Question,
        candidates: &Candidates,
        found: &[(&CandidateSession, Vec<Found<'_>>)],
    ) -> Self {
        let sessions = float(candidates.sessions).max(float(found.len()));
        let messages = float(candidates.messages).max(1.0);
        let dates: HashMap<_, Vec<bool>> = found
            .iter()
            .map(|(session, _)| {
                let words = date_words(session.created_at);
                let has = |term: &QuestionTerm| {
                    term.date_word.as_ref().is_some_and(|wanted| words.iter().any(|word| word == wanted))
                };
                (session.session, question.terms.iter().map(has).collect())
            })
            .collect();
        let (mut session, mut message, mut presence) = (Vec::new(), Vec::new(), Vec::new());
        let mut windows: Vec<Vec<f64>> = WINDOWS.iter().map(|_| Vec::new()).collect();
        for term in 0..question.terms.len() {
            let frequency = candidates.frequencies.get(term).copied().unwrap_or_default();
            let dated = dates.values().filter(|dates| dates.get(term) == Some(&true)).count();
            let with = float(frequency.messages).min(messages);
            session.push(idf(sessions, float(frequency.sessions).max(float(dated))));
            message.push(idf(messages, with));
            presence.push(idf(messages + BACKGROUND_MESSAGES, with));
            for (size, weights) in WINDOWS.iter().zip(&mut windows) {
                // As if the messages with the term were evenly distributed.
                let share = 1.0 - (1.0 - with / messages).powi(i32::try_from(*size).unwrap_or(1));
                weights.push(idf(messages, messages * share));
            }
        }
        let words = float(candidates.words).max(1.0);
        Self {
            sessions,
            words_per_session: words / sessions.max(1.0),
            words_per_message: words / messages,
            session,
            windows,
            message,
            presence,
            dates,
        }
    }
}

/// The words of the date of a time: the number of the day, the English name of the month, the year.
fn date_words(time: Timestamp) -> Vec<String> {
    let Some(time) = time.known() else { return Vec::new() };
    let date = time.to_jiff().strftime("%-d %B %Y").to_string().to_lowercase();
    date.split(' ').map(str::to_owned).collect()
}

struct Scored<'f, 'c> {
    session: &'c CandidateSession,
    messages: &'f [Found<'c>],
    score: f64,
    message_scores: Vec<f64>,
    confidence: f64,
}

fn score_session<'f, 'c>(
    weights: &Weights,
    session: &'c CandidateSession,
    messages: &'f [Found<'c>],
) -> Scored<'f, 'c> {
    let no_dates = Vec::new();
    let dates = weights.dates.get(&session.session).unwrap_or(&no_dates);
    let relative_length = float(session.words) / weights.words_per_session.max(1.0);
    let mut score = 0.0;
    for (term, weight) in weights.session.iter().enumerate() {
        let dated = if dates.get(term) == Some(&true) { 1.0 } else { 0.0 };
        let count: f64 = messages.iter().filter_map(|message| message.counts.get(term)).sum();
        score += SESSION_BM25.score(*weight, count + dated, relative_length);
    }
    let message_scores: Vec<f64> = messages
        .iter()
        .map(|message| {
            let score = window_score(weights, &weights.message, std::slice::from_ref(message), 1);
            OWN_WORDS * if message.has_text_part { score } else { WITHOUT_TEXT * score }
        })
        .collect();
    for (size, term_weights) in WINDOWS.iter().zip(&weights.windows) {
        let mut best = 0.0_f64;
        for window in windows(messages, *size) {
            let found = messages.get(window.clone()).unwrap_or_default();
            let window_score = window_score(weights, term_weights, found, *size);
            best = best.max(window_score);
        }
        score += best;
    }
    let total: f64 = weights.presence.iter().sum::<f64>().max(f64::MIN_POSITIVE);
    let mut confidence = 0.0_f64;
    for window in windows(messages, ANSWER_WINDOW) {
        let found = messages.get(window).unwrap_or_default();
        let covered: f64 = weights
            .presence
            .iter()
            .enumerate()
            .filter(|(term, _)| {
                dates.get(*term) == Some(&true)
                    || found.iter().any(|message| message.counts.get(*term).is_some_and(|count| *count > 0.0))
            })
            .map(|(_, weight)| weight)
            .sum();
        confidence = confidence.max(covered / total);
    }
    Scored { session, messages, score, message_scores, confidence }
}

/// For each message, the range of messages in the window that starts with it.
fn windows<'m>(messages: &'m [Found<'_>], size: u32) -> impl Iterator<Item = std::ops::Range<usize>> + 'm {
    messages.iter().enumerate().map(move |(start, first)| {
        let end = first.candidate.message.seq + u64::from(size);
        let length = messages
            .iter()
            .skip(start)
            .take_while(|message| {
                message.candidate.branch == first.candidate.branch && message.candidate.message.seq < end
            })
            .count();
        start..start + length
    })
}

/// The BM25 of a window. Messages of the window without any term are taken to be of average length.
fn window_score(weights: &Weights, term_weights: &[f64], found: &[Found<'_>], size: u32) -> f64 {
    let average = weights.words_per_message.max(1.0);
    let size = f64::from(size);
    let words =
        found.iter().map(|message| message.words).sum::<f64>() + (size - float(found.len())) * average;
    let relative_length = words / (size * average);
    term_weights
        .iter()
        .enumerate()
        .map(|(term, weight)| {
            let count: f64 = found.iter().filter_map(|message| message.counts.get(term)).sum();
            WINDOW_BM25.score(*weight, count, relative_length)
        })
        .sum()
}

/// Indices of two terms.
type Pair = (usize, usize);

/// The pairs of terms in a session.
#[derive(Default)]
struct SessionPairs {
    /// Terms that follow each other both in the question and in a message.
    adjacent: BTreeSet<Pair>,
    /// Terms that are near each other in a message.
    near: BTreeSet<Pair>,
    /// The same for each message.
    near_in_message: Vec<BTreeSet<Pair>>,
}

/// Adds the scores of pairs of terms.
fn add_pairs(weights: &Weights, scored: &mut [Scored<'_, '_>]) {
    let pairs: Vec<SessionPairs> = scored.iter().map(|session| SessionPairs::of(session.messages)).collect();
    let count = |pairs_of: fn(&SessionPairs) -> &BTreeSet<Pair>| {
        let mut counts: HashMap<Pair, f64> = HashMap::new();
        pairs.iter().flat_map(pairs_of).for_each(|pair| *counts.entry(*pair).or_default() += 1.0);
        counts
    };
    let with_adjacent = count(|session| &session.adjacent);
    let with_near = count(|session| &session.near);
    // The sum of the weights of pairs that `sessions` counts the sessions of.
    let weight = |found: &BTreeSet<Pair>, sessions: &HashMap<Pair, f64>| -> f64 {
        found.iter().filter_map(|pair| sessions.get(pair)).map(|with| idf(weights.sessions, *with)).sum()
    };
    for (session, pairs) in scored.iter_mut().zip(&pairs) {
        session.score += ADJACENT * weight(&pairs.adjacent, &with_adjacent);
        session.score += NEAR * weight(&pairs.near, &with_near);
        for (score, near) in session.message_scores.iter_mut().zip(&pairs.near_in_message) {
            *score += NEAR * weight(near, &with_near);
        }
    }
}

impl SessionPairs {
    fn of(messages: &[Found<'_>]) -> Self {
        let mut all = Self::default();
        for message in messages {
            let near = all.add_message(&message.places);
            all.near.extend(&near);
            all.near_in_message.push(near);
        }
        all
    }

    /// Adds the adjacent pairs of a message, and returns those that are near each other.
    fn add_message(&mut self, places: &[(usize, usize)]) -> BTreeSet<Pair> {
        let mut near = BTreeSet::new();
        for (index, (position, term)) in places.iter().enumerate() {
            for (other_position, other) in places.iter().skip(index + 1) {
                let distance = other_position - position;
                if distance > NEAR_WORDS {
                    break;
                }
                if other != term && distance > 0 {
                    near.insert((*term.min(other), *term.max(other)));
                }
                if distance == 1 && *other == term + 1 {
                    self.adjacent.insert((*term, *other));
                }
            }
        }
        near
    }
}

#[cfg(test)]
mod tests {
    use hfs_core::{BranchId, Message, MessageDraft};

    use super::*;

    /// How often each term of the question occurs in the text.
    fn counts(question: &str, text: &str) -> Vec<f64> {
        let branch = BranchId::generate();
        let content = MessageDraft::user(text, Timestamp::UNIX_EPOCH);
        let candidate = CandidateMessage {
            branch,
            branch_name: "main".into(),
            message: Message { branch, seq: 1, content },
        };
        let question = Question::parse(question);
        TermFinder::new(&question.terms).find(&candidate).counts
    }

    #[test]
    fn other_forms_of_a_word_are_counted_in_identifiers_too() {
        assert_eq!(counts("servers", "call getServers, then stopServer; a server"), [3.0]);
        assert_eq!(counts("server errors", "an HTTPServerError"), [1.0, 1.0]);
        assert_eq!(counts("servers", "ServerServers"), [1.0]);
    }

    #[test]
    fn a_term_is_counted_once_at_a_word() {
        assert_eq!(counts("1 v1", "v1"), [1.0, 1.0]);
        assert_eq!(counts("v1 1", "v1 v1"), [2.0, 2.0]);
    }
}
