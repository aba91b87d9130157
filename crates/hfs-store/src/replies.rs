//! Replies that arrive piece by piece.
//!
//! A reply's row says `streaming` while it is being written; the pieces lie in a table of their own, so that each
//! costs only itself, and are put together at the end. Who is writing it is the name of an open store; when that
//! store is gone, so is the writer, and the reply is seen as interrupted until somebody makes that last.

use std::sync::Arc;

use hfs_core::{
    DeltaKind, MessageDraft, MessageStatus, Part, Position, ReplyDelta, ReplyHandle, SessionId, StoreResult,
    Timestamp,
};
use rusqlite::{Connection, OptionalExtension, params};

use crate::fault::{Sql, conflict};
use crate::files::{self, Paths};
use crate::rows::{self, MessageRow};
use crate::store::SqliteStore;
use crate::{activity, body, lookup, messages, seal};

/// Tells living writers from dead ones.
#[derive(Debug, Clone)]
pub(crate) struct Eyes {
    pub(crate) paths: Arc<Paths>,
    pub(crate) own: Arc<str>,
}

impl Eyes {
    /// Whether the store of this name is open.
    pub(crate) fn see(&self, writer: &str) -> bool {
        *writer == *self.own || files::lives(&self.paths, writer)
    }

    /// Whether somebody who is alive is writing the message.
    pub(crate) fn is_being_written(&self, conn: &Connection, message: i64) -> Sql<bool> {
        let writer: Option<String> = conn
            .prepare_cached("SELECT writer FROM reply WHERE message = ?1")?
            .query_row([message], |row| row.get(0))
            .optional()?;
        Ok(writer.is_some_and(|writer| self.see(&writer)))
    }
}

pub(crate) fn begin(store: &SqliteStore, at: Position, reply: &MessageDraft) -> StoreResult<ReplyHandle> {
    let action = "begin the reply";
    let message = reply.id;
    let row = MessageRow::beginning(reply).map_err(|fault| fault.told(action, &store.paths.database))?;
    let eyes = store.eyes();
    store.write(action, move |conn| {
        let no = messages::add(conn, &eyes, at, std::slice::from_ref(&row))?;
        conn.prepare_cached("INSERT INTO reply (message, writer) VALUES (?1, ?2)")?
            .execute(params![no, eyes.own])?;
        Ok(ReplyHandle { message, branch: at.branch, seq: rows::seq_of(no) })
    })
}

pub(crate) fn extend(store: &SqliteStore, reply: ReplyHandle, pieces: &[ReplyDelta]) -> StoreResult<()> {
    let joined = join(pieces);
    let eyes = store.eyes();
    store.write("save the reply", move |conn| {
        let (no, _) = own(conn, &eyes, reply)?;
        let last: i64 = conn
            .prepare_cached("SELECT coalesce(max(number), 0) FROM reply_piece WHERE message = ?1")?
            .query_row([no], |row| row.get(0))?;
        let mut insert = conn.prepare_cached(
            "INSERT INTO reply_piece (message, number, kind, text) VALUES (?1, ?2, ?3, ?4)",
        )?;
        for (number, piece) in (last + 1..).zip(&joined) {
            insert.execute(params![no, number, rows::piece_code(piece.kind), piece.text])?;
        }
        Ok(())
    })
}

/// Puts pieces of the same kind together.
fn join(pieces: &[ReplyDelta]) -> Vec<ReplyDelta> {
    let mut joined: Vec<ReplyDelta> = Vec::new();
    for piece in pieces.iter().filter(|piece| !piece.text.is_empty()) {
        match joined.last_mut() {
            Some(last) if last.kind == piece.kind => last.text.push_str(&piece.text),
            _ => joined.push(piece.clone()),
        }
    }
    joined
}

pub(crate) fn finish(store: &SqliteStore, reply: ReplyHandle, message: &MessageDraft) -> StoreResult<()> {
    let action = "save the reply";
    let row = MessageRow::settled(message).map_err(|fault| fault.told(action, &store.paths.database))?;
    let eyes = store.eyes();
    store.write(action, move |conn| {
        let (no, session) = own(conn, &eyes, reply)?;
        messages::replace(conn, no, reply.message, &row)?;
        forget_pieces(conn, no)?;
        activity::advance(conn, session, row.created_at)?;
        activity::set_waiting(conn, session, true)
    })
}

/// The number and session of a reply that this store is writing.
fn own(conn: &Connection, eyes: &Eyes, reply: ReplyHandle) -> Sql<(i64, i64)> {
    conn.prepare_cached(
        "SELECT message.no, branch.session FROM message
            JOIN reply ON reply.message = message.no
            JOIN branch ON branch.no = message.no >> 32
            WHERE message.id = ?1 AND reply.writer = ?2 AND branch.id = ?3 AND message.no & 0xffffffff = ?4",
    )?
    .query_row(
        params![reply.message.as_uuid().as_bytes(), eyes.own, reply.branch.as_uuid().as_bytes(), reply.seq],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )
    .optional()?
    .ok_or_else(|| conflict(format!("reply {} is not being written any more", reply.message)))
}

