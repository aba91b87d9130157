//! Slash commands: one table that typing, completion, help and the palette share.

use crate::editor::KeyMode;
use crate::parts::PluginCommand;
use crate::text::{fuzzy_score, one_line};

/// A command of the app's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the table says it")]
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
    Plugins,
    Config,
    Mode,
    Model,
    Copy,
    Retry,
    Edit,
    Sidebar,
    Exit,
}

/// What there is to know about a command.
#[derive(Debug)]
pub struct Spec {
    /// The command.
    pub command: Command,
    /// Its name, and others it answers to.
    pub names: &'static [&'static str],
    /// What may follow it.
    pub arguments: &'static str,
    /// One line.
    pub about: &'static str,
    /// Its key; empty without one.
    pub key: &'static str,
}

const fn spec(
    command: Command,
    names: &'static [&'static str],
    arguments: &'static str,
    key: &'static str,
    about: &'static str,
) -> Spec {
    Spec { command, names, arguments, about, key }
}

/// All commands, in the order in which help lists them.
pub static COMMANDS: &[Spec] = &[
    spec(Command::Help, &["help", "?"], "", "F1", "keys and commands"),
    spec(Command::New, &["new", "clear"], "", "Ctrl+N", "begin a new conversation; this one stays saved"),
    spec(Command::Sessions, &["sessions"], "", "Ctrl+S", "list, open, rename, delete sessions"),
    spec(Command::Resume, &["resume"], "[name or id]", "", "open another session"),
    spec(Command::Rename, &["rename"], "[name]", "", "give this session a name"),
    spec(Command::Delete, &["delete"], "", "", "move this session to the trash"),
    spec(Command::Checkpoints, &["checkpoints"], "", "Ctrl+T", "the timeline of checkpoints"),
    spec(Command::Checkpoint, &["checkpoint"], "[label]", "", "mark this place"),
    spec(Command::Rewind, &["rewind"], "", "Esc Esc", "go back to a checkpoint, losing nothing"),
    spec(Command::Branches, &["branches", "tree"], "", "F4", "the tree of branches"),
    spec(Command::Fork, &["fork"], "[name]", "", "go on from here on a branch of its own"),
    spec(Command::Undo, &["undo"], "", "", "take back the newest rewind, fork, switch, rename ..."),
    spec(Command::Redo, &["redo"], "", "", "do again what was undone"),
    spec(Command::Search, &["search"], "[words]", "Ctrl+F", "find words in every session"),
    spec(Command::Export, &["export"], "[format]", "", "write this session to a file"),
    spec(Command::Import, &["import"], "[path]", "", "take in transcripts of other tools"),
    spec(Command::Inspect, &["inspect"], "", "F3", "agents, negotiation, tokens and trace of a run"),
    spec(Command::Plugins, &["plugins"], "", "", "approve, deny, enable, disable plugins"),
    spec(Command::Config, &["config"], "[key [value]]", "", "show and change settings"),
    spec(Command::Mode, &["mode"], "[compact|verbose|agent]", "Ctrl+O", "how much is shown, or who answers"),
    spec(Command::Model, &["model"], "[name]", "", "which model answers"),
    spec(Command::Copy, &["copy"], "", "", "copy the newest reply"),
    spec(Command::Retry, &["retry"], "", "F5", "answer the newest message again, on a branch of its own"),
    spec(Command::Edit, &["edit"], "", "Ctrl+G", "write the message in your editor"),
    spec(Command::Sidebar, &["sidebar"], "", "F2", "show or hide the sidebar"),
    spec(Command::Exit, &["exit", "quit"], "", "Ctrl+C Ctrl+C", "leave; everything is saved"),
];

impl Spec {
    /// The name it is listed under.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.names.first().copied().unwrap_or_default()
    }

    /// The key that runs it under these habits. Emacs keeps the keys that it edits with.
    #[must_use]
    pub fn key_in(&self, mode: KeyMode) -> &'static str {
        match (mode, self.key) {
            (KeyMode::Emacs, "Ctrl+N" | "Ctrl+F") => "",
            (_, key) => key,
        }
    }
}

/// What a line that begins with a slash means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed {
    /// A command of the app with its arguments.
    BuiltIn(Command, String),
    /// A plugin's command with its arguments.
    Plugin(String, String),
    /// Nothing known; the nearest name, where one is near.
    Unknown { name: String, nearest: Option<String> },
}

