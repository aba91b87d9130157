//! Physical lines of a transcript.

use std::borrow::Cow;
use std::io::{self, BufRead, BufReader, Read};

/// The longest line, and the largest single value of a document, that is read. Longer ones are skipped and
/// reported: they would not fit into memory with what they become.
pub(crate) const MAX_LINE: usize = 64 << 20;

const BUFFER: usize = 256 << 10;

/// What a line holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// Text without its line end; what was not UTF-8 in it is replaced by U+FFFD.
    Text(Cow<'a, str>),
    /// It is longer than [`MAX_LINE`].
    TooLong {
        /// Its length in bytes.
        bytes: u64,
    },
}

impl<'a> Line<'a> {
    /// What the line of this number holds, whose bytes these are, its end included.
    pub(crate) fn of(bytes: &'a [u8], number: u64) -> Self {
        let mut line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        line = line.strip_suffix(b"\r").unwrap_or(line);
        if number == 1 {
            line = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line);
        }
        // Asking first is many times as fast as replacing nothing.
        let text = simdutf8::basic::from_utf8(line);
        Self::Text(text.map_or_else(|_| String::from_utf8_lossy(line), Cow::Borrowed))
    }
}

/// Splits bytes into lines: at line feeds only, one carriage return before each removed, a byte order mark at
/// the beginning too.
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
        let input = BufReader::with_capacity(BUFFER, input);
        Self { input, buffer: Vec::new(), number: 0, consumed: 0, max }
    }

    /// How many bytes have been read so far.
    pub(crate) const fn consumed(&self) -> u64 {
        self.consumed
    }

    /// The next line with its number, from 1; `None` at the end.
    ///
    /// # Errors
    /// As the input has it.
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
            let piece = match memchr::memchr(b'\n', available) {
                Some(at) => {
                    ended = true;
                    available.get(..=at).unwrap_or(available)
                }
                None => available,
            };
            let used = piece.len();
            if self.buffer.len() + used <= self.max + 2 {
                self.buffer.extend_from_slice(piece);
            } else {
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
        Ok(Some((self.number, Line::of(&self.buffer, self.number))))
    }
}

#[cfg(test)]
mod tests {
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
    fn what_is_no_utf_8_is_replaced() {
        assert_eq!(lines(b"a\xffb", 8), [(1, "a\u{fffd}b".into())]);
    }

    #[test]
    fn no_bytes_are_no_lines() {
        assert_eq!(lines(b"", 8), []);
    }
}
