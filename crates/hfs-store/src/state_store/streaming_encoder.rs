//! Hashes a large state and encodes it as a delta while its JSON is still being written.
//!
//! A second thread hashes and encodes chunks of 64 KB. The simple alternative is to do all steps in sequence. For a
//! state of 2 MB that is 10 ms of serialising, 1 ms of hashing and 4 ms of encoding. The thread saves up to 5 ms of
//! these if a core is idle, so that a checkpoint of 2 MB takes less time than inserting its JSON. `cargo xtask bench
//! states` measures both (rows "vs. inserting the JSON" and "on one thread").
//!
//! A state that is smaller than one chunk starts no thread.

use std::io::{self, Write};
use std::mem;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, Scope, ScopedJoinHandle};

use hfs_core::{CheckpointState, ContentHash};

use crate::codec::compression::DeltaEncoder;
use crate::error::{Error, Result};
use crate::state_store::compression_failed;
use crate::state_store::encode::{CanonicalState, Keyframe};

/// Bytes per chunk. Chunks are small, so that the second thread ends soon after the last one is sent.
const CHUNK_SIZE: usize = 64 * 1024;

/// A state in its canonical JSON.
#[derive(Debug)]
pub(super) enum Serialized {
    /// A state of less than [`CHUNK_SIZE`] bytes, or one for which no thread could be started. Without a delta.
    Small(CanonicalState),
    Large {
        state: CanonicalState,
        /// The keyframe, if there is one, and the delta to it.
        delta: Option<(Keyframe, Vec<u8>)>,
    },
}

/// Serialises a state. `keyframe` returns the keyframe for a delta, and is called for a large state only.
pub(super) fn serialize(
    state: &CheckpointState,
    keyframe: impl FnOnce() -> Result<Option<Keyframe>>,
) -> Result<Serialized> {
    thread::scope(|scope| {
        let mut writer = ChunkWriter { scope, chunk: Vec::new(), keyframe: Some(keyframe), encoder: None };
        let written = state.write_canonical_json(&mut writer);
        let Some(EncoderThread { chunks, thread, .. }) = writer.encoder.take() else {
            written.map_err(serialization_failed)?;
            return Ok(Serialized::Small(CanonicalState::new(writer.chunk)));
        };
        // Sending fails only if the thread has panicked, which `join` reports.
        drop(chunks.send(writer.chunk));
        drop(chunks);
        let encoded = thread.join().map_err(|_| Error::Internal("encoding a state panicked".into()))?;
        written.map_err(serialization_failed)?;
        let (state, delta) = encoded?;
        Ok(Serialized::Large { state, delta })
    })
}

/// Unwraps an error of [`ChunkWriter`] from the error that serde_json wraps it in.
fn serialization_failed(error: serde_json::Error) -> Error {
    io::Error::from(error)
        .downcast()
        .unwrap_or_else(|error| Error::Internal(format!("a checkpoint's state cannot be written: {error}")))
}

/// Collects written bytes in chunks and sends full chunks to the encoder thread. Starts the thread for the first chunk.
struct ChunkWriter<'scope, 'env, F> {
    scope: &'scope Scope<'scope, 'env>,
    chunk: Vec<u8>,
    /// Taken for the first chunk.
    keyframe: Option<F>,
    encoder: Option<EncoderThread<'scope>>,
}

struct EncoderThread<'scope> {
    chunks: Sender<Vec<u8>>,
    /// Buffers of encoded chunks, for reuse.
    empty: Receiver<Vec<u8>>,
    thread: ScopedJoinHandle<'scope, Result<EncodedStream>>,
}

type EncodedStream = (CanonicalState, Option<(Keyframe, Vec<u8>)>);

impl<F: FnOnce() -> Result<Option<Keyframe>>> ChunkWriter<'_, '_, F> {
    // Not inlined into `write_all`, which serde_json calls for every few bytes. Inlining makes these calls a third
    // slower.
    #[cold]
    #[inline(never)]
    fn send_chunk(&mut self) -> Result<()> {
        if let Some(keyframe) = self.keyframe.take() {
            let keyframe = keyframe()?;
            let ((chunks, incoming), (used, empty)) = (mpsc::channel(), mpsc::channel());
            let thread = thread::Builder::new()
                .spawn_scoped(self.scope, move || encode_chunks(&incoming, &used, keyframe));
            // If no thread can be started, the state is handled like a small one.
            self.encoder = thread.ok().map(|thread| EncoderThread { chunks, empty, thread });
        }
        if let Some(encoder) = &self.encoder {
            let next =
                encoder.empty.try_recv().unwrap_or_else(|_| Vec::with_capacity(CHUNK_SIZE + CHUNK_SIZE / 8));
            let chunk = mem::replace(&mut self.chunk, next);
            encoder.chunks.send(chunk).map_err(|_| Error::Internal("encoding a state panicked".into()))?;
        }
        Ok(())
    }
}

impl<F: FnOnce() -> Result<Option<Keyframe>>> Write for ChunkWriter<'_, '_, F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.chunk.extend_from_slice(bytes);
        if self.chunk.len() >= CHUNK_SIZE { self.send_chunk().map_err(io::Error::other) } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn encode_chunks(
    chunks: &Receiver<Vec<u8>>,
    used: &Sender<Vec<u8>>,
    keyframe: Option<Keyframe>,
) -> Result<EncodedStream> {
    let mut hasher = blake3::Hasher::new();
    let mut bytes = Vec::new();
    let mut delta = keyframe.as_ref().map(|keyframe| DeltaEncoder::new(&keyframe.base));
    for mut chunk in chunks {
        hasher.update(&chunk);
        bytes.extend_from_slice(&chunk);
        if let Some(delta) = &mut delta {
            delta.advance(&bytes);
        }
        chunk.clear();
        // Sending fails after the writer's last chunk, because the writer is then dropped.
        drop(used.send(chunk));
    }
    let delta = delta.map(|delta| delta.finish(&bytes)).transpose().map_err(compression_failed)?;
    let hash = ContentHash::from_bytes(*hasher.finalize().as_bytes());
    let state = CanonicalState { hash, bytes: Arc::new(bytes) };
    Ok((state, keyframe.zip(delta)))
}
