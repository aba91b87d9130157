//! Sessions, branches and messages, made one unbroken history each.

use hfs_core::{BranchId, ContentHash, MAIN_BRANCH, MessageId, Part, SessionId};
use rusqlite::{Connection, OptionalExtension, params};

use super::{Told, numbers};
use crate::codec::body;
use crate::codec::checksum;
use crate::codec::rows::{self, branch_of, message_no, seq_of};
use crate::db::lookup;
use crate::error::Result;

/// What stands where a message was.
const LOST: &str = "(This message was damaged, and could not be recovered.)";
/// More messages in a row than that are not believed to have been lost: rather, a number is wrong.
const BELIEVABLE: u64 = 1_000_000;

pub(super) fn mend(conn: &Connection, told: &mut Told) -> Result<()> {
    branches_of_messages(conn, told)?;
    sessions_of_branches(conn, told)?;
    main_branches(conn, told)?;
    parents(conn, told)?;
    for branch in numbers(conn, "SELECT no FROM branch ORDER BY no")? {
        fill(conn, branch, told)?;
    }
    ends(conn, told)?;
    contents(conn, told)
}

/// Messages whose branch is gone get one again.
fn branches_of_messages(conn: &Connection, told: &mut Told) -> Result<()> {
    let orphaned = numbers(
        conn,
        "SELECT DISTINCT no >> 32 FROM message
            WHERE NOT EXISTS (SELECT 1 FROM branch WHERE branch.no = message.no >> 32)",
    )?;
    for branch in orphaned {
        let session = new_session(conn, &format!("Recovered {branch}"))?;
        conn.execute(
            "INSERT INTO branch (no, id, session, name, parent, forked_at, created_at, retired, indexed)
                VALUES (?1, ?2, ?3, ?4, NULL, 0, 0, 0, 0)",
            params![branch, BranchId::generate().as_uuid().as_bytes(), session, MAIN_BRANCH],
        )?;
        told.did(
            "recovered",
            format!("branch number {branch}"),
            format!("its messages are in a session of their own now, \"Recovered {branch}\""),
        );
    }
    Ok(())
}

/// Branches whose session is gone get one again, those of one together.
fn sessions_of_branches(conn: &Connection, told: &mut Told) -> Result<()> {
    let orphaned = numbers(
        conn,
        "SELECT DISTINCT session FROM branch
            WHERE NOT EXISTS (SELECT 1 FROM session WHERE session.no = branch.session)",
    )?;
    for lost in orphaned {
        let name = format!("Recovered {lost}");
        let session = new_session(conn, &name)?;
        conn.execute("UPDATE branch SET session = ?2 WHERE session = ?1", [lost, session])?;
        for table in ["run", "checkpoint", "operation"] {
            conn.execute(&format!("UPDATE {table} SET session = ?2 WHERE session = ?1"), [lost, session])?;
        }
        told.did("recovered", format!("session number {lost}"), format!("it is called {name:?} now"));
    }
    Ok(())
}

/// A session without branches; the rest is for what follows to find and mend.
fn new_session(conn: &Connection, name: &str) -> Result<i64> {
    let id = SessionId::generate();
    conn.execute(
        "INSERT INTO session (id, short, name, automatic_name, state, place, created_at, current_branch, sum)
            VALUES (?1, ?2, ?3, 0, 0, 0, 0, 0, 0)",
        params![id.as_uuid().as_bytes(), id.short().as_str(), name],
    )?;
    Ok(conn.last_insert_rowid())
}

/// Sessions without any branch get an empty one.
fn main_branches(conn: &Connection, told: &mut Told) -> Result<()> {
    let bare = numbers(
        conn,
        "SELECT no FROM session WHERE NOT EXISTS (SELECT 1 FROM branch WHERE branch.session = session.no)",
    )?;
    for session in bare {
        conn.execute(
            "INSERT INTO branch (id, session, name, parent, forked_at, created_at, retired, indexed)
                VALUES (?1, ?2, ?3, NULL, 0, 0, 0, 0)",
            params![BranchId::generate().as_uuid().as_bytes(), session, MAIN_BRANCH],
        )?;
        told.did("recovered", format!("session number {session}"), "it has an empty branch now");
    }
    Ok(())
}

