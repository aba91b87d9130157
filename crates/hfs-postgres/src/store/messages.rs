//! Messages: appending and reading them, and replies that arrive as deltas.
//!
//! Replies work as on SQLite: `begin_reply` inserts the message with the status `streaming`, which reserves its seq, and
//! a row in `reply` with the presence of this process; `extend_reply` inserts each delta as a row, so that no growing body
//! is rewritten; `finish_reply` writes the final message and deletes the deltas. If the process ends before that, its
//! presence expires, readers compute an interrupted message from the deltas, and the next append or
//! `recover_abandoned_replies` writes it.
//!
//! Invariant: only the newest message of a branch can be streaming.

use std::borrow::Cow;

use hfs_core::{
    Appended, BranchId, ContentHash, ErrorExt as _, ErrorKind, Message, MessageDraft, MessageId,
    MessageRange, MessageStatus, MessageStore, Part, Position, ReplyDelta, ReplyHandle, SessionId, Source,
    StoreError, StoreResult, Timestamp, Usage, append_delta,
};
use hfs_store::codec::rows::{self, MessageRow, STREAMING};
use hfs_store::codec::{body, piece};
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use crate::PostgresStore;
use crate::db::value::{Columns as _, Value, values};
use crate::db::{Database, IS_ALIVE, IS_OWN, Tx};
use crate::error::{Error, NO_FINAL_MESSAGE, Result, conflict, invalid, not_found};
use crate::store::lookup::{self, BranchRecord, Place};
use crate::store::{attachments, session_stats, text_index};

impl MessageStore for PostgresStore {
    fn append(&self, at: Position, messages: &[MessageDraft]) -> StoreResult<Appended> {
        let action = "save the message";
        let rows = finalized(messages).map_err(self.db.store_error(action))?;
        self.db.write(action, |tx| {
            let last = append_rows(tx, at, &rows)?;
            Ok(Appended { position: Position { branch: at.branch, head: last.seq }, first: at.head + 1 })
        })
    }

    fn begin_reply(&self, at: Position, reply: &MessageDraft) -> StoreResult<ReplyHandle> {
        let action = "begin the reply";
        let row = MessageRow::streaming(reply).map_err(self.db.store_error(action))?;
        self.db.write(action, |tx| {
            let place = append_rows(tx, at, std::slice::from_ref(&row))?;
            insert_reply(&self.db, tx, place)?;
            Ok(ReplyHandle { message: reply.id, branch: at.branch, seq: place.seq })
        })
    }

    fn append_and_begin_reply(
        &self,
        at: Position,
        messages: &[MessageDraft],
        reply: &MessageDraft,
    ) -> StoreResult<(Appended, ReplyHandle)> {
        let action = "save the message";
        let rows = finalized_and_streaming(messages, reply).map_err(self.db.store_error(action))?;
        self.db.write(action, |tx| {
            let place = append_rows(tx, at, &rows)?;
            insert_reply(&self.db, tx, place)?;
            let position = Position { branch: at.branch, head: place.seq - 1 };
            let reply = ReplyHandle { message: reply.id, branch: at.branch, seq: place.seq };
            Ok((Appended { position, first: at.head + 1 }, reply))
        })
    }

    fn extend_reply(&self, reply: ReplyHandle, deltas: &[ReplyDelta]) -> StoreResult<()> {
        let action = "save the reply";
        let merged = merge_deltas(deltas);
        let attachments: Vec<ContentHash> = merged.iter().filter_map(piece::attachment_of).collect();
        let pieces = merged.into_iter().map(piece::encode).collect::<Result<Vec<_>, _>>();
        let pieces = pieces.map_err(self.db.store_error(action))?;
        self.db.write(action, |tx| {
            let (place, last) = lock_own_reply(&self.db, tx, reply)?;
            let [session, branch, seq] = place.values();
            tx.execute(
                "INSERT INTO reply_piece (session, branch, seq, number, kind, text)
                    SELECT $1, $2, $3, $4 + piece.number, piece.kind, piece.text
                    FROM unnest($5, $6) WITH ORDINALITY AS piece (kind, text, number)",
                &[
                    session,
                    branch,
                    seq,
                    last.into(),
                    Value::Ints(pieces.iter().map(|piece| Some(piece.kind)).collect()),
                    Value::Blobs(pieces.iter().map(|piece| piece.text.as_bytes().into()).collect()),
                ],
            )?;
            let references: Vec<_> = attachments.iter().map(|hash| (place, reply.message, *hash)).collect();
            attachments::refer(tx, &references)
        })
    }

