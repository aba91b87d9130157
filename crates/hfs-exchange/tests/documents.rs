//! Documents round-trip without loss, and documents of every past version can be imported.
//!
//! The golden files of past versions never change. The file of the current version changes only with its
//! schema.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hfs_core::{
    Attachment, Branch, BranchId, Checkpoint, CheckpointId, CheckpointState, ContentHash, DocumentBranch,
    Event, EventPayload, Message, MessageDraft, MessageId, MessageStatus, Origin, Part, PluginStates,
    Project, Role, Run, RunEnding, RunId, RunSnapshot, Session, SessionDocument, SessionId, StateCost,
    Timestamp, Trigger, Usage,
};
use hfs_exchange::{
    BranchSelection, CollectedSession, Collector, DocumentSource, ExportMetadata, Format, PageOptions,
    Source, TRANSCRIPT_FORMATS, TranscriptOptions, document_schema, read, write_html, write_json,
    write_markdown, write_transcript,
};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use uuid::Uuid;

#[path = "support/samples.rs"]
mod support;

fn metadata() -> ExportMetadata<'static> {
    ExportMetadata { exported_at: Timestamp::UNIX_EPOCH, hfs_version: "0.0.0" }
}

fn export(document: &SessionDocument) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_json(document, metadata(), &mut bytes).unwrap();
    bytes
}

fn import(bytes: &[u8]) -> SessionDocument {
    let mut collector = Collector::default();
    read(&Source::stream(bytes).unwrap(), None, &mut collector).unwrap();
    let session = collector.sessions.pop().unwrap();
    assert_eq!(session.report.dropped, 0, "{:?}", session.report);
    session.into_document(Timestamp::UNIX_EPOCH)
}

fn uuid() -> impl Strategy<Value = Uuid> {
    any::<u128>().prop_map(Uuid::from_u128)
}

fn time() -> impl Strategy<Value = Timestamp> {
    (0..4_000_000_000_000_000_i64).prop_map(|micros| Timestamp::from_micros(micros).unwrap())
}

fn words() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z \n#`<>\"\\\\]{0,20}", any::<String>()]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::from),
        (-1.0e9..1.0e9_f64).prop_map(Value::from),
        words().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((words(), inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn extra() -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::vec((words(), value()), 0..3).prop_map(|fields| fields.into_iter().collect())
}

fn part(attachments: Vec<Attachment>) -> impl Strategy<Value = Part> {
    prop_oneof![
        words().prop_map(|text| Part::Text { text }),
        (words(), prop::option::of(words())).prop_map(|(text, signature)| Part::Thinking { text, signature }),
        (words(), words(), value()).prop_map(|(id, name, input)| Part::ToolCall { id, name, input }),
        (words(), words(), any::<bool>()).prop_map(|(id, output, is_error)| Part::ToolResult {
            id,
            output,
            is_error
        }),
        (words(), prop::option::of(words()), prop::option::of(prop::sample::select(attachments))).prop_map(
            |(media_type, name, attachment)| Part::Attachment {
                media_type,
                name,
                bytes: attachment.as_ref().map_or(0, |attachment| attachment.bytes.len() as u64),
                hash: attachment.map(|attachment| attachment.hash),
            }
        ),
        (words(), value()).prop_map(|(source, raw)| Part::Opaque { source, raw }),
    ]
}

fn message(attachments: Vec<Attachment>) -> impl Strategy<Value = MessageDraft> {
    (
        (uuid(), prop::sample::select(Role::ALL.to_vec()), any::<bool>(), time()),
        prop::collection::vec(part(attachments), 0..4),
        (prop::option::of(words()), prop::option::of(words())),
        prop::option::of((any::<u32>(), any::<u32>())),
        prop::option::of((words(), words())),
        extra(),
    )
        .prop_map(|((id, role, complete, created_at), parts, (agent, model), usage, source, extra)| {
            MessageDraft {
                id: MessageId::from_uuid(id),
                role,
                status: if complete { MessageStatus::Complete } else { MessageStatus::Interrupted },
                parts,
                agent,
                model,
                usage: usage.map(|(prompt, completion)| {
                    let usage = Usage::new(prompt.into(), completion.into());
                    // Half of the messages say something about the cache.
                    if prompt % 2 == 0 {
                        usage
                    } else {
                        usage.with_cache(Some(u64::from(prompt) / 2), Some(1))
                    }
                }),
                created_at,
                source: source.map(|(format, id)| hfs_core::Source { format, id }),
                extra: extra.into(),
            }
        })
}

fn attachments() -> impl Strategy<Value = Vec<Attachment>> {
    prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 1..4).prop_map(|all| {
        all.into_iter()
            .map(|bytes| Attachment {
                hash: ContentHash::from_bytes(*blake3::hash(&bytes).as_bytes()),
                bytes,
            })
            .collect()
    })
}

