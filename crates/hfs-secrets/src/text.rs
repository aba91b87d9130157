//! Looks at the bytes around a position in a text that may be escaped.

/// The byte at a position; 0 before the start and after the end.
pub fn at(text: &str, index: usize) -> u8 {
    text.as_bytes().get(index).copied().unwrap_or(0)
}

/// The byte before a position; 0 at the start.
pub fn before(text: &str, index: usize) -> u8 {
    index.checked_sub(1).map_or(0, |index| at(text, index))
}

/// The part of a text between two positions; empty if they are not character boundaries.
pub fn part(text: &str, start: usize, end: usize) -> &str {
    text.get(start..end).unwrap_or_default()
}

/// How far a search looks ahead, so that its time is linear in the length of any text.
pub const REACH: usize = 4096;

/// The first position from `index` on whose byte is not accepted, at most [`REACH`] bytes ahead.
pub fn skip(text: &str, index: usize, accept: impl Fn(u8) -> bool) -> usize {
    let rest = text.as_bytes().get(index..).unwrap_or_default();
    let near = rest.get(..REACH).unwrap_or(rest);
    index + near.iter().position(|byte| !accept(*byte)).unwrap_or(near.len())
}

/// As [`skip`], without the limit. For text that is known to be a secret.
pub fn skip_all(text: &str, index: usize, accept: impl Fn(u8) -> bool) -> usize {
    let rest = text.as_bytes().get(index..).unwrap_or_default();
    index + rest.iter().position(|byte| !accept(*byte)).unwrap_or(rest.len())
}

/// The first position of the bytes directly before `index` that are all accepted, at most `max` bytes back.
pub fn skip_back(text: &str, index: usize, max: usize, accept: impl Fn(u8) -> bool) -> usize {
    let first = index.saturating_sub(max);
    let rest = text.as_bytes().get(first..index).unwrap_or_default();
    first + rest.iter().rposition(|byte| !accept(*byte)).map_or(0, |last| last + 1)
}

pub fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// Whether the byte belongs to a word. Text in another script is no part of a word, because a token can follow it directly.
pub fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The start of the line that contains `index`, at most 200 bytes back. An escaped line break ends a line, too.
pub fn line_start(text: &str, index: usize) -> usize {
    let start = skip_back(text, index, 200, |byte| byte != b'\n' && byte != b'\r');
    let line = part(text, start, index);
    match (line.rfind("\\n"), line.rfind("\\r")) {
        (None, None) => start,
        (a, b) => start + a.max(b).unwrap_or(0) + 2,
    }
}

/// Whether a word can start at `index`: the byte before it belongs to no word, or ends an escape sequence, as in
/// `\nTOKEN`, `%3DTOKEN`, `\u003dTOKEN`, or in the code that colors a terminal.
pub fn starts_word(text: &str, index: usize) -> bool {
    let last = before(text, index);
    if !is_word(last) {
        return true;
    }
    let ends_with = |length: usize, start: &[u8], is_rest: fn(u8) -> bool| {
        let Some(first) = index.checked_sub(length) else { return false };
        let sequence = text.as_bytes().get(first..index).unwrap_or_default();
        sequence.strip_prefix(start).is_some_and(|rest| rest.iter().all(|byte| is_rest(*byte)))
    };
    let is_hex = |byte: u8| byte.is_ascii_hexdigit();
    if ends_with(2, b"\\", |byte| b"nrtbf".contains(&byte)) || ends_with(3, b"%", is_hex) {
        return true;
    }
    ends_with(6, b"\\u", is_hex) || (last == b'm' && ends_terminal_code(text, index - 1))
}

/// Whether the text before `index` is the beginning of a code such as `ESC[1;32m`.
fn ends_terminal_code(text: &str, index: usize) -> bool {
    let digits = skip_back(text, index, 20, |byte| byte.is_ascii_digit() || byte == b';');
    if before(text, digits) != b'[' {
        return false;
    }
    let start = text.get(..digits - 1).unwrap_or_default();
    let escapes = ["\u{1b}", "\\u001b", "\\u001B", "\\x1b", "\\x1B", "\\033", "\\e"];
    escapes.iter().any(|escape| start.ends_with(escape))
}
