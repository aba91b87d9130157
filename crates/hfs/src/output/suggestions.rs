//! Words the suggestions of library errors as commands of this binary.

use hfs_core::ErrorExt;

/// The hint for a library's error.
pub fn hint(error: &impl ErrorExt) -> Option<String> {
    error.hint()
}
