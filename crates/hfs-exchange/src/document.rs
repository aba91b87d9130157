//! Our own document: a whole session as JSON.
//!
//! Each version's wire types stand in a file of their own and never change once they have been written; a
//! function in the same file leads to the next version. Readers take any past version through that chain.

mod convert;
mod schema;
pub(crate) mod v0;
pub(crate) mod v1;
pub(crate) mod v2;
mod write;

pub use schema::document_schema;
pub use write::{Stamp, write_json};

/// The version that is written.
pub const DOCUMENT_VERSION: &str = v2::VERSION;
