//! Following the places where other tools write their transcripts.
//!
//! A [`Place`](place::Place) is a folder or file of another tool, with what was seen in it. A [`Follower`](follower::Follower) has
//! all places, finds what has changed and imports it. `hfs watch` runs one until it is ended ([`watcher`]), woken by the operating
//! system ([`changes`]). When no watcher runs, other commands let a follower work for a moment before they answer ([`catch_up`]).

pub mod catch_up;
mod changes;
pub mod exclusions;
pub mod follower;
pub mod import_folder;
pub mod place;
pub mod retention;
pub mod service;
pub mod status;
pub mod watcher;
