//! Host functions: the functions that plugins import from hfs, and their limits.
//!
//! Every host function first calls [`InstanceState::authorize`], which checks the permission and counts the call. Work
//! that may block runs on another thread with a timeout, see [`InstanceState::run_with_timeout`]. The plugin receives
//! all errors, so their messages contain no paths or other details that the plugin cannot see itself.

mod basic;
mod files;
mod http;
mod kv;
mod protected;
pub(crate) mod session;
mod wasi;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use hfs_core::{Clock, SessionId, Store};
use serde_json::Value;
use wasmtime::ResourceLimiter;
use wasmtime::component::{HasSelf, Linker};

use crate::contract::Import;
use crate::contract::bindings::hfs::plugin::{self, types::Error};
use crate::contract::bindings::runner::hfs::runner;
use crate::log::PluginLog;
use crate::notices::Notices;
use crate::plugin::manifest::Permissions;
use crate::plugin::script::Script;
use crate::storage::{PluginStorage, SessionStates};

pub(crate) use files::FolderGrants;
use wasi::WasiState;

/// Maximum number of bytes that a plugin may write to its log in one call.
const MAX_LOG_BYTES: usize = 64 << 10;
/// Maximum number of host function calls in one call of a plugin.
const MAX_HOST_CALLS: u32 = 10_000;
/// Maximum number of notices that a plugin may show to the user in one call.
const MAX_NOTICES: u32 = 3;
/// Maximum number of blocking host calls of one plugin in flight. This includes calls that have timed out but still
/// block, so it limits the number of threads that a slow server or disk can occupy.
const MAX_IN_FLIGHT: usize = 4;
/// Maximum number of elements of a WebAssembly table.
const MAX_TABLE_ENTRIES: usize = 200_000;

/// State of one plugin's host functions, shared by all instances of the plugin.
pub(crate) struct PluginContext {
    /// Name of the plugin.
    pub plugin: String,
    /// The approved permissions.
    pub permissions: Permissions,
    /// The source that its interpreter runs; `None` for a component.
    pub script: Option<Script>,
    pub log: PluginLog,
    pub storage: Mutex<PluginStorage>,
    pub session_states: Arc<SessionStates>,
    pub store: Option<Arc<dyn Store>>,
    /// The user's settings for the plugin.
    pub settings: BTreeMap<String, Value>,
    pub folders: FolderGrants,
    pub notices: Arc<Notices>,
    pub clock: Arc<dyn Clock>,
    /// Number of blocking host calls of this plugin in flight.
    pub in_flight: Arc<AtomicUsize>,
}

/// The session, deadline and remaining quotas of one call into a plugin.
#[derive(Debug)]
pub(crate) struct CallContext {
    /// The session that the call is about.
    pub session: Option<SessionId>,
    pub deadline: Instant,
    host_calls_left: u32,
    log_bytes_left: usize,
    notices_left: u32,
    is_log_truncated: bool,
}

impl CallContext {
    pub fn new(session: Option<SessionId>, deadline: Instant) -> Self {
        Self {
            session,
            deadline,
            host_calls_left: MAX_HOST_CALLS,
            log_bytes_left: MAX_LOG_BYTES,
            notices_left: MAX_NOTICES,
            is_log_truncated: false,
        }
    }
}

/// The data of a wasmtime store: everything that belongs to one instance.
pub(crate) struct InstanceState {
    pub context: Arc<PluginContext>,
    pub call: CallContext,
    pub memory: MemoryLimit,
    wasi: WasiState,
    /// Ids of widgets that the plugin asked to redraw.
    pub invalidated_widgets: Vec<String>,
}

/// Result of a host function, as the contract defines it.
type HostResult<T> = Result<T, Error>;

/// Error codes of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ErrorCode {
    Denied,
    Quota,
    Invalid,
    NotFound,
    Timeout,
    Failed,
}

impl ErrorCode {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::Quota => "quota",
            Self::Invalid => "invalid",
            Self::NotFound => "not-found",
            Self::Timeout => "timeout",
            Self::Failed => "failed",
        }
    }
}

fn host_error(code: ErrorCode, message: impl Into<String>) -> Error {
    Error { code: code.as_str().to_owned(), message: message.into() }
}

