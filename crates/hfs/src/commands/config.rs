//! `hfs config`: show and change settings.

use hfs_core::ErrorKind;
use serde::Serialize;
use serde_json::{Value, json};

use crate::config::{
    AgentName, Key, Setting, Settings, TriadsSetting, Value as SettingValue, ValueOrigin, check_argument,
    set_in_file, unset_in_file,
};
use crate::context::Context;
use crate::output::error::{CliError, Outcome};
use crate::output::sanitize;
use crate::output::table::Table;
use crate::wiring;
use crate::wiring::programs;
use crate::wiring::triads::{self, value_to_save};

const EXAMPLES: &str = "\
Examples:
  hfs config set model claude-sonnet-4-6
  hfs config set disabled_plugins one,two
  hfs config get store.url
  hfs config unset model                  back to the default
  hfs config triads standard > my.yaml    copy a configuration of triads, to edit it
  hfs config set triads my.yaml           use it when the agent is triads

Options override environment variables, those override ./.hfs/config.yaml, and that overrides config.yaml in the home \
directory of hfs. API keys are read from environment variables only, such as ANTHROPIC_API_KEY.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, clap::Subcommand)]
enum ConfigCommand {
    /// Show every setting, its value and where it was set
    #[command(alias = "ls")]
    List,
    /// Print the value of a setting
    Get {
        /// The setting, such as model or store.url
        key: String,
    },
    /// Change a setting in the user's file; comments in the file are kept
    Set {
        /// The setting, such as model or store.url
        key: String,
        /// The value; a list as one,two or [one, two]
        #[arg(allow_hyphen_values = true)]
        value: String,
    },
    /// Remove a setting from the user's file, so that its default applies again
    Unset {
        /// The setting, such as model or store.url
        key: String,
    },
    /// Check and print a configuration of triads
    Triads {
        /// small, standard, mixed or a file [default: the one in use]
        #[arg(value_name = "NAME|FILE")]
        which: Option<String>,
    },
    /// Print the path of the user's file
    Path,
}

impl ConfigArgs {
    /// Whether the command runs even if the configuration is invalid.
    pub const fn works_without_config(&self) -> bool {
        matches!(
            self.command,
            ConfigCommand::Path
                | ConfigCommand::Set { .. }
                | ConfigCommand::Unset { .. }
                | ConfigCommand::Triads { which: Some(_) }
        )
    }
}

/// A setting in the documents of `config list`, `config get`, `config set` and `config unset`.
#[derive(Serialize)]
struct SettingJson {
    key: &'static str,
    value: Value,
    origin: String,
    about: &'static str,
}

impl SettingJson {
    fn new(key: Key, setting: Option<&Setting>) -> Self {
        Self {
            key: key.name(),
            value: setting.map_or(Value::Null, |setting| setting.value.to_json()),
            origin: setting.map_or(&ValueOrigin::Default, |setting| &setting.origin).to_string(),
            about: key.spec().about,
        }
    }
}

pub fn run(args: &ConfigArgs, context: &Context) -> Result<Outcome, CliError> {
    match &args.command {
        ConfigCommand::List => list(context)?,
        ConfigCommand::Get { key } => get(key, context)?,
        ConfigCommand::Set { key, value } => set(key, value, context)?,
        ConfigCommand::Unset { key } => unset(key, context)?,
        ConfigCommand::Triads { which } => print_triads(which.as_deref(), context)?,
        ConfigCommand::Path => print_path(context)?,
    }
    Ok(Outcome::Done)
}

fn list(context: &Context) -> Result<(), CliError> {
    let console = &context.console;
    let rows = Key::all().map(|key| SettingJson::new(key, context.config.get(key)));
    if console.options.json {
        return console.print_json(&json!({ "settings": rows.collect::<Vec<_>>() }));
    }
    let mut table = Table::new(&["SETTING", "VALUE", "FROM"], 1);
    let mut descriptions = String::new();
    for (key, row) in Key::all().zip(rows) {
        let value = context.config.get(key).map_or_else(|| "-".into(), |setting| setting.value.to_string());
        table.row(vec![key.name().into(), sanitize::line(&value), sanitize::line(&row.origin)]);
        if console.options.verbose {
            let spec = key.spec();
            let expected = spec.value_type.expected();
            descriptions += &format!("{:22} {} ({expected}; {})\n", spec.name, spec.about, spec.env_var);
        }
    }
    let gap = if descriptions.is_empty() { "" } else { "\n" };
    console.print(&format!("{}{gap}{descriptions}", table.render(&console.palette, console.width())))
}

fn get(name: &str, context: &Context) -> Result<(), CliError> {
    let key = Key::parse(name)?;
    let setting = context.config.get(key);
    if context.console.options.json {
        return context.console.print_json(&SettingJson::new(key, setting));
    }
    let setting = setting.ok_or_else(|| {
        CliError::with_hint(
            ErrorKind::NotFound,
            format!("{name} is not set and has no default"),
            format!("set it with: hfs config set {name} VALUE"),
        )
    })?;
    context.console.print(&(sanitize::block(&setting.value.to_string()) + "\n"))
}

