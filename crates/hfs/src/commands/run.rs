//! `hfs run`: lists runs, and shows what the agents did in a run.
//!
//! `run show` renders the run snapshot (agents, negotiation, tokens and a time line) and what the agents wrote. `--events`
//! adds every event.

use std::collections::BTreeMap;

use hfs_core::{
    AgentNode, AgentStatus, ClaimDecision, Contest, Event, EventPayload, Run, RunId, RunSnapshot, Section,
    SectionDecision, TokenCount, TokenTotal, Usage, UsageTally, plural,
};
use serde_json::json;
use unicode_width::UnicodeWidthStr;

use crate::args::{MAX_LIMIT, limit_parser};
use crate::context::Context;
use crate::output::console::Palette;
use crate::output::error::{CliError, Outcome};
use crate::output::json::{RunJson, ending_name};
use crate::output::table::{Table, shorten};
use crate::output::{sanitize, time_format};
use crate::resolve::find_run;

const EXAMPLES: &str = "\
Examples:
  hfs run list @               the runs of the newest session
  hfs run show @               the newest run: agents, negotiation, tokens, time
  hfs run show login 3         the third run of another session
  hfs run show @ 3 --events    with every event
  hfs run show @ -v            with all that each agent wrote: positions, drafts, decisions

A run is given as its number in the list (1 = oldest), its short id or a prefix of it, or @ for the newest, @-1 for the \
one before.";

/// Width of the question in `run list`, in columns.
const LIST_QUESTION_WIDTH: usize = 60;
/// Width of the question in `run show` if standard output is not a terminal, in columns.
const SHOW_QUESTION_WIDTH: usize = 70;
/// Width of the name of an answer, in columns.
const SUBJECT_WIDTH: usize = 24;
/// Width of an answer if standard output is not a terminal, in columns.
const ANSWER_WIDTH: usize = 100;
/// Width of the bar that stands for the whole duration of a run, in columns.
const BAR_WIDTH: u64 = 40;

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct RunArgs {
    #[command(subcommand)]
    command: RunCommand,
}

#[derive(Debug, clap::Subcommand)]
enum RunCommand {
    /// List the runs of a session, newest last
    #[command(alias = "ls")]
    List {
        /// The session
        session: String,
        /// Maximum number of runs
        #[arg(short = 'n', long = "limit", value_name = "N", default_value_t = 20, value_parser = limit_parser())]
        limit: u32,
    },
    /// Show a run: its agents, who wrote which section and why, and what it cost
    Show {
        /// The session
        session: String,
        /// The run [default: the newest]
        #[arg(default_value = "@", hide_default_value = true)]
        run: String,
        /// Show every event
        #[arg(long)]
        events: bool,
    },
}

pub fn run(args: &RunArgs, context: &Context) -> Result<Outcome, CliError> {
    match &args.command {
        RunCommand::List { session, limit } => list(session, *limit, context)?,
        RunCommand::Show { session, run, events } => show(session, run, *events, context)?,
    }
    Ok(Outcome::Done)
}

/// A run with its number, the name of its branch, and the message that it answers.
struct RunDetails {
    number: usize,
    run: Run,
    branch: String,
    question: Option<Question>,
}

struct Question {
    seq: u64,
    text: String,
}

impl RunDetails {
    fn load((number, id): (usize, RunId), context: &Context) -> Result<Self, CliError> {
        let store = context.store()?;
        let run = store.get_run(id)?;
        let branch = store.get_branch(run.branch)?.name;
        // The message may be missing in a damaged store; the run can be shown without it.
        let message = run.answers.and_then(|id| store.get_message(id).ok());
        let question = message.map(|message| Question { seq: message.seq, text: message.content.text() });
        Ok(Self { number, run, branch, question })
    }

    fn json(&self) -> RunJson {
        RunJson::new(
            self.number,
            &self.run,
            &self.branch,
            self.question.as_ref().map(|question| question.seq),
        )
    }
}

