//! `hfs completions`

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Cli;
use crate::context::Context;
use crate::failure::{Failure, Outcome};

const EXAMPLES: &str = "\
Examples:
  bash    hfs completions bash > ~/.local/share/bash-completion/completions/hfs
  zsh     hfs completions zsh > ~/.zfunc/_hfs      (with ~/.zfunc in $fpath)
  fish    hfs completions fish > ~/.config/fish/completions/hfs.fish";

/// Which completions.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Completions {
    /// The shell
    shell: Shell,
}

/// Prints the completions of a shell.
pub fn run(completions: &Completions, context: &Context) -> Result<Outcome, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(completions.shell, &mut Cli::command(), "hfs", &mut script);
    context.console.print(&String::from_utf8_lossy(&script))?;
    Ok(Outcome::Done)
}
