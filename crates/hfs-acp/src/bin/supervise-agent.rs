//! The supervisor of agents as a program of its own, for tests of this crate. In a release, hfs itself is the supervisor.

use std::process::ExitCode;

fn main() -> ExitCode {
    hfs_acp::supervise(std::env::args_os().skip(1))
}
