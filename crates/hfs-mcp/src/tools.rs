//! The tools: their names, arguments and descriptions, which a model reads.

mod blame;
mod read;
mod recall;
mod search;
mod timeline;
mod write;

use std::sync::Arc;

use hfs_core::{MessageDraft, Part};
use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::McpError;
use crate::library::Library;
use crate::place::is_cited;

pub use blame::BlameArgs;
pub use read::{ReadArgs, ReadRange, newest_messages, read_range, resolve};
pub use recall::RecallArgs;
pub use search::SearchArgs;
pub use timeline::TimelineArgs;
pub use write::{CheckpointArgs, NoteArgs};

/// A tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolName {
    Search,
    Read,
    Timeline,
    Recall,
    Blame,
    Checkpoint,
    Note,
}

/// A call of a tool with its arguments.
#[derive(Debug)]
pub enum ToolCall {
    Search(SearchArgs),
    Read(ReadArgs),
    Timeline(TimelineArgs),
    Recall(RecallArgs),
    Blame(BlameArgs),
    Checkpoint(CheckpointArgs),
    Note(NoteArgs),
}

/// The role of a message, in the terms of the arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RoleArg {
    User,
    Assistant,
    System,
    Tool,
}

impl From<RoleArg> for hfs_core::Role {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::User => Self::User,
            RoleArg::Assistant => Self::Assistant,
            RoleArg::System => Self::System,
            RoleArg::Tool => Self::Tool,
        }
    }
}

impl ToolName {
    /// All tools; those that save come last.
    pub const ALL: [Self; 7] =
        [Self::Recall, Self::Search, Self::Read, Self::Timeline, Self::Blame, Self::Checkpoint, Self::Note];

    /// Name in the protocol.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Search => "search",
            Self::Read => "read",
            Self::Timeline => "timeline",
            Self::Recall => "recall",
            Self::Blame => "blame",
            Self::Checkpoint => "checkpoint",
            Self::Note => "note",
        }
    }

    /// Whether the tool saves something, so that the user has to grant it.
    pub const fn writes(self) -> bool {
        match self {
            Self::Search | Self::Read | Self::Timeline | Self::Recall | Self::Blame => false,
            Self::Checkpoint | Self::Note => true,
        }
    }

    /// Whether the answer depends on what other tools have just written.
    pub const fn needs_news(self) -> bool {
        match self {
            Self::Search | Self::Timeline | Self::Recall | Self::Blame => true,
            // A citation or a session that is known already.
            Self::Read | Self::Checkpoint | Self::Note => false,
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::Search => "Search saved conversations",
            Self::Read => "Read a saved conversation",
            Self::Timeline => "What happened lately",
            Self::Recall => "Recall what answers a question",
            Self::Blame => "Conversations about a file",
            Self::Checkpoint => "Keep a checkpoint",
            Self::Note => "Save a note",
        }
    }

    const fn description(self) -> &'static str {
        match self {
            Self::Search => {
                "Find messages by their words in all saved conversations of the user with any coding agent, tool output \
                 included. All words must occur; \"quoted text\" matches as it is; word* is a prefix. Each hit has a \
                 citation for the tool read. For a question in natural language, use recall."
            }
            Self::Read => {
                "Read messages of a saved conversation: around a citation such as kxrmnqvwtzlp/main:12, or the newest \
                 ones of a session. Long answers are cut and say how to continue."
            }
            Self::Timeline => {
                "List the newest conversations of this project, with what the user asked last and how each ended. Use it to \
                 learn what was done lately."
            }
            Self::Recall => {
                "Find the passages of earlier conversations that answer a question, such as \"why did we drop Redis?\". Use \
                 it before asking the user about something that may have been discussed, decided or fixed before, also with \
                 another agent. Says so if nothing answers the question."
            }
            Self::Blame => {
                "Find the conversations that changed or discussed a file, optionally only where a symbol is mentioned, with \
                 what the user had asked for. Use it to learn why code is as it is."
            }
            Self::Checkpoint => {
                "Keep the current end of a saved conversation as a checkpoint, to which the user can rewind later."
            }
            Self::Note => {
                "Save a note at the end of a saved conversation, so that later searches find it. It stays until the user \
                 deletes the conversation."
            }
        }
    }

    /// The tool as clients see it.
    pub fn describe(self) -> Tool {
        let annotations = ToolAnnotations::with_title(self.title()).open_world(false);
        let annotations = if self.writes() {
            annotations.read_only(false).destructive(false).idempotent(false)
        } else {
            annotations.read_only(true)
        };
        let schema = match self {
            Self::Search => input_schema::<SearchArgs>(),
            Self::Read => input_schema::<ReadArgs>(),
            Self::Timeline => input_schema::<TimelineArgs>(),
            Self::Recall => input_schema::<RecallArgs>(),
            Self::Blame => input_schema::<BlameArgs>(),
            Self::Checkpoint => input_schema::<CheckpointArgs>(),
            Self::Note => input_schema::<NoteArgs>(),
        };
        let tool = Tool::new(self.as_str(), self.description(), Arc::new(schema));
        tool.with_title(self.title()).with_annotations(annotations)
    }

    /// Reads the arguments of a call.
    ///
    /// # Errors
    /// `Argument`.
    pub fn parse(self, arguments: Option<JsonObject>) -> Result<ToolCall, McpError> {
        Ok(match self {
            Self::Search => ToolCall::Search(self.arguments(arguments)?),
            Self::Read => ToolCall::Read(self.arguments(arguments)?),
            Self::Timeline => ToolCall::Timeline(self.arguments(arguments)?),
            Self::Recall => ToolCall::Recall(self.arguments(arguments)?),
            Self::Blame => ToolCall::Blame(self.arguments(arguments)?),
            Self::Checkpoint => ToolCall::Checkpoint(self.arguments(arguments)?),
            Self::Note => ToolCall::Note(self.arguments(arguments)?),
        })
    }

    fn arguments<T: DeserializeOwned>(self, arguments: Option<JsonObject>) -> Result<T, McpError> {
        let invalid = |error: serde_json::Error| {
            McpError::Argument(format!("the arguments of {} are not valid: {error}", self.as_str()))
        };
        // Some models send null for an argument that they leave out.
        let mut fields = arguments.unwrap_or_default();
        fields.retain(|_, value| !value.is_null());
        serde_json::from_value(Value::Object(fields)).map_err(invalid)
    }
}

