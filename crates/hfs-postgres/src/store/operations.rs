//! The operation log: structural changes of sessions, and undo and redo.

use hfs_core::{
    BranchId, CheckpointId, Cursor, Operation, OperationId, OperationKind, OperationRecord, OperationStore,
    Page, PageRequest, SessionAttributes, SessionId, StoreError, StoreResult, Timestamp,
};
use hfs_store::codec::rows;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::PostgresStore;
use crate::db::Tx;
use crate::db::value::{Columns as _, Value, values};
use crate::error::{Error, Result, conflict, invalid, not_found};
use crate::store::lookup::{self, LISTED, TRASHED};
use crate::store::sessions::unique_violation_as_conflict;
use crate::store::{branches, session_stats};

/// An operation to record. [`record`] adds the session's attributes after the operation.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) session: Uuid,
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
    pub(crate) const fn new(session: Uuid, kind: OperationKind, at: Timestamp) -> Self {
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
pub(crate) fn session_attributes(tx: &Tx, session: Uuid) -> Result<SessionAttributes> {
    let row = tx.one(
        "SELECT session.name, session.automatic_name, branch.id, session.trashed_at IS NOT NULL
            FROM session JOIN branch ON branch.session = session.id AND branch.no = session.current_branch
            WHERE session.id = $1",
        &values![session],
    )?;
    Ok(SessionAttributes {
        name: row.text(0)?,
        automatic_name: row.flag(1)?,
        current_branch: BranchId::from_uuid(row.id(2)?),
        trashed: row.flag(3)?,
    })
}

/// Records an operation. Its time becomes the time of the session's last change.
pub(crate) fn record(tx: &Tx, change: Change) -> Result<Operation> {
    session_stats::touch(tx, change.session, change.at.as_micros())?;
    record_quietly(tx, change)
}

/// Records an operation that does not count as a change of the session, such as an import: the session keeps the time of
/// its newest message.
pub(crate) fn record_quietly(tx: &Tx, change: Change) -> Result<Operation> {
    let operation = Operation {
        id: OperationId::generate(),
        session: SessionId::from_uuid(change.session),
        kind: change.kind,
        created_at: change.at,
        before: change.before,
        after: session_attributes(tx, change.session)?,
        branch: change.branch,
        checkpoint: change.checkpoint,
        target: change.target,
        detail: change.detail,
    };
    insert(tx, &operation, change.renamed.as_ref())?;
    Ok(operation)
}

/// Inserts the row of an operation. `renamed` has the old and the new name of the branch that it renamed.
pub(crate) fn insert(tx: &Tx, operation: &Operation, renamed: Option<&(String, String)>) -> Result<()> {
    let (name_before, name_after) = renamed.cloned().unzip();
    let before = operation.before.as_ref().map(rows::attributes_to_json).transpose()?;
    let after = rows::attributes_to_json(&operation.after)?;
    tx.execute(
        "INSERT INTO operation (session, id, kind, created_at, before, after, branch, checkpoint, target, detail,
            name_before, name_after) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        &values![
            *operation.session.as_uuid(),
            *operation.id.as_uuid(),
            operation.kind.as_str(),
            operation.created_at,
            &before,
            &after,
            operation.branch.map(|id| *id.as_uuid()),
            operation.checkpoint.map(|id| *id.as_uuid()),
            operation.target.map(|id| *id.as_uuid()),
            &operation.detail,
            &name_before,
            &name_after,
        ],
    )
    .map_err(|error| unique_violation_as_conflict(error, "operation", operation.id))?;
    Ok(())
}

const SELECT_OPERATION: &str = "SELECT operation.no, operation.id, operation.session, operation.kind,
    operation.created_at, operation.before, operation.after, operation.branch, operation.checkpoint,
    operation.target, operation.detail, operation.name_before, operation.name_after FROM operation
    JOIN activity ON activity.session = operation.session";

fn operation_from_row(row: &Row) -> Result<Operation> {
    let stored = row.text(3)?;
    let kind = OperationKind::ALL
        .into_iter()
        .find(|kind| kind.as_str() == stored)
        .ok_or_else(|| Error::Corrupt(format!("{stored:?} is not a kind of operation")))?;
    Ok(Operation {
        id: OperationId::from_uuid(row.id(1)?),
        session: SessionId::from_uuid(row.id(2)?),
        kind,
        created_at: row.time(4)?,
        before: row.opt_text(5)?.as_deref().map(rows::attributes_from_json).transpose()?,
        after: rows::attributes_from_json(&row.text(6)?)?,
        branch: row.opt_id(7)?.map(BranchId::from_uuid),
        checkpoint: row.opt_id(8)?.map(CheckpointId::from_uuid),
        target: row.opt_id(9)?.map(OperationId::from_uuid),
        detail: row.text(10)?,
    })
}

