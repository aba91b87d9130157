//! In which state each plugin is, and why.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::{Entry, Table};
use crate::PluginError;
use crate::actor::Handle;
use crate::capability::{Capability, Export};
use crate::discover::{CHANGED, Candidate, Found, Place};
use crate::grants::{Decision, Grant};
use crate::power::{Power, beyond};

/// In which state a plugin is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It may run, and does.
    Active,
    /// Nobody decided about it as it is now.
    Pending,
    /// Somebody decided that it may not run, or it came with a project and nobody decided that it may.
    Denied,
    /// It is switched off.
    Disabled,
    /// It had to be stopped too often.
    Quarantined,
    /// It can be no plugin.
    Invalid,
}

impl State {
    /// The name that scripts see.
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

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A plugin as lists show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginStatus {
    /// Its name.
    pub name: String,
    /// Its version; empty where its manifest makes no sense.
    pub version: String,
    /// What it says it does.
    pub description: String,
    /// Where it lies.
    pub place: Place,
    /// Its folder.
    pub folder: PathBuf,
    /// In which state it is.
    pub state: State,
    /// Why it is in that state, where that needs saying.
    pub reason: String,
    /// What it adds.
    pub capabilities: Vec<Capability>,
    /// What it may do once it is approved.
    pub powers: Vec<Power>,
    /// Of these, what it could not do when it was approved before.
    pub new_powers: Vec<Power>,
    /// What is strange about its manifest, each with its line.
    pub warnings: Vec<String>,
    /// The hash of all its files; empty for an invalid one.
    pub content: String,
}

impl Table {
    /// The entry with this name.
    pub fn entry(&self, name: &str) -> Result<&Entry, PluginError> {
        self.entries.get(name).ok_or_else(|| PluginError::NoPlugin { name: name.to_owned() })
    }

    pub fn entry_mut(&mut self, name: &str) -> Result<&mut Entry, PluginError> {
        self.entries.get_mut(name).ok_or_else(|| PluginError::NoPlugin { name: name.to_owned() })
    }

    /// The plugins that run, in the order of their names.
    pub fn running(&self) -> impl Iterator<Item = (&str, &Handle)> {
        self.entries.iter().filter_map(|(name, entry)| Some((name.as_str(), entry.handle.as_ref()?)))
    }

    /// Who has a command: the plugin, the command's own name there, and how to reach it.
    pub fn command(&self, called: &str) -> Result<(String, String, Handle), PluginError> {
        let (wanted, name) = match called.split_once(':') {
            Some((plugin, name)) => (Some(plugin), name),
            None => (None, called),
        };
        if let Some(plugin) = wanted {
            let entry = self.entry(plugin)?;
            if entry.handle.is_none() {
                return Err(entry.not_active());
            }
        }
        let has = |handle: &Handle| handle.shared().commands.iter().any(|command| command.name == name);
        let mut having = self
            .running()
            .filter(|(plugin, handle)| wanted.is_none_or(|wanted| wanted == *plugin) && has(handle));
        let Some((plugin, handle)) = having.next() else {
            return Err(PluginError::NoCommand { name: called.to_owned() });
        };
        let others: Vec<String> = having.map(|(plugin, _)| format!("{plugin}:{name}")).collect();
        if !others.is_empty() {
            let choices = std::iter::once(format!("{plugin}:{name}")).chain(others).collect();
            return Err(PluginError::Ambiguous { name: called.to_owned(), choices });
        }
        Ok((plugin.to_owned(), name.to_owned(), handle.clone()))
    }

    /// What is to become of a plugin that was found.
    pub fn judge(&self, found: Found, grants: &BTreeMap<String, Grant>) -> Entry {
        let grant = grants.get(&found.key());
        let (state, reason) = self.state(&found, grant);
        let mut entry = Entry { found, state, reason, new_powers: Vec::new(), handle: None };
        // What is new can only be said of one that was approved once.
        if let (Ok(candidate), Some(grant)) = (&entry.found.candidate, grant)
            && grant.decision == Decision::Approved
        {
            entry.new_powers = beyond(&candidate.powers(), &grant.powers).cloned().collect();
        }
        entry
    }

