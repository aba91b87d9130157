//! Repairs the histories: sessions, branches, and gaps between messages.

use hfs_core::{BranchId, ContentHash, MAIN_BRANCH, MessageId, Part, SessionId, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

use crate::check::repair::{RepairLog, row_numbers};
use crate::check::{RepairKind, message_place};
use crate::codec::rows::{self, message_no, seq_of};
use crate::codec::{body, checksum};
use crate::db::lookup;
use crate::error::Result;
use crate::sqlite::messages::{self, UnreadableDeltas};

/// Text in place of a lost one.
pub(super) const LOST: &str = "(This message was damaged, and could not be recovered.)";
/// Largest number of lost messages in one gap. A larger gap means that the row number after it is damaged.
const MAX_GAP: u64 = 1_000_000;

/// Creates the branches and sessions that other rows refer to and that are lost. They keep their numbers, so that all
/// these rows stay with them.
pub(super) fn recreate_owners(conn: &Connection, now: Timestamp, log: &mut RepairLog) -> Result<()> {
    recreate_branches(conn, now, log)?;
    recreate_sessions(conn, now, log)
}

pub(super) fn repair(conn: &Connection, now: Timestamp, log: &mut RepairLog) -> Result<()> {
    add_main_branches(conn, now, log)?;
    correct_forks(conn, now, log)?;
    for branch in row_numbers(conn, "SELECT no FROM branch ORDER BY no")? {
        fill_gaps(conn, branch, now, log)?;
    }
    extend_parents(conn, now, log)?;
    correct_checkpoint_seqs(conn, log)?;
    rewrite_damaged_messages(conn, now, log)?;
    finalize_replies(conn, log)?;
    correct_attachment_uses(conn, log)
}

fn recreate_branches(conn: &Connection, now: Timestamp, log: &mut RepairLog) -> Result<()> {
    let missing = row_numbers(
        conn,
        "SELECT DISTINCT branch FROM (SELECT no >> 32 AS branch FROM message
            UNION SELECT branch FROM run UNION SELECT branch FROM checkpoint)
            WHERE branch BETWEEN 1 AND 2147483647 AND NOT EXISTS (SELECT 1 FROM branch AS known WHERE known.no = branch)",
    )?;
    for branch in missing {
        // Runs and checkpoints know their session, and a session knows its current branch. Otherwise the branch gets a
        // session of its own.
        let known: Option<i64> = conn
            .prepare_cached(
                "SELECT session FROM run WHERE branch = ?1 AND session > 0
                    UNION ALL SELECT session FROM checkpoint WHERE branch = ?1 AND session > 0
                    UNION ALL SELECT no FROM session WHERE current_branch = ?1 LIMIT 1",
            )?
            .query_row([branch], |row| row.get(0))
            .optional()?;
        let session = match known {
            Some(session) => session,
            None => unused_session_number(conn)?,
        };
        let is_taken = conn
            .prepare_cached("SELECT 1 FROM branch WHERE session = ?1 AND name = ?2")?
            .exists(params![session, MAIN_BRANCH])?;
        let name = if is_taken { format!("recovered-{branch}") } else { MAIN_BRANCH.to_owned() };
        conn.execute(
            "INSERT INTO branch (no, id, session, name, parent, forked_at, created_at, retired, indexed_seq)
                VALUES (?1, ?2, ?3, ?4, NULL, 0, ?5, 0, 0)",
            params![branch, BranchId::generate().as_uuid().as_bytes(), session, name, now.as_micros()],
        )?;
        if known.is_none() {
            // Reserves the number; `recreate_sessions` would create the same session.
            recreate_session(conn, session, now)?;
        }
        let detail =
            format!("it is lost; its messages are now on the branch {name:?} of session number {session}");
        log.add(RepairKind::Recovered, format!("branch number {branch}"), detail);
    }
    Ok(())
}

