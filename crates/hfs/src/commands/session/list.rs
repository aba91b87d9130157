//! `hfs session list`

use hfs_core::{Cursor, PageRequest, SessionFilter, SessionSummary, ShortId};

use crate::context::Context;
use crate::failure::Failure;
use crate::table::Table;
use crate::wire::{SessionList, SessionRow};
use crate::{moments, plain};

/// Which sessions.
#[derive(Debug, clap::Args)]
pub struct List {
    /// Those of every project
    #[arg(short, long)]
    all: bool,
    /// Those in the trash
    #[arg(long)]
    trash: bool,
    /// How many at most
    #[arg(short = 'n', long = "limit", value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Go on where a page ended, with the cursor it printed
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
}

/// How a list is shown.
#[derive(Debug, Clone, Copy, Default)]
pub struct Listing {
    /// With the project of each.
    pub projects: bool,
    /// With exact times.
    pub exact: bool,
}

pub fn run(list: &List, context: &Context) -> Result<(), Failure> {
    let store = context.store()?;
    let project = (!list.all && !list.trash).then(|| context.project().key().to_owned());
    let filter = SessionFilter { project, trashed: list.trash, ..SessionFilter::default() };
    let request = PageRequest { limit: list.limit, after: list.after.clone().map(Cursor) };
    let page = store.list_sessions(&filter, &request)?;
    let console = &context.console;
    if console.manner.json {
        let sessions = page.items.iter().map(SessionRow::from).collect();
        return console.json(&SessionList { sessions, next: page.next.map(|cursor| cursor.0) });
    }
    if page.items.is_empty() && list.after.is_none() {
        return none(list, context);
    }
    let listing = Listing { projects: list.all || list.trash, exact: console.manner.verbose };
    console.print(&rows(&page.items, listing, context))?;
    if let Some(cursor) = page.next {
        let all = if list.all { " --all" } else { "" };
        let trash = if list.trash { " --trash" } else { "" };
        console.note(&format!(
            "more: hfs session list{all}{trash} -n {} --after {}",
            list.limit,
            plain::line(&cursor.0)
        ));
    }
    Ok(())
}

/// Says why there is nothing to list.
fn none(list: &List, context: &Context) -> Result<(), Failure> {
    let console = &context.console;
    if list.trash {
        console.note("the trash is empty");
        return Ok(());
    }
    // What is in the trash counts for the store but is not elsewhere.
    let elsewhere = context.store()?.list_sessions(&SessionFilter::default(), &PageRequest::first(1000))?;
    let (count, more) = (elsewhere.items.len(), if elsewhere.next.is_some() { "more than " } else { "" });
    console.note(&match count {
        0 => "no sessions yet: `hfs chat \"...\"` begins one, `hfs import PATH` takes in what other tools wrote".into(),
        1 => "no sessions in this project, 1 elsewhere: hfs session list --all".to_owned(),
        _ => format!("no sessions in this project, {more}{count} elsewhere: hfs session list --all"),
    });
    Ok(())
}

/// Sessions as a table.
pub fn rows(sessions: &[SessionSummary], listing: Listing, context: &Context) -> String {
    let now = context.now();
    let letters = letters_needed(sessions);
    let mut headings = vec!["ID", "NAME", ">MESSAGES", "UPDATED"];
    if listing.projects {
        headings.push("PROJECT");
    }
    let with_branches = sessions.iter().any(|summary| summary.branches > 1);
    if with_branches {
        headings.insert(3, "BRANCH");
    }
    let mut table = Table::new(&headings, 1);
    for summary in sessions {
        let session = &summary.session;
        let short = session.id.short();
        let updated = if listing.exact {
            moments::exact(session.updated_at)
        } else {
            moments::ago(session.updated_at, now)
        };
        let mut cells = vec![
            short.as_str().chars().take(letters).collect(),
            plain::line(&session.name),
            summary.messages.to_string(),
            updated,
        ];
        if with_branches {
            let others = summary.branches.saturating_sub(1);
            let more = if others == 0 { String::new() } else { format!(" (+{others})") };
            cells.insert(3, plain::line(&summary.branch) + &more);
        }
        if listing.projects {
            let key = session.project.as_ref().map_or("-", |project| project.key());
            cells.push(abbreviated(&plain::line(key), context));
        }
        table.row(cells);
    }
    table.render(&context.console.palette, context.console.width())
}

/// How many letters of the short ids tell these sessions apart, at least as many as lists usually show.
fn letters_needed(sessions: &[SessionSummary]) -> usize {
    let mut ids: Vec<ShortId> = sessions.iter().map(|summary| summary.session.id.short()).collect();
    ids.sort_unstable();
    let shared = |a: &ShortId, b: &ShortId| {
        a.as_str().bytes().zip(b.as_str().bytes()).take_while(|(a, b)| a == b).count()
    };
    let longest = ids.windows(2).map(|pair| match pair {
        [a, b] => shared(a, b),
        _ => 0,
    });
    longest.max().map_or(ShortId::SHOWN, |longest| ShortId::SHOWN.max(longest + 1))
}

/// A path with the user's home directory as `~`.
fn abbreviated(path: &str, context: &Context) -> String {
    let home = context.environment.user_home.as_ref().map(|home| home.display().to_string());
    match home.as_deref().and_then(|home| path.strip_prefix(home)) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => format!("~{rest}"),
        _ => path.to_owned(),
    }
}
