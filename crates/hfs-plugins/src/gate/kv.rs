//! Texts that are kept for a plugin.

use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};

use hfs_core::SessionId;
use serde_json::Value;

use super::{Answer, GuestState, refusal};
use crate::PluginError;
use crate::capability::Import;
use crate::contract::hfs::plugin::kv::{Host, Scope};
use crate::session_states;
use crate::storage::Storage;

const LONGEST_KEY: usize = 256;

impl GuestState {
    fn session_of_call(&self) -> Answer<SessionId> {
        self.call.session.ok_or_else(|| refusal("invalid", "this call is not about a session"))
    }

    fn storage(&self) -> MutexGuard<'_, Storage> {
        self.services.storage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept<T>(&mut self, scope: Scope, read: impl FnOnce(&BTreeMap<&str, &str>) -> T) -> Answer<T> {
        self.enter(Import::Kv)?;
        match scope {
            Scope::Plugin => {
                let mut storage = self.storage();
                let entries = storage.entries().map_err(|error| failed(&error))?;
                Ok(read(&entries.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()))
            }
            Scope::Session => {
                let session = self.session_of_call()?;
                Ok(self.services.states.read(session, &self.services.plugin, |kept| {
                    let texts = kept.iter().filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)));
                    read(&texts.collect())
                }))
            }
        }
    }

    fn keep(&mut self, scope: Scope, key: &str, value: Option<String>) -> Answer<()> {
        if key.is_empty() || key.len() > LONGEST_KEY {
            return Err(refusal("invalid", format!("a key has 1 to {LONGEST_KEY} bytes")));
        }
        let limit = match scope {
            Scope::Plugin => self.services.permissions.storage,
            Scope::Session => self.services.permissions.storage.min(session_states::MOST_BYTES),
        };
        let used = self.kept(scope, |kept| {
            let others = kept.iter().filter(|(known, _)| **known != key);
            others.map(|(key, value)| key.len() + value.len()).sum::<usize>()
        })?;
        let wanted = value.as_ref().map_or(0, |value| used + key.len() + value.len());
        if u64::try_from(wanted).unwrap_or(u64::MAX) > limit {
            return Err(refusal(
                "quota",
                format!("{wanted} bytes are more than the {limit} that were granted"),
            ));
        }
        match scope {
            Scope::Plugin => self.storage().set(key, value).map_err(|error| failed(&error)),
            Scope::Session => {
                let session = self.session_of_call()?;
                self.services.states.change(session, &self.services.plugin, |kept| {
                    match value {
                        Some(value) => kept.insert(key.to_owned(), Value::String(value)),
                        None => kept.remove(key),
                    };
                });
                Ok(())
            }
        }
    }
}

fn failed(error: &PluginError) -> super::Error {
    tracing::warn!("a plugin's storage: {error}");
    // Where things lie is none of the plugin's business.
    refusal("failed", "the storage cannot be used now")
}

impl Host for GuestState {
    fn get(&mut self, scope: Scope, key: String) -> wasmtime::Result<Answer<Option<String>>> {
        Ok(self.kept(scope, |kept| kept.get(key.as_str()).map(|value| (*value).to_owned())))
    }

    fn set(&mut self, scope: Scope, key: String, value: String) -> wasmtime::Result<Answer<()>> {
        Ok(self.keep(scope, &key, Some(value)))
    }

    fn delete(&mut self, scope: Scope, key: String) -> wasmtime::Result<Answer<()>> {
        Ok(self.keep(scope, &key, None))
    }

    fn keys(&mut self, scope: Scope, prefix: String) -> wasmtime::Result<Answer<Vec<String>>> {
        Ok(self.kept(scope, |kept| {
            kept.keys().filter(|key| key.starts_with(&prefix)).map(|key| (*key).to_owned()).collect()
        }))
    }
}
