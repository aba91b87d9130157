//! The user's decisions about plugins, and the state of each plugin that results from them.
//!
//! Decisions are stored in the approvals file, `plugin_permissions.yaml`, each with the content hash it applies to. A
//! plugin whose files no longer match the approved hash is pending again. If the file cannot be read, no plugin may
//! run.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use hfs_core::lock_unpoisoned;
use hfs_files::Durability;
use serde::{Deserialize, Serialize};

use crate::PluginError;
use crate::error::{InvalidPlugin, StartError};
use crate::host::{Inner, MISSED_MESSAGE, Plugins};
use crate::plugin::{FoundPlugin, Place};
use crate::private_files::{acquire_file_lock, replace_file};
use crate::worker::{AfterStop, CallKind};

/// Version of the file format.
const VERSION: u32 = 1;
/// Size limit of the file, in bytes.
const MAX_BYTES: u64 = 4 << 20;

/// State of a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PluginState {
    /// Approved: the plugin runs or is starting.
    Active,
    /// The user has not decided about its current files yet.
    Pending,
    /// Denied by the user, or part of a project and not approved yet.
    Denied,
    /// Disabled by the user.
    Disabled,
    /// The host stopped it too often. It does not run until the user enables it.
    Quarantined,
    /// Its files are not a valid plugin, or it failed to start.
    Invalid,
}

impl PluginState {
    /// Name in JSON output.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Pending => "pending",
            Self::Denied => "denied",
            Self::Disabled => "disabled",
            Self::Quarantined => "quarantined",
            Self::Invalid => "invalid",
        }
    }
}

impl fmt::Display for PluginState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A plugin's state with its reason. The message is shown as `reason` in lists; it is empty for an approved plugin.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Assessment {
    #[error("")]
    Approved,
    #[error("it is not approved yet")]
    NotApproved,
    #[error("it comes with the project and is not approved yet")]
    ProjectNotApproved,
    #[error("{}", StartError::Changed)]
    Changed,
    #[error("the approvals cannot be read: {0}")]
    ApprovalsUnreadable(String),
    #[error("it was denied on {0}")]
    Denied(String),
    #[error("it is switched off (disabled_plugins)")]
    Disabled,
    #[error("{0}")]
    Quarantined(String),
    #[error(transparent)]
    Invalid(InvalidPlugin),
    #[error(transparent)]
    NotStarted(StartError),
}

impl Assessment {
    /// Decides whether a plugin may run. `approval` is `Err` with the reason if the approvals file cannot be read, and
    /// `None` if it has no decision about this plugin.
    pub fn new(found: &FoundPlugin, is_disabled: bool, approval: Result<Option<&Approval>, &str>) -> Self {
        let content = match &found.content {
            Err(invalid) => return Self::Invalid(invalid.clone()),
            Ok(content) => content,
        };
        if is_disabled {
            return Self::Disabled;
        }
        let approval = match approval {
            Err(reason) => return Self::ApprovalsUnreadable(reason.to_owned()),
            Ok(None) => {
                return match found.place {
                    Place::Home => Self::NotApproved,
                    Place::Project => Self::ProjectNotApproved,
                };
            }
            Ok(Some(approval)) => approval,
        };
        match (approval.decision, &approval.quarantine) {
            (Decision::Denied, _) => Self::Denied(approval.day().to_owned()),
            (Decision::Approved, _) if approval.content != content.hash => Self::Changed,
            (Decision::Approved, Some(reason)) => Self::Quarantined(reason.clone()),
            (Decision::Approved, None) => Self::Approved,
        }
    }

    pub const fn state(&self) -> PluginState {
        match self {
            Self::Approved => PluginState::Active,
            Self::NotApproved | Self::Changed | Self::ApprovalsUnreadable(_) => PluginState::Pending,
            Self::ProjectNotApproved | Self::Denied(_) => PluginState::Denied,
            Self::Disabled => PluginState::Disabled,
            Self::Quarantined(_) => PluginState::Quarantined,
            Self::Invalid(_) | Self::NotStarted(_) => PluginState::Invalid,
        }
    }
}

