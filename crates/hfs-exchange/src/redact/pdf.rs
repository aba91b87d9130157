//! The text of PDF files, for the search for secrets.
//!
//! Reads all content streams without following the structure of pages and fonts, so damaged files are read as far as they
//! can be. Codes of glyphs are translated by every character map of the file in turn, because which font a string uses is
//! not resolved. The text is therefore not fit for reading, only for searching.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Read as _;

use flate2::read::ZlibDecoder;
use memchr::memmem;

/// Limit for the unpacked bytes of a file.
const MAX_UNPACKED: usize = 64 << 20;
/// Limit for the character maps that are tried.
const MAX_MAPS: usize = 32;

/// The text of a PDF file.
pub struct PdfText {
    pub text: String,
    /// Whether all of the file is text that could be read: no pictures, no encryption, no unknown filters.
    pub is_complete: bool,
}

/// Reads the text of a PDF file.
pub fn read(bytes: &[u8]) -> PdfText {
    let mut unread = memmem::find(bytes, b"/Encrypt").is_some();
    let mut maps: Vec<CharacterMap> = Vec::new();
    let mut contents: Vec<Cow<'_, [u8]>> = Vec::new();
    let mut unpacked = 0;
    let mut index = 0;
    let mut outside = 0;
    while let Some(found) = memmem::find(bytes.get(index..).unwrap_or_default(), b"stream") {
        let start = index + found;
        index = start + b"stream".len();
        // Not `endstream` or a part of a name: a stream follows a dictionary, and a line break precedes its data.
        let before = bytes.get(..start).unwrap_or_default().trim_ascii_end();
        if !before.ends_with(b">>") || !matches!(bytes.get(index), Some(b'\n' | b'\r')) {
            continue;
        }
        // The strings of titles, links and forms are outside of streams.
        contents.push(bytes.get(outside..start).unwrap_or_default().into());
        let data_start = index + bytes.get(index..).map_or(0, line_break);
        let rest = bytes.get(data_start..).unwrap_or_default();
        let length = memmem::find(rest, b"endstream").unwrap_or(rest.len());
        let data = rest.get(..length).unwrap_or_default();
        index = data_start + length;
        outside = index;
        let dictionary = before.get(memmem::rfind(before, b"obj").unwrap_or(0)..).unwrap_or_default();
        let has = |name: &[u8]| memmem::find(dictionary, name).is_some();
        if has(b"/Subtype/Image") || has(b"/Subtype /Image") {
            unread = true;
            continue;
        }
        // Fonts and color profiles.
        let is_resource =
            [b"/Length1 ".as_slice(), b"/Type1C", b"/CIDFontType0C", b"/OpenType", b"/Alternate"];
        if is_resource.iter().any(|name| has(name)) {
            continue;
        }
        let (content, is_read) = unpack(dictionary, data, MAX_UNPACKED - unpacked);
        unread |= !is_read;
        unpacked += content.len();
        if unpacked >= MAX_UNPACKED {
            unread = true;
            break;
        }
        if memmem::find(&content, b"beginbfchar").is_some()
            || memmem::find(&content, b"beginbfrange").is_some()
        {
            if maps.len() < MAX_MAPS { maps.push(CharacterMap::parse(&content)) } else { unread = true }
        } else if has(b"/ObjStm")
            || [b"Tj", b"TJ"].iter().any(|operator| memmem::find(&content, *operator).is_some())
        {
            contents.push(content.into());
        }
    }
    let mut text = String::new();
    contents.push(bytes.get(outside..).unwrap_or_default().into());
    for content in &contents {
        append_text(content, &maps, &mut text);
    }
    let text = joined_glyphs(text);
    let is_complete = !unread && !text.trim().is_empty() && !has_unmapped_font(&contents);
    PdfText { text, is_complete }
}

