//! `hfs chat`

mod speaker;

use std::io::{IsTerminal, Read};
use std::sync::Arc;

use hfs_core::{AgentError, Project, SessionId};
use hfs_engine::{Conversation, Engine, Exchange, SendError};
use tokio_util::sync::CancellationToken;

use crate::args::Answering;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::wire::{ChatView, MessageRow, RunRow};
use crate::{interrupt, plain, wiring};
use speaker::Speaker;

const EXAMPLES: &str = "\
Examples:
  hfs chat \"Why does the login fail?\"     a new session
  hfs chat -c \"And on Windows?\"           this project's newest session goes on
  hfs chat -s login \"Summarise this\"      a session by its name or id
  hfs chat --triads small \"Is it safe?\"   groups of agents discuss it and answer together
  git diff | hfs chat -                   the message from standard input

The reply streams to standard output; your message is saved before it is sent, the reply while it arrives. Ctrl-C
ends the reply and keeps what has arrived (exit code 130).";

/// What to say, and where.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Chat {
    /// What to say; - (or nothing, where that is not a terminal) reads it from standard input
    prompt: Option<String>,
    /// Go on with this session
    #[arg(short, long, conflicts_with = "continue_newest")]
    session: Option<String>,
    /// Go on with this project's newest session
    #[arg(short = 'c', long = "continue")]
    continue_newest: bool,
    /// Who answers.
    #[command(flatten)]
    pub answering: Answering,
}

/// Sends one message and sees its reply through.
pub fn run(chat: &Chat, context: &Context) -> Result<Outcome, Failure> {
    let text = prompt(chat, context)?;
    let session = match &chat.session {
        Some(reference) => Some(context.session(reference)?),
        None if chat.continue_newest => Some(context.session("@")?),
        None => None,
    };
    let cancel = interrupt::watch()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::io("start the asynchronous runtime", error))?;
    runtime.block_on(exchange(session, &text, cancel, context))
}

fn prompt(chat: &Chat, context: &Context) -> Result<String, Failure> {
    if let Some(text) = chat.prompt.as_deref().filter(|text| *text != "-") {
        return Ok(text.to_owned());
    }
    if chat.prompt.is_none() && std::io::stdin().is_terminal() {
        context.console.note("type your message; Ctrl-D on an empty line sends it");
    }
    let mut bytes = Vec::new();
    std::io::stdin()
        .lock()
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::io("read standard input", error))?;
    Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

/// An engine over the store and the agent of this context.
pub async fn engine(context: &Context) -> Result<(Engine, bool), Failure> {
    let answerer = wiring::choose(context).await?;
    let engine = wiring::engine(context, answerer.agent, Arc::clone(context.store()?), context.hooks()?);
    Ok((engine, answerer.offline))
}

async fn exchange(
    session: Option<SessionId>,
    text: &str,
    cancel: CancellationToken,
    context: &Context,
) -> Result<Outcome, Failure> {
    let (engine, offline) = engine(context).await?;
    let mut conversation = match session {
        Some(session) => engine.resume(session, None)?,
        None => Conversation::new(Some(Project::clone(context.project()))),
    };
    if offline && !context.console.manner.json {
        context.console.note(&format!(
            "{}: {}",
            engine.agent().describe().name,
            engine.agent().describe().summary
        ));
    } else if context.console.manner.verbose {
        context.console.note(&plain::line(&engine.agent().describe().summary));
    }
    let speaker = Speaker::start(&context.console);
    let result = engine.send(&mut conversation, text, speaker.observer(), cancel).await;
    speaker.finish();
    engine.leave(&conversation).await;
    if let Some(plugins) = context.plugins()? {
        plugins.take_notices().iter().for_each(|notice| context.console.warn(&plain::line(notice)));
    }
    let exchange = result.inspect_err(|error| keep_reply_visible(error, context))?;
    conclude(exchange, session.is_none(), &engine, &conversation, context)
}

/// A reply that could not be saved is shown where the stream did not show it.
fn keep_reply_visible(error: &SendError, context: &Context) {
    if let SendError::ReplyNotSaved { reply, .. } = error
        && context.console.manner.json
    {
        context.console.aside(&(plain::block(&reply.text()) + "\n"));
    }
}

fn conclude(
    exchange: Exchange,
    is_new: bool,
    engine: &Engine,
    conversation: &Conversation,
    context: &Context,
) -> Result<Outcome, Failure> {
    let console = &context.console;
    let Exchange { reply, run, failure, .. } = exchange;
    let session = conversation.session().map(|id| id.to_string()).unwrap_or_default();
    let short = conversation.session().map(|id| id.short().shown().to_owned()).unwrap_or_default();
    if console.manner.json {
        let branch = engine.store().get_branch(reply.branch)?.name;
        console.json(&ChatView {
            session,
            branch,
            message: MessageRow::from(&reply),
            run: RunRow { id: run.id.to_string(), snapshot: &run.snapshot, events: &run.events },
        })?;
    } else if failure.is_none() && is_new && console.error_is_terminal() {
        console.note(&format!("saved as {short}; go on with: hfs chat -s {short} \"...\""));
    }
    match failure {
        None => Ok(Outcome::Done),
        Some(AgentError::Cancelled) if !console.manner.json => {
            console.note(&format!("cancelled; what had arrived is kept: hfs session show {short}"));
            Ok(Outcome::Interrupted)
        }
        Some(failure) => {
            if !reply.content.parts.is_empty() && !console.manner.json {
                console.note(&format!(
                    "the reply broke off; what had arrived is kept: hfs session show {short}"
                ));
            }
            Err(failure.into())
        }
    }
}
