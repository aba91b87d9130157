//! A model for triads without a provider: it answers every task with passages of the saved sessions.
//!
//! Runs with this model are deterministic, cost no tokens and need no network.

use std::sync::Arc;

use async_trait::async_trait;
use hfs_core::{
    AgentError, ClaimDecision, MessageId, Part, PassthroughFields, Store, StoreResult, TextDelta, Usage,
};
use serde_json::json;

use crate::model::{Model, ModelReply, ModelRequest, StreamEvent, StreamHandler, TriadTask};
use crate::recall::{ID, MODEL_SETUP_HELP, Passage, Query, Retrieved, quote, references, retrieve};

/// How many passages are retrieved for all agents together.
const MAX_PASSAGES: usize = 12;
/// How many passages one answer quotes.
const MAX_QUOTED_PASSAGES: usize = 3;
/// Limit for a passage that is cited on one line, in characters.
const MAX_LINE: usize = 160;

pub(super) struct OfflineModel {
    query: Query,
    retrieved: Retrieved,
}

impl OfflineModel {
    /// Searches the store once for the whole run. Blocks on the store.
    pub fn search(store: &dyn Store, question: &str, except: Option<MessageId>) -> StoreResult<Arc<Self>> {
        let query = Query::parse(question);
        let retrieved = retrieve(store, &query, except, MAX_PASSAGES)?;
        Ok(Arc::new(Self { query, retrieved }))
    }

    pub fn references(&self) -> PassthroughFields {
        references(&self.retrieved.passages)
    }

    /// The answer, split into the deltas to stream.
    fn answer(&self, task: &TriadTask) -> Vec<String> {
        let answer = match task {
            TriadTask::Decompose => {
                let half = self.query.terms.len().div_ceil(2);
                let words: Vec<&str> = self.query.terms.iter().map(|term| term.word.as_str()).collect();
                let (first, second) = words.split_at_checked(half).unwrap_or((&words, &[]));
                json!({"tasks": [first.join(" "), second.join(" ")]}).to_string()
            }
            TriadTask::Research { half } => self.quotations(self.passages().skip(*half).step_by(2)),
            TriadTask::Propose => self.quotations(self.passages()),
            TriadTask::Critique => self.critique(),
            TriadTask::Position { claims } => {
                let position = self.passages().next().map_or_else(
                    || "No saved session is relevant to the question.".to_owned(),
                    |best| one_line(&best.snippet.text),
                );
                let quoted = self.passages().take(MAX_QUOTED_PASSAGES);
                let proposals: Vec<String> = quoted.map(|passage| one_line(&passage.snippet.text)).collect();
                json!({"position": position, "claims": claims, "proposals": proposals}).to_string()
            }
            TriadTask::Vote => json!({"vote": 1}).to_string(),
            TriadTask::Decide { contested } => {
                let decisions: Vec<_> = contested
                    .iter()
                    .map(|section| {
                        let (decision, reason) = if section.is_primary {
                            (ClaimDecision::Hold, "this triad is responsible for it")
                        } else {
                            (ClaimDecision::Concede, "another triad is responsible for it")
                        };
                        json!({"section": section.name, "decision": decision, "reason": reason})
                    })
                    .collect();
                json!({"decisions": decisions}).to_string()
            }
            TriadTask::Arbitrate { claimants, .. } => {
                let reason = "without a model, the first claimant gets the section";
                json!({"decision": "assign", "owner": claimants.first(), "reason": reason}).to_string()
            }
            TriadTask::Write { index, count, with_critique } => self.section(*index, *count, *with_critique),
            TriadTask::Integrate { sections } => return Self::integrate(sections),
        };
        vec![answer]
    }

    fn passages(&self) -> std::slice::Iter<'_, Passage> {
        self.retrieved.passages.iter()
    }

    fn quotations<'a>(&self, passages: impl Iterator<Item = &'a Passage>) -> String {
        let quotations: Vec<String> = passages.take(MAX_QUOTED_PASSAGES).map(quote).collect();
        if quotations.is_empty() {
            "No saved session is relevant to this.".to_owned()
        } else {
            quotations.join("\n")
        }
    }

    /// Which terms of the question were not found, and how old the passages are.
    fn critique(&self) -> String {
        let missing: Vec<&str> = (0..)
            .zip(&self.query.terms)
            .filter(|(index, _)| !self.passages().any(|passage| passage.snippet.terms.contains(index)))
            .map(|(_, term)| term.word.as_str())
            .collect();
        let oldest = self.passages().filter_map(|passage| passage.hit.created_at.known()).min();
        let age = oldest.map_or_else(String::new, |oldest| {
            format!(" The oldest passage is from {}.", oldest.to_jiff().strftime("%Y-%m-%d"))
        });
        if missing.is_empty() {
            format!("Every word of the question occurs in the passages found.{age}")
        } else {
            format!("No passage mentions {}.{age}", missing.join(", "))
        }
    }

    /// Distributes the passages over the sections round-robin, so that no passage is quoted twice.
    fn section(&self, index: usize, count: usize, with_critique: bool) -> String {
        let mut passages = self.passages().skip(index).step_by(count.max(1)).peekable();
        let text = if passages.peek().is_none() && self.passages().len() > 0 {
            "No further passages were found for this section.".to_owned()
        } else {
            self.quotations(passages)
        };
        if with_critique { format!("{}\n\n{text}", self.critique()) } else { text }
    }

    fn integrate(sections: &[(String, String)]) -> Vec<String> {
        let mut deltas: Vec<String> =
            sections.iter().map(|(name, text)| format!("## {name}\n\n{text}\n\n")).collect();
        deltas.push(format!(
            "---\n\nThis reply is from `{ID}`, not from a model: the triads only quote your saved \
             sessions. {MODEL_SETUP_HELP}\n"
        ));
        deltas
    }
}

fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    super::prompts::truncate(&line, MAX_LINE)
}

#[async_trait]
impl Model for OfflineModel {
    fn name(&self) -> &str {
        ID
    }

    async fn reply(
        &self,
        request: &ModelRequest,
        handler: StreamHandler<'_>,
    ) -> Result<ModelReply, AgentError> {
        if request.cancel.is_cancelled() {
            return Err(AgentError::Cancelled);
        }
        let deltas = request.task.as_ref().map(|task| self.answer(task)).unwrap_or_default();
        let parts = vec![Part::text(deltas.concat())];
        for delta in deltas {
            handler(StreamEvent::Delta(TextDelta::text(delta)));
        }
        Ok(ModelReply { parts, usage: Some(Usage::default()), ..ModelReply::default() })
    }
}
