//! The offer to import what other tools have left in their usual places. It is made once: whoever says no is
//! not asked again about the same place.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, Write};
use std::path::PathBuf;

use hfs_core::{PageRequest, SessionFilter};
use hfs_exchange::{Format, Places, usual_places};

use crate::commands::import::Intake;
use crate::context::Context;
use crate::failure::Failure;
use crate::home::private_file;
use crate::{interrupt, plain};

/// The places of other tools that exist, each with its format.
pub fn places(context: &Context) -> Vec<(Format, PathBuf)> {
    let Some(home) = &context.environment.user_home else { return Vec::new() };
    let folder = |name: &str| context.environment.get(name).map(PathBuf::from);
    let moved = Places {
        claude_config: folder("CLAUDE_CONFIG_DIR"),
        codex_home: folder("CODEX_HOME"),
        xdg_data_home: folder("XDG_DATA_HOME"),
        xdg_config_home: folder("XDG_CONFIG_HOME"),
        llm_user_path: folder("LLM_USER_PATH"),
    };
    usual_places(home, &moved).into_iter().filter(|(_, path)| path.exists()).collect()
}

/// Asks, where there is something that nothing was imported from yet and that nobody has declined.
pub fn make(context: &Context) -> Result<(), Failure> {
    let answered = fs::read_to_string(context.home.answered_offers()).unwrap_or_default();
    let answered: BTreeSet<&str> = answered.lines().collect();
    let new: Vec<PathBuf> = places(context)
        .into_iter()
        .map(|(_, path)| path)
        .filter(|path| !answered.contains(path.display().to_string().as_str()))
        .collect();
    if new.is_empty() || imported_before(context)? {
        return Ok(());
    }
    let mut intake = Intake::default();
    intake.find(&new, None, context)?;
    if intake.len() == 0 {
        return Ok(());
    }
    let shown: Vec<String> = new.iter().map(|path| plain::line(&path.display().to_string())).collect();
    let files =
        if intake.len() == 1 { "1 transcript".to_owned() } else { format!("{} transcripts", intake.len()) };
    let question = format!("{files} found in {}. Import? They stay as they are. [y/N] ", shown.join(", "));
    let yes = ask(&question, context)?;
    remember(&new, context)?;
    if yes {
        intake.take(context, &interrupt::watch()?)?.print(context)?;
    } else {
        context.console.note(&format!("not asked again; whenever you like: hfs import {}", shown.join(" ")));
    }
    context.console.print("\n")
}

/// Whether somebody who has imported before needs no telling.
fn imported_before(context: &Context) -> Result<bool, Failure> {
    let newest = context.store()?.list_sessions(&SessionFilter::default(), &PageRequest::first(50))?;
    Ok(newest.items.iter().any(|summary| summary.session.origin.is_some()))
}

fn ask(question: &str, context: &Context) -> Result<bool, Failure> {
    context.console.print(question)?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(|error| Failure::io("read the answer", error))?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

fn remember(places: &[PathBuf], context: &Context) -> Result<(), Failure> {
    context.home.create()?;
    let path = context.home.answered_offers();
    let write = || -> std::io::Result<()> {
        let mut file = private_file().create(true).append(true).open(&path)?;
        places.iter().try_for_each(|place| writeln!(file, "{}", place.display()))
    };
    write().map_err(|source| Failure::io(format!("write {}", path.display()), source))
}
