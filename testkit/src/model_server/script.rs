//! What the server is to say.

use std::time::Duration;

use hfs_core::Usage;

/// One step of a streamed answer.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Wait(Duration),
    Text(String),
    Thinking(String),
    /// Bytes that no protocol knows.
    Raw(String),
    /// The connection breaks.
    Break,
    /// The body ends in good order, but without what ends an answer.
    Stop,
    /// Nothing more comes, and the connection stays.
    Hang,
}

/// An answer to one request.
#[derive(Debug, Clone)]
pub struct Script {
    pub(super) before: Duration,
    pub(super) refusal: Option<Refusal>,
    pub(super) steps: Vec<Step>,
    pub(super) usage: Option<Usage>,
    pub(super) stop_reason: Option<String>,
}

/// An answer that is no stream.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Script {
    const fn empty() -> Self {
        Self { before: Duration::ZERO, refusal: None, steps: Vec::new(), usage: None, stop_reason: None }
    }

    /// The whole answer in one piece.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::empty().then_text(text)
    }

    /// An answer in pieces.
    #[must_use]
    pub fn pieces<T: Into<String>>(pieces: impl IntoIterator<Item = T>) -> Self {
        pieces.into_iter().fold(Self::empty(), Self::then_text)
    }

    /// A refusal with this status and a body in the protocol's own form, holding `message`.
    #[must_use]
    pub fn status(status: u16, message: &str) -> Self {
        let body = serde_json::json!({
            "type": "error", "error": {"type": "api_error", "message": message, "code": status}
        });
        let refusal = Refusal { status, headers: Vec::new(), body: body.to_string() };
        Self { refusal: Some(refusal), ..Self::empty() }
    }

    /// Takes the request and never answers.
    #[must_use]
    pub fn silence() -> Self {
        Self { before: Duration::MAX, ..Self::empty() }
    }

    /// Adds a header to a refusal.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        if let Some(refusal) = &mut self.refusal {
            refusal.headers.push((name.to_owned(), value.into()));
        }
        self
    }

    /// Waits so long before anything is sent, headers included.
    #[must_use]
    pub const fn after(mut self, wait: Duration) -> Self {
        self.before = wait;
        self
    }

    /// Then waits.
    #[must_use]
    pub fn then_wait(self, wait: Duration) -> Self {
        self.step(Step::Wait(wait))
    }

    /// Then says this.
    #[must_use]
    pub fn then_text(self, text: impl Into<String>) -> Self {
        self.step(Step::Text(text.into()))
    }

    /// Then thinks this.
    #[must_use]
    pub fn then_thinking(self, text: impl Into<String>) -> Self {
        self.step(Step::Thinking(text.into()))
    }

    /// Then sends a chunk whose payload is no JSON.
    #[must_use]
    pub fn then_garbage(self) -> Self {
        self.step(Step::Raw("{\"choices\": [{\"delta\": ".into()))
    }

    /// Then breaks the connection.
    #[must_use]
    pub fn then_break(self) -> Self {
        self.step(Step::Break)
    }

    /// Then ends the body without what ends an answer.
    #[must_use]
    pub fn then_stop(self) -> Self {
        self.step(Step::Stop)
    }

    /// Then sends nothing more and keeps the connection.
    #[must_use]
    pub fn then_hang(self) -> Self {
        self.step(Step::Hang)
    }

    /// Reports these tokens instead of counting them.
    #[must_use]
    pub const fn usage(mut self, prompt_tokens: u64, completion_tokens: u64) -> Self {
        self.usage = Some(Usage { prompt_tokens, completion_tokens });
        self
    }

    /// Gives this reason for the end, in the protocol's words.
    #[must_use]
    pub fn stop_reason(mut self, reason: &str) -> Self {
        self.stop_reason = Some(reason.to_owned());
        self
    }

    fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }
}
