//! Permissions: what an agent asks before it acts, and who decides.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use agent_client_protocol_schema::v1::{
    PermissionOption, PermissionOptionKind, RequestPermissionOutcome, RequestPermissionRequest,
    RequestPermissionResponse, SelectedPermissionOutcome, ToolCallContent, ToolKind,
};
use async_trait::async_trait;
use hfs_core::{DecidedBy, ToolInput};
use serde::Deserialize as _;
use serde_json::Value;

/// What a tool call does, as its agent classifies it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ActionKind {
    /// Reads files or data.
    Read,
    /// Changes files.
    Edit,
    /// Removes files.
    Delete,
    /// Moves or renames files.
    Move,
    /// Searches.
    Search,
    /// Runs a command or code.
    Execute,
    /// Thinks or plans.
    Think,
    /// Gets data from elsewhere.
    Fetch,
    /// Changes the mode of the session, such as from planning to working.
    SwitchMode,
    /// Anything else, such as the tool of an MCP server.
    Other,
}

impl ActionKind {
    /// All kinds.
    pub const ALL: [Self; 10] = [
        Self::Read,
        Self::Edit,
        Self::Delete,
        Self::Move,
        Self::Search,
        Self::Execute,
        Self::Think,
        Self::Fetch,
        Self::SwitchMode,
        Self::Other,
    ];

    /// Name on the command line, in files and in events.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Edit => "edit",
            Self::Delete => "delete",
            Self::Move => "move",
            Self::Search => "search",
            Self::Execute => "execute",
            Self::Think => "think",
            Self::Fetch => "fetch",
            Self::SwitchMode => "switch_mode",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for ActionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is not the name of a kind of action.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a kind of action: expected {}", ActionKind::ALL.map(ActionKind::as_str).join(", "))]
pub struct ParseActionKindError {
    text: String,
}

impl FromStr for ActionKind {
    type Err = ParseActionKindError;

    fn from_str(text: &str) -> Result<Self, ParseActionKindError> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        found.ok_or_else(|| ParseActionKindError { text: text.to_owned() })
    }
}

impl From<ToolKind> for ActionKind {
    fn from(kind: ToolKind) -> Self {
        match kind {
            ToolKind::Read => Self::Read,
            ToolKind::Edit => Self::Edit,
            ToolKind::Delete => Self::Delete,
            ToolKind::Move => Self::Move,
            ToolKind::Search => Self::Search,
            ToolKind::Execute => Self::Execute,
            ToolKind::Think => Self::Think,
            ToolKind::Fetch => Self::Fetch,
            ToolKind::SwitchMode => Self::SwitchMode,
            // The type is open; a new kind is not one that was allowed.
            _ => Self::Other,
        }
    }
}

/// A change of a file that a tool call would make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChange {
    /// The file.
    pub path: PathBuf,
    /// Its text before; `None` for a new file.
    pub old: Option<String>,
    /// Its text after.
    pub new: String,
}

/// What an agent wants to do. All texts are the agent's: they may contain control characters.
#[derive(Debug, Clone, PartialEq)]
pub struct PermissionQuestion {
    /// Name of the agent.
    pub agent: String,
    /// Id of the tool call.
    pub call: String,
    /// The agent's description of the call.
    pub title: String,
    /// What the call does.
    pub kind: ActionKind,
    /// Its arguments, if the agent sent them.
    pub input: Option<Value>,
    /// The files that it would change.
    pub changes: Vec<FileChange>,
    /// The files that it is about.
    pub locations: Vec<PathBuf>,
    /// Other text that the agent shows with the question, such as a plan.
    pub text: Vec<String>,
    /// The request as it came, for a front end that shows the agent's own options.
    pub request: Value,
}

impl PermissionQuestion {
    /// The directory in which the command would be run, if the call names one.
    #[must_use]
    pub fn directory(&self) -> Option<&str> {
        let input = self.input.as_ref()?;
        DIRECTORY_FIELDS.iter().find_map(|field| input.get(*field)?.as_str())
    }

