//! Redaction masks the secrets that the rules find, and changes nothing else.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "a table's test prints recall and precision")]

use hfs_core::{Attachment, ContentHash, Part, Timestamp};
use hfs_exchange::{
    BranchSelection, Collector, DocumentSource, ExportMetadata, Format, PageOptions, RedactedSource,
    Redaction, Source, Unexamined, read, write_html, write_json, write_markdown,
};
use serde_json::{Value, json};
use testkit::secret_table::{self, Row, uncommon};

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

/// Exports the rows of a table and measures what was masked.
fn check_table(table: &str, secrets: &[Row], lookalikes: &[Row]) {
    let export = |rows: &[Row]| {
        let document = transcript(&rows.iter().map(|row| row.text.as_str()).collect::<Vec<_>>());
        exports(&RedactedSource::new(&document, Redaction::Mask)).remove(0)
    };
    let exported = export(secrets);
    let is_missed = |row: &&Row| {
        let secret = row.secret.as_deref().unwrap();
        [secret.to_owned()].iter().chain(&encoded(secret)).any(|secret| exported.contains(secret))
    };
    let missed: Vec<&str> = secrets.iter().filter(is_missed).map(|row| row.kind.as_str()).collect();
    let exported = export(lookalikes);
    let is_masked =
        |row: &&Row| !exported.contains(&encoded(&row.text)[0]) && !exported.contains(&encoded(&row.text)[1]);
    let masked: Vec<&str> = lookalikes.iter().filter(is_masked).map(|row| row.kind.as_str()).collect();

    let found = secrets.len() - missed.len();
    let recall = found as f64 / secrets.len() as f64;
    let precision = found as f64 / (found + masked.len()) as f64;
    println!(
        "{table}, seed {}: recall {recall:.3} of {} secrets, precision {precision:.3} with {} lookalikes",
        table_seed(),
        secrets.len(),
        lookalikes.len()
    );
    println!("missed: {missed:?}\nwrongly masked: {masked:?}");
    assert!(recall >= 0.98 && precision >= 0.98, "{table}: recall {recall:.3}, precision {precision:.3}");
}

#[test]
fn nearly_all_generated_secrets_are_masked_and_nearly_no_lookalikes() {
    const ROWS: usize = 200;
    let seed = table_seed();
    check_table("common", &secret_table::secrets(seed, ROWS), &secret_table::lookalikes(seed, ROWS));
}

#[test]
fn nearly_all_uncommon_secrets_are_masked_and_nearly_no_lookalikes() {
    const ROWS: usize = 200;
    let seed = table_seed();
    check_table("uncommon", &uncommon::secrets(seed, ROWS), &uncommon::lookalikes(seed, ROWS));
}

