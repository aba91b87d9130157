//! `hfs doctor`: checks the installation and reports problems.
//!
//! To add a check, write a function that returns a `Check` and call it in `all_checks`.

use std::path::Path;

use hfs_agents::{ModelConfig, Provider, Role, ServerModels, can_chat, list_models, server_label};
use hfs_core::{ErrorExt, ErrorKind, Suggestion, plural};
use hfs_plugins::{Language, PluginState, Plugins};
use serde::Serialize;

use super::start::transcript_locations;
use crate::config::Config;
use crate::context::Context;
use crate::disk_space;
use crate::output::error::{CliError, Outcome};
use crate::output::message::format_size;
use crate::output::{sanitize, suggestions};
use crate::watch::import_folder::ImportFolder;
use crate::watch::retention;
use crate::wiring;
use crate::wiring::agent::{AgentBackend, AgentChoice, choose_agent};
use crate::wiring::programs;
use crate::wiring::triads::NamedModel;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    Warning,
    Failed,
}

/// The result of one check.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    status: Status,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    /// Selects the exit code of a failed check.
    #[serde(skip)]
    kind: ErrorKind,
}

impl Check {
    fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        // Addresses are settings, and may contain passwords.
        let detail = hfs_secrets::mask_addresses(&detail.into()).into_owned();
        Self { name, status: Status::Ok, detail, hint: None, kind: ErrorKind::Internal }
    }

    fn warning(name: &'static str, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { status: Status::Warning, hint: Some(hint.into()), ..Self::ok(name, detail) }
    }

    fn failed(name: &'static str, error: &CliError) -> Self {
        let document = error.document();
        let detail = document.one_line();
        Self { status: Status::Failed, hint: document.hint, kind: error.kind(), ..Self::ok(name, detail) }
    }
}

pub fn run(context: &Context) -> Result<Outcome, CliError> {
    let checks = all_checks(context)?;
    let failed = checks.iter().find(|check| check.status == Status::Failed);
    let outcome = failed.map_or(Outcome::Done, |check| Outcome::WithFailures(check.kind));
    let console = &context.console;
    if console.options.json {
        console.print_json(&serde_json::json!({ "ok": failed.is_none(), "checks": checks }))?;
        return Ok(outcome);
    }
    let palette = &console.palette;
    let mut text = String::new();
    for check in &checks {
        let (style, label) = match check.status {
            Status::Ok => (palette.good, "ok     "),
            Status::Warning => (palette.warning, "warning"),
            Status::Failed => (palette.error, "failed "),
        };
        text += &format!("{style}{label}{style:#}  {:11}  {}\n", check.name, sanitize::line(&check.detail));
        if let Some(hint) = &check.hint {
            text += &format!("{:22}{}\n", "", sanitize::line(hint));
        }
    }
    console.print(&text)?;
    Ok(outcome)
}

fn all_checks(context: &Context) -> Result<Vec<Check>, CliError> {
    let mut checks = vec![check_home(context)];
    checks.extend(check_config(context));
    checks.extend(check_store(context));
    checks.extend(check_disk_space(context));
    let (agent, models) = check_agent(context)?;
    checks.push(agent);
    for model in models {
        checks.extend(check_encryption(&model));
        checks.push(check_server(model)?);
    }
    checks.push(check_keys(context));
    checks.push(check_plugins(context));
    checks.push(check_transcripts(context));
    checks.push(check_watcher(context));
    checks.extend(check_deletion(context));
    checks.push(check_terminal(context));
    Ok(checks)
}

fn check_home(context: &Context) -> Check {
    const NAME: &str = "home";
    let root = context.home.root();
    if let Err(error) = context.home.create() {
        return Check::failed(NAME, &error);
    }
    // An unnamed temporary file, which needs no cleanup.
    if let Err(source) = tempfile::tempfile_in(root) {
        return Check::failed(NAME, &CliError::io(format!("write in {}", root.display()), source));
    }
    if is_accessible_to_others(root) {
        let hint = format!("chmod 700 {}", root.display());
        return Check::warning(NAME, format!("{} can be read by other users", root.display()), hint);
    }
    Check::ok(NAME, root.display().to_string())
}

