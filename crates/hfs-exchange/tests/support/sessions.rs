//! Sessions as readers find them.

use hfs_core::MessageDraft;
use hfs_exchange::{CollectedSession, Collector, Format, Source, detect, read};

/// Reads a source, and checks that each record is counted once.
pub fn collect(source: &Source) -> Vec<CollectedSession> {
    let mut collector = Collector::default();
    read(source, None, &mut collector).unwrap();
    for session in &collector.sessions {
        let report = &session.report;
        assert_eq!(report.mapped + report.opaque + report.dropped, report.records, "{report:?}");
    }
    collector.sessions
}

/// Like [`collect`], for a source that is recognized as this format.
pub fn collect_as(source: &Source, format: Format) -> Vec<CollectedSession> {
    assert_eq!(detect(source).unwrap(), Some(format), "{}", source.name());
    collect(source)
}

/// The messages that a resume continues from.
pub fn open_line(session: &CollectedSession) -> Vec<&MessageDraft> {
    let mut ranges = Vec::new();
    let mut next = Some((session.current, u64::MAX));
    while let Some((key, until)) = next {
        let branch = &session.branches[key];
        ranges.push((key, until));
        next = branch.parent.map(|parent| (parent, until.min(branch.forked_at)));
    }
    let mut messages = Vec::new();
    for (key, until) in ranges.into_iter().rev() {
        let branch = &session.branches[key];
        let numbered = branch.messages.iter().zip(branch.forked_at + 1..);
        messages.extend(numbered.filter(|(_, seq)| *seq <= until).map(|(message, _)| message));
    }
    messages
}
