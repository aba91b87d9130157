//! The JSON Schema of the present version, made from its wire types.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde_json::Value;

use super::v2;

/// A session that hfs has exported.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "only its shape is wanted")]
struct HfsDocument {
    metadata: v2::Metadata,
    session: v2::Session,
    /// Parents before children.
    branches: Vec<BranchWithMessages>,
    runs: Vec<v2::Run>,
    checkpoints: Vec<v2::Checkpoint>,
    /// Bytes that messages refer to, in base64, by their BLAKE3 hash.
    attachments: BTreeMap<String, String>,
}

/// A branch and the messages that are its own.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "only its shape is wanted")]
struct BranchWithMessages {
    #[schemars(flatten)]
    branch: v2::Branch,
    messages: Vec<v2::Message>,
}

/// The JSON Schema of documents of the present version.
#[must_use]
pub fn document_schema() -> Value {
    schemars::schema_for!(HfsDocument).to_value()
}
