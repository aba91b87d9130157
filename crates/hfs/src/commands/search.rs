//! `hfs search`: full-text search over all saved messages.

use hfs_core::{Role, SearchHit, SearchQuery, SessionFilter};

use crate::args::{MAX_LIMIT, limit_parser, parse_since};
use crate::context::Context;
use crate::output::console::Palette;
use crate::output::error::{CliError, Outcome};
use crate::output::json::{SearchHitJson, SearchJson};
use crate::output::message::{FoundMessage, found_heading};
use crate::output::progress::update_index_or_warn;
use crate::output::sanitize;
use crate::project;
use crate::watch::catch_up::catch_up;

const EXAMPLES: &str = "\
Examples:
  hfs search connection refused            both words, anywhere in a message
  hfs search '\"connection refused\"'        this phrase, as it is written here
  hfs search ServerError                   also in HTTPServerError
  hfs search 'connect*' --role user        words that start with connect, in your own messages
  hfs search timeout --since 2w            in messages of the last two weeks
  hfs search timeout --session @           in the newest session
  hfs search timeout --project .           in the sessions of this project
  hfs search timeout --tool claude-code    in those that were imported from a tool";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct SearchArgs {
    /// Words that must all occur, in any form; "a quoted phrase" as it is; a prefix*
    #[arg(required = true, value_name = "QUERY")]
    query: Vec<String>,
    /// Search this session only
    #[arg(short, long)]
    session: Option<String>,
    /// Search the sessions of all projects whose directory or repository contains this text; a directory, such as ., stands
    /// for its project
    #[arg(long, value_name = "PROJECT")]
    project: Option<String>,
    /// Search sessions of this tool, such as claude-code or codex; hfs for its own sessions, also if imported from an
    /// export
    #[arg(long, value_name = "TOOL")]
    tool: Option<String>,
    /// Search messages of this role only: user, assistant, system or tool
    #[arg(long, value_name = "ROLE")]
    role: Option<Role>,
    /// Search messages at or after this time: 2026-02-01, 2026-02-01T14:30, 2d, "3 weeks ago"
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Maximum number of messages
    #[arg(short = 'n', long = "limit", value_name = "N", default_value_t = 20, value_parser = limit_parser())]
    limit: u32,
}

pub fn run(args: &SearchArgs, context: &Context) -> Result<Outcome, CliError> {
    let since = args.since.as_deref().map(parse_since).transpose()?;
    let in_project = args.project.as_deref().map(|text| project::filter(text, &context.environment));
    let sessions = SessionFilter { tool: args.tool.clone(), ..in_project.unwrap_or_default() };
    catch_up(context);
    // The session that is meant, such as the newest one, may have been imported just now.
    let session = args.session.as_deref().map(|reference| context.session(reference)).transpose()?;
    let query = SearchQuery {
        text: args.query.join(" "),
        sessions,
        session,
        role: args.role,
        since,
        limit: args.limit,
    };
    let store = context.store()?;
    update_index_or_warn(store.as_ref(), &context.console);
    let found = store.search(&query)?;
    let console = &context.console;
    console.warn_of_damage(found.unreadable, "message");
    if console.options.json {
        let hits = found.hits.iter().map(SearchHitJson::from).collect();
        console.print_json(&SearchJson { hits, total: found.total, unreadable: found.unreadable })?;
        return Ok(Outcome::Done);
    }
    if query.terms().is_empty() {
        console.note("the query contains no word to search for");
        return Ok(Outcome::Done);
    }
    let entries: Vec<String> = found.hits.iter().map(|hit| render_hit(hit, context)).collect();
    console.print(&entries.join("\n"))?;
    let shown = found.hits.len() as u64;
    match found.total {
        0 => console.note("nothing found"),
        total if total > shown && args.limit < MAX_LIMIT => {
            let more = (shown * 5).min(u64::from(MAX_LIMIT));
            console.note(&format!("{shown} of {total} messages; -n {more} shows more"));
        }
        total if total > shown => {
            console.note(&format!("{shown} of {total} messages; more words in the query find the others"));
        }
        _ => {}
    }
    Ok(Outcome::Done)
}

fn render_hit(hit: &SearchHit, context: &Context) -> String {
    let palette = &context.console.palette;
    let Palette { strong, .. } = palette;
    let heading = found_heading(
        &FoundMessage {
            session: hit.session,
            session_name: &hit.session_name,
            branch_name: &hit.branch_name,
            seq: hit.seq,
            role: hit.role,
            time: &context.format_time(hit.created_at),
        },
        palette,
    );
    // Text with many spaces, such as formatted JSON, would fill several rows.
    let line = sanitize::line(&hit.snippet);
    let words: Vec<&str> = line.split_whitespace().collect();
    let snippet = words
        .join(" ")
        .replace(SearchHit::MARK_START, &strong.render().to_string())
        .replace(SearchHit::MARK_END, &strong.render_reset().to_string());
    format!("{heading}\n  {snippet}\n")
}
