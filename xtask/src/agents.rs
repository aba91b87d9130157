//! `cargo xtask agents`: the real Claude Code, Codex and opencode, with a fake model on loopback.
//!
//! They come from npm, are installed into target/agents, and are no part of the project: Claude Code's engine is proprietary.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Deserialize;

use crate::shell;
use crate::workspace::Workspace;

/// An agent on npm, with the version that the tests are known to pass with.
struct Package {
    name: &'static str,
    version: &'static str,
    program: &'static str,
}

const PACKAGES: [Package; 3] = [
    Package {
        name: "@agentclientprotocol/claude-agent-acp",
        version: "0.101.0",
        program: "claude-agent-acp",
    },
    Package { name: "@agentclientprotocol/codex-acp", version: "2.6.0", program: "codex-acp" },
    Package { name: "opencode-ai", version: "1.18.33", program: "opencode" },
];

#[derive(Debug, Args)]
pub struct Options {
    /// Number of rewinds for each agent
    #[arg(long, default_value_t = 3, value_name = "N")]
    rewinds: u64,
    /// Number of turns of all agents while the watcher is killed, at most 1000
    #[arg(long, default_value_t = 12, value_name = "N")]
    turns: u64,
    /// How often the watcher is killed
    #[arg(long, default_value_t = 12, value_name = "N")]
    kills: u64,
    /// Use agents that are installed in this folder of programs, such as node_modules/.bin, instead of installing them (1.5 GB)
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Only tests whose names contain this
    filter: Option<String>,
}

pub fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let programs = match &options.programs {
        Some(folder) => {
            let programs = folder.canonicalize().with_context(|| format!("find {}", folder.display()))?;
            // npm puts programs into node_modules/.bin. The versions there are used as they are.
            if let Some(folder) = programs.ancestors().nth(2) {
                has_tested_versions(folder);
            }
            programs
        }
        None => install(&workspace.target.join("agents"))?,
    };
    let mut command = shell::cargo(&workspace.root);
    command.args(["test", "-p", "hfs", "--test", "real_agents"]);
    command.args(["--", "--nocapture", "--test-threads=1"]).args(&options.filter);
    command.env("HFS_REAL_AGENTS", &programs);
    command.env("HFS_REAL_AGENT_REWINDS", options.rewinds.to_string());
    command.env("HFS_REAL_AGENT_TURNS", options.turns.to_string());
    command.env("HFS_CRASH_KILLS", options.kills.to_string());
    Ok(if shell::succeeds(&mut command)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Package {
    /// The version that is installed in this folder; `None` without a package or its program.
    fn installed_version(&self, folder: &Path) -> Option<String> {
        #[derive(Deserialize)]
        struct Manifest {
            version: String,
        }
        let modules = folder.join("node_modules");
        let manifest = fs::read(modules.join(self.name).join("package.json")).ok()?;
        let manifest: Manifest = serde_json::from_slice(&manifest).ok()?;
        modules.join(".bin").join(self.program).exists().then_some(manifest.version)
    }
}

/// Whether exactly the versions of [`PACKAGES`] are installed in this folder. Reports others.
fn has_tested_versions(folder: &Path) -> bool {
    let mut has_all = true;
    for package in &PACKAGES {
        let Package { name, version, .. } = package;
        let installed = package.installed_version(folder);
        if let Some(installed) = installed.as_deref().filter(|installed| installed != version) {
            eprintln!("{name} {installed} is installed; the tests are known to pass with {version}");
        }
        has_all &= installed.as_deref() == Some(*version);
    }
    has_all
}

/// Installs the agents, unless exactly these versions are installed. Returns the folder with their programs.
fn install(folder: &Path) -> Result<PathBuf> {
    if !has_tested_versions(folder) {
        if !shell::is_available(Command::new("npm").arg("--version")) {
            bail!("npm is not installed; install Node.js, or name a folder with the agents: --programs DIR");
        }
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        let mut install = Command::new("npm");
        install.args(["install", "--prefix"]).arg(folder).args(["--no-audit", "--no-fund", "--save-exact"]);
        install.args(PACKAGES.iter().map(|package| format!("{}@{}", package.name, package.version)));
        if !shell::succeeds(&mut install)? {
            bail!("npm could not install the agents");
        }
    }
    Ok(folder.join("node_modules/.bin"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_counts_as_installed_only_with_its_program() {
        let folder = tempfile::tempdir().unwrap();
        let package = &PACKAGES[0];
        let (modules, programs) =
            (folder.path().join("node_modules"), folder.path().join("node_modules/.bin"));
        assert_eq!(package.installed_version(folder.path()), None);
        fs::create_dir_all(modules.join(package.name)).unwrap();
        fs::write(modules.join(package.name).join("package.json"), r#"{"name": "x", "version": "0.1.2"}"#)
            .unwrap();
        assert_eq!(package.installed_version(folder.path()), None);
        fs::create_dir_all(&programs).unwrap();
        fs::write(programs.join(package.program), "").unwrap();
        assert_eq!(package.installed_version(folder.path()).as_deref(), Some("0.1.2"));
    }
}
