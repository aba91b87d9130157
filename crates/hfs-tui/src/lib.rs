//! The terminal app, a front end over [`hfs_engine`].
//!
//! All state is in one `Model`. `update` applies a message to it and returns effects, `view` draws it, and the
//! runner performs the effects in the background and sends their results back as messages. Everything but the event
//! loop and the runner is pure and is tested without a terminal.

#![cfg_attr(test, allow(clippy::string_slice, reason = "a test may panic on a wrong offset"))]

mod app;
mod canvas;
mod chat;
mod commands;
mod editor;
// Fixed scenes of every screen. The snapshot tests and the `gallery` example share them, and both need private types.
#[cfg(any(test, feature = "gallery"))]
#[path = "../examples/gallery/scenes.rs"]
pub mod gallery;
mod modal;
mod model;
mod ports;
mod protocol;
mod render;
mod screens;
mod text;
mod theme;
mod transcript;
mod update;
mod view;

pub use app::{
    TuiError, die_by_signal, hold_stop_signal, is_store_empty, keep_typed_ahead, require_terminal, run,
};
pub use hfs_engine::OnDuplicate;
pub use ports::{
    AgentEntry, AgentQuestion, AgentState, AgentsView, AppParts, AppSettings, ApprovalRequest, Background,
    ColorDepth, ConfigChange, ConfigEntry, Configuration, Drafts, ErrorReport, Exit, ExportFormat,
    ExportOutcome, ExportRequest, Exported, FileChange, FoundPaths, FoundTranscripts, ImportRequest,
    Imported, KeyMode, NoPlugins, Node, OutputMode, PermissionAnswer, PermissionRequest, PluginCommand,
    PluginDecision, PluginHost, PluginRow, PluginRowState, PluginView, Progress, SessionScope, Slot,
    SuggestionWording, Tone, Transfer, Widget,
};
