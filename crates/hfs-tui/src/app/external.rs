//! The user's own editor.

use std::io::Write;
use std::process::Command;

use hfs_core::ErrorKind;

use crate::message::Answer;
use crate::parts::Failure;

/// Lets the user edit `text` with this command, and returns what they saved.
pub async fn edit(command: &str, text: &str) -> Answer<String> {
    let (command, text) = (command.to_owned(), text.to_owned());
    let edited = tokio::task::spawn_blocking(move || edit_file(&command, &text)).await;
    edited.unwrap_or_else(|error| Err(Failure::new(ErrorKind::Internal, error.to_string())))
}

fn edit_file(command: &str, text: &str) -> Answer<String> {
    let failed = |action: &str, error: &std::io::Error| {
        Failure::new(ErrorKind::Unavailable, format!("cannot {action}: {error}"))
    };
    let mut file = tempfile::Builder::new()
        .prefix("hfs-message-")
        .suffix(".md")
        .tempfile()
        .map_err(|error| failed("make a file for the editor", &error))?;
    file.write_all(text.as_bytes()).map_err(|error| failed("write the editor's file", &error))?;
    // The command may have arguments of its own, as in `code --wait`; the shell takes them apart.
    let status = Command::new("sh")
        .args(["-c", &format!("{command} \"$1\""), "hfs"])
        .arg(file.path())
        .status()
        .map_err(|error| failed("start the editor", &error))?;
    if !status.success() {
        return Err(Failure::new(
            ErrorKind::Unavailable,
            format!("the editor ended with {status}; your text is as it was"),
        ));
    }
    std::fs::read_to_string(file.path()).map_err(|error| failed("read what the editor wrote", &error))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_the_editor_saves_comes_back() {
        assert_eq!(edit("sed -i s/one/two/", "one\n").await, Ok("two\n".to_owned()));
    }

    #[tokio::test]
    async fn an_editor_that_fails_is_told_of() {
        let failure = edit("false", "one").await.unwrap_err();
        assert!(failure.message.contains("your text is as it was"), "{failure:?}");
    }
}
