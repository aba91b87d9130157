//! Readable pages in Markdown and HTML.
//!
//! A page begins with the conversation; the timeline, the agents and the totals follow it. This module collects
//! the contents: the ranges of messages, the summary and the tables about the agents. The submodules render
//! them.

pub(crate) mod html;
pub(crate) mod markdown;
mod text;
mod tool_call;

use std::borrow::Cow;
use std::collections::BTreeMap;

use hfs_core::{
    AgentNode, Branch, BranchId, Checkpoint, Message, MessageDraft, Role, Run, RunSnapshot, Seq, Session,
    Timestamp, TokenCount, Trigger, Usage, readable_context,
};

use crate::document::ExportMetadata;
use crate::export::{DocumentSource, ExportError, PAGE};
use crate::transcript::history;

/// Which branches a page shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BranchSelection {
    /// The history of the branch that a resume opens.
    #[default]
    Current,
    /// The history of this branch.
    One(BranchId),
    /// Every branch, each with its own messages.
    All,
}

/// Options of a page.
#[derive(Debug, Clone, Copy)]
pub struct PageOptions<'a> {
    /// Metadata of the export, shown at the top.
    pub metadata: ExportMetadata<'a>,
    /// Which branches to show.
    pub branches: BranchSelection,
}

/// A range of a branch's own messages.
#[derive(Debug, Clone)]
pub(crate) struct BranchRange {
    pub branch: Branch,
    /// Name of the branch that it forked from.
    pub parent: Option<String>,
    /// The last seq in the range.
    pub until: Seq,
}

impl BranchRange {
    /// Whether the branch continues after the range, on a branch that the page does not show.
    pub(crate) fn is_cut(&self) -> bool {
        self.until < self.branch.head
    }

    /// The branch's name, where it forked, and where the range ends if the branch continues.
    pub(crate) fn title(&self, escape: impl Fn(&str) -> String) -> String {
        let mut title = escape(&self.branch.name);
        if let Some(parent) = &self.parent {
            title += &format!(", {}", fork_origin(parent, &self.branch, &escape));
        }
        if self.is_cut() {
            title += &format!(", up to message {} of {}", self.until, self.branch.head);
        }
        title
    }
}

/// The contents of a page, except for the messages.
pub(crate) struct PageContents {
    pub session: Session,
    pub branches: Vec<Branch>,
    pub ranges: Vec<BranchRange>,
    pub checkpoints: Vec<Checkpoint>,
    pub messages: u64,
    tokens: TokenTotals,
    pub duration_ms: u64,
}

/// Tokens of the messages on a page. A count is the sum over the messages for which it is known.
#[derive(Debug, Default)]
struct TokenTotals {
    /// Tokens sent, without those that the provider read from its cache.
    input: u64,
    output: u64,
    cache_reads: u64,
    /// Number of messages with token counts.
    counted: u64,
    /// Number of messages for which the number of cached tokens is known.
    cache_counted: u64,
    /// Number of messages of agents.
    replies: u64,
}

impl TokenTotals {
    fn add(&mut self, message: &MessageDraft) {
        self.replies += u64::from(message.role == Role::Assistant);
        let Some(usage) = message.usage else { return };
        let cache_reads = usage.cache_read_tokens;
        self.counted += 1;
        self.cache_counted += u64::from(cache_reads.is_some());
        self.cache_reads = self.cache_reads.saturating_add(cache_reads.unwrap_or(0));
        self.input = self.input.saturating_add(usage.prompt_tokens.saturating_sub(cache_reads.unwrap_or(0)));
        self.output = self.output.saturating_add(usage.completion_tokens);
    }
}

impl PageContents {
    pub(crate) fn new(source: &dyn DocumentSource, selection: BranchSelection) -> Result<Self, ExportError> {
        let session = source.session()?;
        let branches = source.branches()?;
        let ranges = match selection {
            BranchSelection::All => {
                branches.iter().map(|branch| range(branch, branch.head, &branches)).collect()
            }
            BranchSelection::Current => branch_ranges(session.current_branch, &branches),
            BranchSelection::One(id) => branch_ranges(id, &branches),
        };
        let checkpoints = source.checkpoints()?;
        let messages = ranges.iter().map(|range| range.until.saturating_sub(range.branch.forked_at)).sum();
        let mut contents = Self {
            session,
            branches,
            ranges,
            checkpoints,
            messages,
            tokens: TokenTotals::default(),
            duration_ms: 0,
        };
        contents.add_totals(source)?;
        Ok(contents)
    }

