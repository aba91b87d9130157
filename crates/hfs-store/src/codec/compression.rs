//! Compression of checkpoint states, without a base or as deltas to one.
//!
//! A state without a base is compressed to one zstd frame. A delta has one of two formats, distinguished by the first
//! byte:
//!
//! - `BINARY_DELTA`, followed by a zstd frame that contains a [binary delta](super::binary_delta). Used if the state
//!   and its base have more than 64 KB together.
//! - A zstd frame with the base as its prefix (0x28 is the first byte of zstd's magic number). Used for shorter inputs,
//!   where it is as fast and about a tenth smaller. Early versions of hfs also wrote it for longer inputs.
//!
//! Each frame ends with zstd's checksum; without it, damaged data may decompress to wrong bytes without an error. The
//! checksum does not cover the base, so callers compare a hash of the result.
//!
//! # Why deltas
//!
//! The simple alternative is to compress each state without a base. If 1 to 2 % of a state change from one checkpoint
//! to the next, a delta takes a tenth (states of 14 KB) to a sixteenth (2 MB) of the space, and a third to a sixth of
//! the time. [`binary_delta`] has a table for 2 MB; `cargo xtask bench states` measures all sizes (rows "bytes" and
//! "write").

use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, OnceLock};

use hfs_core::lock_unpoisoned;
use zstd::zstd_safe::{CCtx, CParameter, DCtx, compress_bound, get_error_name, get_frame_content_size};

use super::binary_delta::{self, BinaryDeltaError, BlockIndex};

/// zstd's default level. Higher levels take more time and save little space.
const LEVEL: i32 = 3;
/// Largest size in bytes of a state and its base together for which the delta is a frame with a prefix. Also the
/// largest input of [`compress`] for which the compression context is reused.
const SHORT: usize = 64 * 1024;
/// Level of frames with a prefix. Higher levels take twice the time for the same size.
const SHORT_LEVEL: i32 = 2;
/// Base-2 logarithm of the size of zstd's hash table for frames with a prefix. zstd clears the table for each frame, so
/// a small one saves time.
const SHORT_HASH_LOG: u32 = 13;
/// Smallest match that zstd looks for in texts. Without shorter ones, texts of real transcripts take 3 % more space, and decompress
/// 6 % faster, or 28 % if they compress badly.
const TEXT_MIN_MATCH: u32 = 7;
/// zstd's limits for the base-2 logarithm of its window.
const WINDOW_LOGS: RangeInclusive<u32> = 10..=30;
/// Largest content of a frame in bytes, as large as SQLite's largest row. A damaged frame can declare any size and, with
/// blocks that repeat one byte, also have it.
const MAX_CONTENT: usize = 1_000_000_000;
/// First byte of a delta that holds a binary delta.
const BINARY_DELTA: u8 = 1;

