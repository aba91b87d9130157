//! Runs. Their snapshots and events are stored as compressed JSON.

use hfs_core::{BranchId, MessageId, Run, RunId, RunStore, SessionId, StoreResult, Timestamp};
use hfs_store::codec::{compressed_json, rows};
use uuid::Uuid;

use crate::PostgresStore;
use crate::db::Tx;
use crate::db::value::{Columns as _, values};
use crate::error::{Result, not_found};
use crate::store::lookup;
use crate::store::sessions::unique_violation_as_conflict;

/// A run's row except for its session and branch.
#[derive(Debug)]
pub(crate) struct RunRow {
    pub(crate) id: RunId,
    answers: Option<Uuid>,
    started_at: i64,
    ended_at: Option<i64>,
    snapshot: Vec<u8>,
    events: Vec<u8>,
}

impl RunRow {
    pub(crate) fn new(run: &Run) -> Result<Self> {
        Ok(Self {
            id: run.id,
            answers: run.answers.map(|id| *id.as_uuid()),
            started_at: run.started_at.as_micros(),
            ended_at: run.ended_at.map(Timestamp::as_micros),
            snapshot: compressed_json::compress(&run.snapshot)?,
            events: compressed_json::compress(&run.events)?,
        })
    }

    /// Approximate size in bytes.
    pub(crate) fn size(&self) -> usize {
        self.snapshot.len() + self.events.len()
    }

    /// Inserts the row. Fails if the run already has one.
    pub(crate) fn insert(&self, tx: &Tx, session: Uuid, branch: i64) -> Result<()> {
        tx.execute(
            "INSERT INTO run (session, id, branch, answers, started_at, ended_at, snapshot, events)
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            &values![
                session,
                *self.id.as_uuid(),
                branch,
                self.answers,
                self.started_at,
                self.ended_at,
                self.snapshot.as_slice(),
                self.events.as_slice(),
            ],
        )
        .map(drop)
        .map_err(|error| unique_violation_as_conflict(error, "run", self.id))
    }
}

impl RunStore for PostgresStore {
    fn save_run(&self, run: &Run) -> StoreResult<()> {
        let action = "save a run";
        let row = RunRow::new(run).map_err(self.db.store_error(action))?;
        self.db.write(action, |tx| {
            let branch = lookup::lock_branch(tx, run.branch)?;
            // Replaces the earlier row of a run that is saved again.
            tx.execute("DELETE FROM run WHERE id = $1", &values![*row.id.as_uuid()])?;
            row.insert(tx, branch.session, branch.no)
        })
    }

    fn get_run(&self, id: RunId) -> StoreResult<Run> {
        self.db.read("read a run", |tx| {
            let row = tx.row(
                "SELECT branch.id, run.answers, run.started_at, run.ended_at, run.snapshot, run.events FROM run
                    JOIN branch ON branch.session = run.session AND branch.no = run.branch
                    JOIN activity ON activity.session = run.session
                    WHERE run.id = $1 AND activity.state <> 2",
                &values![*id.as_uuid()],
            )?;
            let row = row.ok_or_else(|| not_found("run", &id))?;
            Ok(Run {
                id,
                branch: BranchId::from_uuid(row.id(0)?),
                answers: row.opt_id(1)?.map(MessageId::from_uuid),
                started_at: row.time(2)?,
                ended_at: row.opt_int(3)?.map(rows::time).transpose()?,
                snapshot: compressed_json::decompress(row.bytes(4)?)?,
                events: compressed_json::decompress(row.bytes(5)?)?,
            })
        })
    }

    fn list_runs(&self, session: SessionId) -> StoreResult<Vec<RunId>> {
        self.db.read("list runs", |tx| {
            let session = lookup::session(tx, session)?;
            let sql = "SELECT id FROM run WHERE session = $1 ORDER BY started_at, id";
            tx.rows(sql, &values![session])?.iter().map(|row| Ok(RunId::from_uuid(row.id(0)?))).collect()
        })
    }
}
