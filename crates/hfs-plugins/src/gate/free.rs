//! What needs no permission: the log, the plugin's own settings, the time, and words to the user.

use hfs_core::Timestamp;
use jiff::tz::TimeZone;

use super::GuestState;
use super::session::millis;
use crate::capability::Import;
use crate::contract::hfs::plugin::{clock, config, log, types, ui};

/// How many widgets one call can ask to be drawn anew.
const MOST_STALE: usize = 32;

impl types::Host for GuestState {}

impl log::Host for GuestState {
    fn write(&mut self, level: log::Level, text: String) -> wasmtime::Result<()> {
        let level = match level {
            log::Level::Debug => "debug",
            log::Level::Info => "info",
            log::Level::Warn => "warn",
            log::Level::Error => "error",
        };
        if self.enter(Import::Log).is_err() || self.call.log_bytes == 0 {
            if !self.call.log_was_cut {
                self.call.log_was_cut = true;
                let now = self.services.clock.now();
                self.services.log.write(now, "warn", "(hfs) the rest of what this call writes is left out");
            }
            return Ok(());
        }
        let taken = self.services.log.write(self.services.clock.now(), level, &text);
        // An empty line takes room, too.
        self.call.log_bytes = self.call.log_bytes.saturating_sub(taken + 32);
        Ok(())
    }
}

impl config::Host for GuestState {
    fn get(&mut self, key: String) -> wasmtime::Result<Option<String>> {
        if self.enter(Import::Config).is_err() {
            return Ok(None);
        }
        Ok(self.services.settings.get(&key).map(ToString::to_string))
    }
}

impl clock::Host for GuestState {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(millis(self.services.clock.now()))
    }

    fn offset(&mut self, at: u64) -> wasmtime::Result<i32> {
        let at = i64::try_from(at).ok().and_then(Timestamp::from_millis);
        let seconds = at.map_or(0, |at| TimeZone::system().to_offset(at.to_jiff()).seconds());
        Ok(seconds / 60)
    }
}

impl ui::Host for GuestState {
    fn invalidate(&mut self, widget: String) -> wasmtime::Result<()> {
        let known = self.stale.contains(&widget);
        if self.enter(Import::Ui).is_ok() && !known && self.stale.len() < MOST_STALE && widget.len() <= 100 {
            self.stale.push(widget);
        }
        Ok(())
    }

    fn notify(&mut self, text: String) -> wasmtime::Result<()> {
        if self.enter(Import::Ui).is_ok()
            && let Some(left) = self.call.notices.checked_sub(1)
        {
            self.call.notices = left;
            self.services.notices.tell(&self.services.plugin, &text);
        }
        Ok(())
    }
}
