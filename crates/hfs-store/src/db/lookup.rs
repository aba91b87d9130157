//! Finds rows by the ids that callers pass.
//!
//! Tables refer to each other by row numbers (`no`), not by ids. Hidden sessions (`state` 2) are not found.

use hfs_core::{BranchId, MessageId, SessionId};
use rusqlite::{Connection, OptionalExtension, params};

use crate::codec::rows::{self, message_no, seq_of};
use crate::db::locks::LivenessProbe;
use crate::error::{Error, Result, not_found};

/// State of a session that is being imported or purged. Callers can neither list nor find it.
pub(crate) const HIDDEN: i64 = 2;
/// State of a session in the trash.
pub(crate) const TRASHED: i64 = 1;
/// State of a session in the list.
pub(crate) const LISTED: i64 = 0;

pub(crate) fn session_no(conn: &Connection, id: SessionId) -> Result<i64> {
    conn.prepare_cached("SELECT no FROM session WHERE id = ?1 AND state <> 2")?
        .query_row([id.as_uuid().as_bytes()], |row| row.get(0))
        .optional()?
        .ok_or_else(|| not_found("session", &id))
}

/// The columns of a branch that most operations need.
#[derive(Debug, Clone)]
pub(crate) struct BranchRecord {
    pub(crate) no: i64,
    pub(crate) id: BranchId,
    pub(crate) session: i64,
    pub(crate) session_id: SessionId,
    pub(crate) name: String,
    pub(crate) parent: Option<i64>,
    pub(crate) forked_at: u64,
    pub(crate) undone: bool,
}

const SELECT_BRANCH: &str = "SELECT branch.no, branch.id, branch.session, branch.name, branch.parent,
    branch.forked_at, branch.retired, session.id FROM branch JOIN session ON session.no = branch.session";

fn branch_from_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<BranchRecord> {
    Ok(BranchRecord {
        no: row.get(0)?,
        id: BranchId::from_uuid(rows::uuid(row.get(1)?)),
        session: row.get(2)?,
        name: row.get(3)?,
        parent: row.get(4)?,
        forked_at: row.get(5)?,
        undone: row.get(6)?,
        session_id: SessionId::from_uuid(rows::uuid(row.get(7)?)),
    })
}

/// Returns an error if the parent of a branch is not older than the branch. Readers follow parents, and would not end if
/// damaged rows led in a circle.
pub(crate) fn check_parent(branch: i64, parent: Option<i64>) -> Result<()> {
    if parent.is_some_and(|parent| parent >= branch) {
        return Err(Error::Corrupt(format!(
            "the parent of branch number {branch} is not older than the branch"
        )));
    }
    Ok(())
}

fn checked(branch: BranchRecord) -> Result<BranchRecord> {
    check_parent(branch.no, branch.parent)?;
    Ok(branch)
}

pub(crate) fn branch(conn: &Connection, id: BranchId) -> Result<BranchRecord> {
    let sql = format!("{SELECT_BRANCH} WHERE branch.id = ?1 AND session.state <> 2");
    conn.prepare_cached(&sql)?
        .query_row([id.as_uuid().as_bytes()], branch_from_row)
        .optional()?
        .ok_or_else(|| not_found("branch", &id))
        .and_then(checked)
}

pub(crate) fn branch_by_no(conn: &Connection, no: i64) -> Result<BranchRecord> {
    let sql = format!("{SELECT_BRANCH} WHERE branch.no = ?1");
    conn.prepare_cached(&sql)?
        .query_row([no], branch_from_row)
        .optional()?
        .ok_or_else(|| Error::Corrupt(format!("branch number {no} is missing")))
        .and_then(checked)
}

/// The number and status of the newest message that is stored on the branch itself, not on an ancestor.
pub(crate) fn newest_own(conn: &Connection, branch: i64) -> Result<Option<(i64, i64)>> {
    let (first, last) = (message_no(branch, 0)?, message_no(branch, u64::from(u32::MAX))?);
    Ok(conn
        .prepare_cached("SELECT no, status FROM message WHERE no BETWEEN ?1 AND ?2 ORDER BY no DESC LIMIT 1")?
        .query_row(params![first, last], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?)
}

/// The seq of the newest message of a branch's history.
pub(crate) fn head(conn: &Connection, branch: i64, forked_at: u64) -> Result<u64> {
    Ok(newest_own(conn, branch)?.map_or(forked_at, |(no, _)| seq_of(no)))
}

/// The row number of a message.
pub(crate) fn message_by_id(conn: &Connection, id: MessageId) -> Result<i64> {
    conn.prepare_cached(
        "SELECT message.no FROM message
            JOIN branch ON branch.no = message.no >> 32
            JOIN session ON session.no = branch.session
            WHERE message.id = ?1 AND session.state <> 2",
    )?
    .query_row([id.as_uuid().as_bytes()], |row| row.get(0))
    .optional()?
    .ok_or_else(|| not_found("message", &id))
}

/// Whether the writer of the reply with this message number is alive.
pub(crate) fn is_being_written(conn: &Connection, probe: &LivenessProbe, message: i64) -> Result<bool> {
    let writer: Option<String> = conn
        .prepare_cached("SELECT writer FROM reply WHERE message = ?1")?
        .query_row([message], |row| row.get(0))
        .optional()?;
    Ok(writer.is_some_and(|writer| probe.is_alive(&writer)))
}
