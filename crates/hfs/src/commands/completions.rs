//! `hfs completions`: shell completions.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Cli;
use crate::context::Context;
use crate::output::error::{CliError, Outcome};

const EXAMPLES: &str = "\
Examples:
  bash    hfs completions bash > ~/.local/share/bash-completion/completions/hfs
  zsh     hfs completions zsh > ~/.zfunc/_hfs      (with ~/.zfunc in $fpath)
  fish    hfs completions fish > ~/.config/fish/completions/hfs.fish";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

pub fn run(args: &CompletionsArgs, context: &Context) -> Result<Outcome, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "hfs", &mut script);
    context.console.print(&String::from_utf8_lossy(&script))?;
    Ok(Outcome::Done)
}
