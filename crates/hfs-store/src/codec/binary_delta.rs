//! Binary deltas: a byte string as copies from a similar base plus the bytes to insert between them.
//!
//! The encoder indexes the first 16 bytes (the window) of each 32-byte block of the base. Any 47 consecutive bytes of
//! the base contain such a window. The encoder looks up windows of the target in the index, and extends each match in
//! both directions at the speed of a memory comparison. The steps between lookups grow while there is no match.
//!
//! # Format
//!
//! All numbers are LEB128. A delta is
//!
//! 1. the length in bytes of the operation list,
//! 2. the operation list: per operation the number of bytes to insert, the number of bytes to copy, and where to
//!    copy from, as a zigzag distance from the end of the previous copy,
//! 3. all bytes to insert. The bytes that remain after the last operation are the end of the result.
//!
//! A delta does not identify its base. To check that a delta was applied to the right base, compare a hash of the
//! result.
//!
//! # Alternatives
//!
//! The simple alternative is zstd with the base as its prefix, which the module `compression` uses for
//! short inputs. zstd indexes the prefix again for each delta; the block index is built once for all deltas to a keyframe.
//! For states of 2 MB whose parts change by 1 to 2 % (`cargo xtask bench states`, rows "delta"):
//!
//! | | run snapshots | prose |
//! |---|---|---|
//! | binary delta, compressed | 4.3 ms, 22 KB | 5.3 ms, 40 KB |
//! | zstd level 1, prefix, long-distance matching | 8.6 ms, 21 KB | 8.3 ms, 45 KB |
//! | zstd level 3, no prefix | 24 ms, 353 KB | 40 ms, 691 KB |
//!
//! The difference matters most when retention deletes a keyframe, because its deltas, up to nine, are encoded again. Restoring
//! a state takes the same time with both.
//!
//! Other libraries are worse for these states: gdelta is made for chunks of a few kilobytes and is slow beyond that,
//! delta-kit misses most matches with its blocks of 4 KB, and suffix arrays (bidiff, qbsdiff) take longer than zstd.

/// Length of the byte windows that are compared to find a match.
const WINDOW: usize = 16;
/// Length of a block. The index contains the first window of each block of the base.
const BLOCK: usize = 32;
/// Number of adjacent slots that are tried for an index entry. With a single slot, a sixth of the blocks would be lost
/// to hash collisions.
const PROBES: usize = 4;
/// Minimum length of a match. After compression, a copy operation for a shorter match takes more space than the bytes
/// that it copies.
const MIN_COPY: usize = 32;
/// Largest number of bytes by which a match is extended backwards. Without a limit, each match in a target of repeated
/// bytes would be extended back over all earlier copies, which takes quadratic time.
const MAX_BACKWARD: usize = 4096;
/// Maximum length of an encoded number. Its 63 bits are enough for any length in memory.
const MAX_NUMBER_LEN: usize = 9;

/// A delta cannot be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BinaryDeltaError {
    /// The delta ends too early or contains an impossible number.
    #[error("the binary delta is malformed")]
    Malformed,
    /// The delta copies from outside its base.
    #[error("the binary delta copies from outside its base")]
    CopyOutOfRange,
    /// The result does not have the expected size.
    #[error("the result of the binary delta has {found} bytes, not {expected}")]
    SizeMismatch {
        /// Expected size in bytes.
        expected: usize,
        /// Actual size in bytes.
        found: usize,
    },
    /// There is not enough memory for the result.
    #[error("there is not enough memory for {0} bytes")]
    OutOfMemory(usize),
}

/// Encodes `target` as a delta to `base`, whose index is `index`.
#[must_use]
pub fn encode(base: &[u8], index: &BlockIndex, target: &[u8]) -> Vec<u8> {
    Encoder::new(base, index).finish(target)
}

/// Encodes a target that arrives in chunks. The delta does not depend on the sizes of the chunks.
#[derive(Debug)]
pub struct Encoder<'a> {
    matcher: Matcher<'a>,
}

