//! Agents that are programs of their own: the known ones, those of the configuration, and how they are started.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hfs_acp::{AcpAgent, Attachments, Launch, PermissionPolicy, ToolServer};
use hfs_core::{
    Attachment, BranchId, ContentHash, ErrorKind, Message, MessageRange, NotPersisted, Role, Session,
    SessionId, Store, error_chain,
};
use hfs_exchange::Format;
use hfs_tui::AgentState;

use super::agent_sessions::{AgentSessionList, StoredSessions};
use crate::config::{AgentEntry, BUILT_IN, Key, Programs, ToolServerEntry, TranscriptFormat, ValueOrigin};
use crate::context::Context;
use crate::environment::Environment;
use crate::output::error::CliError;
use crate::output::sanitize;

/// The argument with which hfs starts itself as the supervisor of an agent.
pub const SUPERVISE: &str = "__supervise-agent";

/// An agent that hfs knows how to start and to get.
struct Preset {
    name: &'static str,
    title: &'static str,
    /// The program of the tool itself, if the agent is an adapter for it.
    tool: Option<&'static str>,
    command: &'static str,
    arguments: &'static [&'static str],
    /// Variables with its settings and keys.
    variables: &'static [&'static str],
    /// The format of its transcripts, if hfs reads them.
    format: Option<Format>,
    /// The format of the transcripts that hfs writes for it.
    transcript: TranscriptFormat,
    /// The mode in which it asks before it acts, if its own settings might choose another one.
    mode: Option<&'static str>,
    /// A variable with the value for which it asks before it acts, whatever its own settings and those of a project say.
    asking: Option<(&'static str, &'static str)>,
    /// How to install it. A command for npm names the versions that are compatible with the tested one.
    install: &'static str,
    /// The version with which `cargo xtask agents` passes.
    tested: Option<&'static str>,
    /// How to log in to it.
    login: &'static str,
}

/// Keys of providers that agents for several of them read.
const PROVIDER_KEYS: &[&str] = &[
    "ANTHROPIC_API_KEY",
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
    "GEMINI_API_KEY",
    "GOOGLE_API_KEY",
    "GROQ_API_KEY",
    "MISTRAL_API_KEY",
    "OPENROUTER_API_KEY",
    "XAI_API_KEY",
    "DEEPSEEK_API_KEY",
    "OLLAMA_HOST",
];

