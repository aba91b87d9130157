//! The supervisor: a process between hfs and an agent that ends the agent, and everything the agent has started, when the
//! agent or hfs ends. It works after `kill -9` of hfs, too.
//!
//! A parent-death signal alone would not do: it reaches only the direct child, whereas agents start engines, servers and
//! commands of their own, some in process groups of their own. It is also sent when the thread that started the process
//! ends, and threads of a runtime end at any time. The supervisor instead waits for the end of hfs as a process. On Linux,
//! orphaned descendants become its own children, so it finds all of them; elsewhere, it ends the agent's process group.
//!
//! The supervisor is the program of hfs itself, so that nothing else has to be installed. It begins a session without a
//! terminal: an agent can neither draw on the screen nor read keys, and Ctrl-C does not reach it.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, getppid, kill_process_group, wait};
use signal_hook::consts::{SIGCHLD, SIGTERM};

/// How long an agent may continue after hfs has ended, to write its transcript. Its input is closed by then.
const GRACE: Duration = Duration::from_secs(2);
/// How often the end of hfs is looked for where the system does not report it.
const PARENT_CHECK: Duration = Duration::from_millis(250);
/// How long the end of killed processes is waited for. Only one that hangs in the kernel takes longer.
const KILL_LIMIT: Duration = Duration::from_secs(5);
/// Delay between two looks for descendants that are left.
const KILL_INTERVAL: Duration = Duration::from_millis(5);

/// Exit code if the agent's program cannot be run, as in a shell.
pub(crate) const CANNOT_START: u8 = 127;
/// Added to the number of the signal that ended the agent, as in a shell.
pub(crate) const SIGNALLED: u8 = 128;

/// Runs an agent until it, or the process `parent`, ends. `arguments` are the id of that process, the agent's program, and
/// the program's arguments. Returns the agent's exit code.
///
/// Call this in a new process, first of all. The agent inherits its standard input and output.
pub fn supervise(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut arguments = arguments.into_iter();
    let parent = arguments.next().and_then(|text| Pid::from_raw(text.to_str()?.parse().ok()?));
    let (Some(parent), Some(program)) = (parent, arguments.next()) else {
        report("expected the id of a process and a program");
        return ExitCode::from(CANNOT_START);
    };
    match Supervisor::start(parent, &program, arguments) {
        Ok(mut supervisor) => supervisor.run(),
        Err(error) => {
            report(&format!("cannot run {}: {error}", program.display()));
            ExitCode::from(CANNOT_START)
        }
    }
}

#[allow(clippy::print_stderr, reason = "standard error of this process is the agent's log")]
fn report(message: &str) {
    eprintln!("{message}");
}

struct Supervisor {
    parent: Pid,
    /// Readable when the parent has ended; `None` where the system does not report that.
    parent_exit: Option<OwnedFd>,
    terminated: UnixStream,
    child_changed: UnixStream,
    agent: Pid,
    /// When an agent is killed whose parent has ended.
    deadline: Option<Instant>,
}

impl Supervisor {
    fn start(parent: Pid, program: &OsStr, arguments: impl Iterator<Item = OsString>) -> io::Result<Self> {
        // Fails only for the leader of a process group, which was then not started by hfs.
        let _ = rustix::process::setsid();
        become_subreaper();
        let terminated = signal_stream(SIGTERM)?;
        let child_changed = signal_stream(SIGCHLD)?;
        let parent_exit = process_exit(parent);
        if getppid() != Some(parent) {
            return Err(io::Error::other("hfs has ended"));
        }
        let child = Command::new(program).args(arguments).process_group(0).spawn()?;
        let agent = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let agent = agent.ok_or_else(|| io::Error::other("the process has no id"))?;
        Ok(Self { parent, parent_exit, terminated, child_changed, agent, deadline: None })
    }

