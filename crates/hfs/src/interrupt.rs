//! Ctrl-C and termination signals. The first one cancels the running work; the second one ends the process.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::CancellationToken;

use crate::output::error::{CliError, EXIT_INTERRUPTED};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Installs the handler for Ctrl-C, SIGTERM and SIGHUP, and returns the token that the first signal cancels. A second
/// signal ends the process at once; saved data stays intact, because the store commits in transactions.
///
/// # Errors
/// If the handler cannot be installed.
pub fn install() -> Result<CancellationToken, CliError> {
    let token = CancellationToken::new();
    let cancel = token.clone();
    ctrlc::set_handler(move || {
        if INTERRUPTED.swap(true, Ordering::SeqCst) {
            std::process::exit(EXIT_INTERRUPTED.into());
        }
        cancel.cancel();
    })
    .map_err(|error| CliError::io("install the handler for Ctrl-C", std::io::Error::other(error)))?;
    Ok(token)
}