/// Generates branches that fork from each other, with random contents.
fn document() -> impl Strategy<Value = SessionDocument> {
    attachments().prop_flat_map(|attachments| {
        let branch = prop::collection::vec(message(attachments.clone()), 0..5);
        (
            Just(attachments),
            prop::collection::vec((branch, any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..4),
            (uuid(), words(), any::<bool>(), time(), time(), extra()),
            any::<prop::sample::Index>(),
            prop::collection::vec((uuid(), time(), prop::option::of(words()), any::<bool>(), value()), 0..3),
            prop::option::of((words(), words())),
        )
            .prop_map(|(attachments, branches, session, current, checkpoints, origin)| {
                build(attachments, branches, session, current, checkpoints, origin)
            })
    })
}

/// Messages, and the random choices of a parent branch and of the parent's message to fork after.
type BranchSpec = (Vec<MessageDraft>, prop::sample::Index, prop::sample::Index);
type SessionSpec = (Uuid, String, bool, Timestamp, Timestamp, Map<String, Value>);
type CheckpointSpec = (Uuid, Timestamp, Option<String>, bool, Value);

fn build(
    mut attachments: Vec<Attachment>,
    specs: Vec<BranchSpec>,
    (id, name, automatic_name, created_at, updated_at, extra): SessionSpec,
    current: prop::sample::Index,
    checkpoints: Vec<CheckpointSpec>,
    origin: Option<(String, String)>,
) -> SessionDocument {
    let session = SessionId::from_uuid(id);
    let mut branches: Vec<DocumentBranch> = Vec::new();
    for (number, (messages, parent_index, fork_index)) in specs.into_iter().enumerate() {
        let id = BranchId::from_uuid(Uuid::from_u128(id.as_u128().wrapping_add(number as u128 + 1)));
        let parent = (number > 0).then(|| branches[parent_index.index(number)].branch.clone());
        let forked_at = parent
            .as_ref()
            .map_or(0, |parent| fork_index.index(usize::try_from(parent.head).unwrap() + 1) as u64);
        let messages: Vec<Message> = messages
            .into_iter()
            .zip(forked_at + 1..)
            .map(|(content, seq)| Message { branch: id, seq, content })
            .collect();
        let branch = Branch {
            id,
            session,
            name: format!("branch {number}"),
            parent: parent.map(|parent| parent.id),
            forked_at,
            head: forked_at + messages.len() as u64,
            created_at: Timestamp::UNIX_EPOCH,
            undone: false,
        };
        branches.push(DocumentBranch { branch, messages });
    }
    let used: Vec<ContentHash> = branches
        .iter()
        .flat_map(|branch| &branch.messages)
        .flat_map(|message| &message.content.parts)
        .filter_map(|part| if let Part::Attachment { hash, .. } = part { *hash } else { None })
        .collect();
    attachments.retain(|attachment| used.contains(&attachment.hash));
    let main = branches[0].branch.clone();
    // One run for each checkpoint, with the same UUID and time.
    let runs = checkpoints.iter().map(|(id, at, ..)| run(RunId::from_uuid(*id), main.id, *at)).collect();
    let checkpoints = (1..)
        .zip(checkpoints)
        .map(|(number, (id, created_at, label, pinned, state))| {
            let checkpoint = Checkpoint {
                id: CheckpointId::from_uuid(id),
                session,
                number,
                branch: main.id,
                seq: main.head,
                trigger: Trigger::Manual,
                label,
                pinned,
                created_at,
                state_hash: ContentHash::from_bytes([0; 32]),
                cost: StateCost::default(),
            };
            let plugins = PluginStates::from([("notes".to_owned(), state)]);
            (checkpoint, CheckpointState { plugins, ..CheckpointState::default() })
        })
        .collect();
    let current_branch = branches[current.index(branches.len())].branch.id;
    SessionDocument {
        session: Session {
            id: session,
            // Not empty: an import replaces an empty name.
            name: format!("s{name}"),
            automatic_name,
            // Also depends on the random flag, so that sessions with and without a project are tested.
            project: automatic_name.then_some(Project { directory: name, repository: None }),
            created_at,
            updated_at,
            current_branch,
            origin: origin.map(|(format, id)| Origin { format, id, path: None }),
            trashed_at: None,
            extra: extra.into(),
        },
        branches,
        runs,
        checkpoints,
        attachments,
    }
}

fn run(id: RunId, branch: BranchId, at: Timestamp) -> Run {
    let payloads = [
        EventPayload::RunStarted { agent: "a".into(), answers: None },
        serde_json::from_value(json!({"type": "from.later", "x": [1, {"y": null}]})).unwrap(),
        EventPayload::RunEnded { duration_ms: 3, ending: RunEnding::Completed },
    ];
    let events: Vec<Event> = payloads
        .into_iter()
        .zip(1..)
        .map(|(payload, number)| Event { run: id, number, at, payload })
        .collect();
    let mut snapshot = RunSnapshot::default();
    events.iter().for_each(|event| snapshot.apply(&Arc::new(event.clone())));
    Run { id, branch, answers: None, started_at: at, ended_at: Some(at), snapshot, events }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_session_round_trips_and_a_second_export_is_identical(document in document()) {
        let first = export(&document);
        let back = import(&first);
        prop_assert_eq!(&back.runs, &document.runs);
        prop_assert_eq!(back.checkpoints.len(), document.checkpoints.len());
        let mut hashes: Vec<ContentHash> = document.attachments.iter().map(|a| a.hash).collect();
        hashes.sort_unstable();
        hashes.dedup();
        prop_assert_eq!(back.attachments.iter().map(|a| a.hash).collect::<Vec<_>>(), hashes);
        for (imported, original) in back.branches.iter().zip(&document.branches) {
            prop_assert_eq!(&imported.messages, &original.messages);
        }
        prop_assert_eq!(String::from_utf8(export(&back)).unwrap(), String::from_utf8(first).unwrap());
    }
}

#[test]
fn every_sample_round_trips_through_a_document() {
    let Some(folder) = support::samples() else { return };
    let text = std::fs::read_to_string(folder.join("expected.json")).unwrap();
    let table: Value = serde_json::from_str(&text).unwrap();
    for (name, expected) in table["files"].as_object().unwrap() {
        let Ok(format) = expected["format"].as_str().unwrap().parse::<Format>() else { continue };
        let mut collector = Collector::default();
        read(&Source::file(folder.join(name)), Some(format), &mut collector).unwrap();
        for session in collector.sessions.into_iter().take(20) {
            let first = export(&session.into_document(Timestamp::UNIX_EPOCH));
            let second = export(&import(&first));
            assert!(first == second, "{name} changed in a round trip");
        }
    }
}

#[test]
fn the_schema_in_the_repository_matches_the_wire_types() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/document-2.0.0.json");
    let current = serde_json::to_string_pretty(&document_schema()).unwrap() + "\n";
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(&path, &current).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == current, "run this test with UPDATE_SCHEMA=1 and commit {}", path.display());
}