fn recreate_sessions(conn: &Connection, now: Timestamp, log: &mut RepairLog) -> Result<()> {
    let missing = row_numbers(
        conn,
        "SELECT DISTINCT session FROM (SELECT session FROM branch UNION SELECT session FROM operation)
            WHERE session > 0 AND NOT EXISTS (SELECT 1 FROM session AS known WHERE known.no = session)",
    )?;
    for session in missing {
        let name = recreate_session(conn, session, now)?;
        log.add(
            RepairKind::Recovered,
            format!("session number {session}"),
            format!("its row is lost; it is now called {name:?}"),
        );
    }
    // Such rows cannot belong to any session.
    conn.execute("DELETE FROM operation WHERE session < 1", [])?;
    let invalid = row_numbers(conn, "SELECT no FROM branch WHERE session < 1")?;
    for branch in invalid {
        let session = unused_session_number(conn)?;
        conn.execute("UPDATE branch SET session = ?2 WHERE no = ?1", [branch, session])?;
        let name = recreate_session(conn, session, now)?;
        let detail = format!("its session is lost; it is now in the session {name:?}");
        log.add(RepairKind::Recovered, format!("branch number {branch}"), detail);
    }
    Ok(())
}

/// A session number that no row refers to.
fn unused_session_number(conn: &Connection) -> Result<i64> {
    Ok(conn.query_row(
        "SELECT max(ifnull(number, 0)) + 1 FROM (SELECT max(no) AS number FROM session
            UNION SELECT max(session) FROM activity UNION SELECT max(session) FROM branch
            UNION SELECT max(session) FROM run UNION SELECT max(session) FROM checkpoint
            UNION SELECT max(session) FROM operation) WHERE number < 4611686018427387904",
        [],
        |row| row.get(0),
    )?)
}

/// Inserts a session with this number and returns its name, which comes from its newest operation if it has one. Later
/// steps of the repair compute the columns that are 0 here.
fn recreate_session(conn: &Connection, no: i64, now: Timestamp) -> Result<String> {
    let id = SessionId::generate();
    let attributes: Option<String> = conn
        .prepare_cached("SELECT after FROM operation WHERE session = ?1 ORDER BY no DESC LIMIT 1")?
        .query_row([no], |row| row.get(0))
        .optional()?;
    let name = attributes
        .and_then(|json| rows::attributes_from_json(&json).ok())
        .map_or_else(|| format!("Recovered {no}"), |attributes| attributes.name);
    let created_at = earliest_message(conn, no)?.unwrap_or_else(|| now.as_micros());
    conn.execute(
        "INSERT INTO session (no, id, short, name, automatic_name, state, place, created_at, current_branch, sum)
            VALUES (?1, ?2, ?3, ?4, 0, 0, 0, ?5, 0, 0)",
        params![no, id.as_uuid().as_bytes(), id.short().as_str(), name, created_at],
    )?;
    checksum::update_session(conn, no)?;
    Ok(name)
}

/// The earliest time of a message in a session.
pub(super) fn earliest_message(conn: &Connection, session: i64) -> Result<Option<i64>> {
    let earliest: Option<i64> = conn
        .prepare_cached(
            "SELECT min(message.created_at) FROM branch JOIN message
                ON message.no BETWEEN branch.no << 32 AND (branch.no << 32 | 0xffffffff)
                WHERE branch.session = ?1 AND message.created_at > 0",
        )?
        .query_row([session], |row| row.get(0))?;
    Ok(earliest.filter(|at| rows::time(*at).is_ok()))
}

/// Adds an empty branch to sessions that have none.
fn add_main_branches(conn: &Connection, now: Timestamp, log: &mut RepairLog) -> Result<()> {
    let without_branches = row_numbers(
        conn,
        "SELECT no FROM session WHERE NOT EXISTS (SELECT 1 FROM branch WHERE branch.session = session.no)",
    )?;
    for session in without_branches {
        conn.execute(
            "INSERT INTO branch (id, session, name, parent, forked_at, created_at, retired, indexed_seq)
                VALUES (?1, ?2, ?3, NULL, 0, ?4, 0, 0)",
            params![BranchId::generate().as_uuid().as_bytes(), session, MAIN_BRANCH, now.as_micros()],
        )?;
        let place = format!("session number {session}");
        log.add(RepairKind::Recovered, place, "its branches are lost: it has a new, empty branch");
    }
    Ok(())
}

