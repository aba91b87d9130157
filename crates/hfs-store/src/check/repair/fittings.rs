//! What can be worked out from the rest: counts, places in lists, current branches, the text index.

use hfs_core::SessionId;
use rusqlite::{Connection, OptionalExtension, params};

use super::{Told, numbers};
use crate::check::verify::count_messages;
use crate::codec::checksum;
use crate::codec::rows;
use crate::db::schema;
use crate::error::Result;

pub(super) fn mend(conn: &Connection, told: &mut Told, index: bool) -> Result<()> {
    replies(conn, told)?;
    branches(conn)?;
    for session in numbers(conn, "SELECT no FROM session ORDER BY no")? {
        self::session(conn, session, told)?;
        activity(conn, session)?;
    }
    checkpoints(conn)?;
    // Every place as if nobody were lagging behind.
    conn.execute(
        "UPDATE session SET place = (SELECT updated_at FROM activity WHERE session = no) WHERE state <> 2",
        [],
    )?;
    if index { text_index(conn, told) } else { Ok(()) }
}

fn replies(conn: &Connection, told: &mut Told) -> Result<()> {
    conn.execute(
        "DELETE FROM reply WHERE NOT EXISTS (SELECT 1 FROM message WHERE no = reply.message AND status = 1)",
        [],
    )?;
    conn.execute(
        "DELETE FROM reply_piece WHERE NOT EXISTS (SELECT 1 FROM reply WHERE reply.message = reply_piece.message)",
        [],
    )?;
    let abandoned = numbers(
        conn,
        "SELECT no FROM message WHERE status = 1 AND NOT EXISTS (SELECT 1 FROM reply WHERE message = no)",
    )?;
    for no in abandoned {
        conn.execute("UPDATE message SET status = 2 WHERE no = ?1", [no])?;
        checksum::message(conn, no)?;
        let place = format!("message {} of branch number {}", rows::seq_of(no), rows::branch_of(no));
        told.did("mended", place, "it is interrupted: nobody is writing it");
    }
    Ok(())
}

fn branches(conn: &Connection) -> Result<()> {
    conn.execute("UPDATE branch SET retired = 1 WHERE retired NOT IN (0, 1)", [])?;
    for (no, at) in times(conn, "branch")? {
        if rows::time(at).is_err() {
            conn.execute("UPDATE branch SET created_at = 0 WHERE no = ?1", [no])?;
        }
    }
    Ok(())
}

fn times(conn: &Connection, table: &str) -> Result<Vec<(i64, i64)>> {
    let found = conn
        .prepare(&format!("SELECT no, created_at FROM {table}"))?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    Ok(found)
}

fn session(conn: &Connection, no: i64, told: &mut Told) -> Result<()> {
    let place = format!("session number {no}");
    let whole: bool = conn
        .prepare_cached(&format!("SELECT {} FROM session WHERE no = ?1", checksum::session_holds()))?
        .query_row([no], |row| row.get(0))?;
    if !whole {
        told.did("damaged", &place, "it is not quite what was stored: what can be read of it was kept");
    }
    let (id, created_at, trashed_at, extra, state): (Vec<u8>, i64, Option<i64>, Option<String>, i64) = conn
        .prepare_cached("SELECT id, created_at, trashed_at, extra, state FROM session WHERE no = ?1")?
        .query_row([no], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)))?;
    let id = <[u8; 16]>::try_from(id)
        .map_or_else(|_| SessionId::generate(), |bytes| SessionId::from_uuid(rows::uuid(bytes)));
    let trashed_at = trashed_at.filter(|at| rows::time(*at).is_ok());
    let state = match (state, trashed_at) {
        (2, _) => 2,
        (_, Some(_)) => 1,
        (_, None) => 0,
    };
    conn.prepare_cached(
        "UPDATE session SET id = ?2, short = ?3, created_at = ?4, trashed_at = ?5, extra = ?6, state = ?7,
            automatic_name = automatic_name <> 0 WHERE no = ?1",
    )?
    .execute(params![
        no,
        id.as_uuid().as_bytes(),
        id.short().as_str(),
        rows::time(created_at).map_or(0, |_| created_at),
        trashed_at,
        extra.filter(|json| rows::extra_from_json(Some(json)).is_ok()),
        state,
    ])?;
    current_branch(conn, no, told)?;
    checksum::session(conn, no)
}

