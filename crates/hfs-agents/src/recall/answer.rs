//! Passages as Markdown.

use hfs_core::SearchHit;

use super::question::Question;
use super::retrieve::{Found, Passage};

/// How a model is set up, for everyone who meets this agent first.
const SET_UP: &str = "For answers by a model, set `ANTHROPIC_API_KEY`, `OPENAI_API_KEY` or `GEMINI_API_KEY` in the \
    environment, or start Ollama on this machine; `hfs config set model PROVIDER/MODEL` chooses another one.";

/// How a model is set up, in one or two sentences.
pub(crate) const fn set_up() -> &'static str {
    SET_UP
}

/// A passage as a quotation under the place where it stands.
pub(crate) fn quoted(passage: &Passage) -> String {
    format!("- {}\n\n{}", place(&passage.hit), quotation(&passage.stretch.text))
}

/// The answer in pieces, in the order in which they are streamed.
pub(super) fn pieces(question: &Question, found: &Found, store_is_empty: bool) -> Vec<String> {
    if store_is_empty {
        return vec![
            "There are no other saved sessions to search yet.\n\n".to_owned(),
            "I am `recall`: not a model, but a search over your saved sessions. Bring conversations in with \
             `hfs import ~/.claude` (or `~/.codex`, or any export), and ask again.\n\n"
                .to_owned(),
            format!("{SET_UP}\n"),
        ];
    }
    let searched = searched_for(question);
    if found.passages.is_empty() {
        return vec![
            format!("Nothing in your saved sessions matches {searched}.\n\n"),
            "I am `recall`: not a model, but a search over your saved sessions. Try other words or fewer of \
             them; `hfs search` looks for all words at once, and `hfs import ~/.claude` brings in \
             conversations held elsewhere.\n\n"
                .to_owned(),
            format!("{SET_UP}\n"),
        ];
    }
    let best = found.passages.iter().map(|passage| passage.stretch.covers.len()).max().unwrap_or(0);
    let opening = if 2 * best <= question.terms.len() && question.terms.len() > 2 {
        format!("Nothing in your saved sessions has most of {searched}. The nearest that there is:\n\n")
    } else {
        format!("From your saved sessions, for {searched}:\n\n")
    };
    let mut pieces = vec![opening];
    pieces.extend((1..).zip(&found.passages).map(|(number, passage)| entry(number, passage)));
    let messages = if found.total == 1 {
        "1 message matches".to_owned()
    } else {
        format!("{} messages match", found.total)
    };
    pieces.push(format!(
        "---\n\nI am `recall`: not a model, but a search over all your saved sessions; {messages}, the best \
         are quoted above. `hfs session show SESSION` shows one whole. {SET_UP}\n"
    ));
    pieces
}

fn searched_for(question: &Question) -> String {
    let quoted = question.phrases.iter().map(|phrase| format!("\"{}\"", plain(phrase)));
    let words = question.terms.iter().map(|term| format!("*{}*", plain(&term.word)));
    words.chain(quoted).collect::<Vec<_>>().join(", ")
}

fn entry(number: usize, passage: &Passage) -> String {
    let mut entry = format!("{number}. {}\n\n", place(&passage.hit));
    entry.push_str(&quotation(&passage.stretch.text));
    if let Some(reply) = &passage.reply {
        entry.push_str("\n   The reply began:\n\n");
        entry.push_str(&quotation(reply));
    }
    if !passage.also.is_empty() {
        let places: Vec<String> = passage.also.iter().take(3).map(short_place).collect();
        let more = passage.also.len().saturating_sub(places.len());
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        entry.push_str(&format!("\n   Nearly the same in {}{more}.\n", places.join(", ")));
    }
    entry.push('\n');
    entry
}

/// Where a passage stands: session name, short id, message number, speaker, day.
pub(super) fn place(hit: &SearchHit) -> String {
    let day = hit.created_at.to_jiff().strftime("%Y-%m-%d");
    format!("**{}** ({}, {}, {day})", plain(&hit.session_name), short_place(hit), hit.role)
}

pub(super) fn short_place(hit: &SearchHit) -> String {
    format!("`{}` #{}", hit.session.short().shown(), hit.seq)
}

/// A block quotation inside a list item. Every line is marked, so that nothing in it can end it.
fn quotation(text: &str) -> String {
    text.lines().map(|line| format!("   > {}\n", line.trim_end())).collect()
}

/// Text without the power to be Markdown.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            plain.push(' ');
        } else {
            if "\\`*_[]<>#|~".contains(c) {
                plain.push('\\');
            }
            plain.push(c);
        }
    }
    plain
}
