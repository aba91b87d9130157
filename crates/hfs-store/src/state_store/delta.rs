//! Compression, of bytes alone or as a difference to a base that resembles them.
//!
//! Bytes alone are a frame of zstd. A difference is a mark and a frame with the [script](crate::state_store::splice) that makes
//! the bytes of their base; where both are short, it is a frame of zstd with the base as its prefix, which finds more
//! but has to look at all of it closely. (Older differences of long bytes are such frames, too.) Every frame ends with
//! a checksum: without one, damage gives wrong bytes and no error. Whether a script has met the base it was made for,
//! only a hash over the result tells: who reads one has to compare it.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use zstd::zstd_safe::{CCtx, CParameter, DCtx, compress_bound, get_error_name, get_frame_content_size};

use crate::state_store::splice::{self, Index, SpliceError, Splicer};

/// The level that zstd calls its default: better ones cost more time than they save space.
const LEVEL: i32 = 3;
/// A base and bytes that are no longer together are compared by zstd.
const SHORT: usize = 64 * 1024;
/// For those: as small as at higher levels, in half the time.
const SHORT_LEVEL: i32 = 2;
/// The logarithm of how many places zstd remembers of those: the table is made for each difference anew.
const SHORT_HASH_LOG: u32 = 13;
/// zstd's own limits for the logarithm of its window.
const WINDOW_LOGS: std::ops::RangeInclusive<u32> = 10..=30;
/// What a script begins with. Frames of zstd begin with 0x28.
const SCRIPT: u8 = 1;

/// Why bytes did not come back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DeltaError {
    /// zstd says so.
    #[error("zstd: {0}")]
    Zstd(&'static str),
    /// The frame is of other bytes than was expected.
    #[error("the frame holds {found} bytes, not {expected}")]
    Size {
        /// What was expected.
        expected: usize,
        /// What the frame says.
        found: usize,
    },
    /// There is not enough memory for what the frame says it holds.
    #[error("there is no memory for {0} bytes")]
    Memory(usize),
    /// What the frame holds is no script for this base.
    #[error(transparent)]
    Splice(#[from] SpliceError),
}

impl DeltaError {
    fn zstd(code: usize) -> Self {
        Self::Zstd(get_error_name(code))
    }
}

/// Compresses `bytes` alone.
pub(crate) fn compress(bytes: &[u8]) -> Result<Vec<u8>, DeltaError> {
    if bytes.len() > SHORT {
        return frame(&mut context(LEVEL)?, bytes);
    }
    COMPRESSOR.with(|| context(LEVEL), |context| frame(context, bytes))
}

/// Bytes that others are differences to.
#[derive(Debug)]
pub(crate) struct Base {
    bytes: Arc<Vec<u8>>,
    /// Made when it is needed first.
    index: OnceLock<Index>,
}

impl Base {
    pub(crate) const fn new(bytes: Arc<Vec<u8>>) -> Self {
        Self { bytes, index: OnceLock::new() }
    }

    pub(crate) const fn bytes(&self) -> &Arc<Vec<u8>> {
        &self.bytes
    }
}

/// Compresses `bytes` as a difference to `base`.
pub(crate) fn difference(base: &Base, bytes: &[u8]) -> Result<Vec<u8>, DeltaError> {
    let span = base.bytes.len().saturating_add(bytes.len());
    if span <= SHORT {
        let window = window_log(span);
        let mut context = context(SHORT_LEVEL)?;
        for parameter in [CParameter::WindowLog(window), CParameter::HashLog(window.min(SHORT_HASH_LOG))] {
            context.set_parameter(parameter).map_err(DeltaError::zstd)?;
        }
        context.ref_prefix(&base.bytes).map_err(DeltaError::zstd)?;
        return frame(&mut context, bytes);
    }
    Comparison::new(base).finish(bytes)
}

/// A difference to a base that is made while the bytes, which are long, are still coming.
#[derive(Debug)]
pub(crate) struct Comparison<'a> {
    splicer: Splicer<'a>,
}

impl<'a> Comparison<'a> {
    pub(crate) fn new(base: &'a Base) -> Self {
        let index = base.index.get_or_init(|| Index::of(&base.bytes));
        Self { splicer: Splicer::new(&base.bytes, index) }
    }

