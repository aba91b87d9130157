//! Reads JSON as servers write it: a value that JSON does not allow costs that value, not the reply it is in.

use serde_json::Value;

/// Halves of surrogate pairs at the ends of a payload's strings, where the value has U+FFFD. Some servers send one token in
/// each payload, and a token may be half a character.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct CutCharacter {
    /// The second half, with which a string begins.
    pub begins_with: Option<u16>,
    /// The first half, with which a string ends.
    pub ends_with: Option<u16>,
}

/// The values of a text.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    pub values: Vec<Value>,
    pub cut: CutCharacter,
}

/// Whether a text begins like an object or an array.
pub(super) fn is_json_like(text: &str) -> bool {
    text.trim_start().starts_with(['{', '['])
}

/// Parses one or more JSON objects or arrays, after a repair if necessary. Returns the parser's error.
pub(super) fn parse(text: &str) -> Result<Parsed, String> {
    if !is_json_like(text) {
        return if text.is_empty() { Ok(Parsed::default()) } else { Err("it is not JSON".to_owned()) };
    }
    let all = |text: &str| -> Result<Vec<Value>, serde_json::Error> {
        serde_json::Deserializer::from_str(text).into_iter().collect()
    };
    all(text).map(|values| Parsed { values, ..Parsed::default() }).or_else(|error| {
        let (repaired, cut) = repair(text);
        all(&repaired).map(|values| Parsed { values, cut }).map_err(|_| error.to_string())
    })
}

/// Parses a document, which is one JSON value, after a repair if necessary.
pub(super) fn parse_document(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok().or_else(|| serde_json::from_str(&repair(text).0).ok())
}

/// Replaces what some servers write and JSON does not allow: halves of surrogate pairs, control characters in strings,
/// unknown escapes, and values such as `1e999`, `NaN` and `None`. Also returns the halves at the ends of strings.
fn repair(text: &str) -> (String, CutCharacter) {
    let mut repaired = String::with_capacity(text.len() + 16);
    let mut rest = text.chars();
    let mut cut = CutCharacter::default();
    let (mut in_string, mut at_string_start) = (false, false);
    let mut depth = 0_usize;
    // The half that the last escape stood for.
    let mut last_half = None;
    loop {
        let token = if in_string || depth == 0 { "" } else { leading_token(rest.as_str()) };
        if !token.is_empty() {
            repaired.push_str(allowed_token(token));
            rest = rest.as_str().get(token.len()..).unwrap_or_default().chars();
        }
        let Some(c) = rest.next() else { break };
        let after_half = last_half.take();
        let is_first = std::mem::take(&mut at_string_start);
        match (in_string, c) {
            (true, '\\') => {
                last_half = repair_escape(&mut rest, &mut repaired);
                cut.begins_with = last_half.filter(|half| is_first && is_low(*half)).or(cut.begins_with);
            }
            (true, c) if c < ' ' => repaired.push_str(&format!("\\u{:04x}", u32::from(c))),
            (_, '"') => {
                in_string = !in_string;
                at_string_start = in_string;
                cut.ends_with = after_half.filter(|half| !is_low(*half)).or(cut.ends_with);
                repaired.push(c);
            }
            (false, '{' | '[') => {
                depth += 1;
                repaired.push(c);
            }
            (false, '}' | ']') => {
                depth = depth.saturating_sub(1);
                repaired.push(c);
            }
            (_, c) => repaired.push(c),
        }
    }
    (repaired, cut)
}

/// The characters up to the next one that ends a number or a literal.
fn leading_token(text: &str) -> &str {
    let end = text.find(|c: char| c.is_ascii_whitespace() || "{}[]:,\"".contains(c)).unwrap_or(text.len());
    text.get(..end).unwrap_or_default()
}

