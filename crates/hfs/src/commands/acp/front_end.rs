//! What an editor is shown while a turn runs, and what it is asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use hfs_acp::wire::{ClientSessionCapabilities, FileSystemCapabilities};
use hfs_acp::{
    Decision, EditorConnection, FileAccess, FrontEnd, PermissionPolicy, PermissionQuestion, RpcError,
    answer_update, delta_update, note_update,
};
use hfs_core::{
    Clock as _, ContextUpdate, DecidedBy, Event, EventPayload, RequestEvent, SessionId, SystemClock,
    Timestamp, ToolEvent, name_without_time, plural,
};
use hfs_engine::{ORIGINAL_TEXT, Observer, Update};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::output::sanitize;
use crate::permissions::UserPolicy;

/// What an editor offers beyond what the protocol requires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EditorFeatures {
    pub files: FileAccess,
    has_notices: bool,
    has_compactions: bool,
}

impl EditorFeatures {
    pub fn new(files: &FileSystemCapabilities, session: Option<&ClientSessionCapabilities>) -> Self {
        Self {
            files: FileAccess { read: files.read_text_file, write: files.write_text_file },
            has_notices: session.is_some_and(|session| session.notices.is_some()),
            has_compactions: session.is_some_and(|session| session.compaction.is_some()),
        }
    }

    /// An update of an agent as the editor understands it; `None` if it cannot show it.
    fn shown(self, update: &Value) -> Option<Value> {
        match update.get("sessionUpdate").and_then(Value::as_str) {
            Some("notice") if !self.has_notices => {
                let words = ["title", "description"].map(|field| update.get(field).and_then(Value::as_str));
                let words: Vec<&str> = words.into_iter().flatten().collect();
                Some(note_update(&words.join(": ")))
            }
            Some("compaction_update" | "compaction_summary_chunk") if !self.has_compactions => None,
            _ => Some(update.clone()),
        }
    }
}

/// An editor's view of a session.
#[derive(Debug, Clone)]
pub struct EditorView {
    pub connection: EditorConnection,
    /// The id of the session, as the editor has it.
    pub session: Arc<str>,
    pub features: EditorFeatures,
}

impl EditorView {
    pub fn new(connection: &EditorConnection, session: SessionId, features: EditorFeatures) -> Self {
        Self { connection: connection.clone(), session: session.to_string().into(), features }
    }

    /// Shows an update of an agent, or of a replay.
    pub fn show(&self, update: &Value) {
        if let Some(update) = self.features.shown(update) {
            self.connection.update(&self.session, &update);
        }
    }

    /// Shows a note of hfs beside the conversation.
    pub fn note(&self, text: &str) {
        self.show(&json!({"sessionUpdate": "notice", "severity": "info", "title": text}));
    }

    /// Shows a text of hfs as an answer of the agent.
    pub fn answer(&self, text: &str) {
        self.show(&answer_update(text));
    }

    /// Announces the name of the session.
    pub fn name(&self, name: &str, updated_at: Timestamp) {
        let mut update = json!({"sessionUpdate": "session_info_update", "title": name_without_time(name)});
        if let (Some(time), Value::Object(fields)) = (updated_at.known(), &mut update) {
            fields.insert("updatedAt".into(), time.to_string().into());
        }
        self.show(&update);
    }
}

/// A change that an agent behind hfs has announced, and that the editor is shown together with what hfs has of the kind.
#[derive(Debug)]
pub enum AgentChange {
    Options,
    Commands(Vec<Value>),
}

/// Passes the updates of an agent to the editor.
pub struct AgentView {
    pub view: EditorView,
    pub changes: mpsc::UnboundedSender<AgentChange>,
}

#[async_trait]
impl FrontEnd for AgentView {
    fn update(&self, update: &Value) {
        match update.get("sessionUpdate").and_then(Value::as_str) {
            Some("available_commands_update") => {
                let commands = update.get("availableCommands").and_then(Value::as_array);
                // Fails only if the session has been closed.
                let _ = self.changes.send(AgentChange::Commands(commands.cloned().unwrap_or_default()));
            }
            // The session has its name from hfs, in lists as well.
            Some("session_info_update") => {}
            _ => self.view.show(update),
        }
    }

    fn options_changed(&self) {
        let _ = self.changes.send(AgentChange::Options);
    }