/// An error of compression or decompression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompressionError {
    /// An error of zstd.
    #[error("zstd: {0}")]
    Zstd(&'static str),
    /// The frame does not hold the expected number of bytes.
    #[error("the frame holds {found} bytes, not {expected}")]
    SizeMismatch {
        /// Expected size in bytes.
        expected: usize,
        /// Size in bytes that the frame declares.
        found: usize,
    },
    /// The content is larger than any that hfs stores.
    #[error("{0} bytes are more than the limit of {MAX_CONTENT}")]
    TooLarge(u64),
    /// There is not enough memory for the content of the frame.
    #[error("there is not enough memory for {0} bytes")]
    OutOfMemory(usize),
    /// The binary delta in the frame cannot be applied to this base.
    #[error(transparent)]
    BinaryDelta(#[from] BinaryDeltaError),
}

impl CompressionError {
    fn zstd(code: usize) -> Self {
        Self::Zstd(get_error_name(code))
    }
}

/// Compresses `bytes` without a base.
///
/// # Errors
/// `TooLarge` above 1 GB; `Zstd` for an error of zstd.
pub fn compress(bytes: &[u8]) -> Result<Vec<u8>, CompressionError> {
    if bytes.len() > SHORT {
        return write_frame(&mut compression_context(LEVEL)?, bytes);
    }
    SHORT_COMPRESSION.with(|| compression_context(LEVEL), |context| write_frame(context, bytes))
}

/// Compresses the texts of messages, which are decompressed more often than states.
pub(crate) fn compress_texts(bytes: &[u8]) -> Result<Vec<u8>, CompressionError> {
    let create = || {
        let mut context = compression_context(LEVEL)?;
        context.set_parameter(CParameter::MinMatch(TEXT_MIN_MATCH)).map_err(CompressionError::zstd)?;
        Ok(context)
    };
    if bytes.len() > SHORT {
        return write_frame(&mut create()?, bytes);
    }
    TEXT_COMPRESSION.with(create, |context| write_frame(context, bytes))
}

/// Decompresses a frame that holds `size` bytes.
///
/// # Errors
/// For a damaged frame, or one of another size.
pub fn decompress(frame: &[u8], size: usize) -> Result<Vec<u8>, CompressionError> {
    read_frame(&[], frame, size)
}

/// The base of deltas, with its block index.
#[derive(Debug)]
pub(crate) struct DeltaBase {
    bytes: Arc<Vec<u8>>,
    /// Built for the first binary delta, and used again for later ones.
    index: OnceLock<BlockIndex>,
}

impl DeltaBase {
    pub(crate) const fn new(bytes: Arc<Vec<u8>>) -> Self {
        Self { bytes, index: OnceLock::new() }
    }

    pub(crate) const fn bytes(&self) -> &Arc<Vec<u8>> {
        &self.bytes
    }
}

/// Compresses `bytes` as a delta to `base`.
pub(crate) fn compress_delta(base: &DeltaBase, bytes: &[u8]) -> Result<Vec<u8>, CompressionError> {
    let total = base.bytes.len().saturating_add(bytes.len());
    if total > SHORT {
        return DeltaEncoder::new(base).finish(bytes);
    }
    let window = window_log(total);
    let mut context = compression_context(SHORT_LEVEL)?;
    for parameter in [CParameter::WindowLog(window), CParameter::HashLog(window.min(SHORT_HASH_LOG))] {
        context.set_parameter(parameter).map_err(CompressionError::zstd)?;
    }
    context.ref_prefix(&base.bytes).map_err(CompressionError::zstd)?;
    write_frame(&mut context, bytes)
}

/// Restores the `size` bytes that [`compress_delta`] compressed to `delta`. `base` must be the same base.
pub(crate) fn decompress_delta(base: &[u8], delta: &[u8], size: usize) -> Result<Vec<u8>, CompressionError> {
    match delta.split_first() {
        Some((&BINARY_DELTA, frame)) => {
            // A damaged frame may declare any size, so the allocation is limited to the length of the longest valid
            // delta.
            let limit = binary_delta::max_encoded_len(size);
            let delta = read_frame(&[], frame, content_size(frame)?.min(limit))?;
            Ok(binary_delta::apply(base, &delta, size)?)
        }
        _ => read_frame(base, delta, size),
    }
}

/// Compresses a long state as a delta while the state is still being serialized.
#[derive(Debug)]
pub(crate) struct DeltaEncoder<'a> {
    encoder: binary_delta::Encoder<'a>,
}

impl<'a> DeltaEncoder<'a> {
    pub(crate) fn new(base: &'a DeltaBase) -> Self {
        let index = base.index.get_or_init(|| BlockIndex::new(&base.bytes));
        Self { encoder: binary_delta::Encoder::new(&base.bytes, index) }
    }

    /// Encodes as much as possible of a prefix of the bytes. Each call passes a longer prefix than the one before.
    pub(crate) fn advance(&mut self, prefix: &[u8]) {
        self.encoder.advance(prefix);
    }

    /// Returns the delta for the complete bytes.
    pub(crate) fn finish(self, bytes: &[u8]) -> Result<Vec<u8>, CompressionError> {
        let mut delta = compress(&self.encoder.finish(bytes))?;
        delta.insert(0, BINARY_DELTA);
        Ok(delta)
    }
}

/// zstd contexts that later calls reuse.
///
/// Decompressing 14 KB takes 0.03 ms with a reused context and 0.05 ms with a new one. A session's runs are decompressed one by
/// one, and its blocks by two threads.
struct ReusableContexts<T>(Mutex<Vec<T>>);

/// Maximum number of unused contexts that are kept.
const KEPT_CONTEXTS: usize = 2;

