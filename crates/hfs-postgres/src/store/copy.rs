//! Copies of sessions. [`super::import`] writes them.

use hfs_core::{CopyStore, OperationRecord, PurgedSource, SessionId, StoreResult};

use crate::PostgresStore;
use crate::db::value::{Columns as _, values};
use crate::store::{lookup, operations};

impl CopyStore for PostgresStore {
    fn list_operation_records(&self, session: SessionId) -> StoreResult<Vec<OperationRecord>> {
        self.db.read("list operations", |tx| operations::records(tx, lookup::session(tx, session)?))
    }

    fn last_checkpoint_number(&self, session: SessionId) -> StoreResult<u64> {
        self.db.read("read the number of a checkpoint", |tx| {
            let session = lookup::session(tx, session)?;
            tx.one("SELECT last_checkpoint FROM activity WHERE session = $1", &values![session])?.count(0)
        })
    }

    fn list_purged_sources(&self) -> StoreResult<Vec<PurgedSource>> {
        self.db.read("list what was purged", |tx| {
            tx.rows("SELECT hash, max(purged_at) FROM purged_source GROUP BY hash ORDER BY hash", &[])?
                .iter()
                .map(|row| Ok(PurgedSource { hash: row.hash(0)?, purged_at: row.time(1)? }))
                .collect()
        })
    }

    fn add_purged_sources(&self, sources: &[PurgedSource]) -> StoreResult<()> {
        self.db.write("save what was purged", |tx| {
            for source in sources {
                tx.execute(
                    "INSERT INTO purged_source (hash, purged_at) VALUES ($1, $2) ON CONFLICT (hash, owner) DO NOTHING",
                    &values![&source.hash, source.purged_at],
                )?;
            }
            Ok(())
        })
    }
}
