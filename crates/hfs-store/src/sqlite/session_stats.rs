//! When sessions last changed, how much they hold, and their places in the lists.
//!
//! A list is ordered by `session.place`, which equals the session's `updated_at` but for the first of the list:
//! there it may lag behind. So a conversation that goes on in one session touches one narrow row with each
//! message, and no list; only when another session passes it is its own place brought up to date.

use rusqlite::{Connection, OptionalExtension, params};

use crate::error::Result;

/// Where a session stands before something happens in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing {
    pub(crate) session: i64,
    pub(crate) updated_at: i64,
    /// Whether messages of it wait for the text index.
    pub(crate) waiting: bool,
    /// Whether it is the first of its list.
    pub(crate) is_first: bool,
}

/// Something happened in a session at a time.
pub(crate) fn advance(conn: &Connection, session: i64, at: i64) -> Result<()> {
    let updated_at: i64 = conn
        .prepare_cached("SELECT updated_at FROM activity WHERE session = ?1")?
        .query_row([session], |row| row.get(0))?;
    if at > updated_at {
        conn.prepare_cached("UPDATE activity SET updated_at = ?2 WHERE session = ?1")?
            .execute(params![session, at])?;
        keep_place(conn, session, at)?;
    }
    Ok(())
}

/// Messages were added to a session, the newest of them said at a time.
pub(crate) fn add(conn: &Connection, standing: Standing, at: i64, messages: usize) -> Result<()> {
    let Standing { session, updated_at, waiting, is_first } = standing;
    let moved_to = updated_at.max(at);
    // The index of what waits is touched only by whoever makes it wait.
    let sql = if waiting {
        "UPDATE activity SET updated_at = ?2, messages = messages + ?3 WHERE session = ?1"
    } else {
        "UPDATE activity SET updated_at = ?2, messages = messages + ?3, waiting = 1 WHERE session = ?1"
    };
    conn.prepare_cached(sql)?.execute(params![session, moved_to, messages])?;
    if moved_to > updated_at && !is_first {
        keep_place(conn, session, moved_to)?;
    }
    Ok(())
}

/// Some of a session's messages may not be in the text index any more.
pub(crate) fn set_waiting(conn: &Connection, session: i64, waiting: bool) -> Result<()> {
    conn.prepare_cached("UPDATE activity SET waiting = ?2 WHERE session = ?1 AND waiting <> ?2")?
        .execute(params![session, waiting])?;
    Ok(())
}

/// Puts a session into a list, at the place that its last change gives it there.
pub(crate) fn move_to(conn: &Connection, session: i64, state: i64) -> Result<()> {
    settle_first(conn, state, session)?;
    conn.prepare_cached(
        "UPDATE session SET state = ?2, place = (SELECT updated_at FROM activity WHERE session = ?1)
            WHERE no = ?1",
    )?
    .execute(params![session, state])?;
    Ok(())
}

/// Brings a session's place up to date, unless it is the first of its list.
fn keep_place(conn: &Connection, session: i64, updated_at: i64) -> Result<()> {
    let state: i64 = conn
        .prepare_cached("SELECT state FROM session WHERE no = ?1")?
        .query_row([session], |row| row.get(0))?;
    if settle_first(conn, state, session)? {
        conn.prepare_cached("UPDATE session SET place = ?2 WHERE no = ?1")?
            .execute(params![session, updated_at])?;
    }
    Ok(())
}

/// Brings the place of the first of a list up to date, unless that is `passing`. Whether it is another.
fn settle_first(conn: &Connection, state: i64, passing: i64) -> Result<bool> {
    let first: Option<(i64, i64)> = conn
        .prepare_cached(
            "SELECT no, place FROM session WHERE state = ?1 ORDER BY place DESC, id DESC LIMIT 1",
        )?
        .query_row([state], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((first, place)) = first.filter(|(first, _)| *first != passing) else {
        return Ok(first.is_none());
    };
    let updated_at: i64 = conn
        .prepare_cached("SELECT updated_at FROM activity WHERE session = ?1")?
        .query_row([first], |row| row.get(0))?;
    if updated_at != place {
        conn.prepare_cached("UPDATE session SET place = ?2 WHERE no = ?1")?
            .execute(params![first, updated_at])?;
    }
    Ok(true)
}