fn is_accessible_to_others(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).is_ok_and(|metadata| metadata.mode() & 0o077 != 0)
}

fn check_config(context: &Context) -> Vec<Check> {
    const NAME: &str = "config";
    let paths = &context.config_paths;
    let user = paths.user.display();
    let project = paths.project.as_ref().map(|path| format!(" and {}", path.display())).unwrap_or_default();
    let mut checks: Vec<Check> = context
        .config
        .warnings
        .iter()
        .map(|warning| Check::warning(NAME, warning.clone(), "`hfs config list` shows every setting"))
        .collect();
    // `context.config` contains the defaults if the configuration is invalid. Load it again to get the error.
    match Config::load(paths, &context.environment, &context.global.overrides()) {
        Err(error) => checks.push(Check::failed(NAME, &error.into())),
        Ok(_) if !checks.is_empty() => {}
        Ok(_) if paths.user.exists() => checks.push(Check::ok(NAME, format!("{user}{project}"))),
        Ok(_) => checks.push(Check::ok(NAME, format!("defaults (no {user}){project}"))),
    }
    checks
}

fn check_store(context: &Context) -> Vec<Check> {
    const NAME: &str = "store";
    let info = context.store().and_then(|store| Ok(store.info()?));
    match info {
        Err(error) => vec![Check::failed(NAME, &error)],
        Ok(info) => {
            let size = format_size(info.bytes);
            let detail = format!(
                "{}, {}, {}, {size}",
                info.url,
                plural(info.sessions, "session"),
                plural(info.messages, "message")
            );
            let schema = format!("version {} on {}", info.schema_version, info.backend);
            let readable = disk_space::store_path(context).filter(|path| is_accessible_to_others(path));
            let store = match readable {
                Some(path) => {
                    let hint = format!("chmod 600 {}", path.display());
                    Check::warning(NAME, format!("{detail}; other users can read {}", path.display()), hint)
                }
                None => Check::ok(NAME, detail),
            };
            vec![store, Check::ok("schema", schema)]
        }
    }
}

fn check_disk_space(context: &Context) -> Option<Check> {
    const NAME: &str = "disk space";
    let free = disk_space::available(context)?;
    let detail = format!("{} free", format_size(free));
    Some(if free < disk_space::MIN_FREE_BYTES {
        Check::warning(NAME, detail, "messages cannot be saved on a full disk")
    } else {
        Check::ok(NAME, detail)
    })
}

/// Checks which agent is selected. Also returns the models that it uses.
fn check_agent(context: &Context) -> Result<(Check, Vec<ModelConfig>), CliError> {
    const NAME: &str = "agent";
    let choice = wiring::runtime()?.block_on(choose_agent(&context.settings, &context.environment));
    Ok(match choice {
        Err(error) => (Check::failed(NAME, &error), Vec::new()),
        Ok(AgentChoice { backend, reason, warnings, is_last_resort: _ }) => {
            let (detail, models) = match backend {
                AgentBackend::Recall => (format!("recall: {reason}"), Vec::new()),
                AgentBackend::Assistant(model) => (reason, vec![model]),
                AgentBackend::Program(program) => {
                    let name = program.name.clone();
                    if let Err(error) = programs::launch(&program, context) {
                        return Ok((Check::failed(NAME, &error), Vec::new()));
                    }
                    (format!("{reason}; `hfs agents check {name}` starts it"), Vec::new())
                }
                AgentBackend::Triads(config, models) => {
                    let source = if models.is_some() { "" } else { " that search your saved sessions" };
                    let uses_default = Role::ALL.iter().any(|role| config.model_of(*role).is_none());
                    let models = models.into_iter().flat_map(|models| {
                        let default = uses_default.then_some(models.default);
                        default.into_iter().chain(models.named.into_values())
                    });
                    let (mut asked, mut missing) = (Vec::new(), None);
                    for model in models {
                        match model {
                            NamedModel::Model(config) => asked.push(config),
                            NamedModel::Program(program) => {
                                missing = missing.or(programs::launch(&program, context).err());
                            }
                        }
                    }
                    if let Some(error) = missing {
                        return Ok((Check::failed(NAME, &error), Vec::new()));
                    }
                    (format!("{} triads{source}, {reason}", config.triads.len()), asked)
                }
            };
            let check = if warnings.is_empty() {
                Check::ok(NAME, detail)
            } else {
                Check::warning(NAME, detail, warnings.join("; "))
            };
            (check, models)
        }
    })
}

