//! The text of attachments.

use super::Unexamined;
use super::pdf::{self, PdfText};

/// Larger attachments are not examined.
pub const MAX_BYTES: u64 = 32 << 20;

/// What an attachment contains.
pub enum Content {
    /// Text, which can be changed and encoded again.
    Text(String, Encoding),
    /// The text of a file in a format that hfs cannot write.
    ReadOnlyText(PdfText),
    Unexamined(Unexamined),
}

/// How a text is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    Utf8,
    Utf16 {
        is_big_endian: bool,
    },
    /// Every byte is a character: ISO 8859-1 and its relatives.
    SingleByte,
}

impl Encoding {
    pub fn encode(self, text: &str) -> Vec<u8> {
        match self {
            Self::Utf8 => text.as_bytes().to_vec(),
            Self::Utf16 { is_big_endian } => {
                let convert = if is_big_endian { u16::to_be_bytes } else { u16::to_le_bytes };
                text.encode_utf16().flat_map(convert).collect()
            }
            Self::SingleByte => text.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect(),
        }
    }
}

/// Reads an attachment. The bytes decide, since many attachments have no or a wrong media type.
pub fn content(media_type: &str, bytes: &[u8]) -> Content {
    let media_type = media_type.to_ascii_lowercase();
    if let [first @ (0xfe | 0xff), second @ (0xff | 0xfe), ..] = bytes
        && first != second
    {
        let is_big_endian = *first == 0xfe;
        let convert = if is_big_endian { u16::from_be_bytes } else { u16::from_le_bytes };
        let (pairs, rest) = bytes.as_chunks::<2>();
        if let (Ok(text), []) =
            (String::from_utf16(&pairs.iter().map(|pair| convert(*pair)).collect::<Vec<_>>()), rest)
        {
            return Content::Text(text, Encoding::Utf16 { is_big_endian });
        }
    }
    if bytes.starts_with(b"%PDF-") {
        return Content::ReadOnlyText(pdf::read(bytes));
    }
    if !bytes.contains(&0) {
        if let Ok(text) = str::from_utf8(bytes) {
            return Content::Text(text.to_owned(), Encoding::Utf8);
        }
        if media_type.starts_with("text/") {
            return Content::Text(bytes.iter().map(|byte| char::from(*byte)).collect(), Encoding::SingleByte);
        }
    }
    Content::Unexamined(match media_type.split('/').next() {
        Some("image") => Unexamined::Picture,
        Some("audio" | "video") => Unexamined::Recording,
        _ => Unexamined::Binary,
    })
}
