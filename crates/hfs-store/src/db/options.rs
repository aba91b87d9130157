//! How a store behaves.

use std::fmt;
use std::sync::Arc;

use hfs_core::{Clock, SystemClock};

/// What an acknowledged write survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Power loss: each commit waits for the disk (one wait for all that are queued).
    #[default]
    Full,
    /// The death of the process, but not always that of the machine: then the last writes may be missing, never
    /// half there.
    Fast,
}

/// How a [`SqliteStore`](crate::SqliteStore) behaves.
#[derive(Clone)]
pub struct SqliteOptions {
    /// What an acknowledged write survives.
    pub durability: Durability,
    /// The time, for what callers do not date themselves.
    pub clock: Arc<dyn Clock>,
    /// The most bytes that the database may grow to, its log left out; writes beyond fail as if the disk were
    /// full. `None` for no limit.
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
