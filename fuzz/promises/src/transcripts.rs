//! Transcripts and documents, read in the same way as by `hfs import`.

use hfs_core::ImportError;
use hfs_exchange::{CollectedSession, Collector, Format, Source, read};

/// Checks that any input is read in some format or rejected.
///
/// # Panics
/// Panics if a reader panics, reports the parts of a session in a wrong order, does not account for every record, or
/// yields a different result the second time.
pub fn detect(bytes: &[u8]) {
    check_reader(bytes, None);
}

macro_rules! check_as {
    ($($name:ident: $format:ident, $what:literal;)*) => {$(
        #[doc = concat!("Like [`detect`], but reads the input as ", $what, ".")]
        ///
        /// # Panics
        /// See [`detect`].
        pub fn $name(bytes: &[u8]) {
            check_reader(bytes, Some(Format::$format));
        }
    )*};
}

check_as! {
    claude_code: ClaudeCode, "a Claude Code transcript";
    openai_messages: OpenAiMessages, "OpenAI messages";
    documents: Hfs, "an hfs document";
    codex: Codex, "a Codex rollout";
    opencode: OpenCode, "an opencode export";
    gemini: Gemini, "a Gemini CLI chat";
    goose: Goose, "a goose export";
    chatgpt: ChatGpt, "a ChatGPT export";
    aider: Aider, "an aider history";
    sharegpt: ShareGpt, "a ShareGPT dataset";
    qwen: Qwen, "a Qwen Code chat";
    pi: Pi, "a pi session";
    copilot: Copilot, "a GitHub Copilot CLI session";
    cline: Cline, "a Cline task or session";
    claude_ai: ClaudeAi, "a claude.ai export";
}

/// Checks that a reader does not panic, reports a session in an order that the receiver accepts, accounts for every record,
/// and is deterministic.
fn check_reader(bytes: &[u8], format: Option<Format>) {
    let (sessions, error) = read_all(bytes, format);
    assert!(
        !matches!(error, Some(ImportError::Store(_))),
        "the receiver rejected the order of a session: {error:?}"
    );
    for session in &sessions {
        let report = &session.report;
        assert_eq!(
            report.records,
            report.mapped + report.opaque + report.dropped,
            "records are not accounted for: {report:?}"
        );
    }
    let (second, _) = read_all(bytes, format);
    assert_eq!(second.len(), sessions.len(), "the second reading has another number of sessions");
    for (second, first) in second.iter().zip(&sessions) {
        assert_eq!(second.report, first.report);
        assert_same_content(second, first);
    }
}

fn read_all(bytes: &[u8], format: Option<Format>) -> (Vec<CollectedSession>, Option<ImportError>) {
    let source =
        Source::stream(bytes).unwrap_or_else(|error| panic!("bytes in memory cannot be read: {error}"));
    let mut collector = Collector::default();
    let error = read(&source, format, &mut collector).err();
    (collector.sessions, error)
}

/// Asserts that two readings are equal except for their ids, which are new each time.
fn assert_same_content(second: &CollectedSession, first: &CollectedSession) {
    let structure = |session: &CollectedSession| {
        let branches =
            session.branches.iter().map(|branch| (branch.parent, branch.forked_at, branch.messages.len()));
        branches.collect::<Vec<_>>()
    };
    assert_eq!(structure(second), structure(first));
    for (second, first) in second.messages().zip(first.messages()) {
        assert_eq!((second.role, second.status, &second.parts), (first.role, first.status, &first.parts));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Target;

    #[test]
    fn the_seeds_are_valid_inputs() {
        let formats = [
            ("claude_code", Some(Format::ClaudeCode)),
            ("openai_messages", Some(Format::OpenAiMessages)),
            ("documents", Some(Format::Hfs)),
            ("codex", Some(Format::Codex)),
            ("opencode", Some(Format::OpenCode)),
            ("gemini", Some(Format::Gemini)),
            ("goose", Some(Format::Goose)),
            ("chatgpt", Some(Format::ChatGpt)),
            ("aider", Some(Format::Aider)),
            ("sharegpt", Some(Format::ShareGpt)),
            ("qwen", Some(Format::Qwen)),
            ("pi", Some(Format::Pi)),
            ("copilot", Some(Format::Copilot)),
            ("cline", Some(Format::Cline)),
            ("claude_ai", Some(Format::ClaudeAi)),
            ("detect", None),
        ];
        for (name, format) in formats {
            let seeds = Target::named(name).unwrap().seeds().unwrap();
            let rejected = seeds.iter().filter(|seed| read_all(seed, format).0.is_empty()).count();
            // Some folders have one seed that must be rejected, such as a document of a newer version.
            assert!(
                rejected < seeds.len() && rejected <= 1,
                "{name}: {rejected} of {} seeds are rejected",
                seeds.len()
            );
        }
    }
}
