//! `hfs session`

mod change;
mod list;
mod show;

pub use change::empty_old_trash;
pub use list::{Listing, rows};

use crate::context::Context;
use crate::failure::{Failure, Outcome};

const EXAMPLES: &str = "\
Examples:
  hfs session list --all              everything, not only this project's
  hfs session show @                  the newest session's newest messages
  hfs session show login -n 200 -v    more of it, with tool calls and thinking
  hfs session rename @ \"Login fix\"
  hfs session delete zkxw             into the trash; `hfs session restore zkxw` brings it back

A session is named by its name, its short id or the beginning of one, or @ for the newest, @-1 for the one before.";

/// What to do with sessions.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Session {
    #[command(subcommand)]
    command: SessionCommand,
}

#[derive(Debug, clap::Subcommand)]
enum SessionCommand {
    /// List this project's sessions, newest first
    #[command(alias = "ls")]
    List(list::List),
    /// Show a session's messages, the newest page first
    #[command(alias = "cat")]
    Show(show::Show),
    /// Give a session a name
    #[command(alias = "mv")]
    Rename {
        /// The session
        session: String,
        /// Its new name
        name: String,
    },
    /// Move a session to the trash
    #[command(alias = "rm")]
    Delete {
        /// The session
        session: String,
        /// Remove it for good, at once; nothing brings it back
        #[arg(long)]
        purge: bool,
    },
    /// Bring a session back from the trash
    Restore {
        /// The session
        session: String,
    },
}

/// Lists, shows or changes sessions.
pub fn run(session: &Session, context: &Context) -> Result<Outcome, Failure> {
    match &session.command {
        SessionCommand::List(list) => list::run(list, context)?,
        SessionCommand::Show(show) => show::run(show, context)?,
        SessionCommand::Rename { session, name } => change::rename(session, name, context)?,
        SessionCommand::Delete { session, purge } => change::delete(session, *purge, context)?,
        SessionCommand::Restore { session } => change::restore(session, context)?,
    }
    Ok(Outcome::Done)
}