impl<'a> Encoder<'a> {
    /// Encodes deltas to `base`, whose index is `index`.
    #[must_use]
    pub const fn new(base: &'a [u8], index: &'a BlockIndex) -> Self {
        Self { matcher: Matcher::new(base, index) }
    }

    /// Matches a prefix of the target. Each call passes a longer prefix than the one before.
    pub fn advance(&mut self, target_prefix: &[u8]) {
        // Looks up only windows that start at least MIN_COPY bytes before the end of the prefix. Later chunks then
        // cannot change whether a match is long enough.
        self.matcher.match_up_to(target_prefix, MIN_COPY);
    }

    /// Returns the delta for the complete target.
    #[must_use]
    pub fn finish(mut self, target: &[u8]) -> Vec<u8> {
        self.matcher.match_up_to(target, WINDOW);
        let copies = self.matcher.copies;
        let mut operations = Vec::with_capacity(copies.len() * 6);
        let mut inserts = Vec::new();
        let (mut target_end, mut base_end) = (0, 0);
        for copy in &copies {
            inserts.extend_from_slice(target.get(target_end..copy.target_start).unwrap_or_default());
            put_number(&mut operations, (copy.target_start - target_end) as u64);
            put_number(&mut operations, copy.len as u64);
            put_number(&mut operations, zigzag(copy.base_start, base_end));
            (target_end, base_end) = copy.ends();
        }
        let tail = target.get(target_end..).unwrap_or_default();
        let mut delta = Vec::with_capacity(MAX_NUMBER_LEN + operations.len() + inserts.len() + tail.len());
        put_number(&mut delta, operations.len() as u64);
        delta.append(&mut operations);
        delta.append(&mut inserts);
        delta.extend_from_slice(tail);
        delta
    }
}

/// Returns the maximum length of a delta whose target has `size` bytes.
#[must_use]
pub const fn max_encoded_len(size: usize) -> usize {
    // Each operation takes three numbers and copies at least a window. It may copy fewer than MIN_COPY bytes, because
    // `push_copy` shortens matches.
    size.saturating_add((size / WINDOW + 1).saturating_mul(3 * MAX_NUMBER_LEN))
}

/// Applies `delta` to `base` and returns the target, which has `size` bytes.
///
/// # Errors
/// Fails if the result would not have `size` bytes. With the wrong base, this may succeed and return wrong bytes.
pub fn apply(base: &[u8], delta: &[u8], size: usize) -> Result<Vec<u8>, BinaryDeltaError> {
    let mut rest = delta;
    let len = usize::try_from(take_number(&mut rest)?).map_err(|_| BinaryDeltaError::Malformed)?;
    let (operations, inserts) = rest.split_at_checked(len).ok_or(BinaryDeltaError::Malformed)?;
    // The size is checked first, so that damaged data cannot cause an allocation of gigabytes.
    let found = size_of_result(base, operations, inserts)?;
    if found != size {
        return Err(BinaryDeltaError::SizeMismatch { expected: size, found });
    }
    let mut target = Vec::new();
    target.try_reserve_exact(size).map_err(|_| BinaryDeltaError::OutOfMemory(size))?;
    let mut inserts = inserts;
    let mut operations = Operations { rest: operations, base_end: 0 };
    while let Some((insert_len, copied)) = operations.next(base)? {
        let (inserted, later) = inserts.split_at_checked(insert_len).ok_or(BinaryDeltaError::Malformed)?;
        inserts = later;
        target.extend_from_slice(inserted);
        target.extend_from_slice(copied);
    }
    target.extend_from_slice(inserts);
    Ok(target)
}

fn size_of_result(base: &[u8], operations: &[u8], inserts: &[u8]) -> Result<usize, BinaryDeltaError> {
    let (mut size, mut inserts_left) = (inserts.len(), inserts.len());
    let mut operations = Operations { rest: operations, base_end: 0 };
    while let Some((insert_len, copied)) = operations.next(base)? {
        inserts_left = inserts_left.checked_sub(insert_len).ok_or(BinaryDeltaError::Malformed)?;
        size = size.checked_add(copied.len()).ok_or(BinaryDeltaError::Malformed)?;
    }
    Ok(size)
}

