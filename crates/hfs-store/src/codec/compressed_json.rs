//! Values stored as JSON compressed with zstd: a run's snapshot and its events.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::{compression, rows};
use crate::error::{Error, Result};

pub(crate) fn compress(value: &impl Serialize) -> Result<Vec<u8>> {
    compression::compress(rows::to_json(value)?.as_bytes())
        .map_err(|error| Error::Internal(format!("a run cannot be compressed: {error}")))
}

pub(crate) fn decompress<T: DeserializeOwned>(frame: &[u8]) -> Result<T> {
    let corrupt = |reason: String| Error::Corrupt(format!("a run cannot be read: {reason}"));
    let json = compression::content_size(frame)
        .and_then(|size| compression::decompress(frame, size))
        .map_err(|error| corrupt(error.to_string()))?;
    let json = std::str::from_utf8(&json).map_err(|error| corrupt(error.to_string()))?;
    rows::from_json(json)
}
