//! What can happen to the app.

use crossterm::event::{KeyEvent, MouseEvent};
use hfs_core::{
    Branch, BranchId, Checkpoint, Message, Operation, Page, Run, RunId, SearchResults, Seq, SessionId,
    SessionSummary,
};
use hfs_engine::{Conversation, Exchange, RewindPlan, Rewound, SendError, Update};

use crate::parts::{ConfigChange, ConfigEntry, Exported, Failure, FoundTranscripts, Imported, PluginView};
use crate::text::Syntax;

/// The answer to something that was asked for.
pub type Answer<T> = Result<T, Failure>;

/// Something that happened.
#[derive(Debug)]
pub enum Msg {
    /// A key was pressed.
    Key(KeyEvent),
    /// Text was pasted.
    Paste(String),
    /// The mouse did something.
    Mouse(MouseEvent),
    /// The terminal has this size now.
    Resized(u16, u16),
    /// The exchange goes on.
    Update(Update),
    /// The exchange is over.
    Ended { conversation: Conversation, outcome: Box<Result<Exchange, SendError>> },
    /// A retry or a sending elsewhere made this branch first.
    Forked(Branch),
    /// A session is open.
    Opened(Answer<Box<Opened>>),
    /// Messages that were asked for.
    Messages { purpose: Purpose, branch: BranchId, result: Answer<Vec<Message>> },
    /// The structure was changed.
    Changed(Box<Answer<Changed>>),
    /// A page of the list of sessions.
    Sessions { generation: u64, result: Answer<Page<SessionSummary>> },
    /// What a search found.
    Found { generation: u64, result: Answer<SearchResults> },
    /// The session's checkpoints.
    Checkpoints { session: SessionId, result: Answer<Vec<Checkpoint>> },
    /// What a rewind would do.
    Planned(Answer<Box<RewindPlan>>),
    /// The session's branches.
    Branches { session: SessionId, result: Answer<Vec<Branch>> },
    /// The session's runs, oldest first.
    Runs { session: SessionId, result: Answer<Vec<RunId>> },
    /// A run.
    Run(Answer<Box<Run>>),
    /// Long work goes on.
    Progress { done: u64, total: Option<u64>, what: String },
    /// Where a session would be exported to, in each format.
    ExportPrepared { session: SessionId, format: String, result: Answer<Vec<crate::screens::export::Choice>> },
    /// An export is over.
    Exported(Answer<Exported>),
    /// An import is over.
    Imported(Answer<Imported>),
    /// What other tools have left on this machine.
    Transcripts { welcome: bool, found: Vec<FoundTranscripts> },
    /// The configuration.
    Config(Vec<ConfigEntry>),
    /// A setting was changed.
    ConfigSet(Answer<ConfigApplied>),
    /// Something that was asked for has come to grief.
    Failed(Failure),
    /// Plugins have something new to show.
    PluginsChanged,
    /// What plugins show.
    Plugins(Box<PluginView>),
    /// A plugin's command is over.
    PluginRan { command: String, result: Answer<String> },
    /// A decision about a plugin was kept, or not.
    PluginDecided(Answer<()>),
    /// The text comes back from the editor.
    Edited(Answer<String>),
    /// Something went to the clipboard.
    Copied { what: String },
    /// What the user said before, newest first.
    History(Vec<String>),
    /// The grammars for code are loaded.
    SyntaxReady(Syntax),
    /// A moment that was waited for has come.
    Timer(Timer),
    /// The system asks the app to end.
    Terminate,
}

/// A session that was opened.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The place in it.
    pub conversation: Conversation,
    /// The session.
    pub summary: SessionSummary,
    /// The branch.
    pub branch: Branch,
    /// The messages to show first.
    pub messages: Vec<Message>,
    /// The message to show in the middle, when it is not the newest.
    pub at: Option<Seq>,
}

/// What a setting's change led to, as far as the screen is concerned.
#[derive(Debug, Clone)]
pub struct ConfigApplied {
    /// The setting.
    pub key: String,
    /// How the app looks and behaves from now on, when that changed.
    pub settings: Option<crate::parts::AppSettings>,
    /// Who answers from now on, when that changed.
    pub agent: Option<hfs_core::AgentDescription>,
    /// What a person is told.
    pub note: String,
}

impl ConfigApplied {
    /// The visible part of a change.
    #[must_use]
    pub fn of(key: String, change: &ConfigChange) -> Self {
        Self {
            key,
            settings: change.settings.clone(),
            agent: change.engine.as_ref().map(|engine| engine.agent().describe()),
            note: change.note.clone(),
        }
    }
}

/// What messages were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Those before the oldest that is loaded.
    Older,
    /// Those behind the newest that is loaded.
    Newer,
    /// The newest.
    Newest,
    /// A look into another session or branch; of several, the last one asked for counts.
    Preview(u64),
}

/// How the structure was changed.
#[derive(Debug, Clone)]
pub enum Changed {
    /// A session has another name.
    Renamed { session: SessionId, name: String },
    /// A session is in the trash.
    Trashed { session: SessionId },
    /// A session is back from the trash.
    Restored { session: SessionId },
    /// A place was marked.
    Checkpointed(Checkpoint),
    /// A checkpoint is pinned, or not.
    Pinned,
    /// A checkpoint is gone.
    CheckpointDeleted,
    /// The conversation went back.
    Rewound(Box<Rewound>),
    /// The conversation forked.
    Forked(Branch),
    /// Another branch is current.
    Switched(Branch),
    /// A branch has another name.
    BranchRenamed(Branch),
    /// An operation was taken back, or done again.
    Reversed { target: Box<Operation>, operation: Box<Operation> },
}

/// A moment that is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timer {
    /// The next picture of the spinner.
    Spin,
    /// The notice with this number has been seen long enough.
    Notice(u64),
    /// A first Ctrl+C or Esc has been forgotten.
    Disarm(u64),
    /// Typing has paused; the list with this number may be asked for.
    Typed(u64),
}
