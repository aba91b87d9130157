//! Imports what is new before a command answers, if no watcher does so.

use std::time::{Duration, Instant};

use super::exclusions::Exclusions;
use super::follower::{Follower, OpenLine, SourceImport};
use super::import_folder::ImportFolder;
use super::place::SourceState;
use crate::context::Context;
use crate::disk_space;
use crate::output::error::CliError;
use crate::output::message::format_size;

/// Imports what other tools have written, for the time that the settings give, and notes what remains. Does nothing if a watcher or
/// another import runs, or the disk is almost full. An error is only logged: the command then answers from what the store has.
pub fn catch_up(context: &Context) {
    if let Some(free) = free_space_if_low(context) {
        context.console.note(&format!(
            "transcripts of other tools are not imported, because only {} are free on the disk of the store",
            format_size(free)
        ));
        return;
    }
    note_remaining(import_for_a_moment(context), context);
}

/// The free space for the store, if it should be left to the user's own messages.
fn free_space_if_low(context: &Context) -> Option<u64> {
    if context.settings.catch_up_time.is_zero() {
        return None;
    }
    disk_space::available(context).filter(|free| *free < disk_space::RESERVED_BYTES)
}

/// Notes how many transcripts remain.
pub fn note_remaining(remaining: usize, context: &Context) {
    if remaining > 0 {
        let (plural, verb) = if remaining == 1 { ("", "is") } else { ("s", "are") };
        context.console.note(&format!(
            "{remaining} transcript{plural} of other tools {verb} not imported yet; `hfs watch --once` imports all"
        ));
    }
}

/// Like [`catch_up`], but returns the number of transcripts that remain.
pub fn import_for_a_moment(context: &Context) -> usize {
    let time = context.settings.catch_up_time;
    if time.is_zero() || free_space_if_low(context).is_some() {
        return 0;
    }
    import_new(context, time).unwrap_or_else(|error| {
        tracing::warn!(error = %error.document().one_line(), "new transcripts were not imported");
        0
    })
}

/// Returns the number of transcripts that remain.
fn import_new(context: &Context, time: Duration) -> Result<usize, CliError> {
    let Some(folder) = ImportFolder::of(context)? else { return Ok(0) };
    // A store that is named for one command, such as a backup, stays as it is if nothing was imported into it before.
    let is_other = context.global.store.is_some() && !folder.exists();
    if is_other || folder.is_watched() {
        return Ok(0);
    }
    let lock =
        folder.try_lock_import().map_err(|error| CliError::io("lock the store for an import", error))?;
    if lock.is_none() {
        return Ok(0);
    }
    let exclusions = exclusions(context)?;
    let store = context.store()?.as_ref();
    let start = Instant::now();
    let mut follower = Follower::new(store, &exclusions, &context.environment, &context.home)?;
    for error in follower.compare_all(Some(start + time / 2)) {
        tracing::warn!(error = %error.0, "a place of transcripts cannot be read");
    }
    let changed = follower.changed(true);
    let round = follower.import(&changed, OpenLine::ImportRecord, &|| start.elapsed() > time);
    let errors = round.sources.iter().filter_map(|import| import.error.as_ref());
    for error in errors.chain(&round.failure) {
        tracing::warn!(error = %error.one_line(), "a transcript was not imported");
    }
    if let Some(source) = round.slow() {
        follower.mark_slow(source);
    }
    // What another program is writing will be imported when it has written it.
    let is_written = |import: &&SourceImport| import.state == SourceState::Changed;
    let written = round.sources.iter().filter(is_written).count();
    let remaining = follower.remaining().saturating_sub(written);
    follower.save()?;
    Ok(remaining)
}

/// The patterns of `watch.exclude`.
///
/// # Errors
/// If one of them is not valid.
pub fn exclusions(context: &Context) -> Result<Exclusions, CliError> {
    let patterns = &context.settings.watch_exclude;
    Exclusions::new(patterns, context.environment.user_home.as_deref()).map_err(|error| {
        CliError::with_hint(
            hfs_core::ErrorKind::Invalid,
            format!("watch.exclude contains a pattern that is not valid: {error}"),
            "`hfs config set watch.exclude '[~/private, client-*]'` replaces the list",
        )
    })
}