/// Reads an operation list from its front.
struct Operations<'a> {
    rest: &'a [u8],
    /// End of the previous copy in the base.
    base_end: usize,
}

impl Operations<'_> {
    /// Returns the number of bytes to insert and the bytes to copy after them.
    fn next<'b>(&mut self, base: &'b [u8]) -> Result<Option<(usize, &'b [u8])>, BinaryDeltaError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let mut number =
            || usize::try_from(take_number(&mut self.rest)?).map_err(|_| BinaryDeltaError::Malformed);
        let (insert_len, copy_len) = (number()?, number()?);
        let start =
            unzigzag(take_number(&mut self.rest)?, self.base_end).ok_or(BinaryDeltaError::CopyOutOfRange)?;
        let end = start.checked_add(copy_len).ok_or(BinaryDeltaError::CopyOutOfRange)?;
        self.base_end = end;
        Ok(Some((insert_len, base.get(start..end).ok_or(BinaryDeltaError::CopyOutOfRange)?)))
    }
}

fn put_number(to: &mut Vec<u8>, mut number: u64) {
    while let Some(rest) = Some(number >> 7).filter(|rest| *rest > 0) {
        to.push(number.to_le_bytes()[0] | 0x80);
        number = rest;
    }
    to.push(number.to_le_bytes()[0]);
}

