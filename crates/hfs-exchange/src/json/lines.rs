//! Splits a transcript into lines, one at a time or in chunks.
//!
//! [`Lines`] is for readers that process one line after another, [`LineChunks`] for parsing on several
//! threads. Both skip lines that are too long and number all lines in the same way.

use std::borrow::Cow;
use std::io::{self, BufRead, BufReader, Read};
use std::ops::Range;

use crate::resume::LineStart;

/// Size limit of a line, or of a single value in a document, in bytes. Larger ones are reported and not read,
/// because a parsed value takes several times the memory of its text.
pub(crate) const MAX_LINE: usize = 64 << 20;

const BUFFER_BYTES: usize = 256 << 10;

/// The content of one line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// The text without its line end. Invalid UTF-8 is replaced by U+FFFD.
    Text(Cow<'a, str>),
    /// The line is longer than [`MAX_LINE`].
    TooLong {
        /// Length in bytes.
        bytes: u64,
    },
}

impl<'a> Line<'a> {
    /// Decodes a line. Removes the line end, and in line 1 the byte order mark.
    pub(crate) fn from_bytes(bytes: &'a [u8], number: u64) -> Self {
        let mut line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        line = line.strip_suffix(b"\r").unwrap_or(line);
        if number == 1 {
            line = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line);
        }
        // Almost every line is valid UTF-8. simdutf8 validates lines that are not ASCII in a third of the
        // time that the standard library takes.
        let text = simdutf8::basic::from_utf8(line);
        Self::Text(text.map_or_else(|_| String::from_utf8_lossy(line), Cow::Borrowed))
    }
}

/// Splits an input into lines. Only a line feed ends a line, because U+2028 and U+0085 may occur inside JSON
/// strings. A carriage return before the line feed, and a byte order mark at the start of the input, are
/// removed.
pub(crate) struct Lines<R> {
    input: BufReader<R>,
    buffer: Vec<u8>,
    number: u64,
    consumed: u64,
    max: usize,
}

impl<R: Read> Lines<R> {
    pub(crate) fn new(input: R) -> Self {
        Self::with_limit(input, MAX_LINE)
    }

    pub(crate) fn with_limit(input: R, max: usize) -> Self {
        let input = BufReader::with_capacity(BUFFER_BYTES, input);
        Self { input, buffer: Vec::new(), number: 0, consumed: 0, max }
    }

    /// Number of bytes in the lines that have been returned.
    pub(crate) const fn consumed(&self) -> u64 {
        self.consumed
    }

    /// Returns the next line with its number, counted from 1, or `None` at the end.
    ///
    /// # Errors
    /// Returns any error of the input.
    pub(crate) fn next(&mut self) -> io::Result<Option<(u64, Line<'_>)>> {
        self.buffer.clear();
        let mut length = 0_u64;
        let mut ended = false;
        while !ended {
            let available = match self.input.fill_buf() {
                Ok([]) => break,
                Ok(available) => available,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let segment = match memchr::memchr(b'\n', available) {
                Some(at) => {
                    ended = true;
                    available.get(..=at).unwrap_or(available)
                }
                None => available,
            };
            let used = segment.len();
            // The limit does not include the line end, which has at most two bytes.
            if self.buffer.len() + used <= self.max + 2 {
                self.buffer.extend_from_slice(segment);
            } else {
                // Free the memory. The check of `length` below reports the line as too long.
                self.buffer = Vec::new();
            }
            self.input.consume(used);
            length += used as u64;
        }
        if length == 0 {
            return Ok(None);
        }
        self.consumed += length;
        self.number += 1;
        if length > self.max as u64 + 2 {
            return Ok(Some((self.number, Line::TooLong { bytes: length })));
        }
        Ok(Some((self.number, Line::from_bytes(&self.buffer, self.number))))
    }
}

/// Approximate size of a chunk in bytes.
pub(crate) const CHUNK_BYTES: usize = 1 << 20;

/// Consecutive whole lines of an input, or a single line that exceeded the limit and was skipped.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LineChunk {
    /// Number of the first line, counted from 1.
    first_line: u64,
    /// Offset of the chunk in the input.
    offset: u64,
    /// End of each line in `bytes`.
    line_ends: Vec<usize>,
    bytes: Vec<u8>,
    /// Length of the skipped line; 0 if no line was skipped. A chunk with a skipped line has no bytes.
    skipped_bytes: u64,
    max: usize,
}