fn list(session: &str, limit: u32, context: &Context) -> Result<(), CliError> {
    let session_id = context.session(session)?;
    let all = context.store()?.list_runs(session_id)?;
    let total = all.len();
    let older = total.saturating_sub(usize::try_from(limit).unwrap_or(usize::MAX));
    let newest = (1..).zip(all).skip(older);
    let runs: Vec<RunDetails> = newest.map(|run| RunDetails::load(run, context)).collect::<Result<_, _>>()?;
    let console = &context.console;
    if console.options.json {
        let rows: Vec<RunJson> = runs.iter().map(RunDetails::json).collect();
        return console.print_json(&json!({ "runs": rows, "total": total }));
    }
    if runs.is_empty() {
        console.note("no runs: hfs has answered no message in this session");
        return Ok(());
    }
    let headings = [">#", "ID", "AGENT", "ENDING", ">DURATION", ">TOKENS", "STARTED", "ANSWERS"];
    let mut table = Table::new(&headings, 7);
    for details in &runs {
        let row = details.json();
        let question = details.question.as_ref().map_or("-", |question| question.text.as_str());
        table.row(vec![
            details.number.to_string(),
            details.run.id.short().shown().to_owned(),
            sanitize::line(&row.agent),
            row.ending.to_owned(),
            row.duration_ms.map_or_else(|| "-".into(), format_duration),
            details.run.snapshot.usage.total().describe(|tokens| tokens.to_string()),
            context.format_time(details.run.started_at),
            shorten(&sanitize::line(question), LIST_QUESTION_WIDTH),
        ]);
    }
    console.print(&table.render(&console.palette, console.width()))?;
    if older > 0 {
        let short = session_id.short();
        let session = short.shown();
        match u32::try_from(total).ok().filter(|total| *total <= MAX_LIMIT) {
            Some(total) => console.note(&format!("{older} older: hfs run list {session} -n {total}")),
            None if limit < MAX_LIMIT => {
                console.note(&format!("{older} older: hfs run list {session} -n {MAX_LIMIT} shows more"));
            }
            None => console.note(&format!("{older} older: hfs run show {session} NUMBER shows one of them")),
        }
    }
    Ok(())
}

fn show(session: &str, run: &str, with_events: bool, context: &Context) -> Result<(), CliError> {
    let session = context.session(session)?;
    let run = find_run(&context.store()?.list_runs(session)?, run)?;
    let details = RunDetails::load(run, context)?;
    let console = &context.console;
    if console.options.json {
        let mut document = json!({ "run": details.json() });
        if let Some(fields) = document.get_mut("run").and_then(serde_json::Value::as_object_mut) {
            fields.insert("snapshot".into(), json!(details.run.snapshot));
            let answers = details.run.events.iter().filter(|event| is_answer(event));
            fields.insert("answers".into(), answers.map(|event| json!(event.payload)).collect());
            if with_events {
                fields.insert("events".into(), json!(details.run.events));
            }
        }
        return console.print_json(&document);
    }
    let mut text = render_run(&details, &console.palette, console.width(), console.options.verbose);
    if with_events {
        text += &render_events(&details.run, &console.palette);
    }
    console.print(&text)
}

/// A duration in the unit that fits.
fn format_duration(millis: u64) -> String {
    match millis {
        0..1_000 => format!("{millis} ms"),
        1_000..60_000 => format!("{}.{} s", millis / 1_000, millis % 1_000 / 100),
        _ => format!("{} min {} s", millis / 60_000, millis % 60_000 / 1_000),
    }
}

const fn status_name(status: AgentStatus) -> &'static str {
    match status {
        AgentStatus::Idle => "idle",
        AgentStatus::Working => "working",
        AgentStatus::Blocked => "lost",
        AgentStatus::Complete => "complete",
    }
}

/// Everything about a run except its individual events.
fn render_run(details: &RunDetails, palette: &Palette, width: Option<usize>, in_full: bool) -> String {
    let snapshot = &details.run.snapshot;
    let blocks = [
        Some(render_summary(details, palette, width)),
        render_agents(snapshot, palette, width),
        render_answers(&details.run, palette, width, in_full),
        render_negotiation(snapshot, palette),
        render_tokens(snapshot, palette, width),
        render_timeline(snapshot, palette),
        render_errors(snapshot, palette),
    ];
    blocks.into_iter().flatten().collect::<Vec<_>>().join("\n")
}

