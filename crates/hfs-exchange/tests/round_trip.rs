//! What leaves as a document comes back the same.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a failed expectation is a test's own way of speaking"
)]

use std::collections::BTreeMap;
use std::sync::Arc;

use hfs_core::{
    Attachment, Branch, BranchId, Checkpoint, CheckpointId, CheckpointState, ContentHash, DocumentBranch,
    Event, EventPayload, Message, MessageDraft, MessageId, MessageStatus, Origin, Part, Project, Role, Run,
    RunEnding, RunId, RunSnapshot, Session, SessionDocument, SessionId, StateCost, Timestamp, Usage,
};
use hfs_exchange::{Collector, Format, Source, Stamp, document_schema, read, write_json};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use uuid::Uuid;

#[path = "support/samples.rs"]
mod support;

fn stamp() -> Stamp<'static> {
    Stamp { exported_at: Timestamp::UNIX_EPOCH, hfs_version: "0.0.0" }
}

fn export(document: &SessionDocument) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_json(document, stamp(), &mut bytes).unwrap();
    bytes
}

fn import(bytes: &[u8]) -> SessionDocument {
    let mut sink = Collector::default();
    read(&Source::stream(bytes).unwrap(), None, &mut sink).unwrap();
    let session = sink.sessions.pop().unwrap();
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
        .prop_map(|((id, role, whole, created_at), parts, (agent, model), usage, source, extra)| {
            MessageDraft {
                id: MessageId::from_uuid(id),
                role,
                status: if whole { MessageStatus::Complete } else { MessageStatus::Interrupted },
                parts,
                agent,
                model,
                usage: usage.map(|(prompt, completion)| Usage {
                    prompt_tokens: prompt.into(),
                    completion_tokens: completion.into(),
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

/// Branch sizes, where each leaves which other, and everything in them.
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
            .prop_map(|(attachments, branches, session, current, marks, origin)| {
                build(attachments, branches, session, current, marks, origin)
            })
    })
}

type BranchPlan = (Vec<MessageDraft>, prop::sample::Index, prop::sample::Index);
type SessionPlan = (Uuid, String, bool, Timestamp, Timestamp, Map<String, Value>);
type Mark = (Uuid, Timestamp, Option<String>, bool, Value);

fn build(
    mut attachments: Vec<Attachment>,
    plans: Vec<BranchPlan>,
    (id, name, automatic_name, created_at, updated_at, extra): SessionPlan,
    current: prop::sample::Index,
    marks: Vec<Mark>,
    origin: Option<(String, String)>,
) -> SessionDocument {
    let session = SessionId::from_uuid(id);
    let mut branches: Vec<DocumentBranch> = Vec::new();
    for (number, (messages, parent, at)) in plans.into_iter().enumerate() {
        let id = BranchId::from_uuid(Uuid::from_u128(id.as_u128().wrapping_add(number as u128 + 1)));
        let above = (number > 0).then(|| branches[parent.index(number)].branch.clone());
        let forked_at =
            above.as_ref().map_or(0, |above| at.index(usize::try_from(above.head).unwrap() + 1) as u64);
        let messages: Vec<Message> = messages
            .into_iter()
            .zip(forked_at + 1..)
            .map(|(content, seq)| Message { branch: id, seq, content })
            .collect();
        let branch = Branch {
            id,
            session,
            name: format!("branch {number}"),
            parent: above.map(|above| above.id),
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
    let runs = marks.iter().map(|(id, at, ..)| run(RunId::from_uuid(*id), main.id, *at)).collect();
    let checkpoints = marks
        .into_iter()
        .map(|(id, created_at, label, pinned, state)| {
            let checkpoint = Checkpoint {
                id: CheckpointId::from_uuid(id),
                session,
                branch: main.id,
                seq: main.head,
                trigger: "manual".into(),
                label,
                pinned,
                created_at,
                state_hash: ContentHash::from_bytes([0; 32]),
                cost: StateCost::default(),
            };
            let plugins = BTreeMap::from([("notes".to_owned(), state)]);
            (checkpoint, CheckpointState { plugins, ..CheckpointState::default() })
        })
        .collect();
    let current_branch = branches[current.index(branches.len())].branch.id;
    SessionDocument {
        session: Session {
            id: session,
            name: format!("s{name}"),
            automatic_name,
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
    fn a_session_comes_back_whole_and_is_written_as_the_same_bytes(document in document()) {
        let first = export(&document);
        let back = import(&first);
        prop_assert_eq!(&back.runs, &document.runs);
        prop_assert_eq!(back.checkpoints.len(), document.checkpoints.len());
        let mut hashes: Vec<ContentHash> = document.attachments.iter().map(|a| a.hash).collect();
        hashes.sort_unstable();
        hashes.dedup();
        prop_assert_eq!(back.attachments.iter().map(|a| a.hash).collect::<Vec<_>>(), hashes);
        for (back, document) in back.branches.iter().zip(&document.branches) {
            prop_assert_eq!(&back.messages, &document.messages);
        }
        prop_assert_eq!(String::from_utf8(export(&back)).unwrap(), String::from_utf8(first).unwrap());
    }
}

#[test]
fn every_sample_survives_our_document_unchanged() {
    let Some(folder) = support::samples() else { return };
    let text = std::fs::read_to_string(folder.join("expected.json")).unwrap();
    let table: Value = serde_json::from_str(&text).unwrap();
    for (name, expected) in table["files"].as_object().unwrap() {
        let Ok(format) = expected["format"].as_str().unwrap().parse::<Format>() else { continue };
        let mut sink = Collector::default();
        read(&Source::file(folder.join(name)), Some(format), &mut sink).unwrap();
        for session in sink.sessions.into_iter().take(20) {
            let first = export(&session.into_document(Timestamp::UNIX_EPOCH));
            let second = export(&import(&first));
            assert!(first == second, "{name} changed on its way");
        }
    }
}

#[test]
fn the_schema_in_the_repository_is_the_one_of_the_wire_types() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/document-2.0.0.json");
    let current = serde_json::to_string_pretty(&document_schema()).unwrap() + "\n";
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(&path, &current).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == current, "run this test with UPDATE_SCHEMA=1 and commit {}", path.display());
}

#[test]
fn a_newer_document_is_refused_with_both_versions() {
    let text = json!({"metadata": {"schema_version": "3.1.0"}, "session": {}}).to_string();
    let error = read(&Source::stream(text.as_bytes()).unwrap(), None, &mut Collector::default()).unwrap_err();
    let told = error.to_string();
    assert!(told.contains("3.1") && told.contains("2.0.0"), "{told}");
}
