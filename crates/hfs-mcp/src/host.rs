//! What the server needs from the program that runs it.

use hfs_core::{Project, SessionFilter, Suggestion, Timestamp};
use hfs_engine::Engine;
use jiff::tz::TimeZone;

/// Supplies the store, the surroundings of the process, and words for suggestions.
pub trait Host: Send + Sync {
    /// The engine over the store. Called for each request, so that a client can connect while the store cannot be opened,
    /// and learns the reason from an answer.
    ///
    /// # Errors
    /// Why the store cannot be opened, in words.
    fn engine(&self) -> Result<Engine, String>;

    /// Saves what other tools have written since the last call, for a fraction of a second at most.
    fn refresh(&self);

    /// The project of the client, which starts the server in its own working directory.
    fn project(&self) -> Project;

    /// Selects the sessions of the projects that a text names, such as `.` or a part of a repository's name.
    fn project_filter(&self, text: &str) -> SessionFilter;

    /// Parses a time as users type it, such as `2026-02-01` or `2d`.
    ///
    /// # Errors
    /// What is expected, in words.
    fn parse_time(&self, text: &str) -> Result<Timestamp, String>;

    /// The time zone of the times in answers.
    fn time_zone(&self) -> TimeZone;

    /// What the user can do about an error.
    fn describe(&self, suggestion: &Suggestion) -> String;
}
