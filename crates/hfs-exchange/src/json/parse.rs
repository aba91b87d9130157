//! Text to value, losing nothing.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::lenient::otherwise;
use super::repair::repair;
use super::scan::scan;

/// A value, and its original text where the value is not a faithful image of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Parsed {
    /// The value.
    pub value: Value,
    /// The text it came as, when something of it could not be held: lone surrogates, huge numbers, depth.
    pub raw: Option<String>,
}

/// Beyond this, a floating point number may stand for an integer that it cannot hold.
const EXACT_INTEGER: f64 = 9_007_199_254_740_992.0;

/// Parses exactly one value, white space around it allowed.
pub(crate) fn parse(text: &str) -> Option<Parsed> {
    if let Ok(value) = serde_json::from_str::<Value>(text)
        && is_safe(&value)
    {
        return Some(Parsed { value, raw: None });
    }
    let found = scan(text, 0).ok()?;
    if !text.get(found.end..)?.trim_matches([' ', '\t', '\n', '\r']).is_empty() {
        return None;
    }
    let text = text.get(..found.end)?;
    if found.exact {
        return serde_json::from_str(text).ok().map(|value| Parsed { value, raw: None });
    }
    let value = serde_json::from_str(&repair(text)).ok()?;
    Some(Parsed { value, raw: Some(text.trim_start().to_owned()) })
}

/// Has the text read by something that looks at only a part of the value and never fails on a well-formed one.
pub(crate) fn parse_part<T>(text: &str, read: impl Fn(&str) -> serde_json::Result<T>) -> Option<T> {
    if let Ok(part) = read(text) {
        return Some(part);
    }
    let found = scan(text, 0).ok()?;
    if !text.get(found.end..)?.trim_matches([' ', '\t', '\n', '\r']).is_empty() {
        return None;
    }
    read(&repair(text.get(..found.end)?)).ok()
}

/// Whether a value holds all that its JSON says, which has to be well-formed.
pub(crate) fn is_faithful(json: &str) -> bool {
    match json.as_bytes().first() {
        Some(b'"') => {
            // Only an escape can stand for no character.
            memchr::memchr(b'\\', json.as_bytes()).is_none() || serde_json::from_str::<Faithful>(json).is_ok()
        }
        Some(b't' | b'f' | b'n') => true,
        _ => is_plain(json) || serde_json::from_str::<Faithful>(json).is_ok(),
    }
}

/// Whether there is nothing in JSON that no value might hold: escapes, long numbers, powers of ten, depth. Text that looks
/// like such counts, too.
fn is_plain(json: &str) -> bool {
    const MAX_DIGITS: u32 = 15;
    let (mut digits, mut open) = (0, 0);
    json.bytes().all(|byte| {
        let in_number = matches!(byte, b'0'..=b'9' | b'.');
        let harmless = match byte {
            // Escapes, and the names of what is no number.
            b'\\' | b'N' | b'I' => false,
            b'e' | b'E' => digits == 0,
            b'{' | b'[' => {
                open += 1;
                open < super::scan::MAX_DEPTH
            }
            _ => digits < MAX_DIGITS,
        };
        digits = if in_number { digits + 1 } else { 0 };
        harmless
    })
}

/// Reads a value to see whether another could hold it.
struct Faithful;

impl<'de> Deserialize<'de> for Faithful {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Faithful;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value without loss")
            }
            otherwise!(Faithful; bool str null);
            fn visit_i64<E>(self, _: i64) -> Result<Faithful, E> {
                Ok(Faithful)
            }
            fn visit_u64<E>(self, _: u64) -> Result<Faithful, E> {
                Ok(Faithful)
            }
            fn visit_f64<E: Error>(self, number: f64) -> Result<Faithful, E> {
                if is_exact(number) { Ok(Faithful) } else { Err(E::custom("a rounded number")) }
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Faithful, A::Error> {
                while seq.next_element::<Faithful>()?.is_some() {}
                Ok(Faithful)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Faithful, A::Error> {
                while map.next_entry::<Faithful, Faithful>()?.is_some() {}
                Ok(Faithful)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// Whether a number cannot have been an integer that was rounded.
fn is_exact(number: f64) -> bool {
    number.abs() < EXACT_INTEGER
}

/// Whether a value that `serde_json` accepted holds no number it may have rounded and is not too deep.
pub(crate) fn is_safe(value: &Value) -> bool {
    is_safe_within(value, 1)
}

/// The same for a value that stands so deep in others.
pub(crate) fn is_safe_within(value: &Value, depth: usize) -> bool {
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
                if depth > super::scan::MAX_DEPTH {
                    return false;
                }
                pending.extend(items.iter().map(|item| (item, depth + 1)));
            }
            Value::Object(fields) => {
                if depth > super::scan::MAX_DEPTH {
                    return false;
                }
                pending.extend(fields.values().map(|item| (item, depth + 1)));
            }
            Value::Null | Value::Bool(_) | Value::String(_) => {}
        }
    }
    true
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

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
    fn a_faithful_value_comes_without_its_text() {
        let parsed = parse(" {\"a\": [1, 2.5]} ").unwrap();
        assert_eq!(parsed, Parsed { value: json!({"a": [1, 2.5]}), raw: None });
    }

    #[test]
    fn what_a_value_cannot_hold_comes_with_its_text() {
        for text in [r#"{"a":"\ud83d"}"#, "[123456789012345678901]", "[1e999]", "[NaN]"] {
            assert_eq!(parse(text).unwrap().raw.as_deref(), Some(text));
            assert!(!is_faithful(text));
        }
        let deep = format!("{}1{}", "[".repeat(300), "]".repeat(300));
        assert_eq!(parse(&deep).unwrap().raw, Some(deep));
    }

    #[test]
    fn two_values_are_not_one() {
        assert_eq!(parse("{} {}"), None);
        assert_eq!(parse(""), None);
        assert_eq!(parse("{"), None);
    }

    proptest! {
        #[test]
        fn every_value_survives(value in any_value()) {
            let parsed = parse(&value.to_string()).unwrap();
            prop_assert_eq!(parsed.value, value);
        }

        #[test]
        fn what_is_faithful_is_read_without_its_text(value in any_value(), noise in "[\"0-9eE.\\\\ud8]{0,20}") {
            prop_assert!(is_faithful(&value.to_string()));
            if serde_json::from_str::<serde::de::IgnoredAny>(&noise).is_ok() && is_faithful(&noise) {
                prop_assert_eq!(parse(&noise).unwrap().raw, None);
            }
        }

        #[test]
        fn no_text_hurts(text in any::<String>()) {
            let _ = parse(&text);
        }
    }
}
