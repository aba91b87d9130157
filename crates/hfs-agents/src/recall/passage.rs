//! The best stretch of a message, and how alike two stretches are.

use std::collections::BTreeSet;

use hfs_core::{Message, Part};

use super::question::{Question, words};

/// How many characters a quotation may have.
const LONGEST: usize = 420;
/// Of very long messages only so much is looked at.
const LOOKED_AT: usize = 200_000;

/// A stretch of a text and which terms of the question occur in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Stretch {
    pub text: String,
    /// Indices into the question's terms.
    pub covers: BTreeSet<usize>,
    /// How many of the question's phrases occur.
    pub phrases: usize,
    /// Whether somebody said it; otherwise it was thought, or came from a tool.
    pub is_said: bool,
}

/// The stretch of the message that covers most of the question; the earliest of equals.
pub(crate) fn best_stretch(message: &Message, question: &Question) -> Option<Stretch> {
    let mut best: Option<Stretch> = None;
    for (text, is_said) in message.content.parts.iter().filter_map(readable) {
        for window in windows(beginning(text, LOOKED_AT)) {
            let stretch = Stretch { is_said, ..measure(window, question) };
            let better = best.as_ref().is_none_or(|best| {
                (stretch.phrases, stretch.covers.len()) > (best.phrases, best.covers.len())
            });
            if better && (stretch.phrases > 0 || !stretch.covers.is_empty()) {
                best = Some(stretch);
            }
        }
    }
    best
}

/// What of a part a person would read, and whether it was said.
fn readable(part: &Part) -> Option<(&str, bool)> {
    match part {
        Part::Text { text } => Some((text, true)),
        Part::Thinking { text, .. } => Some((text, false)),
        Part::ToolResult { output, .. } => Some((output, false)),
        Part::ToolCall { .. } | Part::Attachment { .. } | Part::Opaque { .. } => None,
    }
}

/// The text up to a number of bytes, cut between characters.
pub(crate) fn beginning(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or(text)
}

/// Neighbouring lines, as many as fit into one quotation, each window beginning one line later; inside very
/// long lines, half a quotation later.
fn windows(text: &str) -> impl Iterator<Item = &str> {
    let mut starts = Vec::new();
    let mut line_start = 0;
    for line in text.split_inclusive('\n') {
        if !line.trim().is_empty() {
            let steps = (0..line.len().max(1))
                .step_by(LONGEST / 2)
                .take_while(|step| *step == 0 || line.len() - step > LONGEST / 4);
            starts.extend(steps.map(|step| line_start + word_start(line, step)));
        }
        line_start += line.len();
    }
    starts.into_iter().filter_map(move |start| {
        let rest = text.get(start..)?;
        let most = beginning(rest, LONGEST);
        if most.len() == rest.len() {
            return Some(most);
        }
        // Whole lines where there is one, else whole words.
        let end = most.rfind('\n').or_else(|| most.rfind(char::is_whitespace)).unwrap_or(most.len());
        most.get(..end)
    })
}

/// The beginning of the first word at or behind this place, or the place itself where no space is near.
fn word_start(line: &str, at: usize) -> usize {
    let at = line.floor_char_boundary(at);
    if at == 0 {
        return 0;
    }
    let near = line.get(at..).map_or("", |rest| beginning(rest, 40));
    near.find(char::is_whitespace).map_or(at, |space| at + space + 1)
}

fn measure(window: &str, question: &Question) -> Stretch {
    let lower = window.to_lowercase();
    let covers =
        words(&lower).filter_map(|word| question.terms.iter().position(|term| term.fits(word))).collect();
    let flat = lower.split_whitespace().collect::<Vec<_>>().join(" ");
    let phrases = question.phrases.iter().filter(|phrase| flat.contains(phrase.as_str())).count();
    Stretch { text: window.trim_end().to_owned(), covers, phrases, is_said: false }
}

/// How much two texts have in common: the share of three-word sequences that both have, from 0 to 1.
pub(crate) fn likeness(one: &str, other: &str) -> f64 {
    let shingles = |text: &str| -> BTreeSet<String> {
        let lower = text.to_lowercase();
        let all: Vec<&str> = words(&lower).collect();
        if all.len() < 3 {
            BTreeSet::from([all.join(" ")])
        } else {
            all.windows(3).map(|w| w.join(" ")).collect()
        }
    };
    let (one, other) = (shingles(one), shingles(other));
    let common = u32::try_from(one.intersection(&other).count()).unwrap_or(u32::MAX);
    let smaller = u32::try_from(one.len().min(other.len())).unwrap_or(u32::MAX);
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
    fn the_stretch_with_most_of_the_question_is_quoted() {
        let filler = "nothing of interest in this line\n".repeat(40);
        let text = format!("{filler}a login page\n{filler}the login bug is in the token refresh\n{filler}");
        let stretch = best_stretch(&message(&text), &Question::read("login bug token")).unwrap();
        assert!(stretch.text.contains("token refresh"), "{}", stretch.text);
        assert_eq!(stretch.covers.len(), 3);
        assert!(stretch.text.len() <= LONGEST);
    }

    #[test]
    fn one_endless_line_of_any_script_is_cut_between_characters() {
        let text = format!("needle {}", "日本語".repeat(5_000));
        let stretch = best_stretch(&message(&text), &Question::read("needle")).unwrap();
        assert!(stretch.text.len() <= LONGEST);
        let deep = format!("{} needle {}", "hay ".repeat(5_000), "日本語".repeat(5_000));
        let stretch = best_stretch(&message(&deep), &Question::read("needle")).unwrap();
        assert!(stretch.text.contains("needle") && stretch.text.len() <= LONGEST);
    }

    #[test]
    fn what_does_not_hold_a_term_gives_nothing() {
        assert_eq!(best_stretch(&message("other words"), &Question::read("needle")), None);
    }

    #[test]
    fn likeness_sees_copies_and_near_copies() {
        assert_eq!(likeness("one two three four", "One, two; three four!"), 1.0);
        assert!(likeness("we fixed the login bug today", "so we fixed the login bug today then") > 0.7);
        assert_eq!(likeness("completely other words here", "we fixed the login bug"), 0.0);
    }
}
