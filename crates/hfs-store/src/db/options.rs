//! Options of the SQLite store.

use std::fmt;
use std::sync::Arc;

use hfs_core::{Clock, SystemClock};

/// The kinds of failure after which an acknowledged write is still stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Writes survive a power failure. Each commit waits for the disk; writes that are queued at the same time share
    /// one commit.
    #[default]
    Full,
    /// Writes survive a crash of the process. After a power failure the last writes may be missing, but the database is
    /// consistent.
    Fast,
}

pub(crate) const DEFAULT_CACHE_BYTES: u64 = 8 * 1024 * 1024;

/// Options of a [`SqliteStore`](crate::SqliteStore).
#[derive(Clone)]
pub struct SqliteOptions {
    /// The durability of acknowledged writes.
    pub durability: Durability,
    /// Clock for times that callers do not pass.
    pub clock: Arc<dyn Clock>,
    /// Size of the page cache of each connection, in bytes. Bulk writes and searches are slower with a small one.
    pub cache_bytes: u64,
    /// Maximum size in bytes of the database without its write-ahead log. Further writes fail as on a full disk. `None`
    /// means no limit.
    pub max_bytes: Option<u64>,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            durability: Durability::default(),
            clock: Arc::new(SystemClock),
            cache_bytes: DEFAULT_CACHE_BYTES,
            max_bytes: None,
        }
    }
}

impl fmt::Debug for SqliteOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteOptions")
            .field("durability", &self.durability)
            .field("cache_bytes", &self.cache_bytes)
            .field("max_bytes", &self.max_bytes)
            .finish_non_exhaustive()
    }
}
