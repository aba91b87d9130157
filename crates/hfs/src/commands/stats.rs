//! `hfs stats`: tokens, cost, tool calls, changed files and time.

use std::ops::ControlFlow;

use hfs_core::{SessionFilter, Usage, grouped};
use hfs_engine::{
    GroupKey, GroupStats, GroupedStats, Stats, StatsGrouping, StatsQuery, collect_stats, format_active_time,
    format_dollars,
};
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
a number is unknown, and not counted as 0. In the app, /stats shows the same.";

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
}

impl From<Grouping> for StatsGrouping {
    fn from(grouping: Grouping) -> Self {
        match grouping {
            Grouping::Day => Self::Day,
            Grouping::Project => Self::Project,
            Grouping::Agent => Self::Agent,
            Grouping::Model => Self::Model,
            Grouping::Tool => Self::Tool,
        }
    }
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
        let usage = group.known_usage();
        Self {
            key,
            sessions: group.sessions,
            messages: group.messages,
            input_tokens: usage.map(Usage::uncached_tokens),
            output_tokens: usage.map(|usage| usage.completion_tokens),
            cache_read_tokens: usage.and_then(|usage| usage.cache_read_tokens),
            cache_write_tokens: usage.and_then(|usage| usage.cache_write_tokens),
            cost: group.known_cost(),
            tool_calls: group.tool_calls,
            changed_files: group.changed_files,
            active_seconds: group.active_ms / 1000,
            replies: group.replies,
            replies_without_tokens: group.uncounted(),
            replies_without_price: group.unpriced(),
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
    let groupings = [args.by.into()];
    let stats = collect_stats(
        store.as_ref(),
        StatsQuery {
            since,
            filter,
            groupings: &groupings,
            zone: TimeZone::system(),
            prices: prices::PUBLISHED,
            progress: &mut |read, sessions| {
                bar.set_message(format!("{read} of {sessions} sessions"));
                ControlFlow::Continue(())
            },
        },
    );
    bar.finish_and_clear();
    // Nothing stops it, and the grouping that was asked for is there.
    let Some(stats) = stats? else { return Ok(Outcome::Interrupted) };
    let Some(grouped) = stats.grouped_by(args.by.into()) else { return Ok(Outcome::Done) };
    if console.options.json {
        let rows =
            grouped.groups.iter().map(|(key, group)| RowJson::new(Some(key.as_str().to_owned()), group));
        console.print_json(&StatsJson {
            rows: rows.collect(),
            total: RowJson::new(None, &grouped.total),
            repeated: stats.repeated,
            messages_without_time: stats.without_time,
            damaged_sessions: stats.damaged,
            prices_checked: stats.prices_checked,
        })?;
        return Ok(Outcome::Done);
    }
    console.warn_of_damage(stats.damaged, "session");
    if grouped.total.messages == 0 {
        console.note("no message to count");
        return Ok(Outcome::Done);
    }
    console.print(&table(args.by.heading(), grouped).render(&console.palette, console.width()))?;
    for note in notes(grouped, &stats) {
        console.note(&note);
    }
    Ok(Outcome::Done)
}

fn table(heading: &'static str, grouped_stats: &GroupedStats) -> Table {
    let headings = [
        heading,
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
    let rows = grouped_stats.groups.iter().map(|(key, group)| (sanitize::line(key.as_str()), group));
    for (key, group) in rows.chain([("total".to_owned(), &grouped_stats.total)]) {
        let usage = group.known_usage();
        let number = |count: Option<u64>| count.map_or_else(|| GroupKey::UNKNOWN.to_owned(), grouped);
        table.row(vec![
            key,
            grouped(group.sessions),
            grouped(group.messages),
            number(usage.map(Usage::uncached_tokens)),
            number(usage.and_then(|usage| usage.cache_read_tokens)),
            number(usage.map(|usage| usage.completion_tokens)),
            group.known_cost().map_or_else(|| GroupKey::UNKNOWN.to_owned(), format_dollars),
            grouped(group.tool_calls),
            grouped(group.changed_files),
            format_active_time(group.active_ms),
        ]);
    }
    table
}

/// What the numbers leave out, and how old the prices are.
fn notes(grouped: &GroupedStats, stats: &Stats) -> Vec<String> {
    let prices =
        (grouped.total.priced > 0).then(|| format!("prices as published by {}", stats.prices_checked));
    grouped.total.omissions().into_iter().chain(stats.omissions()).chain(prices).collect()
}
