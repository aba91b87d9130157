//! The terminal app.
#![cfg_attr(test, allow(clippy::string_slice, reason = "a failed expectation is a test's own way of speaking"))]
mod editor;
mod text;
mod theme;
