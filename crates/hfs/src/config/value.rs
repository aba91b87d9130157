//! The values of settings, and the untyped YAML values they are parsed from.

use std::collections::BTreeMap;
use std::fmt;

use hfs_core::{EventPayload, Pattern};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::key::ValueType;
use super::programs::is_agent_name;
use super::secret::shown;
use crate::watch::exclusions::Exclusions;

/// The value of a setting.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Text(String),
    Integer(u64),
    Float(f64),
    List(Vec<String>),
    /// Names with their values, sorted by name.
    Map(Vec<(String, String)>),
}

/// A YAML value of any type.
#[derive(Debug, Clone, PartialEq)]
pub enum RawValue {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<SpannedValue>),
    /// A mapping, in the order of the file.
    Map(Vec<(Spanned<String>, SpannedValue)>),
}

/// A YAML value with its position in the file.
pub type SpannedValue = Spanned<RawValue>;

/// Describes the value that was found where another was expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch(pub String);

impl Value {
    /// Converts a YAML value.
    pub fn from_raw(value_type: &ValueType, raw: &RawValue) -> Result<Self, Mismatch> {
        let found = || Mismatch(raw.to_string());
        match (value_type, raw) {
            (ValueType::Text, RawValue::Text(text)) => Ok(Self::Text(text.clone())),
            (ValueType::Text, RawValue::Integer(_) | RawValue::Float(_) | RawValue::Bool(_)) => {
                Err(Mismatch(format!("{raw} without quotes")))
            }
            (ValueType::Choice(words), RawValue::Text(text)) if words.contains(&text.as_str()) => {
                Ok(Self::Text(text.clone()))
            }
            (ValueType::Agent, RawValue::Text(text)) if is_agent_name(text) => Ok(Self::Text(text.clone())),
            // Some YAML writers emit `on` and `off` as booleans.
            (ValueType::Choice(words), RawValue::Bool(value)) => {
                let word = if *value { "on" } else { "off" };
                words.contains(&word).then(|| Self::Text(word.to_owned())).ok_or_else(found)
            }
            (ValueType::Integer { min, max }, RawValue::Integer(number)) => u64::try_from(*number)
                .ok()
                .filter(|number| (min..=max).contains(&number))
                .map(Self::Integer)
                .ok_or_else(found),
            (ValueType::Float { min, max }, RawValue::Float(number)) if (min..=max).contains(&number) => {
                Ok(Self::Float(*number))
            }
            (ValueType::Float { min, max }, RawValue::Integer(number)) => i32::try_from(*number)
                .ok()
                .map(f64::from)
                .filter(|number| (min..=max).contains(&number))
                .map(Self::Float)
                .ok_or_else(found),
            (ValueType::List, RawValue::List(items)) => items
                .iter()
                .map(|item| match &item.value {
                    RawValue::Text(text) => Ok(text.clone()),
                    other => Err(Mismatch(format!("a list with {other} in it"))),
                })
                .collect::<Result<_, _>>()
                .map(Self::List),
            (ValueType::Headers, RawValue::Map(entries)) => entries
                .iter()
                .map(|(name, value)| match &value.value {
                    RawValue::Text(text) => Ok((name.value.clone(), text.clone())),
                    RawValue::Integer(number) => Ok((name.value.clone(), number.to_string())),
                    other => Err(Mismatch(format!("{} with {other} in it", name.value))),
                })
                .collect::<Result<BTreeMap<_, _>, _>>()
                .map(|entries| Self::Map(entries.into_iter().collect())),
            (ValueType::Globs, RawValue::List(_)) => Self::from_raw(&ValueType::List, raw)?.check_globs(),
            (ValueType::Events, RawValue::List(_)) => Self::from_raw(&ValueType::List, raw)?.check_events(),
            _ => Err(found()),
        }
    }

    /// Returns the list if each of its items is a pattern for paths.
    fn check_globs(self) -> Result<Self, Mismatch> {
        let Self::List(items) = &self else { return Err(Mismatch(self.to_string())) };
        match items.iter().find(|item| Exclusions::new(std::slice::from_ref(item), None).is_err()) {
            Some(item) => Err(Mismatch(format!("a list with {} in it", RawValue::Text(item.clone())))),
            None => Ok(self),
        }
    }

    /// Returns the list if each of its items matches at least one event type.
    fn check_events(self) -> Result<Self, Mismatch> {
        let Self::List(items) = &self else { return Err(Mismatch(self.to_string())) };
        let matches_nothing = |item: &&String| {
            let pattern = Pattern::new(item);
            !EventPayload::KINDS.iter().any(|kind| pattern.matches(kind))
        };
        match items.iter().find(matches_nothing) {
            Some(item) => Err(Mismatch(format!("a list with {} in it", RawValue::Text(item.clone())))),
            None => Ok(self),
        }
    }