    fn files(&self) -> FileAccess {
        self.view.features.files
    }

    async fn request(&self, method: &str, mut params: Value) -> Result<Value, RpcError> {
        set_session(&mut params, &self.view.session);
        match self.view.connection.call(method, &params).await {
            Ok(answer) => answer,
            Err(closed) => Err(RpcError::new(closed.to_string())),
        }
    }
}

fn set_session(params: &mut Value, session: &str) {
    if let Value::Object(fields) = params {
        fields.insert("sessionId".into(), session.into());
    }
}

/// Decides by the options of the command and the stored decisions, and asks the editor otherwise, with the agent's own options.
pub struct EditorPolicy {
    pub view: EditorView,
    pub rules: UserPolicy,
}

#[async_trait]
impl PermissionPolicy for EditorPolicy {
    async fn decide(&self, question: &PermissionQuestion) -> Decision {
        if let Some(decision) = self.rules.decided_before(question).await {
            return decision;
        }
        let mut request = question.request.clone();
        set_session(&mut request, &self.view.session);
        match self.view.connection.call("session/request_permission", &request).await {
            Ok(Ok(answer)) => match answer.pointer("/outcome/optionId").and_then(Value::as_str) {
                Some(option) => Decision::chosen(&question.request, option),
                None => Decision::new(false, DecidedBy::Cancelled),
            },
            // An editor that cannot ask.
            Ok(Err(_)) => Decision::new(false, DecidedBy::NoTerminal),
            Err(_) => Decision::new(false, DecidedBy::Cancelled),
        }
    }
}

/// Shows what the engine reports of a turn.
pub struct TurnObserver {
    pub view: EditorView,
    /// Whether the agent's own updates are shown, so that its messages are not shown twice.
    pub is_shown_by_agent: bool,
    /// Whether a warning about a failed save was shown.
    pub is_unsaved: AtomicBool,
}

impl Observer for TurnObserver {
    fn update(&self, update: Update) {
        match update {
            Update::SessionCreated { name, .. } => self.view.name(&name, SystemClock.now()),
            Update::Delta(delta) if !self.is_shown_by_agent => {
                delta_update(&delta).iter().for_each(|update| self.view.show(update));
            }
            Update::Sent(message) if message.content.extra.get(ORIGINAL_TEXT).is_some() => {
                self.view.note(&format!("a plugin changed your message to: {}", message.content.text()));
            }
            Update::MessageEnded(message) if message.content.extra.get(ORIGINAL_TEXT).is_some() => {
                self.view.note(&format!(
                    "a plugin changed this reply; it is saved as: {}",
                    message.content.text()
                ));
            }
            Update::NotSaved { reason } if !self.is_unsaved.swap(true, Ordering::Relaxed) => {
                self.view.note(&format!("not saved yet: {reason}; retrying"));
            }
            Update::Saved if self.is_unsaved.swap(false, Ordering::Relaxed) => {
                self.view.note("everything is saved now");
            }
            Update::CheckpointFailed { reason } => {
                self.view.note(&format!("no checkpoint was created: {reason}"));
            }
            Update::Compacting { messages } => {
                self.view
                    .note(&format!("summarizing {} for the model's context", plural(messages, "message")));
            }
            Update::CompactionFailed { reason } => {
                self.view.note(&format!("the conversation was not summarized: {reason}"));
            }
            Update::Event(event) => self.event(&event),
            _ => {}
        }
    }
}

impl TurnObserver {
    fn event(&self, event: &Event) {
        let payload = &event.payload;
        if let Some(text) = ToolEvent::read(payload).and_then(|event| event.describe_handover()) {
            self.view.note(&sanitize::line(&text));
        }
        if self.is_shown_by_agent {
            return;
        }
        if let Some(request) = RequestEvent::read(payload) {
            self.view.note(&sanitize::line(&request.describe()));
        } else if let Some(update) = ContextUpdate::read(payload) {
            if let Some(left_out) = update.describe_left_out() {
                self.view.note(&left_out);
            }
            if let Some(limit) = update.limit {
                let usage =
                    json!({"sessionUpdate": "usage_update", "used": update.tokens, "size": limit.tokens});
                self.view.show(&usage);
            }
        } else if let EventPayload::PhaseStarted { phase } = payload {
            self.view.note(&sanitize::line(phase));
        }
    }
}
