//! Parses JSON values without losing information.
//!
//! `serde_json` rejects or rounds some values that other programs write: escapes of lone surrogates, `NaN`,
//! numbers out of range, and deep nesting. [`parse`] accepts all of these. It tries `serde_json` first. If
//! that fails or may have lost information, it finds the end of the value with its own scanner, repairs the
//! text, and returns the repaired value together with the original text. [`salvage`] recovers the records of
//! a damaged line.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::default_for;

/// A parsed value, with its original text if the value does not represent it without loss.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Parsed {
    pub value: Value,
    /// The original text, if it contains lone surrogates, numbers out of range or too deep nesting.
    pub raw: Option<String>,
}

/// 2^53. A floating point number of this size or more may be an integer that was rounded.
const EXACT_INTEGER: f64 = 9_007_199_254_740_992.0;

/// Parses exactly one value; white space around it is allowed.
pub(crate) fn parse(text: &str) -> Option<Parsed> {
    if let Ok(value) = serde_json::from_str::<Value>(text)
        && is_lossless(&value)
    {
        return Some(Parsed { value, raw: None });
    }
    let found = scan(text, 0).ok()?;
    if !text.get(found.end..)?.trim_matches([' ', '\t', '\n', '\r']).is_empty() {
        return None;
    }
    let text = text.get(..found.end)?;
    // `is_lossless` rejects every large floating point number. The scanner sees the digits, and accepts numbers
    // such as `1e300`.
    if found.lossless {
        return serde_json::from_str(text).ok().map(|value| Parsed { value, raw: None });
    }
    let value = serde_json::from_str(&repair(text)).ok()?;
    Some(Parsed { value, raw: Some(text.trim_start().to_owned()) })
}

/// Whether [`Value`] represents a well-formed JSON text without loss.
pub(crate) fn is_lossless_json(json: &str) -> bool {
    match json.as_bytes().first() {
        Some(b'"') => {
            // Without an escape there can be no lone surrogate.
            memchr::memchr(b'\\', json.as_bytes()).is_none() || serde_json::from_str::<Lossless>(json).is_ok()
        }
        Some(b't' | b'f' | b'n') => true,
        _ => is_trivially_lossless(json) || serde_json::from_str::<Lossless>(json).is_ok(),
    }
}

/// A cheap test that returns `true` only for lossless JSON: without escapes, long numbers, exponents or deep
/// nesting. It may return `false` for lossless JSON, for example if a string contains a long number.
fn is_trivially_lossless(json: &str) -> bool {
    const MAX_DIGITS: u32 = 15;
    // `opened` is never decreased, so it is an upper bound of the depth.
    let (mut digits, mut opened) = (0, 0);
    json.bytes().all(|byte| {
        let in_number = matches!(byte, b'0'..=b'9' | b'.');
        let harmless = match byte {
            // Escapes, and the first letters of `NaN` and `Infinity`.
            b'\\' | b'N' | b'I' => false,
            b'e' | b'E' => digits == 0,
            b'{' | b'[' => {
                opened += 1;
                opened < MAX_DEPTH
            }
            _ => digits < MAX_DIGITS,
        };
        digits = if in_number { digits + 1 } else { 0 };
        harmless
    })
}

/// Deserializes successfully only from a value that [`Value`] represents without loss. Stores nothing.
struct Lossless;