const PRESETS: [Preset; 7] = [
    Preset {
        name: "claude",
        title: "Claude Code",
        tool: Some("claude"),
        command: "claude-agent-acp",
        arguments: &[],
        variables: &[
            "ANTHROPIC_API_KEY",
            "ANTHROPIC_AUTH_TOKEN",
            "ANTHROPIC_BASE_URL",
            "ANTHROPIC_MODEL",
            "CLAUDE_CODE_OAUTH_TOKEN",
            "CLAUDE_CODE_USE_BEDROCK",
            "CLAUDE_CODE_USE_VERTEX",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC",
            "CLAUDE_CODE_EXECUTABLE",
            "CLAUDE_CONFIG_DIR",
            "AWS_PROFILE",
            "AWS_REGION",
            "CLOUD_ML_REGION",
            "ANTHROPIC_VERTEX_PROJECT_ID",
            "IS_SANDBOX",
        ],
        format: Some(Format::ClaudeCode),
        transcript: TranscriptFormat::ClaudeCode,
        mode: Some("default"),
        asking: None,
        install: "npm install -g @agentclientprotocol/claude-agent-acp@0.101",
        tested: Some("0.101.0"),
        login: "run `claude` and log in with /login, or set ANTHROPIC_API_KEY",
    },
    Preset {
        name: "codex",
        title: "Codex",
        tool: Some("codex"),
        command: "codex-acp",
        arguments: &[],
        variables: &["OPENAI_API_KEY", "OPENAI_BASE_URL", "CODEX_API_KEY", "CODEX_HOME"],
        format: Some(Format::Codex),
        transcript: TranscriptFormat::Codex,
        mode: Some("read-only"),
        asking: None,
        install: "npm install -g @agentclientprotocol/codex-acp@2",
        tested: Some("2.6.0"),
        login: "run `codex login`, or set OPENAI_API_KEY",
    },
    Preset {
        name: "opencode",
        title: "opencode",
        tool: None,
        command: "opencode",
        arguments: &["acp"],
        variables: PROVIDER_KEYS,
        format: Some(Format::OpenCode),
        transcript: TranscriptFormat::Opencode,
        mode: None,
        asking: Some(("OPENCODE_PERMISSION", r#"{"edit":"ask","bash":"ask","webfetch":"ask"}"#)),
        install: "npm install -g opencode-ai@1",
        tested: Some("1.18.33"),
        login: "run `opencode auth login`",
    },
    Preset {
        name: "gemini",
        title: "Gemini CLI",
        tool: None,
        command: "gemini",
        arguments: &["--acp"],
        variables: &[
            "GEMINI_API_KEY",
            "GEMINI_MODEL",
            "GOOGLE_API_KEY",
            "GOOGLE_CLOUD_PROJECT",
            "GOOGLE_CLOUD_LOCATION",
            "GOOGLE_GENAI_USE_VERTEXAI",
            "GOOGLE_APPLICATION_CREDENTIALS",
        ],
        format: Some(Format::Gemini),
        transcript: TranscriptFormat::None,
        mode: None,
        asking: None,
        install: "npm install -g @google/gemini-cli",
        tested: None,
        login: "run `gemini` and log in, or set GEMINI_API_KEY",
    },
    Preset {
        name: "qwen",
        title: "Qwen Code",
        tool: None,
        command: "qwen",
        arguments: &["--acp"],
        variables: &["OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL", "DASHSCOPE_API_KEY"],
        format: Some(Format::Qwen),
        transcript: TranscriptFormat::None,
        mode: None,
        asking: None,
        install: "npm install -g @qwen-code/qwen-code",
        tested: None,
        login: "run `qwen` and log in with /auth, or set OPENAI_API_KEY and OPENAI_BASE_URL",
    },
    Preset {
        name: "goose",
        title: "goose",
        tool: None,
        command: "goose",
        arguments: &["acp"],
        variables: &[
            "GOOSE_PROVIDER",
            "GOOSE_MODEL",
            "ANTHROPIC_API_KEY",
            "OPENAI_API_KEY",
            "GOOGLE_API_KEY",
            "OPENROUTER_API_KEY",
            "OLLAMA_HOST",
        ],
        format: Some(Format::Goose),
        transcript: TranscriptFormat::None,
        mode: None,
        asking: None,
        install: "https://block.github.io/goose/docs/getting-started/installation",
        tested: None,
        login: "run `goose configure`",
    },
    Preset {
        name: "pi",
        title: "pi",
        tool: Some("pi"),
        command: "pi-acp",
        arguments: &[],
        variables: PROVIDER_KEYS,
        format: Some(Format::Pi),
        transcript: TranscriptFormat::None,
        mode: None,
        asking: None,
        install: "npm install -g @mariozechner/pi-coding-agent pi-acp",
        tested: None,
        login: "run `pi` and log in with /login, or set the key of a provider",
    },
];

/// An agent that is a program of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentProgram {
    pub name: String,
    /// How people call it.
    pub title: String,
    /// The program of the tool itself, if the agent is an adapter for it.
    tool: Option<&'static str>,
    pub command: String,
    pub arguments: Vec<String>,
    /// Names of the variables that it gets beside those that every agent gets.
    pub variables: Vec<String>,
    pub transcript: TranscriptFormat,
    /// The mode in which its sessions begin; `None` for its own default.
    pub mode: Option<String>,
    /// A variable that it gets with this value, unless it is one of `variables` and set.
    asking: Option<(&'static str, &'static str)>,
    pub install: Option<&'static str>,
    /// The version that hfs was tested with, if it was tested.
    pub tested: Option<&'static str>,
    pub login: Option<&'static str>,
}

impl AgentProgram {
    fn of_preset(preset: &Preset) -> Self {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Self {
            name: preset.name.to_owned(),
            title: preset.title.to_owned(),
            tool: preset.tool,
            command: preset.command.to_owned(),
            arguments: owned(preset.arguments),
            variables: owned(preset.variables),
            transcript: preset.transcript,
            mode: preset.mode.map(str::to_owned),
            asking: preset.asking,
            install: Some(preset.install),
            tested: preset.tested,
            login: Some(preset.login),
        }
    }

    /// An agent that only the configuration knows.
    fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            title: name.to_owned(),
            tool: None,
            command: name.to_owned(),
            arguments: Vec::new(),
            variables: Vec::new(),
            transcript: TranscriptFormat::None,
            mode: None,
            asking: None,
            install: None,
            tested: None,
            login: None,
        }
    }

    /// Applies what the configuration says. Another command has arguments of its own.
    fn with(mut self, entry: &AgentEntry) -> Self {
        if let Some(command) = &entry.command {
            self.command.clone_from(command);
            self.arguments.clear();
            self.install = None;
            self.tool = None;
        }
        if let Some(arguments) = &entry.arguments {
            self.arguments.clone_from(arguments);
        }
        self.variables.extend(entry.variables.iter().cloned());
        self.transcript = entry.transcript.unwrap_or(self.transcript);
        self.mode = entry.mode.clone().or(self.mode);
        self
    }

    /// The variables that it gets.
    fn environment(&self, environment: &Environment) -> Vec<(String, String)> {
        let value = |name: &str| environment.get(name).map(str::to_owned);
        let mut passed = hfs_acp::environment(self.variables.iter().map(String::as_str), value);
        if let Some((name, value)) = self.asking
            && !passed.iter().any(|(known, _)| known == name)
        {
            passed.push((name.to_owned(), value.to_owned()));
        }
        passed
    }

    /// The command line, for people.
    pub fn command_line(&self) -> String {
        let words = std::iter::once(&self.command).chain(&self.arguments);
        words.map(String::as_str).collect::<Vec<_>>().join(" ")
    }

    /// The path of the program; `None` if it is not installed.
    pub fn find(&self, environment: &Environment) -> Option<PathBuf> {
        find_program(&self.command, environment)
    }

    /// The command that installs the agent, if it is an adapter from npm.
    pub fn adapter_command(&self) -> Option<&'static str> {
        self.install.filter(|command| self.tool.is_some() && command.starts_with("npm "))
    }

    /// Whether the agent can answer, as far as its files say.
    pub fn state(&self, environment: &Environment) -> AgentState {
        if self.find(environment).is_some() {
            return AgentState::Ready;
        }
        let has_tool = || self.tool.is_some_and(|tool| find_tool(tool, environment));
        match self.adapter_command().filter(|_| has_tool()) {
            Some(command) => AgentState::NeedsAdapter { command: command.to_owned() },
            None => AgentState::NotInstalled { hint: self.install.map(str::to_owned) },
        }
    }
}

