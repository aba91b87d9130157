//! From approved to running.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex, Weak};
use std::thread;

use serde_json::Value;

use super::{Inner, State};
use crate::actor::{Birth, Handle, lock};
use crate::discover::{CHANGED, Code, Found, read_unchanged};
use crate::gate::{Roots, Services};
use crate::log::PluginLog;
use crate::runtime::Runtime;
use crate::storage::Storage;

/// A longer file of settings is none.
const MOST_SETTINGS: u64 = 1 << 20;

impl Inner {
    /// Starts a plugin that may run and does not yet, on a thread of its own.
    pub(super) fn activate(self: &Arc<Self>, name: &str) {
        let found = match lock(&self.table).entries.get(name) {
            Some(entry) if entry.state == State::Active && entry.handle.is_none() => entry.found.clone(),
            _ => return,
        };
        self.starting.send_modify(|count| *count += 1);
        let inner = Arc::clone(self);
        let work = move || {
            let born = inner.begin(&found);
            inner.settle(&found, born);
            inner.starting.send_modify(|count| *count -= 1);
        };
        if let Err(error) = thread::Builder::new().name("hfs-plugin-start".into()).spawn(work) {
            tracing::warn!("no thread could be started for a plugin: {error}");
            self.starting.send_modify(|count| *count -= 1);
        }
    }

    fn settle(&self, found: &Found, born: Result<Handle, String>) {
        let mut table = lock(&self.table);
        let entry = table.entries.get_mut(&found.name);
        // Somebody may have decided otherwise meanwhile.
        let still = entry.filter(|entry| {
            let hash = |found: &Found| found.candidate.as_ref().ok().map(|candidate| candidate.hash.clone());
            entry.state == State::Active && entry.handle.is_none() && hash(&entry.found) == hash(found)
        });
        match (still, born) {
            (Some(entry), Ok(handle)) => entry.handle = Some(handle),
            (Some(entry), Err(reason)) => {
                self.notices.tell(&found.name, &format!("does not run: {reason}"));
                let state = if reason == CHANGED { State::Pending } else { State::Invalid };
                entry.put(state, reason);
            }
            (None, Ok(handle)) => handle.end(),
            (None, Err(_)) => {}
        }
        drop(table);
        self.notices.changed();
    }

    fn begin(self: &Arc<Self>, found: &Found) -> Result<Handle, String> {
        let candidate = found.candidate.as_ref().map_err(Clone::clone)?;
        let code = read_unchanged(found)?;
        let runtime = self.runtime()?;
        let parts = &self.parts;
        let permissions = candidate.manifest.permissions.clone();
        let roots = Roots::new(&permissions, parts.user_home.as_deref(), &parts.home)?;
        let data_name = found.data_name();
        let services = Services {
            plugin: found.name.clone(),
            permissions,
            script: match &code {
                Code::Script(script) => Some(script.clone()),
                Code::Component(_) => None,
            },
            log: PluginLog::new(&parts.log_folder(), &data_name),
            storage: Mutex::new(Storage::new(&parts.home.join("plugin_data"), &data_name)),
            states: Arc::clone(&self.states),
            store: parts.store.clone(),
            settings: self.settings(&found.name),
            roots,
            notices: Arc::clone(&self.notices),
            clock: Arc::clone(&parts.clock),
            hanging: Arc::clone(&self.hanging),
        };
        let (weak, found) = (Arc::downgrade(self), found.clone());
        let birth = Birth {
            runtime,
            code,
            interpreters: parts.interpreters.clone(),
            exports: candidate.inspection.exports.clone(),
            services: Arc::new(services),
            limits: parts.limits,
            on_stop: Box::new(move |call, reason| {
                Weak::upgrade(&weak).is_some_and(|inner| inner.stopped(&found, call, reason))
            }),
        };
        birth.begin()
    }

    fn runtime(&self) -> Result<Arc<Runtime>, String> {
        let start = || Runtime::new(&self.parts.cache).map(Arc::new);
        self.runtime.get_or_init(|| start().map_err(|error| error.to_string())).clone()
    }

    /// What the user set for a plugin in `plugin_settings.yaml`: a map for each plugin, by its name.
    fn settings(&self, name: &str) -> BTreeMap<String, Value> {
        let path = self.parts.home.join("plugin_settings.yaml");
        let fits = fs::metadata(&path).is_ok_and(|found| found.len() <= MOST_SETTINGS);
        let Some(text) = fits.then(|| fs::read_to_string(&path).ok()).flatten() else {
            return BTreeMap::new();
        };
        let parsed: Result<BTreeMap<String, BTreeMap<String, Value>>, _> = serde_saphyr::from_str(&text);
        match parsed {
            Ok(mut settings) => settings.remove(name).unwrap_or_default(),
            Err(error) => {
                let error = error.to_string();
                let line = error.lines().next().unwrap_or_default();
                self.notices.tell(name, &format!("its settings are not read: {}: {line}", path.display()));
                BTreeMap::new()
            }
        }
    }
}
