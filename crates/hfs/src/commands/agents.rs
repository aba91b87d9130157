//! `hfs agents`: agents that are programs of their own.

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use futures::future::join_all;
use hfs_acp::{AcpError, AgentReport, LoginMethod, remembered_session};
use hfs_core::{ErrorExt as _, ErrorKind, StoreError, SystemClock, plural};
use hfs_engine::{Importer, OnDuplicate};
use hfs_exchange::Source;
use serde::Serialize;
use serde_json::{Value, json};

use super::import::ProjectResolver;
use crate::context::Context;
use crate::output::error::{CliError, Outcome};
use crate::output::sanitize;
use crate::output::table::Table;
use crate::wiring;
use crate::wiring::agent_sessions::{AgentSession, AgentSessionList, remove_transcript};
use crate::wiring::programs::{self, AgentProgram};

const EXAMPLES: &str = "\
Examples:
  hfs agents                             what is installed, and how to get the others
  hfs agents check claude                start Claude Code's adapter, and say what is wrong
  hfs chat --agent claude \"Fix the test\"   let it answer in a session of hfs
  hfs config set agent claude            let it answer always
  hfs agents clean                       remove transcripts that hfs wrote for agents and no branch needs any more

Agents are programs that speak the Agent Client Protocol. hfs starts one for a message, records what it does, and asks before \
it acts (see `hfs chat --help` for --allow, and `hfs permissions`). More agents, or other commands for these, are set under \
`agents` in your own configuration file (hfs config path):

  agents:
    mine: {command: /opt/agent, args: [acp], env: [MY_API_KEY]}";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct AgentsArgs {
    #[command(subcommand)]
    command: Option<AgentsCommand>,
}

#[derive(Debug, clap::Subcommand)]
enum AgentsCommand {
    /// List the agents, and start those that are installed to ask what they can do
    #[command(alias = "ls")]
    List,
    /// Start an agent, open a session, and say what is wrong
    Check {
        /// Name of the agent
        #[arg(value_name = "NAME")]
        program: String,
    },
    /// Remove transcripts that hfs wrote for agents and no branch needs any more
    ///
    /// After a rewind, a fork or a change of the agent, hfs writes the conversation where Claude Code and Codex find it, under a new
    /// id. This removes such a transcript when no branch continues from it, unless it has messages that hfs does not have.
    /// Sessions that the agents began themselves are never touched.
    Clean {
        /// Remove them without asking
        #[arg(short, long)]
        yes: bool,
    },
}

pub fn run(args: &AgentsArgs, context: &Context) -> Result<Outcome, CliError> {
    match &args.command {
        None | Some(AgentsCommand::List) => list(context),
        Some(AgentsCommand::Check { program }) => check(program, context),
        Some(AgentsCommand::Clean { yes }) => clean(*yes, context),
    }
}

/// Removes transcripts that no branch needs, after a question.
fn clean(yes: bool, context: &Context) -> Result<Outcome, CliError> {
    let console = &context.console;
    let list = AgentSessionList::new(&context.home);
    let mut removable = Vec::new();
    let mut kept = Vec::new();
    for session in list.read()? {
        let Some(transcript) = session.transcript.clone().filter(|path| path.exists()) else { continue };
        match why_needed(&session, &transcript, context)? {
            Some(reason) => kept.push((transcript, reason)),
            None => removable.push((session, transcript)),
        }
    }
    let shown = |path: &Path| sanitize::line(&path.display().to_string());
    if !console.options.json {
        for (path, reason) in &kept {
            console.note(&format!("kept: {}, {reason}", shown(path)));
        }
        for (_, path) in &removable {
            console.note(&format!("not needed: {}", shown(path)));
        }
    }
    let count = removable.len();
    let files = plural(count, "transcript");
    if count > 0 && !yes {
        let can_ask = console.error_is_terminal() && io::stdin().is_terminal() && !console.options.json;
        if !can_ask {
            return Err(CliError::with_hint(
                ErrorKind::Denied,
                format!("{files} would be removed, and there is no terminal to ask on"),
                "remove them without a question: hfs agents clean --yes",
            ));
        }
        if !console.ask(&format!("remove {files}?"))? {
            return Err(CliError::new(ErrorKind::Denied, "not confirmed; nothing was removed"));
        }
    }
    for (_, path) in &removable {
        remove_transcript(path)?;
    }
    let ids: Vec<&str> = removable.iter().map(|(session, _)| session.id.as_str()).collect();
    if !ids.is_empty() {
        list.forget_transcripts(&ids)?;
    }
    if console.options.json {
        let paths = |all: &mut dyn Iterator<Item = &PathBuf>| -> Vec<String> {
            all.map(|path| path.display().to_string()).collect()
        };
        let removed = paths(&mut removable.iter().map(|(_, path)| path));
        let kept = paths(&mut kept.iter().map(|(path, _)| path));
        console.print_json(&json!({ "removed": removed, "kept": kept }))?;
    } else if count > 0 {
        console.note(&format!("removed {files}"));
    } else {
        console.note("there is nothing to remove");
    }
    Ok(Outcome::Done)
}

