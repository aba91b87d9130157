//! Copies of sessions. [`super::import`] writes them.

use hfs_core::{CopyStore, OperationRecord, PurgedSource, SessionId, StoreResult};

use super::MemoryStore;

impl CopyStore for MemoryStore {
    fn list_operation_records(&self, session: SessionId) -> StoreResult<Vec<OperationRecord>> {
        let data = self.lock();
        data.session(session)?;
        let rows = data.operations.iter().filter(|row| row.operation.session == session);
        let record = |row: &super::OperationRow| OperationRecord {
            operation: row.operation.clone(),
            renamed: row.renamed.clone().map(|renamed| (renamed.from, renamed.to)),
        };
        Ok(rows.map(record).collect())
    }

    fn last_checkpoint_number(&self, session: SessionId) -> StoreResult<u64> {
        Ok(self.lock().session(session)?.last_checkpoint)
    }

    fn list_purged_sources(&self) -> StoreResult<Vec<PurgedSource>> {
        let data = self.lock();
        Ok(data.purged.iter().map(|(hash, at)| PurgedSource { hash: *hash, purged_at: *at }).collect())
    }

    fn add_purged_sources(&self, sources: &[PurgedSource]) -> StoreResult<()> {
        let mut data = self.lock();
        for source in sources {
            data.purged.entry(source.hash).or_insert(source.purged_at);
        }
        Ok(())
    }
}
