//! The one gate between a plugin and everything else: granted? within its quota? in time?

mod files;
mod free;
mod http;
mod kv;
mod network;
mod script;
mod session;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use hfs_core::{Clock, SessionId, Store};
use serde_json::Value;
use wasmtime::ResourceLimiter;

use crate::capability::Import;
use crate::contract::hfs::plugin::types::Error;
use crate::log::PluginLog;
use crate::manifest::Permissions;
use crate::notices::Notices;
use crate::runtime::System;
use crate::script::Script;
use crate::session_states::SessionStates;
use crate::storage::Storage;

pub(crate) use files::Roots;

/// How many bytes of log one call may write.
const LOG_BYTES: usize = 64 << 10;
/// How often one call may call back.
const CALLS_BACK: u32 = 10_000;
/// How many things one call may tell the user.
const NOTICES: u32 = 3;
/// How many calls back of one plugin may hang at once before there are no more.
const MOST_HANGING: usize = 4;

/// What a plugin is given, beside its permissions. One for each plugin, whichever instance of it runs.
pub(crate) struct Services {
    /// The plugin's name.
    pub plugin: String,
    /// What it was allowed.
    pub permissions: Permissions,
    /// Its source, where it is one that an interpreter runs.
    pub script: Option<Script>,
    pub log: PluginLog,
    pub storage: Mutex<Storage>,
    pub states: Arc<SessionStates>,
    pub store: Option<Arc<dyn Store>>,
    /// The user's settings for it.
    pub settings: BTreeMap<String, Value>,
    pub roots: Roots,
    pub notices: Arc<Notices>,
    pub clock: Arc<dyn Clock>,
    /// Calls back that nobody waits for any more and that have not ended yet.
    pub hanging: Arc<AtomicUsize>,
}

/// What one call from the host may still do.
#[derive(Debug)]
pub(crate) struct Call {
    /// The session that it is about.
    pub session: Option<SessionId>,
    pub deadline: Instant,
    calls_back: u32,
    log_bytes: usize,
    notices: u32,
    log_was_cut: bool,
}

impl Call {
    pub fn new(session: Option<SessionId>, deadline: Instant) -> Self {
        Self {
            session,
            deadline,
            calls_back: CALLS_BACK,
            log_bytes: LOG_BYTES,
            notices: NOTICES,
            log_was_cut: false,
        }
    }
}

/// Everything that belongs to one instance.
pub(crate) struct GuestState {
    pub services: Arc<Services>,
    pub call: Call,
    pub memory: MemoryLimit,
    pub system: System,
    /// Widgets that are to be drawn anew.
    pub stale: Vec<String>,
}

/// What the contract's functions answer.
type Answer<T> = Result<T, Error>;

fn refusal(code: &str, message: impl Into<String>) -> Error {
    Error { code: code.to_owned(), message: message.into() }
}

impl GuestState {
    pub fn new(services: Arc<Services>, memory_bytes: usize, call: Call) -> Self {
        let memory = MemoryLimit { most: memory_bytes, used: 0 };
        Self { services, call, memory, system: System::new(), stale: Vec::new() }
    }

    /// Lets a call back through, or says why not.
    fn enter(&mut self, import: Import) -> Answer<()> {
        let permissions = &self.services.permissions;
        let granted = match import {
            Import::Log | Import::Config | Import::Clock | Import::Ui => true,
            Import::Kv => permissions.storage > 0,
            Import::Session => permissions.read_sessions,
            Import::Http => !permissions.network.is_empty(),
            Import::Files => !permissions.read_files.is_empty() || !permissions.write_files.is_empty(),
        };
        if !granted {
            let needed = import.permission().unwrap_or_default();
            return Err(refusal(
                "denied",
                format!("permissions.{needed} was not granted to {}", self.services.plugin),
            ));
        }
        self.call.calls_back = match self.call.calls_back.checked_sub(1) {
            Some(left) => left,
            None => return Err(refusal("quota", format!("more than {CALLS_BACK} calls back in one call"))),
        };
        Ok(())
    }

    /// Does something that may take time, for at most as long as the call has, and at most for `longest`. What
    /// takes longer goes on by itself, and its result is lost.
    fn bounded<T: Send + 'static>(
        &self,
        longest: Duration,
        work: impl FnOnce(Duration) -> Answer<T> + Send + 'static,
    ) -> Answer<T> {
        let left = self.call.deadline.saturating_duration_since(Instant::now()).min(longest);
        if left.is_zero() {
            return Err(overdue());
        }
        let hanging = &self.services.hanging;
        if hanging.fetch_add(1, Ordering::AcqRel) >= MOST_HANGING {
            hanging.fetch_sub(1, Ordering::AcqRel);
            return Err(refusal("quota", "too many calls back are still waiting"));
        }
        let (sender, receiver) = mpsc::sync_channel(1);
        let count = HangingCount(Arc::clone(hanging));
        let spawned = thread::Builder::new().name("hfs-plugin-call".into()).spawn(move || {
            let _count = count;
            // Nobody listens any more when the time is over.
            let _ = sender.send(work(left));
        });
        if let Err(error) = spawned {
            return Err(refusal("failed", format!("no thread could be started: {error}")));
        }
        receiver.recv_timeout(left).unwrap_or_else(|_| Err(overdue()))
    }
}

fn overdue() -> Error {
    refusal("timeout", "the time for it is over")
}

struct HangingCount(Arc<AtomicUsize>);

impl Drop for HangingCount {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The memory of one instance, all its memories together.
#[derive(Debug)]
pub(crate) struct MemoryLimit {
    most: usize,
    used: usize,
}

/// A plugin wanted more memory than it may have.
#[derive(Debug, thiserror::Error)]
#[error("it wanted more than {} MiB of memory", .0 >> 20)]
pub(crate) struct TooMuchMemory(usize);

/// The most entries that a table of functions may have.
const TABLE_ENTRIES: usize = 200_000;

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let used = self.used.saturating_sub(current).saturating_add(desired);
        if used > self.most {
            return Err(wasmtime::Error::new(TooMuchMemory(self.most)));
        }
        self.used = used;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ENTRIES)
    }

    fn instances(&self) -> usize {
        64
    }

    fn tables(&self) -> usize {
        64
    }

    fn memories(&self) -> usize {
        32
    }
}
