//! The WebAssembly runtime that all plugins share: compiler, cache of machine code, and the clock of deadlines.

mod system;
mod ticker;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use hfs_machine_code::Shelf;
use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Config, Engine};

use crate::PluginError;
use crate::contract::hfs::plugin;
use crate::contract::runner::hfs::runner;
use crate::gate::GuestState;
use crate::grants::create_private_folder;
use crate::interpreter::Interpreters;
use crate::script::Language;
pub(crate) use system::System;
use ticker::Ticker;
pub(crate) use ticker::Ticking;

/// How deep a plugin's own calls may go, in bytes of stack. A plugin's thread has more.
const GUEST_STACK: usize = 1 << 20;

/// What all plugins share.
pub(crate) struct Runtime {
    engine: Engine,
    linker: Linker<GuestState>,
    ticker: Ticker,
    shelf: Shelf,
    /// The interpreters that somebody needed, each loaded once for all its plugins.
    interpreters: Mutex<BTreeMap<Language, Component>>,
}

impl Runtime {
    /// Starts it. `cache` is a folder of its own for machine code, which the runtime trusts: nobody else may
    /// write there.
    ///
    /// # Errors
    /// `Runtime` when it cannot be started here.
    pub fn new(cache: &Path) -> Result<Self, PluginError> {
        let told = |error: wasmtime::Error| PluginError::Runtime { message: format!("{error:#}") };
        let mut config = Config::new();
        config
            .epoch_interruption(true)
            .max_wasm_stack(GUEST_STACK)
            // Where in the author's source something happened is not in release builds, and costs memory.
            .generate_address_map(false);
        let engine = Engine::new(&config).map_err(told)?;
        let mut linker = Linker::new(&engine);
        link(&mut linker).map_err(told)?;
        let ticker = Ticker::start(&engine).map_err(|error| PluginError::Runtime {
            message: format!("its clock does not start: {error}"),
        })?;
        // Without its folder the runtime is slower to begin, and works.
        if let Err(error) = create_private_folder(cache) {
            tracing::warn!("plugins are compiled anew at every start: {error}");
        }
        let shelf = Shelf::new(cache.to_path_buf());
        Ok(Self { engine, linker, ticker, shelf, interpreters: Mutex::default() })
    }

    /// Compiles a component, or takes what was compiled of it before.
    ///
    /// # Errors
    /// Why it cannot be, on one line.
    pub fn compile(&self, binary: &[u8]) -> Result<Component, String> {
        let hash = blake3::hash(binary).to_hex();
        if let Some(component) = self.shelf.find(&self.engine, &hash) {
            return Ok(component);
        }
        // A compiler that stumbles over hostile bytes must not take the app along.
        let compile = || self.shelf.compile(&self.engine, &hash, binary);
        let compiled = std::panic::catch_unwind(AssertUnwindSafe(compile));
        match compiled {
            Ok(Ok(component)) => Ok(component),
            Ok(Err(error)) => Err(format!("it cannot be compiled: {}", first_line(&error))),
            Err(_) => Err("it cannot be compiled: the compiler stumbled over it".into()),
        }
    }

    /// The interpreter of a language. Whoever needs one that is being compiled waits for it.
    ///
    /// # Errors
    /// Why it cannot be had, on one line.
    pub fn interpreter(&self, language: Language, places: &Interpreters) -> Result<Component, String> {
        let mut loaded = self.interpreters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(component) = loaded.get(&language) {
            return Ok(component.clone());
        }
        let installed = places.find(language).ok_or_else(|| Interpreters::missing(language))?;
        let component = installed.component(&self.engine, &self.shelf)?;
        loaded.insert(language, component.clone());
        Ok(component)
    }

    pub const fn engine(&self) -> &Engine {
        &self.engine
    }

    pub const fn linker(&self) -> &Linker<GuestState> {
        &self.linker
    }

    /// Keeps the clock of deadlines running for as long as the result is kept.
    pub fn tick(&self) -> Ticking<'_> {
        self.ticker.tick()
    }
}

/// Everything that a plugin can import. In the system below it there is nothing.
fn link(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    system::link(linker)?;
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

/// What an error of the runtime says first; what follows is about its inside.
pub(crate) fn first_line(error: &wasmtime::Error) -> String {
    let text = format!("{error:#}");
    text.lines().next().unwrap_or("no reason is known").to_owned()
}
