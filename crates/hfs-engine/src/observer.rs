use std::sync::Arc;

use hfs_core::{AgentDescription, Event, Message, ReplyDelta, Role, SessionId};

/// Progress of an exchange, for display.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Update {
    /// The first message of a conversation created its session.
    SessionCreated {
        /// Session id.
        session: SessionId,
        /// Session name.
        name: String,
    },
    /// The beginning of the conversation is being summarized, because it no longer fits into the model's context.
    Compacting {
        /// Number of messages that the summary will replace in the context.
        messages: u64,
    },
    /// The summary is durable.
    Compacted(Arc<Message>),
    /// The conversation could not be summarized. The exchange continues without its beginning.
    CompactionFailed {
        /// Human-readable reason.
        reason: String,
    },
    /// The user's message is durable.
    Sent(Arc<Message>),
    /// The agent starts to reply.
    ReplyStarted(AgentDescription),
    /// The next message of the turn begins: the following deltas belong to it. Not sent for the reply of an agent that
    /// writes only one message.
    MessageStarted {
        /// Role of the message.
        role: Role,
    },
    /// The newest message of the turn continues with this.
    Delta(ReplyDelta),
    /// The oldest message of the turn that was not complete is complete and durable. Its content may differ from what was
    /// streamed. The next message may have begun already.
    MessageEnded(Arc<Message>),
    /// The run recorded an event.
    Event(Arc<Event>),
    /// All text of the reply that arrived so far is durable.
    Saved,
    /// The newest text of the reply could not be saved. The engine keeps it in memory and retries.
    NotSaved {
        /// Human-readable reason.
        reason: String,
    },
    /// A checkpoint, or the record of the run, could not be saved. The exchange continues.
    CheckpointFailed {
        /// Human-readable reason.
        reason: String,
    },
}

/// Receives the updates of one exchange.
///
/// The engine calls it from the tasks of the exchange, so it must not block. Calls may follow after the future of
/// [`Engine::send`](crate::Engine::send) was dropped. Any `Fn(Update)` is an observer.
pub trait Observer: Send + Sync {
    /// Handles an update.
    fn update(&self, update: Update);
}

impl<F: Fn(Update) + Send + Sync> Observer for F {
    fn update(&self, update: Update) {
        self(update);
    }
}
