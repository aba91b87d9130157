//! Slash commands of an editor's session: those of hfs, which change the session, and those of plugins.

use std::rc::Rc;
use std::sync::Arc;

use hfs_acp::PromptContent;
use hfs_acp::wire::{AvailableCommand, AvailableCommandInput, UnstructuredCommandInput};
use hfs_core::{
    Branch, Checkpoint, Clock as _, ErrorKind, Message, MessageRange, SearchHit, SearchQuery, SessionId,
    Store, SystemClock, plural,
};
use hfs_engine::{Conversation, Engine, RewindTarget};
use hfs_plugins::Plugins;
use serde_json::Value;

use super::session::EditorSession;
use super::{Server, in_background};
use crate::commands::history::state_note;
use crate::output::error::CliError;
use crate::output::table::shorten;
use crate::output::{sanitize, time_format};
use crate::resolve::{find_branch, find_checkpoint, parse_seq};

/// A command of hfs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionCommand {
    Rewind,
    Undo,
    Branch,
    Switch,
    Checkpoint,
    Search,
}

/// Each command with its name, its arguments and its description.
const COMMANDS: [(SessionCommand, &str, Option<&str>, &str); 6] = [
    (
        SessionCommand::Rewind,
        "rewind",
        Some("checkpoint, or seq:N for a message; without it, the places are listed"),
        "Go back to a checkpoint or a message, on a new branch; nothing is lost",
    ),
    (SessionCommand::Undo, "undo", None, "Undo the newest rewind, branch or switch"),
    (SessionCommand::Branch, "branch", Some("name"), "Continue on a new branch from here"),
    (
        SessionCommand::Switch,
        "switch",
        Some("branch; without it, the branches are listed"),
        "Continue on another branch",
    ),
    (SessionCommand::Checkpoint, "checkpoint", Some("label"), "Create a checkpoint here"),
    (SessionCommand::Search, "search", Some("words"), "Search all saved sessions"),
];

/// Places, hits and branches that are listed.
const MAX_LISTED: usize = 12;
/// Messages that are searched for those of the user.
const LISTED_MESSAGES: u32 = 200;
/// Columns of a line of a message.
const PREVIEW: usize = 100;

/// A command that the user has entered.
#[derive(Debug, PartialEq, Eq)]
pub struct Entered {
    command: EnteredCommand,
    arguments: String,
}

#[derive(Debug, PartialEq, Eq)]
enum EnteredCommand {
    Session(SessionCommand),
    Plugin(String),
}

/// The commands for the editor: those of hfs, of plugins, and of the agent. Of equal names, the first one counts.
pub fn available(plugins: Option<&Plugins>, of_agent: &[Value]) -> Vec<Value> {
    let command = |name: String, about: String, hint: Option<String>| {
        let input = hint.map(|hint| AvailableCommandInput::Unstructured(UnstructuredCommandInput::new(hint)));
        serde_json::to_value(AvailableCommand::new(name, about).input(input)).unwrap_or_default()
    };
    let own = COMMANDS
        .into_iter()
        .map(|(_, name, hint, about)| command(name.to_owned(), about.to_owned(), hint.map(str::to_owned)));
    let of_plugins = plugins.map(Plugins::commands).unwrap_or_default().into_iter().map(|found| {
        let usage = Some(sanitize::line(&found.usage)).filter(|usage| !usage.is_empty());
        command(found.name, sanitize::line(&found.about), usage)
    });
    let mut all: Vec<Value> = Vec::new();
    for command in own.chain(of_plugins).chain(of_agent.iter().cloned()) {
        if !all.iter().any(|other| other.get("name") == command.get("name")) {
            all.push(command);
        }
    }
    all
}

/// The command that a prompt is; `None` for a message to the agent.
pub fn parse(prompt: &PromptContent, plugins: Option<&Plugins>) -> Option<Entered> {
    let line = prompt.text.trim().strip_prefix('/')?;
    if line.contains('\n') || !prompt.files.is_empty() || !prompt.pictures.is_empty() {
        return None;
    }
    let (name, arguments) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let own = COMMANDS.into_iter().find(|(_, known, ..)| *known == name);
    let command = match own {
        Some((command, ..)) => EnteredCommand::Session(command),
        None => {
            let known = plugins?.commands().into_iter().any(|command| command.name == name);
            EnteredCommand::Plugin(known.then(|| name.to_owned())?)
        }
    };
    Some(Entered { command, arguments: arguments.trim().to_owned() })
}