/// Whether a font numbers its glyphs in an order of its own, without a map to characters.
fn has_unmapped_font(contents: &[Cow<'_, [u8]>]) -> bool {
    let count = |names: &[&[u8]]| -> usize {
        let all = contents.iter().flat_map(|content| names.iter().map(move |name| (content, *name)));
        all.map(|(content, name)| memmem::find_iter(content, name).count()).sum()
    };
    let numbered = count(&[b"/Subtype/Type0", b"/Subtype /Type0", b"/Subtype/Type3", b"/Subtype /Type3"]);
    numbered > count(&[b"/ToUnicode"])
}

/// Joins the lines if most of them are single characters: some programs place each glyph of a word by itself.
fn joined_glyphs(text: String) -> String {
    let (mut single, mut all) = (0_usize, 0_usize);
    for line in text.lines() {
        all += 1;
        single += usize::from(line.chars().nth(1).is_none());
    }
    if single * 2 > all && all > 8 { text.replace('\n', "") } else { text }
}

/// Applies the filters of a stream. Returns the readable part, and whether that is all of it.
fn unpack(dictionary: &[u8], data: &[u8], limit: usize) -> (Vec<u8>, bool) {
    let mut content = data.to_vec();
    let filters = memmem::find(dictionary, b"/Filter")
        .map_or(&[][..], |at| dictionary.get(at + 7..).unwrap_or_default());
    let end = match filters.iter().position(|byte| *byte == b'[') {
        Some(0..=1) => filters.iter().position(|byte| *byte == b']').unwrap_or(filters.len()),
        // One name: up to the second slash.
        _ => filters
            .iter()
            .skip(2)
            .position(|byte| matches!(byte, b'/' | b'>'))
            .map_or(filters.len(), |at| at + 2),
    };
    let filters = String::from_utf8_lossy(filters.get(..end).unwrap_or_default()).into_owned();
    let mut is_read = true;
    for filter in filters.split('/').skip(1) {
        let filter = filter.trim_matches(|c: char| c.is_whitespace() || c == '[' || c == '<');
        content = match filter {
            "FlateDecode" | "Fl" => {
                let mut unpacked = Vec::new();
                is_read &= ZlibDecoder::new(&*content).take(limit as u64).read_to_end(&mut unpacked).is_ok();
                unpacked
            }
            "ASCII85Decode" | "A85" => ascii85(&content),
            "ASCIIHexDecode" | "AHx" => hex_bytes(&content),
            _ => return (Vec::new(), false),
        };
    }
    (content, is_read)
}

/// Decodes ASCII85: five characters for four bytes.
fn ascii85(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() / 5 * 4);
    let (mut value, mut count) = (0_u32, 0);
    for byte in text.iter().copied().take_while(|byte| *byte != b'~') {
        match byte {
            b'z' if count == 0 => bytes.extend([0; 4]),
            b'!'..=b'u' => {
                value = value.wrapping_mul(85).wrapping_add(u32::from(byte - b'!'));
                count += 1;
                if count == 5 {
                    bytes.extend(value.to_be_bytes());
                    (value, count) = (0, 0);
                }
            }
            _ => {}
        }
    }
    if count > 1 {
        for _ in count..5 {
            value = value.wrapping_mul(85).wrapping_add(84);
        }
        bytes.extend(value.to_be_bytes().iter().take(count - 1));
    }
    bytes
}

/// The length of the line break after `stream`.
fn line_break(rest: &[u8]) -> usize {
    match rest {
        [b'\r', b'\n', ..] => 2,
        [b'\n' | b'\r', ..] => 1,
        _ => 0,
    }
}

/// Translates the codes of glyphs to text.
struct CharacterMap {
    characters: HashMap<u32, String>,
    /// Bytes of a code.
    width: usize,
}

