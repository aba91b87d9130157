//! The settings that this program acts on, by name and type.

use hfs_core::Pattern;

use super::{Config, Key, Place, Value};

/// Which triads, as somebody wrote it.
#[derive(Debug, Clone, PartialEq)]
pub struct TriadsChoice {
    /// The name of a configuration that ships with hfs, or the path of a file.
    pub text: String,
    /// Where it was written, which is what a path starts from.
    pub place: Place,
    /// Whether it was a project's configuration.
    pub is_projects: bool,
}

/// The settings in force.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Whether everything is shown rather than folded.
    pub verbose_output: bool,
    /// `auto`, `always` or `never`.
    pub color: String,
    /// Automatic checkpoints kept in each session.
    pub checkpoint_retention: u32,
    /// The events that make a checkpoint.
    pub checkpoint_on: Vec<Pattern>,
    /// Days that a deleted session can be restored; `None` for as long as nobody purges it.
    pub trash_retention_days: Option<u32>,
    /// How long a plugin's hook may take, in milliseconds.
    pub plugin_hook_ms: u64,
    /// How long a plugin's command may take, in milliseconds.
    pub plugin_command_ms: u64,
    /// The store's address; `None` for the default in the home directory.
    pub store_url: Option<String>,
    /// Whether saved must survive power loss.
    pub full_durability: bool,
    /// Who answers; `None` for whatever is available.
    pub agent: Option<String>,
    /// Which triads answer, where it is triads.
    pub triads: TriadsChoice,
    /// The model's provider.
    pub provider: Option<String>,
    /// The model's name.
    pub model: Option<String>,
    /// Whether it was a project's configuration that named the model.
    pub model_is_projects: bool,
    /// The provider's address.
    pub base_url: Option<String>,
    /// The longest reply, in tokens.
    pub max_tokens: Option<u32>,
    /// How freely the model chooses its words.
    pub temperature: Option<f64>,
    /// Instructions that go before every conversation.
    pub system_prompt: Option<String>,
    /// How much of a conversation's end goes to the model, in characters.
    pub context_chars: usize,
}

impl Config {
    /// The settings that this program acts on.
    pub fn settings(&self) -> Settings {
        Settings {
            verbose_output: self.text("output_mode").as_deref() == Some("verbose"),
            color: self.text("color").unwrap_or_default(),
            checkpoint_retention: self.whole("checkpoint_retention").unwrap_or(10),
            checkpoint_on: self.list("checkpoint_on").iter().map(|text| Pattern::new(text)).collect(),
            trash_retention_days: self.whole("trash_retention_days").filter(|days| *days > 0),
            plugin_hook_ms: self.whole("plugins.hook_ms").unwrap_or(50),
            plugin_command_ms: self.whole("plugins.command_ms").unwrap_or(5_000),
            store_url: self.text("store.url"),
            full_durability: self.text("store.durability").as_deref() != Some("fast"),
            agent: self.text("agent"),
            triads: self.triads(),
            provider: self.text("provider"),
            model: self.text("model"),
            model_is_projects: self.from_project.contains("model"),
            base_url: self.text("base_url"),
            max_tokens: self.whole("max_tokens"),
            temperature: self.decimal("temperature"),
            system_prompt: self.text("system_prompt"),
            context_chars: self.whole("context_chars").unwrap_or(400_000),
        }
    }

    fn triads(&self) -> TriadsChoice {
        let setting = Key::find("triads").and_then(|key| self.get(key));
        TriadsChoice {
            text: self.text("triads").unwrap_or_default(),
            place: setting.map_or(Place::Default, |setting| setting.place.clone()),
            is_projects: self.from_project.contains("triads"),
        }
    }

    fn value(&self, name: &str) -> Option<&Value> {
        Key::find(name).and_then(|key| self.get(key)).map(|setting| &setting.value)
    }

    fn text(&self, name: &str) -> Option<String> {
        match self.value(name)? {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        }
    }

    fn whole<T: TryFrom<u64>>(&self, name: &str) -> Option<T> {
        match self.value(name)? {
            Value::Whole(number) => T::try_from(*number).ok(),
            _ => None,
        }
    }

    fn list(&self, name: &str) -> &[String] {
        match self.value(name) {
            Some(Value::List(items)) => items,
            _ => &[],
        }
    }

    fn decimal(&self, name: &str) -> Option<f64> {
        match self.value(name)? {
            Value::Decimal(number) => Some(*number),
            _ => None,
        }
    }
}
