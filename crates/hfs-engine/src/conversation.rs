use hfs_core::{BranchId, Position, Project, Seq, SessionId};

/// An open session in one front end: its branch, and the newest message that the user has seen.
///
/// Every append passes this position to the store, which rejects the append if the branch has newer messages. A message
/// therefore never follows one that its author has not seen. The first message of a new conversation creates its
/// session; a conversation without messages is not stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// `None` before the first message.
    pub(crate) place: Option<(SessionId, Position)>,
    pub(crate) project: Option<Project>,
    /// The id that the session will have; `None` for any.
    pub(crate) new_id: Option<SessionId>,
}

impl Conversation {
    /// A conversation without messages. Its session will belong to `project`.
    #[must_use]
    pub const fn new(project: Option<Project>) -> Self {
        Self { place: None, project, new_id: None }
    }

    /// Sets the id that the session of a conversation without messages will have.
    #[must_use]
    pub const fn with_session_id(mut self, id: SessionId) -> Self {
        self.new_id = Some(id);
        self
    }

    /// An existing session, seen up to `position`.
    #[must_use]
    pub const fn at(session: SessionId, position: Position) -> Self {
        Self { place: Some((session, position)), project: None, new_id: None }
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