    fn finish_reply(&self, reply: ReplyHandle, message: &MessageDraft) -> StoreResult<()> {
        let action = "save the reply";
        let row = MessageRow::finalized(message).map_err(self.db.store_error(action))?;
        self.db.write(action, |tx| finalize_reply(&self.db, tx, reply, &row).map(drop))
    }

    fn continue_reply(
        &self,
        reply: ReplyHandle,
        messages: &[MessageDraft],
        next: &MessageDraft,
    ) -> StoreResult<ReplyHandle> {
        let action = "save the reply";
        let rows = finalized_and_streaming(messages, next).map_err(self.db.store_error(action))?;
        self.db.write(action, |tx| {
            let (last, following) = rows
                .split_first()
                .filter(|(_, following)| !following.is_empty())
                .ok_or_else(|| invalid(NO_FINAL_MESSAGE))?;
            // This process holds the branch, so the reply is its head.
            let head = finalize_reply(&self.db, tx, reply, last)?;
            let place = insert_after(tx, head, following)?;
            insert_reply(&self.db, tx, place)?;
            Ok(ReplyHandle { message: next.id, branch: reply.branch, seq: place.seq })
        })
    }

    fn read_messages(&self, branch: BranchId, range: MessageRange) -> StoreResult<Vec<Message>> {
        self.db.read("read messages", |tx| {
            let branch = lookup::branch(tx, branch)?;
            match range {
                MessageRange::Newest(count) => read_backwards(tx, branch, u64::MAX, count),
                MessageRange::Before(seq, count) => read_backwards(tx, branch, seq.saturating_sub(1), count),
                MessageRange::From(seq, count) => read_forwards(tx, branch, seq, count),
            }
        })
    }

    fn get_message(&self, id: MessageId) -> StoreResult<Message> {
        self.db.read("read a message", |tx| {
            let place = lookup::message(tx, id)?;
            let branch = lookup::branch_by_no(tx, place.session, place.branch)?;
            message_at(tx, branch.id, place)?.ok_or_else(|| not_found("message", &id))
        })
    }

    fn recover_abandoned_replies(&self, session: Option<SessionId>, at: Timestamp) -> StoreResult<u64> {
        finalize_abandoned(&self.db, session, Some(at))
    }
}

fn finalized(messages: &[MessageDraft]) -> Result<Vec<MessageRow>> {
    messages.iter().map(|message| Ok(MessageRow::finalized(message)?)).collect()
}

fn finalized_and_streaming(messages: &[MessageDraft], reply: &MessageDraft) -> Result<Vec<MessageRow>> {
    let mut rows = finalized(messages)?;
    rows.push(MessageRow::streaming(reply)?);
    Ok(rows)
}

/// Records this process as the writer of a reply.
fn insert_reply(db: &Database, tx: &Tx, place: Place) -> Result<()> {
    db.appear(tx)?;
    let [session, branch, seq] = place.values();
    tx.execute(
        "INSERT INTO reply (session, branch, seq, writer) VALUES ($1, $2, $3, $4)",
        &[session, branch, seq, db.presence().into()],
    )
    .map(drop)
}

/// Inserts rows after the position `at`. Returns the place of the last one, or that of the head if there are no rows.
fn append_rows(tx: &Tx, at: Position, messages: &[MessageRow]) -> Result<Place> {
    let branch = lookup::lock_branch(tx, at.branch)?;
    if branch.undone {
        return Err(conflict(format!("branch {:?} is undone; switch to it to continue it", branch.name)));
    }
    let newest = lookup::newest_own(tx, branch.session, branch.no)?;
    let head = newest.map_or(branch.forked_at, |(seq, _)| seq);
    if head != at.head {
        let found = Position { branch: at.branch, head };
        return Err(StoreError::HeadMismatch { expected: at, found }.into());
    }
    let place = Place { session: branch.session, branch: branch.no, seq: head };
    if newest.is_some_and(|(_, status)| status == STREAMING) {
        if lookup::is_being_written(tx, place)? {
            return Err(StoreError::Locked { seq: head }.into());
        }
        if !messages.is_empty() {
            finalize_interrupted(tx, place)?;
        }
    }
    if messages.is_empty() { Ok(place) } else { insert_after(tx, place, messages) }
}

