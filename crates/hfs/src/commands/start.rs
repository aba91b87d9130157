//! `hfs` without a command and `hfs resume`: the terminal app, or an overview if there is no terminal.

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use clap::CommandFactory;
use hfs_core::{PageRequest, SessionFilter};
use hfs_exchange::{Format, LocationOverrides, default_locations};
use hfs_tui::SessionScope;

use super::session::session_table;
use crate::args::{AgentArgs, Cli};
use crate::context::Context;
use crate::environment::Environment;
use crate::output::error::{CliError, Outcome};
use crate::output::json::{SessionJson, SessionListJson};
use crate::terminal::{self, StartScreen};

/// Maximum number of sessions in each list of the overview: this project's, and the others'.
const RECENT: u32 = 5;

#[derive(Debug, clap::Args)]
pub struct ResumeArgs {
    /// The session; without it, choose one of this project's sessions
    session: Option<String>,
    /// Choose from the sessions of all projects
    #[arg(short, long, conflicts_with = "session")]
    all: bool,
    #[command(flatten)]
    pub agent_args: AgentArgs,
}

pub fn resume(args: &ResumeArgs, context: &Context) -> Result<Outcome, CliError> {
    terminal::check(context)?;
    let screen = match &args.session {
        Some(reference) => StartScreen::Session(context.session(reference)?),
        None if args.all => StartScreen::SessionPicker(SessionScope::AllProjects),
        None => StartScreen::SessionPicker(SessionScope::Project),
    };
    terminal::run(screen, context)
}

/// Opens the terminal app. Without a terminal, prints help, recent sessions and the most useful commands.
pub fn run(continue_newest: bool, context: &Context) -> Result<Outcome, CliError> {
    let console = &context.console;
    if continue_newest || wants_app(context) {
        let screen = if continue_newest { StartScreen::NewestSession } else { StartScreen::NewSession };
        return terminal::run(screen, context);
    }
    let store = context.store()?;
    let in_project =
        SessionFilter { project: Some(context.project().key().to_owned()), ..SessionFilter::default() };
    if console.options.json {
        let page = store.list_sessions(&in_project, &PageRequest::first(20))?;
        let sessions = page.items.iter().map(SessionJson::from).collect();
        let next = page.next.map(|cursor| cursor.0);
        console.print_json(&SessionListJson { sessions, next, unreadable: page.unreadable })?;
        return Ok(Outcome::Done);
    }
    console.print(&format!("{}\n", Cli::command().render_help()))?;
    let here = store.list_sessions(&in_project, &PageRequest::first(RECENT))?.items;
    // Read more sessions than are shown, because those of this project are removed.
    let mut elsewhere =
        store.list_sessions(&SessionFilter::default(), &PageRequest::first(RECENT * 2))?.items;
    elsewhere.retain(|summary| {
        summary.session.project.as_ref().is_none_or(|project| project.key() != context.project().key())
    });
    elsewhere.truncate(RECENT as usize);
    let strong = console.palette.strong;
    let mut text = String::new();
    if !here.is_empty() {
        text += &format!("{strong}Sessions of this project{strong:#}\n");
        text += &session_table(&here, false, context);
        text.push('\n');
    }
    if !elsewhere.is_empty() {
        text += &format!("{strong}Other sessions{strong:#}\n");
        text += &session_table(&elsewhere, true, context);
        text.push('\n');
    }
    text += &next_steps(!here.is_empty(), !here.is_empty() || !elsewhere.is_empty());
    console.print(&text)?;
    Ok(Outcome::Done)
}

/// Whether the user at a terminal expects the app. If one of the standard streams is redirected, the app explains that it
/// cannot run. Without any terminal, a script gets the overview.
fn wants_app(context: &Context) -> bool {
    let console = &context.console;
    let has_terminal =
        console.output_is_terminal() || console.error_is_terminal() || io::stdin().is_terminal();
    !console.options.json && (has_terminal || was_started_by_nohup())
}

/// Whether standard input can only be written: nohup replaces a terminal by such a file.
fn was_started_by_nohup() -> bool {
    use rustix::fs::{OFlags, fcntl_getfl};
    fcntl_getfl(io::stdin()).is_ok_and(|flags| flags & OFlags::RWMODE == OFlags::WRONLY)
}

fn next_steps(has_project_sessions: bool, has_sessions: bool) -> String {
    let mut steps = vec![("hfs chat \"...\"", "start a session")];
    if has_project_sessions {
        steps.push(("hfs chat -c \"...\"", "continue this project's newest session"));
        steps.push(("hfs session show @", "show its newest messages"));
    }
    if has_sessions {
        steps.push(("hfs search WORDS", "search all sessions"));
    } else {
        steps.push(("hfs import PATH", "import the sessions of another tool"));
    }
    steps.push(("hfs --help", "all commands"));
    steps.iter().map(|(command, about)| format!("  {command:22}{about}\n")).collect()
}

/// The default locations of other tools' transcripts that exist on this machine.
pub fn transcript_locations(environment: &Environment) -> Vec<(Format, PathBuf)> {
    let Some(home) = &environment.user_home else { return Vec::new() };
    let locations = default_locations(home, &location_overrides(environment));
    locations.into_iter().filter(|(_, path)| path.exists()).collect()
}

/// The locations of other tools' data that environment variables set.
pub fn location_overrides(environment: &Environment) -> LocationOverrides {
    let directory = |name: &str| environment.get(name).map(PathBuf::from);
    LocationOverrides {
        claude_config: directory("CLAUDE_CONFIG_DIR"),
        codex_home: directory("CODEX_HOME"),
        xdg_data_home: directory("XDG_DATA_HOME"),
        xdg_config_home: directory("XDG_CONFIG_HOME"),
        llm_user_path: directory("LLM_USER_PATH"),
        qwen_home: directory("QWEN_HOME"),
        pi_agent: directory("PI_CODING_AGENT_DIR"),
        copilot_home: directory("COPILOT_HOME"),
        cline_home: directory("CLINE_DIR"),
    }
}
