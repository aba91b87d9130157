use hfs_core::{BranchId, Position, Project, Seq, SessionId};

/// A session as one front end has it open: which branch, and how much of it has been seen.
///
/// What is sent states this position, so that nobody's words interleave with another's. A new conversation
/// becomes a session with its first message; one that nothing is said in leaves no trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    pub(crate) place: Option<(SessionId, Position)>,
    pub(crate) project: Option<Project>,
}

impl Conversation {
    /// A conversation that has not begun.
    #[must_use]
    pub const fn new(project: Option<Project>) -> Self {
        Self { place: None, project }
    }

    /// An existing session, seen up to `position`.
    #[must_use]
    pub const fn at(session: SessionId, position: Position) -> Self {
        Self { place: Some((session, position)), project: None }
    }

    /// The session, once there is one.
    #[must_use]
    pub fn session(&self) -> Option<SessionId> {
        self.place.map(|(session, _)| session)
    }

    /// The branch, once there is one.
    #[must_use]
    pub fn branch(&self) -> Option<BranchId> {
        self.place.map(|(_, position)| position.branch)
    }

    /// The newest seq that was seen; 0 before the first.
    #[must_use]
    pub fn head(&self) -> Seq {
        self.place.map_or(0, |(_, position)| position.head)
    }

    pub(crate) fn advance(&mut self, head: Seq) {
        if let Some((_, position)) = &mut self.place {
            position.head = head;
        }
    }
}
