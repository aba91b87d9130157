//! What the app asks of the world.

use std::sync::Arc;
use std::time::Duration;

use hfs_core::PageRequest;
use hfs_core::{
    BranchId, CheckpointId, Message, MessageRange, RunId, SearchQuery, Seq, SessionFilter, SessionId,
};
use hfs_engine::Conversation;

use crate::message::{Purpose, Timer};
use crate::parts::{ExportRequest, ImportRequest, PluginDecision};

/// Something to be done outside of the model. Each is one call of the engine, the store or the binary, and comes
/// back as a message.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Sends a text and sees the reply through.
    Send { conversation: Conversation, text: String },
    /// Sends a text on a new branch behind what had been seen.
    SendOnFork { conversation: Conversation, text: String },
    /// Answers a message again, on a new branch behind it.
    AnswerAgain { conversation: Conversation, user: Arc<Message> },
    /// Stops the reply.
    Interrupt,
    /// Opens a session, at a message where one is given.
    Open { session: SessionId, branch: Option<BranchId>, at: Option<Seq> },
    /// Says that the conversation was opened.
    Enter(Conversation),
    /// Says that the conversation is left.
    Leave(Conversation),
    /// Reads messages.
    Read { branch: BranchId, range: MessageRange, purpose: Purpose },
    /// Reads the newest messages of a session's current branch.
    Preview { session: SessionId, generation: u64 },
    /// Changes the structure.
    Change(Change),
    /// Lists sessions.
    ListSessions { filter: SessionFilter, page: PageRequest, generation: u64 },
    /// Searches.
    Search { query: SearchQuery, generation: u64 },
    /// Lists checkpoints.
    ListCheckpoints(SessionId),
    /// Says what a rewind would do.
    PlanRewind(CheckpointId),
    /// Lists branches.
    ListBranches(SessionId),
    /// Lists runs.
    ListRuns(SessionId),
    /// Loads a run.
    LoadRun(RunId),
    /// What the user said before: on this branch, and elsewhere in the project.
    LoadHistory { branch: Option<BranchId>, project: Option<String> },
    /// Says where a session would be exported to, in each format.
    PrepareExport { session: SessionId, format: String },
    /// Exports a session.
    Export(ExportRequest),
    /// Imports files.
    Import(ImportRequest),
    /// Stops an export or import.
    StopTransfer,
    /// Looks for other tools' transcripts.
    FindTranscripts { welcome: bool },
    /// Reads the configuration.
    ReadConfig,
    /// Changes a setting.
    SetConfig { key: String, value: String },
    /// Asks what plugins show.
    ReadPlugins(Option<SessionId>),
    /// Decides about a plugin.
    DecidePlugin { plugin: String, decision: PluginDecision },
    /// Runs a plugin's command.
    RunPlugin { command: String, arguments: String, conversation: Conversation },
    /// Puts a text on the clipboard; `what` names it for the user.
    Copy { text: String, what: String },
    /// Copies what is marked on the screen.
    CopyMarked,
    /// Opens the text in the user's editor.
    Edit(String),
    /// Stops the process until it is continued, as Ctrl+Z does.
    Suspend,
    /// Draws everything anew.
    Redraw,
    /// Comes back after a while.
    After(Duration, Timer),
    /// Loads the grammars for code.
    LoadSyntax,
    /// Ends the app.
    Quit,
}

/// A change of structure.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "the names are those of the engine's calls")]
pub enum Change {
    Rename { session: SessionId, name: String },
    Trash(SessionId),
    Restore(SessionId),
    Checkpoint { conversation: Conversation, label: Option<String> },
    Pin { checkpoint: CheckpointId, pinned: bool },
    DeleteCheckpoint(CheckpointId),
    Rewind(CheckpointId),
    Fork { branch: BranchId, at: Seq, name: Option<String> },
    Switch { session: SessionId, branch: BranchId },
    RenameBranch { branch: BranchId, name: String },
    Undo(SessionId),
    Redo(SessionId),
}
