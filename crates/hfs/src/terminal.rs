//! The terminal app, wired: the engine with its agent, and the doors to files and configuration.

mod configuration;
mod transfer;

use std::io::{IsTerminal, stdin, stdout};
use std::sync::Arc;
use std::time::Duration;

use hfs_core::{Project, SystemClock};
use hfs_engine::Conversation;
use hfs_tui::{
    AppParts, AppSettings, Background, ColorDepth, KeyMode, NoPlugins, OutputMode, PluginHost, SessionScope,
};
use terminal_colorsaurus::{QueryOptions, background_color};

use crate::config::{Key, Setting, Value};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::{plain, wiring};

pub use configuration::told;

/// What the app begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// A conversation that has not begun.
    New,
    /// This project's newest session.
    Newest,
    /// This session.
    Session(hfs_core::SessionId),
    /// The list of sessions.
    Pick(SessionScope),
}

/// Runs the app until it is left, and says how to come back.
pub fn run(begin: Begin, context: &Context) -> Result<Outcome, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::io("start the asynchronous runtime", error))?;
    let store = Arc::clone(context.store()?);
    let ground = actual_ground(context);
    let exit = runtime.block_on(async {
        let answerer = wiring::choose(context).await?;
        let hooks = context.hooks()?;
        let engine = wiring::engine(context, answerer.agent, Arc::clone(&store), Arc::clone(&hooks));
        let project = Some(Project::clone(context.project()));
        let (conversation, session_list) = match begin {
            Begin::New => (Conversation::new(project.clone()), None),
            Begin::Newest => (engine.resume(context.session("@")?, None)?, None),
            Begin::Session(session) => (engine.resume(session, None)?, None),
            Begin::Pick(from) => (Conversation::new(project.clone()), Some(from)),
        };
        let parts = AppParts {
            engine,
            clock: Arc::new(SystemClock),
            conversation,
            session_list,
            project,
            settings: settings(context, ground),
            suggestion_wording: crate::suggestion::hint,
            transfer: Arc::new(transfer::Files::new(context, Arc::clone(&store))),
            configuration: Arc::new(configuration::Files::new(context, store, ground, hooks)),
            plugins: plugin_host(context)?,
        };
        hfs_tui::run(parts).await.map_err(Failure::from)
    })?;
    // Blocking calls that nobody waits for any more must not hold up the shell.
    runtime.shutdown_background();
    if let Some(session) = exit.session {
        let name = exit.name.map_or_else(String::new, |name| format!("  ({})", plain::line(&name)));
        context.console.note(&format!("resume with: hfs resume {}{name}", session.short().shown()));
    }
    Ok(Outcome::Done)
}

fn plugin_host(context: &Context) -> Result<Arc<dyn PluginHost>, Failure> {
    Ok(match context.plugins()? {
        Some(plugins) => Arc::new(wiring::plugins::Host::new(plugins.clone(), context)),
        None => Arc::new(NoPlugins),
    })
}

fn text<'a>(context: &'a Context, name: &str) -> &'a str {
    match Key::find(name).and_then(|key| context.config.get(key)) {
        Some(Setting { value: Value::Text(text), .. }) => text,
        _ => "",
    }
}

/// How the app looks and behaves, from the settings and the terminal's own variables. `actual` is the ground
/// that the terminal has.
fn settings(context: &Context, actual: Background) -> AppSettings {
    let text = |name| text(context, name);
    let variable = |name: &str| context.environment.get(name).filter(|value| !value.is_empty());
    AppSettings {
        background: match text("theme") {
            "dark" => Background::Dark,
            "light" => Background::Light,
            _ => actual,
        },
        color_depth: depth(
            &context.settings.color,
            variable("NO_COLOR"),
            variable("COLORTERM"),
            variable("TERM"),
        ),
        keys: match text("keybinding_mode") {
            "vim" => KeyMode::Vim,
            "emacs" => KeyMode::Emacs,
            _ => KeyMode::Standard,
        },
        mouse: text("mouse") != "off",
        output: if context.settings.verbose_output { OutputMode::Verbose } else { OutputMode::Compact },
        editor: variable("VISUAL").or_else(|| variable("EDITOR")).map(str::to_owned),
        ..AppSettings::default()
    }
}

/// The terminal's background: as its variable says, or else as it answers. It must be asked before the app reads
/// keys from it, and is not where the answer would change nothing.
fn actual_ground(context: &Context) -> Background {
    /// A terminal on the other side of the world answers in this time; one that never does costs no more.
    const PATIENCE: Duration = Duration::from_millis(250);
    let said = told_ground(context.environment.get("COLORFGBG").unwrap_or_default());
    let matters = text(context, "theme") == "auto"
        && settings(context, Background::Dark).color_depth != ColorDepth::None;
    if said.is_some() || !matters || !stdin().is_terminal() || !stdout().is_terminal() {
        return said.unwrap_or_default();
    }
    let mut options = QueryOptions::default();
    options.timeout = PATIENCE;
    match background_color(options) {
        Ok(color) if color.perceived_lightness() > 0.5 => Background::Light,
        Ok(_) | Err(_) => Background::Dark,
    }
}

/// The background as some terminals tell it in a variable: `foreground;background`, in numbers of the palette.
fn told_ground(colours: &str) -> Option<Background> {
    match colours.rsplit(';').next()?.parse().ok()? {
        7 | 9..=15_u8 => Some(Background::Light),
        _ => Some(Background::Dark),
    }
}

fn depth(choice: &str, no_color: Option<&str>, color_term: Option<&str>, term: Option<&str>) -> ColorDepth {
    if choice == "never" || (choice != "always" && no_color.is_some()) || term == Some("dumb") {
        return ColorDepth::None;
    }
    if color_term.is_some_and(|value| value.contains("truecolor") || value.contains("24bit")) {
        return ColorDepth::True;
    }
    match term {
        Some(term) if term.contains("direct") => ColorDepth::True,
        Some(term) if term.contains("256") => ColorDepth::Indexed,
        _ => ColorDepth::Sixteen,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_follow_what_the_terminal_says_of_itself() {
        assert_eq!(depth("auto", Some("1"), Some("truecolor"), Some("xterm")), ColorDepth::None);
        assert_eq!(depth("always", Some("1"), Some("truecolor"), Some("xterm")), ColorDepth::True);
        assert_eq!(depth("auto", None, None, Some("screen-256color")), ColorDepth::Indexed);
        assert_eq!(depth("auto", None, None, Some("linux")), ColorDepth::Sixteen);
        assert_eq!(depth("auto", None, None, Some("dumb")), ColorDepth::None);
        assert_eq!(told_ground("0;15"), Some(Background::Light));
        assert_eq!(told_ground("15;default;0"), Some(Background::Dark));
        assert_eq!((told_ground(""), told_ground("x")), (None, None));
    }
}
