//! `cargo xtask reference`: the pages and the picture that are generated from the code.

use std::process::ExitCode;

use anyhow::Result;

use crate::shell;
use crate::workspace::Workspace;

/// The tests that compare a page or picture with the code, and write it if they are told to, with their targets.
const GENERATORS: &[(&str, &[&str], &str)] = &[
    ("hfs", &["--bins"], "the_reference_is_up_to_date"),
    ("hfs", &["--test", "cli"], "the_recorded_session_is_up_to_date"),
    ("hfs-plugins", &["--tests"], "the_page_of_the_contract_is_up_to_date"),
];

/// Writes the pages.
pub fn run(workspace: &Workspace) -> Result<ExitCode> {
    for (package, targets, test) in GENERATORS {
        let mut command = shell::cargo(&workspace.root);
        command.args(["test", "--quiet", "--package", package]).args(*targets);
        command.args(["--", test]).env("UPDATE_REFERENCE", "1");
        if !shell::succeeds(&mut command)? {
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}
