//! Runs the user's editor.

use std::process::Command;

use hfs_core::ErrorKind;
use hfs_files::TemporaryFolder;

use crate::ports::ErrorReport;
use crate::protocol::UiResult;

/// Opens `text` in the editor and returns the saved text after the editor has exited.
pub async fn edit(command: &str, text: &str) -> UiResult<String> {
    let (command, text) = (command.to_owned(), text.to_owned());
    let edited = tokio::task::spawn_blocking(move || edit_file(&command, &text)).await;
    edited.unwrap_or_else(|error| Err(ErrorReport::new(ErrorKind::Internal, error.to_string())))
}

fn edit_file(command: &str, text: &str) -> UiResult<String> {
    let failed = |action: &str, error: &std::io::Error| {
        ErrorReport::new(ErrorKind::Unavailable, format!("cannot {action}: {error}"))
    };
    // In a folder of its own, because many editors replace the file when they save. If hfs is killed, the editor still
    // has its file.
    let folder = TemporaryFolder::create()
        .and_then(|folder| folder.share_with_children().map(|()| folder))
        .map_err(|error| failed("create a file for the editor", &error))?;
    let file = folder.path().join("message.md");
    std::fs::write(&file, text).map_err(|error| failed("write the editor's file", &error))?;
    // The command may have arguments, as in `code --wait`; the shell splits them. In its script, `hfs` is `$0` and the
    // file is `$1`.
    let status = Command::new("sh")
        .args(["-c", &format!("{command} \"$1\""), "hfs"])
        .arg(&file)
        .status()
        .map_err(|error| failed("start the editor", &error))?;
    if !status.success() {
        return Err(ErrorReport::new(
            ErrorKind::Unavailable,
            format!("the editor exited with {status}; your text was not changed"),
        ));
    }
    std::fs::read_to_string(&file).map_err(|error| failed("read the edited text", &error))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_text_that_the_editor_saves_is_returned() {
        assert_eq!(edit("sed -i s/one/two/", "one\n").await, Ok("two\n".to_owned()));
    }

    #[tokio::test]
    async fn an_editor_that_fails_is_reported() {
        let report = edit("false", "one").await.unwrap_err();
        assert!(report.message.contains("your text was not changed"), "{report:?}");
    }
}
