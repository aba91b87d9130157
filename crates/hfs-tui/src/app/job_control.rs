//! Job control: stopping under a shell, and waiting for the foreground.

use std::io::stdin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal, raise};
use rustix::process::{getpgrp, getpid, getsid, kill_current_process_group};
use rustix::termios::tcgetpgrp;
use tokio::sync::mpsc as async_mpsc;

fn stop_signal() -> SigSet {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTSTP);
    set
}

/// Holds back SIGTSTP until the app has restored the terminal. Must be called before the process starts a thread: a
/// thread that does not inherit the blocked signal would stop the process at once.
pub fn hold_stop_signal() {
    // Cannot fail: the set and the operation are valid.
    let _ = stop_signal().thread_block();
}

/// Receives SIGTSTP, and stops the process by it.
///
/// A handler for SIGTSTP could stop the process only by SIGSTOP. The shell would then report another signal, and the
/// kernel would stop the process even if no shell can continue it: it ignores SIGTSTP in that case, but not SIGSTOP. So
/// there is no handler. All threads block the signal, a thread waits for it, and that thread lets its default action
/// happen after the terminal has been restored.
pub struct StopSignal {
    received: async_mpsc::UnboundedReceiver<()>,
    /// Whether the terminal is restored, so that the next signal stops the process.
    may_stop: Arc<AtomicBool>,
    continued: mpsc::Receiver<()>,
}

impl StopSignal {
    /// Starts the thread that waits for the signal.
    pub fn listen() -> Self {
        hold_stop_signal();
        let (sender, received) = async_mpsc::unbounded_channel();
        let (continued_sender, continued) = mpsc::channel();
        let may_stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&may_stop);
        thread::spawn(move || {
            let set = stop_signal();
            while set.wait().is_ok() {
                let sent = if flag.swap(false, Ordering::SeqCst) {
                    // The signal stays pending for this thread until it is unblocked. Then the process stops, and
                    // `thread_unblock` returns after SIGCONT.
                    let _ = raise(Signal::SIGTSTP);
                    let _ = set.thread_unblock();
                    let _ = set.thread_block();
                    continued_sender.send(()).is_ok()
                } else {
                    sender.send(()).is_ok()
                };
                if !sent {
                    return;
                }
            }
        });
        Self { received, may_stop, continued }
    }

    /// Waits for the signal.
    pub async fn next(&mut self) {
        if self.received.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }

    /// Stops this process group, as Ctrl+Z does in a shell, and returns when it continues. Returns at once if no shell
    /// can continue it. The terminal must be restored.
    pub fn stop(&self) {
        /// How long the waiting thread may take to receive the signal.
        const TIMEOUT: Duration = Duration::from_secs(1);
        while self.continued.try_recv().is_ok() {}
        self.may_stop.store(true, Ordering::SeqCst);
        // The whole group, because the shell waits for all processes of a job.
        if kill_current_process_group(rustix::process::Signal::TSTP).is_ok() {
            // The time limit also ends the wait if the signal has stopped the process without the waiting thread.
            let _ = self.continued.recv_timeout(TIMEOUT);
        }
        self.may_stop.store(false, Ordering::SeqCst);
    }
}

/// Whether this process leads its session, so that no shell can continue it after a stop.
pub fn is_session_leader() -> bool {
    getsid(None).is_ok_and(|session| session == getpid())
}

/// Waits until this process group is in the foreground of its terminal. In the background, the process stops until the
/// shell continues it. Returns `false` if it stays in the background, because no shell can bring it to the foreground.
#[must_use]
pub fn wait_for_foreground() -> bool {
    /// A stop that took less than this did not happen: the kernel ignores the signal if no shell can continue the
    /// process.
    const IGNORED: Duration = Duration::from_millis(50);
    const ATTEMPTS: usize = 5;
    for _ in 0..ATTEMPTS {
        loop {
            match tcgetpgrp(stdin()) {
                Ok(foreground) if foreground != getpgrp() => {}
                // A terminal that does not control this process has no foreground.
                Ok(_) | Err(_) => return true,
            }
            let started = Instant::now();
            // As the kernel does when a process in the background reads from its terminal.
            let _ = kill_current_process_group(rustix::process::Signal::TTIN);
            if started.elapsed() < IGNORED {
                break;
            }
        }
        thread::sleep(IGNORED);
    }
    false
}