/// Why a transcript that hfs wrote must stay. `None` if it can be removed.
fn why_needed(
    session: &AgentSession,
    transcript: &Path,
    context: &Context,
) -> Result<Option<&'static str>, CliError> {
    let store = context.store()?;
    let Some(branch) = session.branch.parse().ok() else { return Ok(None) };
    let head = match store.get_branch(branch) {
        Ok(branch) => branch.head,
        // Its session was deleted permanently, and so may be what hfs wrote of it.
        Err(StoreError::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let state = store.load_branch_state(branch)?;
    let memory = state.as_ref().and_then(|state| state.agents.get(&session.agent));
    // If the branch has more, such as messages of another agent, the next message begins with another transcript.
    if memory.and_then(remembered_session).is_some_and(|(id, through)| id == session.id && through == head) {
        return Ok(Some("a branch continues from it"));
    }
    let importer = Importer::new(store.as_ref(), &SystemClock, OnDuplicate::Auto, true);
    let mut receiver = ProjectResolver::new(importer, &context.home);
    let result = receiver.import(&Source::file(transcript), None, true);
    let (imported, _) = receiver.finish()?;
    Ok(match result {
        Ok(()) if imported.iter().all(|session| session.messages == 0) => None,
        Ok(()) => Some("it has messages that hfs does not have; `hfs import` adds them"),
        Err(_) => Some("it cannot be read"),
    })
}

/// What was found out about an agent.
struct Found {
    program: AgentProgram,
    is_installed: bool,
    report: Option<AgentReport>,
    /// Why it could not be asked, and what to do.
    problem: Option<(String, Option<String>)>,
}

impl Found {
    fn hint(&self) -> Option<String> {
        if !self.is_installed {
            return self.program.install.map(|install| format!("install it: {install}"));
        }
        let (message, hint) = self.problem.as_ref()?;
        Some(hint.as_ref().map_or_else(|| message.clone(), |hint| format!("{message}; {hint}")))
    }

    /// Its version, with the tested one if that is another.
    fn version(&self) -> Option<String> {
        let version = self.report.as_ref()?.version.as_deref()?;
        Some(match self.program.tested.filter(|tested| *tested != version) {
            Some(tested) => format!("{version} (tested with {tested})"),
            None => version.to_owned(),
        })
    }

    fn to_json(&self) -> AgentJson<'_> {
        let report = self.report.as_ref();
        AgentJson {
            name: &self.program.name,
            command: self.program.command_line(),
            installed: self.is_installed,
            version: report.and_then(|report| report.version.as_deref()),
            tested_version: self.program.tested,
            capabilities: CapabilitiesJson {
                load: report.map(|report| report.loads),
                list: report.map(|report| report.lists),
                resume: report.map(|report| report.resumes),
            },
            transcript: self.program.transcript.as_str(),
            hint: self.hint(),
        }
    }
}

#[derive(Serialize)]
struct AgentJson<'a> {
    name: &'a str,
    command: String,
    installed: bool,
    version: Option<&'a str>,
    /// `null` if hfs was not tested with the agent itself.
    tested_version: Option<&'static str>,
    capabilities: CapabilitiesJson,
    transcript: &'static str,
    hint: Option<String>,
}

/// `null` if the agent is not installed or could not be asked.
#[derive(Serialize)]
struct CapabilitiesJson {
    load: Option<bool>,
    list: Option<bool>,
    resume: Option<bool>,
}

fn list(context: &Context) -> Result<Outcome, CliError> {
    let console = &context.console;
    let all = programs::all(&context.settings.programs);
    let asked = all.into_values().map(|program| ask(program, context));
    let waiting = format!("waiting for agents to start, at most {} s", hfs_acp::CHECK_LIMIT.as_secs());
    let found: Vec<Found> = wiring::runtime()?.block_on(with_note(join_all(asked), &waiting, context));
    if console.options.json {
        let agents: Vec<AgentJson<'_>> = found.iter().map(Found::to_json).collect();
        console.print_json(&json!({ "agents": agents }))?;
        return Ok(Outcome::Done);
    }
    let mut table = Table::new(&["AGENT", "STATE", "VERSION", "CONTINUES", "COMMAND"], 4);
    for agent in &found {
        let state = match (agent.is_installed, &agent.problem) {
            (false, _) => "not installed",
            (true, None) => "installed",
            (true, Some(_)) => "does not start",
        };
        let report = agent.report.as_ref();
        let version = agent.version().unwrap_or_else(|| "-".to_owned());
        let continues = match report {
            Some(report) if report.resumes || report.loads => "its sessions",
            Some(_) => "from text",
            None => "-",
        };
        table.row(vec![
            agent.program.name.clone(),
            state.to_owned(),
            sanitize::line(&version),
            continues.to_owned(),
            sanitize::line(&agent.program.command_line()),
        ]);
    }
    console.print(&table.render(&console.palette, console.width()))?;
    let hints = found.iter().filter_map(|agent| Some((&agent.program, agent.hint()?)));
    for (program, hint) in hints {
        console.note(&format!("{}: {}", sanitize::line(&program.title), sanitize::line(&hint)));
    }
    Ok(Outcome::Done)
}

