//! Scripts that make bytes of others.

use hfs_store::splice::{Index, SpliceError, follow, script};

/// No script makes more than that here, whatever it asks for.
const MOST: usize = 1 << 24;

/// Takes the bytes for a base with a script behind it, and for two states that resemble each other: neither may do
/// more than make the bytes that it says, and what a script was made of comes back.
///
/// # Panics
/// When that does not hold.
pub fn binary_delta(bytes: &[u8]) {
    let Some((at, bytes)) = bytes.split_first() else { return };
    let (base, rest) = bytes.split_at(bytes.len() * usize::from(*at) / 256);
    if let Err(SpliceError::Size { found, .. }) = follow(base, rest, usize::MAX)
        && found <= MOST
    {
        let made = follow(base, rest, found);
        assert!(made.is_ok_and(|made| made.len() == found), "a script makes what it says, or nothing");
    }
    let made = follow(base, &script(base, &Index::of(base), rest), rest.len());
    assert!(made.as_deref() == Ok(rest), "what a script was made of comes back");
}
