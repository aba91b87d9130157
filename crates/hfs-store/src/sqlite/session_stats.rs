//! Denormalised counters of sessions (the table `activity`), and the sessions' positions in lists.
//!
//! Lists show the time of the last change and the numbers of messages, branches and checkpoints. They are ordered by
//! the time of the last change. To count the messages for a list, SQLite would have to read all of them, so the numbers
//! are stored. `verify` compares them with the rows.
//!
//! Invariant: `session.place`, by which lists are ordered, equals `activity.updated_at`. The exception is the first
//! session of each list, whose place may be older. This does not change the order, because the other sessions are even
//! older.
//!
//! The exception makes appends faster. Most appends are to the session that was changed last. Such an append updates
//! the session's narrow row in `activity`, but neither its wide row in `session` nor the index entries of that row
//! (`cargo xtask bench append`, row "durable append, one writer"). Before another session becomes the first, the
//! place of the previous first session is updated: see [`refresh_first`].

use rusqlite::{Connection, OptionalExtension, params};

use crate::error::Result;

/// The columns of a session that an append needs to update its counters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SessionStats {
    pub(crate) session: i64,
    pub(crate) updated_at: i64,
    /// Whether messages of the session are missing in the text index.
    pub(crate) needs_indexing: bool,
    /// Whether the session is the first of its list.
    pub(crate) is_first: bool,
}

/// Sets the time of a session's last change, if `at` is later.
pub(crate) fn touch(conn: &Connection, session: i64, at: i64) -> Result<()> {
    let updated_at: i64 = conn
        .prepare_cached("SELECT updated_at FROM activity WHERE session = ?1")?
        .query_row([session], |row| row.get(0))?;
    if at > updated_at {
        conn.prepare_cached("UPDATE activity SET updated_at = ?2 WHERE session = ?1")?
            .execute(params![session, at])?;
        update_place(conn, session, at)?;
    }
    Ok(())
}

/// Counts messages that were added to a session. `at` is the time of the newest of them.
pub(crate) fn add_messages(conn: &Connection, stats: SessionStats, at: i64, count: usize) -> Result<()> {
    let SessionStats { session, updated_at, needs_indexing, is_first } = stats;
    let new_updated_at = updated_at.max(at);
    // Leaves `waiting` out if it is set already, because assigning the same value would also update its partial index.
    let sql = if needs_indexing {
        "UPDATE activity SET updated_at = ?2, messages = messages + ?3 WHERE session = ?1"
    } else {
        "UPDATE activity SET updated_at = ?2, messages = messages + ?3, waiting = 1 WHERE session = ?1"
    };
    conn.prepare_cached(sql)?.execute(params![session, new_updated_at, count])?;
    if new_updated_at > updated_at && !is_first {
        update_place(conn, session, new_updated_at)?;
    }
    Ok(())
}

/// Adds to the number of a session's checkpoints.
pub(crate) fn add_checkpoints(conn: &Connection, session: i64, difference: i64) -> Result<()> {
    // Usually one checkpoint is created and one is pruned, so the counter does not change.
    if difference == 0 {
        return Ok(());
    }
    conn.prepare_cached("UPDATE activity SET checkpoints = checkpoints + ?2 WHERE session = ?1")?
        .execute(params![session, difference])?;
    Ok(())
}

/// Marks whether messages of a session are missing in the text index.
pub(crate) fn set_needs_indexing(conn: &Connection, session: i64, needs_indexing: bool) -> Result<()> {
    conn.prepare_cached("UPDATE activity SET waiting = ?2 WHERE session = ?1 AND waiting <> ?2")?
        .execute(params![session, needs_indexing])?;
    Ok(())
}

/// Moves a session to the list of sessions with this state, at the position of its last change.
pub(crate) fn move_to_list(conn: &Connection, session: i64, state: i64) -> Result<()> {
    refresh_first(conn, state, session)?;
    conn.prepare_cached(
        "UPDATE session SET state = ?2, place = (SELECT updated_at FROM activity WHERE session = ?1)
            WHERE no = ?1",
    )?
    .execute(params![session, state])?;
    Ok(())
}

/// Sets a session's place, unless the session is the first of its list.
fn update_place(conn: &Connection, session: i64, updated_at: i64) -> Result<()> {
    let state: i64 = conn
        .prepare_cached("SELECT state FROM session WHERE no = ?1")?
        .query_row([session], |row| row.get(0))?;
    if refresh_first(conn, state, session)? {
        conn.prepare_cached("UPDATE session SET place = ?2 WHERE no = ?1")?
            .execute(params![session, updated_at])?;
    }
    Ok(())
}

/// Sets the place of a list's first session to the time of its last change, and returns true. Does nothing and returns
/// false if the first session is `session`.
fn refresh_first(conn: &Connection, state: i64, session: i64) -> Result<bool> {
    let first: Option<(i64, i64)> = conn
        .prepare_cached(
            "SELECT no, place FROM session WHERE state = ?1 ORDER BY place DESC, id DESC LIMIT 1",
        )?
        .query_row([state], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((first, place)) = first else { return Ok(true) };
    if first == session {
        return Ok(false);
    }
    let updated_at: i64 = conn
        .prepare_cached("SELECT updated_at FROM activity WHERE session = ?1")?
        .query_row([first], |row| row.get(0))?;
    if updated_at != place {
        conn.prepare_cached("UPDATE session SET place = ?2 WHERE no = ?1")?
            .execute(params![first, updated_at])?;
    }
    Ok(true)
}