#[test]
fn the_text_beside_a_secret_is_unchanged() {
    let tables = [secret_table::secrets(table_seed(), 400), uncommon::secrets(table_seed(), 400)];
    for row in tables.into_iter().flatten() {
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

/// Imports an exported document again.
fn imported(json: &str) -> hfs_core::SessionDocument {
    let mut back = Collector::default();
    read(&Source::stream(json.as_bytes()).unwrap(), Some(Format::Hfs), &mut back).unwrap();
    let session = back.sessions.pop().unwrap();
    assert_eq!(session.report.dropped, 0, "{:?}", session.report);
    session.into_document(Timestamp::UNIX_EPOCH)
}

/// A token of its own for each place.
fn token(number: usize) -> String {
    format!("{}{number:02}", github().replace("iO", ""))
}

fn attach(document: &mut hfs_core::SessionDocument, media_type: &str, bytes: Vec<u8>) {
    let hash = ContentHash::from_bytes(*blake3::hash(&bytes).as_bytes());
    document.branches[0].messages[0].content.parts.push(Part::Attachment {
        media_type: media_type.into(),
        name: None,
        hash: Some(hash),
        bytes: bytes.len() as u64,
    });
    document.attachments.push(Attachment { hash, bytes });
}

#[test]
fn secrets_are_masked_and_counted_wherever_a_session_has_text() {
    let mut document = document();
    let before = {
        let unmasked = RedactedSource::new(&document, Redaction::Count);
        exports(&unmasked);
        unmasked.report().total
    };
    let nested =
        json!({"outer": json!({"inner": json!({"password": "Kestrel-7781"}).to_string()}).to_string()});
    document.session.name = format!("Push with {}", token(1));
    document.session.extra.as_map_mut().insert("note".into(), token(2).into());
    document.branches[0].branch.name = token(3);
    let content = &mut document.branches[0].messages[0].content;
    content.agent = Some(token(4));
    content.model = Some(token(5));
    content
        .extra
        .as_map_mut()
        .insert(token(6), json!({"env": [{"name": "DB_PASSWORD", "value": "Kestrel-7782"}]}));
    content.parts.push(Part::ToolCall {
        id: token(7),
        name: token(8),
        input: json!({"headers": {"Authorization": "Bearer kQ3vW8xZ1nM5pL7tR2yB"}, "password": 99_887_766, "body": nested}),
    });
    content.parts.push(Part::ToolResult { id: token(7), output: token(9), is_error: false });
    content.parts.push(Part::Opaque { source: "other".into(), raw: json!({"deep": [[{"x": token(10)}]]}) });
    content.parts.push(Part::Attachment {
        media_type: "text/plain".into(),
        name: Some(format!("{}.txt", token(11))),
        hash: None,
        bytes: 0,
    });
    let utf16 =
        |text: &str| [0xff, 0xfe].into_iter().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    attach(&mut document, "", utf16(&format!("token: {}", token(12))));
    attach(&mut document, "text/plain", [b"caf\xe9 ", token(13).as_bytes()].concat());
    attach(&mut document, "application/json", json!({"k": token(14)}).to_string().into_bytes());

    let redacted = RedactedSource::new(&document, Redaction::Mask);
    let json = exports(&redacted).remove(0);
    for secret in (1..15)
        .map(token)
        .chain(["Kestrel-7781", "Kestrel-7782", "kQ3vW8xZ1nM5pL7tR2yB", "99887766"].map(str::to_owned))
    {
        assert!(!json.contains(&secret), "{secret} in {json}");
    }
    let report = redacted.report();
    // The id of the call occurs twice.
    assert_eq!(report.total, before + 14 + 1 + 4, "{report:?}");
    assert!(!format!("{report:?}").contains("Zq8vT2mN4"), "{report:?}");
    let unmasked = RedactedSource::new(&document, Redaction::Count);
    exports(&unmasked);
    assert_eq!(unmasked.report().total, report.total);

    let attachments = imported(&json).attachments;
    let texts: Vec<String> =
        attachments.iter().map(|a| String::from_utf8_lossy(&a.bytes).into_owned()).collect();
    assert_eq!(attachments.len(), 3, "{texts:?}");
    assert!(texts.iter().any(|text| text == r#"{"k":"[redacted: GitHub token]"}"#), "{texts:?}");
    let latin = [b"caf\xe9 ".as_slice(), b"[redacted: GitHub token]"].concat();
    assert!(attachments.iter().any(|attachment| attachment.bytes == latin), "{texts:?}");
}

#[test]
fn names_that_become_equal_by_masking_stay_distinct() {
    let mut document = document();
    let mut second = document.branches[0].clone();
    second.branch.id = hfs_core::BranchId::generate();
    second.branch.parent = Some(document.branches[0].branch.id);
    (second.branch.forked_at, second.branch.head) = (1, 1);
    second.messages.clear();
    second.branch.name = token(2);
    document.branches[0].branch.name = token(1);
    document.branches.push(second);
    let fields = document.branches[0].messages[0].content.extra.as_map_mut();
    fields.insert(token(1), 1.into());
    fields.insert(token(2), 2.into());

    let redacted = RedactedSource::new(&document, Redaction::Mask);
    let back = imported(&exports(&redacted).remove(0));
    let names: Vec<&str> = back.branches.iter().map(|branch| branch.branch.name.as_str()).collect();
    assert_eq!(names, ["[redacted: GitHub token]", "[redacted: GitHub token] (2)"]);
    let fields = back.branches[0].messages[0].content.extra.as_map();
    assert_eq!(
        (&fields["[redacted: GitHub token]"], &fields["[redacted: GitHub token] (2)"]),
        (&json!(1), &json!(2))
    );
}

#[test]
fn what_cannot_be_examined_is_reported_and_left_out_of_a_strict_export() {
    let mut document = document();
    attach(&mut document, "image/png", b"\x89PNG\r\n\x1a\n\0\0picture".to_vec());
    let message = &mut document.branches[0].messages[0];
    message.content.parts.push(Part::Thinking { text: "hm".into(), signature: Some("EqQB".repeat(50)) });
    let picture: Vec<u8> = (0..1200_u32).map(|n| u8::try_from(n * 7919 % 251).unwrap()).collect();
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, picture);
    message
        .content
        .extra
        .as_map_mut()
        .insert("image".into(), format!("data:image/png;base64,{encoded}").into());

    let kinds = [(Unexamined::Picture, 2), (Unexamined::EncryptedReasoning, 1)].into();
    let masked = RedactedSource::new(&document, Redaction::Mask);
    let json = exports(&masked).remove(0);
    assert_eq!(masked.report().unexamined, kinds);
    assert!(json.contains(&encoded) && json.contains("EqQBEqQB"));
    assert_eq!(imported(&json).attachments.len(), 1);

    let strict = RedactedSource::new(&document, Redaction::Strict);
    let json = exports(&strict).remove(0);
    assert_eq!(strict.report().unexamined, kinds);
    assert!(!json.contains(&encoded) && !json.contains("EqQBEqQB"), "{json}");
    assert!(imported(&json).attachments.is_empty());
    assert_eq!(strict.report().total, masked.report().total);
}

#[test]
fn base64_of_a_text_with_a_secret_is_masked() {
    let mut document = document();
    let text = format!("{}\nDB_PASSWORD=Kestrel-7781\n", "# settings of the service\n".repeat(40));
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text);
    let fields = document.branches[0].messages[0].content.extra.as_map_mut();
    fields.insert("file".into(), format!("data:text/plain;base64,{encoded}").into());
    let redacted = RedactedSource::new(&document, Redaction::Mask);
    assert!(!exports(&redacted).remove(0).contains(&encoded));
}

#[test]
fn nested_fields_are_searched() {
    let mut document = document();
    let deep = format!("{{\"a\":{}\"{}\"{}}}", "[".repeat(400), token(1), "]".repeat(400));
    document.branches[0].messages[0].content.extra = hfs_core::PassthroughFields::from_json(deep);
    let redacted = RedactedSource::new(&document, Redaction::Count);
    redacted.messages(document.branches[0].branch.id, 0, 1).unwrap();
    assert!(redacted.report().total >= 2);
}

#[test]
fn a_pdf_with_a_secret_is_counted_and_left_out() {
    let pdf = |text: &str| {
        let content = format!("BT /F1 12 Tf ({text}) Tj ET");
        format!("%PDF-1.4\n1 0 obj\n<</Length {}>>\nstream\n{content}\nendstream\nendobj\n", content.len())
            .into_bytes()
    };
    let mut document = document();
    attach(&mut document, "application/pdf", pdf("the report"));
    let unmasked = RedactedSource::new(&document, Redaction::Strict);
    assert_eq!(imported(&exports(&unmasked).remove(0)).attachments.len(), 1);
    let before = unmasked.report();
    assert_eq!((before.left_out, before.unexamined.len()), (0, 0));

    attach(&mut document, "application/pdf", pdf(&format!("token: {}", token(1))));
    let masked = RedactedSource::new(&document, Redaction::Mask);
    let json = exports(&masked).remove(0);
    assert_eq!((masked.report().total, masked.report().left_out), (before.total + 1, 1));
    assert_eq!(imported(&json).attachments.len(), 1);
}
