//! Progress bars on standard error.

use std::time::Duration;

use hfs_core::{Store, StoreResult};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::console::Console;
use super::error::ErrorDocument;

/// Indexing fewer messages than this finishes before the user could read a progress bar.
const INDEX_BAR_THRESHOLD: u64 = 2_000;

impl Console {
    /// A progress bar for `length` bytes or items, or a spinner if `length` is 0. The bar is hidden if standard error
    /// is not a terminal, with `--quiet`, and with `--json`.
    pub fn progress(&self, length: u64) -> ProgressBar {
        if self.options.quiet || self.options.json || !self.error_is_terminal() {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr_with_hz(10));
        let template = if length == 0 { "{spinner} {msg}" } else { "{bar:30} {percent:>3}% {wide_msg}" };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        if length == 0 {
            bar.enable_steady_tick(Duration::from_millis(100));
        }
        bar
    }
}

/// Brings the full-text index up to date and shows a progress bar if that takes long. Stops early when
/// `keep_going` returns false.
pub fn update_index(store: &dyn Store, console: &Console, keep_going: &dyn Fn() -> bool) -> StoreResult<()> {
    update_index_up_to(u64::MAX, store, console, keep_going)
}

/// Like [`update_index`] before a search, which finds what is in the index even if it cannot be updated.
pub fn update_index_or_warn(store: &dyn Store, console: &Console) {
    if let Err(error) = update_index(store, console, &|| true) {
        let error = ErrorDocument::new(&error).one_line();
        console.warn(&format!("messages that are not in the search index are not found: {error}"));
    }
}

/// Like [`update_index`], unless more than `limit` messages are not indexed.
pub fn update_index_up_to(
    limit: u64,
    store: &dyn Store,
    console: &Console,
    keep_going: &dyn Fn() -> bool,
) -> StoreResult<()> {
    let mut bar = None;
    let mut total = None;
    let result = store.update_index(&mut |remaining| {
        let total = *total.get_or_insert(remaining);
        if total > limit {
            return false;
        }
        if total > INDEX_BAR_THRESHOLD {
            let bar = bar.get_or_insert_with(|| {
                let bar = console.progress(total);
                bar.set_message("updating the search index");
                bar
            });
            bar.set_position(total.saturating_sub(remaining));
        }
        keep_going()
    });
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    result
}
