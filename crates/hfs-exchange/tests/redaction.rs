//! Redaction masks the secrets that the rules find, and changes nothing else.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use hfs_core::{Attachment, ContentHash, Part, Timestamp};
use hfs_exchange::{
    BranchSelection, Collector, DocumentSource, ExportMetadata, Format, PageOptions, RedactedSource,
    SecretScanner, Source, read, write_html, write_json, write_markdown,
};
use serde_json::json;
use std::sync::LazyLock;

/// Shared by all tests, because compiling the rules is slow in a debug build.
static SCANNER: LazyLock<SecretScanner> = LazyLock::new(|| SecretScanner::new().unwrap());

// Concatenated, so that secret scanners do not report this file.
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
    let mut collector = Collector::default();
    read(&Source::stream(text.as_bytes()).unwrap(), Some(Format::OpenAiMessages), &mut collector).unwrap();
    collector.sessions.pop().unwrap().into_document(Timestamp::UNIX_EPOCH)
}

fn exports(source: &dyn DocumentSource) -> Vec<String> {
    let metadata = ExportMetadata { exported_at: Timestamp::UNIX_EPOCH, hfs_version: "0.0.0" };
    let options = PageOptions { metadata, branches: BranchSelection::All };
    let mut all = vec![Vec::new(), Vec::new(), Vec::new()];
    write_json(source, metadata, &mut all[0]).unwrap();
    write_markdown(source, options, &mut all[1]).unwrap();
    write_html(source, options, &mut all[2]).unwrap();
    all.into_iter().map(|bytes| String::from_utf8(bytes).unwrap()).collect()
}

#[test]
fn a_redacted_export_contains_no_secret_and_the_report_counts_them() {
    let document = document();
    let redacted = RedactedSource::new(&document, &SCANNER, true);
    for text in exports(&redacted) {
        assert!(!text.contains(&github()), "{text}");
        assert!(!text.contains(password()), "{text}");
        assert!(text.contains("3f2a5c6d7e8f9a0b1c2d"), "{text}");
        assert!(text.contains("8080"), "{text}");
    }
    let report = redacted.report();
    assert!(report.total >= 4, "{report:?}");
    assert!(report.locations.iter().any(|location| location == "message 1 of main"), "{report:?}");
    assert!(report.by_rule.contains_key("password-in-url"), "{report:?}");
}

#[test]
fn the_same_session_is_redacted_to_the_same_bytes() {
    let document = document();
    let once = exports(&RedactedSource::new(&document, &SCANNER, true));
    assert_eq!(once, exports(&RedactedSource::new(&document, &SCANNER, true)));
}

#[test]
fn without_masking_the_export_is_unchanged_and_the_report_is_the_same() {
    let document = document();
    let unmasked = RedactedSource::new(&document, &SCANNER, false);
    assert_eq!(exports(&unmasked), exports(&document));
    let masked = RedactedSource::new(&document, &SCANNER, true);
    exports(&masked);
    assert_eq!(unmasked.report(), masked.report());
}

#[test]
fn a_secret_in_an_attached_text_file_is_masked() {
    let text_with_secret = format!("export GITHUB_TOKEN={}\n", github());
    let mut document = document();
    let hash = ContentHash::from_bytes(*blake3::hash(text_with_secret.as_bytes()).as_bytes());
    let bytes = text_with_secret.len() as u64;
    document.branches[0].messages[0].content.parts.push(Part::Attachment {
        media_type: "text/plain".into(),
        name: Some("env.sh".into()),
        hash: Some(hash),
        bytes,
    });
    document.attachments.push(Attachment { hash, bytes: text_with_secret.clone().into_bytes() });

    let redacted = RedactedSource::new(&document, &SCANNER, true);
    let json = exports(&redacted).remove(0);
    let mut back = Collector::default();
    read(&Source::stream(json.as_bytes()).unwrap(), Some(Format::Hfs), &mut back).unwrap();
    let session = back.sessions.pop().unwrap();
    assert_eq!(session.report.dropped, 0, "{:?}", session.report);
    let attached = session.into_document(Timestamp::UNIX_EPOCH).attachments.remove(0);
    let text = String::from_utf8(attached.bytes).unwrap();
    assert!(text.starts_with("export GITHUB_TOKEN=[redacted: ") && !text.contains(&github()), "{text}");

    let unmasked = RedactedSource::new(&document, &SCANNER, false);
    assert_eq!(exports(&unmasked), exports(&document));
    assert_eq!(unmasked.report(), redacted.report());
}
