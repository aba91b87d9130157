//! Messages: appending and reading them, and replies that arrive as deltas.
//!
//! # Replies
//!
//! `begin_reply` inserts the message row with the status `streaming`, which reserves the reply's seq on the branch, and
//! a row in `reply` with the name of this process's presence lock. `extend_reply` inserts each delta as a new row in
//! `reply_piece`. The alternative, to rewrite the growing body, would write a number of bytes quadratic in the length
//! of the reply. `finish_reply` writes the final message and deletes the deltas.
//!
//! A turn of several messages is a chain of replies. `continue_reply` writes the final form of one and inserts the next
//! one in the same transaction, so that at any moment the newest message of the turn holds the branch.
//!
//! If the process ends before `finish_reply`, the reply is abandoned, and the presence lock is free. Readers then see
//! an interrupted message with the text of the deltas. They compute this message, so they see it even if
//! the store cannot be written. The next append to the branch, an update of the text index, or
//! `recover_abandoned_replies` writes the final row: see [`finalize_interrupted`].
//!
//! Invariant: only the newest message of a branch can be streaming, because `append` fails while the newest message is
//! a reply that is being written.

use hfs_core::{
    Appended, BranchId, ContentHash, Message, MessageDraft, MessageId, MessageRange, MessageStatus,
    MessageStore, Part, Position, ReplyDelta, ReplyHandle, SessionId, Source, StoreError, StoreResult,
    Timestamp, Usage, append_delta,
};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, params};

use crate::codec::block::Texts;
use crate::codec::rows::{self, MessageRow, STREAMING, message_no, seq_of};
use crate::codec::{body, checksum, piece};
use crate::db::locks::LivenessProbe;
use crate::db::lookup::{self, BranchRecord};
use crate::error::{Error, NO_FINAL_MESSAGE, Result, conflict, invalid, not_found, undone_branch};
use crate::sqlite::session_stats::{self, SessionStats};
use crate::sqlite::sessions::unique_violation_as_conflict;
use crate::sqlite::texts::TextReader;
use crate::sqlite::{SqliteStore, attachments, blocks, text_index};

const LAST_SEQ: u64 = u32::MAX as u64;
/// Maximum number of messages for which memory is reserved in advance.
const MAX_RESERVED: u64 = 1024;
/// Number of messages from which on blocks are decompressed in advance.
const READ_AHEAD: u64 = 400;

impl MessageStore for SqliteStore {
    fn append(&self, at: Position, messages: &[MessageDraft]) -> StoreResult<Appended> {
        let action = "save the message";
        let rows = messages.iter().map(MessageRow::finalized).collect::<Result<Vec<_>, _>>();
        let rows = rows.map_err(self.db.store_error(action))?;
        let probe = self.db.liveness_probe();
        let appended = self.db.write(action, move |conn| {
            let last = append_rows(conn, &probe, at, &rows)?;
            let position = Position { branch: at.branch, head: seq_of(last) };
            Ok(Appended { position, first: at.head + 1 })
        })?;
        text_index::after_append(self, at.branch, messages.len());
        Ok(appended)
    }

    fn begin_reply(&self, at: Position, reply: &MessageDraft) -> StoreResult<ReplyHandle> {
        let action = "begin the reply";
        let message = reply.id;
        let row = MessageRow::streaming(reply).map_err(self.db.store_error(action))?;
        let probe = self.db.liveness_probe();
        self.db.write(action, move |conn| {
            let no = append_rows(conn, &probe, at, std::slice::from_ref(&row))?;
            insert_reply(conn, &probe, no)?;
            Ok(ReplyHandle { message, branch: at.branch, seq: seq_of(no) })
        })
    }

    fn append_and_begin_reply(
        &self,
        at: Position,
        messages: &[MessageDraft],
        reply: &MessageDraft,
    ) -> StoreResult<(Appended, ReplyHandle)> {
        let action = "save the message";
        let message = reply.id;
        let rows = messages.iter().map(MessageRow::finalized).chain([MessageRow::streaming(reply)]);
        let rows = rows.collect::<Result<Vec<_>, _>>().map_err(self.db.store_error(action))?;
        let probe = self.db.liveness_probe();
        let begun = self.db.write(action, move |conn| {
            let no = append_rows(conn, &probe, at, &rows)?;
            insert_reply(conn, &probe, no)?;
            let position = Position { branch: at.branch, head: seq_of(no) - 1 };
            let reply = ReplyHandle { message, branch: at.branch, seq: seq_of(no) };
            Ok((Appended { position, first: at.head + 1 }, reply))
        })?;
        text_index::after_append(self, at.branch, messages.len());
        Ok(begun)
    }

