//! The watcher as a service of the user's systemd.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use hfs_core::ErrorKind;
use hfs_files::{Durability, replace};

use crate::config::Key;
use crate::context::Context;
use crate::environment::Environment;
use crate::output::error::CliError;

/// Name of the unit.
pub const UNIT: &str = "hfs-watch.service";
/// Variables that say where data is and what is not imported. A service does not get those of the user's shell.
const VARIABLES: [&str; 13] = [
    "HFS_HOME",
    "HFS_STORE",
    "HFS_WATCH_EXCLUDE",
    "CLAUDE_CONFIG_DIR",
    "CODEX_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "LLM_USER_PATH",
    "QWEN_HOME",
    "PI_CODING_AGENT_DIR",
    "COPILOT_HOME",
    "CLINE_DIR",
    "TZ",
];

/// The user's unit.
#[derive(Debug)]
pub struct Service {
    pub path: PathBuf,
}

impl Service {
    /// # Errors
    /// If the user has no home directory.
    pub fn find(environment: &Environment) -> Result<Self, CliError> {
        let config = environment.get_non_empty("XDG_CONFIG_HOME").map(PathBuf::from);
        let config = config.or_else(|| Some(environment.user_home.as_ref()?.join(".config")));
        let config = config.ok_or_else(|| {
            CliError::new(
                ErrorKind::NotFound,
                "the user has no home directory, so there is no place for a service",
            )
        })?;
        Ok(Self { path: config.join("systemd/user").join(UNIT) })
    }

    pub fn is_installed(&self) -> bool {
        self.path.exists()
    }

    /// Writes the unit. Returns whether it is new or has changed.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, context: &Context) -> Result<bool, CliError> {
        let text = unit(context)?;
        if fs::read_to_string(&self.path).is_ok_and(|found| found == text) {
            return Ok(false);
        }
        let folder = self.path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)
            .and_then(|()| replace(&self.path, text.as_bytes(), Durability::Synced))
            .map_err(|error| CliError::io(format!("write {}", self.path.display()), error))?;
        Ok(true)
    }

    /// Removes the unit.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove(&self) -> Result<(), CliError> {
        fs::remove_file(&self.path)
            .map_err(|error| CliError::io(format!("remove {}", self.path.display()), error))
    }
}

/// Checks that the user's systemd runs.
///
/// # Errors
/// `Unavailable`, with what to do instead.
pub fn check_systemd() -> Result<(), CliError> {
    run(&["show-environment"]).map(drop).map_err(|error| {
        let reason = error.document().one_line();
        CliError::with_hint(
            ErrorKind::Unavailable,
            format!("the user's systemd does not run here: {reason}"),
            "start the watcher with your session instead, such as by the line `hfs watch --quiet &` in ~/.profile, or run \
             `hfs watch --once` from time to time; without a watcher, search, recall and the app import what is new themselves",
        )
    })
}

/// Runs `systemctl --user` with these arguments. Returns its output.
///
/// # Errors
/// If it cannot be run or fails, with its message.
pub fn run(arguments: &[&str]) -> Result<String, CliError> {
    let line = format!("systemctl --user {}", arguments.join(" "));
    let output = Command::new("systemctl").arg("--user").args(arguments).output();
    let output = output.map_err(|error| CliError::io(format!("run `{line}`"), error))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let message = if message.is_empty() { output.status.to_string() } else { message };
    Err(CliError::io(format!("run `{line}`"), io::Error::other(message)))
}

/// The text of the unit.
fn unit(context: &Context) -> Result<String, CliError> {
    let environment = &context.environment;
    let program = environment.program_directory.as_ref().map(|folder| folder.join("hfs"));
    let program = program.filter(|path| path.exists()).ok_or_else(|| {
        CliError::new(
            ErrorKind::NotFound,
            "the path of the program hfs is not known, so a service cannot start it",
        )
    })?;
    let mut arguments = vec![program.display().to_string(), "watch".to_owned(), "--quiet".to_owned()];
    // A service does not start in the working directory.
    let absolute = |path: &Path| environment.working_directory.join(path).display().to_string();
    if let Some(home) = &context.global.home {
        arguments.extend(["--home".to_owned(), absolute(home)]);
    }
    let named =
        context.global.store.as_deref().or_else(|| environment.get_non_empty(Key::StoreUrl.spec().env_var));
    if named.is_some_and(|store| hfs_secrets::mask_addresses(store) != store) {
        return Err(CliError::with_hint(
            ErrorKind::Invalid,
            "the address of the store contains a password, which is not written into the configuration of the service",
            "leave the password out of the address, and put it into ~/.pgpass",
        ));
    }
    if let Some(store) = &context.global.store {
        let store = match store.parse()? {
            hfs_store::StoreUrl::Sqlite(path) => format!("sqlite:{}", absolute(&path)),
            _ => store.clone(),
        };
        arguments.extend(["--store".to_owned(), store]);
    }
    let command: Vec<String> = arguments.iter().map(|argument| quoted(argument).replace('$', "$$")).collect();
    let variables: String = VARIABLES
        .iter()
        .filter_map(|name| Some((name, environment.get_non_empty(name)?)))
        .map(|(name, value)| format!("Environment={}\n", quoted(&format!("{name}={value}"))))
        .collect();
    Ok(format!(
        "# Written by `hfs watch --install`, removed by `hfs watch --uninstall`.\n\
         [Unit]\n\
         Description=hfs watch: saves what agents write\n\
         \n\
         [Service]\n\
         ExecStart={}\n\
         {variables}\
         Restart=on-failure\n\
         RestartSec=10\n\
         # Mistakes of the configuration, and another watcher.\n\
         RestartPreventExitStatus=2 4\n\
         Nice=10\n\
         \n\
         [Install]\n\
         WantedBy=default.target\n",
        command.join(" ")
    ))
}

/// A word in systemd's syntax.
fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('\n', "\\n");
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_of_a_unit_stands_for_itself() {
        assert_eq!(quoted("/home/me/a b"), "\"/home/me/a b\"");
        assert_eq!(quoted("50%\"\\"), "\"50%%\\\"\\\\\"");
    }
}
