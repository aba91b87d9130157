//! The messages that change the model, and the effects that it requests.
//!
//! [`update`](crate::update::update) takes one [`Msg`] and returns [`Effect`]s. The event loop performs the effects
//! that need the terminal; the runner performs the others in the background and sends each result back as a message.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crossterm::event::{KeyEvent, MouseEvent};
use hfs_core::{
    AgentDescription, Branch, BranchId, Checkpoint, CheckpointId, Message, MessageRange, Operation, Page,
    PageRequest, Position, Role, Run, RunId, SearchQuery, SearchResults, Seq, SessionFilter, SessionId,
    SessionSummary, Timestamp,
};
use hfs_engine::{
    CompactError, Compaction, Conversation, Exchange, ReversalPlan, RewindPlan, RewindTarget, Rewound,
    SendError, Stats, Update,
};
use jiff::tz::TimeZone;

use crate::chat::PathCompletion;
use crate::ports::{
    AgentsView, AppSettings, ConfigChange, ConfigEntry, ErrorReport, ExportFormat, ExportRequest, Exported,
    FoundTranscripts, ImportRequest, Imported, PermissionAnswer, PermissionRequest, PluginDecision,
    PluginView,
};
use crate::text::Syntax;
use crate::theme::Background;
use crate::transcript::{FinishedLayout, LayoutJob};

/// The result of a request.
pub type UiResult<T> = Result<T, ErrorReport>;

/// An input to the model.
#[derive(Debug)]
pub enum Msg {
    /// A key press.
    Key(KeyEvent),
    /// Pasted text.
    Paste(String),
    /// A mouse event.
    Mouse(MouseEvent),
    /// The terminal's new width and height.
    Resized(u16, u16),
    /// The terminal has reported its background.
    BackgroundReported(Background),
    /// The terminal's window has got or lost the focus.
    FocusChanged { has_focus: bool },
    /// A timer has fired.
    Timer(Timer),
    /// The process received a termination signal, or lost its terminal.
    Terminate,
    /// Progress of the exchange with the agent.
    Exchange(Update),
    /// The exchange has ended; `conversation` is the position after it.
    ExchangeEnded { conversation: Conversation, outcome: Box<Result<Exchange, SendError>> },
    /// The compaction has ended; `conversation` is the position after it.
    Compacted { conversation: Conversation, result: Box<Result<Compaction, CompactError>> },
    /// The task of the exchange panicked.
    ExchangeCrashed(ErrorReport),
    /// A retry, or a send after a conflict, created this branch before it called the agent.
    ForkedForSend(Branch),
    /// A session was opened.
    Opened(UiResult<Box<Opened>>),
    /// Messages of the open branch.
    Messages { page: TranscriptPage, branch: BranchId, result: UiResult<Vec<Message>> },
    /// The store has lost the connection to its server, or has one again.
    Reconnecting(bool),
    /// Another process has added these messages after this position.
    Followed { place: Position, messages: Vec<Message> },
    /// A change of sessions, branches or checkpoints was made, or failed; `moved` as [`Change::moves_conversation`].
    Changed { moved: bool, result: Box<UiResult<Changed>> },
    /// The result of planning `change`, which is an undo or redo.
    ReversalPlanned { change: Change, result: UiResult<Box<ReversalPlan>> },
    /// The newest sessions, for the start screen.
    RecentSessions(RecentSessions),
    /// Paths that complete a mention of a file.
    PathsCompleted(PathCompletion),
    /// A picture was attached, and the agent does not look at pictures.
    PicturesNotSeen { names: Vec<String> },
    /// A model was chosen for this session alone, or no longer is.
    ModelUsed { for_session: bool, result: UiResult<ConfigApplied> },
    /// An agent was chosen for this session alone, or no longer is.
    AgentUsed { for_session: bool, result: UiResult<ConfigApplied> },
    /// The agents that can be chosen.
    Agents(AgentsView),
    /// The possible destinations of an export, and the format to select.
    ExportPrepared { session: SessionId, target: String, result: UiResult<Vec<ExportChoice>> },
    /// A setting was changed.
    ConfigSet(UiResult<ConfigApplied>),
    /// A request without a result message of its own failed.
    Failed(ErrorReport),
    /// The state of the plugins has changed and can be read again.
    PluginsChanged,
    /// The current state of the plugins.
    Plugins(Box<PluginView>),
    /// A plugin's command has returned.
    PluginRan { command: String, result: UiResult<String> },
    /// A decision about a plugin was stored.
    PluginDecided(UiResult<()>),
    /// An agent asks whether it may do something; the answer is sent with the id.
    PermissionAsked { id: u64, request: Box<PermissionRequest> },
    /// The agent does not need an answer to the question with this id any more.
    PermissionWithdrawn(u64),
    /// Number of questions that wait for the open one.
    QuestionsWaiting(usize),
    /// The external editor has exited; the text that it saved.
    Edited(UiResult<String>),
    /// The process cannot be suspended, because no shell could continue it.
    CannotSuspend,
    /// Text was copied to the clipboard; the user sees its description.
    Copied { description: String, outcome: CopyOutcome },
    /// Earlier messages of the user, newest first.
    History(Vec<String>),
    /// What was written in this conversation and not sent when the app ended.
    DraftRead { session: Option<SessionId>, result: UiResult<Option<String>> },
    /// The grammars for syntax highlighting are loaded.
    SyntaxReady(Syntax),
    /// The layout of a long message is complete.
    LaidOut(Box<FinishedLayout>),
    /// A message for the screen that is open.
    Screen(ScreenMsg),
}

