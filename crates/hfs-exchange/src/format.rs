//! The formats that can be imported, and their names.

use std::fmt;
use std::str::FromStr;

use crate::readers::{self, Reader};

/// A transcript format that hfs can import.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    /// hfs documents of every version.
    Hfs,
    /// Claude Code's transcripts.
    ClaudeCode,
    /// Codex's rollout files.
    Codex,
    /// opencode's database, storage folder or export.
    OpenCode,
    /// Gemini CLI's chats.
    Gemini,
    /// Qwen Code's chats.
    Qwen,
    /// The sessions of pi (pi-coding-agent).
    Pi,
    /// GitHub Copilot CLI's sessions.
    Copilot,
    /// The tasks and sessions of Cline, and the tasks of Roo Code and Kilo Code.
    Cline,
    /// goose's database or export.
    Goose,
    /// ChatGPT's data export.
    ChatGpt,
    /// The data export of claude.ai.
    ClaudeAi,
    /// The logs of simonw/llm.
    Llm,
    /// aider's chat history.
    Aider,
    /// ShareGPT datasets.
    ShareGpt,
    /// SQLite checkpoints of LangGraph.
    LangGraph,
    /// The SQLite sessions of the OpenAI Agents SDK.
    OpenAiAgents,
    /// The database of the Python implementation that preceded hfs.
    Python,
    /// Messages as in OpenAI's API: one conversation or a dataset.
    OpenAiMessages,
}

impl Format {
    /// All formats, in the order in which [`detect`](crate::detect()) tries them. Specific formats come
    /// first, because `OpenAiMessages` also recognizes files of some other formats.
    pub const ALL: [Self; 19] = [
        Self::Qwen,
        Self::ClaudeCode,
        Self::Codex,
        Self::OpenCode,
        Self::Pi,
        Self::Copilot,
        Self::Gemini,
        Self::Goose,
        Self::ClaudeAi,
        Self::ChatGpt,
        Self::Llm,
        Self::LangGraph,
        Self::OpenAiAgents,
        Self::Python,
        Self::Aider,
        Self::Cline,
        Self::ShareGpt,
        Self::Hfs,
        Self::OpenAiMessages,
    ];

    /// The name used on the command line and in stored sessions.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hfs => "hfs",
            Self::ClaudeCode => "claude-code",
            Self::Codex => "codex",
            Self::OpenCode => "opencode",
            Self::Gemini => "gemini",
            Self::Qwen => "qwen-code",
            Self::Pi => "pi",
            Self::Copilot => "copilot-cli",
            Self::Cline => "cline",
            Self::Goose => "goose",
            Self::ChatGpt => "chatgpt",
            Self::ClaudeAi => "claude-ai",
            Self::Llm => "llm",
            Self::Aider => "aider",
            Self::ShareGpt => "sharegpt",
            Self::LangGraph => "langgraph",
            Self::OpenAiAgents => "openai-agents",
            Self::Python => "hfs-python",
            Self::OpenAiMessages => "openai-messages",
        }
    }

    pub(crate) fn reader(self) -> &'static dyn Reader {
        match self {
            Self::Hfs => &readers::hfs::Hfs,
            Self::ClaudeCode => &readers::claude_code::ClaudeCode,
            Self::Codex => &readers::codex::Codex,
            Self::OpenCode => &readers::opencode::OpenCode,
            Self::Gemini => &readers::gemini::Gemini,
            Self::Qwen => &readers::qwen::Qwen,
            Self::Pi => &readers::pi::Pi,
            Self::Copilot => &readers::copilot::Copilot,
            Self::Cline => &readers::cline::Cline,
            Self::Goose => &readers::goose::Goose,
            Self::ChatGpt => &readers::chatgpt::ChatGpt,
            Self::ClaudeAi => &readers::claude_ai::ClaudeAi,
            Self::Llm => &readers::llm::Llm,
            Self::Aider => &readers::aider::Aider,
            Self::ShareGpt => &readers::sharegpt::ShareGpt,
            Self::LangGraph => &readers::langgraph::LangGraph,
            Self::OpenAiAgents => &readers::openai_agents::OpenAiAgents,
            Self::Python => &readers::python::Python,
            Self::OpenAiMessages => &readers::openai::OpenAi,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The error for a string that does not name a format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseFormatError(String);

impl fmt::Display for ParseFormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known: Vec<&str> = Format::ALL.iter().map(|format| format.as_str()).collect();
        write!(f, "{:?} is not a format: expected one of {}", self.0, known.join(", "))
    }
}

impl std::error::Error for ParseFormatError {}

impl FromStr for Format {
    type Err = ParseFormatError;

    fn from_str(text: &str) -> Result<Self, ParseFormatError> {
        Self::ALL
            .into_iter()
            .find(|format| format.as_str() == text)
            .ok_or_else(|| ParseFormatError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_is_found_by_its_name_and_read_by_its_own_reader() {
        for format in Format::ALL {
            assert_eq!(format.as_str().parse(), Ok(format));
            assert_eq!(format.reader().format(), format);
        }
        let error = "word".parse::<Format>().unwrap_err().to_string();
        assert!(error.contains("claude-code"), "{error}");
    }
}