fn render_summary(details: &RunDetails, palette: &Palette, width: Option<usize>) -> String {
    /// Width of the names on the left and the space after them, in columns.
    const NAME_WIDTH: usize = 12;
    let row = details.json();
    let question_width = width.map_or(SHOW_QUESTION_WIDTH, |width| width.saturating_sub(NAME_WIDTH));
    let (id, agent) = (details.run.id.short(), sanitize::line(&row.agent));
    let started = time_format::local(details.run.started_at);
    let mut facts = vec![
        ("run", format!("{} ({id}) of {agent}", details.number)),
        ("started", format!("{started} on {}", sanitize::line(&details.branch))),
        (
            "ended",
            match row.duration_ms {
                Some(millis) => format!("{} after {}", row.ending, format_duration(millis)),
                None => "still running, or its process died".into(),
            },
        ),
        ("cost", cost(&details.run.snapshot.usage)),
    ];
    if let Some(Question { seq, text }) = &details.question {
        let text = format!("message {seq}: {}", sanitize::line(text));
        facts.insert(1, ("answers", shorten(&text, question_width)));
    }
    let dim = palette.dim;
    facts.iter().map(|(name, value)| format!("{dim}{name:<11}{dim:#} {value}\n")).collect()
}

/// The tokens and calls of a run.
fn cost(usage: &UsageTally) -> String {
    if usage.calls() == 0 {
        return "no call of a model has ended".to_owned();
    }
    let calls = plural(usage.calls(), "call");
    match usage.total() {
        TokenTotal::Unknown => format!("unknown: the server did not report the tokens of {calls}"),
        total => format!("{} tokens in {calls}", total.describe(|tokens| tokens.to_string())),
    }
}

fn render_title(title: &str, note: &str, palette: &Palette) -> String {
    let strong = palette.strong;
    let gap = if note.is_empty() { "" } else { "  " };
    format!("{strong}{title}{strong:#}{gap}{note}\n")
}

fn render_agents(snapshot: &RunSnapshot, palette: &Palette, width: Option<usize>) -> Option<String> {
    let tree = &snapshot.agent_tree;
    if tree.triads.is_empty() && tree.agents.is_empty() {
        return None;
    }
    let mut table = Table::new(&["AGENT", "ROLE", "STATUS", ">CALLS", ">IN", ">OUT", ">TOKENS", "MODEL"], 7);
    let usage = &snapshot.usage.by_agent;
    for triad in &tree.triads {
        let mut name = format!("{} ({})", sanitize::line(&triad.triad_id), sanitize::line(&triad.preset));
        if !triad.lost.is_empty() {
            let left = triad.agents.len() - triad.lost.len();
            name += &format!(", {left} of {} left", triad.agents.len());
        }
        table.row(vec![name]);
        let prefix = format!("{}/", triad.triad_id);
        for agent in &triad.agents {
            let short = agent.agent_id.strip_prefix(&prefix).unwrap_or(&agent.agent_id);
            table.row(agent_row(&format!("  {}", sanitize::line(short)), agent, usage));
        }
    }
    for agent in &tree.agents {
        table.row(agent_row(&sanitize::line(&agent.agent_id), agent, usage));
    }
    Some(render_title("Agents", "", palette) + &table.render(palette, width))
}

fn agent_row(name: &str, agent: &AgentNode, usage: &BTreeMap<String, TokenCount>) -> Vec<String> {
    let count = usage.get(&agent.agent_id).copied().unwrap_or_default();
    let role = sanitize::line(&agent.role);
    let mut cells = vec![name.to_owned(), role, status_name(agent.status).to_owned()];
    cells.extend(token_cells(&count));
    cells.push(agent.model.as_deref().map_or_else(|| "-".into(), sanitize::line));
    cells
}

