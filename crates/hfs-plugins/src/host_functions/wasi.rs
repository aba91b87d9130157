//! WASI 0.2 for plugins, reduced to clocks and random numbers. There are no files, network, environment, arguments or
//! input, and output is discarded. Plugins may import it because the standard libraries of most languages do, even for
//! programs that use none of it.

use std::time::{Duration, Instant};

use wasmtime::component::{HasSelf, Linker, Resource, ResourceTable};
use wasmtime_wasi::clocks::WasiClocksView as _;
use wasmtime_wasi::p2::DynPollable;
use wasmtime_wasi::p2::bindings::clocks::monotonic_clock;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::InstanceState;

/// Maximum number of WASI resources that an instance may hold at once.
const MAX_RESOURCES: usize = 4_096;

pub(super) struct WasiState {
    context: WasiCtx,
    table: ResourceTable,
}

impl WasiState {
    pub fn new() -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_RESOURCES);
        // By default, the builder grants no files, environment or arguments, but lets programs create sockets (which
        // cannot connect). Sockets are disabled, too.
        let context =
            WasiCtx::builder().allow_tcp(false).allow_udp(false).allow_ip_name_lookup(false).build();
        Self { context, table }
    }
}

impl WasiView for InstanceState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi.context, table: &mut self.wasi.table }
    }
}

pub(super) fn add_to_linker(linker: &mut Linker<InstanceState>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_sync(linker)?;
    linker.allow_shadowing(true);
    monotonic_clock::add_to_linker::<_, HasSelf<InstanceState>>(linker, |state| state)?;
    linker.allow_shadowing(false);
    Ok(())
}

/// Replaces the clock of wasmtime-wasi by one whose timers fire at the deadline of the call at the latest. The epoch
/// interrupts only running code, so a sleeping plugin would not be stopped in time. When its timer fires at the
/// deadline, it continues to run, and the next epoch check stops it.
impl monotonic_clock::Host for InstanceState {
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
        let remaining =
            self.call.deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        let remaining = u64::try_from(remaining.as_nanos()).unwrap_or(u64::MAX);
        self.clocks().subscribe_duration(nanoseconds.min(remaining))
    }
}
