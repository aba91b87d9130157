//! `hfs run list`

use super::{Placed, took};
use crate::context::Context;
use crate::failure::Failure;
use crate::table::{Table, shorten};
use crate::{moments, plain};

/// The most columns of what was asked.
const GLIMPSE: usize = 60;

/// Which runs.
#[derive(Debug, clap::Args)]
pub struct List {
    /// The session
    session: String,
    /// How many of the newest at most
    #[arg(short = 'n', long = "limit", value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

pub fn run(list: &List, context: &Context) -> Result<(), Failure> {
    let session = context.session(&list.session)?;
    let all = context.store()?.list_runs(session)?;
    let total = all.len();
    let before = total.saturating_sub(usize::try_from(list.limit).unwrap_or(usize::MAX));
    let newest = (1..).zip(all).skip(before);
    let runs: Vec<Placed> = newest.map(|placed| Placed::load(placed, context)).collect::<Result<_, _>>()?;
    let console = &context.console;
    if console.manner.json {
        let runs: Vec<_> = runs.iter().map(Placed::summary).collect();
        return console.json(&serde_json::json!({ "runs": runs, "total": total }));
    }
    if runs.is_empty() {
        console.note("no runs: nothing was answered here by hfs");
        return Ok(());
    }
    let mut table = Table::new(&[">#", "ID", "AGENT", "ENDING", ">TOOK", ">TOKENS", "BEGAN", "ANSWERS"], 7);
    for placed in &runs {
        let summary = placed.summary();
        let began = placed.run.started_at;
        let asked = placed.question.as_ref().map_or("-", |(_, text)| text.as_str());
        table.row(vec![
            placed.number.to_string(),
            placed.run.id.short().shown().to_owned(),
            plain::line(&summary.agent),
            summary.ending.to_owned(),
            summary.duration_ms.map_or_else(|| "-".into(), took),
            summary.total_tokens.to_string(),
            if console.manner.verbose { moments::exact(began) } else { moments::ago(began, context.now()) },
            shorten(&plain::line(asked), GLIMPSE),
        ]);
    }
    console.print(&table.render(&console.palette, console.width()))?;
    if before > 0 {
        console.note(&format!("{before} older: hfs run list {} -n {total}", plain::line(&list.session)));
    }
    Ok(())
}