/// Waits for an answer, and says so if it takes longer than agents usually do.
async fn with_note<T>(answer: impl Future<Output = T>, note: &str, context: &Context) -> T {
    const USUAL: Duration = Duration::from_secs(2);
    let mut answer = pin!(answer);
    match tokio::time::timeout(USUAL, &mut answer).await {
        Ok(answer) => answer,
        Err(_) => {
            if !context.console.options.json {
                context.console.note(note);
            }
            answer.await
        }
    }
}

/// Starts an agent and asks what it can do. Not in the working directory, because agents run what the files there tell them to, nor
/// in a folder that other users can write to.
async fn ask(program: AgentProgram, context: &Context) -> Found {
    let Ok(mut launch) = programs::launch(&program, context) else {
        return Found { program, is_installed: false, report: None, problem: None };
    };
    let _ = context.home.create();
    launch.directory = context.home.root().to_owned();
    match hfs_acp::report(&launch).await {
        Ok(report) => Found { program, is_installed: true, report: Some(report), problem: None },
        Err(error) => {
            let hint = format!("`hfs agents check {}` says more", program.name);
            Found {
                program,
                is_installed: true,
                report: None,
                problem: Some((error.to_string(), Some(hint))),
            }
        }
    }
}

fn check(name: &str, context: &Context) -> Result<Outcome, CliError> {
    let console = &context.console;
    let program = programs::named(name, &context.settings.programs)?;
    let launch = programs::launch(&program, context)?;
    let waiting = format!(
        "waiting for {} to start and to open a session, at most {} s for each; its log is {}",
        sanitize::line(&program.title),
        hfs_acp::CHECK_LIMIT.as_secs(),
        sanitize::line(&launch.log.display().to_string())
    );
    let checking = hfs_acp::check(&launch, &launch.directory, program.mode.as_deref());
    let checked = wiring::runtime()?.block_on(with_note(checking, &waiting, context));
    let (report, failure) = checked.map_err(|error| not_usable(&error, &program, &[], context))?;
    if let Some(error) = failure {
        return Err(not_usable(&error, &program, &report.logins, context));
    }
    let found = Found { program, is_installed: true, report: Some(report), problem: None };
    if console.options.json {
        let agent = serde_json::to_value(found.to_json()).unwrap_or(Value::Null);
        console.print_json(&json!({ "agent": agent, "ok": true }))?;
        return Ok(Outcome::Done);
    }
    let version = found.version().map(|version| format!(" {}", sanitize::line(&version))).unwrap_or_default();
    let Found { program, report: Some(report), .. } = &found else { return Ok(Outcome::Done) };
    let able = |able: bool, what: &'static str| able.then_some(what);
    let abilities: Vec<&str> = [
        able(report.loads, "loads its sessions"),
        able(report.resumes, "resumes them without a replay"),
        able(report.lists, "lists them"),
        able(report.sees_images, "looks at pictures"),
    ]
    .into_iter()
    .flatten()
    .collect();
    let abilities =
        if abilities.is_empty() { "continues a session from text".into() } else { abilities.join(", ") };
    console.print(&format!(
        "{}{version}: starts and opens a session; it {abilities}\n",
        sanitize::line(&program.title)
    ))?;
    console.note(&format!("use it: hfs chat --agent {}", program.name));
    // Some agents notice a missing login only with the first message.
    if let Some(login) = program.login {
        console.note(&format!("if it says that it needs an account: {login}"));
    }
    Ok(Outcome::Done)
}

/// An error about an agent, with what to do about it.
fn not_usable(
    error: &AcpError,
    program: &AgentProgram,
    logins: &[LoginMethod],
    context: &Context,
) -> CliError {
    let log = programs::log_path(&program.name, context);
    let log = format!("its log is {}", sanitize::line(&log.display().to_string()));
    let hint = if error.needs_login() {
        let of_agent = || {
            let words = logins.iter().map(|login| {
                let about = login.description.as_ref().map(|about| format!(" ({about})")).unwrap_or_default();
                sanitize::line(&format!("{}{about}", login.name))
            });
            words.collect::<Vec<_>>().join(", or ")
        };
        let login = program.login.map_or_else(of_agent, str::to_owned);
        if login.is_empty() { format!("log in to it as without hfs; {log}") } else { login }
    } else {
        let login = program.login.map(|login| format!("; if it needs an account: {login}"));
        let slow = matches!(error, AcpError::NoAnswer { .. }).then(|| {
            format!("it runs `{}`, which must answer on its standard output; ", program.command_line())
        });
        format!("{}{log}{}", slow.unwrap_or_default(), login.unwrap_or_default())
    };
    CliError::with_hint(error.kind(), error.to_string(), hint)
}
