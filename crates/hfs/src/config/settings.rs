//! The configuration as typed settings.

use std::time::Duration;

use clap::ValueEnum;
use hfs_agents::{Provider, Timeouts};
use hfs_core::Pattern;
use hfs_engine::CompactionMode;
use hfs_store::Durability;
use hfs_tui::KeyMode;

use super::{Config, Key, Programs, Value, ValueOrigin};

/// The agent that replies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentName {
    /// One model.
    Assistant,
    /// Groups of agents that negotiate a reply.
    Triads,
    /// A search over saved sessions, without a model.
    Recall,
    /// A program of its own, such as Claude Code.
    Program(String),
}

impl AgentName {
    pub fn new(name: &str) -> Self {
        match name {
            "assistant" => Self::Assistant,
            "triads" => Self::Triads,
            "recall" => Self::Recall,
            program => Self::Program(program.to_owned()),
        }
    }

    /// The value of the key `agent`.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Assistant => "assistant",
            Self::Triads => "triads",
            Self::Recall => "recall",
            Self::Program(name) => name,
        }
    }

    /// The name of the program, if the agent is one.
    pub fn program(&self) -> Option<&str> {
        match self {
            Self::Program(name) => Some(name),
            Self::Assistant | Self::Triads | Self::Recall => None,
        }
    }
}

/// When output is colored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ColorMode {
    #[default]
    Auto,
    Always,
    Never,
}

/// The colors of the terminal app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Theme {
    /// The terminal decides.
    #[default]
    Auto,
    Dark,
    Light,
}

/// The triads that the configuration selects.
#[derive(Debug, Clone, PartialEq)]
pub struct TriadsSetting {
    /// The name of a built-in configuration, or the path of a file.
    pub text: String,
    /// Relative paths are resolved against the directory of this file, or else against the working directory.
    pub origin: ValueOrigin,
    /// Whether a project's configuration set it.
    pub from_project: bool,
}

/// The settings in effect.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub verbose_output: bool,
    pub key_mode: KeyMode,
    pub color: ColorMode,
    pub theme: Theme,
    pub mouse: bool,
    pub extended_keys: bool,
    pub animations: bool,
    /// Number of automatic checkpoints kept per session.
    pub checkpoint_retention: u32,
    /// Events that create a checkpoint.
    pub checkpoint_on: Vec<Pattern>,
    /// Days until a deleted session is purged; `None` for never.
    pub trash_retention_days: Option<u32>,
    pub disabled_plugins: Vec<String>,
    pub plugin_hook_timeout: Duration,
    pub plugin_command_timeout: Duration,
    /// Address of the store; `None` for the default store in the home directory.
    pub store_url: Option<String>,
    /// Whether the sessions of all owners are shown. No file sets this.
    pub all_owners: bool,
    pub durability: Durability,
    /// The agent; `None` to use what is available.
    pub agent: Option<AgentName>,
    /// The agents and the servers for them that the user's file configures.
    pub programs: Programs,
    pub triads: TriadsSetting,
    pub provider: Option<Provider>,
    pub model: Option<String>,
    /// Whether a project's configuration set the model.
    pub model_from_project: bool,
    pub base_url: Option<String>,
    /// Headers for the configured provider, in whose values `$NAME` stands for an environment variable.
    pub headers: Vec<(String, String)>,
    pub timeouts: Timeouts,
    /// Size of Ollama's context, in tokens.
    pub num_ctx: Option<u32>,
    /// Maximum length of a reply, in tokens.
    pub max_tokens: Option<u32>,
    pub temperature: Option<f64>,
    pub system_prompt: Option<String>,
    /// Size of the model's context, in tokens; `None` for what its server says or what is known of it.
    pub context_tokens: Option<u32>,
    /// How much of the end of a conversation is sent if the size of the context is not known, in characters.
    pub context_chars: usize,
    pub compaction: CompactionMode,
    /// Patterns of projects and paths that are not followed.
    pub watch_exclude: Vec<String>,
    /// How long commands import what is new before they answer.
    pub catch_up_time: Duration,
}

