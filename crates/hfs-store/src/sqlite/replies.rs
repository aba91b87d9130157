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

use crate::codec::body;
use crate::codec::checksum;
use crate::codec::rows::{self, MessageRow};
use crate::db::locks::LivenessProbe;
use crate::db::lookup;
use crate::error::{Result, conflict};
use crate::sqlite::SqliteStore;
use crate::sqlite::messages;
use crate::sqlite::session_stats;

pub(crate) fn begin(store: &SqliteStore, at: Position, reply: &MessageDraft) -> StoreResult<ReplyHandle> {
    let action = "begin the reply";
    let message = reply.id;
    let row = MessageRow::beginning(reply)
        .map_err(|error| error.into_store_error(action, &store.db.paths.database))?;
    let probe = store.db.liveness_probe();
    store.db.write(action, move |conn| {
        let no = messages::add(conn, &probe, at, std::slice::from_ref(&row))?;
        conn.prepare_cached("INSERT INTO reply (message, writer) VALUES (?1, ?2)")?
            .execute(params![no, probe.own()])?;
        Ok(ReplyHandle { message, branch: at.branch, seq: rows::seq_of(no) })
    })
}

pub(crate) fn extend(store: &SqliteStore, reply: ReplyHandle, pieces: &[ReplyDelta]) -> StoreResult<()> {
    let joined = join(pieces);
    let probe = store.db.liveness_probe();
    store.db.write("save the reply", move |conn| {
        let (no, _) = own(conn, &probe, reply)?;
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
    let row = MessageRow::settled(message)
        .map_err(|error| error.into_store_error(action, &store.db.paths.database))?;
    let probe = store.db.liveness_probe();
    store.db.write(action, move |conn| {
        let (no, session) = own(conn, &probe, reply)?;
        messages::replace(conn, no, reply.message, &row)?;
        forget_pieces(conn, no)?;
        session_stats::advance(conn, session, row.created_at)?;
        session_stats::set_waiting(conn, session, true)
    })
}

/// The number and session of a reply that this store is writing.
fn own(conn: &Connection, probe: &LivenessProbe, reply: ReplyHandle) -> Result<(i64, i64)> {
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
    .ok_or_else(|| conflict(format!("reply {} is not being written any more", reply.message)))
}

/// What a reply that is marked as streaming looks like to readers: `parts` and what has arrived since.
pub(crate) fn arrived(
    conn: &Connection,
    probe: &LivenessProbe,
    no: i64,
    parts: Vec<Part>,
) -> Result<(MessageStatus, Vec<Part>)> {
    let status = if lookup::is_being_written(conn, probe, no)? {
        MessageStatus::Streaming
    } else {
        MessageStatus::Interrupted
    };
    Ok((status, with_pieces(conn, no, parts)?))
}

fn with_pieces(conn: &Connection, no: i64, mut parts: Vec<Part>) -> Result<Vec<Part>> {
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
pub(crate) fn settle(conn: &Connection, no: i64) -> Result<()> {
    let body: String =
        conn.prepare_cached("SELECT body FROM message WHERE no = ?1")?.query_row([no], |row| row.get(0))?;
    let parts = with_pieces(conn, no, body::read(&body)?)?;
    conn.prepare_cached("UPDATE message SET status = ?2, body = ?3 WHERE no = ?1")?.execute(params![
        no,
        rows::status_code(MessageStatus::Interrupted),
        body::write(&parts)?
    ])?;
    checksum::message(conn, no)?;
    forget_pieces(conn, no)?;
    let session: i64 = conn
        .prepare_cached("SELECT session FROM branch WHERE no = ?1")?
        .query_row([rows::branch_of(no)], |row| row.get(0))?;
    session_stats::set_waiting(conn, session, true)
}

pub(crate) fn forget_pieces(conn: &Connection, no: i64) -> Result<()> {
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
    let probe = store.db.liveness_probe();
    // Usually there is nothing to settle, and finding that out costs no write.
    if store.db.read("read replies", |conn| abandoned(conn, &probe, session))?.is_empty() {
        return Ok(0);
    }
    store.db.write("settle interrupted replies", move |conn| {
        let found = abandoned(conn, &probe, session)?;
        for (no, session) in &found {
            settle(conn, *no)?;
            if let Some(at) = at {
                session_stats::advance(conn, *session, at.as_micros())?;
            }
        }
        Ok(found.len() as u64)
    })
}

/// The replies whose writers are gone, each with its session.
fn abandoned(
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
    let mut found = Vec::new();
    let mut rows = statement.query([session])?;
    while let Some(row) = rows.next()? {
        let writer: String = row.get(2)?;
        if !probe.is_alive(&writer) {
            found.push((row.get(0)?, row.get(1)?));
        }
    }
    Ok(found)
}
