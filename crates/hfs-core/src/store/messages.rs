use crate::{
    BranchId, Message, MessageDraft, MessageId, PieceKind, Position, SearchQuery, SearchResults, Seq,
    SessionId, Timestamp,
};

use super::StoreResult;

/// What an append did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// Where the branch is now.
    pub position: Position,
    /// The seq of the first message that was added.
    pub first: Seq,
}

/// A stretch of a branch's history, its ancestors' share included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageRange {
    /// The newest so many.
    Newest(u32),
    /// At most so many, directly before this seq.
    Before(Seq, u32),
    /// At most so many, from this seq on.
    From(Seq, u32),
}

/// A piece of a reply that is arriving.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplyPiece {
    /// What it continues. A change of kind begins a new part.
    pub kind: PieceKind,
    /// The text to add.
    pub text: String,
}

/// The right to go on writing a reply. It ends with its process: whoever finds a reply in progress whose writer
/// is gone sees it as interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReplyHandle {
    /// The reply.
    pub message: MessageId,
    /// Its branch.
    pub branch: BranchId,
    /// Its place.
    pub seq: Seq,
}

/// Messages.
pub trait MessageStore {
    /// Adds messages behind `at`, all or none. Durable when it returns. If the session has an automatic name
    /// that no message stands behind yet, the caller renames it.
    ///
    /// # Errors
    /// `Moved` when the branch's head is not `at.head`; `Busy` when a reply is being written there; `NotFound`
    /// for the branch; `Conflict` for an id that exists; `Unavailable` when it cannot be saved now.
    fn append(&self, at: Position, messages: &[MessageDraft]) -> StoreResult<Appended>;

    /// Adds an empty reply with status `streaming`, to be extended. `at` as for [`append`](Self::append).
    ///
    /// # Errors
    /// As [`append`](Self::append).
    fn begin_reply(&self, at: Position, reply: &MessageDraft) -> StoreResult<ReplyHandle>;

    /// Adds pieces to a reply. Durable when it returns. Costs what the pieces cost, not what the reply has
    /// become.
    ///
    /// # Errors
    /// `Conflict` when the reply is not in progress any more; `Unavailable` when it cannot be saved now.
    fn extend_reply(&self, reply: ReplyHandle, pieces: &[ReplyPiece]) -> StoreResult<()>;

    /// Ends a reply with its final form (its id and place stay).
    ///
    /// # Errors
    /// As [`extend_reply`](Self::extend_reply).
    fn finish_reply(&self, reply: ReplyHandle, message: &MessageDraft) -> StoreResult<()>;

    /// A stretch of a branch's history, in order of seq. A reply whose writer is gone comes as `interrupted`,
    /// with what had arrived; one that is being written comes as `streaming`, with what has arrived.
    ///
    /// # Errors
    /// `NotFound` for the branch.
    fn read_messages(&self, branch: BranchId, range: MessageRange) -> StoreResult<Vec<Message>>;

    /// One message.
    ///
    /// # Errors
    /// `NotFound`.
    fn get_message(&self, id: MessageId) -> StoreResult<Message>;

    /// Marks as interrupted what is still marked as streaming and whose writer is gone, in one session or in
    /// all. Returns how many there were.
    ///
    /// # Errors
    /// As the store's state has it.
    fn settle_interrupted(&self, session: Option<SessionId>, at: Timestamp) -> StoreResult<u64>;
}

/// Full-text search.
pub trait SearchIndex {
    /// The best hits in sessions that are not in the trash. Everything that was ever acknowledged is found.
    ///
    /// # Errors
    /// As the store's state has it; no text is invalid.
    fn search(&self, query: &SearchQuery) -> StoreResult<SearchResults>;
}
