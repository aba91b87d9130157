//! Transcripts and documents, through the door that `hfs import` takes.

use hfs_core::ImportError;
use hfs_exchange::{CollectedSession, Collector, Format, Source, read};

/// Whatever the bytes are, they are read as something or refused.
///
/// # Panics
/// When a reader panics, tells a session out of order, loses count of records, or tells another story the
/// second time.
pub fn detect(bytes: &[u8]) {
    reads_or_refuses(bytes, None);
}

macro_rules! taken_for {
    ($($name:ident: $format:ident, $what:literal;)*) => {$(
        #[doc = concat!("The same when they are taken for ", $what, ".")]
        ///
        /// # Panics
        /// When a reader panics, tells a session out of order, loses count of records, or tells another story
        /// the second time.
        pub fn $name(bytes: &[u8]) {
            reads_or_refuses(bytes, Some(Format::$format));
        }
    )*};
}

taken_for! {
    claude_code: ClaudeCode, "a Claude Code transcript";
    openai_messages: OpenAiMessages, "OpenAI messages";
    documents: Hfs, "a document of ours";
    codex: Codex, "a Codex rollout";
    opencode: OpenCode, "an opencode export";
    gemini: Gemini, "a Gemini CLI chat";
    goose: Goose, "a goose export";
    chatgpt: ChatGpt, "a ChatGPT export";
    aider: Aider, "an aider history";
    sharegpt: ShareGpt, "a ShareGPT dataset";
}

/// A reader never panics, tells a session in an order that its receiver can follow, accounts for every record,
/// and tells the same when it reads the same again.
fn reads_or_refuses(bytes: &[u8], format: Option<Format>) {
    let (sessions, error) = told(bytes, format);
    assert!(
        !matches!(error, Some(ImportError::Store(_))),
        "a session was told in an order that cannot be followed: {error:?}"
    );
    for session in &sessions {
        let report = &session.report;
        assert_eq!(
            report.records,
            report.mapped + report.opaque + report.dropped,
            "records unaccounted for: {report:?}"
        );
    }
    let (again, _) = told(bytes, format);
    assert_eq!(again.len(), sessions.len(), "another number of sessions the second time");
    for (again, first) in again.iter().zip(&sessions) {
        assert_eq!(again.report, first.report);
        assert_same_words(again, first);
    }
}

fn told(bytes: &[u8], format: Option<Format>) -> (Vec<CollectedSession>, Option<ImportError>) {
    let source =
        Source::stream(bytes).unwrap_or_else(|error| panic!("bytes in memory cannot be read: {error}"));
    let mut collector = Collector::default();
    let error = read(&source, format, &mut collector).err();
    (collector.sessions, error)
}

/// Identities are new each time; what was said, by whom and on which branch is not.
fn assert_same_words(again: &CollectedSession, first: &CollectedSession) {
    let words = |session: &CollectedSession| {
        let branches =
            session.branches.iter().map(|branch| (branch.parent, branch.forked_at, branch.messages.len()));
        branches.collect::<Vec<_>>()
    };
    assert_eq!(words(again), words(first));
    for (again, first) in again.messages().zip(first.messages()) {
        assert_eq!((again.role, again.status, &again.parts), (first.role, first.status, &first.parts));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Target;

    #[test]
    fn the_searches_begin_with_input_that_is_read() {
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
            ("detect", None),
        ];
        for (name, format) in formats {
            let seeds = Target::named(name).unwrap().seeds().unwrap();
            let refused = seeds.iter().filter(|seed| told(seed, format).0.is_empty()).count();
            // One seed in some folders is there to be refused: a newer document, a letter.
            assert!(
                refused < seeds.len() && refused <= 1,
                "{name}: {refused} of {} seeds are refused",
                seeds.len()
            );
        }
    }
}
