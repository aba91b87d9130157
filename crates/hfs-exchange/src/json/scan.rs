//! Finds where one JSON value ends, without recursion and without building it.

/// The deepest nesting that becomes a value. What lies deeper is kept as its text, so that neither parsing nor
/// dropping nor writing a value can overflow a stack, and every reader with `serde_json`'s usual limit of 128
/// can read it inside a document of ours.
pub(crate) const MAX_DEPTH: usize = 96;

/// A value that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scanned {
    /// Where the text after it begins.
    pub end: usize,
    /// Whether it is an object.
    pub object: bool,
    /// Whether `serde_json` can hold all of it: no lone surrogates, no numbers beyond its range, not too deep.
    pub exact: bool,
}

/// What the next token must be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expect {
    Value,
    ValueOrEnd,
    KeyOrEnd,
    Key,
    CommaOrEnd,
}

/// Finds the value that begins at `start` (white space before it allowed).
///
/// The grammar is strict but for three things that other programs write: escapes of lone surrogates, `NaN` and
/// the infinities, and any depth.
///
/// # Errors
/// The offset of the byte that cannot stand there, or the text's length when it ends too early.
pub(crate) fn scan(text: &str, start: usize) -> Result<Scanned, usize> {
    Scan { bytes: text.as_bytes(), at: start, exact: true }.run()
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    exact: bool,
}

impl Scan<'_> {
    fn run(mut self) -> Result<Scanned, usize> {
        // One entry for each open container: whether it is an object.
        let mut open: Vec<bool> = Vec::new();
        let mut expect = Expect::Value;
        let mut object = false;
        loop {
            self.skip_space();
            let byte = self.peek()?;
            expect = match (expect, byte) {
                (Expect::Value | Expect::ValueOrEnd, b'{' | b'[') => {
                    self.at += 1;
                    open.push(byte == b'{');
                    if open.len() == 1 {
                        object = byte == b'{';
                    }
                    self.exact &= open.len() <= MAX_DEPTH;
                    if byte == b'{' { Expect::KeyOrEnd } else { Expect::ValueOrEnd }
                }
                (Expect::ValueOrEnd, b']') | (Expect::KeyOrEnd, b'}') => {
                    self.at += 1;
                    open.pop();
                    Expect::CommaOrEnd
                }
                (Expect::CommaOrEnd, b']' | b'}') if open.last() == Some(&(byte == b'}')) => {
                    self.at += 1;
                    open.pop();
                    Expect::CommaOrEnd
                }
                (Expect::CommaOrEnd, b',') => {
                    self.at += 1;
                    if open.last() == Some(&true) { Expect::Key } else { Expect::Value }
                }
                (Expect::Key | Expect::KeyOrEnd, b'"') => {
                    self.string()?;
                    self.skip_space();
                    if self.peek()? != b':' {
                        return Err(self.at);
                    }
                    self.at += 1;
                    Expect::Value
                }
                (Expect::Value | Expect::ValueOrEnd, _) => {
                    self.scalar(byte)?;
                    Expect::CommaOrEnd
                }
                _ => return Err(self.at),
            };
            if open.is_empty() {
                return Ok(Scanned { end: self.at, object, exact: self.exact });
            }
        }
    }

    fn peek(&self) -> Result<u8, usize> {
        self.bytes.get(self.at).copied().ok_or(self.at)
    }

    fn skip_space(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn scalar(&mut self, first: u8) -> Result<(), usize> {
        match first {
            b'"' => self.string(),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            b'N' => self.odd_word(b"NaN"),
            b'I' => self.odd_word(b"Infinity"),
            b'-' if self.bytes.get(self.at + 1) == Some(&b'I') => self.odd_word(b"-Infinity"),
            b'-' | b'0'..=b'9' => self.number(),
            _ => Err(self.at),
        }
    }

    fn word(&mut self, word: &[u8]) -> Result<(), usize> {
        if self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            self.at += word.len();
            Ok(())
        } else {
            Err(self.at)
        }
    }

    fn odd_word(&mut self, word: &[u8]) -> Result<(), usize> {
        self.exact = false;
        self.word(word)
    }

    fn digits(&mut self) -> Result<(), usize> {
        let start = self.at;
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        if self.at == start { Err(self.at) } else { Ok(()) }
    }

    fn number(&mut self) -> Result<(), usize> {
        let start = self.at;
        if self.peek()? == b'-' {
            self.at += 1;
        }
        if self.peek()? == b'0' {
            self.at += 1;
        } else {
            self.digits()?;
        }
        // A fraction or an exponent that is none belongs to what follows, as for Python's reader.
        for marks in [b".".as_slice(), b"eE".as_slice()] {
            let before = self.at;
            if self.bytes.get(self.at).is_some_and(|byte| marks.contains(byte)) {
                self.at += 1;
                if marks.len() == 2 && matches!(self.bytes.get(self.at), Some(b'+' | b'-')) {
                    self.at += 1;
                }
                if self.digits().is_err() {
                    self.at = before;
                }
            }
        }
        let token = self.bytes.get(start..self.at).unwrap_or_default();
        self.exact &= std::str::from_utf8(token).is_ok_and(number_is_exact);
        Ok(())
    }

    fn string(&mut self) -> Result<(), usize> {
        self.at += 1;
        loop {
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Ok(());
                }
                b'\\' => self.escape()?,
                0..0x20 => return Err(self.at),
                _ => self.at += 1,
            }
        }
    }

    fn escape(&mut self) -> Result<(), usize> {
        match self.bytes.get(self.at + 1).copied().ok_or(self.bytes.len())? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {
                self.at += 2;
                Ok(())
            }
            b'u' => {
                let code = hex4(self.bytes, self.at + 2).ok_or(self.at)?;
                self.at += 6;
                if is_high_surrogate(code) && low_surrogate_follows(self.bytes, self.at) {
                    self.at += 6;
                } else if is_high_surrogate(code) || is_low_surrogate(code) {
                    self.exact = false;
                }
                Ok(())
            }
            _ => Err(self.at),
        }
    }
}

