//! What cannot be read at all any more, and goes: states with their checkpoints, runs, operations, attachments,
//! replies that do not belong to a message.

use hfs_core::{Event, OperationKind, RunSnapshot};
use rusqlite::Connection;

use super::{Told, numbers};
use crate::codec::rows;
use crate::error::Result;
use crate::sqlite::runs;
use crate::state_store;
use crate::state_store::hash_of;

pub(super) fn remove_unreadable(conn: &Connection, told: &mut Told) -> Result<()> {
    orphans(conn, told)?;
    broken_states(conn, told)?;
    broken_attachments(conn, told)?;
    broken_runs(conn, told)?;
    broken_operations(conn, told)
}

/// Rows whose session or branch is gone with what they were about.
fn orphans(conn: &Connection, told: &mut Told) -> Result<()> {
    for table in ["run", "checkpoint"] {
        told.sweep(
            conn,
            &format!("DELETE FROM {table} WHERE NOT EXISTS (SELECT 1 FROM branch WHERE no = {table}.branch)"),
            &format!("{table}s"),
            "removed: their branch is gone",
        )?;
        told.sweep(
            conn,
            &format!(
                "UPDATE {table} SET session = (SELECT session FROM branch WHERE no = {table}.branch)
                    WHERE session <> (SELECT session FROM branch WHERE no = {table}.branch)"
            ),
            &format!("{table}s"),
            "given to the session of their branch",
        )?;
    }
    told.sweep(
        conn,
        "DELETE FROM operation WHERE NOT EXISTS (SELECT 1 FROM session WHERE no = operation.session)",
        "operations",
        "removed: their session is gone",
    )?;
    told.sweep(
        conn,
        "DELETE FROM activity WHERE NOT EXISTS (SELECT 1 FROM session WHERE no = activity.session)
            AND NOT EXISTS (SELECT 1 FROM branch WHERE branch.session = activity.session)",
        "rows of activity",
        "removed: their session is gone",
    )
}

fn broken_states(conn: &Connection, told: &mut Told) -> Result<()> {
    told.sweep(
        conn,
        "UPDATE branch SET state = NULL WHERE state IS NOT NULL
            AND NOT EXISTS (SELECT 1 FROM state WHERE no = branch.state)",
        "branches",
        "start from nothing: the state they started from is gone",
    )?;
    told.sweep(
        conn,
        "DELETE FROM checkpoint WHERE NOT EXISTS (SELECT 1 FROM state WHERE no = checkpoint.state)",
        "checkpoints",
        "removed: their state is gone",
    )?;
    let keyframes = state_store::KeyframeCache::default();
    for no in numbers(conn, "SELECT no FROM state ORDER BY no")? {
        match state_store::load(conn, no, &keyframes) {
            Err(error) if error.is_corruption() => {
                let checkpoints = conn.execute("DELETE FROM checkpoint WHERE state = ?1", [no])?;
                let branches = conn.execute("UPDATE branch SET state = NULL WHERE state = ?1", [no])?;
                let followers: i64 =
                    conn.query_row("SELECT count(*) FROM state WHERE base = ?1", [no], |row| row.get(0))?;
                conn.execute("DELETE FROM state WHERE no = ?1", [no])?;
                let detail = format!(
                    "removed, with {checkpoints} checkpoints that had it; {branches} branches start from \
                     nothing now, and {followers} states that were differences to it go, too ({error})"
                );
                told.did("removed", format!("state number {no}"), detail);
            }
            loaded => drop(loaded?),
        }
    }
    // Differences to a keyframe that went may stand before it in that order. Keyframes that are kept for others
    // only are left to the next vacuum.
    for no in numbers(conn, "SELECT no FROM state")? {
        state_store::drop_unused(conn, no)?;
    }
    Ok(())
}

fn broken_attachments(conn: &Connection, told: &mut Told) -> Result<()> {
    let mut broken = Vec::new();
    let mut statement = conn.prepare("SELECT no, hash, bytes FROM attachment")?;
    let mut found = statement.query([])?;
    while let Some(row) = found.next()? {
        let hash: Vec<u8> = row.get(1)?;
        let bytes = row.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?;
        if *hash != *hash_of(bytes).as_bytes() {
            broken.push(row.get::<_, i64>(0)?);
        }
    }
    for no in broken {
        conn.execute("DELETE FROM attachment_use WHERE attachment = ?1", [no])?;
        conn.execute("DELETE FROM attachment WHERE no = ?1", [no])?;
        told.did("removed", format!("attachment number {no}"), "its bytes are not what was stored");
    }
    Ok(())
}

fn broken_runs(conn: &Connection, told: &mut Told) -> Result<()> {
    let mut broken = Vec::new();
    let mut statement = conn.prepare("SELECT no, started_at, ended_at, snapshot, events FROM run")?;
    let mut found = statement.query([])?;
    while let Some(row) = found.next()? {
        let readable = rows::time(row.get(1)?)
            .and(row.get::<_, Option<i64>>(2)?.map(rows::time).transpose())
            .and(runs::unpack::<RunSnapshot>(&row.get::<_, Vec<u8>>(3)?))
            .and(runs::unpack::<Vec<Event>>(&row.get::<_, Vec<u8>>(4)?));
        if let Err(error) = readable {
            broken.push((row.get::<_, i64>(0)?, error));
        }
    }
    for (no, error) in broken {
        conn.execute("DELETE FROM run WHERE no = ?1", [no])?;
        told.did("removed", format!("run number {no}"), error.to_string());
    }
    Ok(())
}

fn broken_operations(conn: &Connection, told: &mut Told) -> Result<()> {
    let mut broken = Vec::new();
    let mut statement = conn.prepare("SELECT no, kind, created_at, before, after FROM operation")?;
    let mut found = statement.query([])?;
    while let Some(row) = found.next()? {
        let kind: String = row.get(1)?;
        let known = OperationKind::ALL.iter().any(|known| known.as_str() == kind);
        let before = row.get::<_, Option<String>>(3)?.map(|json| rows::shape_from_json(&json)).transpose();
        let after = rows::shape_from_json(&row.get::<_, String>(4)?);
        let readable = rows::time(row.get(2)?).and(before).and(after);
        if !known || readable.is_err() {
            broken.push(row.get::<_, i64>(0)?);
        }
    }
    for no in broken {
        conn.execute("DELETE FROM operation WHERE no = ?1", [no])?;
        told.did("removed", format!("operation number {no}"), "it cannot be read any more");
    }
    Ok(())
}
