//! Redaction masks the secrets that the rules find, and changes nothing else.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use hfs_core::{Attachment, ContentHash, Part, Timestamp};
use hfs_exchange::{
    BranchSelection, Collector, DocumentSource, ExportMetadata, Format, PageOptions, RedactedSource,
    Redaction, Source, read, write_html, write_json, write_markdown,
};
use serde_json::{Value, json};
use testkit::secret_table::{self, Row};

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
    let redacted = RedactedSource::new(&document, Redaction::Mask);
    for text in exports(&redacted) {
        assert!(!text.contains(&github()), "{text}");
        assert!(!text.contains(password()), "{text}");
        assert!(text.contains("3f2a5c6d7e8f9a0b1c2d"), "{text}");
        assert!(text.contains("8080"), "{text}");
    }
    let report = redacted.report();
    assert!(report.total >= 4, "{report:?}");
    assert!(report.locations.iter().any(|location| location == "message 1"), "{report:?}");
    assert!(report.by_label.contains_key("password"), "{report:?}");
}

/// The seed of the table. `cargo xtask redaction` sets it.
fn table_seed() -> u64 {
    std::env::var("HFS_TABLE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1)
}

/// A transcript with each text at one of the places at which secrets occur.
fn transcript(texts: &[&str]) -> hfs_core::SessionDocument {
    let messages: Vec<Value> = (0..)
        .zip(texts)
        .map(|(index, text)| match index % 4 {
            0 => json!({"role": "user", "content": text}),
            1 => json!({"role": "assistant", "content": null, "tool_calls": [
                {"id": index.to_string(), "function": {"name": "shell", "arguments": json!({"command": text}).to_string()}}]}),
            2 => json!({"role": "user", "content": "see the note", "note": {"lines": [text]}}),
            _ => json!({"role": "tool", "tool_call_id": (index - 2).to_string(), "content": text}),
        })
        .collect();
    let mut sink = Collector::default();
    let text = json!({"messages": messages}).to_string();
    read(&Source::stream(text.as_bytes()).unwrap(), Some(Format::OpenAiMessages), &mut sink).unwrap();
    sink.sessions.pop().unwrap().into_document(Timestamp::UNIX_EPOCH)
}

/// The text as a JSON string shows it, without quotes, once and twice encoded.
fn encoded(text: &str) -> [String; 2] {
    let once = |text: &str| json!(text).to_string().trim_matches('"').to_owned();
    [once(text), once(&once(text))]
}

#[test]
fn nearly_all_generated_secrets_are_masked_and_nearly_no_lookalikes() {
    const ROWS: usize = 200;
    let seed = table_seed();
    let (secrets, lookalikes) = (secret_table::secrets(seed, ROWS), secret_table::lookalikes(seed, ROWS));
    let export = |rows: &[Row]| {
        let document = transcript(&rows.iter().map(|row| row.text.as_str()).collect::<Vec<_>>());
        exports(&RedactedSource::new(&document, Redaction::Mask)).remove(0)
    };
    let exported = export(&secrets);
    let is_missed = |row: &&Row| {
        let secret = row.secret.as_deref().unwrap();
        [secret.to_owned()].iter().chain(&encoded(secret)).any(|secret| exported.contains(secret))
    };
    let missed: Vec<&str> = secrets.iter().filter(is_missed).map(|row| row.kind.as_str()).collect();
    let exported = export(&lookalikes);
    let is_masked =
        |row: &&Row| !exported.contains(&encoded(&row.text)[0]) && !exported.contains(&encoded(&row.text)[1]);
    let masked: Vec<&str> = lookalikes.iter().filter(is_masked).map(|row| row.kind.as_str()).collect();

    let found = ROWS - missed.len();
    let recall = found as f64 / ROWS as f64;
    let precision = found as f64 / (found + masked.len()) as f64;
    println!(
        "seed {seed}: recall {recall:.3} of {ROWS} secrets, precision {precision:.3} with {ROWS} lookalikes"
    );
    println!("missed: {missed:?}\nwrongly masked: {masked:?}");
    assert!(recall >= 0.98 && precision >= 0.98, "recall {recall:.3}, precision {precision:.3}");
}

#[test]
fn the_text_beside_a_secret_is_unchanged() {
    for row in secret_table::secrets(table_seed(), 400) {
        let masked = hfs_secrets::mask(&row.text);
        let secret = row.secret.unwrap();
        for beside in row.text.split(&secret) {
            assert!(masked.contains(beside), "{}: {masked}", row.kind);
        }
    }
}

#[test]
fn the_same_session_is_redacted_to_the_same_bytes() {
    let document = document();
    let once = exports(&RedactedSource::new(&document, Redaction::Mask));
    assert_eq!(once, exports(&RedactedSource::new(&document, Redaction::Mask)));
}

#[test]
fn without_masking_the_export_is_unchanged_and_the_report_is_the_same() {
    let document = document();
    let unmasked = RedactedSource::new(&document, Redaction::Count);
    assert_eq!(exports(&unmasked), exports(&document));
    let masked = RedactedSource::new(&document, Redaction::Mask);
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

    let redacted = RedactedSource::new(&document, Redaction::Mask);
    let json = exports(&redacted).remove(0);
    let mut back = Collector::default();
    read(&Source::stream(json.as_bytes()).unwrap(), Some(Format::Hfs), &mut back).unwrap();
    let session = back.sessions.pop().unwrap();
    assert_eq!(session.report.dropped, 0, "{:?}", session.report);
    let attached = session.into_document(Timestamp::UNIX_EPOCH).attachments.remove(0);
    let text = String::from_utf8(attached.bytes).unwrap();
    assert!(text.starts_with("export GITHUB_TOKEN=[redacted: ") && !text.contains(&github()), "{text}");

    let unmasked = RedactedSource::new(&document, Redaction::Count);
    assert_eq!(exports(&unmasked), exports(&document));
    assert_eq!(unmasked.report(), redacted.report());
}