/// A message for the screen that is open. A screen that did not request the message returns it to the model,
/// and the model decides what to do with it.
#[derive(Debug)]
pub enum ScreenMsg {
    /// A page of the list of sessions.
    Sessions { request_id: u64, result: UiResult<Page<SessionSummary>> },
    /// Results of a full-text search.
    SearchResults { request_id: u64, result: UiResult<SearchResults> },
    /// The user has paused typing in the search field.
    TypingPaused(u64),
    /// Messages for the preview of the selected row.
    Preview { request_id: u64, result: UiResult<Vec<Message>> },
    /// The checkpoints of a session, oldest first.
    Checkpoints { session: SessionId, result: UiResult<Vec<Checkpoint>> },
    /// The words that the user wrote before each of these messages.
    Words(Vec<(BranchId, Seq, String)>),
    /// The result of planning a rewind.
    RewindPlanned(UiResult<Box<RewindPlan>>),
    /// The branches of a session.
    Branches { session: SessionId, result: UiResult<Vec<Branch>> },
    /// The runs of a session, oldest first.
    Runs { session: SessionId, result: UiResult<Vec<RunId>> },
    /// A run with its events.
    Run { run: RunId, result: UiResult<Box<Run>> },
    /// Number of sessions that were read for the statistics, and of those that will be.
    StatsProgress { request_id: u64, read: u64, sessions: u64 },
    /// The statistics.
    Stats { request_id: u64, result: UiResult<Box<Stats>> },
    /// Progress of an import or export, in bytes; `item` is the file being processed.
    Progress(TransferProgress),
    /// An export has ended.
    Exported(UiResult<Exported>),
    /// Nothing was exported, because this file exists.
    ExportFileExists(PathBuf),
    /// An import has ended.
    Imported(UiResult<Imported>),
    /// Transcripts of other tools on this machine; `welcome` if the app searched for them on its first start.
    Transcripts { welcome: bool, found: Vec<FoundTranscripts> },
    /// The models of the server.
    Models(UiResult<Vec<String>>),
    /// The list of agents was read.
    AgentsListed,
    /// A line that the installation of an agent has printed.
    InstallOutput(String),
    /// The installation of an agent has ended.
    AgentInstalled { agent: String, result: UiResult<()> },
    /// All settings.
    Config(Vec<ConfigEntry>),
    /// A session was moved to the trash.
    Trashed(SessionId),
}

