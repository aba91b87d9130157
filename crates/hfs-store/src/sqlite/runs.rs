//! Runs. Their snapshots and events are stored as compressed JSON.

use hfs_core::{BranchId, MessageId, Run, RunId, RunStore, SessionId, StoreResult};
use rusqlite::{Connection, params};

use crate::codec::{compressed_json, rows};
use crate::db::lookup;
use crate::error::{Result, not_found};
use crate::sqlite::SqliteStore;

/// A run's row except for its session and branch.
#[derive(Debug)]
pub(crate) struct RunRow {
    pub(crate) id: RunId,
    answers: Option<[u8; 16]>,
    started_at: i64,
    ended_at: Option<i64>,
    snapshot: Vec<u8>,
    events: Vec<u8>,
}

impl RunRow {
    pub(crate) fn new(run: &Run) -> Result<Self> {
        Ok(Self {
            id: run.id,
            answers: run.answers.map(|id| *id.as_uuid().as_bytes()),
            started_at: run.started_at.as_micros(),
            ended_at: run.ended_at.map(hfs_core::Timestamp::as_micros),
            snapshot: compressed_json::compress(&run.snapshot)?,
            events: compressed_json::compress(&run.events)?,
        })
    }

    /// Approximate size in bytes.
    pub(crate) fn size(&self) -> usize {
        self.snapshot.len() + self.events.len()
    }

    /// Inserts the row. Fails if the run already has one.
    pub(crate) fn insert(&self, conn: &Connection, session: i64, branch: i64) -> rusqlite::Result<()> {
        conn.prepare_cached(
            "INSERT INTO run (id, session, branch, answers, started_at, ended_at, snapshot, events)
                VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            self.id.as_uuid().as_bytes(),
            session,
            branch,
            self.answers,
            self.started_at,
            self.ended_at,
            self.snapshot,
            self.events,
        ])?;
        Ok(())
    }
}

impl RunStore for SqliteStore {
    fn save_run(&self, run: &Run) -> StoreResult<()> {
        let action = "save a run";
        let row = RunRow::new(run).map_err(self.db.store_error(action))?;
        let branch = run.branch;
        self.db.write(action, move |conn| {
            let branch = lookup::branch(conn, branch)?;
            // Replaces the earlier row of a run that is saved again.
            conn.prepare_cached("DELETE FROM run WHERE id = ?1")?.execute([row.id.as_uuid().as_bytes()])?;
            row.insert(conn, branch.session, branch.no)?;
            Ok(())
        })
    }

    fn get_run(&self, id: RunId) -> StoreResult<Run> {
        self.db.read("read a run", |conn| {
            let mut statement = conn.prepare_cached(
                "SELECT branch.id, run.answers, run.started_at, run.ended_at, run.snapshot, run.events FROM run
                    JOIN branch ON branch.no = run.branch JOIN session ON session.no = run.session
                    WHERE run.id = ?1 AND session.state <> 2",
            )?;
            let mut found = statement.query([id.as_uuid().as_bytes()])?;
            let row = found.next()?.ok_or_else(|| not_found("run", &id))?;
            let answers: Option<[u8; 16]> = row.get(1)?;
            let ended_at: Option<i64> = row.get(3)?;
            let blob = |column: usize| -> Result<&[u8]> {
                Ok(row.get_ref(column)?.as_blob().map_err(rusqlite::Error::from)?)
            };
            Ok(Run {
                id,
                branch: BranchId::from_uuid(rows::uuid(row.get(0)?)),
                answers: answers.map(|id| MessageId::from_uuid(rows::uuid(id))),
                started_at: rows::time(row.get(2)?)?,
                ended_at: ended_at.map(rows::time).transpose()?,
                snapshot: compressed_json::decompress(blob(4)?)?,
                events: compressed_json::decompress(blob(5)?)?,
            })
        })
    }

    fn list_runs(&self, session: SessionId) -> StoreResult<Vec<RunId>> {
        self.db.read("list runs", |conn| {
            let session = lookup::session_no(conn, session)?;
            let ids = conn
                .prepare_cached("SELECT id FROM run WHERE session = ?1 ORDER BY started_at, id")?
                .query_map([session], |row| Ok(RunId::from_uuid(rows::uuid(row.get(0)?))))?
                .collect::<rusqlite::Result<Vec<_>>>()?;
            Ok(ids)
        })
    }
}
