//! `cargo xtask agents`: the real Claude Code, Codex and opencode, with a fake model on loopback.
//!
//! They come from npm, are installed into target/agents, and are no part of the project: Claude Code's engine is proprietary.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::shell;
use crate::workspace::Workspace;

/// The packages with the versions that the tests are known to pass with.
const PACKAGES: [&str; 3] = [
    "@agentclientprotocol/claude-agent-acp@0.101.0",
    "@agentclientprotocol/codex-acp@2.6.0",
    "opencode-ai@1.18.33",
];

#[derive(Debug, Args)]
pub struct Options {
    /// Number of rewinds for each agent
    #[arg(long, default_value_t = 3, value_name = "N")]
    rewinds: u64,
    /// Use agents that are installed in this folder of programs, such as node_modules/.bin, instead of installing them (1.5 GB)
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Only tests whose names contain this
    filter: Option<String>,
}

pub fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let programs = match &options.programs {
        Some(folder) => folder.canonicalize().with_context(|| format!("find {}", folder.display()))?,
        None => install(&workspace.target.join("agents"))?,
    };
    let mut command = shell::cargo(&workspace.root);
    command.args(["test", "-p", "hfs", "--test", "real_agents"]);
    command.args(["--", "--nocapture", "--test-threads=1"]).args(&options.filter);
    command.env("HFS_REAL_AGENTS", &programs);
    command.env("HFS_REAL_AGENT_REWINDS", options.rewinds.to_string());
    Ok(if shell::succeeds(&mut command)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Installs the agents, unless they are installed. Returns the folder with their programs.
fn install(folder: &Path) -> Result<PathBuf> {
    let programs = folder.join("node_modules/.bin");
    let is_installed =
        ["claude-agent-acp", "codex-acp", "opencode"].iter().all(|name| programs.join(name).exists());
    if !is_installed {
        if !shell::is_available(Command::new("npm").arg("--version")) {
            bail!("npm is not installed; install Node.js, or name a folder with the agents: --programs DIR");
        }
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        let mut install = Command::new("npm");
        install.args(["install", "--prefix"]).arg(folder).args(["--no-audit", "--no-fund"]).args(PACKAGES);
        if !shell::succeeds(&mut install)? {
            bail!("npm could not install the agents");
        }
    }
    Ok(programs)
}