fn take_number(from: &mut &[u8]) -> Result<u64, BinaryDeltaError> {
    let mut number = 0;
    for shift in (0..7 * MAX_NUMBER_LEN).step_by(7) {
        let (byte, rest) = from.split_first().ok_or(BinaryDeltaError::Malformed)?;
        *from = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(BinaryDeltaError::Malformed)
}

/// The signed distance between two positions as an unsigned number. The shift loses no bits: an allocation has at
/// most `isize::MAX` bytes.
fn zigzag(to: usize, from: usize) -> u64 {
    if to >= from { ((to - from) as u64) << 1 } else { ((from - to) as u64) << 1 | 1 }
}

fn unzigzag(number: u64, from: usize) -> Option<usize> {
    let distance = usize::try_from(number >> 1).ok()?;
    if number & 1 == 0 { from.checked_add(distance) } else { from.checked_sub(distance) }
}

/// The window that starts at `at`, if the bytes reach that far.
fn window(bytes: &[u8], at: usize) -> Option<&[u8; WINDOW]> {
    bytes.get(at..)?.first_chunk()
}

/// A hash table of the blocks of a base.
#[derive(Debug)]
pub struct BlockIndex {
    /// Open addressing with linear probing over [`PROBES`] slots. Some bits of a window's hash choose its first slot. A
    /// slot holds the block's number, counted from 1, in the lower `bits` bits, and a tag, which is other bits of the
    /// hash, in the upper bits. The tag alone rejects nearly all windows that the base does not contain, without a
    /// comparison with the base. A slot of 0 is free.
    slots: Vec<u32>,
    bits: u32,
}

impl BlockIndex {
    /// Indexes at most the first 16 GB of `base`. If the base is longer, deltas are still correct, but larger.
    #[must_use]
    pub fn new(base: &[u8]) -> Self {
        let count = base.len() / BLOCK;
        // Twice as many slots as blocks, unless the base is longer than 8 GB.
        let bits = (count.max(8) * 2).next_power_of_two().trailing_zeros().min(29);
        let mut index = Self { slots: vec![0; 1 << bits], bits };
        let mask = index.number_mask();
        let (blocks, _) = base.as_chunks::<BLOCK>();
        for (number, block) in (1..mask).zip(blocks) {
            let Some(window) = block.first_chunk() else { continue };
            let (home, tag) = index.home_and_tag(window);
            for slot in index.probes(home) {
                match index.slots.get_mut(slot) {
                    Some(free @ 0) => {
                        *free = number | tag;
                        break;
                    }
                    // Most likely an equal window. One entry is enough, because a copy from either block costs the
                    // same.
                    Some(taken) if *taken & !mask == tag => break,
                    _ => {}
                }
            }
        }
        index
    }

    /// Finds a block of `base` that starts with `wanted`, and returns where it starts.
    fn find(&self, base: &[u8], wanted: &[u8; WINDOW]) -> Option<usize> {
        let (home, tag) = self.home_and_tag(wanted);
        let entries =
            self.probes(home).map_while(|slot| self.slots.get(slot)).take_while(|entry| **entry != 0);
        let mut candidates = entries.filter(|entry| *entry & !self.number_mask() == tag);
        candidates.find_map(|entry| {
            let number = (entry & self.number_mask()).checked_sub(1)?;
            let start = usize::try_from(number).ok()? * BLOCK;
            (window(base, start)? == wanted).then_some(start)
        })
    }

    fn probes(&self, home: usize) -> impl Iterator<Item = usize> + use<> {
        let last = self.slots.len() - 1;
        (0..PROBES).map(move |step| (home + step) & last)
    }

    const fn number_mask(&self) -> u32 {
        (1 << self.bits) - 1
    }

    /// The first slot to try for a window, and the upper bits of its entry.
    #[allow(clippy::cast_possible_truncation, reason = "the shifts leave only the bits that are wanted")]
    const fn home_and_tag(&self, window: &[u8; WINDOW]) -> (usize, u32) {
        let number = u128::from_le_bytes(*window);
        let (low, high) = (number as u64, (number >> 64) as u64);
        let hash = (low.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ high).wrapping_mul(0xd6e8_feb8_6659_fd93);
        ((hash >> (u64::BITS - self.bits)) as usize, ((hash >> 8) as u32) & !self.number_mask())
    }
}

/// A range of bytes that the target has in common with the base.
#[derive(Debug, Clone, Copy)]
struct CopyOp {
    base_start: usize,
    target_start: usize,
    len: usize,
}

impl CopyOp {
    /// The ends of the range in the target and in the base.
    const fn ends(&self) -> (usize, usize) {
        (self.target_start + self.len, self.base_start + self.len)
    }
}

/// Finds the ranges of bytes that a target has in common with a base.
#[derive(Debug)]
struct Matcher<'a> {
    base: &'a [u8],
    index: &'a BlockIndex,
    /// Sorted by `target_start`. The ranges in the target do not overlap.
    copies: Vec<CopyOp>,
    /// Start of the next window of the target to look up.
    next: usize,
}

impl<'a> Matcher<'a> {
    const fn new(base: &'a [u8], index: &'a BlockIndex) -> Self {
        Self { base, index, copies: Vec::new(), next: 0 }
    }

    /// Looks up windows of the target up to the last one that starts at least `lookahead` bytes before the end.
    fn match_up_to(&mut self, target: &[u8], lookahead: usize) {
        self.extend_last_copy(target);
        while let Some(wanted) = window(target, self.next).filter(|_| self.next + lookahead <= target.len()) {
            // First compares with the position in the base that is as far after the last copy as `next` is in the
            // target. If the change since that copy kept the length, the match is there, even if the index does not
            // contain the window.
            let (target_end, base_end) = self.last_ends();
            let aligned = base_end + (self.next - target_end);
            let base_start = match window(self.base, aligned) {
                Some(found) if found == wanted => Some(aligned),
                _ => self.index.find(self.base, wanted),
            };
            let copy = base_start
                .map(|base_start| extended(self.base, target, base_start, self.next))
                .filter(|copy| copy.len >= MIN_COPY);
            let Some(copy) = copy else {
                self.next += step(self.next - target_end);
                continue;
            };
            (self.next, _) = copy.ends();
            push_copy(&mut self.copies, copy);
        }
    }

