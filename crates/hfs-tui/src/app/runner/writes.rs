//! Changes of structure.

use hfs_core::Clock;
use hfs_engine::{Engine, EngineError};

use super::answer;
use crate::effect::Change;
use crate::message::{Answer, Changed};

/// Makes a change and says what it was.
pub fn change(engine: &Engine, clock: &dyn Clock, change: Change) -> Answer<Changed> {
    answer(apply(engine, clock, change))
}

fn apply(engine: &Engine, clock: &dyn Clock, change: Change) -> Result<Changed, EngineError> {
    let store = engine.store();
    Ok(match change {
        Change::Rename { session, name } => {
            store.rename_session(session, &name, false, clock.now())?;
            Changed::Renamed { session, name }
        }
        Change::Trash(session) => {
            store.trash_session(session, clock.now())?;
            Changed::Trashed { session }
        }
        Change::Restore(session) => {
            store.restore_session(session, clock.now())?;
            Changed::Restored { session }
        }
        Change::Checkpoint { conversation, label } => {
            Changed::Checkpointed(engine.checkpoint(&conversation, label.as_deref())?)
        }
        Change::Pin { checkpoint, pinned } => {
            store.pin_checkpoint(checkpoint, pinned)?;
            Changed::Pinned
        }
        Change::DeleteCheckpoint(checkpoint) => {
            store.delete_checkpoint(checkpoint, clock.now())?;
            Changed::CheckpointDeleted
        }
        Change::Rewind(checkpoint) => Changed::Rewound(Box::new(engine.rewind(checkpoint)?)),
        Change::Fork { branch, at, name } => Changed::Forked(engine.fork(branch, at, name.as_deref())?),
        Change::Switch { session, branch } => Changed::Switched(engine.switch(session, branch)?),
        Change::RenameBranch { branch, name } => {
            store.rename_branch(branch, &name, clock.now())?;
            Changed::BranchRenamed(store.get_branch(branch)?)
        }
        Change::Undo(session) => reversed(engine.undo(session)?),
        Change::Redo(session) => reversed(engine.redo(session)?),
    })
}

fn reversed((target, operation): (hfs_core::Operation, hfs_core::Operation)) -> Changed {
    Changed::Reversed { target: Box::new(target), operation: Box::new(operation) }
}