/// Reads a line that begins with a slash.
#[must_use]
pub fn parse(line: &str, plugins: &[PluginCommand]) -> Parsed {
    let line = line.trim().trim_start_matches('/');
    let (name, arguments) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let arguments = arguments.trim().to_owned();
    let lower = name.to_lowercase();
    if let Some(spec) = COMMANDS.iter().find(|spec| spec.names.contains(&lower.as_str())) {
        return Parsed::BuiltIn(spec.command, arguments);
    }
    if let Some(command) = plugins.iter().find(|command| command.name == name) {
        return Parsed::Plugin(command.name.clone(), arguments);
    }
    let names = COMMANDS.iter().flat_map(|spec| spec.names.iter().copied());
    let names = names.chain(plugins.iter().map(|command| command.name.as_str()));
    let nearest = names
        .map(|known| (strsim::damerau_levenshtein(&lower, known), known))
        .min()
        .filter(|(distance, known)| *distance <= (known.len() / 3).max(1) || known.starts_with(&lower))
        .map(|(_, known)| known.to_owned());
    Parsed::Unknown { name: one_line(name), nearest }
}

/// Whether a line is a command rather than something to say: a slash and then a word, not a path.
#[must_use]
pub fn is_command(line: &str) -> bool {
    let Some(rest) = line.strip_prefix('/') else { return false };
    let word = rest.split_whitespace().next().unwrap_or_default();
    !line.contains('\n') && !word.contains('/') && rest.starts_with(|c: char| c.is_alphanumeric() || c == '?')
}

/// A row of the completion or the palette.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suggestion {
    /// What is typed for it, without the slash.
    pub name: String,
    /// What may follow.
    pub arguments: String,
    /// One line.
    pub about: String,
    /// Its key.
    pub key: &'static str,
}

/// The commands that fit `query`, best first.
#[must_use]
pub fn suggestions(query: &str, plugins: &[PluginCommand], mode: KeyMode) -> Vec<Suggestion> {
    let mut rows: Vec<(u32, Suggestion)> = Vec::new();
    for spec in COMMANDS {
        let score = spec
            .names
            .iter()
            .filter_map(|name| fuzzy_score(query, name).map(|score| score + prefix_bonus(query, name)))
            .chain(says(spec.about, query).then_some(1))
            .max();
        if let Some(score) = score {
            let fits = |name: &&&str| name.starts_with(query) && !query.is_empty();
            let name = spec.names.iter().find(fits).copied().unwrap_or_else(|| spec.name());
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
                about: one_line(&command.about),
                key: "",
            };
            rows.push((score + prefix_bonus(query, &command.name), suggestion));
        }
    }
    rows.sort_by(|(one, _), (other, _)| other.cmp(one));
    rows.into_iter().map(|(_, suggestion)| suggestion).collect()
}

/// Whether a word of the description begins with what was typed, which must say something.
fn says(about: &str, query: &str) -> bool {
    query.chars().count() > 2 && about.split(' ').any(|word| word.to_lowercase().starts_with(query))
}

fn prefix_bonus(query: &str, name: &str) -> u32 {
    if !query.is_empty() && name.starts_with(query) { 1_000 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_found_by_each_of_its_names_and_no_name_is_taken_twice() {
        let mut names: Vec<&str> = COMMANDS.iter().flat_map(|spec| spec.names.iter().copied()).collect();
        for name in &names {
            assert!(matches!(parse(&format!("/{name} x"), &[]), Parsed::BuiltIn(_, rest) if rest == "x"));
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn a_misspelt_command_suggests_the_nearest() {
        let nearest = |line: &str| match parse(line, &[]) {
            Parsed::Unknown { nearest, .. } => nearest,
            other => panic!("{other:?}"),
        };
        assert_eq!(nearest("/serch"), Some("search".into()));
        assert_eq!(nearest("/branchs"), Some("branches".into()));
        assert_eq!(nearest("/zzzzzz"), None);
    }

    #[test]
    fn paths_are_said_and_not_run() {
        assert!(is_command("/help"));
        assert!(is_command("/rename New name"));
        assert!(!is_command("/etc/passwd is missing"));
        assert!(!is_command("/ alone"));
        assert!(!is_command("say /help"));
        assert!(!is_command("/help\nmore"));
    }

    #[test]
    fn completion_puts_beginnings_first() {
        let names: Vec<String> =
            suggestions("re", &[], KeyMode::Standard).into_iter().map(|row| row.name).collect();
        assert!(names[..5].iter().all(|name| name.starts_with("re")), "{names:?}");
        let plugin = PluginCommand { name: "standup".into(), about: "today".into() };
        assert_eq!(suggestions("standup", &[plugin], KeyMode::Standard)[0].name, "standup");
    }
}
