//! Encodings of the values in columns, which the stores on databases have in common.

pub mod binary_delta;
pub(crate) mod block;
pub mod body;
pub(crate) mod checksum;
pub mod compressed_json;
pub mod compression;
pub mod piece;
pub mod rows;

/// A value cannot be encoded or decoded.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The caller's value cannot be stored.
    #[error("{0}")]
    Invalid(String),
    /// A stored value is damaged.
    #[error("{0}")]
    Corrupt(String),
    /// A bug in this crate.
    #[error("{0}")]
    Internal(String),
}

/// Result of encoding or decoding a value.
pub type Result<T, E = CodecError> = std::result::Result<T, E>;