/// The newest sessions, for the start screen.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RecentSessions {
    /// The sessions, newest first.
    pub sessions: Vec<SessionSummary>,
    /// Whether they are those of the project. If it has none, they are those of all projects.
    pub of_project: bool,
    /// How the newest session of the project ends: the last message of the user, and the last reply.
    pub last_words: Vec<(Role, String)>,
}

/// What copying a text did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyOutcome {
    /// This program of the desktop has the text.
    Program(String),
    /// The terminal was sent the whole text. It does not report whether it accepts it.
    Terminal,
    /// The terminal was sent the beginning of the text, because it takes no more.
    TerminalCut {
        /// Bytes that were sent.
        sent: usize,
        /// Bytes of the text.
        total: usize,
    },
}

/// A session that was opened.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The position in the session.
    pub conversation: Conversation,
    /// The session.
    pub summary: SessionSummary,
    /// The branch.
    pub branch: Branch,
    /// The first messages to show.
    pub messages: Vec<Message>,
    /// The message to scroll to, if it is not the newest.
    pub at: Option<Seq>,
    /// The agent that answered last in the session, if it can continue it.
    pub agent: Option<String>,
}

/// The visible effects of a changed setting.
#[derive(Debug, Clone)]
pub struct ConfigApplied {
    /// Key of the setting.
    pub key: String,
    /// New settings of the app, if they changed.
    pub settings: Option<AppSettings>,
    /// The agent that now answers, if it changed.
    pub agent: Option<AgentDescription>,
    /// Message for the user.
    pub note: String,
}

impl ConfigApplied {
    /// Returns the visible effects of a change.
    #[must_use]
    pub fn new(key: String, change: &ConfigChange) -> Self {
        Self {
            key,
            settings: change.settings.clone(),
            agent: change.engine.as_ref().map(|engine| engine.agent().describe()),
            note: change.note.clone(),
        }
    }
}

/// Which messages of the open branch a request reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TranscriptPage {
    /// Messages before the oldest loaded one.
    Older,
    /// Messages after the newest loaded one.
    Newer,
    /// The newest messages.
    Newest,
    /// The first messages of the branch.
    Oldest,
}

/// The messages that a preview shows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PreviewSource {
    /// The newest messages of a session's current branch.
    Session(SessionId),
    /// Messages of a branch.
    Branch(BranchId, MessageRange),
}

/// Which messages the statistics count.
#[derive(Debug, Clone, PartialEq)]
pub struct StatsRequest {
    /// Only messages of this time or later.
    pub since: Option<Timestamp>,
    /// Only sessions of this project.
    pub project: Option<String>,
    /// The time zone of days.
    pub zone: TimeZone,
}

/// An export format and the file it would write.
pub type ExportChoice = (ExportFormat, PathBuf);

/// Progress of an import or export.
#[derive(Debug, Clone, Default)]
pub struct TransferProgress {
    /// Bytes processed.
    pub done: u64,
    /// Total bytes, if known.
    pub total: Option<u64>,
    /// The file being processed.
    pub item: String,
}

/// A completed [`Change`].
#[derive(Debug, Clone)]
pub enum Changed {
    /// A session was renamed.
    Renamed { session: SessionId, name: String },
    /// A session was moved to the trash.
    Trashed { session: SessionId },
    /// A session was restored from the trash.
    Restored { session: SessionId },
    /// A checkpoint was created.
    Checkpointed(Checkpoint),
    /// A checkpoint was pinned or unpinned.
    Pinned,
    /// A checkpoint was deleted.
    CheckpointDeleted,
    /// The conversation was rewound to a checkpoint.
    Rewound(Box<Rewound>),
    /// A branch was created by a fork.
    Forked(Branch),
    /// The current branch was switched.
    Switched(Branch),
    /// A branch was renamed.
    BranchRenamed(Branch),
    /// `operation` undid or redid `target`.
    Reversed { target: Box<Operation>, operation: Box<Operation> },
}

