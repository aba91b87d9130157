//! Fields that are read when they are what they should be, and passed over when they are not.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Visitor methods that consume a kind of value and answer with a default.
macro_rules! otherwise {
    ($default:expr; $($kind:ident)*) => { $($crate::json::lenient::otherwise!(@$kind $default);)* };
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
pub(crate) use otherwise;

/// A string, part of the text it is read from unless something in it is escaped; `None` when it is something else.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Text<'de>(pub Option<Cow<'de, str>>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Some(Cow::Borrowed(text))))
            }
            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Some(Cow::Owned(text.to_owned()))))
            }
            otherwise!(Text(None); bool number null seq map);
        }
        deserializer.deserialize_any(Any)
    }
}

/// A flag; `false` when it is something else.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flag(pub bool);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Flag;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }
            fn visit_bool<E>(self, flag: bool) -> Result<Flag, E> {
                Ok(Flag(flag))
            }
            otherwise!(Flag(false); number str null seq map);
        }
        deserializer.deserialize_any(Any)
    }
}

/// A number that counts something; 0 when it is something else.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Count(pub u64);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Count;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }
            fn visit_u64<E>(self, number: u64) -> Result<Count, E> {
                Ok(Count(number))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Count, E> {
                Ok(Count(u64::try_from(number).unwrap_or_default()))
            }
            fn visit_f64<E>(self, _: f64) -> Result<Count, E> {
                Ok(Count(0))
            }
            otherwise!(Count(0); bool str null seq map);
        }
        deserializer.deserialize_any(Any)
    }
}

/// The name of a field, which is part of the text it is read from unless something in it is escaped.
pub(crate) struct Key<'de>(pub Cow<'de, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl<'de> Visitor<'de> for Name {
            type Value = Key<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a field")
            }
            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(name)))
            }
            fn visit_str<E>(self, name: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(Name)
    }
}

/// Reads the fields of an object one after another, the last of a repeated one winning; `field` says whether
/// it took the value.
pub(crate) fn fields<'de, A: MapAccess<'de>>(
    mut map: A,
    mut field: impl FnMut(&str, &mut A) -> Result<bool, A::Error>,
) -> Result<(), A::Error> {
    while let Some(Key(key)) = map.next_key()? {
        if !field(&key, &mut map)? {
            map.next_value::<IgnoredAny>()?;
        }
    }
    Ok(())
}

/// Reads the elements of an array.
pub(crate) fn elements<'de, T: Deserialize<'de>, A: SeqAccess<'de>>(
    mut seq: A,
    mut element: impl FnMut(T),
) -> Result<(), A::Error> {
    while let Some(next) = seq.next_element()? {
        element(next);
    }
    Ok(())
}
