//! The use cases that every front end calls, and the order of things in them: hook, save, run, checkpoint.
//!
//! The engine reaches everything through the ports of `hfs-core`: it knows no database, no model provider and
//! no plugin runtime, and is tested with a memory store and a scripted agent.

mod checkpointer;
mod compare;
mod context;
mod conversation;
mod engine;
mod error;
mod import;
mod lineage;
mod observer;
mod recorder;
mod reply_writer;
mod send;
mod session_graph;
mod timeline;

pub use compare::{CheckpointDiff, MemoryDiff, MessageDiff, SectionDiff, memory_entries};
pub use conversation::Conversation;
pub use engine::{Engine, EngineParts, Settings};
pub use error::{EngineError, SendError};
pub use import::{ImportedSession, Importer, OnDuplicate, SkippedSession};
pub use lineage::Lineage;
pub use observer::{Observer, Update};
pub use send::Exchange;
pub use session_graph::{GraphRow, Mark, session_graph};
pub use timeline::{RewindPlan, Rewound};
