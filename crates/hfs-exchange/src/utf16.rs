//! Converts UTF-16, which PowerShell writes when output is redirected to a file, to UTF-8.

use std::io::{self, Cursor, Read};

use encoding_rs::{Encoding, UTF_16BE, UTF_16LE};
use encoding_rs_io::DecodeReaderBytesBuilder;

/// Returns the input as UTF-8 if it is UTF-16, with or without a byte order mark, and unchanged otherwise.
pub(crate) fn to_utf8<'a>(mut input: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut beginning = Vec::new();
    input.by_ref().take(4).read_to_end(&mut beginning)?;
    let encoding = utf16_of(&beginning);
    let whole = Cursor::new(beginning).chain(input);
    Ok(match encoding {
        None => Box::new(whole),
        encoding => Box::new(DecodeReaderBytesBuilder::new().encoding(encoding).build(whole)),
    })
}

/// The variant of UTF-16 that a text with this beginning is written in.
fn utf16_of(beginning: &[u8]) -> Option<&'static Encoding> {
    // Without a mark, the text is UTF-16 if every second byte is zero. JSON and Markdown begin with ASCII characters.
    let is_text = |byte: u8| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~');
    match *beginning {
        [0xff, 0xfe, ..] => Some(UTF_16LE),
        [0xfe, 0xff, ..] => Some(UTF_16BE),
        [first, 0, second, 0] if is_text(first) && is_text(second) => Some(UTF_16LE),
        [0, first, 0, second] if is_text(first) && is_text(second) => Some(UTF_16BE),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(bytes: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        to_utf8(bytes).unwrap().read_to_end(&mut text).unwrap();
        text
    }

    #[test]
    fn utf_16_is_converted_in_both_byte_orders_with_and_without_a_mark() {
        let text = "[{\"a\": \"漢字 é 🦆\"}]\r\n";
        let mark = [0xfeff_u16];
        for units in
            [text.encode_utf16().collect::<Vec<_>>(), mark.into_iter().chain(text.encode_utf16()).collect()]
        {
            let little: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
            let big: Vec<u8> = units.iter().flat_map(|unit| unit.to_be_bytes()).collect();
            assert_eq!(converted(&little), text.as_bytes());
            assert_eq!(converted(&big), text.as_bytes());
        }
    }

    #[test]
    fn other_bytes_are_not_changed() {
        for bytes in [&b""[..], b"{", b"{}\n", b"\0\0\0\0{}", b"\xef\xbb\xbf{}", b"PK\x03\x04\0\0", b"\xff{}"]
        {
            assert_eq!(converted(bytes), bytes);
        }
    }
}
