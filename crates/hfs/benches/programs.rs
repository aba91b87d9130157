//! Exports beside programs that read the same transcripts. Search beside ripgrep is in the benchmark `watch`.
//!
//! `cargo xtask bench --peers programs` installs them.
#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::process::{Command, ExitCode, Stdio};

use testkit::bench::{Bench, Target};
use testkit::cli::Hfs;
use testkit::transcripts::write_sessions;

/// The folder of a Python environment with the programs.
const ENVIRONMENT: &str = "HFS_PEERS";

fn main() -> ExitCode {
    let mut bench = Bench::from_args("programs");
    if let Some(environment) = bench.folder(ENVIRONMENT) {
        let hfs = Hfs::new(env!("CARGO_BIN_EXE_hfs"));
        let messages = u32::try_from(bench.size(1_000, 10)).unwrap();
        let transcript = write_sessions(&hfs.home(), 1, messages, 90).remove(0);
        let _ = hfs.run(&["import", transcript.to_str().unwrap()]).ok();
        let page = hfs.project().join("page.html");
        let page = page.to_str().unwrap();
        bench
            .pair("a session of 1,000 messages as HTML, beside claude-code-log")
            .rounds(10)
            .median(Target::AtMost(0.5))
            .run(
                || hfs.run(&["export", "@", "--format", "html", "--output", page]).ok(),
                || {
                    let mut command = Command::new(environment.join("bin/claude-code-log"));
                    command.arg(&transcript).args(["--output", page, "--no-cache"]).env("HOME", hfs.home());
                    assert!(command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
                },
            );
    }
    bench.finish()
}
