//! Large pieces of a transcript that end where a line ends, so that several threads can take it apart.

use std::io::{self, Read};

use super::lines::{Line, MAX_LINE};

/// About how long a piece is.
pub(crate) const PIECE: usize = 1 << 20;

/// Some lines in a row.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// The number of its first line, from 1.
    first: u64,
    /// How many bytes came before it.
    before: u64,
    /// Where each of its lines ends.
    ends: Vec<usize>,
    bytes: Vec<u8>,
    /// How long the line was that this stands for, when it was too long to be kept.
    skipped: u64,
    max: usize,
}

impl Piece {
    /// How much memory it takes.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// How many lines it holds.
    pub(crate) const fn count(&self) -> usize {
        self.ends.len()
    }

    /// Its lines: the number of each, the bytes that came before it, and what it holds.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (u64, u64, Line<'_>)> {
        let skipped = (self.skipped > 0).then_some(Line::TooLong { bytes: self.skipped });
        let mut start = 0;
        let lines = self.ends.iter().zip(self.first..).map(move |(&end, number)| {
            let bytes = self.bytes.get(start..end).unwrap_or_default();
            let before = self.before + start as u64;
            start = end;
            if bytes.len() > self.max.saturating_add(2) {
                (number, before, Line::TooLong { bytes: bytes.len() as u64 })
            } else {
                (number, before, Line::of(bytes, number))
            }
        });
        skipped.map(|line| (self.first, self.before, line)).into_iter().chain(lines)
    }
}

/// Splits an input into pieces.
pub(crate) struct Pieces<R> {
    input: R,
    /// What was read behind the last line end.
    rest: Vec<u8>,
    /// The number of the next line.
    next: u64,
    consumed: u64,
    ended: bool,
    /// The memory of a piece that nobody needs any more.
    spare: Vec<u8>,
    size: usize,
    max: usize,
}

impl<R: Read> Pieces<R> {
    pub(crate) const fn new(input: R) -> Self {
        Self::with_sizes(input, PIECE, MAX_LINE)
    }

    const fn with_sizes(input: R, size: usize, max: usize) -> Self {
        Self { input, rest: Vec::new(), next: 1, consumed: 0, ended: false, spare: Vec::new(), size, max }
    }

    /// Whether there is no further piece.
    pub(crate) const fn is_at_end(&self) -> bool {
        self.ended && self.rest.is_empty()
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// As the input has it.
    pub(crate) fn next(&mut self) -> io::Result<Option<Piece>> {
        let mut bytes = std::mem::take(&mut self.spare);
        bytes.clear();
        bytes.reserve(self.rest.len() + self.size);
        bytes.append(&mut self.rest);
        // What is left behind a line that was passed over may hold whole lines, too.
        let mut known = 0;
        loop {
            if self.read_more(&mut bytes)? == 0 {
                break;
            }
            let fresh = bytes.get(known..).unwrap_or_default();
            if let Some(at) = memchr::memrchr(b'\n', fresh) {
                self.rest = bytes.split_off(known + at + 1);
                break;
            }
            known = bytes.len();
            if bytes.len() > self.max.saturating_add(2) {
                return self.skip(bytes).map(Some);
            }
        }
        Ok((!bytes.is_empty()).then(|| self.piece(bytes, 0)))
    }

    /// Takes a piece back, for its memory.
    pub(crate) fn take_back(&mut self, piece: Piece) {
        // A long line's goes back to the system.
        if piece.bytes.capacity() <= 4 * self.size {
            self.spare = piece.bytes;
        }
    }

    fn read_more(&mut self, bytes: &mut Vec<u8>) -> io::Result<usize> {
        let read = self.input.by_ref().take(self.size as u64).read_to_end(bytes)?;
        // Only the end of the input gives less than was asked for.
        self.ended |= read < self.size;
        Ok(read)
    }

    /// Passes over a line that is too long already.
    fn skip(&mut self, mut bytes: Vec<u8>) -> io::Result<Piece> {
        let mut length = 0;
        loop {
            length += bytes.len() as u64;
            bytes.clear();
            if self.read_more(&mut bytes)? == 0 {
                break;
            }
            if let Some(at) = memchr::memchr(b'\n', &bytes) {
                length += at as u64 + 1;
                self.rest = bytes.split_off(at + 1);
                break;
            }
        }
        Ok(self.piece(Vec::new(), length))
    }

    fn piece(&mut self, bytes: Vec<u8>, skipped: u64) -> Piece {
        let (first, before) = (self.next, self.consumed);
        let unended = bytes.last().is_some_and(|last| *last != b'\n').then_some(bytes.len());
        let ends: Vec<usize> = memchr::memchr_iter(b'\n', &bytes).map(|at| at + 1).chain(unended).collect();
        self.next += ends.len() as u64 + u64::from(skipped > 0);
        self.consumed += bytes.len() as u64 + skipped;
        Piece { first, before, ends, bytes, skipped, max: self.max }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::lines::Lines;
    use proptest::prelude::*;

    fn by_pieces(bytes: &[u8], size: usize, max: usize) -> Vec<(u64, u64, String)> {
        let mut pieces = Pieces::with_sizes(bytes, size, max);
        let mut found = Vec::new();
        while let Some(piece) = pieces.next().unwrap() {
            found.extend(piece.lines().map(|(number, before, line)| (number, before, format!("{line:?}"))));
            pieces.take_back(piece);
        }
        found
    }

    fn by_lines(bytes: &[u8], max: usize) -> Vec<(u64, u64, String)> {
        let mut lines = Lines::with_limit(bytes, max);
        let mut found = Vec::new();
        let mut before = 0;
        while let Some((number, line)) = lines.next().unwrap() {
            found.push((number, before, format!("{line:?}")));
            before = lines.consumed();
        }
        found
    }

    #[test]
    fn no_bytes_are_no_pieces() {
        assert_eq!(by_pieces(b"", 4, 8), []);
    }

    proptest! {
        #[test]
        fn the_lines_of_all_pieces_are_the_lines_of_the_whole(
            bytes in prop::collection::vec(prop::sample::select(&b"ab\n\n\r\xff\xef\xbb\xbf"[..]), 0..200),
            size in 1_usize..40,
            max in 1_usize..30,
        ) {
            prop_assert_eq!(by_pieces(&bytes, size, max), by_lines(&bytes, max));
        }
    }
}
