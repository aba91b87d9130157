//! Finds rows by the ids that callers pass, and locks sessions. Hidden sessions (`state` 2) are not found.

use hfs_core::{BranchId, MessageId, SessionId, StoreError};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::db::value::{Columns as _, Value, values};
use crate::db::{IS_OWN, Tx};
use crate::error::{Error, Result, not_found};

/// State of a session that is being imported. Callers can neither list nor find it.
pub(crate) const HIDDEN: i64 = 2;
/// State of a session in the trash.
pub(crate) const TRASHED: i64 = 1;
/// State of a session in the list.
pub(crate) const LISTED: i64 = 0;

/// Checks that a session exists.
pub(crate) fn session(tx: &Tx, id: SessionId) -> Result<Uuid> {
    let id = *id.as_uuid();
    if tx.exists("SELECT 1 FROM activity WHERE session = $1 AND state <> 2", &values![id])? {
        return Ok(id);
    }
    Err(not_found("session", &id))
}

/// Locks a session for a write: other writes to it wait for the end of this transaction.
///
/// Only statements after this one see what earlier writers have committed, so each write begins with it.
pub(crate) fn lock_session(tx: &Tx, id: SessionId) -> Result<Uuid> {
    let sql =
        format!("SELECT {IS_OWN}, owner FROM activity WHERE session = $1 AND state <> 2 FOR NO KEY UPDATE");
    let row = tx.row(&sql, &values![*id.as_uuid()])?;
    check_owner(&row.ok_or_else(|| not_found("session", &id))?)?;
    Ok(*id.as_uuid())
}

/// Like [`lock_session`], for what may also be done with the session of another owner: to delete it.
pub(crate) fn lock_session_of_any_owner(tx: &Tx, id: SessionId) -> Result<Uuid> {
    let sql = "SELECT 1 FROM activity WHERE session = $1 AND state <> 2 FOR NO KEY UPDATE";
    tx.row(sql, &values![*id.as_uuid()])?.ok_or_else(|| not_found("session", &id))?;
    Ok(*id.as_uuid())
}

/// Returns an error unless the session belongs to this role. The row has whether it does, and its owner.
fn check_owner(row: &Row) -> Result<()> {
    if row.flag(0)? {
        return Ok(());
    }
    let owner = row.text(1)?;
    Err(StoreError::Denied {
        action: "change the session".into(),
        source: format!("it belongs to the role {owner}, and others can only read or delete it").into(),
    }
    .into())
}

/// The columns of a branch that most operations need.
#[derive(Debug, Clone)]
pub(crate) struct BranchRecord {
    pub(crate) session: Uuid,
    pub(crate) no: i64,
    pub(crate) id: BranchId,
    pub(crate) name: String,
    pub(crate) parent: Option<i64>,
    pub(crate) forked_at: u64,
    pub(crate) undone: bool,
}

const SELECT_BRANCH: &str = "SELECT branch.session, branch.no, branch.id, branch.name, branch.parent,
    branch.forked_at, branch.undone FROM branch";

