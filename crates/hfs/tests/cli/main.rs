//! The command line: the built binary, each time in its own home directory.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod agents;
mod app;
mod chat;
mod compatibility;
mod config;
mod connect;
mod editor;
mod editor_kills;
mod history;
mod import;
mod leftovers;
mod mcp;
mod mcp_client;
mod output;
mod pages;
mod plugin_authoring;
#[path = "../../../hfs-plugins/tests/plugins/fixture.rs"]
#[allow(dead_code, reason = "shared with the tests of hfs-plugins, which use more of it")]
mod plugin_fixture;
mod plugins;
mod postgres;
mod processes;
mod recall;
mod search;
mod sessions;
mod start;
mod stats;
mod store;
mod triads;
mod trust;
mod watch;

use serde_json::Value;
use testkit::cli::{Hfs, Output};
use testkit::model_server::{ModelServer, Protocol};

/// The binary in an empty home, with the offline agent.
fn hfs() -> Hfs {
    Hfs::new(env!("CARGO_BIN_EXE_hfs")).env("HFS_AGENT", "recall")
}

/// The binary in an empty home, with this model server.
fn hfs_with(server: &ModelServer) -> Hfs {
    Hfs::new(env!("CARGO_BIN_EXE_hfs"))
        .env("HFS_BASE_URL", server.url(Protocol::OpenAi))
        .env("HFS_PROVIDER", "openai")
        .env("HFS_MODEL", "test-model")
        .env("OPENAI_API_KEY", "test-key-0123456789")
}

/// The document of `session show`.
#[track_caller]
fn shown(hfs: &Hfs, reference: &str) -> Value {
    hfs.run(&["session", "show", reference, "--json"]).ok().json()
}

/// The first text part of a message.
fn text(message: &Value) -> &str {
    let parts = message["parts"].as_array().map(Vec::as_slice).unwrap_or_default();
    parts
        .iter()
        .find(|part| part["type"] == "text")
        .and_then(|part| part["text"].as_str())
        .unwrap_or_default()
}

/// The field names of a document, in order.
fn fields(document: &Value) -> Vec<&str> {
    document.as_object().map(|fields| fields.keys().map(String::as_str).collect()).unwrap_or_default()
}

/// Standard output and standard error, with ids, times and paths replaced.
fn scrubbed(hfs: &Hfs, output: &Output) -> String {
    hfs.scrub(&format!("{}--- stderr\n{}", output.stdout, output.stderr))
}
