//! Documents without a version: `{"messages": [{role, content, created_at?}]}`, or only the array.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::v1;

#[derive(Debug, Default)]
pub(crate) struct Document {
    pub messages: Vec<Message>,
    /// Fields of the document other than the messages.
    pub rest: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Message {
    pub role: String,
    #[serde(default)]
    pub content: Value,
    #[serde(default)]
    pub created_at: Option<Value>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl Document {
    /// Migrates the document to version 1.0.0.
    pub(crate) fn migrate(self) -> v1::Document {
        let messages = self
            .messages
            .into_iter()
            .map(|message| v1::Message {
                role: message.role,
                content: message.content,
                created_at: message.created_at,
                rest: message.rest,
            })
            .collect();
        v1::Document {
            metadata: None,
            messages,
            checkpoints: Vec::new(),
            run_snapshot: None,
            rest: self.rest,
        }
    }
}
