//! What must hold for any bytes that reach a reader, whoever made them up.
//!
//! Each target takes bytes and panics when a promise is broken. Three searches call them: property tests in the
//! normal suite, `cargo xtask fuzz` on any toolchain, and cargo-fuzz with coverage guidance.
#![allow(clippy::panic, reason = "a broken promise has to stop the search")]

mod events;
mod mutation;
mod splice;
mod transcripts;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use events::events;
pub use mutation::mutated;
pub use splice::splice;
pub use transcripts::{
    aider, chatgpt, claude_code, codex, detect, documents, gemini, goose, openai_messages, opencode, sharegpt,
};

/// Something that takes any bytes, and panics when it breaks its promise.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The name of its seeds' folder and of its cargo-fuzz target.
    pub name: &'static str,
    /// What it promises.
    pub promise: &'static str,
    /// Puts the promise to the test.
    pub check: fn(&[u8]),
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target {
        name: "events",
        promise: "an event survives its JSON, and any run folds into a state",
        check: events,
    },
    Target {
        name: "detect",
        promise: "any file is read or refused, with every record accounted for",
        check: detect,
    },
    Target {
        name: "claude_code",
        promise: "the same, taken for a Claude Code transcript",
        check: claude_code,
    },
    Target {
        name: "openai_messages",
        promise: "the same, taken for OpenAI messages",
        check: openai_messages,
    },
    Target { name: "documents", promise: "the same, taken for a document of ours", check: documents },
    Target { name: "codex", promise: "the same, taken for a Codex rollout", check: codex },
    Target { name: "opencode", promise: "the same, taken for an opencode export", check: opencode },
    Target { name: "gemini", promise: "the same, taken for a Gemini CLI chat", check: gemini },
    Target { name: "goose", promise: "the same, taken for a goose export", check: goose },
    Target { name: "chatgpt", promise: "the same, taken for a ChatGPT export", check: chatgpt },
    Target { name: "aider", promise: "the same, taken for an aider history", check: aider },
    Target { name: "sharegpt", promise: "the same, taken for a ShareGPT dataset", check: sharegpt },
    Target {
        name: "splice",
        promise: "a script makes of a base what it says, or nothing; what one was made of comes back",
        check: splice,
    },
];

impl Target {
    /// The target of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        TARGETS.iter().find(|target| target.name == name)
    }

    /// The inputs that its searches begin with.
    ///
    /// # Errors
    /// When its folder of seeds cannot be read.
    pub fn seeds(&self) -> io::Result<Vec<Vec<u8>>> {
        let mut paths = fs::read_dir(fuzz_folder().join("seeds").join(self.name))?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<Vec<_>>>()?;
        paths.sort();
        paths.iter().map(fs::read).collect()
    }
}

/// The folder of cargo-fuzz: seeds, targets, and what was found.
#[must_use]
pub fn fuzz_folder() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}