impl<'de> Deserialize<'de> for Lossless {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Lossless;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value without loss")
            }
            default_for!(Lossless; bool str null);
            fn visit_i64<E>(self, _: i64) -> Result<Lossless, E> {
                Ok(Lossless)
            }
            fn visit_u64<E>(self, _: u64) -> Result<Lossless, E> {
                Ok(Lossless)
            }
            fn visit_f64<E: Error>(self, number: f64) -> Result<Lossless, E> {
                if is_exact(number) { Ok(Lossless) } else { Err(E::custom("a rounded number")) }
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Lossless, A::Error> {
                while seq.next_element::<Lossless>()?.is_some() {}
                Ok(Lossless)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Lossless, A::Error> {
                while map.next_entry::<Lossless, Lossless>()?.is_some() {}
                Ok(Lossless)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// Whether a number is so small that it cannot be a rounded integer.
fn is_exact(number: f64) -> bool {
    number.abs() < EXACT_INTEGER
}

/// Whether a value that `serde_json` accepted contains no number that may have been rounded and is not nested
/// too deeply.
pub(crate) fn is_lossless(value: &Value) -> bool {
    is_lossless_at(value, 1)
}

/// As [`is_lossless`], for a value at this depth inside another one.
pub(crate) fn is_lossless_at(value: &Value, depth: usize) -> bool {
    if matches!(value, Value::Null | Value::Bool(_) | Value::String(_)) {
        return true;
    }
    let mut pending = vec![(value, depth)];
    while let Some((next, depth)) = pending.pop() {
        match next {
            Value::Number(number) => {
                if number.is_f64() && !number.as_f64().is_some_and(is_exact) {
                    return false;
                }
            }
            Value::Array(items) => {
                if depth > MAX_DEPTH {
                    return false;
                }
                pending.extend(items.iter().map(|item| (item, depth + 1)));
            }
            Value::Object(fields) => {
                if depth > MAX_DEPTH {
                    return false;
                }
                pending.extend(fields.values().map(|item| (item, depth + 1)));
            }
            Value::Null | Value::Bool(_) | Value::String(_) => {}
        }
    }
    true
}

/// Maximum nesting depth of a parsed value; deeper arrays and objects become strings. With this limit,
/// parsing, dropping or writing a value cannot overflow the stack, and an hfs document that contains the
/// value stays below `serde_json`'s default limit of 128.
pub(crate) const MAX_DEPTH: usize = 96;

/// The extent of one JSON value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Scanned {
    /// Offset of the text after the value.
    pub end: usize,
    /// Whether the value is an object.
    pub object: bool,
    /// Whether `serde_json` represents the value without loss: no lone surrogates, no numbers out of range,
    /// not too deep.
    pub lossless: bool,
}

/// The token that must come next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expect {
    Value,
    ValueOrEnd,
    KeyOrEnd,
    Key,
    CommaOrEnd,
}

/// Finds the end of the value at `start`, which white space may precede. Neither recurses nor builds the
/// value.
///
/// The grammar is JSON's, with three extensions that other programs write: escapes of lone surrogates, `NaN`
/// and the infinities, and nesting of any depth.
///
/// # Errors
/// Returns the offset of the unexpected byte, or the length of the text if the value is incomplete.
fn scan(text: &str, start: usize) -> Result<Scanned, usize> {
    Scan { bytes: text.as_bytes(), at: start, lossless: true }.run()
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    lossless: bool,
}

impl Scan<'_> {
    fn run(mut self) -> Result<Scanned, usize> {
        // One entry per open container: whether it is an object.
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
                    self.lossless &= open.len() <= MAX_DEPTH;
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
                return Ok(Scanned { end: self.at, object, lossless: self.lossless });
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
            b'N' => self.nonstandard_word(b"NaN"),
            b'I' => self.nonstandard_word(b"Infinity"),
            b'-' if self.bytes.get(self.at + 1) == Some(&b'I') => self.nonstandard_word(b"-Infinity"),
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

    fn nonstandard_word(&mut self, word: &[u8]) -> Result<(), usize> {
        self.lossless = false;
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
        // An incomplete fraction or exponent is not part of the number, as in Python's parser.
        for marks in [b".".as_slice(), b"eE".as_slice()] {
            let before = self.at;
            if self.bytes.get(self.at).is_some_and(|byte| marks.contains(byte)) {
                self.at += 1;
                // Only an exponent, which has two marks, may have a sign.
                if marks.len() == 2 && matches!(self.bytes.get(self.at), Some(b'+' | b'-')) {
                    self.at += 1;
                }
                if self.digits().is_err() {
                    self.at = before;
                }
            }
        }
        let token = self.bytes.get(start..self.at).unwrap_or_default();
        self.lossless &= std::str::from_utf8(token).is_ok_and(number_is_lossless);
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
                    self.lossless = false;
                }
                Ok(())
            }
            _ => Err(self.at),
        }
    }
}

/// Parses the four hexadecimal digits at `at`.
fn hex4(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + 4)?;
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

const fn is_high_surrogate(code: u16) -> bool {
    matches!(code, 0xD800..=0xDBFF)
}

const fn is_low_surrogate(code: u16) -> bool {
    matches!(code, 0xDC00..=0xDFFF)
}

/// Whether the escape of a low surrogate begins at `at`.
fn low_surrogate_follows(bytes: &[u8], at: usize) -> bool {
    bytes.get(at..at + 2) == Some(b"\\u") && hex4(bytes, at + 2).is_some_and(is_low_surrogate)
}