    fn run(&mut self) -> ExitCode {
        let code = loop {
            if let Some(status) = reap(self.agent) {
                break exit_code(status);
            }
            let parent_ended = self.wait();
            let mut byte = [0; 64];
            if self.terminated.read(&mut byte).is_ok_and(|count| count > 0) {
                break SIGNALLED.saturating_add(15);
            }
            // Drained, so that the next signal is noticed.
            let _ = self.child_changed.read(&mut byte);
            if parent_ended {
                self.deadline.get_or_insert_with(|| Instant::now() + GRACE);
            }
            if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                break SIGNALLED.saturating_add(9);
            }
        };
        end_all(self.agent);
        ExitCode::from(code)
    }

    /// Waits until something may have happened. Returns whether the parent has ended.
    fn wait(&self) -> bool {
        let mut watched = vec![
            PollFd::new(&self.terminated, PollFlags::IN),
            PollFd::new(&self.child_changed, PollFlags::IN),
        ];
        let watched_parent = self.parent_exit.as_ref().filter(|_| self.deadline.is_none());
        if let Some(exit) = watched_parent {
            watched.push(PollFd::new(exit, PollFlags::IN));
        }
        let timeout = match self.deadline {
            Some(deadline) => Some(deadline.saturating_duration_since(Instant::now())),
            None => watched_parent.is_none().then_some(PARENT_CHECK),
        };
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        if let Err(error) = poll(&mut watched, timeout.as_ref())
            && error != Errno::INTR
        {
            // Without `poll`, the loop looks at everything a few times a second.
            std::thread::sleep(PARENT_CHECK);
        }
        getppid() != Some(self.parent)
    }
}

/// A stream that is readable after the signal has arrived.
fn signal_stream(signal: i32) -> io::Result<UnixStream> {
    let (reader, writer) = UnixStream::pair()?;
    reader.set_nonblocking(true)?;
    signal_hook::low_level::pipe::register(signal, writer)?;
    Ok(reader)
}

/// Collects all children that have ended. Returns the status of the agent if it is among them.
fn reap(agent: Pid) -> Option<WaitStatus> {
    let mut ended = None;
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if pid == agent {
            ended = Some(status);
        }
    }
    ended
}

fn exit_code(status: WaitStatus) -> u8 {
    let code = |number: i32| u8::try_from(number & 0xff).unwrap_or(u8::MAX);
    match (status.exit_status(), status.terminating_signal()) {
        (Some(number), _) => code(number),
        (None, Some(signal)) => SIGNALLED.saturating_add(code(signal)),
        (None, None) => 1,
    }
}

/// Kills the agent and all processes that it has started.
fn end_all(agent: Pid) {
    let deadline = Instant::now() + KILL_LIMIT;
    loop {
        // The group first: its members cannot start more processes one after the other.
        let _ = kill_process_group(agent, Signal::KILL);
        let killed = kill_children();
        let _ = reap(agent);
        if !killed || Instant::now() >= deadline {
            return;
        }
        std::thread::sleep(KILL_INTERVAL);
    }
}

#[cfg(target_os = "linux")]
fn become_subreaper() {
    // Fails only on kernels before 3.4.
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
}

#[cfg(not(target_os = "linux"))]
fn become_subreaper() {}

#[cfg(target_os = "linux")]
fn process_exit(process: Pid) -> Option<OwnedFd> {
    rustix::process::pidfd_open(process, rustix::process::PidfdFlags::empty()).ok()
}

#[cfg(not(target_os = "linux"))]
fn process_exit(_process: Pid) -> Option<OwnedFd> {
    None
}

/// Kills all direct children. Their own children become direct ones. Returns whether there were any.
#[cfg(target_os = "linux")]
fn kill_children() -> bool {
    let own = rustix::process::getpid();
    let Ok(processes) = std::fs::read_dir("/proc") else { return false };
    let mut found = false;
    for entry in processes.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| Pid::from_raw(name.parse().ok()?)) else {
            continue;
        };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        // The name of the program, in parentheses, may contain anything.
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1));
        if parent.and_then(|parent| Pid::from_raw(parent.parse().ok()?)) == Some(own) {
            found = true;
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
    found
}

#[cfg(not(target_os = "linux"))]
fn kill_children() -> bool {
    false
}
