//! The one shape in which every agent here asks a model, whatever is behind it.

use std::time::Duration;

use async_trait::async_trait;
use hfs_core::{AgentError, DeltaKind, Part, Usage};
use tokio_util::sync::CancellationToken;

/// Who speaks in a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaker {
    User,
    Assistant,
}

/// A piece of a turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    Text(String),
    /// An image as base64, for models that see.
    Image {
        media_type: String,
        base64: String,
    },
}

/// What one side says before the other speaks again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Turn {
    pub speaker: Speaker,
    pub pieces: Vec<Piece>,
}

/// What a model is asked.
#[derive(Debug, Clone, Default)]
pub(crate) struct ModelRequest {
    pub system: Option<String>,
    /// Begins and ends with the user, and the two alternate.
    pub turns: Vec<Turn>,
    pub max_tokens: Option<u32>,
    pub temperature: Option<f64>,
    pub cancel: CancellationToken,
    /// What this is about, for those that cannot read the words.
    pub task: Option<Task>,
}

/// A step of a run with triads, in a form that needs no understanding of language.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Task {
    /// Take the question apart for two workers.
    Decompose,
    /// Find out about one half of the question.
    Research { half: usize },
    /// Draft a position.
    Propose,
    /// Say what is wrong with a draft.
    Critique,
    /// Take a position and claim sections.
    Position { claims: Vec<String> },
    /// Choose one of so many positions.
    Vote { among: usize },
    /// Concede, revise or hold: contested sections, and whether the triad is there for them.
    Decide { contested: Vec<(String, bool)> },
    /// Decide who gets a section.
    Rule { claimants: Vec<String> },
    /// Write a section, or a part of it: the `place`th (from 0) of so many, with an eye for what is missing where
    /// the writers are critical by nature.
    Write { place: usize, of: usize, critical: bool },
    /// Make one reply of the sections.
    Integrate { sections: Vec<(String, String)> },
}

/// What is heard while a model works.
#[derive(Debug)]
pub(crate) enum Heard<'a> {
    /// The reply goes on.
    Piece(DeltaKind, &'a str),
    /// An attempt failed before the first piece, and the next one comes after a pause.
    Retrying(&'a AgentError, Duration),
}

/// Takes in what is heard.
pub(crate) type Ear<'a> = &'a mut (dyn FnMut(Heard<'_>) + Send);

/// A whole reply.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct ModelReply {
    /// Text and thinking, as they were heard.
    pub parts: Vec<Part>,
    pub usage: Option<Usage>,
    pub stop_reason: Option<String>,
}

/// Something that continues a conversation.
#[async_trait]
pub(crate) trait Model: Send + Sync {
    /// What its provider calls it.
    fn name(&self) -> &str;

    /// Asks, and tells `ear` what comes. What had been heard when it fails is the caller's to keep.
    async fn reply(&self, request: &ModelRequest, ear: Ear<'_>) -> Result<ModelReply, AgentError>;
}

/// Puts streamed pieces together to parts.
#[derive(Debug, Default)]
pub(crate) struct PartsBuilder {
    parts: Vec<Part>,
}

impl PartsBuilder {
    pub fn push(&mut self, kind: DeltaKind, more: &str) {
        match (kind, self.parts.last_mut()) {
            (DeltaKind::Text, Some(Part::Text { text }))
            | (DeltaKind::Thinking, Some(Part::Thinking { text, .. })) => text.push_str(more),
            (DeltaKind::Text, _) => self.parts.push(Part::text(more)),
            (DeltaKind::Thinking, _) => {
                self.parts.push(Part::Thinking { text: more.to_owned(), signature: None });
            }
        }
    }

    /// The proof of the last thought.
    pub fn sign(&mut self, more: &str) {
        if !matches!(self.parts.last(), Some(Part::Thinking { .. })) {
            self.parts.push(Part::Thinking { text: String::new(), signature: None });
        }
        if let Some(Part::Thinking { signature, .. }) = self.parts.last_mut() {
            signature.get_or_insert_default().push_str(more);
        }
    }

    pub fn finish(self) -> Vec<Part> {
        self.parts
    }
}
