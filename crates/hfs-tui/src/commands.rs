//! Slash commands. Typing, completion, help and the command palette use the same table.
//!
//! To add a command, add a variant to [`Command`], its row in [`COMMANDS`], and its arm in `Model::run_command`.

use hfs_core::{Role, SessionId};
use hfs_engine::Conversation;

use crate::chat::Chat;
use crate::editor::KeyMode;
use crate::modal::{Modal, Prompt, PromptPurpose, confirm_quit, confirm_trash};
use crate::model::Model;
use crate::ports::{AgentState, AgentsView, OutputMode, PluginCommand, SessionScope, Tone};
use crate::protocol::{Change, Effect, Request, TerminalCommand};
use crate::screens::agents::Agents;
use crate::screens::branches::Branches;
use crate::screens::checkpoints::{Checkpoints, label_prompt};
use crate::screens::config::Config;
use crate::screens::help::Help;
use crate::screens::import::Import;
use crate::screens::inspect::Inspect;
use crate::screens::models::Models;
use crate::screens::plugins::Plugins;
use crate::screens::search::Search;
use crate::screens::sessions::Sessions;
use crate::screens::stats::StatsScreen;
use crate::screens::{Action, Context, Screen};
use crate::text::{fuzzy_score, sanitize_line};

/// A built-in command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "described in COMMANDS")]
pub enum Command {
    Help,
    New,
    Sessions,
    Resume,
    Rename,
    Delete,
    Checkpoints,
    Checkpoint,
    Rewind,
    Branches,
    Fork,
    Undo,
    Redo,
    Search,
    Export,
    Import,
    Inspect,
    Stats,
    Plugins,
    Config,
    Mode,
    Agent,
    Model,
    Copy,
    Compact,
    Retry,
    Edit,
    Sidebar,
    Exit,
}

/// Names and description of a command.
#[derive(Debug)]
pub struct CommandSpec {
    /// The command.
    pub command: Command,
    /// Its name, followed by its aliases.
    pub names: &'static [&'static str],
    /// Syntax of its arguments.
    pub arguments: &'static str,
    /// Description in one line.
    pub about: &'static str,
    /// Its key; may be empty.
    pub key: &'static str,
}

const fn spec(
    command: Command,
    names: &'static [&'static str],
    arguments: &'static str,
    key: &'static str,
    about: &'static str,
) -> CommandSpec {
    CommandSpec { command, names, arguments, about, key }
}

/// All commands, in the order of the help screen.
pub static COMMANDS: &[CommandSpec] = &[
    spec(Command::Help, &["help", "?"], "", "F1", "keys and commands"),
    spec(Command::New, &["new", "clear"], "", "Ctrl+N", "start a new conversation; this one stays saved"),
    spec(Command::Sessions, &["sessions"], "[words]", "Ctrl+S", "list, open, rename, delete sessions"),
    spec(Command::Resume, &["resume"], "[name or id]", "", "open another session"),
    spec(Command::Rename, &["rename"], "[name]", "", "rename this session"),
    spec(Command::Delete, &["delete"], "", "", "move this session to the trash"),
    spec(Command::Checkpoints, &["checkpoints"], "", "Ctrl+T", "list checkpoints and rewind to one"),
    spec(Command::Checkpoint, &["checkpoint"], "[label]", "", "create a checkpoint here"),
    spec(Command::Rewind, &["rewind"], "", "Esc Esc", "rewind to a checkpoint; nothing is lost"),
    spec(Command::Branches, &["branches", "tree"], "", "F4", "show the tree of branches"),
    spec(Command::Fork, &["fork"], "[name]", "", "fork the conversation here"),
    spec(Command::Undo, &["undo"], "", "", "undo the newest rewind, fork, switch, rename ..."),
    spec(Command::Redo, &["redo"], "", "", "redo the newest undo"),
    spec(Command::Search, &["search"], "[words]", "Ctrl+F", "search all sessions"),
    spec(Command::Export, &["export"], "[format] [path]", "", "write this session to a file"),
    spec(Command::Import, &["import"], "[path]", "", "import transcripts of other tools"),
    spec(Command::Inspect, &["inspect"], "", "F3", "agents, negotiation, tokens and trace of a run"),
    spec(
        Command::Stats,
        &["stats"],
        "[day|project|agent|model|tool]",
        "",
        "tokens, cost, tool calls and time of all sessions",
    ),
    spec(Command::Plugins, &["plugins"], "", "", "approve, deny, enable, disable plugins"),
    spec(Command::Config, &["config"], "[key [value]]", "", "show and change settings"),
    spec(
        Command::Mode,
        &["mode"],
        "[compact|verbose|agent]",
        "Ctrl+O",
        "change the output mode or the agent",
    ),
    spec(
        Command::Agent,
        &["agent", "agents"],
        "[name]",
        "",
        "choose who answers; the conversation goes with it",
    ),
    spec(Command::Model, &["model"], "[name]", "", "choose a model for this session or for all"),
    spec(Command::Copy, &["copy"], "", "", "copy the newest reply"),
    spec(Command::Compact, &["compact"], "", "", "let the model continue from a summary; messages stay"),
    spec(Command::Retry, &["retry"], "", "F5", "get another reply on a new branch"),
    spec(Command::Edit, &["edit"], "", "Ctrl+G", "write the message in your editor"),
    spec(Command::Sidebar, &["sidebar"], "", "F2", "show or hide the sidebar"),
    spec(Command::Exit, &["exit", "quit"], "", "Ctrl+C Ctrl+C", "quit; everything is saved"),
];

