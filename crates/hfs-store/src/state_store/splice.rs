//! Bytes as a script of what to copy from others that resemble them, and what to put in between.
//!
//! The others, the base, are known by windows of sixteen bytes, one at the beginning of each stretch of thirty-two. So
//! what both sides share is found when it is longer than a stretch and a window, and then followed in both directions
//! at the speed of a comparison: it costs hardly more than reading it. Only what they do not share is looked up piece
//! by piece, and the longer nothing is found, the less closely.
//!
//! A script says how long its list of copies is, then the list (how much to insert, how much to copy, and from how
//! far behind the end of the copy before), then everything to insert. What is left after the last copy is inserted
//! at the end. Numbers are LEB128, and the distances zigzag.

mod finder;
mod index;

use finder::Finder;
pub use index::Index;
use index::WINDOW;

/// The most bytes that a number takes.
const LONGEST_NUMBER: usize = 9;

/// Why a script could not be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SpliceError {
    /// It ends too early, or holds a number that cannot be.
    #[error("the script of a difference is malformed")]
    Malformed,
    /// It copies what the base does not have.
    #[error("the script of a difference copies from beyond its base")]
    OutOfBase,
    /// It makes more or fewer bytes than it should.
    #[error("the script of a difference makes {found} bytes, not {expected}")]
    Size {
        /// What was expected.
        expected: usize,
        /// What the script makes.
        found: usize,
    },
    /// There is not enough memory for the bytes.
    #[error("there is no memory for {0} bytes")]
    Memory(usize),
}

/// The script that makes `bytes` of `base`, of which `index` has to be.
#[must_use]
pub fn script(base: &[u8], index: &Index, bytes: &[u8]) -> Vec<u8> {
    Splicer::new(base, index).finish(bytes)
}

/// A script for bytes that are still coming. It is the same in whatever pieces they come.
#[derive(Debug)]
pub struct Splicer<'a> {
    finder: Finder<'a>,
}

impl<'a> Splicer<'a> {
    /// A script that makes bytes of `base`, of which `index` has to be.
    #[must_use]
    pub const fn new(base: &'a [u8], index: &'a Index) -> Self {
        Self { finder: Finder::new(base, index) }
    }

    /// Looks at what has come so far: the bytes of the call before, and more.
    pub fn advance(&mut self, so_far: &[u8]) {
        self.finder.advance(so_far);
    }

    /// The script for all of the bytes.
    #[must_use]
    pub fn finish(self, bytes: &[u8]) -> Vec<u8> {
        let copies = self.finder.finish(bytes);
        let mut list = Vec::with_capacity(copies.len() * 6);
        let mut inserted = Vec::new();
        let (mut done, mut behind) = (0, 0);
        for copied in &copies {
            inserted.extend_from_slice(bytes.get(done..copied.to).unwrap_or_default());
            put(&mut list, (copied.to - done) as u64);
            put(&mut list, copied.len as u64);
            put(&mut list, zigzag(copied.from, behind));
            (done, behind) = copied.ends();
        }
        let mut script = Vec::with_capacity(list.len() + inserted.len() + bytes.len() - done + 10);
        put(&mut script, list.len() as u64);
        script.append(&mut list);
        script.append(&mut inserted);
        script.extend_from_slice(bytes.get(done..).unwrap_or_default());
        script
    }
}

/// How long a script that makes so many bytes can be.
#[must_use]
pub const fn longest_script(size: usize) -> usize {
    // Each copy makes at least a window of bytes, and takes three numbers.
    size.saturating_add((size / WINDOW + 1).saturating_mul(3 * LONGEST_NUMBER))
}

