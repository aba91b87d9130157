//! The import port: the sessions that transcript readers produce, and the sink that receives them.
//!
//! A reader pushes sessions into a [`SessionSink`], so that a transcript of any size is imported in bounded memory.

use serde::{Deserialize, Serialize};

use crate::{
    Attachment, BranchId, CheckpointDraft, ErrorExt, ErrorKind, MessageDraft, Origin, PassthroughFields,
    Project, Run, Seq, SessionId, StoreError, Suggestion, Timestamp,
};

/// Number that a reader gives to a branch of the session it reads; 0 is the first branch.
pub type BranchKey = usize;

/// A session as a reader finds it in its source.
#[derive(Debug, Clone, PartialEq)]
pub struct ForeignSession {
    /// Origin.
    pub origin: Origin,
    /// Session id; only hfs documents have one.
    pub id: Option<SessionId>,
    /// Title in the source; without one, the first user message names the session.
    pub title: Option<String>,
    /// Whether a program generated the title.
    pub automatic_name: bool,
    /// Project of the session.
    pub project: Option<Project>,
    /// Time of creation; if unknown, the time of the first message is used.
    pub created_at: Option<Timestamp>,
    /// Time of the last change; if unknown, the time of the last message is used.
    pub updated_at: Option<Timestamp>,
    /// Fields of the source that hfs does not interpret.
    pub extra: PassthroughFields,
    /// Id and name of the first branch, if the source is an hfs document.
    pub main_branch: Option<(BranchId, String)>,
    /// What the source continues, if its id is one that hfs gives to the transcripts that it writes.
    pub continues: Option<Continuation>,
}

/// What a transcript of another tool continues.
///
/// A transcript that hfs writes has the id of a session or branch of hfs, and each of its messages has
/// [`Source::hfs`](crate::Source::hfs) as its source. If the store has the session, an import adds what the tool added
/// to it, on the same branch. Messages that hfs wrote are only used to find the place: their text in the transcript may
/// be less than what the store has. If the store does not have the session, the transcript is one like any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Continuation {
    /// A session with all of its branches.
    Session(SessionId),
    /// The history of a branch.
    Branch(BranchId),
}

impl ForeignSession {
    /// A session of which only the origin is known.
    #[must_use]
    pub fn new(origin: Origin) -> Self {
        Self {
            origin,
            id: None,
            title: None,
            automatic_name: false,
            project: None,
            created_at: None,
            updated_at: None,
            extra: PassthroughFields::new(),
            main_branch: None,
            continues: None,
        }
    }
}

/// Whether the reader continues with a session that it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// Read the session.
    Take,
    /// Skip to the next session, because this one exists already.
    Skip,
}

/// Receives sessions from a reader.
///
/// The reader calls, for each session: [`begin`](Self::begin); [`branch`](Self::branch), parents before children;
/// [`message`](Self::message), in order along each branch, while messages of different branches may alternate;
/// [`attachment`](Self::attachment) before the messages that refer to it; [`run`](Self::run) and
/// [`checkpoint`](Self::checkpoint); and [`end`](Self::end). [`begin`](Self::begin) creates branch 0.
pub trait SessionSink {
    /// Starts a session.
    ///
    /// # Errors
    /// Returns the store's error.
    fn begin(&mut self, session: ForeignSession) -> Result<Disposition, StoreError>;

    /// Adds a branch forked from `parent` after the message with seq `forked_at` (0: before the first message). hfs
    /// documents also give its id and name.
    ///
    /// # Errors
    /// Returns the store's error.
    fn branch(
        &mut self,
        key: BranchKey,
        parent: BranchKey,
        forked_at: Seq,
        id: Option<BranchId>,
        name: Option<String>,
    ) -> Result<(), StoreError>;

    /// Adds the next message of a branch.
    ///
    /// # Errors
    /// Returns the store's error.
    fn message(&mut self, branch: BranchKey, message: MessageDraft) -> Result<(), StoreError>;