/// Inserts rows after the head of a branch, whose session is locked. Returns the place of the last one.
fn insert_after(tx: &Tx, head: Place, messages: &[MessageRow]) -> Result<Place> {
    let rows: Vec<&MessageRow> = messages.iter().collect();
    let words = insert_rows(tx, head, &rows)?;
    if let Some(at) = messages.iter().map(|message| message.created_at).max() {
        session_stats::add_messages(tx, head.session, at, messages.len(), words)?;
    }
    Ok(Place { seq: head.seq + messages.len() as u64, ..head })
}

/// Inserts rows after the head of a branch, with their references and their entries in the text index. Returns the number
/// of their words. The caller must update the session's counters.
pub(crate) fn insert_rows(tx: &Tx, head: Place, messages: &[&MessageRow]) -> Result<i64> {
    fn texts<'m>(
        messages: &[&'m MessageRow],
        text: impl Fn(&'m MessageRow) -> Option<&'m String>,
    ) -> Value<'m> {
        let escaped = |message: &&'m MessageRow| text(message).map(|text| crate::db::value::escape(text));
        Value::Texts(messages.iter().map(escaped).collect())
    }
    let ints = |int: fn(&MessageRow) -> Option<i64>| {
        Value::Ints(messages.iter().map(|message| int(message)).collect())
    };
    let seqs = (head.seq + 1..).zip(messages).map(|(seq, _)| i64::try_from(seq).ok());
    let id = |message: &MessageRow| Uuid::from_bytes(message.id);
    tx.execute(
        "INSERT INTO message (session, branch, seq, id, role, status, created_at, prompt_tokens, completion_tokens,
            cache_read_tokens, cache_write_tokens, agent, model, source_format, source_id, body, extra)
            SELECT $1, $2, message.* FROM unnest($3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
                AS message",
        &[
            head.session.into(),
            head.branch.into(),
            Value::Ints(seqs.collect()),
            Value::Ids(messages.iter().map(|message| id(message)).collect()),
            ints(|message| Some(message.role)),
            ints(|message| Some(message.status)),
            ints(|message| Some(message.created_at)),
            ints(|message| message.prompt_tokens),
            ints(|message| message.completion_tokens),
            ints(|message| message.cache_read_tokens),
            ints(|message| message.cache_write_tokens),
            texts(messages, |message| message.agent.as_ref()),
            texts(messages, |message| message.model.as_ref()),
            texts(messages, |message| message.source_format.as_ref()),
            texts(messages, |message| message.source_id.as_ref()),
            Value::Blobs(messages.iter().map(|message| Cow::Borrowed(message.body.as_bytes())).collect()),
            texts(messages, |message| message.extra.as_ref()),
        ],
    )
    .map_err(|error| existing_message(error, messages))?;
    let placed = || (head.seq + 1..).zip(messages).map(|(seq, message)| (Place { seq, ..head }, message));
    let references: Vec<_> = placed()
        .flat_map(|(place, message)| {
            let id = MessageId::from_uuid(Uuid::from_bytes(message.id));
            message.attachments.iter().map(move |hash| (place, id, *hash))
        })
        .collect();
    attachments::refer(tx, &references)?;
    let entries: Vec<_> = placed()
        .filter(|(_, message)| message.status != STREAMING)
        .map(|(place, message)| text_index::Entry::new(place.seq, message.body.as_bytes()))
        .collect();
    text_index::insert(tx, head.session, head.branch, &entries)
}

/// Converts a violated unique key to a conflict about the message whose id exists.
fn existing_message(error: Error, messages: &[&MessageRow]) -> Error {
    let Error::Postgres(answer) = &error else { return error };
    let Some(answer) = answer.as_db_error().filter(|answer| *answer.code() == SqlState::UNIQUE_VIOLATION)
    else {
        return error;
    };
    let detail = answer.detail().unwrap_or_default();
    let ids = messages.iter().map(|message| Uuid::from_bytes(message.id).to_string());
    match ids.into_iter().find(|id| messages.len() == 1 || detail.contains(id.as_str())) {
        Some(id) => conflict(format!("message {id} already exists")),
        None => conflict("one of the messages already exists"),
    }
}

