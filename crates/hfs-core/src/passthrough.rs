//! Fields of imported data that hfs does not interpret.

use std::borrow::Cow;
use std::fmt;
use std::sync::OnceLock;

use serde::Deserialize;
use serde_json::{Map, Value};

/// Key of a text that should be a JSON object but does not parse as one.
const UNREADABLE: &str = "$unreadable";
/// Maximum nesting depth of a JSON value in a message, including the value of a passthrough field. Values are
/// parsed and dropped recursively, also on threads with small stacks, and deeper ones could overflow them.
pub const MAX_JSON_DEPTH: usize = 512;

/// Fields of imported data that hfs does not interpret, kept verbatim and in order so that an export is lossless.
///
/// Fields created from JSON text are parsed on first access. An import copies most of them from a file to the store
/// without accessing them; parsing each into a map took a tenth of its time (crates/hfs/benches/import.rs).
#[derive(Clone, Default)]
pub struct PassthroughFields {
    /// The fields as JSON text; `None` if they were created from values or changed since.
    unparsed: Option<Unparsed>,
    /// The fields as values; empty while `unparsed` is set.
    fields: Map<String, Value>,
}

#[derive(Clone)]
struct Unparsed {
    json: Box<str>,
    /// Filled by the first read.
    fields: OnceLock<Map<String, Value>>,
}

impl Unparsed {
    fn fields(&self) -> &Map<String, Value> {
        self.fields.get_or_init(|| parse(&self.json))
    }

    fn into_fields(self) -> Map<String, Value> {
        self.fields.into_inner().unwrap_or_else(|| parse(&self.json))
    }
}

/// Parses an object. Text that is not an object, or that is nested too deeply, becomes a single field.
fn parse(json: &str) -> Map<String, Value> {
    let unreadable = || Map::from_iter([(UNREADABLE.to_owned(), json.into())]);
    // The object around the values is one level more.
    if json_depth(json) > MAX_JSON_DEPTH + 1 {
        return unreadable();
    }
    let mut reader = serde_json::Deserializer::from_str(json);
    reader.disable_recursion_limit();
    Map::deserialize(&mut reader)
        .and_then(|fields| reader.end().map(|()| fields))
        .unwrap_or_else(|_| unreadable())
}

/// The depth of the arrays and objects in a JSON text.
#[must_use]
pub fn json_depth(json: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

impl PassthroughFields {
    /// No fields.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The fields of a JSON object, which is parsed on first use. If the text is not an object, the result has one
    /// field, `$unreadable`, which holds the whole text.
    #[must_use]
    pub fn from_json(json: impl Into<Box<str>>) -> Self {
        let unparsed = Unparsed { json: json.into(), fields: OnceLock::new() };
        Self { unparsed: Some(unparsed), fields: Map::new() }
    }

    /// The fields as a JSON object. Unchanged fields created from JSON text are returned verbatim.
    ///
    /// # Errors
    /// Returns the error of `serde_json`. Serializing a `Map` causes none.
    pub fn to_json(&self) -> serde_json::Result<Cow<'_, str>> {
        match &self.unparsed {
            Some(unparsed) => Ok(Cow::Borrowed(&unparsed.json)),
            None => serde_json::to_string(&self.fields).map(Cow::Owned),
        }
    }

    /// The JSON text that the fields were created from; `None` if they were changed or created from values.
    #[must_use]
    pub fn unparsed_json(&self) -> Option<&str> {
        self.unparsed.as_ref().map(|unparsed| &*unparsed.json)
    }

    /// The fields as a map.
    #[must_use]
    pub fn as_map(&self) -> &Map<String, Value> {
        self.unparsed.as_ref().map_or(&self.fields, Unparsed::fields)
    }

    /// The fields as a mutable map. Discards the JSON text, so the fields are serialized again from their values.
    pub fn as_map_mut(&mut self) -> &mut Map<String, Value> {
        if let Some(unparsed) = self.unparsed.take() {
            self.fields = unparsed.into_fields();
        }
        &mut self.fields
    }

    /// The fields as a map.
    #[must_use]
    pub fn into_map(self) -> Map<String, Value> {
        self.unparsed.map_or(self.fields, Unparsed::into_fields)
    }

    /// Value of one field.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.as_map().get(key)
    }

    /// Mutable value of one field.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Value> {
        self.as_map_mut().get_mut(key)
    }

    /// Whether a field exists.
    #[must_use]
    pub fn contains_key(&self, key: &str) -> bool {
        self.as_map().contains_key(key)
    }

    /// Sets a field and returns its earlier value.
    pub fn insert(&mut self, key: String, value: Value) -> Option<Value> {
        self.as_map_mut().insert(key, value)
    }

    /// Removes a field, keeping the order of the others, and returns its value.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        self.as_map_mut().shift_remove(key)
    }

    /// Whether there are no fields.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.as_map().is_empty()
    }

    /// Fields with their values, in order.
    pub fn iter(&self) -> serde_json::map::Iter<'_> {
        self.as_map().iter()
    }
}

impl<'a> IntoIterator for &'a PassthroughFields {
    type Item = (&'a String, &'a Value);
    type IntoIter = serde_json::map::Iter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl From<Map<String, Value>> for PassthroughFields {
    fn from(fields: Map<String, Value>) -> Self {
        Self { unparsed: None, fields }
    }
}

impl FromIterator<(String, Value)> for PassthroughFields {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(fields: I) -> Self {
        Map::from_iter(fields).into()
    }
}

impl PartialEq for PassthroughFields {
    fn eq(&self, other: &Self) -> bool {
        match (&self.unparsed, &other.unparsed) {
            (Some(one), Some(other)) if one.json == other.json => true,
            _ => self.as_map() == other.as_map(),
        }
    }
}

impl fmt::Debug for PassthroughFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_map(), f)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_text_is_returned_verbatim() {
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
    fn changed_fields_are_serialized_again() {
        let mut extra = PassthroughFields::from_json("{\"b\": 1,  \"a\": 2}");
        extra.insert("c".into(), json!([3]));
        assert_eq!(extra.to_json().unwrap(), r#"{"b":1,"a":2,"c":[3]}"#);
        extra.remove("b");
        assert_eq!(extra.to_json().unwrap(), r#"{"a":2,"c":[3]}"#);
    }

    #[test]
    fn a_text_that_is_not_an_object_is_kept_whole() {
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
    fn an_object_that_is_nested_too_deeply_is_kept_as_text() {
        let nested = |depth: usize| format!("{{\"a\":{}1{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(PassthroughFields::from_json(nested(300)).get("a").is_some_and(Value::is_array));
        let deep = nested(100_000);
        let fields = PassthroughFields::from_json(deep.clone());
        assert_eq!(fields.get(UNREADABLE), Some(&json!(deep)));
        assert_eq!(fields.to_json().unwrap(), deep);
        let brackets_in_text = format!("{{\"a\":\"\\\"{}\"}}", "[".repeat(1000));
        assert!(PassthroughFields::from_json(brackets_in_text).contains_key("a"));
    }
}
