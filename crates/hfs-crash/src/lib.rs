//! Restores the terminal and explains what happened when a fault ends the process.
//!
//! SQLite maps the index of its write-ahead log into memory. If the file system cannot provide a page of it (the disk is
//! full, read-only or damaged), the kernel sends SIGBUS to the thread that reads or writes the page. No error is returned,
//! so only a signal handler can leave the terminal as it was. The same holds for errors in hfs and its libraries: SIGSEGV,
//! SIGILL, SIGFPE, and SIGABRT.
//!
//! Installing a handler for these signals is `unsafe`: it interrupts a thread at any instruction, so it may only call
//! functions that are async-signal-safe. Safe alternatives exist only for signals that a thread can handle later; signal-hook
//! refuses SIGSEGV, SIGILL and SIGFPE. This is a crate of its own so that all other crates can forbid `unsafe` code: they pass it
//! data, and no code to run in the handler.

use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::time::Duration;

use nix::libc::{BUS_ADRERR, c_int, c_void, siginfo_t};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction};
use rustix::fd::BorrowedFd;
use rustix::termios::{OptionalActions, Termios, tcsetattr};

/// The signals of a crash.
const SIGNALS: [Signal; 5] =
    [Signal::SIGBUS, Signal::SIGSEGV, Signal::SIGILL, Signal::SIGFPE, Signal::SIGABRT];

/// How to restore the terminal after a crash.
#[derive(Debug)]
pub struct TerminalState {
    /// Written to standard output.
    pub sequence: Vec<u8>,
    /// Set on standard input after that.
    pub modes: Termios,
}

/// The state that is restored after a crash, or null. A value that was replaced is not freed: a handler may be reading it.
static TERMINAL: AtomicPtr<TerminalState> = AtomicPtr::new(ptr::null_mut());
/// Whether a thread handles a crash.
static IS_CRASHING: AtomicBool = AtomicBool::new(false);
/// The handler of the standard library, which reports that a thread has overflowed its stack.
static STACK_OVERFLOW_HANDLER: OnceLock<SigAction> = OnceLock::new();

/// Handles crashes of this process from now on. Must be called before the first WebAssembly engine is created: its
/// handlers of these signals pass on what is not theirs to the earlier ones.
pub fn install() {
    for signal in SIGNALS {
        // The alternate stack, which the standard library creates for each thread: a stack may have overflowed.
        let flags = SaFlags::SA_SIGINFO | SaFlags::SA_ONSTACK;
        let action = SigAction::new(SigHandler::SigAction(handle_crash), flags, SigSet::empty());
        // SAFETY: `handle_crash` and everything it calls is async-signal-safe: it reads atomics and writes to file descriptors
        // by system calls, and neither allocates nor locks.
        #[allow(unsafe_code, reason = "handling crashes is the purpose of this crate")]
        let previous = unsafe { sigaction(signal, &action) };
        if let (Signal::SIGSEGV, Ok(previous)) = (signal, previous) {
            // Only the first one: a second call would find this handler.
            let _ = STACK_OVERFLOW_HANDLER.set(previous);
        }
    }
}

/// Sets the state of the terminal that is restored after a crash; `None` if there is nothing to restore.
pub fn set_terminal_state(state: Option<TerminalState>) {
    let pointer = state.map_or(ptr::null_mut(), |state| Box::into_raw(Box::new(state)));
    TERMINAL.store(pointer, Ordering::Release);
}

/// Restores the terminal, explains the signal, and ends the process by it.
extern "C" fn handle_crash(number: c_int, info: *mut siginfo_t, _context: *mut c_void) {
    /// How long another thread's crash may take to end the process.
    const PATIENCE: Duration = Duration::from_secs(1);
    // SAFETY: the kernel passes a valid pointer, because the handler was installed with SA_SIGINFO.
    #[allow(unsafe_code, reason = "handling crashes is the purpose of this crate")]
    let code = unsafe { info.as_ref() }.map_or(0, |info| info.si_code);
    if IS_CRASHING.swap(true, Ordering::AcqRel) {
        // Ends the process only if the other thread fails to, or if the library's handler has called `abort`.
        if number != Signal::SIGABRT as c_int {
            std::thread::sleep(PATIENCE);
        }
    } else {
        restore_terminal();
        report(number, code);
    }
    let Ok(signal) = Signal::try_from(number) else { return };
    // Positive codes are those of faults; other codes mean that a process has sent the signal.
    let next = STACK_OVERFLOW_HANDLER.get().filter(|_| signal == Signal::SIGSEGV && code > 0);
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: the default action, and the handler that the standard library has installed, are valid.
    #[allow(unsafe_code, reason = "handling crashes is the purpose of this crate")]
    let _ = unsafe { sigaction(signal, next.unwrap_or(&default)) };
    // Without `raise`, the instruction that failed runs again after this handler, and fails with the next one.
    if next.is_none() {
        let _ = raise(signal);
    }
}

fn restore_terminal() {
    // SAFETY: a pointer that is not null comes from `Box::into_raw`, and is never freed.
    #[allow(unsafe_code, reason = "handling crashes is the purpose of this crate")]
    let state = unsafe { TERMINAL.load(Ordering::Acquire).as_ref() };
    if let Some(state) = state {
        write_all(rustix::stdio::stdout(), &state.sequence);
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &state.modes);
    }
}

/// Writes two lines to standard error: what happened, and what the user can do.
fn report(number: c_int, code: c_int) {
    let stderr = rustix::stdio::stderr();
    write_all(stderr, b"hfs has crashed: ");
    write_all(stderr, reason(number, code).as_bytes());
    write_all(
        stderr,
        b"\nWhat was saved is in the store: `hfs -c` continues, `hfs store verify` checks it.\n",
    );
}

/// Says what a signal means.
fn reason(number: c_int, code: c_int) -> &'static str {
    match Signal::try_from(number) {
        Ok(Signal::SIGBUS) if code == BUS_ADRERR => {
            "a page of a mapped file could not be read or written (SIGBUS); is the disk full, read-only or damaged?"
        }
        Ok(Signal::SIGBUS) => "SIGBUS",
        Ok(Signal::SIGSEGV) => "SIGSEGV, an access to memory that it does not have",
        Ok(Signal::SIGILL) => "SIGILL, an instruction that the processor does not know",
        Ok(Signal::SIGFPE) => "SIGFPE, an invalid calculation",
        Ok(Signal::SIGABRT) => "SIGABRT",
        Ok(_) | Err(_) => "a signal",
    }
}

/// Writes as much as possible. An error cannot be reported anywhere.
fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) {
    /// A terminal that takes nothing for this many pauses is not waited for.
    const PAUSES: usize = 100;
    const PAUSE: Duration = Duration::from_millis(10);
    let mut pauses = 0;
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) if pauses < PAUSES => {
                pauses += 1;
                std::thread::sleep(PAUSE);
            }
            Err(_) => return,
        }
    }
}
