//! The sections `agents` and `mcp_servers` of the user's configuration: programs that hfs starts or lets agents start.
//!
//! They are not settings with a key: each entry has a name of the user's choice. Only the user's own file may have them,
//! because they name commands.

use std::collections::BTreeMap;

use super::error::{ConfigError, ValueOrigin};
use super::file::refuse_secrets_below;
use super::value::{RawValue, SpannedValue};

/// What the configuration says about an agent that is a program of its own. Missing fields are those of the preset with
/// this name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentEntry {
    pub command: Option<String>,
    pub arguments: Option<Vec<String>>,
    /// Names of variables that are passed on.
    pub variables: Vec<String>,
    pub transcript: Option<TranscriptFormat>,
    /// The agent's own mode in which its sessions begin.
    pub mode: Option<String>,
}

/// A server of the Model Context Protocol that agents start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ToolServerEntry {
    pub command: String,
    pub arguments: Vec<String>,
    /// Variables of its environment. In a value, `$NAME` stands for a variable of hfs's own environment.
    pub environment: BTreeMap<String, String>,
}

/// The format of an agent's own transcripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TranscriptFormat {
    ClaudeCode,
    Codex,
    Opencode,
    None,
}

impl TranscriptFormat {
    pub const ALL: [Self; 4] = [Self::ClaudeCode, Self::Codex, Self::Opencode, Self::None];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClaudeCode => "claude-code",
            Self::Codex => "codex",
            Self::Opencode => "opencode",
            Self::None => "none",
        }
    }
}

/// The programs of a configuration, by their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Programs {
    pub agents: BTreeMap<String, AgentEntry>,
    pub tool_servers: BTreeMap<String, ToolServerEntry>,
}

/// A section with programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgramSection {
    Agents,
    ToolServers,
}

impl ProgramSection {
    /// The section of this name.
    pub fn find(name: &str) -> Option<Self> {
        [Self::Agents, Self::ToolServers].into_iter().find(|section| section.name() == name)
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Agents => "agents",
            Self::ToolServers => "mcp_servers",
        }
    }
}

/// Whether a text can be the name of an agent: it is part of a file's name and is typed on the command line.
pub fn is_agent_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    (1..=40).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(is_plain)
}

/// The names of the agents that are part of hfs.
pub const BUILT_IN: [&str; 3] = ["assistant", "triads", "recall"];

impl Programs {
    /// Adds the entries of a section of a file.
    ///
    /// # Errors
    /// If an entry is not valid, or has a secret.
    pub fn add(
        &mut self,
        section: ProgramSection,
        raw: &RawValue,
        origin: &ValueOrigin,
    ) -> Result<(), ConfigError> {
        for (name, value, origin) in entries(section.name(), raw, origin)? {
            let full_name = format!("{}.{name}", section.name());
            refuse_secrets_below(&full_name, value, &origin)?;
            let fields = entries(&full_name, value, &origin)?;
            match section {
                ProgramSection::Agents => {
                    if !is_agent_name(name) || BUILT_IN.contains(&name) {
                        let expected = "a name of letters, digits, - and _ that no agent of hfs has";
                        return Err(invalid(&full_name, format!("{name:?}"), expected, &origin));
                    }
                    let entry = agent(&full_name, &fields)?;
                    self.agents.insert(name.to_owned(), entry);
                }
                ProgramSection::ToolServers => {
                    let entry = tool_server(&full_name, &fields, &origin)?;
                    self.tool_servers.insert(name.to_owned(), entry);
                }
            }
        }
        Ok(())
    }
}

fn invalid(key: &str, found: String, expected: &str, origin: &ValueOrigin) -> ConfigError {
    ConfigError::InvalidValue {
        origin: origin.clone(),
        key: key.to_owned(),
        found,
        expected: expected.to_owned(),
    }
}

/// The entries of a mapping, each with its place.
fn entries<'a>(
    key: &str,
    raw: &'a RawValue,
    origin: &ValueOrigin,
) -> Result<Vec<(&'a str, &'a RawValue, ValueOrigin)>, ConfigError> {
    match raw {
        RawValue::Null => Ok(Vec::new()),
        RawValue::Map(fields) => Ok(fields
            .iter()
            .map(|(name, value)| {
                let origin = match origin {
                    ValueOrigin::File { path, .. } => {
                        ValueOrigin::File { path: path.clone(), line: name.referenced.line() }
                    }
                    other => other.clone(),
                };
                (name.value.as_str(), &value.value, origin)
            })
            .collect()),
        other => Err(invalid(key, other.to_string(), "a mapping of names", origin)),
    }
}

type Fields<'a> = [(&'a str, &'a RawValue, ValueOrigin)];

