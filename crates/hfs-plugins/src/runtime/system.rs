//! The system that the runtimes of other languages expect below them. There is one, and nothing is in it: no files,
//! no network, no environment, no arguments, no input; what is written goes nowhere. It has clocks and randomness.

use std::time::{Duration, Instant};

use wasmtime::component::{HasSelf, Linker, Resource, ResourceTable};
use wasmtime_wasi::clocks::WasiClocksView as _;
use wasmtime_wasi::p2::DynPollable;
use wasmtime_wasi::p2::bindings::clocks::monotonic_clock;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::gate::GuestState;

/// How many things of the system an instance may hold at once.
const MOST_RESOURCES: usize = 4_096;

/// An instance's own empty system.
pub(crate) struct System {
    context: WasiCtx,
    table: ResourceTable,
}

impl System {
    pub fn new() -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(MOST_RESOURCES);
        // What is not given is not there. Sockets could be made otherwise, if not used.
        let context =
            WasiCtx::builder().allow_tcp(false).allow_udp(false).allow_ip_name_lookup(false).build();
        Self { context, table }
    }
}

impl WasiView for GuestState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.system.context, table: &mut self.system.table }
    }
}

pub(super) fn link(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_sync(linker)?;
    linker.allow_shadowing(true);
    monotonic_clock::add_to_linker::<_, HasSelf<GuestState>>(linker, |state| state)?;
    linker.allow_shadowing(false);
    Ok(())
}

/// A clock that wakes whoever sleeps when the time for the call is over: deadlines are seen by code that runs, and
/// to sleep is the only way to wait here.
impl monotonic_clock::Host for GuestState {
    fn now(&mut self) -> wasmtime::Result<u64> {
        self.clocks().now()
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        self.clocks().resolution()
    }

    fn subscribe_instant(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let now = self.clocks().now()?;
        monotonic_clock::Host::subscribe_duration(self, when.saturating_sub(now))
    }

    fn subscribe_duration(&mut self, nanoseconds: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let left = self.call.deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        let left = u64::try_from(left.as_nanos()).unwrap_or(u64::MAX);
        self.clocks().subscribe_duration(nanoseconds.min(left))
    }
}
