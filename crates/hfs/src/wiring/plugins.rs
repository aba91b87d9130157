//! Connects the plugin host to the settings and to the terminal app.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hfs_core::{ErrorExt as _, Node, SessionId, Slot, Store, Tone};
use hfs_plugins::{HostConfig, PluginState, PluginStatus, Plugins, RenderedWidget};
use hfs_tui::{
    ApprovalRequest, ErrorReport, PluginCommand, PluginDecision, PluginHost, PluginRow, PluginRowState,
    PluginView, Widget,
};
use tokio::sync::watch;

use crate::config::{Key, list_in_file, set_in_file};
use crate::context::Context;
use crate::output::error::CliError;
use crate::output::{sanitize, suggestions};
use crate::terminal::app_error;
use crate::wiring;

/// The configuration of the plugin host. Without a store, plugins see no sessions.
pub fn host_config(context: &Context, store: Option<Arc<dyn Store>>) -> HostConfig {
    let home = context.home.root().to_path_buf();
    let project = context.project_folder.as_ref().filter(|project| project.is_trusted());
    let mut config = HostConfig::new(home, context.home.plugin_cache());
    config.interpreters = wiring::interpreters::locations(context);
    config.project = project.and_then(|project| project.folder.plugins());
    config.user_home.clone_from(&context.environment.user_home);
    config.disabled = context.settings.disabled_plugins.iter().cloned().collect();
    config.store = store;
    config.limits.hook = context.settings.plugin_hook_timeout;
    config.limits.command = context.settings.plugin_command_timeout;
    config
}

/// Enables a plugin in this process and in the user's configuration, which other processes read.
///
/// # Errors
/// `NotFound`, or if the configuration cannot be changed.
pub fn enable(plugins: &Plugins, user_config: &Path, plugin: &str) -> Result<(), CliError> {
    plugins.get(plugin)?;
    set_disabled(user_config, plugin, false)?;
    Ok(plugins.enable(plugin)?)
}

/// Disables a plugin in this process and in the user's configuration.
///
/// # Errors
/// As [`enable`].
pub fn disable(plugins: &Plugins, user_config: &Path, plugin: &str) -> Result<(), CliError> {
    plugins.get(plugin)?;
    set_disabled(user_config, plugin, true)?;
    Ok(plugins.disable(plugin)?)
}

fn set_disabled(user_config: &Path, plugin: &str, is_disabled: bool) -> Result<(), CliError> {
    let mut names = list_in_file(user_config, Key::DisabledPlugins)?;
    if names.iter().any(|name| name == plugin) == is_disabled {
        return Ok(());
    }
    names.retain(|name| name != plugin);
    if is_disabled {
        names.push(plugin.to_owned());
    }
    set_in_file(user_config, Key::DisabledPlugins, &format!("[{}]", names.join(", ")))?;
    Ok(())
}

/// The terminal app's port for plugins.
pub struct AppPluginHost {
    plugins: Plugins,
    user_config: PathBuf,
}

impl AppPluginHost {
    pub fn new(plugins: Plugins, context: &Context) -> Self {
        Self { plugins, user_config: context.config_paths.user.clone() }
    }

    fn apply(&self, plugin: &str, decision: PluginDecision) -> Result<(), CliError> {
        match decision {
            PluginDecision::Approve => Ok(self.plugins.approve(plugin)?),
            PluginDecision::Deny => Ok(self.plugins.deny(plugin)?),
            PluginDecision::Enable => enable(&self.plugins, &self.user_config, plugin),
            PluginDecision::Disable => disable(&self.plugins, &self.user_config, plugin),
        }
    }
}

impl PluginHost for AppPluginHost {
    fn view(&self, session: Option<SessionId>) -> PluginView {
        let plugins = self.plugins.list();
        let pending = plugins.iter().filter(|plugin| plugin.state == PluginState::Pending);
        PluginView {
            pending: pending.map(approval_request).collect(),
            plugins: plugins.iter().map(row).collect(),
            commands: self
                .plugins
                .commands()
                .into_iter()
                .map(|command| PluginCommand { name: command.name, about: command.about })
                .collect(),
            widgets: self.plugins.widgets(session).into_iter().map(widget).collect(),
            notices: self.plugins.take_notices(),
        }
    }

    fn changes(&self) -> Option<watch::Receiver<u64>> {
        Some(self.plugins.changes())
    }

    fn decide(&self, plugin: &str, decision: PluginDecision) -> Result<(), ErrorReport> {
        self.apply(plugin, decision).map_err(|error| app_error(&error))
    }

    fn run(&self, command: &str, arguments: &str, session: Option<SessionId>) -> Result<String, ErrorReport> {
        let runtime = wiring::runtime().map_err(|error| app_error(&error))?;
        let output = runtime.block_on(self.plugins.run(command, arguments, session));
        output.map(Option::unwrap_or_default).map_err(|error| ErrorReport {
            kind: error.kind(),
            message: sanitize::line(&error.to_string()),
            suggestion: suggestions::hint(&error),
        })
    }
}

fn row(plugin: &PluginStatus) -> PluginRow {
    let warnings = plugin.warnings.iter().map(String::as_str);
    let reasons = std::iter::once(plugin.reason.as_str()).chain(warnings).filter(|text| !text.is_empty());
    PluginRow {
        name: plugin.name.clone(),
        version: plugin.version.clone(),
        state: row_state(plugin.state),
        reason: reasons.collect::<Vec<_>>().join("; "),
        capabilities: plugin.capabilities.iter().map(|capability| capability.as_str().to_owned()).collect(),
    }
}

const fn row_state(state: PluginState) -> PluginRowState {
    match state {
        PluginState::Active => PluginRowState::Active,
        PluginState::Pending => PluginRowState::Pending,
        PluginState::Denied => PluginRowState::Denied,
        PluginState::Disabled => PluginRowState::Disabled,
        PluginState::Quarantined => PluginRowState::Quarantined,
        PluginState::Invalid => PluginRowState::Invalid,
    }
}

fn approval_request(plugin: &PluginStatus) -> ApprovalRequest {
    ApprovalRequest {
        plugin: plugin.name.clone(),
        version: plugin.version.clone(),
        about: plugin.description.clone(),
        permissions: plugin.permissions.iter().map(hfs_plugins::Permission::description).collect(),
        new_permissions: plugin.new_permissions.iter().map(hfs_plugins::Permission::description).collect(),
    }
}

fn widget(widget: RenderedWidget) -> Widget {
    // The status bar has no room for titles.
    let has_title = widget.slot != Slot::StatusBar && !widget.title.is_empty();
    let title = has_title.then(|| Node::Text(vec![(widget.title, Tone::Accent)]));
    Widget {
        plugin: widget.plugin,
        slot: widget.slot,
        nodes: title.into_iter().chain(widget.nodes).collect(),
    }
}