impl CharacterMap {
    fn parse(stream: &[u8]) -> Self {
        let text = String::from_utf8_lossy(stream);
        let mut map = Self { characters: HashMap::new(), width: 1 };
        for (start, end) in [("beginbfchar", "endbfchar"), ("beginbfrange", "endbfrange")] {
            for section in text.split(start).skip(1) {
                let section = section.split(end).next().unwrap_or_default();
                let codes: Vec<&str> =
                    section.split('<').skip(1).filter_map(|code| code.split('>').next()).collect();
                map.width = codes.first().map_or(map.width, |code| code.len().div_ceil(2).clamp(1, 4));
                if start == "beginbfchar" {
                    for pair in codes.chunks_exact(2) {
                        if let [code, characters] = pair
                            && let Ok(code) = u32::from_str_radix(code, 16)
                        {
                            map.characters.insert(code, unicode(characters, 0));
                        }
                    }
                } else {
                    for range in codes.chunks_exact(3) {
                        if let [first, last, characters] = range
                            && let (Ok(first), Ok(last)) =
                                (u32::from_str_radix(first, 16), u32::from_str_radix(last, 16))
                        {
                            for code in first..=last.min(first.saturating_add(0xffff)) {
                                map.characters.insert(code, unicode(characters, code - first));
                            }
                        }
                    }
                }
            }
        }
        map
    }

    /// The text of a string; `None` if a code is not in the map.
    fn translate(&self, codes: &[u8]) -> Option<String> {
        let codes = codes.chunks(self.width);
        codes
            .map(|code| {
                self.characters.get(&code.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)))
            })
            .try_fold(String::new(), |mut text, characters| {
                text.push_str(characters?);
                Some(text)
            })
    }
}

/// The characters that hexadecimal UTF-16 encodes, with `offset` added to the last.
fn unicode(hex: &str, offset: u32) -> String {
    let units: Vec<u16> = hex_bytes(hex.as_bytes())
        .chunks(2)
        .map(|pair| pair.iter().fold(0, |value, byte| value << 8 | u16::from(*byte)))
        .collect();
    let mut text = String::from_utf16_lossy(&units);
    if offset > 0
        && let Some(last) = text.pop()
    {
        text.extend(char::from_u32(u32::from(last) + offset));
    }
    text
}

fn hex_bytes(hex: &[u8]) -> Vec<u8> {
    let digits: Vec<u8> =
        hex.iter().filter_map(|byte| u8::try_from(char::from(*byte).to_digit(16)?).ok()).collect();
    digits
        .chunks(2)
        .map(|pair| {
            pair.iter().fold(0, |value, digit| value << 4 | digit) << if pair.len() == 1 { 4 } else { 0 }
        })
        .collect()
}

/// Appends the text of all strings of a content stream, one line for each operator that shows text.
fn append_text(content: &[u8], maps: &[CharacterMap], text: &mut String) {
    // The codes of the strings since the last operator.
    let mut shown: Vec<u8> = Vec::new();
    let mut index = 0;
    while let Some(byte) = content.get(index) {
        let rest = content.get(index + 1..).unwrap_or_default();
        match byte {
            b'(' => {
                let (string, length) = literal_string(rest);
                shown.extend(string);
                index += length;
            }
            b'<' if rest.first() != Some(&b'<') => {
                let length = rest.iter().position(|byte| *byte == b'>').unwrap_or(rest.len());
                let hex = rest.get(..length).unwrap_or_default();
                if hex.iter().all(|byte| byte.is_ascii_hexdigit() || byte.is_ascii_whitespace()) {
                    shown.extend(hex_bytes(hex));
                    index += length;
                }
            }
            b'j' | b'J' | b'\'' | b'"' | b'>' if !shown.is_empty() => {
                for map in maps {
                    if let Some(translated) = map.translate(&shown) {
                        let _ = writeln!(text, "{translated}");
                    }
                }
                text.extend(shown.drain(..).filter(|byte| *byte != 0).map(char::from));
                text.push('\n');
            }
            _ => {}
        }
        index += 1;
    }
    text.extend(shown.into_iter().filter(|byte| *byte != 0).map(char::from));
}

