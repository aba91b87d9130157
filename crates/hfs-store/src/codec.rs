//! Encodings of the values in columns.

pub mod binary_delta;
pub(crate) mod body;
pub(crate) mod checksum;
pub(crate) mod compressed_json;
pub(crate) mod compression;
pub(crate) mod piece;
pub(crate) mod rows;
