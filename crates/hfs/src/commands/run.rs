//! `hfs run`

mod events;
mod list;
mod picture;
mod show;

use hfs_core::{AgentStatus, Run, RunId, SessionId};

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::references::find_run;
use crate::wire::RunSummary;

const EXAMPLES: &str = "\
Examples:
  hfs run list @               what agents did for the newest session's messages
  hfs run show @               the newest run: agents, negotiation, tokens, time
  hfs run show login 3         the third run of another session
  hfs run show @ 3 --events    with everything that happened in it

A run is named by its number in the list (1 = oldest), its short id or the beginning of one, or @ for the newest,
@-1 for the one before.";

/// What to show of runs.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct RunArgs {
    #[command(subcommand)]
    command: RunCommand,
}

#[derive(Debug, clap::Subcommand)]
enum RunCommand {
    /// List a session's runs, the newest last
    #[command(alias = "ls")]
    List(list::List),
    /// Show what agents did in a run, who got which section and why, and what it cost
    Show(show::Show),
}

/// Lists or shows runs.
pub fn run(run: &RunArgs, context: &Context) -> Result<Outcome, Failure> {
    match &run.command {
        RunCommand::List(list) => list::run(list, context)?,
        RunCommand::Show(show) => show::run(show, context)?,
    }
    Ok(Outcome::Done)
}

/// A run with its number and what it answers.
struct Placed {
    number: usize,
    run: Run,
    branch: String,
    /// The place and the words of the message that it answers.
    question: Option<(u64, String)>,
}

impl Placed {
    fn load((number, id): (usize, RunId), context: &Context) -> Result<Self, Failure> {
        let store = context.store()?;
        let run = store.get_run(id)?;
        let branch = store.get_branch(run.branch)?.name;
        // A message outlives its run unless both go with their session.
        let question = run.answers.and_then(|id| store.get_message(id).ok());
        let question = question.map(|message| (message.seq, message.content.text()));
        Ok(Self { number, run, branch, question })
    }

    fn summary(&self) -> RunSummary {
        RunSummary::new(self.number, &self.run, &self.branch, self.question.as_ref().map(|(seq, _)| *seq))
    }
}

/// The run that a person means, with its number in the list.
fn find(session: SessionId, reference: &str, context: &Context) -> Result<(usize, RunId), Failure> {
    Ok(find_run(&context.store()?.list_runs(session)?, reference)?)
}

/// How long something took, as people say it.
fn took(millis: u64) -> String {
    match millis {
        0..1_000 => format!("{millis} ms"),
        1_000..60_000 => format!("{}.{} s", millis / 1_000, millis % 1_000 / 100),
        _ => format!("{} min {} s", millis / 60_000, millis % 60_000 / 1_000),
    }
}

/// The word for what an agent is doing.
const fn status_of(status: AgentStatus) -> &'static str {
    match status {
        AgentStatus::Idle => "idle",
        AgentStatus::Working => "working",
        AgentStatus::Blocked => "lost",
        AgentStatus::Complete => "complete",
    }
}

#[cfg(test)]
mod tests;