/// A string in parentheses, and its length with the closing one.
fn literal_string(bytes: &[u8]) -> (Vec<u8>, usize) {
    let mut string = Vec::new();
    let mut depth = 1;
    let mut index = 0;
    while let Some(byte) = bytes.get(index) {
        match byte {
            b'\\' => {
                index += 1;
                match bytes.get(index) {
                    Some(b'n') => string.push(b'\n'),
                    Some(b'r') => string.push(b'\r'),
                    Some(b't') => string.push(b'\t'),
                    Some(digit @ b'0'..=b'7') => {
                        let mut code = u32::from(digit - b'0');
                        for _ in 0..2 {
                            let Some(digit @ b'0'..=b'7') = bytes.get(index + 1) else { break };
                            code = code * 8 + u32::from(digit - b'0');
                            index += 1;
                        }
                        string.push(u8::try_from(code & 0xff).unwrap_or(b'?'));
                    }
                    Some(b'\n' | b'\r') | None => {}
                    Some(other) => string.push(*other),
                }
            }
            b'(' => {
                depth += 1;
                string.push(b'(');
            }
            b')' => {
                depth -= 1;
                if depth == 0 {
                    return (string, index + 1);
                }
                string.push(b')');
            }
            other => string.push(*other),
        }
        index += 1;
    }
    (string, index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn file(objects: &[&[u8]]) -> Vec<u8> {
        let mut bytes = b"%PDF-1.7\n".to_vec();
        for (number, object) in (1..).zip(objects) {
            bytes.extend(format!("{number} 0 obj\n").bytes());
            bytes.extend(*object);
            bytes.extend(b"\nendobj\n");
        }
        bytes
    }

    fn stream(dictionary: &str, content: &[u8]) -> Vec<u8> {
        let mut packer = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(content).unwrap();
        let packed = packer.finish().unwrap();
        let head = format!("<</Length {} /Filter /FlateDecode {dictionary}>>\nstream\n", packed.len());
        [head.as_bytes(), &packed, b"\nendstream"].concat()
    }

    #[test]
    fn text_is_read_from_literal_strings_hexadecimal_strings_and_glyph_codes() {
        let page = stream(
            "",
            b"BT (the pass) Tj [(word: Kes) -20 (trel\\0557781)] TJ <746f6b656e> Tj <000100020003> Tj ET",
        );
        let map = stream(
            "",
            b"1 beginbfchar <0001> <0078> endbfchar 1 beginbfrange <0002> <0003> <0079> endbfrange",
        );
        let pdf = read(&file(&[&page, &map, b"<</Title (Report \\(draft\\))>>"]));
        for expected in ["the pass\n", "word: Kestrel-7781\n", "token\n", "xyz\n", "Report (draft)"] {
            assert!(pdf.text.contains(expected), "{expected:?} in {:?}", pdf.text);
        }
        assert!(pdf.is_complete);
    }

    #[test]
    fn words_whose_glyphs_are_placed_one_by_one_are_read() {
        let glyphs: Vec<String> =
            "token: Kestrel-7781".chars().map(|c| format!("({c}) Tj 7 0 Td ")).collect();
        let pdf = read(&file(&[&stream("", format!("BT {} ET", glyphs.concat()).as_bytes())]));
        assert!(pdf.text.contains("token: Kestrel-7781"), "{:?}", pdf.text);
    }

    #[test]
    fn a_file_with_a_font_that_has_no_map_to_characters_is_not_complete() {
        let page = stream("", b"BT <00010002> Tj ET");
        let font: &[u8] = b"<</Type /Font /Subtype /Type0 /Encoding /Identity-H>>";
        assert!(!read(&file(&[&page, font])).is_complete);
        let mapped: &[u8] = b"<</Type /Font /Subtype /Type0 /Encoding /Identity-H /ToUnicode 3 0 R>>";
        let map = stream("", b"2 beginbfchar <0001> <0078> <0002> <0079> endbfchar");
        assert!(read(&file(&[&page, mapped, &map])).is_complete);
    }

    #[test]
    fn a_file_with_a_picture_or_without_text_is_not_complete() {
        let page = stream("", b"BT (text) Tj ET");
        let picture =
            b"<</Subtype /Image /Filter /DCTDecode /Length 4>>\nstream\n\xff\xd8\xff\xe0\nendstream";
        assert!(read(&file(&[&page])).is_complete);
        assert!(!read(&file(&[&page, picture])).is_complete);
        assert!(!read(&file(&[])).is_complete);
    }
}
