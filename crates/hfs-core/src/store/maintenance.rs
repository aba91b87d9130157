use std::path::Path;

use super::StoreResult;

/// Facts about a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreInfo {
    /// Its address, without any secret.
    pub url: String,
    /// `sqlite`, `memory`, `postgres`.
    pub backend: &'static str,
    /// The version of its schema.
    pub schema_version: u32,
    /// Sessions, those in the trash included.
    pub sessions: u64,
    /// Messages.
    pub messages: u64,
    /// Checkpoints.
    pub checkpoints: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// Of these, what checkpoint states take.
    pub checkpoint_bytes: u64,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// A short name of what kind of damage this is.
    pub kind: String,
    /// Where: a session, a message, a page.
    pub place: String,
    /// What was expected and what is there.
    pub detail: String,
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verification {
    /// What was looked at, and how many of each.
    pub checked: Vec<(String, u64)>,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

impl Verification {
    /// Whether nothing is wrong.
    #[must_use]
    pub const fn is_ok(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Care of a store as a whole.
pub trait Maintenance {
    /// Facts about it.
    ///
    /// # Errors
    /// As the store's state has it.
    fn info(&self) -> StoreResult<StoreInfo>;

    /// Looks at everything: the database's own structure, every reference, every count, every hash.
    ///
    /// # Errors
    /// Only when it cannot be looked at; damage is in the result.
    fn verify(&self) -> StoreResult<Verification>;

    /// Mends what can be mended and removes what cannot. Returns what it did.
    ///
    /// # Errors
    /// As the store's state has it.
    fn repair(&self) -> StoreResult<Vec<Problem>>;

    /// Writes a consistent copy to a file that does not exist yet, while others go on working.
    ///
    /// # Errors
    /// `Conflict` when the file exists; `Unsupported` where there is nothing to copy to a file.
    fn backup(&self, to: &Path) -> StoreResult<()>;

    /// Gives unused space back to the disk and tends the text index.
    ///
    /// # Errors
    /// As the store's state has it.
    fn vacuum(&self) -> StoreResult<()>;
}