    /// The files that the call names as its arguments.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        let input = self.input.as_ref();
        FILE_FIELDS.iter().filter_map(move |field| input?.get(*field)?.as_str())
    }

    /// The command that would run, if the arguments name one.
    #[must_use]
    pub fn command(&self) -> Option<String> {
        let input = self.input.as_ref()?;
        let ToolInput::Command(command) = ToolInput::of(input) else { return None };
        // Words of a command that is not passed to a shell are quoted, so that two commands never look the same.
        match input.get("command").and_then(Value::as_array).map(Vec::as_slice) {
            Some(words) if words.len() != 3 || words.last().and_then(Value::as_str) != Some(&command) => {
                let words = words.iter().map(|word| quoted(word.as_str().unwrap_or_default()));
                Some(words.collect::<Vec<_>>().join(" "))
            }
            _ => Some(command),
        }
    }
}

/// Names that agents use for the directory of a command, and for a file.
const DIRECTORY_FIELDS: [&str; 5] = ["cwd", "workdir", "working_directory", "workingDirectory", "dir_path"];
const FILE_FIELDS: [&str; 6] =
    ["file_path", "filePath", "path", "absolute_path", "abs_path", "notebook_path"];

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_=./:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// A decision about a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Whether the agent may act.
    pub allowed: bool,
    /// Who decided.
    pub by: DecidedBy,
    /// The agent's id of the option that the user has chosen, if its own options were shown.
    pub option: Option<String>,
}

impl Decision {
    /// A yes or a no.
    #[must_use]
    pub const fn new(allowed: bool, by: DecidedBy) -> Self {
        Self { allowed, by, option: None }
    }

    /// The option of this id, which the user has chosen from those of the request. An option that the request does not have
    /// is a no.
    #[must_use]
    pub fn chosen(request: &Value, option: &str) -> Self {
        let options = request.get("options").and_then(Value::as_array).into_iter().flatten();
        let mut options = options.filter_map(|option| PermissionOption::deserialize(option).ok());
        let found = options.find(|offered| offered.option_id.to_string() == option);
        let allowed = found.as_ref().is_some_and(|option| {
            matches!(option.kind, PermissionOptionKind::AllowOnce | PermissionOptionKind::AllowAlways)
        });
        Self { allowed, by: DecidedBy::User, option: found.map(|option| option.option_id.to_string()) }
    }
}

/// Decides what an agent may do.
#[async_trait]
pub trait PermissionPolicy: Send + Sync {
    /// Decides about a question. The future is dropped if the turn is cancelled.
    ///
    /// Questions of parallel tool calls may be asked at the same time.
    async fn decide(&self, question: &PermissionQuestion) -> Decision;
}

/// The answer for an agent. `None` if the agent offers no option for a refusal.
///
/// An option that the agent would remember itself is chosen only if it offers no other: hfs remembers decisions, so that they
/// are listed and can be revoked in one place.
fn selected_option(request: &RequestPermissionRequest, allowed: bool) -> Option<SelectedPermissionOutcome> {
    let [once, always] = if allowed {
        [PermissionOptionKind::AllowOnce, PermissionOptionKind::AllowAlways]
    } else {
        [PermissionOptionKind::RejectOnce, PermissionOptionKind::RejectAlways]
    };
    let of_kind = |kind| request.options.iter().find(|option| option.kind == kind);
    let option = of_kind(once).or_else(|| of_kind(always))?;
    Some(SelectedPermissionOutcome::new(option.option_id.clone()))
}

/// The answer to a request for a permission, and the id of the chosen option.
pub(crate) fn response(
    request: &RequestPermissionRequest,
    decision: &Decision,
) -> (RequestPermissionResponse, Option<String>) {
    let chosen = decision.option.as_deref();
    let chosen = request.options.iter().find(|option| Some(&*option.option_id.0) == chosen);
    let selected = match (decision.by, chosen) {
        (DecidedBy::Cancelled, _) => None,
        (DecidedBy::User, Some(option)) => Some(SelectedPermissionOutcome::new(option.option_id.clone())),
        (DecidedBy::Options | DecidedBy::Remembered | DecidedBy::User | DecidedBy::NoTerminal, _) => {
            selected_option(request, decision.allowed)
        }
    };
    let option = selected.as_ref().map(|selected| selected.option_id.to_string());
    let outcome = selected.map_or(RequestPermissionOutcome::Cancelled, RequestPermissionOutcome::Selected);
    (RequestPermissionResponse::new(outcome), option)
}

