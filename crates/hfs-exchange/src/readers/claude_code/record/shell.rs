//! JSON with a hole in it.

use serde_json::Value;

use crate::json::push_text;

/// More than usually stands before the content, in bytes, and behind it.
const USUAL_BEFORE: usize = 512;
const USUAL_BEHIND: usize = 256;

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

    /// The JSON with this JSON in the hole, if there is one.
    pub(super) fn filled(&self, content: &str) -> String {
        match &self.after {
            Some(after) => [&self.before, content, after].concat(),
            None => self.before.clone(),
        }
    }

    /// Nothing yet, with room for what there usually is.
    pub(super) fn new() -> Self {
        Self { before: String::with_capacity(USUAL_BEFORE), after: None }
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
        self.after = Some(String::with_capacity(USUAL_BEHIND));
    }

    pub(super) fn key(&mut self, key: &str) {
        let text = self.text();
        // Right behind the hole stands the end of a value, too.
        if !text.ends_with('{') {
            text.push(',');
        }
        push_text(text, key);
        text.push(':');
    }

    pub(super) fn field(&mut self, key: &str, json: &str) {
        self.key(key);
        self.text().push_str(json);
    }
}
