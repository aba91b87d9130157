//! Values stored as JSON compressed with zstd: a run's snapshot and its events.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::{CodecError, Result};
use crate::codec::{compression, rows};

/// Compresses the JSON of a value.
///
/// # Errors
/// `Internal` if it cannot be written.
pub fn compress(value: &impl Serialize) -> Result<Vec<u8>> {
    compression::compress(rows::to_json(value)?.as_bytes())
        .map_err(|error| CodecError::Internal(format!("a run cannot be compressed: {error}")))
}

/// Reads a compressed value.
///
/// # Errors
/// `Corrupt` for other bytes.
pub fn decompress<T: DeserializeOwned>(frame: &[u8]) -> Result<T> {
    let corrupt = |reason: String| CodecError::Corrupt(format!("a run cannot be read: {reason}"));
    let json = compression::content_size(frame)
        .and_then(|size| compression::decompress(frame, size))
        .map_err(|error| corrupt(error.to_string()))?;
    let json = std::str::from_utf8(&json).map_err(|error| corrupt(error.to_string()))?;
    rows::from_json(json)
}
