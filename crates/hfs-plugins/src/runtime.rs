//! The WebAssembly runtime that all plugins share: engine, linker, cache of compiled code, and the ticker of deadlines.

mod ticker;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Mutex;

use hfs_core::lock_unpoisoned;
use hfs_machine_code::ArtifactCache;
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Engine};

use crate::error::StartError;
use crate::host_functions::{InstanceState, add_to_linker};
use crate::interpreter::{InterpreterError, Interpreters};
use crate::plugin::script::Language;
use crate::private_files::create_private_folder;
pub(crate) use ticker::TickGuard;
use ticker::Ticker;

/// Stack for plugin code, in bytes. The plugin's thread has a larger one, which host functions use, too.
const GUEST_STACK_BYTES: usize = 1 << 20;

/// The WebAssembly runtime cannot be started on this machine.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the plugin runtime cannot be started: {0}")]
pub struct RuntimeError(String);

/// The parts of the runtime that all plugins share.
pub(crate) struct Runtime {
    engine: Engine,
    linker: Linker<InstanceState>,
    ticker: Ticker,
    cache: ArtifactCache,
    /// Loaded interpreters. All plugins of a language share the compiled code of one interpreter.
    interpreters: Mutex<BTreeMap<Language, Component>>,
}

impl Runtime {
    /// Starts the runtime. Compiled code in the folder `cache` is trusted, so no other user may be able to write there.
    ///
    /// # Errors
    /// If the engine or the ticker's thread cannot be started.
    pub fn new(cache: &Path) -> Result<Self, RuntimeError> {
        let failed = |error: wasmtime::Error| RuntimeError(format!("{error:#}"));
        let mut config = Config::new();
        config
            .epoch_interruption(true)
            .max_wasm_stack(GUEST_STACK_BYTES)
            // The address map translates traps to source lines. Release builds have no debug information, and the map
            // costs memory.
            .generate_address_map(false);
        let engine = Engine::new(&config).map_err(failed)?;
        let mut linker = Linker::new(&engine);
        add_to_linker(&mut linker).map_err(failed)?;
        let engine_to_tick = engine.clone();
        let ticker = Ticker::start(move || engine_to_tick.increment_epoch())
            .map_err(|error| RuntimeError(format!("the thread for deadlines does not start: {error}")))?;
        // A failure is not fatal: plugins are then compiled at every start.
        if let Err(error) = create_private_folder(cache) {
            tracing::warn!("compiled plugins cannot be cached: {error}");
        }
        let cache = ArtifactCache::new(cache.to_path_buf());
        Ok(Self { engine, linker, ticker, cache, interpreters: Mutex::default() })
    }

    /// Compiles a component, or loads it from the cache.
    pub fn compile(&self, binary: &[u8]) -> Result<Component, StartError> {
        let hash = blake3::hash(binary).to_hex();
        if let Some(component) = self.cache.get(&self.engine, &hash) {
            return Ok(component);
        }
        // The component is not trusted. If it triggers a panic in the compiler, the application must continue.
        let compile = || self.cache.compile(&self.engine, &hash, binary);
        match std::panic::catch_unwind(AssertUnwindSafe(compile)) {
            Ok(Ok(component)) => Ok(component),
            Ok(Err(error)) => Err(StartError::Compile(first_line(&error))),
            Err(_) => Err(StartError::Compile("the compiler panicked".into())),
        }
    }

    /// The interpreter of a language. The lock is held while it is compiled, which takes seconds the first time, so
    /// that plugins that start at the same time wait for one compilation.
    pub fn interpreter(
        &self,
        language: Language,
        interpreters: &Interpreters,
    ) -> Result<Component, InterpreterError> {
        let mut loaded = lock_unpoisoned(&self.interpreters);
        if let Some(component) = loaded.get(&language) {
            return Ok(component.clone());
        }
        let installed = interpreters.find(language).ok_or(InterpreterError::Missing(language))?;
        let component = installed.load(&self.engine, &self.cache)?;
        loaded.insert(language, component.clone());
        Ok(component)
    }

    pub const fn engine(&self) -> &Engine {
        &self.engine
    }

    pub const fn linker(&self) -> &Linker<InstanceState> {
        &self.linker
    }

    /// Keeps the ticker of deadlines running until the result is dropped.
    pub fn keep_ticking(&self) -> TickGuard<'_> {
        self.ticker.keep_ticking()
    }
}

/// The first line of an error of wasmtime. The lines after it describe internals of the engine.
pub(crate) fn first_line(error: &wasmtime::Error) -> String {
    let text = format!("{error:#}");
    text.lines().next().unwrap_or("unknown error").to_owned()
}