impl From<StartError> for Assessment {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Changed => Self::Changed,
            StartError::Invalid(invalid) => Self::Invalid(invalid),
            error => Self::NotStarted(error),
        }
    }
}

/// The approvals file.
#[derive(Debug)]
pub(crate) struct Approvals {
    path: PathBuf,
}

/// The decision about one plugin, and the plugin's strikes since then.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Approval {
    /// Hash of the files that the decision applies to.
    pub content: String,
    pub decision: Decision,
    /// Names of the approved permissions.
    #[serde(default, rename = "powers", skip_serializing_if = "Vec::is_empty")]
    pub permissions: Vec<String>,
    /// Time of the decision, in RFC 3339.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub decided_at: String,
    /// How often the host has stopped the plugin since the decision.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub strikes: u32,
    /// Why the plugin is quarantined; `None` if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Decision {
    Approved,
    #[default]
    Denied,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
const fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl Approval {
    fn day(&self) -> &str {
        self.decided_at.split('T').next().unwrap_or_default()
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Document {
    version: u32,
    #[serde(default)]
    plugins: BTreeMap<String, Approval>,
}

impl Approvals {
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// All decisions, by [`FoundPlugin::approval_key`].
    ///
    /// # Errors
    /// If the file exists and cannot be read or parsed.
    pub fn read(&self) -> Result<BTreeMap<String, Approval>, PluginError> {
        let text = match fs::metadata(&self.path) {
            Ok(metadata) if metadata.len() > MAX_BYTES => {
                return Err(self.invalid(format!("{} bytes are too many", metadata.len())));
            }
            Ok(_) => {
                fs::read_to_string(&self.path).map_err(|error| PluginError::io("read", &self.path, error))?
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(error) => return Err(PluginError::io("read", &self.path, error)),
        };
        let options = serde_saphyr::options! { with_snippet: false };
        let document: Document = serde_saphyr::from_str_with_options(&text, options).map_err(|error| {
            self.invalid(error.to_string().lines().next().unwrap_or("not YAML").to_owned())
        })?;
        if document.version != VERSION {
            return Err(
                self.invalid(format!("version {} is not known; this hfs knows {VERSION}", document.version))
            );
        }
        Ok(document.plugins)
    }

    /// Changes the decision about one plugin; `None` deletes it. The file is locked meanwhile, so that concurrent
    /// changes by other processes are not lost.
    ///
    /// # Errors
    /// If the file cannot be read, parsed or written; it is then unchanged.
    pub fn update(
        &self,
        key: &str,
        change: impl FnOnce(Option<Approval>) -> Option<Approval>,
    ) -> Result<(), PluginError> {
        let _lock = acquire_file_lock(&self.path)?;
        let mut plugins = self.read()?;
        let before = plugins.remove(key);
        if let Some(after) = change(before) {
            plugins.insert(key.to_owned(), after);
        }
        // JSON is valid YAML, so the crate does not need a YAML writer.
        let mut text = serde_json::to_string_pretty(&Document { version: VERSION, plugins })
            .map_err(|error| PluginError::io("write", &self.path, error.into()))?;
        text.push('\n');
        replace_file(&self.path, text.as_bytes(), Durability::Synced)
    }

    fn invalid(&self, message: String) -> PluginError {
        PluginError::InvalidFile { path: self.path.clone(), message }
    }
}

impl Plugins {
    /// Approves a plugin with its current files, and starts it.
    ///
    /// # Errors
    /// `PluginNotFound`. `NotActive` if the plugin is invalid, or if its files changed since it was listed, because the
    /// user has not reviewed the changed files. Any error of reading or writing the approvals file.
    pub fn approve(&self, name: &str) -> Result<(), PluginError> {
        let inner = self.inner();
        let (listed, not_active) = {
            let table = lock_unpoisoned(&inner.table);
            let entry = table.entry(name)?;
            (entry.found.clone(), entry.not_active())
        };
        let Ok(content) = &listed.content else { return Err(not_active) };
        let current = FoundPlugin::read(&listed.folder, listed.place);
        if current.hash() != Some(&content.hash) {
            inner.rediscover();
            return Err(PluginError::NotActive {
                name: name.to_owned(),
                state: PluginState::Pending,
                reason: "its files changed while they were being reviewed".to_owned(),
            });
        }
        let approval = Approval {
            content: content.hash.clone(),
            decision: Decision::Approved,
            permissions: content.permissions().iter().map(ToString::to_string).collect(),
            decided_at: inner.clock().now().to_string(),
            strikes: 0,
            quarantine: None,
        };
        inner.approvals.update(&listed.approval_key(), |_| Some(approval))?;
        inner.refresh();
        Ok(())
    }

    /// Denies a plugin, and stops it.
    ///
    /// # Errors
    /// `PluginNotFound`, and any error of reading or writing the approvals file.
    pub fn deny(&self, name: &str) -> Result<(), PluginError> {
        let inner = self.inner();
        let found = lock_unpoisoned(&inner.table).entry(name)?.found.clone();
        let denied = Approval {
            content: found.hash().unwrap_or_default().to_owned(),
            decision: Decision::Denied,
            decided_at: inner.clock().now().to_string(),
            ..Approval::default()
        };
        inner.approvals.update(&found.approval_key(), |_| Some(denied))?;
        inner.refresh();
        Ok(())
    }

    /// Deletes the decision about a plugin, and stops it.
    ///
    /// # Errors
    /// `PluginNotFound`, and any error of reading or writing the approvals file.
    pub fn revoke(&self, name: &str) -> Result<(), PluginError> {
        let inner = self.inner();
        let key = lock_unpoisoned(&inner.table).entry(name)?.found.approval_key();
        inner.approvals.update(&key, |_| None)?;
        inner.refresh();
        Ok(())
    }

    /// Enables a plugin and ends its quarantine. It runs only if it is also approved.
    ///
    /// # Errors
    /// `PluginNotFound`, and any error of reading or writing the approvals file.
    pub fn enable(&self, name: &str) -> Result<(), PluginError> {
        let inner = self.inner();
        let key = {
            let mut table = lock_unpoisoned(&inner.table);
            let key = table.entry(name)?.found.approval_key();
            table.disabled.remove(name);
            key
        };
        inner.approvals.update(&key, |approval| {
            approval.map(|approval| Approval { strikes: 0, quarantine: None, ..approval })
        })?;
        inner.refresh();
        Ok(())
    }

    /// Disables a plugin in this process. Later processes read `disabled_plugins` from the configuration, which the
    /// caller changes.
    ///
    /// # Errors
    /// `PluginNotFound`.
    pub fn disable(&self, name: &str) -> Result<(), PluginError> {
        let inner = self.inner();
        {
            let mut table = lock_unpoisoned(&inner.table);
            table.entry(name)?;
            table.disabled.insert(name.to_owned());
        }
        inner.refresh();
        Ok(())
    }
}

impl Inner {
    /// Records a strike after the host stopped a plugin, notifies the user, and quarantines the plugin at the limit.
    ///
    /// Strikes are stored with the approval. If they were counted in memory, a plugin that is stopped once in every
    /// process would never be quarantined.
    pub(crate) fn record_stop(
        self: &Arc<Self>,
        found: &FoundPlugin,
        call: CallKind,
        reason: &str,
    ) -> AfterStop {
        let limit = self.limits().strikes;
        let mut strikes = 0;
        let mut quarantine = None;
        let mut is_current = true;
        let updated = self.approvals.update(&found.approval_key(), |approval| {
            let mut approval = approval?;
            // A strike of earlier files of the plugin says nothing about those that are approved now.
            is_current = found.hash() == Some(&approval.content);
            if !is_current {
                return Some(approval);
            }
            approval.strikes += 1;
            strikes = approval.strikes;
            if strikes >= limit {
                approval.quarantine =
                    Some(format!("it was stopped {strikes} times, most recently in {call}: {reason}"));
            }
            quarantine.clone_from(&approval.quarantine);
            Some(approval)
        });
        if let Err(error) = updated {
            // Without stored strikes the limit would never be reached, so the plugin is quarantined at once.
            quarantine = Some(format!("it was stopped in {call}: {reason}, and {error}"));
        }
        let missed_message = match call {
            CallKind::OnMessage => format!("; {MISSED_MESSAGE}"),
            CallKind::OnStart
            | CallKind::OnEvent
            | CallKind::OnRunComplete
            | CallKind::OnExit
            | CallKind::Command
            | CallKind::Render => String::new(),
        };
        if !is_current {
            self.notices.push(&found.name, &format!("an earlier version was stopped in {call}: {reason}"));
            return AfterStop::End;
        }
        let Some(quarantine) = quarantine else {
            let text = format!("stopped in {call}: {reason} ({strikes} of {limit}){missed_message}");
            self.notices.push(&found.name, &text);
            return AfterStop::Continue;
        };
        self.notices.push(&found.name, &format!("quarantined: {quarantine}{missed_message}"));
        if let Ok(entry) = lock_unpoisoned(&self.table).entry_mut(&found.name) {
            entry.stop(Assessment::Quarantined(quarantine));
        }
        self.notices.mark_changed();
        AfterStop::End
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn approvals() -> (tempfile::TempDir, Approvals) {
        let folder = tempfile::tempdir().unwrap();
        let approvals = Approvals::new(folder.path().join("new/plugin_permissions.yaml"));
        (folder, approvals)
    }

    #[test]
    fn decisions_are_stored_and_deleted_in_a_private_file() {
        let (_folder, approvals) = approvals();
        assert_eq!(approvals.read().unwrap(), BTreeMap::new());
        let approval = Approval {
            content: "abc".into(),
            decision: Decision::Approved,
            permissions: vec!["session:read".into()],
            decided_at: "2026-01-01T00:00:00Z".into(),
            strikes: 1,
            quarantine: None,
        };
        approvals.update("a", |_| Some(approval.clone())).unwrap();
        approvals.update("b", |_| Some(Approval::default())).unwrap();
        approvals
            .update("a", |before| {
                before.map(|approval| Approval { quarantine: Some("3 traps".into()), ..approval })
            })
            .unwrap();
        let expected = Approval { quarantine: Some("3 traps".into()), ..approval };
        assert_eq!(approvals.read().unwrap()["a"], expected);
        approvals.update("a", |_| None).unwrap();
        assert_eq!(approvals.read().unwrap().keys().collect::<Vec<_>>(), ["b"]);
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(&approvals.path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn an_invalid_file_approves_nothing_and_is_not_overwritten() {
        for text in [
            "{",
            "version: 2\n",
            "version: 1\nplugins: 3\n",
            "version: 1\nplugins: {a: {content: x, decision: perhaps}}\n",
        ] {
            let (_folder, approvals) = approvals();
            fs::create_dir_all(approvals.path.parent().unwrap()).unwrap();
            fs::write(&approvals.path, text).unwrap();
            assert!(approvals.read().is_err(), "{text}");
            assert!(approvals.update("a", |_| Some(Approval::default())).is_err());
            assert_eq!(fs::read_to_string(&approvals.path).unwrap(), text);
        }
    }

    #[test]
    fn concurrent_decisions_are_all_stored() {
        let (_folder, approvals) = approvals();
        std::thread::scope(|scope| {
            for number in 0..8 {
                let approvals = &approvals;
                scope.spawn(move || {
                    approvals.update(&format!("p{number}"), |_| Some(Approval::default())).unwrap();
                });
            }
        });
        assert_eq!(approvals.read().unwrap().len(), 8);
    }
}