/// Whether a message only asks hfs something, or is its answer. Such a message repeats what others say. A store to which agents
/// are connected has more of them with each question.
pub fn is_quoting_hfs(content: &MessageDraft) -> bool {
    let is_own_tool = |name: &str| {
        let is_ours = |tool: ToolName| name.ends_with(tool.as_str());
        (name.contains("hfs") && ToolName::ALL.into_iter().any(is_ours))
            || ["recall", "timeline", "blame"].contains(&name)
    };
    let quotes = |part: &Part| match part {
        Part::ToolCall { name, .. } => is_own_tool(name),
        Part::ToolResult { output, .. } => output.lines().any(is_cited),
        Part::Text { .. } | Part::Thinking { .. } | Part::Attachment { .. } | Part::Opaque { .. } => false,
    };
    content.text().trim().is_empty() && content.parts.iter().any(quotes)
}

/// The schema of a tool's arguments. A model reads it with each request, so it has only what a model needs, which is half of
/// what the generator writes.
fn input_schema<T: JsonSchema>() -> JsonObject {
    let mut settings = SchemaSettings::draft2020_12();
    settings.inline_subschemas = true;
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    simplify(&mut schema);
    match schema {
        Value::Object(mut fields) => {
            // That of the type, which the description of the tool says better.
            fields.remove("description");
            fields
        }
        _ => JsonObject::new(),
    }
}

/// Removes titles and formats, and that an argument may be null, which is accepted all the same.
fn simplify(schema: &mut Value) {
    let Value::Object(fields) = schema else { return };
    for name in ["$schema", "title", "format"] {
        fields.remove(name);
    }
    if fields.get("minimum") == Some(&0.into()) {
        fields.remove("minimum");
    }
    if let Some(Value::Array(types)) = fields.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            fields.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(values)) = fields.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    if let Some(Value::Array(choices)) = fields.get("anyOf") {
        let is_null = |choice: &&Value| choice.get("type").is_some_and(|name| name == "null");
        let others: Vec<Value> = choices.iter().filter(|choice| !is_null(choice)).cloned().collect();
        if let [Value::Object(only)] = others.as_slice() {
            fields.remove("anyOf");
            for (name, value) in only {
                fields.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
    }
    if let Some(Value::Object(properties)) = fields.get_mut("properties") {
        properties.values_mut().for_each(simplify);
    }
}

impl ToolCall {
    /// Runs the tool. `client` is the name of the client.
    ///
    /// # Errors
    /// Any error of the store; `Argument` for arguments that do not fit.
    pub fn run(&self, library: &Library<'_>, client: Option<&str>) -> Result<String, McpError> {
        match self {
            Self::Search(args) => search::run(library, args),
            Self::Read(args) => read::run(library, args),
            Self::Timeline(args) => timeline::run(library, args),
            Self::Recall(args) => recall::run(library, args),
            Self::Blame(args) => blame::run(library, args),
            Self::Checkpoint(args) => write::checkpoint(library, args),
            Self::Note(args) => write::note(library, args, client),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_schema_has_what_a_model_needs_and_no_more() {
        assert_eq!(
            Value::Object(input_schema::<RecallArgs>()),
            json!({
                "type": "object",
                "properties": {
                    "question": {"description": "The question, in natural language", "type": "string"},
                    "project": {
                        "description": "Only projects whose directory or repository contains this text; . for the current \
                                        project; by default all",
                        "type": "string",
                    },
                    "limit": {
                        "description": "Maximum number of passages; 5 by default",
                        "type": "integer", "minimum": 1, "maximum": 20,
                    },
                },
                "additionalProperties": false,
                "required": ["question"],
            })
        );
        let role = &Value::Object(input_schema::<SearchArgs>())["properties"]["role"];
        assert_eq!(role["enum"], json!(["user", "assistant", "system", "tool"]));
        assert!(role["description"].is_string() && role["type"] == "string", "{role}");
    }

    #[test]
    fn all_tools_together_are_small_enough_to_be_sent_with_every_request() {
        let tools: Vec<Tool> =
            ToolName::ALL.into_iter().filter(|tool| !tool.writes()).map(ToolName::describe).collect();
        let bytes = serde_json::to_string(&tools).unwrap().len();
        assert!(bytes < 5_500, "{bytes}");
    }

    #[test]
    fn an_argument_may_be_null() {
        let arguments = json!({"question": "x", "project": null}).as_object().cloned();
        assert!(matches!(ToolName::Recall.parse(arguments), Ok(ToolCall::Recall(_))));
        assert!(matches!(ToolName::Recall.parse(None), Err(McpError::Argument(_))));
    }
}
