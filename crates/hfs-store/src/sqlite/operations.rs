//! The operation log: structural changes of sessions, and undo and redo.

use hfs_core::{
    BranchId, CheckpointId, Cursor, Operation, OperationId, OperationKind, OperationRecord, OperationStore,
    Page, PageRequest, SessionAttributes, SessionId, StoreError, StoreResult, Timestamp,
};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::codec::{checksum, rows};
use crate::db::lookup::{self, LISTED, TRASHED};
use crate::error::{Error, Result, conflict, invalid, not_found};
use crate::sqlite::sessions::unique_violation_as_conflict;
use crate::sqlite::{SqliteStore, branches, session_stats};

/// An operation to record. [`record`] adds the session's attributes after the operation.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) session: i64,
    pub(crate) kind: OperationKind,
    pub(crate) at: Timestamp,
    pub(crate) before: Option<SessionAttributes>,
    pub(crate) branch: Option<BranchId>,
    pub(crate) checkpoint: Option<CheckpointId>,
    pub(crate) target: Option<OperationId>,
    pub(crate) detail: String,
    /// The old and the new name of a branch.
    pub(crate) renamed: Option<(String, String)>,
}

impl Change {
    pub(crate) const fn new(session: i64, kind: OperationKind, at: Timestamp) -> Self {
        Self {
            session,
            kind,
            at,
            before: None,
            branch: None,
            checkpoint: None,
            target: None,
            detail: String::new(),
            renamed: None,
        }
    }
}

/// The current values of the attributes that operations change.
pub(crate) fn session_attributes(conn: &Connection, session: i64) -> Result<SessionAttributes> {
    Ok(conn
        .prepare_cached(
            "SELECT session.name, session.automatic_name, branch.id, session.trashed_at IS NOT NULL
                FROM session JOIN branch ON branch.no = session.current_branch WHERE session.no = ?1",
        )?
        .query_row([session], |row| {
            Ok(SessionAttributes {
                name: row.get(0)?,
                automatic_name: row.get(1)?,
                current_branch: BranchId::from_uuid(rows::uuid(row.get(2)?)),
                trashed: row.get(3)?,
            })
        })?)
}

/// Records an operation. Its time becomes the time of the session's last change.
pub(crate) fn record(conn: &Connection, change: Change) -> Result<Operation> {
    session_stats::touch(conn, change.session, change.at.as_micros())?;
    record_quietly(conn, change)
}

/// Records an operation that does not count as a change of the session, such as an import: the session keeps the time of its
/// newest message.
pub(crate) fn record_quietly(conn: &Connection, change: Change) -> Result<Operation> {
    let session: [u8; 16] = conn
        .prepare_cached("SELECT id FROM session WHERE no = ?1")?
        .query_row([change.session], |row| row.get(0))?;
    let operation = Operation {
        id: OperationId::generate(),
        session: SessionId::from_uuid(rows::uuid(session)),
        kind: change.kind,
        created_at: change.at,
        before: change.before,
        after: session_attributes(conn, change.session)?,
        branch: change.branch,
        checkpoint: change.checkpoint,
        target: change.target,
        detail: change.detail,
    };
    insert(conn, change.session, &operation, change.renamed.as_ref())?;
    Ok(operation)
}

/// Inserts the row of an operation. `renamed` has the old and the new name of the branch that it renamed.
pub(crate) fn insert(
    conn: &Connection,
    session: i64,
    operation: &Operation,
    renamed: Option<&(String, String)>,
) -> Result<()> {
    let (name_before, name_after) = renamed.map(|(before, after)| (before, after)).unzip();
    conn.prepare_cached(
        "INSERT INTO operation (id, session, kind, created_at, before, after, branch, checkpoint, target,
            detail, name_before, name_after) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    )?
    .execute(params![
        operation.id.as_uuid().as_bytes(),
        session,
        operation.kind.as_str(),
        operation.created_at.as_micros(),
        operation.before.as_ref().map(rows::attributes_to_json).transpose()?,
        rows::attributes_to_json(&operation.after)?,
        operation.branch.as_ref().map(|id| id.as_uuid().as_bytes()),
        operation.checkpoint.as_ref().map(|id| id.as_uuid().as_bytes()),
        operation.target.as_ref().map(|id| id.as_uuid().as_bytes()),
        operation.detail,
        name_before,
        name_after,
    ])
    .map_err(|error| unique_violation_as_conflict(error, "operation", operation.id))?;
    Ok(())
}