/// The changes and texts in the content of a tool call.
pub(crate) fn shown_content(content: &[ToolCallContent]) -> (Vec<FileChange>, Vec<String>) {
    use agent_client_protocol_schema::v1::ContentBlock;
    let (mut changes, mut texts) = (Vec::new(), Vec::new());
    for item in content {
        match item {
            ToolCallContent::Diff(diff) => changes.push(FileChange {
                path: diff.path.clone(),
                old: diff.old_text.clone(),
                new: diff.new_text.clone(),
            }),
            ToolCallContent::Content(content) => {
                if let ContentBlock::Text(text) = &content.content {
                    texts.push(text.text.clone());
                }
            }
            _ => {}
        }
    }
    (changes, texts)
}

#[cfg(test)]
mod tests {
    use agent_client_protocol_schema::v1::{PermissionOption, ToolCallUpdate, ToolCallUpdateFields};

    use super::*;

    fn request(kinds: &[PermissionOptionKind]) -> RequestPermissionRequest {
        let options = kinds.iter().enumerate();
        let options = options.map(|(index, kind)| PermissionOption::new(format!("{index}"), "text", *kind));
        let call = ToolCallUpdate::new("call", ToolCallUpdateFields::new());
        RequestPermissionRequest::new("session", call, options.collect())
    }

    fn chosen(kinds: &[PermissionOptionKind], allowed: bool) -> Option<String> {
        response(&request(kinds), &Decision::new(allowed, DecidedBy::User)).1
    }

    #[test]
    fn an_option_that_the_agent_remembers_is_chosen_only_if_there_is_no_other() {
        use PermissionOptionKind::{AllowAlways, AllowOnce, RejectAlways, RejectOnce};
        let all = [AllowAlways, AllowOnce, RejectAlways, RejectOnce];
        assert_eq!(chosen(&all, true).as_deref(), Some("1"));
        assert_eq!(chosen(&all, false).as_deref(), Some("3"));
        assert_eq!(chosen(&[AllowAlways, RejectAlways], true).as_deref(), Some("0"));
        assert_eq!(chosen(&[AllowAlways, RejectAlways], false).as_deref(), Some("1"));
        // Never an option of the other kind.
        assert_eq!(chosen(&[AllowOnce], false), None);
        assert_eq!(chosen(&[RejectOnce], true), None);
    }

    #[test]
    fn a_cancelled_question_selects_no_option() {
        let request = request(&[PermissionOptionKind::AllowOnce, PermissionOptionKind::RejectOnce]);
        let decision = Decision::new(true, DecidedBy::Cancelled);
        assert_eq!(response(&request, &decision).0.outcome, RequestPermissionOutcome::Cancelled);
    }

    #[test]
    fn an_option_that_the_user_has_chosen_is_the_answer() {
        use PermissionOptionKind::{AllowAlways, AllowOnce, RejectOnce};
        let request = request(&[AllowAlways, AllowOnce, RejectOnce]);
        let raw = serde_json::to_value(&request).unwrap();
        for (option, allowed) in [("0", true), ("1", true), ("2", false)] {
            let decision = Decision::chosen(&raw, option);
            assert_eq!((decision.allowed, decision.by), (allowed, DecidedBy::User));
            assert_eq!(response(&request, &decision).1.as_deref(), Some(option));
        }
        let unknown = Decision::chosen(&raw, "7");
        assert!(!unknown.allowed);
        assert_eq!(response(&request, &unknown).1.as_deref(), Some("2"));
    }

    #[test]
    fn commands_with_different_words_never_look_the_same() {
        let command = |input: Value| {
            let question = PermissionQuestion {
                agent: String::new(),
                call: String::new(),
                title: String::new(),
                kind: ActionKind::Execute,
                input: Some(input),
                changes: Vec::new(),
                locations: Vec::new(),
                text: Vec::new(),
                request: Value::Null,
            };
            question.command().unwrap()
        };
        assert_eq!(command(serde_json::json!({"command": "rm a b"})), "rm a b");
        assert_eq!(command(serde_json::json!({"command": ["bash", "-lc", "rm a b"]})), "rm a b");
        assert_eq!(command(serde_json::json!({"command": ["rm", "a b"]})), "rm 'a b'");
        assert_eq!(command(serde_json::json!({"command": ["rm", "a", "it's"]})), r"rm a 'it'\''s'");
    }

    #[test]
    fn every_kind_is_parsed_from_its_name() {
        for kind in ActionKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
        }
        assert!("all".parse::<ActionKind>().is_err());
    }
}
