//! Stored values (`kv`), in the scope of the plugin or of a session.

use std::collections::BTreeMap;

use hfs_core::{SessionId, lock_unpoisoned};
use serde_json::Value;

use super::{ErrorCode, HostResult, InstanceState, host_error};
use crate::PluginError;
use crate::contract::Import;
use crate::contract::bindings::hfs::plugin::kv::{Host, Scope};
use crate::contract::bindings::hfs::plugin::types::Error;
use crate::storage::MAX_SESSION_BYTES;

const MAX_KEY_BYTES: usize = 256;

impl InstanceState {
    fn session_of_call(&self) -> HostResult<SessionId> {
        let session = self.call.session;
        session.ok_or_else(|| host_error(ErrorCode::Invalid, "this call does not belong to a session"))
    }

    fn read_values<T>(
        &mut self,
        scope: Scope,
        read: impl FnOnce(&BTreeMap<&str, &str>) -> T,
    ) -> HostResult<T> {
        self.authorize(Import::Kv)?;
        match scope {
            Scope::Plugin => {
                let mut storage = lock_unpoisoned(&self.context.storage);
                let entries = storage.entries().map_err(|error| storage_error(&error))?;
                Ok(read(&entries.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()))
            }
            Scope::Session => {
                let session = self.session_of_call()?;
                Ok(self.context.session_states.read(session, &self.context.plugin, |values| {
                    let texts =
                        values.iter().filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)));
                    read(&texts.collect())
                }))
            }
        }
    }

    fn store_value(&mut self, scope: Scope, key: &str, value: Option<String>) -> HostResult<()> {
        if key.is_empty() || key.len() > MAX_KEY_BYTES {
            return Err(host_error(
                ErrorCode::Invalid,
                format!("a key must have 1 to {MAX_KEY_BYTES} bytes"),
            ));
        }
        let limit = match scope {
            Scope::Plugin => self.context.permissions.storage,
            Scope::Session => self.context.permissions.storage.min(MAX_SESSION_BYTES),
        };
        let used = self.read_values(scope, |values| {
            let others = values.iter().filter(|(known, _)| **known != key);
            others.map(|(key, value)| key.len() + value.len()).sum::<usize>()
        })?;
        let needed = value.as_ref().map_or(0, |value| used + key.len() + value.len());
        if u64::try_from(needed).unwrap_or(u64::MAX) > limit {
            let message = format!("{needed} bytes are more than the granted {limit}");
            return Err(host_error(ErrorCode::Quota, message));
        }
        match scope {
            Scope::Plugin => {
                let mut storage = lock_unpoisoned(&self.context.storage);
                storage.set(key, value).map_err(|error| storage_error(&error))
            }
            Scope::Session => {
                let session = self.session_of_call()?;
                self.context.session_states.change(session, &self.context.plugin, |values| {
                    match value {
                        Some(value) => values.insert(key.to_owned(), Value::String(value)),
                        None => values.remove(key),
                    };
                });
                Ok(())
            }
        }
    }
}

/// The plugin gets no details, because they contain paths. They are written to the application's log.
fn storage_error(error: &PluginError) -> Error {
    tracing::warn!("stored values of a plugin cannot be read or written: {error}");
    host_error(ErrorCode::Failed, "stored values cannot be read or written now")
}

impl Host for InstanceState {
    fn get(&mut self, scope: Scope, key: String) -> wasmtime::Result<HostResult<Option<String>>> {
        Ok(self.read_values(scope, |values| values.get(key.as_str()).map(|value| (*value).to_owned())))
    }

    fn set(&mut self, scope: Scope, key: String, value: String) -> wasmtime::Result<HostResult<()>> {
        Ok(self.store_value(scope, &key, Some(value)))
    }

    fn delete(&mut self, scope: Scope, key: String) -> wasmtime::Result<HostResult<()>> {
        Ok(self.store_value(scope, &key, None))
    }

    fn keys(&mut self, scope: Scope, prefix: String) -> wasmtime::Result<HostResult<Vec<String>>> {
        Ok(self.read_values(scope, |values| {
            values.keys().filter(|key| key.starts_with(&prefix)).map(|key| (*key).to_owned()).collect()
        }))
    }
}
