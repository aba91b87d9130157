//! Binary deltas.

use hfs_store::binary_delta::{BinaryDeltaError, BlockIndex, apply, encode};

/// Deltas that declare a larger result are not applied, to limit memory.
const MAX_SIZE: usize = 1 << 24;

/// Takes the bytes as a base followed by a delta, and as two similar states. Applying a delta must yield the size
/// that it declares or fail, and encoding must be reversible.
///
/// # Panics
/// Panics if one of these does not hold.
pub fn binary_delta(bytes: &[u8]) {
    let Some((at, bytes)) = bytes.split_first() else { return };
    let (base, rest) = bytes.split_at(bytes.len() * usize::from(*at) / 256);
    if let Err(BinaryDeltaError::SizeMismatch { found, .. }) = apply(base, rest, usize::MAX)
        && found <= MAX_SIZE
    {
        let result = apply(base, rest, found);
        assert!(
            result.is_ok_and(|bytes| bytes.len() == found),
            "applying a delta yields the size that it declares"
        );
    }
    let restored = apply(base, &encode(base, &BlockIndex::new(base), rest), rest.len());
    assert!(restored.as_deref() == Ok(rest), "encoding is reversible");
}
