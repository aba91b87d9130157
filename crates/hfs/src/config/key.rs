//! All configuration keys: name, type, default, environment variable, and whether a project may set them.
//!
//! To add a setting, add a variant to `Key`, its row in `Key::spec`, and a field in `Settings`.

use clap::ValueEnum;
use hfs_core::EventPayload;

use super::ConfigError;
use super::secret::shown;

/// A configuration key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Key {
    OutputMode,
    KeybindingMode,
    Color,
    Theme,
    Mouse,
    ExtendedKeys,
    Animations,
    CheckpointRetention,
    CheckpointOn,
    TrashRetentionDays,
    DisabledPlugins,
    PluginsHookMs,
    PluginsCommandMs,
    StoreUrl,
    StoreDurability,
    Agent,
    Triads,
    Provider,
    Model,
    BaseUrl,
    Headers,
    WaitConnect,
    WaitFirstToken,
    WaitBetweenTokens,
    OllamaNumCtx,
    MaxTokens,
    Temperature,
    SystemPrompt,
    ContextTokens,
    ContextChars,
    Compaction,
    WatchExclude,
    WatchCatchUp,
}

/// The properties of a key.
#[derive(Debug)]
pub struct KeySpec {
    /// The name in files, with a dot for each level of nesting.
    pub name: &'static str,
    pub value_type: ValueType,
    /// The default, in the syntax of `config set`.
    pub default: Option<&'static str>,
    /// The environment variable that overrides the files.
    pub env_var: &'static str,
    pub project_policy: ProjectPolicy,
    /// One line for `config list`.
    pub about: &'static str,
}

/// The values that a key accepts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ValueType {
    Text,
    /// One of these words.
    Choice(&'static [&'static str]),
    Integer {
        min: u64,
        max: u64,
    },
    Float {
        min: f64,
        max: f64,
    },
    /// A list of strings.
    List,
    /// A mapping of header names to values, in which `$NAME` stands for an environment variable.
    Headers,
    /// A list of patterns for paths.
    Globs,
    /// A list of event types, or of patterns for them such as `phase.*`.
    Events,
    /// An agent of hfs, or the name of an agent that is a program of its own.
    Agent,
}

/// What a trusted project's configuration file may do to a key. A project decides how hfs looks and which agent replies,
/// never where API keys and data go, what is deleted, or which plugins do not run: one of them may be a guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProjectPolicy {
    /// The project's value replaces the user's.
    Replace,
    /// The project's value is ignored with a warning.
    Ignore,
}

