//! What is on the screens: fixed ids, fixed times, made up for the purpose.

mod lists;
mod run;
mod talk;

use hfs_core::{
    AgentDescription, BranchId, CheckpointId, MessageId, OperationId, Project, RunId, SessionId, Timestamp,
};
use hfs_engine::Conversation;

pub use lists::*;
pub use run::*;
pub use talk::*;

/// The time in every scene.
pub fn now() -> Timestamp {
    after(0)
}

/// So many milliseconds after the scene's time.
pub fn after(milliseconds: i64) -> Timestamp {
    Timestamp::from_millis(1_769_956_200_000 + milliseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// So many minutes before the scene's time.
pub fn minutes_ago(minutes: i64) -> Timestamp {
    after(-60_000 * minutes)
}

fn uuid(kind: u32, number: u64) -> String {
    // The short form is taken from the end, so that it is the end that differs.
    format!("0192f0c1-{kind:04x}-7cc0-9b1e-{:012x}", number.wrapping_mul(0x5bd1_e995_2a4f) & 0xffff_ffff_ffff)
}

macro_rules! ids {
    ($($name:ident: $id:ident = $kind:literal,)*) => {$(
        /// The id with this number.
        pub fn $name(number: u64) -> $id {
            uuid($kind, number).parse().unwrap_or_else(|_| $id::generate())
        }
    )*};
}

ids! {
    session_id: SessionId = 1,
    branch_id: BranchId = 2,
    message_id: MessageId = 3,
    run_id: RunId = 4,
    checkpoint_id: CheckpointId = 5,
    operation_id: OperationId = 6,
}

pub fn project() -> Project {
    Project {
        directory: "/home/you/gateway".into(),
        repository: Some("https://example.com/gateway.git".into()),
    }
}

pub fn new_conversation() -> Conversation {
    Conversation::new(Some(project()))
}

pub fn agent() -> AgentDescription {
    AgentDescription {
        name: "triads".into(),
        model: Some("sonnet".into()),
        summary: "two triads deliberate, negotiate and write one reply".into(),
    }
}

pub fn triads() -> AgentDescription {
    agent()
}
