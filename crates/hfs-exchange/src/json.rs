//! Reads JSON of other programs: lines or one large document, which may be truncated, repeat fields, nest too
//! deeply, or contain escapes that are not characters.
//!
//! For any input, reading does not panic, does not overflow the stack, and needs memory for one value with at
//! most [`lines::MAX_LINE`] bytes of text. If [`Value`] cannot represent a value without loss, its original
//! text is preserved.
//!
//! This module itself contains the types for lenient deserialization, which ignore values of an unexpected
//! type, and functions that append JSON to a string.

pub(crate) mod lines;
pub(crate) mod pull;
pub(crate) mod value;

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

pub(crate) use value::{Parsed, parse};

/// Visitor methods that accept values of the given kinds and return a default for them.
macro_rules! default_for {
    ($default:expr; $($kind:ident)*) => { $($crate::json::default_for!(@$kind $default);)* };
    (@bool $default:expr) => {
        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> { Ok($default) }
    };
    (@number $default:expr) => {
        fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> { Ok($default) }
        fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> { Ok($default) }
        fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> { Ok($default) }
    };
    (@str $default:expr) => {
        fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> { Ok($default) }
    };
    (@null $default:expr) => {
        fn visit_unit<E>(self) -> Result<Self::Value, E> { Ok($default) }
    };
    (@seq $default:expr) => {
        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            while seq.next_element::<serde::de::IgnoredAny>()?.is_some() {}
            Ok($default)
        }
    };
    (@map $default:expr) => {
        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            while map.next_entry::<serde::de::IgnoredAny, serde::de::IgnoredAny>()?.is_some() {}
            Ok($default)
        }
    };
}
pub(crate) use default_for;

/// A string, borrowed from the input unless it contains escapes; `None` for a value of any other type.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct LenientText<'a>(pub Option<Cow<'a, str>>);

impl<'de: 'a, 'a> Deserialize<'de> for LenientText<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any<'a>(PhantomData<&'a ()>);
        impl<'de: 'a, 'a> Visitor<'de> for Any<'a> {
            type Value = LenientText<'a>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<LenientText<'a>, E> {
                Ok(LenientText(Some(Cow::Borrowed(text))))
            }
            fn visit_str<E>(self, text: &str) -> Result<LenientText<'a>, E> {
                Ok(LenientText(Some(Cow::Owned(text.to_owned()))))
            }
            default_for!(LenientText(None); bool number null seq map);
        }
        deserializer.deserialize_any(Any(PhantomData))
    }
}

/// A boolean; `false` for a value of any other type.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LenientFlag(pub bool);

impl<'de> Deserialize<'de> for LenientFlag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = LenientFlag;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }
            fn visit_bool<E>(self, flag: bool) -> Result<LenientFlag, E> {
                Ok(LenientFlag(flag))
            }
            default_for!(LenientFlag(false); number str null seq map);
        }
        deserializer.deserialize_any(Any)
    }
}

/// A non-negative integer; 0 for any other value.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LenientCount(pub u64);

impl<'de> Deserialize<'de> for LenientCount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = LenientCount;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }
            fn visit_u64<E>(self, number: u64) -> Result<LenientCount, E> {
                Ok(LenientCount(number))
            }
            fn visit_i64<E>(self, number: i64) -> Result<LenientCount, E> {
                Ok(LenientCount(u64::try_from(number).unwrap_or_default()))
            }
            fn visit_f64<E>(self, _: f64) -> Result<LenientCount, E> {
                Ok(LenientCount(0))
            }
            default_for!(LenientCount(0); bool str null seq map);
        }
        deserializer.deserialize_any(Any)
    }
}

/// An object; `None` for a value of any other type.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct LenientObject<T>(pub Option<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for LenientObject<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Any<T> {
            type Value = LenientObject<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<LenientObject<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(|object| LenientObject(Some(object)))
            }
            default_for!(LenientObject(None); bool number str null seq);
        }
        deserializer.deserialize_any(Any(PhantomData))
    }
}

/// The name of a field, borrowed from the input unless it contains escapes.
pub(crate) struct FieldName<'de>(pub Cow<'de, str>);

impl<'de> Deserialize<'de> for FieldName<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl<'de> Visitor<'de> for Name {
            type Value = FieldName<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a field")
            }
            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<FieldName<'de>, E> {
                Ok(FieldName(Cow::Borrowed(name)))
            }
            fn visit_str<E>(self, name: &str) -> Result<FieldName<'de>, E> {
                Ok(FieldName(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(Name)
    }
}

/// Appends a string as JSON.
pub(crate) fn push_text(json: &mut String, text: &str) {
    if text.bytes().any(|byte| matches!(byte, b'"' | b'\\' | ..=0x1f)) {
        push_value(json, &text.into());
    } else {
        json.push('"');
        json.push_str(text);
        json.push('"');
    }
}

/// Appends an array as JSON; `push` appends one element.
pub(crate) fn push_array<T>(
    json: &mut String,
    elements: impl IntoIterator<Item = T>,
    mut push: impl FnMut(&mut String, T),
) {
    json.push('[');
    for (index, element) in elements.into_iter().enumerate() {
        json.push_str(if index > 0 { "," } else { "" });
        push(json, element);
    }
    json.push(']');
}

/// Appends a value as JSON.
pub(crate) fn push_value(json: &mut String, value: &Value) {
    // Writing to a `String` cannot fail.
    let _ = write!(json, "{value}");
}
