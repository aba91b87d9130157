//! What the doctor looks at.

use std::fs;
use std::path::Path;

use hfs_agents::Provider;
use hfs_plugins::{Language, PluginState, Plugins};
use hfs_store::StoreUrl;

use super::Check;
use crate::commands::start::places;
use crate::context::Context;
use crate::failure::Failure;
use crate::transcript::size;
use crate::wiring::{self, Answering, Who};

/// Less free space than this is worth a warning.
const LITTLE_SPACE: u64 = 500_000_000;

pub fn all(context: &Context) -> Result<Vec<Check>, Failure> {
    let mut checks = vec![home(context)];
    checks.extend(configuration(context));
    checks.extend(store(context));
    checks.extend(disk(context));
    checks.push(agent(context)?);
    checks.push(keys(context));
    checks.push(plugins(context));
    checks.push(transcripts(context));
    checks.push(terminal(context));
    Ok(checks)
}

fn home(context: &Context) -> Check {
    const NAME: &str = "home";
    let root = context.home.root();
    if let Err(failure) = context.home.create() {
        return Check::failed(NAME, &failure);
    }
    // Nothing is left behind: the file has no name.
    if let Err(source) = tempfile::tempfile_in(root) {
        return Check::failed(NAME, &Failure::io(format!("write in {}", root.display()), source));
    }
    if is_open_to_others(root) {
        let hint = format!("chmod 700 {}", root.display());
        return Check::warning(NAME, format!("{} can be read by others", root.display()), hint);
    }
    Check::ok(NAME, root.display().to_string())
}

#[cfg(unix)]
fn is_open_to_others(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).is_ok_and(|metadata| metadata.mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn is_open_to_others(_path: &Path) -> bool {
    false
}

fn configuration(context: &Context) -> Vec<Check> {
    const NAME: &str = "config";
    let user = context.sources.user.display();
    let project =
        context.sources.project.as_ref().map(|path| format!(" and {}", path.display())).unwrap_or_default();
    let mut checks: Vec<Check> = context
        .config
        .warnings
        .iter()
        .map(|warning| Check::warning(NAME, warning.clone(), "`hfs config list` shows every setting"))
        .collect();
    match crate::config::Config::load(&context.sources, &context.environment, &context.global.settings()) {
        Err(error) => checks.push(Check::failed(NAME, &error.into())),
        Ok(_) if checks.is_empty() && context.sources.user.exists() => {
            checks.push(Check::ok(NAME, format!("{user}{project}")));
        }
        Ok(_) if checks.is_empty() => checks.push(Check::ok(NAME, format!("defaults (no {user}){project}"))),
        Ok(_) => {}
    }
    checks
}

fn store(context: &Context) -> Vec<Check> {
    const NAME: &str = "store";
    let info = context.store().and_then(|store| Ok(store.info()?));
    match info {
        Err(failure) => vec![Check::failed(NAME, &failure)],
        Ok(info) => vec![
            Check::ok(
                NAME,
                format!(
                    "{}, {} sessions, {} messages, {}",
                    info.url,
                    info.sessions,
                    info.messages,
                    size(info.bytes)
                ),
            ),
            Check::ok("schema", format!("version {} on {}", info.schema_version, info.backend)),
        ],
    }
}

fn disk(context: &Context) -> Option<Check> {
    const NAME: &str = "disk space";
    let StoreUrl::Sqlite(path) = wiring::store_url(&context.home, &context.settings).ok()? else {
        return None;
    };
    let path = context.environment.working_directory.join(path);
    let free = fs4::available_space(path.ancestors().skip(1).find(|folder| folder.is_dir())?).ok()?;
    Some(if free < LITTLE_SPACE {
        Check::warning(NAME, format!("{} free", size(free)), "a full disk keeps messages from being saved")
    } else {
        Check::ok(NAME, format!("{} free", size(free)))
    })
}

fn agent(context: &Context) -> Result<Check, Failure> {
    const NAME: &str = "agent";
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::io("start the asynchronous runtime", error))?;
    Ok(match runtime.block_on(wiring::decision(&context.settings, &context.environment)) {
        Err(failure) => Check::failed(NAME, &failure),
        Ok(Answering { who, why, warnings }) => {
            let what = match who {
                Who::Recall => format!("recall: {why}"),
                Who::Assistant(_) => why,
                Who::Triads(config, models) => {
                    let on = if models.is_some() { "" } else { " that search your saved sessions" };
                    format!("{} triads{on}, {why}", config.triads.len())
                }
            };
            if warnings.is_empty() {
                Check::ok(NAME, what)
            } else {
                Check::warning(NAME, what, warnings.join("; "))
            }
        }
    })
}

/// Keys by the names of their variables; their values are nobody's business.
fn keys(context: &Context) -> Check {
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

/// Which plugins there are, and what runs those that are source.
fn plugins(context: &Context) -> Check {
    const NAME: &str = "plugins";
    let all = Plugins::discover(wiring::plugins::parts(context, None)).list();
    let named = |wanted: &[PluginState]| -> Vec<&str> {
        let wanted = all.iter().filter(|plugin| wanted.contains(&plugin.state));
        wanted.map(|plugin| plugin.name.as_str()).collect()
    };
    let places = wiring::plugins::interpreters(context);
    let here: Vec<&str> = Language::ALL
        .into_iter()
        .filter(|language| places.find(*language).is_some())
        .map(Language::as_str)
        .collect();
    let interpreters =
        if here.is_empty() { "no interpreter".into() } else { format!("interpreters: {}", here.join(", ")) };
    let detail = format!("{} running of {}; {interpreters}", named(&[PluginState::Active]).len(), all.len());
    let broken = named(&[PluginState::Invalid, PluginState::Quarantined]);
    if broken.is_empty() {
        return Check::ok(NAME, detail);
    }
    let hint = format!("`hfs plugin list` says why {} does not run", broken.join(", "));
    Check::warning(NAME, detail, hint)
}

fn transcripts(context: &Context) -> Check {
    let found = places(&context.environment);
    let shown: Vec<String> =
        found.iter().map(|(format, path)| format!("{format} in {}", path.display())).collect();
    let detail = if shown.is_empty() { "none in the usual places".to_owned() } else { shown.join(", ") };
    Check::ok("transcripts", detail)
}

fn terminal(context: &Context) -> Check {
    let name = context.environment.get("TERM").unwrap_or("unknown");
    let place = if context.console.output_is_terminal() {
        let width = context.console.width().map_or_else(String::new, |width| format!(", {width} columns"));
        format!("{name}{width}")
    } else {
        format!("output is not a terminal (TERM is {name})")
    };
    Check::ok("terminal", place)
}