fn read_cursor(cursor: &Cursor) -> Result<i64> {
    let number = cursor.0.strip_prefix("operation/").and_then(|number| number.parse().ok());
    number.ok_or_else(|| invalid(format!("{:?} is not a valid cursor of a list of operations", cursor.0)))
}

/// The changes of an undo or redo.
struct Reversal {
    session: Uuid,
    /// The session's attributes after the reversal.
    attributes: SessionAttributes,
    /// Number of the session's current branch after the reversal.
    current_branch: i64,
    /// The branch that the reversed operation created, or that it made visible, and whether it is undone after the
    /// reversal.
    shown_branch: Option<(BranchId, bool)>,
    renamed_branch: Option<BranchId>,
    /// The old and the new name of `renamed_branch`.
    renamed: Option<(String, String)>,
    detail: String,
}

impl Reversal {
    /// Locks the session and plans a reversal. Returns an error if the session has changed since the operation in a way
    /// that prevents it.
    fn plan(tx: &Tx, target: OperationId, kind: OperationKind) -> Result<Self> {
        let undo = match kind {
            OperationKind::Undo => true,
            OperationKind::Redo => false,
            OperationKind::Create
            | OperationKind::Rename
            | OperationKind::RenameBranch
            | OperationKind::Fork
            | OperationKind::Rewind
            | OperationKind::Switch
            | OperationKind::Import
            | OperationKind::Delete
            | OperationKind::Restore
            | OperationKind::Prune => return Err(invalid(format!("{kind} does not reverse an operation"))),
        };
        let (operation, names) = find(tx, target)?;
        let Some(before) = operation.before.as_ref().filter(|_| operation.kind.is_reversible()) else {
            let message = format!("{} cannot be undone", operation.kind);
            return Err(StoreError::Unsupported { message }.into());
        };
        let session = lookup::lock_session(tx, operation.session)?;
        let (expected, target_attributes) =
            if undo { (&operation.after, before) } else { (before, &operation.after) };
        check_is_undone(tx, &operation, !undo)?;
        if session_attributes(tx, session)? != *expected {
            return Err(conflict(format!("the session has changed since its {}", operation.kind)));
        }

        let shows_branch =
            matches!(operation.kind, OperationKind::Fork | OperationKind::Rewind | OperationKind::Switch);
        let shown_branch = operation.branch.filter(|_| shows_branch).map(|branch| (branch, undo));
        if let Some((branch, undone)) = shown_branch {
            let branch = lookup::branch(tx, branch)?;
            if branch.undone == undone {
                return Err(conflict(format!("branch {:?} is no longer undone", branch.name)));
            }
        }
        let current_branch = lookup::branch(tx, target_attributes.current_branch)?;
        let is_restored = shown_branch == Some((current_branch.id, false));
        if current_branch.undone && !is_restored {
            return Err(conflict("the branch that would become current is undone"));
        }
        let renamed = names.map(|(from, to)| if undo { (to, from) } else { (from, to) });
        let renamed_branch = operation.branch.filter(|_| renamed.is_some());
        if let (Some(branch), Some((from, to))) = (renamed_branch, &renamed) {
            let branch = lookup::branch(tx, branch)?;
            if branch.name != *from {
                return Err(conflict(format!("branch {from:?} has been renamed since")));
            }
            if from != to {
                check_name_is_free(tx, session, to)?;
            }
        }
        let detail = format!("{} {}", operation.kind, operation.detail).trim_end().to_owned();
        let attributes = target_attributes.clone();
        let current_branch = current_branch.no;
        Ok(Self { session, attributes, current_branch, shown_branch, renamed_branch, renamed, detail })
    }

    fn apply(&self, tx: &Tx, before: &SessionAttributes, at: Timestamp) -> Result<()> {
        if let Some((branch, undone)) = self.shown_branch {
            branches::set_undone(tx, self.session, branch, undone)?;
        }
        if let (Some(branch), Some((_, to))) = (self.renamed_branch, &self.renamed) {
            branches::set_name(tx, branch, to)?;
        }
        tx.execute(
            "UPDATE session SET name = $2, automatic_name = $3, current_branch = $4 WHERE id = $1",
            &values![
                self.session,
                &self.attributes.name,
                self.attributes.automatic_name,
                self.current_branch
            ],
        )?;
        if before.trashed != self.attributes.trashed {
            set_trashed(tx, self.session, self.attributes.trashed.then_some(at))?;
        }
        Ok(())
    }
}