    fn extend_reply(&self, reply: ReplyHandle, deltas: &[ReplyDelta]) -> StoreResult<()> {
        let action = "save the reply";
        let merged = merge_deltas(deltas);
        let attachments: Vec<ContentHash> = merged.iter().filter_map(piece::attachment_of).collect();
        let pieces = merged.into_iter().map(piece::encode).collect::<Result<Vec<_>, _>>();
        let pieces = pieces.map_err(self.db.store_error(action))?;
        let probe = self.db.liveness_probe();
        self.db.write(action, move |conn| {
            let (no, _) = find_own_reply(conn, &probe, reply)?;
            let last: i64 = conn
                .prepare_cached("SELECT coalesce(max(number), 0) FROM reply_piece WHERE message = ?1")?
                .query_row([no], |row| row.get(0))?;
            let mut insert = conn.prepare_cached(
                "INSERT INTO reply_piece (message, number, kind, text) VALUES (?1, ?2, ?3, ?4)",
            )?;
            for (number, piece) in (last + 1..).zip(&pieces) {
                insert.execute(params![no, number, piece.kind, piece.text])?;
            }
            attachments.iter().try_for_each(|hash| refer_to_attachment(conn, no, reply.message, *hash))
        })
    }

    fn finish_reply(&self, reply: ReplyHandle, message: &MessageDraft) -> StoreResult<()> {
        let action = "save the reply";
        let row = MessageRow::finalized(message).map_err(self.db.store_error(action))?;
        let probe = self.db.liveness_probe();
        self.db.write(action, move |conn| finalize_reply(conn, &probe, reply, &row))?;
        text_index::after_append(self, reply.branch, 1);
        Ok(())
    }

    fn continue_reply(
        &self,
        reply: ReplyHandle,
        messages: &[MessageDraft],
        next: &MessageDraft,
    ) -> StoreResult<ReplyHandle> {
        let action = "save the reply";
        let rows = messages.iter().map(MessageRow::finalized).chain([MessageRow::streaming(next)]);
        let rows = rows.collect::<Result<Vec<_>, _>>().map_err(self.db.store_error(action))?;
        let (probe, message) = (self.db.liveness_probe(), next.id);
        let begun = self.db.write(action, move |conn| {
            let (last, following) = rows
                .split_first()
                .filter(|(_, following)| !following.is_empty())
                .ok_or_else(|| invalid(NO_FINAL_MESSAGE))?;
            finalize_reply(conn, &probe, reply, last)?;
            // This process holds the branch, so the reply is its head.
            let head = BranchHead::find(conn, reply.branch)?;
            let no = insert_after(conn, &head, following)?;
            insert_reply(conn, &probe, no)?;
            Ok(ReplyHandle { message, branch: reply.branch, seq: seq_of(no) })
        })?;
        text_index::after_append(self, reply.branch, messages.len());
        Ok(begun)
    }

    fn read_messages(&self, branch: BranchId, range: MessageRange) -> StoreResult<Vec<Message>> {
        let probe = self.db.liveness_probe();
        self.db.read("read messages", |conn| {
            let branch = lookup::branch(conn, branch)?;
            match range {
                MessageRange::Newest(count) => read_backwards(conn, &probe, branch, LAST_SEQ, count),
                MessageRange::Before(seq, count) => {
                    read_backwards(conn, &probe, branch, seq.saturating_sub(1).min(LAST_SEQ), count)
                }
                MessageRange::From(seq, count) => read_forwards(conn, &probe, branch, seq, count),
            }
        })
    }

    fn get_message(&self, id: MessageId) -> StoreResult<Message> {
        let probe = self.db.liveness_probe();
        self.db.read("read a message", |conn| {
            let no = lookup::message_by_id(conn, id)?;
            let branch = lookup::branch_by_no(conn, rows::branch_of(no))?;
            message_by_no(conn, &probe, &mut TextReader::new(conn), branch.id, no)
        })
    }