const SELECT_OPERATION: &str =
    "SELECT operation.no, operation.id, session.id, operation.kind, operation.created_at,
    operation.before, operation.after, operation.branch, operation.checkpoint, operation.target,
    operation.detail, operation.name_before, operation.name_after FROM operation JOIN session ON session.no = operation.session";

struct OperationRow {
    id: [u8; 16],
    session: [u8; 16],
    kind: String,
    created_at: i64,
    before: Option<String>,
    after: String,
    branch: Option<[u8; 16]>,
    checkpoint: Option<[u8; 16]>,
    target: Option<[u8; 16]>,
    detail: String,
}

impl OperationRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(1)?,
            session: row.get(2)?,
            kind: row.get(3)?,
            created_at: row.get(4)?,
            before: row.get(5)?,
            after: row.get(6)?,
            branch: row.get(7)?,
            checkpoint: row.get(8)?,
            target: row.get(9)?,
            detail: row.get(10)?,
        })
    }

    fn into_domain(self) -> Result<Operation> {
        let kind = OperationKind::ALL
            .into_iter()
            .find(|kind| kind.as_str() == self.kind)
            .ok_or_else(|| Error::Corrupt(format!("{:?} is not a kind of operation", self.kind)))?;
        Ok(Operation {
            id: OperationId::from_uuid(rows::uuid(self.id)),
            session: SessionId::from_uuid(rows::uuid(self.session)),
            kind,
            created_at: rows::time(self.created_at)?,
            before: self.before.as_deref().map(rows::attributes_from_json).transpose()?,
            after: rows::attributes_from_json(&self.after)?,
            branch: self.branch.map(|id| BranchId::from_uuid(rows::uuid(id))),
            checkpoint: self.checkpoint.map(|id| CheckpointId::from_uuid(rows::uuid(id))),
            target: self.target.map(|id| OperationId::from_uuid(rows::uuid(id))),
            detail: self.detail,
        })
    }
}

/// The old and the new name of the branch that an operation renamed.
fn renamed(row: &Row<'_>) -> rusqlite::Result<Option<(String, String)>> {
    Ok(row.get::<_, Option<String>>(11)?.zip(row.get(12)?))
}

fn read_cursor(cursor: &Cursor) -> Result<i64> {
    let number = cursor.0.strip_prefix("operation/").and_then(|number| number.parse().ok());
    number.ok_or_else(|| invalid(format!("{:?} is not a valid cursor of a list of operations", cursor.0)))
}

/// The changes of an undo or redo.
struct Reversal {
    session: i64,
    /// The session's attributes after the reversal.
    attributes: SessionAttributes,
    /// Row number of the session's current branch after the reversal.
    current_branch: i64,
    /// The branch that the reversed operation created, or that it made visible, and whether it is undone after the reversal.
    shown_branch: Option<(BranchId, bool)>,
    renamed_branch: Option<BranchId>,
    /// The old and the new name of `renamed_branch`.
    renamed: Option<(String, String)>,
    detail: String,
}