impl CommandSpec {
    /// Returns its primary name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.names.first().copied().unwrap_or_default()
    }

    /// Returns its key in this mode. Emacs mode uses some of the keys for editing.
    #[must_use]
    pub fn key_in(&self, mode: KeyMode) -> &'static str {
        match (mode, self.command) {
            (KeyMode::Emacs, Command::New | Command::Search) => "",
            _ => self.key,
        }
    }
}

/// A parsed line that begins with a slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParsedCommand {
    /// A built-in command with its arguments.
    BuiltIn(Command, String),
    /// A plugin's command with its arguments.
    Plugin(String, String),
    /// An unknown command, and the most similar name.
    Unknown { name: String, nearest: Option<String> },
}

/// Parses a line that begins with a slash.
#[must_use]
pub fn parse(line: &str, plugins: &[PluginCommand]) -> ParsedCommand {
    let line = line.trim().trim_start_matches('/');
    let (name, arguments) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let arguments = arguments.trim().to_owned();
    let lower = name.to_lowercase();
    if let Some(spec) = COMMANDS.iter().find(|spec| spec.names.contains(&lower.as_str())) {
        return ParsedCommand::BuiltIn(spec.command, arguments);
    }
    if let Some(command) = plugins.iter().find(|command| command.name == name) {
        return ParsedCommand::Plugin(command.name.clone(), arguments);
    }
    let names = COMMANDS.iter().flat_map(|spec| spec.names.iter().copied());
    let names = names.chain(plugins.iter().map(|command| command.name.as_str()));
    let nearest = names
        .map(|known| (strsim::damerau_levenshtein(&lower, known), known))
        .min()
        .filter(|(distance, known)| *distance <= (known.len() / 3).max(1) || known.starts_with(&lower))
        .map(|(_, known)| known.to_owned());
    ParsedCommand::Unknown { name: sanitize_line(name), nearest }
}

/// Whether a line is a command and not a message: a slash followed by a word that is not a path.
#[must_use]
pub fn is_command(line: &str) -> bool {
    let Some(rest) = line.strip_prefix('/') else { return false };
    let word = rest.split_whitespace().next().unwrap_or_default();
    !line.contains('\n') && !word.contains('/') && rest.starts_with(|c: char| c.is_alphanumeric() || c == '?')
}

/// A row of the completion or the palette.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suggestion {
    /// Name without the slash.
    pub name: String,
    /// Syntax of its arguments.
    pub arguments: String,
    /// Description in one line.
    pub about: String,
    /// Its key; may be empty.
    pub key: &'static str,
}

/// Returns the commands that match `query`, best match first.
#[must_use]
pub fn suggestions(query: &str, plugins: &[PluginCommand], mode: KeyMode) -> Vec<Suggestion> {
    let mut rows: Vec<(u32, Suggestion)> = Vec::new();
    for spec in COMMANDS {
        let score = spec
            .names
            .iter()
            .filter_map(|name| fuzzy_score(query, name).map(|score| score + prefix_bonus(query, name)))
            .chain(description_matches(spec.about, query).then_some(1))
            .max();
        if let Some(score) = score {
            // If the user is typing an alias, the row shows the alias instead of the primary name.
            let is_typed = |name: &&&str| name.starts_with(query) && !query.is_empty();
            let name = spec.names.iter().find(is_typed).copied().unwrap_or_else(|| spec.name());
            rows.push((
                score,
                Suggestion {
                    name: name.to_owned(),
                    arguments: spec.arguments.to_owned(),
                    about: spec.about.to_owned(),
                    key: spec.key_in(mode),
                },
            ));
        }
    }
    for command in plugins {
        if let Some(score) = fuzzy_score(query, &command.name) {
            let suggestion = Suggestion {
                name: command.name.clone(),
                arguments: String::new(),
                about: sanitize_line(&command.about),
                key: "",
            };
            rows.push((score + prefix_bonus(query, &command.name), suggestion));
        }
    }
    rows.sort_by(|(a, _), (b, _)| b.cmp(a));
    rows.into_iter().map(|(_, suggestion)| suggestion).collect()
}