    fn recover_abandoned_replies(&self, session: Option<SessionId>, at: Timestamp) -> StoreResult<u64> {
        finalize_abandoned(self, session, Some(at))
    }
}

/// Records this process as the writer of a reply.
fn insert_reply(conn: &Connection, probe: &LivenessProbe, no: i64) -> Result<()> {
    conn.prepare_cached("INSERT INTO reply (message, writer) VALUES (?1, ?2)")?
        .execute(params![no, probe.own()])?;
    Ok(())
}

/// Inserts rows after the position `at`. Returns the number of the last one, or that of the head if there are no rows.
fn append_rows(
    conn: &Connection,
    probe: &LivenessProbe,
    at: Position,
    messages: &[MessageRow],
) -> Result<i64> {
    let head = BranchHead::find(conn, at.branch)?;
    if head.branch_is_undone {
        let branch = lookup::branch(conn, at.branch)?;
        return Err(conflict(undone_branch(&branch.name)));
    }
    if head.seq != at.head {
        let found = Position { branch: at.branch, head: head.seq };
        return Err(StoreError::HeadMismatch { expected: at, found }.into());
    }
    let no = message_no(head.branch, head.seq)?;
    if head.is_streaming {
        if lookup::is_being_written(conn, probe, no)? {
            return Err(StoreError::Locked { seq: head.seq }.into());
        }
        finalize_interrupted(conn, no, UnreadableDeltas::Fail)?;
    }
    if messages.is_empty() { Ok(no) } else { insert_after(conn, &head, messages) }
}

/// Inserts rows after the head of a branch. Returns the number of the last one.
fn insert_after(conn: &Connection, head: &BranchHead, messages: &[MessageRow]) -> Result<i64> {
    let mut no = message_no(head.branch, head.seq)?;
    let mut insert = InsertMessage::new(conn)?;
    for (seq, message) in (head.seq + 1..).zip(messages) {
        no = message_no(head.branch, seq)?;
        insert.execute(no, message, message.checksum(no), None)?;
    }
    if let Some(at) = messages.iter().map(|message| message.created_at).max() {
        session_stats::add_messages(conn, head.stats, at, messages.len())?;
    }
    Ok(no)
}

/// The head of a branch, and the other columns that an append needs.
struct BranchHead {
    branch: i64,
    branch_is_undone: bool,
    seq: u64,
    /// Whether the status of the message at the head is `streaming`.
    is_streaming: bool,
    stats: SessionStats,
}

impl BranchHead {
    /// Reads all columns with one statement, because an append is the most frequent write of the store.
    fn find(conn: &Connection, branch: BranchId) -> Result<Self> {
        conn.prepare_cached(
            "SELECT branch.no, branch.retired, branch.forked_at, branch.session, activity.updated_at,
                activity.waiting,
                (SELECT (message.no & 0xffffffff) << 2 | message.status FROM message
                    WHERE message.no BETWEEN branch.no << 32 AND branch.no << 32 | 0xffffffff
                    ORDER BY message.no DESC LIMIT 1),
                session.no = (SELECT first.no FROM session AS first WHERE first.state = session.state
                    ORDER BY first.place DESC, first.id DESC LIMIT 1)
                FROM branch CROSS JOIN session ON session.no = branch.session
                CROSS JOIN activity ON activity.session = branch.session
                WHERE branch.id = ?1 AND session.state <> 2",
        )?
        .query_row([branch.as_uuid().as_bytes()], |row| {
            // The seq and the status (two bits) of the newest message that is stored on the branch; null if there is
            // none.
            let newest: Option<i64> = row.get(6)?;
            Ok(Self {
                branch: row.get(0)?,
                branch_is_undone: row.get(1)?,
                seq: newest.map_or_else(|| row.get(2), |newest| Ok((newest >> 2).cast_unsigned()))?,
                is_streaming: newest.is_some_and(|newest| newest & 0b11 == STREAMING),
                stats: SessionStats {
                    session: row.get(3)?,
                    updated_at: row.get(4)?,
                    needs_indexing: row.get(5)?,
                    is_first: row.get(7)?,
                },
            })
        })
        .optional()?
        .ok_or_else(|| not_found("branch", &branch))
    }
}