/// The bytes, `size` of them, that `script` makes of `base`.
///
/// # Errors
/// When the script is not one for this base and this many bytes. Whether the base is the one that the script was
/// made for, only a hash over the result can tell.
pub fn follow(base: &[u8], script: &[u8], size: usize) -> Result<Vec<u8>, SpliceError> {
    let mut rest = script;
    let len = usize::try_from(take(&mut rest)?).map_err(|_| SpliceError::Malformed)?;
    let (list, inserted) = rest.split_at_checked(len).ok_or(SpliceError::Malformed)?;
    // Before anything is reserved for it.
    let found = size_of_result(base, list, inserted)?;
    if found != size {
        return Err(SpliceError::Size { expected: size, found });
    }
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(size).map_err(|_| SpliceError::Memory(size))?;
    let mut inserted = inserted;
    let mut copies = Copies { list, behind: 0 };
    while let Some((insert, copied)) = copies.next(base)? {
        let (now, later) = inserted.split_at_checked(insert).ok_or(SpliceError::Malformed)?;
        inserted = later;
        bytes.extend_from_slice(now);
        bytes.extend_from_slice(copied);
    }
    bytes.extend_from_slice(inserted);
    Ok(bytes)
}

/// Whether the script can be followed at all, and how many bytes it makes.
fn size_of_result(base: &[u8], list: &[u8], inserted: &[u8]) -> Result<usize, SpliceError> {
    let (mut size, mut left) = (inserted.len(), inserted.len());
    let mut copies = Copies { list, behind: 0 };
    while let Some((insert, copied)) = copies.next(base)? {
        left = left.checked_sub(insert).ok_or(SpliceError::Malformed)?;
        size = size.checked_add(copied.len()).ok_or(SpliceError::Malformed)?;
    }
    Ok(size)
}

/// The list of a script, read from its front.
struct Copies<'a> {
    list: &'a [u8],
    behind: usize,
}

impl Copies<'_> {
    /// How much to insert, and then what to copy.
    fn next<'b>(&mut self, base: &'b [u8]) -> Result<Option<(usize, &'b [u8])>, SpliceError> {
        if self.list.is_empty() {
            return Ok(None);
        }
        let mut number = || usize::try_from(take(&mut self.list)?).map_err(|_| SpliceError::Malformed);
        let (insert, len) = (number()?, number()?);
        let from = unzigzag(take(&mut self.list)?, self.behind).ok_or(SpliceError::OutOfBase)?;
        let end = from.checked_add(len).ok_or(SpliceError::OutOfBase)?;
        self.behind = end;
        Ok(Some((insert, base.get(from..end).ok_or(SpliceError::OutOfBase)?)))
    }
}

fn put(to: &mut Vec<u8>, mut number: u64) {
    while let Some(rest) = Some(number >> 7).filter(|rest| *rest > 0) {
        to.push(number.to_le_bytes()[0] | 0x80);
        number = rest;
    }
    to.push(number.to_le_bytes()[0]);
}