impl LineChunk {
    /// Size in bytes.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) const fn line_count(&self) -> usize {
        self.line_ends.len()
    }

    /// Number of the last line, if it is the end of the input and has no line end. Its writer may not have finished it.
    pub(crate) fn open_line(&self) -> Option<u64> {
        let is_open = self.bytes.last().is_some_and(|last| *last != b'\n');
        is_open.then(|| self.first_line + (self.line_count() as u64).saturating_sub(1))
    }

    /// The lines, each with its number and its range in the input.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (u64, Range<u64>, Line<'_>)> {
        let skipped = (self.skipped_bytes > 0).then_some(Line::TooLong { bytes: self.skipped_bytes });
        let mut start = 0;
        let lines = self.line_ends.iter().zip(self.first_line..).map(move |(&end, number)| {
            let bytes = self.bytes.get(start..end).unwrap_or_default();
            let range = self.offset + start as u64..self.offset + end as u64;
            start = end;
            if bytes.len() > self.max.saturating_add(2) {
                (number, range, Line::TooLong { bytes: bytes.len() as u64 })
            } else {
                (number, range, Line::from_bytes(bytes, number))
            }
        });
        let skipped_range = self.offset..self.offset + self.skipped_bytes;
        skipped.map(|line| (self.first_line, skipped_range, line)).into_iter().chain(lines)
    }
}

/// Splits an input into chunks that end where a line ends, so that several threads can parse them.
pub(crate) struct LineChunks<R> {
    input: R,
    /// Bytes that have been read, but not returned.
    rest: Vec<u8>,
    next_line: u64,
    consumed: u64,
    ended: bool,
    /// Buffer of a chunk that has been processed, for reuse.
    spare: Vec<u8>,
    size: usize,
    max: usize,
}

impl<R: Read> LineChunks<R> {
    /// The chunks of an input that begins at this place of a longer one.
    pub(crate) fn new(input: R, start: LineStart) -> Self {
        Self {
            next_line: start.line,
            consumed: start.offset,
            ..Self::with_sizes(input, CHUNK_BYTES, MAX_LINE)
        }
    }

    const fn with_sizes(input: R, size: usize, max: usize) -> Self {
        Self {
            input,
            rest: Vec::new(),
            next_line: 1,
            consumed: 0,
            ended: false,
            spare: Vec::new(),
            size,
            max,
        }
    }

    /// Whether all chunks have been returned.
    pub(crate) const fn is_at_end(&self) -> bool {
        self.ended && self.rest.is_empty()
    }

    /// Returns the next chunk, or `None` at the end.
    ///
    /// # Errors
    /// Returns any error of the input.
    pub(crate) fn next(&mut self) -> io::Result<Option<LineChunk>> {
        let mut bytes = std::mem::take(&mut self.spare);
        bytes.clear();
        bytes.reserve(self.rest.len() + self.size);
        bytes.append(&mut self.rest);
        // After a long line was skipped, `rest` may contain whole lines, so the search includes it.
        let mut searched = 0;
        loop {
            if self.read_more(&mut bytes)? == 0 {
                break;
            }
            let unsearched = bytes.get(searched..).unwrap_or_default();
            if let Some(at) = memchr::memrchr(b'\n', unsearched) {
                self.rest = bytes.split_off(searched + at + 1);
                break;
            }
            searched = bytes.len();
            if bytes.len() > self.max.saturating_add(2) {
                return self.skip_long_line(bytes).map(Some);
            }
        }
        Ok((!bytes.is_empty()).then(|| self.chunk(bytes, 0)))
    }

    /// Takes the buffer of a processed chunk for reuse.
    pub(crate) fn recycle(&mut self, chunk: LineChunk) {
        // The buffer of an exceptionally long line is freed instead.
        if chunk.bytes.capacity() <= 4 * self.size {
            self.spare = chunk.bytes;
        }
    }