/// Warns if the key of a model can be read on its way to the server.
fn check_encryption(model: &ModelConfig) -> Option<Check> {
    model.exposes_secrets().then(|| {
        let label = server_label(model.provider, model.base_url.as_deref());
        let detail =
            format!("keys and messages go to {label} unencrypted, so anyone on the way can read them");
        Check::warning("encryption", detail, "use an https:// address if the server has one")
    })
}

/// Asks the server of a model for its models.
fn check_server(model: ModelConfig) -> Result<Check, CliError> {
    const NAME: &str = "server";
    /// How many names are shown.
    const MAX_NAMES: usize = 8;
    let label = server_label(model.provider, model.base_url.as_deref());
    let name = model.model.clone();
    Ok(match wiring::runtime()?.block_on(list_models(model)) {
        // Many servers answer requests without listing their models, so only a refused key is certain to fail later.
        Err(error) if error.kind() == ErrorKind::Denied => Check::failed(NAME, &error.into()),
        Err(error) => {
            let hint = match error.suggestion() {
                // Nothing was sent. Many servers have no list, and reply all the same.
                None
                | Some(Suggestion::SendAgainLater | Suggestion::CheckBaseUrl | Suggestion::CheckModel) => {
                    "it may reply all the same; if it does not, check base_url and the key".to_owned()
                }
                Some(suggestion) => suggestions::describe(&suggestion),
            };
            let detail = format!("it has no list of models: {}", CliError::from(error).document().one_line());
            Check::warning(NAME, detail, hint)
        }
        Ok(ServerModels { names, .. }) if names.is_empty() => {
            let hint = "install or load one on the server; some servers reply without listing any";
            Check::warning(NAME, format!("{label} lists no models"), hint)
        }
        Ok(ServerModels { names, context_tokens }) => {
            let shown: Vec<&str> = names.iter().take(MAX_NAMES).map(String::as_str).collect();
            let more = names.len().saturating_sub(shown.len());
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            let context = context_tokens
                .map(|tokens| format!("; the context of {name} has {tokens} tokens"))
                .unwrap_or_default();
            let count = plural(names.len(), "model");
            let detail = format!("{label} has {count}: {}{more}{context}", shown.join(", "));
            let tagged = format!("{name}:latest");
            match names.iter().find(|name| can_chat(name)).or(names.first()) {
                Some(other) if !names.contains(&name) && !names.contains(&tagged) => {
                    let hint = format!("{name} is not among them; choose one: hfs config set model {other}");
                    Check::warning(NAME, detail, hint)
                }
                _ => Check::ok(NAME, detail),
            }
        }
    })
}

/// Shows which variables hold API keys, never their values.
fn check_keys(context: &Context) -> Check {
    const NAME: &str = "keys";
    let variables: Vec<&str> =
        Provider::ALL.into_iter().flat_map(|provider| provider.key_variables().iter().copied()).collect();
    let set: Vec<&str> = variables
        .iter()
        .copied()
        .filter(|name| context.environment.get(name).is_some_and(|value| !value.trim().is_empty()))
        .collect();
    if set.is_empty() {
        Check::ok(NAME, format!("none in the environment ({})", variables.join(", ")))
    } else {
        Check::ok(NAME, format!("{} set", set.join(", ")))
    }
}

