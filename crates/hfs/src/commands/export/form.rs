//! The forms in which sessions are written.

use std::io::Write;
use std::path::Path;

use clap::ValueEnum;
use hfs_exchange::{
    DocumentSource, ExportError, Format, PageOptions, write_html, write_json, write_markdown,
    write_transcript,
};

/// Which branches a form can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Branches {
    /// Every one, always.
    All,
    /// One or all, as somebody chooses.
    Chosen,
    /// The history of one.
    One,
}

/// A form in which a session is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// Everything, to be imported again
    Json,
    /// To be read and pasted
    #[value(alias = "md")]
    Markdown,
    /// To be read in a browser; one file
    Html,
    /// For Claude Code to go on with
    ClaudeCode,
    /// For Codex to go on with
    Codex,
    /// For opencode to go on with
    #[value(name = "opencode")]
    OpenCode,
}

impl Form {
    /// What the name of a file says.
    pub fn of_file(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_lowercase().as_str() {
            "json" => Some(Self::Json),
            "md" | "markdown" => Some(Self::Markdown),
            "html" | "htm" => Some(Self::Html),
            _ => None,
        }
    }

    /// What people type.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Markdown => "markdown",
            Self::Html => "html",
            Self::ClaudeCode => "claude-code",
            Self::Codex => "codex",
            Self::OpenCode => "opencode",
        }
    }

    /// The form of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::value_variants().iter().copied().find(|form| form.as_str() == name)
    }

    /// What it is good for, in a few words.
    pub const fn about(self) -> &'static str {
        match self {
            Self::Json => "everything, to be imported again",
            Self::Markdown => "to be read and pasted",
            Self::Html => "to be read in a browser; one file",
            Self::ClaudeCode => "for Claude Code to go on with",
            Self::Codex => "for Codex to go on with",
            Self::OpenCode => "for opencode to go on with",
        }
    }

    /// How the names of its files end.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Markdown => "md",
            Self::Html => "html",
            Self::ClaudeCode | Self::Codex => "jsonl",
            Self::OpenCode => "json",
        }
    }

    /// The tool whose transcripts these are.
    pub const fn tool(self) -> Option<Format> {
        match self {
            Self::Json | Self::Markdown | Self::Html => None,
            Self::ClaudeCode => Some(Format::ClaudeCode),
            Self::Codex => Some(Format::Codex),
            Self::OpenCode => Some(Format::OpenCode),
        }
    }

    /// Which branches it can hold.
    pub const fn branches(self) -> Branches {
        match self {
            Self::Json | Self::ClaudeCode => Branches::All,
            Self::Markdown | Self::Html => Branches::Chosen,
            Self::Codex | Self::OpenCode => Branches::One,
        }
    }

    /// How often its writer goes through the messages.
    pub const fn reads(self) -> u64 {
        match self {
            Self::Markdown | Self::Html => 2,
            Self::Json | Self::ClaudeCode | Self::Codex | Self::OpenCode => 1,
        }
    }

    /// Writes a session in this form.
    ///
    /// # Errors
    /// When the session cannot be read or the output cannot be written.
    pub fn write(
        self,
        session: &dyn DocumentSource,
        options: PageOptions<'_>,
        out: &mut dyn Write,
    ) -> Result<(), ExportError> {
        match self {
            Self::Json => write_json(session, options.stamp, out),
            Self::Markdown => write_markdown(session, options, out),
            Self::Html => write_html(session, options, out),
            Self::ClaudeCode => write_transcript(session, Format::ClaudeCode, out),
            Self::Codex => write_transcript(session, Format::Codex, out),
            Self::OpenCode => write_transcript(session, Format::OpenCode, out),
        }
    }
}
