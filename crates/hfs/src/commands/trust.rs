//! `hfs trust`: shows and changes decisions about projects' `.hfs` folders.

use std::path::PathBuf;

use hfs_core::ErrorKind;
use serde::Serialize;
use serde_json::json;

use crate::context::Context;
use crate::output::error::{CliError, Outcome};
use crate::output::sanitize;
use crate::output::table::Table;
use crate::trust::{ProjectFolder, ProjectFolderTrust, Trust, TrustedProjects};

const EXAMPLES: &str = "\
Examples:
  hfs trust                 show what this project's .hfs folder would change, and decide about it
  hfs --trust chat \"hi\"     trust the folder as it is now, without a question
  hfs trust list            every decision
  hfs trust revoke .        ask again about this project

A decision holds until something in the folder changes. Plugins in the folder run only after you approve each of them.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct TrustArgs {
    #[command(subcommand)]
    command: Option<TrustCommand>,
}

#[derive(Debug, clap::Subcommand)]
enum TrustCommand {
    /// List the decisions about projects
    #[command(alias = "ls")]
    List,
    /// Forget the decision about a project
    Revoke {
        /// The project's directory, or its .hfs folder
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
}

pub fn run(args: &TrustArgs, context: &Context) -> Result<Outcome, CliError> {
    match &args.command {
        None => show(context)?,
        Some(TrustCommand::List) => list(context)?,
        Some(TrustCommand::Revoke { directory }) => revoke(directory, context)?,
    }
    Ok(Outcome::Done)
}

/// The state of a folder in JSON.
const fn state(trust: &Trust) -> &'static str {
    match trust {
        Trust::Trusted => "trusted",
        Trust::Refused => "refused",
        Trust::Undecided { has_changed: false } => "undecided",
        Trust::Undecided { has_changed: true } => "changed",
        Trust::Unusable(_) => "unusable",
    }
}

fn show(context: &Context) -> Result<(), CliError> {
    let console = &context.console;
    let Some(project) = &context.project_folder else {
        if console.options.json {
            return console.print_json(&json!({ "folder": null }));
        }
        return console.print("there is no .hfs folder with settings or plugins in this directory\n");
    };
    if console.options.json {
        let effects = project.folder.effects();
        let settings: serde_json::Map<String, serde_json::Value> =
            effects.settings.iter().map(|(key, value)| (key.name().to_owned(), json!(value))).collect();
        return console.print_json(&json!({
            "folder": project.folder.path().display().to_string(),
            "state": state(&project.trust),
            "settings": settings,
            "plugins": effects.plugins,
            "ignored": effects.ignored,
            "problem": effects.problem,
        }));
    }
    let mut project = ProjectFolderTrust { folder: project.folder.clone(), trust: project.trust.clone() };
    if matches!(project.trust, Trust::Undecided { .. }) && console.is_interactive() {
        context.home.create()?;
        project.ask(&TrustedProjects::new(&context.home), console)?;
    } else {
        console.print(&project.describe())?;
    }
    console.print(&match &project.trust {
        Trust::Trusted => "trusted: it has this effect\n".to_owned(),
        Trust::Refused => "not trusted: it is ignored; `hfs trust revoke .` lets hfs ask again\n".to_owned(),
        Trust::Undecided { .. } => {
            "not decided: it is ignored; `hfs --trust trust` trusts it as it is now\n".to_owned()
        }
        Trust::Unusable(reason) => format!("ignored: {}\n", sanitize::line(reason)),
    })
}

/// A decision in the document of `trust list`.
#[derive(Serialize)]
struct DecisionJson {
    folder: String,
    /// Whether the decision is still about the folder's content; `null` if the folder cannot be read.
    current: Option<bool>,
    trusted: bool,
    decided_at: String,
}

fn list(context: &Context) -> Result<(), CliError> {
    let console = &context.console;
    let decisions = TrustedProjects::new(&context.home);
    let rows: Vec<DecisionJson> = decisions
        .read()?
        .into_iter()
        .map(|(folder, record)| DecisionJson {
            current: match ProjectFolder::at(folder.as_ref()).map(|found| decisions.trust(&found)) {
                Some(Trust::Trusted | Trust::Refused) => Some(true),
                Some(Trust::Undecided { .. }) => Some(false),
                Some(Trust::Unusable(_)) | None => None,
            },
            folder,
            trusted: record.trusted,
            decided_at: record.decided_at,
        })
        .collect();
    if console.options.json {
        return console.print_json(&json!({ "projects": rows }));
    }
    if rows.is_empty() {
        console.note("there are no decisions about projects");
        return Ok(());
    }
    let mut table = Table::new(&["FOLDER", "DECISION", "SINCE"], 0);
    for row in rows {
        let decision = if row.trusted { "trusted" } else { "not trusted" };
        let note = match row.current {
            Some(true) => "",
            Some(false) => ", has changed since",
            None => ", cannot be read now",
        };
        let day = row.decided_at.split('T').next().unwrap_or_default().to_owned();
        table.row(vec![sanitize::line(&row.folder), format!("{decision}{note}"), day]);
    }
    console.print(&table.render(&console.palette, console.width()))
}

fn revoke(directory: &std::path::Path, context: &Context) -> Result<(), CliError> {
    let directory = context.environment.working_directory.join(directory);
    // A project that has been deleted can be revoked by the path in `trust list`.
    let directory = directory.canonicalize().unwrap_or(directory);
    let decisions = TrustedProjects::new(&context.home);
    context.home.create()?;
    for folder in [directory.join(".hfs"), directory.clone()] {
        let folder = folder.canonicalize().unwrap_or(folder);
        if decisions.forget(&folder.to_string_lossy())? {
            context
                .console
                .note(&format!("hfs asks again about {}", sanitize::line(&folder.display().to_string())));
            return Ok(());
        }
    }
    Err(CliError::with_hint(
        ErrorKind::NotFound,
        format!("there is no decision about {}", directory.display()),
        "`hfs trust list` shows every decision",
    ))
}