/// The cells CALLS, IN, OUT and TOKENS. Without a call that has ended, nothing is known about the tokens.
fn token_cells(count: &TokenCount) -> [String; 4] {
    if count.calls == 0 {
        return ["0", "-", "-", "-"].map(str::to_owned);
    }
    let tokens = |part: fn(Usage) -> u64| count.total(part).describe(|tokens| tokens.to_string());
    [
        count.calls.to_string(),
        tokens(|usage| usage.prompt_tokens),
        tokens(|usage| usage.completion_tokens),
        tokens(Usage::total),
    ]
}

fn is_answer(event: &Event) -> bool {
    matches!(event.payload, EventPayload::AgentAnswered { .. })
}

/// What the agents wrote, each in one line unless it is wanted in full.
fn render_answers(run: &Run, palette: &Palette, width: Option<usize>, in_full: bool) -> Option<String> {
    let mut rows = Vec::new();
    for event in &run.events {
        if let EventPayload::AgentAnswered { agent, subject, sections, text } = &event.payload {
            let about =
                if sections.is_empty() { String::new() } else { format!(" {}", join_names(sections)) };
            rows.push((sanitize::line(agent), format!("{}{about}", sanitize::line(subject)), text));
        }
    }
    if rows.is_empty() {
        return None;
    }
    let dim = palette.dim;
    if in_full {
        let mut all = render_title("Answers", "", palette);
        for (agent, subject, text) in rows {
            let text = sanitize::block(text);
            let lines = text.trim().lines().map(|line| format!("    {line}").trim_end().to_owned() + "\n");
            all += &format!("  {agent} {dim}{subject}{dim:#}\n{}", lines.collect::<String>());
        }
        return Some(all);
    }
    let mut table = Table::new(&["AGENT", "ANSWER", "TEXT"], 2);
    for (agent, subject, text) in rows {
        table.row(vec![
            agent,
            shorten(&subject, SUBJECT_WIDTH),
            shorten(&sanitize::line(text), ANSWER_WIDTH),
        ]);
    }
    Some(render_title("Answers", "in full with -v", palette) + &table.render(palette, width))
}

fn render_negotiation(snapshot: &RunSnapshot, palette: &Palette) -> Option<String> {
    let negotiation = &snapshot.negotiation;
    if negotiation.sections.is_empty() {
        return None;
    }
    let note = match (negotiation.round, negotiation.temperature) {
        (0, _) | (_, None) => "no section was contested".to_owned(),
        (1, Some(temperature)) => format!("1 round at temperature {temperature:.2}"),
        (rounds, Some(temperature)) => format!("{rounds} rounds, down to temperature {temperature:.2}"),
    };
    let names: Vec<String> =
        negotiation.sections.iter().map(|section| sanitize::line(&section.name)).collect();
    let widest = names.iter().map(|name| name.width()).max().unwrap_or(0);
    let mut text = render_title("Negotiation", &note, palette);
    for (name, section) in names.iter().zip(&negotiation.sections) {
        let padding = " ".repeat(widest - name.width());
        text += &format!("  {name}{padding}  {}\n", describe_owners(section));
        for contest in &section.contests {
            text += &format!("    {}\n", describe_round(contest));
        }
        if let Some(arbiter) = &section.arbiter {
            let verb = match arbiter.decision {
                SectionDecision::Assign => "assigned it",
                SectionDecision::Split => "split it",
                SectionDecision::Merge => "merged it into another",
            };
            text += &format!("    the arbiter {verb}: {}\n", sanitize::line(&arbiter.reason));
        }
    }
    Some(text)
}

fn describe_owners(section: &Section) -> String {
    let claimed = if section.claimants.is_empty() {
        "not claimed".to_owned()
    } else if section.claimants == section.owners {
        "not claimed by others".to_owned()
    } else {
        format!("claimed by {}", join_names(&section.claimants))
    };
    match section.owners.as_slice() {
        [] => format!("no owner yet; {claimed}"),
        [only] => format!("{}; {claimed}", sanitize::line(only)),
        [lead, others @ ..] => {
            format!("{}, parts by {}; {claimed}", sanitize::line(lead), join_names(others))
        }
    }
}

fn join_names(names: &[String]) -> String {
    names.iter().map(|name| sanitize::line(name)).collect::<Vec<_>>().join(", ")
}