impl Reversal {
    /// Plans a reversal. Returns an error if the session has changed since the operation in a way that prevents it.
    fn plan(conn: &Connection, target: OperationId, kind: OperationKind) -> Result<Self> {
        let undo = match kind {
            OperationKind::Undo => true,
            OperationKind::Redo => false,
            _ => return Err(invalid(format!("{kind} does not reverse an operation"))),
        };
        let (operation, names) = find(conn, target)?;
        let Some(before) = operation.before.as_ref().filter(|_| operation.kind.is_reversible()) else {
            let message = format!("{} cannot be undone", operation.kind);
            return Err(StoreError::Unsupported { message }.into());
        };
        let (expected, target_attributes) =
            if undo { (&operation.after, before) } else { (before, &operation.after) };
        check_is_undone(conn, &operation, !undo)?;
        let session = lookup::session_no(conn, operation.session)?;
        if session_attributes(conn, session)? != *expected {
            return Err(conflict(format!("the session has changed since its {}", operation.kind)));
        }

        let shows_branch =
            matches!(operation.kind, OperationKind::Fork | OperationKind::Rewind | OperationKind::Switch);
        let shown_branch = operation.branch.filter(|_| shows_branch).map(|branch| (branch, undo));
        if let Some((branch, undone)) = shown_branch {
            let branch = lookup::branch(conn, branch)?;
            if branch.undone == undone {
                return Err(conflict(format!("branch {:?} is no longer undone", branch.name)));
            }
        }
        let current_branch = lookup::branch(conn, target_attributes.current_branch)?;
        let is_restored = shown_branch == Some((current_branch.id, false));
        if current_branch.undone && !is_restored {
            return Err(conflict("the branch that would become current is undone"));
        }
        let renamed = names.map(|(from, to)| if undo { (to, from) } else { (from, to) });
        let renamed_branch = operation.branch.filter(|_| renamed.is_some());
        if let (Some(branch), Some((from, to))) = (renamed_branch, &renamed) {
            let branch = lookup::branch(conn, branch)?;
            if branch.name != *from {
                return Err(conflict(format!("branch {from:?} has been renamed since")));
            }
            if from != to {
                check_name_is_free(conn, session, to)?;
            }
        }
        let detail = format!("{} {}", operation.kind, operation.detail).trim_end().to_owned();
        let attributes = target_attributes.clone();
        let current_branch = current_branch.no;
        Ok(Self { session, attributes, current_branch, shown_branch, renamed_branch, renamed, detail })
    }

    fn apply(&self, conn: &Connection, before: &SessionAttributes, at: Timestamp) -> Result<()> {
        if let Some((branch, undone)) = self.shown_branch {
            branches::set_undone(conn, self.session, branch, undone)?;
        }
        if let (Some(branch), Some((_, to))) = (self.renamed_branch, &self.renamed) {
            conn.prepare_cached("UPDATE branch SET name = ?2 WHERE id = ?1")?
                .execute(params![branch.as_uuid().as_bytes(), to])?;
        }
        conn.prepare_cached(
            "UPDATE session SET name = ?2, automatic_name = ?3, current_branch = ?4 WHERE no = ?1",
        )?
        .execute(params![
            self.session,
            self.attributes.name,
            self.attributes.automatic_name,
            self.current_branch
        ])?;
        checksum::update_session(conn, self.session)?;
        if before.trashed != self.attributes.trashed {
            set_trashed(conn, self.session, self.attributes.trashed.then_some(at))?;
        }
        Ok(())
    }
}

/// Moves a session to the trash at the time `at`, or out of the trash if `at` is `None`.
pub(crate) fn set_trashed(conn: &Connection, session: i64, at: Option<Timestamp>) -> Result<()> {
    conn.prepare_cached("UPDATE session SET trashed_at = ?2 WHERE no = ?1")?
        .execute(params![session, at.map(Timestamp::as_micros)])?;
    checksum::update_session(conn, session)?;
    session_stats::move_to_list(conn, session, if at.is_some() { TRASHED } else { LISTED })
}

pub(crate) fn check_name_is_free(conn: &Connection, session: i64, name: &str) -> Result<()> {
    let taken = conn
        .prepare_cached("SELECT 1 FROM branch WHERE session = ?1 AND name = ?2")?
        .exists(params![session, name])?;
    if taken {
        return Err(conflict(format!("the session already has a branch {name:?}")));
    }
    Ok(())
}

/// The operation, with the old and the new name of the branch that it renamed.
fn find(conn: &Connection, id: OperationId) -> Result<(Operation, Option<(String, String)>)> {
    let sql = format!("{SELECT_OPERATION} WHERE operation.id = ?1 AND session.state <> 2");
    let (row, renamed) = conn
        .prepare_cached(&sql)?
        .query_row([id.as_uuid().as_bytes()], |row| Ok((OperationRow::read(row)?, renamed(row)?)))
        .optional()?
        .ok_or_else(|| not_found("operation", &id))?;
    Ok((row.into_domain()?, renamed))
}