/// Whether a `serde_json` number represents this token without loss.
fn number_is_lossless(token: &str) -> bool {
    if token.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E')) {
        let digits = token.bytes().take_while(|byte| !matches!(byte, b'e' | b'E')).filter(u8::is_ascii_digit);
        digits.count() <= 17 && token.parse().is_ok_and(f64::is_finite)
    } else {
        token.parse::<u64>().is_ok() || token.parse::<i64>().is_ok()
    }
}

/// Changes the text of a scanned value so that `serde_json` accepts it. Lone surrogates become U+FFFD;
/// numbers out of range, and arrays and objects nested deeper than [`MAX_DEPTH`], become strings that contain
/// their text.
fn repair(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    let mut depth = 0_usize;
    while let Some(&byte) = bytes.get(at) {
        let from = at;
        match byte {
            b'"' => {
                at = string_end(bytes, at);
                push_string(text.get(from..at).unwrap_or_default(), &mut out);
                continue;
            }
            b'{' | b'[' if depth == MAX_DEPTH => {
                at = container_end(bytes, at);
                push_quoted(text.get(from..at).unwrap_or_default(), &mut out);
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'-' | b'0'..=b'9' | b'N' | b'I' => {
                while bytes.get(at).is_some_and(|b| b.is_ascii_alphanumeric() || b"+-.".contains(b)) {
                    at += 1;
                }
                let token = text.get(from..at).unwrap_or_default();
                if token.parse().is_ok_and(f64::is_finite) {
                    out.push_str(token);
                } else {
                    push_quoted(token, &mut out);
                }
                continue;
            }
            _ => {}
        }
        at += 1;
        out.push_str(text.get(from..at).unwrap_or_default());
    }
    out
}

fn push_quoted(text: &str, out: &mut String) {
    out.push_str(&Value::String(text.to_owned()).to_string());
}

/// End of the string that begins at `start`.
fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// End of the array or object that begins at `start`.
fn container_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start;
    let mut depth = 0_usize;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => {
                at = string_end(bytes, at);
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return at;
        }
    }
    bytes.len()
}

/// Appends a string token with its lone surrogates replaced.
fn push_string(token: &str, out: &mut String) {
    let bytes = token.as_bytes();
    let mut copied = 0;
    let mut at = 0;
    while let Some(offset) = memchr::memchr(b'\\', bytes.get(at..).unwrap_or_default()) {
        at += offset;
        let code = match bytes.get(at + 1) {
            Some(b'u') => hex4(bytes, at + 2),
            _ => None,
        };
        match code {
            Some(code) if is_high_surrogate(code) && low_surrogate_follows(bytes, at + 6) => at += 12,
            Some(code) if is_high_surrogate(code) || is_low_surrogate(code) => {
                out.push_str(token.get(copied..at).unwrap_or_default());
                out.push_str("\\ufffd");
                at += 6;
                copied = at;
            }
            Some(_) => at += 6,
            None => at += 2,
        }
    }
    out.push_str(token.get(copied..).unwrap_or_default());
}

/// A fragment of a damaged line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fragment<'a> {
    /// A complete object.
    Record(&'a str),
    /// Any other JSON value, or text that is not JSON.
    Damaged(&'a str),
}

/// Limits the time for a damaged line: on average, each byte may be scanned this many times. Without the limit,
/// scanning a crafted line from every `{"` would take quadratic time. Beyond it, the rest of the line is
/// reported as damaged.
const MAX_SCANS_PER_BYTE: usize = 32;

/// Splits a damaged line into complete objects and the text between them.
///
/// After a crash, or with two writers, a line may contain several records, a part of a record or NUL bytes.
/// Where no value can be read, the function continues at the next `{"` that begins a complete object. NUL
/// bytes count as white space.
pub(crate) fn salvage(line: &str) -> Vec<Fragment<'_>> {
    salvage_until(line, false)
}

/// Like [`salvage`], for a line that its writer may not have finished. Objects inside an incomplete value at its end are not
/// records.
pub(crate) fn salvage_open(line: &str) -> Vec<Fragment<'_>> {
    salvage_until(line, true)
}

fn salvage_until(line: &str, is_open: bool) -> Vec<Fragment<'_>> {
    let mut fragments = Vec::new();
    let mut budget = line.len().saturating_mul(MAX_SCANS_PER_BYTE);
    let mut at = 0;
    loop {
        let rest = line.get(at..).unwrap_or_default();
        at += rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n', '\0']).len();
        if at >= line.len() {
            return fragments;
        }
        match scan(line, at) {
            Ok(found) => {
                let text = line.get(at..found.end).unwrap_or_default();
                fragments.push(if found.object { Fragment::Record(text) } else { Fragment::Damaged(text) });
                at = found.end;
            }
            Err(reached) if is_open && reached >= line.len() => {
                fragments.push(Fragment::Damaged(line.get(at..).unwrap_or_default()));
                return fragments;
            }
            Err(reached) => {
                budget = budget.saturating_sub(reached.saturating_sub(at));
                let next = next_object(line, at, &mut budget).unwrap_or(line.len());
                fragments.push(Fragment::Damaged(line.get(at..next).unwrap_or_default()));
                at = next;
            }
        }
    }
}

