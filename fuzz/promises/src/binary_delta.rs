//! Binary deltas.

use hfs_store::binary_delta::{BinaryDeltaError, BlockIndex, apply, encode};

/// Larger results are not made here, whatever size a delta claims.
const MAX_SIZE: usize = 1 << 24;

/// Takes the bytes as a base followed by a delta, and as two similar states. A delta must make exactly the bytes that
/// it declares or fail, and encoding must be reversible.
///
/// # Panics
/// If that does not hold.
pub fn binary_delta(bytes: &[u8]) {
    let Some((at, bytes)) = bytes.split_first() else { return };
    let (base, rest) = bytes.split_at(bytes.len() * usize::from(*at) / 256);
    if let Err(BinaryDeltaError::SizeMismatch { found, .. }) = apply(base, rest, usize::MAX)
        && found <= MAX_SIZE
    {
        let made = apply(base, rest, found);
        assert!(made.is_ok_and(|made| made.len() == found), "a delta makes what it declares, or fails");
    }
    let restored = apply(base, &encode(base, &BlockIndex::new(base), rest), rest.len());
    assert!(restored.as_deref() == Ok(rest), "encoding is reversible");
}
