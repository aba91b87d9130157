//! Runs the desktop's program for the clipboard.

use std::io::{self, Write};
use std::process::{Command, Stdio};

/// Passes `text` to the program, and waits until it has taken it.
///
/// # Errors
/// Returns an error if the program cannot be started or fails.
pub fn copy(program: &[String], text: &str) -> io::Result<()> {
    let Some((name, arguments)) = program.split_first() else {
        return Err(io::Error::from(io::ErrorKind::NotFound));
    };
    // The program may stay in the background to serve the clipboard, so it must not keep the terminal open.
    let mut child = Command::new(name)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(text.as_bytes())?;
    }
    let status = child.wait()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("{name} exited with {status}"))) }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn the_program_gets_the_whole_text_and_its_failure_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("clipboard");
        let program = ["sh", "-c", "cat > \"$0\"", file.to_str().unwrap()].map(str::to_owned);
        let text = "line\n".repeat(100_000);
        copy(&program, &text).unwrap();
        assert_eq!(std::fs::read_to_string(file).unwrap(), text);
        assert!(copy(&["false".to_owned()], "x").is_err());
        assert!(copy(&["no-such-program".to_owned()], "x").is_err());
        assert!(copy(&[], "x").is_err());
    }
}
