//! JSON with a hole in it.

use serde_json::Value;

/// A record's JSON, up to where its content stood, and from there on.
#[derive(Debug, Default)]
pub(super) struct Shell {
    before: String,
    after: Option<String>,
}

impl Shell {
    /// What no content belongs into.
    pub(super) fn without_hole(value: &Value) -> Self {
        Self { before: value.to_string(), after: None }
    }

    /// The JSON with this in the hole, if there is one.
    pub(super) fn filled(&self, content: &Value) -> String {
        match &self.after {
            Some(after) => [self.before.as_str(), &content.to_string(), after].concat(),
            None => self.before.clone(),
        }
    }

    fn text(&mut self) -> &mut String {
        self.after.as_mut().unwrap_or(&mut self.before)
    }

    pub(super) fn open(&mut self) {
        self.text().push('{');
    }

    pub(super) fn close(&mut self) {
        self.text().push('}');
    }

    /// What begins here is left out.
    pub(super) fn hole(&mut self) {
        self.after = Some(String::new());
    }

    pub(super) fn key(&mut self, key: &str) {
        let text = self.text();
        // Right behind the hole stands the end of a value, too.
        if !text.ends_with('{') {
            text.push(',');
        }
        if key.bytes().any(|byte| matches!(byte, b'"' | b'\\' | ..=0x1f)) {
            text.push_str(&Value::from(key).to_string());
        } else {
            text.extend(["\"", key, "\""]);
        }
        text.push(':');
    }

    pub(super) fn field(&mut self, key: &str, json: &str) {
        self.key(key);
        self.text().push_str(json);
    }
}
