use hfs_core::{BranchId, Position, Project, Seq, SessionId};

/// A session as one front end has it open: the branch, and the newest message that the user has seen on it.
///
/// Every message is sent with this position, and the store refuses it if the branch has newer messages. So a message
/// never lands after one that its author has not seen. A new conversation becomes a session with its first message; a
/// conversation without messages leaves nothing in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// `None` before the first message.
    pub(crate) place: Option<(SessionId, Position)>,
    pub(crate) project: Option<Project>,
}

impl Conversation {
    /// A conversation without messages. Its session will belong to `project`.
    #[must_use]
    pub const fn new(project: Option<Project>) -> Self {
        Self { place: None, project }
    }

    /// An existing session, seen up to `position`.
    #[must_use]
    pub const fn at(session: SessionId, position: Position) -> Self {
        Self { place: Some((session, position)), project: None }
    }

    /// Session id; `None` before the first message.
    #[must_use]
    pub fn session(&self) -> Option<SessionId> {
        self.place.map(|(session, _)| session)
    }

    /// Branch id; `None` before the first message.
    #[must_use]
    pub fn branch(&self) -> Option<BranchId> {
        self.place.map(|(_, position)| position.branch)
    }

    /// Seq of the newest message seen; 0 before the first.
    #[must_use]
    pub fn head(&self) -> Seq {
        self.place.map_or(0, |(_, position)| position.head)
    }
}