fn agent(key: &str, fields: &Fields<'_>) -> Result<AgentEntry, ConfigError> {
    let mut entry = AgentEntry::default();
    for (name, value, origin) in fields {
        let full_name = format!("{key}.{name}");
        match *name {
            "command" => entry.command = Some(text(&full_name, value, origin)?),
            "args" => entry.arguments = Some(texts(&full_name, value, origin)?),
            "env" => entry.variables = texts(&full_name, value, origin)?,
            "mode" => entry.mode = Some(text(&full_name, value, origin)?),
            "transcript" => {
                let found = text(&full_name, value, origin)?;
                let format = TranscriptFormat::ALL.into_iter().find(|format| format.as_str() == found);
                let expected = "claude-code, codex, opencode or none";
                entry.transcript =
                    Some(format.ok_or_else(|| invalid(&full_name, format!("{found:?}"), expected, origin))?);
            }
            _ => {
                let expected = "command, args, env, mode or transcript";
                return Err(invalid(key, format!("a group with {name:?}"), expected, origin));
            }
        }
    }
    Ok(entry)
}

fn tool_server(key: &str, fields: &Fields<'_>, origin: &ValueOrigin) -> Result<ToolServerEntry, ConfigError> {
    let mut entry = ToolServerEntry::default();
    for (name, value, origin) in fields {
        let full_name = format!("{key}.{name}");
        match *name {
            "command" => entry.command = text(&full_name, value, origin)?,
            "args" => entry.arguments = texts(&full_name, value, origin)?,
            "env" => {
                for (variable, value, origin) in entries(&full_name, value, origin)? {
                    let value = text(&format!("{full_name}.{variable}"), value, &origin)?;
                    entry.environment.insert(variable.to_owned(), value);
                }
            }
            _ => {
                return Err(invalid(key, format!("a group with {name:?}"), "command, args or env", origin));
            }
        }
    }
    if entry.command.is_empty() {
        return Err(invalid(key, "a server without a command".into(), "a command", origin));
    }
    Ok(entry)
}

fn text(key: &str, raw: &RawValue, origin: &ValueOrigin) -> Result<String, ConfigError> {
    match raw {
        RawValue::Text(text) => Ok(text.clone()),
        RawValue::Integer(number) => Ok(number.to_string()),
        other => Err(invalid(key, other.to_string(), "text", origin)),
    }
}

fn texts(key: &str, raw: &RawValue, origin: &ValueOrigin) -> Result<Vec<String>, ConfigError> {
    match raw {
        RawValue::Null => Ok(Vec::new()),
        RawValue::List(items) => {
            items.iter().map(|item: &SpannedValue| text(key, &item.value, origin)).collect()
        }
        other => Err(invalid(key, other.to_string(), "a list of strings such as [one, two]", origin)),
    }
}

impl ProgramSection {
    /// Why a project's section is ignored.
    pub fn project_warning(self) -> String {
        format!("{} is ignored: a project may not choose commands", self.name())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::file::parse;
    use super::*;

    fn programs(text: &str) -> Result<Programs, String> {
        parse(Path::new("config.yaml"), text).map(|layer| layer.programs).map_err(|error| error.to_string())
    }

    #[test]
    fn programs_are_read_with_all_their_fields() {
        let read = programs(
            "model: m\nagents:\n  mine: {command: /opt/agent, args: [acp, 3], env: [MY_API_KEY], mode: ask, transcript: codex}\n  claude:\n\
             mcp_servers:\n  docs: {command: docs, args: [--stdio], env: {TOKEN: $DOCS_TOKEN, LEVEL: 2}}\n",
        )
        .unwrap();
        let mine = AgentEntry {
            command: Some("/opt/agent".into()),
            arguments: Some(vec!["acp".into(), "3".into()]),
            variables: vec!["MY_API_KEY".into()],
            transcript: Some(TranscriptFormat::Codex),
            mode: Some("ask".into()),
        };
        assert_eq!(read.agents.get("mine"), Some(&mine));
        assert_eq!(read.agents.get("claude"), Some(&AgentEntry::default()));
        let docs = read.tool_servers.get("docs").unwrap();
        assert_eq!(docs.environment.get("TOKEN").map(String::as_str), Some("$DOCS_TOKEN"));
        assert_eq!(docs.environment.get("LEVEL").map(String::as_str), Some("2"));
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        for (text, words) in [
            ("agents: [claude]", "agents is a list"),
            ("agents:\n  recall: {command: x}", "agents.recall is \"recall\""),
            ("agents:\n  'a/b': {command: x}", "expected a name of letters"),
            ("agents:\n  mine: {comand: x}", "config.yaml:2: agents.mine is a group with \"comand\""),
            ("agents:\n  mine: {args: x}", "agents.mine.args is \"x\"; expected a list"),
            ("agents:\n  mine: {transcript: pdf}", "expected claude-code, codex, opencode or none"),
            ("mcp_servers:\n  docs: {args: []}", "a server without a command"),
        ] {
            let error = programs(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn secrets_are_refused_in_programs_too() {
        for text in [
            "mcp_servers:\n  docs: {command: x, env: {API_KEY: plainvalue}}",
            "agents:\n  mine: {command: x, args: [--key, sk-abcdefghijklmnop]}",
        ] {
            let error = programs(text).unwrap_err();
            assert!(error.contains("is refused"), "{error}");
        }
    }
}
