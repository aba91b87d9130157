//! `hfs mcp`: a server of the Model Context Protocol on standard input and output.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use hfs_mcp::Options;

use crate::context::Context;
use crate::output::error::{CliError, Outcome};
use crate::wiring::{self, mcp::SavedSessions};

const EXAMPLES: &str = "\
Examples:
  hfs connect claude          let Claude Code start this server; other agents: hfs connect
  hfs mcp                     what the agent starts: one JSON message a line, until standard input ends
  hfs mcp --write             also offer the tools checkpoint and note, which save

The tool recall answers a question from saved sessions, search finds words, read shows messages, timeline what happened \
lately, and blame the sessions that changed or discussed a file. Answers stay below 4 KB, secrets in them are masked, and \
nothing is sent anywhere but to the agent.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct McpArgs {
    /// Offer the tools that save: checkpoint and note
    #[arg(long)]
    write: bool,
    /// Do not mask text that looks like a secret in answers
    #[arg(long)]
    no_redact: bool,
}

/// How long store calls may continue after the client has left. Their answers have no reader, and each write is one
/// transaction.
const LAST_CALLS: Duration = Duration::from_millis(500);

pub fn run(args: &McpArgs, context: &Context) -> Result<Outcome, CliError> {
    if std::io::stdin().is_terminal() {
        context
            .console
            .note("agents start this server and speak to it; `hfs connect` sets that up. Ctrl-D ends it");
    }
    let options = Options { write: args.write, redact: !args.no_redact };
    let host = Arc::new(SavedSessions::new(context)?);
    let runtime = wiring::runtime()?;
    let served = runtime.block_on(hfs_mcp::serve(host, options, tokio::io::stdin(), tokio::io::stdout()));
    // A read of standard input cannot be cancelled, if the output has failed first.
    runtime.shutdown_timeout(LAST_CALLS);
    served?;
    Ok(Outcome::Done)
}
