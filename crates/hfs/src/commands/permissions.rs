//! `hfs permissions`: what agents may always do.

use std::path::PathBuf;

use hfs_core::ErrorKind;
use serde::Serialize;
use serde_json::json;

use crate::context::Context;
use crate::output::error::{CliError, Outcome};
use crate::output::sanitize;
use crate::output::table::Table;
use crate::permissions::{PermissionRule, Permissions};

const EXAMPLES: &str = "\
Examples:
  hfs permissions list                      what you have always allowed or refused
  hfs permissions revoke 2                  ask again about entry 2 of the list
  hfs permissions revoke --agent claude     ask again about everything that Claude Code asks
  hfs permissions revoke --project .        ask again in this directory

An entry is added when you answer \"always\" to a question of an agent. It holds for one agent in one directory. The options \
--allow of a run come first.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct PermissionsArgs {
    #[command(subcommand)]
    command: PermissionsCommand,
}

#[derive(Debug, clap::Subcommand)]
enum PermissionsCommand {
    /// List what agents may always do, or never
    #[command(alias = "ls")]
    List,
    /// Remove entries, so that hfs asks again
    #[command(alias = "rm")]
    Revoke(RevokeArgs),
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
struct RevokeArgs {
    /// Number of the entry in the list
    #[arg(value_name = "N", conflicts_with_all = ["program", "project", "all"])]
    number: Option<usize>,
    /// Entries of this agent
    #[arg(long = "agent", value_name = "AGENT", conflicts_with = "all")]
    program: Option<String>,
    /// Entries of this directory
    #[arg(long, value_name = "DIR", conflicts_with = "all")]
    project: Option<PathBuf>,
    /// All entries
    #[arg(long)]
    all: bool,
}

#[derive(Serialize)]
struct RuleJson<'a> {
    number: usize,
    agent: &'a str,
    project: &'a str,
    kind: &'a str,
    command: Option<&'a str>,
    allowed: bool,
    decided_at: &'a str,
}

pub fn run(args: &PermissionsArgs, context: &Context) -> Result<Outcome, CliError> {
    match &args.command {
        PermissionsCommand::List => list(context)?,
        PermissionsCommand::Revoke(args) => revoke(args, context)?,
    }
    Ok(Outcome::Done)
}

fn list(context: &Context) -> Result<(), CliError> {
    let console = &context.console;
    let rules = Permissions::new(&context.home).read()?;
    if console.options.json {
        let rows: Vec<RuleJson<'_>> = rules
            .iter()
            .zip(1..)
            .map(|(rule, number)| RuleJson {
                number,
                agent: &rule.agent,
                project: &rule.project,
                kind: &rule.kind,
                command: rule.command.as_deref(),
                allowed: rule.allowed,
                decided_at: &rule.decided_at,
            })
            .collect();
        return console.print_json(&json!({ "permissions": rows }));
    }
    if rules.is_empty() {
        return console.print("nothing is always allowed; agents ask\n");
    }
    let mut table = Table::new(&[">N", "AGENT", "DECISION", "WHAT", "DIRECTORY"], 3);
    for (rule, number) in rules.iter().zip(1..) {
        table.row(vec![
            number.to_string(),
            sanitize::line(&rule.agent),
            if rule.allowed { "allow" } else { "reject" }.to_owned(),
            sanitize::line(&rule.describe()),
            sanitize::line(&rule.project),
        ]);
    }
    console.print(&table.render(&console.palette, console.width()))
}

fn revoke(args: &RevokeArgs, context: &Context) -> Result<(), CliError> {
    let console = &context.console;
    let permissions = Permissions::new(&context.home);
    context.home.create()?;
    let project = args.project.as_ref().map(|project| {
        let path = context.environment.resolve(project);
        path.canonicalize().unwrap_or(path).display().to_string()
    });
    let is_meant = |index: usize, rule: &PermissionRule| {
        args.number.is_none_or(|number| number == index + 1)
            && args.program.as_ref().is_none_or(|agent| *agent == rule.agent)
            && project.as_ref().is_none_or(|project| *project == rule.project)
    };
    let removed = permissions.remove(is_meant)?;
    if removed.is_empty() {
        return Err(CliError::with_hint(
            ErrorKind::NotFound,
            "there is no such permission",
            "`hfs permissions list` shows all of them",
        ));
    }
    if console.options.json {
        return console.print_json(&json!({ "revoked": removed.len() }));
    }
    for rule in &removed {
        let (agent, what) = (sanitize::line(&rule.agent), sanitize::line(&rule.describe()));
        console.note(&format!("{agent} asks again before: {what}, in {}", sanitize::line(&rule.project)));
    }
    Ok(())
}
