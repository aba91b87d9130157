//! The free space of the disk that holds the store.

use std::path::PathBuf;

use hfs_store::StoreUrl;

use crate::context::Context;
use crate::wiring;

/// Less free space than this deserves a warning.
pub const MIN_FREE_BYTES: u64 = 500_000_000;
/// What imports that run by themselves leave free, so that the user's own messages can still be saved.
pub const RESERVED_BYTES: u64 = 100_000_000;

/// The file of the store, if it is one.
pub fn store_path(context: &Context) -> Option<PathBuf> {
    let StoreUrl::Sqlite(path) = wiring::store_url(&context.home, &context.settings).ok()? else {
        return None;
    };
    Some(context.environment.working_directory.join(path))
}

/// The free space of the disk that holds the store, in bytes; `None` if it is not known.
pub fn available(context: &Context) -> Option<u64> {
    let path = store_path(context)?;
    // The store and its directory may not exist yet.
    let existing_directory = path.ancestors().skip(1).find(|directory| directory.is_dir())?;
    fs4::available_space(existing_directory).ok()
}
