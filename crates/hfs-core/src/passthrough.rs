//! What came with something foreign and has no meaning here.

use std::borrow::Cow;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::OnceLock;

use serde::Deserialize;
use serde_json::{Map, Value};

/// The field that holds a text which should have been an object and is none.
const UNREADABLE: &str = "$unreadable";

/// Fields that came with something foreign and have no meaning here, kept as they were, in their order.
///
/// They are a map. What was given as JSON stays text until somebody looks into it: most of it is only carried from a
/// file into a store and back.
#[derive(Clone, Default)]
pub struct PassthroughFields {
    /// What the fields are when they were given as JSON and have not been changed since.
    unread: Option<Unread>,
    /// What they are otherwise.
    fields: Map<String, Value>,
}

#[derive(Clone)]
struct Unread {
    json: Box<str>,
    /// Made when somebody looks.
    fields: OnceLock<Map<String, Value>>,
}

impl Unread {
    fn fields(&self) -> &Map<String, Value> {
        self.fields.get_or_init(|| parse(&self.json))
    }

    fn into_fields(self) -> Map<String, Value> {
        self.fields.into_inner().unwrap_or_else(|| parse(&self.json))
    }
}

/// Reads an object of any depth.
fn parse(json: &str) -> Map<String, Value> {
    let mut reader = serde_json::Deserializer::from_str(json);
    reader.disable_recursion_limit();
    Map::deserialize(&mut reader)
        .and_then(|fields| reader.end().map(|()| fields))
        .unwrap_or_else(|_| Map::from_iter([(UNREADABLE.to_owned(), json.into())]))
}

impl PassthroughFields {
    /// No fields.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The fields of a JSON object, which is not looked at yet. Whoever gives a text that is none finds it whole
    /// under `$unreadable`.
    #[must_use]
    pub fn from_json(json: impl Into<Box<str>>) -> Self {
        let unread = Unread { json: json.into(), fields: OnceLock::new() };
        Self { unread: Some(unread), fields: Map::new() }
    }

    /// The fields as a JSON object: as it was given, unless they have been changed.
    ///
    /// # Errors
    /// As `serde_json` has it, which knows of none for such a map.
    pub fn to_json(&self) -> serde_json::Result<Cow<'_, str>> {
        match &self.unread {
            Some(unread) => Ok(Cow::Borrowed(&unread.json)),
            None => serde_json::to_string(&self.fields).map(Cow::Owned),
        }
    }

    /// The JSON object that the fields were given as, unless they have been changed.
    #[must_use]
    pub fn unread(&self) -> Option<&str> {
        self.unread.as_ref().map(|unread| &*unread.json)
    }

    /// The fields as a map of values.
    #[must_use]
    pub fn into_map(self) -> Map<String, Value> {
        self.unread.map_or(self.fields, Unread::into_fields)
    }
}

impl Deref for PassthroughFields {
    type Target = Map<String, Value>;

    fn deref(&self) -> &Map<String, Value> {
        self.unread.as_ref().map_or(&self.fields, Unread::fields)
    }
}

impl DerefMut for PassthroughFields {
    fn deref_mut(&mut self) -> &mut Map<String, Value> {
        if let Some(unread) = self.unread.take() {
            self.fields = unread.into_fields();
        }
        &mut self.fields
    }
}

impl From<Map<String, Value>> for PassthroughFields {
    fn from(fields: Map<String, Value>) -> Self {
        Self { unread: None, fields }
    }
}

impl FromIterator<(String, Value)> for PassthroughFields {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(fields: I) -> Self {
        Map::from_iter(fields).into()
    }
}

impl PartialEq for PassthroughFields {
    fn eq(&self, other: &Self) -> bool {
        match (&self.unread, &other.unread) {
            (Some(one), Some(other)) if one.json == other.json => true,
            _ => **self == **other,
        }
    }
}

impl fmt::Debug for PassthroughFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_given_as_json_is_given_back_as_it_was() {
        let given = "{ \"b\": 1.50, \"a\": \"\\u00e9\" }";
        let extra = PassthroughFields::from_json(given);
        assert_eq!(extra.get("b"), Some(&json!(1.5)));
        assert_eq!(extra.to_json().unwrap(), given);
        assert_eq!(extra.clone().into_map().keys().collect::<Vec<_>>(), ["b", "a"]);
        assert_eq!(
            extra,
            Map::from_iter([("a".to_owned(), json!("é")), ("b".to_owned(), json!(1.5))]).into()
        );
    }

    #[test]
    fn what_was_changed_is_written_anew() {
        let mut extra = PassthroughFields::from_json("{\"b\": 1,  \"a\": 2}");
        extra.insert("c".into(), json!([3]));
        assert_eq!(extra.to_json().unwrap(), r#"{"b":1,"a":2,"c":[3]}"#);
        extra.shift_remove("b");
        assert_eq!(extra.to_json().unwrap(), r#"{"a":2,"c":[3]}"#);
    }

    #[test]
    fn a_text_that_is_no_object_is_not_lost() {
        for text in ["", "[1]", "{\"a\":1", "{\"a\":\"\\ud800\"}", "{} {}"] {
            let mut extra = PassthroughFields::from_json(text);
            assert_eq!(extra.get(UNREADABLE), Some(&json!(text)));
            extra.insert("a".into(), Value::Null);
            assert_eq!(extra.get(UNREADABLE), Some(&json!(text)));
        }
    }

    #[test]
    fn an_object_without_fields_is_empty() {
        assert!(PassthroughFields::from_json(" {} ").is_empty() && PassthroughFields::new().is_empty());
        assert_eq!(PassthroughFields::from_json("{}"), PassthroughFields::new());
    }

    #[test]
    fn an_object_of_any_depth_is_read() {
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(300), "]".repeat(300));
        assert!(PassthroughFields::from_json(deep).get("a").is_some_and(Value::is_array));
    }
}
