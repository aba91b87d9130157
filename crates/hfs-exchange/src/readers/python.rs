//! The sessions.db of the Python implementation that preceded hfs.

use hfs_core::{
    BranchId, CheckpointDraft, CheckpointId, CheckpointState, ForeignSession, ImportError, ImportEvent,
    MAIN_BRANCH, MessageDraft, Origin, Part, Role, RunSnapshot, Timestamp,
};
use serde_json::Value;

use super::conversation::ImportedMessage;
use crate::database::{Database, DatabaseRow, text_column};
use crate::detect::FormatProbe;
use crate::json::parse;
use crate::readers::{Output, ReportBuilder};
use crate::{Format, Source};

const NAME: &str = "hfs-python";

pub(crate) struct Python;

impl super::Reader for Python {
    fn format(&self) -> Format {
        Format::Python
    }

    fn probe(&self, probe: &FormatProbe) -> bool {
        probe.has_tables(&["sessions", "messages", "checkpoints"]) && probe.has_column("trigger_event")
    }

    fn read(&self, source: &Source, out: &mut Output<'_>) -> Result<(), ImportError> {
        let database = Database::open(source)?;
        let mut sessions = Vec::new();
        database.rows("select * from sessions order by id", &[], &mut |row| {
            sessions.push(row);
            Ok(())
        })?;
        for row in sessions {
            out.progress(0)?;
            read_session(source, &database, &row, out)?;
        }
        Ok(())
    }
}

/// An id that is the same each time the source is imported.
fn derived_id(names: &[&str]) -> uuid::Uuid {
    let hash = blake3::hash(names.join("\n").as_bytes());
    let bytes = hash.as_bytes().first_chunk().copied().unwrap_or_default();
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

fn time(row: &DatabaseRow, name: &str) -> Option<Timestamp> {
    row.fields.get(name).and_then(crate::time::from_json)
}

fn read_session(
    source: &Source,
    database: &Database,
    row: &DatabaseRow,
    out: &mut Output<'_>,
) -> Result<(), ImportError> {
    let id = row.fields.get("id").map(Value::to_string).unwrap_or_default();
    let created_at = time(row, "created_at");
    let path = source.path().map(|path| path.display().to_string());
    // Row ids are unique only within one database; the creation time distinguishes databases.
    let origin = format!("{id}/{}", created_at.map_or_else(String::new, |at| at.to_string()));
    let mut foreign = ForeignSession::new(Origin { format: NAME.into(), id: origin, path });
    foreign.title = Some(text_column(row, "name")).filter(|name| !name.is_empty());
    foreign.created_at = created_at;
    foreign.updated_at = time(row, "updated_at").or(created_at);
    // A checkpoint refers to its branch by id, so the reader has to choose the id.
    let branch = BranchId::from_uuid(derived_id(&[&foreign.origin.id, "branch"]));
    foreign.main_branch = Some((branch, MAIN_BRANCH.into()));
    let origin_id = foreign.origin.id.clone();
    if !out.session(foreign)? {
        return Ok(());
    }
    let mut report = ReportBuilder::default();
    let mut times = Vec::new();
    let sql = "select * from messages where session_id = cast(?1 as integer) order by id";
    database.rows(sql, &[&id], &mut |row| {
        report.mapped();
        let at = time(&row, "created_at").or(times.last().copied()).unwrap_or(Timestamp::UNKNOWN);
        times.push(at);
        let name = text_column(&row, "role");
        let role = name.parse::<Role>();
        let parts = vec![Part::Text { text: text_column(&row, "content") }];
        let id = row.fields.get("id").map(Value::to_string).unwrap_or_default();
        // Any other name is that of an agent.
        let agent = role.is_err().then_some(name);
        let message = ImportedMessage::new(NAME, id, role.unwrap_or(Role::Assistant), parts, at);
        out.message(0, MessageDraft { agent, ..message.draft }, None)
    })?;
    let sql = "select * from checkpoints where session_id = cast(?1 as integer) order by id";
    database.rows(sql, &[&id], &mut |row| {
        report.mapped();
        let row_id = row.fields.get("id").map(Value::to_string).unwrap_or_default();
        let created_at = time(&row, "created_at").unwrap_or(Timestamp::UNKNOWN);
        let seq = times.iter().rposition(|at| *at <= created_at).map_or(0, |index| index as u64 + 1);
        let state_json =
            parse(&text_column(&row, "state_json")).map(|parsed| parsed.value).unwrap_or_default();
        let mut state = CheckpointState::default();
        match snapshot(&state_json) {
            Some(snapshot) => state.run_snapshot = std::sync::Arc::new(snapshot),
            // Any other state is stored as the state of a plugin.
            None => {
                state.plugins.insert(NAME.into(), state_json);
            }
        }
        out.send(ImportEvent::Checkpoint(Box::new(CheckpointDraft {
            id: CheckpointId::from_uuid(derived_id(&[&origin_id, "checkpoint", &row_id])),
            branch,
            seq,
            trigger: text_column(&row, "trigger_event").as_str().into(),
            label: None,
            pinned: false,
            created_at,
            state,
        })))
    })?;
    out.send(ImportEvent::End(report.finish()))
}

/// A run snapshot, if the state has the shape of one.
fn snapshot(state_json: &Value) -> Option<RunSnapshot> {
    let mut snapshot = serde_json::to_value(RunSnapshot::default()).ok()?;
    let fields = state_json.as_object().filter(|fields| fields.contains_key("agent_tree"))?;
    for key in ["agent_tree", "negotiation", "usage", "timeline"] {
        if let Some(value) = fields.get(key).filter(|value| !value.is_null()) {
            snapshot.as_object_mut()?.insert(key.into(), value.clone());
        }
    }
    serde_json::from_value(snapshot).ok()
}
