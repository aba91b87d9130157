//! Properties that must hold for any input of the readers, including malicious input.
//!
//! Each target takes bytes and panics if its property does not hold. Three programs call the targets: the property tests
//! of this crate, `cargo xtask fuzz` on a stable toolchain, and cargo-fuzz with coverage guidance.
#![allow(clippy::panic, reason = "a violated property must stop the search")]

mod binary_delta;
mod events;
mod mutation;
mod transcripts;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use binary_delta::binary_delta;
pub use events::events;
pub use mutation::mutate;
pub use transcripts::{
    aider, chatgpt, claude_ai, claude_code, cline, codex, copilot, detect, documents, gemini, goose,
    openai_messages, opencode, pi, qwen, sharegpt,
};

/// A fuzz target.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Name of the cargo-fuzz target and of the folder with its seeds.
    pub name: &'static str,
    /// The property that it checks.
    pub property: &'static str,
    /// Panics if the property does not hold for the input.
    pub check: fn(&[u8]),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target {
        name: "events",
        property: "events are unchanged by a JSON round trip, and any events fold into a snapshot",
        check: events,
    },
    Target {
        name: "detect",
        property: "any file is read or rejected, and every record is accounted for",
        check: detect,
    },
    Target {
        name: "claude_code",
        property: "the same, read as a Claude Code transcript",
        check: claude_code,
    },
    Target { name: "openai_messages", property: "the same, read as OpenAI messages", check: openai_messages },
    Target { name: "documents", property: "the same, read as an hfs document", check: documents },
    Target { name: "codex", property: "the same, read as a Codex rollout", check: codex },
    Target { name: "opencode", property: "the same, read as an opencode export", check: opencode },
    Target { name: "gemini", property: "the same, read as a Gemini CLI chat", check: gemini },
    Target { name: "goose", property: "the same, read as a goose export", check: goose },
    Target { name: "chatgpt", property: "the same, read as a ChatGPT export", check: chatgpt },
    Target { name: "aider", property: "the same, read as an aider history", check: aider },
    Target { name: "sharegpt", property: "the same, read as a ShareGPT dataset", check: sharegpt },
    Target { name: "qwen", property: "the same, read as a Qwen Code chat", check: qwen },
    Target { name: "pi", property: "the same, read as a pi session", check: pi },
    Target { name: "copilot", property: "the same, read as a GitHub Copilot CLI session", check: copilot },
    Target { name: "cline", property: "the same, read as a Cline task or session", check: cline },
    Target { name: "claude_ai", property: "the same, read as a claude.ai export", check: claude_ai },
    Target {
        name: "binary_delta",
        property: "applying any delta yields the size that it declares or an error, and deltas round-trip",
        check: binary_delta,
    },
];

impl Target {
    /// The target with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        TARGETS.iter().find(|target| target.name == name)
    }

    /// The seeds, which every search starts with.
    ///
    /// # Errors
    /// Returns an error if the folder of seeds cannot be read.
    pub fn seeds(&self) -> io::Result<Vec<Vec<u8>>> {
        let mut paths = fs::read_dir(fuzz_folder().join("seeds").join(self.name))?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<Vec<_>>>()?;
        paths.sort();
        paths.iter().map(fs::read).collect()
    }
}

/// The folder with seeds, cargo-fuzz targets and found inputs.
#[must_use]
pub fn fuzz_folder() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}