impl<T> ReusableContexts<T> {
    const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// Runs `work` with a stored context or a new one. The context is stored again unless `work` fails.
    fn with<R>(
        &self,
        create: impl FnOnce() -> Result<T, CompressionError>,
        work: impl FnOnce(&mut T) -> Result<R, CompressionError>,
    ) -> Result<R, CompressionError> {
        let stored = lock_unpoisoned(&self.0).pop();
        let mut context = stored.map_or_else(create, Ok)?;
        let result = work(&mut context)?;
        let mut unused = lock_unpoisoned(&self.0);
        if unused.len() < KEPT_CONTEXTS {
            unused.push(context);
        }
        Ok(result)
    }
}

/// For short inputs only, because a context never shrinks: it keeps the memory that its largest input needed.
static SHORT_COMPRESSION: ReusableContexts<CCtx<'static>> = ReusableContexts::new();
static TEXT_COMPRESSION: ReusableContexts<CCtx<'static>> = ReusableContexts::new();
static DECOMPRESSION: ReusableContexts<DCtx<'static>> = ReusableContexts::new();

fn compression_context<'a>(level: i32) -> Result<CCtx<'a>, CompressionError> {
    let mut context = CCtx::create();
    for parameter in [CParameter::CompressionLevel(level), CParameter::ChecksumFlag(true)] {
        context.set_parameter(parameter).map_err(CompressionError::zstd)?;
    }
    Ok(context)
}

fn write_frame(context: &mut CCtx<'_>, bytes: &[u8]) -> Result<Vec<u8>, CompressionError> {
    if bytes.len() > MAX_CONTENT {
        return Err(CompressionError::TooLarge(bytes.len() as u64));
    }
    let mut frame = Vec::with_capacity(compress_bound(bytes.len()));
    context.compress2(&mut frame, bytes).map_err(CompressionError::zstd)?;
    frame.shrink_to_fit();
    Ok(frame)
}

/// Returns the window log for a prefix and an input that have `total` bytes together. One more than the logarithm
/// leaves room for zstd's alignment.
fn window_log(total: usize) -> u32 {
    let log = total.max(2).next_power_of_two().trailing_zeros();
    (log + 1).clamp(*WINDOW_LOGS.start(), *WINDOW_LOGS.end())
}

fn read_frame(prefix: &[u8], frame: &[u8], size: usize) -> Result<Vec<u8>, CompressionError> {
    let found = content_size(frame)?;
    if found != size {
        return Err(CompressionError::SizeMismatch { expected: size, found });
    }
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(size).map_err(|_| CompressionError::OutOfMemory(size))?;
    DECOMPRESSION.with(
        || Ok(DCtx::create()),
        |context| {
            // Loads the prefix as a dictionary, which copies it. `ref_prefix` would borrow it for as long as the
            // context lives, which is longer than this call. zstd interprets a dictionary that starts with its magic
            // number as a trained one; the prefix is JSON, which never starts with it.
            context.load_dictionary(prefix).map_err(CompressionError::zstd)?;
            context.decompress(&mut bytes, frame).map_err(CompressionError::zstd)
        },
    )?;
    Ok(bytes)
}