/// The prepared statement that inserts messages.
pub(crate) struct InsertMessage<'c> {
    conn: &'c Connection,
    statement: CachedStatement<'c>,
}

impl<'c> InsertMessage<'c> {
    pub(crate) fn new(conn: &'c Connection) -> Result<Self> {
        let statement = conn.prepare_cached(
            "INSERT INTO message (no, id, role, status, created_at, agent, model, prompt_tokens,
                completion_tokens, cache_read_tokens, cache_write_tokens, source_format, source_id, body, extra,
                block_index, sum)
                VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)",
        )?;
        Ok(Self { conn, statement })
    }

    /// Inserts a message's row and its references to attachments. `block_index` is its position in the block that has its texts,
    /// if they are not in the row.
    pub(crate) fn execute(
        &mut self,
        no: i64,
        message: &MessageRow,
        checksum: i64,
        block_index: Option<usize>,
    ) -> Result<()> {
        let id = || MessageId::from_uuid(rows::uuid(message.id));
        for hash in &message.attachments {
            refer_to_attachment(self.conn, no, id(), *hash)?;
        }
        let inserted = self.statement.execute(params![
            no,
            message.id,
            message.role,
            message.status,
            message.created_at,
            message.agent,
            message.model,
            message.prompt_tokens,
            message.completion_tokens,
            message.cache_read_tokens,
            message.cache_write_tokens,
            message.source_format,
            message.source_id,
            message.body,
            message.extra,
            block_index,
            checksum,
        ]);
        inserted.map(drop).map_err(|error| unique_violation_as_conflict(error, "message", id()))
    }
}

/// Replaces a message's row, except for its id and number. Its texts are not in a block afterwards.
pub(crate) fn replace_row(conn: &Connection, no: i64, id: MessageId, message: &MessageRow) -> Result<()> {
    for hash in &message.attachments {
        refer_to_attachment(conn, no, id, *hash)?;
    }
    attachments::remove_other_references(conn, no, &message.attachments)?;
    blocks::unpack_message(conn, no)?;
    conn.prepare_cached(
        "UPDATE message SET role = ?2, status = ?3, created_at = ?4, agent = ?5, model = ?6,
            prompt_tokens = ?7, completion_tokens = ?8, cache_read_tokens = ?9, cache_write_tokens = ?10,
            source_format = ?11, source_id = ?12, body = ?13, extra = ?14 WHERE no = ?1",
    )?
    .execute(params![
        no,
        message.role,
        message.status,
        message.created_at,
        message.agent,
        message.model,
        message.prompt_tokens,
        message.completion_tokens,
        message.cache_read_tokens,
        message.cache_write_tokens,
        message.source_format,
        message.source_id,
        message.body,
        message.extra,
    ])?;
    checksum::update_message(conn, no)
}

fn refer_to_attachment(conn: &Connection, no: i64, id: MessageId, hash: ContentHash) -> Result<()> {
    let attachment: Option<i64> = conn
        .prepare_cached("SELECT no FROM attachment WHERE hash = ?1")?
        .query_row([hash.as_bytes()], |row| row.get(0))
        .optional()?;
    let Some(attachment) = attachment else {
        return Err(invalid(format!("message {id} refers to the attachment {hash}, which is not stored")));
    };
    conn.prepare_cached("INSERT OR IGNORE INTO attachment_use (message, attachment) VALUES (?1, ?2)")?
        .execute(params![no, attachment])?;
    Ok(())
}

/// Selects the columns that [`message_from_row`] reads. The caller appends the conditions.
const SELECT_MESSAGE: &str = "SELECT no, id, role, status, created_at, agent, model, prompt_tokens,
    completion_tokens, cache_read_tokens, cache_write_tokens, source_format, source_id, body, extra, block_index
    FROM message";

/// Reads a message by its number. `branch` is the branch that it is stored on.
pub(crate) fn message_by_no(
    conn: &Connection,
    probe: &LivenessProbe,
    texts: &mut TextReader<'_>,
    branch: BranchId,
    no: i64,
) -> Result<Message> {
    let mut statement = conn.prepare_cached(&format!("{SELECT_MESSAGE} WHERE no = ?1"))?;
    let mut rows = statement.query([no])?;
    match rows.next()? {
        Some(row) => message_from_row(conn, probe, texts, branch, row),
        None => Err(Error::Corrupt(format!("message number {no} is in an index but not in its table"))),
    }
}