    /// Looks at what has come so far: the bytes of the call before, and more.
    pub(crate) fn advance(&mut self, so_far: &[u8]) {
        self.splicer.advance(so_far);
    }

    /// The difference, when all have come.
    pub(crate) fn finish(self, bytes: &[u8]) -> Result<Vec<u8>, DeltaError> {
        let script = self.splicer.finish(bytes);
        let mut marked = compress(&script)?;
        marked.insert(0, SCRIPT);
        Ok(marked)
    }
}

/// StoredState for the next, for with most to make one takes longer than to use it.
struct Spare<T>(Mutex<Option<T>>);

impl<T> Spare<T> {
    const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Works with the one that was kept, or a new one. One that failed is not kept.
    fn with<R>(
        &self,
        make: impl FnOnce() -> Result<T, DeltaError>,
        work: impl FnOnce(&mut T) -> Result<R, DeltaError>,
    ) -> Result<R, DeltaError> {
        let spare = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut one = spare.map_or_else(make, Ok)?;
        let done = work(&mut one)?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(one);
        Ok(done)
    }
}

/// Compresses what is short: after others it would take too much memory to be kept.
static COMPRESSOR: Spare<CCtx<'static>> = Spare::new();
static DECOMPRESSOR: Spare<DCtx<'static>> = Spare::new();

fn context<'a>(level: i32) -> Result<CCtx<'a>, DeltaError> {
    let mut context = CCtx::create();
    for parameter in [CParameter::CompressionLevel(level), CParameter::ChecksumFlag(true)] {
        context.set_parameter(parameter).map_err(DeltaError::zstd)?;
    }
    Ok(context)
}

fn frame(context: &mut CCtx<'_>, bytes: &[u8]) -> Result<Vec<u8>, DeltaError> {
    let mut frame = Vec::with_capacity(compress_bound(bytes.len()));
    context.compress2(&mut frame, bytes).map_err(DeltaError::zstd)?;
    frame.shrink_to_fit();
    Ok(frame)
}

/// One more than the logarithm of what the window must span.
fn window_log(span: usize) -> u32 {
    let log = span.max(2).next_power_of_two().trailing_zeros();
    (log + 1).clamp(*WINDOW_LOGS.start(), *WINDOW_LOGS.end())
}

/// The bytes that [`compress`] made `frame` of. `size` is how many there were.
pub(crate) fn decompress(frame: &[u8], size: usize) -> Result<Vec<u8>, DeltaError> {
    unframe(&[], frame, size)
}

/// The bytes that [`difference`] made `difference` of, with the same base. `size` is how many there were.
pub(crate) fn restore(base: &[u8], difference: &[u8], size: usize) -> Result<Vec<u8>, DeltaError> {
    match difference.split_first() {
        Some((&SCRIPT, frame)) => {
            let longest = splice::longest_script(size);
            let script = unframe(&[], frame, frame_size(frame)?.min(longest))?;
            Ok(splice::follow(base, &script, size)?)
        }
        _ => unframe(base, difference, size),
    }
}

fn unframe(prefix: &[u8], frame: &[u8], size: usize) -> Result<Vec<u8>, DeltaError> {
    let found = frame_size(frame)?;
    if found != size {
        return Err(DeltaError::Size { expected: size, found });
    }
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(size).map_err(|_| DeltaError::Memory(size))?;
    DECOMPRESSOR.with(
        || Ok(DCtx::create()),
        |context| {
            // Copied rather than referred to, or the context could not be kept; the next replaces it. What begins like
            // a dictionary of zstd's own would be taken for one, but no JSON does.
            context.load_dictionary(prefix).map_err(DeltaError::zstd)?;
            context.decompress(&mut bytes, frame).map_err(DeltaError::zstd)
        },
    )?;
    Ok(bytes)
}

