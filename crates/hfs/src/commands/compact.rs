//! `hfs compact`: replaces a conversation in the model's context by a summary.

use std::sync::Arc;

use hfs_core::plural;
use hfs_engine::{Compaction, Update};
use serde_json::json;

use crate::context::Context;
use crate::output::error::{CliError, Outcome};
use crate::output::json::MessageJson;
use crate::output::sanitize;
use crate::wiring::agent::build_agent;
use crate::{interrupt, wiring};

const EXAMPLES: &str = "\
Examples:
  hfs compact           summarize the newest session
  hfs compact login     summarize a session by its name or id

The model that answers writes the summary, which becomes the newest message of the session. From then on, the model sees the \
summary instead of the messages before it. All messages stay saved, can be read and searched, and are used again after a \
rewind to a place before the summary. hfs does the same by itself before a conversation no longer fits into the model's \
context; `hfs config set compaction manual` turns that off.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct CompactArgs {
    /// The session [default: the newest]
    #[arg(default_value = "@", hide_default_value = true)]
    session: String,
}

pub fn run(args: &CompactArgs, context: &Context) -> Result<Outcome, CliError> {
    let session = context.session(&args.session)?;
    let cancel = interrupt::install()?;
    let console = context.console;
    let (Compaction { summary, messages, tokens }, branch) = wiring::runtime()?.block_on(async {
        let agent = build_agent(context).await?.agent;
        let engine = wiring::engine(context, agent, Arc::clone(context.store()?), context.hooks()?);
        let mut conversation = engine.resume(session, None).await?;
        let observer = move |update: Update| {
            if let Update::Compacting { messages } = update
                && !console.options.json
            {
                console.note(&format!("summarizing {} ...", plural(messages, "message")));
            }
        };
        let compaction = engine.compact(&mut conversation, &observer, cancel).await?;
        let branch = engine.store().get_branch(compaction.summary.branch)?.name;
        Ok::<_, CliError>((compaction, branch))
    })?;
    if console.options.json {
        console.print_json(&json!({
            "session": session.to_string(),
            "branch": branch,
            "message": MessageJson::from(&summary),
            "replaced": { "messages": messages, "estimated_tokens": tokens },
        }))?;
        return Ok(Outcome::Done);
    }
    console.print(&format!("{}\n", sanitize::block(&summary.content.text())))?;
    console.note(&format!(
        "the model now sees this summary instead of {}; all messages stay saved: hfs session show {}",
        plural(messages, "message"),
        session.short().shown()
    ));
    Ok(Outcome::Done)
}