#[test]
fn a_newer_document_is_rejected_and_the_error_names_both_versions() {
    let text = json!({"metadata": {"schema_version": "3.1.0"}, "session": {}}).to_string();
    let error = read(&Source::stream(text.as_bytes()).unwrap(), None, &mut Collector::default()).unwrap_err();
    let message = error.to_string();
    assert!(message.contains("3.1") && message.contains("2.0.0"), "{message}");
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn import_golden(name: &str) -> CollectedSession {
    let mut collector = Collector::default();
    read(&Source::file(golden(name)), None, &mut collector).unwrap();
    assert_eq!(collector.sessions.len(), 1, "{name}");
    let session = collector.sessions.pop().unwrap();
    assert_eq!(session.report.dropped, 0, "{name}: {:?}", session.report);
    session
}

fn sample_session() -> SessionDocument {
    import_golden("2.0.0.json").into_document(Timestamp::UNIX_EPOCH)
}

fn options() -> PageOptions<'static> {
    let metadata =
        ExportMetadata { exported_at: "2026-02-02T08:00:00Z".parse().unwrap(), hfs_version: "0.1.0" };
    PageOptions { metadata, branches: BranchSelection::All }
}

#[test]
fn the_document_of_the_current_version_round_trips_byte_for_byte() {
    let mut bytes = Vec::new();
    write_json(&sample_session(), options().metadata, &mut bytes).unwrap();
    let written = String::from_utf8(bytes).unwrap();
    let expected = std::fs::read_to_string(golden("2.0.0.json")).unwrap();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(golden("2.0.0.json"), &written).unwrap();
    }
    assert_eq!(written, expected, "after a change of the current version, run with UPDATE_GOLDEN=1");
}