fn take(from: &mut &[u8]) -> Result<u64, SpliceError> {
    let mut number = 0;
    for shift in (0..7 * LONGEST_NUMBER).step_by(7) {
        let (byte, rest) = from.split_first().ok_or(SpliceError::Malformed)?;
        *from = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(SpliceError::Malformed)
}

/// Nothing that fits into memory is longer than half of what a number can say.
fn zigzag(to: usize, from: usize) -> u64 {
    if to >= from { ((to - from) as u64) << 1 } else { ((from - to) as u64) << 1 | 1 }
}

fn unzigzag(number: u64, from: usize) -> Option<usize> {
    let distance = usize::try_from(number >> 1).ok()?;
    if number & 1 == 0 { from.checked_add(distance) } else { from.checked_sub(distance) }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::Index as Place;

    use super::*;

    fn made(base: &[u8], bytes: &[u8]) -> Vec<u8> {
        script(base, &Index::of(base), bytes)
    }

    /// Two texts of few letters, so that what is alike comes often and anywhere.
    fn any_two() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
        let text = || vec(prop_oneof![9 => 0..3_u8, 1 => any::<u8>()], 0..600);
        (text(), text())
    }

    /// A base, and pieces of it in any order with something in between.
    fn pieces() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
        let piece = (any::<Place>(), 0..400_usize, vec(any::<u8>(), 0..40));
        (vec(any::<u8>(), 1..3000), vec(piece, 0..12)).prop_map(|(base, pieces)| {
            let mut bytes = Vec::new();
            for (place, len, between) in pieces {
                let from = place.index(base.len());
                bytes.extend_from_slice(&base[from..base.len().min(from + len)]);
                bytes.extend_from_slice(&between);
            }
            (base, bytes)
        })
    }

    proptest! {
        #[test]
        fn bytes_come_back_exactly((base, bytes) in prop_oneof![any_two(), pieces()]) {
            let script = made(&base, &bytes);
            prop_assert_eq!(follow(&base, &script, bytes.len()).unwrap(), bytes);
        }

        #[test]
        fn a_script_is_the_same_in_whatever_pieces_the_bytes_come(
            (base, bytes) in prop_oneof![any_two(), pieces()], pieces in vec(0..100_usize, 1..100),
        ) {
            let index = Index::of(&base);
            let mut splicer = Splicer::new(&base, &index);
            let mut come = 0;
            for piece in pieces.iter().cycle().take(200) {
                come = bytes.len().min(come + piece);
                splicer.advance(&bytes[..come]);
            }
            prop_assert_eq!(splicer.finish(&bytes), made(&base, &bytes));
        }

        #[test]
        fn a_damaged_script_makes_the_right_number_of_bytes_or_none(
            (base, bytes) in pieces(), place in any::<Place>(), flip in 1..=255_u8, cut in any::<Place>(),
        ) {
            let mut script = made(&base, &bytes);
            let place = place.index(script.len());
            script[place] ^= flip;
            script.truncate(1 + cut.index(script.len()));
            if let Ok(made) = follow(&base, &script, bytes.len()) {
                prop_assert_eq!(made.len(), bytes.len());
            }
        }

        #[test]
        fn noise_makes_the_right_number_of_bytes_or_none(
            base in vec(any::<u8>(), 0..100), noise in vec(any::<u8>(), 0..100), size in 0..1000_usize,
        ) {
            if let Ok(made) = follow(&base, &noise, size) {
                prop_assert_eq!(made.len(), size);
            }
        }

        #[test]
        fn what_is_alike_for_long_enough_is_copied(
            base in vec(any::<u8>(), 3000), at in 0..2000_usize, before in vec(any::<u8>(), 0..50),
        ) {
            let bytes = [&before, &base[at..at + 1000]].concat();
            let script = made(&base, &bytes);
            prop_assert!(script.len() <= before.len() + 12, "{} for {}", script.len(), before.len());
        }

        #[test]
        fn numbers_come_back(number in 0..1_u64 << 62, to in any::<u32>(), from in any::<u32>()) {
            let mut written = Vec::new();
            put(&mut written, number);
            prop_assert_eq!(take(&mut written.as_slice()), Ok(number));
            let (to, from) = (to as usize, from as usize);
            prop_assert_eq!(unzigzag(zigzag(to, from), from), Some(to));
        }
    }

    #[test]
    fn nothing_is_reserved_for_more_than_a_script_makes() {
        let hoax = made(b"", b"five.");
        let found = Err(SpliceError::Size { expected: usize::MAX, found: 5 });
        assert_eq!(follow(b"", &hoax, usize::MAX), found);
        // One copy of nothing behind six bytes, of which there are five.
        assert_eq!(follow(b"", b"\x03\x06\0\0five.", 5), Err(SpliceError::Malformed));
    }

    #[test]
    fn copies_from_beyond_the_base_are_refused() {
        let mut list = Vec::new();
        [0, 10, zigzag(95, 0)].into_iter().for_each(|number| put(&mut list, number));
        let mut script = Vec::new();
        put(&mut script, list.len() as u64);
        script.append(&mut list);
        assert_eq!(follow(&[0; 105], &script, 10), Ok(vec![0; 10]));
        assert_eq!(follow(&[0; 104], &script, 10), Err(SpliceError::OutOfBase));
    }

    #[test]
    fn bytes_that_repeat_themselves_are_done_at_once() {
        let (base, bytes) = (vec![7; 4_000_000], vec![7; 3_000_000]);
        assert!(made(&base, &bytes).len() < 20);
        let stripes: Vec<u8> = (0..1_000_000_u32).flat_map(|n| if n % 37 == 0 { [8] } else { [7] }).collect();
        assert_eq!(follow(&bytes, &made(&bytes, &stripes), stripes.len()).unwrap(), stripes);
    }
}