impl Key {
    /// The properties of this key.
    pub const fn spec(self) -> &'static KeySpec {
        match self {
            Self::OutputMode => &KeySpec {
                name: "output_mode",
                value_type: ValueType::Choice(&["compact", "verbose"]),
                default: Some("compact"),
                env_var: "HFS_OUTPUT_MODE",
                project_policy: ProjectPolicy::Replace,
                about: "how much detail of a reply is shown",
            },
            Self::KeybindingMode => &KeySpec {
                name: "keybinding_mode",
                value_type: ValueType::Choice(&["standard", "vim", "emacs"]),
                default: Some("standard"),
                env_var: "HFS_KEYBINDING_MODE",
                project_policy: ProjectPolicy::Replace,
                about: "the keys for editing text",
            },
            Self::Color => &KeySpec {
                name: "color",
                value_type: ValueType::Choice(&["auto", "always", "never"]),
                default: Some("auto"),
                env_var: "HFS_COLOR",
                project_policy: ProjectPolicy::Replace,
                about: "when output is colored",
            },
            Self::Theme => &KeySpec {
                name: "theme",
                value_type: ValueType::Choice(&["auto", "dark", "light"]),
                default: Some("auto"),
                env_var: "HFS_THEME",
                project_policy: ProjectPolicy::Replace,
                about: "the terminal's background, for the app's colors; auto asks the terminal when the app starts",
            },
            Self::Mouse => &KeySpec {
                name: "mouse",
                value_type: ValueType::Choice(&["on", "off"]),
                default: Some("on"),
                env_var: "HFS_MOUSE",
                project_policy: ProjectPolicy::Replace,
                about: "on: the mouse scrolls and selects in the app; off: the terminal handles the mouse",
            },
            Self::ExtendedKeys => &KeySpec {
                name: "extended_keys",
                value_type: ValueType::Choice(&["on", "off"]),
                default: Some("on"),
                env_var: "HFS_EXTENDED_KEYS",
                project_policy: ProjectPolicy::Replace,
                about: "on: the app asks the terminal for unambiguous keys (kitty protocol); off: only plain keys",
            },
            Self::Animations => &KeySpec {
                name: "animations",
                value_type: ValueType::Choice(&["on", "off"]),
                default: Some("on"),
                env_var: "HFS_ANIMATIONS",
                project_policy: ProjectPolicy::Replace,
                about: "off: no spinner and no moving counters, for screen readers",
            },
            Self::CheckpointRetention => &KeySpec {
                name: "checkpoint_retention",
                value_type: ValueType::Integer { min: 1, max: 10_000 },
                default: Some("10"),
                env_var: "HFS_CHECKPOINT_RETENTION",
                project_policy: ProjectPolicy::Ignore,
                about: "number of automatic checkpoints kept per session",
            },
            Self::CheckpointOn => &KeySpec {
                name: "checkpoint_on",
                value_type: ValueType::Events,
                default: Some("[run.ended, negotiation.resolved, phase.ended]"),
                env_var: "HFS_CHECKPOINT_ON",
                project_policy: ProjectPolicy::Ignore,
                about: "the events that create a checkpoint; [] for manual checkpoints only",
            },
            Self::TrashRetentionDays => &KeySpec {
                name: "trash_retention_days",
                value_type: ValueType::Integer { min: 0, max: 36_500 },
                default: Some("30"),
                env_var: "HFS_TRASH_RETENTION_DAYS",
                project_policy: ProjectPolicy::Ignore,
                about: "days that a deleted session can be restored; 0 keeps it until it is purged",
            },
            Self::DisabledPlugins => &KeySpec {
                name: "disabled_plugins",
                value_type: ValueType::List,
                default: Some("[]"),
                env_var: "HFS_DISABLED_PLUGINS",
                project_policy: ProjectPolicy::Ignore,
                about: "plugins that are not loaded",
            },
            Self::PluginsHookMs => &KeySpec {
                name: "plugins.hook_ms",
                value_type: ValueType::Integer { min: 1, max: 60_000 },
                default: Some("50"),
                env_var: "HFS_PLUGINS_HOOK_MS",
                project_policy: ProjectPolicy::Ignore,
                about: "time limit of a plugin's hook, in milliseconds",
            },
            Self::PluginsCommandMs => &KeySpec {
                name: "plugins.command_ms",
                value_type: ValueType::Integer { min: 1, max: 600_000 },
                default: Some("5000"),
                env_var: "HFS_PLUGINS_COMMAND_MS",
                project_policy: ProjectPolicy::Ignore,
                about: "time limit of a plugin's command, in milliseconds",
            },
            Self::StoreUrl => &KeySpec {
                name: "store.url",
                value_type: ValueType::Text,
                default: None,
                env_var: "HFS_STORE",
                project_policy: ProjectPolicy::Ignore,
                about: "the store, for example sqlite:/data/hfs.db or postgres://me@host/db; by default hfs.db in the home directory of hfs",
            },
            Self::StoreDurability => &KeySpec {
                name: "store.durability",
                value_type: ValueType::Choice(&["full", "fast"]),
                default: Some("full"),
                env_var: "HFS_STORE_DURABILITY",
                project_policy: ProjectPolicy::Ignore,
                about: "full: saved data survives a power failure; fast: the newest data may be lost",
            },
            Self::Agent => &KeySpec {
                name: "agent",
                value_type: ValueType::Agent,
                default: None,
                env_var: "HFS_AGENT",
                project_policy: ProjectPolicy::Replace,
                about: "the agent: assistant (a model), triads, recall (a search), or a program such as claude; by default what is available",
            },
            Self::Triads => &KeySpec {
                name: "triads",
                value_type: ValueType::Text,
                default: Some("small"),
                env_var: "HFS_TRIADS",
                project_policy: ProjectPolicy::Replace,
                about: "the triads to use when the agent is triads: small, standard, mixed (of the installed agents), or a configuration file",
            },
            Self::Provider => &KeySpec {
                name: "provider",
                value_type: ValueType::Choice(&["anthropic", "openai", "gemini", "ollama"]),
                default: None,
                env_var: "HFS_PROVIDER",
                project_policy: ProjectPolicy::Ignore,
                about: "the model's provider",
            },
            Self::Model => &KeySpec {
                name: "model",
                value_type: ValueType::Text,
                default: None,
                env_var: "HFS_MODEL",
                project_policy: ProjectPolicy::Replace,
                about: "the model's name at its provider",
            },
            Self::BaseUrl => &KeySpec {
                name: "base_url",
                value_type: ValueType::Text,
                default: None,
                env_var: "HFS_BASE_URL",
                project_policy: ProjectPolicy::Ignore,
                about: "the address of an OpenAI-compatible server, or of the provider if it is not the default",
            },
            Self::Headers => &KeySpec {
                name: "headers",
                value_type: ValueType::Headers,
                default: None,
                env_var: "HFS_HEADERS",
                project_policy: ProjectPolicy::Ignore,
                about: "further headers for the configured provider; $NAME stands for an environment variable",
            },
            Self::WaitConnect => &KeySpec {
                name: "wait.connect_seconds",
                value_type: ValueType::Integer { min: 1, max: 86_400 },
                default: Some("10"),
                env_var: "HFS_WAIT_CONNECT_SECONDS",
                project_policy: ProjectPolicy::Replace,
                about: "how long to wait for a connection to the provider",
            },
            Self::WaitFirstToken => &KeySpec {
                name: "wait.first_token_seconds",
                value_type: ValueType::Integer { min: 1, max: 86_400 },
                default: Some("300"),
                env_var: "HFS_WAIT_FIRST_TOKEN_SECONDS",
                project_policy: ProjectPolicy::Replace,
                about: "how long to wait for a reply to begin; a local model may take minutes",
            },
            Self::WaitBetweenTokens => &KeySpec {
                name: "wait.between_tokens_seconds",
                value_type: ValueType::Integer { min: 1, max: 86_400 },
                default: Some("120"),
                env_var: "HFS_WAIT_BETWEEN_TOKENS_SECONDS",
                project_policy: ProjectPolicy::Replace,
                about: "how long to wait for the next part of a reply",
            },
            Self::OllamaNumCtx => &KeySpec {
                name: "ollama.num_ctx",
                value_type: ValueType::Integer { min: 256, max: 100_000_000 },
                default: None,
                env_var: "HFS_OLLAMA_NUM_CTX",
                project_policy: ProjectPolicy::Replace,
                about: "the size of Ollama's context in tokens; by default large enough for the conversation",
            },
            Self::MaxTokens => &KeySpec {
                name: "max_tokens",
                value_type: ValueType::Integer { min: 1, max: 10_000_000 },
                default: None,
                env_var: "HFS_MAX_TOKENS",
                project_policy: ProjectPolicy::Replace,
                about: "the maximum length of a reply, in tokens",
            },
            Self::Temperature => &KeySpec {
                name: "temperature",
                value_type: ValueType::Float { min: 0.0, max: 2.0 },
                default: None,
                env_var: "HFS_TEMPERATURE",
                project_policy: ProjectPolicy::Replace,
                about: "the model's sampling temperature",
            },
            Self::SystemPrompt => &KeySpec {
                name: "system_prompt",
                value_type: ValueType::Text,
                default: None,
                env_var: "HFS_SYSTEM_PROMPT",
                project_policy: ProjectPolicy::Replace,
                about: "instructions that are sent before every conversation",
            },
            Self::ContextTokens => &KeySpec {
                name: "context_tokens",
                value_type: ValueType::Integer { min: 1_000, max: 100_000_000 },
                default: None,
                env_var: "HFS_CONTEXT_TOKENS",
                project_policy: ProjectPolicy::Replace,
                about: "the size of the model's context in tokens; by default what its server says or what is known of it",
            },
            Self::ContextChars => &KeySpec {
                name: "context_chars",
                value_type: ValueType::Integer { min: 1_000, max: 100_000_000 },
                default: Some("400000"),
                env_var: "HFS_CONTEXT_CHARS",
                project_policy: ProjectPolicy::Replace,
                about: "how much of the end of a conversation is sent if the size of the context is not known, in characters",
            },
            Self::Compaction => &KeySpec {
                name: "compaction",
                value_type: ValueType::Choice(&["automatic", "manual"]),
                default: Some("automatic"),
                env_var: "HFS_COMPACTION",
                project_policy: ProjectPolicy::Replace,
                about: "automatic: a conversation that fills the model's context is summarized; manual: only on request",
            },
            Self::WatchExclude => &KeySpec {
                name: "watch.exclude",
                value_type: ValueType::Globs,
                default: Some("[]"),
                env_var: "HFS_WATCH_EXCLUDE",
                project_policy: ProjectPolicy::Ignore,
                about: "projects and paths of transcripts that are imported only if you name them, such as ~/private or client-*",
            },
            Self::WatchCatchUp => &KeySpec {
                name: "watch.catch_up_ms",
                value_type: ValueType::Integer { min: 0, max: 600_000 },
                default: Some("300"),
                env_var: "HFS_WATCH_CATCH_UP_MS",
                project_policy: ProjectPolicy::Ignore,
                about: "how long search, recall and the app import what other tools have written, if no watcher runs, in milliseconds; 0: never",
            },
        }
    }

    pub const fn name(self) -> &'static str {
        self.spec().name
    }

    /// All keys, in the order of `config list`.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::value_variants().iter().copied()
    }

    pub fn find(name: &str) -> Option<Self> {
        Self::all().find(|key| key.name() == name)
    }

    /// Like [`find`](Self::find), but an error for an unknown name.
    ///
    /// # Errors
    /// `UnknownKey`, which suggests the most similar name.
    pub fn parse(name: &str) -> Result<Self, ConfigError> {
        Self::find(name).ok_or_else(|| ConfigError::UnknownKey {
            key: shown(name).into_owned(),
            most_similar: Self::most_similar(name).map(Self::name),
        })
    }

    /// Whether `name` is a mapping that contains keys, such as `store`.
    pub fn is_group(name: &str) -> bool {
        Self::all().any(|key| key.name().strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
    }

    /// The key whose name is most similar to `name`; `None` if no name is similar enough to be a typo.
    pub fn most_similar(name: &str) -> Option<Self> {
        /// Jaro-Winkler similarity, between 0 and 1.
        const MIN_SIMILARITY: f64 = 0.8;
        let similarity = |key: &Self| {
            let last = key.name().rsplit('.').next().unwrap_or(key.name());
            strsim::jaro_winkler(name, key.name()).max(strsim::jaro_winkler(name, last))
        };
        let best = Self::all().max_by(|a, b| similarity(a).total_cmp(&similarity(b)));
        best.filter(|key| similarity(key) > MIN_SIMILARITY)
    }
}

