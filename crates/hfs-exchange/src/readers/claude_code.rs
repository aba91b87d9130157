//! Claude Code transcripts: one JSONL file per session, or `{"loglines": [...]}` from the web version.
//!
//! A transcript is read twice. The records of one message may be far apart, and whether a record starts a
//! branch may depend on a later record. A single pass would therefore have to keep all records in memory,
//! which takes several times the size of the file. The first pass decodes a few fields of each record
//! ([`index`]) and computes one action per record ([`layout`]). The second pass decodes whole records
//! ([`record`], [`content`]) and sends messages ([`second_pass`]).
//!
//! The original JSON text of a record is stored with its message, with references in place of the content
//! that became parts. So no content is stored twice, and an export restores every record.

mod content;
mod index;
mod layout;
mod record;
mod second_pass;
mod tool_results;

use hfs_core::{Continuation, ForeignSession, ImportError, Origin, Project};

use crate::detect::FormatProbe;
use crate::readers::Output;
use crate::records::{Entry, Framing, for_each_record};
use crate::{Format, Source};

pub(crate) use content::{PART, TEXT, WITHOUT, attachment_of, decode_base64};
use index::IndexEntry;
pub(crate) use index::QUEUED;
use layout::{Layout, LayoutBuilder};
use second_pass::SecondPass;

pub(crate) const NAME: &str = "claude-code";

/// Types of records that only Claude Code writes.
const OWN_TYPES: [&str; 6] =
    ["file-history-snapshot", "queue-operation", "custom-title", "ai-title", "permission-mode", "agent-name"];

pub(crate) struct ClaudeCode;

impl super::Reader for ClaudeCode {
    fn format(&self) -> Format {
        Format::ClaudeCode
    }

    fn probe(&self, probe: &FormatProbe) -> bool {
        probe.has_key("loglines")
            || probe.records().iter().filter(|record| !super::qwen::is_record(record)).any(|record| {
                let kind = record.get("type").and_then(serde_json::Value::as_str).unwrap_or_default();
                match kind {
                    "user" | "assistant" => record.contains_key("message") && record.contains_key("uuid"),
                    "summary" => record.contains_key("leafUuid"),
                    "system" | "progress" | "attachment" => record.contains_key("parentUuid"),
                    kind => OWN_TYPES.contains(&kind),
                }
            })
    }

    fn read(&self, source: &Source, out: &mut Output<'_>) -> Result<(), ImportError> {
        let framing = framing(source)?;
        let layout = compute_layout(source, framing, out)?;
        SecondPass::new(source, layout, out.reborrow()).run(framing)
    }
}

fn framing(source: &Source) -> Result<Framing, ImportError> {
    let probe = FormatProbe::new(source)?;
    Ok(if probe.has_key("loglines") { Framing::Array(Some("loglines")) } else { Framing::Lines })
}

/// The first pass: indexes the records and computes the layout.
fn compute_layout(source: &Source, framing: Framing, out: &mut Output<'_>) -> Result<Layout, ImportError> {
    let mut builder = LayoutBuilder::default();
    for_each_record::<IndexEntry>(source, framing, &mut |at, entry| {
        if let Entry::Record(record, _) = entry {
            builder.add(record);
        }
        // The first pass accounts for a quarter of the progress.
        out.progress(at.bytes / 4)
    })?;
    Ok(builder.finish())
}

/// The session-level fields.
fn session(source: &Source, layout: &Layout) -> ForeignSession {
    let id = match (source.stem(), &layout.session) {
        (Some(stem), Some(session)) if stem != *session => format!("{session}/{stem}"),
        (_, Some(session)) => session.clone(),
        (Some(stem), None) => stem,
        (None, None) => "unnamed".into(),
    };
    let path = source.path().map(|path| path.display().to_string());
    let mut session = ForeignSession::new(Origin { format: NAME.into(), id, path });
    // In a transcript that hfs wrote from a copy, the records still have the id of the original.
    let ids = [source.stem(), layout.session.clone()];
    session.continues = ids.into_iter().flatten().find_map(|id| id.parse().ok()).map(Continuation::Session);
    session.title.clone_from(&layout.title);
    session.automatic_name = !layout.title_by_user;
    session.project = layout.cwd.clone().map(|directory| Project { directory, repository: None });
    session.created_at = layout.first;
    session.updated_at = layout.last;
    session
}
