//! Saved sessions as the model of triads: what each agent says is made of passages, always the same ones.

use std::sync::Arc;

use async_trait::async_trait;
use hfs_core::{AgentError, DeltaKind, MessageId, Part, PassthroughFields, Store, StoreResult, Usage};
use serde_json::json;

use crate::model::{Ear, Heard, Model, ModelReply, ModelRequest, Task};
use crate::recall::{Found, ID, Passage, Question, quoted, references, retrieve, set_up};

/// How many passages all agents together have.
const GATHERED: usize = 12;
/// How many of them one text quotes.
const QUOTED: usize = 3;

/// Answers for agents from what was found for one question. It spends no tokens and does not wait.
pub(super) struct OfflineModel {
    question: Question,
    found: Found,
}

impl OfflineModel {
    /// Searches once, for the whole run. Blocks.
    pub fn search(store: &dyn Store, text: &str, except: Option<MessageId>) -> StoreResult<Arc<Self>> {
        let question = Question::read(text);
        let found = retrieve(store, &question, except, GATHERED)?;
        Ok(Arc::new(Self { question, found }))
    }

    /// Where the passages stand.
    pub fn references(&self) -> PassthroughFields {
        references(&self.found)
    }

    fn answer(&self, task: &Task) -> Vec<String> {
        let said = match task {
            Task::Decompose => {
                let half = self.question.terms.len().div_ceil(2);
                let words: Vec<&str> = self.question.terms.iter().map(|term| term.word.as_str()).collect();
                let (first, second) = words.split_at_checked(half).unwrap_or((&words, &[]));
                json!({"tasks": [first.join(" "), second.join(" ")]}).to_string()
            }
            Task::Research { half } => self.quotations(self.passages().skip(*half).step_by(2)),
            Task::Propose => self.quotations(self.passages()),
            Task::Critique => self.critique(),
            Task::Position { claims } => {
                let position = self.passages().next().map_or_else(
                    || "No saved session bears on the question.".to_owned(),
                    |best| first_line(&best.stretch.text),
                );
                let proposals: Vec<String> =
                    self.passages().take(QUOTED).map(|passage| first_line(&passage.stretch.text)).collect();
                json!({"position": position, "claims": claims, "proposals": proposals}).to_string()
            }
            Task::Vote { .. } => json!({"vote": 1}).to_string(),
            Task::Decide { contested } => {
                let decisions: Vec<_> = contested
                    .iter()
                    .map(|(section, primary)| {
                        json!({"section": section, "decision": if *primary { "hold" } else { "concede" }})
                    })
                    .collect();
                json!({"decisions": decisions}).to_string()
            }
            Task::Rule { claimants } => {
                let reason = "the first to claim it has it, since no model weighs the cases";
                json!({"decision": "assign", "owner": claimants.first(), "reason": reason}).to_string()
            }
            Task::Write { place, of, critical } => self.section(*place, *of, *critical),
            Task::Integrate { sections } => return self.reply(sections),
        };
        vec![said]
    }

    fn passages(&self) -> std::slice::Iter<'_, Passage> {
        self.found.passages.iter()
    }

    fn quotations<'a>(&self, passages: impl Iterator<Item = &'a Passage>) -> String {
        let quotations: Vec<String> = passages.take(QUOTED).map(quoted).collect();
        if quotations.is_empty() {
            "No saved session bears on this.".to_owned()
        } else {
            quotations.join("\n")
        }
    }

    /// What the saved sessions do not say.
    fn critique(&self) -> String {
        let missing: Vec<&str> = (0..)
            .zip(&self.question.terms)
            .filter(|(at, _)| !self.passages().any(|passage| passage.stretch.covers.contains(at)))
            .map(|(_, term)| term.word.as_str())
            .collect();
        let oldest = self.passages().map(|passage| passage.hit.created_at).min();
        let age = oldest.map_or_else(String::new, |oldest| {
            format!(" The oldest of what was found is of {}.", oldest.to_jiff().strftime("%Y-%m-%d"))
        });
        if missing.is_empty() {
            format!("Every word of the question occurs in what was found.{age}")
        } else {
            format!("Nothing that was found mentions {}.{age}", missing.join(", "))
        }
    }

    /// Each section has passages of its own: those that are left when the others take their turns, too.
    fn section(&self, place: usize, of: usize, critical: bool) -> String {
        let mut mine = self.passages().skip(place).step_by(of.max(1)).peekable();
        let quoted = if mine.peek().is_none() && self.passages().len() > 0 {
            "Nothing further was found that bears on this.".to_owned()
        } else {
            self.quotations(mine)
        };
        if critical { format!("{}\n\n{quoted}", self.critique()) } else { quoted }
    }

    fn reply(&self, sections: &[(String, String)]) -> Vec<String> {
        let mut pieces: Vec<String> =
            sections.iter().map(|(name, text)| format!("## {name}\n\n{text}\n\n")).collect();
        pieces.push(format!(
            "---\n\nThis is `{ID}` in the place of a model: the triads above quote your saved sessions and \
             have thought nothing themselves. {}\n",
            set_up()
        ));
        pieces
    }
}

fn first_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    super::prompts::shortened(&line, 160)
}

#[async_trait]
impl Model for OfflineModel {
    fn name(&self) -> &str {
        ID
    }

    async fn reply(&self, request: &ModelRequest, ear: Ear<'_>) -> Result<ModelReply, AgentError> {
        if request.cancel.is_cancelled() {
            return Err(AgentError::Cancelled);
        }
        let pieces = request.task.as_ref().map(|task| self.answer(task)).unwrap_or_default();
        for piece in &pieces {
            ear(Heard::Piece(DeltaKind::Text, piece));
        }
        Ok(ModelReply {
            parts: vec![Part::text(pieces.concat())],
            usage: Some(Usage::default()),
            stop_reason: None,
        })
    }
}