    /// Sums up tokens and durations. If no message has token counts, uses those of the runs.
    fn add_totals(&mut self, source: &dyn DocumentSource) -> Result<(), ExportError> {
        let mut tokens = TokenTotals::default();
        for range in &self.ranges {
            for_each_message(source, range, &mut |message| {
                tokens.add(&message.content);
                Ok(())
            })?;
        }
        let mut run_usage = Usage::default();
        for id in source.runs()? {
            let run = source.run(id)?;
            self.duration_ms =
                self.duration_ms.saturating_add(run.snapshot.timeline.total_duration_ms.unwrap_or(0));
            for count in run.snapshot.usage.by_agent.values() {
                run_usage += count.usage;
            }
        }
        if tokens.counted == 0 && run_usage.total() > 0 {
            (tokens.input, tokens.output) = (run_usage.prompt_tokens, run_usage.completion_tokens);
            tokens.counted = tokens.replies;
        }
        self.tokens = tokens;
        Ok(())
    }

    /// The session's summary as pairs of a label and a value.
    pub(crate) fn summary(&self, metadata: ExportMetadata<'_>) -> Vec<(&'static str, String)> {
        let all: u64 = self.branches.iter().map(|branch| branch.head.saturating_sub(branch.forked_at)).sum();
        let messages = if self.messages < all {
            format!("{} of {all}; the others are on other branches", self.messages)
        } else {
            self.messages.to_string()
        };
        let mut summary = vec![("Exported", format_time(metadata.exported_at)), ("Messages", messages)];
        summary.extend(self.token_summary());
        if self.duration_ms > 0 {
            summary.push(("Duration", format_duration(self.duration_ms)));
        }
        if let Some(project) = &self.session.project {
            summary.push(("Project", project.directory.clone()));
        }
        summary
    }

    /// The token counts. What is not known is not shown as 0.
    fn token_summary(&self) -> Vec<(&'static str, String)> {
        let tokens = &self.tokens;
        if tokens.counted == 0 {
            let unknown = ("Tokens", "unknown".to_owned());
            return if tokens.replies == 0 { Vec::new() } else { vec![unknown] };
        }
        let of = |counted: u64| {
            let is_partial = counted < tokens.replies;
            if is_partial { format!(" (of {counted} of {} replies)", tokens.replies) } else { String::new() }
        };
        let mut summary = vec![
            ("Input tokens", format!("{}{}", tokens.input, of(tokens.counted))),
            ("Output tokens", format!("{}{}", tokens.output, of(tokens.counted))),
        ];
        if tokens.cache_counted > 0 {
            summary
                .push(("Cache reads", format!("{} tokens{}", tokens.cache_reads, of(tokens.cache_counted))));
        }
        summary
    }

    /// Whether the page shows a place of a branch's own history.
    pub(crate) fn shows(&self, branch: BranchId, seq: Seq) -> bool {
        self.ranges.iter().any(|range| range.branch.id == branch && seq <= range.until)
    }

    /// The checkpoints directly after this message of this branch.
    pub(crate) fn checkpoints_at(&self, branch: BranchId, seq: Seq) -> impl Iterator<Item = &Checkpoint> {
        self.checkpoints.iter().filter(move |checkpoint| checkpoint.branch == branch && checkpoint.seq == seq)
    }
}

/// Describes where a branch forked, and whether that was undone.
pub(crate) fn fork_origin(parent: &str, branch: &Branch, escape: impl Fn(&str) -> String) -> String {
    let undone = if branch.undone { ", undone" } else { "" };
    format!("forked from {} after message {}{undone}", escape(parent), branch.forked_at)
}

/// The title of a checkpoint.
pub(crate) fn checkpoint_title(checkpoint: &Checkpoint, escape: impl Fn(&str) -> String) -> String {
    let label = checkpoint.label.as_deref().map(|label| format!(": {}", escape(label)));
    let cause = match checkpoint.trigger {
        Trigger::Manual => "manual",
        Trigger::Event(_) => "automatic",
    };
    format!("Checkpoint {} ({cause}){}", checkpoint.number, label.unwrap_or_default())
}

fn range(branch: &Branch, until: Seq, all: &[Branch]) -> BranchRange {
    let parent = branch.parent.and_then(|parent| all.iter().find(|branch| branch.id == parent));
    BranchRange { branch: branch.clone(), parent: parent.map(|parent| parent.name.clone()), until }
}

/// The ranges that make up a branch's history, oldest first.
fn branch_ranges(id: BranchId, all: &[Branch]) -> Vec<BranchRange> {
    let ranges = history(id, all).into_iter().filter(|(branch, until)| *until > branch.forked_at);
    ranges.map(|(branch, until)| range(branch, until, all)).collect()
}

/// Calls `visit` for each message in a range.
pub(crate) fn for_each_message(
    source: &dyn DocumentSource,
    range: &BranchRange,
    visit: &mut dyn FnMut(&Message) -> Result<(), ExportError>,
) -> Result<(), ExportError> {
    let mut after = range.branch.forked_at;
    while after < range.until {
        let page = source.messages(range.branch.id, after, PAGE)?;
        let Some(last) = page.last() else { return Ok(()) };
        after = last.seq;
        for message in page.iter().filter(|message| message.seq <= range.until) {
            visit(message)?;
        }
    }
    Ok(())
}

