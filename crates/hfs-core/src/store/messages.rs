use crate::{
    BranchId, DeltaKind, Message, MessageDraft, MessageId, Position, SearchQuery, SearchResults, Seq,
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
pub struct ReplyDelta {
    /// What it continues. A change of kind begins a new part.
    pub kind: DeltaKind,
    /// The text to add.
    pub text: String,
}

/// The right to go on writing a reply. It ends with the store instance that gave it (its process, at the latest):
/// whoever finds a reply in progress whose writer is gone sees it as interrupted.
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
///
/// What is written moves the session's `updated_at` forward to the newest message's `created_at` (never back).
/// Messages refer to attachments that are stored already; other references are `Invalid`.
pub trait MessageStore {
    /// Adds messages behind `at`, all or none. Durable when it returns. If the session has an automatic name
    /// that no message stands behind yet, the caller renames it. One that comes as `streaming` has no writer and
    /// is kept as `interrupted`.
    ///
    /// # Errors
    /// `NotFound` for the branch; `HeadMismatch` when its head is not `at.head`; else `Locked` when a reply is being
    /// written there; `Conflict` for an id that exists, or when the branch is undone (nobody's words go where
    /// they are not seen; fork from it); `Unavailable` when it cannot be saved now.
    fn append(&self, at: Position, messages: &[MessageDraft]) -> StoreResult<Appended>;

    /// Adds an empty reply with status `streaming`, to be extended; the draft's parts and status do not count.
    /// `at` as for [`append`](Self::append).
    ///
    /// # Errors
    /// As [`append`](Self::append).
    fn begin_reply(&self, at: Position, reply: &MessageDraft) -> StoreResult<ReplyHandle>;

    /// Adds pieces to a reply. Durable when it returns. Costs what the pieces cost, not what the reply has
    /// become. Empty pieces leave no trace.
    ///
    /// # Errors
    /// `Conflict` when the reply is not in progress any more, or was begun by another instance; `Unavailable`
    /// when it cannot be saved now.
    fn extend_reply(&self, reply: ReplyHandle, pieces: &[ReplyDelta]) -> StoreResult<()>;

    /// Ends a reply with its final form (its id and place stay; a status of `streaming` becomes `interrupted`).
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
    /// all. Returns how many there were. Their sessions count as changed at `at`. An append behind such a reply
    /// settles it, and a search or maintenance may; for those it is no change of its session.
    ///
    /// # Errors
    /// `NotFound` for the session.
    fn recover_abandoned_replies(&self, session: Option<SessionId>, at: Timestamp) -> StoreResult<u64>;
}

/// Full-text search.
pub trait SearchIndex {
    /// The best hits in sessions that are not in the trash, undone branches included. Everything that was ever
    /// acknowledged is found; what a reply says, once it has been finished or settled at the latest.
    ///
    /// # Errors
    /// As the store's state has it; no text is invalid.
    fn search(&self, query: &SearchQuery) -> StoreResult<SearchResults>;

    /// Puts into the index what waits for it, so that no search has to: worth while after much has come at once.
    /// `progress` is told how many messages wait, first of all and after each batch; once it returns false, the
    /// rest goes on waiting.
    ///
    /// # Errors
    /// As the store's state has it. What was indexed before stays so.
    fn update_index(&self, progress: &mut dyn FnMut(u64) -> bool) -> StoreResult<()>;
}