/// All agents that are programs, by name: the known ones and those of the configuration.
pub fn all(programs: &Programs) -> BTreeMap<String, AgentProgram> {
    let presets = PRESETS.iter().map(|preset| (preset.name.to_owned(), AgentProgram::of_preset(preset)));
    let mut all: BTreeMap<String, AgentProgram> = presets.collect();
    for (name, entry) in &programs.agents {
        let known = all.remove(name).unwrap_or_else(|| AgentProgram::named(name));
        all.insert(name.clone(), known.with(entry));
    }
    all
}

/// The agents that are installed programs, by name.
pub fn installed(programs: &Programs, environment: &Environment) -> impl Iterator<Item = AgentProgram> {
    all(programs).into_values().filter(move |program| program.find(environment).is_some())
}

/// The names of all agents: those of hfs, then programs.
pub fn agent_names(programs: &Programs) -> Vec<String> {
    BUILT_IN.into_iter().map(str::to_owned).chain(all(programs).into_keys()).collect()
}

/// The agent of this name.
///
/// # Errors
/// `NotFound` if neither hfs nor the configuration knows it.
pub fn named(name: &str, programs: &Programs) -> Result<AgentProgram, CliError> {
    let mut all = all(programs);
    all.remove(name).ok_or_else(|| {
        let known: Vec<&str> = all.keys().map(String::as_str).collect();
        CliError::with_hint(
            ErrorKind::NotFound,
            format!("there is no agent {:?}", sanitize::line(name)),
            format!(
                "hfs knows assistant, triads, recall, {}; others are added under `agents` in the file of `hfs config path`",
                known.join(", ")
            ),
        )
    })
}