    /// Extends the last copy into the bytes that are new in this prefix.
    fn extend_last_copy(&mut self, target: &[u8]) {
        let (target_end, base_end) = self.last_ends();
        if let Some(last) = self.copies.last_mut().filter(|_| self.next == target_end) {
            let more = common_prefix_len(
                self.base.get(base_end..).unwrap_or_default(),
                target.get(target_end..).unwrap_or_default(),
            );
            last.len += more;
            self.next += more;
        }
    }

    /// The ends of the last copy in the target and in the base.
    fn last_ends(&self) -> (usize, usize) {
        self.copies.last().map_or((0, 0), CopyOp::ends)
    }
}

/// The distance to the next lookup after `unmatched` bytes without a match. An odd step and the block length have no
/// common divisor, so successive lookups reach every offset in a block, and a long common run is always found.
const fn step(unmatched: usize) -> usize {
    match unmatched / 64 {
        0 => 1,
        1 => 3,
        2 => 5,
        _ => 7,
    }
}

/// Extends a matching window in both directions.
fn extended(base: &[u8], target: &[u8], base_start: usize, target_start: usize) -> CopyOp {
    let forward = common_prefix_len(
        base.get(base_start + WINDOW..).unwrap_or_default(),
        target.get(target_start + WINDOW..).unwrap_or_default(),
    );
    let (base_before, target_before) = (base.get(..base_start), target.get(..target_start));
    let pairs =
        base_before.unwrap_or_default().iter().rev().zip(target_before.unwrap_or_default().iter().rev());
    let backward = pairs.take(MAX_BACKWARD).take_while(|(a, b)| a == b).count();
    CopyOp {
        base_start: base_start - backward,
        target_start: target_start - backward,
        len: backward + WINDOW + forward,
    }
}

/// Appends a copy. Earlier copies that it overlaps in the target are shortened or removed, because the new copy reaches
/// further. If too little of the last one would be left, the new copy is shortened instead.
fn push_copy(copies: &mut Vec<CopyOp>, mut copy: CopyOp) {
    while copies.last().is_some_and(|last| last.target_start >= copy.target_start) {
        copies.pop();
    }
    if let Some(last) = copies.last_mut() {
        let overlap = (last.target_start + last.len).saturating_sub(copy.target_start);
        if last.len - overlap >= MIN_COPY {
            last.len -= overlap;
        } else {
            copy = CopyOp {
                base_start: copy.base_start + overlap,
                target_start: copy.target_start + overlap,
                len: copy.len - overlap,
            };
        }
    }
    copies.push(copy);
}

