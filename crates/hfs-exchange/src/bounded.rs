//! Ends the decompression of files that decompress to far more than any transcript does.

use std::io::{self, Read};

/// Largest factor by which text is decompressed. Repetitive logs reach about 100.
const MAX_FACTOR: u64 = 250;
/// Size up to which any factor is accepted.
const ACCEPTED_BYTES: u64 = 256 << 20;

/// A decompressing reader that fails after too many bytes.
pub(crate) struct Bounded<R> {
    decoder: R,
    left: u64,
}

impl<R> Bounded<R> {
    /// Bounds the output of a decoder whose input has this size.
    pub(crate) fn new(decoder: R, compressed_bytes: u64) -> Self {
        Self { decoder, left: ACCEPTED_BYTES.max(compressed_bytes.saturating_mul(MAX_FACTOR)) }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.decoder.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| {
            let message = format!("it decompresses to more than {MAX_FACTOR} times its size");
            io::Error::new(io::ErrorKind::InvalidData, message)
        })?;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decompression_bomb_ends_in_an_error_and_a_transcript_does_not() {
        let mut endless = Bounded::new(io::repeat(b'a'), 10);
        let mut read = 0;
        let mut buffer = vec![0; 1 << 20];
        let error = loop {
            match endless.read(&mut buffer) {
                Ok(count) => read += count as u64,
                Err(error) => break error,
            }
        };
        assert_eq!((error.kind(), read), (io::ErrorKind::InvalidData, ACCEPTED_BYTES));
        let mut text = Vec::new();
        Bounded::new(&b"text"[..], 1).read_to_end(&mut text).unwrap();
        assert_eq!(text, b"text");
    }
}
