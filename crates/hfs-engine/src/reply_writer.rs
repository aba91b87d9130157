//! Saves a reply while it streams: what has arrived is durable within one flush interval.

use std::sync::Arc;
use std::time::Duration;

use hfs_core::{ErrorExt, ErrorKind, ReplyHandle, StoreError};
use tokio_util::sync::CancellationToken;

use crate::recorder::Recorder;
use crate::{Engine, EngineError, Observer, Update};

/// Saves what arrives until `done` says that no more will, and then the rest. Failures are told, kept and
/// tried again; the last word is the caller's, who saves the whole reply in its final form.
pub async fn save_while_streaming(
    engine: Engine,
    recorder: Arc<Recorder>,
    handle: ReplyHandle,
    observer: Arc<dyn Observer>,
    done: CancellationToken,
) {
    let interval = engine.settings().flush_interval;
    let mut failing = false;
    loop {
        tokio::select! {
            () = recorder.arrival.notified() => {}
            () = done.cancelled() => break,
        }
        // The first piece waits for its neighbours, so that a fast stream is saved in few transactions.
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = done.cancelled() => break,
        }
        match flush(&engine, &recorder, handle).await {
            Ok(()) => {
                failing = false;
                observer.update(Update::Saved);
            }
            Err(error) => {
                if !failing {
                    observer.update(Update::NotSaved { reason: error.to_string() });
                }
                failing = true;
                recorder.arrival.notify_one();
            }
        }
    }
}

async fn flush(engine: &Engine, recorder: &Recorder, handle: ReplyHandle) -> Result<(), EngineError> {
    let pieces = recorder.take_waiting();
    if pieces.is_empty() {
        return Ok(());
    }
    let attempt = pieces.clone();
    let result = engine.blocking(move |store| store.extend_reply(handle, &attempt)).await;
    if result.is_err() {
        recorder.put_back(pieces);
    }
    result
}

/// Whether trying again can help.
pub fn may_pass(error: &StoreError) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Denied)
}

/// How long to wait before attempt number `attempt` (from 1).
pub fn pause(attempt: u32) -> Duration {
    Duration::from_millis(100_u64.saturating_mul(1 << attempt.min(5)))
}