/// Moves a session to the trash at the time `at`, or out of the trash if `at` is `None`.
pub(crate) fn set_trashed(tx: &Tx, session: Uuid, at: Option<Timestamp>) -> Result<()> {
    let micros = at.map(Timestamp::as_micros);
    tx.execute("UPDATE session SET trashed_at = $2 WHERE id = $1", &values![session, micros])?;
    session_stats::move_to_list(tx, session, if at.is_some() { TRASHED } else { LISTED })
}

/// The session must be locked.
pub(crate) fn check_name_is_free(tx: &Tx, session: Uuid, name: &str) -> Result<()> {
    if tx.exists("SELECT 1 FROM branch WHERE session = $1 AND name = $2", &values![session, name])? {
        return Err(conflict(format!("the session already has a branch {name:?}")));
    }
    Ok(())
}

/// The operation, with the old and the new name of the branch that it renamed.
fn find(tx: &Tx, id: OperationId) -> Result<(Operation, Option<(String, String)>)> {
    let sql = format!("{SELECT_OPERATION} WHERE operation.id = $1 AND activity.state <> 2");
    let row = tx.row(&sql, &values![*id.as_uuid()])?.ok_or_else(|| not_found("operation", &id))?;
    Ok((operation_from_row(&row)?, row.opt_text(11)?.zip(row.opt_text(12)?)))
}

/// The operations of a session, oldest first.
pub(crate) fn records(tx: &Tx, session: Uuid) -> Result<Vec<OperationRecord>> {
    let sql = format!("{SELECT_OPERATION} WHERE operation.session = $1 ORDER BY operation.no");
    let record = |row: &Row| {
        let renamed = row.opt_text(11)?.zip(row.opt_text(12)?);
        Ok(OperationRecord { operation: operation_from_row(row)?, renamed })
    };
    tx.rows(&sql, &values![session])?.iter().map(record).collect()
}

/// Returns an error unless the operation is undone (`expected` is true) or is not undone (`expected` is false).
fn check_is_undone(tx: &Tx, operation: &Operation, expected: bool) -> Result<()> {
    let last = tx.row(
        "SELECT kind FROM operation WHERE target = $1 ORDER BY no DESC LIMIT 1",
        &values![*operation.id.as_uuid()],
    )?;
    let last = last.map(|row| row.text(0)).transpose()?;
    let undone = last.as_deref() == Some(OperationKind::Undo.as_str());
    match (expected, undone) {
        (false, true) => Err(conflict(format!("{} {} is already undone", operation.kind, operation.id))),
        (true, false) => Err(conflict(format!("{} {} is not undone", operation.kind, operation.id))),
        (true, true) | (false, false) => Ok(()),
    }
}

impl OperationStore for PostgresStore {
    fn list_operations(
        &self,
        session: Option<SessionId>,
        page: &PageRequest,
    ) -> StoreResult<Page<Operation>> {
        self.db.read("list operations", |tx| {
            let before = page.after.as_ref().map(read_cursor).transpose()?.unwrap_or(i64::MAX);
            let session = session.map(|id| lookup::session(tx, id)).transpose()?;
            let mut values = vec![Value::from(before), Value::from(i64::from(page.limit) + 1)];
            values.extend(session.map(Value::from));
            let condition = if session.is_some() { "operation.session = $3" } else { tx.owner_condition() };
            let sql = format!(
                "{SELECT_OPERATION} WHERE {condition} AND operation.no < $1 AND activity.state <> 2
                    ORDER BY operation.no DESC LIMIT $2"
            );
            let (mut items, mut unreadable) = (Vec::new(), 0);
            let (mut last, mut next) = (None, None);
            for row in tx.rows(&sql, &values)? {
                if items.len() as u64 + unreadable == u64::from(page.limit) {
                    next = last.map(|no: i64| Cursor(format!("operation/{no}")));
                    break;
                }
                last = Some(row.int(0)?);
                match operation_from_row(&row) {
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
        self.db.write("reverse an operation", |tx| {
            let reversal = Reversal::plan(tx, target, kind)?;
            let before = session_attributes(tx, reversal.session)?;
            reversal.apply(tx, &before, at)?;
            record(
                tx,
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
