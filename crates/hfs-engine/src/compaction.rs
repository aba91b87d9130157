//! Compaction: a summary replaces the beginning of a conversation in the model's context.
//!
//! The summary is an ordinary message of the branch with [`MessageFlag::CompactSummary`], so the whole history stays in the
//! store, can be read and searched, and is used again after a rewind to a place before the summary.

use std::sync::Arc;

use hfs_core::{
    AgentError, BranchId, ContextLimit, ErrorExt, ErrorKind, Message, MessageDraft, MessageFlag,
    MessageRange, ModelContext, Part, Position, Role, RunId, RunRequest, Seq, SessionId, Store, StoreResult,
    Suggestion, Usage, estimate_tokens,
};
use tokio_util::sync::CancellationToken;

use crate::context::{AgentContext, ContextBudget, read_context};
use crate::reply_guard::ExchangeScope;
use crate::{CompactionMode, Conversation, Engine, EngineError, Observer, Update};

/// A shorter conversation fits into the context of every model, so no server is asked for its limit.
const SHORT_CONVERSATION: u64 = 3_000;

/// Tokens of a part of a conversation that is summarized at once, if the model's limit is not known.
const PART_TOKENS: u64 = 100_000;

/// Number of messages in one read.
const PAGE: u32 = 100;

/// A conversation was compacted.
#[derive(Debug)]
pub struct Compaction {
    /// The summary, the newest message of the branch.
    pub summary: Message,
    /// Number of messages that it replaces in the context of the model.
    pub messages: u64,
    /// Estimated tokens of these messages.
    pub tokens: u64,
}

/// Error of [`Engine::compact`]. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompactError {
    /// The conversation is empty, or has nothing after its newest summary.
    #[error("there is nothing to compact: the conversation is short")]
    TooShort,
    /// The agent could not summarize the conversation.
    #[error("the conversation was not compacted")]
    Agent(#[source] AgentError),
    /// The conversation could not be read, or the summary could not be saved.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl ErrorExt for CompactError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::TooShort => ErrorKind::Conflict,
            Self::Agent(error) => error.kind(),
            Self::Engine(error) => error.kind(),
        }
    }

    fn suggestion(&self) -> Option<Suggestion> {
        match self {
            Self::TooShort => None,
            Self::Agent(error) => error.suggestion(),
            Self::Engine(error) => error.suggestion(),
        }
    }
}

/// The messages after the newest summary of a branch, with that summary.
struct Uncompacted {
    /// Seq of the first message.
    first: Seq,
    /// Number of messages without the summary.
    messages: u64,
    tokens: u64,
}

impl Engine {
    /// Summarizes the conversation with the agent's model, and appends the summary to the branch. From then on, the agent is
    /// given the summary instead of the messages before it.
    ///
    /// A conversation that is longer than the model's context is summarized in parts. If the future is dropped, nothing is
    /// written.
    ///
    /// # Errors
    /// See [`CompactError`].
    pub async fn compact(
        &self,
        conversation: &mut Conversation,
        observer: &dyn Observer,
        cancel: CancellationToken,
    ) -> Result<Compaction, CompactError> {
        let Some((session, at)) = conversation.place else { return Err(CompactError::TooShort) };
        self.background().wait(session).await;
        let found = self
            .run_blocking(move |engine| Ok(find_uncompacted(engine.store().as_ref(), at.branch, at.head)?))
            .await?;
        if found.messages < 2 {
            return Err(CompactError::TooShort);
        }
        observer.update(Update::Compacting { messages: found.messages });
        let (text, usage) = self.summarize(session, at, found.first, cancel).await?;
        let description = self.agent().describe();
        let mut draft = MessageDraft {
            agent: Some(description.name),
            model: description.model,
            usage,
            ..MessageDraft::new(Role::User, vec![Part::text(text)], self.clock().now())
        };
        draft.set_flag(MessageFlag::CompactSummary);

        conversation.place = Some((session, Position { head: at.head + 1, ..at }));
        let stored = draft.clone();
        let scope = ExchangeScope::new(self, session);
        let appended = scope
            .run_blocking(move |engine| Ok(engine.store().append(at, &[stored])?))
            .await
            .map_err(|error| {
                conversation.place = Some((session, at));
                CompactError::Engine(error)
            })?;
        let summary = Message { branch: at.branch, seq: appended.first, content: draft };
        observer.update(Update::Compacted(Arc::new(summary.clone())));
        Ok(Compaction { summary, messages: found.messages, tokens: found.tokens })
    }

