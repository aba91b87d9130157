//! Unix signals that the app handles.

use super::job_control::StopSignal;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The effect of a signal on the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalAction {
    /// Ends the app; the number of the signal.
    Terminate(i32),
    /// Stops the process.
    Stop,
    /// The process continues after a stop, or the terminal has a new size.
    Redraw(RedrawReason),
}

/// Why a signal requires a redraw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedrawReason {
    /// The terminal has a new size.
    Resized,
    /// The process continues. Another program may have used the terminal.
    Continued,
}

/// Receives the signals that the app handles.
pub struct Signals {
    stop: StopSignal,
    others: Vec<(Signal, SignalAction)>,
}

impl Signals {
    /// Installs the signal handlers. A signal whose handler cannot be installed keeps its default behaviour.
    pub fn listen() -> Self {
        use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGWINCH};
        // Not SIGABRT, which a library raises when it cannot continue: `abort` ends the process when the handler returns.
        let terminating = [SIGTERM, SIGHUP, SIGINT, SIGQUIT];
        let actions = terminating.map(|number| (number, SignalAction::Terminate(number)));
        let actions = actions.into_iter().chain([
            (SIGWINCH, SignalAction::Redraw(RedrawReason::Resized)),
            (SIGCONT, SignalAction::Redraw(RedrawReason::Continued)),
        ]);
        let listen = |(number, action)| Some((signal(SignalKind::from_raw(number)).ok()?, action));
        Self { stop: StopSignal::listen(), others: actions.filter_map(listen).collect() }
    }

    /// Waits for the next signal.
    pub async fn next(&mut self) -> SignalAction {
        let receivers = self.others.iter_mut().map(|(signal, action)| {
            Box::pin(async move {
                signal.recv().await;
                *action
            })
        });
        let receivers: Vec<_> = receivers.collect();
        if receivers.is_empty() {
            self.stop.next().await;
            return SignalAction::Stop;
        }
        tokio::select! {
            (action, ..) = futures::future::select_all(receivers) => action,
            () = self.stop.next() => SignalAction::Stop,
        }
    }

    /// Stops the process until it continues; see [`StopSignal::stop`].
    pub fn stop_process(&self) {
        self.stop.stop();
    }
}

/// Ends the process by a signal, so that the exit status shows it. Returns if the signal does not end processes.
pub fn die_by_signal(number: i32) {
    let _ = signal_hook::low_level::emulate_default_handler(number);
}