/// Runs a command. Returns its answer in Markdown.
pub async fn run(
    entered: &Entered,
    server: &Rc<Server>,
    session: &Rc<EditorSession>,
    conversation: &mut Conversation,
) -> Result<String, CliError> {
    let engine = session.agent().engine.clone();
    let arguments = entered.arguments.as_str();
    match &entered.command {
        EnteredCommand::Session(SessionCommand::Search) => search(server, arguments).await,
        EnteredCommand::Plugin(name) => {
            run_plugin(name, arguments, session.plugins.as_ref(), &engine, conversation).await
        }
        EnteredCommand::Session(command) => {
            let Some(id) = conversation.session() else { return Err(without_messages()) };
            match command {
                SessionCommand::Rewind if arguments.is_empty() => places(server, id, conversation).await,
                SessionCommand::Rewind => rewind(server, id, &engine, conversation, arguments).await,
                SessionCommand::Undo => undo(id, &engine, conversation).await,
                SessionCommand::Branch => branch(id, &engine, conversation, arguments).await,
                SessionCommand::Switch => switch(server, id, &engine, conversation, arguments).await,
                SessionCommand::Checkpoint => checkpoint(&engine, conversation, arguments).await,
                SessionCommand::Search => search(server, arguments).await,
            }
        }
    }
}

fn without_messages() -> CliError {
    CliError::new(ErrorKind::Conflict, "this session has no messages yet")
}

async fn run_plugin(
    name: &str,
    arguments: &str,
    plugins: Option<&Plugins>,
    engine: &Engine,
    conversation: &Conversation,
) -> Result<String, CliError> {
    let plugins = plugins.ok_or_else(|| CliError::new(ErrorKind::NotFound, "plugins are disabled"))?;
    let result = plugins.run(name, arguments, conversation.session()).await;
    engine.persist_plugin_states(conversation).await?;
    Ok(sanitize::block(&result?.unwrap_or_else(|| format!("`/{name}` is done."))))
}

/// Ends the answer to a command after which the editor shows messages that are not on the current branch.
const VIEW_NOTE: &str =
    "The editor still shows what was said before; open the thread again to see only what is in view.";

fn name(branch: &Branch) -> String {
    format!("`{}`", sanitize::line(&branch.name))
}

fn preview(message: &Message) -> String {
    shorten(&sanitize::line(&message.content.searchable_text()), PREVIEW)
}

/// The checkpoints and the messages of the user, newest first.
async fn places(
    server: &Server,
    session: SessionId,
    conversation: &Conversation,
) -> Result<String, CliError> {
    let Some(branch) = conversation.branch() else { return Err(without_messages()) };
    let store = Arc::clone(&server.store);
    in_background(move || {
        let checkpoints = store.list_checkpoints(session)?;
        let messages = store.read_messages(branch, MessageRange::Newest(LISTED_MESSAGES))?;
        let mut text =
            "Where to? `/rewind 3` goes to a checkpoint, `/rewind seq:4` to the place after message 4.\n"
                .to_owned();
        for checkpoint in checkpoints.iter().rev().take(MAX_LISTED) {
            let label = checkpoint.label.as_deref().map(|label| format!(" “{}”", sanitize::line(label)));
            let time = time_format::relative(checkpoint.created_at, SystemClock.now());
            text += &format!(
                "\n- `{}`{}: after message {} ({time})",
                checkpoint.number,
                label.unwrap_or_default(),
                checkpoint.seq
            );
        }
        text.push('\n');
        let typed = messages.iter().rev().filter(|message| message.content.is_typed());
        for message in typed.take(MAX_LISTED) {
            text += &format!("\n- `seq:{}`: before “{}”", message.seq.saturating_sub(1), preview(message));
        }
        Ok(text)
    })
    .await
}

async fn rewind(
    server: &Server,
    session: SessionId,
    engine: &Engine,
    conversation: &mut Conversation,
    place: &str,
) -> Result<String, CliError> {
    let Some(branch) = conversation.branch() else { return Err(without_messages()) };
    let (target, place): (RewindTarget, String) = match parse_seq(place)? {
        Some(seq) => (RewindTarget::Message { branch, seq }, format!("the place after message {seq}")),
        None => {
            let checkpoint = resolve_checkpoint(server, session, conversation, place).await?;
            (checkpoint.id.into(), format!("checkpoint {}", checkpoint.number))
        }
    };
    let rewound = engine.rewind(target).await?;
    *conversation = engine.resume(session, Some(rewound.branch.id)).await?;
    let mut text = format!(
        "Rewound to {place}, on the new branch {}. {} keeps all its messages; `/undo` returns to it.",
        name(&rewound.branch),
        name(&rewound.plan.current),
    );
    if let Some(note) = state_note(&rewound.plan) {
        text += &format!("\n\n{}.", sanitize::line(&note));
    }
    if let Some(effects) = rewound.plan.side_effects.describe() {
        text += &format!("\n\nNot taken back: {}.", sanitize::line(&effects));
    }
    text += &format!("\n\n{}", last_message(server, conversation).await?);
    if let Some(prompt) = &rewound.plan.prompt {
        let prompt = sanitize::block(&prompt.content.text()).replace('\n', "\n> ");
        text += &format!("\n\nThe message after that place, to change and send again:\n\n> {prompt}");
    }
    Ok(text)
}