/// Returns the agents that match the typed name, best match first, as arguments of `/agent`.
#[must_use]
pub fn agent_suggestions(typed: &str, agents: &AgentsView) -> Vec<Suggestion> {
    if typed.contains(char::is_whitespace) {
        return Vec::new();
    }
    let rows = agents.agents.iter().filter_map(|agent| {
        let score = fuzzy_score(typed, &agent.name)? + prefix_bonus(typed, &agent.name);
        let (about, is_ready) = match &agent.state {
            AgentState::Ready => (agent.about.clone(), true),
            AgentState::NeedsAdapter { .. } => ("needs its adapter; /agent installs it".to_owned(), false),
            AgentState::NotInstalled { .. } => return None,
        };
        let suggestion = Suggestion {
            name: format!("agent {}", agent.name),
            arguments: String::new(),
            about: sanitize_line(&format!("{}: {about}", agent.title)),
            key: "",
        };
        Some(((is_ready, score), suggestion))
    });
    let mut rows: Vec<_> = rows.collect();
    rows.sort_by(|(a, _), (b, _)| b.cmp(a));
    rows.into_iter().map(|(_, suggestion)| suggestion).collect()
}

/// Whether a word of the description begins with `query`. Short queries match too many descriptions.
fn description_matches(about: &str, query: &str) -> bool {
    query.chars().count() > 2 && about.split(' ').any(|word| word.to_lowercase().starts_with(query))
}

fn prefix_bonus(query: &str, name: &str) -> u32 {
    if !query.is_empty() && name.starts_with(query) { 1_000 } else { 0 }
}

/// Returns the notice that is shown while a plugin's command runs.
fn running_notice(command: &str) -> String {
    format!("/{} is running ...", sanitize_line(command))
}

impl Model {
    /// Runs a line that begins with a slash.
    pub(crate) fn run_command_line(&mut self, line: &str) -> Vec<Effect> {
        match parse(line, &self.plugins.commands) {
            ParsedCommand::BuiltIn(command, arguments) => {
                // Arguments that a command ignored would let the user expect what does not happen.
                let without =
                    COMMANDS.iter().find(|spec| spec.command == command && spec.arguments.is_empty());
                match without {
                    Some(spec) if !arguments.is_empty() => {
                        let text = format!("/{} takes nothing after it; nothing was done", spec.name());
                        self.notify(Tone::Warn, text)
                    }
                    Some(_) | None => self.run_command(command, &arguments),
                }
            }
            ParsedCommand::Plugin(command, arguments) => {
                let conversation = self.chat.conversation.clone();
                let mut effects = self.notify(Tone::Dim, running_notice(&command));
                effects.push(Request::RunPlugin { command, arguments, conversation }.into());
                effects
            }
            ParsedCommand::Unknown { name, nearest } => {
                let text = match nearest {
                    Some(nearest) => format!("no command /{name}; did you mean /{nearest}?"),
                    None => format!("no command /{name}; /help lists them"),
                };
                self.notify(Tone::Warn, text)
            }
        }
    }

    /// Removes the notice that a plugin's command is running.
    pub(crate) fn remove_running_notice(&mut self, command: &str) {
        let running = running_notice(command);
        self.notice.take_if(|notice| notice.text == running);
    }