fn describe_round(contest: &Contest) -> String {
    let decisions = contest.claimants.iter().map(|claimant| {
        let verb = contest.decisions.get(claimant).map_or("has not decided", |decision| match decision {
            ClaimDecision::Concede => "concedes",
            ClaimDecision::Revise => "wants a part",
            ClaimDecision::Hold => "holds",
        });
        format!("{} {verb}", sanitize::line(claimant))
    });
    let decisions: Vec<String> = decisions.collect();
    format!("round {} at {:.2}: {}", contest.round, contest.temperature, decisions.join(", "))
}

fn render_tokens(snapshot: &RunSnapshot, palette: &Palette, width: Option<usize>) -> Option<String> {
    let usage = &snapshot.usage;
    if usage.by_phase.is_empty() {
        return None;
    }
    let mut table = Table::new(&["PHASE", ">CALLS", ">IN", ">OUT", ">TOKENS"], 0);
    // Each phase once, in the order of their starts. Names without a recorded start come last, such as the empty name
    // of usage outside of phases.
    let started = snapshot.timeline.phases.iter().map(|phase| phase.name.as_str());
    let mut names: Vec<&str> = Vec::new();
    for name in started.chain(usage.by_phase.keys().map(String::as_str)) {
        if usage.by_phase.contains_key(name) && !names.contains(&name) {
            names.push(name);
        }
    }
    for name in names {
        let count = usage.by_phase.get(name).copied().unwrap_or_default();
        let shown = if name.is_empty() { "outside of phases".to_owned() } else { sanitize::line(name) };
        table.row(std::iter::once(shown).chain(token_cells(&count)).collect());
    }
    Some(render_title("Tokens", "", palette) + &table.render(palette, width))
}

fn render_timeline(snapshot: &RunSnapshot, palette: &Palette) -> Option<String> {
    let timeline = &snapshot.timeline;
    let start = timeline.started_at?;
    if timeline.phases.is_empty() {
        return None;
    }
    let ends = timeline.phases.iter().map(|phase| phase.end.unwrap_or(phase.start));
    let last = ends.chain(timeline.ended_at).max();
    let total = last.map_or(0, |end| end.millis_since(start));
    let names: Vec<String> = timeline.phases.iter().map(|phase| sanitize::line(&phase.name)).collect();
    let widest = names.iter().map(|name| name.width()).max().unwrap_or(0);
    let duration = format_duration(timeline.total_duration_ms.unwrap_or(total));
    let mut text = render_title("Time", &duration, palette);
    for (name, phase) in names.iter().zip(&timeline.phases) {
        let padding = " ".repeat(widest - name.width());
        let from = phase.start.millis_since(start);
        let to = phase.end.map_or(total, |end| end.millis_since(start));
        let duration = phase.duration_ms.map_or_else(|| "not ended".into(), format_duration);
        let good = palette.good;
        text += &format!("  {name}{padding}  {good}{}{good:#}  {duration}\n", render_bar(from, to, total));
    }
    Some(text)
}

/// A bar of fixed width that stands for `total`, with the part from `from` to `to` filled. A part that is shorter than a
/// column is a thin mark.
fn render_bar(from: u64, to: u64, total: u64) -> String {
    let column = |millis: u64| millis.min(total).saturating_mul(BAR_WIDTH).checked_div(total).unwrap_or(0);
    let start = column(from).min(BAR_WIDTH - 1);
    let length = column(to).saturating_sub(column(from));
    let count = |columns: u64| usize::try_from(columns).unwrap_or(0);
    let filled = if length == 0 { "▏".to_owned() } else { "█".repeat(count(length)) };
    let after = BAR_WIDTH - start - length.max(1);
    format!("{}{filled}{}", "·".repeat(count(start)), "·".repeat(count(after)))
}

