//! From a question to the passages that answer it best.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use hfs_core::{
    Message, MessageId, MessageRange, Part, Role, SearchHit, SearchQuery, SessionId, Store, StoreResult,
};

use super::passage::{Stretch, best_stretch, likeness};
use super::question::Question;
use super::{ID, OFFLINE_AGENTS};

/// How many hits are looked at closely.
const CANDIDATES: u32 = 60;
/// How alike two passages are when only one of them is shown.
const SAME: f64 = 0.7;
/// So many passages of one session come before those of others.
const OF_ONE_SESSION: usize = 3;
/// An age at which the bonus for what is recent has fallen to a third.
const RECENT_DAYS: f64 = 90.0;

/// A passage of a saved session.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Passage {
    pub hit: SearchHit,
    pub stretch: Stretch,
    /// The beginning of the reply that followed, where the passage is a user's.
    pub reply: Option<String>,
    /// Where else nearly the same stands.
    pub also: Vec<SearchHit>,
    rank: f64,
}

/// What a search came to.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Found {
    /// The best passages, best first.
    pub passages: Vec<Passage>,
    /// How many messages hold any of the words.
    pub total: u64,
}

/// The best passages for a question, at most `most`; what `except` names is not among them, nor what this
/// agent itself once answered.
pub(crate) fn retrieve(
    store: &dyn Store,
    question: &Question,
    except: Option<MessageId>,
    most: usize,
) -> StoreResult<Found> {
    if question.terms.is_empty() {
        return Ok(Found::default());
    }
    let query = SearchQuery {
        text: question.search_text(),
        any_word: true,
        limit: CANDIDATES,
        ..SearchQuery::default()
    };
    let results = store.search(&query)?;
    let mut total = results.total;
    let mut passages = Vec::new();
    for hit in results.hits {
        if Some(hit.message) == except {
            total = total.saturating_sub(1);
            continue;
        }
        let message = store.get_message(hit.message)?;
        let own = message.content.agent.as_deref().is_some_and(|agent| OFFLINE_AGENTS.contains(&agent));
        if own && message.content.model.as_deref().is_none_or(|model| model == ID) {
            total = total.saturating_sub(1);
            continue;
        }
        if let Some(stretch) = best_stretch(&message, question) {
            passages.push(Passage { hit, stretch, reply: None, also: Vec::new(), rank: 0.0 });
        }
    }
    rank(&mut passages, question);
    let mut passages = spread(merge(passages));
    passages.truncate(most);
    for passage in &mut passages {
        passage.reply = reply_after(store, &passage.hit)?;
    }
    Ok(Found { passages, total })
}

/// Orders passages: what covers more of the question's rarer words first, then by how well the message
/// matches, who speaks, and how recent it is. Equal ones by age and id, so that the order is always the same.
fn rank(passages: &mut [Passage], question: &Question) {
    let count = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    let weights: Vec<f64> = (0..question.terms.len())
        .map(|term| {
            let with = passages.iter().filter(|passage| passage.stretch.covers.contains(&term)).count();
            1.0 + (count(passages.len() + 1) / count(with + 1)).ln()
        })
        .collect();
    let whole: f64 = weights.iter().sum::<f64>().max(f64::MIN_POSITIVE);
    let best_score = passages.iter().map(|passage| passage.hit.score).fold(f64::MIN_POSITIVE, f64::max);
    let newest = passages.iter().map(|passage| passage.hit.created_at).max();
    for passage in passages.iter_mut() {
        let covered: f64 = passage.stretch.covers.iter().filter_map(|term| weights.get(*term)).sum();
        let asked_for = question.speaker == Some(passage.hit.role);
        let voice = match passage.hit.role {
            Role::Assistant => 0.25,
            Role::User => 0.2,
            Role::System | Role::Tool => 0.0,
        };
        let age = newest.map_or(0, |newest| newest.millis_since(passage.hit.created_at)) / 86_400_000;
        let recency = (-count(usize::try_from(age).unwrap_or(usize::MAX)) / RECENT_DAYS).exp();
        passage.rank = 3.0 * covered / whole
            + count(passage.stretch.phrases)
            + 0.8 * (passage.hit.score / best_score).clamp(0.0, 1.0)
            + voice
            + if passage.stretch.is_said { 0.5 } else { 0.0 }
            + if asked_for { 0.5 } else { 0.0 }
            + 0.2 * recency;
    }
    passages.sort_by(|a, b| {
        b.rank
            .partial_cmp(&a.rank)
            .unwrap_or(Ordering::Equal)
            .then_with(|| b.hit.created_at.cmp(&a.hit.created_at))
            .then_with(|| a.hit.message.cmp(&b.hit.message))
    });
}

/// Keeps the best of passages that say nearly the same, with a note of where else it stands.
fn merge(passages: Vec<Passage>) -> Vec<Passage> {
    let mut kept: Vec<Passage> = Vec::new();
    for passage in passages {
        let twin = kept.iter_mut().find(|known| likeness(&known.stretch.text, &passage.stretch.text) >= SAME);
        match twin {
            Some(twin) => twin.also.push(passage.hit),
            None => kept.push(passage),
        }
    }
    kept
}

/// Passages of a session beyond its best few come after the best of the others.
fn spread(passages: Vec<Passage>) -> Vec<Passage> {
    let mut shown: BTreeMap<SessionId, usize> = BTreeMap::new();
    let (mut first, rest): (Vec<_>, Vec<_>) = passages.into_iter().partition(|passage| {
        let count = shown.entry(passage.hit.session).or_default();
        *count += 1;
        *count <= OF_ONE_SESSION
    });
    first.extend(rest);
    first
}

/// What was answered to a user's message, in short.
fn reply_after(store: &dyn Store, hit: &SearchHit) -> StoreResult<Option<String>> {
    if hit.role != Role::User {
        return Ok(None);
    }
    let after = store.read_messages(hit.branch, MessageRange::From(hit.seq + 1, 3))?;
    Ok(after
        .iter()
        .take_while(|message| message.content.role != Role::User)
        .filter(|message| {
            message.content.role == Role::Assistant && message.content.agent.as_deref() != Some(ID)
        })
        .find_map(first_words))
}

/// The beginning of what a message says.
fn first_words(message: &Message) -> Option<String> {
    let text = message.content.parts.iter().find_map(|part| match part {
        Part::Text { text } if !text.trim().is_empty() => Some(text.trim()),
        _ => None,
    })?;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    Some(match line.char_indices().nth(200) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default().trim_end()),
        None => line,
    })
}
