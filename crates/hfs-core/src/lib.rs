//! The nouns and rules of hfs: what a session, a message, an event and a checkpoint are, how a run's
//! events fold into its state, and the ports through which everything else is reached.
//!
//! Nothing in here touches a file, a network, a database or a terminal. Adapters ([`Store`], [`Agent`],
//! [`Hooks`], [`Clock`]) live in crates of their own and know this one only.

#![cfg_attr(
    test,
    allow(clippy::string_slice, reason = "a failed expectation is a test's own way of speaking")
)]

mod agent;
mod attachment;
mod branch;
mod bus;
mod checkpoint;
mod document;
mod error;
mod event;
mod hooks;
mod id;
mod import;
mod message;
mod operation;
mod passthrough;
mod project;
mod run;
mod search;
mod session;
mod snapshot;
mod store;
mod time;
mod widget;

pub use agent::{Agent, AgentDescription, AgentError, RunOutcome, RunRequest, RunSink};
pub use attachment::{Attachment, ContentHash};
pub use branch::{Branch, BranchDraft, MAIN_BRANCH, Position};
pub use bus::{Delivery, EventBus, Missed, Pattern, Received, Subscription};
pub use checkpoint::{AgentMemory, Checkpoint, CheckpointDraft, CheckpointState, MemoryEntry, StateCost};
pub use document::{DocumentBranch, SessionDocument};
pub use error::{ErrorExt, ErrorKind};
pub use event::{ClaimDecision, Event, EventPayload, RunEnding, SectionDecision, UnknownPayload};
pub use hooks::{Hooks, NoHooks, Verdict};
pub use id::{BranchId, CheckpointId, MessageId, OperationId, ParseIdError, RunId, SessionId, ShortId};
pub use import::{
    BranchKey, Disposition, ForeignSession, ImportError, ImportReport, ImportWarning, SessionSink,
};
pub use message::{DeltaKind, Message, MessageDraft, MessageStatus, Part, Role, Seq, Source, Usage};
pub use operation::{Operation, OperationKind, SessionAttributes};
pub use passthrough::PassthroughFields;
pub use project::Project;
pub use run::Run;
pub use search::{SearchHit, SearchQuery, SearchResults, SearchTerm};
pub use session::{Origin, Session, SessionDraft, SessionFilter, SessionRef, SessionSummary, automatic_name};
pub use snapshot::{
    AgentNode, AgentStatus, AgentTree, ArbiterDecision, Contest, EventHistory, Negotiation, PhaseSpan,
    RunSnapshot, Section, SectionStatus, Timeline, TokenCount, TriadNode, UsageTally,
};
pub use store::{
    Appended, BranchStore, CheckpointStore, Cursor, Maintenance, MessageRange, MessageStore, OperationStore,
    Page, PageRequest, Problem, ReplyDelta, ReplyHandle, RunStore, SearchIndex, SessionImport, SessionStore,
    Store, StoreError, StoreInfo, StoreResult, Verification,
};
pub use time::{Clock, SystemClock, Timestamp};
pub use widget::{Node, Slot, Tone};
