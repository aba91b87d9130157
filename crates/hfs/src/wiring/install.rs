//! Installs the adapter of an agent from npm, after the user has agreed to the command.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use hfs_core::ErrorKind;

use super::programs::AgentProgram;
use crate::environment::Environment;
use crate::output::error::CliError;
use crate::output::sanitize;

/// How often an installation without output looks whether it should stop.
const STOP_CHECK: Duration = Duration::from_millis(200);
/// Bytes of a line of output that are shown.
const MAX_LINE_BYTES: u64 = 4_000;

/// Runs the command that installs an agent's adapter. `output` receives the lines that it prints, and returns `false` to stop it.
/// While nothing is printed, it is called with an empty line from time to time, so that it can do so.
///
/// # Errors
/// If the command cannot be started, fails or was stopped, or if the adapter cannot be found afterwards.
pub fn install_adapter(
    program: &AgentProgram,
    environment: &Environment,
    output: &dyn Fn(&str) -> bool,
) -> Result<(), CliError> {
    let command = program.adapter_command().ok_or_else(|| {
        CliError::new(ErrorKind::Unsupported, format!("{} cannot be installed from here", program.title))
    })?;
    let mut words = command.split_whitespace();
    let name = words.next().unwrap_or_default();
    let installer = super::programs::find_program(name, environment).ok_or_else(|| {
        CliError::with_hint(
            ErrorKind::NotFound,
            format!("{name} is not installed"),
            "install Node.js, which contains it: https://nodejs.org",
        )
    })?;
    let mut child = Command::new(installer)
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| CliError::io(format!("start {name}"), error))?;
    let has_finished = read_output(&mut child, output);
    if !has_finished {
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| CliError::io(format!("wait for {name}"), error))?;
    if !has_finished {
        return Err(CliError::new(ErrorKind::Unavailable, format!("{command} was stopped")));
    }
    if !status.success() {
        return Err(CliError::with_hint(
            ErrorKind::Unavailable,
            format!("{command} failed: {status}"),
            "if it was not permitted to write, run it in a shell as the user who may, or let npm install into a folder of \
             yours: npm config set prefix ~/.local",
        ));
    }
    if program.find(environment).is_none() {
        return Err(CliError::with_hint(
            ErrorKind::NotFound,
            format!("it was installed, but there is no program {} in PATH", sanitize::line(&program.command)),
            "add npm's folder of programs to PATH, and start hfs again: it is bin in the folder that `npm prefix -g` prints",
        ));
    }
    Ok(())
}

/// Passes on the lines that a process prints until it closes its output. Returns `false` if it should stop.
fn read_output(child: &mut Child, output: &dyn Fn(&str) -> bool) -> bool {
    let (sender, lines) = channel();
    if let Some(stdout) = child.stdout.take() {
        read_lines(stdout, sender.clone());
    }
    if let Some(stderr) = child.stderr.take() {
        read_lines(stderr, sender);
    }
    loop {
        let wants_more = match lines.recv_timeout(STOP_CHECK) {
            Ok(line) => output(&line),
            Err(RecvTimeoutError::Timeout) => output(""),
            Err(RecvTimeoutError::Disconnected) => return true,
        };
        if !wants_more {
            return false;
        }
    }
}

fn read_lines(source: impl Read + Send + 'static, sender: Sender<String>) {
    std::thread::spawn(move || {
        let mut source = BufReader::new(source);
        loop {
            let mut line = Vec::new();
            // A longer line becomes several.
            match source.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) => {
                    let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::super::programs;
    use super::*;
    use crate::config::Programs;

    fn write_program(path: &Path, script: &str) {
        std::fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn install(folder: &Path, output: &dyn Fn(&str) -> bool) -> Result<(), CliError> {
        let environment = Environment::with_variables([("PATH", folder.to_str().unwrap())]);
        let claude = programs::named("claude", &Programs::default()).unwrap();
        install_adapter(&claude, &environment, output)
    }

    #[test]
    fn an_installation_shows_its_output_and_says_how_it_ended() {
        let folder = tempfile::tempdir().unwrap();
        let missing = install(folder.path(), &|_| true).unwrap_err();
        assert!(missing.to_string().contains("npm is not installed"), "{missing}");
        let npm = folder.path().join("npm");
        write_program(&npm, "echo \"$@\"; echo no access >&2; exit 3");
        let lines = RefCell::new(Vec::new());
        let failed = install(folder.path(), &|line| {
            lines.borrow_mut().extend(Some(line.to_owned()).filter(|line| !line.is_empty()));
            true
        });
        assert!(failed.unwrap_err().to_string().contains("exit status: 3"));
        let mut lines = lines.into_inner();
        lines.sort();
        assert_eq!(lines, ["install -g @agentclientprotocol/claude-agent-acp@0.101", "no access"]);
        write_program(&npm, "exit 0");
        let hidden = install(folder.path(), &|_| true).unwrap_err();
        assert!(hidden.hint().unwrap().contains("PATH"), "{hidden}");
        let adapter = folder.path().join("claude-agent-acp");
        write_program(&npm, &format!("/bin/cp \"$0\" {}", adapter.display()));
        install(folder.path(), &|_| true).unwrap();
        write_program(&npm, "exec /bin/sleep 100");
        let stopped = install(folder.path(), &|_| false).unwrap_err();
        assert!(stopped.to_string().contains("was stopped"), "{stopped}");
    }
}
