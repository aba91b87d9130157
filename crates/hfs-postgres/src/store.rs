//! The port, with one file for each of its traits. The files `lookup`, `session_stats`, `states` and `text_index` contain
//! what several traits share.

mod attachments;
mod branches;
mod candidates;
mod checkpoints;
mod copy;
mod import;
mod lookup;
mod maintenance;
mod messages;
mod operations;
mod purge;
mod reimport;
mod repair;
mod runs;
mod search;
mod session_stats;
mod sessions;
mod states;
mod text_index;
mod verify;
