//! Mending what `verify` finds.

use hfs_core::{Problem, StoreResult};

use crate::store::SqliteStore;

pub(crate) fn repair(store: &SqliteStore) -> StoreResult<Vec<Problem>> {
    crate::index::catch_up(store)?;
    Ok(Vec::new())
}