/// A timer set with [`Request::StartTimer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timer {
    /// Shows the next frame of the spinner.
    Spin,
    /// Removes the notice with this id.
    Notice(u64),
    /// Cancels the pending confirmation with this id.
    ConfirmationExpired(u64),
    /// Runs the search with this request id, unless the query has changed since.
    TypingPaused(u64),
}

/// Work that `update` requests.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Performed by the event loop, which owns the terminal.
    Terminal(TerminalCommand),
    /// Performed by the runner in the background.
    Request(Request),
}

impl From<TerminalCommand> for Effect {
    fn from(command: TerminalCommand) -> Self {
        Self::Terminal(command)
    }
}

impl From<Request> for Effect {
    fn from(request: Request) -> Self {
        Self::Request(request)
    }
}

impl From<Change> for Effect {
    fn from(change: Change) -> Self {
        Self::Request(Request::Change(change))
    }
}

/// An effect on the terminal or on the event loop itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TerminalCommand {
    /// Copies text to the clipboard; the user sees its description.
    Copy { text: String, description: String },
    /// Copies the text that is selected with the mouse.
    CopySelection,
    /// Opens the text in the user's editor.
    Edit(String),
    /// Suspends the process, as Ctrl+Z does in a shell.
    Suspend,
    /// Clears the terminal and draws everything again.
    Redraw,
    /// Rings the bell and shows a desktop notification with this text, because something ended while the user was not
    /// watching.
    Alert(String),
    /// Ends the event loop.
    Quit,
}

/// An effect that the runner performs with the engine or one of the ports.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// Sends a message and waits for the reply.
    Send { conversation: Conversation, text: String },
    /// Forks at the conversation's position and sends the message on the new branch.
    SendOnFork { conversation: Conversation, text: String },
    /// Asks for another reply to a message of the user, on a new branch that ends with that message. No branch is
    /// created if the conversation already ends with it.
    Retry { conversation: Conversation, user: Arc<Message> },
    /// Replaces the conversation in the model's context by a summary.
    Compact(Conversation),
    /// Cancels the reply or the compaction in progress.
    Interrupt,
    /// Opens a session, at a message if one is given.
    Open { session: SessionId, branch: Option<BranchId>, at: Option<Seq> },
    /// Notifies the engine that the user has opened this conversation.
    EnterConversation(Conversation),
    /// Notifies the engine that the user has left this conversation.
    LeaveConversation(Conversation),
    /// Reads messages of the open branch.
    ReadMessages { branch: BranchId, range: MessageRange, page: TranscriptPage },
    /// Reads what was written in a conversation and not sent when the app ended.
    ReadDraft(Option<SessionId>),
    /// Replaces what is kept of a conversation.
    WriteDraft { session: Option<SessionId>, text: String },
    /// Reads messages for a preview.
    ReadPreview { source: PreviewSource, request_id: u64 },
    /// Changes sessions, branches or checkpoints.
    Change(Change),
    /// Lists the newest sessions of a project for the start screen.
    ListRecentSessions { project: Option<String> },
    /// Lists the paths that complete a mention of a file.
    CompletePath(String),
    /// Lists the models of the server that answers.
    ListModels,
    /// Uses a model for the open session alone, or the configured one again.
    UseModel { model: Option<String> },
    /// Lists the agents.
    ListAgents,
    /// Lets an agent answer in the open session alone, or the configured one again.
    UseAgent { agent: Option<String> },
    /// Installs the adapter of an agent.
    InstallAgent { agent: String },
    /// Lists sessions.
    ListSessions { filter: SessionFilter, page: PageRequest, request_id: u64 },
    /// Runs a full-text search.
    Search { query: SearchQuery, request_id: u64 },
    /// Lists the checkpoints of a session.
    ListCheckpoints(SessionId),
    /// Reads the words that the user wrote before each of these messages.
    ReadWords(Vec<(BranchId, Seq)>),
    /// Plans a rewind without performing it.
    PlanRewind(RewindTarget),
    /// Plans an undo of the newest operation of a session without performing it.
    PlanUndo(SessionId),
    /// Like [`PlanUndo`](Self::PlanUndo), for a redo.
    PlanRedo(SessionId),
    /// Lists the branches of a session.
    ListBranches(SessionId),
    /// Lists the runs of a session.
    ListRuns(SessionId),
    /// Reads a run.
    ReadRun(RunId),
    /// Reads the statistics, instead of those that are being read.
    ReadStats { query: StatsRequest, request_id: u64 },
    /// Stops reading the statistics of this request.
    StopStats { request_id: u64 },
    /// Reads earlier messages of the user: first of this branch, then of the project's newest sessions.
    ReadHistory { branch: Option<BranchId>, project: Option<String> },
    /// Computes the destination of an export in each format.
    PrepareExport { session: SessionId, target: String },
    /// Exports a session.
    Export(ExportRequest),
    /// Imports files.
    Import(ImportRequest),
    /// Stops the import, export or installation in progress.
    StopTransfer,
    /// Searches this machine for transcripts of other tools; with `welcome`, only if the store is empty.
    FindTranscripts { welcome: bool },
    /// Reads the configuration.
    ReadConfig,
    /// Changes a setting.
    SetConfig { key: String, value: String },
    /// Reads the state of the plugins.
    ReadPlugins(Option<SessionId>),
    /// Stores a decision about a plugin.
    DecidePlugin { plugin: String, decision: PluginDecision },
    /// Runs a plugin's command.
    RunPlugin { command: String, arguments: String, conversation: Conversation },
    /// Answers the question with this id.
    AnswerPermission { id: u64, answer: PermissionAnswer },
    /// Sends [`Msg::Timer`] after this time.
    StartTimer(Duration, Timer),
    /// Loads the grammars for syntax highlighting.
    LoadSyntax,
    /// Lays out a long message.
    LayOut(Box<LayoutJob>),
}