#[test]
fn the_ancestors_of_a_listed_branch_are_exported() {
    let mut document = sample_session();
    let first = document.branches[0].branch.clone();
    let mut add = |number: u128, parent: &Branch, undone: bool| {
        let branch = Branch {
            id: BranchId::from_uuid(Uuid::from_u128(number)),
            name: format!("branch {number}"),
            parent: Some(parent.id),
            forked_at: parent.head,
            head: parent.head,
            undone,
            ..first.clone()
        };
        document.branches.push(DocumentBranch { branch: branch.clone(), messages: Vec::new() });
        branch
    };
    let undone = add(1, &first, true);
    let fork = add(2, &undone, false);
    let unused = add(3, &first, true);
    let exported: Vec<BranchId> = document.branches().unwrap().into_iter().map(|branch| branch.id).collect();
    assert!(exported.ends_with(&[undone.id, fork.id]), "{exported:?}");
    assert!(!exported.contains(&unused.id));
}

#[test]
fn documents_of_every_past_version_are_imported_completely() {
    for (name, title, checkpoints, runs) in
        [("none.json", None, 0, 0), ("1.0.0.json", Some("Fix login bug"), 1, 1)]
    {
        let session = import_golden(name);
        assert_eq!(session.session.title.as_deref(), title, "{name}");
        assert_eq!(session.checkpoints.len(), checkpoints, "{name}");
        assert_eq!(session.runs.len(), runs, "{name}");
        let roles: Vec<Role> = session.messages().map(|message| message.role).collect();
        assert_eq!(roles, [Role::User, Role::Assistant], "{name}");
    }
}

#[test]
fn sample_session_as_markdown() {
    let mut bytes = Vec::new();
    write_markdown(&sample_session(), options(), &mut bytes).unwrap();
    insta::assert_snapshot!(String::from_utf8(bytes).unwrap());
}

#[test]
fn sample_session_as_html() {
    let mut bytes = Vec::new();
    write_html(&sample_session(), options(), &mut bytes).unwrap();
    let page = String::from_utf8(bytes).unwrap();
    // The style sheet is not part of the snapshot.
    let (head, rest) = page.split_once("<style>").unwrap();
    let (_, rest) = rest.split_once("</style>").unwrap();
    insta::assert_snapshot!(format!("{head}<style></style>{rest}"));
}

#[test]
fn sample_session_as_transcripts_of_other_tools() {
    for format in TRANSCRIPT_FORMATS {
        let mut bytes = Vec::new();
        write_transcript(&sample_session(), format, TranscriptOptions::default(), &mut bytes).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        insta::assert_snapshot!(format!("sample_session_as_{format}"), text);
        let mut back = Collector::default();
        read(&Source::stream(text.as_bytes()).unwrap(), None, &mut back).unwrap();
        let session = back.sessions.pop().unwrap();
        assert_eq!(session.session.origin.format, format.as_str(), "the format is detected");
        assert_eq!(session.report.dropped, 0, "{format}: {:?}", session.report);
    }
}

#[test]
fn the_beginning_of_a_truncated_document_is_imported() {
    for (name, total) in [("none.json", 2), ("1.0.0.json", 2), ("2.0.0.json", 11)] {
        let text = std::fs::read_to_string(golden(name)).unwrap();
        let mut previous = 0;
        for cut in (1..text.len() - 1).filter(|cut| text.is_char_boundary(*cut)).step_by(3) {
            let (beginning, _) = text.split_at(cut);
            let mut collector = Collector::default();
            let result =
                read(&Source::stream(beginning.as_bytes()).unwrap(), Some(Format::Hfs), &mut collector);
            let Some(session) = collector.sessions.pop() else {
                assert!(result.is_err(), "{name} cut at {cut}");
                continue;
            };
            let report = &session.report;
            assert_eq!(report.mapped + report.opaque + report.dropped, report.records, "{report:?}");
            assert!(report.dropped > 0, "{name} cut at {cut}: the damage is not reported");
            let messages = session.messages().count();
            // Messages precede runs in the document, so a longer beginning has at least as many messages.
            assert!(messages >= previous, "{name} cut at {cut}: {messages} messages after {previous}");
            previous = messages;
        }
        assert_eq!(previous, total, "{name}");
    }
}