fn branch_from_row(row: &Row) -> Result<BranchRecord> {
    let branch = BranchRecord {
        session: row.id(0)?,
        no: row.int(1)?,
        id: BranchId::from_uuid(row.id(2)?),
        name: row.text(3)?,
        parent: row.opt_int(4)?,
        forked_at: row.count(5)?,
        undone: row.flag(6)?,
    };
    check_parent(branch.no, branch.parent)?;
    Ok(branch)
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

pub(crate) fn branch(tx: &Tx, id: BranchId) -> Result<BranchRecord> {
    let sql = format!(
        "{SELECT_BRANCH} JOIN activity ON activity.session = branch.session
            WHERE branch.id = $1 AND activity.state <> 2"
    );
    let row = tx.row(&sql, &values![*id.as_uuid()])?;
    row.as_ref().map(branch_from_row).transpose()?.ok_or_else(|| not_found("branch", &id))
}

/// Locks the session of a branch for a write, and reads the branch.
pub(crate) fn lock_branch(tx: &Tx, id: BranchId) -> Result<BranchRecord> {
    let sql = format!(
        "SELECT {IS_OWN}, activity.owner FROM activity JOIN branch ON branch.session = activity.session
            WHERE branch.id = $1 AND activity.state <> 2 FOR NO KEY UPDATE OF activity"
    );
    let row = tx.row(&sql, &values![*id.as_uuid()])?;
    check_owner(&row.ok_or_else(|| not_found("branch", &id))?)?;
    branch(tx, id)
}

pub(crate) fn branch_by_no(tx: &Tx, session: Uuid, no: i64) -> Result<BranchRecord> {
    let sql = format!("{SELECT_BRANCH} WHERE branch.session = $1 AND branch.no = $2");
    let row = tx.row(&sql, &values![session, no])?;
    row.as_ref()
        .map(branch_from_row)
        .transpose()?
        .ok_or_else(|| Error::Corrupt(format!("branch number {no} of session {session} is missing")))
}

/// The branch and its ancestors, the branch first. Each comes with the last seq that it contributes to the history.
pub(crate) fn path(tx: &Tx, branch: BranchRecord) -> Result<Vec<(BranchRecord, u64)>> {
    let mut last = u64::MAX;
    let mut path = Vec::new();
    let mut next = Some(branch);
    while let Some(branch) = next {
        let (session, parent, forked_at) = (branch.session, branch.parent, branch.forked_at);
        path.push((branch, last));
        last = last.min(forked_at);
        next = parent.map(|parent| branch_by_no(tx, session, parent)).transpose()?;
    }
    Ok(path)
}

/// The seq and status of the newest message that is stored on the branch itself, not on an ancestor.
pub(crate) fn newest_own(tx: &Tx, session: Uuid, branch: i64) -> Result<Option<(u64, i64)>> {
    let sql = "SELECT seq, status FROM message WHERE session = $1 AND branch = $2 ORDER BY seq DESC LIMIT 1";
    let row = tx.row(sql, &values![session, branch])?;
    row.map(|row| Ok((row.count(0)?, row.int(1)?))).transpose()
}

/// The seq of the newest message of a branch's history.
pub(crate) fn head(tx: &Tx, branch: &BranchRecord) -> Result<u64> {
    Ok(newest_own(tx, branch.session, branch.no)?.map_or(branch.forked_at, |(seq, _)| seq))
}

/// Where a message is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) session: Uuid,
    pub(crate) branch: i64,
    pub(crate) seq: u64,
}

impl Place {
    pub(crate) fn values(self) -> [Value<'static>; 3] {
        values![self.session, self.branch, self.seq]
    }

    /// The place in the first three columns of a row.
    pub(crate) fn from_row(row: &Row) -> Result<Self> {
        Ok(Self { session: row.id(0)?, branch: row.int(1)?, seq: row.count(2)? })
    }
}

pub(crate) fn message(tx: &Tx, id: MessageId) -> Result<Place> {
    let sql = "SELECT message.session, message.branch, message.seq FROM message
        JOIN activity ON activity.session = message.session WHERE message.id = $1 AND activity.state <> 2";
    let row = tx.row(sql, &values![*id.as_uuid()])?;
    row.as_ref().map(Place::from_row).transpose()?.ok_or_else(|| not_found("message", &id))
}

/// Whether the writer of the reply at this place is alive.
pub(crate) fn is_being_written(tx: &Tx, place: Place) -> Result<bool> {
    let sql = format!(
        "SELECT 1 FROM reply JOIN presence ON presence.id = reply.writer
            WHERE reply.session = $1 AND reply.branch = $2 AND reply.seq = $3 AND {}",
        crate::db::IS_ALIVE
    );
    tx.exists(&sql, &place.values())
}
