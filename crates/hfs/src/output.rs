//! Output for people and scripts: text, tables, JSON documents, errors and progress bars.

pub mod console;
pub mod error;
pub mod json;
pub mod message;
pub mod progress;
pub mod sanitize;
pub mod suggestions;
pub mod table;
pub mod time_format;
