//! Plugins: where they are, and how the app sees them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hfs_core::{ErrorExt, Node, SessionId, Slot, Store, SystemClock, Tone};
use hfs_plugins::{HostParts, Interpreters, Limits, Picture, PluginError, PluginStatus, Plugins, State};
use hfs_tui::{
    ApprovalRequest, ErrorReport, PluginCommand, PluginDecision, PluginHost, PluginRow, PluginRowState,
    PluginView, Widget,
};
use tokio::sync::watch;

use crate::config::{Key, Setting, Value, list_in_file, set_in_file};
use crate::context::Context;
use crate::failure::Failure;
use crate::plain;
use crate::terminal::told;

const DISABLED: &str = "disabled_plugins";

/// What the host of plugins is made of. Without a store, plugins see no sessions.
pub fn parts(context: &Context, store: Option<Arc<dyn Store>>) -> HostParts {
    let home = context.home.root().to_path_buf();
    let project = context.environment.working_directory.join(".hfs").join("plugins");
    HostParts {
        cache: context.home.machine_code(),
        interpreters: interpreters(context),
        only: None,
        project: (!is_same(&project, &home.join("plugins"))).then_some(project),
        user_home: context.environment.user_home.clone(),
        disabled: disabled(context),
        store,
        clock: Arc::new(SystemClock),
        limits: Limits {
            hook: Duration::from_millis(context.settings.plugin_hook_ms),
            command: Duration::from_millis(context.settings.plugin_command_ms),
            ..Limits::default()
        },
        home,
    }
}

/// Where interpreters are looked for.
pub fn interpreters(context: &Context) -> Interpreters {
    Interpreters { own: context.home.runtimes(), beside: context.environment.program_folder.clone() }
}

/// Whoever works in their home directory has no project there.
fn is_same(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

fn disabled(context: &Context) -> BTreeSet<String> {
    match Key::find(DISABLED).and_then(|key| context.config.get(key)) {
        Some(Setting { value: Value::List(names), .. }) => names.iter().cloned().collect(),
        _ => BTreeSet::new(),
    }
}

/// Switches a plugin on or off in the user's configuration.
///
/// # Errors
/// As the file has it.
pub fn keep_disabled(user_config: &Path, plugin: &str, off: bool) -> Result<(), Failure> {
    let key = Key::named(DISABLED)?;
    let mut names = list_in_file(user_config, key)?;
    if names.iter().any(|name| name == plugin) == off {
        return Ok(());
    }
    names.retain(|name| name != plugin);
    if off {
        names.push(plugin.to_owned());
    }
    set_in_file(user_config, key, &format!("[{}]", names.join(", ")))?;
    Ok(())
}

/// The plugins as the app sees them.
pub struct Host {
    plugins: Plugins,
    user_config: PathBuf,
}

impl Host {
    pub fn new(plugins: Plugins, context: &Context) -> Self {
        Self { plugins, user_config: context.sources.user.clone() }
    }

    fn decide_about(&self, plugin: &str, decision: PluginDecision) -> Result<(), Failure> {
        match decision {
            PluginDecision::Approve => self.plugins.approve(plugin)?,
            PluginDecision::Deny => self.plugins.deny(plugin)?,
            PluginDecision::Enable => {
                self.plugins.get(plugin)?;
                keep_disabled(&self.user_config, plugin, false)?;
                self.plugins.enable(plugin)?;
            }
            PluginDecision::Disable => {
                self.plugins.get(plugin)?;
                keep_disabled(&self.user_config, plugin, true)?;
                self.plugins.disable(plugin)?;
            }
        }
        Ok(())
    }
}

impl PluginHost for Host {
    fn view(&self, session: Option<SessionId>) -> PluginView {
        let plugins = self.plugins.list();
        let pending = plugins.iter().filter(|plugin| plugin.state == State::Pending).map(request).collect();
        PluginView {
            pending,
            plugins: plugins.iter().map(row).collect(),
            commands: self
                .plugins
                .commands()
                .into_iter()
                .map(|command| PluginCommand { name: command.name, about: command.about })
                .collect(),
            widgets: self.plugins.pictures(session).into_iter().map(widget).collect(),
            notices: self.plugins.take_notices(),
        }
    }

    fn changes(&self) -> Option<watch::Receiver<u64>> {
        Some(self.plugins.changes())
    }

    fn decide(&self, plugin: &str, decision: PluginDecision) -> Result<(), ErrorReport> {
        self.decide_about(plugin, decision).map_err(|failure| told(&failure))
    }

    fn run(&self, command: &str, arguments: &str, session: Option<SessionId>) -> Result<String, ErrorReport> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.map_err(|error| told(&Failure::io("start the asynchronous runtime", error)))?;
        let said = runtime.block_on(self.plugins.run(command, arguments, session));
        said.map(Option::unwrap_or_default).map_err(|error| refused(&error))
    }
}

fn refused(error: &PluginError) -> ErrorReport {
    ErrorReport {
        kind: error.kind(),
        message: plain::line(&error.to_string()),
        suggestion: error.suggestion().as_ref().map(crate::suggestion::hint),
    }
}

fn row(plugin: &PluginStatus) -> PluginRow {
    let warnings = plugin.warnings.iter().map(String::as_str);
    let reason = std::iter::once(plugin.reason.as_str()).chain(warnings).filter(|text| !text.is_empty());
    PluginRow {
        name: plugin.name.clone(),
        version: plugin.version.clone(),
        state: match plugin.state {
            State::Active => PluginRowState::Active,
            State::Pending => PluginRowState::Pending,
            State::Denied => PluginRowState::Denied,
            State::Disabled => PluginRowState::Disabled,
            State::Quarantined => PluginRowState::Quarantined,
            State::Invalid => PluginRowState::Invalid,
        },
        reason: reason.collect::<Vec<_>>().join("; "),
        capabilities: plugin.capabilities.iter().map(|capability| capability.as_str().to_owned()).collect(),
    }
}

fn request(plugin: &PluginStatus) -> ApprovalRequest {
    ApprovalRequest {
        plugin: plugin.name.clone(),
        version: plugin.version.clone(),
        about: plugin.description.clone(),
        permissions: plugin.powers.iter().map(hfs_plugins::Power::words).collect(),
        new_permissions: plugin.new_powers.iter().map(hfs_plugins::Power::words).collect(),
    }
}

fn widget(picture: Picture) -> Widget {
    // The line of status has no room for titles.
    let has_title = picture.slot != Slot::StatusBar && !picture.title.is_empty();
    let title = has_title.then(|| Node::Text(vec![(picture.title, Tone::Accent)]));
    Widget {
        plugin: picture.plugin,
        slot: picture.slot,
        nodes: title.into_iter().chain(picture.nodes).collect(),
    }
}
