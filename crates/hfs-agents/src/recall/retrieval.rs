//! Chooses the passages that an answer quotes.
//!
//! [`hfs_retrieval::recall`] finds and ranks the messages. Each is reduced to its best snippet, and the snippets are
//! ranked again here, because an answer also considers roles, age and duplicates.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use hfs_core::{Message, MessageId, MessageRange, Part, Role, SearchHit, SessionId, Store, StoreResult};
use hfs_retrieval::{RecallQuery, Recalled, RecalledPassage, recall};

use super::ID;
use super::query::{Query, words};

const MAX_CANDIDATES: usize = 60;
/// Two snippets at least this similar count as duplicates.
const DUPLICATE_SIMILARITY: f64 = 0.7;
/// Number of passages of one session that keep their rank; the others move to the end of the list.
const MAX_PER_SESSION: usize = 3;
/// Age at which the bonus for recent messages has fallen to 1/e.
const RECENCY_DAYS: f64 = 90.0;
/// Limit for a snippet, in bytes.
const MAX_SNIPPET: usize = 420;
/// Only this many bytes at the beginning of a text are searched for snippets.
const MAX_SCANNED: usize = 200_000;
/// Limit for the quoted beginning of a reply, in characters.
const MAX_REPLY: usize = 200;

/// A passage of a saved session.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Passage {
    pub hit: SearchHit,
    pub snippet: Snippet,
    /// The beginning of the reply, if the passage is from a user message.
    pub reply: Option<String>,
    /// Other messages with nearly the same text.
    pub duplicates: Vec<SearchHit>,
    score: f64,
}

/// An excerpt of a message, and how much of the query it contains.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Snippet {
    pub text: String,
    /// Indices of the query's terms that occur in it.
    pub terms: BTreeSet<usize>,
    /// Number of the query's phrases that occur in it.
    pub phrases: usize,
    /// Whether it is text of a message, rather than thinking or the output of a tool.
    pub is_text: bool,
}

/// Result of [`retrieve`].
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Retrieved {
    /// Best first.
    pub passages: Vec<Passage>,
    /// Whether the best passages contain too little of the question to answer it.
    pub abstained: bool,
}

/// Retrieves the best passages for a query, at most `limit`. Leaves out the message `except`.
pub(crate) fn retrieve(
    store: &dyn Store,
    query: &Query,
    except: Option<MessageId>,
    limit: usize,
) -> StoreResult<Retrieved> {
    if query.terms.is_empty() {
        return Ok(Retrieved::default());
    }
    let asked =
        RecallQuery { question: query.text.clone(), except, limit: MAX_CANDIDATES, ..RecallQuery::default() };
    let Recalled { passages, abstained, .. } = recall(store, &asked)?;
    let mut passages: Vec<Passage> = passages
        .into_iter()
        .map(|found| {
            let snippet = best_snippet(&found.message, query)
                .unwrap_or_else(|| Snippet { text: found.text.clone(), ..Snippet::default() });
            Passage { hit: hit_of(found), snippet, reply: None, duplicates: Vec::new(), score: 0.0 }
        })
        .collect();
    rank(&mut passages, query);
    let mut passages = diversify(merge_duplicates(passages));
    passages.truncate(limit);
    for passage in &mut passages {
        passage.reply = reply_to(store, &passage.hit)?;
    }
    Ok(Retrieved { passages, abstained })
}

fn hit_of(found: RecalledPassage) -> SearchHit {
    let RecalledPassage { session, session_name, branch, branch_name, message, seq, score, text } = found;
    SearchHit {
        session,
        session_name,
        branch,
        branch_name,
        message: message.content.id,
        seq,
        role: message.content.role,
        created_at: message.content.created_at,
        snippet: text,
        score,
    }
}

