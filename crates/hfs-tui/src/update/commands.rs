//! Slash commands.

use hfs_core::Role;
use hfs_engine::Conversation;

use crate::command::{Command, Parsed, parse};
use crate::effect::{Change, Effect};
use crate::modal::{Ask, AskedFor, Modal, confirm_delete, confirm_exit};
use crate::model::{Chat, Model};
use crate::parts::{OutputMode, PickFrom, Tone};
use crate::screens::branches::Branches;
use crate::screens::config::Config;
use crate::screens::help::Help;
use crate::screens::import::Import;
use crate::screens::inspect::Inspect;
use crate::screens::plugins::Plugins;
use crate::screens::search::Search;
use crate::screens::sessions::Sessions;
use crate::screens::timeline::{Timeline, ask_label};
use crate::screens::{Act, Context, Screen};
use crate::text::one_line;

/// What is said while a plugin's command runs.
pub(super) fn is_running(command: &str) -> String {
    format!("/{} is running ...", one_line(command))
}

impl Model {
    /// Runs a line that begins with a slash.
    pub(super) fn run_command(&mut self, line: &str) -> Vec<Effect> {
        match parse(line, &self.plugins.commands) {
            Parsed::BuiltIn(command, arguments) => self.run_built_in(command, &arguments),
            Parsed::Plugin(command, arguments) => {
                let conversation = self.chat.conversation.clone();
                let mut effects = self.say(Tone::Dim, is_running(&command));
                effects.push(Effect::RunPlugin { command, arguments, conversation });
                effects
            }
            Parsed::Unknown { name, nearest } => {
                let text = match nearest {
                    Some(nearest) => format!("no command /{name}; did you mean /{nearest}?"),
                    None => format!("no command /{name}; /help lists them"),
                };
                self.say(Tone::Warn, text)
            }
        }
    }

    fn run_built_in(&mut self, command: Command, arguments: &str) -> Vec<Effect> {
        if self.chat.is_busy() && moves_conversation(command) {
            return self.say(Tone::Warn, "a reply is in progress; Esc stops it");
        }
        match command {
            Command::Help => self.show(|_| (Screen::Help(Help::default()), Vec::new())),
            Command::New => self.new_conversation(),
            Command::Sessions => self.open_sessions(PickFrom::Project, ""),
            Command::Resume => self.open_sessions(PickFrom::Everywhere, arguments),
            Command::Checkpoint => self.checkpoint(arguments),
            Command::Checkpoints | Command::Rewind => self.with_session(|session, _| {
                let (screen, acts) = Timeline::open(session);
                (Screen::Timeline(screen), acts)
            }),
            Command::Branches => self.with_session(|session, context| {
                let (screen, acts) = Branches::open(session, context.branch());
                (Screen::Branches(screen), acts)
            }),
            Command::Search => self.show(|context| {
                let (screen, acts) = Search::open(arguments, context);
                (Screen::Search(screen), acts)
            }),
            Command::Inspect => self.show(|context| {
                let (screen, acts) = Inspect::open(context.session());
                (Screen::Inspect(screen), acts)
            }),
            Command::Config => self.config(arguments),
            Command::Plugins => self.show(|context| {
                let (screen, acts) = Plugins::open(context);
                (Screen::Plugins(screen), acts)
            }),
            Command::Import => self.show(|_| {
                let (mut screen, mut acts) = Import::open();
                if !arguments.is_empty() {
                    acts = screen.begin_with(arguments);
                }
                (Screen::Import(screen), acts)
            }),
            Command::Rename
            | Command::Delete
            | Command::Fork
            | Command::Undo
            | Command::Redo
            | Command::Export => self.run_on_session(command, arguments),
            Command::Mode => self.mode(arguments),
            Command::Model => match arguments {
                "" => self.config("model"),
                model => vec![Effect::SetConfig { key: "model".to_owned(), value: model.to_owned() }],
            },
            Command::Copy => self.copy_newest(),
            Command::Retry => self.retry(),
            Command::Edit => vec![Effect::Edit(self.chat.input.text().to_owned())],
            Command::Sidebar => {
                self.sidebar = Some(!self.has_sidebar());
                Vec::new()
            }
            Command::Exit if !self.chat.queue.is_empty() => {
                self.modals.push(confirm_exit(self.chat.queue.len()));
                Vec::new()
            }
            Command::Exit => self.leave(),
        }
    }

