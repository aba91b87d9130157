//! The terminal app: a front end over the engine, and nothing else.
//!
//! State lives in one `Model`. `update` applies a message to it and returns effects; `view` draws it; a runner
//! turns effects into calls of the engine and the store, away from the screen, and their results into messages.
//! Everything but the runner is pure and tested without a terminal.

#![cfg_attr(
    test,
    allow(clippy::string_slice, reason = "a failed expectation is a test's own way of speaking")
)]

mod app;
mod canvas;
mod command;
mod editor;
mod effect;
mod error;
#[cfg(any(test, feature = "gallery"))]
pub mod gallery;
mod look;
mod message;
mod modal;
mod model;
mod parts;
mod screens;
mod text;
mod theme;
mod transcript;
mod update;
mod view;

pub use app::run;
pub use error::TuiError;
pub use hfs_engine::OnDuplicate;
pub use parts::{
    AppParts, AppSettings, ApprovalRequest, ConfigChange, ConfigEntry, Configuration, Depth, Exit,
    ExportFormat, ExportRequest, Exported, Failure, FoundTranscripts, Ground, ImportRequest, Imported,
    KeyMode, NoPlugins, Node, OutputMode, PickFrom, PluginCommand, PluginDecision, PluginHost, PluginRow,
    PluginView, Progress, Slot, Tone, Transfer, Widget,
};