async fn resolve_checkpoint(
    server: &Server,
    session: SessionId,
    conversation: &Conversation,
    reference: &str,
) -> Result<Checkpoint, CliError> {
    let (store, reference) = (Arc::clone(&server.store), reference.to_owned());
    let branch = conversation.branch();
    in_background(move || {
        let (all, branches) = (store.list_checkpoints(session)?, store.list_branches(session)?);
        let current = match branch {
            Some(branch) => branch,
            None => store.get_session(session)?.session.current_branch,
        };
        Ok(find_checkpoint(&all, &branches, current, &reference)?)
    })
    .await
}

/// Says after which message the conversation continues.
async fn last_message(server: &Server, conversation: &Conversation) -> Result<String, CliError> {
    let store = Arc::clone(&server.store);
    let newest = match conversation.branch() {
        Some(branch) => {
            in_background(move || Ok(store.read_messages(branch, MessageRange::Newest(1))?.pop())).await?
        }
        None => None,
    };
    let place = match newest {
        Some(message) => {
            format!("The conversation continues after message {}:\n\n> {}", message.seq, preview(&message))
        }
        None => "The conversation begins again.".to_owned(),
    };
    Ok(format!("{place}\n\n{VIEW_NOTE}"))
}

async fn undo(
    session: SessionId,
    engine: &Engine,
    conversation: &mut Conversation,
) -> Result<String, CliError> {
    let reversed = engine.undo(session).await?;
    *conversation = engine.resume(session, None).await?;
    let plan = &reversed.plan;
    let mut text = format!("Undone: {}. The conversation continues on {}.", plan.target.kind, name(&plan.to));
    if plan.out_of_view > 0 {
        let stay = if plan.out_of_view == 1 { "stays" } else { "stay" };
        text += &format!(" {} {stay} on {}.", plural(plan.out_of_view, "message"), name(&plan.from));
    }
    Ok(format!("{text}\n\n{VIEW_NOTE}"))
}

async fn branch(
    session: SessionId,
    engine: &Engine,
    conversation: &mut Conversation,
    arguments: &str,
) -> Result<String, CliError> {
    let Some(parent) = conversation.branch() else { return Err(without_messages()) };
    let name_of_new = Some(arguments).filter(|name| !name.is_empty());
    let created = engine.fork(parent, conversation.head(), name_of_new).await?;
    *conversation = engine.resume(session, Some(created.id)).await?;
    Ok(format!("The conversation continues on the new branch {}.", name(&created)))
}

async fn switch(
    server: &Server,
    session: SessionId,
    engine: &Engine,
    conversation: &mut Conversation,
    arguments: &str,
) -> Result<String, CliError> {
    let store = Arc::clone(&server.store);
    let branches = in_background(move || Ok(store.list_branches(session)?)).await?;
    if arguments.is_empty() {
        let listed = branches.iter().filter(|branch| branch.is_listed());
        let rows = listed.map(|branch| {
            let current = if Some(branch.id) == conversation.branch() { ", this one" } else { "" };
            format!("\n- {}: {}{current}", name(branch), plural(branch.head, "message"))
        });
        return Ok(format!("Which branch? `/switch NAME`\n{}", rows.collect::<String>()));
    }
    let found = find_branch(&branches, arguments)?;
    let branch = engine.switch(session, found.id).await?;
    *conversation = engine.resume(session, Some(branch.id)).await?;
    let place = last_message(server, conversation).await?;
    Ok(format!("Switched to {}. {place}", name(&branch)))
}

async fn checkpoint(engine: &Engine, conversation: &Conversation, label: &str) -> Result<String, CliError> {
    let label = Some(label).filter(|label| !label.is_empty());
    let created = engine.checkpoint(conversation, label).await?;
    Ok(format!(
        "Checkpoint {} is after message {}; `/rewind {}` returns to it.",
        created.number, created.seq, created.number
    ))
}

async fn search(server: &Server, words: &str) -> Result<String, CliError> {
    let query = SearchQuery::new(words).with_limit(u32::try_from(MAX_LISTED).unwrap_or(u32::MAX));
    if query.terms().is_empty() {
        return Ok("What is searched for? `/search connection refused`".to_owned());
    }
    let store: Arc<dyn Store> = Arc::clone(&server.store);
    let found = in_background(move || Ok(store.search(&query)?)).await?;
    if found.hits.is_empty() {
        return Ok("Nothing found.".to_owned());
    }
    let rows = found.hits.iter().map(|hit| {
        let snippet =
            sanitize::line(&hit.snippet).replace([SearchHit::MARK_START, SearchHit::MARK_END], "**");
        format!(
            "\n- {} (`{}`), message {}, {}: {snippet}",
            sanitize::line(&hit.session_name),
            hit.session.short().shown(),
            hit.seq,
            hit.role
        )
    });
    let more = found.total.saturating_sub(found.hits.len() as u64);
    let more = if more > 0 { format!("\n\n{more} more: `hfs search {words}`") } else { String::new() };
    Ok(format!("{}{more}", rows.collect::<String>().trim_start()))
}
