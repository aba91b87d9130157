//! The process of an agent: its start, its pipes, and its end.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::{mpsc, watch};

use crate::AcpError;
use crate::launch::Launch;

/// How long a process that was told to end may take before it is killed.
const END_LIMIT: Duration = Duration::from_secs(7);

/// A running agent. Dropping it ends the process and everything that it has started.
#[derive(Debug)]
pub struct AgentProcess {
    end: mpsc::UnboundedSender<()>,
    status: watch::Receiver<Option<String>>,
}

/// The pipes of a process.
pub struct Pipes {
    pub input: ChildStdin,
    pub output: ChildStdout,
    pub errors: ChildStderr,
}

impl AgentProcess {
    /// Starts an agent. Must be called within a tokio runtime.
    pub fn start(launch: &Launch) -> Result<(Self, Pipes), AcpError> {
        let failed = |message: String| AcpError::Start {
            agent: launch.agent.clone(),
            program: launch.program.display().to_string(),
            message,
        };
        let mut child =
            command(launch).map_err(&failed)?.spawn().map_err(|error| failed(error.to_string()))?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(input), Some(output), Some(errors)) = pipes else {
            return Err(failed("its pipes are missing".into()));
        };
        let (end, end_requests) = mpsc::unbounded_channel();
        let (sender, status) = watch::channel(None);
        tokio::spawn(watch_process(RunningChild(child), end_requests, sender));
        Ok((Self { end, status }, Pipes { input, output, errors }))
    }

    /// Ends the process and everything that it has started. Does not wait for it.
    pub fn end(&self) {
        // Fails only if the process has ended.
        let _ = self.end.send(());
    }

    /// Waits until the process has ended, and says how.
    pub async fn ended(&self) -> String {
        let mut status = self.status.clone();
        let ended = status.wait_for(Option::is_some).await;
        ended.ok().and_then(|status| status.clone()).unwrap_or_else(|| "its state is not known".into())
    }
}

fn command(launch: &Launch) -> Result<Command, String> {
    let [program, arguments @ ..] = launch.supervisor.as_slice() else {
        return Err("no supervisor is configured".into());
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .arg(std::process::id().to_string())
        .arg(&launch.program)
        .args(&launch.arguments)
        .env_clear()
        .envs(launch.environment.iter().map(|(name, value)| (name, value)))
        .current_dir(&launch.directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Ok(command)
}

/// Waits for the end of the process, or ends it when asked to or when the asking side is dropped.
async fn watch_process(
    mut child: RunningChild,
    mut end_requests: mpsc::UnboundedReceiver<()>,
    status: watch::Sender<Option<String>>,
) {
    let mut result = tokio::select! {
        result = child.0.wait() => Some(result),
        _ = end_requests.recv() => None,
    };
    if result.is_none() {
        child.terminate();
        result = tokio::time::timeout(END_LIMIT, child.0.wait()).await.ok();
    }
    let text = match result {
        Some(Ok(status)) => describe(status),
        Some(Err(error)) => error.to_string(),
        None => {
            // Only a supervisor that was stopped does not end in this time.
            let _ = child.0.start_kill();
            "it was killed".to_owned()
        }
    };
    let _ = status.send(Some(text));
}

/// Says how a process ended. A supervisor reports a signal as a shell does.
fn describe(status: ExitStatus) -> String {
    use crate::supervisor::{CANNOT_START, SIGNALLED};
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    if code == Some(CANNOT_START) {
        return "its program cannot be run".into();
    }
    if let Some(signal) = code.and_then(|code| code.checked_sub(SIGNALLED)).filter(|signal| *signal > 0) {
        return format!("signal {signal}");
    }
    match status.code() {
        Some(code) => format!("exit code {code}"),
        None => status.to_string(),
    }
}

/// A child process that is told to end when it is dropped. The supervisor then ends the agent.
struct RunningChild(Child);

impl RunningChild {
    fn terminate(&mut self) {
        use rustix::process::{Pid, Signal, kill_process};
        // The id is `None` after the process was waited for, so it is never that of another process.
        let id = self.0.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(id) = id {
            let _ = kill_process(id, Signal::TERM);
        }
    }
}

impl Drop for RunningChild {
    fn drop(&mut self) {
        self.terminate();
    }
}