fn set(name: &str, text: &str, context: &Context) -> Result<(), CliError> {
    let console = &context.console;
    let key = Key::parse(name)?;
    context.home.create()?;
    let path = &context.config_paths.user;
    let text = value_to_save(key, text, &context.settings.programs, &context.environment)?;
    refuse_unusable(key, &text, context)?;
    let value = set_in_file(path, key, &text)?;
    if let Some(origin) = context.overriding_origin(key) {
        let origin = sanitize::line(&origin.to_string());
        console.warn(&format!("{name} is also set by {origin}, which takes precedence"));
    }
    if console.options.json {
        // Line 0 stands for the whole file.
        let setting = Setting { value, origin: ValueOrigin::File { path: path.clone(), line: 0 } };
        return console.print_json(&SettingJson::new(key, Some(&setting)));
    }
    let (value, path) = (sanitize::line(&value.to_string()), sanitize::line(&path.display().to_string()));
    console.note(&format!("{name} is now {value}, in {path}"));
    if key == Key::Triads && context.settings.agent != Some(AgentName::Triads) {
        console
            .note("triads reply if the agent is triads: hfs config set agent triads, or chat --agent triads");
    }
    Ok(())
}

/// Refuses a setting with which every later command would fail.
pub fn refuse_unusable(key: Key, text: &str, context: &Context) -> Result<(), CliError> {
    if key == Key::Agent
        && let Some(name) = AgentName::new(text).program()
    {
        check_argument(key, text)?;
        return programs::launch(&programs::named(name, &context.settings.programs)?, context).map(drop);
    }
    let unusable = match key {
        Key::Model | Key::BaseUrl if text.trim().is_empty() => Some("is empty".to_owned()),
        Key::BaseUrl if !hfs_agents::is_base_url(text) => {
            check_argument(key, text)?;
            Some(format!("is {text:?}; expected a URL such as http://127.0.0.1:8080/v1"))
        }
        Key::Headers => match check_argument(key, text)? {
            SettingValue::Map(entries) => {
                let invalid = entries.iter().find(|(name, _)| !hfs_agents::is_header_name(name));
                invalid.map(|(name, _)| format!("contains {name:?}, which is not the name of a header"))
            }
            _ => None,
        },
        _ => None,
    };
    if let Some(reason) = unusable {
        let (name, message) = (key.name(), format!("{} {reason}", key.name()));
        let hint = format!("{name} was not changed; `hfs config unset {name}` returns to its default");
        return Err(CliError::with_hint(ErrorKind::Invalid, message, hint));
    }
    if key != Key::StoreUrl {
        return Ok(());
    }
    check_argument(key, text)?;
    let settings = Settings { store_url: Some(text.to_owned()), ..context.settings.clone() };
    let opened = wiring::open_store(&context.home, &settings, &context.environment);
    let Err(error) = opened else { return Ok(()) };
    let document = error.document();
    let hint = document.hint.clone().unwrap_or_else(|| "store.url was not changed".to_owned());
    let message = format!("every command would fail with this store.url: {}", document.one_line());
    Err(CliError::with_hint(error.kind(), message, hint))
}

fn unset(name: &str, context: &Context) -> Result<(), CliError> {
    let console = &context.console;
    let key = Key::parse(name)?;
    let path = &context.config_paths.user;
    let was_set = unset_in_file(path, key)?;
    // What applies now: a variable or a project's file, or else the default.
    let overriding = context.overriding_origin(key).and_then(|_| context.config.get(key)).cloned();
    let default = || {
        let text = key.spec().default?;
        let value = SettingValue::from_text(&key.spec().value_type, text).ok()?;
        Some(Setting { value, origin: ValueOrigin::Default })
    };
    let setting = overriding.or_else(default);
    if console.options.json {
        return console.print_json(&SettingJson::new(key, setting.as_ref()));
    }
    let state = match &setting {
        Some(Setting { value, origin: ValueOrigin::Default }) => {
            format!("its default is {}", sanitize::line(&value.to_string()))
        }
        Some(Setting { value, origin }) => {
            format!(
                "{} sets it to {}",
                sanitize::line(&origin.to_string()),
                sanitize::line(&value.to_string())
            )
        }
        None => "it has no default".to_owned(),
    };
    let shown = sanitize::line(&path.display().to_string());
    console.note(&if was_set {
        format!("removed {name} from {shown}; {state}")
    } else {
        format!("{shown} does not set {name}; {state}")
    });
    Ok(())
}

fn print_triads(which: Option<&str>, context: &Context) -> Result<(), CliError> {
    let setting = match which {
        Some(text) => TriadsSetting {
            text: text.to_owned(),
            origin: ValueOrigin::CommandLine("NAME|FILE"),
            from_project: false,
        },
        None => context.settings.triads.clone(),
    };
    let loaded = triads::load(&setting, &context.settings.programs, &context.environment)?;
    if context.console.options.json {
        return context.console.print_json(&json!({
            "triads": setting.text,
            "path": loaded.path,
            "yaml": loaded.yaml,
            "agents": 3 * loaded.config.triads.len(),
        }));
    }
    context.console.print(&sanitize::block(&loaded.yaml))
}

fn print_path(context: &Context) -> Result<(), CliError> {
    let paths = &context.config_paths;
    if context.console.options.json {
        return context.console.print_json(&json!({ "path": paths.user, "project": paths.project }));
    }
    context.console.print(&format!("{}\n", paths.user.display()))
}