    fn read_more(&mut self, bytes: &mut Vec<u8>) -> io::Result<usize> {
        let read = self.input.by_ref().take(self.size as u64).read_to_end(bytes)?;
        // `read_to_end` reads less than the limit only at the end of the input.
        self.ended |= read < self.size;
        Ok(read)
    }

    /// Skips the rest of a line whose beginning, `bytes`, already exceeds the limit.
    fn skip_long_line(&mut self, mut bytes: Vec<u8>) -> io::Result<LineChunk> {
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
        Ok(self.chunk(Vec::new(), length))
    }

    fn chunk(&mut self, bytes: Vec<u8>, skipped_bytes: u64) -> LineChunk {
        let (first_line, offset) = (self.next_line, self.consumed);
        let unended = bytes.last().is_some_and(|last| *last != b'\n').then_some(bytes.len());
        let line_ends: Vec<usize> =
            memchr::memchr_iter(b'\n', &bytes).map(|at| at + 1).chain(unended).collect();
        self.next_line += line_ends.len() as u64 + u64::from(skipped_bytes > 0);
        self.consumed += bytes.len() as u64 + skipped_bytes;
        LineChunk { first_line, offset, line_ends, bytes, skipped_bytes, max: self.max }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(bytes: &[u8], max: usize) -> Vec<(u64, String)> {
        let mut lines = Lines::with_limit(bytes, max);
        let mut all = Vec::new();
        while let Some((number, line)) = lines.next().unwrap() {
            all.push((
                number,
                match line {
                    Line::Text(text) => text.into_owned(),
                    Line::TooLong { bytes } => format!("too long: {bytes}"),
                },
            ));
        }
        assert_eq!(lines.consumed(), bytes.len() as u64);
        all
    }

    #[test]
    fn lines_end_at_line_feeds_only() {
        let text = "\u{feff}a\r\nb\u{2028}c\u{85}\r\r\n\n\u{b}last";
        let found = lines(text.as_bytes(), 100);
        let texts: Vec<&str> = found.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts, ["a", "b\u{2028}c\u{85}\r", "", "\u{b}last"]);
        assert_eq!(found.last().unwrap().0, 4);
    }

    #[test]
    fn a_line_beyond_the_limit_is_skipped_and_the_next_is_read() {
        let found = lines(b"short\nmuch too long a line\nnext\n", 8);
        assert_eq!(found, [(1, "short".into()), (2, "too long: 21".into()), (3, "next".into())]);
    }

    #[test]
    fn invalid_utf_8_is_replaced() {
        assert_eq!(lines(b"a\xffb", 8), [(1, "a\u{fffd}b".into())]);
    }

    #[test]
    fn an_empty_input_has_no_lines() {
        assert_eq!(lines(b"", 8), []);
    }

    fn by_chunks(bytes: &[u8], size: usize, max: usize) -> Vec<(u64, u64, String)> {
        let mut chunks = LineChunks::with_sizes(bytes, size, max);
        let mut found = Vec::new();
        while let Some(chunk) = chunks.next().unwrap() {
            let lines = chunk.lines();
            found.extend(lines.map(|(number, range, line)| (number, range.start, format!("{line:?}"))));
            chunks.recycle(chunk);
        }
        found
    }

    fn by_lines(bytes: &[u8], max: usize) -> Vec<(u64, u64, String)> {
        let mut lines = Lines::with_limit(bytes, max);
        let mut found = Vec::new();
        let mut offset = 0;
        while let Some((number, line)) = lines.next().unwrap() {
            found.push((number, offset, format!("{line:?}")));
            offset = lines.consumed();
        }
        found
    }

    #[test]
    fn an_empty_input_has_no_chunks() {
        assert_eq!(by_chunks(b"", 4, 8), []);
    }

    proptest! {
        #[test]
        fn chunks_contain_the_same_lines_as_the_input(
            bytes in prop::collection::vec(prop::sample::select(&b"ab\n\n\r\xff\xef\xbb\xbf"[..]), 0..200),
            size in 1_usize..40,
            max in 1_usize..30,
        ) {
            prop_assert_eq!(by_chunks(&bytes, size, max), by_lines(&bytes, max));
        }
    }
}
