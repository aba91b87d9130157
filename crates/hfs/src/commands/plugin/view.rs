//! How plugins look, to people and to scripts.

use std::path::PathBuf;

use hfs_plugins::{Permission, Place, PluginStatus};
use serde::Serialize;

use crate::console::Palette;
use crate::plain;

/// A plugin, for scripts.
#[derive(Serialize)]
pub struct PluginRow {
    name: String,
    version: String,
    description: String,
    capabilities: Vec<&'static str>,
    permissions: Vec<String>,
    new_permissions: Vec<String>,
    state: &'static str,
    reason: String,
    place: &'static str,
    folder: PathBuf,
    warnings: Vec<String>,
    content: String,
}

impl From<&PluginStatus> for PluginRow {
    fn from(plugin: &PluginStatus) -> Self {
        let named = |powers: &[Permission]| powers.iter().map(ToString::to_string).collect();
        Self {
            name: plugin.name.clone(),
            version: plugin.version.clone(),
            description: plugin.description.clone(),
            capabilities: plugin.capabilities.iter().map(|capability| capability.as_str()).collect(),
            permissions: named(&plugin.permissions),
            new_permissions: named(&plugin.new_permissions),
            state: plugin.state.as_str(),
            reason: plugin.reason.clone(),
            place: match plugin.place {
                Place::Home => "home",
                Place::Project => "project",
            },
            folder: plugin.folder.clone(),
            warnings: plugin.warnings.clone(),
            content: plugin.content_hash.clone(),
        }
    }
}

/// A plugin, for a person who is to decide about it.
pub fn described(plugin: &PluginStatus, palette: &Palette) -> String {
    let Palette { strong, dim, .. } = palette;
    let name = plain::line(&plugin.name);
    let mut text = format!("{strong}{name}{strong:#} {}\n", plugin.version);
    if !plugin.description.is_empty() {
        text += &format!("{}\n", plain::line(&plugin.description));
    }
    text += &format!("{dim}{}{dim:#}\n", plain::line(&plugin.folder.display().to_string()));
    let why =
        if plugin.reason.is_empty() { String::new() } else { format!(": {}", plain::line(&plugin.reason)) };
    text += &format!("It is {}{why}.\n", plugin.state);
    for warning in &plugin.warnings {
        text += &format!("{dim}{}{dim:#}\n", plain::line(warning));
    }
    if !plugin.permissions.is_empty() {
        text += "\nOnce it is approved it may\n";
    }
    text + &listed(plugin, palette)
}

/// What a plugin may do if it is run now.
pub fn powers(plugin: &PluginStatus, palette: &Palette) -> String {
    format!("{} may\n{}", plain::line(&plugin.name), listed(plugin, palette))
}

fn listed(plugin: &PluginStatus, palette: &Palette) -> String {
    let strong = palette.strong;
    let mut text = String::new();
    for power in &plugin.permissions {
        let new = if plugin.new_permissions.contains(power) { "  (new since it was approved)" } else { "" };
        text += &format!("  - {}{strong}{new}{strong:#}\n", plain::line(&power.description()));
    }
    text
}