    /// Summarizes the messages from `first` on, part by part: each summary includes the one before.
    async fn summarize(
        &self,
        session: SessionId,
        at: Position,
        first: Seq,
        cancel: CancellationToken,
    ) -> Result<(String, Option<Usage>), CompactError> {
        let mut limit = self.agent().context_limit().await;
        let mut part_tokens = part_size(limit);
        let mut summary: Option<(String, Option<Usage>)> = None;
        let mut next = first;
        while next <= at.head {
            let earlier = summary.as_ref().map(|(text, _)| text.clone());
            let room = part_tokens.saturating_sub(earlier.as_deref().map_or(0, estimate_tokens));
            let part = self
                .run_blocking(move |engine| {
                    Ok(read_part(engine.store().as_ref(), at.branch, next, at.head, room)?)
                })
                .await?;
            let Some(last) = part.last().map(|message| message.seq) else { break };
            let is_single = part.len() == 1;
            let mut history = part;
            if let (Some(text), Some(oldest)) = (earlier, history.first()) {
                let mut draft = MessageDraft::user(text, oldest.content.created_at);
                draft.set_flag(MessageFlag::CompactSummary);
                history.insert(0, Message { branch: at.branch, seq: oldest.seq, content: draft });
            }
            let request =
                RunRequest::new(RunId::generate(), session, at.branch, history).with_cancel(cancel.clone());
            let outcome = match self.agent().summarize(request).await {
                Ok(outcome) => outcome,
                // The refusal may have named the limit. Otherwise, half as much is tried.
                Err(error) if error.is_context_refusal() && !is_single => {
                    let known = self.agent().context_limit().await;
                    part_tokens = if known == limit { part_tokens / 2 } else { part_size(known) };
                    limit = known;
                    continue;
                }
                Err(error) => return Err(CompactError::Agent(error)),
            };
            let text = outcome.message.parts.iter().filter_map(|part| match part {
                Part::Text { text } => Some(text.trim()),
                _ => None,
            });
            let text = text.collect::<Vec<_>>().join("\n\n");
            let usage = match &summary {
                None => outcome.message.usage,
                Some((_, before)) => before.zip(outcome.message.usage).map(|(mut sum, usage)| {
                    sum += usage;
                    sum
                }),
            };
            summary = Some((text, usage));
            next = last + 1;
        }
        summary.ok_or(CompactError::TooShort)
    }

    /// The history for the agent at the position of the conversation. Compacts the conversation before if `message`
    /// would not fit. Never fails because of the compaction: then the beginning is left out.
    pub(crate) async fn prepare_context(
        &self,
        conversation: &mut Conversation,
        message: &MessageDraft,
        observer: &dyn Observer,
        cancel: &CancellationToken,
    ) -> ContextResult {
        if let Some((session, _)) = conversation.place {
            // A reply of a dropped exchange is part of the history when it is finalized.
            self.background().wait(session).await;
        }
        let next_message = Some((message.estimated_tokens(), message.searchable_text().chars().count()));
        let context = self.context_within_limit(conversation, next_message).await?;
        let limit = context.update.limit;
        let is_full = limit.is_some_and(|limit| context.whole_tokens() > nine_tenths(limit));
        if !is_full || self.settings().compaction == CompactionMode::Manual {
            return Ok(context);
        }
        match self.compact(conversation, observer, cancel.clone()).await {
            Ok(_) => self.context_at(position(conversation), limit, next_message).await,
            Err(CompactError::TooShort | CompactError::Agent(AgentError::Cancelled)) => Ok(context),
            Err(error) => {
                observer.update(Update::CompactionFailed { reason: hfs_core::error_chain(&error) });
                Ok(context)
            }
        }
    }

