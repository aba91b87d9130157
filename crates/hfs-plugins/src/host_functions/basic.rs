//! Host functions that need no permission: log, settings, time, notices and redraws. Also the functions through which
//! an interpreter reads the script that it runs.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use hfs_core::Timestamp;
use jiff::tz::TimeZone;

use super::InstanceState;
use super::session::millis;
use crate::contract::Import;
use crate::contract::bindings::hfs::plugin::{clock, config, log, types, ui};
use crate::contract::bindings::runner::hfs::runner::script;
use crate::log::LogLevel;

/// Maximum number of widgets that one call can ask to redraw.
const MAX_INVALIDATED: usize = 32;
/// Maximum length of a widget's id in such a request.
const MAX_WIDGET_ID_BYTES: usize = 100;
/// Bytes that are charged for each log line on top of its own, so that empty lines consume the quota, too.
const LOG_LINE_COST: usize = 32;

impl types::Host for InstanceState {}

impl log::Host for InstanceState {
    fn write(&mut self, level: log::Level, text: String) -> wasmtime::Result<()> {
        let level = match level {
            log::Level::Debug => LogLevel::Debug,
            log::Level::Info => LogLevel::Info,
            log::Level::Warn => LogLevel::Warn,
            log::Level::Error => LogLevel::Error,
        };
        let now = self.context.clock.now();
        if self.authorize(Import::Log).is_err() || self.call.log_bytes_left == 0 {
            if !self.call.is_log_truncated {
                self.call.is_log_truncated = true;
                let text = "(hfs) too much output: the remaining lines of this call are dropped";
                self.context.log.write(now, LogLevel::Warn, text);
            }
            return Ok(());
        }
        let written = self.context.log.write(now, level, &text);
        self.call.log_bytes_left = self.call.log_bytes_left.saturating_sub(written + LOG_LINE_COST);
        Ok(())
    }
}

impl config::Host for InstanceState {
    fn get(&mut self, key: String) -> wasmtime::Result<Option<String>> {
        if self.authorize(Import::Config).is_err() {
            return Ok(None);
        }
        Ok(self.context.settings.get(&key).map(ToString::to_string))
    }
}

impl clock::Host for InstanceState {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(millis(self.context.clock.now()))
    }

    fn offset(&mut self, at: u64) -> wasmtime::Result<i32> {
        let at = i64::try_from(at).ok().and_then(Timestamp::from_millis);
        let seconds = at.map_or(0, |at| TimeZone::system().to_offset(at.to_jiff()).seconds());
        Ok(seconds / 60)
    }
}

impl ui::Host for InstanceState {
    fn invalidate(&mut self, widget: String) -> wasmtime::Result<()> {
        if self.authorize(Import::Ui).is_ok()
            && widget.len() <= MAX_WIDGET_ID_BYTES
            && self.invalidated_widgets.len() < MAX_INVALIDATED
            && !self.invalidated_widgets.contains(&widget)
        {
            self.invalidated_widgets.push(widget);
        }
        Ok(())
    }

    fn notify(&mut self, text: String) -> wasmtime::Result<()> {
        if self.authorize(Import::Ui).is_ok()
            && let Some(left) = self.call.notices_left.checked_sub(1)
        {
            self.call.notices_left = left;
            self.context.notices.push(&self.context.plugin, &text);
        }
        Ok(())
    }
}

/// Only interpreters may import this interface: inspection refuses other components that do.
impl script::Host for InstanceState {
    fn name(&mut self) -> wasmtime::Result<String> {
        Ok(self.context.plugin.clone())
    }

    fn entry(&mut self) -> wasmtime::Result<String> {
        Ok(self.context.script.as_ref().map(|script| script.entry_point.clone()).unwrap_or_default())
    }

    fn files(&mut self) -> wasmtime::Result<Vec<String>> {
        let script = self.context.script.as_ref();
        Ok(script.map(|script| script.files.keys().cloned().collect()).unwrap_or_default())
    }

    fn read(&mut self, file: String) -> wasmtime::Result<Option<String>> {
        Ok(self.context.script.as_ref().and_then(|script| script.files.get(&file).cloned()))
    }

    /// A seed for the interpreter's random numbers, below 2^53 so that JavaScript represents it exactly. `RandomState`
    /// gets its keys from the operating system.
    fn seed(&mut self) -> wasmtime::Result<u64> {
        let random = RandomState::new().build_hasher().finish();
        Ok(random & ((1 << 53) - 1))
    }
}
