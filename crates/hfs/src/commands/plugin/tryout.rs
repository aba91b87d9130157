//! One plugin, wherever it lies, with a home of its own for what it stores: for those who write it.

use std::io::BufRead;
use std::path::PathBuf;
use std::sync::Arc;

use hfs_core::{
    BranchId, ErrorKind, MessageDraft, Part, Position, Role, SessionDraft, SessionId, Store, SystemClock,
    Timestamp,
};
use hfs_plugins::{PluginState, PluginStatus, Plugins};
use hfs_store::MemoryStore;

use super::{TryArgs, view};
use crate::context::Context;
use crate::failure::Failure;
use crate::wiring::plugins::parts;

/// What a user could say.
pub const SAMPLE: &str = "Please fix the login bug: the page stays white.";
/// What could be answered.
pub const ANSWER: &str = "The session cookie is never set. Here is a fix.";
/// How much of the log is looked at.
const MOST_LINES: usize = 1_000;

/// A plugin that is tried out. What it stores is gone with it.
pub struct Tryout {
    pub plugins: Plugins,
    pub folder: PathBuf,
    /// The session that it is tried out on.
    pub session: SessionId,
    _home: tempfile::TempDir,
}

impl Tryout {
    /// Looks at a plugin's folder and has its author say that it may run. It is tried out on the session that is named, among all the
    /// user's own, or else on one that is made up, beside which there are no others.
    ///
    /// # Errors
    /// As the system has it; `NotFound` for the session; `Denied` when its author does not, or when there is nobody to
    /// ask and `--yes` was not said; `Invalid` for a plugin that cannot run.
    pub fn new(wanted: &TryArgs, context: &Context) -> Result<Self, Failure> {
        let folder = context.environment.working_directory.join(&wanted.folder);
        let folder = folder
            .canonicalize()
            .map_err(|error| Failure::io(format!("read {}", folder.display()), error))?;
        let home = tempfile::Builder::new().prefix("hfs-tryout-").tempdir();
        let home = home.map_err(|error| Failure::io("make a folder for what the plugin stores", error))?;
        // Its settings are the user's; where there are none, there is nothing to copy.
        let settings = "plugin_settings.yaml";
        let _ = std::fs::copy(context.home.root().join(settings), home.path().join(settings));
        let (store, session) = match &wanted.session {
            Some(session) => (Arc::clone(context.store()?), context.session(session)?),
            None => made_up(context.now())?,
        };
        let mut config = parts(context, Some(store));
        config.home = home.path().to_path_buf();
        config.only = Some(folder.clone());
        // `disabled_plugins` is about installed plugins, one of which may have the same name.
        config.disabled.clear();
        let tryout = Self { plugins: Plugins::discover(config), folder, session, _home: home };
        tryout.ask(wanted.yes, context)?;
        Ok(tryout)
    }

    /// What went wrong in the plugin so far, as the host has written it into the plugin's log: the failure of a hook or
    /// a widget is in nobody's way, and nobody's answer.
    ///
    /// # Errors
    /// As the system has it.
    pub fn failures(&self) -> Result<Vec<String>, Failure> {
        let log = self.plugins.log(&self.plugin()?.name, MOST_LINES)?;
        let failed = log.iter().filter_map(|line| line.split_once(" error (hfs) "));
        Ok(failed.map(|(_, told)| told.to_owned()).collect())
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
    fn ask(&self, yes: bool, context: &Context) -> Result<(), Failure> {
        let plugin = self.plugin()?;
        if plugin.state == PluginState::Invalid {
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
        if plugin.state == PluginState::Invalid {
            return Err(self.refused(&plugin.reason));
        }
        self.plugins.approve(&plugin.name)?;
        self.plugins.started().await;
        // What went wrong is told once, here.
        let plugin = self.plugin()?;
        match plugin.state {
            PluginState::Active => Ok(plugin),
            _ => {
                let _ = self.plugins.take_notices();
                Err(self.refused(&plugin.reason))
            }
        }
    }
}

/// A store in memory with one session of one exchange.
fn made_up(now: Timestamp) -> Result<(Arc<dyn Store>, SessionId), Failure> {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(Arc::new(SystemClock)));
    let session = store.create_session(&SessionDraft {
        id: SessionId::generate(),
        name: "A session to try plugins on".into(),
        automatic_name: false,
        project: None,
        created_at: now,
        origin: None,
        extra: hfs_core::PassthroughFields::new(),
        main_branch: BranchId::generate(),
    })?;
    let at = Position { branch: session.current_branch, head: 0 };
    let answer = MessageDraft::new(Role::Assistant, vec![Part::text(ANSWER)], now);
    store.append(at, &[MessageDraft::user(SAMPLE, now), answer])?;
    Ok((store, session.id))
}