    fn state(&self, found: &Found, grant: Option<&Grant>) -> (State, String) {
        let candidate = match &found.candidate {
            Err(reason) => return (State::Invalid, reason.clone()),
            Ok(candidate) => candidate,
        };
        if self.disabled.contains(&found.name) {
            return (State::Disabled, "it is switched off (disabled_plugins)".into());
        }
        if let Some(error) = &self.bad_grants {
            return (State::Pending, format!("what was decided about it cannot be read: {error}"));
        }
        match (grant, found.place) {
            (None, Place::Home) => (State::Pending, "nobody approved it yet".into()),
            (None, Place::Project) => {
                (State::Denied, "it comes with the project and nobody approved it yet".into())
            }
            (Some(grant), _) if grant.decision == Decision::Denied => {
                (State::Denied, format!("it was denied on {}", grant.day()))
            }
            (Some(grant), _) if grant.content != candidate.hash => (State::Pending, CHANGED.to_owned()),
            (Some(grant), _) => match &grant.quarantine {
                Some(reason) => (State::Quarantined, reason.clone()),
                None => (State::Active, String::new()),
            },
        }
    }
}

impl Grant {
    fn day(&self) -> &str {
        self.decided_at.split('T').next().unwrap_or_default()
    }
}

impl Entry {
    /// Goes on with the thread of the plugin as it was known before, if that is still the same plugin.
    pub fn take_over(&mut self, old: Option<Self>) {
        let Some(mut old) = old else { return };
        let hash = |entry: &Self| entry.found.candidate.as_ref().ok().map(|candidate| candidate.hash.clone());
        if self.state == State::Active && hash(self) == hash(&old) {
            self.handle = old.handle.take();
        }
        old.end();
    }

    /// Whether it is to run, has this, and does not run yet.
    pub fn is_late_for(&self, export: Export) -> bool {
        let has = |candidate: &Candidate| candidate.inspection.exports.contains(&export);
        self.state == State::Active && self.handle.is_none() && self.found.candidate.as_ref().is_ok_and(has)
    }

    /// Ends its thread, if it has one.
    pub fn end(mut self) {
        self.stop();
    }

    /// Ends its thread, if it has one.
    pub fn stop(&mut self) {
        if let Some(handle) = self.handle.take() {
            handle.end();
        }
    }

    /// Ends its thread and puts it into another state.
    pub fn put(&mut self, state: State, reason: impl Into<String>) {
        self.stop();
        self.state = state;
        self.reason = reason.into();
    }

    /// Whether the user may believe that it runs, and it does not.
    pub fn is_missed(&self) -> bool {
        match self.state {
            State::Quarantined => true,
            State::Pending => self.reason == CHANGED,
            State::Invalid => self.found.place == Place::Home,
            State::Active | State::Denied | State::Disabled => false,
        }
    }

    pub fn not_active(&self) -> PluginError {
        PluginError::NotActive {
            name: self.found.name.clone(),
            state: self.state.as_str(),
            reason: self.reason.clone(),
        }
    }

    pub fn status(&self) -> PluginStatus {
        let candidate = self.found.candidate.as_ref().ok();
        let manifest = candidate.map(|candidate| &candidate.manifest);
        PluginStatus {
            name: self.found.name.clone(),
            version: manifest.map(|manifest| manifest.version.to_string()).unwrap_or_default(),
            description: manifest.map(|manifest| manifest.description.clone()).unwrap_or_default(),
            place: self.found.place,
            folder: self.found.folder.clone(),
            state: self.state,
            reason: self.reason.clone(),
            capabilities: manifest.map(|manifest| manifest.capabilities.clone()).unwrap_or_default(),
            powers: candidate.map(Candidate::powers).unwrap_or_default(),
            new_powers: self.new_powers.clone(),
            warnings: manifest.map(|manifest| manifest.warnings.clone()).unwrap_or_default(),
            content: candidate.map(|candidate| candidate.hash.clone()).unwrap_or_default(),
        }
    }
}