fn timeout_error() -> Error {
    host_error(ErrorCode::Timeout, "the time limit is exceeded")
}

/// Makes all host functions available to plugins.
pub(crate) fn add_to_linker(linker: &mut Linker<InstanceState>) -> wasmtime::Result<()> {
    wasi::add_to_linker(linker)?;
    runner::script::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    plugin::types::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    plugin::log::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    plugin::config::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    plugin::clock::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    plugin::kv::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    plugin::session::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    plugin::http::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    plugin::files::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    plugin::ui::add_to_linker::<_, HasSelf<_>>(linker, |state| state)
}

impl InstanceState {
    pub fn new(context: Arc<PluginContext>, memory_bytes: usize, call: CallContext) -> Self {
        let memory = MemoryLimit { limit: memory_bytes, used: 0 };
        Self { context, call, memory, wasi: WasiState::new(), invalidated_widgets: Vec::new() }
    }

    /// Checks that the plugin may use an interface, and counts the call.
    fn authorize(&mut self, import: Import) -> HostResult<()> {
        if !self.context.permissions.allows(import) {
            let permission = import.permission().unwrap_or_default();
            let plugin = &self.context.plugin;
            return Err(host_error(
                ErrorCode::Denied,
                format!("permissions.{permission} was not granted to {plugin}"),
            ));
        }
        self.call.host_calls_left = self.call.host_calls_left.checked_sub(1).ok_or_else(|| {
            host_error(ErrorCode::Quota, format!("more than {MAX_HOST_CALLS} calls to hfs in one call"))
        })?;
        Ok(())
    }

    /// Runs work that may block, until the deadline of the call or for `limit`, whichever is sooner. `work` gets the
    /// remaining time. After a timeout the work continues on its thread, and its result is dropped.
    ///
    /// The work runs on another thread, because a blocking system call (reading a file, resolving a name) cannot be
    /// interrupted, and the epoch interrupts only plugin code.
    fn run_with_timeout<T: Send + 'static>(
        &self,
        limit: Duration,
        work: impl FnOnce(Duration) -> HostResult<T> + Send + 'static,
    ) -> HostResult<T> {
        let remaining = self.call.deadline.saturating_duration_since(Instant::now()).min(limit);
        if remaining.is_zero() {
            return Err(timeout_error());
        }
        let Some(guard) = InFlightGuard::acquire(&self.context.in_flight) else {
            return Err(host_error(ErrorCode::Quota, "too many calls to hfs are still running"));
        };
        let (sender, receiver) = mpsc::sync_channel(1);
        let spawned = thread::Builder::new().name("hfs-plugin-call".into()).spawn(move || {
            let _guard = guard;
            // Fails if the caller has timed out and dropped the receiver.
            let _ = sender.send(work(remaining));
        });
        if let Err(error) = spawned {
            return Err(host_error(ErrorCode::Failed, format!("no thread could be started: {error}")));
        }
        receiver.recv_timeout(remaining).unwrap_or_else(|_| Err(timeout_error()))
    }
}

/// Counts a blocking host call until it is dropped.
struct InFlightGuard(Arc<AtomicUsize>);

impl InFlightGuard {
    /// `None` if too many calls are in flight.
    fn acquire(count: &Arc<AtomicUsize>) -> Option<Self> {
        let guard = Self(Arc::clone(count));
        (guard.0.fetch_add(1, Ordering::AcqRel) < MAX_IN_FLIGHT).then_some(guard)
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Limits the memory of one instance. A component may have several memories; the limit applies to their sum.
#[derive(Debug)]
pub(crate) struct MemoryLimit {
    limit: usize,
    used: usize,
}

/// A plugin tried to use more memory than its limit, which is given in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it needed more than {} MiB of memory", .0 >> 20)]
pub(crate) struct MemoryExceeded(usize);

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let used = self.used.saturating_sub(current).saturating_add(desired);
        if used > self.limit {
            // An error stops the plugin. `Ok(false)` would only make `memory.grow` fail, which most languages turn
            // into an abort without a message.
            return Err(wasmtime::Error::new(MemoryExceeded(self.limit)));
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
        Ok(desired <= MAX_TABLE_ENTRIES)
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