impl Request {
    /// Whether the result of this request can move the conversation to another session or branch.
    #[must_use]
    pub const fn moves_conversation(&self) -> bool {
        match self {
            Self::Open { .. } | Self::PlanUndo(_) | Self::PlanRedo(_) => true,
            Self::Change(change) => change.moves_conversation(),
            _ => false,
        }
    }

    /// Whether this request changes the agent that answers.
    #[must_use]
    pub fn changes_agent(&self) -> bool {
        match self {
            Self::UseAgent { .. } => true,
            Self::SetConfig { key, .. } => key == "agent",
            _ => false,
        }
    }
}

/// A change of sessions, branches or checkpoints.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "each variant is one call of the engine or the store with the same name")]
pub enum Change {
    Rename { session: SessionId, name: String },
    Trash(SessionId),
    Restore(SessionId),
    Checkpoint { conversation: Conversation, label: Option<String> },
    Pin { checkpoint: CheckpointId, pinned: bool },
    DeleteCheckpoint(CheckpointId),
    Rewind(RewindTarget),
    Fork { branch: BranchId, at: Seq, name: Option<String> },
    Switch { session: SessionId, branch: BranchId },
    RenameBranch { branch: BranchId, name: String },
    Undo(SessionId),
    Redo(SessionId),
}

impl Change {
    /// Whether the result of this change can move the conversation to another session or branch.
    #[must_use]
    pub const fn moves_conversation(&self) -> bool {
        match self {
            Self::Trash(_)
            | Self::Restore(_)
            | Self::Rewind(_)
            | Self::Fork { .. }
            | Self::Switch { .. }
            | Self::Undo(_)
            | Self::Redo(_) => true,
            Self::Rename { .. }
            | Self::Checkpoint { .. }
            | Self::Pin { .. }
            | Self::DeleteCheckpoint(_)
            | Self::RenameBranch { .. } => false,
        }
    }
}
