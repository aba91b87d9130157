//! Transcripts that Claude Code is about to delete.

use std::path::Path;
use std::time::{Duration, SystemTime};

use hfs_core::{PageRequest, SessionFilter, Store, StoreResult, Timestamp};
use hfs_exchange::{Format, default_locations, discover_unless_known};
use jsonc_parser::{ParseOptions, parse_to_serde_value};
use serde_json::Value;

use super::place::{Place, SourceState};
use crate::commands::start::location_overrides;
use crate::environment::Environment;

/// Days after which Claude Code deletes a session that was not continued, unless its settings say otherwise.
const DEFAULT_DAYS: u64 = 30;
/// Sessions that are deleted within these days are counted.
const SOON: Duration = Duration::from_secs(3 * 24 * 60 * 60);

/// What was found about the transcripts of Claude Code.
#[derive(Debug, PartialEq, Eq)]
pub struct Examined {
    /// Days after which a session is deleted.
    pub days: u64,
    /// Number of sessions that are deleted soon and are not saved, or not completely.
    pub unsaved: u64,
    /// When the first of them may be deleted.
    pub first_at: Option<Timestamp>,
    /// Number of saved sessions whose transcripts do not exist any more.
    pub deleted_and_saved: u64,
}

/// Looks for transcripts that are about to be deleted. `None` if Claude Code is not used here, or the store fails.
pub fn examine(store: &dyn Store, environment: &Environment) -> Option<Examined> {
    let home = environment.user_home.as_ref()?;
    let locations = default_locations(home, &location_overrides(environment));
    let (_, projects) = locations.into_iter().find(|(format, _)| *format == Format::ClaudeCode)?;
    let projects = environment.working_directory.join(projects);
    if !projects.is_dir() {
        return None;
    }
    let days = retention_days(projects.parent()?);
    let place = Place::load(projects.clone(), store, None).ok()?;
    let lifetime = Duration::from_secs(days.saturating_mul(24 * 60 * 60));
    let (mut unsaved, mut first_at) = (0, None);
    // No file is opened to find them.
    let found = discover_unless_known(&projects, |_| true).ok()?;
    for source in found.sources {
        let Some(path) = source.path().filter(|path| path.extension().is_some_and(|found| found == "jsonl"))
        else {
            continue;
        };
        let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified());
        let Some(deleted_at) = modified.ok().and_then(|at| at.checked_add(lifetime)) else { continue };
        if deleted_at > SystemTime::now() + SOON {
            continue;
        }
        let is_saved = match place.state_of(path) {
            Some(SourceState::Changed | SourceState::Slow | SourceState::Failed | SourceState::Imported)
            | None => {
                let known = store.find_imported_source(&source.name()).ok()?;
                known.is_some_and(|known| source.fingerprint() == Some(known.fingerprint))
            }
            // There is nothing to save, or the user does not want it.
            Some(
                SourceState::Empty
                | SourceState::Excluded
                | SourceState::InTrash(_)
                | SourceState::NotATranscript,
            ) => true,
        };
        if !is_saved {
            unsaved += 1;
            first_at = first_at.into_iter().chain(timestamp(deleted_at)).min();
        }
    }
    let deleted_and_saved = deleted_and_saved(store).ok()?;
    Some(Examined { days, unsaved, first_at, deleted_and_saved })
}

/// The setting `cleanupPeriodDays` of the user.
fn retention_days(folder: &Path) -> u64 {
    let settings = std::fs::read_to_string(folder.join("settings.json")).unwrap_or_default();
    let settings: Option<Value> = parse_to_serde_value(&settings, &ParseOptions::default()).ok();
    let days = settings.as_ref().and_then(|settings| settings.get("cleanupPeriodDays")?.as_u64());
    days.unwrap_or(DEFAULT_DAYS)
}

fn timestamp(time: SystemTime) -> Option<Timestamp> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Timestamp::from_millis(i64::try_from(since.as_millis()).ok()?)
}

/// Number of saved sessions of Claude Code whose transcripts do not exist any more.
fn deleted_and_saved(store: &dyn Store) -> StoreResult<u64> {
    let filter =
        SessionFilter { tool: Some(Format::ClaudeCode.as_str().to_owned()), ..SessionFilter::default() };
    let mut request = PageRequest::first(1_000);
    let mut count = 0;
    loop {
        let page = store.list_sessions(&filter, &request)?;
        let paths = page.items.iter().filter_map(|found| found.session.origin.as_ref()?.path.as_ref());
        // The path of a stream is not one of a file.
        let gone = paths.filter(|path| Path::new(path).is_absolute() && !Path::new(path).exists());
        count += gone.count() as u64;
        match page.next {
            Some(next) => request.after = Some(next),
            None => return Ok(count),
        }
    }
}

/// How long until a time.
pub fn in_days(at: Timestamp, now: Timestamp) -> String {
    let days = (at.as_micros().saturating_sub(now.as_micros())) / (24 * 60 * 60 * 1_000_000);
    match days {
        ..=0 => "at its next start".to_owned(),
        1 => "in a day".to_owned(),
        days => format!("in {days} days"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_days_are_those_of_the_users_settings() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(retention_days(folder.path()), 30);
        let file = folder.path().join("settings.json");
        for (text, days) in [
            ("{\"cleanupPeriodDays\": 99}", 99),
            ("{}", 30),
            ("{ // a comment\n \"cleanupPeriodDays\": 7,}", 7),
            ("damaged", 30),
        ] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(retention_days(folder.path()), days, "{text}");
        }
    }
}
