//! `hfs resume`

use hfs_tui::SessionScope;

use crate::args::Answering;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::terminal::{self, Begin};

/// Which session.
#[derive(Debug, clap::Args)]
pub struct Resume {
    /// The session; without one, choose from this project's
    session: Option<String>,
    /// Choose from all sessions
    #[arg(short, long, conflicts_with = "session")]
    all: bool,
    /// Who answers.
    #[command(flatten)]
    pub answering: Answering,
}

/// Opens the terminal app on a session, or on the list of them.
pub fn run(resume: &Resume, context: &Context) -> Result<Outcome, Failure> {
    let begin = match &resume.session {
        Some(reference) => Begin::Session(context.session(reference)?),
        None if resume.all => Begin::Pick(SessionScope::AllProjects),
        None => Begin::Pick(SessionScope::Project),
    };
    terminal::run(begin, context)
}
