//! Stores what the recorder captured, in order, without holding up the run.

use std::sync::Arc;

use hfs_core::CheckpointDraft;
use tokio::sync::mpsc;

use crate::{Engine, Observer, Update};

/// Stores captures until the last sender is gone. A failure is told and costs that one checkpoint.
pub async fn store_captures(
    engine: Engine,
    mut captures: mpsc::UnboundedReceiver<CheckpointDraft>,
    observer: Arc<dyn Observer>,
) {
    let retention = engine.settings().checkpoint_retention;
    while let Some(draft) = captures.recv().await {
        let result = engine.blocking(move |store| store.create_checkpoint(&draft, retention)).await;
        if let Err(error) = result {
            observer.update(Update::CheckpointFailed { reason: error.to_string() });
        }
    }
}
