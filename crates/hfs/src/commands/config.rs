//! `hfs config`

use hfs_core::ErrorKind;
use serde::Serialize;
use serde_json::Value as Json;

use crate::config::{KEYS, Key, Place, Setting, TriadsChoice, set_in_file};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::plain;
use crate::table::Table;
use crate::wiring;

const EXAMPLES: &str = "\
Examples:
  hfs config set model claude-sonnet-4-6
  hfs config set disabled_plugins one,two
  hfs config get store.url
  hfs config triads standard > my.yaml    a configuration of triads to start from
  hfs config set triads my.yaml           and to be used, where the agent is triads

A flag beats the environment, that beats ./.hfs/config.yaml, that beats config.yaml in the home directory of hfs.
Keys of providers come from the environment only, such as ANTHROPIC_API_KEY.";

/// What to do with the settings.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Config {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, clap::Subcommand)]
enum ConfigCommand {
    /// Show every setting, its value and where that was set
    #[command(alias = "ls")]
    List,
    /// Print the value of a setting
    Get {
        /// The setting, such as model or store.url
        key: String,
    },
    /// Change a setting in the user's file; its comments stay
    Set {
        /// The setting, such as model or store.url
        key: String,
        /// The value; lists as one,two or [one, two]
        #[arg(allow_hyphen_values = true)]
        value: String,
    },
    /// Check and print a configuration of triads
    Triads {
        /// small, standard or a file [default: the one in use]
        #[arg(value_name = "NAME|FILE")]
        which: Option<String>,
    },
    /// Print where the user's file is
    Path,
}

impl Config {
    /// Whether it can do its work without a configuration that makes sense.
    pub const fn bears_bad_config(&self) -> bool {
        matches!(
            self.command,
            ConfigCommand::Path | ConfigCommand::Set { .. } | ConfigCommand::Triads { which: Some(_) }
        )
    }
}

#[derive(Serialize)]
struct SettingRow {
    key: &'static str,
    value: Json,
    origin: String,
    about: &'static str,
}

impl SettingRow {
    fn new(key: &'static Key, setting: Option<&Setting>) -> Self {
        Self {
            key: key.name,
            value: setting.map_or(Json::Null, |setting| setting.value.to_json()),
            origin: setting.map_or(&Place::Default, |setting| &setting.place).to_string(),
            about: key.about,
        }
    }
}

/// Reads or changes settings.
pub fn run(config: &Config, context: &Context) -> Result<Outcome, Failure> {
    match &config.command {
        ConfigCommand::List => list(context)?,
        ConfigCommand::Get { key } => get(key, context)?,
        ConfigCommand::Set { key, value } => set(key, value, context)?,
        ConfigCommand::Triads { which } => triads(which.as_deref(), context)?,
        ConfigCommand::Path => path(context)?,
    }
    Ok(Outcome::Done)
}

fn list(context: &Context) -> Result<(), Failure> {
    let console = &context.console;
    let rows = KEYS.iter().map(|key| SettingRow::new(key, context.config.get(key)));
    if console.manner.json {
        return console.json(&serde_json::json!({ "settings": rows.collect::<Vec<_>>() }));
    }
    let mut table = Table::new(&["SETTING", "VALUE", "FROM"], 1);
    let mut more = String::new();
    for (key, row) in KEYS.iter().zip(rows) {
        let value = context.config.get(key).map_or_else(|| "-".into(), |setting| setting.value.to_string());
        table.row(vec![key.name.into(), plain::line(&value), plain::line(&row.origin)]);
        if console.manner.verbose {
            more += &format!("{:22} {} ({}; {})\n", key.name, key.about, key.kind.expected(), key.variable);
        }
    }
    let gap = if more.is_empty() { "" } else { "\n" };
    console.print(&format!("{}{gap}{more}", table.render(&console.palette, console.width())))
}

fn get(name: &str, context: &Context) -> Result<(), Failure> {
    let key = Key::named(name)?;
    let setting = context.config.get(key);
    if context.console.manner.json {
        return context.console.json(&SettingRow::new(key, setting));
    }
    let setting = setting.ok_or_else(|| Failure::Refused {
        kind: ErrorKind::NotFound,
        message: format!("{name} is not set and has no default"),
        hint: Some(format!("set it with: hfs config set {name} VALUE")),
    })?;
    context.console.print(&(plain::block(&setting.value.to_string()) + "\n"))
}

fn set(name: &str, text: &str, context: &Context) -> Result<(), Failure> {
    let key = Key::named(name)?;
    context.home.create()?;
    let path = &context.sources.user;
    let value = set_in_file(path, key, &wiring::to_write_down(key, text, &context.environment)?)?;
    if let Some(setting) = context.config.get(key)
        && !matches!(&setting.place, Place::Default)
        && !matches!(&setting.place, Place::File { path: from, .. } if from == path)
    {
        let place = plain::line(&setting.place.to_string());
        context.console.warn(&format!("{name} is also set by {place}, which counts more here"));
    }
    if context.console.manner.json {
        let setting = Setting { value, place: Place::File { path: path.clone(), line: 0 } };
        return context.console.json(&SettingRow::new(key, Some(&setting)));
    }
    let place = plain::line(&path.display().to_string());
    context.console.note(&format!("{name} is {} now, in {place}", plain::line(&value.to_string())));
    if name == "triads" && context.settings.agent.as_deref() != Some("triads") {
        context
            .console
            .note("they answer where they are asked to: hfs config set agent triads, or chat --agent triads");
    }
    Ok(())
}

fn triads(which: Option<&str>, context: &Context) -> Result<(), Failure> {
    let choice = match which {
        Some(text) => {
            TriadsChoice { text: text.to_owned(), place: Place::CommandLine("NAME|FILE"), is_projects: false }
        }
        None => context.settings.triads.clone(),
    };
    let chosen = wiring::triads::chosen(&choice, &context.environment)?;
    if context.console.manner.json {
        return context.console.json(&serde_json::json!({
            "triads": choice.text,
            "path": chosen.path,
            "yaml": chosen.yaml,
            "agents": 3 * chosen.config.triads.len(),
        }));
    }
    context.console.print(&plain::block(&chosen.yaml))
}

fn path(context: &Context) -> Result<(), Failure> {
    let user = &context.sources.user;
    if context.console.manner.json {
        return context
            .console
            .json(&serde_json::json!({ "path": user, "project": context.sources.project }));
    }
    context.console.print(&format!("{}\n", user.display()))
}
