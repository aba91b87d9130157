//! Messages, replies, attachments and full-text search.

use crate::{
    Attachment, BranchId, CandidateQuery, Candidates, ContentHash, Message, MessageDraft, MessageId,
    Position, ReplyDelta, SearchQuery, SearchResults, Seq, SessionId, Timestamp,
};

use super::StoreResult;

/// Result of an append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// New position of the branch.
    pub position: Position,
    /// Seq of the first appended message.
    pub first: Seq,
}

/// A range of a branch's history, including the messages that its ancestors store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageRange {
    /// At most this many of the newest messages.
    Newest(u32),
    /// At most this many messages directly before this seq.
    Before(Seq, u32),
    /// At most this many messages, starting with this seq.
    From(Seq, u32),
}

/// The right to extend and finish a reply. It is valid until the store instance that created it is dropped or the
/// process ends. After that, the reply is read as interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReplyHandle {
    /// Message id of the reply.
    pub message: MessageId,
    /// Branch of the reply.
    pub branch: BranchId,
    /// Seq of the reply.
    pub seq: Seq,
}

/// Messages and replies.
///
/// Each write raises the session's `updated_at` to the `created_at` of the newest message. Messages may refer only to
/// attachments that are stored already; other references are `Invalid`.
pub trait MessageStore {
    /// Appends messages after position `at`, all or none. They are durable when the call returns. A message with status
    /// `streaming` has no writer and is stored as `interrupted`. Does not name the session after its first message;
    /// callers do that.
    ///
    /// # Errors
    /// `NotFound` for the branch; `HeadMismatch` if its head is not `at.head`, else `Locked` if a reply is being
    /// written to it; `Conflict` if a message id exists or the branch is undone; `Unavailable` if a later attempt may
    /// succeed.
    fn append(&self, at: Position, messages: &[MessageDraft]) -> StoreResult<Appended>;

    /// Appends an empty reply with status `streaming` after position `at`. The parts and status of the draft are
    /// ignored.
    ///
    /// # Errors
    /// Those of [`append`](Self::append).
    fn begin_reply(&self, at: Position, reply: &MessageDraft) -> StoreResult<ReplyHandle>;

    /// Appends messages and an empty reply to them as one unit: both or neither. Otherwise like [`append`](Self::append)
    /// and [`begin_reply`](Self::begin_reply).
    ///
    /// # Errors
    /// Those of [`append`](Self::append).
    fn append_and_begin_reply(
        &self,
        at: Position,
        messages: &[MessageDraft],
        reply: &MessageDraft,
    ) -> StoreResult<(Appended, ReplyHandle)>;

    /// Appends deltas to a reply. They are durable when the call returns. The cost depends on the size of the deltas, not
    /// on that of the reply. Empty deltas are ignored. Use [`append_delta`](crate::append_delta) for their meaning.
    ///
    /// # Errors
    /// `Conflict` if the reply is not in progress any more or was started by another store instance; `Invalid` for a part
    /// that cannot be stored; `Unavailable` if a later attempt may succeed.
    fn extend_reply(&self, reply: ReplyHandle, deltas: &[ReplyDelta]) -> StoreResult<()>;

    /// Replaces a reply with its final content. Its id and seq stay; a status of `streaming` becomes `interrupted`.
    ///
    /// # Errors
    /// Those of [`extend_reply`](Self::extend_reply).
    fn finish_reply(&self, reply: ReplyHandle, message: &MessageDraft) -> StoreResult<()>;

    /// Continues a turn of several messages, as one unit: replaces a reply with its final content, which is the first of
    /// `messages`, appends the others after it, and begins the reply `next` after them. No other writer can come in between,
    /// and the messages of a turn that has begun can be written although its branch has been undone.
    ///
    /// # Errors
    /// Those of [`extend_reply`](Self::extend_reply); `Invalid` without any message; `Conflict` if a message id exists.
    fn continue_reply(
        &self,
        reply: ReplyHandle,
        messages: &[MessageDraft],
        next: &MessageDraft,
    ) -> StoreResult<ReplyHandle>;

    /// Reads a range of a branch's history, in order of seq. A reply in progress is returned with the text received so
    /// far, as `streaming`, or as `interrupted` if its writer has ended.
    ///
    /// # Errors
    /// `NotFound` for the branch.
    fn read_messages(&self, branch: BranchId, range: MessageRange) -> StoreResult<Vec<Message>>;

    /// Reads one message.
    ///
    /// # Errors
    /// `NotFound`.
    fn get_message(&self, id: MessageId) -> StoreResult<Message>;

    /// Marks replies whose writer has ended as interrupted, in one session or in all. Returns their number and sets the
    /// `updated_at` of their sessions to `at`. An append after such a reply also marks it, and a search or maintenance
    /// may do so; these do not change `updated_at`.
    ///
    /// # Errors
    /// `NotFound` for the session.
    fn recover_abandoned_replies(&self, session: Option<SessionId>, at: Timestamp) -> StoreResult<u64>;
}

/// Attachments, stored by their hash.
pub trait AttachmentStore {
    /// Reads the bytes of an attachment.
    ///
    /// # Errors
    /// `NotFound`; `Corrupt` if the bytes do not match the hash.
    fn get_attachment(&self, hash: ContentHash) -> StoreResult<Vec<u8>>;

    /// Stores an attachment. Storing the same one again changes nothing.
    ///
    /// # Errors
    /// `Invalid` if the bytes do not match the hash.
    fn put_attachment(&self, attachment: &Attachment) -> StoreResult<()>;
}

/// Full-text search.
pub trait SearchIndex {
    /// Returns the best hits in sessions outside of the trash, including undone branches. Finds every acknowledged
    /// message. A reply is found at the latest once it is finished or marked as interrupted.
    ///
    /// # Errors
    /// Returns any error of the underlying store. Every query text is valid.
    fn search(&self, query: &SearchQuery) -> StoreResult<SearchResults>;

    /// Returns messages in sessions outside of the trash that have any of the query's terms, with the statistics to
    /// rank them. The number of candidates is limited; those with the rarest terms come first.
    ///
    /// # Errors
    /// Returns any error of the underlying store.
    fn find_candidates(&self, query: &CandidateQuery) -> StoreResult<Candidates>;

    /// Indexes all messages that are not indexed yet, so that the next search does not have to; useful after an import.
    /// Calls `progress` with the number of messages left, before the first batch and after each; if it returns `false`,
    /// stops and leaves the rest to a later call.
    ///
    /// # Errors
    /// Returns any error of the underlying store. Batches before the error stay indexed.
    fn update_index(&self, progress: &mut dyn FnMut(u64) -> bool) -> StoreResult<()>;
}
