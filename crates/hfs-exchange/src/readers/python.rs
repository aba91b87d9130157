//! The Python original's sessions.db.

use hfs_core::{
    BranchId, CheckpointDraft, CheckpointId, CheckpointState, Disposition, ForeignSession, ImportError,
    MAIN_BRANCH, Origin, Part, Role, RunSnapshot, SessionSink, Timestamp,
};
use serde_json::Value;

use super::conversation::Drafted;
use crate::database::{Columns, Database, text as column};
use crate::detect::Head;
use crate::json::parse;
use crate::tally::Tally;
use crate::{Format, Source};

const NAME: &str = "hfs-python";

pub(crate) struct Python;

impl super::Reader for Python {
    fn format(&self) -> Format {
        Format::Python
    }

    fn recognizes(&self, head: &Head) -> bool {
        head.has_tables(&["sessions", "messages", "checkpoints"]) && head.has_column("trigger_event")
    }

    fn read(&self, source: &Source, sink: &mut dyn SessionSink) -> Result<(), ImportError> {
        let database = Database::open(source)?;
        let mut sessions = Vec::new();
        database.rows("select * from sessions order by id", &[], &mut |row| {
            sessions.push(row);
            Ok(())
        })?;
        for row in sessions {
            super::go_on(source, sink, 0)?;
            session(source, &database, &row, sink)?;
        }
        Ok(())
    }
}

fn time(row: &Columns, name: &str) -> Option<Timestamp> {
    row.fields.get(name).and_then(crate::time::read)
}

fn role(name: &str) -> Role {
    name.parse().unwrap_or(Role::User)
}

fn session(
    source: &Source,
    database: &Database,
    row: &Columns,
    sink: &mut dyn SessionSink,
) -> Result<(), ImportError> {
    let id = row.fields.get("id").map(Value::to_string).unwrap_or_default();
    let created_at = time(row, "created_at");
    let path = source.path().map(|path| path.display().to_string());
    // Numbers are only unique within one database; the time of birth tells two databases apart.
    let origin = format!("{id}/{}", created_at.map_or_else(String::new, |at| at.to_string()));
    let mut foreign = ForeignSession::new(Origin { format: NAME.into(), id: origin, path });
    foreign.title = Some(column(row, "name")).filter(|name| !name.is_empty());
    foreign.created_at = created_at;
    foreign.updated_at = time(row, "updated_at").or(created_at);
    let branch = BranchId::generate();
    foreign.main_branch = Some((branch, MAIN_BRANCH.into()));
    if sink.begin(foreign)? == Disposition::Skip {
        return Ok(());
    }
    let mut tally = Tally::default();
    let mut times = Vec::new();
    let sql = "select * from messages where session_id = cast(?1 as integer) order by id";
    database.rows(sql, &[&id], &mut |row| {
        tally.mapped();
        let at = time(&row, "created_at").or(times.last().copied()).unwrap_or(Timestamp::UNIX_EPOCH);
        times.push(at);
        let role = role(&column(&row, "role"));
        let said = vec![Part::Text { text: column(&row, "content") }];
        let id = row.fields.get("id").map(Value::to_string).unwrap_or_default();
        sink.message(0, Drafted::new(NAME, id, role, said, at).draft)?;
        Ok(())
    })?;
    let sql = "select * from checkpoints where session_id = cast(?1 as integer) order by id";
    database.rows(sql, &[&id], &mut |row| {
        tally.mapped();
        let created_at = time(&row, "created_at").unwrap_or(Timestamp::UNIX_EPOCH);
        let seq = times.iter().rposition(|at| *at <= created_at).map_or(0, |index| index as u64 + 1);
        let told = parse(&column(&row, "state_json")).map(|parsed| parsed.value).unwrap_or_default();
        let mut state = CheckpointState::default();
        match snapshot(&told) {
            Some(snapshot) => state.run_snapshot = std::sync::Arc::new(snapshot),
            // What cannot be understood is kept for those who can.
            None => {
                state.plugins.insert(NAME.into(), told);
            }
        }
        sink.checkpoint(CheckpointDraft {
            id: CheckpointId::generate(),
            branch,
            seq,
            trigger: column(&row, "trigger_event").as_str().into(),
            label: None,
            pinned: false,
            created_at,
            state,
        })?;
        Ok(())
    })?;
    sink.end(tally.finish())?;
    Ok(())
}

/// A snapshot of the original, where its shape is ours.
fn snapshot(told: &Value) -> Option<RunSnapshot> {
    let mut ours = serde_json::to_value(RunSnapshot::default()).ok()?;
    let fields = told.as_object().filter(|fields| fields.contains_key("agent_tree"))?;
    for key in ["agent_tree", "negotiation", "usage", "timeline"] {
        if let Some(value) = fields.get(key).filter(|value| !value.is_null()) {
            ours.as_object_mut()?.insert(key.into(), value.clone());
        }
    }
    serde_json::from_value(ours).ok()
}