impl Config {
    /// The settings in effect. The fallbacks are never used: a configuration contains all defaults.
    pub fn settings(&self) -> Settings {
        Settings {
            verbose_output: self.text(Key::OutputMode) == Some("verbose"),
            key_mode: match self.text(Key::KeybindingMode) {
                Some("vim") => KeyMode::Vim,
                Some("emacs") => KeyMode::Emacs,
                _ => KeyMode::Standard,
            },
            color: self.choice(Key::Color).unwrap_or_default(),
            theme: self.choice(Key::Theme).unwrap_or_default(),
            mouse: self.text(Key::Mouse) != Some("off"),
            animations: self.text(Key::Animations) != Some("off"),
            extended_keys: self.text(Key::ExtendedKeys) != Some("off"),
            checkpoint_retention: self.integer(Key::CheckpointRetention).unwrap_or(10),
            checkpoint_on: self.list(Key::CheckpointOn).iter().map(|text| Pattern::new(text)).collect(),
            trash_retention_days: self.integer(Key::TrashRetentionDays).filter(|days| *days > 0),
            disabled_plugins: self.list(Key::DisabledPlugins).to_vec(),
            plugin_hook_timeout: Duration::from_millis(self.integer(Key::PluginsHookMs).unwrap_or(50)),
            plugin_command_timeout: Duration::from_millis(
                self.integer(Key::PluginsCommandMs).unwrap_or(5_000),
            ),
            store_url: self.owned_text(Key::StoreUrl),
            all_owners: false,
            durability: match self.text(Key::StoreDurability) {
                Some("fast") => Durability::Fast,
                _ => Durability::Full,
            },
            agent: self.text(Key::Agent).map(AgentName::new).filter(|agent| !self.model_replaces(agent)),
            programs: self.programs.clone(),
            triads: TriadsSetting {
                text: self.owned_text(Key::Triads).unwrap_or_default(),
                origin: self.get(Key::Triads).map_or(ValueOrigin::Default, |setting| setting.origin.clone()),
                from_project: self.is_from_project(Key::Triads),
            },
            provider: self.text(Key::Provider).and_then(|name| name.parse().ok()),
            model: self.owned_text(Key::Model),
            model_from_project: self.is_from_project(Key::Model),
            base_url: self.owned_text(Key::BaseUrl),
            headers: match self.value(Key::Headers) {
                Some(Value::Map(entries)) => entries.clone(),
                _ => Vec::new(),
            },
            timeouts: Timeouts {
                connect: self.seconds(Key::WaitConnect).unwrap_or(Timeouts::default().connect),
                first_token: self.seconds(Key::WaitFirstToken).unwrap_or(Timeouts::default().first_token),
                between_tokens: self
                    .seconds(Key::WaitBetweenTokens)
                    .unwrap_or(Timeouts::default().between_tokens),
            },
            num_ctx: self.integer(Key::OllamaNumCtx),
            max_tokens: self.integer(Key::MaxTokens),
            temperature: match self.value(Key::Temperature) {
                Some(Value::Float(number)) => Some(*number),
                _ => None,
            },
            system_prompt: self.owned_text(Key::SystemPrompt),
            context_tokens: self.integer(Key::ContextTokens),
            context_chars: self.integer(Key::ContextChars).unwrap_or(400_000),
            compaction: match self.text(Key::Compaction) {
                Some("manual") => CompactionMode::Manual,
                _ => CompactionMode::Automatic,
            },
            watch_exclude: self.list(Key::WatchExclude).to_vec(),
            catch_up_time: Duration::from_millis(self.integer(Key::WatchCatchUp).unwrap_or(300)),
        }
    }

    /// Whether `--model` asks for a model where the configuration selects the agent that uses none.
    fn model_replaces(&self, agent: &AgentName) -> bool {
        let on_command_line = |key| self.get(key).is_some_and(|setting| setting.origin.is_command_line());
        *agent == AgentName::Recall && on_command_line(Key::Model) && !on_command_line(Key::Agent)
    }

    fn value(&self, key: Key) -> Option<&Value> {
        self.get(key).map(|setting| &setting.value)
    }

    fn text(&self, key: Key) -> Option<&str> {
        match self.value(key)? {
            Value::Text(text) => Some(text),
            Value::Integer(_) | Value::Float(_) | Value::List(_) | Value::Map(_) => None,
        }
    }

    fn owned_text(&self, key: Key) -> Option<String> {
        self.text(key).map(str::to_owned)
    }

    fn choice<T: ValueEnum>(&self, key: Key) -> Option<T> {
        T::from_str(self.text(key)?, false).ok()
    }

    fn integer<T: TryFrom<u64>>(&self, key: Key) -> Option<T> {
        match self.value(key)? {
            Value::Integer(number) => T::try_from(*number).ok(),
            Value::Text(_) | Value::Float(_) | Value::List(_) | Value::Map(_) => None,
        }
    }

    fn seconds(&self, key: Key) -> Option<Duration> {
        self.integer(key).map(Duration::from_secs)
    }

    fn list(&self, key: Key) -> &[String] {
        match self.value(key) {
            Some(Value::List(items)) => items,
            _ => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ValueType;
    use crate::config::programs::BUILT_IN;

    fn assert_choices<T: ValueEnum>(key: Key) {
        let ValueType::Choice(words) = key.spec().value_type else { panic!("{key:?} is not a choice") };
        let names: Vec<String> = T::value_variants()
            .iter()
            .filter_map(|variant| Some(variant.to_possible_value()?.get_name().to_owned()))
            .collect();
        assert_eq!(names, words, "{key:?}");
    }

    #[test]
    fn the_words_of_a_choice_are_the_variants_of_its_type() {
        for name in BUILT_IN {
            assert_eq!((AgentName::new(name).as_str(), AgentName::new(name).program()), (name, None));
        }
        assert_choices::<ColorMode>(Key::Color);
        assert_choices::<Theme>(Key::Theme);
        let ValueType::Choice(words) = Key::Provider.spec().value_type else { panic!() };
        assert!(words.iter().all(|word| word.parse::<Provider>().is_ok()));
    }
}