fn render_errors(snapshot: &RunSnapshot, palette: &Palette) -> Option<String> {
    if snapshot.errors.is_empty() {
        return None;
    }
    let mut text = render_title("Errors", "", palette);
    // Several agents may fail for the same reason.
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for error in &snapshot.errors {
        match counts.iter_mut().find(|(known, _)| known == error) {
            Some((_, count)) => *count += 1,
            None => counts.push((error, 1)),
        }
    }
    for (error, count) in counts {
        let times = if count == 1 { String::new() } else { format!(" ({count} times)") };
        text += &format!("  {}{times}\n", sanitize::line(error));
    }
    Some(text)
}

/// Every event on a line: number, time since the start of the run, type, description.
fn render_events(run: &Run, palette: &Palette) -> String {
    let Palette { strong, dim, .. } = palette;
    let mut text = format!("\n{strong}Events{strong:#}\n");
    for event in &run.events {
        let millis = event.at.millis_since(run.started_at);
        let since_start = format!("{}.{:03} s", millis / 1_000, millis % 1_000);
        let kind = sanitize::line(event.payload.kind());
        let description = sanitize::line(&describe_event(&event.payload));
        let line = format!("  {:>4}  {dim}{since_start:>10}{dim:#}  {kind:<21}  {description}", event.number);
        text += line.trim_end();
        text.push('\n');
    }
    text
}

