//! The saved sessions as one request sees them.

use std::cell::RefCell;
use std::collections::HashMap;

use hfs_core::{
    Branch, BranchId, Message, MessageDraft, MessageRange, PageRequest, Seq, Session, SessionFilter,
    SessionId, SessionRef, SessionSummary, Store, StoreError, Timestamp,
};
use hfs_engine::Engine;
use jiff::tz::TimeZone;

use crate::answer::{Masker, shorten};
use crate::error::McpError;
use crate::host::Host;
use crate::place::Reference;
use crate::rendering;

/// Maximum length of a session's name in answers, in characters.
const TITLE_CHARS: usize = 50;
/// Maximum length of what the user asked for, in characters.
const ASKED_CHARS: usize = 140;
/// Messages that are read to find it: a turn with some tool calls.
const TURN_MESSAGES: u32 = 24;

/// The saved sessions, with what one answer needs.
pub struct Library<'a> {
    pub host: &'a dyn Host,
    pub engine: Engine,
    pub masker: Masker,
    zone: TimeZone,
    /// Name and tool of the sessions that the answer mentions.
    labels: RefCell<HashMap<SessionId, String>>,
}

impl<'a> Library<'a> {
    /// Opens the store, if it is not open.
    ///
    /// # Errors
    /// `StoreUnavailable`.
    pub fn open(host: &'a dyn Host, masker: Masker) -> Result<Self, McpError> {
        let engine = host.engine().map_err(McpError::StoreUnavailable)?;
        Ok(Self { host, engine, masker, zone: host.time_zone(), labels: RefCell::default() })
    }

    pub fn store(&self) -> &dyn Store {
        self.engine.store().as_ref()
    }

    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    pub fn time(&self, time: Timestamp) -> String {
        rendering::time(time, &self.zone)
    }

    /// The filter for an argument `project`.
    pub fn project_filter(&self, project: Option<&str>) -> SessionFilter {
        project.map_or_else(SessionFilter::default, |text| self.host.project_filter(text))
    }

    /// The filter for the client's own project.
    pub fn own_project(&self) -> SessionFilter {
        SessionFilter { project: Some(self.host.project().key().to_owned()), ..SessionFilter::default() }
    }

    /// Parses an argument that is a time.
    ///
    /// # Errors
    /// `Argument`.
    pub fn parse_time(&self, text: Option<&str>) -> Result<Option<Timestamp>, McpError> {
        let parse = |text: &str| {
            self.host
                .parse_time(text)
                .map_err(|reason| McpError::Argument(format!("since is {text:?}: {reason}")))
        };
        text.map(parse).transpose()
    }

    /// Finds a session outside of the trash. `@` is the newest one of the client's project or, if the project has none, of
    /// all projects.
    ///
    /// # Errors
    /// `NotFound`; `Ambiguous` if several sessions match.
    pub fn find_session(&self, reference: &Reference) -> Result<SessionSummary, McpError> {
        let store = self.store();
        let parsed = SessionRef::new(&reference.session);
        let own = self.own_project();
        let in_project = match parsed {
            SessionRef::Recent(_) if !self.is_empty(&own)? => own.project.as_deref(),
            SessionRef::Recent(_) | SessionRef::Named(_) => None,
        };
        let id = store.resolve_session(&parsed, in_project, false)?;
        Ok(store.get_session(id)?)
    }

    /// Whether no session fits the filter.
    pub fn is_empty(&self, filter: &SessionFilter) -> Result<bool, McpError> {
        Ok(self.store().list_sessions(filter, &PageRequest::first(1))?.items.is_empty())
    }

    /// Reads a message, and the branch that stores it, if it is in this session.
    ///
    /// # Errors
    /// `Argument` if the text is not the id of a message of the session.
    pub fn find_message(&self, branches: &[Branch], text: &str) -> Result<(Message, Branch), McpError> {
        let unknown = || McpError::Argument(format!("the session has no message with the id {text:?}"));
        let id = text.parse().map_err(|_| {
            McpError::Argument(format!(
                "{text:?} is not the id of a message; give its number as seq, or its citation as session"
            ))
        })?;
        let message = match self.store().get_message(id) {
            Err(StoreError::NotFound { .. }) => return Err(unknown()),
            message => message?,
        };
        let branch = branches.iter().find(|branch| branch.id == message.branch).ok_or_else(unknown)?;
        Ok((message, branch.clone()))
    }

    /// A session's name in quotes, and its tool.
    pub fn label(&self, session: &Session) -> String {
        format!("{:?}, {}", self.title(session.title()), self.masker.text(session.tool()))
    }

    /// The directory of a session's project, to continue a line with; empty if the session has no project.
    pub fn project_note(&self, session: &Session) -> String {
        let project = session.project.as_ref();
        project.map(|project| format!(", {}", self.masker.text(&project.directory))).unwrap_or_default()
    }

    /// A session's name, short and without secrets.
    pub fn title(&self, name: &str) -> String {
        shorten(&self.masker.text(name), TITLE_CHARS)
    }

    /// The same as [`label`](Self::label) for a session that a search has found; only its id if it has been purged since.
    pub fn label_of(&self, id: SessionId) -> Result<String, McpError> {
        if let Some(label) = self.labels.borrow().get(&id) {
            return Ok(label.clone());
        }
        let label = match self.store().get_session(id) {
            Ok(summary) => self.label(&summary.session),
            Err(StoreError::NotFound { .. }) => format!("session {}", id.short()),
            Err(error) => return Err(error.into()),
        };
        self.labels.borrow_mut().insert(id, label.clone());
        Ok(label)
    }

    /// The beginning of what the user wrote last at or before a message, on one line and without secrets; empty if that
    /// is many tool calls ago.
    pub fn asked(&self, branch: BranchId, seq: Seq) -> Result<String, McpError> {
        let range = MessageRange::Before(seq.saturating_add(1), TURN_MESSAGES);
        let messages = self.store().read_messages(branch, range)?;
        let typed = messages.iter().rev().map(|message| &message.content).find(|content| content.is_typed());
        let Some(content) = typed else { return Ok(String::new()) };
        let text = content.text();
        // The whole text is masked before it is cut, since a part of a secret does not look like one.
        Ok(shorten(&self.masker.text(content.split_text(&text).1), ASKED_CHARS))
    }

    /// A part of a message on one line, without the secrets of the message.
    pub fn excerpt(&self, message: &MessageDraft, excerpt: &str) -> String {
        self.masker.excerpt(&message.searchable_text(), excerpt)
    }
}