fn check_plugins(context: &Context) -> Check {
    const NAME: &str = "plugins";
    let plugins = Plugins::discover(wiring::plugins::host_config(context, None)).list();
    let names_in = |states: &[PluginState]| -> Vec<&str> {
        let matching = plugins.iter().filter(|plugin| states.contains(&plugin.state));
        matching.map(|plugin| plugin.name.as_str()).collect()
    };
    let interpreters = wiring::interpreters::locations(context);
    let installed: Vec<&str> = Language::ALL
        .into_iter()
        .filter(|language| interpreters.find(*language).is_some())
        .map(Language::as_str)
        .collect();
    let interpreters = if installed.is_empty() {
        "no interpreter".into()
    } else {
        format!("interpreters: {}", installed.join(", "))
    };
    let active = names_in(&[PluginState::Active]).len();
    let detail = format!("{active} of {} active; {interpreters}", plugins.len());
    let broken = names_in(&[PluginState::Invalid, PluginState::Quarantined]);
    if broken.is_empty() {
        return Check::ok(NAME, detail);
    }
    let hint = format!("`hfs plugin list` shows why {} does not run", broken.join(", "));
    Check::warning(NAME, detail, hint)
}

fn check_transcripts(context: &Context) -> Check {
    let locations: Vec<String> = transcript_locations(&context.environment)
        .iter()
        .map(|(format, path)| format!("{format} in {}", path.display()))
        .collect();
    let detail =
        if locations.is_empty() { "none in the usual places".to_owned() } else { locations.join(", ") };
    Check::ok("transcripts", detail)
}

/// Whether new transcripts are imported.
fn check_watcher(context: &Context) -> Check {
    const NAME: &str = "watcher";
    let is_watched = ImportFolder::of(context).ok().flatten().is_some_and(|folder| folder.is_watched());
    if is_watched {
        return Check::ok(NAME, "running; `hfs watch --status` shows what it has imported");
    }
    let detail = match (
        context.settings.catch_up_time.is_zero(),
        transcript_locations(&context.environment).is_empty(),
    ) {
        (_, true) => "not running, and there is nothing to watch",
        (false, false) => "not running; search, recall and the app import what is new",
        (true, false) => {
            "not running, and watch.catch_up_ms is 0: new transcripts are imported by `hfs watch --once` only"
        }
    };
    Check::ok(NAME, detail)
}

/// Whether Claude Code is about to delete transcripts that are not saved.
fn check_deletion(context: &Context) -> Option<Check> {
    const NAME: &str = "deletion";
    let store = context.store().ok()?.as_ref();
    let found = retention::examine(store, &context.environment)?;
    let retention::Examined { days, unsaved, first_at, deleted_and_saved } = found;
    let plural = |count: u64| if count == 1 { "" } else { "s" };
    let mut detail = format!("Claude Code deletes sessions after {days} day{}", plural(days));
    if deleted_and_saved > 0 {
        detail += &format!(
            "; {deleted_and_saved} that it has deleted {} saved",
            if deleted_and_saved == 1 { "is" } else { "are" }
        );
    }
    if unsaved == 0 {
        return Some(Check::ok(NAME, detail));
    }
    let when = first_at
        .map(|at| format!(", the first one {}", retention::in_days(at, context.now())))
        .unwrap_or_default();
    detail += &format!(
        "; it will soon delete {unsaved} session{} that {} not saved{when}",
        plural(unsaved),
        if unsaved == 1 { "is" } else { "are" }
    );
    let hint = "`hfs watch --once` saves them, `hfs watch --install` all from now on";
    Some(Check::warning(NAME, detail, hint))
}

fn check_terminal(context: &Context) -> Check {
    let name = context.environment.get("TERM").unwrap_or("unknown");
    let detail = if context.console.output_is_terminal() {
        let width = context.console.width().map_or_else(String::new, |width| format!(", {width} columns"));
        format!("{name}{width}")
    } else {
        format!("output is not a terminal (TERM is {name})")
    };
    Check::ok("terminal", detail)
}
