//! The import port: what transcript readers find, and the receiver of it.
//!
//! A reader sends one [`ImportEvent`] after another to an [`ImportReceiver`], so that a transcript of any size is imported in
//! bounded memory.

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
    /// Whether the source gives its messages no ids, so that their [source](crate::Source) is only a position. If the content
    /// at a position changes, it may be another message.
    pub positional_ids: bool,
    /// What the source continues, if its id is one that hfs gives to the transcripts that it writes.
    pub continues: Option<Continuation>,
    /// Set if the reader continues at a [resume point](ImportEvent::ResumePoint): for each branch by key, the number of messages in
    /// its history before the first one that follows. Without it, all messages of the session follow.
    pub resumed_after: Option<Vec<Seq>>,
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
    /// A branch that recorded what an agent did in this session of its own. The turns that hfs recorded are not imported again,
    /// because the agent's protocol and its transcript divide them into messages in different ways.
    Recorded(BranchId),
}

impl Continuation {
    /// The id of the session or branch.
    #[must_use]
    pub const fn id_bytes(self) -> [u8; 16] {
        match self {
            Self::Session(id) => *id.as_uuid().as_bytes(),
            Self::Branch(id) | Self::Recorded(id) => *id.as_uuid().as_bytes(),
        }
    }
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
            positional_ids: false,
            resumed_after: None,
        }
    }
}

/// A branch that forks from another branch of the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignBranch {
    /// Number of the branch, from 1, in the order in which the reader sends them.
    pub key: BranchKey,
    /// The branch from which it forks, which was sent before.
    pub parent: BranchKey,
    /// The message after which it forks; 0: before the first message.
    pub forked_at: Seq,
    /// Branch id, if the source has one.
    pub id: Option<BranchId>,
    /// Name, if the source has one.
    pub name: Option<String>,
    /// Whether the branch is undone, as in hfs documents.
    pub undone: bool,
}

/// What a reader finds in a source.
///
/// For each session, a reader sends [`Session`](Self::Session) first and [`End`](Self::End) last. In between it sends branches,
/// parents before children; messages, in order along each branch, while messages of different branches may alternate; each
/// attachment before the messages that refer to it; and runs and checkpoints after their branch.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "most events are messages, and boxing each would cost an allocation"
)]
pub enum ImportEvent {
    /// A session begins, with its first branch, which has the key 0.
    Session(Box<ForeignSession>),
    /// A branch.
    Branch(ForeignBranch),
    /// The next message of a branch.
    Message {
        /// The branch.
        branch: BranchKey,
        /// The message.
        message: MessageDraft,
    },
    /// An attachment.
    Attachment(Attachment),
    /// A run.
    Run(Box<Run>),
    /// A checkpoint.
    Checkpoint(Box<CheckpointDraft>),
    /// The branch that a resume opens; without this event, branch 0.
    CurrentBranch(BranchKey),
    /// State with which the reader can continue when its source has grown. It contains no text of messages.
    ResumePoint(Vec<u8>),
    /// The session is complete.
    End(ImportReport),
}

/// What a reader does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Send the next event.
    Continue,
    /// Send nothing more of this session, not even its end, and continue with the next one.
    SkipSession,
    /// End the import.
    Stop,
}

/// Receives what a reader finds.
///
/// A receiver may wrap another one: it handles the events that it is interested in, and passes on all others.
pub trait ImportReceiver {
    /// Receives the next event. At [`ImportEvent::End`], the session becomes visible.
    ///
    /// # Errors
    /// Returns the store's error; the session is then discarded.
    fn receive(&mut self, event: ImportEvent) -> Result<Flow, StoreError>;

    /// Receives the number of input bytes read so far, for progress bars. Readers call it often, also within a session that is
    /// skipped.
    fn progress(&mut self, bytes_read: u64) -> Flow;
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
    /// The file contains records of a conversation, but the reader found no message in them.
    #[error("{path} was read as {format}, but no message in it could be read: {reason}")]
    Misread {
        /// Path of the file.
        path: String,
        /// Name of the format.
        format: &'static str,
        /// What the file looks like.
        reason: String,
    },
    /// The file has a format that is known, but for which there is no reader.
    #[error("{path} was written by {tool}, in a format that hfs does not read")]
    UnreadFormat {
        /// Path of the file.
        path: String,
        /// The program that wrote it.
        tool: String,
        /// How to get at the conversations of the program, where that is known.
        export: Option<String>,
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
            Self::UnknownFormat { .. }
            | Self::Misread { .. }
            | Self::UnreadFormat { .. }
            | Self::Damaged { .. } => ErrorKind::Invalid,
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
            Self::UnknownFormat { .. } | Self::Misread { .. } => Some(Suggestion::NameFormat),
            Self::UnreadFormat { tool, export, .. } => {
                Some(Suggestion::ConvertTranscript { tool: tool.clone(), export: export.clone() })
            }
            Self::Newer { .. } => Some(Suggestion::UpdateForDocument),
            Self::Interrupted { .. } => Some(Suggestion::RepeatImport),
            Self::Store(error) => error.suggestion(),
            Self::Damaged { .. } | Self::Io { .. } => None,
        }
    }
}
