//! The screens beside the chat. Each keeps its own state, turns keys into acts, and draws itself.

pub mod branches;
pub mod config;
pub mod export;
pub mod help;
pub mod import;
pub mod inspect;
pub mod list;
pub mod plugins;
pub mod preview;
pub mod search;
pub mod sessions;
pub mod timeline;

use hfs_core::{BranchId, Project, SessionId};
use hfs_engine::Conversation;

use crate::effect::Effect;
use crate::modal::Modal;
use crate::parts::{PluginView, Tone};

/// What is on the screen.
#[derive(Debug, Default)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Screen {
    #[default]
    Chat,
    Sessions(sessions::Sessions),
    Search(search::Search),
    Timeline(timeline::Timeline),
    Branches(branches::Branches),
    Inspect(inspect::Inspect),
    Import(import::Import),
    Export(export::Export),
    Config(config::Config),
    Plugins(plugins::Plugins),
    Help(help::Help),
}

/// What a screen may know of the rest.
pub struct Context<'a> {
    pub conversation: &'a Conversation,
    pub project: Option<&'a Project>,
    pub plugins: &'a PluginView,
    /// A reply is in progress, so that the conversation must stay where it is.
    pub busy: bool,
    /// A number that was never used before, for telling answers apart.
    pub fresh: u64,
}

impl Context<'_> {
    pub fn session(&self) -> Option<SessionId> {
        self.conversation.session()
    }

    pub fn branch(&self) -> Option<BranchId> {
        self.conversation.branch()
    }
}

/// What a key on a screen leads to.
#[derive(Debug)]
pub enum Act {
    /// Back to the chat.
    Back,
    /// Does something outside.
    Do(Effect),
    /// Asks something first.
    Ask(Box<Modal>),
    /// Tells the user something.
    Say(Tone, String),
    /// Runs a command as if it had been typed.
    Command(String),
}