/// Branches whose parent is gone or impossible become roots.
fn parents(conn: &Connection, told: &mut Told) -> Result<()> {
    told.sweep(
        conn,
        "UPDATE branch SET parent = NULL WHERE parent IS NOT NULL AND (parent >= no OR NOT EXISTS (
            SELECT 1 FROM branch AS other WHERE other.no = branch.parent AND other.session = branch.session))",
        "branches",
        "have no parent any more: it is gone",
    )?;
    for (branch, forked_at) in forks(conn)? {
        let first = first_own(conn, branch)?;
        let believable = match first {
            Some(first) => forked_at.min(first - 1),
            None if forked_at > BELIEVABLE => 0,
            None => forked_at,
        };
        let parent: Option<i64> =
            conn.query_row("SELECT parent FROM branch WHERE no = ?1", [branch], |row| row.get(0))?;
        if parent.is_none() && forked_at > 0 {
            // What it shared is lost; the places of what follows stay.
            conn.execute("UPDATE branch SET forked_at = 0, indexed = 0 WHERE no = ?1", [branch])?;
            if first.is_none() && believable > 0 {
                put_lost(conn, branch, believable)?;
            }
            told.did("mended", format!("branch number {branch}"), "it begins by itself now");
        } else if believable != forked_at {
            conn.execute("UPDATE branch SET forked_at = ?2 WHERE no = ?1", params![branch, believable])?;
            told.did(
                "mended",
                format!("branch number {branch}"),
                format!("it forks at {believable}, not at {forked_at}"),
            );
        }
    }
    Ok(())
}

fn forks(conn: &Connection) -> Result<Vec<(i64, u64)>> {
    let found = conn
        .prepare("SELECT no, forked_at FROM branch ORDER BY no")?
        .query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.max(0).cast_unsigned())))?
        .collect::<rusqlite::Result<_>>()?;
    Ok(found)
}

fn first_own(conn: &Connection, branch: i64) -> Result<Option<u64>> {
    let range = params![message_no(branch, 1)?, message_no(branch, u64::from(u32::MAX))?];
    let first: Option<i64> = conn
        .prepare_cached("SELECT min(no) FROM message WHERE no BETWEEN ?1 AND ?2")?
        .query_row(range, |row| row.get(0))?;
    Ok(first.map(seq_of))
}

/// Puts a sign wherever a branch's messages have a gap.
fn fill(conn: &Connection, branch: i64, told: &mut Told) -> Result<()> {
    let forked_at: u64 =
        conn.query_row("SELECT forked_at FROM branch WHERE no = ?1", [branch], |row| row.get(0))?;
    let range = params![message_no(branch, 1)?, message_no(branch, u64::from(u32::MAX))?];
    let mut expected = forked_at + 1;
    let mut lost = Vec::new();
    let mut astray = Vec::new();
    {
        let mut statement =
            conn.prepare_cached("SELECT no FROM message WHERE no BETWEEN ?1 AND ?2 ORDER BY no")?;
        let mut found = statement.query(range)?;
        while let Some(row) = found.next()? {
            let no: i64 = row.get(0)?;
            let seq = seq_of(no);
            if seq - expected.min(seq) > BELIEVABLE {
                astray.push(no);
                continue;
            }
            lost.extend(expected..seq);
            expected = seq + 1;
        }
    }
    for no in astray {
        conn.execute("DELETE FROM message WHERE no = ?1", [no])?;
        told.did("removed", format!("message {} of branch number {branch}", seq_of(no)), "it stood nowhere");
    }
    for seq in &lost {
        put_lost(conn, branch, *seq)?;
    }
    if let (Some(first), Some(last)) = (lost.first(), lost.last()) {
        told.did(
            "lost",
            format!("branch number {branch}"),
            format!("{} messages between {first} and {last} are lost", lost.len()),
        );
    }
    Ok(())
}

/// Makes a message that says that one was lost.
fn put_lost(conn: &Connection, branch: i64, seq: u64) -> Result<()> {
    let no = message_no(branch, seq)?;
    let at: i64 = conn
        .prepare_cached("SELECT coalesce(max(created_at), 0) FROM message WHERE no = ?1 - 1")?
        .query_row([no], |row| row.get(0))?;
    conn.prepare_cached(
        "INSERT OR IGNORE INTO message (no, id, role, status, created_at, sum, body)
            VALUES (?1, ?2, 2, 2, ?3, 0, ?4)",
    )?
    .execute(params![
        no,
        MessageId::generate().as_uuid().as_bytes(),
        at,
        body::write(&[Part::text(LOST)])?
    ])?;
    checksum::message(conn, no)
}

