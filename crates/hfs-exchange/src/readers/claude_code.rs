//! Claude Code transcripts: one JSONL file per session, or `{"loglines": [...]}` from the web version.
//!
//! A transcript is read twice. The records of one message may be far apart, and whether a record starts a
//! branch may depend on a later record. A single pass would therefore have to keep all records in memory,
//! which takes several times the size of the file. The first pass decodes a few fields of each record
//! ([`index`]) and computes one action per record ([`layout`]). The second pass decodes whole records
//! ([`record`], [`content`]) and sends messages ([`second_pass`]).
//!
//! If a transcript has grown since the last import, the first pass indexes only its new records, and the second pass begins at the first
//! message that has changed.
//!
//! The original JSON text of a record is stored with its message, with references in place of the content
//! that became parts. So no content is stored twice, and an export restores every record.

mod content;
mod index;
mod layout;
mod record;
mod second_pass;
mod tool_results;

use std::collections::HashMap;

use hfs_core::{Continuation, ForeignSession, ImportError, Origin, Project, Seq};
use serde::{Deserialize, Serialize};

use crate::detect::FormatProbe;
use crate::readers::Output;
use crate::records::{Entry, Framing, RecordPosition, for_each_record, for_each_record_from};
use crate::resume::LineStart;
use crate::{Format, Source};

pub(crate) use content::{PART, TEXT, WITHOUT, attachment_of, decode_base64};
pub(crate) use index::QUEUED;
use index::{IndexEntry, Key};
use layout::{Index, Layout};
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
        let mut saved: SavedState = match framing {
            Framing::Lines => out.resume(NAME).unwrap_or_default(),
            Framing::Array(_) => SavedState::default(),
        };
        saved.index.restore();
        let known = saved.index.layout();
        index_records(source, framing, &mut saved.index, out)?;
        let layout = saved.index.layout();
        let restart = (!known.actions.is_empty()).then(|| saved.index.restart(&known, &layout));
        SecondPass::new(source, layout, out.reborrow()).run(framing, restart, saved)
    }
}

/// What is kept of a transcript for the next import.
#[derive(Debug, Default, Serialize, Deserialize)]
struct SavedState {
    index: Index,
    /// Branch and seq of each tool call, by the key of its id. A call may have started a subagent.
    calls: HashMap<Key, (usize, Seq)>,
    /// The transcripts of subagents that were imported, each with its state.
    subagents: HashMap<String, [u8; 32]>,
}

fn framing(source: &Source) -> Result<Framing, ImportError> {
    let probe = FormatProbe::new(source)?;
    Ok(if probe.has_key("loglines") { Framing::Array(Some("loglines")) } else { Framing::Lines })
}

/// The first pass: adds the records to the index that it does not have yet.
fn index_records(
    source: &Source,
    framing: Framing,
    index: &mut Index,
    out: &mut Output<'_>,
) -> Result<(), ImportError> {
    let start = index.end().unwrap_or(LineStart::BEGINNING);
    let mut visit = |at: RecordPosition, entry: Entry<IndexEntry>| {
        match entry {
            Entry::Record(record, _) => index.add(at, record),
            Entry::Damaged(_) => index.skip(at),
        }
        // The first pass accounts for a quarter of the progress.
        out.progress(at.bytes / 4)
    };
    match framing {
        Framing::Lines => for_each_record_from(source, start, &mut visit),
        Framing::Array(_) => for_each_record(source, framing, &mut visit),
    }
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