/// Returns the content size that a frame declares.
///
/// # Errors
/// For a damaged frame, or one that declares more than 1 GB.
pub fn content_size(frame: &[u8]) -> Result<usize, CompressionError> {
    match get_frame_content_size(frame) {
        Ok(Some(size)) => usize::try_from(size)
            .ok()
            .filter(|size| *size <= MAX_CONTENT)
            .ok_or(CompressionError::TooLarge(size)),
        Ok(None) | Err(_) => Err(CompressionError::Zstd("the frame does not declare its size")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_frame_that_declares_a_huge_content_is_rejected_without_memory_for_it() {
        // A frame header with an 8-byte content size, as in https://www.rfc-editor.org/rfc/rfc8878#section-3.1.1.1.
        let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0xe0];
        frame.extend((1_u64 << 40).to_le_bytes());
        frame.extend([0; 16]);
        assert_eq!(content_size(&frame), Err(CompressionError::TooLarge(1 << 40)));
        assert_eq!(decompress(&frame, 1 << 40), Err(CompressionError::TooLarge(1 << 40)));
    }

    /// A base and bytes that differ from it in a few places.
    fn similar() -> impl Strategy<Value = (DeltaBase, Vec<u8>)> {
        let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..20);
        let bytes = prop::collection::vec(any::<u8>(), 1..5000);
        // Some are repeated so often that they are long enough for a binary delta.
        (bytes, 0..30_usize, edits).prop_map(|(bytes, repeat, edits)| {
            let bytes = bytes.repeat(1 + repeat);
            let mut edited = bytes.clone();
            for (at, byte) in edits {
                let at = at.index(edited.len());
                edited[at] = byte;
            }
            (base(bytes), edited)
        })
    }

    fn base(bytes: impl Into<Vec<u8>>) -> DeltaBase {
        DeltaBase::new(Arc::new(bytes.into()))
    }

    fn is_binary_delta(delta: &[u8]) -> bool {
        delta[0] == BINARY_DELTA
    }

    proptest! {
        #[test]
        fn bytes_round_trip((base, bytes) in similar()) {
            prop_assert_eq!(&decompress(&compress(&bytes).unwrap(), bytes.len()).unwrap(), &bytes);
            let delta = compress_delta(&base, &bytes).unwrap();
            prop_assert_eq!(is_binary_delta(&delta), base.bytes.len() + bytes.len() > SHORT);
            prop_assert_eq!(&decompress_delta(&base.bytes, &delta, bytes.len()).unwrap(), &bytes);
        }

        #[test]
        fn damaged_data_never_restores_other_bytes(
            (base, bytes) in similar(), at in any::<prop::sample::Index>(), flip in 1..=255_u8,
        ) {
            for is_delta in [true, false] {
                let mut data = if is_delta { compress_delta(&base, &bytes) } else { compress(&bytes) }.unwrap();
                let at = at.index(data.len());
                data[at] ^= flip;
                let restored = if is_delta {
                    decompress_delta(&base.bytes, &data, bytes.len())
                } else {
                    decompress(&data, bytes.len())
                };
                if let Ok(restored) = restored {
                    prop_assert_eq!(&restored, &bytes);
                }
            }
        }

        #[test]
        fn random_bytes_are_rejected(noise in prop::collection::vec(any::<u8>(), 0..200), size in 0..1000_usize) {
            prop_assert!(decompress(&noise, size).is_err());
            let marked = [&[BINARY_DELTA], noise.as_slice()].concat();
            prop_assert!(decompress_delta(b"base", &marked, size).is_err());
        }
    }

    #[test]
    fn a_small_change_of_a_large_state_gives_a_small_delta() {
        let mut random = 1_u32;
        let mut state = String::new();
        while state.len() < 2_000_000 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.push_str(&format!("{{\"entry\":{random}}},"));
        }
        let changed = state.replacen("entry", "ENTRY", 3) + "more";
        let delta = compress_delta(&base(state), changed.as_bytes()).unwrap();
        assert!(delta.len() < 200, "{}", delta.len());
    }

    /// Versions before binary deltas wrote this format.
    #[test]
    fn long_deltas_with_a_prefix_are_still_read() {
        let base = b"a state that is long enough, ".repeat(10_000);
        let bytes = [base.as_slice(), b"and grows"].concat();
        let mut context = compression_context(1).unwrap();
        context.set_parameter(CParameter::WindowLog(window_log(base.len() * 2))).unwrap();
        context.set_parameter(CParameter::EnableLongDistanceMatching(true)).unwrap();
        context.ref_prefix(&base).unwrap();
        let delta = write_frame(&mut context, &bytes).unwrap();
        assert!(delta.len() < 100 && !is_binary_delta(&delta));
        assert_eq!(decompress_delta(&base, &delta, bytes.len()), Ok(bytes));
    }

    #[test]
    fn a_frame_that_declares_more_than_the_longest_delta_is_not_decompressed() {
        let mut bomb = compress(&vec![0; 50_000_000]).unwrap();
        bomb.insert(0, BINARY_DELTA);
        let expected = binary_delta::max_encoded_len(1000);
        let mismatch = CompressionError::SizeMismatch { expected, found: 50_000_000 };
        assert_eq!(decompress_delta(b"", &bomb, 1000), Err(mismatch));
    }

    #[test]
    fn the_window_spans_prefix_and_bytes() {
        assert_eq!([0, 1000, 1024, 1025, 4_000_000].map(window_log), [10, 11, 11, 12, 23]);
    }
}
