//! Copies of sessions. [`super::import`] writes them.

use hfs_core::{ContentHash, CopyStore, OperationRecord, PurgedSource, SessionId, StoreResult};
use rusqlite::params;

use crate::codec::rows;
use crate::db::lookup;
use crate::sqlite::{SqliteStore, checkpoints, operations};

impl CopyStore for SqliteStore {
    fn list_operation_records(&self, session: SessionId) -> StoreResult<Vec<OperationRecord>> {
        self.db.read("list operations", |conn| operations::records(conn, lookup::session_no(conn, session)?))
    }

    fn last_checkpoint_number(&self, session: SessionId) -> StoreResult<u64> {
        self.db.read("read the number of a checkpoint", |conn| {
            Ok(checkpoints::next_number(conn, lookup::session_no(conn, session)?)?.saturating_sub(1))
        })
    }

    fn list_purged_sources(&self) -> StoreResult<Vec<PurgedSource>> {
        self.db.read("list what was purged", |conn| {
            let mut statement =
                conn.prepare_cached("SELECT hash, purged_at FROM purged_source ORDER BY hash")?;
            let found = statement.query_map([], |row| Ok((row.get::<_, [u8; 32]>(0)?, row.get(1)?)))?;
            let mut sources = Vec::new();
            for row in found {
                let (hash, at) = row?;
                let hash = ContentHash::from_bytes(hash);
                sources.push(PurgedSource { hash, purged_at: rows::time(at)? });
            }
            Ok(sources)
        })
    }

    fn add_purged_sources(&self, sources: &[PurgedSource]) -> StoreResult<()> {
        let sources = sources.to_vec();
        self.db.write("save what was purged", move |conn| {
            let mut insert =
                conn.prepare_cached("INSERT OR IGNORE INTO purged_source (hash, purged_at) VALUES (?1, ?2)")?;
            for source in &sources {
                insert.execute(params![source.hash.as_bytes(), source.purged_at.as_micros()])?;
            }
            Ok(())
        })
    }
}