/// Decodes a row of [`SELECT_MESSAGE`]. `branch` is the branch that the message is stored on.
fn message_from_row(
    conn: &Connection,
    probe: &LivenessProbe,
    texts: &mut TextReader<'_>,
    branch: BranchId,
    row: &Row<'_>,
) -> Result<Message> {
    let seq = seq_of(row.get(0)?);
    decode_row(conn, probe, texts, branch, row).map_err(|error| match error {
        Error::Corrupt(reason) => Error::Corrupt(format!("message {seq} of branch {branch}: {reason}")),
        other => other,
    })
}

fn decode_row(
    conn: &Connection,
    probe: &LivenessProbe,
    texts: &mut TextReader<'_>,
    branch: BranchId,
    row: &Row<'_>,
) -> Result<Message> {
    let no: i64 = row.get(0)?;
    let mut status = rows::status(row.get(3)?)?;
    let Texts { body, extra } = texts.texts(no, row, 13)?;
    let extra = rows::extra_from_json(extra)?;
    let mut parts = body::decode(body)?;
    if status == MessageStatus::Streaming {
        if !lookup::is_being_written(conn, probe, no)? {
            status = MessageStatus::Interrupted;
        }
        append_stored_deltas(conn, no, &mut parts, UnreadableDeltas::Fail)?;
    }
    let tokens: (Option<i64>, Option<i64>) = (row.get(7)?, row.get(8)?);
    let cached: (Option<i64>, Option<i64>) = (row.get(9)?, row.get(10)?);
    let source: (Option<String>, Option<String>) = (row.get(11)?, row.get(12)?);
    let content = MessageDraft {
        id: MessageId::from_uuid(rows::uuid(row.get(1)?)),
        role: rows::role(row.get(2)?)?,
        status,
        parts,
        agent: row.get(5)?,
        model: row.get(6)?,
        usage: tokens.0.zip(tokens.1).map(|(prompt, completion)| {
            Usage::new(prompt.cast_unsigned(), completion.cast_unsigned())
                .with_cache(cached.0.map(i64::cast_unsigned), cached.1.map(i64::cast_unsigned))
        }),
        created_at: rows::time(row.get(4)?)?,
        source: source.0.zip(source.1).map(|(format, id)| Source { format, id }),
        extra,
    };
    Ok(Message { branch, seq: seq_of(no), content })
}

/// Reads at most `count` messages up to the seq `last`: those stored on the branch, then those of its parent up to the
/// fork, and so on. Returns them oldest first.
fn read_backwards(
    conn: &Connection,
    probe: &LivenessProbe,
    branch: BranchRecord,
    last: u64,
    count: u32,
) -> Result<Vec<Message>> {
    let mut messages = Vec::new();
    let mut wanted = count;
    let mut last = last;
    let mut next = Some(branch);
    while let Some(branch) = next.filter(|_| wanted > 0) {
        if last > branch.forked_at {
            let before = messages.len();
            let range = (branch.forked_at + 1, last);
            read_stored_on(conn, probe, &branch, range, wanted, Order::NewestFirst, &mut messages)?;
            wanted -= u32::try_from(messages.len() - before).unwrap_or(wanted);
        }
        last = last.min(branch.forked_at);
        next = branch.parent.map(|parent| lookup::branch_by_no(conn, parent)).transpose()?;
    }
    messages.reverse();
    Ok(messages)
}

/// Reads at most `count` messages, starting at the seq `first`.
fn read_forwards(
    conn: &Connection,
    probe: &LivenessProbe,
    branch: BranchRecord,
    first: u64,
    count: u32,
) -> Result<Vec<Message>> {
    // The branches that store the messages since `first`: the branch itself, then its ancestors. Each comes with the
    // last seq that it contributes to the history.
    let mut path = Vec::new();
    let mut last = LAST_SEQ;
    let mut next = Some(branch);
    while let Some(branch) = next.filter(|_| first <= last) {
        let (parent, forked_at) = (branch.parent, branch.forked_at);
        path.push((branch, last));
        last = last.min(forked_at);
        next = parent.map(|parent| lookup::branch_by_no(conn, parent)).transpose()?;
    }
    let mut messages = Vec::new();
    for (branch, last) in path.iter().rev() {
        let wanted = count.saturating_sub(u32::try_from(messages.len()).unwrap_or(u32::MAX));
        let from = first.max(branch.forked_at + 1);
        if wanted > 0 && from <= *last {
            read_stored_on(conn, probe, branch, (from, *last), wanted, Order::OldestFirst, &mut messages)?;
        }
    }
    Ok(messages)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    OldestFirst,
    NewestFirst,
}