/// Replaces a message's row, except for its id and place, and its entry in the text index.
pub(crate) fn replace_row(tx: &Tx, place: Place, id: MessageId, message: &MessageRow) -> Result<()> {
    let references: Vec<_> = message.attachments.iter().map(|hash| (place, id, *hash)).collect();
    attachments::refer(tx, &references)?;
    attachments::remove_other_references(tx, place, &message.attachments)?;
    let [session, branch, seq] = place.values();
    tx.execute(
        "UPDATE message SET role = $4, status = $5, created_at = $6, agent = $7, model = $8, prompt_tokens = $9,
            completion_tokens = $10, cache_read_tokens = $11, cache_write_tokens = $12, source_format = $13,
            source_id = $14, body = $15, extra = $16 WHERE session = $1 AND branch = $2 AND seq = $3",
        &[
            session,
            branch,
            seq,
            message.role.into(),
            message.status.into(),
            message.created_at.into(),
            (&message.agent).into(),
            (&message.model).into(),
            message.prompt_tokens.into(),
            message.completion_tokens.into(),
            message.cache_read_tokens.into(),
            message.cache_write_tokens.into(),
            (&message.source_format).into(),
            (&message.source_id).into(),
            message.body.as_bytes().into(),
            (&message.extra).into(),
        ],
    )?;
    let words = text_index::replace(tx, place, message.body.as_bytes())?;
    session_stats::add_words(tx, place.session, words)
}

/// Selects the columns that [`message_from_row`] reads. The caller appends the conditions.
const SELECT_MESSAGE: &str = "SELECT session, branch, seq, id, role, status, created_at, agent, model, prompt_tokens,
    completion_tokens, cache_read_tokens, cache_write_tokens, source_format, source_id, body, extra FROM message";

/// Reads the message at a place. `branch` is the branch that it is stored on.
pub(crate) fn message_at(tx: &Tx, branch: BranchId, place: Place) -> Result<Option<Message>> {
    let sql = format!("{SELECT_MESSAGE} WHERE session = $1 AND branch = $2 AND seq = $3");
    tx.row(&sql, &place.values())?.map(|row| message_from_row(tx, branch, &row)).transpose()
}

/// Decodes a row of [`SELECT_MESSAGE`]. `branch` is the branch that the message is stored on.
fn message_from_row(tx: &Tx, branch: BranchId, row: &Row) -> Result<Message> {
    let place = Place::from_row(row)?;
    decode_row(tx, branch, place, row).map_err(|error| match error {
        Error::Corrupt(reason) => {
            Error::Corrupt(format!("message {} of branch {branch}: {reason}", place.seq))
        }
        other => other,
    })
}

fn decode_row(tx: &Tx, branch: BranchId, place: Place, row: &Row) -> Result<Message> {
    let mut status = rows::status(row.int(5)?)?;
    let mut parts = decode_body(row.bytes(15)?)?;
    if status == MessageStatus::Streaming {
        if !lookup::is_being_written(tx, place)? {
            status = MessageStatus::Interrupted;
        }
        append_stored_deltas(tx, place, &mut parts)?;
    }
    let tokens = row.opt_int(9)?.zip(row.opt_int(10)?);
    let cached = (row.opt_int(11)?.map(i64::cast_unsigned), row.opt_int(12)?.map(i64::cast_unsigned));
    let content = MessageDraft {
        id: MessageId::from_uuid(row.id(3)?),
        role: rows::role(row.int(4)?)?,
        status,
        parts,
        agent: row.opt_text(7)?,
        model: row.opt_text(8)?,
        usage: tokens.map(|(prompt, completion)| {
            Usage::new(prompt.cast_unsigned(), completion.cast_unsigned()).with_cache(cached.0, cached.1)
        }),
        created_at: row.time(6)?,
        source: row.opt_text(13)?.zip(row.opt_text(14)?).map(|(format, id)| Source { format, id }),
        extra: rows::extra_from_json(row.opt_text(16)?.as_deref())?,
    };
    Ok(Message { branch, seq: place.seq, content })
}

pub(crate) fn decode_body(stored: &[u8]) -> Result<Vec<Part>> {
    let text = std::str::from_utf8(stored)
        .map_err(|error| Error::Corrupt(format!("a body is not text: {error}")))?;
    Ok(body::decode(text)?)
}