/// The operations of a session, oldest first.
pub(crate) fn records(conn: &Connection, session: i64) -> Result<Vec<OperationRecord>> {
    let sql = format!("{SELECT_OPERATION} WHERE operation.session = ?1 ORDER BY operation.no");
    let mut statement = conn.prepare_cached(&sql)?;
    let found = statement.query_map([session], |row| Ok((OperationRow::read(row)?, renamed(row)?)))?;
    let mut records = Vec::new();
    for row in found {
        let (row, renamed) = row?;
        records.push(OperationRecord { operation: row.into_domain()?, renamed });
    }
    Ok(records)
}

/// Returns an error unless the operation is undone (`expected` is true) or is not undone (`expected` is false).
fn check_is_undone(conn: &Connection, operation: &Operation, expected: bool) -> Result<()> {
    let last: Option<String> = conn
        .prepare_cached("SELECT kind FROM operation WHERE target = ?1 ORDER BY no DESC LIMIT 1")?
        .query_row([operation.id.as_uuid().as_bytes()], |row| row.get(0))
        .optional()?;
    let undone = last.as_deref() == Some(OperationKind::Undo.as_str());
    match (expected, undone) {
        (false, true) => Err(conflict(format!("{} {} is already undone", operation.kind, operation.id))),
        (true, false) => Err(conflict(format!("{} {} is not undone", operation.kind, operation.id))),
        _ => Ok(()),
    }
}

impl OperationStore for SqliteStore {
    fn list_operations(
        &self,
        session: Option<SessionId>,
        page: &PageRequest,
    ) -> StoreResult<Page<Operation>> {
        self.db.read("list operations", |conn| {
            let before = page.after.as_ref().map(read_cursor).transpose()?.unwrap_or(i64::MAX);
            let session = session.map(|id| lookup::session_no(conn, id)).transpose()?;
            // Both conditions use ?3, because the statement is always executed with three parameters.
            let condition = if session.is_some() { "operation.session = ?3 AND" } else { "?3 IS NULL AND" };
            let sql = format!(
                "{SELECT_OPERATION} WHERE {condition} operation.no < ?1 AND session.state <> 2
                    ORDER BY operation.no DESC LIMIT ?2"
            );
            let mut statement = conn.prepare_cached(&sql)?;
            let mut found = statement.query(params![before, i64::from(page.limit) + 1, session])?;
            let (mut items, mut unreadable) = (Vec::new(), 0);
            let (mut last, mut next) = (None, None);
            while let Some(row) = found.next()? {
                if items.len() as u64 + unreadable == u64::from(page.limit) {
                    next = last.map(|no: i64| Cursor(format!("operation/{no}")));
                    break;
                }
                last = Some(row.get(0)?);
                match OperationRow::read(row).map_err(Error::from).and_then(OperationRow::into_domain) {
                    Err(error) if error.is_corruption() => {
                        tracing::warn!(%error, "a damaged operation is not listed");
                        unreadable += 1;
                    }
                    operation => items.push(operation?),
                }
            }
            Ok(Page { items, next, unreadable })
        })
    }

    fn reverse(&self, target: OperationId, kind: OperationKind, at: Timestamp) -> StoreResult<Operation> {
        self.db.write("reverse an operation", move |conn| {
            let reversal = Reversal::plan(conn, target, kind)?;
            let before = session_attributes(conn, reversal.session)?;
            reversal.apply(conn, &before, at)?;
            record(
                conn,
                Change {
                    before: Some(before),
                    branch: reversal.shown_branch.map(|(branch, _)| branch).or(reversal.renamed_branch),
                    target: Some(target),
                    detail: reversal.detail,
                    renamed: reversal.renamed,
                    ..Change::new(reversal.session, kind, at)
                },
            )
        })
    }
}