/// How many bytes a frame says it holds.
pub(crate) fn frame_size(frame: &[u8]) -> Result<usize, DeltaError> {
    match get_frame_content_size(frame) {
        Ok(Some(size)) => usize::try_from(size).map_err(|_| DeltaError::Zstd("the frame is too large")),
        Ok(None) | Err(_) => Err(DeltaError::Zstd("the frame does not say how much it holds")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A state and one that differs from it here and there.
    fn alike() -> impl Strategy<Value = (Base, Vec<u8>)> {
        let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..20);
        let bytes = prop::collection::vec(any::<u8>(), 1..5000);
        // Some are long enough to be compared without zstd.
        (bytes, 0..30_usize, edits).prop_map(|(bytes, times, edits)| {
            let bytes = bytes.repeat(1 + times);
            let mut edited = bytes.clone();
            for (place, byte) in edits {
                let place = place.index(edited.len());
                edited[place] = byte;
            }
            (base(bytes), edited)
        })
    }

    fn base(bytes: impl Into<Vec<u8>>) -> Base {
        Base::new(Arc::new(bytes.into()))
    }

    fn is_script(difference: &[u8]) -> bool {
        difference[0] == SCRIPT
    }

    proptest! {
        #[test]
        fn bytes_come_back_exactly((base, bytes) in alike()) {
            prop_assert_eq!(&decompress(&compress(&bytes).unwrap(), bytes.len()).unwrap(), &bytes);
            let difference = difference(&base, &bytes).unwrap();
            prop_assert_eq!(is_script(&difference), base.bytes.len() + bytes.len() > SHORT);
            prop_assert_eq!(&restore(&base.bytes, &difference, bytes.len()).unwrap(), &bytes);
        }

        #[test]
        fn what_is_damaged_never_gives_other_bytes(
            (base, bytes) in alike(), place in any::<prop::sample::Index>(), flip in 1..=255_u8,
        ) {
            for difference in [true, false] {
                let mut frame = if difference { self::difference(&base, &bytes) } else { compress(&bytes) }.unwrap();
                let place = place.index(frame.len());
                frame[place] ^= flip;
                let back = if difference {
                    restore(&base.bytes, &frame, bytes.len())
                } else {
                    decompress(&frame, bytes.len())
                };
                if let Ok(back) = back {
                    prop_assert_eq!(&back, &bytes);
                }
            }
        }

        #[test]
        fn noise_is_no_frame(noise in prop::collection::vec(any::<u8>(), 0..200), size in 0..1000_usize) {
            prop_assert!(decompress(&noise, size).is_err());
            let marked = [&[SCRIPT], noise.as_slice()].concat();
            prop_assert!(restore(b"base", &marked, size).is_err());
        }
    }

    #[test]
    fn a_small_change_of_a_large_state_is_small() {
        let mut random = 1_u32;
        let mut state = String::new();
        while state.len() < 2_000_000 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.push_str(&format!("{{\"entry\":{random}}},"));
        }
        let changed = state.replacen("entry", "ENTRY", 3) + "more";
        let difference = difference(&base(state), changed.as_bytes()).unwrap();
        assert!(difference.len() < 200, "{}", difference.len());
    }

    /// What versions before scripts wrote.
    #[test]
    fn long_differences_with_a_prefix_are_still_read() {
        let base = b"a state that is long enough, ".repeat(10_000);
        let bytes = [base.as_slice(), b"and grows"].concat();
        let mut older = context(1).unwrap();
        older.set_parameter(CParameter::WindowLog(window_log(base.len() * 2))).unwrap();
        older.set_parameter(CParameter::EnableLongDistanceMatching(true)).unwrap();
        older.ref_prefix(&base).unwrap();
        let older = frame(&mut older, &bytes).unwrap();
        assert!(older.len() < 100 && !is_script(&older));
        assert_eq!(restore(&base, &older, bytes.len()), Ok(bytes));
    }

    #[test]
    fn a_script_that_claims_to_be_longer_than_any_is_not_read() {
        let mut bomb = compress(&vec![0; 50_000_000]).unwrap();
        bomb.insert(0, SCRIPT);
        let expected = splice::longest_script(1000);
        assert_eq!(restore(b"", &bomb, 1000), Err(DeltaError::Size { expected, found: 50_000_000 }));
    }

    #[test]
    fn the_window_spans_prefix_and_bytes() {
        assert_eq!([0, 1000, 1024, 1025, 4_000_000].map(window_log), [10, 11, 11, 12, 23]);
    }
}
