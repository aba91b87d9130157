//! Domain types and ports of hfs, a durable home for conversations with LLM agents.
//!
//! A [`Session`] is a conversation. Its [`Message`]s form [`Branch`]es. A fork shares the messages before it with its
//! parent, and a stored message is never changed or removed from a branch. An [`Agent`] answers a message in a [`Run`],
//! whose [`Event`]s fold into a [`RunSnapshot`]. A [`Checkpoint`] stores the state at an event, so that a rewind can
//! continue from there on a new branch. Structural changes are [`Operation`]s, which can be undone.
//!
//! Storage, agents and plugins are ports, which other crates implement: [`Store`] (SQLite, memory), [`Agent`] (models,
//! triads, recall), [`Hooks`] (plugins), [`ImportReceiver`] (imports) and [`Clock`]. This crate itself uses no file,
//! network, database or terminal.
//!
//! ```
//! use hfs_core::{Event, EventPayload, RunEnding, RunId, RunSnapshot, Timestamp};
//!
//! let run = RunId::generate();
//! let at = |second: i64| Timestamp::from_millis(second * 1000).unwrap();
//! let events = [
//!     Event { run, number: 1, at: at(1), payload: EventPayload::PhaseStarted { phase: "draft".into() } },
//!     Event {
//!         run,
//!         number: 2,
//!         at: at(3),
//!         payload: EventPayload::RunEnded { duration_ms: 2000, ending: RunEnding::Completed },
//!     },
//! ];
//! let snapshot = RunSnapshot::fold(&events);
//! assert_eq!(snapshot.ending, Some(RunEnding::Completed));
//! assert_eq!(snapshot.timeline.phases[0].name, "draft");
//! ```

#![cfg_attr(test, allow(clippy::string_slice, reason = "tests may panic"))]

mod agent;
mod attachment;
mod branch;
mod bus;
mod checkpoint;
mod context;
mod context_window;
mod delta;
mod document;
mod error;
mod event;
mod hooks;
mod id;
mod import;
mod message;
mod operation;
mod passthrough;
mod permission_record;
mod plural;
mod project;
mod request_event;
mod run;
mod search;
mod session;
mod side_effects;
mod snapshot;
mod store;
mod suggestion;
mod sync;
mod time;
mod tool_event;
mod tool_input;
mod widget;

pub use agent::{
    Agent, AgentDescription, AgentError, CompletedMessage, IncompleteReason, IncompleteReply, NotPersisted,
    RunOutcome, RunRequest, RunSink,
};
pub use attachment::{Attachment, ContentHash};
pub use branch::{Branch, BranchDraft, MAIN_BRANCH, Position};
pub use bus::{Delivery, EventBus, Missed, Pattern, Received, Subscription};
pub use checkpoint::{
    AgentMemory, Checkpoint, CheckpointDraft, CheckpointState, PluginStates, StateCost, Trigger,
};
pub use context::{MessageFlag, readable_context, split_context};
pub use context_window::{
    ContextLimit, ContextUpdate, LimitSource, MAX_TOOL_CHARS, ModelContext, estimate_tokens, grouped,
};
pub use delta::{DeltaKind, OutputDelta, ReplyDelta, TextDelta, append_delta, append_text, delta_for_part};
pub use document::{DocumentBranch, SessionDocument};
pub use error::{ErrorExt, ErrorKind, error_chain, error_sources, plain_reason};
pub use event::{ClaimDecision, CustomEvent, Event, EventPayload, RunEnding, SectionDecision};
pub use hooks::{Hooks, NoHooks, Verdict};
pub use id::{BranchId, CheckpointId, MessageId, OperationId, ParseIdError, RunId, SessionId, ShortId};
pub use import::{
    BranchKey, Continuation, Flow, ForeignBranch, ForeignSession, ImportError, ImportEvent, ImportReceiver,
    ImportReport, ImportWarning,
};
pub use message::{Message, MessageDraft, MessageStatus, Part, Role, Seq, Source, Usage};
pub use operation::{Operation, OperationKind, SessionAttributes};
pub use passthrough::{MAX_JSON_DEPTH, PassthroughFields, json_depth};
pub use permission_record::PermissionRecord;
pub use plural::plural;
pub use project::Project;
pub use request_event::RequestEvent;
pub use run::{EventHistory, Run};
pub use search::{
    CandidateMessage, CandidateQuery, CandidateSession, Candidates, SearchHit, SearchQuery, SearchResults,
    SearchTerm, TermFrequency,
};
pub use session::{
    Origin, Session, SessionDraft, SessionFilter, SessionRef, SessionSummary, TIME_SEPARATOR, automatic_name,
    name_without_time,
};
pub use side_effects::{SideEffects, SideEffectsCollector};
pub use snapshot::{
    AgentNode, AgentStatus, AgentTree, ArbiterDecision, Contest, Negotiation, PhaseSpan, RunSnapshot,
    Section, SectionStatus, Timeline, TokenCount, TokenTotal, TriadNode, UsageTally,
};
pub use store::{
    Appended, AttachmentStore, BranchStore, CheckpointStore, CompleteImport, CompressedSize, CopyStore,
    Cursor, ImportStore, ImportedSessionUpdate, ImportedSource, Maintenance, MessageRange, MessageStore,
    OperationRecord, OperationStore, Page, PageRequest, Problem, Purged, PurgedSource, ReplyHandle, RunStore,
    SearchIndex, SessionImport, SessionRecord, SessionStore, Store, StoreError, StoreInfo, StoreResult,
    Verification,
};
pub use suggestion::{Suggestion, WaitStage};
pub use sync::{Backoff, lock_unpoisoned};
pub use time::{Clock, SystemClock, Timestamp, relative_time};
pub use tool_event::{DecidedBy, PlanStep, PlanStepStatus, SessionOpening, ToolEnding, ToolEvent};
pub use tool_input::{DiffLine, ToolInput, changed_lines, diff_lines, patched_files};
pub use widget::{Node, Slot, Tone};