/// Reads messages that are stored on the branch itself, not on an ancestor.
fn read_stored_on(
    conn: &Connection,
    probe: &LivenessProbe,
    branch: &BranchRecord,
    (first, last): (u64, u64),
    count: u32,
    order: Order,
    messages: &mut Vec<Message>,
) -> Result<()> {
    let direction = if order == Order::NewestFirst { "DESC" } else { "ASC" };
    let sql = format!("{SELECT_MESSAGE} WHERE no BETWEEN ?1 AND ?2 ORDER BY no {direction} LIMIT ?3");
    let mut statement = conn.prepare_cached(&sql)?;
    let range = params![message_no(branch.no, first)?, message_no(branch.no, last)?, count];
    let mut rows = statement.query(range)?;
    // Callers pass a huge count to read all messages, so the reservation is limited.
    let expected = u64::from(count).min(last.saturating_sub(first) + 1).min(MAX_RESERVED);
    messages.reserve(usize::try_from(expected).unwrap_or(0));
    let mut texts = if order == Order::OldestFirst && expected >= READ_AHEAD {
        TextReader::ahead(conn, message_no(branch.no, last)?)
    } else {
        TextReader::new(conn)
    };
    while let Some(row) = rows.next()? {
        messages.push(message_from_row(conn, probe, &mut texts, branch.id, row)?);
    }
    Ok(())
}

/// The number of the message at `seq` of a branch's history, which may be stored on an ancestor.
pub(crate) fn number_at(conn: &Connection, branch: &BranchRecord, seq: u64) -> Result<Option<i64>> {
    let mut branch = branch.clone();
    while seq <= branch.forked_at {
        match branch.parent {
            Some(parent) => branch = lookup::branch_by_no(conn, parent)?,
            None => return Ok(None),
        }
    }
    Ok(Some(message_no(branch.no, seq)?))
}

/// Joins consecutive deltas, so that a batch of deltas takes few rows.
fn merge_deltas(deltas: &[ReplyDelta]) -> Vec<ReplyDelta> {
    let mut merged: Vec<ReplyDelta> = Vec::new();
    for delta in deltas.iter().filter(|delta| !delta.is_empty()) {
        let rest = match merged.last_mut() {
            Some(last) => last.join(delta.clone()),
            None => Err(delta.clone()),
        };
        merged.extend(rest.err());
    }
    merged
}

/// Replaces a reply that this store is writing by its final message.
fn finalize_reply(
    conn: &Connection,
    probe: &LivenessProbe,
    reply: ReplyHandle,
    row: &MessageRow,
) -> Result<()> {
    let (no, session) = find_own_reply(conn, probe, reply)?;
    replace_row(conn, no, reply.message, row)?;
    delete_reply(conn, no)?;
    session_stats::touch(conn, session, row.created_at)?;
    session_stats::set_needs_indexing(conn, session, true)
}

/// The message number and the session of a reply that this store is writing.
fn find_own_reply(conn: &Connection, probe: &LivenessProbe, reply: ReplyHandle) -> Result<(i64, i64)> {
    conn.prepare_cached(
        "SELECT message.no, branch.session FROM message
            JOIN reply ON reply.message = message.no
            JOIN branch ON branch.no = message.no >> 32
            WHERE message.id = ?1 AND reply.writer = ?2 AND branch.id = ?3 AND message.no & 0xffffffff = ?4",
    )?
    .query_row(
        params![
            reply.message.as_uuid().as_bytes(),
            probe.own(),
            reply.branch.as_uuid().as_bytes(),
            reply.seq
        ],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )
    .optional()?
    .ok_or_else(|| conflict(format!("reply {} is no longer being written", reply.message)))
}

/// What happens with stored deltas that cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnreadableDeltas {
    Fail,
    LeaveOut,
}