/// What a reply that is marked as streaming looks like to readers: `parts` and what has arrived since.
pub(crate) fn arrived(
    conn: &Connection,
    eyes: &Eyes,
    no: i64,
    parts: Vec<Part>,
) -> Sql<(MessageStatus, Vec<Part>)> {
    let status =
        if eyes.is_being_written(conn, no)? { MessageStatus::Streaming } else { MessageStatus::Interrupted };
    Ok((status, with_pieces(conn, no, parts)?))
}

fn with_pieces(conn: &Connection, no: i64, mut parts: Vec<Part>) -> Sql<Vec<Part>> {
    let mut statement =
        conn.prepare_cached("SELECT kind, text FROM reply_piece WHERE message = ?1 ORDER BY number")?;
    let mut pieces = statement.query([no])?;
    while let Some(piece) = pieces.next()? {
        let kind = rows::piece(piece.get(0)?)?;
        let more = piece.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
        match (parts.last_mut(), kind) {
            (Some(Part::Text { text }), DeltaKind::Text)
            | (Some(Part::Thinking { text, .. }), DeltaKind::Thinking) => text.push_str(more),
            (_, DeltaKind::Text) => parts.push(Part::text(more)),
            (_, DeltaKind::Thinking) => {
                parts.push(Part::Thinking { text: more.to_owned(), signature: None });
            }
        }
    }
    Ok(parts)
}

/// Makes it last that a reply was interrupted.
pub(crate) fn settle(conn: &Connection, no: i64) -> Sql<()> {
    let body: String =
        conn.prepare_cached("SELECT body FROM message WHERE no = ?1")?.query_row([no], |row| row.get(0))?;
    let parts = with_pieces(conn, no, body::read(&body)?)?;
    conn.prepare_cached("UPDATE message SET status = ?2, body = ?3 WHERE no = ?1")?.execute(params![
        no,
        rows::status_code(MessageStatus::Interrupted),
        body::write(&parts)?
    ])?;
    seal::message(conn, no)?;
    forget_pieces(conn, no)?;
    let session: i64 = conn
        .prepare_cached("SELECT session FROM branch WHERE no = ?1")?
        .query_row([rows::branch_of(no)], |row| row.get(0))?;
    activity::set_waiting(conn, session, true)
}

pub(crate) fn forget_pieces(conn: &Connection, no: i64) -> Sql<()> {
    conn.prepare_cached("DELETE FROM reply_piece WHERE message = ?1")?.execute([no])?;
    conn.prepare_cached("DELETE FROM reply WHERE message = ?1")?.execute([no])?;
    Ok(())
}

pub(crate) fn recover_abandoned_replies(
    store: &SqliteStore,
    session: Option<SessionId>,
    at: Timestamp,
) -> StoreResult<u64> {
    settle_all(store, session, Some(at))
}

/// Settles what is abandoned; no session counts as changed by that.
pub(crate) fn settle_abandoned(store: &SqliteStore) -> StoreResult<u64> {
    settle_all(store, None, None)
}

fn settle_all(store: &SqliteStore, session: Option<SessionId>, at: Option<Timestamp>) -> StoreResult<u64> {
    let eyes = store.eyes();
    // Usually there is nothing to settle, and finding that out costs no write.
    if store.read("read replies", |conn| abandoned(conn, &eyes, session))?.is_empty() {
        return Ok(0);
    }
    store.write("settle interrupted replies", move |conn| {
        let found = abandoned(conn, &eyes, session)?;
        for (no, session) in &found {
            settle(conn, *no)?;
            if let Some(at) = at {
                activity::advance(conn, *session, at.as_micros())?;
            }
        }
        Ok(found.len() as u64)
    })
}

/// The replies whose writers are gone, each with its session.
fn abandoned(conn: &Connection, eyes: &Eyes, session: Option<SessionId>) -> Sql<Vec<(i64, i64)>> {
    let session = session.map(|id| lookup::session_no(conn, id)).transpose()?;
    let mut statement = conn.prepare_cached(
        "SELECT reply.message, branch.session, reply.writer FROM reply
            JOIN branch ON branch.no = reply.message >> 32
            WHERE ?1 IS NULL OR branch.session = ?1",
    )?;
    let mut found = Vec::new();
    let mut rows = statement.query([session])?;
    while let Some(row) = rows.next()? {
        let writer: String = row.get(2)?;
        if !eyes.see(&writer) {
            found.push((row.get(0)?, row.get(1)?));
        }
    }
    Ok(found)
}
