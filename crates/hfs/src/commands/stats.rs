//! `hfs stats`: tokens, cost, tool calls, changed files and time.

use hfs_core::{Message, Role, SessionFilter, SessionSummary, Timestamp, Usage, grouped};
use hfs_engine::{GroupStats, Stats, StatsQuery, collect_stats};
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::args::parse_since;
use crate::context::Context;
use crate::output::error::{CliError, Outcome};
use crate::output::sanitize;
use crate::output::table::Table;
use crate::prices;

const EXAMPLES: &str = "\
Examples:
  hfs stats                          tokens, cost and work of each day
  hfs stats --by model --since 30d   of each model, in the last 30 days
  hfs stats --by project --json      for scripts
  hfs stats --by agent --tool claude-code

Input does not include tokens that a provider read from its cache. The cost is
an estimate from published prices. Where a transcript or a server says nothing,
a number is unknown, and not counted as 0.";

/// Shown for the group of messages that have no value of the kind that groups them.
const UNKNOWN: &str = "unknown";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct StatsArgs {
    /// Count messages at or after this time: 2026-02-01, 2026-02-01T14:30, 2d, "3 weeks ago"
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// The groups: days, projects, agents, models, or the tools that sessions come from
    #[arg(long, value_name = "GROUP", default_value = "day")]
    by: Grouping,
    /// Count sessions whose project's directory or repository contains this text
    #[arg(long, value_name = "PROJECT")]
    project: Option<String>,
    /// Count sessions of this tool, such as claude-code or codex; hfs for those that were not imported
    #[arg(long, value_name = "TOOL")]
    tool: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Grouping {
    Day,
    Project,
    Agent,
    Model,
    Tool,
}

impl Grouping {
    const fn heading(self) -> &'static str {
        match self {
            Self::Day => "DAY",
            Self::Project => "PROJECT",
            Self::Agent => "AGENT",
            Self::Model => "MODEL",
            Self::Tool => "TOOL",
        }
    }

    /// The group of a message. Agents and models have only replies.
    fn key(self, summary: &SessionSummary, message: &Message) -> Option<String> {
        let (session, content) = (&summary.session, &message.content);
        let of_reply = |name: Option<&str>, otherwise: &str| {
            (content.role == Role::Assistant).then(|| name.unwrap_or(otherwise).to_owned())
        };
        match self {
            Self::Day => Some(day(content.created_at)),
            Self::Project => {
                Some(session.project.as_ref().map_or(UNKNOWN, |project| &project.directory).to_owned())
            }
            Self::Agent => of_reply(content.agent.as_deref(), session.tool()),
            Self::Model => of_reply(content.model.as_deref(), UNKNOWN),
            Self::Tool => Some(session.tool().to_owned()),
        }
    }
}

fn day(at: Timestamp) -> String {
    let known = at.known().map(|at| at.to_jiff().to_zoned(TimeZone::system()).date().to_string());
    known.unwrap_or_else(|| UNKNOWN.to_owned())
}

#[derive(Debug, Serialize)]
struct StatsJson {
    rows: Vec<RowJson>,
    total: RowJson,
    /// Replies that a tool has copied into another session, which are counted once.
    repeated: u64,
    messages_without_time: u64,
    damaged_sessions: u64,
    prices_checked: &'static str,
}

#[derive(Debug, Serialize)]
struct RowJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    sessions: u64,
    messages: u64,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_read_tokens: Option<u64>,
    cache_write_tokens: Option<u64>,
    cost: Option<f64>,
    tool_calls: u64,
    changed_files: u64,
    active_seconds: u64,
    replies: u64,
    replies_without_tokens: u64,
    replies_without_price: u64,
}