/// Scores the passages and sorts them, best first.
///
/// The share of the query that a passage contains has the highest weight; rare terms count more (inverse document
/// frequency among the candidates). Passages with equal scores are ordered by time and id, so the result is
/// deterministic. The weights were chosen by hand.
fn rank(passages: &mut [Passage], query: &Query) {
    let float = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    let weights: Vec<f64> = (0..query.terms.len())
        .map(|term| {
            let with_term = passages.iter().filter(|passage| passage.snippet.terms.contains(&term)).count();
            1.0 + (float(passages.len() + 1) / float(with_term + 1)).ln()
        })
        .collect();
    let total_weight: f64 = weights.iter().sum::<f64>().max(f64::MIN_POSITIVE);
    let best_hit_score = passages.iter().map(|passage| passage.hit.score).fold(f64::MIN_POSITIVE, f64::max);
    let newest = passages.iter().map(|passage| passage.hit.created_at).max();
    for passage in passages.iter_mut() {
        let matched: f64 = passage.snippet.terms.iter().filter_map(|term| weights.get(*term)).sum();
        let has_requested_role = query.role == Some(passage.hit.role);
        let role_bonus = match passage.hit.role {
            Role::Assistant => 0.25,
            Role::User => 0.2,
            Role::System | Role::Tool => 0.0,
        };
        let age_days = newest.map_or(0, |newest| newest.millis_since(passage.hit.created_at)) / 86_400_000;
        let recency = (-float(usize::try_from(age_days).unwrap_or(usize::MAX)) / RECENCY_DAYS).exp();
        passage.score = 3.0 * matched / total_weight
            + float(passage.snippet.phrases)
            + 0.8 * (passage.hit.score / best_hit_score).clamp(0.0, 1.0)
            + role_bonus
            + if passage.snippet.is_text { 0.5 } else { 0.0 }
            + if has_requested_role { 0.5 } else { 0.0 }
            + 0.2 * recency;
    }
    passages.sort_by(|a, b| {
        b.score
            .partial_cmp(&a.score)
            .unwrap_or(Ordering::Equal)
            .then_with(|| b.hit.created_at.cmp(&a.hit.created_at))
            .then_with(|| a.hit.message.cmp(&b.hit.message))
    });
}

/// Keeps the best of near-duplicate passages and records the others in it.
fn merge_duplicates(passages: Vec<Passage>) -> Vec<Passage> {
    let mut kept: Vec<Passage> = Vec::new();
    for passage in passages {
        let duplicate = kept
            .iter_mut()
            .find(|known| similarity(&known.snippet.text, &passage.snippet.text) >= DUPLICATE_SIMILARITY);
        match duplicate {
            Some(known) => known.duplicates.push(passage.hit),
            None => kept.push(passage),
        }
    }
    kept
}

/// Moves all but the best [`MAX_PER_SESSION`] passages of each session to the end.
fn diversify(passages: Vec<Passage>) -> Vec<Passage> {
    let mut counts: BTreeMap<SessionId, usize> = BTreeMap::new();
    let (mut first, rest): (Vec<_>, Vec<_>) = passages.into_iter().partition(|passage| {
        let count = counts.entry(passage.hit.session).or_default();
        *count += 1;
        *count <= MAX_PER_SESSION
    });
    first.extend(rest);
    first
}

/// The beginning of the reply to a user's message.
fn reply_to(store: &dyn Store, hit: &SearchHit) -> StoreResult<Option<String>> {
    if hit.role != Role::User {
        return Ok(None);
    }
    let following = store.read_messages(hit.branch, MessageRange::From(hit.seq + 1, 3))?;
    Ok(following
        .iter()
        .take_while(|message| message.content.role != Role::User)
        .filter(|message| {
            message.content.role == Role::Assistant && message.content.agent.as_deref() != Some(ID)
        })
        .find_map(text_beginning))
}

/// The beginning of the message's text, on one line.
fn text_beginning(message: &Message) -> Option<String> {
    let text = message.content.parts.iter().find_map(|part| match part {
        Part::Text { text } if !text.trim().is_empty() => Some(text.trim()),
        _ => None,
    })?;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    Some(match line.char_indices().nth(MAX_REPLY) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default().trim_end()),
        None => line,
    })
}

/// The snippet that contains the most phrases of the query and, among those, the most terms. Among equal snippets, the
/// earliest one. `None` if the message contains neither a phrase nor a term.
fn best_snippet(message: &Message, query: &Query) -> Option<Snippet> {
    let mut best: Option<Snippet> = None;
    for (text, is_text) in message.content.parts.iter().filter_map(searchable_text) {
        for window in windows(prefix(text, MAX_SCANNED)) {
            let snippet = Snippet { is_text, ..match_terms(window, query) };
            let is_better = best
                .as_ref()
                .is_none_or(|best| (snippet.phrases, snippet.terms.len()) > (best.phrases, best.terms.len()));
            if is_better && (snippet.phrases > 0 || !snippet.terms.is_empty()) {
                best = Some(snippet);
            }
        }
    }
    best
}

/// The text of a part that can be quoted, and whether it is a text part.
fn searchable_text(part: &Part) -> Option<(&str, bool)> {
    match part {
        Part::Text { text } => Some((text, true)),
        Part::Thinking { text, .. } => Some((text, false)),
        Part::ToolResult { output, .. } => Some((output, false)),
        Part::ToolCall { .. } | Part::Attachment { .. } | Part::Opaque { .. } => None,
    }
}

/// At most `max_bytes` bytes of the beginning, cut between characters.
fn prefix(text: &str, max_bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(max_bytes)).unwrap_or(text)
}

