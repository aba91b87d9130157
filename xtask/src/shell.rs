//! Runs other programs.

use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

/// A command for the same cargo that runs this program.
pub fn cargo(directory: &Path) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.current_dir(directory);
    command
}

/// Prints and runs a command. Returns whether it succeeded.
pub fn succeeds(command: &mut Command) -> Result<bool> {
    eprintln!("$ {}", command_line(command));
    let status = command.status().with_context(|| format!("run {}", command_line(command)))?;
    Ok(status.success())
}

/// Whether a command can be started and succeeds. Prints nothing.
pub fn is_available(command: &mut Command) -> bool {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Runs a command and returns its standard output.
pub fn output_of(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("run {}", command_line(command)))?;
    anyhow::ensure!(output.status.success(), "{} failed: {}", command_line(command), output.status);
    String::from_utf8(output.stdout).with_context(|| format!("read the output of {}", command_line(command)))
}

/// The command line, with the program's name instead of its path.
pub fn command_line(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut line =
        program.file_name().unwrap_or_else(|| command.get_program()).to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}