/// The author of a message, as a heading.
pub(crate) fn author_name(message: &MessageDraft) -> &'static str {
    match message.role {
        Role::User if message.is_context() => "Context",
        Role::User => "User",
        Role::Assistant => "Assistant",
        Role::System => "System",
        Role::Tool => "Tool",
    }
}

/// What a tool inserted into a message of the user, and a label for it. Records of local commands are shown as what they were.
pub(crate) fn inserted_context(context: &str) -> (&'static str, Cow<'_, str>) {
    let readable = readable_context(context);
    let label = if readable == context { "Added by the tool" } else { "Local command" };
    (label, readable)
}

/// Formats a time in UTC, because the reader's time zone is unknown.
pub(crate) fn format_time(at: Timestamp) -> String {
    match at.known() {
        Some(at) => at.to_jiff().strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        None => "time unknown".to_owned(),
    }
}

pub(crate) fn format_duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        _ => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1_000),
    }
}

/// The serialized name of an enum such as a status.
pub(crate) fn serialized_name(value: impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// A table of unescaped text.
pub(crate) struct Table {
    pub columns: [&'static str; 4],
    pub rows: Vec<[String; 4]>,
}

/// Calls `visit` for each run with agents, a negotiation, token usage or a timeline. The
/// visited runs are numbered from 1.
pub(crate) fn for_each_run(
    source: &dyn DocumentSource,
    visit: &mut dyn FnMut(usize, &Run) -> std::io::Result<()>,
) -> Result<(), ExportError> {
    let mut number = 0;
    for id in source.runs()? {
        let run = source.run(id)?;
        if has_activity(&run) {
            number += 1;
            visit(number, &run)?;
        }
    }
    Ok(())
}

fn has_activity(run: &Run) -> bool {
    tables(run).next().is_some() || run.snapshot.usage.calls() > 0
}

/// The tables of a run that are not empty.
pub(crate) fn tables(run: &Run) -> impl Iterator<Item = Table> {
    let snapshot = &run.snapshot;
    let all = [
        agents(snapshot),
        negotiation(snapshot),
        usage("Usage by agent", &snapshot.usage.by_agent),
        usage("Usage by phase", &snapshot.usage.by_phase),
        timeline(snapshot),
    ];
    all.into_iter().filter(|table| !table.rows.is_empty())
}

fn agents(snapshot: &RunSnapshot) -> Table {
    let row = |triad: String, agent: &AgentNode| {
        [triad, agent.agent_id.clone(), agent.role.clone(), serialized_name(agent.status)]
    };
    let mut rows = Vec::new();
    for triad in &snapshot.agent_tree.triads {
        let triad_name = format!("{} ({})", triad.triad_id, triad.preset);
        rows.extend(triad.agents.iter().map(|agent| row(triad_name.clone(), agent)));
        // List lost agents too, even if the tree no longer contains them.
        let lost = triad.lost.iter().filter(|lost| triad.agents.iter().all(|agent| agent.agent_id != **lost));
        rows.extend(lost.map(|lost| [triad_name.clone(), lost.clone(), String::new(), "lost".to_owned()]));
        if triad.agents.is_empty() && triad.lost.is_empty() {
            rows.push([triad_name, String::new(), String::new(), String::new()]);
        }
    }
    rows.extend(snapshot.agent_tree.agents.iter().map(|agent| row(String::new(), agent)));
    Table { columns: ["Triad", "Agent", "Role", "Status"], rows }
}

fn negotiation(snapshot: &RunSnapshot) -> Table {
    let sections = snapshot.negotiation.sections.iter();
    let rows = sections.map(|section| {
        let contests = section.contests.len().to_string();
        [section.name.clone(), serialized_name(section.status), section.owners.join(", "), contests]
    });
    Table { columns: ["Section", "Outcome", "Owners", "Contests"], rows: rows.collect() }
}

fn usage(title: &'static str, counts: &BTreeMap<String, TokenCount>) -> Table {
    // A model that replies alone has no phases.
    let is_named = |(name, _): &(&String, &TokenCount)| counts.len() > 1 || !name.is_empty();
    let rows = counts.iter().filter(is_named).map(|(name, count)| {
        let tokens = |part: fn(Usage) -> u64| count.total(part).describe(|tokens| tokens.to_string());
        let (prompt, completion) =
            (tokens(|usage| usage.prompt_tokens), tokens(|usage| usage.completion_tokens));
        [name.clone(), prompt, completion, count.calls.to_string()]
    });
    Table { columns: [title, "Input tokens", "Output tokens", "Calls"], rows: rows.collect() }
}

fn timeline(snapshot: &RunSnapshot) -> Table {
    let rows = snapshot.timeline.phases.iter().map(|phase| {
        let end = phase.end.map(format_time).unwrap_or_default();
        let duration = phase.duration_ms.map(format_duration).unwrap_or_default();
        [phase.name.clone(), format_time(phase.start), end, duration]
    });
    Table { columns: ["Phase", "Start", "End", "Duration"], rows: rows.collect() }
}
