//! How values are stored in columns: rows, message bodies and row checksums.

pub(crate) mod body;
pub(crate) mod checksum;
pub(crate) mod rows;
