//! JSON as other programs leave it behind: framed in lines or in one large document, cut off, repeated,
//! nested without measure, with escapes that are no characters.
//!
//! Whatever the bytes are, reading them neither panics nor overflows the stack nor takes more memory than
//! [`lines::MAX_LINE`] bytes of text need. What a value cannot hold faithfully comes with its original text.

pub(crate) mod lenient;
pub(crate) mod lines;
pub(crate) mod parse;
pub(crate) mod pieces;
pub(crate) mod repair;
pub(crate) mod salvage;
pub(crate) mod scan;
pub(crate) mod walk;

use std::fmt::Write as _;

use serde_json::Value;

pub(crate) use parse::{Parsed, parse};

/// Writes a text as JSON.
pub(crate) fn push_text(json: &mut String, text: &str) {
    if text.bytes().any(|byte| matches!(byte, b'"' | b'\\' | ..=0x1f)) {
        push_value(json, &text.into());
    } else {
        json.push('"');
        json.push_str(text);
        json.push('"');
    }
}

/// Writes an array as JSON, each of its elements by `push`.
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

/// Writes a value as JSON.
pub(crate) fn push_value(json: &mut String, value: &Value) {
    // A string takes whatever is written to it.
    let _ = write!(json, "{value}");
}