/// A number or literal within an object or array, or what stands for it if JSON does not allow it.
fn allowed_token(token: &str) -> &str {
    match token {
        // Python's literals.
        "True" => "true",
        "False" => "false",
        // Also refuses numbers that are too large for a float.
        _ if serde_json::from_str::<Value>(token).is_ok() => token,
        _ => "null",
    }
}

/// Whether a half of a surrogate pair is the second one.
const fn is_low(half: u16) -> bool {
    half >= 0xdc00
}

/// Copies the escape sequence whose backslash was read. Returns the half of a surrogate pair that it stands for, if the
/// other half is missing.
fn repair_escape(rest: &mut std::str::Chars<'_>, repaired: &mut String) -> Option<u16> {
    const REPLACEMENT: &str = "\\ufffd";
    fn code_unit(rest: &mut std::str::Chars<'_>) -> Option<u16> {
        let digits = rest.as_str().get(..4)?;
        let unit = u16::from_str_radix(digits, 16).ok()?;
        *rest = rest.as_str().get(4..)?.chars();
        Some(unit)
    }
    match rest.next() {
        Some('u') => match code_unit(rest) {
            Some(high @ 0xd800..=0xdbff) => {
                let mut after = rest.clone();
                let low = (after.next() == Some('\\') && after.next() == Some('u'))
                    .then(|| code_unit(&mut after))
                    .flatten()
                    .filter(|low| (0xdc00..=0xdfff).contains(low));
                match low {
                    Some(low) => {
                        *rest = after;
                        repaired.push_str(&format!("\\u{high:04x}\\u{low:04x}"));
                    }
                    None => {
                        repaired.push_str(REPLACEMENT);
                        return Some(high);
                    }
                }
            }
            Some(low @ 0xdc00..=0xdfff) => {
                repaired.push_str(REPLACEMENT);
                return Some(low);
            }
            None => repaired.push_str(REPLACEMENT),
            Some(unit) => repaired.push_str(&format!("\\u{unit:04x}")),
        },
        Some(c @ ('"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't')) => repaired.extend(['\\', c]),
        Some(c) if c < ' ' => repaired.push_str(&format!("\\u{:04x}", u32::from(c))),
        Some(c) => repaired.extend(['\\', '\\', c]),
        None => {}
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_that_json_does_not_allow_costs_that_value() {
        for (written, read) in [
            ("1e999", json!(null)),
            ("-1E+999", json!(null)),
            ("NaN", json!(null)),
            ("-nan", json!(null)),
            ("Infinity", json!(null)),
            ("-Infinity", json!(null)),
            ("+1", json!(null)),
            ("01", json!(null)),
            (".5", json!(null)),
            ("0x1F", json!(null)),
            ("None", json!(null)),
            ("undefined", json!(null)),
            ("True", json!(true)),
            ("False", json!(false)),
            ("1e-999", json!(0.0)),
            ("-1.5e3", json!(-1500.0)),
        ] {
            let text = format!("{{\"a\": {written}, \"b\": [NaN,{written}], \"c\":\"{written}, NaN\"}}");
            let expected = json!({"a": read, "b": [null, read], "c": format!("{written}, NaN")});
            assert_eq!(parse(&text).unwrap().values, std::slice::from_ref(&expected), "{text}");
            assert_eq!(parse_document(&text), Some(expected), "{text}");
        }
    }

    #[test]
    fn words_beside_a_value_are_not_values() {
        for text in ["{} NaN", "[1] words", "{\"a\": two words}", "{a: 1}", "{\"a\": NaN", "[1e999"] {
            assert!(parse(text).is_err(), "{text}");
            assert_eq!(parse_document(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn valid_json_is_not_changed_by_a_repair(
            text in any::<String>(), number in any::<f64>(), count in any::<i64>(),
        ) {
            let value = json!({"text": text, "numbers": [number, count, 1e300], "literals": [null, true, false]});
            prop_assert_eq!(parse_document(&repair(&value.to_string()).0), Some(value));
        }
    }
}
