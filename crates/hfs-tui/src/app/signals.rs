//! What the system asks of the process.

#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// To end.
    Terminate,
    /// To stop until it is continued.
    Suspend,
}

/// The signals that the app obeys in an orderly way.
pub struct Signals {
    #[cfg(unix)]
    listening: Vec<(Signal, Asked)>,
}

#[cfg(unix)]
impl Signals {
    /// Listens from now on. A signal that cannot be listened to keeps its usual meaning.
    pub fn listen() -> Self {
        let kinds = [
            (SignalKind::terminate(), Asked::Terminate),
            (SignalKind::hangup(), Asked::Terminate),
            (SignalKind::interrupt(), Asked::Terminate),
            (SignalKind::from_raw(signal_hook::consts::SIGTSTP), Asked::Suspend),
        ];
        let listening = kinds.into_iter().filter_map(|(kind, asked)| Some((signal(kind).ok()?, asked)));
        Self { listening: listening.collect() }
    }

    /// Waits until something is asked.
    pub async fn next(&mut self) -> Asked {
        if self.listening.is_empty() {
            return futures::future::pending().await;
        }
        let waiting = self.listening.iter_mut().map(|(signal, asked)| {
            Box::pin(async move {
                signal.recv().await;
                *asked
            })
        });
        futures::future::select_all(waiting).await.0
    }
}

#[cfg(not(unix))]
impl Signals {
    /// Listens from now on.
    pub fn listen() -> Self {
        Self {}
    }

    /// Waits until something is asked.
    pub async fn next(&mut self) -> Asked {
        futures::future::pending().await
    }
}

/// Stops the process as Ctrl+Z does, until it is continued.
#[cfg(unix)]
pub fn stop_this_process() {
    // SIGSTOP cannot be refused; an error would mean that the signal has no number here.
    let _ = signal_hook::low_level::emulate_default_handler(signal_hook::consts::SIGTSTP);
}

/// There is no such thing here.
#[cfg(not(unix))]
pub fn stop_this_process() {}