/// Candidates for a snippet: overlapping windows of at most [`MAX_SNIPPET`] bytes. A window starts at every line
/// that is not blank, and inside long lines also about every `MAX_SNIPPET / 2` bytes. It ends after a whole line if
/// possible.
fn windows(text: &str) -> impl Iterator<Item = &str> {
    let mut starts = Vec::new();
    let mut line_start = 0;
    for line in text.split_inclusive('\n') {
        if !line.trim().is_empty() {
            // No window starts in the last `MAX_SNIPPET / 4` bytes of a line: the previous window contains them.
            let offsets = (0..line.len().max(1))
                .step_by(MAX_SNIPPET / 2)
                .take_while(|offset| *offset == 0 || line.len() - offset > MAX_SNIPPET / 4);
            starts.extend(offsets.map(|offset| line_start + next_word_start(line, offset)));
        }
        line_start += line.len();
    }
    starts.into_iter().filter_map(move |start| {
        let rest = text.get(start..)?;
        let window = prefix(rest, MAX_SNIPPET);
        if window.len() == rest.len() {
            return Some(window);
        }
        // Cut after a whole line, else after a whole word, else between characters.
        let end = window.rfind('\n').or_else(|| window.rfind(char::is_whitespace)).unwrap_or(window.len());
        window.get(..end)
    })
}

/// The start of the first word after `at`, or `at` itself if the next 40 bytes contain no space.
fn next_word_start(line: &str, at: usize) -> usize {
    let at = line.floor_char_boundary(at);
    if at == 0 {
        return 0;
    }
    let nearby = line.get(at..).map_or("", |rest| prefix(rest, 40));
    nearby.find(char::is_whitespace).map_or(at, |space| at + space + 1)
}

fn match_terms(window: &str, query: &Query) -> Snippet {
    let lower = window.to_lowercase();
    let terms =
        words(&lower).filter_map(|word| query.terms.iter().position(|term| term.matches(word))).collect();
    let one_line = lower.split_whitespace().collect::<Vec<_>>().join(" ");
    let phrases = query.phrases.iter().filter(|phrase| one_line.contains(phrase.as_str())).count();
    Snippet { text: window.trim_end().to_owned(), terms, phrases, is_text: false }
}

/// Similarity of two texts, from 0 to 1: the number of three-word sequences that occur in both, divided by the
/// number in the shorter text.
fn similarity(a: &str, b: &str) -> f64 {
    let shingles = |text: &str| -> BTreeSet<String> {
        let lower = text.to_lowercase();
        let all: Vec<&str> = words(&lower).collect();
        if all.len() < 3 {
            BTreeSet::from([all.join(" ")])
        } else {
            all.windows(3).map(|w| w.join(" ")).collect()
        }
    };
    let (a, b) = (shingles(a), shingles(b));
    let common = u32::try_from(a.intersection(&b).count()).unwrap_or(u32::MAX);
    let smaller = u32::try_from(a.len().min(b.len())).unwrap_or(u32::MAX);
    if smaller == 0 { 0.0 } else { f64::from(common) / f64::from(smaller) }
}

#[cfg(test)]
mod tests {
    use hfs_core::{BranchId, MessageDraft, Timestamp};

    use super::*;

    fn message(text: &str) -> Message {
        Message {
            branch: BranchId::generate(),
            seq: 1,
            content: MessageDraft::user(text, Timestamp::UNIX_EPOCH),
        }
    }

    #[test]
    fn the_snippet_with_most_of_the_query_is_chosen() {
        let filler = "nothing of interest in this line\n".repeat(40);
        let text = format!("{filler}a login page\n{filler}the login bug is in the token refresh\n{filler}");
        let snippet = best_snippet(&message(&text), &Query::parse("login bug token")).unwrap();
        assert!(snippet.text.contains("token refresh"), "{}", snippet.text);
        assert_eq!(snippet.terms.len(), 3);
        assert!(snippet.text.len() <= MAX_SNIPPET);
    }

    #[test]
    fn a_very_long_line_of_any_script_is_cut_between_characters() {
        let text = format!("needle {}", "日本語".repeat(5_000));
        let snippet = best_snippet(&message(&text), &Query::parse("needle")).unwrap();
        assert!(snippet.text.len() <= MAX_SNIPPET);
        let deep = format!("{} needle {}", "hay ".repeat(5_000), "日本語".repeat(5_000));
        let snippet = best_snippet(&message(&deep), &Query::parse("needle")).unwrap();
        assert!(snippet.text.contains("needle") && snippet.text.len() <= MAX_SNIPPET);
    }

    #[test]
    fn a_message_without_any_term_has_no_snippet() {
        assert_eq!(best_snippet(&message("other words"), &Query::parse("needle")), None);
    }

    #[test]
    fn similarity_recognizes_copies_and_near_copies() {
        assert_eq!(similarity("one two three four", "One, two; three four!"), 1.0);
        assert!(similarity("we fixed the login bug today", "so we fixed the login bug today then") > 0.7);
        assert_eq!(similarity("completely other words here", "we fixed the login bug"), 0.0);
    }
}