/// The program that answered last in a session, in hfs or before the session was imported, if it can continue the session and the
/// user did not name another agent for this run.
///
/// # Errors
/// If the session cannot be read.
pub fn of_session(session: SessionId, context: &Context) -> Result<Option<String>, CliError> {
    if is_agent_named(context) {
        return Ok(None);
    }
    let store = context.store()?.as_ref();
    let reply = last_reply_of(store, &store.get_session(session)?.session)?;
    Ok(reply.and_then(|reply| of_reply(&reply, context)))
}

/// The newest reply on the current branch of a session. Without one, such as after a rewind to the first message, that of the
/// branch that it was forked from, so that the same agent continues.
///
/// # Errors
/// If a branch cannot be read.
pub fn last_reply_of(store: &dyn Store, session: &Session) -> Result<Option<Message>, CliError> {
    let mut branch = Some(session.current_branch);
    while let Some(id) = branch {
        if let Some(reply) = last_reply(store, id)? {
            return Ok(Some(reply));
        }
        branch = store.get_branch(id)?.parent;
    }
    Ok(None)
}

/// Whether an option or a variable of this run names an agent or a model.
pub fn is_agent_named(context: &Context) -> bool {
    [Key::Agent, Key::Triads, Key::Model].into_iter().any(|key| {
        let origin = context.config.get(key).map(|setting| &setting.origin);
        matches!(origin, Some(ValueOrigin::CommandLine(_) | ValueOrigin::Variable(_)))
    })
}

/// The newest reply on a branch, among its last messages.
///
/// # Errors
/// If the branch cannot be read.
fn last_reply(store: &dyn Store, branch: BranchId) -> Result<Option<Message>, CliError> {
    /// Messages that are searched.
    const MESSAGES: u32 = 50;
    let messages = store.read_messages(branch, MessageRange::Newest(MESSAGES))?;
    Ok(messages.into_iter().rev().find(|message| message.content.role == Role::Assistant))
}

/// The program that wrote a reply, in hfs or before the reply was imported, if it is installed.
pub fn of_reply(reply: &Message, context: &Context) -> Option<String> {
    let name = match (&reply.content.source, &reply.content.agent) {
        (Some(source), _) => of_format(&source.format),
        (None, agent) => agent.as_deref(),
    };
    let program = all(&context.settings.programs).remove(name?)?;
    program.find(&context.environment).is_some().then_some(program.name)
}

/// The name of the agent whose transcripts have this format.
fn of_format(format: &str) -> Option<&'static str> {
    let format = format.parse::<Format>().ok()?;
    PRESETS.iter().find(|preset| preset.format == Some(format)).map(|preset| preset.name)
}

/// Whether a tool is installed. Claude Code's own installer uses a folder that only an alias of the shell refers to.
fn find_tool(tool: &str, environment: &Environment) -> bool {
    let in_home = |folder: &str| {
        let home = environment.user_home.as_ref();
        home.is_some_and(|home| is_program(&home.join(folder).join(tool)))
    };
    find_program(tool, environment).is_some()
        || in_home(".local/bin")
        || (tool == "claude" && in_home(".claude/local"))
}