fn common_prefix_len(a: &[u8], b: &[u8]) -> usize {
    // Comparing arrays of 64 bytes compiles to SIMD comparisons.
    let (a_chunks, _) = a.as_chunks::<64>();
    let (b_chunks, _) = b.as_chunks::<64>();
    let equal = a_chunks.iter().zip(b_chunks).take_while(|(a, b)| a == b).count() * 64;
    let rest = a.iter().skip(equal).zip(b.iter().skip(equal));
    equal + rest.take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    fn encoded(base: &[u8], target: &[u8]) -> Vec<u8> {
        encode(base, &BlockIndex::new(base), target)
    }

    /// Two strings over a small alphabet, so that equal runs are frequent and start anywhere.
    fn two_similar_strings() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
        let text = || vec(prop_oneof![9 => 0..3_u8, 1 => any::<u8>()], 0..600);
        (text(), text())
    }

    /// A base, and a target of slices of it in any order with other bytes between them.
    fn rearranged() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
        let slice = (any::<Index>(), 0..400_usize, vec(any::<u8>(), 0..40));
        (vec(any::<u8>(), 1..3000), vec(slice, 0..12)).prop_map(|(base, slices)| {
            let mut target = Vec::new();
            for (start, len, between) in slices {
                let start = start.index(base.len());
                target.extend_from_slice(&base[start..base.len().min(start + len)]);
                target.extend_from_slice(&between);
            }
            (base, target)
        })
    }

    proptest! {
        #[test]
        fn a_delta_restores_its_target((base, target) in prop_oneof![two_similar_strings(), rearranged()]) {
            let delta = encoded(&base, &target);
            prop_assert_eq!(apply(&base, &delta, target.len()).unwrap(), target);
        }

        #[test]
        fn the_delta_does_not_depend_on_the_chunks_in_which_the_target_arrives(
            (base, target) in prop_oneof![two_similar_strings(), rearranged()], chunks in vec(0..100_usize, 1..100),
        ) {
            let index = BlockIndex::new(&base);
            let mut encoder = Encoder::new(&base, &index);
            let mut known = 0;
            for chunk in chunks.iter().cycle().take(200) {
                known = target.len().min(known + chunk);
                encoder.advance(&target[..known]);
            }
            prop_assert_eq!(encoder.finish(&target), encoded(&base, &target));
        }

        #[test]
        fn a_damaged_delta_makes_the_right_number_of_bytes_or_fails(
            (base, target) in rearranged(), at in any::<Index>(), flip in 1..=255_u8, cut in any::<Index>(),
        ) {
            let mut delta = encoded(&base, &target);
            let at = at.index(delta.len());
            delta[at] ^= flip;
            delta.truncate(1 + cut.index(delta.len()));
            if let Ok(made) = apply(&base, &delta, target.len()) {
                prop_assert_eq!(made.len(), target.len());
            }
        }

        #[test]
        fn random_bytes_make_the_right_number_of_bytes_or_fail(
            base in vec(any::<u8>(), 0..100), noise in vec(any::<u8>(), 0..100), size in 0..1000_usize,
        ) {
            if let Ok(made) = apply(&base, &noise, size) {
                prop_assert_eq!(made.len(), size);
            }
        }

        #[test]
        fn a_long_shared_run_is_copied(
            base in vec(any::<u8>(), 3000), at in 0..2000_usize, before in vec(any::<u8>(), 0..50),
        ) {
            let target = [&before, &base[at..at + 1000]].concat();
            let delta = encoded(&base, &target);
            prop_assert!(delta.len() <= before.len() + 12, "{} for {}", delta.len(), before.len());
        }

        #[test]
        fn numbers_round_trip(number in 0..1_u64 << 62, to in any::<u32>(), from in any::<u32>()) {
            let mut written = Vec::new();
            put_number(&mut written, number);
            prop_assert_eq!(take_number(&mut written.as_slice()), Ok(number));
            let (to, from) = (to as usize, from as usize);
            prop_assert_eq!(unzigzag(zigzag(to, from), from), Some(to));
        }
    }

    #[test]
    fn a_wrong_size_is_rejected_before_the_allocation() {
        let delta = encoded(b"", b"five.");
        let mismatch = Err(BinaryDeltaError::SizeMismatch { expected: usize::MAX, found: 5 });
        assert_eq!(apply(b"", &delta, usize::MAX), mismatch);
        // One empty copy after 6 inserted bytes, of which there are only 5.
        assert_eq!(apply(b"", b"\x03\x06\0\0five.", 5), Err(BinaryDeltaError::Malformed));
    }

    #[test]
    fn copies_from_outside_the_base_are_rejected() {
        let mut operations = Vec::new();
        [0, 10, zigzag(95, 0)].into_iter().for_each(|number| put_number(&mut operations, number));
        let mut delta = Vec::new();
        put_number(&mut delta, operations.len() as u64);
        delta.append(&mut operations);
        assert_eq!(apply(&[0; 105], &delta, 10), Ok(vec![0; 10]));
        assert_eq!(apply(&[0; 104], &delta, 10), Err(BinaryDeltaError::CopyOutOfRange));
    }

    #[test]
    fn repeated_bytes_take_linear_time() {
        let (base, target) = (vec![7; 4_000_000], vec![7; 3_000_000]);
        assert!(encoded(&base, &target).len() < 20);
        let stripes: Vec<u8> = (0..1_000_000_u32).flat_map(|n| if n % 37 == 0 { [8] } else { [7] }).collect();
        assert_eq!(apply(&target, &encoded(&target, &stripes), stripes.len()).unwrap(), stripes);
    }
}
