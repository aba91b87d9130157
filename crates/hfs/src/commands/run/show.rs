//! `hfs run show`

use super::{Placed, events, find, picture};
use crate::context::Context;
use crate::failure::Failure;

/// Which run, and how much of it.
#[derive(Debug, clap::Args)]
pub struct Show {
    /// The session
    session: String,
    /// The run [default: the newest]
    #[arg(default_value = "@", hide_default_value = true)]
    run: String,
    /// With every event
    #[arg(long)]
    events: bool,
}

pub fn run(show: &Show, context: &Context) -> Result<(), Failure> {
    let session = context.session(&show.session)?;
    let placed = Placed::load(find(session, &show.run, context)?, context)?;
    let console = &context.console;
    if console.manner.json {
        // Summaries and snapshots always become JSON objects.
        let mut document = serde_json::json!({ "run": placed.summary() });
        if let Some(run) = document.get_mut("run").and_then(serde_json::Value::as_object_mut) {
            run.insert("snapshot".into(), serde_json::json!(placed.run.snapshot));
            if show.events {
                run.insert("events".into(), serde_json::json!(placed.run.events));
            }
        }
        return console.json(&document);
    }
    let mut text = picture::whole(&placed, &console.palette, console.width());
    if show.events {
        text += &events::list(&placed.run, &console.palette);
    }
    console.print(&text)
}
