//! Signals.

#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalRequest {
    /// End the app.
    Terminate,
    /// Suspend the process.
    Suspend,
}

/// Receives the signals that the app handles.
pub struct Signals {
    #[cfg(unix)]
    listening: Vec<(Signal, SignalRequest)>,
}

#[cfg(unix)]
impl Signals {
    /// Installs the signal handlers. A signal whose handler cannot be installed keeps its default behaviour.
    pub fn listen() -> Self {
        let kinds = [
            (SignalKind::terminate(), SignalRequest::Terminate),
            (SignalKind::hangup(), SignalRequest::Terminate),
            (SignalKind::interrupt(), SignalRequest::Terminate),
            (SignalKind::from_raw(signal_hook::consts::SIGTSTP), SignalRequest::Suspend),
        ];
        let listening = kinds.into_iter().filter_map(|(kind, request)| Some((signal(kind).ok()?, request)));
        Self { listening: listening.collect() }
    }

    /// Waits for the next signal.
    pub async fn next(&mut self) -> SignalRequest {
        if self.listening.is_empty() {
            return futures::future::pending().await;
        }
        let waiting = self.listening.iter_mut().map(|(signal, request)| {
            Box::pin(async move {
                signal.recv().await;
                *request
            })
        });
        futures::future::select_all(waiting).await.0
    }
}

#[cfg(not(unix))]
impl Signals {
    /// Returns a value that never receives a signal.
    pub fn listen() -> Self {
        Self {}
    }

    /// Waits for the next signal.
    pub async fn next(&mut self) -> SignalRequest {
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
