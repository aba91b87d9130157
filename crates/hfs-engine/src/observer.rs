use std::sync::Arc;

use hfs_core::{AgentDescription, DeltaKind, Event, Message, SessionId};

/// What a front end is told while a message is on its way.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Update {
    /// The session was made: this is the first thing said in it.
    SessionCreated {
        /// Its identity.
        session: SessionId,
        /// Its name.
        name: String,
    },
    /// The user's message is durable.
    Sent(Arc<Message>),
    /// This agent answers.
    Answering(AgentDescription),
    /// The reply goes on.
    Reply {
        /// What this continues.
        kind: DeltaKind,
        /// The text to add.
        text: String,
    },
    /// Something happened in the run.
    Event(Arc<Event>),
    /// Everything that was said so far is durable.
    Saved,
    /// The newest part of the reply could not be saved; it is kept and tried again.
    NotSaved {
        /// Why.
        reason: String,
    },
    /// A checkpoint could not be made. The conversation goes on.
    CheckpointFailed {
        /// Why.
        reason: String,
    },
}

/// Listens to one exchange. Calls come from the exchange's own tasks and must not block.
pub trait Observer: Send + Sync {
    /// Something changed.
    fn update(&self, update: Update);
}

impl<F: Fn(Update) + Send + Sync> Observer for F {
    fn update(&self, update: Update) {
        self(update);
    }
}