    pub(crate) fn run_command(&mut self, command: Command, arguments: &str) -> Vec<Effect> {
        let is_moving = self.chat.is_busy() || self.chat.moves_in_progress > 0;
        if is_moving && moves_conversation(command) {
            return self.notify_busy();
        }
        match command {
            Command::Help => self.show_screen(|_| (Help::default(), Vec::new())),
            Command::New => self.start_new_conversation(),
            Command::Sessions => self.show_sessions(SessionScope::Project, arguments),
            Command::Resume => self.show_sessions(SessionScope::AllProjects, arguments),
            Command::Checkpoint => self.create_checkpoint(arguments),
            Command::Checkpoints | Command::Rewind => {
                self.with_session(|model, session| model.show_screen(|_| Checkpoints::open(session)))
            }
            Command::Branches => {
                self.with_session(|model, session| model.show_screen(|cx| Branches::open(session, cx)))
            }
            Command::Search => self.show_screen(|cx| Search::open(arguments, cx)),
            Command::Inspect => self.show_screen(|cx| Inspect::open(cx.session())),
            Command::Stats => self.show_screen(|cx| StatsScreen::open(arguments, cx)),
            Command::Config => match arguments.split_once(char::is_whitespace) {
                Some((key, value)) => set_config(key, value.trim()),
                None => self.show_screen(|_| Config::open(arguments)),
            },
            Command::Plugins => self.show_screen(Plugins::open),
            Command::Import => self.show_screen(|_| Import::open(arguments)),
            Command::Rename => self.rename_session(arguments),
            Command::Delete => self.with_session(|model, session| {
                let name = model.chat.name.clone().unwrap_or_default();
                model.modals.push(confirm_trash(session, &name));
                Vec::new()
            }),
            Command::Fork => self.fork(arguments),
            Command::Undo => match (self.chat.conversation.session(), self.last_trashed) {
                // In a new conversation, the only thing to undo is the deletion of a session.
                (None, Some(trashed)) => vec![Change::Restore(trashed).into()],
                _ => self.with_session(|_, session| vec![Request::PlanUndo(session).into()]),
            },
            Command::Redo => self.with_session(|_, session| vec![Request::PlanRedo(session).into()]),
            Command::Export => self.with_session(|_, session| {
                vec![Request::PrepareExport { session, target: arguments.to_owned() }.into()]
            }),
            Command::Mode => self.set_mode(arguments),
            Command::Agent => match arguments {
                "" => self.show_screen(|_| Agents::open()),
                agent => vec![Request::UseAgent { agent: Some(agent.to_owned()) }.into()],
            },
            Command::Model => match arguments {
                "" => self.show_screen(|_| Models::open()),
                model => vec![Request::UseModel { model: Some(model.to_owned()) }.into()],
            },
            Command::Copy => self.copy_newest_reply(),
            Command::Compact => self.with_session(|model, _| model.compact()),
            Command::Retry => self.retry(),
            Command::Edit => vec![TerminalCommand::Edit(self.chat.input.full_text()).into()],
            Command::Sidebar => {
                self.sidebar = Some(!self.has_sidebar());
                Vec::new()
            }
            Command::Exit if !self.chat.queue.is_empty() => {
                self.modals.push(confirm_quit(self.chat.queue.len()));
                Vec::new()
            }
            Command::Exit => self.quit(),
        }
    }

    fn show_screen<S: Screen + 'static>(
        &mut self,
        open: impl FnOnce(&Context<'_>) -> (S, Vec<Action>),
    ) -> Vec<Effect> {
        self.chat.transcript.unselect();
        let (screen, actions) = open(&self.context());
        self.screen = Some(Box::new(screen));
        self.perform(actions)
    }

    /// Runs a command that needs a session.
    fn with_session(&mut self, run: impl FnOnce(&mut Self, SessionId) -> Vec<Effect>) -> Vec<Effect> {
        match self.chat.conversation.session() {
            Some(session) => run(self, session),
            None => self.notify(Tone::Dim, "this conversation has no messages yet"),
        }
    }

    pub(crate) fn show_sessions(&mut self, scope: SessionScope, query: &str) -> Vec<Effect> {
        self.show_screen(|cx| Sessions::open(scope, query, cx))
    }

    /// Leaves the session for a new conversation. The text in the input and its history are kept.
    pub(crate) fn start_new_conversation(&mut self) -> Vec<Effect> {
        let mut effects: Vec<Effect> = Vec::new();
        if self.chat.conversation.session().is_some() {
            effects.push(Request::LeaveConversation(self.chat.conversation.clone()).into());
            effects.extend(self.end_session_choices());
        }
        let draft = self.chat.input.take();
        let restored_draft = self.chat.restored_draft.take();
        let history = std::mem::take(&mut self.chat.history);
        let (moves_in_progress, agent_change) = (self.chat.moves_in_progress, self.chat.agent_change);
        self.chat = Chat::new(Conversation::new(self.project.clone()));
        self.chat.input.set_folded(&draft);
        self.chat.restored_draft = restored_draft;
        self.chat.history = history;
        self.chat.moves_in_progress = moves_in_progress;
        self.chat.agent_change = agent_change;
        self.screen = None;
        effects.push(self.list_recent_sessions());
        effects.push(Request::ReadPlugins(None).into());
        effects
    }

