//! Bare `hfs`: what is here, and what can be done.

mod places;

pub use places::{moved, places};

use clap::CommandFactory;
use hfs_core::{PageRequest, SessionFilter};
use hfs_tui::TuiError;

use super::session::{Listing, rows};
use crate::args::Cli;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::terminal::{self, Begin};
use crate::wire::{SessionList, SessionRow};

/// How many sessions of this project, and of others, are shown.
const RECENT: u32 = 5;

/// Opens the terminal app; where there is no terminal, shows recent sessions and what can be done next.
pub fn run(continue_newest: bool, context: &Context) -> Result<Outcome, Failure> {
    let console = &context.console;
    if console.can_ask() {
        return terminal::run(if continue_newest { Begin::Newest } else { Begin::New }, context);
    }
    if continue_newest {
        return Err(TuiError::NoTerminal { what: "standard input or output" }.into());
    }
    let store = context.store()?;
    let own = SessionFilter { project: Some(context.project().key().to_owned()), ..SessionFilter::default() };
    if console.manner.json {
        let page = store.list_sessions(&own, &PageRequest::first(20))?;
        let sessions = page.items.iter().map(SessionRow::from).collect();
        console.json(&SessionList { sessions, next: page.next.map(|cursor| cursor.0) })?;
        return Ok(Outcome::Done);
    }
    console.print(&format!("{}\n", Cli::command().render_help()))?;
    let here = store.list_sessions(&own, &PageRequest::first(RECENT))?;
    let newest = store.list_sessions(&SessionFilter::default(), &PageRequest::first(RECENT * 2))?;
    let mut elsewhere = newest.items;
    elsewhere.retain(|summary| {
        summary.session.project.as_ref().is_none_or(|project| project.key() != context.project().key())
    });
    elsewhere.truncate(RECENT as usize);
    let exact = console.manner.verbose;
    let mut text = String::new();
    let strong = console.palette.strong;
    if !here.items.is_empty() {
        text += &format!("{strong}Sessions of this project{strong:#}\n");
        text += &rows(&here.items, Listing { projects: false, exact }, context);
        text.push('\n');
    }
    if !elsewhere.is_empty() {
        text += &format!("{strong}Sessions elsewhere{strong:#}\n");
        text += &rows(&elsewhere, Listing { projects: true, exact }, context);
        text.push('\n');
    }
    text += &next_steps(!here.items.is_empty(), !here.items.is_empty() || !elsewhere.is_empty());
    console.print(&text)?;
    Ok(Outcome::Done)
}

/// What a person would do now.
fn next_steps(any_here: bool, any: bool) -> String {
    let mut steps = vec![("hfs chat \"...\"", "begin a session")];
    if any_here {
        steps.push(("hfs chat -c \"...\"", "go on with this project's newest"));
        steps.push(("hfs session show @", "read it"));
    }
    if any {
        steps.push(("hfs search WORDS", "find something in all of them"));
    } else {
        steps.push(("hfs import PATH", "take in what another tool wrote"));
    }
    steps.push(("hfs --help", "everything else"));
    steps.iter().map(|(command, what)| format!("  {command:22}{what}\n")).collect()
}
