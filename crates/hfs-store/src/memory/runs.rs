use hfs_core::{Run, RunId, RunStore, SessionId, StoreResult};

use super::{MemoryStore, not_found};

impl RunStore for MemoryStore {
    fn save_run(&self, run: &Run) -> StoreResult<()> {
        let mut data = self.lock();
        data.branch(run.branch)?;
        data.runs.insert(run.id, run.clone());
        Ok(())
    }

    fn get_run(&self, id: RunId) -> StoreResult<Run> {
        self.lock().runs.get(&id).cloned().ok_or_else(|| not_found("run", &id))
    }

    fn list_runs(&self, session: SessionId) -> StoreResult<Vec<RunId>> {
        let data = self.lock();
        let branches = &data.session(session)?.branches;
        let mut runs: Vec<&Run> = data.runs.values().filter(|run| branches.contains(&run.branch)).collect();
        runs.sort_by_key(|run| (run.started_at, run.id));
        Ok(runs.iter().map(|run| run.id).collect())
    }
}
