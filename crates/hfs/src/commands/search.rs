//! `hfs search`

use hfs_core::{Role, SearchHit, SearchQuery};
use jiff::Zoned;

use crate::console::Palette;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::wire::{HitRow, SearchView};
use crate::{indexing, moments, plain};

const EXAMPLES: &str = "\
Examples:
  hfs search connection refused            both words, anywhere in a message
  hfs search '\"connection refused\"'        exactly these, one after the other
  hfs search 'connect*' --role user        what begins so, in what you said
  hfs search timeout --since 2w            in the last two weeks
  hfs search timeout --session @           in the newest session only";

/// What to find, and where.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Search {
    /// Words that must all occur; \"quoted\" ones in this order; word* for a beginning
    #[arg(required = true, value_name = "QUERY")]
    query: Vec<String>,
    /// In this session only
    #[arg(short, long)]
    session: Option<String>,
    /// In what this role said only: user, assistant, system or tool
    #[arg(long, value_name = "ROLE", value_parser = role)]
    role: Option<Role>,
    /// Said at or after this time: 2026-02-01, 2026-02-01T14:30, 2d, \"3 weeks ago\"
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// How many at most
    #[arg(short = 'n', long = "limit", value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

fn role(text: &str) -> Result<Role, String> {
    text.parse::<Role>().map_err(|error| error.to_string())
}

/// Finds words in everything that was ever said.
pub fn run(search: &Search, context: &Context) -> Result<Outcome, Failure> {
    let since = search.since.as_deref().map(|text| moments::parse(text, &Zoned::now())).transpose();
    let since = since.map_err(|expected| Failure::Usage {
        message: format!("{:?} is no time", search.since.as_deref().unwrap_or_default()),
        hint: expected,
    })?;
    let session = search.session.as_deref().map(|reference| context.session(reference)).transpose()?;
    let query = SearchQuery {
        text: search.query.join(" "),
        session,
        role: search.role,
        since,
        limit: search.limit,
        ..SearchQuery::default()
    };
    let store = context.store()?;
    // The search itself says what is wrong with the store, or does without the newest messages.
    let _ = indexing::update(store.as_ref(), &context.console, &|| true);
    let found = store.search(&query)?;
    let console = &context.console;
    if console.manner.json {
        console
            .json(&SearchView { hits: found.hits.iter().map(HitRow::from).collect(), total: found.total })?;
        return Ok(Outcome::Done);
    }
    if query.terms().is_empty() {
        console.note("there is no word in this to look for");
        return Ok(Outcome::Done);
    }
    let mut text = String::new();
    for hit in &found.hits {
        if !text.is_empty() {
            text.push('\n');
        }
        text += &entry(hit, context);
    }
    console.print(&text)?;
    let shown = found.hits.len() as u64;
    match found.total {
        0 => console.note("nothing found"),
        total if total > shown => {
            console.note(&format!("{shown} of {total} messages; -n {} shows more", shown * 5));
        }
        _ => {}
    }
    Ok(Outcome::Done)
}

/// Where it was said, and the words in their surroundings.
fn entry(hit: &SearchHit, context: &Context) -> String {
    let palette = &context.console.palette;
    let Palette { dim, role, .. } = *palette;
    let when = if context.console.manner.verbose {
        moments::exact(hit.created_at)
    } else {
        moments::ago(hit.created_at, context.now())
    };
    let branch = if hit.branch_name == hfs_core::MAIN_BRANCH {
        String::new()
    } else {
        format!(" · {}", plain::line(&hit.branch_name))
    };
    format!(
        "{role}{}{role:#} {dim}{} #{}{branch} · {} · {when}{dim:#}\n  {}\n",
        hit.session.short().shown(),
        plain::line(&hit.session_name),
        hit.seq,
        hit.role,
        snippet(&hit.snippet, palette)
    )
}

/// The snippet on one line, its matches emphasised.
fn snippet(text: &str, palette: &Palette) -> String {
    let strong = palette.strong;
    plain::line(text)
        .replace(SearchHit::MARK_START, &strong.render().to_string())
        .replace(SearchHit::MARK_END, &strong.render_reset().to_string())
}