/// The four hexadecimal digits at `at`.
pub(crate) fn hex4(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + 4)?;
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

pub(crate) const fn is_high_surrogate(code: u16) -> bool {
    matches!(code, 0xD800..=0xDBFF)
}

pub(crate) const fn is_low_surrogate(code: u16) -> bool {
    matches!(code, 0xDC00..=0xDFFF)
}

/// Whether the escape of a low surrogate stands at `at`.
pub(crate) fn low_surrogate_follows(bytes: &[u8], at: usize) -> bool {
    bytes.get(at..at + 2) == Some(b"\\u") && hex4(bytes, at + 2).is_some_and(is_low_surrogate)
}

/// Whether a `serde_json` number holds this token without loss of its value.
fn number_is_exact(token: &str) -> bool {
    if token.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E')) {
        let digits = token.bytes().take_while(|byte| !matches!(byte, b'e' | b'E')).filter(u8::is_ascii_digit);
        digits.count() <= 17 && token.parse().is_ok_and(f64::is_finite)
    } else {
        token.parse::<u64>().is_ok() || token.parse::<i64>().is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, expected: Result<(usize, bool), usize>) {
        assert_eq!(scan(text, 0).map(|found| (found.end, found.exact)), expected, "{text}");
    }

    #[test]
    fn a_value_ends_where_it_ends() {
        check("{}", Ok((2, true)));
        check(" [1, {\"a\": \"}]\"}, null] tail", Ok((23, true)));
        check("12.5e+3,", Ok((7, true)));
        check("01", Ok((1, true)));
        check("1.e5", Ok((1, true)));
        check("\"a\\\"b\"", Ok((6, true)));
    }

    #[test]
    fn damage_is_found_where_it_is() {
        check("", Err(0));
        check("{\"a\":", Err(5));
        check("{\"a\" 1}", Err(5));
        check("[1,]", Err(3));
        check("[1}", Err(2));
        check("{\"a\":1,}", Err(7));
        check("\"raw\ncontrol\"", Err(4));
        check("\"\\x\"", Err(1));
        check("\0{}", Err(0));
    }

    #[test]
    fn what_serde_json_cannot_hold_is_marked() {
        check(r#""\ud83d\ude00""#, Ok((14, true)));
        check(r#""\ud83d""#, Ok((8, false)));
        check(r#""\ude00\ud83d""#, Ok((14, false)));
        check("NaN", Ok((3, false)));
        check("[-Infinity]", Ok((11, false)));
        check("123456789012345678901234567890", Ok((30, false)));
        check("18446744073709551615", Ok((20, true)));
        check("1e999", Ok((5, false)));
    }

    #[test]
    fn any_depth_is_scanned() {
        let deep = 1_000_000;
        let text = format!("{}{}", "[".repeat(deep), "]".repeat(deep));
        check(&text, Ok((2 * deep, false)));
        check(&"[".repeat(deep), Err(deep));
    }

    proptest! {
        #[test]
        fn what_serde_json_accepts_is_found_whole(value in crate::json::parse::tests::any_value()) {
            let text = value.to_string();
            let found = scan(&text, 0).unwrap();
            prop_assert_eq!(found.end, text.len());
            prop_assert_eq!(found.object, value.is_object());
        }

        #[test]
        fn any_text_is_judged_as_serde_json_does(text in "[\\[\\]{}:,\"0-9aeu\\\\tfn .+\\-]{0,24}") {
            let strict = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
            let ours = scan(&text, 0).is_ok_and(|found| text.get(found.end..).unwrap().trim().is_empty());
            prop_assert!(ours || !strict, "serde_json accepts {text:?}");
        }
    }
}
