//! Claude Code's transcripts: one JSONL file for a session, or the web session's `{"loglines": [...]}`.

mod blocks;
mod content;
mod messages;
mod outline;
mod plan;
mod record;
mod saved;
mod skeleton;
mod stream;

use hfs_core::{ForeignSession, ImportError, Origin, Project, SessionSink};

use crate::detect::Head;
use crate::records::{Entry, Framing, visit};
use crate::{Format, Source};

pub(crate) use blocks::{PART, TEXT, WITHOUT, attachment_of, decode_base64};
use outline::Outline;
use plan::{Plan, Planner};

pub(crate) const NAME: &str = "claude-code";

/// The types of records that only Claude Code writes.
const OWN_TYPES: [&str; 6] =
    ["file-history-snapshot", "queue-operation", "custom-title", "ai-title", "permission-mode", "agent-name"];

pub(crate) struct ClaudeCode;

impl super::Reader for ClaudeCode {
    fn format(&self) -> Format {
        Format::ClaudeCode
    }

    fn recognizes(&self, head: &Head) -> bool {
        head.has_key("loglines")
            || head.objects().iter().any(|record| {
                let kind = record.get("type").and_then(serde_json::Value::as_str).unwrap_or_default();
                match kind {
                    "user" | "assistant" => record.contains_key("message") && record.contains_key("uuid"),
                    "summary" => record.contains_key("leafUuid"),
                    "system" | "progress" | "attachment" => record.contains_key("parentUuid"),
                    kind => OWN_TYPES.contains(&kind),
                }
            })
    }

    fn read(&self, source: &Source, sink: &mut dyn SessionSink) -> Result<(), ImportError> {
        let framing = framing(source)?;
        let plan = plan(source, framing, sink)?;
        stream::Stream::new(source, plan, sink).run(framing)
    }
}

fn framing(source: &Source) -> Result<Framing, ImportError> {
    let head = Head::of(source)?;
    Ok(if head.has_key("loglines") { Framing::Array(Some("loglines")) } else { Framing::Lines })
}

/// The first pass: little of each record, to know where everything goes.
fn plan(source: &Source, framing: Framing, sink: &mut dyn SessionSink) -> Result<Plan, ImportError> {
    let mut planner = Planner::default();
    visit::<Outline>(source, framing, &mut |at, entry| {
        if let Entry::Record(record, _) = entry {
            planner.add(record);
        }
        // The first pass counts for a quarter of the way.
        super::go_on(source, sink, at.bytes / 4)
    })?;
    Ok(planner.finish())
}

/// The session's own facts.
fn session(source: &Source, plan: &Plan) -> ForeignSession {
    let id = match (source.stem(), &plan.session) {
        (Some(stem), Some(session)) if stem != *session => format!("{session}/{stem}"),
        (_, Some(session)) => session.clone(),
        (Some(stem), None) => stem,
        (None, None) => "unnamed".into(),
    };
    let path = source.path().map(|path| path.display().to_string());
    let mut session = ForeignSession::new(Origin { format: NAME.into(), id, path });
    session.title.clone_from(&plan.title);
    session.automatic_name = !plan.title_by_hand;
    session.project = plan.cwd.clone().map(|directory| Project { directory, repository: None });
    session.created_at = plan.first;
    session.updated_at = plan.last;
    session
}