impl RowJson {
    fn new(key: Option<String>, group: &GroupStats) -> Self {
        let usage = (group.counted > 0).then_some(group.usage);
        Self {
            key,
            sessions: group.sessions,
            messages: group.messages,
            input_tokens: usage.map(Usage::uncached_tokens),
            output_tokens: usage.map(|usage| usage.completion_tokens),
            cache_read_tokens: usage.and_then(|usage| usage.cache_read_tokens),
            cache_write_tokens: usage.and_then(|usage| usage.cache_write_tokens),
            cost: (group.priced > 0).then_some(group.cost),
            tool_calls: group.tool_calls,
            changed_files: group.changed_files,
            active_seconds: group.active_ms / 1000,
            replies: group.replies,
            replies_without_tokens: group.replies - group.counted,
            replies_without_price: group.counted - group.priced,
        }
    }
}

pub fn run(args: &StatsArgs, context: &Context) -> Result<Outcome, CliError> {
    let since = args.since.as_deref().map(parse_since).transpose()?;
    let store = context.store()?;
    let console = &context.console;
    let bar = console.progress(0);
    let filter = SessionFilter {
        project_contains: args.project.clone(),
        tool: args.tool.clone(),
        ..SessionFilter::default()
    };
    let stats = collect_stats(
        store.as_ref(),
        StatsQuery {
            since,
            filter,
            group: &|summary, message| args.by.key(summary, message),
            price: &prices::cost,
            progress: &mut |sessions| bar.set_message(format!("{sessions} sessions")),
        },
    );
    bar.finish_and_clear();
    let stats = stats?;
    if console.options.json {
        let rows = stats.groups.iter().map(|(key, group)| RowJson::new(Some(key.clone()), group)).collect();
        console.print_json(&StatsJson {
            rows,
            total: RowJson::new(None, &stats.total),
            repeated: stats.repeated,
            messages_without_time: stats.without_time,
            damaged_sessions: stats.damaged,
            prices_checked: prices::CHECKED,
        })?;
        return Ok(Outcome::Done);
    }
    console.warn_of_damage(stats.damaged, "session");
    if stats.total.messages == 0 {
        console.note("no message to count");
        return Ok(Outcome::Done);
    }
    console.print(&table(args.by, &stats).render(&console.palette, console.width()))?;
    for note in notes(&stats) {
        console.note(&note);
    }
    Ok(Outcome::Done)
}

fn table(by: Grouping, stats: &Stats) -> Table {
    let headings = [
        by.heading(),
        ">SESSIONS",
        ">MESSAGES",
        ">INPUT",
        ">CACHE READ",
        ">OUTPUT",
        ">COST",
        ">TOOL CALLS",
        ">FILES",
        ">TIME",
    ];
    let mut table = Table::new(&headings, 0);
    let rows = stats.groups.iter().map(|(key, group)| (sanitize::line(key), group));
    for (key, group) in rows.chain([("total".to_owned(), &stats.total)]) {
        let row = RowJson::new(None, group);
        let number = |count: Option<u64>| count.map_or_else(|| UNKNOWN.to_owned(), grouped);
        table.row(vec![
            key,
            grouped(group.sessions),
            grouped(group.messages),
            number(row.input_tokens),
            number(row.cache_read_tokens),
            number(row.output_tokens),
            row.cost.map_or_else(|| UNKNOWN.to_owned(), |cost| format!("${cost:.2}")),
            grouped(group.tool_calls),
            grouped(group.changed_files),
            duration(row.active_seconds),
        ]);
    }
    table
}

/// What the numbers leave out.
fn notes(stats: &Stats) -> Vec<String> {
    let total = &stats.total;
    let (uncounted, unpriced) = (total.replies - total.counted, total.counted - total.priced);
    let of = |count: u64, text: &str| (count > 0).then(|| format!("{} {text}", grouped(count)));
    [
        of(uncounted, "replies say nothing about their tokens"),
        of(unpriced, "replies are of models without a known price, and not in the cost"),
        of(stats.repeated, "replies that a tool copied into another session were counted once"),
        of(stats.without_time, "messages of unknown time were left out"),
        (total.priced > 0).then(|| format!("prices as published by {}", prices::CHECKED)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn duration(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m"),
        (hours, minutes) => format!("{hours}h {minutes:02}m"),
    }
}
