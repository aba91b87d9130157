//! No secret that the rules know leaves a redacted export, and everything else does.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failed expectation is a test's own way of speaking"
)]

use hfs_core::{Attachment, ContentHash, Part, Timestamp};
use hfs_exchange::{
    Collector, DocumentSource, Format, Guarded, PageOptions, Secrets, Shown, Source, Stamp, read, write_html,
    write_json, write_markdown,
};
use serde_json::json;
use std::sync::LazyLock;

/// Compiling the rules takes a moment in a build for tests.
static SECRETS: LazyLock<Secrets> = LazyLock::new(|| Secrets::new().unwrap());

// Put together here, so that no scanner takes this file for a leak.
fn github() -> String {
    ["ghp", "_", "Zq8vT2mN4kR7wX1yB5cD9fG3hJ6lP0sAuEiO"].concat()
}

fn password() -> &'static str {
    "hunter2-in-the-open"
}

fn document() -> hfs_core::SessionDocument {
    let token = github();
    let url = format!("postgres://admin:{}@db.example.org/app", password());
    let text = json!({"messages": [
        {"role": "user", "content": format!("my token is {token}, keep it"), "note": token},
        {"role": "assistant", "content": "A commit such as 3f2a5c6d7e8f9a0b1c2d and a port 8080 stay.",
         "tool_calls": [{"id": "1", "function": {"name": "connect", "arguments": json!({"url": url}).to_string()}}]},
        {"role": "tool", "tool_call_id": "1", "content": format!("connected to {url}")},
    ]})
    .to_string();
    let mut sink = Collector::default();
    read(&Source::stream(text.as_bytes()).unwrap(), Some(Format::OpenAiMessages), &mut sink).unwrap();
    sink.sessions.pop().unwrap().into_document(Timestamp::UNIX_EPOCH)
}

fn exports(source: &dyn DocumentSource) -> Vec<String> {
    let stamp = Stamp { exported_at: Timestamp::UNIX_EPOCH, hfs_version: "0.0.0" };
    let options = PageOptions { stamp, shown: Shown::All };
    let mut all = vec![Vec::new(), Vec::new(), Vec::new()];
    write_json(source, stamp, &mut all[0]).unwrap();
    write_markdown(source, options, &mut all[1]).unwrap();
    write_html(source, options, &mut all[2]).unwrap();
    all.into_iter().map(|bytes| String::from_utf8(bytes).unwrap()).collect()
}

#[test]
fn a_redacted_export_holds_no_secret_and_says_how_many_there_were() {
    let document = document();
    let guarded = Guarded::new(&document, &SECRETS, true);
    for text in exports(&guarded) {
        assert!(!text.contains(&github()), "{text}");
        assert!(!text.contains(password()), "{text}");
        assert!(text.contains("3f2a5c6d7e8f9a0b1c2d"), "{text}");
        assert!(text.contains("8080"), "{text}");
    }
    let report = guarded.report();
    assert!(report.total >= 4, "{report:?}");
    assert!(report.places.iter().any(|place| place == "message 1 of main"), "{report:?}");
    assert!(report.by_rule.contains_key("password-in-url"), "{report:?}");
}

#[test]
fn the_same_session_is_redacted_to_the_same_bytes() {
    let document = document();
    let once = exports(&Guarded::new(&document, &SECRETS, true));
    assert_eq!(once, exports(&Guarded::new(&document, &SECRETS, true)));
}

#[test]
fn without_masking_everything_leaves_and_the_report_is_the_same() {
    let document = document();
    let watched = Guarded::new(&document, &SECRETS, false);
    assert_eq!(exports(&watched), exports(&document));
    let masked = Guarded::new(&document, &SECRETS, true);
    exports(&masked);
    assert_eq!(watched.report(), masked.report());
}

#[test]
fn a_secret_in_a_file_that_was_attached_is_masked_there_too() {
    let said = format!("export GITHUB_TOKEN={}\n", github());
    let mut document = document();
    let hash = ContentHash::from_bytes(*blake3::hash(said.as_bytes()).as_bytes());
    let bytes = said.len() as u64;
    document.branches[0].messages[0].content.parts.push(Part::Attachment {
        media_type: "text/plain".into(),
        name: Some("env.sh".into()),
        hash: Some(hash),
        bytes,
    });
    document.attachments.push(Attachment { hash, bytes: said.clone().into_bytes() });

    let guarded = Guarded::new(&document, &SECRETS, true);
    let json = exports(&guarded).remove(0);
    let mut back = Collector::default();
    read(&Source::stream(json.as_bytes()).unwrap(), Some(Format::Hfs), &mut back).unwrap();
    let session = back.sessions.pop().unwrap();
    assert_eq!(session.report.dropped, 0, "{:?}", session.report);
    let attached = session.into_document(Timestamp::UNIX_EPOCH).attachments.remove(0);
    let text = String::from_utf8(attached.bytes).unwrap();
    assert!(text.starts_with("export GITHUB_TOKEN=[redacted: ") && !text.contains(&github()), "{text}");

    let watched = Guarded::new(&document, &SECRETS, false);
    assert_eq!(exports(&watched), exports(&document));
    assert_eq!(watched.report(), guarded.report());
}
