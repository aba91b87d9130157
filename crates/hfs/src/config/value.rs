//! The values of settings, and the plain YAML they are read from.

use std::fmt;

use hfs_core::{EventPayload, Pattern};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::keys::Kind;

/// A setting's value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A text or a word.
    Text(String),
    /// A whole number.
    Whole(u64),
    /// A number.
    Decimal(f64),
    /// A list of texts.
    List(Vec<String>),
}

/// A piece of YAML before anybody has said what it should be.
#[derive(Debug, Clone, PartialEq)]
pub enum Raw {
    /// Nothing, `~`, `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i128),
    /// Another number.
    Float(f64),
    /// A text.
    Text(String),
    /// A sequence.
    List(Vec<Located>),
    /// A mapping, in its order.
    Map(Vec<(Spanned<String>, Located)>),
}

/// A piece of YAML and where it stands.
pub type Located = Spanned<Raw>;

impl Value {
    /// Takes a piece of YAML for a setting of this kind, or says what was found instead.
    pub fn from_raw(kind: &Kind, raw: &Raw) -> Result<Self, String> {
        let found = || raw.to_string();
        match (kind, raw) {
            (Kind::Text, Raw::Text(text)) => Ok(Self::Text(text.clone())),
            (Kind::Text, Raw::Integer(_) | Raw::Float(_) | Raw::Bool(_)) => {
                Err(format!("{} without quotes", found()))
            }
            (Kind::Choice(words), Raw::Text(text)) if words.contains(&text.as_str()) => {
                Ok(Self::Text(text.clone()))
            }
            // Some writers of YAML take `on` and `off` for truth values.
            (Kind::Choice(words), Raw::Bool(value)) => {
                let word = if *value { "on" } else { "off" };
                words.contains(&word).then(|| Self::Text(word.to_owned())).ok_or_else(found)
            }
            (Kind::Whole { min, max }, Raw::Integer(number)) => u64::try_from(*number)
                .ok()
                .filter(|number| (min..=max).contains(&number))
                .map(Self::Whole)
                .ok_or_else(found),
            (Kind::Decimal { min, max }, Raw::Float(number)) if (min..=max).contains(&number) => {
                Ok(Self::Decimal(*number))
            }
            (Kind::Decimal { min, max }, Raw::Integer(number)) => i32::try_from(*number)
                .ok()
                .map(f64::from)
                .filter(|number| (min..=max).contains(&number))
                .map(Self::Decimal)
                .ok_or_else(found),
            (Kind::List, Raw::List(items)) => items
                .iter()
                .map(|item| match &item.value {
                    Raw::Text(text) => Ok(text.clone()),
                    other => Err(format!("a list with {other} in it")),
                })
                .collect::<Result<_, _>>()
                .map(Self::List),
            (Kind::Events, Raw::List(_)) => Self::from_raw(&Kind::List, raw)?.of_events(),
            _ => Err(found()),
        }
    }

    /// This list, if each of its items means some event.
    fn of_events(self) -> Result<Self, String> {
        let Self::List(items) = &self else { return Err(self.to_string()) };
        let means_none = |item: &&String| {
            let pattern = Pattern::new(item);
            !EventPayload::KINDS.iter().any(|kind| pattern.matches(kind))
        };
        match items.iter().find(means_none) {
            Some(item) => Err(format!("a list with {} in it", Raw::Text(item.clone()))),
            None => Ok(self),
        }
    }

    /// Takes a text from the command line, the environment or the table of defaults for a setting of this
    /// kind, or says what was found instead.
    pub fn from_text(kind: &Kind, text: &str) -> Result<Self, String> {
        let found = || Raw::Text(text.to_owned()).to_string();
        match kind {
            Kind::Text => Ok(Self::Text(text.to_owned())),
            Kind::Choice(_) => Self::from_raw(kind, &Raw::Text(text.to_owned())),
            Kind::Whole { .. } => {
                let number = text.trim().parse().map_err(|_| found())?;
                Self::from_raw(kind, &Raw::Integer(number))
            }
            Kind::Decimal { .. } => {
                let number = text.trim().parse().map_err(|_| found())?;
                Self::from_raw(kind, &Raw::Float(number))
            }
            Kind::List => {
                let inner = text.trim();
                let inner = inner.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(inner);
                let items = inner.split(',').map(|item| item.trim().trim_matches(['"', '\'']));
                Ok(Self::List(items.filter(|item| !item.is_empty()).map(str::to_owned).collect()))
            }
            Kind::Events => Self::from_text(&Kind::List, text)?.of_events(),
        }
    }

    /// The value for JSON output.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Text(text) => text.as_str().into(),
            Self::Whole(number) => (*number).into(),
            Self::Decimal(number) => (*number).into(),
            Self::List(items) => items.clone().into(),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Whole(number) => number.fmt(f),
            Self::Decimal(number) => number.fmt(f),
            Self::List(items) => write!(f, "[{}]", items.join(", ")),
        }
    }
}

/// As error messages show it: long texts shortened.
impl fmt::Display for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("nothing"),
            Self::Bool(value) => value.fmt(f),
            Self::Integer(number) => number.fmt(f),
            Self::Float(number) => number.fmt(f),
            Self::Text(text) if text.chars().count() > 40 => {
                write!(f, "{:?}", text.chars().take(39).chain(['…']).collect::<String>())
            }
            Self::Text(text) => write!(f, "{text:?}"),
            Self::List(_) => f.write_str("a list"),
            Self::Map(_) => f.write_str("a group of settings"),
        }
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Integer(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Raw, E> {
        Ok(Raw::Integer(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_from_the_command_line_become_the_kind_that_the_setting_wants() {
        let whole = Kind::Whole { min: 1, max: 20 };
        assert_eq!(Value::from_text(&whole, " 12 "), Ok(Value::Whole(12)));
        assert_eq!(Value::from_text(&whole, "21"), Err("21".into()));
        assert_eq!(Value::from_text(&whole, "-1"), Err("-1".into()));
        assert_eq!(Value::from_text(&whole, "many"), Err("\"many\"".into()));
        let decimal = Kind::Decimal { min: 0.0, max: 2.0 };
        assert_eq!(Value::from_text(&decimal, "1"), Ok(Value::Decimal(1.0)));
        assert_eq!(Value::from_text(&decimal, "NaN"), Err("NaN".into()));
        let list = |text| Value::from_text(&Kind::List, text).unwrap();
        assert_eq!(list("[a, 'b']"), Value::List(vec!["a".into(), "b".into()]));
        assert_eq!(list("a,b"), list("[a, b]"));
        assert_eq!(list("[]"), Value::List(Vec::new()));
    }

    #[test]
    fn an_event_is_named_as_it_is_written_or_by_its_family() {
        let events = |text| Value::from_text(&Kind::Events, text);
        assert_eq!(events("phase.*, run.ended"), Ok(Value::List(vec!["phase.*".into(), "run.ended".into()])));
        assert!(events("*").is_ok() && events("[]").is_ok());
        for misspelt in ["run.end", "phases.*", "Run.ended", "run", "*.ended"] {
            assert_eq!(events(misspelt), Err(format!("a list with {misspelt:?} in it")));
        }
    }
}