/// Looks up a program as a shell does: a name in `PATH`, anything with a slash as a path.
pub fn find_program(command: &str, environment: &Environment) -> Option<PathBuf> {
    if command.contains(std::path::MAIN_SEPARATOR) || command.starts_with('~') {
        let path = environment.resolve(Path::new(command));
        return is_program(&path).then_some(path);
    }
    let folders = environment.get("PATH")?;
    let folders = std::env::split_paths(folders).filter(|folder| folder.is_absolute());
    folders.map(|folder| folder.join(command)).find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// How to start an agent in the working directory.
///
/// # Errors
/// `NotFound` if it is not installed.
pub fn launch(program: &AgentProgram, context: &Context) -> Result<Launch, CliError> {
    let environment = &context.environment;
    let path = program.find(environment).ok_or_else(|| {
        let hint = match program.install {
            Some(install) => format!("install it: {install}"),
            None => format!("correct agents.{}.command in the file of `hfs config path`", program.name),
        };
        CliError::with_hint(
            ErrorKind::NotFound,
            format!(
                "{} is not installed: there is no program {}",
                program.title,
                sanitize::line(&program.command)
            ),
            hint,
        )
    })?;
    let own = std::env::current_exe().map_err(|error| CliError::io("find the program of hfs", error))?;
    let directory = environment.working_directory.canonicalize();
    Ok(Launch {
        agent: program.name.clone(),
        program: path,
        arguments: program.arguments.clone(),
        environment: program.environment(environment),
        directory: directory.unwrap_or_else(|_| environment.working_directory.clone()),
        log: log_path(&program.name, context),
        supervisor: vec![own.into(), SUPERVISE.into()],
    })
}

/// The file with what an agent writes to its standard error.
pub fn log_path(name: &str, context: &Context) -> PathBuf {
    context.home.logs().join(format!("agent-{name}.log"))
}

/// What the sessions of an agent belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionKeeping {
    /// Each belongs to a branch.
    OfBranches,
    /// Each is one question of triads, and no conversation.
    OfTriads,
}

/// Constructs an agent. It is started for its first message.
///
/// # Errors
/// `NotFound` if it is not installed, `Denied` if a server for it needs a variable that is not set.
pub fn build(
    program: &AgentProgram,
    reason: String,
    policy: Arc<dyn PermissionPolicy>,
    keeping: SessionKeeping,
    context: &Context,
) -> Result<AcpAgent, CliError> {
    let servers = &context.settings.programs.tool_servers;
    let servers = servers.iter().map(|(name, entry)| tool_server(name, entry, &context.environment));
    let attachments = StoredAttachments { store: Arc::clone(context.store()?) };
    let servers = servers.collect::<Result<_, _>>()?;
    let launch = launch(program, context)?;
    let sessions = StoredSessions {
        keeping,
        agent: program.name.clone(),
        transcript: program.transcript,
        list: AgentSessionList::new(&context.home),
        store: Arc::clone(context.store()?),
        environment: context.environment.clone(),
        directory: launch.directory.clone(),
        program: launch.program.clone(),
        variables: launch.environment.clone(),
        exports: context.home.exports(),
    };
    let agent = AcpAgent::new(launch, servers, program.mode.clone(), policy, Arc::new(attachments));
    Ok(agent.with_sessions(Arc::new(sessions)).with_selection_reason(reason))
}

fn tool_server(
    name: &str,
    entry: &ToolServerEntry,
    environment: &Environment,
) -> Result<ToolServer, CliError> {
    let variables = entry.environment.iter();
    let variables = variables.map(|(variable, value)| {
        let what = format!("the server {}", sanitize::line(name));
        let key = format!("mcp_servers.{name}.env");
        Ok((variable.clone(), super::agent::with_variables(&what, &key, value, environment)?))
    });
    // Agents start it in their own way; most need the whole path.
    let command = find_program(&entry.command, environment).unwrap_or_else(|| PathBuf::from(&entry.command));
    Ok(ToolServer {
        name: name.to_owned(),
        command,
        arguments: entry.arguments.clone(),
        environment: variables.collect::<Result<_, CliError>>()?,
    })
}

