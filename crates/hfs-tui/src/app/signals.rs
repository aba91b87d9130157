//! Unix signals that end or suspend the app.

#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The effect of a signal on the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalAction {
    /// Ends the app.
    Terminate,
    /// Suspends the process.
    Suspend,
}

/// Receives the signals that the app handles.
pub struct Signals {
    #[cfg(unix)]
    signals: Vec<(Signal, SignalAction)>,
}

#[cfg(unix)]
impl Signals {
    /// Installs the signal handlers. A signal whose handler cannot be installed keeps its default behaviour.
    pub fn listen() -> Self {
        let kinds = [
            (SignalKind::terminate(), SignalAction::Terminate),
            (SignalKind::hangup(), SignalAction::Terminate),
            (SignalKind::interrupt(), SignalAction::Terminate),
            (SignalKind::from_raw(signal_hook::consts::SIGTSTP), SignalAction::Suspend),
        ];
        let signals = kinds.into_iter().filter_map(|(kind, action)| Some((signal(kind).ok()?, action)));
        Self { signals: signals.collect() }
    }

    /// Waits for the next signal.
    pub async fn next(&mut self) -> SignalAction {
        if self.signals.is_empty() {
            return futures::future::pending().await;
        }
        let receivers = self.signals.iter_mut().map(|(signal, action)| {
            Box::pin(async move {
                signal.recv().await;
                *action
            })
        });
        futures::future::select_all(receivers).await.0
    }
}

#[cfg(not(unix))]
impl Signals {
    /// Returns a value that never receives a signal.
    pub fn listen() -> Self {
        Self {}
    }

    /// Waits for the next signal.
    pub async fn next(&mut self) -> SignalAction {
        futures::future::pending().await
    }
}

/// Suspends the process until it receives SIGCONT, as Ctrl+Z does in a shell.
#[cfg(unix)]
pub fn suspend_process() {
    // This raises SIGSTOP, which cannot fail.
    let _ = signal_hook::low_level::emulate_default_handler(signal_hook::consts::SIGTSTP);
}

/// Does nothing: other systems cannot suspend a process.
#[cfg(not(unix))]
pub fn suspend_process() {}