impl ValueType {
    /// The accepted values, for error messages.
    pub fn expected(&self) -> String {
        match self {
            Self::Text => "text".into(),
            Self::Choice(words) => match words {
                [rest @ .., last] if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
                _ => words.join(""),
            },
            Self::Integer { min, max } => format!("a whole number from {min} to {max}"),
            Self::Float { min, max } => format!("a number from {min} to {max}"),
            Self::List => "a list of strings such as [one, two]".into(),
            Self::Globs => "a list of patterns such as [~/private, client-*]".into(),
            Self::Headers => "headers such as {X-Team: blue, Authorization: Bearer $TOKEN}".into(),
            Self::Agent => {
                "assistant, triads, recall or the name of an agent: `hfs agents` lists them".into()
            }
            Self::Events => {
                let kinds = EventPayload::KINDS.join(", ");
                format!("a list of events such as [run.ended, phase.*], of {kinds}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::value::Value;

    #[test]
    fn every_default_is_a_valid_value_of_its_key() {
        for spec in Key::all().map(Key::spec) {
            if let Some(default) = spec.default {
                Value::from_text(&spec.value_type, default).unwrap();
            }
        }
    }

    #[test]
    fn a_misspelt_name_finds_its_key_and_an_unrelated_one_finds_none() {
        assert_eq!(Key::most_similar("outputmode"), Some(Key::OutputMode));
        assert_eq!(Key::most_similar("store.durabilty"), Some(Key::StoreDurability));
        assert_eq!(Key::most_similar("url"), Some(Key::StoreUrl));
        assert_eq!(Key::most_similar("zzz"), None);
    }
}
