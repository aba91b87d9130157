//! Ctrl-C and termination: the first asks for an orderly end, the second does not wait for it.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::CancellationToken;

use crate::failure::{EXIT_INTERRUPTED, Failure};

static ASKED: AtomicBool = AtomicBool::new(false);

/// From now on Ctrl-C (and SIGTERM, SIGHUP) cancels the token that this returns; a second one ends the process
/// at once, which costs nothing that was saved.
///
/// # Errors
/// When the system refuses to tell.
pub fn watch() -> Result<CancellationToken, Failure> {
    let token = CancellationToken::new();
    let cancel = token.clone();
    ctrlc::set_handler(move || {
        if ASKED.swap(true, Ordering::SeqCst) {
            std::process::exit(EXIT_INTERRUPTED.into());
        }
        cancel.cancel();
    })
    .map_err(|error| Failure::io("watch for Ctrl-C", std::io::Error::other(error)))?;
    Ok(token)
}
