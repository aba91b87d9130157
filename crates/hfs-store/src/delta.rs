//! Compression, of bytes alone or as a difference to a prefix that resembles them.
//!
//! zstd with the prefix as its dictionary. Long-distance matching and a window over both the prefix and the bytes
//! are what make a small change of a large state small; without them it costs ten to thirty times as much. With
//! them, what is left is small whatever the level, so the fastest does. Every frame ends with a checksum: without
//! one, a damaged prefix gives wrong bytes and no error.

use zstd::zstd_safe::{CCtx, CParameter, DCtx, compress_bound, get_error_name, get_frame_content_size};

/// For bytes alone, the level that zstd calls its default: better ones cost more time than they save space.
const LEVEL: i32 = 3;
/// For differences. Level 3 takes three to five times as long with large states, and saves a tenth.
const DIFFERENCE_LEVEL: i32 = 1;
/// For differences of which zstd's own tables span both sides: as small as with long-distance matching, in half the
/// time.
const SHORT_DIFFERENCE_LEVEL: i32 = 2;
const SHORT: usize = 512 * 1024;
/// zstd's own limits for the logarithm of its window.
const WINDOW_LOGS: std::ops::RangeInclusive<u32> = 10..=30;

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
}

impl DeltaError {
    fn zstd(code: usize) -> Self {
        Self::Zstd(get_error_name(code))
    }
}

/// Compresses `bytes`, as a difference to `prefix` (which may be empty).
pub(crate) fn compress(prefix: &[u8], bytes: &[u8]) -> Result<Vec<u8>, DeltaError> {
    let mut context = CCtx::create();
    let mut set = |parameter| context.set_parameter(parameter).map(drop).map_err(DeltaError::zstd);
    let span = prefix.len().saturating_add(bytes.len());
    let level = match span {
        _ if prefix.is_empty() => LEVEL,
        ..=SHORT => SHORT_DIFFERENCE_LEVEL,
        _ => DIFFERENCE_LEVEL,
    };
    set(CParameter::CompressionLevel(level))?;
    set(CParameter::ChecksumFlag(true))?;
    if !prefix.is_empty() {
        set(CParameter::WindowLog(window_log(span)))?;
        set(CParameter::EnableLongDistanceMatching(span > SHORT))?;
        context.ref_prefix(prefix).map_err(DeltaError::zstd)?;
    }
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

/// The bytes that [`compress`] made `frame` of, with the same prefix. `size` is how many there were.
pub(crate) fn decompress(prefix: &[u8], frame: &[u8], size: usize) -> Result<Vec<u8>, DeltaError> {
    let found = frame_size(frame)?;
    if found != size {
        return Err(DeltaError::Size { expected: size, found });
    }
    let mut context = DCtx::create();
    if !prefix.is_empty() {
        context.ref_prefix(prefix).map_err(DeltaError::zstd)?;
    }
    let mut bytes = Vec::with_capacity(size);
    context.decompress(&mut bytes, frame).map_err(DeltaError::zstd)?;
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
    fn alike() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
        let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..20);
        (prop::collection::vec(any::<u8>(), 1..5000), edits).prop_map(|(bytes, edits)| {
            let mut edited = bytes.clone();
            for (place, byte) in edits {
                let place = place.index(edited.len());
                edited[place] = byte;
            }
            (bytes, edited)
        })
    }

    proptest! {
        #[test]
        fn bytes_come_back_exactly((prefix, bytes) in alike()) {
            for prefix in [&[][..], &prefix] {
                let frame = compress(prefix, &bytes).unwrap();
                prop_assert_eq!(&decompress(prefix, &frame, bytes.len()).unwrap(), &bytes);
            }
        }

        #[test]
        fn a_damaged_frame_never_gives_other_bytes(
            (prefix, bytes) in alike(), place in any::<prop::sample::Index>(), flip in 1..=255_u8,
        ) {
            let mut frame = compress(&prefix, &bytes).unwrap();
            let place = place.index(frame.len());
            frame[place] ^= flip;
            if let Ok(back) = decompress(&prefix, &frame, bytes.len()) {
                prop_assert_eq!(back, bytes);
            }
        }

        #[test]
        fn a_damaged_prefix_never_gives_other_bytes(
            (prefix, bytes) in alike(), place in any::<prop::sample::Index>(), flip in 1..=255_u8,
        ) {
            let frame = compress(&prefix, &bytes).unwrap();
            let mut damaged = prefix.clone();
            let place = place.index(damaged.len());
            damaged[place] ^= flip;
            if let Ok(back) = decompress(&damaged, &frame, bytes.len()) {
                prop_assert_eq!(back, bytes);
            }
        }

        #[test]
        fn noise_is_no_frame(noise in prop::collection::vec(any::<u8>(), 0..200), size in 0..1000_usize) {
            prop_assert!(decompress(&[], &noise, size).is_err());
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
        let frame = compress(state.as_bytes(), changed.as_bytes()).unwrap();
        assert!(frame.len() < 2_000, "{}", frame.len());
    }

    #[test]
    fn the_window_spans_prefix_and_bytes() {
        assert_eq!([0, 1000, 1024, 1025, 4_000_000].map(window_log), [10, 11, 11, 12, 23]);
    }
}
