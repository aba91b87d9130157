//! The use cases of hfs: send, checkpoint, rewind, undo, import.
//!
//! The engine decides the order of the steps of each use case: hooks first, then the store, then the agent, then the
//! checkpoint. It uses only the ports of `hfs-core`, so it does not depend on a database, a model provider or a plugin
//! runtime.
//!
//! - [`Engine`] is asynchronous and needs a tokio runtime. It calls the store, whose calls block, on tokio's blocking
//!   threads.
//! - [`BlockingEngine`] has the same operations for callers without a runtime, such as a command line.
//! - [`Importer`] receives sessions from a transcript reader. It blocks, for the reason given in its documentation.
//! - [`copy_store`] copies all sessions of a store to another one.
//! - [`session_graph`] and [`Lineage`] compute the graph and the ancestry of a session's branches, without a store.
//!
//! ```
//! use std::sync::Arc;
//!
//! use async_trait::async_trait;
//! use hfs_core::{Agent, AgentDescription, AgentError, Part, ReplyDelta, RunOutcome, RunRequest, RunSink};
//! use hfs_engine::{CancellationToken, Conversation, Engine, Update};
//! use hfs_store::{SqliteOptions, SqliteStore};
//!
//! struct Echo;
//!
//! #[async_trait]
//! impl Agent for Echo {
//!     fn describe(&self) -> AgentDescription {
//!         AgentDescription::new("echo", "repeats the message")
//!     }
//!
//!     async fn run(&self, request: RunRequest, sink: &dyn RunSink) -> Result<RunOutcome, AgentError> {
//!         let text = request.history.last().map(|message| message.content.text()).unwrap_or_default();
//!         sink.reply(ReplyDelta::text(&text));
//!         Ok(RunOutcome::new(vec![Part::text(text)]))
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let directory = tempfile::tempdir()?;
//! let store = SqliteStore::open(directory.path().join("hfs.db"), SqliteOptions::default())?;
//! let engine = Engine::builder(Arc::new(store), Arc::new(Echo)).build();
//!
//! let mut conversation = Conversation::new(None);
//! let observer = Arc::new(|update: Update| {
//!     if let Update::Delta(ReplyDelta::Text(delta)) = update {
//!         print!("{}", delta.text);
//!     }
//! });
//! let exchange = engine.send(&mut conversation, "Hello", observer, CancellationToken::new()).await?;
//! assert_eq!(exchange.reply.content.text(), "Hello");
//!
//! // Both messages are durable now. Another process could continue the session:
//! let session = conversation.session().unwrap();
//! let conversation = engine.resume(session, None).await?;
//! assert_eq!(conversation.head(), 2);
//! # Ok(())
//! # }
//! ```
//!
//! `examples/embed.rs` continues with checkpoints and a rewind.

mod blocking;
mod compaction;
mod context;
mod conversation;
mod copy;
mod diff;
mod engine;
mod error;
mod import;
mod observer;
mod recorder;
mod reply_guard;
mod send;
mod session_graph;
mod stats;
mod timeline;
mod turn;
mod unanswered;
mod words;

pub use blocking::BlockingEngine;
pub use compaction::{CompactError, Compaction};
pub use conversation::Conversation;
pub use copy::{CopyReport, Difference, DifferingSession, copy_store};
pub use diff::{CheckpointDiff, MemoryDiff, MessageDiff, SectionDiff, memory_entries};
pub use engine::{CompactionMode, Engine, EngineBuilder, Settings};
pub use error::{EngineError, SendError};
pub use import::{ImportedSession, Importer, OnDuplicate, SkipReason, SkippedSession};
pub use observer::{Observer, Update};
pub use send::{Exchange, ORIGINAL_TEXT, OutgoingAttachment, OutgoingMessage};
pub use session_graph::{GraphMark, GraphRow, Lineage, session_graph};
pub use stats::{
    GroupKey, GroupStats, GroupedStats, Prices, Stats, StatsGrouping, StatsQuery, collect_stats,
    format_active_time, format_dollars,
};
pub use timeline::{ReversalPlan, Reversed, RewindPlan, RewindTarget, Rewound, StateAtPlace};
pub use tokio_util::sync::CancellationToken;
pub use words::words_at;
