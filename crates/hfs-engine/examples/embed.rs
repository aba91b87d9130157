//! Durable sessions with checkpoints in a small program: a store, a custom agent, two messages, a rewind.
//!
//! `cargo run -p hfs-engine --example embed`

#![allow(clippy::print_stdout, reason = "an example prints its results")]

use std::error::Error;
use std::sync::Arc;

use async_trait::async_trait;
use hfs_core::{Agent, AgentDescription, AgentError, Part, ReplyDelta, RunOutcome, RunRequest, RunSink};
use hfs_engine::{CancellationToken, Conversation, Engine};
use hfs_store::{SqliteOptions, SqliteStore};

struct Echo;

#[async_trait]
impl Agent for Echo {
    fn describe(&self) -> AgentDescription {
        AgentDescription::new("echo", "repeats the message")
    }

    async fn run(&self, request: RunRequest, sink: &dyn RunSink) -> Result<RunOutcome, AgentError> {
        let text = request.history.last().map(|message| message.content.text()).unwrap_or_default();
        sink.reply(ReplyDelta::text(&text)); // Durable within 200 ms, even if the process is killed.
        Ok(RunOutcome::new(vec![Part::text(text)]))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let store = Arc::new(SqliteStore::open(directory.path().join("sessions.db"), SqliteOptions::default())?);
    let engine = Engine::builder(store, Arc::new(Echo)).build();

    let mut conversation = Conversation::new(None);
    for text in ["What is a checkpoint?", "And a rewind?"] {
        let exchange =
            engine.send(&mut conversation, text, Arc::new(|_| {}), CancellationToken::new()).await?;
        println!("{}: {}", exchange.reply.content.role.as_str(), exchange.reply.content.text());
    }

    let session = conversation.session().ok_or("no message was sent")?;
    let checkpoints = engine.store().list_checkpoints(session)?;
    for checkpoint in &checkpoints {
        println!("checkpoint after message {}, made by {}", checkpoint.seq, checkpoint.trigger);
    }

    let first = checkpoints.first().ok_or("no checkpoint was made")?;
    let rewound = engine.rewind(first.id).await?;
    println!(
        "{} shows {} messages; {} is unchanged",
        rewound.branch.name, rewound.plan.in_view, rewound.plan.current.name
    );
    Ok(())
}
