//! Every setting there is: one table that reading, checking, `config` and the help texts share.

use hfs_core::EventPayload;

use super::ConfigError;

/// What a setting's value must look like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Any text.
    Text,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A whole number within these bounds.
    Whole {
        /// The smallest that makes sense.
        min: u64,
        /// The largest that makes sense.
        max: u64,
    },
    /// A number within these bounds.
    Decimal {
        /// The smallest that makes sense.
        min: f64,
        /// The largest that makes sense.
        max: f64,
    },
    /// A list of texts.
    List,
    /// A list of event types, or of families of them such as `phase.*`.
    Events,
}

/// Whether the configuration of a project, which comes with whatever was cloned or unpacked, is listened to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProjectMay {
    /// It replaces what the user's own configuration says.
    Set,
    /// It can only add to the list.
    Add,
    /// It is ignored: the setting decides where keys and data go, or when data is removed.
    Not,
}

/// A setting.
#[derive(Debug)]
pub struct Key {
    /// Its name, with a dot for each level of nesting.
    pub name: &'static str,
    /// What its value must look like.
    pub kind: Kind,
    /// What holds when nobody sets it; `None` for nothing.
    pub default: Option<&'static str>,
    /// The environment variable that sets it.
    pub variable: &'static str,
    /// Whether a project may set it.
    pub project: ProjectMay,
    /// One line for people.
    pub about: &'static str,
}

/// All settings, in the order in which they are listed.
pub static KEYS: &[Key] = &[
    Key {
        name: "output_mode",
        kind: Kind::Choice(&["compact", "verbose"]),
        default: Some("compact"),
        variable: "HFS_OUTPUT_MODE",
        project: ProjectMay::Set,
        about: "how much of a reply's inner workings is shown",
    },
    Key {
        name: "keybinding_mode",
        kind: Kind::Choice(&["standard", "vim", "emacs"]),
        default: Some("standard"),
        variable: "HFS_KEYBINDING_MODE",
        project: ProjectMay::Set,
        about: "which keys edit text",
    },
    Key {
        name: "color",
        kind: Kind::Choice(&["auto", "always", "never"]),
        default: Some("auto"),
        variable: "HFS_COLOR",
        project: ProjectMay::Set,
        about: "when output is coloured",
    },
    Key {
        name: "theme",
        kind: Kind::Choice(&["auto", "dark", "light"]),
        default: Some("auto"),
        variable: "HFS_THEME",
        project: ProjectMay::Set,
        about: "the terminal's background, for the app's colours; auto asks the terminal at the start",
    },
    Key {
        name: "mouse",
        kind: Kind::Choice(&["on", "off"]),
        default: Some("on"),
        variable: "HFS_MOUSE",
        project: ProjectMay::Set,
        about: "on: the app scrolls and marks with the mouse; off: the terminal keeps it to itself",
    },
    Key {
        name: "checkpoint_retention",
        kind: Kind::Whole { min: 1, max: 10_000 },
        default: Some("10"),
        variable: "HFS_CHECKPOINT_RETENTION",
        project: ProjectMay::Not,
        about: "automatic checkpoints kept in each session",
    },
    Key {
        name: "checkpoint_on",
        kind: Kind::Events,
        default: Some("[run.ended, negotiation.resolved, phase.ended]"),
        variable: "HFS_CHECKPOINT_ON",
        project: ProjectMay::Not,
        about: "the events that make a checkpoint; [] for none but those made by hand",
    },
    Key {
        name: "trash_retention_days",
        kind: Kind::Whole { min: 0, max: 36_500 },
        default: Some("30"),
        variable: "HFS_TRASH_RETENTION_DAYS",
        project: ProjectMay::Not,
        about: "days a deleted session can be restored; 0 keeps it until it is purged",
    },
    Key {
        name: "disabled_plugins",
        kind: Kind::List,
        default: Some("[]"),
        variable: "HFS_DISABLED_PLUGINS",
        project: ProjectMay::Add,
        about: "plugins that are not loaded",
    },
    Key {
        name: "plugins.hook_ms",
        kind: Kind::Whole { min: 1, max: 60_000 },
        default: Some("50"),
        variable: "HFS_PLUGINS_HOOK_MS",
        project: ProjectMay::Not,
        about: "how long a plugin's hook may take, in milliseconds",
    },
    Key {
        name: "plugins.command_ms",
        kind: Kind::Whole { min: 1, max: 600_000 },
        default: Some("5000"),
        variable: "HFS_PLUGINS_COMMAND_MS",
        project: ProjectMay::Not,
        about: "how long a plugin's command may take, in milliseconds",
    },
    Key {
        name: "store.url",
        kind: Kind::Text,
        default: None,
        variable: "HFS_STORE",
        project: ProjectMay::Not,
        about: "where sessions are kept, such as sqlite:/data/hfs.db; by default hfs.db in the home directory of hfs",
    },
    Key {
        name: "store.durability",
        kind: Kind::Choice(&["full", "fast"]),
        default: Some("full"),
        variable: "HFS_STORE_DURABILITY",
        project: ProjectMay::Not,
        about: "full: saved survives power loss; fast: the last moments may not",
    },
    Key {
        name: "agent",
        kind: Kind::Choice(&["assistant", "triads", "recall"]),
        default: None,
        variable: "HFS_AGENT",
        project: ProjectMay::Set,
        about: "who answers: a model, groups of agents, or a search; by default whatever is available",
    },
    Key {
        name: "triads",
        kind: Kind::Text,
        default: Some("small"),
        variable: "HFS_TRIADS",
        project: ProjectMay::Set,
        about: "which triads answer when the agent is triads: small, standard, or a file of your own",
    },
    Key {
        name: "provider",
        kind: Kind::Choice(&["anthropic", "openai", "gemini", "ollama"]),
        default: None,
        variable: "HFS_PROVIDER",
        project: ProjectMay::Not,
        about: "the model's provider",
    },
    Key {
        name: "model",
        kind: Kind::Text,
        default: None,
        variable: "HFS_MODEL",
        project: ProjectMay::Set,
        about: "the model's name at its provider",
    },
    Key {
        name: "base_url",
        kind: Kind::Text,
        default: None,
        variable: "HFS_BASE_URL",
        project: ProjectMay::Not,
        about: "the address of an OpenAI-compatible server, or of the provider where it is not the usual one",
    },
    Key {
        name: "max_tokens",
        kind: Kind::Whole { min: 1, max: 10_000_000 },
        default: None,
        variable: "HFS_MAX_TOKENS",
        project: ProjectMay::Set,
        about: "the longest reply, in tokens",
    },
    Key {
        name: "temperature",
        kind: Kind::Decimal { min: 0.0, max: 2.0 },
        default: None,
        variable: "HFS_TEMPERATURE",
        project: ProjectMay::Set,
        about: "how freely the model chooses its words",
    },
    Key {
        name: "system_prompt",
        kind: Kind::Text,
        default: None,
        variable: "HFS_SYSTEM_PROMPT",
        project: ProjectMay::Set,
        about: "instructions that go before every conversation",
    },
    Key {
        name: "context_chars",
        kind: Kind::Whole { min: 1_000, max: 100_000_000 },
        default: Some("400000"),
        variable: "HFS_CONTEXT_CHARS",
        project: ProjectMay::Set,
        about: "how much of a conversation's end goes to the model, in characters",
    },
];

