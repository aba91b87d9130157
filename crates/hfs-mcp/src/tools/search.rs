//! The tool `search`.

use hfs_core::{SearchQuery, SessionFilter, plural};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{RoleArg, is_quoting_hfs};
use crate::answer::{Answer, MAX_ANSWER_BYTES};
use crate::error::McpError;
use crate::library::Library;
use crate::place::{Place, Reference};

const DEFAULT_LIMIT: u32 = 10;
const MAX_LIMIT: u32 = 40;
/// Hits that can be reached by an offset.
const MAX_HITS: u32 = 10_000;

/// Arguments of `search`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SearchArgs {
    /// Words that must all occur, in any form; "a quoted phrase" as it is; a prefix*
    query: String,
    /// Only projects whose directory or repository contains this text; . for the current project
    project: Option<String>,
    /// Only conversations with this tool, such as claude-code, codex or opencode
    tool: Option<String>,
    /// Only this session: an id, a name, or @ for the newest
    session: Option<String>,
    /// Only messages of this role
    role: Option<RoleArg>,
    /// Only messages at or after this time: 2026-02-01, 2d, "3 weeks ago"
    since: Option<String>,
    /// Maximum number of hits; 10 by default
    #[schemars(range(min = 1, max = 40))]
    limit: Option<u32>,
    /// Number of hits to skip, to continue an earlier search
    offset: Option<u32>,
}

pub fn run(library: &Library<'_>, args: &SearchArgs) -> Result<String, McpError> {
    let session =
        args.session.as_deref().map(|text| library.find_session(&Reference::parse(text))).transpose()?;
    let offset = args.offset.unwrap_or(0).min(MAX_HITS);
    let limit = args.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT);
    let sessions =
        SessionFilter { tool: args.tool.clone(), ..library.project_filter(args.project.as_deref()) };
    let query = SearchQuery {
        text: args.query.clone(),
        sessions,
        session: session.map(|summary| summary.session.id),
        role: args.role.map(Into::into),
        since: library.parse_time(args.since.as_deref())?,
        limit: offset + limit,
    };
    if query.terms().is_empty() {
        return Err(McpError::Argument("the query contains no word to search for".to_owned()));
    }
    let found = library.store().search(&query)?;
    let mut answer = Answer::new(MAX_ANSWER_BYTES);
    let mut shown = offset;
    let mut quoting = 0;
    for hit in found.hits.iter().skip(usize::try_from(offset).unwrap_or(usize::MAX)) {
        let place =
            Place { session: hit.session, branch: hit.branch, branch_name: &hit.branch_name, seq: hit.seq };
        let message = library.store().get_message(hit.message)?;
        if is_quoting_hfs(&message.content) {
            quoting += 1;
            shown += 1;
            continue;
        }
        let block = format!(
            "[{}] {}, {}, {}\n  {}",
            place.cite(),
            hit.role,
            library.time(hit.created_at),
            library.label_of(hit.session)?,
            library.excerpt(&message.content, &hit.snippet),
        );
        if !answer.push(&block) {
            break;
        }
        shown += 1;
    }
    if found.total == 0 {
        answer.push_footer("Nothing found. Try fewer or other words, or recall with a question.");
    } else if u64::from(shown) < found.total {
        answer.push_footer(&format!(
            "{shown} of {} messages shown; continue with offset={shown}, or add words.",
            found.total
        ));
    } else {
        answer.push_footer(&format!("{} found.", plural(found.total, "message")));
    }
    if quoting > 0 {
        answer.push_footer(&format!("{quoting} of them only quote earlier answers of hfs and are left out."));
    }
    if found.unreadable > 0 {
        answer.push_footer(&format!("{} damaged messages are left out.", found.unreadable));
    }
    Ok(answer.finish())
}
