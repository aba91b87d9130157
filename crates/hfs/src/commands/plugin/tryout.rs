//! One plugin, wherever it lies, with a home of its own for what it stores: for those who write it.

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hfs_core::ErrorKind;
use hfs_plugins::{HostParts, PluginStatus, Plugins, State};

use super::view;
use crate::context::Context;
use crate::failure::Failure;
use crate::wiring::plugins::parts;

/// A plugin that is tried out. What it stores is gone with it.
pub struct Tryout {
    pub plugins: Plugins,
    pub folder: PathBuf,
    _home: tempfile::TempDir,
}

impl Tryout {
    /// Looks at a plugin's folder. Nothing of it runs yet.
    ///
    /// # Errors
    /// As the system has it; `Invalid` for what is no plugin.
    pub fn new(folder: &Path, context: &Context) -> Result<Self, Failure> {
        let folder = context.environment.working_directory.join(folder);
        let folder = folder
            .canonicalize()
            .map_err(|error| Failure::io(format!("read {}", folder.display()), error))?;
        let home = tempfile::Builder::new().prefix("hfs-tryout-").tempdir();
        let home = home.map_err(|error| Failure::io("make a folder for what the plugin stores", error))?;
        let parts = HostParts {
            home: home.path().to_path_buf(),
            only: Some(folder.clone()),
            ..parts(context, Some(Arc::clone(context.store()?)))
        };
        Ok(Self { plugins: Plugins::look(parts), folder, _home: home })
    }

    /// The plugin as it is now.
    ///
    /// # Errors
    /// `Internal`, which does not happen: there is always one.
    pub fn plugin(&self) -> Result<PluginStatus, Failure> {
        self.plugins.list().into_iter().next().ok_or_else(|| self.refused("there is nothing in it"))
    }

    fn refused(&self, reason: &str) -> Failure {
        Failure::Refused {
            kind: ErrorKind::Invalid,
            message: format!("{}: {reason}", self.folder.display()),
            hint: None,
        }
    }

    /// Shows what the plugin may do and has its author say that it may run.
    ///
    /// # Errors
    /// `Denied` when they do not, or when there is nobody to ask and `yes` was not said; `Invalid` for a plugin that
    /// cannot run.
    pub fn ask(&self, yes: bool, context: &Context) -> Result<(), Failure> {
        let plugin = self.plugin()?;
        if plugin.state == State::Invalid {
            return Err(self.refused(&plugin.reason));
        }
        let console = &context.console;
        if yes {
            return Ok(());
        }
        let denied = |message: String, hint: Option<String>| Failure::Refused {
            kind: ErrorKind::Denied,
            message,
            hint,
        };
        if !console.can_ask() {
            let hint = Some("say --yes for a plugin that you know".into());
            return Err(denied(format!("{} was not run: there is nobody to ask", plugin.name), hint));
        }
        console.aside(&view::powers(&plugin, &console.palette));
        console.aside("Let it run? [y/N] ");
        let mut answer = String::new();
        let read = std::io::stdin().lock().read_line(&mut answer);
        read.map_err(|error| Failure::io("read standard input", error))?;
        match answer.trim().to_lowercase().as_str() {
            "y" | "yes" => Ok(()),
            _ => Err(denied(format!("{} was not run", plugin.name), None)),
        }
    }

    /// Starts the plugin as its files are now, and waits until it runs or has turned out not to.
    ///
    /// # Errors
    /// `Invalid` with the reason when it does not run.
    pub async fn start(&self) -> Result<PluginStatus, Failure> {
        let plugin = self.plugin()?;
        if plugin.state == State::Invalid {
            return Err(self.refused(&plugin.reason));
        }
        self.plugins.approve(&plugin.name)?;
        self.plugins.started().await;
        // What went wrong is told once, here.
        let plugin = self.plugin()?;
        match plugin.state {
            State::Active => Ok(plugin),
            _ => {
                let _ = self.plugins.take_notices();
                Err(self.refused(&plugin.reason))
            }
        }
    }
}