impl Key {
    /// The setting with this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.name == name)
    }

    /// The setting of this name.
    ///
    /// # Errors
    /// When there is none; names the nearest.
    pub fn named(name: &str) -> Result<&'static Self, ConfigError> {
        Self::find(name).ok_or_else(|| ConfigError::UnknownKey {
            key: name.to_owned(),
            nearest: Self::nearest(name).map(|key| key.name),
        })
    }

    /// Whether `name` is a level above some setting, as `store` is.
    pub fn is_group(name: &str) -> bool {
        KEYS.iter().any(|key| key.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
    }

    /// The setting whose name is most like `name`, if one is like it at all.
    pub fn nearest(name: &str) -> Option<&'static Self> {
        let alike = |key: &&'static Self| {
            let last = key.name.rsplit('.').next().unwrap_or(key.name);
            strsim::jaro_winkler(name, key.name).max(strsim::jaro_winkler(name, last))
        };
        KEYS.iter().max_by(|a, b| alike(a).total_cmp(&alike(b))).filter(|key| alike(key) > 0.8)
    }
}

impl Kind {
    /// What is expected, for error messages.
    pub fn expected(&self) -> String {
        match self {
            Self::Text => "a text".into(),
            Self::Choice(words) => match words {
                [rest @ .., last] if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
                _ => words.join(""),
            },
            Self::Whole { min, max } => format!("a whole number from {min} to {max}"),
            Self::Decimal { min, max } => format!("a number from {min} to {max}"),
            Self::List => "a list of texts such as [one, two]".into(),
            Self::Events => {
                format!(
                    "a list of events such as [run.ended, phase.*], of {}",
                    EventPayload::KINDS.join(", ")
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::value::Value;

    #[test]
    fn every_default_is_a_value_that_its_setting_accepts() {
        for key in KEYS {
            if let Some(default) = key.default {
                Value::from_text(&key.kind, default).unwrap();
            }
        }
    }

    #[test]
    fn a_misspelt_name_finds_its_setting_and_nonsense_finds_none() {
        assert_eq!(Key::nearest("outputmode").unwrap().name, "output_mode");
        assert_eq!(Key::nearest("store.durabilty").unwrap().name, "store.durability");
        assert_eq!(Key::nearest("url").unwrap().name, "store.url");
        assert!(Key::nearest("zzz").is_none());
    }
}
