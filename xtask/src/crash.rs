//! `cargo xtask crash`: long runs of the tests that damage, kill and contend. The suite runs short versions of them.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::shell;
use crate::workspace::Workspace;

#[derive(Debug, Args)]
pub struct Options {
    /// What to run
    kind: Kind,
    /// Number of damages, kills or cuts; seconds for `contention`
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Seed of the random numbers; the same seed gives the same damages
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Use a build with optimizations, whose processes do more between two kills
    #[arg(long)]
    release: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    /// Repair a store after random damage: bytes, pages, cut files, missing and foreign logs
    Damage,
    /// Kill processes that append, stream, import, rewind, undo, prune, purge and repair, commands of the binary that do so or
    /// install a plugin, and editors, hfs and agents during turns
    Kills,
    /// Kill watchers while tools write what they import
    Watch,
    /// Kill processes that append and stream, and take away what no sync had completed
    Power,
    /// 16 processes on one session and on many
    Contention,
}

/// A long run of one test.
struct Run {
    package: &'static str,
    target: &'static str,
    test: &'static str,
    count_variable: &'static str,
    default_count: u64,
}

impl Kind {
    const fn runs(self) -> &'static [Run] {
        match self {
            Self::Damage => &[Run {
                package: "hfs-store",
                target: "damage",
                test: "every_repair_keeps_all_rows_on_intact_pages",
                count_variable: "HFS_DAMAGE_COUNT",
                default_count: 1000,
            }],
            Self::Kills => &[
                Run {
                    package: "hfs-store",
                    target: "crash",
                    test: "kill",
                    count_variable: "HFS_CRASH_KILLS",
                    default_count: 200,
                },
                Run {
                    package: "hfs",
                    target: "kills",
                    test: "a_killed_command_loses_nothing",
                    count_variable: "HFS_CRASH_KILLS",
                    default_count: 200,
                },
                Run {
                    package: "hfs",
                    target: "cli",
                    test: "a_kill_during_a_turn_of_an_editor",
                    count_variable: "HFS_CRASH_KILLS",
                    default_count: 200,
                },
            ],
            Self::Watch => &[Run {
                package: "hfs",
                target: "watch_kills",
                test: "a_killed_watcher_imports_every_record_once",
                count_variable: "HFS_CRASH_KILLS",
                default_count: 200,
            }],
            Self::Power => &[Run {
                package: "hfs-store",
                target: "crash",
                test: "acknowledged_messages_survive_power_cuts",
                count_variable: "HFS_CRASH_KILLS",
                default_count: 200,
            }],
            Self::Contention => &[Run {
                package: "hfs-store",
                target: "crash",
                test: "sixteen_processes_have_only_stated_conflicts",
                count_variable: "HFS_CRASH_SECONDS",
                default_count: 60,
            }],
        }
    }
}

pub fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    for run in options.kind.runs() {
        let mut command = shell::cargo(&workspace.root);
        command
            .args(["test", "-p", run.package, "--test", run.target, run.test])
            .args(options.release.then_some("--release"))
            .args(["--", "--nocapture"])
            .env(run.count_variable, options.count.unwrap_or(run.default_count).to_string())
            .env("HFS_CRASH_SEED", options.seed.to_string())
            .env("HFS_DAMAGE_SEED", options.seed.to_string());
        if !shell::succeeds(&mut command)? {
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}
