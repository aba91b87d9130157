//! What an interpreter asks for: the source of its plugin. Only interpreters are let through to it, and each gets
//! what it runs for.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use super::GuestState;
use crate::contract::runner::hfs::runner::script;

impl script::Host for GuestState {
    fn name(&mut self) -> wasmtime::Result<String> {
        Ok(self.services.plugin.clone())
    }

    fn entry(&mut self) -> wasmtime::Result<String> {
        Ok(self.services.script.as_ref().map(|script| script.entry.clone()).unwrap_or_default())
    }

    fn files(&mut self) -> wasmtime::Result<Vec<String>> {
        let script = self.services.script.as_ref();
        Ok(script.map(|script| script.files.keys().cloned().collect()).unwrap_or_default())
    }

    fn seed(&mut self) -> wasmtime::Result<u64> {
        let drawn = RandomState::new().build_hasher().finish();
        Ok(drawn & ((1 << 53) - 1))
    }

    fn read(&mut self, file: String) -> wasmtime::Result<Option<String>> {
        Ok(self.services.script.as_ref().and_then(|script| script.files.get(&file).cloned()))
    }
}
