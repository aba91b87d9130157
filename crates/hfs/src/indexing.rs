//! Bringing the text index up to date where a person can see how far it is.

use hfs_core::{Store, StoreResult};

use crate::console::Console;

/// So few are indexed before a bar could be looked at.
const FEW: u64 = 2_000;

/// Indexes what waits for it, with a bar where that takes long, while `go_on` says so.
pub fn update(store: &dyn Store, console: &Console, go_on: &dyn Fn() -> bool) -> StoreResult<()> {
    let mut bar = None;
    let mut all = None;
    let done = store.update_index(&mut |left| {
        let all = *all.get_or_insert(left);
        if all > FEW {
            let bar = bar.get_or_insert_with(|| {
                let bar = console.progress(all);
                bar.set_message("making it searchable");
                bar
            });
            bar.set_position(all.saturating_sub(left));
        }
        go_on()
    });
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    done
}
