//! Decompression of zstd and gzip input, of which the readable part is used if it is truncated or damaged.

use std::collections::BTreeSet;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use flate2::read::MultiGzDecoder;
use zstd::stream::read::Decoder;

use crate::bounded::Bounded;
use crate::utf16;

const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b, 0x08];
/// Extensions of compressed files, with the dot.
const EXTENSIONS: [&str; 2] = [".zst", ".gz"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compression {
    Zstd,
    Gzip,
}

impl Compression {
    fn of(magic: &[u8]) -> Option<Self> {
        if magic.starts_with(ZSTD_MAGIC) {
            Some(Self::Zstd)
        } else if magic.starts_with(GZIP_MAGIC) {
            Some(Self::Gzip)
        } else {
            None
        }
    }
}

/// A file name without the extension of its compression.
pub(crate) fn uncompressed_name(name: &str) -> &str {
    EXTENSIONS.iter().find_map(|extension| name.strip_suffix(extension)).unwrap_or(name)
}

/// The path of a file without the extension of its compression.
pub(crate) fn uncompressed_path(path: &Path) -> PathBuf {
    let name = path.file_name().and_then(|name| name.to_str()).map(uncompressed_name);
    name.map_or_else(|| path.to_owned(), |name| path.with_file_name(name))
}

/// The file of a set with this path, compressed or not.
pub(crate) fn find_file(files: &BTreeSet<PathBuf>, path: &Path) -> Option<PathBuf> {
    let compressed = EXTENSIONS.iter().map(|extension| {
        let mut path = path.as_os_str().to_owned();
        path.push(extension);
        PathBuf::from(path)
    });
    std::iter::once(path.to_owned()).chain(compressed).find(|path| files.contains(path))
}

/// Whether the input is compressed. Its position is at the beginning afterwards.
pub(crate) fn is_compressed(input: &mut (impl Read + Seek)) -> io::Result<bool> {
    Ok(compression(input)?.is_some())
}

fn compression(input: &mut (impl Read + Seek)) -> io::Result<Option<Compression>> {
    let mut magic = Vec::new();
    input.by_ref().take(4).read_to_end(&mut magic)?;
    input.seek(SeekFrom::Start(0))?;
    Ok(Compression::of(&magic))
}

/// Reads the input, decompressed if necessary, and as UTF-8. If compressed data is damaged after content has been read, the
/// input ends there, and `damage` is set to the reason.
pub(crate) fn decompressed<'a>(
    mut input: impl Read + Seek + Send + 'a,
    damage: &'a OnceLock<String>,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    let found = compression(&mut input)?;
    let compressed_bytes = input.seek(SeekFrom::End(0))?;
    input.seek(SeekFrom::Start(0))?;
    let decoder: Box<dyn Read + Send + 'a> = match found {
        None => return utf16::to_utf8(input),
        Some(Compression::Zstd) => Box::new(Decoder::new(BufReader::new(input))?),
        Some(Compression::Gzip) => Box::new(MultiGzDecoder::new(BufReader::new(input))),
    };
    let decoder = Box::new(Bounded::new(decoder, compressed_bytes));
    utf16::to_utf8(Salvaged { decoder, bytes: 0, ended: false, damage })
}

/// A decoder whose output ends where its input is damaged.
struct Salvaged<'a> {
    decoder: Box<dyn Read + Send + 'a>,
    /// Number of bytes that were decoded.
    bytes: u64,
    ended: bool,
    damage: &'a OnceLock<String>,
}

impl Read for Salvaged<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.ended {
            return Ok(0);
        }
        match self.decoder.read(buffer) {
            Ok(read) => {
                self.bytes += read as u64;
                Ok(read)
            }
            // An error of the operating system may be temporary, and without any content there is nothing to use.
            Err(error)
                if self.bytes == 0
                    || error.raw_os_error().is_some()
                    || error.kind() == io::ErrorKind::Interrupted =>
            {
                Err(error)
            }
            Err(error) => {
                self.ended = true;
                let bytes = self.bytes;
                // The reason stays the same if the input is read again.
                let _ = self.damage.set(if error.kind() == io::ErrorKind::UnexpectedEof {
                    format!("the compressed file is truncated: it ends after {bytes} bytes of content")
                } else {
                    format!("the compressed file is damaged after {bytes} bytes of content: {error}")
                });
                Ok(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use super::*;

    fn content() -> Vec<u8> {
        // Random digits, so that both formats need several blocks.
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            b'0' + u8::try_from(state >> 60).unwrap() % 10
        };
        (0..600_000).map(|_| next()).collect()
    }

    fn compress(bytes: &[u8]) -> [Vec<u8>; 2] {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(bytes).unwrap();
        [zstd::encode_all(bytes, 3).unwrap(), gzip.finish().unwrap()]
    }

    fn read(bytes: &[u8]) -> (io::Result<Vec<u8>>, Option<String>) {
        let damage = OnceLock::new();
        let mut out = Vec::new();
        let result = decompressed(Cursor::new(bytes), &damage)
            .and_then(|mut input| input.read_to_end(&mut out).map(|_| ()));
        let damage = damage.get().cloned();
        (result.map(|()| out), damage)
    }

    #[test]
    fn the_readable_part_of_truncated_and_damaged_input_is_used() {
        let content = content();
        for compressed in compress(&content) {
            let (whole, damage) = read(&compressed);
            assert!(whole.unwrap() == content);
            assert_eq!(damage, None);

            let half = compressed.len() / 2;
            let (beginning, damage) = read(&compressed[..half]);
            let beginning = beginning.unwrap();
            assert!(beginning.len() > 100_000 && content.starts_with(&beginning), "{}", beginning.len());
            let damage = damage.unwrap();
            assert!(
                damage.contains("truncated") && damage.contains(&beginning.len().to_string()),
                "{damage}"
            );

            let mut damaged = compressed.clone();
            damaged[half..half + 2_000].fill(0xff);
            let (beginning, damage) = read(&damaged);
            assert!(damage.is_some(), "{:?}", beginning.map(|read| read.len()));
        }
    }

    #[test]
    fn input_of_several_compressed_parts_is_read_to_its_end() {
        for (first, second) in compress(b"one ").into_iter().zip(compress(b"two")) {
            assert_eq!(read(&[first, second].concat()).0.unwrap(), b"one two");
        }
    }

    #[test]
    fn input_without_any_readable_content_is_an_error() {
        for compressed in compress(b"{}") {
            assert!(read(&compressed[..6]).0.is_err());
        }
    }
}
