//! What readers of transcripts hand over, piece by piece, and what they report.
//!
//! A reader pushes into a [`SessionSink`], so that a transcript of any size passes through in bounded memory.

use serde::{Deserialize, Serialize};

use crate::{
    Attachment, BranchId, CheckpointDraft, ErrorExt, ErrorKind, MessageDraft, Origin, PassthroughFields,
    Project, Run, Seq, SessionId, StoreError, Timestamp,
};

/// A branch's number within one session that is being read; 0 is the first.
pub type BranchKey = usize;

/// A session as a reader finds it.
#[derive(Debug, Clone, PartialEq)]
pub struct ForeignSession {
    /// Where it comes from.
    pub origin: Origin,
    /// Its own identity, when it comes from a document of ours.
    pub id: Option<SessionId>,
    /// The title its tool stored; `None` leaves the name to the first user message.
    pub title: Option<String>,
    /// Whether that title was made up by a program.
    pub automatic_name: bool,
    /// Where it was held.
    pub project: Option<Project>,
    /// When it began; `None` leaves it to the first message.
    pub created_at: Option<Timestamp>,
    /// When something last happened in it; `None` leaves it to the last message.
    pub updated_at: Option<Timestamp>,
    /// What came with it and means nothing here.
    pub extra: PassthroughFields,
    /// The identity and name of its first branch, when it comes from a document of ours.
    pub main_branch: Option<(BranchId, String)>,
}

impl ForeignSession {
    /// A session of this origin, of which nothing more is known.
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
        }
    }
}

/// Whether the receiver of a session wants the rest of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// Go on.
    Take,
    /// It is there already; go to the next session.
    Skip,
}

/// Receives sessions from a reader.
///
/// For each session: [`begin`](Self::begin), then branches (parents before children), messages (in order along
/// each branch; a branch's messages may come in several stretches), attachments before the messages that
/// refer to them, runs, checkpoints, and [`end`](Self::end). Branch 0 exists from the beginning.
pub trait SessionSink {
    /// Begins a session.
    ///
    /// # Errors
    /// Fails when the session cannot be saved.
    fn begin(&mut self, session: ForeignSession) -> Result<Disposition, StoreError>;

    /// Adds a branch that leaves `parent` after its message number `forked_at` (a seq along the parent's
    /// history; 0 for before the first). `id` and `name` are given by documents of ours.
    ///
    /// # Errors
    /// Fails when the session cannot be saved.
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
    /// Fails when the session cannot be saved.
    fn message(&mut self, branch: BranchKey, message: MessageDraft) -> Result<(), StoreError>;

    /// Adds bytes that messages refer to.
    ///
    /// # Errors
    /// Fails when the session cannot be saved.
    fn attachment(&mut self, attachment: Attachment) -> Result<(), StoreError>;

    /// Adds a run. Its branch id is one given to [`branch`](Self::branch) or as the main branch's.
    ///
    /// # Errors
    /// Fails when the session cannot be saved.
    fn run(&mut self, run: Run) -> Result<(), StoreError>;

    /// Adds a checkpoint, likewise.
    ///
    /// # Errors
    /// Fails when the session cannot be saved.
    fn checkpoint(&mut self, checkpoint: CheckpointDraft) -> Result<(), StoreError>;

    /// Names the branch that a resume opens; without it, branch 0.
    ///
    /// # Errors
    /// Fails when the session cannot be saved.
    fn current_branch(&mut self, branch: BranchKey) -> Result<(), StoreError>;

    /// Ends the session: it appears whole, or not at all.
    ///
    /// # Errors
    /// Fails when the session cannot be saved; then nothing of it is kept.
    fn end(&mut self, report: ImportReport) -> Result<(), StoreError>;

    /// Says how far into its input the reader is, in bytes, for progress bars; `false` asks it to stop.
    fn progress(&mut self, bytes_read: u64) -> bool;
}

/// What became of the records of one session: `records == mapped + opaque + dropped`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ImportReport {
    /// How many records, damaged ones included, were found.
    pub records: u64,
    /// How many became (part of) a message or a property of the session.
    pub mapped: u64,
    /// How many have no equal here and were kept as they came.
    pub opaque: u64,
    /// How many could not be kept: damage, repetitions.
    pub dropped: u64,
    /// Everything a person should know, in order.
    pub warnings: Vec<ImportWarning>,
}

/// Something a person should know about an import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportWarning {
    /// The line (or the record's number, in formats without lines) it is about, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// What happened.
    pub message: String,
}

/// Why a file could not be imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// It is nothing that any reader knows.
    #[error("{path} is not a transcript that hfs can read: {reason}")]
    UnknownFormat {
        /// The file.
        path: String,
        /// What was seen in it.
        reason: String,
    },
    /// It is of a known format, but nothing of it could be saved.
    #[error("{path} is damaged: {reason}")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong, with its line where there is one.
        reason: String,
    },
    /// It was written by a newer version.
    #[error("{path} has document version {found}; this hfs reads versions up to {supported}")]
    Newer {
        /// The file.
        path: String,
        /// Its version.
        found: String,
        /// The newest version that is understood.
        supported: String,
    },
    /// It could not be read.
    #[error("cannot read {path}")]
    Io {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// It could not be saved.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Somebody asked it to stop.
    #[error("the import of {path} was interrupted; what was finished before is kept")]
    Interrupted {
        /// The file.
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

    fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownFormat { .. } => {
                Some("name the format with --format if you know it; `hfs import --help` lists them".into())
            }
            Self::Newer { .. } => Some("update hfs, or export again from the older version".into()),
            Self::Interrupted { .. } => Some("run the same import again to finish it".into()),
            Self::Store(error) => error.hint(),
            Self::Damaged { .. } | Self::Io { .. } => None,
        }
    }
}
