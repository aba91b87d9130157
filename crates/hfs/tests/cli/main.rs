//! The command line as people and scripts meet it: the built binary, in a home of its own.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::panic,
    reason = "a failed expectation is a test's own way of speaking"
)]

mod app;
mod chat;
mod config;
mod errors;
mod hostile;
mod import;
#[path = "../../../hfs-plugins/tests/plugins/fixture.rs"]
#[allow(dead_code, reason = "the plugins' own tests need more of it")]
mod plugin_fixture;
mod plugin_install;
mod plugins;
mod scripts;
mod search;
mod sessions;
mod start;
mod store;
mod surviving;
mod time_travel;
mod triads;
mod triads_config;
mod triads_rewind;

use serde_json::Value;
use testkit::cli::{Hfs, Output};
use testkit::model_server::{ModelServer, Protocol};

/// The binary in an empty home, with no model.
fn hfs() -> Hfs {
    Hfs::new(env!("CARGO_BIN_EXE_hfs")).env("HFS_AGENT", "recall")
}

/// The binary in an empty home, talking to this server.
fn hfs_with(server: &ModelServer) -> Hfs {
    Hfs::new(env!("CARGO_BIN_EXE_hfs"))
        .env("HFS_BASE_URL", server.url(Protocol::OpenAi))
        .env("HFS_PROVIDER", "openai")
        .env("HFS_MODEL", "test-model")
        .env("OPENAI_API_KEY", "test-key-0123456789")
}

/// The only session there is, as `session show --json` has it.
#[track_caller]
fn shown(hfs: &Hfs, reference: &str) -> Value {
    hfs.run(&["session", "show", reference, "--json"]).ok().json()
}

/// What stands in the first text part of a message.
fn text(message: &Value) -> &str {
    let parts = message["parts"].as_array().map(Vec::as_slice).unwrap_or_default();
    parts
        .iter()
        .find(|part| part["type"] == "text")
        .and_then(|part| part["text"].as_str())
        .unwrap_or_default()
}

/// The names of a document's fields, in order.
fn fields(document: &Value) -> Vec<&str> {
    document.as_object().map(|fields| fields.keys().map(String::as_str).collect()).unwrap_or_default()
}

/// Standard output and standard error, made comparable.
fn scrubbed(hfs: &Hfs, output: &Output) -> String {
    hfs.scrub(&format!("{}--- stderr\n{}", output.stdout, output.stderr))
}
