//! The terminal app, wired: the engine with its agent, and the doors to files and configuration.

mod configuration;
mod transfer;

use std::sync::Arc;

use hfs_core::{Project, SystemClock};
use hfs_engine::Conversation;
use hfs_tui::{AppParts, AppSettings, Depth, Ground, KeyMode, NoPlugins, OutputMode, PickFrom};

use crate::config::{Key, Setting, Value};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::{plain, wiring};

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
    Pick(PickFrom),
}

/// Runs the app until it is left, and says how to come back.
pub fn run(begin: Begin, context: &Context) -> Result<Outcome, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::io("start the asynchronous runtime", error))?;
    let store = Arc::clone(context.store()?);
    let exit = runtime.block_on(async {
        let answerer = wiring::choose(context).await?;
        let engine = wiring::engine(context, answerer.agent, Arc::clone(&store));
        let project = Some(Project::clone(context.project()));
        let (conversation, pick) = match begin {
            Begin::New => (Conversation::new(project.clone()), None),
            Begin::Newest => (engine.resume(context.session("@")?, None)?, None),
            Begin::Session(session) => (engine.resume(session, None)?, None),
            Begin::Pick(from) => (Conversation::new(project.clone()), Some(from)),
        };
        let parts = AppParts {
            engine,
            clock: Arc::new(SystemClock),
            conversation,
            pick,
            project,
            settings: settings(context),
            transfer: Arc::new(transfer::Files::new(context, Arc::clone(&store))),
            configuration: Arc::new(configuration::Files::new(context, store)),
            plugins: Arc::new(NoPlugins),
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

/// How the app looks and behaves, from the settings and the terminal's own variables.
fn settings(context: &Context) -> AppSettings {
    let text = |name: &str| match Key::find(name).and_then(|key| context.config.get(key)) {
        Some(Setting { value: Value::Text(text), .. }) => text.clone(),
        _ => String::new(),
    };
    let variable = |name: &str| context.environment.get(name).filter(|value| !value.is_empty());
    AppSettings {
        ground: ground(variable("COLORFGBG")),
        depth: depth(&context.settings.color, variable("NO_COLOR"), variable("COLORTERM"), variable("TERM")),
        keys: match text("keybinding_mode").as_str() {
            "vim" => KeyMode::Vim,
            "emacs" => KeyMode::Emacs,
            _ => KeyMode::Standard,
        },
        output: if context.settings.verbose_output { OutputMode::Verbose } else { OutputMode::Compact },
        editor: variable("VISUAL").or_else(|| variable("EDITOR")).map(str::to_owned),
        ..AppSettings::default()
    }
}

/// The terminal's background as some terminals tell it: `foreground;background`, in numbers of the palette.
fn ground(colours: Option<&str>) -> Ground {
    let background =
        colours.and_then(|colours| colours.rsplit(';').next()).and_then(|last| last.parse().ok());
    match background {
        Some(7 | 9..=15_u8) => Ground::Light,
        _ => Ground::Dark,
    }
}

fn depth(choice: &str, no_color: Option<&str>, color_term: Option<&str>, term: Option<&str>) -> Depth {
    if choice == "never" || (choice != "always" && no_color.is_some()) || term == Some("dumb") {
        return Depth::None;
    }
    if color_term.is_some_and(|value| value.contains("truecolor") || value.contains("24bit")) {
        return Depth::True;
    }
    match term {
        Some(term) if term.contains("direct") => Depth::True,
        Some(term) if term.contains("256") => Depth::Indexed,
        _ => Depth::Sixteen,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_follow_what_the_terminal_says_of_itself() {
        assert_eq!(depth("auto", Some("1"), Some("truecolor"), Some("xterm")), Depth::None);
        assert_eq!(depth("always", Some("1"), Some("truecolor"), Some("xterm")), Depth::True);
        assert_eq!(depth("auto", None, None, Some("screen-256color")), Depth::Indexed);
        assert_eq!(depth("auto", None, None, Some("linux")), Depth::Sixteen);
        assert_eq!(depth("auto", None, None, Some("dumb")), Depth::None);
        assert_eq!((ground(Some("0;15")), ground(Some("15;default;0"))), (Ground::Light, Ground::Dark));
        assert_eq!((ground(None), ground(Some("x"))), (Ground::Dark, Ground::Dark));
    }
}