    fn run_on_session(&mut self, command: Command, arguments: &str) -> Vec<Effect> {
        let (Some(session), Some(branch)) =
            (self.chat.conversation.session(), self.chat.conversation.branch())
        else {
            if let (Command::Undo, Some(deleted)) = (command, self.deleted) {
                return vec![Effect::Change(Change::Restore(deleted))];
            }
            return self.say(Tone::Dim, "nothing was said yet");
        };
        let name = self.chat.name.clone().unwrap_or_default();
        match command {
            Command::Rename if arguments.is_empty() => {
                let ask = Ask::new("Rename session", "Its new name", &name, AskedFor::SessionName(session));
                self.modals.push(Modal::Ask(ask));
                Vec::new()
            }
            Command::Rename => vec![Effect::Change(Change::Rename { session, name: arguments.to_owned() })],
            Command::Delete => {
                self.modals.push(confirm_delete(session, &name));
                Vec::new()
            }
            Command::Fork => {
                let name = (!arguments.is_empty()).then(|| arguments.to_owned());
                vec![Effect::Change(Change::Fork { branch, at: self.chat.conversation.head(), name })]
            }
            Command::Undo => vec![Effect::Change(Change::Undo(session))],
            Command::Redo => vec![Effect::Change(Change::Redo(session))],
            _ => vec![Effect::PrepareExport { session, format: arguments.to_owned() }],
        }
    }

    fn show(&mut self, open: impl FnOnce(&Context<'_>) -> (Screen, Vec<Act>)) -> Vec<Effect> {
        self.chat.transcript.unselect();
        self.with_screen(|screen, context| {
            let (opened, acts) = open(context);
            *screen = opened;
            acts
        })
    }

    fn with_session(
        &mut self,
        open: impl FnOnce(hfs_core::SessionId, &Context<'_>) -> (Screen, Vec<Act>),
    ) -> Vec<Effect> {
        match self.chat.conversation.session() {
            Some(session) => self.show(|context| open(session, context)),
            None => self.say(Tone::Dim, "nothing was said yet"),
        }
    }

    pub(super) fn open_sessions(&mut self, from: PickFrom, query: &str) -> Vec<Effect> {
        self.show(|context| {
            let (screen, acts) = Sessions::open(from, query, context);
            (Screen::Sessions(screen), acts)
        })
    }

    pub(super) fn new_conversation(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.chat.conversation.session().is_some() {
            effects.push(Effect::Leave(self.chat.conversation.clone()));
        }
        let draft = self.chat.input.take();
        let entries = std::mem::take(&mut self.chat.history);
        self.chat = Chat::new(Conversation::new(self.project.clone()));
        self.chat.input.set(&draft);
        self.chat.history = entries;
        self.screen = Screen::Chat;
        effects.push(self.list_recent());
        effects.push(Effect::ReadPlugins(None));
        effects
    }

    fn checkpoint(&mut self, label: &str) -> Vec<Effect> {
        if self.chat.conversation.session().is_none() {
            return self.say(Tone::Dim, "nothing was said yet that could be marked");
        }
        if label.is_empty() {
            return self.with_screen(|_, context| vec![Act::Ask(Box::new(ask_label(context)))]);
        }
        let conversation = self.chat.conversation.clone();
        vec![Effect::Change(Change::Checkpoint { conversation, label: Some(label.to_owned()) })]
    }

    fn config(&mut self, arguments: &str) -> Vec<Effect> {
        if let Some((key, value)) = arguments.split_once(char::is_whitespace) {
            return vec![Effect::SetConfig { key: key.to_owned(), value: value.trim().to_owned() }];
        }
        self.show(|_| {
            let (screen, acts) = Config::open(arguments);
            (Screen::Config(screen), acts)
        })
    }

    fn mode(&mut self, arguments: &str) -> Vec<Effect> {
        let wanted = match arguments {
            "compact" => OutputMode::Compact,
            "verbose" => OutputMode::Verbose,
            "" => return self.config("agent"),
            agent => return vec![Effect::SetConfig { key: "agent".to_owned(), value: agent.to_owned() }],
        };
        if self.look.settings.output == wanted { Vec::new() } else { self.toggle_output() }
    }

    fn copy_newest(&mut self) -> Vec<Effect> {
        let newest =
            self.chat.transcript.messages().rev().find(|message| message.content.role == Role::Assistant);
        match newest.map(|message| message.content.text()) {
            Some(text) if !text.is_empty() => {
                vec![Effect::Copy { text, what: "the newest reply".to_owned() }]
            }
            _ => self.say(Tone::Dim, "there is no reply to copy"),
        }
    }
}

/// Commands that would take the conversation away from under a reply in progress.
const fn moves_conversation(command: Command) -> bool {
    matches!(
        command,
        Command::New | Command::Fork | Command::Undo | Command::Redo | Command::Delete | Command::Retry
    )
}