/// Appends the stored deltas of a streaming reply to its parts. Returns the number of deltas that were left out.
pub(crate) fn append_stored_deltas(
    conn: &Connection,
    no: i64,
    parts: &mut Vec<Part>,
    unreadable: UnreadableDeltas,
) -> Result<u64> {
    let mut left_out = 0;
    let mut statement =
        conn.prepare_cached("SELECT kind, text FROM reply_piece WHERE message = ?1 ORDER BY number")?;
    let mut rows = statement.query([no])?;
    while let Some(row) = rows.next()? {
        let text = row.get_ref(1)?.as_str().map_err(|error| Error::Corrupt(error.to_string()));
        match text.and_then(|text| Ok(piece::decode(row.get(0)?, text)?)) {
            Ok(delta) => append_delta(parts, &delta),
            Err(error) if error.is_corruption() && unreadable == UnreadableDeltas::LeaveOut => left_out += 1,
            Err(error) => return Err(error),
        }
    }
    Ok(left_out)
}

/// Writes the final row of an abandoned reply: the content of its deltas, with the status `interrupted`. Returns the
/// number of deltas that were left out.
pub(crate) fn finalize_interrupted(conn: &Connection, no: i64, unreadable: UnreadableDeltas) -> Result<u64> {
    let body: String =
        conn.prepare_cached("SELECT body FROM message WHERE no = ?1")?.query_row([no], |row| row.get(0))?;
    let mut parts = body::decode(&body)?;
    let left_out = append_stored_deltas(conn, no, &mut parts, unreadable)?;
    conn.prepare_cached("UPDATE message SET status = ?2, body = ?3 WHERE no = ?1")?.execute(params![
        no,
        rows::status_code(MessageStatus::Interrupted),
        body::encode(&parts)?
    ])?;
    checksum::update_message(conn, no)?;
    delete_reply(conn, no)?;
    let session: i64 = conn
        .prepare_cached("SELECT session FROM branch WHERE no = ?1")?
        .query_row([rows::branch_of(no)], |row| row.get(0))?;
    session_stats::set_needs_indexing(conn, session, true)?;
    Ok(left_out)
}

fn delete_reply(conn: &Connection, no: i64) -> Result<()> {
    conn.prepare_cached("DELETE FROM reply_piece WHERE message = ?1")?.execute([no])?;
    conn.prepare_cached("DELETE FROM reply WHERE message = ?1")?.execute([no])?;
    Ok(())
}

/// Finalizes the abandoned replies of a session, or of all sessions, and returns their number. `at` becomes the time of
/// the last change of their sessions; with `None` that time does not change.
pub(crate) fn finalize_abandoned(
    store: &SqliteStore,
    session: Option<SessionId>,
    at: Option<Timestamp>,
) -> StoreResult<u64> {
    let probe = store.db.liveness_probe();
    // Usually no reply is abandoned, and a read transaction is enough to find that out.
    if store.db.read("read replies", |conn| find_abandoned(conn, &probe, session))?.is_empty() {
        return Ok(0);
    }
    store.db.write("finalize interrupted replies", move |conn| {
        let abandoned = find_abandoned(conn, &probe, session)?;
        for (no, session) in &abandoned {
            finalize_interrupted(conn, *no, UnreadableDeltas::Fail)?;
            if let Some(at) = at {
                session_stats::touch(conn, *session, at.as_micros())?;
            }
        }
        Ok(abandoned.len() as u64)
    })
}

/// The message numbers of replies whose writers have ended, each with its session.
fn find_abandoned(
    conn: &Connection,
    probe: &LivenessProbe,
    session: Option<SessionId>,
) -> Result<Vec<(i64, i64)>> {
    let session = session.map(|id| lookup::session_no(conn, id)).transpose()?;
    let mut statement = conn.prepare_cached(
        "SELECT reply.message, branch.session, reply.writer FROM reply
            JOIN branch ON branch.no = reply.message >> 32
            WHERE ?1 IS NULL OR branch.session = ?1",
    )?;
    let mut abandoned = Vec::new();
    let mut rows = statement.query([session])?;
    while let Some(row) = rows.next()? {
        let writer: String = row.get(2)?;
        if !probe.is_alive(&writer) {
            abandoned.push((row.get(0)?, row.get(1)?));
        }
    }
    Ok(abandoned)
}