/// Reads at most `count` messages up to the seq `last`: those stored on the branch, then those of its parent up to the
/// fork, and so on. Returns them oldest first.
fn read_backwards(tx: &Tx, branch: BranchRecord, last: u64, count: u32) -> Result<Vec<Message>> {
    let mut messages = Vec::new();
    let mut wanted = count;
    let mut last = last;
    let mut next = Some(branch);
    while let Some(branch) = next.filter(|_| wanted > 0) {
        if last > branch.forked_at {
            let before = messages.len();
            read_stored_on(
                tx,
                &branch,
                (branch.forked_at + 1, last),
                wanted,
                Order::NewestFirst,
                &mut messages,
            )?;
            wanted -= u32::try_from(messages.len() - before).unwrap_or(wanted);
        }
        last = last.min(branch.forked_at);
        let session = branch.session;
        next = branch.parent.map(|parent| lookup::branch_by_no(tx, session, parent)).transpose()?;
    }
    messages.reverse();
    Ok(messages)
}

/// Reads at most `count` messages, starting at the seq `first`.
fn read_forwards(tx: &Tx, branch: BranchRecord, first: u64, count: u32) -> Result<Vec<Message>> {
    // The branches that store the messages since `first`: the branch itself, then its ancestors. Each comes with the
    // last seq that it contributes to the history.
    let mut path = Vec::new();
    let mut last = u64::MAX;
    let mut next = Some(branch);
    while let Some(branch) = next.filter(|_| first <= last) {
        let (session, parent, forked_at) = (branch.session, branch.parent, branch.forked_at);
        path.push((branch, last));
        last = last.min(forked_at);
        next = parent.map(|parent| lookup::branch_by_no(tx, session, parent)).transpose()?;
    }
    let mut messages = Vec::new();
    for (branch, last) in path.iter().rev() {
        let wanted = count.saturating_sub(u32::try_from(messages.len()).unwrap_or(u32::MAX));
        let from = first.max(branch.forked_at + 1);
        if wanted > 0 && from <= *last {
            read_stored_on(tx, branch, (from, *last), wanted, Order::OldestFirst, &mut messages)?;
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
    tx: &Tx,
    branch: &BranchRecord,
    (first, last): (u64, u64),
    count: u32,
    order: Order,
    messages: &mut Vec<Message>,
) -> Result<()> {
    let direction = if order == Order::NewestFirst { "DESC" } else { "ASC" };
    let sql = format!(
        "{SELECT_MESSAGE} WHERE session = $1 AND branch = $2 AND seq BETWEEN $3 AND $4
            ORDER BY seq {direction} LIMIT $5"
    );
    for row in tx.rows(&sql, &values![branch.session, branch.no, first, last, count])? {
        messages.push(message_from_row(tx, branch.id, &row)?);
    }
    Ok(())
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

/// Replaces a reply that this store is writing by its final message. Returns its place.
fn finalize_reply(db: &Database, tx: &Tx, reply: ReplyHandle, row: &MessageRow) -> Result<Place> {
    let (place, _) = lock_own_reply(db, tx, reply)?;
    replace_row(tx, place, reply.message, row)?;
    delete_reply(tx, place)?;
    session_stats::touch(tx, place.session, row.created_at)?;
    Ok(place)
}

/// Locks the session of a reply that this store is writing. Returns the place of the reply, and the number of its last
/// delta.
fn lock_own_reply(db: &Database, tx: &Tx, reply: ReplyHandle) -> Result<(Place, i64)> {
    let not_own = || conflict(format!("reply {} is no longer being written", reply.message));
    match lookup::lock_branch(tx, reply.branch) {
        Err(Error::Rejected(error)) if error.kind() == ErrorKind::NotFound => return Err(not_own()),
        locked => locked?,
    };
    let row = tx.row(
        "SELECT message.session, message.branch, message.seq,
            (SELECT coalesce(max(number), 0) FROM reply_piece WHERE reply_piece.session = message.session
                AND reply_piece.branch = message.branch AND reply_piece.seq = message.seq)
            FROM message
            JOIN reply ON reply.session = message.session AND reply.branch = message.branch
                AND reply.seq = message.seq
            JOIN branch ON branch.session = message.session AND branch.no = message.branch
            WHERE message.id = $1 AND reply.writer = $2 AND branch.id = $3 AND message.seq = $4",
        &values![*reply.message.as_uuid(), db.presence(), *reply.branch.as_uuid(), reply.seq],
    )?;
    let row = row.ok_or_else(not_own)?;
    Ok((Place::from_row(&row)?, row.int(3)?))
}

/// Appends the stored deltas of a streaming reply to its parts.
pub(crate) fn append_stored_deltas(tx: &Tx, place: Place, parts: &mut Vec<Part>) -> Result<()> {
    let sql =
        "SELECT kind, text FROM reply_piece WHERE session = $1 AND branch = $2 AND seq = $3 ORDER BY number";
    for row in tx.rows(sql, &place.values())? {
        let text = std::str::from_utf8(row.bytes(1)?);
        let text = text.map_err(|error| Error::Corrupt(format!("a delta is not text: {error}")))?;
        append_delta(parts, &piece::decode(row.int(0)?, text)?);
    }
    Ok(())
}

/// Writes the final row of an abandoned reply: the content of its deltas, with the status `interrupted`. Its session must
/// be locked.
pub(crate) fn finalize_interrupted(tx: &Tx, place: Place) -> Result<()> {
    let sql = "SELECT body FROM message WHERE session = $1 AND branch = $2 AND seq = $3";
    let mut parts = decode_body(tx.one(sql, &place.values())?.bytes(0)?)?;
    append_stored_deltas(tx, place, &mut parts)?;
    let body = body::encode(&parts)?;
    let [session, branch, seq] = place.values();
    tx.execute(
        "UPDATE message SET status = $4, body = $5 WHERE session = $1 AND branch = $2 AND seq = $3",
        &[session, branch, seq, rows::status_code(MessageStatus::Interrupted).into(), body.as_bytes().into()],
    )?;
    delete_reply(tx, place)?;
    let words = text_index::replace(tx, place, body.as_bytes())?;
    session_stats::add_words(tx, place.session, words)
}

fn delete_reply(tx: &Tx, place: Place) -> Result<()> {
    for table in ["reply_piece", "reply"] {
        let sql = format!("DELETE FROM {table} WHERE session = $1 AND branch = $2 AND seq = $3");
        tx.execute(&sql, &place.values())?;
    }
    Ok(())
}

/// Finalizes the abandoned replies of a session, or of all sessions, and returns their number. `at` becomes the time of
/// the last change of their sessions; with `None` that time does not change.
pub(crate) fn finalize_abandoned(
    db: &Database,
    session: Option<SessionId>,
    at: Option<Timestamp>,
) -> StoreResult<u64> {
    let find = |tx: &Tx| {
        let session = session.map(|id| lookup::session(tx, id)).transpose()?;
        find_abandoned(tx, session)
    };
    // Usually no reply is abandoned, and a read transaction is enough to find that out.
    let sessions = db.read("read replies", find)?;
    let mut finalized = 0;
    // Each session in a transaction of its own, because a transaction that locks several may deadlock with another.
    for session in sessions {
        finalized += db.write("finalize interrupted replies", |tx| {
            let locked = lookup::lock_session(tx, SessionId::from_uuid(session));
            let session = match locked {
                // The session was purged in the meantime.
                Err(Error::Rejected(error)) if error.kind() == ErrorKind::NotFound => return Ok(0),
                locked => locked?,
            };
            let places = abandoned_in(tx, session)?;
            for place in &places {
                finalize_interrupted(tx, *place)?;
            }
            if let Some(at) = at.filter(|_| !places.is_empty()) {
                session_stats::touch(tx, session, at.as_micros())?;
            }
            Ok(places.len() as u64)
        })?;
    }
    Ok(finalized)
}

/// The sessions with replies whose writers have ended.
fn find_abandoned(tx: &Tx, session: Option<Uuid>) -> Result<Vec<Uuid>> {
    let sql = format!(
        "SELECT DISTINCT reply.session FROM reply JOIN activity ON activity.session = reply.session
            WHERE {IS_OWN} AND ($1::uuid IS NULL OR reply.session = $1)
            AND NOT EXISTS (SELECT 1 FROM presence WHERE presence.id = reply.writer AND {IS_ALIVE})"
    );
    tx.rows(&sql, &values![session])?.iter().map(|row| row.id(0)).collect()
}

fn abandoned_in(tx: &Tx, session: Uuid) -> Result<Vec<Place>> {
    let sql = format!(
        "SELECT reply.session, reply.branch, reply.seq FROM reply WHERE reply.session = $1
            AND NOT EXISTS (SELECT 1 FROM presence WHERE presence.id = reply.writer AND {IS_ALIVE})"
    );
    tx.rows(&sql, &values![session])?.iter().map(Place::from_row).collect()
}