    /// Parses text from the command line, an environment variable or a default. Lists are written as `a, b` or `[a, b]`.
    pub fn from_text(value_type: &ValueType, text: &str) -> Result<Self, Mismatch> {
        let found = || Mismatch(RawValue::Text(text.to_owned()).to_string());
        match value_type {
            ValueType::Text => Ok(Self::Text(text.to_owned())),
            ValueType::Choice(_) | ValueType::Agent => {
                Self::from_raw(value_type, &RawValue::Text(text.to_owned()))
            }
            ValueType::Integer { .. } => {
                let number = text.trim().parse().map_err(|_| found())?;
                Self::from_raw(value_type, &RawValue::Integer(number))
            }
            ValueType::Float { .. } => {
                let number = text.trim().parse().map_err(|_| found())?;
                Self::from_raw(value_type, &RawValue::Float(number))
            }
            ValueType::List => {
                let inner = text.trim();
                let inner = inner.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(inner);
                let items = inner.split(',').map(|item| item.trim().trim_matches(['"', '\'']));
                Ok(Self::List(items.filter(|item| !item.is_empty()).map(str::to_owned).collect()))
            }
            ValueType::Headers => {
                let inner = text.trim();
                let inner = inner.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(inner);
                let entries = inner.split(',').filter(|entry| !entry.trim().is_empty());
                let unquoted = |text: &str| text.trim().trim_matches(['"', '\'']).to_owned();
                entries
                    .map(|entry| {
                        let (name, value) = entry.split_once(':').ok_or_else(found)?;
                        Ok((unquoted(name), unquoted(value)))
                    })
                    .collect::<Result<BTreeMap<_, _>, _>>()
                    .map(|entries| Self::Map(entries.into_iter().collect()))
            }
            ValueType::Globs => Self::from_text(&ValueType::List, text)?.check_globs(),
            ValueType::Events => Self::from_text(&ValueType::List, text)?.check_events(),
        }
    }

    /// The value as `--json` shows it, without passwords in addresses.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Text(text) => shown(text).into(),
            Self::Integer(number) => (*number).into(),
            Self::Float(number) => (*number).into(),
            Self::List(items) => items.iter().map(|item| shown(item)).collect(),
            Self::Map(entries) => {
                entries.iter().map(|(name, value)| (name.clone(), shown(value).to_string())).collect()
            }
        }
    }
}

/// Formats the value for people, without passwords in addresses. An environment variable may contain them.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(&shown(text)),
            Self::Integer(number) => number.fmt(f),
            Self::Float(number) => number.fmt(f),
            Self::List(items) => {
                let items: Vec<_> = items.iter().map(|item| shown(item)).collect();
                write!(f, "[{}]", items.join(", "))
            }
            Self::Map(entries) => {
                let entries: Vec<String> =
                    entries.iter().map(|(name, value)| format!("{name}: {}", shown(value))).collect();
                write!(f, "{{{}}}", entries.join(", "))
            }
        }
    }
}

/// Formats the value for error messages; long text is shortened.
impl fmt::Display for RawValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("nothing"),
            Self::Bool(value) => value.fmt(f),
            Self::Integer(number) => number.fmt(f),
            Self::Float(number) => number.fmt(f),
            Self::Text(text) => match shown(text) {
                text if text.chars().count() > 40 => {
                    write!(f, "{:?}", text.chars().take(39).chain(['…']).collect::<String>())
                }
                text => write!(f, "{text:?}"),
            },
            Self::List(_) => f.write_str("a list"),
            Self::Map(_) => f.write_str("a group of settings"),
        }
    }
}

impl<'de> Deserialize<'de> for RawValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = RawValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<RawValue, E> {
        Ok(RawValue::Null)
    }

    fn visit_none<E>(self) -> Result<RawValue, E> {
        Ok(RawValue::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<RawValue, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<RawValue, E> {
        Ok(RawValue::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<RawValue, E> {
        Ok(RawValue::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<RawValue, E> {
        Ok(RawValue::Integer(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<RawValue, E> {
        Ok(RawValue::Integer(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<RawValue, E> {
        Ok(RawValue::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<RawValue, E> {
        Ok(RawValue::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<RawValue, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(RawValue::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<RawValue, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(RawValue::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_parsed_as_the_type_of_the_setting() {
        let integer = ValueType::Integer { min: 1, max: 20 };
        assert_eq!(Value::from_text(&integer, " 12 "), Ok(Value::Integer(12)));
        assert_eq!(Value::from_text(&integer, "21"), Err(Mismatch("21".into())));
        assert_eq!(Value::from_text(&integer, "-1"), Err(Mismatch("-1".into())));
        assert_eq!(Value::from_text(&integer, "many"), Err(Mismatch("\"many\"".into())));
        let float = ValueType::Float { min: 0.0, max: 2.0 };
        assert_eq!(Value::from_text(&float, "1"), Ok(Value::Float(1.0)));
        assert_eq!(Value::from_text(&float, "NaN"), Err(Mismatch("NaN".into())));
        let list = |text| Value::from_text(&ValueType::List, text).unwrap();
        assert_eq!(list("[a, 'b']"), Value::List(vec!["a".into(), "b".into()]));
        assert_eq!(list("a,b"), list("[a, b]"));
        assert_eq!(list("[]"), Value::List(Vec::new()));
    }

    #[test]
    fn an_event_is_given_by_its_type_or_by_a_pattern() {
        let events = |text| Value::from_text(&ValueType::Events, text);
        assert_eq!(events("phase.*, run.ended"), Ok(Value::List(vec!["phase.*".into(), "run.ended".into()])));
        assert!(events("*").is_ok() && events("[]").is_ok());
        for misspelt in ["run.end", "phases.*", "Run.ended", "run", "*.ended"] {
            assert_eq!(events(misspelt), Err(Mismatch(format!("a list with {misspelt:?} in it"))));
        }
    }
}
