//! Options of the SQLite store.

use std::fmt;
use std::sync::Arc;

use hfs_core::{Clock, SystemClock};

/// What an acknowledged write survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// A power failure. Each commit waits for the disk; writes that are queued at the same time share one wait.
    #[default]
    Full,
    /// The end of the process, but not always that of the machine: after a power failure the last writes may be
    /// missing. The database stays consistent.
    Fast,
}

/// Options of a [`SqliteStore`](crate::SqliteStore).
#[derive(Clone)]
pub struct SqliteOptions {
    /// What an acknowledged write survives.
    pub durability: Durability,
    /// Clock for the times that callers do not pass.
    pub clock: Arc<dyn Clock>,
    /// Maximum size of the database without its log. Writes beyond it fail as if the disk were full. `None` for no
    /// limit.
    pub max_bytes: Option<u64>,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self { durability: Durability::default(), clock: Arc::new(SystemClock), max_bytes: None }
    }
}

impl fmt::Debug for SqliteOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteOptions")
            .field("durability", &self.durability)
            .field("max_bytes", &self.max_bytes)
            .finish_non_exhaustive()
    }
}