fn describe_event(payload: &EventPayload) -> String {
    match payload {
        EventPayload::RunStarted { agent, .. } => format!("by {agent}"),
        EventPayload::RunEnded { duration_ms, ending } => {
            format!("{} after {duration_ms} ms", ending_name(*ending))
        }
        EventPayload::PhaseStarted { phase } => phase.clone(),
        EventPayload::PhaseEnded { phase, duration_ms } => format!("{phase} after {duration_ms} ms"),
        EventPayload::AgentStarted { agent, role, model, .. } => match model {
            Some(model) => format!("{agent}, {role}, on {model}"),
            None => format!("{agent}, {role}"),
        },
        EventPayload::AgentEnded { agent, status, duration_ms } => {
            format!("{agent} is {} after {duration_ms} ms", status_name(*status))
        }
        EventPayload::AgentAnswered { agent, subject, text, .. } => {
            shorten(&format!("{agent}, {subject}: {}", sanitize::line(text)), ANSWER_WIDTH)
        }
        EventPayload::UsageRecorded { agent, usage, .. } => {
            format!("{agent}: {} tokens in, {} out", usage.prompt_tokens, usage.completion_tokens)
        }
        EventPayload::UsageUnknown { agent, .. } => format!("{agent}: the server reported no tokens"),
        EventPayload::ErrorOccurred { agent, message, .. } => match agent {
            Some(agent) => format!("{agent}: {message}"),
            None => message.clone(),
        },
        EventPayload::NegotiationClaimed { section, claimant } => format!("{section} by {claimant}"),
        EventPayload::NegotiationContested { section, claimants, round, temperature } => {
            format!("{section} by {} in round {round} at {temperature:.2}", claimants.join(", "))
        }
        EventPayload::NegotiationDecided { section, claimant, decision, round } => {
            let verb = match decision {
                ClaimDecision::Concede => "concedes",
                ClaimDecision::Revise => "wants a part of",
                ClaimDecision::Hold => "holds",
            };
            format!("{claimant} {verb} {section} in round {round}")
        }
        EventPayload::NegotiationResolved { section, owners, .. } => {
            format!("{section} is written by {}", owners.join(", "))
        }
        EventPayload::ArbiterDecided { section, decision, owners, reason } => {
            let verb = match decision {
                SectionDecision::Assign => "assigned to",
                SectionDecision::Split => "split among",
                SectionDecision::Merge => "merged into one of",
            };
            format!("{section} {verb} {}: {reason}", owners.join(", "))
        }
        EventPayload::TriadDegraded { triad, lost } => {
            format!("{triad} continues without {}", lost.join(", "))
        }
        EventPayload::Custom(event) => event.describe(),
        // `EventPayload` is non-exhaustive: types of later versions have no description.
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hfs_core::{Event, RunEnding, Timestamp, Usage};

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(1_770_000_000_000 + millis).unwrap()
    }

    fn details(events: Vec<(i64, EventPayload)>) -> RunDetails {
        let id: RunId = "0192f0c1-7e1a-7cc0-9b1e-3f2a5c6d7e8f".parse().unwrap();
        let events: Vec<Event> = (1..)
            .zip(events)
            .map(|(number, (millis, payload))| Event { run: id, number, at: at(millis), payload })
            .collect();
        let run = Run {
            id,
            branch: "0192f0c1-7e1a-7cc0-9b1e-3f2a5c6d7e80".parse().unwrap(),
            answers: None,
            started_at: at(0),
            ended_at: None,
            snapshot: RunSnapshot::fold(&events),
            events,
        };
        RunDetails {
            number: 3,
            run,
            branch: "main".into(),
            question: Some(Question { seq: 5, text: "Is it safe\nto deploy?".into() }),
        }
    }

    /// The text of a run and its events. The start time depends on the time zone, so it is replaced by `[time]`.
    fn rendered(details: &RunDetails) -> String {
        let plain = Palette::default();
        let text = render_run(details, &plain, None, false) + &render_events(&details.run, &plain);
        text.replace(&time_format::local(at(0)), "[time]")
    }

    fn agent_started(triad: Option<&str>, name: &str, role: &str) -> EventPayload {
        EventPayload::AgentStarted {
            agent: triad.map_or_else(|| name.to_owned(), |triad| format!("{triad}/{name}")),
            role: role.into(),
            triad: triad.map(str::to_owned),
            preset: triad.map(|_| "dialectic".to_owned()),
            model: Some("m".into()),
        }
    }

    fn agent_ended(agent: &str, status: AgentStatus) -> EventPayload {
        EventPayload::AgentEnded { agent: agent.into(), status, duration_ms: 900 }
    }

    fn answered(agent: &str, subject: &str, sections: &[&str], text: &str) -> EventPayload {
        let (agent, subject, text) = (agent.to_owned(), subject.to_owned(), text.to_owned());
        EventPayload::AgentAnswered { agent, subject, sections: names(sections), text }
    }

    fn usage_recorded(agent: &str, phase: &str, prompt_tokens: u64, completion_tokens: u64) -> EventPayload {
        EventPayload::UsageRecorded {
            agent: agent.into(),
            phase: Some(phase.into()),
            model: None,
            usage: Usage::new(prompt_tokens, completion_tokens),
        }
    }

    fn phase(name: &str, ended_after: Option<u64>) -> EventPayload {
        match ended_after {
            None => EventPayload::PhaseStarted { phase: name.into() },
            Some(duration_ms) => EventPayload::PhaseEnded { phase: name.into(), duration_ms },
        }
    }

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_run_is_rendered_with_agents_negotiation_cost_and_timeline() {
        let contested = |round, temperature| EventPayload::NegotiationContested {
            section: "risks".into(),
            claimants: names(&["makers", "testers"]),
            round,
            temperature,
        };
        let decided = |claimant: &str, round, decision| EventPayload::NegotiationDecided {
            section: "risks".into(),
            claimant: claimant.into(),
            decision,
            round,
        };
        let resolved = |section: &str, owners: &[&str]| EventPayload::NegotiationResolved {
            section: section.into(),
            owners: names(owners),
            round: 2,
        };
        let claimed = |section: &str, claimant: &str| EventPayload::NegotiationClaimed {
            section: section.into(),
            claimant: claimant.into(),
        };
        let run = details(vec![
            (0, EventPayload::RunStarted { agent: "triads".into(), answers: None }),
            (0, phase("deliberation", None)),
            (1, agent_started(Some("makers"), "proposer", "proposer")),
            (1, agent_started(Some("makers"), "critic", "critic")),
            (2, agent_started(Some("testers"), "proposer", "proposer")),
            (900, usage_recorded("makers/proposer", "deliberation", 100, 20)),
            (900, agent_ended("makers/proposer", AgentStatus::Idle)),
            (
                901,
                EventPayload::ErrorOccurred {
                    agent: Some("makers/critic".into()),
                    phase: Some("deliberation".into()),
                    message: "the \u{1b}[31mmodel is\nill".into(),
                },
            ),
            (900, answered("makers/proposer", "position", &["answer", "risks"], "It is safe.\n\n- say so")),
            (901, agent_ended("makers/critic", AgentStatus::Blocked)),
            (901, EventPayload::TriadDegraded { triad: "makers".into(), lost: names(&["makers/critic"]) }),
            (1_000, usage_recorded("testers/proposer", "deliberation", 200, 40)),
            (1_000, phase("deliberation", Some(1_000))),
            (1_000, phase("claims", None)),
            (1_000, claimed("answer", "makers")),
            (1_000, claimed("risks", "makers")),
            (1_000, claimed("risks", "testers")),
            (1_000, resolved("answer", &["makers"])),
            (1_000, phase("claims", Some(0))),
            (1_000, phase("negotiation", None)),
            (1_000, contested(1, 1.0)),
            (1_400, decided("makers", 1, ClaimDecision::Hold)),
            (1_400, decided("testers", 1, ClaimDecision::Hold)),
            (1_400, contested(2, 0.85)),
            (1_800, decided("makers", 2, ClaimDecision::Hold)),
            (
                1_800,
                answered("testers/proposer", "decision", &["risks"], "- risks: concedes it: they know more"),
            ),
            (1_800, decided("testers", 2, ClaimDecision::Concede)),
            (1_900, agent_started(None, "arbiter", "arbiter")),
            (1_900, usage_recorded("arbiter", "negotiation", 30, 5)),
            (
                2_000,
                EventPayload::ArbiterDecided {
                    section: "risks".into(),
                    decision: SectionDecision::Split,
                    owners: names(&["testers", "makers"]),
                    reason: "both know some".into(),
                },
            ),
            (2_000, resolved("risks", &["testers", "makers"])),
            (2_000, phase("negotiation", Some(1_000))),
            (2_000, phase("integration", None)),
            (2_000, usage_recorded("arbiter", "", 1, 1)),
            (4_000, agent_ended("arbiter", AgentStatus::Complete)),
            (4_000, phase("integration", Some(2_000))),
            (4_010, EventPayload::RunEnded { duration_ms: 4_010, ending: RunEnding::Completed }),
        ]);
        insta::assert_snapshot!(rendered(&run));
        let in_full = render_run(&run, &Palette::default(), None, true);
        let position = "  makers/proposer position answer, risks\n    It is safe.\n\n    - say so\n";
        assert!(in_full.contains(position), "{in_full}");
    }

    #[test]
    fn an_unfinished_run_of_one_agent_is_rendered_without_empty_headings() {
        let run = details(vec![
            (0, EventPayload::RunStarted { agent: "assistant".into(), answers: None }),
            (5, agent_started(None, "assistant", "assistant")),
        ]);
        insta::assert_snapshot!(rendered(&run), @r#"
        run         3 (wkxpuntmslrk) of assistant
        answers     message 5: Is it safe to deploy?
        started     [time] on main
        ended       still running, or its process died
        cost        no call of a model has ended

        Agents
        AGENT      ROLE       STATUS   CALLS  IN  OUT  TOKENS  MODEL
        assistant  assistant  working      0   -    -       -  m

        Events
             1     0.000 s  run.started            by assistant
             2     0.005 s  agent.started          assistant, assistant, on m
        "#);
    }

    #[test]
    fn a_phase_that_has_not_ended_has_a_bar_up_to_the_newest_event() {
        let run = details(vec![
            (0, EventPayload::RunStarted { agent: "triads".into(), answers: None }),
            (0, phase("deliberation", None)),
            (800, phase("deliberation", Some(800))),
            (1_000, phase("claims", None)),
        ]);
        let text = render_run(&run, &Palette::default(), None, false);
        let expected = format!("claims        {}▏  not ended", "·".repeat(39));
        assert!(text.contains(&expected), "{text}");
    }

    #[test]
    fn durations_are_formatted_in_the_unit_that_fits() {
        for (millis, expected) in
            [(0, "0 ms"), (999, "999 ms"), (1_000, "1.0 s"), (59_999, "59.9 s"), (61_500, "1 min 1 s")]
        {
            assert_eq!(format_duration(millis), expected);
        }
    }
}