/// Start of the next readable object after `at`; `None` if there is none or the budget is used up.
fn next_object(line: &str, at: usize, budget: &mut usize) -> Option<usize> {
    let mut from = at;
    loop {
        // `{"` is ASCII, so the search may start inside a multi-byte character.
        let rest = line.as_bytes().get(from + 1..)?;
        from += 1 + memchr::memmem::find(rest, b"{\"")?;
        match scan(line, from) {
            Ok(_) => return Some(from),
            Err(reached) => {
                *budget = budget.checked_sub(reached.saturating_sub(from) + 1)?;
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    pub(crate) fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-1.0e6..1.0e6_f64).prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 64, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::vec((any::<String>(), inner), 0..6)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    #[test]
    fn a_lossless_value_has_no_raw_text() {
        let parsed = parse(" {\"a\": [1, 2.5]} ").unwrap();
        assert_eq!(parsed, Parsed { value: json!({"a": [1, 2.5]}), raw: None });
    }

    #[test]
    fn a_lossy_value_keeps_its_raw_text() {
        for text in [r#"{"a":"\ud83d"}"#, "[123456789012345678901]", "[1e999]", "[NaN]"] {
            assert_eq!(parse(text).unwrap().raw.as_deref(), Some(text));
            assert!(!is_lossless_json(text));
        }
        let deep = format!("{}1{}", "[".repeat(300), "]".repeat(300));
        assert_eq!(parse(&deep).unwrap().raw, Some(deep));
    }

    #[test]
    fn only_a_single_value_is_accepted() {
        assert_eq!(parse("{} {}"), None);
        assert_eq!(parse(""), None);
        assert_eq!(parse("{"), None);
    }

    proptest! {
        #[test]
        fn every_value_round_trips(value in any_value()) {
            let parsed = parse(&value.to_string()).unwrap();
            prop_assert_eq!(parsed.value, value);
        }

        #[test]
        fn lossless_json_is_parsed_without_raw_text(value in any_value(), noise in "[\"0-9eE.\\\\ud8]{0,20}") {
            prop_assert!(is_lossless_json(&value.to_string()));
            if serde_json::from_str::<serde::de::IgnoredAny>(&noise).is_ok() && is_lossless_json(&noise) {
                prop_assert_eq!(parse(&noise).unwrap().raw, None);
            }
        }

        #[test]
        fn arbitrary_text_does_not_panic(text in any::<String>()) {
            let _ = parse(&text);
        }
    }

    fn check_scan(text: &str, expected: Result<(usize, bool), usize>) {
        assert_eq!(scan(text, 0).map(|found| (found.end, found.lossless)), expected, "{text}");
    }

    #[test]
    fn the_end_of_a_value_is_found() {
        check_scan("{}", Ok((2, true)));
        check_scan(" [1, {\"a\": \"}]\"}, null] tail", Ok((23, true)));
        check_scan("12.5e+3,", Ok((7, true)));
        check_scan("01", Ok((1, true)));
        check_scan("1.e5", Ok((1, true)));
        check_scan("\"a\\\"b\"", Ok((6, true)));
    }

    #[test]
    fn scan_errors_report_their_offset() {
        check_scan("", Err(0));
        check_scan("{\"a\":", Err(5));
        check_scan("{\"a\" 1}", Err(5));
        check_scan("[1,]", Err(3));
        check_scan("[1}", Err(2));
        check_scan("{\"a\":1,}", Err(7));
        check_scan("\"raw\ncontrol\"", Err(4));
        check_scan("\"\\x\"", Err(1));
        check_scan("\0{}", Err(0));
    }

    #[test]
    fn lossy_values_are_marked() {
        check_scan(r#""\ud83d\ude00""#, Ok((14, true)));
        check_scan(r#""\ud83d""#, Ok((8, false)));
        check_scan(r#""\ude00\ud83d""#, Ok((14, false)));
        check_scan("NaN", Ok((3, false)));
        check_scan("[-Infinity]", Ok((11, false)));
        check_scan("123456789012345678901234567890", Ok((30, false)));
        check_scan("18446744073709551615", Ok((20, true)));
        check_scan("1e999", Ok((5, false)));
    }

    #[test]
    fn any_depth_is_scanned() {
        let deep = 1_000_000;
        let text = format!("{}{}", "[".repeat(deep), "]".repeat(deep));
        check_scan(&text, Ok((2 * deep, false)));
        check_scan(&"[".repeat(deep), Err(deep));
    }

    proptest! {
        #[test]
        fn values_that_serde_json_accepts_are_scanned_completely(value in any_value()) {
            let text = value.to_string();
            let found = scan(&text, 0).unwrap();
            prop_assert_eq!(found.end, text.len());
            prop_assert_eq!(found.object, value.is_object());
        }

        #[test]
        fn every_text_that_serde_json_accepts_is_accepted(text in "[\\[\\]{}:,\"0-9aeu\\\\tfn .+\\-]{0,24}") {
            let strict = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
            let ours = scan(&text, 0).is_ok_and(|found| text.get(found.end..).unwrap().trim().is_empty());
            prop_assert!(ours || !strict, "serde_json accepts {text:?}");
        }
    }

    #[test]
    fn only_unrepresentable_values_are_changed() {
        for (before, after) in [
            (r#"{"a\"\\":"\ud83d\ude00 \\ud83d"}"#, r#"{"a\"\\":"\ud83d\ude00 \\ud83d"}"#),
            (r#"["\ud83d…","\udc00\ud83d\ud83d\ude00"]"#, r#"["\ufffd…","\ufffd\ufffd\ud83d\ude00"]"#),
            ("[1e999,NaN,-Infinity,-1.5]", r#"["1e999","NaN","-Infinity",-1.5]"#),
        ] {
            assert_eq!(repair(before), after);
        }
    }

    #[test]
    fn too_deeply_nested_values_become_strings() {
        let deep = format!("{}\"]\"{}", "[".repeat(5000), "]".repeat(5000));
        let repaired = repair(&deep);
        let mut value: &Value = &serde_json::from_str(&repaired).unwrap();
        let mut levels = 0;
        while let Some(inner) = value.as_array().and_then(|items| items.first()) {
            value = inner;
            levels += 1;
        }
        assert_eq!(levels, MAX_DEPTH);
        assert_eq!(value.as_str().unwrap().len(), 2 * (5000 - MAX_DEPTH) + 3);
    }

    fn check_salvage(line: &str, expected: &[Fragment<'_>]) {
        assert_eq!(salvage(line), expected, "{line}");
    }

    #[test]
    fn complete_objects_are_recovered() {
        use Fragment::{Damaged, Record};
        check_salvage(
            r#"{"a":1}{"b":2} {"c":3}"#,
            &[Record(r#"{"a":1}"#), Record(r#"{"b":2}"#), Record(r#"{"c":3}"#)],
        );
        check_salvage(r#"{"a":{"b":{"c":1}} "#, &[Damaged(r#"{"a":"#), Record(r#"{"b":{"c":1}}"#)]);
        check_salvage(r#"{"a":"cut{"b":2}"#, &[Damaged(r#"{"a":"cut"#), Record(r#"{"b":2}"#)]);
        check_salvage(r#"{"a":"cut"#, &[Damaged(r#"{"a":"cut"#)]);
        let cut = r#"{"a":1} {"b":{"c":2},"d"#;
        assert_eq!(salvage_open(cut), [Record(r#"{"a":1}"#), Damaged(r#"{"b":{"c":2},"d"#)]);
        check_salvage("[1,2]", &[Damaged("[1,2]")]);
        check_salvage("\0\0\0{\"a\":1}\0", &[Record(r#"{"a":1}"#)]);
        check_salvage("nö {\"ä\":1} x", &[Damaged("nö "), Record("{\"ä\":1}"), Damaged("x")]);
    }

    #[test]
    fn a_line_crafted_for_quadratic_time_is_reported_as_damaged() {
        let line = r#"{"a":"#.repeat(200_000);
        assert_eq!(salvage(&line).len(), 1);
    }

    proptest! {
        #[test]
        fn arbitrary_lines_do_not_panic_and_recovered_records_are_complete(line in "([{}\":,\\\\a1é\0 ]|\\{\"a\":1\\}){0,40}") {
            for fragment in salvage(&line) {
                if let Fragment::Record(text) = fragment {
                    prop_assert!(parse(text).unwrap().value.is_object());
                }
            }
        }
    }
}