    /// Reads the history at the position of the conversation. Asks the server for the limit of the model if it is not known
    /// and the conversation is long.
    pub(crate) async fn context_within_limit(
        &self,
        conversation: &Conversation,
        next_message: Option<(u64, usize)>,
    ) -> ContextResult {
        let known = self.agent().describe().context;
        let context = self.context_at(position(conversation), known.limit(), next_message).await?;
        // A first message cannot be shortened.
        let is_long = !context.messages.is_empty() && context.whole_tokens() >= SHORT_CONVERSATION;
        if known != ModelContext::Unknown || !is_long {
            return Ok(context);
        }
        match self.agent().context_limit().await {
            Some(limit) => self.context_at(position(conversation), Some(limit), next_message).await,
            None => Ok(context),
        }
    }

    /// Reads the history up to a position; `None` is that of a conversation without messages.
    pub(crate) async fn context_at(
        &self,
        at: Option<Position>,
        limit: Option<ContextLimit>,
        next_message: Option<(u64, usize)>,
    ) -> ContextResult {
        let description = self.agent().describe();
        let budget = ContextBudget {
            agent: description.name,
            model: description.model,
            limit,
            chars: self.settings().context_chars,
            next_message,
        };
        let Some(at) = at else { return Ok(AgentContext::empty(&budget)) };
        self.run_blocking(move |engine| {
            Ok(read_context(engine.store().as_ref(), at.branch, at.head, &budget)?)
        })
        .await
    }
}

fn position(conversation: &Conversation) -> Option<Position> {
    conversation.place.map(|(_, at)| at)
}

/// The result of reading a history.
pub type ContextResult = Result<AgentContext, EngineError>;

/// Tokens of a part that is summarized at once.
fn part_size(limit: Option<ContextLimit>) -> u64 {
    limit.map_or(PART_TOKENS, nine_tenths)
}

/// Tokens of the conversation from which on the context counts as full.
const fn nine_tenths(limit: ContextLimit) -> u64 {
    limit.for_conversation() / 10 * 9
}

fn find_uncompacted(store: &dyn Store, branch: BranchId, head: Seq) -> StoreResult<Uncompacted> {
    let mut found = Uncompacted { first: head + 1, messages: 0, tokens: 0 };
    let mut before = head + 1;
    while before > 1 {
        let page = store.read_messages(branch, MessageRange::Before(before, PAGE))?;
        let Some(first) = page.first() else { break };
        before = first.seq;
        for message in page.iter().rev() {
            found.first = message.seq;
            found.tokens = found.tokens.saturating_add(message.content.estimated_tokens());
            if message.content.has_flag(MessageFlag::CompactSummary) {
                return Ok(found);
            }
            found.messages += 1;
        }
    }
    Ok(found)
}

/// Reads the messages from `first` to `last` that fit, at least one.
fn read_part(
    store: &dyn Store,
    branch: BranchId,
    first: Seq,
    last: Seq,
    room: u64,
) -> StoreResult<Vec<Message>> {
    let mut part: Vec<Message> = Vec::new();
    let mut tokens = 0_u64;
    let mut next = first;
    while next <= last {
        let page = store.read_messages(branch, MessageRange::From(next, PAGE))?;
        if page.is_empty() {
            break;
        }
        for message in page {
            next = message.seq + 1;
            tokens = tokens.saturating_add(message.content.estimated_tokens());
            if message.seq > last || (tokens > room && !part.is_empty()) {
                return Ok(part);
            }
            part.push(message);
        }
    }
    Ok(part)
}
