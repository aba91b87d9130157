//! Documents of every version that ever was stay importable, and what a made session becomes is looked at.
//!
//! Files of past versions never change. That of the present one may, with its schema.

#![allow(clippy::unwrap_used, reason = "a failed expectation is a test's own way of speaking")]

use std::path::{Path, PathBuf};

use hfs_core::{Role, SessionDocument, Timestamp};
use hfs_exchange::{
    Collected, Collector, Format, PageOptions, Shown, Source, Stamp, TRANSCRIPTS, read, write_html,
    write_json, write_markdown, write_transcript,
};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn import(name: &str) -> Collected {
    let mut sink = Collector::default();
    read(&Source::file(golden(name)), None, &mut sink).unwrap();
    assert_eq!(sink.sessions.len(), 1, "{name}");
    let session = sink.sessions.pop().unwrap();
    assert_eq!(session.report.dropped, 0, "{name}: {:?}", session.report);
    session
}

fn made() -> SessionDocument {
    import("2.0.0.json").into_document(Timestamp::UNIX_EPOCH)
}

fn options() -> PageOptions<'static> {
    let stamp = Stamp { exported_at: "2026-02-02T08:00:00Z".parse().unwrap(), hfs_version: "0.1.0" };
    PageOptions { stamp, shown: Shown::All }
}

#[test]
fn the_document_of_the_present_version_comes_back_to_the_byte() {
    let mut bytes = Vec::new();
    write_json(&made(), options().stamp, &mut bytes).unwrap();
    let written = String::from_utf8(bytes).unwrap();
    let kept = std::fs::read_to_string(golden("2.0.0.json")).unwrap();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(golden("2.0.0.json"), &written).unwrap();
    }
    assert_eq!(written, kept, "where the present version has changed: UPDATE_GOLDEN=1");
}

#[test]
fn documents_of_every_past_version_are_imported_whole() {
    for (name, title, checkpoints, runs) in
        [("none.json", None, 0, 0), ("1.0.0.json", Some("Fix login bug"), 1, 1)]
    {
        let session = import(name);
        assert_eq!(session.session.title.as_deref(), title, "{name}");
        assert_eq!(session.checkpoints.len(), checkpoints, "{name}");
        assert_eq!(session.runs.len(), runs, "{name}");
        let roles: Vec<Role> = session.messages().map(|message| message.role).collect();
        assert_eq!(roles, [Role::User, Role::Assistant], "{name}");
    }
}

#[test]
fn the_made_session_as_markdown() {
    let mut bytes = Vec::new();
    write_markdown(&made(), options(), &mut bytes).unwrap();
    insta::assert_snapshot!(String::from_utf8(bytes).unwrap());
}

#[test]
fn the_made_session_as_html() {
    let mut bytes = Vec::new();
    write_html(&made(), options(), &mut bytes).unwrap();
    let page = String::from_utf8(bytes).unwrap();
    // How it looks is not what this is about.
    let (head, rest) = page.split_once("<style>").unwrap();
    let (_, rest) = rest.split_once("</style>").unwrap();
    insta::assert_snapshot!(format!("{head}<style></style>{rest}"));
}

#[test]
fn the_made_session_as_the_transcripts_of_other_tools() {
    for format in TRANSCRIPTS {
        let mut bytes = Vec::new();
        write_transcript(&made(), format, &mut bytes).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        insta::assert_snapshot!(format!("the_made_session_as_{format}"), text);
        let mut back = Collector::default();
        read(&Source::stream(text.as_bytes()).unwrap(), None, &mut back).unwrap();
        let session = back.sessions.pop().unwrap();
        assert_eq!(session.session.origin.format, format.as_str(), "it is recognised");
        assert_eq!(session.report.dropped, 0, "{format}: {:?}", session.report);
    }
}

#[test]
fn of_a_document_that_breaks_off_everything_before_is_saved() {
    for (name, whole) in [("none.json", 2), ("1.0.0.json", 2), ("2.0.0.json", 11)] {
        let text = std::fs::read_to_string(golden(name)).unwrap();
        let mut most = 0;
        for cut in (1..text.len() - 1).filter(|cut| text.is_char_boundary(*cut)).step_by(3) {
            let (beginning, _) = text.split_at(cut);
            let mut sink = Collector::default();
            let result = read(&Source::stream(beginning.as_bytes()).unwrap(), Some(Format::Hfs), &mut sink);
            let Some(session) = sink.sessions.pop() else {
                assert!(result.is_err(), "{name} cut at {cut}");
                continue;
            };
            let report = &session.report;
            assert_eq!(report.mapped + report.opaque + report.dropped, report.records, "{report:?}");
            assert!(report.dropped > 0, "{name} cut at {cut} is said to be whole");
            let messages = session.messages().count();
            // The messages come before the runs, so that they only ever grow.
            assert!(messages >= most, "{name} cut at {cut}: {messages} messages after {most}");
            most = messages;
        }
        assert_eq!(most, whole, "{name}");
    }
}