/// A current branch that is none gives way to the newest that is one.
fn current_branch(conn: &Connection, session: i64, told: &mut Told) -> Result<()> {
    let good = conn
        .prepare_cached(
            "SELECT 1 FROM session JOIN branch ON branch.no = session.current_branch
                WHERE session.no = ?1 AND branch.session = session.no AND NOT branch.retired",
        )?
        .exists([session])?;
    if good {
        return Ok(());
    }
    let newest: Option<i64> = conn
        .prepare_cached("SELECT no FROM branch WHERE session = ?1 ORDER BY retired, no DESC LIMIT 1")?
        .query_row([session], |row| row.get(0))
        .optional()?;
    if let Some(branch) = newest {
        conn.execute("UPDATE branch SET retired = 0 WHERE no = ?1", [branch])?;
        conn.execute("UPDATE session SET current_branch = ?2 WHERE no = ?1", [session, branch])?;
        let detail = format!("its current branch is number {branch} now");
        told.did("mended", format!("session number {session}"), detail);
    }
    Ok(())
}

/// Counts anew. The time of the last change, where it is lost, is that of the newest thing that happened.
fn activity(conn: &Connection, session: i64) -> Result<()> {
    let known: Option<i64> = conn
        .prepare_cached("SELECT updated_at FROM activity WHERE session = ?1")?
        .query_row([session], |row| row.get(0))
        .optional()?
        .filter(|at| rows::time(*at).is_ok());
    let updated_at = match known {
        Some(at) => at,
        None => conn
            .prepare_cached(
                "SELECT max(at) FROM (
                    SELECT created_at AS at FROM session WHERE no = ?1
                    UNION ALL SELECT max(created_at) FROM operation WHERE session = ?1
                    UNION ALL SELECT max(message.created_at) FROM branch JOIN message
                        ON message.no BETWEEN branch.no << 32 AND (branch.no << 32 | 0xffffffff)
                        WHERE branch.session = ?1)",
            )?
            .query_row([session], |row| row.get(0))?,
    };
    conn.prepare_cached(
        "INSERT OR REPLACE INTO activity (session, updated_at, messages, branches, checkpoints, waiting)
            SELECT no, ?2, ?3, (SELECT count(*) FROM branch WHERE session = ?1 AND NOT retired),
                (SELECT count(*) FROM checkpoint WHERE session = ?1), state <> 2 FROM session WHERE no = ?1",
    )?
    .execute(params![session, updated_at, count_messages(conn, session)?])?;
    Ok(())
}

fn checkpoints(conn: &Connection) -> Result<()> {
    conn.execute(
        "UPDATE checkpoint SET pinned = pinned <> 0,
            automatic = (NOT pinned AND label IS NULL AND trigger <> 'manual')",
        [],
    )?;
    for (no, at) in times(conn, "checkpoint")? {
        if rows::time(at).is_err() {
            conn.execute("UPDATE checkpoint SET created_at = 0 WHERE no = ?1", [no])?;
        }
    }
    Ok(())
}

/// Builds the text index anew: it is empty, and everything waits for it.
fn text_index(conn: &Connection, told: &mut Told) -> Result<()> {
    conn.execute_batch(&format!("DROP TABLE message_text; {}", schema::TEXT_INDEX))?;
    conn.execute("UPDATE branch SET indexed = forked_at", [])?;
    told.did("rebuilt", "text index", "it is built anew from the messages");
    Ok(())
}