    /// Adds an attachment.
    ///
    /// # Errors
    /// Returns the store's error.
    fn attachment(&mut self, attachment: Attachment) -> Result<(), StoreError>;

    /// Adds a run. Its branch must be the first one or have been added by [`branch`](Self::branch).
    ///
    /// # Errors
    /// Returns the store's error.
    fn run(&mut self, run: Run) -> Result<(), StoreError>;

    /// Adds a checkpoint. Its branch must be the first one or have been added by [`branch`](Self::branch).
    ///
    /// # Errors
    /// Returns the store's error.
    fn checkpoint(&mut self, checkpoint: CheckpointDraft) -> Result<(), StoreError>;

    /// Sets the branch that a resume opens; branch 0 if this is never called.
    ///
    /// # Errors
    /// Returns the store's error.
    fn current_branch(&mut self, branch: BranchKey) -> Result<(), StoreError>;

    /// Ends the session and makes it visible.
    ///
    /// # Errors
    /// Returns the store's error; the session is then discarded.
    fn end(&mut self, report: ImportReport) -> Result<(), StoreError>;

    /// Reports the number of input bytes read so far, for progress bars. If it returns `false`, the reader stops.
    fn progress(&mut self, bytes_read: u64) -> bool;
}

/// What the import did with the records of one session: `records == mapped + opaque + dropped`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ImportReport {
    /// Records found, including damaged ones.
    pub records: u64,
    /// Records that became a message, a part of one, or an attribute of the session.
    pub mapped: u64,
    /// Records of types that hfs does not model, kept verbatim.
    pub opaque: u64,
    /// Records that were not kept: damaged or repeated ones.
    pub dropped: u64,
    /// Warnings for the user, in order.
    pub warnings: Vec<ImportWarning>,
}

/// A warning of an import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportWarning {
    /// Line that the warning refers to, counted from 1; in formats without lines, the number of the record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// Human-readable text.
    pub message: String,
}

/// Why a file could not be imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// No reader recognises the file.
    #[error("{path} is not a transcript that hfs can read: {reason}")]
    UnknownFormat {
        /// Path of the file.
        path: String,
        /// Reason, with the apparent type of the file.
        reason: String,
    },
    /// The format is known, but nothing in the file could be read.
    #[error("{path} is damaged: {reason}")]
    Damaged {
        /// Path of the file.
        path: String,
        /// What is damaged, with the line if known.
        reason: String,
    },
    /// A newer version wrote the file.
    #[error("{path} has document version {found}; this hfs reads versions up to {supported}")]
    Newer {
        /// Path of the file.
        path: String,
        /// Version of the document.
        found: String,
        /// Newest version that this hfs reads.
        supported: String,
    },
    /// The file could not be read.
    #[error("cannot read {path}")]
    Io {
        /// Path of the file.
        path: String,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The user stopped the import.
    #[error("the import of {path} was interrupted; sessions imported before are kept")]
    Interrupted {
        /// Path of the file.
        path: String,
    },
}

impl ErrorExt for ImportError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownFormat { .. } | Self::Damaged { .. } => ErrorKind::Invalid,
            Self::Newer { .. } => ErrorKind::Unsupported,
            Self::Io { source, .. } => match source.kind() {
                std::io::ErrorKind::NotFound => ErrorKind::NotFound,
                std::io::ErrorKind::PermissionDenied => ErrorKind::Denied,
                _ => ErrorKind::Unavailable,
            },
            Self::Store(error) => error.kind(),
            Self::Interrupted { .. } => ErrorKind::Unavailable,
        }
    }

    fn suggestion(&self) -> Option<Suggestion> {
        match self {
            Self::UnknownFormat { .. } => Some(Suggestion::NameFormat),
            Self::Newer { .. } => Some(Suggestion::UpdateForDocument),
            Self::Interrupted { .. } => Some(Suggestion::RepeatImport),
            Self::Store(error) => error.suggestion(),
            Self::Damaged { .. } | Self::Io { .. } => None,
        }
    }
}