/// Removes invalid parents of branches, and corrects invalid fork points.
fn correct_forks(conn: &Connection, now: Timestamp, log: &mut RepairLog) -> Result<()> {
    // A parent is created before its forks, so its number is smaller.
    log.execute(
        conn,
        "UPDATE branch SET parent = NULL WHERE parent IS NOT NULL AND (parent >= no OR NOT EXISTS (
            SELECT 1 FROM branch AS other WHERE other.no = branch.parent AND other.session = branch.session))",
        "branches",
        "have no parent any more: it is missing",
    )?;
    for (branch, forked_at) in fork_points(conn)? {
        let first = first_own_seq(conn, branch)?;
        let possible = match first {
            Some(first) => forked_at.min(first - 1),
            None if forked_at > MAX_GAP => 0,
            None => forked_at,
        };
        let parent = parent_of(conn, branch)?;
        if parent.is_none() && forked_at > 0 {
            // The messages before the fork are lost. `fill_gaps` inserts placeholders for them, so the branch's own
            // messages keep their seqs. If the branch has none, a placeholder at the fork marks the end of the gap.
            conn.execute("UPDATE branch SET forked_at = 0, indexed_seq = 0 WHERE no = ?1", [branch])?;
            if first.is_none() && possible > 0 {
                insert_placeholder(conn, branch, possible, now)?;
            }
            let detail = "it does not continue another branch any more";
            log.add(RepairKind::Mended, format!("branch number {branch}"), detail);
        } else if possible != forked_at {
            conn.execute("UPDATE branch SET forked_at = ?2 WHERE no = ?1", params![branch, possible])?;
            let detail = format!("it now forks at message {possible}, not at {forked_at}");
            log.add(RepairKind::Mended, format!("branch number {branch}"), detail);
        }
    }
    Ok(())
}

/// Number and fork point of each branch.
fn fork_points(conn: &Connection) -> Result<Vec<(i64, u64)>> {
    Ok(conn
        .prepare("SELECT no, forked_at FROM branch ORDER BY no")?
        .query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.max(0).cast_unsigned())))?
        .collect::<rusqlite::Result<_>>()?)
}

fn parent_of(conn: &Connection, branch: i64) -> Result<Option<i64>> {
    Ok(conn.query_row("SELECT parent FROM branch WHERE no = ?1", [branch], |row| row.get(0))?)
}

/// The seq of the first message that is stored on the branch itself, not on an ancestor.
fn first_own_seq(conn: &Connection, branch: i64) -> Result<Option<u64>> {
    let range = params![message_no(branch, 1)?, message_no(branch, u64::from(u32::MAX))?];
    let first: Option<i64> = conn
        .prepare_cached("SELECT min(no) FROM message WHERE no BETWEEN ?1 AND ?2")?
        .query_row(range, |row| row.get(0))?;
    Ok(first.map(seq_of))
}

/// Inserts a placeholder for each message that is missing before another message of the branch.
fn fill_gaps(conn: &Connection, branch: i64, now: Timestamp, log: &mut RepairLog) -> Result<()> {
    let forked_at: u64 =
        conn.query_row("SELECT forked_at FROM branch WHERE no = ?1", [branch], |row| row.get(0))?;
    let numbers: Vec<i64> = conn
        .prepare_cached("SELECT no FROM message WHERE no BETWEEN ?1 AND ?2 ORDER BY no")?
        .query_map(params![message_no(branch, 1)?, message_no(branch, u64::from(u32::MAX))?], |row| {
            row.get(0)
        })?
        .collect::<rusqlite::Result<_>>()?;
    let mut expected = forked_at + 1;
    let mut lost = Vec::new();
    for no in numbers {
        let seq = seq_of(no);
        if seq.saturating_sub(expected) > MAX_GAP {
            conn.execute("DELETE FROM message WHERE no = ?1", [no])?;
            log.add(RepairKind::Removed, message_place(no), "its number is damaged");
            continue;
        }
        lost.extend(expected..seq);
        expected = seq + 1;
    }
    for seq in &lost {
        insert_placeholder(conn, branch, *seq, now)?;
    }
    if let (Some(first), Some(last)) = (lost.first(), lost.last()) {
        let detail = format!("{} messages from {first} to {last} are lost", lost.len());
        log.add(RepairKind::Lost, format!("branch number {branch}"), detail);
    }
    Ok(())
}