/// The attachments of the store.
pub struct StoredAttachments {
    pub store: Arc<dyn Store>,
}

impl Attachments for StoredAttachments {
    fn load(&self, hash: ContentHash) -> Option<Vec<u8>> {
        self.store.get_attachment(hash).ok()
    }

    fn store(&self, attachment: &Attachment) -> Result<(), NotPersisted> {
        self.store.put_attachment(attachment).map_err(|error| NotPersisted { reason: error_chain(&error) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opencode_asks_before_it_acts_unless_the_user_passes_other_permissions() {
        const NAME: &str = "OPENCODE_PERMISSION";
        let permission = |program: &AgentProgram| {
            let environment = Environment::with_variables([(NAME, "mine")]);
            program.environment(&environment).into_iter().find(|(name, _)| name == NAME).unwrap().1
        };
        let preset = all(&Programs::default()).remove("opencode").unwrap();
        assert!(permission(&preset).contains(r#""bash":"ask""#));
        let own = AgentEntry { variables: vec![NAME.to_owned()], ..AgentEntry::default() };
        assert_eq!(permission(&preset.with(&own)), "mine");
    }

    #[test]
    fn the_configuration_changes_a_known_agent_and_adds_others() {
        let mut programs = Programs::default();
        let own = AgentEntry {
            command: Some("/opt/claude".into()),
            variables: vec!["TEAM_KEY".into()],
            ..AgentEntry::default()
        };
        programs.agents.insert("claude".into(), own);
        let mine = AgentEntry { arguments: Some(vec!["serve".into()]), ..AgentEntry::default() };
        programs.agents.insert("mine".into(), mine);
        let all = all(&programs);
        assert_eq!(all.len(), PRESETS.len() + 1);
        let claude = all.get("claude").unwrap();
        assert_eq!(claude.command_line(), "/opt/claude");
        assert!(claude.variables.contains(&"TEAM_KEY".to_owned()));
        assert!(claude.variables.contains(&"ANTHROPIC_API_KEY".to_owned()));
        assert_eq!(claude.transcript, TranscriptFormat::ClaudeCode);
        assert_eq!(all.get("mine").unwrap().command_line(), "mine serve");
        assert!(named("none", &programs).unwrap_err().hint().unwrap().contains("goose, mine, opencode"));
    }

    #[test]
    fn a_program_is_looked_up_in_absolute_folders_only() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("agent");
        std::fs::write(&program, "").unwrap();
        let path = format!(".:{}", folder.path().display());
        let environment = Environment::with_variables([("PATH", path.as_str())]);
        assert_eq!(find_program("agent", &environment), None);
        {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
            assert_eq!(find_program("agent", &environment), Some(program.clone()));
            assert_eq!(find_program(program.to_str().unwrap(), &environment), Some(program));
        }
    }

    #[test]
    fn a_tool_without_its_adapter_is_distinguished_from_one_that_is_missing() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let mut environment = Environment::with_variables([("PATH", folder.path().to_str().unwrap())]);
        environment.user_home = Some(folder.path().join("home"));
        let write = |path: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        };
        let programs = Programs::default();
        let state = |name: &str| named(name, &programs).unwrap().state(&environment);
        assert!(matches!(state("claude"), AgentState::NotInstalled { hint: Some(_) }));
        write("home/.claude/local/claude");
        let command = "npm install -g @agentclientprotocol/claude-agent-acp@0.101".to_owned();
        assert_eq!(state("claude"), AgentState::NeedsAdapter { command });
        write("claude-agent-acp");
        write("gemini");
        assert_eq!((state("claude"), state("gemini")), (AgentState::Ready, AgentState::Ready));
    }
}