    pub(crate) fn list_recent_sessions(&self) -> Effect {
        let project = self.project.as_ref().map(|project| project.key().to_owned());
        Request::ListRecentSessions { project }.into()
    }

    fn create_checkpoint(&mut self, label: &str) -> Vec<Effect> {
        self.with_session(|model, _| {
            let conversation = model.chat.conversation.clone();
            if label.is_empty() {
                model.modals.push(label_prompt(&conversation));
                return Vec::new();
            }
            vec![Change::Checkpoint { conversation, label: Some(label.to_owned()) }.into()]
        })
    }

    fn rename_session(&mut self, name: &str) -> Vec<Effect> {
        self.with_session(|model, session| {
            if !name.is_empty() {
                return vec![Change::Rename { session, name: name.to_owned() }.into()];
            }
            let name = model.chat.name.clone().unwrap_or_default();
            let purpose = PromptPurpose::SessionName(session);
            model.modals.push(Modal::Prompt(Prompt::new("Rename session", "New name", &name, purpose)));
            Vec::new()
        })
    }

    fn fork(&mut self, name: &str) -> Vec<Effect> {
        self.with_session(|model, _| {
            let Some(branch) = model.chat.conversation.branch() else { return Vec::new() };
            let name = (!name.is_empty()).then(|| name.to_owned());
            vec![Change::Fork { branch, at: model.chat.conversation.head(), name }.into()]
        })
    }

    fn set_mode(&mut self, arguments: &str) -> Vec<Effect> {
        let mode = match arguments {
            "compact" => OutputMode::Compact,
            "verbose" => OutputMode::Verbose,
            "" => return self.show_screen(|_| Config::open("agent")),
            agent => return set_config("agent", agent),
        };
        if self.render.settings.output == mode { Vec::new() } else { self.toggle_output_mode() }
    }

    fn copy_newest_reply(&mut self) -> Vec<Effect> {
        let newest =
            self.chat.transcript.messages().rev().find(|message| message.content.role == Role::Assistant);
        match newest.map(|message| message.content.text()) {
            Some(text) if !text.is_empty() => {
                vec![TerminalCommand::Copy { text, description: "the newest reply".to_owned() }.into()]
            }
            _ => self.notify(Tone::Dim, "there is no reply to copy"),
        }
    }
}

fn set_config(key: &str, value: &str) -> Vec<Effect> {
    vec![Request::SetConfig { key: key.to_owned(), value: value.to_owned() }.into()]
}

/// Whether a command moves the conversation or replaces its session, which is not allowed during a reply.
const fn moves_conversation(command: Command) -> bool {
    matches!(
        command,
        Command::New
            | Command::Fork
            | Command::Undo
            | Command::Redo
            | Command::Delete
            | Command::Compact
            | Command::Retry
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_unique_names_that_parse() {
        let mut names: Vec<&str> = COMMANDS.iter().flat_map(|spec| spec.names.iter().copied()).collect();
        for name in &names {
            assert!(
                matches!(parse(&format!("/{name} x"), &[]), ParsedCommand::BuiltIn(_, rest) if rest == "x")
            );
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn a_misspelt_command_suggests_the_nearest_name() {
        let nearest = |line: &str| match parse(line, &[]) {
            ParsedCommand::Unknown { nearest, .. } => nearest,
            other => panic!("{other:?}"),
        };
        assert_eq!(nearest("/serch"), Some("search".into()));
        assert_eq!(nearest("/branchs"), Some("branches".into()));
        assert_eq!(nearest("/zzzzzz"), None);
    }

    #[test]
    fn a_path_is_a_message_and_not_a_command() {
        assert!(is_command("/help"));
        assert!(is_command("/rename New name"));
        assert!(!is_command("/etc/passwd is missing"));
        assert!(!is_command("/ alone"));
        assert!(!is_command("say /help"));
        assert!(!is_command("/help\nmore"));
    }

    #[test]
    fn completion_lists_prefix_matches_first() {
        let names: Vec<String> =
            suggestions("re", &[], KeyMode::Standard).into_iter().map(|row| row.name).collect();
        assert!(names[..5].iter().all(|name| name.starts_with("re")), "{names:?}");
        let plugin = PluginCommand { name: "standup".into(), about: "today".into() };
        assert_eq!(suggestions("standup", &[plugin], KeyMode::Standard)[0].name, "standup");
    }
}