fn insert_placeholder(conn: &Connection, branch: i64, seq: u64, now: Timestamp) -> Result<()> {
    let no = message_no(branch, seq)?;
    let at = neighbours_time(conn, no)?.unwrap_or_else(|| now.as_micros());
    // Its role is system (2), and its status interrupted (2). The checksum is written after the insert.
    conn.prepare_cached(
        "INSERT OR IGNORE INTO message (no, id, role, status, created_at, sum, body)
            VALUES (?1, ?2, 2, 2, ?3, 0, ?4)",
    )?
    .execute(params![
        no,
        MessageId::generate().as_uuid().as_bytes(),
        at,
        body::encode(&[Part::text(LOST)])?
    ])?;
    checksum::update_message(conn, no)
}

/// The time of the message before or, if there is none, after a message of the same branch.
pub(super) fn neighbours_time(conn: &Connection, no: i64) -> Result<Option<i64>> {
    let branch = rows::branch_of(no);
    for (order, range) in [
        ("DESC", (message_no(branch, 0)?, no - 1)),
        ("ASC", (no + 1, message_no(branch, u64::from(u32::MAX))?)),
    ] {
        let sql =
            format!("SELECT created_at FROM message WHERE no BETWEEN ?1 AND ?2 ORDER BY no {order} LIMIT 1");
        let found: Option<i64> =
            conn.prepare_cached(&sql)?.query_row([range.0, range.1], |row| row.get(0)).optional()?;
        if let Some(at) = found.filter(|at| rows::time(*at).is_ok()) {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

/// Extends each parent that ends before a fork of it, with placeholders up to the fork.
fn extend_parents(conn: &Connection, now: Timestamp, log: &mut RepairLog) -> Result<()> {
    for (branch, forked_at) in fork_points(conn)? {
        let Some(parent) = parent_of(conn, branch)? else { continue };
        let parent = lookup::branch_by_no(conn, parent)?;
        let head = lookup::head(conn, parent.no, parent.forked_at)?;
        for seq in head + 1..=forked_at {
            insert_placeholder(conn, parent.no, seq, now)?;
        }
        if head < forked_at {
            let detail = format!("its messages after {head} are lost; there were at least {forked_at}");
            log.add(RepairKind::Lost, format!("branch number {}", parent.no), detail);
        }
    }
    Ok(())
}

/// Moves checkpoints beyond the end of their branch to its end.
fn correct_checkpoint_seqs(conn: &Connection, log: &mut RepairLog) -> Result<()> {
    let checkpoints: Vec<(i64, i64, u64)> = conn
        .prepare("SELECT no, branch, seq FROM checkpoint")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, i64>(2)?.max(0).cast_unsigned())))?
        .collect::<rusqlite::Result<_>>()?;
    for (no, branch, seq) in checkpoints {
        let branch = lookup::branch_by_no(conn, branch)?;
        let head = lookup::head(conn, branch.no, branch.forked_at)?;
        if seq > head {
            conn.execute("UPDATE checkpoint SET seq = ?2 WHERE no = ?1", params![no, head])?;
            let detail = format!("it is now at message {head}, not at {seq}");
            log.add(RepairKind::Mended, format!("checkpoint number {no}"), detail);
        }
    }
    Ok(())
}

/// Rewrites messages that do not match their checksum or cannot be decoded. Keeps each column that can still be read.
fn rewrite_damaged_messages(conn: &Connection, now: Timestamp, log: &mut RepairLog) -> Result<()> {
    for no in damaged_messages(conn)? {
        let (role, status, at, body, extra): (i64, i64, i64, String, Option<String>) = conn
            .prepare_cached("SELECT role, status, created_at, body, extra FROM message WHERE no = ?1")?
            .query_row([no], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)))?;
        let at = match rows::time(at) {
            Ok(at) => at.as_micros(),
            Err(_) => neighbours_time(conn, no)?.unwrap_or_else(|| now.as_micros()),
        };
        let is_readable = body::decode(&body).is_ok();
        let body = if is_readable {
            body
        } else {
            // Keeps the body verbatim after the placeholder, so that the user can still look at it.
            let raw = Part::Opaque { source: "hfs".into(), raw: body.into() };
            body::encode(&[Part::text(LOST), raw])?
        };
        conn.prepare_cached(
            "UPDATE message SET role = ?2, status = ?3, created_at = ?4, body = ?5, extra = ?6 WHERE no = ?1",
        )?
        .execute(params![
            no,
            // An invalid role becomes system (2), an invalid status interrupted (2).
            rows::role(role).map_or(2, |_| role),
            rows::status(status).map_or(2, |_| status),
            at,
            body,
            extra.filter(|json| rows::extra_from_json(Some(json)).is_ok()),
        ])?;
        checksum::update_message(conn, no)?;
        let detail = if is_readable {
            "it does not match its checksum: its readable fields are kept"
        } else {
            "it cannot be read: its bytes are kept unchanged"
        };
        log.add(RepairKind::Damaged, message_place(no), detail);
    }
    Ok(())
}