/// Histories reach as far as what was forked from them, and checkpoints no further than they.
fn ends(conn: &Connection, told: &mut Told) -> Result<()> {
    for (branch, forked_at) in forks(conn)? {
        let parent: Option<i64> =
            conn.query_row("SELECT parent FROM branch WHERE no = ?1", [branch], |row| row.get(0))?;
        if let Some(parent) = parent {
            let parent = lookup::branch_by_no(conn, parent)?;
            let head = lookup::head(conn, parent.no, parent.forked_at)?;
            for seq in head + 1..=forked_at {
                put_lost(conn, parent.no, seq)?;
            }
            if head < forked_at {
                let detail =
                    format!("its messages after {head} are lost; it went on at least to {forked_at}");
                told.did("lost", format!("branch number {}", parent.no), detail);
            }
        }
    }
    let checkpoints: Vec<(i64, i64, u64)> = conn
        .prepare("SELECT no, branch, seq FROM checkpoint")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, i64>(2)?.max(0).cast_unsigned())))?
        .collect::<rusqlite::Result<_>>()?;
    for (no, branch, seq) in checkpoints {
        let branch = lookup::branch_by_no(conn, branch)?;
        let head = lookup::head(conn, branch.no, branch.forked_at)?;
        if seq > head {
            conn.execute("UPDATE checkpoint SET seq = ?2 WHERE no = ?1", params![no, head])?;
            told.did("mended", format!("checkpoint number {no}"), format!("it marks {head}, not {seq}"));
        }
    }
    Ok(())
}

/// Messages that are not what was stored are kept as far as they can be read, and marked by being told.
fn contents(conn: &Connection, told: &mut Told) -> Result<()> {
    let changed = numbers(conn, &format!("SELECT no FROM message WHERE NOT {}", checksum::message_holds()))?;
    for no in changed {
        let (role, status, at, body, extra): (i64, i64, i64, String, Option<String>) = conn
            .prepare_cached("SELECT role, status, created_at, body, extra FROM message WHERE no = ?1")?
            .query_row([no], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)))?;
        let place = format!("message {} of branch number {}", seq_of(no), branch_of(no));
        let readable = body::read(&body).is_ok();
        let body = if readable {
            body
        } else {
            // As it is, for people to make something of.
            let raw = Part::Opaque { source: "hfs".into(), raw: body.into() };
            body::write(&[Part::text(LOST), raw])?
        };
        conn.prepare_cached(
            "UPDATE message SET role = ?2, status = ?3, created_at = ?4, body = ?5, extra = ?6 WHERE no = ?1",
        )?
        .execute(params![
            no,
            rows::role(role).map_or(2, |_| role),
            rows::status(status).map_or(2, |_| status),
            rows::time(at).map_or(0, |_| at),
            body,
            extra.filter(|json| rows::extra_from_json(Some(json)).is_ok()),
        ])?;
        checksum::message(conn, no)?;
        let detail = if readable {
            "it is not quite what was stored: what can be read of it was kept"
        } else {
            "it cannot be read: its bytes were kept as they are"
        };
        told.did("damaged", place, detail);
    }
    attachments(conn, told)
}

/// References to attachments that are gone become references without bytes; those that are there are held.
fn attachments(conn: &Connection, told: &mut Told) -> Result<()> {
    conn.execute(
        "DELETE FROM attachment_use WHERE message > 0
            AND (NOT EXISTS (SELECT 1 FROM message WHERE no = attachment_use.message)
            OR NOT EXISTS (SELECT 1 FROM attachment WHERE no = attachment_use.attachment))",
        [],
    )?;
    for no in numbers(
        conn,
        "SELECT no FROM message WHERE instr(body, '\"attachment\":') > 0
            UNION SELECT message FROM attachment_use WHERE message > 0",
    )? {
        let body: String =
            conn.query_row("SELECT body FROM message WHERE no = ?1", [no], |row| row.get(0))?;
        let mut parts = body::read(&body)?;
        conn.execute("DELETE FROM attachment_use WHERE message = ?1", [no])?;
        let mut gone = 0;
        for part in &mut parts {
            let Part::Attachment { hash, .. } = part else { continue };
            let Some(found) = *hash else { continue };
            if hold(conn, no, found)?.is_none() {
                *hash = None;
                gone += 1;
            }
        }
        if gone > 0 {
            conn.execute("UPDATE message SET body = ?2 WHERE no = ?1", params![no, body::write(&parts)?])?;
            checksum::message(conn, no)?;
            let place = format!("message {} of branch number {}", seq_of(no), branch_of(no));
            told.did("lost", place, format!("the bytes of {gone} of its attachments are lost"));
        }
    }
    Ok(())
}

fn hold(conn: &Connection, message: i64, hash: ContentHash) -> Result<Option<()>> {
    let attachment: Option<i64> = conn
        .prepare_cached("SELECT no FROM attachment WHERE hash = ?1")?
        .query_row([hash.as_bytes()], |row| row.get(0))
        .optional()?;
    let Some(attachment) = attachment else { return Ok(None) };
    conn.execute("INSERT OR IGNORE INTO attachment_use VALUES (?1, ?2)", [message, attachment])?;
    Ok(Some(()))
}