fn damaged_messages(conn: &Connection) -> Result<Vec<i64>> {
    let sql = format!(
        "SELECT no, {}, role, status, created_at, body, extra FROM message",
        checksum::message_matches()
    );
    let mut select = conn.prepare(&sql)?;
    let mut found = select.query([])?;
    let mut damaged = Vec::new();
    while let Some(row) = found.next()? {
        let body = row.get_ref(5)?.as_str().map_err(rusqlite::Error::from)?;
        let extra = row.get_ref(6)?.as_str_or_null().map_err(rusqlite::Error::from)?;
        let is_intact = row.get(1)?
            && rows::role(row.get(2)?).is_ok()
            && rows::status(row.get(3)?).is_ok()
            && rows::time(row.get(4)?).is_ok()
            && rows::extra_from_json(extra).is_ok()
            && body::decode(body).is_ok();
        if !is_intact {
            damaged.push(row.get(0)?);
        }
    }
    Ok(damaged)
}

/// Writes the final rows of all replies, which have no writer during a repair. Leaves out deltas that cannot be decoded.
fn finalize_replies(conn: &Connection, log: &mut RepairLog) -> Result<()> {
    let streaming = row_numbers(
        conn,
        "SELECT no FROM message WHERE status = 1 AND EXISTS (SELECT 1 FROM reply WHERE message = no)",
    )?;
    for no in streaming {
        let unreadable = messages::finalize_interrupted(conn, no, UnreadableDeltas::LeaveOut)?;
        if unreadable > 0 {
            let detail = format!("{unreadable} pieces of the reply cannot be read");
            log.add(RepairKind::Lost, message_place(no), detail);
        }
    }
    Ok(())
}

/// Rebuilds the table of attachment uses from the messages. Removes the hash from references to missing attachments.
fn correct_attachment_uses(conn: &Connection, log: &mut RepairLog) -> Result<()> {
    conn.execute(
        "DELETE FROM attachment_use WHERE message > 0
            AND (NOT EXISTS (SELECT 1 FROM message WHERE no = attachment_use.message)
            OR NOT EXISTS (SELECT 1 FROM attachment WHERE no = attachment_use.attachment))",
        [],
    )?;
    // A search for the JSON key may also find messages without attachments, but it misses none.
    let with_attachments = row_numbers(
        conn,
        "SELECT no FROM message WHERE instr(body, '\"attachment\":') > 0
            UNION SELECT message FROM attachment_use WHERE message > 0",
    )?;
    for no in with_attachments {
        let body: String =
            conn.query_row("SELECT body FROM message WHERE no = ?1", [no], |row| row.get(0))?;
        let mut parts = body::decode(&body)?;
        conn.execute("DELETE FROM attachment_use WHERE message = ?1", [no])?;
        let mut missing = 0;
        for part in &mut parts {
            let Part::Attachment { hash, .. } = part else { continue };
            let Some(referenced) = *hash else { continue };
            if !insert_attachment_use(conn, no, referenced)? {
                *hash = None;
                missing += 1;
            }
        }
        if missing > 0 {
            conn.execute("UPDATE message SET body = ?2 WHERE no = ?1", params![no, body::encode(&parts)?])?;
            checksum::update_message(conn, no)?;
            let detail = format!("{missing} of its attachments are lost");
            log.add(RepairKind::Lost, message_place(no), detail);
        }
    }
    Ok(())
}

/// Records that a message uses an attachment. Returns `false` if no attachment has this hash.
fn insert_attachment_use(conn: &Connection, message: i64, hash: ContentHash) -> Result<bool> {
    let attachment: Option<i64> = conn
        .prepare_cached("SELECT no FROM attachment WHERE hash = ?1")?
        .query_row([hash.as_bytes()], |row| row.get(0))
        .optional()?;
    let Some(attachment) = attachment else { return Ok(false) };
    conn.execute("INSERT OR IGNORE INTO attachment_use VALUES (?1, ?2)", [message, attachment])?;
    Ok(true)
}
